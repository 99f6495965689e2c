"""Anderson's steps at the end of an accelerated fit: exact on a linear map, guarded, and turned round at a saddle."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import emjax
from emjax import Data, Expectation, Status, Stop
from emjax.engine import acceleration, anderson, em
from tests.promises import Step

RATES = np.array([0.999, 0.9, 0.3])


class Linear(emjax.Model):
    """u -> rates * u, objective -u'u / 2; y[:3] is the start. Its coordinates are its own."""

    def expect(self, params: Step, prepared: Data) -> Expectation:
        return Expectation(-0.5 * jnp.sum(params.at**2), jnp.zeros(()))

    def maximize(self, statistics: Any, params: Step, prepared: Data) -> Step:
        return Step(params.at * jnp.asarray(RATES, params.at.dtype))

    def start(self, key: Any, prepared: Data, strategy: str) -> Step:
        return Step(prepared.y[:3])

    def to_free(self, params: Step, prepared: Data) -> Any:
        return params.at

    def from_free(self, free: Any, prepared: Data, like: Step) -> Step:
        return Step(free)


class Raw(Linear):
    """The same without coordinates of its own."""

    to_free = emjax.Model.to_free
    from_free = emjax.Model.from_free


class Pass(Linear):
    """A saddle at (0, 0), which the second coordinate leaves by 2 % a step, for a maximum at -1 or 1."""

    def expect(self, params: Step, prepared: Data) -> Expectation:
        u, v = params.at[0], params.at[1]
        return Expectation(-0.5 * u**2 + 0.5 * v**2 - 0.25 * v**4, jnp.zeros(()))

    def maximize(self, statistics: Any, params: Step, prepared: Data) -> Step:
        u, v = params.at[0], params.at[1]
        return Step(jnp.stack([0.9 * u, v + 0.02 * v * (1.0 - v**2)]))

    def start(self, key: Any, prepared: Data, strategy: str) -> Step:
        return Step(prepared.y[:2])


def fits(
    model: emjax.Model, starts: np.ndarray, method: str | None = "squarem", tol: float = 1e-8, limit: int = 10_000
) -> emjax.Fits:
    stop = Stop(tol=tol, max_iterations=limit)
    settings: dict[str, Any] = {"restarts": 1, "certificate": False, "threads": 1, "stop": stop}
    return emjax.fit_many(model, Data(starts), 0, acceleration=method, **settings)


def combined(points: np.ndarray, held: np.ndarray) -> tuple[np.ndarray, int]:
    """From the last of `points`, whose residuals are those of the linear map."""
    rates = np.ones(points.shape[1])
    rates[: len(RATES)] = RATES
    with np.errstate(invalid="ignore"):
        residuals = np.where(held, np.nan, points * (rates - 1.0))
    residuals[-1][held] = 0.0
    with jax.enable_x64(True):
        arrays = (jnp.asarray(a) for a in (points[-1], residuals[-1], points[:-1], residuals[:-1], held))
        point, _, others = jax.jit(anderson.combine)(*arrays)
    return np.asarray(point), int(others)


def test_a_linear_map_of_three_directions_is_solved_from_four_points_besides_the_newest() -> None:
    """Whatever led to them."""
    points = np.random.default_rng(0).normal(size=(5, 3))
    point, others = combined(points, np.zeros(3, bool))
    assert others == anderson.KEPT
    np.testing.assert_allclose(point, 0.0, atol=1e-6)


def test_coordinates_that_are_held_neither_move_nor_have_a_say() -> None:
    points = np.random.default_rng(1).normal(size=(5, 4))
    points[:, 3] *= 1e6
    point, _ = combined(points, np.array([False, False, False, True]))
    np.testing.assert_allclose(point[:3], 0.0, atol=1e-6)
    assert point[3] == points[-1, 3]


def test_a_held_coordinate_may_be_infinite_and_one_that_was_held_tells_nothing() -> None:
    """Such as the logarithm of a weight of 0; a row with a residual that is not known is not used."""
    points = np.random.default_rng(1).normal(size=(5, 4))
    points[:, 3] = -np.inf
    point, others = combined(points, np.array([False, False, False, True]))
    assert others == anderson.KEPT
    np.testing.assert_allclose(point[:3], 0.0, atol=1e-6)
    points[:, 3] = 1.0
    points[1, 2] = np.nan
    assert combined(points, np.zeros(4, bool))[1] == anderson.KEPT - 1


def test_without_points_it_is_the_em_step() -> None:
    points = np.full((5, 3), np.nan)
    points[-1] = [1.0, 2.0, 3.0]
    point, others = combined(points, np.zeros(3, bool))
    assert others == 0
    np.testing.assert_allclose(point, RATES * points[-1])


def test_the_last_digits_cost_a_few_steps() -> None:
    """And the stop leaves no more than the tolerance; coordinates that are not the model's own take SQUAREM's alone."""
    starts = 10.0 ** np.random.default_rng(0).uniform(-2, 2, (256, 3)) * np.array([1.0, 3.0, 9.0])
    ends = {tol: fits(Linear(), starts, tol=tol) for tol in (1e-2, 1e-10)}
    for tol, found in ends.items():
        assert np.all(found.status == Status.CONVERGED)
        assert np.mean(-found.objective > tol) < 0.02
    assert ends[1e-10].iterations.mean() - ends[1e-2].iterations.mean() < 3
    raw = {tol: fits(Raw(), starts, tol=tol).iterations.mean() for tol in (1e-2, 1e-10)}
    assert raw[1e-10] - raw[1e-2] > 5


def test_a_step_that_lowers_the_objective_is_taken_back() -> None:
    """To the EM point that was kept; what is remembered is forgotten, and the lane goes on."""
    with jax.enable_x64(True):
        model, prepared = Linear(), Data(jnp.ones(3))
        lane = em.begin(model, Step(jnp.full(3, 5.0)), jnp.asarray(1e-8), prepared, jnp.float64, "squarem")
        kept = Step(jnp.full(3, 0.1))
        cycle = lane.cycle._replace(
            here=jnp.full(3, 5.0), base=jnp.full(3, 0.2), plain=kept.at, fallback=kept,
            points=jnp.ones((anderson.KEPT, 3)), residuals=jnp.ones((anderson.KEPT, 3)),
            reference=jnp.asarray(-1.0), phase=jnp.int32(acceleration.COMBINED),
        )  # fmt: skip
        lane = lane._replace(cycle=cycle, progress=lane.progress._replace(objective=jnp.asarray(-1.0)))
        after = em.tick(model, emjax.Degeneracy(), jnp.int32(100), prepared, lane, "squarem")
        assert after.status == Status.RUNNING
        np.testing.assert_array_equal(after.params.at, kept.at)
        np.testing.assert_array_equal(after.cycle.here, kept.at)
        assert after.cycle.phase == acceleration.CHAIN
        assert np.all(np.isnan(after.cycle.points)) and np.all(np.isnan(after.cycle.residuals))
        assert after.progress.objective == -1.0 and after.cycle.longest == np.inf


@pytest.mark.parametrize("limit", range(1, 13))
def test_the_iteration_limit_ends_no_lane_at_a_point_that_is_not_judged(limit: int) -> None:
    starts = 10.0 ** np.random.default_rng(3).uniform(-2, 2, (16, 3))
    found = fits(Linear(), starts, limit=limit)
    assert np.all(found.iterations <= limit)
    np.testing.assert_allclose(found.objective, -0.5 * np.sum(found.params.at**2, axis=1), rtol=1e-12)
    assert np.all(found.objective >= -0.5 * np.sum(starts**2, axis=1) - 1e-9)


def test_a_saddle_is_left_and_ends_no_lane() -> None:
    """Plain EM stops there, or takes hundreds of steps to leave."""
    starts = np.column_stack([np.linspace(0.5, 2.0, 16), 10.0 ** np.linspace(-6, -2, 16)])
    found, plain = fits(Pass(), starts), fits(Pass(), starts, None)
    assert np.mean(plain.objective < 0.1) > 0.3
    assert np.all(found.status == Status.CONVERGED)
    np.testing.assert_allclose(found.params.at, np.tile([0.0, 1.0], (16, 1)) * np.sign(found.params.at), atol=1e-3)
    assert found.iterations.max() < 150


def test_after_a_step_away_from_a_saddle_nothing_is_known_of_what_is_left() -> None:
    points = np.random.default_rng(2).normal(size=(5, 3))
    residuals = points * (RATES - 1.0)
    with jax.enable_x64(True):
        model, prepared = Linear(), Data(jnp.ones(3))
        lane = em.begin(model, Step(jnp.asarray(points[-1])), jnp.asarray(1e-8), prepared, jnp.float64, "squarem")
        for before, known in ((-1.0, False), (1.0, True)):
            cycle = lane.cycle._replace(
                here=jnp.asarray(points[-1]), points=jnp.asarray(points[:-1]), residuals=jnp.asarray(residuals[:-1]),
                reference=jnp.asarray(-9.0), phase=jnp.int32(acceleration.COMBINED), uphill=jnp.asarray(before),
            )  # fmt: skip
            own = lane._replace(cycle=cycle, progress=lane.progress._replace(objective=jnp.asarray(-9.0)))
            proposal, objective = Step(jnp.asarray(points[-1] * RATES)), jnp.asarray(-5.0)
            move = acceleration.look(model, prepared, own, proposal, objective, jnp.int32(0))
            assert move.uphill > 0 and move.combined and not move.failed
            assert np.isfinite(move.left) == known


def test_auto_leaves_alone_models_whose_steps_cannot_be_extrapolated() -> None:
    """Those without coordinates of their own, and PLSA; by default it extrapolates the others'."""
    starts = np.random.default_rng(4).normal(size=(16, 3))
    plain = fits(Linear(), starts, None).iterations
    np.testing.assert_array_equal(fits(Raw(), starts, "auto").iterations, plain)
    default = emjax.fit_many(Linear(), Data(starts), 0, restarts=1, certificate=False, stop=Stop(tol=1e-8))
    assert default.settings.acceleration == "auto"
    assert default.iterations.max() < plain.min() / 5
    assert not emjax.PLSA(2).extrapolates

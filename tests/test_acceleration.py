"""`acceleration="squarem"`: EM's optimum in fewer E-steps, an honest stop, no lane worse off for an extrapolation."""

from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import emjax
from emjax import Data, Dirichlet, Expectation, Flag, NormalInverseGamma, Status, Stop
from emjax.engine import acceleration, em
from tests.promises import LINES, RESTARTS, SEED, D, Poisson, Step, at, lines, same_fits, tight, truth
from tests.references import GaussianReference

SLOW = 20.0  # times the article's noise: a hundred iterations on average at tol 1e-8
SAME = 1e-3  # nats: the same optimum


@cache
def fits(method: str | None, tol: float = 1e-6, noise: float = SLOW) -> emjax.Fits:
    """Started equal whatever the method; every lane judged alone."""
    stop = tight() if tol == 1e-12 else Stop(tol=tol)
    data = lines(noise)
    return emjax.fit_many(
        LINES, data, SEED, restarts=RESTARTS, certificate=False, stop=stop, acceleration=method, threads=1
    )


# --- the same optimum, in fewer E-steps


@pytest.mark.parametrize("noise", [5.0, SLOW])
@pytest.mark.parametrize("tol", [1e-4, 1e-6, 1e-8])
def test_lanes_end_within_the_tolerance_of_the_optimum(tol: float, noise: float) -> None:
    found, best = fits("squarem", tol, noise).restarts, fits(None, 1e-12, noise).restarts
    assert np.all(found.status == Status.CONVERGED)
    left = best.objective - found.objective
    same = np.abs(left) < SAME
    assert same.mean() > 0.9, "most lanes end at the optimum that plain EM reaches"
    assert np.max(left[same]) < tol


def test_fewer_e_steps_where_em_is_slow() -> None:
    plain, found = fits(None, 1e-8).restarts.iterations, fits("squarem", 1e-8).restarts.iterations
    slow = plain > 150
    assert slow.sum() > 5
    assert found[slow].sum() < plain[slow].sum() / 3
    assert found.max() < plain.max() / 2


@pytest.mark.slow
def test_a_fifth_of_the_e_steps_on_a_slow_case(gaussian_references: dict[str, GaussianReference]) -> None:
    data = Data(gaussian_references["gmm_faithful_waiting-K2-E"].y)
    run = partial(
        emjax.fit, emjax.Mixture(emjax.Gaussian("E"), 2), data, 0, restarts=32, certificate=False, stop=Stop(tol=1e-8)
    )
    plain, found = run(acceleration=None).restarts, run(acceleration="squarem").restarts
    assert np.all(found.status == Status.CONVERGED)
    assert found.iterations.mean() < plain.iterations.mean() / 5
    assert np.all(found.objective > plain.objective - SAME)


def test_none_is_plain_em_and_the_setting_is_kept() -> None:
    plain = emjax.fit_many(LINES, lines(SLOW), SEED, restarts=RESTARTS, certificate=False, threads=1, acceleration=None)
    same_fits(plain, fits(None))
    assert np.any(fits("squarem").iterations != plain.iterations)
    assert plain.settings.acceleration is None
    assert fits("squarem").settings.acceleration == "squarem"
    assert "acceleration squarem" in fits("squarem").summary()


def test_a_saved_fit_keeps_the_setting(tmp_path: Any) -> None:
    fits("squarem").save(tmp_path / "fits.npz")
    assert emjax.load(tmp_path / "fits.npz").settings == fits("squarem").settings


# --- a map whose rates are known


class Directions(emjax.Model):
    """Three directions of known rates: u -> rates * u, objective -u'u / 2; y[:3] is the start."""

    rates = (0.999, 0.9, 0.3)

    def expect(self, params: Step, prepared: Data) -> Expectation:
        return Expectation(-0.5 * jnp.sum(params.at**2), jnp.zeros(()))

    def maximize(self, statistics: Any, params: Step, prepared: Data) -> Step:
        return Step(params.at * jnp.asarray(self.rates, params.at.dtype))

    def start(self, key: Any, prepared: Data, strategy: str) -> Step:
        return Step(prepared.y[:3])


DIRECTIONS = Directions()


@pytest.mark.parametrize("tol", [1e-4, 1e-6, 1e-8])
def test_the_stop_knows_the_slowest_direction(tol: float) -> None:
    """From 256 starts, of which plain EM leaves an eighth or more short: where the slow part of the gap is small,
    single maps show the fast ones alone."""
    starts = 10.0 ** np.random.default_rng(0).uniform(-2, 2, (256, 3)) * np.array([1.0, 3.0, 9.0])

    def run(method: str | None) -> emjax.Fits:
        settings = {"restarts": 1, "certificate": False, "threads": 1, "stop": Stop(tol=tol), "acceleration": method}
        return emjax.fit_many(DIRECTIONS, Data(starts), 0, **settings)

    found, plain = run("squarem"), run(None)
    assert np.all(found.status == Status.CONVERGED)
    short, by_plain = np.mean(-found.objective > tol), np.mean(-plain.objective > tol)
    assert by_plain > 0.1
    assert short < 0.02
    assert np.all(found.remaining < tol)
    assert found.iterations.mean() < plain.iterations.mean() / 50


# --- no lane is worse off for an extrapolation


class Cliff(emjax.Model):
    """Constant steps to 0.9, then EM to the maximum at 1; extrapolations land beyond, where `beyond` waits."""

    def __init__(self, beyond: str) -> None:
        self.beyond = beyond

    def expect(self, params: Step, prepared: Data) -> Expectation:
        u = params.at
        value = -((u - 1.0) ** 2)
        over = {
            "worse": -1e3, "nan": jnp.nan, "held": value - 0.9, "degenerate": 1e3 * u, "outside": 1.0, "lingering": u
        }[self.beyond]  # fmt: skip
        return Expectation(jnp.where(u > 1.0, over, value), u)

    def maximize(self, statistics: Any, params: Step, prepared: Data) -> Step:
        u = params.at
        back = {"outside": 0.95, "lingering": jnp.where(u > 2.0, 0.95, u + 1.0)}.get(self.beyond, u)
        return Step(jnp.where(u > 1.0, back, jnp.where(u < 0.9, u + 0.02, 1.0 - 0.8 * (1.0 - u))))

    def flags(self, params: Step, statistics: Any, prepared: Data, degeneracy: Any) -> Any:
        collapsed = (params.at > 1.0) & (self.beyond == "degenerate")
        return jnp.where(collapsed, jnp.int32(Flag.DEGENERATE), jnp.int32(0))

    def start(self, key: Any, prepared: Data, strategy: str) -> Step:
        return Step(prepared.y[0])


HELD = Cliff("held")


class Plunge(emjax.Model):
    """Steps of five times the distance to the maximum at 1, which only halving mends."""

    monotone = False

    def expect(self, params: Step, prepared: Data) -> Expectation:
        return Expectation(-((params.at - 1.0) ** 2), jnp.zeros(()))

    def maximize(self, statistics: Any, params: Step, prepared: Data) -> Step:
        return Step(params.at + 5.0 * (1.0 - params.at))


STARTS = Data(np.linspace(0.0, 0.7, 16)[:, None] * np.ones(4))


@pytest.mark.parametrize("beyond", ["worse", "nan", "held", "degenerate", "outside", "lingering"])
def test_an_extrapolation_that_fails_costs_e_steps_and_nothing_else(beyond: str) -> None:
    model = Cliff(beyond)
    run = partial(emjax.fit_many, model, STARTS, 0, restarts=1, certificate=False, threads=1)
    plain, found = run(acceleration=None), run(acceleration="squarem")
    assert np.all(plain.status == Status.CONVERGED)
    assert np.all(found.status == Status.CONVERGED)
    assert np.all(found.params.at <= 1.0)
    assert np.all(found.objective > -1e-6)
    assert not np.any(found.flags & ~int(Flag.NOISE_FLOOR))
    assert found.iterations.sum() < plain.iterations.sum()


@pytest.mark.parametrize("limit", range(1, 13))
def test_the_iteration_limit_ends_no_lane_where_it_landed(limit: int) -> None:
    """What a lane reports when the limit comes is no lower than its start, and the objective that of its parameters."""
    found = emjax.fit_many(
        HELD, STARTS, 0, restarts=1, certificate=False, stop=Stop(max_iterations=limit), acceleration="squarem"
    )
    assert np.all(found.iterations <= limit)
    running = found.status == Status.MAX_ITERATIONS
    assert np.all(running | (found.status == Status.CONVERGED))
    assert np.all(found.iterations[running] == limit)
    assert np.all(found.params.at <= 1.0)
    assert np.all(found.params.at >= STARTS.y[:, 0])
    np.testing.assert_array_equal(found.objective, -((found.params.at - 1.0) ** 2))


def test_boundary_coordinates_are_not_extrapolated() -> None:
    """They take the plain EM values, and have no say in the length of the step."""

    class Edge(Directions):
        def boundary(self, params: Step, prepared: Data) -> Any:
            return jnp.array([0, 1, 0], jnp.int32)

    with jax.enable_x64(True):
        dtype = jnp.float64
        points = [jnp.array([u, u0, 0.0]) for u, u0 in ((1.0, 3.0), (0.5, -100.0), (0.25, 7.0))]
        lane = em.begin(Edge(), Step(points[0]), 1e-6, None, dtype, "squarem")
        cycle = lane.cycle._replace(before=points[0], here=points[1], reference=jnp.asarray(-1e9, dtype))
        lane = lane._replace(cycle=cycle)
        move = acceleration.look(Edge(), None, lane, Step(points[2]), jnp.asarray(0.0, dtype), jnp.int32(0))
        assert move.worthwhile
        assert move.step == 2.0
        np.testing.assert_array_equal(move.point, [0.0, 7.0, 0.0])
        free = acceleration.look(Directions(), None, lane, Step(points[2]), jnp.asarray(0.0, dtype), jnp.int32(0))
        assert free.point[1] != 7.0


def test_models_with_guarded_steps() -> None:
    """Newton steps that may fall: the guard halves them whether or not steps are extrapolated."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(40, 1))
    y = rng.poisson(np.exp(0.3 + 0.5 * x[:, 0])).astype(float)
    starts = np.array([[1.0, 0.0], [-4.0, 0.0], [2.0, 1.0]])
    data = Data(np.stack([y] * 3), x, offset=np.pad(starts, ((0, 0), (0, 38))))
    run = partial(emjax.fit_many, Poisson(), data, 0, restarts=1, certificate=False, threads=1)
    plain, found = run(acceleration=None), run(acceleration="squarem")
    assert list(found.status) == list(plain.status) == [Status.CONVERGED] * 3
    np.testing.assert_allclose(found.objective, plain.objective, rtol=0, atol=1e-6)


class GuardedCliff(Cliff):
    monotone = False


def test_the_guard_knows_no_point_that_failed() -> None:
    """What it holds as the best so far is never a point landed on: here a collapsed one with a high objective."""
    model = GuardedCliff("degenerate")
    found = emjax.fit_many(model, STARTS, 0, restarts=1, certificate=False, threads=1, acceleration="squarem")
    assert np.all(found.status == Status.CONVERGED)
    assert np.all(found.params.at <= 1.0)
    assert np.all(found.objective > -1e-6)


@pytest.mark.parametrize("model", [HELD, GuardedCliff("held"), GuardedCliff("outside"), Cliff("nan"), Plunge()])
def test_the_cycle_knows_where_the_lane_is(model: emjax.Model) -> None:
    """Also after a step that was halved, or an extrapolation that was taken back."""
    with jax.enable_x64(True):
        params = Step(jnp.asarray(0.0))
        lane = em.begin(model, params, 1e-6, STARTS, jnp.float64, "squarem")
        tick = jax.jit(partial(em.tick, model, emjax.Degeneracy(), jnp.int32(100), acceleration="squarem"))
        for _ in range(60):
            before, lane = lane.cycle, tick(STARTS, lane)
            here = np.asarray(lane.cycle.here)[0]
            assert np.isnan(here) or here == lane.params.at or lane.status != Status.RUNNING
            failed = before.phase == acceleration.LANDED and lane.cycle.phase == acceleration.CHAIN
            assert not failed or lane.cycle.longest <= before.step / 2.0
        assert lane.status == Status.CONVERGED


# --- together with the other settings, and in any company


def test_priors_and_fixed_blocks() -> None:
    settings: dict[str, Any] = {
        "prior": {"weights": Dirichlet(3.0), "family": NormalInverseGamma()},
        "fixed": {"scale": np.array([0.5, 1.0])},
    }
    run = partial(emjax.fit_many, LINES, lines(), SEED, start=truth(), certificate=False, threads=1, **settings)
    plain, found = run(stop=tight(), acceleration=None), run(acceleration="squarem")
    assert np.all(found.status == Status.CONVERGED)
    np.testing.assert_array_equal(found.params.family.scale, plain.params.family.scale)
    assert np.all(found.objective > plain.objective - 1e-6)
    assert np.all(found.log_likelihood < found.objective + 100.0)
    assert np.all(found.log_prior != 0.0)


@pytest.mark.parametrize("polish", [True, False])
def test_float32(polish: bool) -> None:
    best = fits(None, 1e-12).objective
    found = emjax.fit_many(
        LINES, lines(SLOW), SEED, restarts=RESTARTS, certificate=False, threads=1,
        precision="float32", polish=polish, acceleration="squarem",
    )  # fmt: skip
    if polish:
        assert np.all(found.status == Status.CONVERGED)
        assert np.all(found.objective > best - 1e-6)
    else:
        assert np.all(np.isin(found.status, (Status.CONVERGED, Status.PRECISION_LIMIT)))
        assert np.all(best - found.objective < 1e-2)


def broken() -> Data:
    """Two data sets that cannot be fitted among the others."""
    y = np.array(lines(SLOW).y)
    y[2, 5] = np.nan
    y[7] = 1.0
    return Data(y, lines(SLOW).x)


def test_a_fit_does_not_depend_on_its_company() -> None:
    whole = fits("squarem")
    run = partial(emjax.fit_many, LINES, certificate=False, restarts=RESTARTS, acceleration="squarem")
    among = run(broken(), SEED)
    good = np.setdiff1d(np.arange(D), [2, 7])
    same_fits(whole, among, good, good)
    plain = emjax.fit_many(LINES, broken(), SEED, restarts=RESTARTS, certificate=False)
    np.testing.assert_array_equal(among.status, plain.status)
    np.testing.assert_array_equal(among.problems, plain.problems)
    order = np.random.default_rng(0).permutation(D)
    mixed = run(at(lines(SLOW), order), SEED, ids=order, chunk=5)
    same_fits(whole, mixed, order, slice(None))


def test_fit_lane_is_the_fit() -> None:
    start = truth(SLOW)
    many = emjax.fit_many(LINES, lines(SLOW), SEED, start=start, certificate=False, acceleration="squarem")
    with jax.enable_x64(True):
        data, params = jax.tree.map(jnp.asarray, (lines(SLOW), start))
        run = jax.jit(jax.vmap(lambda row: emjax.fit_lane(LINES, row, params, acceleration="squarem")))
        lanes = jax.tree.map(np.asarray, run(data))
    np.testing.assert_array_equal(lanes.status, many.status)
    np.testing.assert_allclose(lanes.objective, many.objective, rtol=0, atol=1e-6)
    with pytest.raises(emjax.DataError, match="squarem"):
        emjax.fit_lane(LINES, at(lines(SLOW), 0), start, acceleration="SQUAREM")


def test_plain_lanes_carry_nothing_more() -> None:
    """Plain EM pays nothing for the option: the lane has no memory of a cycle."""
    with jax.enable_x64(True):
        lane = em.begin(DIRECTIONS, Step(jnp.ones(3)), 1e-6, None, jnp.float64)
        assert lane.cycle is None
        assert em.begin(DIRECTIONS, Step(jnp.ones(3)), 1e-6, None, jnp.float64, "squarem").cycle is not None

"""DESIGN 5 (2): every lane ends with a status that says why; nothing raises in a lane; NaN is never "converged"."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import emjax
from emjax import Data, DataError, Flag, Problem, Status, Stop
from tests.promises import COURSE, Poisson, Slope, Unguarded, play

GEOMETRIC = [-(0.25**t) for t in range(COURSE)]
RISING = [float(t) for t in range(COURSE)]


def test_each_course_of_the_objective_ends_as_it_should() -> None:
    courses = {
        "geometric": (GEOMETRIC, Status.CONVERGED),
        "nan": ([-3.0, -2.0, np.nan], Status.NON_FINITE),
        "nan at once": ([np.nan], Status.NON_FINITE),
        "infinite": ([-3.0, -2.0, np.inf], Status.NON_FINITE),
        "minus infinity": ([-np.inf], Status.NON_FINITE),
        "fall": ([-3.0, -2.0, -2.5], Status.DECREASED),
        "fall after convergence began": ([-1.0, -0.5, -0.25, -0.26], Status.DECREASED),
        "rising": (RISING, Status.MAX_ITERATIONS),
        "accelerating": ([1.1**t for t in range(COURSE)], Status.MAX_ITERATIONS),
        "constant": ([-5.0], Status.CONVERGED),
        "constant but large": ([-1e12], Status.PRECISION_LIMIT),
    }
    fits = play([c for c, _ in courses.values()], stop=Stop(max_iterations=COURSE - 2))
    found = {name: Status(int(s)) for name, s in zip(courses, fits.status)}
    assert found == {name: status for name, (_, status) in courses.items()}
    converged = fits.status == Status.CONVERGED
    assert np.all(np.isfinite(fits.objective[converged]))
    assert fits.flags[list(courses).index("constant but large")] & Flag.NOISE_FLOOR


def test_a_fall_of_rounding_is_no_fall() -> None:
    size = 700.0
    rounding = [-size + 4 * np.spacing(size) * (-1) ** t for t in range(COURSE)]
    fits = play([rounding, [-size, -size - 1e-6]])
    assert list(fits.status) == [Status.CONVERGED, Status.DECREASED]


@pytest.mark.parametrize("rate", [0.1, 0.9])
def test_a_lane_stops_where_the_remaining_gain_is_below_tol(rate: float) -> None:
    """A geometric course has rate**t left after t steps; two successive estimates below tol are needed."""
    fits = play([[-(rate**t) for t in range(COURSE)]], stop=Stop(tol=0.1))
    left = rate ** (int(fits.iterations[0]) - 1)
    assert fits.status[0] == Status.CONVERGED
    assert left < 0.1
    assert left > 0.1 * rate**3
    assert fits.remaining[0] == pytest.approx(left, rel=1e-6)


def test_one_small_gain_on_the_way_is_no_convergence() -> None:
    """Gains shrink near a saddle before they grow again: one estimate below tol does not stop a lane."""
    gains = [1.0, 1e-9, 1.0, 1.0, 0.5, 0.25]
    fits = play([np.cumsum([-10.0, *gains])], stop=Stop(max_iterations=7))
    assert fits.status[0] == Status.MAX_ITERATIONS


def test_two_cycles_of_rounding_near_zero_stop() -> None:
    """eps times an objective near 0 says nothing of the rounding of its terms."""
    fits = play([[1e-13 * (-1) ** t for t in range(COURSE)]], stop=Stop(max_iterations=COURSE - 2))
    assert fits.status[0] == Status.CONVERGED
    assert fits.flags[0] & Flag.NOISE_FLOOR


def test_every_status_has_a_message() -> None:
    assert all(status.message.endswith(".") for status in Status)
    assert len({status.message for status in Status}) == len(Status)
    assert all(Problem(p).describe() for p in Problem if p)


def _one(model: Any, start: float, **settings: Any) -> Any:
    return emjax.fit(model, Data(np.full(8, start)), 0, restarts=1, **settings)


def test_a_saddle_is_left_and_says_so() -> None:
    """u = 0 is stationary and a minimum; the maxima are at -1 and 1."""
    model = Slope(lambda u: 0.5 * u**2 - 0.25 * u**4, lambda u: u + 0.3 * (u - u**3))
    fit = _one(model, 0.0)
    assert fit.status == Status.CONVERGED
    assert fit.flags & Flag.ESCAPED
    assert abs(float(fit.params.at)) == pytest.approx(1.0, abs=1e-3)
    assert fit.objective == pytest.approx(0.25, abs=1e-6)
    assert fit.certificate.smallest_eigenvalue == pytest.approx(2.0, rel=1e-2)
    away = _one(model, 0.7)
    assert not away.flags & Flag.ESCAPED
    blind = _one(model, 0.0, certificate=False)
    assert blind.params.at == 0.0


def test_a_saddle_that_cannot_be_left_is_saddle() -> None:
    """Every step away from u = 0 ends in NaN."""
    model = Slope(lambda u: u**2, lambda u: jnp.where(jnp.abs(u) < 1e-9, u, jnp.nan))
    fit = _one(model, 0.0)
    assert fit.status == Status.SADDLE
    assert fit.params.at == 0.0
    assert fit.certificate.smallest_eigenvalue < 0


POISSON = Poisson()


def _counts() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    x = rng.normal(size=24)
    return rng.poisson(np.exp(1.0 + 0.5 * x)).astype(float), x


def _newton(y: np.ndarray, x: np.ndarray) -> np.ndarray:
    beta, design = np.array([np.log(y.mean()), 0.0]), np.column_stack([np.ones_like(x), x])
    for _ in range(50):
        mean = np.exp(design @ beta)
        beta = beta + np.linalg.solve(design.T @ (mean[:, None] * design), design.T @ (y - mean))
    return beta


def _from(model: Any, *starts: tuple[float, float]) -> Any:
    y, x = _counts()
    offset = np.stack([np.pad(np.array(s), (0, len(y) - 2)) for s in starts])
    data = Data(np.stack([y] * len(starts)), x[:, None], offset=offset)
    return emjax.fit_many(model, data, 0, restarts=1, certificate=False, threads=1)


def test_the_guard_rescues_what_it_can() -> None:
    """Newton steps from an intercept that is far too low overshoot by hundreds."""
    best = _newton(*_counts())
    guarded = _from(POISSON, (1.0, 0.0), (-4.0, 0.0), (-30.0, 0.0))
    assert list(guarded.status[:2]) == [Status.CONVERGED, Status.CONVERGED]
    np.testing.assert_allclose(guarded.params.at[:2], np.stack([best, best]), atol=1e-4)
    # An overshoot of 1e13 outlasts ten halvings: the lane ends at the last accepted parameters.
    assert guarded.status[2] == Status.DECREASED
    np.testing.assert_allclose(guarded.params.at[2], [-30.0, 0.0])
    y, x = _counts()
    assert guarded.objective[2] == pytest.approx(np.sum(y * -30.0 - np.exp(-30.0)))
    free = _from(Unguarded(), (1.0, 0.0), (-4.0, 0.0), (-30.0, 0.0))
    assert free.status[1] in (Status.DECREASED, Status.NON_FINITE)
    # While steps succeed the guard costs no E-step.
    assert free.status[0] == Status.CONVERGED
    assert guarded.iterations[0] == free.iterations[0]


def test_guarded_lanes_obey_the_iteration_limit() -> None:
    y, x = _counts()
    data = Data(y, x[:, None], offset=np.pad([-4.0, 0.0], (0, len(y) - 2)))
    fit = emjax.fit(POISSON, data, 0, restarts=1, certificate=False, stop=Stop(max_iterations=4))
    assert fit.status == Status.MAX_ITERATIONS
    assert fit.iterations == 4
    mean = np.exp(fit.params.at[0] + fit.params.at[1] * x)
    assert fit.objective == pytest.approx(np.sum(y * np.log(mean) - mean), rel=1e-12)


def test_invalid_data_is_a_status_in_a_batch_and_an_error_alone() -> None:
    y = np.stack([np.r_[1.0, 2.0, 3.0, 4.0, np.nan], np.arange(5.0)])
    model = emjax.Mixture(emjax.LinearRegression(), 1)
    fits = emjax.fit_many(model, Data(y), 0, restarts=1)
    assert list(fits.status) == [Status.INVALID_DATA, Status.CONVERGED]
    assert "response" in fits.reasons[0]
    assert np.isnan(fits.objective[0])
    with pytest.raises(DataError, match="row 4"):
        emjax.fit(model, Data(y[0]), 0, restarts=1)

"""Hidden Markov models beyond the battery: recursions far out, special cases, predictions."""

from functools import partial
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize, stats

import emjax
from emjax import Data, Gaussian, GaussianParams, HiddenMarkov, MarkovParams, Mixture, MixtureParams
from emjax.base import coordinates, recursions
from emjax.latent import transition_step
from tests import lanes
from tests.battery import CLOSE, SAME, close
from tests.oracle.hidden_markov import HiddenMarkovProblem, stationary
from tests.rows.common import WEIGHTS, mixture
from tests.rows.hidden_markov import CASES

pytestmark = pytest.mark.long  # compiling takes most of a test command of ten minutes

BY_NAME = {case.name: case for case in CASES}
CASE = BY_NAME["hidden-markov"]
RNG = np.random.default_rng(3)
UNIT = np.array([0, 0, 0, 1, 1, 2, 2, 2, 2])
FIRST = np.concatenate([[True], UNIT[1:] != UNIT[:-1]])
STAY = np.eye(2)
MOVE = np.array([[0.9, 0.1], [0.2, 0.8]])
LEFT_TO_RIGHT = np.array([[0.9, 0.1], [0.0, 1.0]])


def problem(log_prob: np.ndarray, unit: np.ndarray = UNIT, weight: Any = None) -> HiddenMarkovProblem:
    weight = np.ones(unit[-1] + 1) if weight is None else weight
    seen = np.ones(len(unit), bool)
    return HiddenMarkovProblem(lambda _: log_prob, lambda *_: {}, lambda _: 0.0, weight, unit, seen)


def chain(initial: Any, transitions: Any) -> Any:
    return SimpleNamespace(latent=MarkovParams(np.array(initial), np.array(transitions)), family=None)


@lanes.in_float64
def smoothed(params: Any, log_prob: Any, first: Any = FIRST, weight: Any = None) -> Any:
    weight = np.ones(len(first)) if weight is None else weight
    arrays = (*params.latent, log_prob, first, weight)
    return jax.device_get(recursions.smooth(*map(jnp.asarray, arrays)))


GAPS = RNG.normal(size=(2, 9))
FAR = {
    "near": (GAPS, MOVE),
    "all far down": (GAPS - 1e5, MOVE),
    "far apart": (1e5 * GAPS, MOVE),
    "far apart, no way across": (1e5 * GAPS, STAY),
    "far apart, one way": (1e5 * GAPS, LEFT_TO_RIGHT),
    "slowly apart, no way across": (np.where(FIRST, [[0.0], [-800.0]], [[-400.0], [0.0]]), STAY),
    "from an impossible start": (np.where(FIRST, [[-1e5], [0.0]], GAPS), MOVE),
}


@pytest.mark.parametrize("name", FAR)
def test_densities_however_far(name: str) -> None:
    log_prob, transitions = FAR[name]
    for initial in ([0.6, 0.4], [1.0, 0.0]):
        params, weight = chain(initial, transitions), np.array([1.0, 2.0, 0.5])
        oracle = problem(log_prob, weight=weight)
        wanted = oracle.e_step(params)
        found = smoothed(params, log_prob, weight=weight[UNIT])
        close(found.log_likelihood, wanted.log_likelihood, SAME, "log-likelihood")
        close(found.responsibilities, oracle.rows(wanted.responsibilities) * weight[UNIT], CLOSE, "responsibilities")
        counts = transitions * found.transitions
        close(np.sum(counts), np.sum(weight[UNIT][~FIRST]), CLOSE, "transitions in all")
        close(np.sum(np.array(initial) * found.initial), np.sum(weight), CLOSE, "first states in all")


def test_a_far_lane_leaves_its_neighbours_alone() -> None:
    near, far = FAR["near"][0], FAR["far apart, no way across"][0]
    with jax.enable_x64(True):
        initial, transitions, weight = jnp.array([0.6, 0.4]), jnp.asarray(STAY), jnp.ones(9)
        both = jax.vmap(lambda rows: recursions.smooth(initial, transitions, rows, jnp.asarray(FIRST), weight))(
            jnp.stack([near, far])
        )
        twice = jax.vmap(lambda rows: recursions.smooth(initial, transitions, rows, jnp.asarray(FIRST), weight))(
            jnp.stack([near, near])
        )
        jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[0], b[0]), both, twice)


@lanes.in_float64
@pytest.mark.parametrize("name", ["near", "far apart, one way"])
def test_second_derivatives_are_those_of_the_first(name: str) -> None:
    """Against differences of the responsibilities, which the oracle has checked."""
    log_prob, transitions = (jnp.asarray(a) for a in FAR[name])
    initial, weight, first = jnp.array([0.6, 0.4]), jnp.ones(9), jnp.asarray(FIRST)
    way = jnp.asarray(RNG.normal(size=(2, 9)))

    def total(log_prob: Any) -> Any:
        return recursions.smooth(initial, transitions, log_prob, first, weight).log_likelihood

    found = jax.jvp(jax.grad(total), (log_prob,), (way,))[1]
    ends = [recursions.smooth(initial, transitions, log_prob + s * way, first, weight) for s in (1e-6, -1e-6)]
    close(found, (ends[0].responsibilities - ends[1].responsibilities) / 2e-6, 1e-7, "second derivative")


@lanes.in_float64
@pytest.mark.parametrize("n_states", [1, 2, 3, 7])
def test_stationary_distribution(n_states: int) -> None:
    transitions = RNG.dirichlet(np.ones(n_states), size=n_states)
    close(recursions.stationary(jnp.asarray(transitions)), stationary(transitions), CLOSE, "stationary")
    assert np.all(np.isfinite(recursions.stationary(jnp.eye(n_states))))


@lanes.in_float64
@pytest.mark.parametrize("n_states", [2, 3])
def test_m_step_of_a_stationary_chain(n_states: int) -> None:
    """Repeated, it ends where a general optimiser does; no step lowers Q."""
    rng = np.random.default_rng(n_states)
    counts, entering = rng.uniform(1.0, 6.0, (n_states, n_states)), rng.uniform(0.0, 5.0, n_states)

    def q(transitions: np.ndarray) -> float:
        return float(np.sum(counts * np.log(transitions)) + np.sum(entering * np.log(stationary(transitions))))

    def rows(free: np.ndarray) -> np.ndarray:
        odds = np.exp(free.reshape(n_states, n_states))
        return odds / odds.sum(axis=1, keepdims=True)

    best = optimize.minimize(lambda free: -q(rows(free)), np.zeros(n_states**2), method="BFGS", tol=1e-10)
    here = np.full((n_states, n_states), 1.0 / n_states)
    for _ in range(20):
        after = np.asarray(transition_step.with_stationary_start(jnp.asarray(counts), jnp.asarray(entering), here))
        assert q(after) >= q(here) - SAME * abs(q(here))
        here = after
    assert q(here) == pytest.approx(-best.fun, abs=1e-8)
    close(here, rows(best.x), 1e-4, "transitions")


# --- special cases --------------------------------------------------------------------------------------------------


@lanes.in_float64
def step(model: Any, data: Data, params: Any) -> Any:
    return jax.device_get(lanes.step(model, None, None, *jax.tree.map(jnp.asarray, (data, params))))


def test_equal_rows_are_a_mixture() -> None:
    weights, family = np.array(WEIGHTS[2]), CASE.near.family
    y = np.random.default_rng(5).normal(1003.0, 4.0, 40)
    hidden = MixtureParams(MarkovParams(weights, np.stack([weights, weights])), family)
    found = step(HiddenMarkov(Gaussian(), 2), Data(y), hidden)
    wanted = step(Mixture(Gaussian(), 2), Data(y), mixture(weights, family))
    close(found.log_likelihood, wanted.log_likelihood, SAME, "log-likelihood")
    close(found.after.family, wanted.after.family, CLOSE, "components")
    density = weights * stats.norm.pdf(y[:, None], family.means[:, 0], np.sqrt(family.covariances[:, 0, 0]))
    resp = density / density.sum(axis=1, keepdims=True)
    counts = resp[:-1].T @ resp[1:]  # the posterior is independent over time
    close(found.after.latent.initial, resp[0], CLOSE, "initial")
    close(found.after.latent.transitions, counts / counts.sum(axis=1, keepdims=True), CLOSE, "transitions")


def test_one_state() -> None:
    y = np.random.default_rng(5).normal(1003.0, 4.0, 40)
    params = MixtureParams(
        MarkovParams(np.ones(1), np.ones((1, 1))), GaussianParams(np.array([[1e3]]), np.ones((1, 1, 1)))
    )
    for initial in ("free", "stationary"):
        found = step(HiddenMarkov(Gaussian(), 1, initial), Data(y), params)
        close(found.log_likelihood, np.sum(stats.norm.logpdf(y, 1e3, 1.0)), SAME, "log-likelihood")
        close(found.after.family.means[0, 0], np.mean(y), SAME, "mean")
        close(found.after.latent.transitions, np.ones((1, 1)), SAME, "transitions")


@lanes.in_float64
def test_coordinates_where_the_baseline_is_zero() -> None:
    for row in ([0.0, 1.0], [1.0, 0.0], [0.0, 0.3, 0.7], [0.5, 1e-9, 0.5 - 1e-9], [0.0, 0.0, 1.0]):
        row = jnp.array(row)
        for preferred in range(len(row)):
            free = coordinates.log_ratios(row, preferred)
            assert not np.any(np.isposinf(free)) and not np.any(np.isnan(free))
            close(coordinates.from_log_ratios(free, preferred, row), row, SAME, f"{row} {preferred}")


# --- predictions ----------------------------------------------------------------------------------------------------

TWO = MixtureParams(
    MarkovParams(np.array([0.7, 0.3]), MOVE), GaussianParams(np.array([[0.0], [3.0]]), np.ones((2, 1, 1)))
)
COUNTS = MixtureParams(TWO.latent, emjax.PoissonParams(np.array([2.0, 9.0])))


@lanes.in_float64
def predict(model: Any, data: Data, params: Any) -> Any:
    data, params = jax.tree.map(jnp.asarray, (data, params))
    prepared, _ = model.prepare(data)
    return jax.device_get(model.predict(model.from_user(params, prepared), prepared))


def test_predictions() -> None:
    y = np.random.default_rng(6).normal(1.5, 2.0, 9)
    y[4] = np.nan
    data = Data(y, unit=UNIT.astype(np.int32), weight=np.ones(3))
    seen = np.isfinite(y)
    log_prob = np.where(seen, stats.norm.logpdf(np.where(seen, y, 0.0), TWO.family.means, 1.0), 0.0)
    found = predict(HiddenMarkov(Gaussian(), 2), data, TWO)
    whole = problem(log_prob)
    posterior = whole.e_step(TWO)
    close(found.responsibilities, whole.rows(posterior.responsibilities).T, SAME, "smoothed")
    np.testing.assert_array_equal(found.labels, whole.decode(TWO))
    close(np.sum(found.log_density), posterior.log_likelihood, SAME, "log-likelihood")
    for t in range(9):
        rows = np.flatnonzero((UNIT[t] == UNIT) & (np.arange(9) <= t))
        so_far = problem(np.where(rows == t, 0.0, log_prob[:, rows]), np.zeros(len(rows), int))
        ahead = so_far.rows(so_far.e_step(TWO).responsibilities)[:, -1]
        close(found.predicted[t], ahead, SAME, f"one step ahead, row {t}")
        if seen[t]:
            below = np.sum(ahead * stats.norm.cdf(y[t] - TWO.family.means[:, 0]))
            close(found.pseudo_residuals[t], stats.norm.ppf(below), CLOSE, "pseudo-residual")
            close(found.pseudo_residual_bounds[t], np.full(2, found.pseudo_residuals[t]), CLOSE, "bounds")
    assert np.isnan(found.pseudo_residuals[4]) and found.log_density[4] == 0.0


def test_cells_may_be_masked() -> None:
    """A row of which one cell is NaN and the other masked is missing, as a row of NaN is."""
    rng, unit = np.random.default_rng(7), np.repeat([0, 1], [17, 23])
    y = rng.normal(size=(40, 2)) + 3.0 * (np.arange(40) // 8 % 2)[:, None]
    holes, masked = np.array(y), np.array(y)
    holes[7], masked[7, 0] = np.nan, np.nan
    observed = np.ones((40, 2), bool)
    observed[7, 1] = False
    model, fit = HiddenMarkov(Gaussian("diagonal"), 2), partial(emjax.fit_many, key=0, restarts=2, certificate=False)
    one, other = (
        fit(model, [data])[0] for data in (Data(holes, unit=unit), Data(masked, unit=unit, observed=observed))
    )
    assert one.n_observations == other.n_observations == 39.0
    assert other.log_likelihood == one.log_likelihood and other.bic == one.bic
    found = one.predict(Data(masked, unit=unit, observed=observed))
    assert np.all(np.isfinite(found.responsibilities)) and found.log_density[7] == 0.0
    column = Data(y[:, :1], observed=observed[:, 1:])
    assert np.shape(fit(HiddenMarkov(Gaussian(), 2), [column])[0].bic) == ()


def test_pseudo_residuals_of_counts() -> None:
    y = np.array([0.0, 3, 12, 9, 1, 0, 2, 7, 60])
    found = predict(HiddenMarkov(emjax.Poisson(), 2), Data(y), COUNTS)
    rates = COUNTS.family.rates
    less = np.sum(found.predicted * stats.poisson.cdf(y[:, None] - 1, rates), axis=1)
    more = np.sum(found.predicted * stats.poisson.sf(y[:, None], rates), axis=1)
    at_least = np.sum(found.predicted * stats.poisson.sf(y[:, None] - 1, rates), axis=1)
    low = np.where(less < 0.5, stats.norm.ppf(less), stats.norm.isf(at_least))
    close(found.pseudo_residual_bounds[y > 0, 0], low[y > 0], CLOSE, "less")
    close(found.pseudo_residual_bounds[:, 1], stats.norm.isf(more), CLOSE, "more")
    middle = 0.5 * (more + at_least)  # the share of what lies above the middle of the interval
    close(found.pseudo_residuals, stats.norm.isf(middle), CLOSE, "middle")
    assert found.pseudo_residual_bounds[0, 0] == -np.inf
    assert np.all(np.diff(found.pseudo_residual_bounds, axis=1) > 0)
    assert found.pseudo_residuals[8] > 8.0 and np.isfinite(found.pseudo_residuals[8])  # far out in the upper tail


def test_several_dimensions_have_no_pseudo_residuals() -> None:
    y = np.random.default_rng(6).normal(size=(9, 2))
    params = MixtureParams(TWO.latent, GaussianParams(np.array([[0.0, 0.0], [1.0, 1.0]]), np.stack([np.eye(2)] * 2)))
    assert predict(HiddenMarkov(Gaussian(), 2), Data(y), params).pseudo_residuals is None

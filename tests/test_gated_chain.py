"""Gated hidden Markov chains beyond the battery: special cases, predictions, coordinates, bad input, many datasets."""

from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import emjax
from emjax import (
    Data,
    Flag,
    GatedChain,
    GatedMarkovParams,
    Gaussian,
    GaussianParams,
    HiddenMarkov,
    MarkovParams,
    MixtureParams,
    Problem,
)
from emjax.base import recursions, supports
from emjax.engine import datasets, diagnosis
from emjax.inference import labels
from tests import lanes
from tests.battery import CLOSE, SAME, close
from tests.oracle.gated_chain import GatedChainProblem
from tests.oracle.hidden_markov import HiddenMarkovProblem
from tests.refusals import refused

MODEL, BOTH = (HiddenMarkov(Gaussian("V"), 2, first, "gated") for first in ("free", "gated"))
FAMILY = GaussianParams(np.array([[0.0], [3.0]]), np.ones((2, 1, 1)))
MOVES = np.array([[[0.0, 0.0], [-9.0, 0.14]], [[3.5, -0.1], [0.0, 0.0]]])
FIRST = np.array([[-10.0, 0.2], [0.0, 0.0]])
TRUTH = MixtureParams(GatedMarkovParams(np.array([1.0, 0.0]), MOVES), FAMILY)
UNIT = np.array([0, 0, 0, 1, 1, 2, 2, 2, 2], np.int32)


def design(n: int, seed: int = 2) -> np.ndarray:
    return np.random.default_rng(seed).normal(50.0, 7.0, (n, 1))


@cache
@lanes.in_float64
def simulated(n: int = 300, seed: int = 0) -> Data:
    """One sequence from TRUTH."""
    data = Data(np.zeros(n), z=design(n, seed + 100))
    drawn, _ = MODEL.sample(jax.random.key(seed), *jax.tree.map(jnp.asarray, (TRUTH, data)))
    return jax.tree.map(np.asarray, drawn)


@lanes.in_float64
def step(model: Any, data: Data, params: Any) -> Any:
    return jax.device_get(lanes.step(model, None, None, *jax.tree.map(jnp.asarray, (data, params))))


@lanes.in_float64
def prepared(model: Any, data: Data, params: Any, fixed: Any = None) -> tuple[Any, Any]:
    """Prepared data, and parameters in their units."""
    found, _ = model.prepare(jax.tree.map(jnp.asarray, data), None, fixed)
    return found, model.from_user(jax.tree.map(jnp.asarray, params), found)


# --- special cases --------------------------------------------------------------------------------------------------


@lanes.in_float64
@pytest.mark.parametrize("far", [pytest.param(far, marks=pytest.mark.slow) for far in (False, True)])
def test_rows_that_are_all_the_same_are_a_constant_chain(far: bool) -> None:
    """Far densities and no way across take logarithms."""
    rng = np.random.default_rng(1)
    initial, moves = jnp.array([0.6, 0.4]), jnp.eye(2) if far else jnp.array([[0.9, 0.1], [0.2, 0.8]])
    log_prob = jnp.asarray(rng.normal(size=(2, 9)) * (1e5 if far else 1.0))
    first = jnp.asarray(np.concatenate([[True], UNIT[1:] != UNIT[:-1]]))
    weight = jnp.array([1.0, 2.0, 0.5])[UNIT]
    rows = jnp.broadcast_to(initial, (9, 2)), jnp.broadcast_to(moves, (9, 2, 2))
    found, wanted = (recursions.smooth(*chain, log_prob, first, weight) for chain in (rows, (initial, moves)))
    assert found.transitions.shape == (9, 2, 2)
    summed = found._replace(initial=found.initial.sum(axis=0), transitions=found.transitions.sum(axis=0))
    close(summed, wanted, SAME, "smoothed")
    for function in (recursions.predict, recursions.best_path):
        close(function(*rows, log_prob, first), function(initial, moves, log_prob, first), SAME, function.__name__)
    key = jax.random.key(0)
    np.testing.assert_array_equal(recursions.draw(key, *rows, first), recursions.draw(key, initial, moves, first))


@lanes.in_float64
@pytest.mark.slow
def test_derivatives_by_row_are_those_of_the_log_likelihood() -> None:
    rng = np.random.default_rng(1)
    initial, moves = jnp.asarray(rng.dirichlet(np.ones(3), 9)), jnp.asarray(rng.dirichlet(np.ones(3), (9, 3)))
    rest = jnp.asarray(rng.normal(size=(3, 9))), jnp.asarray(UNIT == -1).at[0].set(True).at[5].set(True), jnp.ones(9)
    way = jnp.asarray(rng.normal(size=(9, 3))), jnp.asarray(rng.normal(size=(9, 3, 3)))

    def total(initial: Any, moves: Any) -> Any:
        return recursions.smooth(initial, moves, *rest).log_likelihood

    found = jax.jvp(jax.grad(total, argnums=(0, 1)), (initial, moves), way)[1]
    ends = [jax.grad(total, argnums=(0, 1))(initial + h * way[0], moves + h * way[1]) for h in (1e-6, -1e-6)]
    difference = jax.tree.map(lambda a, b: (a - b) / 2e-6, *ends)
    close(found, difference, 1e-7, "second derivative")
    slope = [total(initial + h * way[0], moves + h * way[1]) for h in (1e-6, -1e-6)]
    along = jax.jvp(total, (initial, moves), way)[1]
    close(along, (slope[0] - slope[1]) / 2e-6, 1e-7, "first derivative")


@pytest.mark.slow
def test_without_slopes_it_is_the_constant_chain() -> None:
    data = simulated()
    constant = MarkovParams(np.array([0.7, 0.3]), np.array([[0.9, 0.1], [0.25, 0.75]]))
    wanted = step(HiddenMarkov(Gaussian("V"), 2), data._replace(z=None), MixtureParams(constant, FAMILY))
    logits = np.log(constant.transitions / np.diag(constant.transitions)[:, None])
    for columns in (0, 1):
        moves = np.concatenate([logits[:, :, None], np.zeros((2, 2, columns))], axis=2)
        params = MixtureParams(GatedMarkovParams(constant.initial, moves), FAMILY)
        found = step(MODEL, data._replace(z=data.z[:, :columns]), params)
        assert found.log_likelihood == pytest.approx(float(wanted.log_likelihood), abs=1e-9)
        close(found.after.family, wanted.after.family, CLOSE, "components")
        close(found.after.latent.initial, wanted.after.latent.initial, CLOSE, "initial")


# --- predictions ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
@lanes.in_float64
def test_predictions() -> None:
    rng = np.random.default_rng(6)
    y, z = rng.normal(1.5, 2.0, 9), design(9)
    y[4] = np.nan
    seen = np.isfinite(y)
    log_prob = np.where(seen, stats.norm.logpdf(np.where(seen, y, 0.0), FAMILY.means, 1.0), 0.0)
    params = MixtureParams(GatedMarkovParams(FIRST, MOVES), FAMILY)
    inside = prepared(BOTH, Data(y, z=z, unit=UNIT, weight=np.ones(3)), params)
    found = jax.device_get(BOTH.predict(inside[1], inside[0]))

    def oracle(rows: np.ndarray, log_prob: np.ndarray) -> Any:
        unit = UNIT[rows] - UNIT[rows[0]]
        parts = np.ones(unit[-1] + 1), unit, np.ones(len(rows), bool)
        whole = HiddenMarkovProblem(lambda _: log_prob[:, rows], lambda *_: {}, lambda _: 0.0, *parts)
        return GatedChainProblem(whole, np.column_stack([np.ones(len(rows)), z[rows]]))

    whole = oracle(np.arange(9), log_prob)
    posterior = whole.e_step(params)
    close(found.responsibilities, whole.rows(posterior.responsibilities).T, SAME, "smoothed")
    np.testing.assert_array_equal(found.labels, whole.decode(params))
    close(np.sum(found.log_density), posterior.log_likelihood, SAME, "log-likelihood")
    for t in range(9):
        rows = np.flatnonzero((UNIT[t] == UNIT) & (np.arange(9) <= t))
        so_far = oracle(rows, np.where(np.arange(9) == t, 0.0, log_prob))
        ahead = so_far.rows(so_far.e_step(params).responsibilities)[:, -1]
        close(found.predicted[t], ahead, SAME, f"one step ahead, row {t}")
        if seen[t]:
            below = np.sum(ahead * stats.norm.cdf(y[t] - FAMILY.means[:, 0]))
            close(found.pseudo_residuals[t], stats.norm.ppf(below), CLOSE, "pseudo-residual")


@lanes.in_float64
def test_drawn_states_follow_their_rows() -> None:
    """The transition into a row depends on that row's z, and on no other."""
    n = 6000
    z = np.where(np.arange(n) % 3 == 0, 2.0, np.where(np.arange(n) % 3 == 1, -1.0, 0.0))[:, None]
    params = GatedMarkovParams(np.array([0.5, 0.5]), np.array([[[0.0, 0.0], [0.0, 1.0]], [[-0.5, 0.5], [0.0, 0.0]]]))
    drawn = jax.tree.map(jnp.asarray, (params, Data(np.zeros(n), z=z)))
    states = np.asarray(GatedChain().sample(jax.random.key(3), *drawn))
    for kind, value in enumerate((2.0, -1.0, 0.0)):
        at = np.arange(n)[(np.arange(n) % 3 == kind) & (np.arange(n) > 0)]
        for state, logit in ((0, value), (1, -0.5 + 0.5 * value)):
            moved = states[at][states[at - 1] == state] != state
            p = 1.0 / (1.0 + np.exp(-logit))
            assert abs(np.mean(moved) - p) < 4.0 * np.sqrt(p * (1.0 - p) / len(moved))


# --- coordinates ----------------------------------------------------------------------------------------------------


def test_relabelling_moves_both_axes_and_the_first_state_s_baseline() -> None:
    rng = np.random.default_rng(0)
    moves = rng.normal(size=(3, 3, 2)) * (1.0 - np.eye(3))[:, :, None]
    params = GatedMarkovParams(np.concatenate([rng.normal(size=(2, 2)), np.zeros((1, 2))]), moves)
    order = np.array([2, 0, 1])
    moved = GatedChain("gated").relabel(params, order)
    assert np.all(moved.initial[-1] == 0.0) and np.all(moved.transitions[np.arange(3), np.arange(3)] == 0.0)
    x = np.array([1.0, 0.7])

    def rows(params: Any) -> tuple[np.ndarray, np.ndarray]:
        odds = np.exp(params.initial @ x), np.exp(params.transitions @ x)
        return odds[0] / odds[0].sum(), odds[1] / odds[1].sum(axis=1, keepdims=True)

    (first, onward), (first_moved, onward_moved) = rows(params), rows(moved)
    np.testing.assert_allclose(first_moved, first[order], rtol=1e-14)
    np.testing.assert_allclose(onward_moved, onward[order][:, order], rtol=1e-14)


@lanes.in_float64
@pytest.mark.slow
@pytest.mark.parametrize("away", [2.0, 30.0])
def test_coordinates_whatever_the_baseline(away: float) -> None:
    """A state that hardly anything stays in is no baseline: 30 logits against it."""
    moves = np.array([[[0.0, 0.0], [away - 5.0, 0.1]], [[-1.0, 0.2], [0.0, 0.0]]])  # `away` at the mean of z
    latent = GatedChain()
    data, inside = prepared(MODEL, simulated(), TRUTH._replace(latent=GatedMarkovParams(np.array([0.3, 0.7]), moves)))
    free = latent.to_free(inside.latent, data.latent)
    again = latent.from_free(free, data.latent, 2, inside.latent)
    close(again, inside.latent, SAME, "there and back")
    assert np.all(np.isfinite(free)) and free.shape == (latent.n_free(data.latent, 2),)
    staying = free[1] > 0  # the first coefficient of the row: of going, or of staying
    assert staying == (away < 10.0)


@lanes.in_float64
@pytest.mark.parametrize("moves", ["constant", "gated"])
def test_coordinates_of_a_chain_with_a_point_mass(moves: Any) -> None:
    rng = np.random.default_rng(0)
    start, slopes = np.array([0.2, 0.3, 0.5]), rng.normal(size=(3, 3, 2)) * (1.0 - np.eye(3))[:, :, None]
    gated = moves == "gated"
    latent = GatedMarkovParams(start, slopes) if gated else MarkovParams(start, rng.dirichlet(np.ones(3), 3))
    family = emjax.WithComponent(emjax.Poisson(), emjax.PointMass())
    model = HiddenMarkov(family, 3, transition_probabilities=moves)
    data = datasets.one(model, Data(rng.poisson(3.0, 60), z=design(60) if gated else None))
    prepared, _ = model.prepare(jax.tree.map(jnp.asarray, data))
    given = jax.tree.map(jnp.asarray, MixtureParams(latent, emjax.PoissonParams(np.array([1.0, 4.0]))))
    back = model.from_free(model.to_free(given, prepared), prepared, given)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14), back, given)


@pytest.mark.slow
@lanes.in_float64
def test_states_that_cannot_be_reached_and_ways_never_taken() -> None:
    shut = np.array([[[0.0, 0.0], [-60.0, 0.0]], [[1.0, 0.1], [0.0, 0.0]]])
    for initial, codes in (([1.0, 0.0], [1, 1, 2, 2, 2]), ([0.5, 0.5], [0, 1, 2, 0, 0])):
        data, inside = prepared(MODEL, simulated(), TRUTH._replace(latent=GatedMarkovParams(np.array(initial), shut)))
        found = MODEL.boundary(inside, data)
        np.testing.assert_array_equal(found[:5], codes)
        owners = np.array(MODEL.family.component_of_free(data.family, 2))
        np.testing.assert_array_equal(found[5:], np.where((owners == 1) & (initial[1] == 0.0), 2, 0))
        statistics = MODEL.expect(inside, data).statistics
        assert MODEL.flags(inside, statistics, data, emjax.Degeneracy()) & Flag.BOUNDARY


def test_the_scales_of_intervals() -> None:
    p, one, two = np.ones(2), np.ones((2, 2)), np.ones((2, 2, 3))
    for params, wanted in (
        (GatedMarkovParams(p, two), ("probability", "real")),
        (GatedMarkovParams(one, two), ("real", "real")),
        (GatedMarkovParams(one, one), ("real", "probability")),
    ):
        assert tuple(supports.of(params)) == wanted
        assert tuple(supports.of(jax.tree.map(lambda a: a[None], params))) == wanted  # of many datasets


def test_states_are_compared_by_what_moves_along_one_axis() -> None:
    """The family's parameters do; coefficients against the last state do not, and first states tell nothing."""
    for model, initial in ((MODEL, np.array([0.4, 0.6])), (BOTH, FIRST)):
        params = MixtureParams(GatedMarkovParams(initial, MOVES), FAMILY)
        values = labels._by_component(model, jax.tree.map(lambda a: a[None], params))
        assert values is not None and values.shape == (1, 2, 2)


# --- bad input ------------------------------------------------------------------------------------------------------


@lanes.in_float64
def explained(model: Any, data: Data) -> str:
    """What `fit` would say of the problem that preparing the data finds; nothing is compiled for it."""
    single = datasets.one(model, data)
    problem = model.prepare(jax.tree.map(jnp.asarray, single))[1]
    return diagnosis.explain(model, single, Problem(int(problem)))


def test_bad_settings() -> None:
    family = Gaussian("V")
    refused(lambda: HiddenMarkov(family, 2, "stationary", "gated"), "stationary", "no equilibrium", "'free' or 'gated'")
    refused(lambda: HiddenMarkov(family, 2, "free", "logit"), "transition_probabilities='logit'", "'gated'")  # type: ignore[arg-type]
    refused(lambda: HiddenMarkov(family, 2, "equal", "gated"), "initial_distribution='equal'")  # type: ignore[arg-type]
    refused(lambda: GatedChain("free", "constant"), "no use for covariates", "MarkovChain")
    refused(lambda: GatedChain("stationary"), "no equilibrium")  # type: ignore[arg-type]


def test_bad_input() -> None:
    data = simulated()

    def fit(data: Data = data, model: Any = MODEL, **settings: Any) -> Any:
        return lambda: emjax.fit(model, data, 0, restarts=4, **settings)

    refused(fit(data._replace(z=None)), "covariates of the states", "Data(z=...)")
    refused(fit(data._replace(z=data.z[:, 0])), "z has shape (300,)", "(n, c)")
    refused(fit(model=HiddenMarkov(Gaussian("V"), 2)), "z", "transition_probabilities='gated'")
    refused(fit(prior={"initial": emjax.Dirichlet(2.0)}), "initial", "family")
    refused(fit(fixed={"transitions": np.full((2, 2, 2), np.nan)}), "transitions", "finite")
    refused(fit(fixed={"transitions": np.zeros((2, 2, 3))}), "shape (2, 2, 3)", "(2, 2, 2)")
    refused(fit(fixed={"initial": np.array([0.5, 0.6])}), "initial", "sum to 1")
    refused(fit(model=BOTH, fixed={"initial": np.full((2, 2), np.inf)}), "initial", "finite")
    hole = np.array(data.z)
    hole[7] = np.nan
    assert "row 7, column 0 of z" in explained(MODEL, data._replace(z=hole))
    assert "column 1 of z" in explained(MODEL, data._replace(z=np.c_[data.z, np.ones(300)]))
    assert "column 1 of z follows" in explained(MODEL, data._replace(z=np.c_[data.z, 2.0 * data.z + 1.0]))
    assert "1 sequences for 2 coefficients" in explained(BOTH, data)
    alone = data._replace(unit=np.arange(300), weight=np.ones(300))
    assert "0 transitions for 2 coefficients" in explained(MODEL, alone)
    pairs = Data(data.y[:6], z=data.z[:6], unit=np.array([0, 0, 1, 1, 2, 2]))
    assert "(6 rows)" in explained(BOTH, pairs)  # too few for ten parameters, but for none of them alone
    missing = np.array(data.y)
    missing[7] = np.nan
    assert "row 7, column 0 of z" in explained(MODEL, data._replace(y=missing, z=hole))  # time passes all the same


@lanes.in_float64
@pytest.mark.slow
def test_rows_of_weight_zero_may_hold_anything() -> None:
    data, unit = simulated(), np.repeat(np.arange(3), 100).astype(np.int32)
    z = np.array(data.z)
    z[120] = np.nan
    data = data._replace(z=z, unit=unit, weight=np.array([1.0, 0.0, 1.0]))
    keep = unit != 1
    fewer = Data(data.y[keep], z=z[keep], unit=(unit[keep] > 0).astype(np.int32), weight=np.ones(2))
    found, wanted = (step(MODEL, given, TRUTH) for given in (data, fewer))
    assert found.problem == wanted.problem == 0
    close(found.after, wanted.after, CLOSE, "after a step")
    close(found.log_likelihood, wanted.log_likelihood, SAME, "log-likelihood")

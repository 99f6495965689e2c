"""What a study draws, what it stores of EM's fits, and where exchanged labels move it."""

import itertools
from pathlib import Path
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import emjax
from emjax import DataError
from emjax.inference import permute
from emjax.studies import From, Method, Simulated, grid, layouts, loading, simulating
from tests import study_cases


def _gated(key: Any, n: int) -> emjax.Data:
    z = jax.random.normal(key, (n, 1), jnp.float64)
    return emjax.Data(jnp.zeros(n), z=z)


POISSON = emjax.PoissonParams(np.array([1.0, 30.0]))
DRAWN = {
    "chain": (
        emjax.HiddenMarkov(emjax.Poisson(), 2),
        emjax.MarkovParams(np.array([0.5, 0.5]), np.array([[0.9, 0.1], [0.2, 0.8]])),
        None,
    ),
    "gate": (
        emjax.Mixture(emjax.Poisson(), 2, emjax.GatedWeights()),
        emjax.GatingParams(np.array([[0.0, 1.0], [0.0, 0.0]])),
        _gated,
    ),
}


@pytest.mark.parametrize("name", DRAWN)
def test_a_replicate_does_not_depend_on_those_drawn_with_it(name: str) -> None:
    model, latent, x = DRAWN[name]
    generate = From(model, lambda scenario: emjax.MixtureParams(latent, POISSON), "n", x)
    root = np.array([1, 2], np.uint32)
    many = simulating.draw(generate, {"n": 40}, root, np.arange(5, 41))
    alone = simulating.draw(generate, {"n": 40}, root, np.array([17]))
    chex.assert_trees_all_equal(alone, jax.tree.map(lambda a: a[12:13], many))
    assert many.data.y.shape == many.labels.shape == (36, 40) and many.data.y.dtype == np.float64
    assert len(np.unique(many.data.y, axis=0)) == 36
    rates = POISSON.rates[many.labels]
    assert abs(np.mean((many.data.y - rates) / np.sqrt(rates))) < 5 / np.sqrt(36 * 40)
    assert many.truth.family.rates.shape == (36, 2) and (many.data.z is None) == (x is None)
    with pytest.raises(DataError, match="gives None rows in scenario"):
        simulating.draw(generate, {"m": 40}, root, np.arange(2))


def test_what_generate_may_not_return() -> None:
    root = np.array([1, 2], np.uint32)
    for found, message in [
        (3.0, "generate returned float"),
        (Simulated(emjax.Data(np.zeros(4)), None, np.zeros(3, int)), r"labels of shape \(3,\)"),
        (Simulated(emjax.Data(np.zeros(4)), None, np.zeros(4)), "type float64: give whole numbers"),
        (emjax.Data(np.zeros(4), unit=np.zeros(4, int)), "unit without weight"),
    ]:
        with pytest.raises(DataError, match=message):
            simulating.draw(lambda key, scenario, found=found: found, {}, root, np.arange(2))


# --- what EM leaves ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_replay_equals_to_the_bit_what_the_study_stored(tmp_path: Path) -> None:
    one = study_cases.lines(scenarios=grid(n=50, noise=3.0))
    assert one.run(tmp_path, chunk=8, threads=1).complete
    em, at_truth = loading.cells(tmp_path)
    replay = one.replay({"n": 50, "noise": 3.0}, 5)
    for cell in (em, at_truth):
        fit = replay.fits[cell.method]
        errors = emjax.standard_errors(fit, covariance=True)
        limits = emjax.intervals(errors)
        for name, record in {
            "estimate": fit.params, "se": errors.se, "lower": limits.lower, "upper": limits.upper, "truth": replay.truth
        }.items():  # fmt: skip
            flat = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(record)])
            np.testing.assert_array_equal(getattr(cell.outcomes, name)[5], flat)
        assert cell.outcomes.log_likelihood[5] == fit.log_likelihood
        assert cell.outcomes.iterations[5] == fit.iterations
        best = np.max(fit.restarts.objective)
        assert cell.outcomes.share_best[5] == np.mean(fit.restarts.objective >= best - 1e-3)
        table = np.zeros((2, 2))
        np.add.at(table.T, replay.labels, fit.predict().responsibilities)
        np.testing.assert_allclose(cell.outcomes.overlap[5], table, rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(at_truth.outcomes.covariance[5], errors.covariance)
    assert em.outcomes.covariance.shape == (8, 0, 0)
    assert len(replay.fits["EM"].restarts.objective) == 2
    assert [str(entry.parameter) for entry in em.entries][2:6] == ["coefficients[0]", "coefficients[1]"] * 2
    np.testing.assert_array_equal(em.moves[1, 0], [1, 0, 4, 5, 2, 3, 7, 6])


@pytest.mark.slow
def test_bootstrap_intervals_are_those_of_the_fit_alone(tmp_path: Path) -> None:
    method = Method(study_cases.LINES, start="truth", intervals="bootstrap", bootstraps=39)
    one = study_cases.lines(scenarios=grid(n=50, noise=3.0), methods={"EM": method}, replicates=4)
    assert one.run(tmp_path, chunk=4, threads=1).complete
    (cell,) = loading.cells(tmp_path)
    fit = one.replay({"n": 50, "noise": 3.0}, 2).fits["EM"]
    found = emjax.bootstrap(fit, one.root(one.scenarios[0], "bootstrap"), 39)
    limits = found.intervals()
    for name, record in {"se": found.se, "lower": limits.lower, "upper": limits.upper}.items():
        flat = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(record)])
        assert np.all(np.isfinite(flat))
        np.testing.assert_array_equal(getattr(cell.outcomes, name)[2], flat)
    assert np.all(cell.outcomes.reason == emjax.Reason.FREE)


def _params(model: Any, count: int) -> Any:
    """Parameters of three or more Poisson components, chained or gated or neither, all values different."""
    k = model.n_components
    shapes = {"weights": (k,), "initial": (k,), "transitions": (k, k), "gating": (k, 2), "rates": (k,)}
    rng = np.random.default_rng(1)
    latent, family = (
        record(*(rng.uniform(0.1, 1.0, (count, *shapes[name])) for name in record._fields))
        for record in (model.latent.blocks, model.family.blocks)
    )
    return emjax.MixtureParams(latent, family)


@pytest.mark.parametrize("k", [3, 7])
@pytest.mark.parametrize("chain", [False, True])
def test_moves_are_what_the_model_relabels(k: int, chain: bool) -> None:
    model = (emjax.HiddenMarkov if chain else emjax.Mixture)(emjax.Poisson(), k)
    params = _params(model, 4)
    orders = np.array([np.random.default_rng(i).permutation(k) for i in range(4)])
    layout = layouts.of_model(model, params)
    moves = loading.Moves(layout)
    flat = np.concatenate([leaf.reshape(4, -1) for leaf in jax.tree.leaves(params)], axis=1)
    moved = np.concatenate([leaf.reshape(4, -1) for leaf in jax.tree.leaves(permute(params, orders, model))], axis=1)
    for row, order in enumerate(orders):
        np.testing.assert_array_equal(flat[row][moves[tuple(map(int, order))]], moved[row])
    if k == 3:
        assert list(moves) == list(itertools.permutations(range(3)))
    with pytest.raises(KeyError):
        moves[tuple(range(1, k + 1))]


def test_labels_that_cannot_be_exchanged_have_the_identity_alone() -> None:
    gated = emjax.Mixture(emjax.Poisson(), 3, emjax.GatedWeights())
    plain = emjax.Mixture(emjax.Poisson(), 3)
    inflated = emjax.Mixture(emjax.WithComponent(emjax.Poisson(), emjax.PointMass()), 3)
    fixed = {"rates": np.array([1.0, 2.0, 3.0])}
    of = [
        layouts.of_model(gated, _params(gated, 2)),
        layouts.of_model(plain, _params(plain, 2), fixed),
        layouts.of_model(plain, _params(plain, 2), {"weights": np.full(3, 1 / 3)}),
    ]
    assert [list(loading.Moves(layout)) for layout in of[:2]] == [[(0, 1, 2)]] * 2
    assert len(loading.Moves(of[2])) == 6
    params = _params(plain, 2)
    two = params._replace(family=type(params.family)(params.family.rates[:, :2]))
    assert list(loading.Moves(layouts.of_model(inflated, two))) == [(0, 1, 2), (1, 0, 2)]


def test_estimands_leave_out_the_rest() -> None:
    model = emjax.Mixture(emjax.Poisson(), 3)
    layout = layouts.of_model(model, _params(model, 2))
    rates = np.flatnonzero([name == "rates" for name, _, _ in layout.blocks])
    kept = layouts.chosen(layout, rates)
    assert [tuple(entry) for entry in kept.entries] == [("rates", k) for k in range(3)]
    np.testing.assert_array_equal(loading.Moves(kept)[2, 0, 1], [2, 0, 1])
    assert len(layouts.chosen(layout, rates[:2]).swaps) == 0

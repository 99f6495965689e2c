"""Label alignment: exact assignment, ordering, and permuting parameters together."""

import dataclasses
from functools import cache
from itertools import permutations
from typing import NamedTuple

import jax
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

import emjax
from emjax import Data, DataError, Mixture, MixtureParams, Reason, WeightsParams
from emjax.inference import (
    align_by_distance,
    align_by_overlap,
    ambiguity,
    assign,
    assignment,
    distances,
    order_by,
    overlaps,
    permute,
)


class Means(NamedTuple):
    means: NDArray[np.float64]
    covariances: NDArray[np.float64]


class MixtureOfMeans(NamedTuple):
    weights: NDArray[np.float64]
    family: Means


def assigned(estimates: NDArray, truth: NDArray, scale: NDArray) -> list[int]:
    """One dataset by scipy's Hungarian method: the fitted component for each true one."""
    cost = np.sum(((estimates[None] - truth[:, None]) / scale) ** 2, axis=2)
    return linear_sum_assignment(cost)[1].tolist()


@pytest.mark.parametrize("n_components", [1, 2, 3, 4, 5, 6, 7, 11])
def test_the_assignment_is_exact(n_components: int) -> None:
    generator = np.random.default_rng(n_components)
    estimates = generator.normal(size=(60, n_components, 3))
    truth = generator.normal(size=(n_components, 3))
    scale = np.array([1.0, 0.2, 3.0])
    found = align_by_distance(estimates, truth, scale)
    assert found.tolist() == [assigned(dataset, truth, scale) for dataset in estimates]


def test_a_shuffle_is_undone() -> None:
    generator = np.random.default_rng(3)
    truth = np.array([[0.0, 1.0], [4.0, 1.0], [0.0, 9.0]])
    shuffles = np.array([generator.permutation(3) for _ in range(50)])
    estimates = (truth + 0.01 * generator.normal(size=(50, 3, 2)))[np.arange(50)[:, None], shuffles]
    aligned = permute(estimates, align_by_distance(estimates, truth))
    assert np.abs(aligned - truth).max() < 0.1


def test_the_scale_decides_what_is_near() -> None:
    truth = np.array([[0.0, 0.0], [1.0, 1.0]])
    estimates = np.array([[[0.0, 1.0], [1.0, 0.0]]])
    assert align_by_distance(estimates, truth, [0.1, 10.0]).tolist() == [[0, 1]]
    assert align_by_distance(estimates, truth, [10.0, 0.1]).tolist() == [[1, 0]]


def test_the_truth_may_differ_between_datasets() -> None:
    truth = np.array([[[0.0], [1.0]], [[1.0], [0.0]]])
    estimates = np.array([[[0.1], [0.9]], [[0.1], [0.9]]])
    assert align_by_distance(estimates, truth).tolist() == [[0, 1], [1, 0]]


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(5)
    estimates, truth = generator.normal(size=(37, 3, 2)), generator.normal(size=(37, 3, 2))
    whole = align_by_distance(estimates, truth, 0.5)
    monkeypatch.setattr(assignment, "MOST_TOTALS", 6 * 5)
    assert np.array_equal(align_by_distance(estimates, truth, 0.5), whole)


def test_a_fit_that_is_not_finite_keeps_its_order_and_harms_no_other() -> None:
    truth = np.array([[0.0], [1.0]])
    estimates = np.array([[[1.0], [0.0]], [[1.0], [np.nan]], [[1.0], [0.0]]])
    assert align_by_distance(estimates, truth).tolist() == [[1, 0], [0, 1], [1, 0]]


def test_order_by_is_increasing_stable_and_puts_nan_last() -> None:
    assert order_by([[3.0, 1.0, 2.0], [1.0, 1.0, 0.0], [np.nan, 2.0, 1.0]]).tolist() == [
        [1, 2, 0],
        [2, 0, 1],
        [2, 1, 0],
    ]


def test_permute_moves_every_leaf_together() -> None:
    generator = np.random.default_rng(2)
    params = MixtureOfMeans(
        generator.random((4, 3)), Means(generator.normal(size=(4, 3, 2)), generator.normal(size=(4, 3, 2, 2)))
    )
    order = np.array([[2, 0, 1], [0, 1, 2], [1, 0, 2], [2, 1, 0]])
    moved = permute(params, order)
    assert isinstance(moved, MixtureOfMeans)
    for d in range(4):
        for k in range(3):
            assert moved.weights[d, k] == params.weights[d, order[d, k]]
            assert np.array_equal(moved.family.means[d, k], params.family.means[d, order[d, k]])
            assert np.array_equal(moved.family.covariances[d, k], params.family.covariances[d, order[d, k]])


def test_bad_input_is_named() -> None:
    with pytest.raises(DataError, match="estimates has shape"):
        align_by_distance(np.zeros((2, 3, 1)), np.zeros((2, 1)))
    with pytest.raises(DataError, match="scale has a value that is not positive"):
        align_by_distance(np.zeros((2, 2, 1)), np.zeros((2, 1)), 0.0)
    with pytest.raises(DataError, match=r"values has shape \(3,\)"):
        order_by(np.zeros(3))
    with pytest.raises(DataError, match=r"a parameter has shape \(2, 4\)"):
        permute(np.zeros((2, 4)), np.tile(np.arange(3), (2, 1)))
    for wrong in ([[1, 1], [0, 1]], [[0, 2], [0, 1]], [[-1, 0], [0, 1]], [0, 1]):
        with pytest.raises(DataError, match="all of 0 to K - 1"):
            permute(np.zeros((2, 2)), wrong)
    with pytest.raises(DataError, match=r"costs has shape \(2, 3\)"):
        assign(np.zeros((2, 3)))


@pytest.mark.parametrize("n_components", [2, 3, 7])
def test_the_second_best_is_the_best_of_the_others(n_components: int) -> None:
    costs = np.random.default_rng(n_components).random((3 if n_components > 3 else 20, n_components, n_components))
    for cost, found in zip(costs, ambiguity(costs)):
        columns = np.arange(n_components)
        totals = np.sort([cost[list(order), columns].sum() for order in permutations(range(n_components))])
        assert found == pytest.approx(totals[1] / totals[0], rel=1e-12)


def test_ambiguity_tells_clear_labels_from_doubtful_ones() -> None:
    truth = np.array([[0.0], [1.0]])
    found = ambiguity(distances([[[0.0], [1.1]], [[0.5], [0.52]], [[np.nan], [0.0]], [[0.0], [1.0]]], truth))
    assert found[0] > 100 and 1.0 < found[1] < 1.1 and np.isnan(found[2]) and np.isinf(found[3])
    assert np.isnan(ambiguity(np.ones((1, 1, 1)))).all()


def test_many_components_that_are_not_finite_keep_their_order() -> None:
    costs = np.random.default_rng(0).random((3, 8, 8))
    costs[1, 2, 3] = np.nan
    found = assign(costs)
    assert found[1].tolist() == list(range(8)) and np.isnan(ambiguity(costs)).tolist() == [False, True, False]
    assert [sorted(order) for order in found.tolist()] == [list(range(8))] * 3


@cache
def hidden() -> emjax.Fits:
    """Two chains of two states, and one that cannot be fitted."""
    rng = np.random.default_rng(1)
    states = (np.arange(60) // 10) % 2
    y = rng.poisson(np.where(states, 9.0, 1.0), size=(3, 60)).astype(float)
    y[2] = -1.0
    start = MixtureParams(
        emjax.MarkovParams(np.full((3, 2), 0.5), np.full((3, 2, 2), 0.5)),
        emjax.PoissonParams(np.array([[1.0, 8.0], [8.0, 1.0], [1.0, 8.0]])),
    )
    return emjax.fit_many(emjax.HiddenMarkov(emjax.Poisson(), 2), Data(y), 0, start=start)


@pytest.mark.slow
def test_overlap_with_known_classes_finds_the_labels() -> None:
    fits, known = hidden(), (np.arange(60) // 10) % 2
    assert align_by_overlap(fits, known).tolist() == [[0, 1], [1, 0], [0, 1]]
    assert align_by_overlap(fits, 1 - known).tolist() == [[1, 0], [0, 1], [0, 1]]
    shares = overlaps(fits, [known] * 3)
    resp = fits[0].predict().responsibilities
    by_class = [resp[known == c].sum(axis=0) for c in (0, 1)]
    np.testing.assert_allclose(shares[0], np.stack(by_class, axis=1), rtol=1e-9)  # components x classes
    np.testing.assert_allclose(overlaps(fits, np.where(np.arange(60) < 30, known, -1))[1].sum(), 30.0)
    assert np.all(ambiguity(-shares)[:2] < 0.1) and np.isnan(shares[2]).all()
    with pytest.raises(DataError, match="labels must be 0 to 1"):
        overlaps(fits, known + 1)
    with pytest.raises(DataError, match="labels has shape"):
        overlaps(fits, np.zeros((2, 60)))
    with pytest.raises(DataError, match=r"labels has shape \(5,\)"):
        overlaps(fits, known[:5])
    with pytest.raises(DataError, match=r"labels\[1\] has 59 entries, and dataset 1 60 rows"):
        overlaps(fits, [known, known[1:], known])
    with pytest.raises(DataError, match="whole numbers"):
        overlaps(fits, np.full(60, "a"))
    with pytest.raises(DataError, match="fit_many"):
        overlaps(fits[0], known)  # type: ignore[arg-type]


@pytest.mark.slow
def test_standard_errors_covariances_and_transitions_move_together() -> None:
    fits = hidden()
    found = emjax.standard_errors(fits, covariance=True)
    order = order_by(fits.params.family.rates)
    moved, whole = permute(found, order, fits.model), permute(fits, order)
    assert order.tolist() == [[0, 1], [1, 0], [0, 1]]
    assert np.all(np.diff(whole.params.family.rates[:2], axis=1) > 0)
    for record in (lambda r: r.params, lambda r: r.se, lambda r: r.reason):
        before, after = record(found), record(moved)
        assert np.array_equal(after.family.rates[1], before.family.rates[1][::-1], equal_nan=True)
        assert np.array_equal(after.latent.transitions[1], before.latent.transitions[1][::-1, ::-1], equal_nan=True)
        assert np.array_equal(after.latent.transitions[0], before.latent.transitions[0], equal_nan=True)
    variances = np.diagonal(moved.covariance, axis1=1, axis2=2)
    flat = np.concatenate([np.reshape(leaf, (3, -1)) for leaf in jax.tree.leaves(moved.se)], axis=1)
    np.testing.assert_allclose(np.sqrt(variances), flat, rtol=1e-12)
    assert np.all(moved.reason.family.rates[2] == Reason.NO_FIT)
    # The covariance of the two rates stays, that of a rate with a transition goes where the rate goes.
    assert moved.covariance[1, -1, -2] == pytest.approx(found.covariance[1, -1, -2], rel=1e-9)
    assert moved.covariance[1, -2, 2] == found.covariance[1, -1, 5]
    with pytest.raises(DataError, match="needs model="):
        permute(found, order)


def test_a_gate_moves_its_baseline_and_its_errors_with_it() -> None:
    model = Mixture(emjax.Poisson(), 3, emjax.GatedWeights())
    rng = np.random.default_rng(2)
    like = MixtureParams(
        emjax.GatingParams(np.concatenate([rng.normal(size=(1, 2, 2)), np.zeros((1, 1, 2))], axis=1)),
        emjax.PoissonParams(rng.random((1, 3))),
    )
    root = np.zeros((9, 9))
    free = [0, 1, 2, 3, 6, 7, 8]  # the last component's gate is the baseline
    root[np.ix_(free, free)] = rng.normal(size=(7, 7))
    covariance = root @ root.T
    held = np.isin(np.arange(9), [4, 5])
    covariance[held], covariance[:, held] = np.nan, np.nan
    errors = emjax.StandardErrors(
        like, *(unflat(a, like) for a in (np.sqrt(np.diag(covariance)), np.where(held, Reason.FIXED, Reason.FREE))),
        "observed", covariance[None],
    )  # fmt: skip
    moved = permute(errors, [[2, 0, 1]], model)  # component 1 becomes the baseline
    known = np.nan_to_num(covariance)
    assert np.all(moved.reason.latent.gating[0, 2] == Reason.FIXED) and np.isnan(moved.se.latent.gating[0, 2]).all()
    assert moved.se.latent.gating[0, 0, 0] == pytest.approx(np.sqrt(known[2, 2]))  # 0 less component 1
    of_difference = known[0, 0] + known[2, 2] - 2 * known[0, 2]
    assert moved.se.latent.gating[0, 1, 0] == pytest.approx(np.sqrt(of_difference))
    without = permute(dataclasses.replace(errors, covariance=None), [[2, 0, 1]], model)
    assert without.se.latent.gating[0, 0, 0] == pytest.approx(np.sqrt(known[2, 2]))
    assert np.isnan(without.se.latent.gating[0, 1]).all()


def unflat(values: NDArray, like: MixtureParams) -> MixtureParams:
    return MixtureParams(emjax.GatingParams(values[:6].reshape(1, 3, 2)), emjax.PoissonParams(values[6:].reshape(1, 3)))


def test_permuting_many_datasets_asks_the_model_once_a_permutation(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, own = [], Mixture.relabel
    monkeypatch.setattr(Mixture, "relabel", lambda *args: asked.append(1) or own(*args))
    rng = np.random.default_rng(0)
    params = MixtureParams(WeightsParams(rng.random((500, 3))), emjax.PoissonParams(rng.random((500, 3))))
    order = order_by(params.family.rates)
    moved = permute(params, order, Mixture(emjax.Poisson(), 3))
    assert len(asked) == 5 and np.all(np.diff(moved.family.rates, axis=1) > 0)
    assert np.array_equal(moved.latent.weights, np.take_along_axis(params.latent.weights, order, axis=1))


def test_noise_keeps_its_place() -> None:
    model = Mixture(emjax.WithComponent(emjax.Gaussian("V"), emjax.UniformNoise()), 3)
    y = np.concatenate([np.linspace(-1, 1, 30), np.linspace(19, 21, 30), np.linspace(-30, 50, 9)])
    params = MixtureParams(
        WeightsParams(np.array([[0.5, 0.4, 0.1]])),
        emjax.GaussianParams(np.array([[[20.0], [0.0]]]), np.ones((1, 2, 1, 1))),
    )
    fits = emjax.fit_many(model, Data(y[None]), 0, start=params)
    # The first component is called noise: among all three it would be the last one, which has no parameters.
    assert align_by_overlap(fits, np.repeat([0, 2, 1], [30, 30, 9])).tolist()[0][2] == 2
    known = np.repeat([0, 1, 2], [30, 30, 9])
    moved = permute(fits, align_by_overlap(fits, known)).params
    np.testing.assert_allclose(moved.family.means[0, :, 0], [0.0, 20.0], atol=0.5)
    assert moved.latent.weights[0, 2] == fits.params.latent.weights[0, 2]
    errors, alone = (
        emjax.StandardErrors(p, p, jax.tree.map(lambda a: np.zeros(np.shape(a), int), p), "observed", None)
        for p in (fits.params, fits[0].params)
    )
    with pytest.raises(DataError, match="component 2, without parameters"):
        permute(fits, [[1, 2, 0]])
    with pytest.raises(DataError, match="component 2, without parameters"):
        permute(errors, [[0, 2, 1]], model)
    with pytest.raises(DataError, match="of 2 components, and this model has 3"):
        permute(fits, [[1, 0]])
    with pytest.raises(DataError, match="a parameter has shape"):
        permute(alone, [[1, 0, 2]], model)

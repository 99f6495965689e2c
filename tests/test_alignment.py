"""Label alignment: exact assignment, ordering, and permuting parameters together."""

from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from emjax import DataError
from emjax.inference import align_by_distance, alignment, order_by, permute


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


@pytest.mark.parametrize("n_components", [1, 2, 3, 4, 5, 6])
def test_the_assignment_is_exact(n_components: int) -> None:
    generator = np.random.default_rng(n_components)
    estimates = generator.normal(size=(200, n_components, 3))
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
    monkeypatch.setattr(alignment, "_MAX_TOTALS", 6 * 5)
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
    with pytest.raises(DataError, match="at most 6 components, and there are 7"):
        align_by_distance(np.zeros((2, 7, 1)), np.zeros((7, 1)))
    with pytest.raises(DataError, match="estimates has shape"):
        align_by_distance(np.zeros((2, 3, 1)), np.zeros((2, 1)))
    with pytest.raises(DataError, match="scale has a value that is not positive"):
        align_by_distance(np.zeros((2, 2, 1)), np.zeros((2, 1)), 0.0)
    with pytest.raises(DataError, match=r"values has shape \(3,\)"):
        order_by(np.zeros(3))
    with pytest.raises(DataError, match=r"a parameter has shape \(2, 4\)"):
        permute(np.zeros((2, 4)), np.zeros((2, 3), int))

"""Measures that a few replicates gone astray cannot move: mixture estimates may have no finite variance.

Their MCSEs are bootstrap standard errors over the replicates (Efron 1979, Annals of Statistics 7:1) with `RESAMPLES`
resamples from the fixed seed `SEED`, NaN below `FEWEST` replicates. Arrays are (n, ...), one row per replicate.
"""

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from emjax.base.status import DataError
from emjax.studies.measures import Measure, checked, errors

RESAMPLES = 200
SEED = 20190516
FEWEST = 10
TRIMMED = 0.01
# The median absolute deviation of a normal variable, in standard deviations: the upper quartile.
_NORMAL_MAD = 0.6744897501960817
_MOST = 1 << 22  # numbers resampled at once


def mad_se(estimates: ArrayLike) -> Measure:
    """Median absolute deviation of `estimates (n, ...)` from their median, over 0.6745: the SD of normal estimates.

    Errors: DataError (not finite).
    """

    return _bootstrapped(checked(estimates), _mad_of_sorted)


def trimmed_rmse(estimates: ArrayLike, truth: ArrayLike, share: float = TRIMMED) -> Measure:
    """Root mean squared error of `estimates (n, ...)` without the largest `share` of the squared errors, rounded down.

    Below 1 / share replicates it is the RMSE. Errors: DataError (not finite, a share outside [0, 1)).
    """
    if not 0 <= share < 1:
        raise DataError(f"share is {share}; trim a share of at least 0 and below 1")

    def of_sorted(values: NDArray[np.float64]) -> NDArray[np.float64]:
        kept = values.shape[-1] - int(share * values.shape[-1])
        return np.sqrt(np.mean(values[..., :kept], axis=-1))

    return _bootstrapped(errors(estimates, truth) ** 2, of_sorted)


def _mad_of_sorted(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of sorted samples (last axis). The k values nearest to the median stand side by side, so the k-th smallest
    deviation is the smallest reach of k neighbours: no second sort, which is most of a bootstrap's time."""
    low, high = (values.shape[-1] - 1) // 2, values.shape[-1] // 2  # both middle places, counted from 0
    middle = 0.5 * (values[..., low] + values[..., high])[..., None]

    def deviation(k: int) -> NDArray[np.float64]:
        reach = np.maximum(middle - values[..., : values.shape[-1] - k], values[..., k:] - middle)
        return np.min(reach, axis=-1)

    return 0.5 * (deviation(low) + deviation(high)) / _NORMAL_MAD


def _bootstrapped(values: NDArray[np.float64], of_sorted: Callable[[NDArray], NDArray]) -> Measure:
    """A statistic of sorted samples (last axis) over the replicates, and the SD over resamples of it."""
    n = len(values)
    columns = np.sort(values.reshape(n, int(np.prod(values.shape[1:]))), axis=0).T
    estimate, mcse = np.full(len(columns), np.nan), np.full(len(columns), np.nan)
    if n:
        estimate = of_sorted(columns)
    if n >= FEWEST:
        ranks = _resampled_ranks(n)
        block = max(1, _MOST // n)
        for j, column in enumerate(columns):
            found = [of_sorted(column[ranks[i : i + block]]) for i in range(0, RESAMPLES, block)]
            mcse[j] = np.std(np.concatenate(found), ddof=1)
    return Measure(estimate.reshape(values.shape[1:]), mcse.reshape(values.shape[1:]), n)


@lru_cache(maxsize=2)
def _resampled_ranks(n: int) -> NDArray[np.int32]:
    """Resamples (RESAMPLES, n) as ranks, sorted: the same for any values, so they are drawn and sorted once."""
    drawn = np.random.default_rng(SEED).integers(0, n, (RESAMPLES, n), dtype=np.int32)
    drawn.sort(axis=1)
    return drawn

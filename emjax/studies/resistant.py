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


def mad_se(estimates: ArrayLike) -> Measure:
    """Median absolute deviation of `estimates (n, ...)` from their median, over 0.6745: the SD of normal estimates.

    Errors: DataError (not finite).
    """
    return _bootstrapped(checked(estimates), _mads)


def trimmed_rmse(estimates: ArrayLike, truth: ArrayLike, share: float = TRIMMED) -> Measure:
    """Root mean squared error of `estimates (n, ...)` without the largest `share` of the squared errors, rounded down.

    Below 1 / share replicates it is the RMSE. Errors: DataError (not finite, a share outside [0, 1)).
    """
    if not 0 <= share < 1:
        raise DataError(f"share is {share}; trim a share of at least 0 and below 1")

    def of_resamples(squares: NDArray[np.float64], ranks: NDArray[np.int32]) -> NDArray[np.float64]:
        kept = len(squares) - int(share * len(squares))
        # How often each rank is among those kept does not depend on the values: one product, no sample is made.
        counts = _resampled_counts(len(squares), kept) if len(ranks) > 1 else ranks < kept
        return np.sqrt(counts.astype(np.float64) @ squares / kept)

    return _bootstrapped(errors(estimates, truth) ** 2, of_resamples)


def _mads(values: NDArray[np.float64], ranks: NDArray[np.int32]) -> NDArray[np.float64]:
    """Of resamples of sorted values, (B,); `ranks (B, n)`, sorted, says which they are."""
    rows, n = np.arange(len(ranks)), ranks.shape[1]
    low, high = (n - 1) // 2, n // 2  # both middle places, counted from 0

    def at(place: NDArray[np.intp] | int) -> NDArray[np.float64]:
        return values[ranks[rows, place]]

    middle = 0.5 * (at(low) + at(high))

    def deviation(k: int) -> NDArray[np.float64]:
        """The (k + 1)-th smallest. The values nearest to the median stand side by side, so it is the smallest reach of
        k + 1 neighbours: bisection finds the first of them whose right end is the farther one."""
        first, last = np.zeros(len(ranks), np.intp), np.full(len(ranks), n - 1 - k)
        while np.any(first < last):
            place = (first + last) // 2
            right = at(place) + at(place + k) >= 2 * middle
            first, last = np.where(right, first, np.minimum(place + 1, last)), np.where(right, place, last)
        before = np.maximum(first - 1, 0)
        reach = [np.maximum(middle - at(place), at(place + k) - middle) for place in (first, before)]
        return np.minimum(*reach)

    return 0.5 * (deviation(low) + deviation(high)) / _NORMAL_MAD


def _bootstrapped(values: NDArray[np.float64], of_resamples: Callable[[NDArray, NDArray], NDArray]) -> Measure:
    """A statistic over the replicates, and the SD of it over resamples; it takes sorted values and ranks (B, n)."""
    n = len(values)
    columns = np.sort(values.reshape(n, int(np.prod(values.shape[1:]))), axis=0).T
    estimate, mcse = np.full(len(columns), np.nan), np.full(len(columns), np.nan)
    for j, column in enumerate(columns if n else ()):
        estimate[j] = of_resamples(column, np.arange(n, dtype=np.int32)[None])[0]
        if n >= FEWEST:
            mcse[j] = np.std(of_resamples(column, _resampled_ranks(n)), ddof=1)
    return Measure(estimate.reshape(values.shape[1:]), mcse.reshape(values.shape[1:]), n)


@lru_cache(maxsize=4)
def _resampled_ranks(n: int) -> NDArray[np.int32]:
    """Resamples (RESAMPLES, n) as ranks, sorted: the same for any values, so they are drawn and sorted once."""
    drawn = np.random.default_rng(SEED).integers(0, n, (RESAMPLES, n), dtype=np.int32)
    drawn.sort(axis=1)
    return drawn


@lru_cache(maxsize=4)
def _resampled_counts(n: int, kept: int) -> NDArray[np.uint16]:
    """How often each rank is among the `kept` smallest of a resample, (RESAMPLES, n)."""
    return np.stack([np.bincount(row[:kept], minlength=n).astype(np.uint16) for row in _resampled_ranks(n)])

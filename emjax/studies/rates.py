"""Shares of replicates: coverage, power, convergence. Each has Wilson's interval, and an MCSE unless it is 0 or 1.

Source: Morris, White & Crowther (2019), Statistics in Medicine 38:2074, Table 6: MCSE sqrt(p (1 - p) / n), which is 0
at p = 0 and 1 whatever n is and so says nothing there: NaN, and the interval of Wilson (1927) says what is known.
Arrays are (n, ...), one row per replicate. `n_failed` replicates more have no interval: they are in the denominator
and neither cover nor reject.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from emjax.base.status import DataError
from emjax.inference.likelihood_ratio import wilson
from emjax.studies.measures import McseForm, checked, errors, mean, robust, sample_sd


class Rate(NamedTuple):
    """A share (...), its Monte Carlo SE, the replicates in the denominator, and the limits of Wilson's interval."""

    estimate: NDArray[np.float64]
    mcse: NDArray[np.float64]
    n: int
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]


def share(events: ArrayLike, n_failed: int = 0, level: float = 0.95) -> Rate:
    """Share of the replicates with an event, `events (n, ...)` true or false; `n_failed` more have none.

    level : of Wilson's interval. NaN without replicates. Errors: DataError (events that are not true or false).
    """
    happened = np.asarray(events)
    if happened.ndim == 0 or happened.dtype != np.bool_:
        raise DataError(f"events is {happened.dtype} of shape {happened.shape}; give true or false, a row a replicate")
    n = len(happened) + n_failed
    count = np.sum(happened, axis=0)
    if n == 0:
        nothing = np.full(count.shape, np.nan)
        return Rate(nothing, nothing, 0, nothing, nothing)
    estimate = count / n
    inside = (estimate > 0) & (estimate < 1)
    mcse = np.where(inside, np.sqrt(estimate * (1 - estimate) / n), np.nan)
    return Rate(estimate, mcse, n, *wilson(count, n, level))


def coverage(lower: ArrayLike, upper: ArrayLike, truth: ArrayLike, n_failed: int = 0, level: float = 0.95) -> Rate:
    """Share of the intervals (n, ...) that hold the truth, limits included; the truth is (...) or (n, ...).

    level : of Wilson's interval of the share, not of the intervals. Errors: DataError (not finite).
    """
    below, above = errors(lower, truth), errors(upper, truth)
    return share((below <= 0) & (above >= 0), n_failed, level)


def bias_eliminated_coverage(
    lower: ArrayLike,
    upper: ArrayLike,
    estimates: ArrayLike,
    truth: ArrayLike = 0.0,
    n_failed: int = 0,
    level: float = 0.95,
    mcse: McseForm = "robust",
) -> Rate:
    """Share of the intervals (n, ...) that hold the mean estimate of the same replicates, limits included.

    Where the truth differs between replicates it is the truth plus the mean error. MCSE: `"morris"` the table's, which
    takes the mean for known; `"robust"` adds to each event what its replicate moves the mean by, times the slope of
    the coverage in its centre (a difference over an SD of the estimates times n^(-1/5)). Errors: DataError.
    """
    off = errors(estimates, truth)
    shift = mean(off)
    below, above = errors(lower, truth) - shift, errors(upper, truth) - shift
    held = (below <= 0) & (above >= 0)
    found = share(held, n_failed, level)
    if not robust(mcse) or len(held) < 2:
        return found
    step = sample_sd(off) * len(held) ** -0.2
    there, back = (mean(np.asarray((below <= move) & (above >= move), np.float64)) for move in (step, -step))
    with np.errstate(divide="ignore", invalid="ignore"):
        slope = np.where(step > 0, (there - back) / (2 * step), 0.0)
    influence = held + slope * (off - shift)
    # Failures have no event and move nothing: their share of the replicates scales both parts.
    total = (
        len(held) * sample_sd(influence) ** 2 + len(held) * n_failed / found.n * mean(np.asarray(held, np.float64)) ** 2
    )
    return found._replace(mcse=np.where(np.isnan(found.mcse), np.nan, np.sqrt(total) / found.n))


def power(lower: ArrayLike, upper: ArrayLike, null: float = 0.0, n_failed: int = 0, level: float = 0.95) -> Rate:
    """Share of the intervals (n, ...) that leave the null value out: the test at one minus their level rejects it.

    Errors: DataError (not finite).
    """
    return share((checked(lower) > null) | (checked(upper) < null), n_failed, level)

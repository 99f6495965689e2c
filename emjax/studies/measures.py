"""Performance measures of a simulation study, each with its Monte Carlo standard error (MCSE).

Source: Morris, White & Crowther (2019), Statistics in Medicine 38:2074, Table 6; the RMSE's MCSE after simsum (Stata)
2.0.4. One of the table's MCSEs, that of the empirical SE, assumes normal estimates and was measured up to 35 % too
small for skewed or heavy-tailed ones, which is what mixture estimates are; the default `mcse="robust"` is the
kurtosis form, first-order equal to the `robust` option of simsum, and `mcse="morris"` gives the table's. Tails so heavy
that no MCSE of a second moment is right remain: for t with 5 degrees of freedom and 500 replicates that of the MSE is
0.86 of what it should be, and that of the empirical SE 0.88; `emjax.studies.resistant` has measures without moments.

Every function takes `estimates (n, ...)`, one row per replicate, and `truth (...)`, or `(n, ...)` where it differs
between replicates, and answers with arrays of shape `(...)`. Nothing is dropped: a value that is not finite is refused,
so that the caller chooses the denominator and can print it. Where a figure needs more replicates than there are, it is
NaN, never 0.
"""

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from emjax.base.status import DataError

McseForm = Literal["robust", "morris"]

# Half-width in standard normal units of the order-statistic interval that the median's MCSE inverts.
_MEDIAN_Z = 1.96
# Squared deviations of two replicates are equal whatever they are, so below this many their spread says nothing.
FEWEST_FOR_SQUARES = 4


class Measure(NamedTuple):
    """A performance measure: its estimate (...), its Monte Carlo SE (...), and the replicates it rests on."""

    estimate: NDArray[np.float64]
    mcse: NDArray[np.float64]
    n: int


def mean_estimate(estimates: ArrayLike) -> Measure:
    """Mean of the estimates (n, ...); the MCSE is the empirical SE over sqrt(n). Errors: DataError (not finite)."""
    values = checked(estimates)
    n = len(values)
    return Measure(mean(values), sample_sd(values) / np.sqrt(max(n, 1)), n)


def bias(estimates: ArrayLike, truth: ArrayLike) -> Measure:
    """Mean of `estimates (n, ...)` less the truth (Morris et al. 2019, Table 6). Errors: DataError (not finite)."""
    return mean_estimate(errors(estimates, truth))


def relative_bias(estimates: ArrayLike, truth: ArrayLike) -> Measure:
    """Mean of (estimate - truth) / truth, a fraction; NaN where a truth is 0. Errors: DataError (not finite)."""
    error = errors(estimates, truth)
    true = np.broadcast_to(np.asarray(truth, np.float64), error.shape)
    defined = np.all(true != 0, axis=0)
    found = mean_estimate(error / np.where(true != 0, true, 1.0))
    estimate, mcse = (np.where(defined, value, np.nan) for value in found[:2])
    return Measure(estimate, mcse, found.n)


def median_bias(estimates: ArrayLike, truth: ArrayLike) -> Measure:
    """Median of `estimates (n, ...)` less `truth (...)`: what is left of the bias when a few replicates went astray.

    The MCSE inverts the binomial order-statistic interval of the median (McKean & Schrader 1984, Communications in
    Statistics B 13:751), so it needs neither a density estimate nor random numbers; NaN below 6 replicates, where no
    order statistic lies outside the interval. Errors: DataError (estimates not finite).
    """
    values = np.sort(errors(estimates, truth), axis=0)
    n = len(values)
    if n == 0:
        return Measure(mean(values), mean(values), n)
    estimate = np.median(values, axis=0)
    rank = int(np.floor((n + 1) / 2 - _MEDIAN_Z * np.sqrt(n / 4)))
    if rank < 1:
        return Measure(estimate, np.full(values.shape[1:], np.nan), n)
    return Measure(estimate, (values[n - rank] - values[rank - 1]) / (2 * _MEDIAN_Z), n)


def empirical_se(estimates: ArrayLike, mcse: McseForm = "robust") -> Measure:
    """Standard deviation of `estimates (n, ...)` over the replicates, divisor n - 1 (Morris et al. 2019, Table 6).

    MCSE: `"robust"` (s / 2) sqrt((kappa - 1) / n) with kappa the fourth moment about the mean over s^4, NaN below 4
    replicates or where kappa is below 1; `"morris"` s / sqrt(2 (n - 1)), right for normal estimates only.
    Errors: DataError (not finite, unknown `mcse`).
    """
    values = checked(estimates)
    n = len(values)
    s = sample_sd(values)
    if robust(mcse):
        fourth = mean((values - mean(values)) ** 4)
        # The form above multiplied out, so that estimates that never vary give 0 rather than 0 / 0.
        spread = np.sqrt(np.maximum(fourth - s**4, 0.0) / max(n, 1))
        few = (n < FEWEST_FOR_SQUARES) | ((fourth <= s**4) & (s > 0))
        return Measure(s, np.where(few, np.nan, ratio(spread, 2 * s)), n)
    return Measure(s, s / np.sqrt(2 * max(n - 1, 1)), n)


def mse(estimates: ArrayLike, truth: ArrayLike) -> Measure:
    """Mean squared error of `estimates (n, ...)` about the truth (Table 6). Errors: DataError (not finite)."""
    return mean_estimate(errors(estimates, truth) ** 2)


def rmse(estimates: ArrayLike, truth: ArrayLike) -> Measure:
    """Root mean squared error of `estimates (n, ...)` about `truth (...)`; MCSE(MSE) / (2 RMSE), as simsum has it.

    Errors: DataError (estimates not finite).
    """
    squared = mse(estimates, truth)
    root = np.sqrt(squared.estimate)
    return Measure(root, ratio(squared.mcse, 2 * root), squared.n)


def errors(estimates: ArrayLike, truth: ArrayLike) -> NDArray[np.float64]:
    """Estimates less the truth, (n, ...). Errors: DataError (estimates not finite, shapes that do not fit)."""
    values, true = checked(estimates), np.asarray(truth, np.float64)
    if true.shape not in ((), values.shape, values.shape[1:]):
        raise DataError(
            f"truth has shape {true.shape} and estimates {values.shape}; give one an estimand, or one a replicate too"
        )
    return values - true


def checked(estimates: ArrayLike) -> NDArray[np.float64]:
    """Finite numbers with one row per replicate. Errors: DataError."""
    values = np.asarray(estimates, np.float64)
    if values.ndim == 0:
        raise DataError("estimates is a single number; it must have one row per replicate")
    bad = int(np.sum(~np.isfinite(values)))
    if bad:
        raise DataError(
            f"{bad} of {values.size} estimates are not finite; choose the replicates to measure and report how many"
        )
    return values


def robust(mcse: str) -> bool:
    """Whether the MCSE is to need no normal estimates. Errors: DataError for an unknown form."""
    if mcse not in ("robust", "morris"):
        raise DataError(f"mcse is {mcse!r}; it must be 'robust' or 'morris'")
    return mcse == "robust"


def mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean over replicates, NaN where there are none."""
    return np.mean(values, axis=0) if len(values) else np.full(values.shape[1:], np.nan)


def sample_sd(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The standard deviation over replicates, divisor n - 1, NaN below two."""
    return np.std(values, axis=0, ddof=1) if len(values) > 1 else np.full(values.shape[1:], np.nan)


def ratio(numerator: NDArray[np.float64], denominator: NDArray[np.float64]) -> NDArray[np.float64]:
    """The quotient where a measure of exactly 0 (estimates that never vary) has an MCSE of 0."""
    zero = denominator == 0
    return np.where(zero, 0.0, numerator / np.where(zero, 1.0, denominator))

"""How well the standard errors of a method describe its estimates, and its precision beside another method's.

Source: Morris, White & Crowther (2019), Statistics in Medicine 38:2074, Table 6. Two of the table's MCSEs, those of the
relative error and of the relative precision, assume normal estimates; the default `mcse="robust"` is the SD of the
measure's influence values over sqrt(n), first-order equal to the `robust` option of simsum (White 2010, Stata Journal
10:369). Arrays are (n, ...), one row per replicate; answers have the shape (...).
"""

import numpy as np
from numpy.typing import ArrayLike

from emjax.base.status import DataError
from emjax.studies.measures import (
    FEWEST_FOR_SQUARES,
    McseForm,
    Measure,
    checked,
    empirical_se,
    mean,
    mean_estimate,
    ratio,
    robust,
    sample_sd,
)


def average_model_se(se: ArrayLike) -> Measure:
    """Root of the mean squared standard error, `se (n, ...)`; MCSE sqrt(var(se^2) / (4 n ModSE^2)) (Table 6).

    The root mean square, not the mean: variances are what is unbiased. Errors: DataError (not finite).
    """
    squared = mean_estimate(checked(se) ** 2)
    root = np.sqrt(squared.estimate)
    return Measure(root, ratio(squared.mcse, 2 * root), squared.n)


def relative_error(estimates: ArrayLike, se: ArrayLike, mcse: McseForm = "robust") -> Measure:
    """Per cent by which the average model SE is above the empirical SE, of the same replicates (n, ...).

    MCSE: `"robust"` 100 (ModSE / s) sd(IF) / sqrt(n) with IF_i = (V_i - mean V) / (2 mean V) - (d_i^2 - s^2) / (2 s^2),
    NaN below 4 replicates; `"morris"` the table's. NaN where estimates never vary. Errors: DataError (not finite).
    """
    values, variances = checked(estimates), checked(se) ** 2
    _same_shape(values.shape, variances.shape)
    n, s, model = len(values), sample_sd(values), average_model_se(se)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = model.estimate / np.where(s > 0, s, np.nan)
        if robust(mcse):
            influence = variances / (2 * mean(variances)) - (values - mean(values)) ** 2 / (2 * s**2)
            error = _spread(influence)
        else:
            error = np.hypot(model.mcse / model.estimate, empirical_se(values, "morris").mcse / s)
        return Measure(100 * (share - 1), 100 * share * error, n)


def relative_precision(reference: ArrayLike, other: ArrayLike, mcse: McseForm = "robust") -> Measure:
    """Per cent by which `other (n, ...)` is more precise than `reference (n, ...)`: 100 ((s_ref / s_other)^2 - 1).

    Both are estimates from the same datasets, row by row. MCSE: `"robust"` from influence values, NaN below 4
    replicates; `"morris"` 200 (s_ref / s_other)^2 sqrt((1 - rho^2) / (n - 1)), for normal estimates. NaN where the
    estimates of either never vary. Errors: DataError (not finite, other shapes).
    """
    first, second = checked(reference), checked(other)
    _same_shape(first.shape, second.shape)
    n = len(first)
    s_first, s_second = (np.where(s > 0, s, np.nan) for s in (sample_sd(first), sample_sd(second)))
    z_first, z_second = (first - mean(first)) / s_first, (second - mean(second)) / s_second
    share = (s_first / s_second) ** 2
    if robust(mcse):
        error = _spread(z_first**2 - z_second**2)
    else:
        rho = np.sum(z_first * z_second, axis=0) / max(n - 1, 1)
        error = 2 * np.sqrt(np.maximum(1 - rho**2, 0.0) / max(n - 1, 1))
    return Measure(100 * (share - 1), 100 * share * error, n)


def interval_width(lower: ArrayLike, upper: ArrayLike) -> Measure:
    """Mean width of intervals (n, ...); MCSE sd / sqrt(n). Errors: DataError (not finite)."""
    return mean_estimate(checked(upper) - checked(lower))


def _spread(influence: np.ndarray) -> np.ndarray:
    if len(influence) < FEWEST_FOR_SQUARES:
        return np.full(influence.shape[1:], np.nan)
    return sample_sd(influence) / np.sqrt(len(influence))


def _same_shape(first: tuple[int, ...], second: tuple[int, ...]) -> None:
    if first != second:
        raise DataError(f"the arrays have shapes {first} and {second}; give the same replicates in both")

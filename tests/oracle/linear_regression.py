"""Linear regression in every component, by loops. No jax.

`design` (n, p) holds the intercept's column of ones, if there is one. `scale` is "component" or "common".
"""

from math import lgamma, log, pi
from typing import Any, NamedTuple

import numpy as np

from tests.oracle import mixture


class Params(NamedTuple):
    coefficients: np.ndarray  # (K, p)
    scale: np.ndarray  # (K,) standard deviations, equal ones where the scale is common


class NormalInverseGamma(NamedTuple):
    """variance ~ inverse gamma(shape, scale); coefficients | variance ~ N(mean, variance strength^-1)."""

    mean: np.ndarray  # (p,)
    strength: np.ndarray  # (p, p)
    shape: float
    scale: float


def normal_inverse_gamma(n_columns: int, mean: Any, strength: Any, shape: float, scale: float) -> NormalInverseGamma:
    """The prior from a scalar or vector mean and a scalar or matrix strength."""
    matrix = np.asarray(strength, dtype=float)
    matrix = matrix * np.eye(n_columns) if matrix.ndim == 0 else matrix
    return NormalInverseGamma(np.broadcast_to(np.asarray(mean, dtype=float), n_columns), matrix, shape, scale)


def design_matrix(x: np.ndarray, intercept: bool = True) -> np.ndarray:
    return np.column_stack([np.ones(len(x)), x]) if intercept else x


def log_prob(params: Params, y: np.ndarray, design: np.ndarray) -> np.ndarray:
    """(K, n)"""
    n_components = len(params.scale)
    values = np.zeros((n_components, len(y)))
    for k in range(n_components):
        for i in range(len(y)):
            standardised = (y[i] - design[i] @ params.coefficients[k]) / params.scale[k]
            values[k, i] = -0.5 * log(2 * pi) - log(params.scale[k]) - 0.5 * standardised**2
    return values


def log_prior(params: Params, scale: str, prior: NormalInverseGamma | None) -> float:
    """The normalised log density with respect to the coefficients and the variances."""
    if prior is None:
        return 0.0
    n_columns = len(prior.mean)
    value = 0.0
    for k in range(len(params.scale)):
        variance = params.scale[k] ** 2
        difference = params.coefficients[k] - prior.mean
        value += 0.5 * np.linalg.slogdet(prior.strength)[1] - 0.5 * n_columns * log(2 * pi * variance)
        value -= 0.5 * difference @ prior.strength @ difference / variance
        if scale == "component" or k == 0:
            value += prior.shape * log(prior.scale) - lgamma(prior.shape)
            value -= (prior.shape + 1.0) * log(variance) + prior.scale / variance
    return value


def maximize(
    responsibilities: np.ndarray,
    y: np.ndarray,
    design: np.ndarray,
    scale: str = "component",
    row_weight: np.ndarray | None = None,
    prior: NormalInverseGamma | None = None,
) -> Params:
    """The mode of Q + log prior: weighted least squares, and the residual variance at its solution."""
    n_components, n_rows = responsibilities.shape
    n_columns = design.shape[1]
    row_weight = np.ones(n_rows) if row_weight is None else row_weight
    coefficients = np.zeros((n_components, n_columns))
    squares = np.zeros(n_components)
    counts = np.zeros(n_components)
    for k in range(n_components):
        case_weight = row_weight * responsibilities[k]
        coefficients[k] = _weighted_least_squares(case_weight, y, design, prior)
        for i in range(n_rows):
            squares[k] += case_weight[i] * (y[i] - design[i] @ coefficients[k]) ** 2
            counts[k] += case_weight[i]
        if prior is not None:
            # The coefficients' prior scales with the variance: it counts as p more residuals.
            difference = coefficients[k] - prior.mean
            squares[k] += difference @ prior.strength @ difference
            counts[k] += n_columns
    return Params(coefficients, np.sqrt(_variances(squares, counts, scale, prior)))


def _weighted_least_squares(
    case_weight: np.ndarray, y: np.ndarray, design: np.ndarray, prior: NormalInverseGamma | None
) -> np.ndarray:
    n_columns = design.shape[1]
    gram = np.zeros((n_columns, n_columns)) if prior is None else np.array(prior.strength)
    moment = np.zeros(n_columns) if prior is None else prior.strength @ prior.mean
    for i in range(len(y)):
        gram = gram + case_weight[i] * np.outer(design[i], design[i])
        moment = moment + case_weight[i] * design[i] * y[i]
    return np.linalg.solve(gram, moment)


def _variances(squares: np.ndarray, counts: np.ndarray, scale: str, prior: NormalInverseGamma | None) -> np.ndarray:
    if scale == "common":
        squares = np.full(len(squares), sum(squares))
        counts = np.full(len(counts), sum(counts))
    if prior is None:
        return squares / counts
    return (squares + 2.0 * prior.scale) / (counts + 2.0 * prior.shape + 2.0)


def em(
    y: np.ndarray,
    design: np.ndarray,
    weights: np.ndarray,
    params: Params,
    *,
    scale: str = "component",
    iterations: int = 10,
    row_weight: np.ndarray | None = None,
    prior: NormalInverseGamma | None = None,
    concentration: Any = None,
) -> mixture.Run:
    """EM from `weights` and `params`; without priors, maximum likelihood."""
    return mixture.run_em(
        weights,
        params,
        log_prob=lambda current: log_prob(current, y, design),
        maximize=lambda responsibilities: maximize(responsibilities, y, design, scale, row_weight, prior),
        log_prior=lambda current: log_prior(current, scale, prior),
        iterations=iterations,
        row_weight=row_weight,
        concentration=concentration,
    )


def conditional(
    params: Params,
    responsibilities: np.ndarray,
    y: np.ndarray,
    design: np.ndarray,
    scale: str,
    row_weight: np.ndarray,
    shared: tuple[int, ...],
) -> Params:
    """Coefficients, of which some columns are shared, given the scales; then scales given those."""
    n_components, p = params.coefficients.shape
    place = np.arange(n_components * p).reshape(n_components, p)
    place[:, shared] = place[0, shared]
    gram, moment = np.zeros((n_components * p, n_components * p)), np.zeros(n_components * p)
    for k in range(n_components):
        for i in range(len(y)):
            precision = row_weight[i] * responsibilities[k, i] / params.scale[k] ** 2
            gram[np.ix_(place[k], place[k])] += precision * np.outer(design[i], design[i])
            moment[place[k]] += precision * design[i] * y[i]
    used = np.unique(place)
    solution = np.zeros(n_components * p)
    solution[used] = np.linalg.solve(gram[np.ix_(used, used)], moment[used])
    coefficients = solution[place]
    squares, counts = np.zeros(n_components), np.zeros(n_components)
    for k in range(n_components):
        for i in range(len(y)):
            squares[k] += row_weight[i] * responsibilities[k, i] * (y[i] - design[i] @ coefficients[k]) ** 2
            counts[k] += row_weight[i] * responsibilities[k, i]
    return Params(coefficients, np.sqrt(_variances(squares, counts, scale, None)))

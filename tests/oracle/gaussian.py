"""Gaussian components in six covariance forms, by loops. No jax.

Covariances are (K, d, d) in every form. `covariance` is one of "full", "diagonal", "spherical", "tied",
"tied-diagonal", "tied-spherical".
"""

from math import lgamma, log, pi
from typing import Any, NamedTuple

import numpy as np

from tests.oracle import mixture

COVARIANCES = ("full", "diagonal", "spherical", "tied", "tied-diagonal", "tied-spherical")


class Params(NamedTuple):
    means: np.ndarray  # (K, d)
    covariances: np.ndarray  # (K, d, d)


class NormalInverseWishart(NamedTuple):
    """Mean given covariance ~ N(mean, covariance / strength); the covariance by its form:

    full: inverse Wishart(degrees, scale). diagonal: variance j ~ inverse gamma(degrees / 2, scale_jj / 2).
    spherical: variance ~ inverse gamma(degrees / 2, trace(scale) / d / 2). tied: the same, once for all components.
    """

    mean: np.ndarray  # (d,)
    strength: float
    degrees: float
    scale: np.ndarray  # (d, d)


def log_prob(params: Params, y: np.ndarray) -> np.ndarray:
    """(K, n)"""
    n_components, dimension = params.means.shape
    values = np.zeros((n_components, len(y)))
    for k in range(n_components):
        for i in range(len(y)):
            values[k, i] = _normal_log_density(y[i], params.means[k], params.covariances[k], dimension)
    return values


def _normal_log_density(point: np.ndarray, mean: np.ndarray, covariance: np.ndarray, dimension: int) -> float:
    distance = (point - mean) @ np.linalg.solve(covariance, point - mean)
    return -0.5 * (dimension * log(2 * pi) + np.linalg.slogdet(covariance)[1] + distance)


def log_prior(params: Params, covariance: str, prior: NormalInverseWishart | None) -> float:
    """The normalised log density with respect to the means and the free (co)variances."""
    if prior is None:
        return 0.0
    n_components, dimension = params.means.shape
    value = 0.0
    for k in range(n_components):
        value += _normal_log_density(params.means[k], prior.mean, params.covariances[k] / prior.strength, dimension)
        if k == 0 or not covariance.startswith("tied"):
            value += _covariance_log_prior(params.covariances[k], _shape(covariance), prior)
    return value


def _covariance_log_prior(matrix: np.ndarray, shape: str, prior: NormalInverseWishart) -> float:
    if shape == "full":
        return _inverse_wishart(matrix, prior)
    dimension = len(matrix)
    if shape == "diagonal":
        pairs = [(matrix[j, j], prior.scale[j, j]) for j in range(dimension)]
    else:
        pairs = [(matrix[0, 0], np.trace(prior.scale) / dimension)]
    return sum(_inverse_gamma(variance, 0.5 * prior.degrees, 0.5 * scale) for variance, scale in pairs)


def _inverse_gamma(value: float, shape: float, scale: float) -> float:
    return shape * log(scale) - lgamma(shape) - (shape + 1.0) * log(value) - scale / value


def _inverse_wishart(matrix: np.ndarray, prior: NormalInverseWishart) -> float:
    dimension = len(matrix)
    nu = prior.degrees
    log_gamma = 0.25 * dimension * (dimension - 1) * log(pi)
    for j in range(dimension):
        log_gamma += lgamma(0.5 * (nu - j))
    return (
        0.5 * nu * np.linalg.slogdet(prior.scale)[1]
        - 0.5 * nu * dimension * log(2.0)
        - log_gamma
        - 0.5 * (nu + dimension + 1.0) * np.linalg.slogdet(matrix)[1]
        - 0.5 * np.trace(np.linalg.solve(matrix, prior.scale))
    )


def maximize(
    responsibilities: np.ndarray,
    y: np.ndarray,
    covariance: str = "full",
    row_weight: np.ndarray | None = None,
    prior: NormalInverseWishart | None = None,
) -> Params:
    """The mode of Q + log prior."""
    n_components, n_rows = responsibilities.shape
    row_weight = np.ones(n_rows) if row_weight is None else row_weight
    rows = np.broadcast_to(y, (n_components, *y.shape))
    left = np.zeros((*rows.shape, y.shape[1]))
    return maximize_moments(rows, left, row_weight * responsibilities, covariance, prior)


def maximize_moments(
    rows: np.ndarray,
    left: np.ndarray,
    case_weight: np.ndarray,
    covariance: str,
    prior: NormalInverseWishart | None,
) -> Params:
    """The mode of Q + log prior where each component expects rows (K, n, d) with covariances left (K, n, d, d)."""
    n_components, n_rows, dimension = rows.shape
    means = np.zeros((n_components, dimension))
    scatter = np.zeros((n_components, dimension, dimension))
    counts = np.zeros(n_components)
    for k in range(n_components):
        counts[k] = sum(case_weight[k])
        total = sum(case_weight[k, i] * rows[k, i] for i in range(n_rows))
        if prior is None:
            means[k] = total / counts[k]
        else:
            means[k] = (total + prior.strength * prior.mean) / (counts[k] + prior.strength)
        for i in range(n_rows):
            away = rows[k, i] - means[k]
            scatter[k] += case_weight[k, i] * (np.outer(away, away) + left[k, i])
        if prior is not None:
            # The mean's prior scales with the covariance: it counts as one more row, at the prior's mean.
            difference = means[k] - prior.mean
            scatter[k] += prior.strength * np.outer(difference, difference)
            counts[k] += 1.0
    return Params(means, _covariances(scatter, counts, covariance, prior))


def _covariances(
    scatter: np.ndarray, counts: np.ndarray, covariance: str, prior: NormalInverseWishart | None
) -> np.ndarray:
    n_components, dimension, _ = scatter.shape
    if covariance.startswith("tied"):
        scatter = np.array([sum(scatter)] * n_components)
        counts = np.full(n_components, sum(counts))
    return np.array([_covariance(scatter[k], counts[k], _shape(covariance), prior) for k in range(n_components)])


def _covariance(scatter: np.ndarray, count: float, shape: str, prior: NormalInverseWishart | None) -> np.ndarray:
    dimension = len(scatter)
    scale = np.zeros((dimension, dimension)) if prior is None else prior.scale
    degrees = 0.0 if prior is None else prior.degrees
    if shape == "full":
        extra = 0.0 if prior is None else degrees + dimension + 1.0
        return (scatter + scale) / (count + extra)
    extra = 0.0 if prior is None else degrees + 2.0
    if shape == "diagonal":
        return np.diag(np.diag(scatter + scale)) / (count + extra)
    variance = (np.trace(scatter) + np.trace(scale) / dimension) / (count * dimension + extra)
    return variance * np.eye(dimension)


def _shape(covariance: str) -> str:
    return "full" if covariance == "tied" else covariance.removeprefix("tied-")


def em(
    y: np.ndarray,
    weights: np.ndarray,
    params: Params,
    *,
    covariance: str = "full",
    iterations: int = 10,
    row_weight: np.ndarray | None = None,
    prior: NormalInverseWishart | None = None,
    concentration: Any = None,
) -> mixture.Run:
    """EM from `weights` and `params`; without priors, maximum likelihood."""
    return mixture.run_em(
        weights,
        params,
        log_prob=lambda current: log_prob(current, y),
        maximize=lambda responsibilities: maximize(responsibilities, y, covariance, row_weight, prior),
        log_prior=lambda current: log_prior(current, covariance, prior),
        iterations=iterations,
        row_weight=row_weight,
        concentration=concentration,
    )

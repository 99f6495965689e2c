"""Student-t components: multivariate, and regressions with t errors; by loops. No jax.

Scale matrices are (K, d, d) in every form of `covariance`, as in tests/oracle/gaussian.py. Degrees are given numbers in
the M-steps: with them the parameter-expanded EM step is closed.
"""

from math import lgamma, log, log1p, pi
from typing import Any, NamedTuple

import numpy as np

from tests.oracle.problem import MixtureProblem


class Params(NamedTuple):
    means: np.ndarray  # (K, d)
    scales: np.ndarray  # (K, d, d)
    degrees: np.ndarray  # (K,)


class RegressionParams(NamedTuple):
    coefficients: np.ndarray  # (K, p)
    scale: np.ndarray  # (K,)
    degrees: np.ndarray  # (K,)


def log_density(distance: float, log_det: float, degrees: float, dimension: int) -> float:
    """Of a multivariate t, by the squared Mahalanobis distance and the log determinant of the scale matrix."""
    value = lgamma(0.5 * (degrees + dimension)) - lgamma(0.5 * degrees)
    value -= 0.5 * dimension * log(degrees * pi) + 0.5 * log_det
    return value - 0.5 * (degrees + dimension) * log1p(distance / degrees)


def distance(point: np.ndarray, mean: np.ndarray, scale: np.ndarray) -> float:
    return float((point - mean) @ np.linalg.solve(scale, point - mean))


def log_prob(params: Params, y: np.ndarray) -> np.ndarray:
    """(K, n)"""
    n_components, dimension = params.means.shape
    values = np.zeros((n_components, len(y)))
    for k in range(n_components):
        log_det = np.linalg.slogdet(params.scales[k])[1]
        for i in range(len(y)):
            squares = distance(y[i], params.means[k], params.scales[k])
            values[k, i] = log_density(squares, log_det, params.degrees[k], dimension)
    return values


def regression_log_prob(params: RegressionParams, y: np.ndarray, design: np.ndarray) -> np.ndarray:
    """(K, n)"""
    values = np.zeros((len(params.scale), len(y)))
    for k in range(len(params.scale)):
        for i in range(len(y)):
            squares = ((y[i] - design[i] @ params.coefficients[k]) / params.scale[k]) ** 2
            values[k, i] = log_density(squares, 2.0 * log(params.scale[k]), params.degrees[k], 1)
    return values


def maximize(
    params: Params, responsibilities: np.ndarray, y: np.ndarray, covariance: str, row_weight: np.ndarray
) -> Params:
    """The parameter-expanded step (Liu, Rubin & Wu 1998): scatters divided by the sum of the precision weights."""
    n_components, n_rows = responsibilities.shape
    dimension = y.shape[1]
    rows = responsibilities @ row_weight
    means, scatter = np.zeros((n_components, dimension)), np.zeros((n_components, dimension, dimension))
    counts = np.zeros(n_components)
    for k in range(n_components):
        precision = np.zeros(n_rows)
        for i in range(n_rows):
            squares = distance(y[i], params.means[k], params.scales[k])
            u = (params.degrees[k] + dimension) / (params.degrees[k] + squares)
            precision[i] = row_weight[i] * responsibilities[k, i] * u
        counts[k] = sum(precision)
        means[k] = sum(precision[i] * y[i] for i in range(n_rows)) / counts[k]
        for i in range(n_rows):
            scatter[k] += precision[i] * np.outer(y[i] - means[k], y[i] - means[k])
    if covariance.startswith("tied"):
        scatter = np.array([sum(scatter)] * n_components)
        counts = np.full(n_components, _tied_count(params.degrees, rows, counts))
    shape = "full" if covariance == "tied" else covariance.removeprefix("tied-")
    scales = np.array([_of_shape(scatter[k] / counts[k], shape) for k in range(n_components)])
    return Params(means, scales, params.degrees)


def _tied_count(degrees: np.ndarray, rows: np.ndarray, precision: np.ndarray) -> float:
    """All precisions are a factor times Gamma(nu_k / 2, rate nu_k / 2): rows times the factor's M-step."""
    factor = sum(degrees * precision) / sum(degrees * rows)
    return factor * sum(rows)


def _of_shape(matrix: np.ndarray, shape: str) -> np.ndarray:
    if shape == "full":
        return matrix
    diagonal = np.diag(matrix)
    return np.diag(diagonal if shape == "diagonal" else np.full(len(matrix), np.mean(diagonal)))


def regression_maximize(
    params: RegressionParams,
    responsibilities: np.ndarray,
    y: np.ndarray,
    design: np.ndarray,
    scale: str,
    row_weight: np.ndarray,
) -> RegressionParams:
    """The same step for regressions: least squares weighted by the precisions."""
    n_components, n_rows = responsibilities.shape
    coefficients = np.zeros_like(params.coefficients)
    squares, counts = np.zeros(n_components), np.zeros(n_components)
    for k in range(n_components):
        gram, moment = np.zeros((design.shape[1],) * 2), np.zeros(design.shape[1])
        precision = np.zeros(n_rows)
        for i in range(n_rows):
            away = ((y[i] - design[i] @ params.coefficients[k]) / params.scale[k]) ** 2
            precision[i] = row_weight[i] * responsibilities[k, i] * (params.degrees[k] + 1) / (params.degrees[k] + away)
            gram += precision[i] * np.outer(design[i], design[i])
            moment += precision[i] * design[i] * y[i]
        coefficients[k] = np.linalg.solve(gram, moment)
        squares[k] = sum(precision[i] * (y[i] - design[i] @ coefficients[k]) ** 2 for i in range(n_rows))
        counts[k] = sum(precision)
    if scale == "common":
        rows = responsibilities @ row_weight
        squares = np.full(n_components, sum(squares))
        counts = np.full(n_components, _tied_count(params.degrees, rows, counts))
    return RegressionParams(coefficients, np.sqrt(squares / counts), params.degrees)


class _Problem(MixtureProblem):
    """As a `MixtureProblem` whose M-step depends on the current parameters, through the precision weights."""

    def step_of(self, family: Any, responsibilities: np.ndarray, rows: np.ndarray) -> dict[str, np.ndarray]:
        raise NotImplementedError

    def m_step(self, params: Any, responsibilities: np.ndarray) -> Any:
        self.maximize = lambda resp, rows: self.step_of(params.family, resp, rows)
        return super().m_step(params, responsibilities)


class StudentTProblem(_Problem):
    """A mixture of t distributions, y (n, d); its M-step is for given degrees."""

    def __init__(self, y: np.ndarray, covariance: str, *args: Any, **settings: Any) -> None:
        super().__init__(lambda params: log_prob(params, y), lambda *_: {}, lambda _: 0.0, *args, **settings)
        self.y, self.covariance = y, covariance

    def step_of(self, family: Any, responsibilities: np.ndarray, rows: np.ndarray) -> dict[str, np.ndarray]:
        return maximize(family, responsibilities, self.y, self.covariance, rows)._asdict()


class StudentTRegressionProblem(_Problem):
    """A mixture of regressions with t errors; `design` holds the column of ones, y is less the offset."""

    def __init__(self, y: np.ndarray, design: np.ndarray, scale: str, *args: Any, **settings: Any) -> None:
        super().__init__(
            lambda params: regression_log_prob(params, y, design), lambda *_: {}, lambda _: 0.0, *args, **settings
        )
        self.y, self.design, self.scale = y, design, scale

    def step_of(self, family: Any, responsibilities: np.ndarray, rows: np.ndarray) -> dict[str, np.ndarray]:
        return regression_maximize(family, responsibilities, self.y, self.design, self.scale, rows)._asdict()

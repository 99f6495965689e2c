"""Factor analysis by full p x p matrices and loops over rows, from the definition. No jax.

y = mean + loadings f + e, f ~ N(0, I_q), e ~ N(0, diag(uniquenesses)); loadings (p, q), uniquenesses (p,). Iterations
are those of emjax: conditional maxima variable by variable, or EM where the noise is isotropic.
"""

from math import log, pi
from typing import Any, NamedTuple

import numpy as np


class Moments(NamedTuple):
    """The factors given the rows: means (n, q), and the covariance (q, q), the same for every row."""

    means: np.ndarray
    covariance: np.ndarray


class Posterior(NamedTuple):
    log_likelihood: float
    responsibilities: Moments


class Scores(NamedTuple):
    regression: np.ndarray  # (n, q)
    bartlett: np.ndarray  # (n, q)


def covariance(loadings: np.ndarray, uniquenesses: np.ndarray) -> np.ndarray:
    return loadings @ loadings.T + np.diag(uniquenesses)


def log_density(y: np.ndarray, mean: np.ndarray, loadings: np.ndarray, uniquenesses: np.ndarray) -> np.ndarray:
    """Nats, (n,)."""
    sigma = covariance(loadings, uniquenesses)
    values = np.zeros(len(y))
    for i in range(len(y)):
        distance = (y[i] - mean) @ np.linalg.solve(sigma, y[i] - mean)
        values[i] = -0.5 * (len(mean) * log(2 * pi) + np.linalg.slogdet(sigma)[1] + distance)
    return values


def moments(y: np.ndarray, mean: np.ndarray, loadings: np.ndarray, uniquenesses: np.ndarray) -> Moments:
    """Regression of the factors on the observations."""
    slopes = np.linalg.solve(covariance(loadings, uniquenesses), loadings).T
    means = np.array([slopes @ (row - mean) for row in y])
    return Moments(means, np.eye(loadings.shape[1]) - slopes @ loadings)


def principal(loadings: np.ndarray, uniquenesses: np.ndarray) -> np.ndarray:
    """Rotated so that loadings' Psi^-1 loadings is diagonal and descends, and correlations have positive sums."""
    _, vectors = np.linalg.eigh(loadings.T @ np.diag(1.0 / uniquenesses) @ loadings)
    rotated = loadings @ vectors[:, ::-1]
    deviation = np.sqrt(np.diag(covariance(loadings, uniquenesses)))
    return rotated * np.sign(np.sum(rotated / deviation[:, None], axis=0))


def conditional_maximum(
    y: np.ndarray, weight: np.ndarray, mean: np.ndarray, loadings: np.ndarray, uniquenesses: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """One variable after the other: regressed on the factors' means given the other variables."""
    loadings, uniquenesses = loadings.copy(), uniquenesses.copy()
    for j in range(len(mean)):
        others = [i for i in range(len(mean)) if i != j]
        given = moments(y[:, others], mean[others], loadings[others], uniquenesses[others])
        root = np.sqrt(weight)
        response = y[:, j] - mean[j]
        row = np.linalg.lstsq(root[:, None] * given.means, root * response, rcond=None)[0]
        residual = np.sum(weight * (response - given.means @ row) ** 2) / np.sum(weight)
        loadings[j], uniquenesses[j] = row, residual - row @ given.covariance @ row
        assert uniquenesses[j] > 0, "a Heywood case: the oracle has none"
    return loadings, uniquenesses


def em_step(
    y: np.ndarray, weight: np.ndarray, mean: np.ndarray, loadings: np.ndarray, uniquenesses: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Rubin & Thayer's: new loadings, and the expected squared residual of each variable, summed over rows."""
    found = moments(y, mean, loadings, uniquenesses)
    p, q = loadings.shape
    cross, square, variance = np.zeros((p, q)), np.zeros((q, q)), np.zeros(p)
    for i in range(len(y)):
        cross += weight[i] * np.outer(y[i] - mean, found.means[i])
        square += weight[i] * (np.outer(found.means[i], found.means[i]) + found.covariance)
        variance += weight[i] * (y[i] - mean) ** 2
    new = cross @ np.linalg.inv(square)
    return new, variance - np.sum(new * cross, axis=1)


class FactorProblem:
    """What the battery asks, for one dataset: y (n, p) and the rows' weights (n,)."""

    def __init__(self, y: np.ndarray, weight: np.ndarray, isotropic: bool) -> None:
        self.y, self.weight, self.isotropic = y, weight, isotropic

    def e_step(self, params: Any) -> Posterior:
        """Log-likelihood in nats, and the factors' moments."""
        value = sum(self.weight[i] * density for i, density in enumerate(log_density(self.y, *params)))
        return Posterior(value, moments(self.y, *params))

    def q(self, params: Any, responsibilities: Moments) -> float:
        """The expected complete-data log-likelihood, nats."""
        mean, loadings, uniquenesses = params
        spread = np.diag(loadings @ responsibilities.covariance @ loadings.T)
        value = 0.0
        for i in range(len(self.y)):
            factors = responsibilities.means[i]
            squares = (self.y[i] - mean - loadings @ factors) ** 2 + spread
            value -= 0.5 * self.weight[i] * np.sum(np.log(2 * pi * uniquenesses) + squares / uniquenesses)
            square = factors @ factors + np.trace(responsibilities.covariance)
            value -= 0.5 * self.weight[i] * (len(factors) * log(2 * pi) + square)
        return value

    def log_prior(self, params: Any) -> float:
        return 0.0

    def m_step(self, params: Any, responsibilities: Moments) -> Any:
        """The sample mean, then the loadings and uniquenesses, on the loadings' principal axes."""
        mean = np.array([np.average(column, weights=self.weight) for column in self.y.T])
        if self.isotropic:
            loadings, squares = em_step(self.y, self.weight, mean, params.loadings, params.uniquenesses)
            uniquenesses = np.full(len(mean), np.mean(squares) / np.sum(self.weight))
        else:
            loadings, uniquenesses = conditional_maximum(
                self.y, self.weight, mean, params.loadings, params.uniquenesses
            )
        return type(params)(mean, principal(loadings, uniquenesses), uniquenesses)

    def em(self, params: Any, iterations: int) -> Any:
        """Parameters after a number of iterations."""
        for _ in range(iterations):
            params = self.m_step(params, self.e_step(params).responsibilities)
        return params

    def predict(self, params: Any) -> Scores:
        """Factor scores, by the normal equations."""
        mean, loadings, uniquenesses = params
        weighted = loadings.T @ np.diag(1.0 / uniquenesses)
        away = (self.y - mean).T
        return Scores(moments(self.y, *params).means, np.linalg.solve(weighted @ loadings, weighted @ away).T)

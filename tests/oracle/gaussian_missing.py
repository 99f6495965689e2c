"""Gaussian components with missing cells, NaN in y, row by row. No jax.

Given its observed cells a row's missing ones are normal with the regression's mean and the residual covariance.
"""

from math import log, pi
from typing import Any, NamedTuple

import numpy as np

from tests.oracle import gaussian, mixture
from tests.oracle.problem import MixtureProblem


class Moments(NamedTuple):
    means: np.ndarray  # (K, n, d), expected y
    left: np.ndarray  # (K, n, d, d), covariance of y; 0 where a cell was observed


def log_prob(params: Any, y: np.ndarray) -> np.ndarray:
    """(K, n), of the observed cells; 0 where there is none."""
    n_components = len(params.means)
    values = np.zeros((n_components, len(y)))
    for k in range(n_components):
        for i in range(len(y)):
            seen = np.flatnonzero(~np.isnan(y[i]))
            if len(seen) == 0:
                continue
            away = y[i, seen] - params.means[k, seen]
            covariance = params.covariances[k][np.ix_(seen, seen)]
            distance = away @ np.linalg.solve(covariance, away)
            values[k, i] = -0.5 * (len(seen) * log(2 * pi) + np.linalg.slogdet(covariance)[1] + distance)
    return values


def moments(params: Any, y: np.ndarray) -> Moments:
    """Of the rows completed under each component."""
    n_components, d = params.means.shape
    means, left = np.zeros((n_components, len(y), d)), np.zeros((n_components, len(y), d, d))
    for k in range(n_components):
        mean, covariance = params.means[k], params.covariances[k]
        for i in range(len(y)):
            seen, lacking = np.flatnonzero(~np.isnan(y[i])), np.flatnonzero(np.isnan(y[i]))
            slopes = np.linalg.solve(covariance[np.ix_(seen, seen)], covariance[np.ix_(seen, lacking)])
            means[k, i, seen] = y[i, seen]
            means[k, i, lacking] = mean[lacking] + slopes.T @ (y[i, seen] - mean[seen])
            rest = covariance[np.ix_(lacking, lacking)] - covariance[np.ix_(lacking, seen)] @ slopes
            left[k, i][np.ix_(lacking, lacking)] = rest
    return Moments(means, left)


def q(params: Any, completed: Moments, case_weight: np.ndarray, seen: np.ndarray) -> float:
    """Expected log density of the completed rows, summed with weights (K, n) over the rows `seen`."""
    n_components, d = params.means.shape
    value = 0.0
    for k in range(n_components):
        inverse, log_det = np.linalg.inv(params.covariances[k]), np.linalg.slogdet(params.covariances[k])[1]
        for i in np.flatnonzero(seen):
            away = completed.means[k, i] - params.means[k]
            spread = np.outer(away, away) + completed.left[k, i]
            value -= 0.5 * case_weight[k, i] * (d * log(2 * pi) + log_det + np.sum(inverse * spread))
    return value


class MissingProblem(MixtureProblem):
    """A mixture of Gaussians with missing cells. Q and the M-step complete the rows at the parameters that the E-step
    was last asked about: like the responsibilities they belong to the current parameters."""

    def __init__(
        self,
        y: np.ndarray,
        weight: np.ndarray,
        unit: np.ndarray,
        covariance: str,
        prior: gaussian.NormalInverseWishart | None = None,
        concentration: Any = None,
        held: tuple[str, ...] = (),
    ) -> None:
        self.y, self.completed, self.seen = y, None, ~np.all(np.isnan(y), axis=1)
        super().__init__(
            lambda params: log_prob(params, y),
            lambda resp, rows: self._maximize(resp * rows * self.seen, covariance, prior)._asdict(),
            lambda params: gaussian.log_prior(params, covariance, prior),
            weight,
            unit,
            concentration,
            held,
        )

    def _maximize(self, case_weight: np.ndarray, covariance: str, prior: Any) -> gaussian.Params:
        """case_weight (K, n) is 0 in rows without any cell."""
        assert self.completed is not None
        return gaussian.maximize_moments(*self.completed, case_weight, covariance, prior)

    def e_step(self, params: Any) -> Any:
        """Log-likelihood in nats and responsibilities (K, U)."""
        self.completed = moments(params.family, self.y)
        return super().e_step(params)

    def q(self, params: Any, responsibilities: np.ndarray) -> float:
        """The expected complete-data log-likelihood, missing cells among the complete data, nats."""
        case_weight = responsibilities[:, self.unit] * self.weight[self.unit]
        value = mixture.weights_q(params.latent.weights, responsibilities, self.weight)
        assert self.completed is not None
        return value + q(params.family, self.completed, case_weight, self.seen)

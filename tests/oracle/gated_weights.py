"""Mixing weights as a multinomial logit of covariates, by loops. No jax.

`design` (U, q) holds the column of ones, if there is one; `coefficients` (K, q) end in a row of zeros.
"""

from math import log1p, sqrt
from typing import Any

import numpy as np

from tests.oracle import mixture
from tests.oracle.problem import MixtureProblem


def log_weights(coefficients: np.ndarray, design: np.ndarray) -> np.ndarray:
    """(K, U)"""
    values = np.zeros((len(coefficients), len(design)))
    for u, row in enumerate(design):
        logits = np.array([row @ coefficient for coefficient in coefficients])
        values[:, u] = logits - mixture.log_sum_exp(logits)
    return values


def newton_step(
    coefficients: np.ndarray, responsibilities: np.ndarray, design: np.ndarray, weight: np.ndarray
) -> np.ndarray:
    """Of sum_u weight_u sum_k resp_ku log weights_ku, (K, q), the last row 0."""
    n_components, q = coefficients.shape
    weights = np.exp(log_weights(coefficients, design))
    size = (n_components - 1) * q
    score, information = np.zeros(size), np.zeros((size, size))
    for u, row in enumerate(design):
        for k in range(n_components - 1):
            mine = slice(k * q, (k + 1) * q)
            score[mine] += weight[u] * (responsibilities[k, u] - weights[k, u]) * row
            for m in range(n_components - 1):
                curvature = weights[k, u] * ((k == m) - weights[m, u])
                information[mine, m * q : (m + 1) * q] += weight[u] * curvature * np.outer(row, row)
    step = np.linalg.solve(information, score).reshape(n_components - 1, q)
    return np.vstack([step, np.zeros(q)])


def standardised(design: np.ndarray, weight: np.ndarray, intercept: bool) -> tuple[np.ndarray, np.ndarray]:
    """The design with its columns scaled, and centred where there is an intercept; the map of coefficients to it."""
    q = design.shape[1]
    columns, back = np.array(design), np.eye(q)
    for j in range(1 if intercept else 0, q):
        mean = np.average(design[:, j], weights=weight) if intercept else 0.0
        deviation = sqrt(np.average((design[:, j] - mean) ** 2, weights=weight))
        columns[:, j] = (design[:, j] - mean) / deviation
        back[j, j] = deviation
        if intercept:
            back[0, j] = mean
    return columns, back


def shortened(step: np.ndarray, columns: np.ndarray) -> float:
    """The share of a step (in standardised columns) that is taken: log(1 + d) / d, d a bound of any logit's change."""
    longest = max(np.linalg.norm(row) for row in columns)
    farthest = longest * max(np.linalg.norm(a - b) for a in step for b in step)
    return log1p(farthest) / farthest if farthest > 0 else 1.0


class GatedProblem(MixtureProblem):
    """A mixture whose weights are gated, as `params.latent.gating`; the components' part is another problem's."""

    def __init__(self, problem: MixtureProblem, design: np.ndarray, intercept: bool = True) -> None:
        self.__dict__.update(vars(problem))
        self.design, self.intercept = design, intercept

    def e_step(self, params: Any) -> mixture.Posterior:
        """Log-likelihood in nats and responsibilities (K, U)."""
        gate = log_weights(params.latent.gating, self.design)
        return mixture.e_step(np.ones(len(gate)), gate + self.unit_log_prob(params), self.weight)

    def q(self, params: Any, responsibilities: np.ndarray) -> float:
        """The expected complete-data log-likelihood, nats."""
        gate = log_weights(params.latent.gating, self.design)
        return mixture.family_q(gate + self.unit_log_prob(params), responsibilities, self.weight)

    def m_step(self, params: Any, responsibilities: np.ndarray) -> Any:
        """The components' mode and one shortened Newton step of the gate."""
        found = self.maximize(responsibilities[:, self.unit], self.weight[self.unit])
        family = params.family._replace(**{k: v for k, v in found.items() if k not in self.held})
        if "gating" in self.held:
            return params._replace(family=family)
        step = newton_step(params.latent.gating, responsibilities, self.design, self.weight)
        columns, to_standard = standardised(self.design, self.weight, self.intercept)
        share = shortened(step @ to_standard.T, columns)
        latent = params.latent._replace(gating=params.latent.gating + share * step)
        return params._replace(latent=latent, family=family)

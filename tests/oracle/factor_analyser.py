"""Components of a factor analysis each, by loops. No jax. means (K, p), loadings (K, p, q), uniquenesses (K, p)."""

from typing import Any

import numpy as np

from tests.oracle import factor_analysis, mixture
from tests.oracle.problem import MixtureProblem


class FactorAnalyserProblem(MixtureProblem):
    """A mixture of factor analysers; its M-step, for free uniquenesses, needs the current parameters."""

    def __init__(self, y: np.ndarray, weight: np.ndarray, unit: np.ndarray) -> None:
        super().__init__(self._log_prob, self._no_maximum, lambda params: 0.0, weight, unit)
        self.y = y

    def _log_prob(self, params: Any) -> np.ndarray:
        return np.array([factor_analysis.log_density(self.y, *component) for component in zip(*params)])

    @staticmethod
    def _no_maximum(responsibilities: np.ndarray, weight: np.ndarray) -> dict[str, np.ndarray]:
        raise AssertionError("the M-step needs the current parameters")

    def m_step(self, params: Any, responsibilities: np.ndarray) -> Any:
        """Weighted means, then each component's loadings and uniquenesses; nothing but the labels is missing."""
        weights = mixture.update_weights(responsibilities, self.weight)
        means, loadings, uniquenesses = (np.array(block, float) for block in params.family)
        for k in range(len(means)):
            rows = self.weight[self.unit] * responsibilities[k, self.unit]
            means[k] = np.sum(rows[:, None] * self.y, axis=0) / np.sum(rows)
            current = means[k], loadings[k], uniquenesses[k]
            loadings[k], uniquenesses[k] = factor_analysis.conditional_maximum(self.y, rows, *current)
        loadings = np.array([factor_analysis.principal(*pair) for pair in zip(loadings, uniquenesses)])
        family = type(params.family)(means, loadings, uniquenesses)
        return params._replace(latent=params.latent._replace(weights=weights), family=family)

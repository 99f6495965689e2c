"""What the contract battery asks of an oracle, in the user's units: one object a dataset. No jax.

Parameters are any record with `latent.weights` and the blocks of the components under `family`.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from tests.oracle import gaussian, linear_regression, mixture


class MixtureProblem:
    """E-step, Q, log prior and M-step of a mixture for one dataset.

    log_prob, maximize and log_prior speak of the components alone: (K, n) at their parameters; their blocks by name at
    the rows' responsibilities and weights; nats. unit (n,) and weight (U,) as in `emjax.Data`; held: fixed blocks.
    """

    def __init__(
        self,
        log_prob: Callable[[Any], np.ndarray],
        maximize: Callable[[np.ndarray, np.ndarray], dict[str, np.ndarray]],
        log_prior: Callable[[Any], float],
        weight: np.ndarray,
        unit: np.ndarray,
        concentration: Any = None,
        held: tuple[str, ...] = (),
    ) -> None:
        self.log_prob, self.maximize, self.family_log_prior = log_prob, maximize, log_prior
        self.weight, self.unit, self.concentration, self.held = weight, unit, concentration, held

    def unit_log_prob(self, params: Any) -> np.ndarray:
        """(K, U): a unit's rows share their component."""
        rows = self.log_prob(params.family)
        units = np.zeros((len(rows), len(self.weight)))
        for i, u in enumerate(self.unit):
            units[:, u] += rows[:, i]
        return units

    def e_step(self, params: Any) -> mixture.Posterior:
        """Log-likelihood in nats and responsibilities (K, U)."""
        return mixture.e_step(params.latent.weights, self.unit_log_prob(params), self.weight)

    def q(self, params: Any, responsibilities: np.ndarray) -> float:
        """The expected complete-data log-likelihood, nats."""
        value = mixture.weights_q(params.latent.weights, responsibilities, self.weight)
        return value + mixture.family_q(self.unit_log_prob(params), responsibilities, self.weight)

    def log_prior(self, params: Any) -> float:
        """Nats; 0 without a prior."""
        value = self.family_log_prior(params.family)
        if self.concentration is not None:
            value += mixture.weights_log_prior(params.latent.weights, self.concentration)
        return value

    def m_step(self, params: Any, responsibilities: np.ndarray) -> Any:
        """The mode of Q + log prior; held blocks as in `params`."""
        concentration = 1.0 if self.concentration is None else self.concentration
        found = self.maximize(responsibilities[:, self.unit], self.weight[self.unit])
        found["weights"] = mixture.update_weights(responsibilities, self.weight, concentration)
        found = {name: value for name, value in found.items() if name not in self.held}
        latent = {name: found.pop(name) for name in ("weights",) if name in found}
        return params._replace(latent=params.latent._replace(**latent), family=params.family._replace(**found))

    def em(self, params: Any, iterations: int) -> Any:
        """Parameters after a number of iterations."""
        for _ in range(iterations):
            params = self.m_step(params, self.e_step(params).responsibilities)
        return params


def regression_problem(
    y: np.ndarray,
    design: np.ndarray,
    weight: np.ndarray,
    unit: np.ndarray,
    scale: str,
    prior: linear_regression.NormalInverseGamma | None = None,
    concentration: Any = None,
    held: tuple[str, ...] = (),
) -> MixtureProblem:
    """A mixture of linear regressions; `design` holds the column of ones, y is less the offset."""
    return MixtureProblem(
        lambda params: linear_regression.log_prob(params, y, design),
        lambda resp, rows: linear_regression.maximize(resp, y, design, scale, rows, prior)._asdict(),
        lambda params: linear_regression.log_prior(params, scale, prior),
        weight,
        unit,
        concentration,
        held,
    )


class SharedRegressionProblem(MixtureProblem):
    """Linear regressions with shared columns: the M-step is conditional on the current scales."""

    def __init__(
        self,
        y: np.ndarray,
        design: np.ndarray,
        weight: np.ndarray,
        unit: np.ndarray,
        scale: str,
        shared: tuple[int, ...],
    ) -> None:
        super().__init__(
            lambda params: linear_regression.log_prob(params, y, design),
            lambda resp, rows: {},
            lambda params: 0.0,
            weight,
            unit,
        )
        self.y, self.design, self.scale, self.shared = y, design, scale, shared

    def m_step(self, params: Any, responsibilities: np.ndarray) -> Any:
        """Weights, then coefficients given the scales, then scales."""
        after = super().m_step(params, responsibilities)
        current = linear_regression.Params(*params.family)
        resp, rows = responsibilities[:, self.unit], self.weight[self.unit]
        found = linear_regression.conditional(current, resp, self.y, self.design, self.scale, rows, self.shared)
        return after._replace(family=after.family._replace(**found._asdict()))


def gaussian_problem(
    y: np.ndarray,
    weight: np.ndarray,
    unit: np.ndarray,
    covariance: str,
    prior: gaussian.NormalInverseWishart | None = None,
    concentration: Any = None,
    held: tuple[str, ...] = (),
) -> MixtureProblem:
    """A mixture of Gaussians; y (n, d)."""
    return MixtureProblem(
        lambda params: gaussian.log_prob(params, y),
        lambda resp, rows: gaussian.maximize(resp, y, covariance, rows, prior)._asdict(),
        lambda params: gaussian.log_prior(params, covariance, prior),
        weight,
        unit,
        concentration,
        held,
    )

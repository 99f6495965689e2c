"""Binomial regression in each component: y ~ Binomial(trials, 1 / (1 + exp(-x' beta_k - offset)))."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from emjax.base import counts
from emjax.base.newton import CanonicalRegression
from emjax.base.records import Array, Data
from emjax.base.registry import register


@register
class BinomialRegressionParams(NamedTuple):
    """coefficients (K, p), the intercept first, of the logit of the probability."""

    coefficients: Array


@register
@dataclass(frozen=True)
class BinomialRegression(CanonicalRegression):
    """Family of binomial regressions with logit link; without `Data.trials`, Bernoulli.

    intercept : put a column of ones first. shared : coefficients that are equal in all components: "slopes" (intercepts
    vary), "intercept" (slopes vary) or a tuple of columns of the coefficients; None shares nothing.
    Data: y (n,), successes; trials (n,), 1 each by default; x (n, p) or None; optional offset (n,).
    The M-step is one Newton step (Lange 1995), guarded by the engine.
    """

    blocks: ClassVar[Any] = BinomialRegressionParams
    _rows = staticmethod(counts.binomial_rows)
    _working = staticmethod(counts.binomial_working)
    _density = staticmethod(counts.binomial_log_prob)
    _tails = staticmethod(counts.binomial_tails)
    _moments = staticmethod(counts.binomial_moments)

    @property
    def uses(self) -> tuple[str, ...]:
        """Covariates, offset and trials."""
        return ("x", "offset", "trials")

    @staticmethod
    def _draw(key: Array, eta: Array, data: Data) -> Array:
        trials = jnp.ones_like(eta) if data.trials is None else jnp.asarray(data.trials, eta.dtype)
        return jax.random.binomial(key, trials, jax.nn.sigmoid(eta), dtype=eta.dtype)

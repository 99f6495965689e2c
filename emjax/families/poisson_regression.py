"""Poisson regression in each component: y ~ Poisson(exp(x' beta_k + offset))."""

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
class PoissonRegressionParams(NamedTuple):
    """coefficients (K, p), the intercept first, of the logarithm of the mean."""

    coefficients: Array


@register
@dataclass(frozen=True)
class PoissonRegression(CanonicalRegression):
    """Family of Poisson regressions with log link.

    intercept : put a column of ones first. shared : coefficients that are equal in all components: "slopes" (intercepts
    vary), "intercept" (slopes vary) or a tuple of columns of the coefficients; None shares nothing.
    Data: y (n,), counts; x (n, p) or None for the intercept alone; optional offset (n,), such as log exposure.
    The M-step is one Newton step (Lange 1995), guarded by the engine.
    """

    blocks: ClassVar[Any] = PoissonRegressionParams
    _rows = staticmethod(counts.poisson_rows)
    _working = staticmethod(counts.poisson_working)
    _density = staticmethod(counts.poisson_log_prob)
    _tails = staticmethod(counts.poisson_tails)
    _moments = staticmethod(counts.poisson_moments)

    @property
    def uses(self) -> tuple[str, ...]:
        """Covariates and offset."""
        return ("x", "offset")

    def check(self, data: Data) -> None:
        """As of all such regressions; no trials."""
        instead = "PoissonRegression has no trials: leave them out of Data, or use BinomialRegression."
        self.refuse_unused(data, trials=instead)
        super().check(data)

    @staticmethod
    def _draw(key: Array, eta: Array, data: Data) -> Array:
        return jax.random.poisson(key, jnp.exp(eta)).astype(eta.dtype)

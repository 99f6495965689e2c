"""Exponential components: y > 0 with density rate_k exp(-rate_k y)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from emjax.base import bounded, positive, priors
from emjax.base.priors import GammaPrior
from emjax.base.protocols import FamilyDefaults
from emjax.base.records import Array, Data
from emjax.base.registry import register
from emjax.base.settings import Degeneracy
from emjax.base.status import DataError


@register
class ExponentialParams(NamedTuple):
    """rates (K,), one over the means."""

    rates: Array


class ExponentialStatistics(NamedTuple):
    """Weighted by responsibility: counts (K,) and sums of y (K,)."""

    total: Array
    y: Array


class ExponentialData(NamedTuple):
    """Prepared: y in units of its mean."""

    y: Array  # (n,)
    y_unit: Array  # () user's units of one prepared unit
    prior: Any  # GammaPrior in prepared units, or None
    fixed: Any  # ExponentialParams in prepared units, or None


@register
@dataclass(frozen=True)
class Exponential(FamilyDefaults):
    """Family of exponential distributions.

    Data: y (n,), positive. Conjugate prior: GammaPrior(shape, rate). The likelihood is bounded: no component can
    collapse, so only a `Degeneracy(min_rows=...)` of one's own makes a fit DEGENERATE.
    """

    continuous = True

    blocks: ClassVar[Any] = ExponentialParams

    def check(self, data: Data) -> None:
        """y must be one column, without covariates."""
        self.refuse_unused(data)
        self.refuse_columns(data)

    def check_params(self, params: ExponentialParams) -> None:
        """Rates that are not positive raise `DataError`; None passes."""
        positive.check_values("rates", params.rates)

    def prepare(self, data: Data, n_components: int, prior: Any, fixed: Any) -> tuple[ExponentialData, Array]:
        """y divided by its mean; values that are not positive are a problem bit."""
        y, y_unit, _, problem = positive.prepare(data)
        dtype = y.dtype
        if prior is not None:
            if not isinstance(prior, GammaPrior):
                raise DataError(f"prior={prior!r}: the rates of Exponential take GammaPrior(shape, rate).")
            shape = jnp.asarray(prior.shape, dtype)
            # y is in units of its mean, where the overall rate is 1.
            rate = shape if prior.rate is None else jnp.asarray(prior.rate, dtype) / y_unit
            prior = GammaPrior(shape, rate)
        if fixed is not None:
            fixed = ExponentialParams(jnp.asarray(fixed.rates, dtype) * y_unit)
        return ExponentialData(y, y_unit, prior, fixed), problem

    # --- the EM step ------------------------------------------------------------------------------------------------

    def log_prob(self, params: ExponentialParams, prepared: ExponentialData) -> Array:
        """(K, n), nats."""
        constant = jnp.log(params.rates) - jnp.log(prepared.y_unit)
        return constant[:, None] - params.rates[:, None] * prepared.y[None, :]

    def tails(self, params: ExponentialParams, prepared: ExponentialData) -> tuple[Array, Array, Array]:
        """Probabilities of less than each row's y, of it, and of more, (K, n) each."""
        z = params.rates[:, None] * prepared.y[None, :]
        return -jnp.expm1(-z), jnp.zeros_like(z), jnp.exp(-z)

    def statistics(self, params: ExponentialParams, prepared: ExponentialData, resp: Array) -> ExponentialStatistics:
        """Counts and sums."""
        return ExponentialStatistics(jnp.sum(resp, axis=1), jnp.sum(resp * prepared.y[None, :], axis=1))

    def maximize(
        self, statistics: ExponentialStatistics, params: ExponentialParams, prepared: ExponentialData
    ) -> ExponentialParams:
        """One over the weighted means; a prior adds shape - 1 rows that sum to its rate."""
        if prepared.fixed is not None:
            return prepared.fixed
        total, y = statistics
        if prepared.prior is not None:
            total, y = total + prepared.prior.shape - 1.0, y + prepared.prior.rate
        return ExponentialParams(positive.ratio(total, y, params.rates))

    def initial(self, prepared: ExponentialData, resp: Array, spread: Array) -> ExponentialParams:
        """One over the means at `resp`; there is no scale to pool."""
        if prepared.fixed is not None:
            return prepared.fixed
        total, y = jnp.sum(resp, axis=1), jnp.sum(resp * prepared.y[None, :], axis=1)
        return ExponentialParams(positive.ratio(total, y, jnp.ones_like(total)))

    def elemental(self, prepared: ExponentialData) -> int:
        """One row more than parameters."""
        return 2

    # --- what the engine watches ------------------------------------------------------------------------------------

    def log_prior(self, params: ExponentialParams, prepared: ExponentialData) -> Array:
        """Gamma log density in the rates, user's units."""
        prior = prepared.prior
        if prior is None:
            return jnp.zeros((), prepared.y.dtype)
        return jnp.sum(priors.log_gamma(params.rates, prior.shape, prior.rate) + jnp.log(prepared.y_unit))

    def flags(
        self,
        params: ExponentialParams,
        statistics: ExponentialStatistics,
        prepared: ExponentialData,
        degeneracy: Degeneracy,
    ) -> Array:
        """SUSPECT where a component has few rows; DEGENERATE by `min_rows` alone; no rule for one component."""
        return bounded.flags(statistics.total, 1, degeneracy)

    def relabel(self, params: ExponentialParams, permutation: Array) -> ExponentialParams:
        """Component k of the result is component permutation[k] of `params`."""
        return ExponentialParams(params.rates[permutation])

    # --- coordinates and units --------------------------------------------------------------------------------------

    def component_of_free(self, prepared: ExponentialData, n_components: int) -> tuple[int, ...]:
        """Log rates."""
        return () if prepared.fixed is not None else tuple(range(n_components))

    def n_free(self, prepared: ExponentialData, n_components: int) -> int:
        """Number of free coordinates."""
        return len(self.component_of_free(prepared, n_components))

    def to_free(self, params: ExponentialParams, prepared: ExponentialData) -> Array:
        """Log rates."""
        return jnp.zeros(0, prepared.y.dtype) if prepared.fixed is not None else jnp.log(params.rates)

    def from_free(self, free: Array, prepared: ExponentialData, n_components: int) -> ExponentialParams:
        """The inverse of `to_free`."""
        return prepared.fixed if prepared.fixed is not None else ExponentialParams(jnp.exp(free))

    def to_user(self, params: ExponentialParams, prepared: ExponentialData) -> ExponentialParams:
        """Rates per the user's unit of y."""
        return ExponentialParams(params.rates / prepared.y_unit)

    def from_user(self, params: ExponentialParams, prepared: ExponentialData) -> ExponentialParams:
        """The inverse of `to_user`."""
        return ExponentialParams(params.rates * prepared.y_unit)

    def sample(self, key: Array, params: ExponentialParams, data: Data, labels: Array) -> Array:
        """y (n,) given the component of each row."""
        dtype = params.rates.dtype
        return jax.random.exponential(key, labels.shape, dtype) / params.rates[labels]

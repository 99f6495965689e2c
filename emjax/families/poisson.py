"""Poisson components: y ~ Poisson(rate_k exposure), log exposure in `Data.offset`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from emjax.base import counts, design, numerics, priors
from emjax.base.counts import PoissonRows
from emjax.base.one_parameter import AT_EDGE, OneParameter, OneParameterStatistics
from emjax.base.priors import GammaPrior
from emjax.base.records import Array, Data
from emjax.base.registry import register
from emjax.base.status import DataError


@register
class PoissonParams(NamedTuple):
    """rates (K,), expected counts per unit of exposure."""

    rates: Array


class PoissonData(NamedTuple):
    """Prepared: rates in units of the overall rate."""

    rows: PoissonRows
    log_expected: Array  # (n,) log of each row's mean at the overall rate
    log_unit: Array  # () log of the overall rate, user's units
    prior: Any  # GammaPrior in prepared units, or None
    fixed: Any  # PoissonParams in prepared units, or None


@register
@dataclass(frozen=True)
class Poisson(OneParameter):
    """Family of Poisson distributions; the M-step is closed.

    Data: y (n,), counts; optional offset (n,), the logarithm of exposure.
    """

    blocks: ClassVar[Any] = PoissonParams

    @property
    def uses(self) -> tuple[str, ...]:
        """The offset, as log exposure."""
        return ("offset",)

    def check_params(self, params: PoissonParams) -> None:
        """Values that are not parameters raise `DataError`; blocks may be None."""
        if params.rates is not None and not np.all(np.isfinite(params.rates) & (np.asarray(params.rates) >= 0)):
            raise DataError("rates must be finite and not negative.")

    # --- once per dataset -------------------------------------------------------------------------------------------

    def prepare(self, data: Data, n_components: int, prior: Any, fixed: Any) -> tuple[PoissonData, Array]:
        """Rates in units of events over exposure, which may be far from 1: offsets are centred first."""
        weight, used = counts.used_rows(data)
        rows, problem = counts.poisson_rows(data, used)
        offset, found = counts.offset_of(data, used)
        total = design.total_weight(weight)
        middle = jnp.sum(weight * offset) / total
        offset = jnp.where(used, offset - middle, 0.0)
        events = jnp.sum(weight * rows.y)
        log_rate = jnp.log(jnp.where(events > 0, events, 1.0)) - jnp.log(jnp.sum(weight * jnp.exp(offset)))
        log_rate = jnp.where(jnp.isfinite(log_rate), log_rate, 0.0)
        prepared = PoissonData(rows, offset + log_rate, log_rate - middle, None, None)
        unit = jnp.exp(prepared.log_unit)
        if prior is not None:
            shape = jnp.asarray(prior.shape, unit.dtype)
            rate = shape if prior.rate is None else jnp.asarray(prior.rate, unit.dtype) * unit
            prepared = prepared._replace(prior=GammaPrior(shape, rate))
        if fixed is not None:
            held = PoissonParams(jnp.asarray(fixed.rates, unit.dtype))
            prepared = prepared._replace(fixed=self.from_user(held, prepared))
        return prepared, jnp.int32(problem | found)

    # --- the EM step ------------------------------------------------------------------------------------------------

    def log_prob(self, params: PoissonParams, prepared: PoissonData) -> Array:
        """(K, n), nats."""
        return counts.poisson_log_prob(prepared.rows, jnp.log(params.rates)[:, None] + prepared.log_expected[None, :])

    def tails(self, params: PoissonParams, prepared: PoissonData) -> tuple[Array, Array, Array]:
        """P(Y < y), P(Y = y) and P(Y > y), (K, n) each."""
        return counts.poisson_tails(prepared.rows, jnp.log(params.rates)[:, None] + prepared.log_expected[None, :])

    def statistics(self, params: PoissonParams, prepared: PoissonData, resp: Array) -> OneParameterStatistics:
        """Rows, events, and events expected at the overall rate."""
        expected = jnp.exp(prepared.log_expected)
        return OneParameterStatistics(
            *numerics.row_sums(resp, resp * prepared.rows.y[None, :], resp * expected[None, :])
        )

    def maximize(self, statistics: OneParameterStatistics, params: PoissonParams, prepared: PoissonData) -> Any:
        """Events over exposure, or the posterior mode under a gamma prior; kept off 0."""
        if prepared.fixed is not None:
            return prepared.fixed
        events, exposure = statistics.events, statistics.exposure
        if prepared.prior is not None:
            events, exposure = events + (prepared.prior.shape - 1.0), exposure + prepared.prior.rate
        tiny = jnp.finfo(events.dtype).tiny
        return PoissonParams(jnp.maximum(events / jnp.maximum(exposure, tiny), tiny))

    def initial(self, prepared: PoissonData, resp: Array, spread: Array) -> PoissonParams:
        """Events over exposure at `resp`, half an event of the overall rate added: off 0, where EM would stay."""
        if prepared.fixed is not None:
            return prepared.fixed
        events = jnp.sum(resp * prepared.rows.y[None, :], axis=1)
        exposure = jnp.sum(resp * jnp.exp(prepared.log_expected)[None, :], axis=1)
        return PoissonParams((events + 0.5) / (exposure + 0.5))

    # --- what the engine watches, coordinates and units -------------------------------------------------------------

    def log_prior(self, params: PoissonParams, prepared: PoissonData) -> Array:
        """Gamma log density in the rates, user's units, nats."""
        if prepared.prior is None:
            return jnp.zeros((), params.rates.dtype)
        return jnp.sum(priors.log_gamma(params.rates, prepared.prior.shape, prepared.prior.rate) - prepared.log_unit)

    def _to_free(self, values: Array) -> Array:
        return jnp.log(values)

    def _from_free(self, free: Array) -> Array:
        return jnp.exp(free)

    def _edges(self, values: Array) -> Array:
        return (values < AT_EDGE).astype(jnp.int32)

    def to_user(self, params: PoissonParams, prepared: PoissonData) -> PoissonParams:
        """Per unit of the user's exposure."""
        return PoissonParams(params.rates * jnp.exp(prepared.log_unit))

    def from_user(self, params: PoissonParams, prepared: PoissonData) -> PoissonParams:
        """The inverse of `to_user`, kept off 0."""
        rates = params.rates * jnp.exp(-prepared.log_unit)
        return PoissonParams(jnp.maximum(rates, jnp.finfo(rates.dtype).tiny))

    def sample(self, key: Array, params: PoissonParams, data: Data, labels: Array) -> Array:
        """y (n,) given the component of each row."""
        means = params.rates[labels]
        if data.offset is not None:
            means = means * jnp.exp(jnp.asarray(data.offset, means.dtype))
        return jax.random.poisson(key, means).astype(means.dtype)

"""Negative binomial components: counts with mean m_k and variance m_k + m_k^2 / size_k."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax.numpy as jnp

from emjax.base import bounded, numerics, overdispersion, positive, special
from emjax.base.overdispersion import Counts
from emjax.base.protocols import FamilyDefaults
from emjax.base.records import Array, Data
from emjax.base.registry import register
from emjax.base.settings import Degeneracy
from emjax.base.status import DataError, Flag

AT_ZERO = 1e-8  # times the mean of all counts: a mean this small is 0


@register
class NegativeBinomialParams(NamedTuple):
    """means (K,) and sizes (K,); a size at infinity, the Poisson distribution, is a large finite number."""

    means: Array
    sizes: Array


class NegativeBinomialStatistics(NamedTuple):
    """Weighted by responsibility, (K,): counts, sums of y, and two sums at the current sizes s.

    s (digamma(y + s) - digamma(s)), and s^2 (trigamma(s) - trigamma(y + s)).
    """

    total: Array
    y: Array
    first: Array
    second: Array


class NegativeBinomialData(NamedTuple):
    """Prepared: counts have no units."""

    counts: Counts
    fixed: Any  # NegativeBinomialParams with None where free, or None


@register
@dataclass(frozen=True)
class NegativeBinomial(FamilyDefaults):
    """Family of negative binomial distributions (NB2: variance m + m^2 / size).

    Data: y (n,), counts. The mean's M-step is exact whatever the size; the size takes one guarded Newton step in its
    logarithm. BOUNDARY where a size is at infinity (the Poisson limit: no more variance than mean) or a mean at 0.
    The likelihood is bounded: only a `Degeneracy(min_rows=...)` of one's own makes a fit DEGENERATE.
    """

    blocks: ClassVar[Any] = NegativeBinomialParams

    @property
    def monotone(self) -> bool:
        """The size's step is Newton's."""
        return False

    def check(self, data: Data) -> None:
        """y must be one column, without covariates."""
        self.refuse_unused(data)
        self.refuse_columns(data)

    def check_params(self, params: NegativeBinomialParams) -> None:
        """Values that are not positive raise `DataError`; blocks may be None."""
        positive.check_values("means", params.means)
        positive.check_values("sizes", params.sizes)

    def prepare(self, data: Data, n_components: int, prior: Any, fixed: Any) -> tuple[NegativeBinomialData, Array]:
        """Counts; what is none is a problem bit."""
        if prior is not None:
            raise DataError("NegativeBinomial has no conjugate prior: leave out prior['family'].")
        found, _, _, problem = overdispersion.prepare(data)
        if fixed is not None:
            fixed = NegativeBinomialParams(*(f if f is None else jnp.asarray(f, found.y.dtype) for f in fixed))
        return NegativeBinomialData(found, fixed), problem

    # --- the EM step ------------------------------------------------------------------------------------------------

    def log_prob(self, params: NegativeBinomialParams, prepared: NegativeBinomialData) -> Array:
        """(K, n), nats."""
        return overdispersion.log_density(jnp.log(params.means)[:, None], params.sizes, prepared.counts)

    def tails(self, params: NegativeBinomialParams, prepared: NegativeBinomialData) -> tuple[Array, Array, Array]:
        """P(Y < y), P(Y = y) and P(Y > y), (K, n) each."""
        return overdispersion.tails(jnp.log(params.means)[:, None], params.sizes, prepared.counts)

    def statistics(
        self, params: NegativeBinomialParams, prepared: NegativeBinomialData, resp: Array
    ) -> NegativeBinomialStatistics:
        """Sums at the current sizes."""
        y = prepared.counts.y[None, :]
        first, second = special.rising_slopes(y, params.sizes[:, None])
        return NegativeBinomialStatistics(*numerics.row_sums(resp, resp * y, resp * first, resp * second))

    def maximize(
        self, statistics: NegativeBinomialStatistics, params: NegativeBinomialParams, prepared: NegativeBinomialData
    ) -> NegativeBinomialParams:
        """Weighted means, then a step of the sizes at them."""
        total, y, first, second = statistics
        held = prepared.fixed or NegativeBinomialParams(None, None)  # type: ignore[arg-type]
        means, sizes = held
        if means is None:
            least = jnp.finfo(total.dtype).eps * prepared.counts.mean
            means = jnp.where(total > 0, y / jnp.where(total > 0, total, 1.0), params.means)
            means = jnp.maximum(means, least)
        if sizes is None:
            s = params.sizes
            share = means / (s + means)
            away = (total * means - y) / (s + means)  # 0 at the weighted mean
            score = first - total * s * jnp.log1p(means / s) + s * away
            curvature = score - second + total * s * share - s**2 * away / (s + means)
            sizes = overdispersion.size_step(score, curvature, s, prepared.counts.mean)
        return NegativeBinomialParams(means, sizes)

    def initial(self, prepared: NegativeBinomialData, resp: Array, spread: Array) -> NegativeBinomialParams:
        """Means at `resp`; one size by moments, weighted by `spread`."""
        total, y = numerics.row_sums(resp, resp * prepared.counts.y[None, :])
        means = (y + 0.01 * prepared.counts.mean) / (total + 0.01)  # off zero
        size = overdispersion.pooled_size(means[:, None], prepared.counts, spread)
        params = NegativeBinomialParams(means, size * jnp.ones_like(means))
        held = prepared.fixed or params
        return NegativeBinomialParams(*(p if f is None else f for p, f in zip(params, held)))

    def elemental(self, prepared: NegativeBinomialData) -> int:
        """One row more than location parameters."""
        return 2

    # --- what the engine watches ------------------------------------------------------------------------------------

    def log_prior(self, params: NegativeBinomialParams, prepared: NegativeBinomialData) -> Array:
        """No prior."""
        return jnp.zeros((), prepared.counts.y.dtype)

    def flags(
        self,
        params: NegativeBinomialParams,
        statistics: NegativeBinomialStatistics,
        prepared: NegativeBinomialData,
        degeneracy: Degeneracy,
    ) -> Array:
        """BOUNDARY at the Poisson limit or a mean of 0; SUSPECT where a component has few rows."""
        edge = jnp.any(self.boundary(params, prepared) > 0)
        return jnp.where(edge, Flag.BOUNDARY, 0) | bounded.flags(statistics.total, 2, degeneracy)

    def boundary(self, params: NegativeBinomialParams, prepared: NegativeBinomialData) -> Array:
        """As `Model.boundary`: the size of a component whose counts are all 0 is not identified."""
        held = prepared.fixed or (None, None)
        zero = params.means < AT_ZERO * prepared.counts.mean
        poisson = overdispersion.at_poisson(params.sizes, prepared.counts.mean)
        codes = (zero.astype(jnp.int32), jnp.where(zero, 2, poisson.astype(jnp.int32)).astype(jnp.int32))
        return jnp.concatenate([jnp.zeros(0, jnp.int32), *(c for c, f in zip(codes, held) if f is None)])

    def relabel(self, params: NegativeBinomialParams, permutation: Array) -> NegativeBinomialParams:
        """Component k of the result is component permutation[k] of `params`."""
        return NegativeBinomialParams(params.means[permutation], params.sizes[permutation])

    # --- coordinates and units --------------------------------------------------------------------------------------

    def component_of_free(self, prepared: NegativeBinomialData, n_components: int) -> tuple[int, ...]:
        """Log means, then log dispersions."""
        held = prepared.fixed or (None, None)
        return tuple(k for block in held if block is None for k in range(n_components))

    def n_free(self, prepared: NegativeBinomialData, n_components: int) -> int:
        """Number of free coordinates."""
        return len(self.component_of_free(prepared, n_components))

    def to_free(self, params: NegativeBinomialParams, prepared: NegativeBinomialData) -> Array:
        """Log means, then log dispersions, minus the log sizes."""
        held = prepared.fixed or (None, None)
        blocks = (jnp.log(params.means), -jnp.log(params.sizes))
        free = [block for block, fixed in zip(blocks, held) if fixed is None]
        return jnp.concatenate([jnp.zeros(0, prepared.counts.y.dtype), *free])

    def from_free(self, free: Array, prepared: NegativeBinomialData, n_components: int) -> NegativeBinomialParams:
        """The inverse of `to_free`."""
        means, sizes = prepared.fixed or (None, None)
        blocks = iter(free.reshape(-1, n_components))
        means = jnp.exp(next(blocks)) if means is None else means
        return NegativeBinomialParams(means, jnp.exp(-next(blocks)) if sizes is None else sizes)

    def to_user(self, params: NegativeBinomialParams, prepared: NegativeBinomialData) -> NegativeBinomialParams:
        """The same: counts have no units."""
        return params

    def from_user(self, params: NegativeBinomialParams, prepared: NegativeBinomialData) -> NegativeBinomialParams:
        """The same."""
        return params

    def sample(self, key: Array, params: NegativeBinomialParams, data: Data, labels: Array) -> Array:
        """y (n,) given the component of each row."""
        return overdispersion.sample(key, params.means[labels], params.sizes[labels])

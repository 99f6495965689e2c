"""Gamma components: y > 0 with shape a_k and mean mu_k, so scale mu_k / a_k."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from emjax.base import design, numerics, positive, special
from emjax.base.protocols import FamilyDefaults
from emjax.base.records import Array, Data
from emjax.base.registry import register
from emjax.base.settings import Degeneracy
from emjax.base.status import DataError, Flag, Problem


@register
class GammaParams(NamedTuple):
    """shapes (K,) and means (K,); a component's coefficient of variation is one over the root of its shape."""

    shapes: Array
    means: Array


class GammaStatistics(NamedTuple):
    """Weighted by responsibility, with u = log(y / mean) at the current mean, all (K,).

    counts, sums of exp(u) - 1, and sums of half the unit deviance, exp(u) - 1 - u.
    """

    total: Array
    excess: Array
    deviance: Array


class GammaData(NamedTuple):
    """Prepared: y in units of its mean."""

    log_y: Array  # (n,)
    y_unit: Array  # () user's units of one prepared unit
    pooled_shape: Array  # () of one gamma distribution
    fixed: Any  # GammaParams in prepared units with None where free, or None


@register
@dataclass(frozen=True)
class Gamma(FamilyDefaults):
    """Family of gamma distributions.

    Data: y (n,), positive. The M-step is exact: the mean is the weighted mean, the shape solves
    log a - digamma(a) = log mean(y) - mean(log y) by Newton's steps on the logarithm (Minka 2002, Estimating a Gamma
    distribution). A component collapses as its shape grows: its scale is the coefficient of variation, a^(-1/2).
    """

    continuous = True

    blocks: ClassVar[Any] = GammaParams

    def check(self, data: Data) -> None:
        """y must be one column, without covariates."""
        self.refuse_unused(data)
        self.refuse_columns(data)

    def check_params(self, params: GammaParams) -> None:
        """Values that are not positive raise `DataError`; blocks may be None."""
        positive.check_values("shapes", params.shapes)
        positive.check_values("means", params.means)

    def prepare(self, data: Data, n_components: int, prior: Any, fixed: Any) -> tuple[GammaData, Array]:
        """y divided by its mean; values that are not positive, or all the same, are a problem bit."""
        if prior is not None:
            raise DataError("Gamma has no conjugate prior: leave out prior['family'].")
        y, y_unit, weight, problem = positive.prepare(data)
        total = design.total_weight(weight)
        one = jnp.ones((), y.dtype)
        _, constant = design.unit_of(jnp.sum(weight * (y - 1.0) ** 2) / total, one)
        problem |= jnp.where(constant, Problem.CONSTANT_RESPONSE, 0)
        log_y = jnp.log(y)
        deviance = jnp.sum(weight * (jnp.expm1(log_y) - log_y)) / total
        pooled = special.gamma_shape(_floored(deviance))
        if fixed is not None:
            units = (one, y_unit)
            fixed = GammaParams(*(f if f is None else jnp.asarray(f, y.dtype) / u for f, u in zip(fixed, units)))
        return GammaData(log_y, y_unit, pooled, fixed), jnp.int32(problem)

    # --- the EM step ------------------------------------------------------------------------------------------------

    def _residuals(self, means: Array, prepared: GammaData) -> tuple[Array, Array]:
        """u = log(y / mean) and exp(u) - 1, (K, n)."""
        u = prepared.log_y[None, :] - jnp.log(means)[:, None]
        return u, jnp.expm1(u)

    def log_prob(self, params: GammaParams, prepared: GammaData) -> Array:
        """(K, n), nats."""
        u, excess = self._residuals(params.means, prepared)
        jacobian = prepared.log_y + jnp.log(prepared.y_unit)
        constant = special.gamma_constant(params.shapes)
        return constant[:, None] - jacobian[None, :] - params.shapes[:, None] * (excess - u)

    def tails(self, params: GammaParams, prepared: GammaData) -> tuple[Array, Array, Array]:
        """Probabilities of less than each row's y, of it, and of more, (K, n) each.

        By jax's incomplete gamma functions: to about 1e-15 shape, relative, up to shapes of 1e6; they fail from 1e8 on.
        """
        u, _ = self._residuals(params.means, prepared)
        shape, z = params.shapes[:, None] + 0.0 * u, params.shapes[:, None] * jnp.exp(u)
        gammainc, gammaincc = jax.scipy.special.gammainc, jax.scipy.special.gammaincc
        return gammainc(shape, z), jnp.zeros_like(z), gammaincc(shape, z)

    def statistics(self, params: GammaParams, prepared: GammaData, resp: Array) -> GammaStatistics:
        """In residual form: log mean(y) - mean(log y) would lose large shapes to cancellation."""
        u, excess = self._residuals(params.means, prepared)
        return GammaStatistics(*numerics.row_sums(resp, resp * excess, resp * (excess - u)))

    def maximize(self, statistics: GammaStatistics, params: GammaParams, prepared: GammaData) -> GammaParams:
        """Weighted means, then the shapes at them."""
        total, tiny = statistics.total, jnp.finfo(statistics.total.dtype).tiny
        eps = jnp.finfo(total.dtype).eps
        some = total > tiny
        rows = jnp.where(some, total, 1.0)
        growth = jnp.maximum(statistics.excess / rows, eps - 1.0)  # of the mean, less 1
        shift = jnp.log1p(growth)
        held = prepared.fixed or GammaParams(None, None)  # type: ignore[arg-type]
        means = params.means * jnp.exp(shift)
        if held.means is not None:
            means, shift = held.means, jnp.log(held.means / params.means)
        if held.shapes is not None:
            return GammaParams(held.shapes, means)
        deviance = statistics.deviance / rows + shift + jnp.expm1(-shift) * (1.0 + growth)
        shapes = special.gamma_shape(_floored(deviance))
        return GammaParams(jnp.where(some, shapes, params.shapes), means)

    def initial(self, prepared: GammaData, resp: Array, spread: Array) -> GammaParams:
        """Means at `resp`; one shape from the deviances weighted by `spread`."""
        total = jnp.sum(resp, axis=1)
        means = positive.ratio(jnp.sum(resp * jnp.exp(prepared.log_y)[None, :], axis=1), total, jnp.ones_like(total))
        u, excess = self._residuals(means, prepared)
        rows = jnp.maximum(jnp.sum(spread), jnp.finfo(total.dtype).tiny)
        shape = special.gamma_shape(_floored(jnp.sum(spread * (excess - u)) / rows))
        params = GammaParams(shape * jnp.ones_like(total), means)
        held = prepared.fixed or params
        return GammaParams(*(p if f is None else f for p, f in zip(params, held)))

    def elemental(self, prepared: GammaData) -> int:
        """One row more than location parameters."""
        return 2

    # --- what the engine watches ------------------------------------------------------------------------------------

    def log_prior(self, params: GammaParams, prepared: GammaData) -> Array:
        """No prior."""
        return jnp.zeros((), prepared.log_y.dtype)

    def flags(
        self, params: GammaParams, statistics: GammaStatistics, prepared: GammaData, degeneracy: Degeneracy
    ) -> Array:
        """DEGENERATE and SUSPECT by the named settings, scales being coefficients of variation.

        None is for one component, unless it is compared with the data; a variation of nothing but rounding is
        DEGENERATE whatever they are.
        """
        components = degeneracy.relative_to == "components"
        vanished = jnp.sqrt(1.0 / jnp.max(params.shapes)) < design.rounding(params.shapes.dtype)
        if params.shapes.shape[0] == 1 and components:
            return jnp.where(vanished, jnp.int32(Flag.DEGENERATE), jnp.int32(Flag.NONE))
        fewest = jnp.min(statistics.total)
        smallest = jnp.min(params.shapes) if components else prepared.pooled_shape
        ratio = jnp.sqrt(smallest / jnp.max(params.shapes))
        min_rows = 2.0 if degeneracy.min_rows is None else degeneracy.min_rows
        collapsed = vanished | (ratio < degeneracy.min_scale_ratio) | (fewest < min_rows)
        suspect = fewest < degeneracy.suspect_rows * 2.0
        suspect |= ratio < degeneracy.suspect_scale_ratio if components else False
        return jnp.where(collapsed, Flag.DEGENERATE, 0) | jnp.where(suspect, Flag.SUSPECT, 0)

    def relabel(self, params: GammaParams, permutation: Array) -> GammaParams:
        """Component k of the result is component permutation[k] of `params`."""
        return GammaParams(params.shapes[permutation], params.means[permutation])

    # --- coordinates and units --------------------------------------------------------------------------------------

    def component_of_free(self, prepared: GammaData, n_components: int) -> tuple[int, ...]:
        """Log shapes, then log means."""
        held = prepared.fixed or (None, None)
        return tuple(k for block in held if block is None for k in range(n_components))

    def n_free(self, prepared: GammaData, n_components: int) -> int:
        """Number of free coordinates."""
        return len(self.component_of_free(prepared, n_components))

    def to_free(self, params: GammaParams, prepared: GammaData) -> Array:
        """Log shapes, then log means."""
        held = prepared.fixed or (None, None)
        free = [jnp.log(block) for block, fixed in zip(params, held) if fixed is None]
        return jnp.concatenate([jnp.zeros(0, prepared.log_y.dtype), *free])

    def from_free(self, free: Array, prepared: GammaData, n_components: int) -> GammaParams:
        """The inverse of `to_free`."""
        held = list(prepared.fixed or (None, None))
        blocks = iter(jnp.exp(free).reshape(-1, n_components))
        return GammaParams(*(next(blocks) if fixed is None else fixed for fixed in held))

    def to_user(self, params: GammaParams, prepared: GammaData) -> GammaParams:
        """Means in the user's unit of y."""
        return GammaParams(params.shapes, params.means * prepared.y_unit)

    def from_user(self, params: GammaParams, prepared: GammaData) -> GammaParams:
        """The inverse of `to_user`."""
        return GammaParams(params.shapes, params.means / prepared.y_unit)

    def sample(self, key: Array, params: GammaParams, data: Data, labels: Array) -> Array:
        """y (n,) given the component of each row."""
        shapes = params.shapes[labels]
        return params.means[labels] / shapes * jax.random.gamma(key, shapes)


def _floored(deviance: Array) -> Array:
    """Half a mean deviance kept off zero, so that a collapsing shape is huge and finite."""
    return jnp.maximum(deviance, jnp.finfo(deviance.dtype).eps ** 2)

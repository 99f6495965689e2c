"""Gaussian linear regression in each component: y ~ N(x' beta_k, sigma_k^2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from emjax.base import coefficients as shares
from emjax.base import design, numerics, positive, priors
from emjax.base.coefficients import Columns
from emjax.base.design import Design
from emjax.base.priors import NormalInverseGamma
from emjax.base.protocols import FamilyDefaults
from emjax.base.records import Array, Data
from emjax.base.registry import register
from emjax.base.settings import Degeneracy
from emjax.base.status import DataError


@register
class LinearRegressionParams(NamedTuple):
    """coefficients (K, p), the intercept first; scale (K,), standard deviations, equal where the scale is common."""

    coefficients: Array
    scale: Array


class LinearRegressionStatistics(NamedTuple):
    """Weighted by responsibility, with residuals e at the current parameters: counts (K,), X'X (K, p, p), X'e, e'e."""

    total: Array
    xx: Array
    xe: Array
    ee: Array


class LinearRegressionData(NamedTuple):
    """Prepared: centred and scaled, rows last."""

    y: Array  # (n,)
    design: Design
    y_unit: Array  # () user's units of one prepared unit
    pooled_scale: Array  # () residual standard deviation of one regression, prepared units
    prior: Any  # NormalInverseGamma in prepared units, or None
    fixed: Any  # LinearRegressionParams in prepared units with None where free, or None


@register
@dataclass(frozen=True)
class LinearRegression(FamilyDefaults):
    """Family of Gaussian linear regressions.

    intercept : put a column of ones first. scale : "component" or "common".
    shared : coefficients equal in all components: "slopes", "intercept" or a tuple of their columns; None shares none.
    With component scales the M-step is then conditional (ECM; Meng & Rubin 1993, Biometrika 80): least squares in
    units of the scales, then the scales given those.
    Data: y (n,), x (n, p) or None for the intercept alone, optional offset (n,).
    The likelihood is maximised exactly: scale divides by the component's rows, not by rows less coefficients.
    """

    continuous = True

    intercept: bool = True
    scale: Literal["component", "common"] = "component"
    shared: Any = None
    blocks: ClassVar[Any] = LinearRegressionParams

    def __post_init__(self) -> None:
        shares.check_intercept("LinearRegression", self.intercept)
        if self.scale not in ("component", "common"):
            raise DataError(f"LinearRegression(scale={self.scale!r}): use 'component' or 'common'.")
        shares.check_setting("LinearRegression", self.shared, self.intercept)

    @property
    def uses(self) -> tuple[str, ...]:
        """Covariates and offset."""
        return ("x", "offset")

    @property
    def common(self) -> bool:
        """One scale for all components."""
        return self.scale == "common"

    def _columns(self, prepared: LinearRegressionData) -> Columns:
        return Columns.of(self.shared, self.intercept, prepared.design.x.shape[0])

    def check(self, data: Data) -> None:
        """y must be one column; without an intercept there must be covariates."""
        shares.check_data(self, data)
        p = int(self.intercept) + (0 if data.x is None else np.shape(data.x)[-1])
        if self.common and not Columns.of(self.shared, self.intercept, p).own:
            raise DataError("LinearRegression shares every coefficient and the scale: leave one to the components.")

    def check_params(self, params: LinearRegressionParams) -> None:
        """Values that are not parameters raise `DataError`; blocks may be None."""
        shares.check_coefficients(params.coefficients, self.shared, self.intercept)
        positive.check_values("scale", params.scale)

    # --- once per dataset -------------------------------------------------------------------------------------------

    def prepare(self, data: Data, n_components: int, prior: Any, fixed: Any) -> tuple[LinearRegressionData, Array]:
        """Centre (with an intercept) and scale; the pooled scale comes from one regression."""
        found, problem = design.regression(data, self.intercept, self.shared)
        prepared = LinearRegressionData(*found, None, None)
        if prior is not None:
            prepared = prepared._replace(prior=self._prepare_prior(prior, prepared, n_components))
        if fixed is not None:
            prepared = prepared._replace(fixed=self._prepare_fixed(fixed, prepared))
        return prepared, jnp.int32(problem)

    def _prepare_prior(self, prior: NormalInverseGamma, prepared: LinearRegressionData, n_components: int) -> Any:
        if self.shared is not None:
            raise DataError("LinearRegression(shared=...) takes no prior of the family: leave out prior['family'].")
        dtype, p = prepared.y.dtype, prepared.design.x.shape[0]
        identity, mean = jnp.eye(p, dtype=dtype), jnp.zeros(p, dtype)
        if prior.mean is not None:
            mean = prepared.design.to_prepared @ (jnp.asarray(prior.mean, dtype) - prepared.design.shift)
        strength = 0.01 * identity
        if prior.strength is not None:
            given = jnp.asarray(prior.strength, dtype)
            given = given * identity if given.ndim == 0 else given
            strength = prepared.design.to_user.T @ given @ prepared.design.to_user / prepared.y_unit**2
        scale = jnp.asarray(0.5 / n_components**2, dtype)
        if prior.scale is not None:
            scale = jnp.asarray(prior.scale, dtype) / prepared.y_unit**2
        return NormalInverseGamma(mean, strength, jnp.asarray(prior.shape, dtype), scale)

    def _prepare_fixed(self, fixed: LinearRegressionParams, prepared: LinearRegressionData) -> Any:
        dtype = prepared.y.dtype
        coefficients, scale = fixed
        if coefficients is not None:
            coefficients = prepared.design.coefficients_from_user(jnp.asarray(coefficients, dtype))
            coefficients = self._columns(prepared).equal(coefficients)
        if scale is not None:
            scale = jnp.asarray(scale, dtype) / prepared.y_unit
        return LinearRegressionParams(coefficients, scale)

    # --- the EM step ------------------------------------------------------------------------------------------------

    def _residuals(self, params: LinearRegressionParams, prepared: LinearRegressionData) -> Array:
        return prepared.y[None, :] - numerics.linear(params.coefficients, prepared.design.x)

    def log_prob(self, params: LinearRegressionParams, prepared: LinearRegressionData) -> Array:
        """(K, n), nats."""
        residuals = self._residuals(params, prepared)
        constant = -jnp.log(params.scale) - jnp.log(prepared.y_unit) - 0.5 * numerics.LOG_2PI
        return constant[:, None] - 0.5 * (residuals * (1.0 / params.scale)[:, None]) ** 2

    def tails(self, params: LinearRegressionParams, prepared: LinearRegressionData) -> tuple[Array, Array, Array]:
        """Probabilities of less than each row's y, of it, and of more, (K, n) each."""
        return numerics.normal_tails(self._residuals(params, prepared) / params.scale[:, None])

    def statistics(
        self, params: LinearRegressionParams, prepared: LinearRegressionData, resp: Array
    ) -> LinearRegressionStatistics:
        """In residual form: raw moments lose sigma to cancellation (DESIGN 4)."""
        residuals = self._residuals(params, prepared)
        weighted = resp * residuals
        xx, xe, total, ee = numerics.weighted_products(resp, weighted, prepared.design.x, resp, weighted * residuals)
        return LinearRegressionStatistics(total, xx, xe, ee)

    def maximize(
        self, statistics: LinearRegressionStatistics, params: LinearRegressionParams, prepared: LinearRegressionData
    ) -> LinearRegressionParams:
        """Weighted least squares as a correction of the current coefficients."""
        p = prepared.design.x.shape[0]
        tiny, eps = jnp.finfo(prepared.y.dtype).tiny, jnp.finfo(prepared.y.dtype).eps
        xx, xe, ee, total = statistics.xx, statistics.xe, statistics.ee, statistics.total
        extra_rows, extra_scale = 0.0, jnp.zeros((), prepared.y.dtype)
        prior, fixed = prepared.prior, prepared.fixed
        if prior is not None:
            away = prior.mean[None, :] - params.coefficients
            pull = away @ prior.strength
            xx, xe, ee = xx + prior.strength[None, :, :], xe + pull, ee + jnp.sum(pull * away, axis=1)
            total = total + p
            extra_rows, extra_scale = 2.0 * prior.shape + 2.0, 2.0 * prior.scale
        if fixed is not None and fixed.coefficients is not None:
            step = fixed.coefficients - params.coefficients  # the start may have others
        else:
            # Where components share coefficients their equations add up, each in units of its own scale.
            precision = jnp.ones_like(params.scale) if self.shared is None else params.scale**-2
            information, score = precision[:, None, None] * xx, precision[:, None] * xe
            step = self._columns(prepared).solve(design.ridged(information), score)
        curvature = jnp.sum(step * numerics.apply(xx, step), axis=1)
        squares = ee - 2.0 * jnp.sum(step * xe, axis=1) + curvature
        squares = jnp.maximum(squares, eps**2 * ee)
        if self.common:
            squares, total = jnp.sum(squares) + 0.0 * squares, jnp.sum(total) + 0.0 * total
        variance = (squares + extra_scale) / jnp.maximum(total + extra_rows, tiny)
        scale = jnp.sqrt(jnp.maximum(variance, tiny))
        if fixed is not None and fixed.scale is not None:
            scale = fixed.scale
        return LinearRegressionParams(params.coefficients + step, scale)

    def initial(self, prepared: LinearRegressionData, resp: Array, spread: Array) -> LinearRegressionParams:
        """Weighted least squares at `resp`, one scale from the squared residuals weighted by `spread`."""
        eps = jnp.finfo(prepared.y.dtype).eps
        coefficients = design.least_squares(prepared.design, prepared.y, resp, self._columns(prepared))
        params = LinearRegressionParams(coefficients, jnp.ones(resp.shape[0], resp.dtype))
        squares = jnp.sum(spread * self._residuals(params, prepared) ** 2) / jnp.maximum(jnp.sum(spread), eps)
        params = params._replace(scale=jnp.sqrt(jnp.maximum(squares, eps)) * params.scale)
        return _with_fixed(params, prepared.fixed)

    def elemental(self, prepared: LinearRegressionData) -> int:
        """One row more than coefficients."""
        return prepared.design.x.shape[0] + 1

    # --- what the engine watches ------------------------------------------------------------------------------------

    def log_prior(self, params: LinearRegressionParams, prepared: LinearRegressionData) -> Array:
        """Density in (beta, sigma^2), user's units; one variance only where the scale is common."""
        prior = prepared.prior
        if prior is None:
            return jnp.zeros((), prepared.y.dtype)
        variance = params.scale**2
        factor = numerics.cholesky(prior.strength)  # of the precision, but for sigma^2
        white = numerics.apply(factor.T[None, :, :], params.coefficients - prior.mean[None, :])
        p = factor.shape[0]
        half_log_det = p * jnp.log(params.scale) - 0.5 * numerics.log_determinant(factor)
        normal = -0.5 * p * numerics.LOG_2PI - half_log_det - 0.5 * jnp.sum(white**2, axis=1) / variance
        normal = normal - jnp.sum(jnp.log(jnp.diagonal(prepared.design.to_user)))
        gamma = priors.log_inverse_gamma(variance, prior.shape, prior.scale) - 2.0 * jnp.log(prepared.y_unit)
        return jnp.sum(normal) + (gamma[0] if self.common else jnp.sum(gamma))

    def flags(
        self,
        params: LinearRegressionParams,
        statistics: LinearRegressionStatistics,
        prepared: LinearRegressionData,
        degeneracy: Degeneracy,
    ) -> Array:
        """DEGENERATE and SUSPECT by the named settings; no rule for one component or one common scale."""
        p = params.coefficients.shape[1]
        pooled = prepared.pooled_scale
        return design.collapse(params.scale, statistics.total, p + 1, pooled, self.common, degeneracy)

    def relabel(self, params: LinearRegressionParams, permutation: Array) -> LinearRegressionParams:
        """Component k of the result is component permutation[k] of `params`."""
        return LinearRegressionParams(params.coefficients[permutation], params.scale[permutation])

    # --- coordinates and units --------------------------------------------------------------------------------------

    def component_of_free(self, prepared: LinearRegressionData, n_components: int) -> tuple[int, ...]:
        """Coefficients component by component, shared ones once, then log scales."""
        owners: list[int] = []
        fixed = prepared.fixed or LinearRegressionParams(None, None)  # type: ignore[arg-type]
        if fixed.coefficients is None:
            owners += self._columns(prepared).owners(n_components)
        if fixed.scale is None:
            owners += [-1] if self.common else list(range(n_components))
        return tuple(owners)

    def n_free(self, prepared: LinearRegressionData, n_components: int) -> int:
        """Number of free coordinates."""
        return len(self.component_of_free(prepared, n_components))

    def to_free(self, params: LinearRegressionParams, prepared: LinearRegressionData) -> Array:
        """Coefficients, then log scales (one where common)."""
        fixed = prepared.fixed or LinearRegressionParams(None, None)  # type: ignore[arg-type]
        parts = [jnp.zeros(0, params.scale.dtype)]
        if fixed.coefficients is None:
            parts.append(self._columns(prepared).to_free(params.coefficients))
        if fixed.scale is None:
            parts.append(jnp.log(params.scale[:1] if self.common else params.scale))
        return jnp.concatenate(parts)

    def from_free(self, free: Array, prepared: LinearRegressionData, n_components: int) -> LinearRegressionParams:
        """The inverse of `to_free`."""
        fixed = prepared.fixed or LinearRegressionParams(None, None)  # type: ignore[arg-type]
        columns = self._columns(prepared)
        coefficients, scale = fixed.coefficients, fixed.scale
        if coefficients is None:
            size = len(columns.owners(n_components))
            coefficients, free = columns.from_free(free[:size], n_components), free[size:]
        if scale is None:
            scale = jnp.broadcast_to(jnp.exp(free), (n_components,))
        return LinearRegressionParams(coefficients, scale)

    def to_user(self, params: LinearRegressionParams, prepared: LinearRegressionData) -> LinearRegressionParams:
        """Coefficients and scales in the units of the user's y and x."""
        coefficients = prepared.design.coefficients_to_user(params.coefficients)
        return LinearRegressionParams(coefficients, params.scale * prepared.y_unit)

    def from_user(self, params: LinearRegressionParams, prepared: LinearRegressionData) -> LinearRegressionParams:
        """The inverse of `to_user`."""
        coefficients = self._columns(prepared).equal(prepared.design.coefficients_from_user(params.coefficients))
        return LinearRegressionParams(coefficients, params.scale / prepared.y_unit)

    def sample(self, key: Array, params: LinearRegressionParams, data: Data, labels: Array) -> Array:
        """y (n,) given the component of each row."""
        mean = design.predictor(params.coefficients, data, labels, self.intercept)
        return mean + params.scale[labels] * jax.random.normal(key, labels.shape, params.scale.dtype)


def _with_fixed(params: LinearRegressionParams, fixed: Any) -> LinearRegressionParams:
    if fixed is None:
        return params
    return LinearRegressionParams(*(p if f is None else f for p, f in zip(params, fixed, strict=True)))

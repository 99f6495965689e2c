"""Gaussian linear regression in each component: y ~ N(x' beta_k, sigma_k^2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from emjax.base.registry import register
from emjax.base import numerics
from emjax.base.records import Array, Data
from emjax.base.settings import Degeneracy
from emjax.base.status import DataError, Flag, Problem

RIDGE = 4.0  # times eps times the diagonal of X'RX: damps the step of a singular component, moves no fixed point
COLLINEAR = 1e3  # times eps: a covariate whose unexplained share of variance is below this is collinear
HIGHEST = jax.lax.Precision.HIGHEST


@register
class LinearRegressionParams(NamedTuple):
    """coefficients (K, p), the intercept first; scale (K,), standard deviations, equal where the scale is common."""

    coefficients: Array
    scale: Array


class LinearRegressionStatistics(NamedTuple):
    """Weighted by responsibility, with residuals e at the current parameters: counts (K,), X'X packed, X'e, e'e."""

    total: Array
    xx: Array
    xe: Array
    ee: Array


@register
class NormalInverseGamma(NamedTuple):
    """Conjugate prior, a density in (beta, sigma^2): sigma^2 ~ IG(shape, scale), beta ~ N(mean, sigma^2 strength^-1).

    mean (p,) and strength (a number or (p, p)) are in the user's units, scale in those of y^2. A field left at None is
    set from the data: mean the coefficients of a flat line at the mean of y, strength 0.01 per standardised
    covariate, scale 0.5 var(y) / K^2 (the regression form of Fraley & Raftery 2007, Journal of Classification 24).
    """

    mean: Array | None = None
    strength: Array | float | None = None
    shape: Array | float = 1.5
    scale: Array | float | None = None


class LinearRegressionData(NamedTuple):
    """Prepared: centred and scaled, rows last."""

    y: Array  # (n,)
    x: Array  # (p, n), the row of ones first
    xx: Array  # (p (p + 1) / 2, n), products of the rows of x
    log_unit: Array  # () log of the response's unit: the Jacobian
    y_unit: Array  # ()
    to_user: Array  # (p, p) user coefficients = to_user @ prepared + shift
    to_prepared: Array  # (p, p)
    shift: Array  # (p,)
    pooled_scale: Array  # () residual standard deviation of one regression, prepared units
    prior: Any  # NormalInverseGamma in prepared units, or None
    fixed: Any  # LinearRegressionParams in prepared units with None where free, or None


@register
@dataclass(frozen=True)
class LinearRegression:
    """Family of Gaussian linear regressions.

    intercept : put a column of ones first. scale : "component" or "common".
    Data: y (n,), x (n, p) or None for the intercept alone, optional offset (n,).
    The likelihood is maximised exactly: scale divides by the component's rows, not by rows less coefficients.
    """

    intercept: bool = True
    scale: Literal["component", "common"] = "component"
    blocks = LinearRegressionParams

    def __post_init__(self) -> None:
        if self.scale not in ("component", "common"):
            raise DataError(f"LinearRegression(scale={self.scale!r}): use 'component' or 'common'.")

    @property
    def common(self) -> bool:
        """One scale for all components."""
        return self.scale == "common"

    def check(self, data: Data) -> None:
        """y must be one column; without an intercept there must be covariates."""
        if np.ndim(data.y) != 1:
            raise DataError(f"LinearRegression needs y of shape (n,), not {np.shape(data.y)}: give one response.")
        if not self.intercept and (data.x is None or np.shape(data.x)[-1] == 0):
            raise DataError("LinearRegression(intercept=False) needs covariates: give Data(x=...) or an intercept.")

    # --- once per dataset -------------------------------------------------------------------------------------------

    def prepare(self, data: Data, n_components: int, prior: Any, fixed: Any) -> tuple[LinearRegressionData, Array]:
        """Centre (with an intercept) and scale; collinearity and the pooled scale come from one regression."""
        y, x, weight, problem = _clean(data)
        total = jnp.maximum(jnp.sum(weight), jnp.finfo(y.dtype).tiny)
        y_mean, x_mean = jnp.zeros((), y.dtype), jnp.zeros(x.shape[0], y.dtype)
        if self.intercept:
            y_mean, x_mean = jnp.sum(weight * y) / total, (x @ weight) / total
        y, x = y - y_mean, x - x_mean[:, None]
        y_unit, constant_y = _unit(jnp.sum(weight * y**2) / total, y_mean)
        x_unit, constant_x = _unit((x**2 @ weight) / total, x_mean)
        y, x = y / y_unit, x / x_unit[:, None]
        if self.intercept:
            x = jnp.concatenate([jnp.ones((1, y.shape[0]), y.dtype), x])
        collinear, pooled = _one_regression(y, x, weight, total)
        problem |= jnp.where(constant_y, Problem.CONSTANT_RESPONSE, 0)
        problem |= jnp.where(jnp.any(constant_x), Problem.CONSTANT_COVARIATE, 0)
        problem |= jnp.where(collinear & ~jnp.any(constant_x), Problem.COLLINEAR, 0)
        to_user, to_prepared, shift = self._units(y_mean, y_unit, x_mean, x_unit)
        prepared = LinearRegressionData(
            y, x, _products(x), jnp.log(y_unit), y_unit, to_user, to_prepared, shift, pooled, None, None
        )
        if prior is not None:
            prepared = prepared._replace(prior=self._prepare_prior(prior, prepared, n_components))
        if fixed is not None:
            prepared = prepared._replace(fixed=self._prepare_fixed(fixed, prepared))
        return prepared, jnp.int32(problem)

    def _units(self, y_mean: Array, y_unit: Array, x_mean: Array, x_unit: Array) -> tuple[Array, Array, Array]:
        """Affine map between user's and prepared coefficients."""
        slopes, units = jnp.diag(y_unit / x_unit), jnp.diag(x_unit / y_unit)
        if not self.intercept:
            return slopes, units, jnp.zeros_like(x_mean)
        first = jnp.eye(1, x_mean.shape[0] + 1, dtype=x_mean.dtype)[0]
        column = jnp.zeros((x_mean.shape[0], 1), x_mean.dtype)
        to_user = jnp.concatenate(
            [
                jnp.concatenate([y_unit[None], -y_unit * x_mean / x_unit])[None, :],
                jnp.concatenate([column, slopes], axis=1),
            ]
        )
        to_prepared = jnp.concatenate(
            [jnp.concatenate([1.0 / y_unit[None], x_mean / y_unit])[None, :], jnp.concatenate([column, units], axis=1)]
        )
        return to_user, to_prepared, first * y_mean

    def _prepare_prior(self, prior: NormalInverseGamma, prepared: LinearRegressionData, n_components: int) -> Any:
        dtype, p = prepared.y.dtype, prepared.x.shape[0]
        identity = jnp.eye(p, dtype=dtype)
        mean = jnp.zeros(p, dtype)
        if prior.mean is not None:
            mean = prepared.to_prepared @ (jnp.asarray(prior.mean, dtype) - prepared.shift)
        strength = 0.01 * identity
        if prior.strength is not None:
            given = jnp.asarray(prior.strength, dtype)
            given = given * identity if given.ndim == 0 else given
            strength = prepared.to_user.T @ given @ prepared.to_user / prepared.y_unit**2
        scale = jnp.asarray(0.5 / n_components**2, dtype)
        if prior.scale is not None:
            scale = jnp.asarray(prior.scale, dtype) / prepared.y_unit**2
        return NormalInverseGamma(mean, strength, jnp.asarray(prior.shape, dtype), scale)

    def _prepare_fixed(self, fixed: LinearRegressionParams, prepared: LinearRegressionData) -> Any:
        dtype = prepared.y.dtype
        coefficients, scale = fixed
        if coefficients is not None:
            coefficients = (jnp.asarray(coefficients, dtype) - prepared.shift[None, :]) @ prepared.to_prepared.T
        if scale is not None:
            scale = jnp.asarray(scale, dtype) / prepared.y_unit
        return LinearRegressionParams(coefficients, scale)

    # --- the EM step ------------------------------------------------------------------------------------------------

    def _residuals(self, params: LinearRegressionParams, prepared: LinearRegressionData) -> Array:
        fitted = jnp.matmul(params.coefficients, prepared.x, precision=HIGHEST)
        return prepared.y[None, :] - fitted

    def log_prob(self, params: LinearRegressionParams, prepared: LinearRegressionData) -> Array:
        """(K, n), nats."""
        residuals = self._residuals(params, prepared)
        constant = -jnp.log(params.scale) - 0.5 * numerics.LOG_2PI - prepared.log_unit
        return constant[:, None] - (0.5 / params.scale**2)[:, None] * residuals**2

    def statistics(
        self, params: LinearRegressionParams, prepared: LinearRegressionData, resp: Array
    ) -> LinearRegressionStatistics:
        """In residual form: raw moments lose sigma to cancellation (DESIGN 4)."""
        weighted = resp * self._residuals(params, prepared)
        return LinearRegressionStatistics(
            total=jnp.sum(resp, axis=1),
            xx=jnp.matmul(resp, prepared.xx.T, precision=HIGHEST),
            xe=jnp.matmul(weighted, prepared.x.T, precision=HIGHEST),
            ee=jnp.sum(weighted * self._residuals(params, prepared), axis=1),
        )

    def maximize(
        self, statistics: LinearRegressionStatistics, params: LinearRegressionParams, prepared: LinearRegressionData
    ) -> LinearRegressionParams:
        """Weighted least squares as a correction of the current coefficients."""
        p = prepared.x.shape[0]
        tiny = jnp.finfo(prepared.y.dtype).tiny
        xx = numerics.unpack_symmetric(statistics.xx, p)
        xe, ee, total = statistics.xe, statistics.ee, statistics.total
        extra_rows, extra_scale = 0.0, jnp.zeros((), prepared.y.dtype)
        prior, fixed = prepared.prior, prepared.fixed
        if prior is not None:
            away = prior.mean[None, :] - params.coefficients
            pull = away @ prior.strength
            xx, xe, ee = xx + prior.strength[None, :, :], xe + pull, ee + jnp.sum(pull * away, axis=1)
            total = total + p
            extra_rows, extra_scale = 2.0 * prior.shape + 2.0, 2.0 * prior.scale
        step = jnp.zeros_like(xe)
        if fixed is None or fixed.coefficients is None:
            step = numerics.solve_positive(_ridged(xx), xe)
        curvature = jnp.sum(step * numerics.apply(xx, step), axis=1)
        squares = ee - 2.0 * jnp.sum(step * xe, axis=1) + curvature
        squares = jnp.maximum(squares, jnp.finfo(prepared.y.dtype).eps ** 2 * ee)
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
        xx = numerics.unpack_symmetric(jnp.matmul(resp, prepared.xx.T, precision=HIGHEST), prepared.x.shape[0])
        xy = jnp.matmul(resp * prepared.y[None, :], prepared.x.T, precision=HIGHEST)
        params = LinearRegressionParams(numerics.solve_positive(_ridged(xx), xy), jnp.ones(resp.shape[0], resp.dtype))
        squares = jnp.sum(spread * self._residuals(params, prepared) ** 2) / jnp.maximum(jnp.sum(spread), eps)
        params = params._replace(scale=jnp.sqrt(jnp.maximum(squares, eps)) * params.scale)
        return _with_fixed(params, prepared.fixed)

    def elemental(self, prepared: LinearRegressionData) -> int:
        """One row more than coefficients."""
        return prepared.x.shape[0] + 1

    # --- what the engine watches ------------------------------------------------------------------------------------

    def log_prior(self, params: LinearRegressionParams, prepared: LinearRegressionData) -> Array:
        """Density in (beta, sigma^2), user's units; one variance only where the scale is common."""
        prior = prepared.prior
        if prior is None:
            return jnp.zeros((), prepared.y.dtype)
        p = prepared.x.shape[0]
        variance = params.scale**2
        log_variance = jnp.log(variance) + 2.0 * prepared.log_unit
        away = params.coefficients - prior.mean[None, :]
        quadratic = jnp.sum((away @ prior.strength) * away, axis=1) / variance
        # In user's units the strength is A^-T L A^-1 y_unit^2 (A = to_user): its determinant moves with the units.
        log_strength = numerics.log_determinant(numerics.cholesky(prior.strength)) + 2.0 * p * prepared.log_unit
        log_strength -= 2.0 * jnp.sum(jnp.log(jnp.diagonal(prepared.to_user)))
        normal = 0.5 * (log_strength - p * (numerics.LOG_2PI + log_variance) - quadratic)
        log_scale = jnp.log(prior.scale) + 2.0 * prepared.log_unit
        gamma = prior.shape * log_scale - jax.lax.lgamma(prior.shape)
        gamma = gamma - (prior.shape + 1.0) * log_variance - prior.scale / variance
        return jnp.sum(normal) + (gamma[0] if self.common else jnp.sum(gamma))

    def flags(
        self,
        params: LinearRegressionParams,
        statistics: LinearRegressionStatistics,
        prepared: LinearRegressionData,
        degeneracy: Degeneracy,
    ) -> Array:
        """DEGENERATE and SUSPECT by the named settings; no rule for one component or one common scale."""
        p, n_components = params.coefficients.shape[1], params.scale.shape[0]
        min_rows = p + 1.0 if degeneracy.min_rows is None else degeneracy.min_rows
        few = jnp.min(statistics.total) < degeneracy.suspect_rows * (p + 1.0)
        suspect = few if n_components > 1 else jnp.zeros((), bool)
        collapsed = jnp.zeros((), bool)
        if n_components > 1 and (not self.common or degeneracy.relative_to == "data"):
            components = degeneracy.relative_to == "components"
            largest = jnp.max(params.scale) if components else prepared.pooled_scale
            ratio = jnp.min(params.scale) / largest
            collapsed = (ratio < degeneracy.min_scale_ratio) | (jnp.min(statistics.total) < min_rows)
            suspect |= ratio < degeneracy.suspect_scale_ratio if components else False
        return jnp.where(collapsed, Flag.DEGENERATE, 0) | jnp.where(suspect, Flag.SUSPECT, 0)

    def relabel(self, params: LinearRegressionParams, permutation: Array) -> LinearRegressionParams:
        """Component k of the result is component permutation[k] of `params`."""
        return LinearRegressionParams(params.coefficients[permutation], params.scale[permutation])

    # --- coordinates and units --------------------------------------------------------------------------------------

    def component_of_free(self, prepared: LinearRegressionData, n_components: int) -> tuple[int, ...]:
        """Coefficients component by component, then log scales."""
        owners: list[int] = []
        fixed = prepared.fixed or LinearRegressionParams(None, None)  # type: ignore[arg-type]
        if fixed.coefficients is None:
            owners += [k for k in range(n_components) for _ in range(prepared.x.shape[0])]
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
            parts.append(params.coefficients.reshape(-1))
        if fixed.scale is None:
            parts.append(jnp.log(params.scale[:1] if self.common else params.scale))
        return jnp.concatenate(parts)

    def from_free(self, free: Array, prepared: LinearRegressionData, n_components: int) -> LinearRegressionParams:
        """The inverse of `to_free`."""
        fixed = prepared.fixed or LinearRegressionParams(None, None)  # type: ignore[arg-type]
        p = prepared.x.shape[0]
        coefficients, scale = fixed.coefficients, fixed.scale
        if coefficients is None:
            coefficients, free = free[: n_components * p].reshape(n_components, p), free[n_components * p :]
        if scale is None:
            scale = jnp.broadcast_to(jnp.exp(free), (n_components,))
        return LinearRegressionParams(coefficients, scale)

    def to_user(self, params: LinearRegressionParams, prepared: LinearRegressionData) -> LinearRegressionParams:
        """Coefficients and scales in the units of the user's y and x."""
        coefficients = jnp.matmul(params.coefficients, prepared.to_user.T, precision=HIGHEST)
        return LinearRegressionParams(coefficients + prepared.shift[None, :], params.scale * prepared.y_unit)

    def from_user(self, params: LinearRegressionParams, prepared: LinearRegressionData) -> LinearRegressionParams:
        """The inverse of `to_user`."""
        away = params.coefficients - prepared.shift[None, :]
        coefficients = jnp.matmul(away, prepared.to_prepared.T, precision=HIGHEST)
        return LinearRegressionParams(coefficients, params.scale / prepared.y_unit)

    def sample(self, key: Array, params: LinearRegressionParams, data: Data, labels: Array) -> Array:
        """y (n,) given the component of each row."""
        dtype = params.scale.dtype
        n = labels.shape[0]
        x = jnp.zeros((n, 0), dtype) if data.x is None else jnp.asarray(data.x, dtype)
        if self.intercept:
            x = jnp.concatenate([jnp.ones((n, 1), dtype), x], axis=1)
        mean = jnp.sum(x * params.coefficients[labels], axis=1)
        if data.offset is not None:
            mean = mean + jnp.asarray(data.offset, dtype)
        return mean + params.scale[labels] * jax.random.normal(key, (n,), dtype)


def _clean(data: Data) -> tuple[Array, Array, Array, Array]:
    """Response less offset, covariates with rows last, row weights; what is not finite becomes 0 and a problem bit."""
    weight = jnp.asarray(data.weight, data.y.dtype)
    used = weight > 0
    y = data.y if data.offset is None else data.y - data.offset
    x = jnp.zeros((0, y.shape[0]), y.dtype) if data.x is None else data.x.T
    bad_y = ~jnp.isfinite(y)
    bad_x = ~jnp.isfinite(x)
    problem = jnp.where(jnp.any(bad_y & used), Problem.RESPONSE_NOT_FINITE, 0)
    problem |= jnp.where(jnp.any(bad_x & used[None, :]), Problem.COVARIATE_NOT_FINITE, 0)
    y = jnp.where(bad_y | ~used, 0.0, y)
    x = jnp.where(bad_x | ~used[None, :], 0.0, x)
    return y, x, weight, problem


def _unit(mean_square: Array, mean: Array) -> tuple[Array, Array]:
    """Standard deviation, or 1 where it is nothing but rounding (then also True)."""
    eps = jnp.finfo(mean_square.dtype).eps
    constant = mean_square <= (16.0 * eps * mean) ** 2
    return jnp.where(constant, 1.0, jnp.sqrt(mean_square)), constant


def _products(x: Array) -> Array:
    pairs = numerics.packed_indices(x.shape[0])
    return jnp.stack([x[i] * x[j] for i, j in pairs])


def _ridged(xx: Array) -> Array:
    eps = jnp.finfo(xx.dtype).eps
    diagonal = jnp.diagonal(xx, axis1=-2, axis2=-1)
    lift = RIDGE * eps * diagonal + jnp.finfo(xx.dtype).tiny / eps
    return xx + lift[..., None] * jnp.eye(xx.shape[-1], dtype=xx.dtype)


def _one_regression(y: Array, x: Array, weight: Array, total: Array) -> tuple[Array, Array]:
    """Whether the columns are collinear, and the residual standard deviation of a single regression."""
    xx = jnp.matmul(x * weight[None, :], x.T, precision=HIGHEST) / total
    xy = jnp.matmul(x, weight * y, precision=HIGHEST) / total
    factor = numerics.cholesky(xx)
    pivots = jnp.diagonal(factor) ** 2
    collinear = jnp.any(pivots < COLLINEAR * jnp.finfo(y.dtype).eps * jnp.diagonal(xx))
    residuals = y - numerics.solve_positive(_ridged(xx), xy) @ x
    return collinear, jnp.sqrt(jnp.sum(weight * residuals**2) / total)


def _with_fixed(params: LinearRegressionParams, fixed: Any) -> LinearRegressionParams:
    if fixed is None:
        return params
    return LinearRegressionParams(*(p if f is None else f for p, f in zip(params, fixed, strict=True)))

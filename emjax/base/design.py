"""Design matrices: cleaned, centred and scaled once per dataset, with what is wrong with them."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from emjax.base import numerics
from emjax.base.coefficients import Columns
from emjax.base.records import Array, Data
from emjax.base.settings import Degeneracy
from emjax.base.status import Flag, Problem

HIGHEST = jax.lax.Precision.HIGHEST
RIDGE = 4.0  # times eps times the diagonal of X'RX: damps the step of a singular component, moves no fixed point
COLLINEAR = 1e3  # times eps: a column whose unexplained share of variance is below this is collinear
EDGE = 1e-4  # nats a squared prepared unit: less curvature than this holds no coefficient
ROUNDING = 16.0  # times eps times the mean: a standard deviation below this is a constant column's rounding


class Design(NamedTuple):
    """Covariates in prepared units, rows last, and the affine map between user's and prepared coefficients.

    For a response in units of `y_unit` about `y_mean`: user's coefficients = to_user @ prepared ones + shift.
    """

    x: Array  # (p, n), the row of ones first where there is an intercept
    to_user: Array  # (p, p)
    to_prepared: Array  # (p, p)
    shift: Array  # (p,)

    def coefficients_to_user(self, coefficients: Array) -> Array:
        """Prepared coefficients (K, p) in the units of the user's y and x."""
        return jnp.matmul(coefficients, self.to_user.T, precision=HIGHEST) + self.shift[None, :]

    def coefficients_from_user(self, coefficients: Array) -> Array:
        """The inverse of `coefficients_to_user`."""
        return jnp.matmul(coefficients - self.shift[None, :], self.to_prepared.T, precision=HIGHEST)


class Regression(NamedTuple):
    """A response and its design, centred and scaled, rows last."""

    y: Array  # (n,)
    design: Design
    y_unit: Array  # () user's units of one prepared unit
    pooled_scale: Array  # () residual standard deviation of one regression, prepared units


def regression(data: Data, intercept: bool, shared: Any = None) -> tuple[Regression, Array]:
    """Centred (with an intercept) and scaled; the pooled scale comes from one regression. Also `Problem` bits.

    shared : as `Columns.of` takes it: what components share decides which covariates may be centred.
    """
    y, x, weight, problem = clean(data)
    total = total_weight(weight)
    size = magnitude(y)
    y = y / size
    y_mean = jnp.sum(weight * y) / total if intercept else jnp.zeros((), y.dtype)
    y = y - y_mean
    y_unit, constant = unit_of(jnp.sum(weight * y**2) / total, y_mean)
    y = y / y_unit
    y_mean, y_unit = y_mean * size, y_unit * size
    centred = Columns.of(shared, intercept, x.shape[0] + int(intercept)).centred(intercept)
    columns, found = prepare(x, weight, intercept, y_mean, y_unit, centred)
    problem |= found | jnp.where(constant, Problem.CONSTANT_RESPONSE, 0)
    residuals = y - numerics.linear(least_squares(columns, y, weight[None, :]), columns.x)[0]
    pooled = jnp.sqrt(jnp.sum(weight * residuals**2) / total)
    return Regression(y, columns, y_unit, pooled), problem


def clean(data: Data) -> tuple[Array, Array, Array, Array]:
    """Response less offset, covariates with rows last, row weights; what is not finite becomes 0 and a problem bit."""
    weight = jnp.asarray(data.weight, data.y.dtype)
    used = weight > 0
    y = data.y if data.offset is None else data.y - data.offset
    bad = ~jnp.isfinite(y)
    problem = jnp.where(jnp.any(bad & used), Problem.RESPONSE_NOT_FINITE, 0)
    x, found = covariates(data, used)
    return jnp.where(bad | ~used, 0.0, y), x, weight, problem | found


def covariates(data: Data, used: Array) -> tuple[Array, Array]:
    """Covariates with rows last, (p, n), 0 where they are not finite or the row does not count, and `Problem` bits."""
    return finite(jnp.zeros((0, data.y.shape[0]), data.y.dtype) if data.x is None else data.x.T, used)


def finite(x: Array, used: Array) -> tuple[Array, Array]:
    """Columns (p, n), 0 where they are not finite or the row is not `used` (n,), and `Problem` bits."""
    bad = ~jnp.isfinite(x)
    problem = jnp.where(jnp.any(bad & used[None, :]), Problem.COVARIATE_NOT_FINITE, 0)
    return jnp.where(bad | ~used[None, :], 0.0, x), problem


def total_weight(weight: Array) -> Array:
    """Sum of the weights, kept off zero."""
    return jnp.maximum(jnp.sum(weight), jnp.finfo(weight.dtype).tiny)


def magnitude(values: Array) -> Array:
    """Largest absolute value along the last axis, or 1: divided by it first, squares neither overflow nor vanish."""
    largest = jnp.max(jnp.abs(values), axis=-1, initial=0.0)
    info = jnp.finfo(values.dtype)  # clipped so that its reciprocal is an ordinary number too
    return jnp.where(largest > 0, jnp.clip(largest, info.tiny * 1e8, info.max * 1e-8), 1.0)


def rounding(dtype: Any) -> float:
    """A scale below this share of the values' own is nothing but rounding."""
    return ROUNDING * float(jnp.finfo(dtype).eps)


def unit_of(mean_square: Array, mean: Array) -> tuple[Array, Array]:
    """Standard deviation, or 1 where it is nothing but rounding (then also True)."""
    constant = mean_square <= (rounding(mean_square.dtype) * mean) ** 2
    return jnp.where(constant, 1.0, jnp.sqrt(mean_square)), constant


def prepare(
    x: Array, weight: Array, intercept: bool, y_mean: Array, y_unit: Array, centred: tuple[bool, ...] | None = None
) -> tuple[Design, Array]:
    """The design of covariates (p, n) and `Problem` bits: constant or collinear columns.

    centred : which of them, where there is an intercept; None for all. Rows of weight 0 become rows of 0.
    """
    total = total_weight(weight)
    size = magnitude(x)
    x = x / size[:, None]
    x_mean = jnp.sum(x * weight[None, :], axis=1) / total if intercept else jnp.zeros(x.shape[0], x.dtype)
    x = jnp.where((weight > 0)[None, :], x - x_mean[:, None], 0.0)
    x_unit, constant = unit_of(jnp.sum(x**2 * weight[None, :], axis=1) / total, x_mean)
    x = x / x_unit[:, None]
    kept = jnp.zeros_like(x_mean) if centred is None else jnp.where(jnp.array(centred, bool), 0.0, x_mean / x_unit)
    x_mean, x_unit = (x_mean - kept * x_unit) * size, x_unit * size
    if intercept:
        x = jnp.concatenate([jnp.ones((1, x.shape[1]), x.dtype), x])
    to_user, to_prepared, shift = _maps(intercept, y_mean, y_unit, x_mean, x_unit)
    xx = numerics.weighted_products(weight[None, :], weight[None, :], x)[0][0] / total
    pivots = jnp.diagonal(numerics.cholesky(xx)) ** 2
    collinear = jnp.any(pivots < COLLINEAR * jnp.finfo(x.dtype).eps * jnp.diagonal(xx)) & ~jnp.any(constant)
    problem = jnp.where(jnp.any(constant), Problem.CONSTANT_COVARIATE, 0)
    problem |= jnp.where(collinear, Problem.COLLINEAR, 0)
    if centred is not None:
        x = x.at[1:].add(jnp.where((weight > 0)[None, :], kept[:, None], 0.0))
    return Design(x, to_user, to_prepared, shift), problem


def _maps(intercept: bool, y_mean: Array, y_unit: Array, x_mean: Array, x_unit: Array) -> tuple[Array, Array, Array]:
    """The affine map between user's and prepared coefficients, both ways."""
    slopes, units = jnp.diag(y_unit / x_unit), jnp.diag(x_unit / y_unit)
    if not intercept:
        return slopes, units, jnp.zeros_like(x_mean)
    column = jnp.zeros((x_mean.shape[0], 1), x_mean.dtype)

    def bordered(corner: Array, row: Array, block: Array) -> Array:
        first = jnp.concatenate([corner[None], row])[None, :]
        return jnp.concatenate([first, jnp.concatenate([column, block], axis=1)])

    to_user = bordered(y_unit, -y_unit * x_mean / x_unit, slopes)
    to_prepared = bordered(1.0 / y_unit, x_mean / y_unit, units)
    return to_user, to_prepared, jnp.concatenate([y_mean[None], jnp.zeros_like(x_mean)])


def ridged(xx: Array) -> Array:
    """Information matrices (..., p, p) kept off singularity."""
    info = jnp.finfo(xx.dtype)
    lifted = xx + jnp.where(xx > 0, RIDGE * info.eps * xx, info.tiny)
    return jnp.where(jnp.broadcast_to(jnp.eye(xx.shape[-1], dtype=bool), xx.shape), lifted, xx)


def unheld(information: Array) -> Array:
    """Whether the information (K, p, p) holds some direction of the coefficients not at all, (): they are on their way
    to infinity, as where a covariate separates the responses or all counts are 0."""
    pivots = jnp.diagonal(numerics.cholesky(ridged(information)), axis1=-2, axis2=-1) ** 2
    return jnp.min(pivots) < EDGE


def least_squares(design: Design, y: Array, weight: Array, columns: Columns | None = None) -> Array:
    """Coefficients (K, p) of weighted regressions of y (n,) with row weights (K, n); `columns`, if some are shared."""
    xx, xy = numerics.weighted_products(weight, weight * y[None, :], design.x)
    return (columns or Columns(())).solve(ridged(xx), xy)


def collapse(scale: Array, total: Array, size: int, pooled_scale: Array, common: bool, degeneracy: Degeneracy) -> Array:
    """DEGENERATE and SUSPECT by the named settings, of which none is for one common scale, or one component by itself;
    a scale of nothing but rounding, beside the response's own of 1, is DEGENERATE whatever they are.

    scale and total (K,) : residual scales and rows of the components. size : parameters of one, its scale included.
    """
    n_components = scale.shape[0]
    min_rows = float(size) if degeneracy.min_rows is None else degeneracy.min_rows
    few = jnp.min(total) < degeneracy.suspect_rows * size
    compared = n_components > 1 or degeneracy.relative_to == "data"
    suspect = few if compared else jnp.zeros((), bool)
    vanished = jnp.min(scale) < rounding(scale.dtype)
    collapsed = jnp.zeros((), bool)
    if compared and (not common or degeneracy.relative_to == "data"):
        components = degeneracy.relative_to == "components"
        largest = jnp.max(scale) if components else pooled_scale
        ratio = jnp.min(scale) / largest
        collapsed = (ratio < degeneracy.min_scale_ratio) | (jnp.min(total) < min_rows)
        suspect |= ratio < degeneracy.suspect_scale_ratio if components else False
    return jnp.where(collapsed | vanished, Flag.DEGENERATE, 0) | jnp.where(suspect, Flag.SUSPECT, 0)


def predictor(coefficients: Array, data: Data, labels: Array, intercept: bool) -> Array:
    """User's linear predictors (n,), offset included, of user's coefficients (K, p) given the component of each row."""
    dtype, n = coefficients.dtype, labels.shape[0]
    x = jnp.zeros((n, 0), dtype) if data.x is None else jnp.asarray(data.x, dtype)
    if intercept:
        x = jnp.concatenate([jnp.ones((n, 1), dtype), x], axis=1)
    mean = jnp.sum(x * coefficients[labels], axis=1)
    return mean if data.offset is None else mean + jnp.asarray(data.offset, dtype)

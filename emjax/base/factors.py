"""Covariances loadings loadings' + diag(uniquenesses): their density, what maximises it, and where to start.

Loadings are (..., p, q), uniquenesses (..., p), scatter matrices (..., p, p); leading axes are components. Systems of
equations are q x q (Woodbury).
"""

from __future__ import annotations

import numbers
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from emjax.base import design, numerics, rotations
from emjax.base.numerics import multiply
from emjax.base.records import Array
from emjax.base.status import DataError

NEWTON_STEPS = 4  # for the multiplier of a uniqueness at its floor, from that of the sweep before
NEGATIVE_PENALTY = 0.98  # of the smallest eigenvalue, which is known to within 1 %
POWER_STEPS = 30  # of orthogonal iteration in a start
AT_FLOOR = 1e-6  # relative: a uniqueness this close to its floor is at it
SMALL_PRODUCT = 64  # up to so many entries loadings meet rows entry by entry, not by a small matrix product a lane


class Inverse(NamedTuple):
    """What is needed of the inverse of a covariance.

    scores (..., q, p) : regression of the factors on a centred observation. root (..., q, q) : lower Cholesky factor of
    the factors' posterior precision I + loadings' diag(uniquenesses)^-1 loadings, and its inverse. log_det (...,).
    """

    scores: Array
    root: Array
    inverse_root: Array
    log_det: Array


def check_settings(name: str, n_factors: Any, min_uniqueness: Any) -> None:
    """On the host: `DataError` where the settings are impossible."""
    if isinstance(n_factors, bool) or not isinstance(n_factors, (int, np.integer)) or n_factors < 1:
        raise DataError(f"{name}(n_factors={n_factors!r}): give a whole number, 1 or larger.")
    number = isinstance(min_uniqueness, numbers.Real) and not isinstance(min_uniqueness, bool)
    if not number or not 0 < float(min_uniqueness) < 1:
        raise DataError(f"{name}(min_uniqueness={min_uniqueness!r}): give a share of a variance, between 0 and 1.")


def check_params(params: Any, place: str = "") -> None:
    """On the host: locations or loadings that are not finite, uniquenesses that are not positive raise `DataError`."""
    *others, uniquenesses = (None if block is None else np.asarray(block, np.float64) for block in params)
    if any(block is not None and not np.all(np.isfinite(block)) for block in others):
        raise DataError(f"{place}means and loadings must be finite.")
    if uniquenesses is not None and not np.all(np.isfinite(uniquenesses) & (uniquenesses > 0)):
        raise DataError(f"{place}uniquenesses must be finite and positive.")


def check_identified(p: int, n_factors: int, isotropic: bool) -> None:
    """On the host: `DataError` where a covariance matrix of p variables does not identify so many factors."""
    degrees = p - n_factors - 1 if isotropic else ((p - n_factors) ** 2 - p - n_factors) / 2
    if p > n_factors and degrees >= 0:
        return
    left = f" ({degrees:g} degrees of freedom are left)" if degrees < 0 else ""
    raise DataError(f"{n_factors} factors of {p} variables are not identified{left}: use fewer factors.")


# --- density --------------------------------------------------------------------------------------------------------


def swap(a: Array) -> Array:
    """Transposed matrices."""
    return jnp.swapaxes(a, -1, -2)


def inverse(loadings: Array, uniquenesses: Array) -> Inverse:
    """By Woodbury's identity."""
    weighted = loadings / uniquenesses[..., None]
    root = numerics.cholesky(_plus_identity(multiply(swap(weighted), loadings)))
    lower = numerics.inverse_lower(root)
    scores = multiply(swap(lower), multiply(lower, swap(weighted)))
    log_det = jnp.sum(jnp.log(uniquenesses), axis=-1) + numerics.log_determinant(root)
    return Inverse(scores, root, lower, log_det)


def _plus_identity(a: Array) -> Array:
    return a + jnp.broadcast_to(jnp.eye(a.shape[-1], dtype=a.dtype), a.shape)


def residual_map(loadings: Array, scores: Array) -> Array:
    """(..., p, p), what takes an observation to its residual from the factors' scores."""
    fitted = multiply(loadings, scores)
    return jnp.broadcast_to(jnp.eye(fitted.shape[-1], dtype=fitted.dtype), fitted.shape) - fitted


def mean_log_density(scatter: Array, loadings: Array, uniquenesses: Array) -> Array:
    """Mean log density (...,), nats, of centred observations whose second moments are `scatter`.

    tr(Sigma^-1 S) as weighted squares of residuals and of scores: nothing cancels where a uniqueness is tiny.
    """
    found = inverse(loadings, uniquenesses)
    residual = residual_map(loadings, found.scores)
    squares = jnp.sum(multiply(residual, scatter) * residual, axis=-1) / uniquenesses
    scores = jnp.sum(multiply(found.scores, scatter) * found.scores, axis=(-2, -1))
    constant = scatter.shape[-1] * numerics.LOG_2PI
    return -0.5 * (constant + found.log_det + jnp.sum(squares, axis=-1) + scores)


def row_log_density(away: Array, loadings: Array, uniquenesses: Array) -> Array:
    """Log densities (K, n), nats, of centred rows `away` (K, p, n); as `mean_log_density`."""
    found = inverse(loadings, uniquenesses)
    scores = _apply_rows(found.scores, away)
    residual = away - _apply_rows(loadings, scores)
    scaled = residual * (1.0 / jnp.sqrt(uniquenesses))[:, :, None]
    squares = jnp.sum(scaled**2, axis=1) + jnp.sum(scores**2, axis=1)
    constant = away.shape[1] * numerics.LOG_2PI + found.log_det
    return -0.5 * (constant[:, None] + squares)


def _apply_rows(matrix: Array, rows: Array) -> Array:
    """(K, a, b) times (K, b, n)."""
    if matrix.shape[1] * matrix.shape[2] > SMALL_PRODUCT:
        return multiply(matrix, rows)
    terms = [matrix[:, :, j, None] * rows[:, None, j, :] for j in range(matrix.shape[2])]
    return sum(terms[1:], terms[0])


# --- maximisation ---------------------------------------------------------------------------------------------------


def sweep(scatter: Array, loadings: Array, uniquenesses: Array, floor: Array) -> tuple[Array, Array]:
    """Each variable's loadings and uniqueness in turn, given those of the others, at their conditional maximum.

    Given the other variables x_i is normal about lambda_i' f, f the regression of the factors on them, with variance
    psi_i + lambda_i' C lambda_i, C the factors' posterior covariance: least squares with q coefficients. Where that
    leaves less than `floor` for psi_i, the coefficients are those of a ridge regression by mu C, and mu in (0, 1) is
    the root of a decreasing function. No step lowers the likelihood, and a uniqueness reaches its floor in finitely
    many: EM's (Rubin & Thayer 1982, Psychometrika 47) approaches 0 like 1 / iterations, and with ECME's (Liu & Rubin
    1998, Statistica Sinica 8) the loadings of such a variable stay where they are. Row by row as Harman & Fukuda (1966,
    Psychometrika 31) minimised squared residuals.
    """

    def one(i: Array, state: tuple[Array, Array]) -> tuple[Array, Array]:
        return _maximise_row(i, scatter, *state, floor)

    return jax.lax.fori_loop(0, scatter.shape[-1], one, (loadings, uniquenesses))


def sweep_common(
    scatter: Array, loadings: Array, uniquenesses: Array, total: Array, floor: Array
) -> tuple[Array, Array]:
    """As `sweep` for K components of counts `total` (K,) whose uniquenesses (K, p) are equal.

    Each variable's loadings are maximised given its uniqueness, a ridge regression whose penalty may be negative, and
    then the uniqueness given the loadings.
    """

    def one(i: Array, state: tuple[Array, Array]) -> tuple[Array, Array]:
        loadings, uniquenesses = state
        problem, root, before = _row_problem(i, scatter, loadings, uniquenesses)
        noise = jnp.maximum(jnp.take(uniquenesses, i, axis=-1), floor)
        lower = numerics.inverse_lower(numerics.cholesky(problem.gram))
        lowest = -NEGATIVE_PENALTY / numerics.largest_eigenvalue(multiply(swap(lower), lower))
        row, _, _ = problem.ridge(_penalty(problem, before, noise, lowest))
        better = problem.loss(row, noise) <= problem.loss(before, noise)
        row = jnp.where(better[..., None], row, before)
        left = _common_noise(total, jnp.sum(row**2, axis=-1), problem.unexplained(row), noise, floor)
        return _put_row(i, (loadings, uniquenesses), numerics.apply(root, row), left)

    return jax.lax.fori_loop(0, scatter.shape[-1], one, (loadings, uniquenesses))


class _Row(NamedTuple):
    """Regression of a variable on the whitened factors given the others: moments (..., q, q), (..., q), (...,)."""

    gram: Array
    cross: Array
    variance: Array

    def ridge(self, penalty: Array) -> tuple[Array, Array, Array]:
        """Coefficients, their residual variance, and minus half the derivative of their squared length."""
        eye = jnp.broadcast_to(jnp.eye(self.gram.shape[-1], dtype=self.gram.dtype), self.gram.shape)
        lower = numerics.inverse_lower(numerics.cholesky(self.gram + penalty[..., None, None] * eye))
        row = numerics.apply(swap(lower), numerics.apply(lower, self.cross))
        return row, self.unexplained(row), jnp.sum(numerics.apply(lower, row) ** 2, axis=-1)

    def unexplained(self, row: Array) -> Array:
        """Residual variance."""
        fitted = jnp.sum(row * (2.0 * self.cross - numerics.apply(self.gram, row)), axis=-1)
        return jnp.maximum(self.variance - fitted, 0.0)

    def loss(self, row: Array, uniqueness: Array) -> Array:
        """Minus twice the mean log density, but for a constant."""
        total = uniqueness + jnp.sum(row**2, axis=-1)
        return jnp.log(total) + self.unexplained(row) / total


def _row_problem(i: Array, scatter: Array, loadings: Array, uniquenesses: Array) -> tuple[_Row, Array, Array]:
    """Variable i's regression, the factor (..., q, q) that takes whitened coefficients to loadings, those it has."""
    mine = jnp.broadcast_to(jnp.arange(scatter.shape[-1]) == i, uniquenesses.shape)
    weighted = loadings * jnp.where(mine, 0.0, 1.0 / uniquenesses)[..., None]
    root = numerics.cholesky(_plus_identity(multiply(swap(weighted), loadings)))
    lower = numerics.inverse_lower(root)
    # In coordinates whitened by the factors' posterior covariance given the others, C is the identity.
    white = multiply(weighted, swap(lower))
    along = multiply(scatter, white)
    gram = design.ridged(multiply(swap(white), along))
    variance = jnp.take(jnp.take(scatter, i, axis=-1), i, axis=-1)
    before = numerics.apply(lower, jnp.take(loadings, i, axis=-2))
    return _Row(gram, jnp.take(along, i, axis=-2), variance), root, before


def _put_row(i: Array, state: tuple[Array, Array], row: Array, uniqueness: Array) -> tuple[Array, Array]:
    loadings, uniquenesses = state
    mine = jnp.broadcast_to(jnp.arange(uniquenesses.shape[-1]) == i, uniquenesses.shape)
    loadings = jnp.where(mine[..., None], row[..., None, :], loadings)
    return loadings, jnp.where(mine, uniqueness[..., None], uniquenesses)


def _maximise_row(i: Array, scatter: Array, loadings: Array, uniquenesses: Array, floor: Array) -> tuple[Array, Array]:
    problem, root, before = _row_problem(i, scatter, loadings, uniquenesses)
    old = jnp.maximum(jnp.take(uniquenesses, i, axis=-1), floor)
    row, rest, _ = problem.ridge(_penalty(problem, before, jnp.broadcast_to(floor, old.shape), jnp.zeros_like(old)))
    left = jnp.maximum(rest - jnp.sum(row**2, axis=-1), floor)
    better = problem.loss(row, left) <= problem.loss(before, old)
    row, left = jnp.where(better[..., None], row, before), jnp.where(better, left, old)
    return _put_row(i, (loadings, uniquenesses), numerics.apply(root, row), left)


def _penalty(problem: _Row, before: Array, noise: Array, lowest: Array) -> Array:
    """The ridge penalty, `lowest` or more, whose coefficients maximise the density with uniqueness `noise`.

    It is 1 less the residual variance over the whole, from that of the coefficients `before` on.
    """

    def newton(_: int, penalty: Array) -> Array:
        row, rest, bend = problem.ridge(penalty)
        total = noise + jnp.sum(row**2, axis=-1)
        excess = 1.0 - penalty - rest / total
        slope = -2.0 * bend / total * jnp.maximum(penalty + rest / total, 0.0) - 1.0
        return jnp.clip(penalty - excess / slope, lowest, 1.0)

    first = 1.0 - problem.unexplained(before) / (noise + jnp.sum(before**2, axis=-1))
    return jax.lax.fori_loop(0, NEWTON_STEPS, newton, jnp.clip(first, lowest, 1.0))


def _common_noise(total: Array, squares: Array, rest: Array, noise: Array, floor: Array) -> Array:
    """One uniqueness (K,), all equal, of components with given loadings: Fisher scoring, taken where it gains."""

    def loss(noise: Array) -> Array:
        return jnp.sum(total * (jnp.log(noise + squares) + rest / (noise + squares)))

    def scoring(_: int, noise: Array) -> Array:
        weight = total / (noise + squares) ** 2
        step = jnp.sum(weight * (noise + squares - rest)) / jnp.sum(weight)
        return jnp.maximum(noise - step, floor)

    found = jax.lax.fori_loop(0, NEWTON_STEPS, scoring, noise)
    return jnp.where(loss(found) <= loss(noise), found, noise)


def expectation_step(scatter: Array, loadings: Array, uniquenesses: Array) -> tuple[Array, Array]:
    """Loadings of the next EM step and the mean square (..., p) that they leave of each variable.

    Rubin & Thayer (1982): regression on the factors' posterior moments. The squares are sums of positive terms.
    """
    found = inverse(loadings, uniquenesses)
    cross = multiply(scatter, swap(found.scores))
    covariance = multiply(swap(found.inverse_root), found.inverse_root)
    moments = covariance + multiply(found.scores, cross)
    lower = numerics.inverse_lower(numerics.cholesky(design.ridged(moments)))
    loadings = multiply(multiply(cross, swap(lower)), lower)
    residual = residual_map(loadings, found.scores)
    squares = jnp.sum(multiply(residual, scatter) * residual, axis=-1)
    return loadings, squares + jnp.sum(multiply(loadings, covariance) * loadings, axis=-1)


# --- uniquenesses ---------------------------------------------------------------------------------------------------


def held(uniquenesses: Array, floor: Array) -> Array:
    """Kept at the floor, or a hair below it: there they still have a derivative."""
    return jnp.maximum(uniquenesses, (1.0 - 0.5 * AT_FLOOR) * floor)


def at_floor(uniquenesses: Array, floor: Array) -> Array:
    """Bool: Heywood cases."""
    return uniquenesses <= (1.0 + AT_FLOOR) * floor


# --- starts ---------------------------------------------------------------------------------------------------------


def principal_factors(scatter: Array, uniquenesses: Array, n_factors: int) -> Array:
    """Loadings (p, q) that span the leading eigenvectors of Psi^-1/2 S Psi^-1/2, by orthogonal iteration."""
    deviation = jnp.sqrt(uniquenesses)
    scaled = scatter / (deviation[:, None] * deviation[None, :])

    def orthogonal(columns: Array) -> Array:
        gram = design.ridged(multiply(columns.T, columns))
        return multiply(columns, numerics.inverse_lower(numerics.cholesky(gram)).T)

    def step(_: int, columns: Array) -> Array:
        return orthogonal(multiply(scaled, columns))

    first = _spread_columns(scaled, n_factors)
    basis = jax.lax.fori_loop(0, POWER_STEPS, step, orthogonal(first))
    inner = multiply(basis.T, multiply(scaled, basis))
    return deviation[:, None] * multiply(basis, numerics.cholesky(inner))


def _spread_columns(scaled: Array, n_factors: int) -> Array:
    """The columns of the variables that are farthest from one another, (p, q)."""
    return scaled[:, rotations.anchors(scaled, n_factors).order[:n_factors]]

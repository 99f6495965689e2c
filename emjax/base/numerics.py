"""Small linear algebra and stable sums, written for one lane and unrolled where the sizes are small."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jax.scipy.special import ndtr

UNROLL = 6  # up to this size matrices are factorised elementwise: LAPACK is called matrix by matrix otherwise
PIVOT_FLOOR = 4.0  # times eps times the diagonal: a factor never turns into NaN, a collapse shows as a tiny pivot
LOG_2PI = math.log(2.0 * math.pi)


def packed_indices(size: int) -> tuple[tuple[int, int], ...]:
    """Row and column of each entry of a packed lower triangle, row by row."""
    return tuple((i, j) for i in range(size) for j in range(i + 1))


def unpack_symmetric(packed: jax.Array, size: int) -> jax.Array:
    """Symmetric matrices (..., size, size) from packed lower triangles (..., size (size + 1) / 2)."""
    position = {pair: index for index, pair in enumerate(packed_indices(size))}
    return _rows([[packed[..., position[max(i, j), min(i, j)]] for j in range(size)] for i in range(size)])


def _rows(entries: list[list[jax.Array]]) -> jax.Array:
    return jnp.stack([jnp.stack(row, axis=-1) for row in entries], axis=-2)


def cholesky(a: jax.Array) -> jax.Array:
    """Lower Cholesky factors of symmetric matrices (..., p, p); pivots are floored, so finite in, finite out."""
    size = a.shape[-1]
    floor = PIVOT_FLOOR * jnp.finfo(a.dtype).eps
    tiny = jnp.finfo(a.dtype).tiny
    if size > UNROLL:
        diagonal = jnp.maximum(jnp.diagonal(a, axis1=-2, axis2=-1), tiny)
        return jnp.linalg.cholesky(a + diagonal_matrix(floor * size * diagonal), symmetrize_input=False)
    zero = jnp.zeros(a.shape[:-2], a.dtype)
    factor: list[list[jax.Array]] = [[zero] * size for _ in range(size)]
    for j in range(size):
        pivot = a[..., j, j] - sum((factor[j][k] ** 2 for k in range(j)), zero)
        root = jnp.sqrt(jnp.maximum(pivot, jnp.maximum(floor * a[..., j, j], tiny)))
        factor[j][j] = root
        for i in range(j + 1, size):
            inner = sum((factor[i][k] * factor[j][k] for k in range(j)), zero)
            factor[i][j] = (a[..., i, j] - inner) / root
    return _rows(factor)


def inverse_lower(factor: jax.Array) -> jax.Array:
    """Inverses of lower-triangular matrices (..., p, p)."""
    size = factor.shape[-1]
    if size > UNROLL:
        identity = jnp.broadcast_to(jnp.eye(size, dtype=factor.dtype), factor.shape)
        return jax.lax.linalg.triangular_solve(factor, identity, left_side=True, lower=True)
    zero = jnp.zeros(factor.shape[:-2], factor.dtype)
    inverse: list[list[jax.Array]] = [[zero] * size for _ in range(size)]
    for i in range(size):
        inverse[i][i] = 1.0 / factor[..., i, i]
        for j in range(i):
            inner = sum((factor[..., i, k] * inverse[k][j] for k in range(j, i)), zero)
            inverse[i][j] = -inner * inverse[i][i]
    return _rows(inverse)


def multiply(a: jax.Array, b: jax.Array) -> jax.Array:
    """Batched matrix products (..., i, j) (..., j, k), full precision on every device."""
    return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)


def apply(a: jax.Array, v: jax.Array) -> jax.Array:
    """Batched matrix-vector products (..., i, j) (..., j)."""
    return jnp.sum(a * v[..., None, :], axis=-1)


def diagonal_matrix(diagonal: jax.Array) -> jax.Array:
    """Matrices (..., p, p) with the given diagonals (..., p)."""
    identity = jnp.eye(diagonal.shape[-1], dtype=diagonal.dtype)
    return diagonal[..., None] * jnp.broadcast_to(identity, (*diagonal.shape, diagonal.shape[-1]))


def solve_positive(a: jax.Array, b: jax.Array) -> jax.Array:
    """Solve a x = b for symmetric positive definite a (..., p, p) and b (..., p); pivots are floored."""
    size = a.shape[-1]
    if size > UNROLL:
        inverse = inverse_lower(cholesky(a))
        return apply(jnp.swapaxes(inverse, -1, -2), apply(inverse, b))
    return _solve_unrolled(
        [[a[..., i, j] for j in range(i + 1)] for i in range(size)], [b[..., i] for i in range(size)]
    )


def _solve_unrolled(a: list[list[jax.Array]], b: list[jax.Array]) -> jax.Array:
    """By a = L D L' with unit lower-triangular L: no square root, one division a pivot."""
    size, dtype = len(b), b[0].dtype
    floor, tiny = PIVOT_FLOOR * jnp.finfo(dtype).eps, jnp.finfo(dtype).tiny
    zero = jnp.zeros((), dtype)
    scaled: list[list[jax.Array]] = []  # L D
    lower: list[list[jax.Array]] = []
    reciprocal: list[jax.Array] = []
    x: list[jax.Array] = []
    for i in range(size):
        scaled.append([])
        for j in range(i):
            scaled[i].append(a[i][j] - sum((scaled[i][k] * lower[j][k] for k in range(j)), zero))
        lower.append([scaled[i][k] * reciprocal[k] for k in range(i)])
        pivot = a[i][i] - sum((scaled[i][k] * lower[i][k] for k in range(i)), zero)
        reciprocal.append(1.0 / jnp.maximum(pivot, jnp.maximum(floor * a[i][i], tiny)))
        x.append(b[i] - sum((lower[i][k] * x[k] for k in range(i)), zero))
    for i in reversed(range(size)):
        x[i] = x[i] * reciprocal[i] - sum((lower[k][i] * x[k] for k in range(i + 1, size)), zero)
    return jnp.stack(x, axis=-1)


def log_determinant(factor: jax.Array) -> jax.Array:
    """log det of a = factor factor' from its lower Cholesky factor (..., p, p)."""
    return 2.0 * jnp.sum(jnp.log(jnp.diagonal(factor, axis1=-2, axis2=-1)), axis=-1)


def normal_tails(z: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Probabilities that a standard normal is less than z, equal, and more: each exact where it is small."""
    return ndtr(z), jnp.zeros_like(z), ndtr(-z)


def largest_eigenvalue(a: jax.Array) -> jax.Array:
    """Largest eigenvalue of symmetric positive semidefinite matrices (..., p, p), to within 1 %.

    Ratio of traces of successive powers after five squarings: no LAPACK call, exact for p <= 2 and for separated or
    equal eigenvalues. Used by the rules that ask whether a component has collapsed.
    """
    size = a.shape[-1]
    if size == 1:
        return a[..., 0, 0]
    if size == 2:
        half_trace = 0.5 * (a[..., 0, 0] + a[..., 1, 1])
        half_gap = 0.5 * (a[..., 0, 0] - a[..., 1, 1])
        return half_trace + jnp.sqrt(half_gap**2 + a[..., 0, 1] ** 2)
    trace = jnp.trace(a, axis1=-2, axis2=-1)
    base = a / trace[..., None, None]
    power = base
    for _ in range(5):
        power = multiply(power, power)
        power = power / jnp.trace(power, axis1=-2, axis2=-1)[..., None, None]
    return trace * jnp.sum(power * base, axis=(-2, -1))


@jax.custom_jvp
def row_sums(*terms: jax.Array) -> tuple[jax.Array, ...]:
    """Sums of each term (..., n) over its last axis, in one pass over the rows: a loop each would be several."""
    zero = jnp.zeros((), terms[0].dtype)
    return tuple(jax.lax.reduce(terms, (zero,) * len(terms), _add, (terms[0].ndim - 1,)))


@row_sums.defjvp
def _row_sums_jvp(primals: tuple, tangents: tuple) -> tuple:
    return row_sums(*primals), tuple(jnp.sum(tangent, axis=-1) for tangent in tangents)


def _add(left: tuple, right: tuple) -> tuple:
    return tuple(a + b for a, b in zip(left, right, strict=True))


@jax.custom_jvp
def log_probability(p: jax.Array) -> jax.Array:
    """Logarithms of probabilities, -infinity where one is 0 (or below 1e-292; 1e-31 in float32), any shape.

    Derivatives are those of log p, and 0 where p counts as 0; the second, 1 / p^2, is taken as a product with what is
    differentiated, so that it does not overflow where p^2 is no ordinary number any more, as that of `jnp.log` does.
    """
    positive = p >= _least(p)
    return jnp.where(positive, jnp.log(jnp.where(positive, p, 1.0)), -jnp.inf)


def _least(p: jax.Array) -> float:
    """Its reciprocal has room for a factor 1 / eps."""
    return float(jnp.finfo(p.dtype).tiny / jnp.finfo(p.dtype).eps)


@log_probability.defjvp
def _log_probability_jvp(primals: tuple, tangents: tuple) -> tuple:
    return log_probability(primals[0]), tangents[0] * _reciprocal(primals[0])


@jax.custom_jvp
def _reciprocal(p: jax.Array) -> jax.Array:
    positive = p >= _least(p)
    return jnp.where(positive, 1.0 / jnp.where(positive, p, 1.0), 0.0)


@_reciprocal.defjvp
def _reciprocal_jvp(primals: tuple, tangents: tuple) -> tuple:
    value = _reciprocal(primals[0])
    return value, -(value * tangents[0]) * value


def linear(coefficients: jax.Array, x: jax.Array) -> jax.Array:
    """Linear predictors (K, n) of coefficients (K, p) and covariates (p, n): no small matrix product a lane."""
    if x.shape[0] > 6:
        return multiply(coefficients, x)
    # A sum over an axis is made once and kept for all that use it; XLA would make a chain of additions again for each.
    return jnp.sum(coefficients[:, :, None] * x[None], axis=1)


def weighted_products(
    weights: jax.Array, weighted: jax.Array, x: jax.Array, *others: jax.Array
) -> tuple[jax.Array, ...]:
    """Sums over rows of weights (K, n) times x x', (K, p, p), of `weighted` (K, n) times x, (K, p), and of `others`.

    x is (p, n). One pass over the rows where p is small.
    """
    p = x.shape[0]
    if p > UNROLL:
        xx = multiply(weights[:, None, :] * x[None, :, :], x.T)
        return xx, multiply(weighted, x.T), *(jnp.sum(other, axis=-1) for other in others)
    pairs = packed_indices(p)
    # Weighted first: products of covariates alone would be hoisted out of the loop and stored, too much for the caches.
    rows = [weights * x[None, i] for i in range(p)]
    products = [rows[i] * x[None, j] for i, j in pairs]
    sums = row_sums(*products, *(weighted * x[None, j] for j in range(p)), *others)
    xx = unpack_symmetric(jnp.stack(sums[: len(pairs)], axis=-1), p)
    return xx, jnp.stack(sums[len(pairs) : len(pairs) + p], axis=-1), *sums[len(pairs) + p :]

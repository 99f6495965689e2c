"""Anderson acceleration of a map u -> F(u), of type II (Walker & Ni 2011, SIAM Journal on Numerical Analysis 49).

Near a fixed point F(u) - u is linear in u, so the combination of the last points whose residuals F(u) - u cancel best
is mapped nearer to it than any of them. It needs no chain of plain steps: any points will do, whatever led there.
"""

from __future__ import annotations

import jax.numpy as jnp

from emjax.base.numerics import solve_positive
from emjax.base.records import Array

KEPT = 4  # points remembered besides the newest
RIDGE = 1e-12  # on the unit diagonal of the residuals' Gram matrix; in float32 the pivots' floor


def remember(rows: Array, row: Array) -> Array:
    """`rows` (KEPT, m) with `row` (m,) as the newest, which is last, and without the oldest."""
    return jnp.concatenate([rows[1:], row[None]])


def combine(here: Array, residual: Array, points: Array, residuals: Array, held: Array) -> tuple[Array, Array]:
    """The point that the combination is mapped to, (m,), and how many remembered points it could use.

    here, residual : (m,), the newest point and its F(u) - u, 0 where held. points, residuals : (KEPT, m), those before
    it, rows of NaN where there is none. held : (m,), coordinates that are F's own.
    """
    known = jnp.all(jnp.isfinite(points) & jnp.isfinite(residuals), axis=-1)
    free = known[:, None] & ~held[None]
    away = jnp.where(free, points - here[None], 0.0)
    change = jnp.where(free, residuals - residual[None], 0.0)
    size = jnp.sqrt(jnp.sum(change * change, axis=-1, keepdims=True))
    scale = jnp.where(size > 0, 1.0 / jnp.where(size > 0, size, 1.0), 0.0)
    away, change = away * scale, change * scale
    gram = jnp.sum(change[:, None] * change[None], axis=-1)
    gram = gram + jnp.diag(jnp.where(size[:, 0] > 0, RIDGE, 1.0).astype(gram.dtype))
    shares = solve_positive(gram, -jnp.sum(change * residual[None], axis=-1))
    return here + residual + jnp.sum(shares[:, None] * (away + change), axis=0), jnp.sum(known)

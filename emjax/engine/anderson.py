"""Anderson acceleration of a map u -> F(u), of type II (Walker & Ni 2011, SIAM Journal on Numerical Analysis 49).

Near a fixed point F(u) - u is linear in u, so the combination of the last points whose residuals F(u) - u cancel best
is mapped nearer to it than any of them. It needs no chain of plain steps: any points will do, whatever led there.
"""

from __future__ import annotations

import jax.numpy as jnp

from emjax.base.numerics import packed_indices, row_sums, solve_positive, unpack_symmetric
from emjax.base.records import Array

KEPT = 4  # points remembered besides the newest
RIDGE = 1e-12  # times the diagonal of the residuals' Gram matrix; in float32 the pivots' floor


def remember(rows: Array, row: Array, tick: Array) -> Array:
    """`rows` (KEPT, m) with `row` (m,) in the place of the oldest, if there is one a tick."""
    return jnp.where((jnp.arange(KEPT, dtype=tick.dtype) == tick % KEPT)[:, None], row[None], rows)


def combine(here: Array, residual: Array, points: Array, residuals: Array, held: Array) -> tuple[Array, Array, Array]:
    """The point that the combination is mapped to, (m,), the inner product of the way there and the residual, and how
    many remembered points it could use.

    here, residual : (m,), the newest point and its F(u) - u, 0 where held. points, residuals : (KEPT, m), those before
    it, NaN where there is none, as of coordinates that were held. held : (m,), coordinates that are F's own.
    """
    known = jnp.all((jnp.isfinite(points) & jnp.isfinite(residuals)) | held[None], axis=-1)
    free = known[:, None] & ~held[None]
    away = jnp.where(free, points - here[None], 0.0)
    change = jnp.where(free, residuals - residual[None], 0.0)
    # All inner products in one pass: for a small lane the number of operations is what costs.
    pairs = packed_indices(KEPT)
    products = row_sums(
        *(change[i] * change[j] for i, j in pairs),
        *(change[j] * residual for j in range(KEPT)),
        *(away[j] * residual for j in range(KEPT)),
        residual * residual,
    )
    gram = unpack_symmetric(jnp.stack(products[: len(pairs)]), KEPT)
    onto, onto_away = (jnp.stack(products[i : i + KEPT]) for i in (len(pairs), len(pairs) + KEPT))
    eye = jnp.eye(KEPT, dtype=gram.dtype)
    shares = solve_positive(gram * (1.0 + RIDGE * eye) + jnp.where(gram > 0, 0.0, eye), -onto)
    way = residual + sum(shares[j] * (away[j] + change[j]) for j in range(KEPT))
    uphill = products[-1] + jnp.sum(shares * (onto + onto_away))
    return here + way, uphill, jnp.sum(known)

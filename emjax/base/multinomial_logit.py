"""The multinomial logit: probabilities of K categories given covariates, and Newton steps towards expected counts.

Coefficients are (K, q), the intercept first, and 0 for the last category; a design has its U rows last, (q, U).
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from emjax.base import design, numerics
from emjax.base.design import Design
from emjax.base.records import Array, Data
from emjax.base.status import DataError

# nats per squared logit: where all the rows together say less of some direction of a category's coefficients, its
# standard error is over 100 logits per standard deviation of z. Separation ends there.
FLAT = 1e-4


class LogitData(NamedTuple):
    """The design, centred (with an intercept) and scaled; reach (), its longest row; total weight ()."""

    design: Design
    reach: Array
    total: Array


class LogitStatistics(NamedTuple):
    """At the current coefficients: score (K - 1, q), information ((K - 1) q, (K - 1) q)."""

    score: Array
    information: Array


def check(data: Data, who: str, what: str) -> None:
    """On the host: z must be there, (n, c), else `DataError`. who : needs it; what : depends on it."""
    if data.z is None:
        raise DataError(f"{who} needs covariates of the {what}: give Data(z=...) of shape (n, c).")
    if np.ndim(data.z) != 2:
        raise DataError(f"z has shape {np.shape(data.z)}: give covariates of the {what} as (n, c).")


def prepare(z: Array, weight: Array, intercept: bool) -> tuple[LogitData, Array]:
    """Of covariates (U, c) and weights (U,), floating or bool, and `Problem` bits; rows of weight 0 may hold NaN."""
    dtype, used = z.dtype, weight.astype(bool)
    z, problem = design.finite(z.T, used)
    zero, one = jnp.zeros((), dtype), jnp.ones((), dtype)
    columns, found = design.prepare(z, weight.astype(dtype), intercept, zero, one)
    reach = jnp.sqrt(jnp.max(jnp.where(used, jnp.sum(columns.x**2, axis=0), 0.0)))
    return LogitData(columns, reach, design.total_weight(weight.astype(dtype))), problem | found


def statistics(probabilities: Array, counts: Array, weight: Array, x: Array) -> LogitStatistics:
    """Of probabilities and expected counts (K, U), which sum to `weight` (U,), floating; x (q, U)."""
    free, q = probabilities.shape[0] - 1, x.shape[0]
    if free == 0:
        return LogitStatistics(jnp.zeros((0, q), x.dtype), jnp.zeros((0, 0), x.dtype))
    expected = probabilities * weight[None, :]
    surplus = (counts - expected)[:free]
    pairs = [(k, k) for k in range(free)] + [(k, m) for k in range(free) for m in range(k)]
    curvature = jnp.stack([expected[k] * (float(k == m) - probabilities[m]) for k, m in pairs])
    surplus = jnp.pad(surplus, [(0, len(pairs) - free), (0, 0)])  # as many rows as there are pairs: one pass
    xx, score = numerics.weighted_products(curvature, surplus, x)
    place = {pair: index for index, pair in enumerate(pairs)}
    blocks = [[xx[place[max(k, m), min(k, m)]] for m in range(free)] for k in range(free)]
    return LogitStatistics(score[:free], jnp.block(blocks))


def newton_step(found: LogitStatistics, data: LogitData) -> Array:
    """A Newton step (K, q), shortened: along it the third derivative of Q is at most `farthest` times the second.

    `farthest` bounds the change of any logit against any other, so that a step of log(1 + farthest) / farthest
    cannot lower Q: the exact minimum of the bound (Sun & Tran-Dinh 2019, Mathematical Programming 178, 145-213).
    """
    score = found.score.reshape(-1)
    if score.shape[0] == 0:
        return jnp.zeros((1, found.score.shape[1]), score.dtype)
    ridge = design.RIDGE * jnp.finfo(score.dtype).eps * data.total
    information = found.information + ridge * jnp.eye(score.shape[0], dtype=score.dtype)
    step = numerics.solve_positive(information, score).reshape(found.score.shape)
    step = jnp.concatenate([step, jnp.zeros_like(step[:1])])
    apart = jnp.sqrt(jnp.sum((step[:, None, :] - step[None, :, :]) ** 2, axis=2))
    farthest = data.reach * jnp.max(apart)
    share = jnp.log1p(farthest) / jnp.maximum(farthest, jnp.finfo(score.dtype).tiny)
    return share * step


def own_information(found: LogitStatistics) -> Array:
    """Each category's coefficients by themselves, (K, q, q); the last one's logits are those of none of the others."""
    free, q = found.score.shape
    blocks = found.information.reshape(free, q, free, q)
    own = jnp.stack([blocks[k, :, k, :] for k in range(free)])
    return jnp.concatenate([own, jnp.sum(blocks, axis=(0, 2))[None]])


def flat(information: Array) -> Array:
    """Whether the information (K, q, q) says nothing of a direction of some category's coefficients."""
    return jnp.any(jnp.diagonal(numerics.cholesky(information), axis1=1, axis2=2) ** 2 < FLAT)

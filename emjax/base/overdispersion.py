"""Counts: checked and cleaned, and what negative binomial components share.

The size s is that of the gamma mixing: variance m + m^2 / s. Its free coordinate is the log of the dispersion 1 / s,
so that the Poisson limit lies at minus infinity.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from emjax.base import design, numerics, special
from emjax.base.records import Array, Data
from emjax.base.status import DataError, Problem

AT_POISSON = 1e-6  # mean over size: an excess variance of this share of the mean is none
SHRINK, GROW = 0.2, 3.0  # smallest and largest factor by which one step changes a dispersion


class Counts(NamedTuple):
    """Counts y (n,), log y! (n,), offset (n,) or None, and the mean () of y, 1 where all are 0."""

    y: Array
    log_factorial: Array
    offset: Any
    mean: Array


def check(name: str, data: Data, covariates: bool) -> None:
    """On the host: one column y, and x and offset only where `covariates`, else `DataError`."""
    for field in ("trials", "z") if covariates else ("x", "offset", "trials", "z"):
        if getattr(data, field) is not None:
            raise DataError(f"{name} has no {field}: leave it out of Data.")
    if np.ndim(data.y) != 1:
        raise DataError(f"{name} needs y of shape (n,), not {np.shape(data.y)}: give one response.")


def prepare(data: Data) -> tuple[Counts, Array, Array, Array]:
    """Counts, covariates with rows last, row weights, and `Problem` bits; what cannot be used becomes 0."""
    y, x, weight, problem = design.clean(data._replace(offset=None))
    used = weight > 0
    bad = (y < 0) | (y != jnp.round(y))
    problem |= jnp.where(jnp.any(bad & used), Problem.NOT_A_COUNT, 0)
    y = jnp.where(bad, 0.0, y)
    offset = data.offset
    if offset is not None:
        lost = ~jnp.isfinite(offset)
        problem |= jnp.where(jnp.any(lost & used), Problem.RESPONSE_NOT_FINITE, 0)
        offset = jnp.where(lost | ~used, 0.0, offset)
    mean = jnp.sum(weight * y) / design.total_weight(weight)
    counts = Counts(y, jax.lax.lgamma(y + 1.0), offset, jnp.where(mean > 0, mean, 1.0))
    return counts, x, weight, jnp.int32(problem)


def log_density(log_means: Array, sizes: Array, counts: Counts) -> Array:
    """Negative binomial log probability (K, n) at log means (K, n) or (K, 1) and sizes (K,), nats."""
    y, s = counts.y[None, :], sizes[:, None]
    over = jnp.logaddexp(log_means - jnp.log(s), jnp.zeros((), y.dtype))  # log(1 + m / s)
    return special.rising(y, s) + y * log_means - (s + y) * over - counts.log_factorial[None, :]


def size_step(score: Array, curvature: Array, sizes: Array, mean: Array) -> Array:
    """Sizes (K,) after a guarded Newton step in the dispersion, where Q is nearly quadratic near the Poisson limit.

    score and curvature (K,) : first and second derivative of Q in log size. The dispersion changes by factors from
    `SHRINK` to `GROW` alone, and uphill where Q is not concave.
    """
    dtype = sizes.dtype
    uphill = -score
    bend = uphill - curvature  # minus dispersion^2 times the second derivative in the dispersion
    floor = jnp.maximum(jnp.abs(uphill) / (GROW - 1.0), jnp.finfo(dtype).tiny)
    factor = jnp.maximum(1.0 + uphill / jnp.maximum(bend, floor), SHRINK)
    least = _least(dtype)
    dispersion = jnp.clip(factor * (mean / sizes), least, 1.0 / least)
    return mean / dispersion


def _least(dtype: Any) -> Any:
    """Smallest mean over size that is told from 0: the score of the size is a difference of relative order of it."""
    return float(jnp.finfo(dtype).eps) ** (2.0 / 3.0)


def pooled_size(means: Array, counts: Counts, spread: Array) -> Array:
    """One size () by moments: sum of (y - m)^2 - m over the sum of m^2, weighted by `spread` (K, n), kept moderate."""
    y = counts.y[None, :]
    excess, squares = numerics.row_sums(spread * ((y - means) ** 2 - means), spread * means**2)
    dispersion = jnp.sum(excess) / jnp.maximum(jnp.sum(squares), jnp.finfo(means.dtype).tiny)
    return counts.mean / jnp.clip(dispersion * counts.mean, 1e-2, 1e2)


def at_poisson(sizes: Array, mean: Array) -> Array:
    """Sizes that stand for infinity, (K,) bool."""
    return mean / sizes < max(AT_POISSON, 100.0 * _least(sizes.dtype))


def sample(key: Array, means: Array, sizes: Array) -> Array:
    """Negative binomial counts (n,) by their gamma mixture, in the means' dtype."""
    draw_rates, draw_counts = jax.random.split(key)
    rates = means / sizes * jax.random.gamma(draw_rates, sizes)
    return jax.random.poisson(draw_counts, rates).astype(means.dtype)

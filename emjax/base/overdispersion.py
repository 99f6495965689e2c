"""Counts: cleaned, and what negative binomial components share.

The size s is that of the gamma mixing: variance m + m^2 / s. Its free coordinate is the log of the dispersion 1 / s,
so that the Poisson limit lies at minus infinity.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from emjax.base import counts, design, numerics, special
from emjax.base.records import Array, Data

AT_POISSON = 1e-6  # mean over size: an excess variance of this share of the mean is none
WITHIN = 20.0  # log units: means farther from a count than that are not taken in deviances
SHRINK, GROW = 0.2, 3.0  # smallest and largest factor by which one step changes a dispersion


class Counts(NamedTuple):
    """Counts y (n,), log y! (n,), offset (n,) or None, and the mean () of y, 1 where all are 0."""

    y: Array
    log_factorial: Array
    offset: Any
    mean: Array


def prepare(data: Data) -> tuple[Counts, Array, Array, Array]:
    """Counts, covariates with rows last, row weights, and `Problem` bits; what cannot be used becomes 0."""
    weight, used = counts.used_rows(data)
    y, problem = counts.whole_numbers(data.y, used)
    x, found = design.covariates(data, used)
    problem |= found
    offset = None
    if data.offset is not None:
        offset, found = counts.offset_of(data, used)
        problem |= found
    mean = jnp.sum(weight * y) / design.total_weight(weight)
    prepared = Counts(y, jax.lax.lgamma(y + 1.0), offset, jnp.where(mean > 0, mean, 1.0))
    return prepared, x, weight, jnp.int32(problem)


def log_density(log_means: Array, sizes: Array, rows: Counts) -> Array:
    """Negative binomial log probability (K, n) at log means (K, n) or (K, 1) and sizes (K,), nats."""
    y, s = rows.y[None, :], sizes[:, None]
    over = jnp.logaddexp(log_means - jnp.log(s), jnp.zeros((), y.dtype))  # log(1 + m / s)
    plain = special.rising(y, s) + y * log_means - (s + y) * over - rows.log_factorial[None, :]
    large = jnp.maximum(y, float(special.SHIFT))
    near = (y >= special.SHIFT) & (jnp.abs(log_means - jnp.log(large)) < WITHIN)
    means = jnp.exp(jnp.where(near, log_means, jnp.log(large)))
    return jnp.where(near, _saddle_point(large, means, s), plain)


def _saddle_point(y: Array, m: Array, s: Array) -> Array:
    """The same for y >= `special.SHIFT` in deviances, as terms of order y log y cancel: counts of a million would leave
    1e-9 nats of rounding a row (Loader 2000, Fast and accurate computation of binomial probabilities)."""
    deviance = s * jnp.log1p((y - m) / (s + m)) + y * jnp.log1p(s / (s + m) * ((m - y) / y))
    series = special.stirling(y + s) - special.stirling(y)
    return deviance + special.gamma_constant(s) - 0.5 * (jnp.log(y) + jnp.log(y + s)) + series


def tails(log_means: Array, sizes: Array, rows: Counts) -> tuple[Array, Array, Array]:
    """P(Y < y), P(Y = y) and P(Y > y), (K, n) each, as `log_density`: incomplete beta functions."""
    at, s = log_density(log_means, sizes, rows), sizes[:, None]
    odds = log_means - jnp.log(s)
    y, s = rows.y[None, :] + 0.0 * at, s + 0.0 * at
    above, below = jax.nn.sigmoid(odds) + 0.0 * at, jax.nn.sigmoid(-odds) + 0.0 * at
    some = jnp.maximum(y, 1.0)
    _, less = special.beta_tails(some, s, above, below, at + jnp.log(some))
    more, _ = special.beta_tails(y + 1.0, s, above, below, at + jnp.log(y + s) + jax.nn.log_sigmoid(odds))
    return jnp.where(y > 0, less, 0.0), jnp.exp(at), more


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


def pooled_size(means: Array, rows: Counts, spread: Array) -> Array:
    """One size () by moments: sum of (y - m)^2 - m over the sum of m^2, weighted by `spread` (K, n), kept moderate."""
    y = rows.y[None, :]
    excess, squares = numerics.row_sums(spread * ((y - means) ** 2 - means), spread * means**2)
    dispersion = jnp.sum(excess) / jnp.maximum(jnp.sum(squares), jnp.finfo(means.dtype).tiny)
    return rows.mean / jnp.clip(dispersion * rows.mean, 1e-2, 1e2)


def at_poisson(sizes: Array, mean: Array) -> Array:
    """Sizes that stand for infinity, (K,) bool."""
    return mean / sizes < max(AT_POISSON, 100.0 * _least(sizes.dtype))


def sample(key: Array, means: Array, sizes: Array) -> Array:
    """Negative binomial counts (n,) by their gamma mixture, in the means' dtype."""
    draw_rates, draw_counts = jax.random.split(key)
    rates = means / sizes * jax.random.gamma(draw_rates, sizes)
    return jax.random.poisson(draw_counts, rates).astype(means.dtype)

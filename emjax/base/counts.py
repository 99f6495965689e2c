"""Rows of counts: what is wrong with them, and Poisson and binomial log densities by their linear predictor."""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from emjax.base import special
from emjax.base.records import Array, Data
from emjax.base.status import Problem

STIRLING = 32.0  # from this count on the series for log y! is exact to rounding


class PoissonRows(NamedTuple):
    """y (n,), its logarithm (0 where y is 0), and the log density of y at mean y."""

    y: Array
    log_y: Array
    peak: Array


class BinomialRows(NamedTuple):
    """y (n,), trials (n,), log of the binomial coefficient (n,)."""

    y: Array
    trials: Array
    log_choose: Array


def used_rows(data: Data) -> tuple[Array, Array]:
    """Row weights in the dtype of y, and which of them count, (n,)."""
    weight = jnp.asarray(data.weight, data.y.dtype)
    return weight, weight > 0


def offset_of(data: Data, used: Array) -> tuple[Array, Array]:
    """The offset (n,), 0 without one and in rows that do not count, and `Problem` bits."""
    if data.offset is None:
        return jnp.zeros_like(data.y), jnp.int32(Problem.NONE)
    bad = ~jnp.isfinite(data.offset)
    problem = jnp.where(jnp.any(bad & used), Problem.RESPONSE_NOT_FINITE, 0)
    return jnp.where(bad | ~used, 0.0, data.offset), problem


def whole_numbers(values: Array, used: Array) -> tuple[Array, Array]:
    """Whole numbers not below 0, others replaced by 0, and `Problem` bits."""
    infinite = ~jnp.isfinite(values)
    bad = ~infinite & ((values < 0) | (values != jnp.round(values)))
    problem = jnp.where(jnp.any(infinite & used), Problem.RESPONSE_NOT_FINITE, 0)
    problem |= jnp.where(jnp.any(bad & used), Problem.NOT_A_COUNT, 0)
    return jnp.where(infinite | bad | ~used, 0.0, values), problem


def poisson_rows(data: Data, used: Array) -> tuple[PoissonRows, Array]:
    """Rows of counts and `Problem` bits."""
    y, problem = whole_numbers(data.y, used)
    log_y = jnp.log(jnp.maximum(y, 1.0))
    large = jnp.maximum(y, STIRLING)
    square = 1.0 / large**2
    series = (1.0 / 12.0 - square * (1.0 / 360.0 - square / 1260.0)) / large
    # y log y - y - log y! directly cancels: at y = 1e5 to 0.06 nats in float32.
    far = -0.5 * (math.log(2.0 * math.pi) + jnp.log(large)) - series
    peak = jnp.where(y < STIRLING, y * log_y - y - jax.lax.lgamma(y + 1.0), far)
    return PoissonRows(y, log_y, peak), problem


def _above(rows: PoissonRows, eta: Array) -> tuple[Array, Array]:
    """d = log of mean over y, and mean over y less 1; where y is 0, log of the mean and the mean less 1."""
    d = eta - rows.log_y[None, :]
    return d, jnp.expm1(d)


def poisson_log_prob(rows: PoissonRows, eta: Array) -> Array:
    """Log density (K, n) at the logarithms of the means `eta` (K, n), nats: the peak less half the deviance."""
    d, above = _above(rows, eta)
    y = rows.y[None, :]
    return rows.peak[None, :] - jnp.where(y > 0, y * (above - d), above + 1.0)


def poisson_moments(rows: PoissonRows, eta: Array) -> tuple[Array, Array]:
    """Residuals y - mean and variances, (K, n)."""
    _, above = _above(rows, eta)
    y = rows.y[None, :]
    residual = -jnp.where(y > 0, y * above, above + 1.0)
    return residual, y - residual


def poisson_tails(rows: PoissonRows, eta: Array) -> tuple[Array, Array, Array]:
    """P(Y < y), P(Y = y) and P(Y > y), (K, n) each, at the logarithms of the means `eta` (K, n).

    By jax's incomplete gamma functions, which are good to some 1e-9 for means up to 1e6 and fail from 1e8 on.
    """
    y, means = rows.y[None, :], jnp.exp(eta)
    less = jnp.where(y > 0, jax.scipy.special.gammaincc(jnp.maximum(y, 1.0), means), 0.0)
    return less, jnp.exp(poisson_log_prob(rows, eta)), jax.scipy.special.gammainc(y + 1.0, means)


def binomial_rows(data: Data, used: Array) -> tuple[BinomialRows, Array]:
    """Rows of successes and trials (1 each where not given) and `Problem` bits."""
    y, problem = whole_numbers(data.y, used)
    given = jnp.ones_like(y) if data.trials is None else data.trials
    bad = ~((given >= 1) & (given == jnp.round(given)) & jnp.isfinite(given))
    trials = jnp.where(bad | ~used, 1.0, given)
    problem |= jnp.where(jnp.any((bad | (y > trials)) & used), Problem.ABOVE_TRIALS, 0)
    y = jnp.minimum(y, trials)
    lgamma = jax.lax.lgamma
    log_choose = lgamma(trials + 1.0) - lgamma(y + 1.0) - lgamma(trials - y + 1.0)
    return BinomialRows(y, trials, jnp.where(trials == 1.0, 0.0, log_choose)), problem


def binomial_log_prob(rows: BinomialRows, eta: Array) -> Array:
    """Log density (K, n) at logits `eta` (K, n), nats."""
    trials = rows.trials[None, :]
    return rows.log_choose[None, :] + rows.y[None, :] * eta - trials * jax.nn.softplus(eta)


def binomial_moments(rows: BinomialRows, eta: Array) -> tuple[Array, Array]:
    """Residuals y - trials p and variances, (K, n)."""
    p, q, trials = jax.nn.sigmoid(eta), jax.nn.sigmoid(-eta), rows.trials[None, :]
    y = rows.y[None, :]
    return y * q - (trials - y) * p, trials * p * q


def binomial_tails(rows: BinomialRows, eta: Array) -> tuple[Array, Array, Array]:
    """P(Y < y), P(Y = y) and P(Y > y), (K, n) each, at logits `eta` (K, n): incomplete beta functions."""
    p, q, at = jax.nn.sigmoid(eta), jax.nn.sigmoid(-eta), binomial_log_prob(rows, eta)
    y, failures = rows.y[None, :] + 0.0 * p, (rows.trials - rows.y)[None, :] + 0.0 * p
    some, left = jnp.maximum(y, 1.0), jnp.maximum(failures, 1.0)
    _, less = special.beta_tails(some, failures + 1.0, p, q, at + jnp.log(some) + jax.nn.log_sigmoid(-eta))
    more, _ = special.beta_tails(y + 1.0, left, p, q, at + jnp.log(left) + jax.nn.log_sigmoid(eta))
    return jnp.where(y > 0, less, 0.0), jnp.exp(at), jnp.where(failures > 0, more, 0.0)


def poisson_working(rows: PoissonRows) -> tuple[Array, Array]:
    """log(y + 1/2), which needs no parameters, and its precision, (n,)."""
    return jnp.log(rows.y + 0.5), rows.y + 0.5


def binomial_working(rows: BinomialRows) -> tuple[Array, Array]:
    """The empirical logit and its precision, (n,) (Cox & Snell 1989, Analysis of Binary Data, section 2.1)."""
    won, lost = rows.y + 0.5, rows.trials - rows.y + 0.5
    return jnp.log(won / lost), won * lost / (won + lost)

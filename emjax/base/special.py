"""Gamma functions and their differences without cancellation, in elementary operations that differentiate twice.

Besides, the incomplete beta function. Asymptotic series (Abramowitz & Stegun 1964, 6.1.41, 6.3.18, 6.4.12) from
`SHIFT` on, recurrences below.
"""

from __future__ import annotations

from math import log, pi

import jax
import jax.numpy as jnp

from emjax.base.records import Array

SHIFT = 8  # the series are exact to rounding from here on
LONGEST_FRACTION = 10_000  # terms; it takes about the root of max(a, b)
_STIRLING = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360, 1 / 156)
_GAP = (1 / 12, -1 / 120, 1 / 252, -1 / 240, 1 / 132, -691 / 32760, 1 / 12, -3617 / 8160)
_SLOPE = (1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6)


def _series(coefficients: tuple[float, ...], square: Array) -> Array:
    """sum_k coefficients[k] square^k"""
    value = jnp.full_like(square, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        value = value * square + coefficient
    return value


def stirling(z: Array) -> Array:
    """log Gamma(z) - (z - 1/2) log z + z - log(2 pi) / 2, for z >= SHIFT."""
    inverse = 1.0 / z
    return inverse * _series(_STIRLING, inverse**2)


def _gap(z: Array) -> Array:
    """log z - digamma(z), for z >= SHIFT."""
    inverse = 1.0 / z
    return inverse * (0.5 + inverse * _series(_GAP, inverse**2))


def _slope(z: Array) -> Array:
    """trigamma(z) - 1 / z, for z >= SHIFT."""
    inverse = 1.0 / z
    return inverse**2 * (0.5 + inverse * _series(_SLOPE, inverse**2))


def gamma_constant(a: Array) -> Array:
    """a log a - a - log Gamma(a), a > 0: the log density at its mean of y times a gamma variable of shape a."""
    large, small = jnp.maximum(a, float(SHIFT)), jnp.minimum(a, float(SHIFT))
    product, z = small, small + SHIFT
    for j in range(1, SHIFT):
        product = product * (small + j)
    below = small * jnp.log(small) - (z - 0.5) * jnp.log(z) + SHIFT - 0.5 * log(2.0 * pi) - stirling(z)
    above = 0.5 * jnp.log(large) - 0.5 * log(2.0 * pi) - stirling(large)
    return jnp.where(a < SHIFT, below + jnp.log(product), above)


def log_minus_digamma(a: Array) -> tuple[Array, Array]:
    """log a - digamma(a), a > 0, to relative rounding, and its derivative."""
    large, small = jnp.maximum(a, float(SHIFT)), jnp.minimum(a, float(SHIFT))
    z = small + SHIFT
    terms = [1.0 / (small + j) for j in range(SHIFT)]
    below = _gap(z) + jnp.log(small / z) + sum(terms[1:], terms[0])
    slope = terms[0] - 1.0 / z - _slope(z) - sum((term**2 for term in terms[1:]), terms[0] ** 2)
    return jnp.where(a < SHIFT, below, _gap(large)), jnp.where(a < SHIFT, slope, -_slope(large))


def gamma_shape(c: Array) -> Array:
    """The a > 0 with log a - digamma(a) = c, to rounding, for any c > 0.

    From a closed form within 1.5 % (Minka 2002, Estimating a Gamma distribution), then Newton's steps in log a on the
    logarithm of the equation, which is nearly a line of slope -1 there.
    """
    root = jnp.sqrt((c - 3.0) ** 2 + 24.0 * c)
    a = jnp.where(c > 3.0, 2.0 / (root + jnp.abs(c - 3.0)), (3.0 - c + root) / (12.0 * c))
    for _ in range(4):
        value, slope = log_minus_digamma(a)
        a = a * jnp.exp(-jnp.log(value / c) * value / (a * slope))
    return a


def rising(y: Array, s: Array) -> Array:
    """log Gamma(y + s) - log Gamma(s) - y log s for y >= 0, s > 0: tends to 0 as s grows."""
    z = s + SHIFT
    value = (z + y - 0.5) * jnp.log1p(y / z) - y + (stirling(z + y) - stirling(z)) + y * jnp.log1p(SHIFT / s)
    for half in range(0, SHIFT, 4):  # two products of four: eight would overflow float32
        product = 1.0 + y / (s + half)
        for j in range(half + 1, half + 4):
            product = product * (1.0 + y / (s + j))
        value = value - jnp.log(product)
    return value


def rising_slopes(y: Array, s: Array) -> tuple[Array, Array]:
    """s (digamma(y + s) - digamma(s)) and s^2 (trigamma(s) - trigamma(y + s)), both between 0 and about y."""
    z = s + SHIFT
    first = jnp.log1p(y / z) + (_gap(z) - _gap(z + y))
    second = y / (z * (z + y)) + (_slope(z) - _slope(z + y))
    for j in range(SHIFT):
        near, far = 1.0 / (s + j), 1.0 / (s + y + j)
        difference = y * near * far
        first = first + difference
        second = second + difference * (near + far)
    return s * first, s**2 * second


def beta_tails(a: Array, b: Array, x: Array, rest: Array, log_front: Array) -> tuple[Array, Array]:
    """I_x(a, b) and 1 - I_x(a, b), each to relative rounding where it is small; rest = 1 - x, all of one shape.

    log_front = log(x^a rest^b / B(a, b)) is the caller's: as a log probability it does not cancel where a or b is
    large, and neither does the continued fraction with x and rest apart (Didonato & Morris 1992, ACM Transactions on
    Mathematical Software 18, 360-373, equation 9). The smaller side of x = a / (a + b) is the one that it gives.
    """
    below = a * rest >= b * x
    front = jnp.exp(log_front)
    a, b = jnp.where(below, a, b), jnp.where(below, b, a)
    x, rest = jnp.where(below, x, rest), jnp.where(below, rest, x)
    value = front * _beta_fraction(a, b, x, rest)
    return jnp.where(below, value, 1.0 - value), jnp.where(below, 1.0 - value, value)


def _beta_fraction(a: Array, b: Array, x: Array, rest: Array) -> Array:
    """I_x(a, b) / (x^a rest^b / B(a, b)) for x <= a / (a + b), by Lentz's algorithm; rows that are through stay put."""
    gap, info = a * rest - b * x, jnp.finfo(x.dtype)

    def bottom(n: Array) -> Array:
        return (
            n + n * (b - n) * x / (a + 2.0 * n - 1.0) + (a + n) / (a + 2.0 * n + 1.0) * (gap + 1.0 + n * (1.0 + rest))
        )

    def step(carry: tuple[Array, ...]) -> tuple[Array, ...]:
        n, value, ahead, behind, _ = carry
        top = (a + n - 1.0) * (a + b + n - 1.0) / (a + 2.0 * n - 1.0) ** 2 * n * (b - n) * x**2
        ahead, behind = bottom(n) + top / ahead, bottom(n) + top * behind
        ahead = jnp.where(jnp.abs(ahead) < info.tiny, info.tiny, ahead)
        behind = 1.0 / jnp.where(jnp.abs(behind) < info.tiny, info.tiny, behind)
        change = ahead * behind
        return n + 1.0, value * change, ahead, behind, jnp.abs(change - 1.0) > 2.0 * info.eps

    def more(carry: tuple[Array, ...]) -> Array:
        return jnp.any(carry[4]) & (carry[0] < LONGEST_FRACTION)

    first = a / (a + 1.0) * (gap + 1.0)
    start = (jnp.ones((), x.dtype), first, first, jnp.zeros_like(first), jnp.ones_like(first, bool))
    return 1.0 / jax.lax.while_loop(more, step, start)[1]

"""Conjugate priors: densities in the natural parameters (weights, means, coefficients, variances), in nats."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from emjax.base import numerics
from emjax.base.records import Array
from emjax.base.registry import register
from emjax.base.status import DataError


@register
class Dirichlet(NamedTuple):
    """Prior of probabilities: density proportional to prod_k weights_k^(concentration_k - 1).

    concentration : a number or (K,), at least 1, so that its mode is in the simplex.
    """

    concentration: Array | float

    def check(self) -> None:
        """Errors: `DataError` for a concentration below 1 or not finite."""
        _require(self.concentration, 1.0, True, "Dirichlet(concentration=...)", "1 or larger")


@register
class NormalInverseGamma(NamedTuple):
    """Prior of a regression: sigma^2 ~ IG(shape, scale), beta | sigma^2 ~ N(mean, sigma^2 strength^-1).

    mean (p,) and strength (a number or (p, p)) are in the user's units, scale in those of y^2. A field left at None is
    set from the data: mean the coefficients of a flat line at the mean of y, strength 0.01 per standardised
    covariate, scale 0.5 var(y) / K^2 (the regression form of Fraley & Raftery 2007, Journal of Classification 24).
    """

    mean: Array | None = None
    strength: Array | float | None = None
    shape: Array | float = 1.5
    scale: Array | float | None = None

    def check(self) -> None:
        """Errors: `DataError` for values outside their range."""
        _require(self.mean, -np.inf, False, "NormalInverseGamma(mean=...)", "finite")
        _require(self.shape, 0.0, False, "NormalInverseGamma(shape=...)", "positive and finite")
        _require(self.scale, 0.0, False, "NormalInverseGamma(scale=...)", "positive and finite")
        _require_positive_definite(self.strength, "NormalInverseGamma(strength=...)")


@register
class NormalInverseWishart(NamedTuple):
    """Prior of Gaussian components: Sigma ~ IW(degrees, scale), mean | Sigma ~ N(mean, Sigma / strength).

    Diagonal: each variance ~ IG(degrees / 2, scale_jj / 2); spherical: the one variance ~ IG(degrees / 2, s / 2) with s
    the mean of scale's diagonal. Tied forms share one draw. In the user's units; a field left at None is set from the
    data as in Fraley & Raftery (2007, Journal of Classification 24): the mean of y, d + 2, var(y) / K^(2 / d).
    """

    mean: Array | None = None
    strength: Array | float = 0.01
    degrees: Array | float | None = None
    scale: Array | None = None

    def check(self) -> None:
        """Errors: `DataError` for values outside their range."""
        given: Any = self.mean if self.mean is not None else self.scale
        d = 1 if given is None or np.ndim(given) == 0 else np.shape(given)[0]
        _require(self.mean, -np.inf, False, "NormalInverseWishart(mean=...)", "finite")
        _require(self.strength, 0.0, False, "NormalInverseWishart(strength=...)", "positive and finite")
        _require(self.degrees, d - 1.0, False, "NormalInverseWishart(degrees=...)", "larger than d - 1 and finite")
        _require_positive_definite(self.scale, "NormalInverseWishart(scale=...)")


@register
class GammaRate(NamedTuple):
    """Prior of rates: density proportional to rate_k^(shape - 1) exp(-rate rate_k), in the user's units.

    shape : a number, at least 1, so that its mode exists without data; its mean is shape / rate. rate : positive.
    """

    shape: Array | float
    rate: Array | float

    def check(self) -> None:
        """Errors: `DataError` for values outside their range."""
        _require(self.shape, 1.0, True, "GammaRate(shape=...)", "1 or larger")
        _require(self.rate, 0.0, False, "GammaRate(rate=...)", "positive and finite")


def _require(value: Any, least: float, allowed: bool, what: str, how: str) -> None:
    """Numbers above `least` (or at it, where `allowed`), and finite; None passes."""
    if value is None:
        return
    try:
        numbers = np.asarray(value, np.float64)
    except (TypeError, ValueError):
        raise DataError(f"{what}: {value!r} is not a number; it must be {how}.") from None
    good = np.isfinite(numbers) & ((numbers >= least) if allowed else (numbers > least))
    if not np.all(good):
        raise DataError(f"{what}: {value!r} must be {how}.")


def _require_positive_definite(value: Any, what: str) -> None:
    if value is None or np.ndim(value) < 2:
        _require(value, 0.0, False, what, "positive and finite")
        return
    matrix = np.asarray(value, np.float64)
    square = matrix.ndim == 2 and matrix.shape[0] == matrix.shape[1] and bool(np.all(np.isfinite(matrix)))
    if not square or not np.allclose(matrix, matrix.T) or np.min(np.linalg.eigvalsh(matrix)) <= 0:
        raise DataError(f"{what}: {value!r} must be a symmetric positive definite matrix.")


def log_dirichlet(weights: Array, concentration: Array) -> Array:
    """Log density of probabilities (K,)."""
    powers = jnp.where(concentration == 1.0, 0.0, (concentration - 1.0) * jnp.log(weights))
    return jnp.sum(powers) + jax.lax.lgamma(jnp.sum(concentration)) - jnp.sum(jax.lax.lgamma(concentration))


def log_gamma(rates: Array, shape: Array, rate: Array) -> Array:
    """Log density of rates, any shape."""
    return shape * jnp.log(rate) - jax.lax.lgamma(shape) + (shape - 1.0) * jnp.log(rates) - rate * rates


def log_inverse_gamma(variance: Array, shape: Array, scale: Array) -> Array:
    """Log density of variances, any shape."""
    return shape * jnp.log(scale) - jax.lax.lgamma(shape) - (shape + 1.0) * jnp.log(variance) - scale / variance


def log_inverse_wishart(factor: Array, degrees: Array, scale: Array) -> Array:
    """Log density of covariances (K, d, d) given their lower Cholesky factors, (K,)."""
    d = factor.shape[-1]
    inverse = numerics.inverse_lower(factor)
    trace = jnp.sum(inverse * numerics.multiply(inverse, scale[None, :, :]), axis=(1, 2))
    log_scale = numerics.log_determinant(numerics.cholesky(scale))
    steps = 0.5 * (degrees - jnp.arange(d, dtype=factor.dtype))
    constant = 0.5 * degrees * (log_scale - d * jnp.log(2.0)) - jnp.sum(jax.lax.lgamma(steps))
    constant = constant - 0.25 * d * (d - 1) * jnp.log(jnp.pi)
    return constant - 0.5 * (degrees + d + 1.0) * numerics.log_determinant(factor) - 0.5 * trace


def log_normal(away: Array, factor: Array) -> Array:
    """Log density of N(0, factor factor') at the rows of `away` (K, d), factor (K, d, d), (K,)."""
    white = numerics.apply(numerics.inverse_lower(factor), away)
    constant = 0.5 * away.shape[1] * numerics.LOG_2PI + 0.5 * numerics.log_determinant(factor)
    return -constant - 0.5 * jnp.sum(white**2, axis=1)

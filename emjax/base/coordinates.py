"""Free coordinates: maps between constrained parameters and unconstrained vectors."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from emjax.base import numerics


def simplex_to_free(weights: jax.Array) -> jax.Array:
    """Log-ratios against the last entry, (K,) -> (K - 1,)."""
    return jnp.log(weights[:-1]) - jnp.log(weights[-1])


def simplex_from_free(free: jax.Array) -> jax.Array:
    """Softmax with the last entry as baseline, (K - 1,) -> (K,)."""
    return jax.nn.softmax(jnp.concatenate([free, jnp.zeros(1, free.dtype)]))


def covariances_to_free(covariances: jax.Array) -> jax.Array:
    """Packed Cholesky factors with logarithms on the diagonal, (..., d, d) -> (..., d (d + 1) / 2)."""
    factor = numerics.cholesky(covariances)
    entries = numerics.packed_indices(covariances.shape[-1])
    return jnp.stack([jnp.log(factor[..., i, j]) if i == j else factor[..., i, j] for i, j in entries], axis=-1)


def covariances_from_free(free: jax.Array, size: int) -> jax.Array:
    """The inverse of `covariances_to_free`."""
    entries = {pair: index for index, pair in enumerate(numerics.packed_indices(size))}
    zero = jnp.zeros(free.shape[:-1], free.dtype)

    def entry(i: int, j: int) -> jax.Array:
        if j > i:
            return zero
        value = free[..., entries[i, j]]
        return jnp.exp(value) if i == j else value

    factor = jnp.stack([jnp.stack([entry(i, j) for j in range(size)], axis=-1) for i in range(size)], axis=-2)
    return numerics.multiply(factor, jnp.swapaxes(factor, -1, -2))


NEAR_ZERO = 1e-3  # a baseline below this share of the largest probability is replaced by that one


def baseline(probabilities: jax.Array, preferred: int) -> jax.Array:
    """The entry of (K,) against which log-ratios are taken: the preferred one where it is not near zero."""
    largest = jnp.argmax(probabilities)
    return jnp.where(probabilities[preferred] < NEAR_ZERO * probabilities[largest], largest, preferred)


def others(probabilities: jax.Array, preferred: int) -> tuple[jax.Array, jax.Array]:
    """Probabilities (K - 1,) without the baseline, in their order, and the baseline's."""
    base = baseline(probabilities, preferred)
    index = jnp.arange(probabilities.shape[0] - 1)
    return probabilities[jnp.where(index >= base, index + 1, index)], probabilities[base]


def log_ratios(probabilities: jax.Array, preferred: int) -> jax.Array:
    """Log-ratios (K - 1,) of the other probabilities (K,) against the baseline."""
    kept, base = others(probabilities, preferred)
    return jnp.log(kept) - jnp.log(base)


def from_log_ratios(free: jax.Array, preferred: int, like: jax.Array | None) -> jax.Array:
    """The inverse of `log_ratios` where the baseline is that of `like` (K,)."""
    base = jnp.asarray(preferred) if like is None else baseline(like, preferred)
    index = jnp.arange(free.shape[0] + 1)
    padded = jnp.concatenate([free, jnp.zeros(1, free.dtype)])
    place = jnp.where(index > base, index - 1, index)
    return jax.nn.softmax(jnp.where(index == base, 0.0, padded[place]))

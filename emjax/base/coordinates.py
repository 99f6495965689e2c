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

"""Derivatives of a model in its free coordinates (m,), column by column: memory does not grow with m times n."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from emjax.base.protocols import Model
from emjax.base.records import Array, Params, Terms

EDGE = -25.0  # where a coordinate at minus infinity is held for derivatives: a probability of 1e-11


def inside(free: Array, boundary: Array) -> Array:
    """Free coordinates of which none is further out than `EDGE`; boundary (m,) as `Model.boundary` codes it."""
    return jnp.where(boundary == 1, jnp.maximum(free, EDGE), free)


def information(gradient: Callable[[Array], Array], free: Array) -> Array:
    """Minus the Hessian (m, m), symmetric, from the gradient of a function."""
    _, along = jax.linearize(gradient, free)
    columns = jax.lax.map(along, jnp.eye(free.shape[0], dtype=free.dtype))
    return -0.5 * (columns + columns.T)


def scores(model: Model, prepared: Any, at: Callable[[Array], Params], free: Array) -> tuple[Terms, Array, Array]:
    """Terms of the log-likelihood, their weights (T,), floating, and their scores (m, T), 0 where they do not count."""

    def log_likelihood(free: Array) -> tuple[Array, Terms]:
        terms = model.terms(at(free), prepared)
        return terms.log_likelihood, terms

    _, along, terms = jax.linearize(log_likelihood, free, has_aux=True)
    weight = terms.weight.astype(free.dtype)
    found = jax.lax.map(along, jnp.eye(free.shape[0], dtype=free.dtype))
    return terms, weight, jnp.where((weight > 0)[None, :], found, 0.0)

"""Derivatives of a model in its free coordinates (m,), column by column: memory does not grow with m times n."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp

from emjax.base.protocols import Model
from emjax.base.records import Array, Params, Terms
from emjax.base.status import DataError

EDGE = -25.0  # where a coordinate at minus infinity is held for derivatives: a probability of 1e-11


class NotDifferentiable(DataError):
    """jax has no derivatives of a model of one's own."""


@contextmanager
def _of(model: Model) -> Iterator[None]:
    """Where the derivatives of a model are traced: what jax refuses to differentiate raises `NotDifferentiable`.

    jax has no exception of its own for it: `lax.while_loop` in reverse is a ValueError, a custom rule for one direction
    a TypeError. The model's code has been traced without derivatives before, so that nothing else is to be expected.
    """
    try:
        yield
    except DataError:
        raise
    except (TypeError, ValueError, NotImplementedError) as error:
        words = " ".join(str(error).split())[:100]
        raise NotDifferentiable(
            f"{type(model).__name__} cannot be differentiated by jax ({words}): write it without while_loop, callbacks "
            "and one-sided rules, or fit with certificate=False and bootstrap."
        ) from error


def inside(free: Array, boundary: Array) -> Array:
    """Free coordinates of which none is further out than `EDGE`; boundary (m,) as `Model.boundary` codes it."""
    return jnp.where(boundary == 1, jnp.maximum(free, EDGE), free)


def score(model: Model, objective: Callable[[Array], Array], free: Array) -> Array:
    """The gradient (m,) of a model's objective."""
    with _of(model):
        return jax.grad(objective)(free)


def score_and_information(model: Model, objective: Callable[[Array], Array], free: Array) -> tuple[Array, Array]:
    """The gradient (m,) of a model's objective and minus its Hessian (m, m)."""
    with _of(model):
        gradient, hessian = gradient_and_hessian(jax.grad(objective), free)
    return gradient, -hessian


def gradient_and_hessian(gradient: Callable[[Array], Array], free: Array) -> tuple[Array, Array]:
    """Of a function, (m,) and (m, m), symmetric, from its gradient."""
    found, along = jax.linearize(gradient, free)
    columns = jax.lax.map(along, jnp.eye(free.shape[0], dtype=free.dtype))
    return found, 0.5 * (columns + columns.T)


def scores(model: Model, prepared: Any, at: Callable[[Array], Params], free: Array) -> tuple[Terms, Array, Array]:
    """Terms of the log-likelihood, their weights (T,), floating, and their scores (m, T), 0 where they do not count."""

    def log_likelihood(free: Array) -> tuple[Array, Terms]:
        terms = model.terms(at(free), prepared)
        return terms.log_likelihood, terms

    jax.eval_shape(log_likelihood, free)  # a slip in `terms` shows as what it is
    with _of(model):
        _, along, terms = jax.linearize(log_likelihood, free, has_aux=True)
        found = jax.lax.map(along, jnp.eye(free.shape[0], dtype=free.dtype))
    weight = terms.weight.astype(free.dtype)
    return terms, weight, jnp.where((weight > 0)[None, :], found, 0.0)

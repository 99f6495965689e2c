"""Points of the surface g(parameters) = c on which one scalar parameter has a given value: steps within it, and along
to another c (Newton's method on the Lagrangian; Nocedal & Wright 2006, sections 12.3 and 15.6).

g is the parameter itself, or its logit or logarithm where it is bounded. Coordinates are offsets from the fit's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from emjax.base import supports
from emjax.base.protocols import Model
from emjax.base.records import Array, Params
from emjax.engine import after, derivatives, em
from emjax.inference.newton_polish import LONGEST, SCALES, uphill

RESTORE = 12  # Newton steps back to the surface, which cost no pass over the data
CLOSE = 1e-7  # how near the surface a point must be, standard errors of g


class Move(NamedTuple):
    """From `offset` (m,) of the fit's free coordinates by a part of `step`, then along `tangent` to where g = target.

    A target of NaN is where it is. lowest : nats; no point with a lower objective is taken, because from far below
    Newton's steps may lead to another branch of the profile. scale : a standard error of g. entry : place of the
    parameter among the ravelled ones.
    """

    offset: Array
    step: Array
    tangent: Array
    target: Array
    lowest: Array
    scale: Array
    entry: Array


class Point(NamedTuple):
    """There: offset (m,), objective in nats, the parameter, g, gradients (m,), information and Hessian of g (m, m)."""

    offset: Array
    objective: Array
    parameter: Array
    value: Array
    score: Array
    slope: Array
    information: Array
    bend: Array
    boundary: Array


@dataclass(frozen=True)
class Examine:
    """Moves and looks; static, so that equal questions share one compile."""

    support: str

    def __call__(self, model: Model, fitted: after.Fitted, move: Move) -> Point:
        prepared = fitted.prepared
        order = model.order(fitted.params, prepared)
        like = model.canonical(fitted.params, prepared)
        boundary = model.boundary(like, prepared)
        free = model.to_free(like, prepared)
        free = derivatives.inside(free, boundary)

        def at(offset: Array) -> Params:
            return model.from_free(free + offset, prepared, like)

        def objective(offset: Array) -> Array:
            inside = at(offset)
            return em.objective_of(model, inside, prepared, model.expect(inside, prepared).log_likelihood)

        def parameter(offset: Array) -> Array:
            inside = at(offset)
            if order is not None:
                inside = model.relabel(inside, jnp.argsort(order))
            return ravel_pytree(model.to_user(inside, prepared))[0][move.entry]

        def value(offset: Array) -> Array:
            return _unbounded(parameter(offset), self.support)

        offset = _moved(objective, value, move)
        score, information = derivatives.score_and_information(model, objective, offset)
        slope, curvature = derivatives.gradient_and_hessian(jax.jacfwd(value), offset)
        return Point(
            offset,
            objective(offset),
            parameter(offset),
            value(offset),
            score,
            slope,
            information,
            curvature,
            boundary,
        )


def _moved(objective: Any, value: Any, move: Move) -> Array:
    """On the surface, after the longest part of the step that does not lower the objective; else where it was."""
    target = jnp.where(jnp.isnan(move.target), value(move.offset), move.target)

    def restored(scale: Array) -> Array:
        begin = move.offset + scale * move.step

        def newton(_: int, t: Array) -> Array:
            found, slope = jax.jvp(lambda t: value(begin + t * move.tangent), (t,), (jnp.ones_like(t),))
            change = (target - found) / slope
            return jnp.where(jnp.isfinite(change), t + change, t)

        return begin + jax.lax.fori_loop(0, RESTORE, newton, jnp.zeros_like(target)) * move.tangent

    def judged(scale: Array) -> Array:
        offset = restored(scale)
        found = objective(offset)
        good = (jnp.abs(value(offset) - target) <= CLOSE * move.scale) & (found >= move.lowest)
        return jnp.where(good, found, -jnp.inf)

    scales = jnp.array((*SCALES, 0.0), move.offset.dtype)
    values = jax.lax.map(judged, scales)
    best = jnp.argmax((values >= values[-1]) & jnp.isfinite(values))
    return jnp.where(jnp.isfinite(values[best]), restored(scales[best]), move.offset)


def _unbounded(value: Any, support: str) -> Any:
    if support == supports.PROBABILITY:
        held = (value <= 0.0) | (value >= 1.0)  # by the user or the model: no slope, and no point of a profile
        inner = jnp.where(held, 0.5, value)
        return jnp.where(held, jnp.nan, jnp.log(inner) - jnp.log1p(-inner))
    return jnp.log(value) if support == supports.POSITIVE else value


# --- on the host: small matrices ------------------------------------------------------------------------------------


class Directions(NamedTuple):
    """At C points. multiplier (C,) : the slope of the profile, nats by unit of g, once on it. gain (C,) : nats that a
    step within the surface promises. step (C, m) : that one, no longer than `LONGEST`. tangent (C, m) : the way of the
    profile as g grows by 1."""

    multiplier: np.ndarray
    gain: np.ndarray
    step: np.ndarray
    tangent: np.ndarray


def directions(found: Point) -> Directions:
    """In coordinates reflected (Householder) so that the gradient of g has one entry: the others span the surface."""
    held = found.boundary != 0
    both = held[:, :, None] | held[:, None, :]
    score, slope = (np.where(held, 0.0, a) for a in (found.score, found.slope))
    length = np.linalg.norm(slope, axis=1, keepdims=True)
    normal = slope / length
    multiplier = np.sum(normal * score, axis=1, keepdims=True) / length
    curvature = np.where(both, 0.0, found.information + multiplier[:, :, None] * found.bend)
    pivot = np.arange(slope.shape[1]) == np.argmax(np.abs(normal), axis=1)[:, None]
    mirror = normal + np.where(pivot, np.sign(normal), 0.0)
    reflect = 2.0 * mirror[:, :, None] * mirror[:, None, :] / np.sum(mirror**2, axis=1)[:, None, None]
    reflect = np.eye(slope.shape[1]) - reflect
    inside = reflect @ curvature @ reflect

    def within(way: np.ndarray) -> np.ndarray:
        solved = uphill(np.einsum("cij,cj->ci", reflect, way), inside, held | pivot)
        return np.einsum("cij,cj->ci", reflect, solved)

    step = within(score)
    gain = 0.5 * np.sum(score * step, axis=1)
    size = np.linalg.norm(step, axis=1, keepdims=True)
    step = step * np.minimum(1.0, LONGEST / np.maximum(size, LONGEST))
    tangent = (normal - within(np.einsum("cij,cj->ci", curvature, normal))) / length
    return Directions(multiplier[:, 0], gain, step, tangent)

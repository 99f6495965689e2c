"""The compiled stages around the scheduler: prepare, start, certify, probe, return to user's units."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from emjax.base.protocols import Model
from emjax.base.records import Array, Data, Params
from emjax.engine import blocks, derivatives, em, keys, starts
from emjax.engine.programs import Program, compiled

PROBE_STEPS = 3  # EM steps before a probe is judged


@Program
@partial(compiled, static_argnames=("model", "width"))
def prepare(model: Model, width: int, data: Data, prior: Any, fixed: Any, count: Array) -> tuple[Any, Array]:
    """Prepared datasets and their `Problem` bits, leading axis C.

    What follows from shared data alone (leading axis 1) has a leading axis of 1 too.
    """

    prepared, problems = blocks.map_blocks(lambda row: model.prepare(row, prior, fixed), width, count, data, share=True)
    return prepared, jnp.broadcast_to(problems, data.y.shape[:1])


@Program
@partial(compiled, static_argnames=("model", "width", "strategies"))
def random_starts(
    model: Model,
    width: int,
    strategies: tuple[str, ...],
    prepared: Any,
    root: Array,
    words: Array,
    dataset: Array,
    restart: Array,
    count: Array,
) -> Params:
    """Start parameters of L lanes, prepared units; restarts rotate through the strategies."""

    def one(dataset: Array, restart: Array) -> Params:
        key = keys.restart_key(root, words[dataset], restart)
        return starts.start(model, key, blocks.take(prepared, dataset), strategies, restart % len(strategies))

    return blocks.map_blocks(one, width, count, dataset, restart)


@Program
@partial(compiled, static_argnames=("model", "width"))
def given_starts(
    model: Model,
    width: int,
    prepared: Any,
    root: Array,
    words: Array,
    dataset: Array,
    restart: Array,
    count: Array,
    params: Params,
    spread: Array | None,
) -> Params:
    """The user's parameters (C, R or 1, ...) in prepared units; restarts after the first perturbed by a `spread`."""
    each = jax.tree.leaves(params)[0].shape[1]
    rows = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), params)

    def one(dataset: Array, restart: Array) -> Params:
        data = blocks.take(prepared, dataset)
        exact = model.from_user(blocks.take(rows, dataset * each + restart % each), data)
        if spread is None:
            return exact
        key = keys.restart_key(root, words[dataset], restart)
        moved = starts.perturb(model, key, data, exact, spread)
        return jax.tree.map(lambda a, b: jnp.where(restart == 0, a, b), exact, moved)

    return blocks.map_blocks(one, width, count, dataset, restart)


class Curvature(NamedTuple):
    """At each of C parameter sets: free coordinates (m,), score, information (m, m) or (0, 0), boundary mask."""

    free: Array
    score: Array
    information: Array
    boundary: Array


@Program
@partial(compiled, static_argnames=("model", "width", "second"))
def curvature(
    model: Model, width: int, second: bool, prepared: Any, dataset: Array, params: Params, count: Array
) -> Curvature:
    """Score and, where `second`, observed information of the objective in free coordinates."""

    def one(dataset: Array, params: Params) -> Curvature:
        data = blocks.take(prepared, dataset)
        params = model.canonical(params, data)
        free = model.to_free(params, data)

        def objective(free: Array) -> Array:
            return em.objective_at(model, model.from_free(free, data, params), data)

        if second:
            score, information = derivatives.score_and_information(model, objective, free)
        else:
            score, information = derivatives.score(model, objective, free), jnp.zeros((0, 0), free.dtype)
        return Curvature(free, score, information, model.boundary(params, data))

    return blocks.map_blocks(one, width, count, dataset, params)


@Program
@partial(compiled, static_argnames=("model", "width"))
def probe(
    model: Model, width: int, prepared: Any, dataset: Array, like: Params, free: Array, count: Array
) -> tuple[Params, Array]:
    """Parameters and objective a few EM steps from free coordinates (N, m); `like` gives shapes, leading axis N.

    From a saddle of equal components the way up is curved: moving two means apart gains only where the variances
    shrink with them, so that every straight step loses. EM steps take the curve.
    """

    def one(dataset: Array, like: Params, free: Array) -> tuple[Params, Array]:
        data = blocks.take(prepared, dataset)
        straight = model.from_free(free, data, like)
        bent = lax.fori_loop(0, PROBE_STEPS, lambda _, params: em.em_step(model, params, data)[0], straight)
        before, after = (em.objective_at(model, params, data) for params in (straight, bent))
        better = after >= before  # False where the steps end in NaN
        return jax.tree.map(lambda a, b: jnp.where(better, a, b), (bent, after), (straight, before))

    return blocks.map_blocks(one, width, count, dataset, like, free)


@Program
@partial(compiled, static_argnames=("model", "width"))
def to_user(model: Model, width: int, prepared: Any, params: Params, count: Array) -> Params:
    """Parameters in the user's units, leading axis C."""
    return blocks.map_blocks(lambda data, row: model.to_user(row, data), width, count, prepared, params)


@Program
@partial(compiled, static_argnames=("model", "width"))
def n_free(model: Any, width: int, prepared: Any, count: Array) -> Array:
    """Number of free parameters of C datasets, (C,); only of models whose padding has coordinates of its own."""
    return blocks.map_blocks(model.n_free, width, count, prepared)


@partial(jax.jit, static_argnames=("model",))
def predict(model: Model, data: Data, params: Params, weight: Array | None) -> tuple[Any, Array]:
    """Predictions for one dataset under user's parameters; `Problem` bits of its rows, with other weights if given."""
    prepared, problem = model.prepare(data)
    if weight is not None:
        _, problem = model.prepare(data._replace(weight=weight))
    return model.predict(model.from_user(params, prepared), prepared), problem


@partial(jax.jit, static_argnames=("model",))
def to_free(model: Model, params: Params, data: Any) -> Array:
    """Free coordinates (m,) of one dataset's parameters, prepared units."""
    return model.to_free(params, data)

"""The slot-refilling scheduler: finished lanes make room for waiting ones inside one compiled loop.

A vmapped `while_loop` runs every lane until the slowest ends; EM's iteration counts are heavy-tailed, so most of that
work is thrown away. Here a fixed number of slots takes a few steps at a time; then finished lanes are written out and
their slots take the next waiting lanes.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from emjax.base.protocols import Model
from emjax.base.records import Array, Params
from emjax.base.settings import Degeneracy
from emjax.base.status import Status
from emjax.engine import blocks, devices, em
from emjax.engine.em import Lane
from emjax.engine.programs import Program


class Lanes(NamedTuple):
    """Results of L lanes; params in prepared units."""

    params: Params
    log_likelihood: Array
    objective: Array
    status: Array
    flags: Array
    iterations: Array
    remaining: Array


class _Slots(NamedTuple):
    lanes: Lane  # leading axis W
    index: Array  # (W,) which lane each slot holds; L where idle
    waiting: Array  # () the next lane to be taken
    results: Lanes  # (L + 1, ...); the last row is where idle slots write
    executed: Array  # () blocks of W lane-steps taken


@Program
@partial(jax.jit, static_argnames=("model", "degeneracy", "width"))
def run_lanes(
    model: Model,
    degeneracy: Degeneracy,
    width: int,
    prepared: Any,
    dataset: Array,
    starts: Params,
    tol: Array,
    count: Array,
    max_iterations: Array,
) -> tuple[Lanes, Array]:
    """Run the first `count` of L lanes to their ends.

    prepared : leading axis of datasets. dataset (L,) : which of them each lane fits. starts : leading axis L, prepared
    units. tol (L,) : nats. Returns the results (L, ...) and the number of lane-steps executed, idle slots included.
    """
    size = dataset.shape[0]
    dtype = tol.dtype
    # The data of the slots are gathered, and a GPU's host is asked, once in so many ticks.
    steps = blocks.steps_for(devices.current())
    dataset = jnp.concatenate([dataset, jnp.zeros(1, dataset.dtype)])

    def begin(index: Array) -> Lane:
        row = jnp.minimum(index, size - 1)
        lane = jax.vmap(partial(em.begin, model, dtype=dtype))(blocks.take(starts, row), tol[row])
        idle = index >= size
        return lane._replace(status=jnp.where(idle, Status.STOPPED_EARLY, lane.status))

    def refill(slots: _Slots) -> _Slots:
        done = slots.lanes.status != Status.RUNNING
        results = _write(slots, done, size)
        taken = slots.waiting + jnp.cumsum(done, dtype=jnp.int32) - 1
        index = jnp.where(done, jnp.where(taken < count, taken, size), slots.index).astype(jnp.int32)
        lanes = jax.tree.map(lambda new, old: _where_rows(done, new, old), begin(index), slots.lanes)
        waiting = jnp.minimum(slots.waiting + jnp.sum(done, dtype=jnp.int32), count)
        return _Slots(lanes, index, waiting, results, slots.executed)

    def body(slots: _Slots) -> _Slots:
        slots = refill(slots)
        data = blocks.take(prepared, dataset[slots.index])
        step = jax.vmap(partial(em.tick, model, degeneracy, max_iterations))
        lanes = lax.fori_loop(0, steps, lambda _, lanes: step(data, lanes), slots.lanes)
        return slots._replace(lanes=lanes, executed=slots.executed + steps)

    def unfinished(slots: _Slots) -> Array:
        return (slots.waiting < count) | jnp.any(slots.lanes.status == Status.RUNNING)

    idle = jnp.full(width, size, jnp.int32)
    slots = _Slots(begin(idle), idle, jnp.int32(0), _room(begin, size), jnp.int32(0))
    slots = lax.while_loop(unfinished, body, slots)
    done = slots.lanes.status != Status.RUNNING
    results = jax.tree.map(lambda leaf: leaf[:size], _write(slots, done, size))
    return results, slots.executed * width


def _results(lane: Lane) -> Lanes:
    return Lanes(
        lane.params,
        lane.log_likelihood,
        lane.objective,
        lane.status,
        lane.flags,
        lane.iterations,
        lane.progress.remaining,
    )


def _room(begin: Any, size: int) -> Lanes:
    example = jax.eval_shape(lambda: _results(begin(jnp.zeros(1, jnp.int32))))
    return jax.tree.map(lambda leaf: jnp.zeros((size + 1, *leaf.shape[1:]), leaf.dtype), example)


def _write(slots: _Slots, done: Array, size: int) -> Lanes:
    target = jnp.where(done, slots.index, size)
    return jax.tree.map(lambda room, new: room.at[target].set(new), slots.results, _results(slots.lanes))


def _where_rows(condition: Array, yes: Array, no: Array) -> Array:
    return jnp.where(condition.reshape(-1, *[1] * (yes.ndim - 1)), yes, no)

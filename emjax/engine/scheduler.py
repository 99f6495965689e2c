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
from emjax.engine.programs import Program, compiled

NEVER = 2**31 - 1  # no pause


class _Slots(NamedTuple):
    lanes: Lane  # leading axis W
    index: Array  # (W,) which lane each slot holds; L where idle
    waiting: Array  # () the next lane to be taken
    results: Lane  # (L + 1, ...); the last row is where idle slots write
    executed: Array  # () blocks of W lane-steps taken


@Program
@partial(compiled, static_argnames=("model", "acceleration"))
def begin_lanes(model: Model, prepared: Any, starts: Params, tol: Array, acceleration: str | None = None) -> Lane:
    """L lanes about to take their first tick from `starts` (prepared units), tol (L,) in nats.

    prepared : leading axis of datasets, of which the shapes count.
    """
    one = blocks.take(prepared, 0)
    return jax.vmap(lambda params, tol: em.begin(model, params, tol, one, tol.dtype, acceleration))(starts, tol)


@Program
@partial(compiled, static_argnames=("model", "degeneracy", "width", "acceleration"))
def run_lanes(
    model: Model,
    degeneracy: Degeneracy,
    width: int,
    prepared: Any,
    dataset: Array,
    lanes: Lane,
    count: Array,
    max_iterations: Array,
    pause: Array,
    acceleration: str | None = None,
) -> tuple[Lane, Array]:
    """Run the first `count` of L lanes to their ends, or until they have taken `pause` iterations in all.

    prepared : leading axis of datasets. dataset (L,) : which of them each lane fits. lanes : leading axis L, prepared
    units. A lane that is set aside at the pause is still RUNNING, and goes on from there as if it had never stopped.
    Returns the lanes and the number of lane-steps executed, idle slots included.
    """
    size = dataset.shape[0]
    # The data of the slots are gathered, and a GPU's host is asked, once in so many ticks.
    steps = blocks.steps_for(devices.current())
    dataset = jnp.concatenate([dataset, jnp.zeros(1, dataset.dtype)])

    def take(index: Array) -> Lane:
        lane = blocks.take(lanes, jnp.minimum(index, size - 1))
        return lane._replace(status=jnp.where(index >= size, Status.STOPPED_EARLY, lane.status))

    def step(data: Any, lane: Lane) -> Lane:
        following = em.tick(model, degeneracy, max_iterations, data, lane, acceleration)
        return jax.tree.map(lambda a, b: jnp.where(lane.iterations < pause, a, b), following, lane)

    def finished(slots: _Slots) -> Array:
        return (slots.lanes.status != Status.RUNNING) | (slots.lanes.iterations >= pause)

    def refill(slots: _Slots) -> _Slots:
        done = finished(slots)
        results = _write(slots, done, size)
        taken = slots.waiting + jnp.cumsum(done, dtype=jnp.int32) - 1
        index = jnp.where(done, jnp.where(taken < count, taken, size), slots.index).astype(jnp.int32)
        fresh = jax.tree.map(lambda new, old: _where_rows(done, new, old), take(index), slots.lanes)
        waiting = jnp.minimum(slots.waiting + jnp.sum(done, dtype=jnp.int32), count)
        return _Slots(fresh, index, waiting, results, slots.executed)

    def body(slots: _Slots) -> _Slots:
        slots = refill(slots)
        data = blocks.take(prepared, dataset[slots.index])
        stepped = lax.fori_loop(0, steps, lambda _, lane: jax.vmap(step)(data, lane), slots.lanes)
        return slots._replace(lanes=stepped, executed=slots.executed + steps)

    idle = jnp.full(width, size, jnp.int32)
    room = jax.tree.map(lambda leaf: jnp.zeros((size + 1, *leaf.shape[1:]), leaf.dtype), lanes)
    slots = _Slots(take(idle), idle, jnp.int32(0), room, jnp.int32(0))
    slots = lax.while_loop(lambda slots: (slots.waiting < count) | ~jnp.all(finished(slots)), body, slots)
    results = jax.tree.map(lambda leaf: leaf[:size], _write(slots, finished(slots), size))
    return results, slots.executed * width


def _write(slots: _Slots, done: Array, size: int) -> Lane:
    target = jnp.where(done, slots.index, size)
    return jax.tree.map(lambda room, new: room.at[target].set(new), slots.results, slots.lanes)


def _where_rows(condition: Array, yes: Array, no: Array) -> Array:
    return jnp.where(condition.reshape(-1, *[1] * (yes.ndim - 1)), yes, no)

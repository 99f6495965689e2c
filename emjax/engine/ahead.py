"""A chunk's later stages compiled in the background while the first still are.

The first fit of a process is nearly all compiling, and XLA's compiler lets other threads run.
"""

from __future__ import annotations

import threading
from functools import partial
from typing import Any

import jax
import numpy as np

from emjax.engine import blocks, chunks, devices, scheduler, stages
from emjax.engine.chunks import Chunk, Plan


def begin(plan: Plan, chunk: Chunk, data: Any) -> None:
    """Start compiling what `pipeline.fit_chunk` is going to ask for, unless it was."""
    first = plan.model, plan.width, data, chunk.prior, chunk.fixed, np.int32(chunk.count)
    if stages.prepare.is_ready(*first):
        return
    shapes = stages.prepare.shapes(*first)[0]
    # No daemon: an interpreter that ends while XLA compiles would crash.
    threading.Thread(target=_compile, args=(plan, chunk, shapes, devices.chosen()), name="emjax-compile").start()


def _compile(plan: Plan, chunk: Chunk, prepared: Any, device: Any) -> None:
    with jax.enable_x64(True), jax.threefry_partitionable(True), jax.default_device(device):
        try:
            size = blocks.lane_room(chunk.count * plan.restarts, plan.width)
            lane, one = jax.ShapeDtypeStruct((size,), np.int32), np.int32(1)
            asked = plan.model, plan.width, prepared, chunk.root, chunk.words, lane, lane, one
            if plan.strategies:
                starts = stages.random_starts.shapes(*asked[:2], plan.strategies, *asked[2:])
            else:
                starts = stages.given_starts.shapes(*asked, chunk.starts, np.float64(0))
            _run(plan, prepared, starts, lane)
            if plan.certify is not False:
                _curvature(plan, chunk, prepared, starts)
        except Exception:  # what is wrong with a user's model is told by the thread that needs the program
            return


def _run(plan: Plan, prepared: Any, starts: Any, lane: Any) -> None:
    data, starts = jax.eval_shape(partial(chunks.cast, dtype=plan.precision), (prepared, starts))
    begun = plan.model, data, starts, jax.ShapeDtypeStruct(lane.shape, plan.precision), plan.acceleration
    lanes, one = scheduler.begin_lanes.shapes(*begun), np.int32(1)
    scheduler.run_lanes.compile(
        plan.model, plan.degeneracy, plan.width, data, lane, lanes, one, one, one, plan.acceleration
    )
    scheduler.begin_lanes.compile(*begun)


def _curvature(plan: Plan, chunk: Chunk, prepared: Any, starts: Any) -> None:
    size = blocks.lane_room(chunk.count, plan.width)
    params = jax.tree.map(lambda a: jax.ShapeDtypeStruct((size, *a.shape[1:]), np.float64), starts)
    one = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), (params, prepared))
    n_free = jax.eval_shape(plan.model.to_free, *one).shape[0]
    lane = jax.ShapeDtypeStruct((size,), np.int32)
    stages.curvature.compile(
        plan.model, plan.width, plan.wants_information(n_free), prepared, lane, params, np.int32(1)
    )

"""One chunk of datasets from arrays to chosen, certified fits. Host code between compiled stages."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from emjax.base.records import Data, Params
from emjax.base.status import Problem
from emjax.engine import blocks, choice, devices, passes, stages
from emjax.engine.choice import Landscape
from emjax.engine.chunks import Chunk, ChunkFit, Counter, Plan, cast, padded, put
from emjax.engine.em import Lane
from emjax.engine.endpoints import EndPoints


def fit_chunk(plan: Plan, chunk: Chunk) -> ChunkFit:
    """Prepare, start, run, choose, polish, certify, escape, return to the user's units."""
    with jax.enable_x64(True), jax.threefry_partitionable(True):
        count = np.int32(chunk.count)
        shared = devices.current().platform != "cpu"
        data = jax.device_put(
            chunk.data if shared else _repeated(chunk.data)
        )  # jnp.asarray would compile a small program a shape
        prepared, problems = stages.prepare(plan.model, plan.width, data, chunk.prior, chunk.fixed, count)
        problems = np.asarray(problems)[: chunk.count]
        counter = Counter()
        landscape, params = _run_restarts(plan, chunk, prepared, problems, counter)
        chosen = choice.choose(landscape, problems)
        point = EndPoints(plan, prepared, chunk.count, chosen, landscape, params)
        if plan.precision == "float32" and plan.polish:
            point.polish(counter)
        point.certify(counter)
        user = stages.to_user(plan.model, plan.width, prepared, point.padded_params(), count)
        return point.result(user, problems, landscape, counter, _observations(plan.model, data, chunk.count))


def _repeated(data: Data) -> Data:
    """A copy a dataset of what all share: XLA:CPU does other arithmetic with one, and results would differ in a bit.

    On a GPU they may, and memory matters more.
    """
    return jax.tree.map(lambda leaf: np.repeat(leaf, len(data.y), axis=0) if len(leaf) < len(data.y) else leaf, data)


def _observations(model: Any, data: Data, count: int) -> np.ndarray:
    """Sum of the weights of the units of which something was observed; of a sequential model, of such rows."""
    weight = np.asarray(data.weight)[:count]
    if model.sequential or model.missing or data.observed is not None:
        seen = _seen(data, count)
        unit = np.arange(seen.shape[1])[None] if data.unit is None else np.asarray(data.unit)[:count]
        unit = np.broadcast_to(unit, seen.shape)
        if model.sequential:
            weight = np.where(seen, np.take_along_axis(weight, unit, axis=1), 0)
        else:
            units = np.zeros((len(seen), weight.shape[1]), bool)
            np.logical_or.at(units, (np.arange(len(seen))[:, None], unit), seen)
            weight = np.where(units, weight, 0)
    with np.errstate(over="ignore", invalid="ignore"):  # weights that overflow are INVALID_DATA
        found = np.asarray(np.sum(weight, axis=1, dtype=np.float64))
    return found if len(found) == count else np.full(count, found[0])


def _seen(data: Data, count: int) -> np.ndarray:
    """Which rows have an observed cell, (count, n)."""
    y = np.asarray(data.y)[:count]
    missing = np.isnan(y).reshape(*y.shape[:2], -1)
    if data.observed is not None:  # a row, or a cell
        observed = np.asarray(data.observed, bool)[:count]
        missing = missing | ~observed.reshape(*observed.shape[:2], -1)
    return ~np.all(missing, axis=2)


def _run_restarts(
    plan: Plan, chunk: Chunk, prepared: Any, problems: np.ndarray, counter: Counter
) -> tuple[Landscape, Params]:
    """All restarts of all valid datasets; the lanes' parameters stay in a (count, R, ...) pytree, prepared units."""
    landscape = choice.empty(chunk.count, plan.cap, problems)
    params: Params = None
    active = np.flatnonzero(problems == Problem.NONE)
    for turn in range(plan.max_rounds):
        if len(active) == 0:
            break
        first = turn * plan.restarts
        dataset = np.repeat(active, plan.restarts).astype(np.int32)
        restart = np.tile(np.arange(first, first + plan.restarts, dtype=np.int32), len(active))
        lanes = _run_round(plan, chunk, prepared, dataset, restart, counter)
        choice.record(landscape, dataset, restart, lanes, plan.strategies)
        if params is None:
            params = jax.tree.map(lambda a: np.full((chunk.count, plan.cap, *a.shape[1:]), np.nan), lanes.params)
        put(params, (dataset, restart), lanes.params)
        if turn + 1 < plan.max_rounds:
            active = active[~(choice.unseen(landscape)[active] < choice.ENOUGH)]
    if params is None:
        params = _shapes_of_params(plan, chunk, prepared)
    return landscape, params


def _shapes_of_params(plan: Plan, chunk: Chunk, prepared: Any) -> Params:
    """NaN of the right shapes, for a chunk without a single valid dataset."""
    dataset = np.zeros(plan.width, np.int32)
    starts = _starts(plan, chunk, prepared, dataset, dataset)
    return jax.tree.map(lambda a: np.full((chunk.count, plan.cap, *a.shape[1:]), np.nan), starts)


def _run_round(
    plan: Plan, chunk: Chunk, prepared: Any, dataset: np.ndarray, restart: np.ndarray, counter: Counter
) -> Lane:
    """One lane for each pair of `dataset` and `restart`, raced or not, to its end."""
    starts = cast(_starts(plan, chunk, prepared, dataset, restart), plan.precision)
    data = cast(prepared, plan.precision)
    tol = np.full(len(jax.tree.leaves(starts)[0]), plan.stop.tol, plan.precision)
    return passes.run_all(plan, data, dataset, starts, tol, counter, race=True)


def _starts(plan: Plan, chunk: Chunk, prepared: Any, dataset: np.ndarray, restart: np.ndarray) -> Params:
    """Start parameters of the lanes, float64, padded to whole blocks."""
    size = blocks.lane_room(len(dataset), plan.width)
    lanes = padded(dataset, size), padded(restart, size), np.int32(len(dataset))
    if plan.strategies:
        return stages.random_starts(plan.model, plan.width, plan.strategies, prepared, chunk.root, chunk.words, *lanes)
    spread = np.float64(chunk.spread) if chunk.spread > 0 else None
    return stages.given_starts(plan.model, plan.width, prepared, chunk.root, chunk.words, *lanes, chunk.starts, spread)

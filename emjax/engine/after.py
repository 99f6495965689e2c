"""What is asked of fitted datasets: a traced function of one of them, mapped over a batch chunk by chunk."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from emjax.base.protocols import Model
from emjax.base.records import Array, Data, Params
from emjax.base.status import DataError
from emjax.engine import blocks, datasets, devices, runner
from emjax.engine.generated import Generated
from emjax.engine.programs import Program, compiled
from emjax.engine.results import Fit, Fits

CHUNK = 4096  # datasets at a time


class Point(NamedTuple):
    """Datasets and where in their parameter space: leading axis as `positions`, which says which datasets they are."""

    model: Model
    data: Any
    positions: np.ndarray
    params: Params
    prior: Any
    fixed: Any


class Fitted(NamedTuple):
    """One dataset, traced: as given but padded, prepared, and the parameters in both units."""

    data: Data
    prepared: Any
    user: Params
    params: Params  # prepared units


Function = Callable[[Model, Fitted, Any], Any]  # model, dataset, extra -> arrays


def check(fits: Any) -> None:
    """What did not come from a fit, such as its parameters alone, raises `DataError`."""
    if not isinstance(fits, (Fit, Fits)):
        raise DataError(f"A Fit or Fits is needed, not {type(fits).__name__}: give what fit or fit_many returned.")


def point(fits: Fit | Fits) -> Point:
    """Where the fits ended, in the user's units; of one fit a batch of one. Errors: `DataError`, see `check`."""
    check(fits)
    settings = fits.settings
    if isinstance(fits, Fit):
        params = jax.tree.map(lambda a: np.asarray(a)[None], fits.params)
        return Point(fits.model, [fits.data], np.zeros(1, int), params, settings.prior, settings.fixed)
    return Point(fits.model, fits.data, fits.positions, fits.params, settings.prior, settings.fixed)


def over(
    at: Point, function: Function, extra: Any = None, *, chunk: int = CHUNK, threads: int | None = None
) -> Iterator[tuple[np.ndarray, Any, np.ndarray]]:
    """`function` of each dataset, float64, in chunks: rows of `at`, results (NumPy, leading axis), `Problem` bits.

    function : static, so at module level or a frozen dataclass. extra : a pytree of arrays with a leading axis as `at`.
    At most `chunk` datasets' results for each thread are held at a time.
    """
    streamed = isinstance(at.data, Generated)
    groups, n_datasets = ([at.data], len(at.data)) if streamed else datasets.batches(at.model, at.data)
    where = np.full(n_datasets, -1)
    where[at.positions] = np.arange(len(at.positions))
    threads = devices.default_threads() if threads is None else threads
    pool = devices.Pool(threads)

    def run(job: tuple[Any, np.ndarray]) -> tuple[np.ndarray, Any, np.ndarray]:
        batch, which = job
        rows = where[batch.positions[which]]
        with pool.device(), jax.enable_x64(True), jax.threefry_partitionable(True):
            width = blocks.width_for(devices.current(), batch.dataset_bytes)
            size = blocks.capacity_for(len(which), width)
            params, more = jax.tree.map(lambda a: np.resize(a[rows], (size, *np.shape(a)[1:])), (at.params, extra))
            own = _chunk(batch, which, size)
            found, problems = _mapped(
                function, at.model, width, own, params, at.prior, at.fixed, more, np.int32(len(which))
            )
            return rows, *jax.tree.map(lambda a: np.asarray(a)[: len(which)], (found, problems))

    yield from runner.in_order(run, _jobs(groups, where, chunk), threads)


def _jobs(groups: list[Any], where: np.ndarray, chunk: int) -> Iterator[tuple[Any, np.ndarray]]:
    for batch in groups:
        present = np.flatnonzero(where[batch.positions] >= 0)
        for first in range(0, len(present), chunk):
            yield batch, present[first : first + chunk]


def _chunk(batch: Any, which: np.ndarray, size: int) -> Data:
    if isinstance(batch, Generated):
        return batch.chunk(which, size)
    data = jax.tree.map(lambda a: np.asarray(a)[which], batch.data)
    return batch._replace(positions=batch.positions[which], data=data).chunk(slice(0, len(which)), size)


@Program
@partial(compiled, static_argnames=("function", "model", "width"))
def _mapped(
    function: Function,
    model: Model,
    width: int,
    data: Data,
    params: Params,
    prior: Any,
    fixed: Any,
    extra: Any,
    count: Array,
) -> tuple[Any, Array]:
    def one(data: Data, params: Params, extra: Any) -> tuple[Any, Array]:
        prepared, problem = model.prepare(data, prior, fixed)
        fitted = Fitted(data, prepared, params, model.from_user(params, prepared))
        return function(model, fitted, extra), problem

    return blocks.map_blocks(one, width, count, data, params, extra)

"""Chunks over threads, as XLA's CPU runtime uses one core for such small blocks; progress and Ctrl-C between them."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import NamedTuple, TypeVar

import numpy as np

from emjax.base.status import Status
from emjax.engine.chunks import ChunkFit
from emjax.engine.datasets import Batch
from emjax.engine.generated import Generated

J = TypeVar("J")
R = TypeVar("R")


class Job(NamedTuple):
    """Some datasets of a batch, to be padded to `size` datasets, in blocks of `width` lanes."""

    batch: Batch | Generated
    rows: slice
    size: int
    width: int


Part = tuple[np.ndarray, ChunkFit]  # positions of the datasets, their fits


class Advance(NamedTuple):
    """Progress at a chunk boundary."""

    done: int
    total: int
    fits_per_second: float
    seconds_left: float
    converged: float
    work_efficiency: float


def run_all(
    run: Callable[[Job], ChunkFit],
    jobs: list[Job],
    threads: int,
    total: int,
    progress: Callable[[Advance], None] | None,
) -> tuple[list[Part], bool]:
    """Every job's fits, and whether all were run: Ctrl-C keeps what is finished, and raises where nothing is."""
    tally = Tally(total)
    parts: dict[int, Part] = {}  # by the first dataset of the job, so that keeping one twice is keeping it once

    def keep(job: Job, result: ChunkFit) -> None:
        parts[job.batch.positions[job.rows][0]] = _part(job, result)
        if progress is not None:
            progress(tally.add(result.status, result.useful, result.executed))

    if threads == 1 or len(jobs) == 1:
        try:
            for job in jobs:
                keep(job, run(job))
        except KeyboardInterrupt:
            if not parts:
                raise
        return list(parts.values()), len(parts) == len(jobs)
    pool = ThreadPoolExecutor(threads)
    waiting: dict[Future, Job] = {}
    try:
        waiting = {pool.submit(run, job): job for job in jobs}
        while waiting:
            for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                keep(waiting[future], future.result())
                del waiting[future]
    except KeyboardInterrupt:
        pool.shutdown(wait=True, cancel_futures=True)
        for future, job in waiting.items():
            if future.done() and not future.cancelled() and future.exception() is None:
                parts[job.batch.positions[job.rows][0]] = _part(job, future.result())
        if not parts:
            raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    return list(parts.values()), len(parts) == len(jobs)


def _part(job: Job, result: ChunkFit) -> Part:
    return job.batch.positions[job.rows], result


def in_order(run: Callable[[J], R], jobs: Iterable[J], threads: int) -> Iterator[R]:
    """Each job's result, in order, `threads` of them worked on or ready while the caller holds one: memory stays flat.

    An interrupt, or a caller who leaves, cancels what has not begun.
    """
    if threads == 1:
        yield from map(run, jobs)
        return
    pool = ThreadPoolExecutor(threads)
    waiting: deque[Future[R]] = deque()
    try:
        for job in jobs:
            waiting.append(pool.submit(run, job))
            if len(waiting) > threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


class Tally:
    """Sums over the finished chunks, from which progress is told."""

    def __init__(self, total: int) -> None:
        self.total, self.began = total, time.perf_counter()
        self.done, self.converged, self.executed, self.useful = 0, 0, 0, 0.0

    def add(self, status: np.ndarray, useful: float, executed: int) -> Advance:
        """One more chunk: the statuses of its datasets, lane-steps that advanced a lane, and all that were taken."""
        self.done += len(status)
        self.converged += int(np.sum(status == Status.CONVERGED))
        self.useful += useful
        self.executed += executed
        rate = self.done / max(time.perf_counter() - self.began, 1e-9)
        left = (self.total - self.done) / max(rate, 1e-9)
        efficiency = self.useful / max(self.executed, 1)
        return Advance(self.done, self.total, rate, left, self.converged / max(self.done, 1), efficiency)

"""Chunks over threads, as XLA's CPU runtime uses one core for such small blocks; progress and Ctrl-C between them."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import NamedTuple

import numpy as np

from emjax.base.status import Status
from emjax.engine.chunks import ChunkFit
from emjax.engine.datasets import Batch


class Job(NamedTuple):
    """Some datasets of a batch, to be padded to `size` datasets, in blocks of `width` lanes."""

    batch: Batch
    rows: slice
    size: int
    width: int


Part = tuple[np.ndarray, Batch, ChunkFit]  # positions of the datasets, their batch, their fits


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
    began = time.perf_counter()
    parts: dict[int, Part] = {}  # by the first dataset of the job, so that keeping one twice is keeping it once

    def keep(job: Job, result: ChunkFit) -> None:
        parts[job.batch.positions[job.rows][0]] = _part(job, result)
        if progress is not None:
            progress(_advance(list(parts.values()), total, time.perf_counter() - began))

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
    return job.batch.positions[job.rows], job.batch, result


def _advance(parts: list[Part], total: int, seconds: float) -> Advance:
    done = sum(len(p) for p, _, _ in parts)
    rate = done / max(seconds, 1e-9)
    converged = sum(int(np.sum(r.status == Status.CONVERGED)) for _, _, r in parts) / max(done, 1)
    executed = sum(r.executed for _, _, r in parts)
    efficiency = sum(r.useful for _, _, r in parts) / max(executed, 1)
    return Advance(done, total, rate, (total - done) / max(rate, 1e-9), converged, efficiency)

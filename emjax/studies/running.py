"""A study computed chunk by chunk into its directory, by this process, several, or a cluster's workers."""

from __future__ import annotations

import queue
import time
import uuid
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from emjax.base.status import DataError
from emjax.engine import devices, fitting
from emjax.engine.runner import Advance, Tally
from emjax.studies import chunk_files, environment, scenarios, simulating
from emjax.studies.claims import BEAT, LIMIT, Claims
from emjax.studies.methods import Measured
from emjax.studies.simulating import Simulated
from emjax.studies.store import MANIFEST, Store, Unit

CPU_CHUNK, OTHER_CHUNK = 256, 4096  # replicates at a time, at most, by default
AHEAD = 64  # chunks that a cluster has at a time, so that neither it nor this process holds a whole study
CLAIMS, AT_WORK = "claims", "at-work"
PAUSE = 0.5  # seconds between looks at chunks that other processes work on

Progress = Callable[[Advance], None] | None


class Ran(NamedTuple):
    """What one call of `run` did.

    computed, found : chunk files that it wrote, and that were there or written by others. damaged : sentences, one for
    each file that was truncated and computed anew. complete : whether every file of the study is there now.
    """

    computed: int
    found: int
    damaged: tuple[str, ...]
    complete: bool


class Worker:
    """Computes chunks; the data of the last one are kept for the next method."""

    def __init__(self, study: Any, chunk: int, threads: int | None) -> None:
        self.study, self.chunk, self.threads = study, chunk, threads
        self._last: tuple[Any, Simulated] | None = None

    def measure(self, unit: Unit) -> Measured:
        """The replicates of one file. Errors: `DataError` naming scenario and method; KeyboardInterrupt."""
        scenario = self.study.scenario(unit.scenario)
        replicates = np.arange(unit.first, unit.first + self.chunk)
        try:
            simulated = self._simulated(unit, scenario, replicates)
            return self.study.measure(unit.method, scenario, simulated, replicates, self.threads)
        except DataError as error:
            raise DataError(f"method {unit.method!r} in scenario {scenario}: {error}") from error
        except Exception as error:  # of a user's function, in most cases
            last = unit.first + self.chunk - 1
            raise DataError(
                f"method {unit.method!r} in scenario {scenario}, replicates {unit.first} to {last}: {in_words(error)}; "
                "mend it and run again; a function that is changed needs a new directory or, of a method, a new name, "
                "unless none of its files is there yet."
            ) from error

    def _simulated(self, unit: Unit, scenario: scenarios.Scenario, replicates: np.ndarray) -> Simulated:
        name = unit.scenario, unit.first
        if self._last is None or self._last[0] != name:
            root = self.study.root(scenario, "data")
            self._last = name, simulating.draw(self.study.generate, scenario, root, replicates)
        return self._last[1]


def run(
    study: Any,
    directory: Any,
    *,
    worker: tuple[int, int] = (0, 1),
    progress: Progress = None,
    chunk: int | None = None,
    threads: int | None = None,
    client: Any = None,
    retries: int = 2,
    limit: float = LIMIT,
) -> Ran:
    """See `Study.run`."""
    place, count = _share(worker)
    _check(progress, threads, client, retries, limit)
    store = Store(directory)
    store.make()
    with Claims(store.directory / CLAIMS, limit, min(BEAT, limit / 4)) as claims:
        size = _begin(study, store, claims, chunk)
        units = study.units(size)
        damaged = _clear_damaged(store, units)
        missing = [unit for unit in units if not store.has(unit)]
        tally = Tally(size * len(missing))
        first = len(missing) * place // count
        ordered = missing[first:] + missing[:first]
        try:
            if client is not None:
                computed = _on_cluster(study, store, ordered, size, threads, client, retries, tally, progress)
            else:
                computed = _here(Worker(study, size, threads), store, ordered, claims, tally, progress)
        except _Stopped as stopped:
            computed = stopped.computed
    present = sum(map(store.has, units))
    return Ran(computed, present - computed, damaged, present == len(units))


def _begin(study: Any, store: Store, claims: Claims, chunk: int | None) -> int:
    """Write or extend the manifest, one process at a time, so that no extension is lost. Replicates a file.

    From then on until its run ends the process has a claim of its own, so that no other gives up what it began.
    """
    while not claims.take(MANIFEST):
        time.sleep(PAUSE)
    try:
        alone = not claims.others()
        size = _chunk(study, store, chunk, alone)
        store.begin(study.specified(), size, alone)
        claims.take(f"{AT_WORK}.{uuid.uuid4().hex}")
    finally:
        claims.release(MANIFEST)
    return size


class _Stopped(Exception):
    """Ctrl-C, and how many chunks were written before it."""

    def __init__(self, computed: int) -> None:
        self.computed = computed


def _here(worker: Worker, store: Store, units: list[Unit], claims: Claims, tally: Tally, progress: Progress) -> int:
    """Every chunk that no other process has; then those that others do not finish. The number computed here."""
    computed = 0
    try:
        while units:
            waiting, before = [], computed
            for unit in units:
                if store.has(unit):
                    tally.total -= worker.chunk  # by another process
                elif not claims.take(unit.file):
                    waiting.append(unit)
                else:
                    try:
                        if store.has(unit):
                            tally.total -= worker.chunk
                            continue
                        measured = worker.measure(unit)
                        store.save(unit, measured)
                    finally:
                        claims.release(unit.file)
                    computed += 1
                    _tell(progress, tally, measured.outcomes.status, measured.efficiency)
            units = waiting
            if units and computed == before:
                time.sleep(PAUSE)
        claims.sweep()
    except KeyboardInterrupt:
        raise _Stopped(computed) from None
    return computed


class Sent(NamedTuple):
    """What a cluster's task gives back: the file's bytes, where it was computed, and what progress tells."""

    content: bytes
    environment: dict[str, str]
    status: np.ndarray
    efficiency: float


def task(study: Any, unit: Unit, chunk: int, threads: int) -> Sent:
    """One file, computed anywhere: a pure function, so that it may be run again where a worker was lost."""
    measured = Worker(study, chunk, threads).measure(unit)
    content = chunk_files.encode(measured, unit.file)
    return Sent(content, environment.describe(), measured.outcomes.status, measured.efficiency)


def _on_cluster(
    study: Any,
    store: Store,
    units: list[Unit],
    chunk: int,
    threads: int | None,
    client: Any,
    retries: int,
    tally: Tally,
    progress: Progress,
) -> int:
    """Tasks through `client.submit`, as dask.distributed has it; this process alone writes the files."""
    manifest = store.manifest()
    done: queue.SimpleQueue[Any] = queue.SimpleQueue()
    waiting, running, computed = list(reversed(units)), {}, 0
    try:
        while waiting or running:
            while waiting and len(running) < AHEAD:
                unit = waiting.pop()
                name = f"emjax-{manifest['hash'][:16]}-{unit.file}"
                future = client.submit(task, study, unit, chunk, threads or 1, key=name, retries=retries, pure=True)
                running[future] = unit
                future.add_done_callback(done.put)
            try:
                future = done.get(timeout=1.0)  # in steps, so that Ctrl-C is heard
            except queue.Empty:
                continue
            unit, sent = running.pop(future), _received(future)
            store.refuse_foreign(manifest, sent.environment)
            store.save(unit, sent.content)
            computed += 1
            _tell(progress, tally, sent.status, sent.efficiency)
    except KeyboardInterrupt:
        raise _Stopped(computed) from None
    finally:
        for future in running:
            future.cancel()
    return computed


def _received(future: Any) -> Sent:
    """Errors: `DataError` for a task that failed every time."""
    try:
        return future.result()
    except DataError:
        raise
    except Exception as error:
        raise DataError(
            f"The cluster gave up on a chunk ({in_words(error)}): finished ones are whole; mend it and run again."
        ) from error


def in_words(error: Exception) -> str:
    """On one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]


def _tell(progress: Progress, tally: Tally, status: np.ndarray, efficiency: float) -> None:
    advance = tally.add(status, efficiency * len(status), len(status))
    if progress is not None:
        progress(advance)


def _check(progress: Any, threads: Any, client: Any, retries: Any, limit: Any) -> None:
    if threads is not None:
        fitting.check_whole("threads", threads, 1)
    fitting.check_whole("retries", retries, 0)
    if isinstance(limit, bool) or not isinstance(limit, (int, float)) or not limit > 0:
        raise DataError(f"limit={limit!r}: give a number of seconds, larger than 0.")
    if progress is not None and not callable(progress):
        raise DataError(f"progress={progress!r}: give a function of an Advance, or None.")
    if client is not None and not hasattr(client, "submit"):
        raise DataError(f"client={client!r}: give a dask.distributed.Client, or None.")


def _share(worker: Any) -> tuple[int, int]:
    """Errors: `DataError` unless it is (I, N), whole numbers, I from 0 to N."""
    whole = isinstance(worker, (tuple, list)) and len(worker) == 2 and all(type(part) is int for part in worker)
    if not whole or not 0 <= worker[0] <= worker[1] or worker[1] < 1:
        raise DataError(f"worker={worker!r}: give (I, N), process I of N, such as (0, 8).")
    return worker[0] % worker[1], worker[1]


def _chunk(study: Any, store: Store, chunk: int | None, alone: bool) -> int:
    """Replicates a file: what the directory has, else what is given, else equal parts of moderate size.

    Errors: `DataError` where the directory has another.
    """
    if chunk is not None:
        fitting.check_whole("chunk", chunk, 1)
    begun = store.begun_with(alone)
    if begun is not None:
        old = begun["chunk"]
        if chunk not in (None, old):
            raise DataError(f"{store.directory} holds another study: chunk was {old} and is {chunk}; leave chunk= out.")
        return old
    most = CPU_CHUNK if devices.current().platform == "cpu" else OTHER_CHUNK
    parts = -(-study.replicates // most)
    return chunk or -(-study.replicates // parts)


def _clear_damaged(store: Store, units: list[Unit]) -> tuple[str, ...]:
    """Truncated files, named and taken away."""
    found = []
    for unit in units:
        why = store.damaged(unit) if store.has(unit) else None
        if why is not None:
            warnings.warn(why, stacklevel=4)
            store.remove(unit)
            found.append(why)
    return tuple(found)

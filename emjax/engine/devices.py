"""Which device a thread works on, and how chunks are spread over several."""

from __future__ import annotations

import os
import queue
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax


def chosen() -> Any:
    """What `jax.default_device` says in this thread, or None. jax compiles anew for None and for the first device."""
    return jax.config.jax_default_device  # pyright: ignore[reportAttributeAccessIssue]


class Pool:
    """Slots for `threads` workers, spread over the local devices: a worker takes a free one for a chunk.

    A thread a device and whole chunks, not `shard_map` over lanes: there every stage, and the host's work between two,
    would wait for the slowest shard, and EM's iteration counts are heavy-tailed. Nothing is shared here, no collective
    can slow a loop (a sharded jit puts one into every iteration: jax issue 20968), and a chunk runs the program of a
    single device, so its fits are the same to the bit. The price: jax compiles a program once for each device, although
    on GPUs the persistent cache keeps them as one.
    """

    def __init__(self, threads: int) -> None:
        found = _available()
        self._slots: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for slot in range(threads):
            self._slots.put(found[slot % len(found)])

    @contextmanager
    def device(self) -> Iterator[None]:
        """Everything inside runs on one device."""
        device = self._slots.get()
        try:
            with jax.default_device(device):
                yield
        finally:
            self._slots.put(device)


def _available() -> list[Any]:
    """The local devices, or the one that the user chose; [None] where jax has no choice."""
    local = jax.local_devices()
    return [chosen()] if chosen() is not None or len(local) == 1 else local


def default_threads() -> int:
    """One a device, or on CPU devices, of which XLA keeps one core busy with such small blocks, one a core."""
    if current().platform != "cpu":
        return len(_available())
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def current() -> Any:
    """The device on which this thread's programs run."""
    return chosen() or jax.devices()[0]

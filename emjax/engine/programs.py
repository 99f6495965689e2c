"""Stages that are compiled once: threads that ask for the same program wait for one compile instead of each making it.

jax compiles a program again in every thread that asks for it before the first has finished.
"""

from __future__ import annotations

import functools
import threading
from typing import Any, ClassVar

import jax
import numpy as np

from emjax.engine import devices

MOST = 240  # programs kept: Linux lets a process map 65,530 regions, XLA takes some 160 a program, and then it aborts
ARRAYS = (np.ndarray, np.generic, jax.Array)
# XLA:CPU vectorises a sum over rows only where it may change the order of its terms; with that and the machine's widest
# vectors an EM step takes a third of the time. NaN, infinities, divisions and functions keep their meaning. Maxima and
# sums along short axes XLA hands to a library (YNN), a call each, which takes three times as long as a loop of its own.
COMPILER_OPTIONS = {
    "xla_cpu_enable_fast_math": True,
    "xla_cpu_fast_math_honor_nans": True,
    "xla_cpu_fast_math_honor_infs": True,
    "xla_cpu_fast_math_honor_division": True,
    "xla_cpu_fast_math_honor_functions": True,
    "xla_cpu_prefer_vector_width": 512,
    "xla_cpu_experimental_ynn_fusion_type": "",
}
compiled = functools.partial(jax.jit, compiler_options=COMPILER_OPTIONS)


class Program:
    """A jitted function whose loops are empty where all its arrays are 0, such as a number of lanes.

    That call compiles it and does nothing else, so that nobody waits for more than the compile.
    """

    _all: ClassVar[list[Program]] = []

    def __init__(self, function: Any) -> None:
        Program._all.append(self)
        self._function = function
        self._guard = threading.Lock()
        self._locks: dict[Any, threading.Lock] = {}
        self._ready: set[Any] = set()
        functools.update_wrapper(self, function)

    def __call__(self, *arguments: Any) -> Any:
        self.compile(*arguments)
        return self._function(*arguments)

    def compile(self, *arguments: Any) -> None:
        """Compile for arguments like these."""
        signature = _signature(arguments)
        if signature in self._ready:
            return
        with self._guard:
            lock = self._locks.setdefault(signature, threading.Lock())
        with lock:
            if signature not in self._ready:
                _make_room()
                self._function(*jax.tree.map(_zeros, arguments))
                self._ready.add(signature)


def _make_room() -> None:
    """Let all programs go where there are too many; what is running keeps its own."""
    if sum(len(program._ready) for program in Program._all) < MOST:
        return
    for program in Program._all:
        program._ready.clear()
        program._function.clear_cache()


def _signature(arguments: Any) -> Any:
    leaves, structure = jax.tree.flatten(arguments)
    kinds = tuple((leaf.shape, leaf.dtype) if isinstance(leaf, ARRAYS) else leaf for leaf in leaves)
    return structure, kinds, devices.chosen()


def _zeros(leaf: Any) -> Any:
    return np.zeros(leaf.shape, leaf.dtype) if isinstance(leaf, ARRAYS) else leaf

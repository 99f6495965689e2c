"""What one chunk of datasets is given, what it gives back, and helpers that both halves of its work use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from emjax.base.protocols import Model
from emjax.base.records import Data, Params
from emjax.base.settings import Degeneracy, Race, Stop
from emjax.engine import certificate
from emjax.engine.certificate import Certificate
from emjax.engine.choice import Landscape


@dataclass(frozen=True)
class Plan:
    """Everything that a chunk needs to know beside its data."""

    model: Model
    stop: Stop
    degeneracy: Degeneracy
    restarts: int  # in one round
    max_rounds: int  # rounds of restarts; 1 unless restarts="auto"
    strategies: tuple[str, ...]  # empty where starts are given
    precision: str
    polish: bool
    certify: bool | None  # None: where m <= certificate.DEFAULT_LIMIT
    width: int
    race: Race | None = None
    acceleration: str | None = "auto"

    @property
    def cap(self) -> int:
        """Most restarts a dataset may get."""
        return self.restarts * self.max_rounds

    def wants_information(self, n_free: int) -> bool:
        """Whether the certificate computes the information of a model with so many free parameters."""
        return n_free <= certificate.DEFAULT_LIMIT if self.certify is None else self.certify


class Chunk(NamedTuple):
    """Input: `count` datasets, arrays with leading axis C (a multiple of the width)."""

    data: Data
    words: np.ndarray
    count: int
    root: np.ndarray
    prior: Any
    fixed: Any
    starts: Params  # user's units, leading axes C and R or 1, or None
    spread: float  # of perturbed starts, free coordinates


class ChunkFit(NamedTuple):
    """Output, NumPy, leading axis `count`; the landscape (count, R)."""

    params: Params
    log_likelihood: np.ndarray
    objective: np.ndarray
    status: np.ndarray
    flags: np.ndarray
    problems: np.ndarray
    iterations: np.ndarray
    remaining: np.ndarray
    landscape: Landscape
    certificate: Certificate
    n_observations: np.ndarray  # sums of the weights of the units
    n_free: Any  # a number, or (count,) for a model with `row_blocks`
    useful: int  # lane-steps that advanced a lane
    executed: int  # lane-steps taken, idle slots included


class Counter:
    """Lane-steps over all passes of a chunk."""

    def __init__(self) -> None:
        self.useful = 0
        self.executed = 0

    def add(self, before: np.ndarray, after: np.ndarray, executed: Any) -> None:
        """One pass: its lanes' iterations before and after it, and the lane-steps it took."""
        self.useful += int(np.sum(after, dtype=np.int64) - np.sum(before, dtype=np.int64))
        self.executed += int(executed)


def padded(values: np.ndarray, size: int) -> np.ndarray:
    room = np.zeros((size, *values.shape[1:]), values.dtype)
    room[: len(values)] = values
    return room


def cast(tree: Any, dtype: str) -> Any:
    """Floating leaves as `dtype`."""
    return jax.tree.map(lambda a: a.astype(dtype) if jnp.issubdtype(a.dtype, jnp.floating) else a, tree)


def put(room: Any, where: Any, values: Any) -> None:
    """Write `values` into rows of every leaf of `room`, in place."""
    for leaf, new in zip(jax.tree.leaves(room), jax.tree.leaves(values), strict=True):
        leaf[where] = new

"""The lanes of a chunk through the scheduler in two passes, and what is decided between them (NumPy, on the host).

After a first short run the lanes that are left go on from exactly where they are. With a race only the best few of each
dataset do (short runs from many starts: Biernacki, Celeux & Govaert 2003, Computational Statistics & Data Analysis 41),
decided within each dataset, so that a fit does not depend on its neighbours. And they go on longest first, as their
last gains foretell, so that no slow lane is left running alone at the end; that changes no lane's result.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from emjax.base.status import Status
from emjax.engine import choice, scheduler
from emjax.engine.chunks import Counter, Plan, padded, put
from emjax.engine.em import Lane

PAUSE = 128  # iterations after which lanes that are left are put in order; fewer would leave most of them unread

Run = Callable[[np.ndarray, Lane, int], Lane]  # which lanes (positions), their states, where to pause -> their states


def run_all(run: Run, plan: Plan, lanes: Lane, count: int) -> Lane:
    """How the first `count` lanes ended: `plan.restarts` of one dataset, as many of the next, and so on."""
    race, restarts = plan.race, plan.restarts
    # With no more restarts than places, or a short run that is no shorter than the whole, there is nothing to race.
    if race is not None and (restarts <= race.keep or race.iterations >= plan.stop.max_iterations):
        race = None
    few = count <= plan.width
    pause = race.iterations if race is not None else scheduler.NEVER if few else PAUSE
    lanes = run(np.arange(count), lanes, pause)

    def go_on(which: np.ndarray) -> None:
        again = np.flatnonzero(which)
        if len(again):
            again = again[np.argsort(-_iterations_left(lanes)[again], kind="stable")]
            put(lanes, again, run(again, jax.tree.map(lambda leaf: leaf[again], lanes), scheduler.NEVER))

    halted = lanes.status == Status.RUNNING
    if race is None:
        go_on(halted)
        return lanes
    leading = _leading(race.keep, lanes, restarts).ravel()
    go_on(halted & leading)
    # What leads a race may be on its way to a collapse: then the others are not out of it.
    sound = np.repeat(_eligible(lanes, restarts).any(axis=1), restarts)
    go_on(halted & ~leading & ~sound)
    lanes.status[lanes.status == Status.RUNNING] = Status.STOPPED_EARLY
    return lanes


def run_pass(plan: Plan, data: Any, dataset: np.ndarray, lanes: Lane, pause: int, size: int, counter: Counter) -> Lane:
    """One pass of the scheduler over the first len(dataset) lanes, in room for `size`; the result is NumPy's."""
    count = len(dataset)
    lanes = jax.tree.map(lambda a: a if len(a) == size else padded(a, size), lanes)
    ended, executed = scheduler.run_lanes(
        plan.model, plan.degeneracy, plan.width, data, padded(dataset, size), lanes, np.int32(count),
        np.int32(plan.stop.max_iterations), np.int32(pause), plan.acceleration,
    )  # fmt: skip
    ended = jax.tree.map(lambda a: np.array(a)[:count], ended)
    counter.add(np.asarray(lanes.iterations)[:count], ended.iterations, executed)
    return ended


def _iterations_left(lanes: Lane) -> np.ndarray:
    """How many more each lane needs if its gains go on shrinking as they do; infinite where they do not shrink."""
    gain, remaining = lanes.progress.gain.astype(np.float64), lanes.progress.remaining.astype(np.float64)
    with np.errstate(all="ignore"):
        left = np.log(lanes.tol / remaining) / np.log(remaining / (gain + remaining))
    return np.where(np.isfinite(left), left, np.inf)


def _eligible(lanes: Lane, restarts: int) -> np.ndarray:
    return (choice.eligible(lanes.status) & np.isfinite(lanes.objective)).reshape(-1, restarts)


def _leading(keep: int, lanes: Lane, restarts: int) -> np.ndarray:
    """The best `keep` of each dataset's lanes by objective, of equals the first; (datasets, restarts)."""
    running = (lanes.status == Status.RUNNING) & np.isfinite(lanes.objective)
    open_ = _eligible(lanes, restarts) | running.reshape(-1, restarts)
    objective = np.where(open_, lanes.objective.reshape(-1, restarts), -np.inf)
    rank = np.argsort(np.argsort(-objective, axis=1, kind="stable"), axis=1)
    return (rank < keep) & np.isfinite(objective)

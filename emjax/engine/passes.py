"""The lanes of a chunk through the scheduler in a few passes, and what is decided between them (NumPy, on the host).

After a first short run the lanes that are left go on from exactly where they are. With a race only the best few of each
dataset do (short runs from many starts: Biernacki, Celeux & Govaert 2003, Computational Statistics & Data Analysis 41),
decided within each dataset, so that a fit does not depend on its neighbours. And they go on longest first, as their
last gains foretell, so that no slow lane is left running alone at the end; that changes no lane's result.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from emjax.base.records import Params
from emjax.base.status import Status
from emjax.engine import choice, scheduler
from emjax.engine.acceleration import LATE, phases
from emjax.engine.chunks import Counter, Plan, padded, put
from emjax.engine.em import Lane

PAUSE = 128  # iterations after which lanes that are left are put in order; fewer would leave most of them unread


def run_all(
    plan: Plan,
    data: Any,
    dataset: np.ndarray,
    starts: Params,
    tol: np.ndarray,
    counter: Counter,
    race: bool = False,
    begun: bool = False,
) -> Lane:
    """How the lanes of L datasets, from `starts` (prepared units), ended: NumPy.

    starts, tol : padded to whole blocks. race : whether the plan's race is run, among `plan.restarts` lanes of one
    dataset, as many of the next, and so on. begun : whether they start where others ended, and step as late ones do.
    """
    count, size = len(dataset), len(tol)
    early, late = phases(plan.model, plan.acceleration)
    early = late if begun else early
    rules = plan.race if race else None
    # With no more restarts than places, or a short run that is no shorter than the whole, there is nothing to race.
    if rules is not None and (plan.restarts <= rules.keep or rules.iterations >= plan.stop.max_iterations):
        rules = None
    all_at_once = count <= plan.width and early == late
    pause = scheduler.NEVER if all_at_once else PAUSE if early == late else LATE
    if rules is not None:
        pause = rules.iterations

    def go_on(which: np.ndarray, pause: int, acceleration: str | None) -> None:
        """Always of one size, so that a second pass compiles nothing."""
        again = np.flatnonzero(which & (lanes.status == Status.RUNNING))
        if len(again) == 0:
            return
        again = again[np.argsort(-_iterations_left(lanes)[again], kind="stable")]
        left = jax.tree.map(lambda leaf: padded(leaf[again], size), lanes)
        if acceleration != early:
            left = left._replace(cycle=scheduler.begin_lanes(plan.model, data, left.params, tol, acceleration).cycle)
        ended = _pass(plan, data, dataset[again], left, pause, counter, acceleration)
        put(lanes, again, ended._replace(cycle=None) if acceleration != early else ended)

    def finish(which: np.ndarray) -> None:
        """To their ends: in the same steps whether they raced or not, but for a race that is longer than `LATE`."""
        if early != late and pause < LATE:
            go_on(which, LATE, early)
        go_on(which, scheduler.NEVER, late)

    fresh = scheduler.begin_lanes(plan.model, data, starts, tol, early)
    lanes = _pass(plan, data, dataset, fresh, pause, counter, early)
    if rules is None:
        finish(np.ones(count, bool))
        return lanes
    leading = _leading(rules.keep, lanes, plan.restarts).ravel()
    finish(leading)
    # What leads a race may be on its way to a collapse: then the others are not out of it.
    sound = np.repeat(_eligible(lanes, plan.restarts).any(axis=1), plan.restarts)
    finish(~leading & ~sound)
    lanes.status[lanes.status == Status.RUNNING] = Status.STOPPED_EARLY
    return lanes


def _pass(
    plan: Plan, data: Any, dataset: np.ndarray, lanes: Lane, pause: int, counter: Counter, acceleration: str | None
) -> Lane:
    """One pass of the scheduler over the first len(dataset) lanes of those there is room for; the result is NumPy's."""
    count, size = len(dataset), len(lanes.tol)
    ended, executed = scheduler.run_lanes(
        plan.model, plan.degeneracy, plan.width, data, padded(dataset.astype(np.int32), size), lanes, np.int32(count),
        np.int32(plan.stop.max_iterations), np.int32(pause), acceleration,
    )  # fmt: skip
    ended = jax.tree.map(lambda a: np.array(np.asarray(a)[:count]), ended)
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

"""Racing restarts: a short run from every start, then the best few of each dataset to their ends (NumPy, on the host).

Biernacki, Celeux & Govaert 2003, Computational Statistics & Data Analysis 41. Which lanes go on is decided within each
dataset, so that a fit does not depend on its neighbours.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from emjax.base.records import Params
from emjax.base.status import Status
from emjax.engine import choice
from emjax.engine.chunks import Plan, put

Run = Callable[[np.ndarray, Params, int], Any]  # lanes (positions), their starts, E-steps at most -> how they ended


def run_all(run: Run, plan: Plan, starts: Params, count: int) -> Any:
    """How the first `count` lanes ended: `plan.restarts` of one dataset, as many of the next, and so on.

    A lane that goes on starts the stopping rule anew at the parameters where it stopped: its first E-step there is one
    that it has taken already.
    """
    everyone, race, restarts, max_iterations = np.arange(count), plan.race, plan.restarts, plan.stop.max_iterations
    # Where the short run is no shorter than the long one, a lane that reached its end ran out of iterations.
    if race is None or restarts <= race.keep or race.iterations >= max_iterations:
        return run(everyone, starts, max_iterations)
    lanes = jax.tree.map(np.array, run(everyone, starts, race.iterations))
    halted = (lanes.status == Status.MAX_ITERATIONS).reshape(-1, restarts)
    leading = _leading(race.keep, lanes, restarts)
    lanes.status[halted.ravel()] = Status.STOPPED_EARLY

    def go_on(which: np.ndarray) -> None:
        """The lanes where `which`, (datasets, restarts), from where they stopped to their ends."""
        again = np.flatnonzero(which)
        if len(again):
            ended = run(again, jax.tree.map(lambda a: a[again], lanes.params), max_iterations - race.iterations)
            put(lanes, again, ended._replace(iterations=lanes.iterations[again] + ended.iterations))

    go_on(halted & leading)
    # What leads a race may be on its way to a collapse: then the others are not out of it.
    sound = _eligible(lanes, restarts).any(axis=1, keepdims=True)
    go_on(halted & ~leading & ~sound)
    return lanes


def _eligible(lanes: Any, restarts: int) -> np.ndarray:
    return (choice.eligible(lanes.status) & np.isfinite(lanes.objective)).reshape(-1, restarts)


def _leading(keep: int, lanes: Any, restarts: int) -> np.ndarray:
    """The best `keep` of each dataset's lanes by objective, of equals the first; (datasets, restarts)."""
    objective = np.where(_eligible(lanes, restarts), lanes.objective.reshape(-1, restarts), -np.inf)
    rank = np.argsort(np.argsort(-objective, axis=1, kind="stable"), axis=1)
    return (rank < keep) & np.isfinite(objective)

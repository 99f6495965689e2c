"""Which restart is a dataset's fit, and what the restarts say about the search (NumPy, on the host)."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from emjax.base.status import ELIGIBLE, Flag, Problem, Status

SAME_MODE = 1e-3  # nats: restarts that end this close to one another are at one mode
ENOUGH = 0.05  # restarts="auto" goes on while the chance of a new mode is at least this
_ELIGIBLE = np.isin(np.arange(len(Status)), [int(s) for s in ELIGIBLE])  # by status: one look-up a lane


class Landscape(NamedTuple):
    """Every restart of every dataset, (D, R); NaN where a restart was not run.

    A restart that was out-raced is STOPPED_EARLY and has its values from where the short run left it; `iterations`
    adds up what a restart took in the short run and after it.

    strategy : index into the start strategies, -1 where the start was given.
    """

    log_likelihood: np.ndarray
    objective: np.ndarray
    status: np.ndarray
    flags: np.ndarray
    iterations: np.ndarray
    remaining: np.ndarray
    strategy: np.ndarray


def empty(count: int, restarts: int, problems: np.ndarray) -> Landscape:
    """Before any lane has run; invalid datasets are marked."""
    shape = (count, restarts)
    status = np.where(problems[:, None] != Problem.NONE, Status.INVALID_DATA, Status.RUNNING)
    nan = lambda: np.full(shape, np.nan)  # noqa: E731
    whole = lambda value: np.full(shape, value, np.int32)  # noqa: E731
    return Landscape(
        nan(), nan(), np.broadcast_to(status, shape).astype(np.int32), whole(0), whole(0), nan(), whole(-1)
    )


def record(landscape: Landscape, dataset: np.ndarray, restart: np.ndarray, lanes: Any, strategies: tuple) -> None:
    """Write the results of a round of lanes into the landscape."""
    for name in Landscape._fields[:-1]:
        getattr(landscape, name)[dataset, restart] = getattr(lanes, name)
    if strategies:
        landscape.strategy[dataset, restart] = restart % len(strategies)


def eligible(status: np.ndarray) -> np.ndarray:
    """Statuses with which a lane may be chosen."""
    return _ELIGIBLE[status]


def choose(landscape: Landscape, problems: np.ndarray) -> np.ndarray:
    """The chosen restart of each dataset, (D,): the highest objective among eligible lanes, else the best DEGENERATE
    one, else -1."""
    finite = np.isfinite(landscape.objective)
    good = eligible(landscape.status) & finite
    collapsed = (landscape.status == Status.DEGENERATE) & finite
    pool = np.where(good.any(axis=1, keepdims=True), good, collapsed)
    best = np.argmax(np.where(pool, landscape.objective, -np.inf), axis=1)
    return np.where(pool.any(axis=1) & (problems == Problem.NONE), best, -1)


def status_of(landscape: Landscape, chosen: np.ndarray) -> np.ndarray:
    """Status of the chosen restart, or the commonest reason where none could be chosen."""
    status = landscape.status[np.arange(len(chosen)), np.maximum(chosen, 0)].copy()
    for row in np.flatnonzero(chosen < 0):
        status[row] = np.bincount(landscape.status[row]).argmax()
    return status


def ended(status: np.ndarray) -> np.ndarray:
    """Statuses of restarts that ran to their ends: where an out-raced one would have ended nobody knows."""
    return ~np.isin(status, [int(Status.RUNNING), int(Status.STOPPED_EARLY)])


def suspicion(landscape: Landscape, chosen: np.ndarray) -> np.ndarray:
    """SUSPECT where several restarts ended but only one of them at the best mode; out-raced ones say nothing."""
    good = eligible(landscape.status) & np.isfinite(landscape.objective)
    best = landscape.objective[np.arange(len(chosen)), np.maximum(chosen, 0)]
    at_best = np.sum(good & (landscape.objective > best[:, None] - SAME_MODE), axis=1)
    several = np.sum(ended(landscape.status), axis=1) > 1
    return np.where((at_best == 1) & several & (chosen >= 0), int(Flag.SUSPECT), 0)


def unseen(landscape: Landscape) -> np.ndarray:
    """Good-Turing estimate, (D,): the share of restarts whose mode was seen once, which is the chance that one more
    start finds a new mode (Good 1953, Biometrika 40; Finch, Mendell & Thode 1989, JASA 84). NaN without a valid lane.

    Out-raced restarts are no observations: with a race, it speaks of modes that starts which stay in the race find.
    """
    good = eligible(landscape.status) & np.isfinite(landscape.objective)
    values = np.sort(np.where(good, landscape.objective, np.inf), axis=1)
    valid = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        gap = np.diff(values, axis=1) > SAME_MODE
    edge = np.ones((len(values), 1), bool)
    left, right = np.concatenate([edge, gap], axis=1), np.concatenate([gap, edge], axis=1)
    # The last valid value has inf to its right: inf - x > SAME_MODE; inf - inf is NaN, which is no gap, and not valid.
    alone = np.sum(left & right & valid, axis=1)
    total = valid.sum(axis=1)
    return np.where(total > 0, alone / np.maximum(total, 1), np.nan)

"""A user's settings and starts, checked and put together into the plan that every chunk follows."""

from __future__ import annotations

import numbers
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np

from emjax.base.protocols import Model
from emjax.base.records import Params
from emjax.base.settings import Race
from emjax.base.status import DataError
from emjax.engine import blocks, starts, templates
from emjax.engine.chunks import Plan
from emjax.engine.results import Settings

AUTO_ROUND, AUTO_ROUNDS = 10, 10  # restarts="auto": ten at a time, a hundred at most


@dataclass(frozen=True)
class Perturbed:
    """Start at `params` (user's units; shared, or a leading dataset axis) and, from the second restart on, at params
    moved by normal noise of standard deviation `spread` in the free coordinates of the prepared data."""

    params: Params
    spread: float = 0.5


def plan_for(model: Model, settings: Settings, start: Any) -> tuple[Plan, Any, float]:
    """Settings checked and put together; the starts that were given, and their perturbation."""
    precision, restarts = settings.precision, settings.restarts
    if precision not in ("float64", "float32"):
        raise DataError(f"precision={precision!r}: use 'float64' or 'float32'.")
    if not (settings.race is None or isinstance(settings.race, Race)):
        raise DataError(f"race={settings.race!r}: give Race(iterations=..., keep=...) or None.")
    given, spread, strategies = None, 0.0, model.strategies
    if isinstance(start, Perturbed):
        given, spread = start.params, start.spread
        if isinstance(spread, bool) or not isinstance(spread, numbers.Real) or not 0 < spread < float("inf"):
            raise DataError(f"Perturbed(spread={spread!r}): give a positive number.")
    elif isinstance(start, str) or (isinstance(start, tuple) and not hasattr(start, "_fields")):
        strategies = (start,) if isinstance(start, str) else start
    elif start is not None:
        given = start
    if given is not None:
        strategies = ()
    if given is None and len(strategies) == 0:
        raise DataError("start=(): name at least one start strategy.")
    for strategy in strategies:
        starts.check(model, strategy)
    restarts = 20 if restarts is None else restarts
    auto = isinstance(restarts, str) and restarts == "auto"
    if not auto and (isinstance(restarts, bool) or not isinstance(restarts, (int, np.integer)) or restarts < 1):
        raise DataError(f"restarts={restarts!r}: give a whole number, 1 or larger, or 'auto'.")
    plan = Plan(
        model=model,
        stop=settings.stop,
        degeneracy=settings.degeneracy,
        restarts=AUTO_ROUND if auto else int(restarts),
        max_rounds=AUTO_ROUNDS if auto else 1,
        strategies=tuple(strategies),
        precision=precision,
        polish=settings.polish,
        certify=settings.certificate,
        width=blocks.CPU_WIDTH,
        race=settings.race,
        acceleration=settings.acceleration,
    )
    return plan, given, float(spread)


def check_starts(model: Model, given: Params) -> None:
    """Starts (D, R, ...) with values that are no parameters raise `DataError`, which names the first.

    One that is not finite, such as the parameters of a fit that failed, ends its own lane alone, NON_FINITE; where all
    are, they are refused.
    """
    rows = templates.flat(given)
    leaves = jax.tree.leaves(rows)
    finite = np.all([np.isfinite(leaf.reshape(len(leaf), -1)).all(axis=1) for leaf in leaves], axis=0)
    some = np.any(finite) and not np.all(finite)
    asked = np.flatnonzero(finite) if some else np.arange(len(finite))
    try:
        model.check_settings(None, None, jax.tree.map(lambda leaf: leaf[asked], rows) if some else rows)
    except DataError:
        restarts = jax.tree.leaves(given)[0].shape[1]
        for row in asked:
            try:
                model.check_settings(None, None, jax.tree.map(lambda leaf, row=row: leaf[row : row + 1], rows))
            except DataError as error:
                place = f" (dataset {row // restarts}, restart {row % restarts})" if len(finite) > 1 else ""
                raise DataError(f"{error}{place}") from None
        raise


def one_lane_a_start(plan: Plan, restarts: int | str | None, given: int, spread: float) -> Plan:
    """The plan with as many restarts as starts are `given` for each dataset, of `restarts` that were asked for.

    Errors: `DataError` where these disagree. Starts that are perturbed serve any number of restarts.
    """
    if given == 0:
        raise DataError("start has no restarts: its second axis is empty.")
    if spread > 0 and given > 1:
        raise DataError("Perturbed takes one set of parameters a dataset: give those of all restarts as start=.")
    if spread > 0:
        return plan
    if restarts not in (None, given):
        if given == 1:
            raise DataError(
                "restarts from one set of parameters would all be equal: use start=Perturbed(params), or parameters "
                "with leading axes of datasets and restarts."
            )
        raise DataError(f"restarts={restarts!r}, but start has parameters for {given} of each dataset: leave one out.")
    return replace(plan, restarts=given, max_rounds=1)

"""On the host: which row or column is to blame for a dataset that cannot be fitted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from emjax.base import units
from emjax.base.records import Data
from emjax.base.status import Problem


def explain(model: Any, data: Data, problem: Problem) -> str:
    """One sentence for a single dataset: what is wrong, where, and what to try. A model may know the place itself."""
    text = problem.describe()
    data = units.missing_unobserved(data) if model.sequential else units.masked(data)
    known = model.culprit(data, problem)
    where = [place for found, place in _PLACES.items() if found & problem for place in [place(data)] if place]
    where = [known] if known else where
    return f"The dataset cannot be fitted: {text}{' (' + '; '.join(where) + ')' if where else ''}."


def not_finite(data: Data, missing: bool = False) -> str:
    """The first NaN or infinity in a row that counts, or nothing; none in y where those are `missing`."""
    names = ("x", "z", "offset") if missing else ("y", "x", "z", "offset")
    return next((found for name in names if (found := _not_finite(name, data))), "")


def _not_finite(name: str, data: Data) -> str:
    values = getattr(data, name)
    if values is None:
        return ""
    bad = np.argwhere(~np.isfinite(values))
    rows = _weighted(data) if name == "z" else _used(data)  # time passes in a row of which nothing is observed
    bad = bad[rows[bad[:, 0]]]
    if len(bad) == 0:
        return ""
    column = f", column {bad[0][1]}" if values.ndim == 2 else ""
    return f"first in row {bad[0][0]}{column} of {name}, {len(bad)} in all"


def _used(data: Data) -> np.ndarray:
    """Rows that count, (n,)."""
    return _weighted(data) & observed(data)


def _weighted(data: Data) -> np.ndarray:
    """Rows whose unit counts, (n,)."""
    assert data.weight is not None
    weight = np.asarray(data.weight if data.unit is None else data.weight[data.unit], np.float64)
    return ~(weight == 0)


def observed(data: Data) -> np.ndarray:
    """Rows of which anything is observed, (n,) bool."""
    if data.observed is None:
        return np.ones(np.shape(data.y)[0], bool)
    return np.any(np.reshape(np.asarray(data.observed, bool), (np.shape(data.y)[0], -1)), axis=1)


def _weight(data: Data) -> str:
    weight = np.asarray(data.weight, np.float64)
    bad = np.flatnonzero(~(np.isfinite(weight) & (weight >= 0)))
    what = "row" if data.unit is None else "unit"
    return f"first in {what} {bad[0]}: {weight[bad[0]]:g}, {len(bad)} in all" if len(bad) else "their sum overflows"


def _constant(name: str, values: np.ndarray | None) -> str:
    if values is None:
        return ""
    columns = values if values.ndim == 2 else values[:, None]
    with np.errstate(over="ignore", invalid="ignore"):
        flat = np.ptp(columns, axis=0) <= 1e-14 * np.max(np.abs(columns), axis=0)
    found = np.flatnonzero(flat)
    return f"column {', '.join(map(str, found))} of {name}" if len(found) and values.ndim == 2 else ""


def _dependent(data: Data) -> str:
    names = ("x" if data.x is not None else "y", "z")
    return next((found for name in names if (found := _follows(name, getattr(data, name)))), "")


def _follows(name: str, values: np.ndarray | None) -> str:
    if values is None or np.ndim(values) != 2 or np.shape(values)[1] == 0:
        return ""
    scaled = np.asarray(values) / np.maximum(np.max(np.abs(values), axis=0), 1e-300)
    centred = scaled - np.mean(scaled, axis=0)
    centred = centred / np.maximum(np.linalg.norm(centred, axis=0), 1e-300)
    diagonal = np.abs(np.diag(np.linalg.qr(centred)[1]))
    found = np.flatnonzero(diagonal < 1e-6)
    return f"column {', '.join(map(str, found))} of {name} follows from those before it" if len(found) else ""


def _first(data: Data, bad: np.ndarray, values: np.ndarray, name: str) -> str:
    """The first bad row that counts, or nothing."""
    rows = np.flatnonzero(bad & _used(data))
    return f"first in row {rows[0]} of {name}: {values[rows[0]]:g}, {len(rows)} in all" if len(rows) else ""


def _wrong(data: Data, bad: Callable[[np.ndarray], np.ndarray]) -> str:
    """The first finite value of y that is `bad` in a row that counts."""
    y = np.asarray(data.y, np.float64)
    with np.errstate(invalid="ignore"):
        return "" if y.ndim != 1 else _first(data, np.isfinite(y) & bad(y), y, "y")


def _above_trials(data: Data) -> str:
    y = np.asarray(data.y, np.float64)
    trials = np.ones_like(y) if data.trials is None else np.asarray(data.trials, np.float64)
    found = _first(data, ~((trials >= 1) & np.isfinite(trials) & (trials == np.round(trials))), trials, "trials")
    return found or ("" if y.ndim != 1 else _first(data, y > trials, y, "y"))


def _unseen(data: Data) -> str:
    assert data.weight is not None
    unit = np.arange(len(data.y)) if data.unit is None else np.asarray(data.unit)
    seen = np.bincount(unit, weights=_used(data), minlength=len(data.weight))
    bad = np.flatnonzero(~(np.asarray(data.weight, np.float64) == 0) & (seen == 0))
    return f"first in unit {bad[0]}, {len(bad)} in all" if len(bad) else ""


def _differs(data: Data) -> str:
    assert data.unit is not None and data.z is not None
    first = np.searchsorted(data.unit, data.unit)
    bad = np.flatnonzero(np.any(data.z != data.z[first], axis=1) & _weighted(data))
    return f"first in row {bad[0]} of z, {len(bad)} in all" if len(bad) else ""


def _rows(data: Data) -> str:
    n, used = np.shape(data.y)[0], int(np.sum(_used(data)))
    return f"{n} rows" if used == n else f"{used} of {n} rows count"


_PLACES = {
    Problem.WEIGHT_INVALID: _weight,
    Problem.RESPONSE_NOT_FINITE: lambda data: _not_finite("y", data) or _not_finite("offset", data),
    Problem.COVARIATE_NOT_FINITE: lambda data: _not_finite("x", data) or _not_finite("z", data),
    Problem.CONSTANT_RESPONSE: lambda data: _constant("y", data.y),
    Problem.CONSTANT_COVARIATE: lambda data: _constant("x", data.x) or _constant("z", data.z),
    Problem.COLLINEAR: _dependent,
    Problem.TOO_FEW_ROWS: _rows,
    Problem.NOT_A_COUNT: lambda data: _wrong(data, lambda y: (y < 0) | (y != np.round(y))),
    Problem.ABOVE_TRIALS: _above_trials,
    Problem.NOT_POSITIVE: lambda data: _wrong(data, lambda y: y <= 0),
    Problem.NOTHING_OBSERVED: _unseen,
    Problem.DIFFERS_IN_UNIT: _differs,
}

"""On the host: which row or column of a dataset is to blame for a problem."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from emjax.base.records import Data
from emjax.base.status import Problem


def find(data: Data, problem: Problem, first_column: int = 0) -> str:
    """Where the first fault behind each of the problems is, or an empty string.

    Missing cells are NaN in y, `data.observed` says which rows are missing; see `Model.read`. first_column : the number
    of the first column of y (n, d) in the table that the user knows.
    """
    found = [place(data, first_column) for bit, place in _PLACES.items() if bit & problem]
    return "; ".join(place for place in found if place)


def not_finite(data: Data, missing: bool = False) -> str:
    """The first NaN or infinity in a row that counts, or nothing; none in y where those are `missing`."""
    names = ("x", "z", "offset") if missing else ("y", "x", "z", "offset")
    return next((found for name in names if (found := _not_finite(name, data))), "")


def _not_finite(name: str, data: Data, first_column: int = 0) -> str:
    values = getattr(data, name)
    if values is None:
        return ""
    bad = np.argwhere(~np.isfinite(values))
    bad = bad[_rows_of(name, data)[bad[:, 0]]]
    return f"{_first(bad, values, name, first_column)}, {len(bad)} in all" if len(bad) else ""


def _rows_of(name: str, data: Data) -> np.ndarray:
    """Rows of which the field is read, (n,): time passes, by z, in a row of which nothing is observed."""
    return _weighted(data) if name == "z" else used(data)


def _first(bad: np.ndarray, values: np.ndarray, name: str, first_column: int) -> str:
    """The first of the bad cells, (m, 1) or (m, 2)."""
    column = f", column {first_column + bad[0][1]}" if values.ndim == 2 else ""
    return f"first in row {bad[0][0]}{column} of {name}"


def used(data: Data) -> np.ndarray:
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


def _constant(name: str, data: Data, first_column: int = 0) -> str:
    values = _table(name, data)
    if values is None:
        return ""
    with np.errstate(over="ignore", invalid="ignore"):
        flat = np.ptp(values, axis=0) <= 1e-14 * np.max(np.abs(values), axis=0)
    return columns(flat, name, first_column)


def columns(which: np.ndarray, name: str, first_column: int = 0) -> str:
    """The columns of a field that are marked in `which` (d,), or nothing."""
    found = np.flatnonzero(which) + first_column
    return f"column {', '.join(map(str, found))} of {name}" if len(found) else ""


def _table(name: str, data: Data) -> np.ndarray | None:
    """The rows of a field of several columns that are read, None where there is nothing to look at."""
    values = getattr(data, name)
    if values is None or np.ndim(values) != 2 or np.shape(values)[1] == 0:
        return None
    values = np.asarray(values, np.float64)[_rows_of(name, data)]
    return values if len(values) else None


def _dependent(data: Data, first_column: int) -> str:
    return (_follows("y", data, first_column) if data.x is None else _follows("x", data)) or _follows("z", data)


def _follows(name: str, data: Data, first_column: int = 0) -> str:
    values = _table(name, data)
    if values is None or not np.all(np.isfinite(values)):
        return ""
    scaled = values / np.maximum(np.max(np.abs(values), axis=0), 1e-300)
    centred = scaled - np.mean(scaled, axis=0)
    centred = centred / np.maximum(np.linalg.norm(centred, axis=0), 1e-300)
    diagonal = np.abs(np.diag(np.linalg.qr(centred)[1]))
    found = columns(diagonal < 1e-6, name, first_column)
    return f"{found} follows from those before it" if found else ""


def wrong(data: Data, bad: np.ndarray, values: np.ndarray, name: str, first_column: int = 0, words: str = "") -> str:
    """The first bad value of a field (n,) or (n, d) in a row that counts, followed by `words`, or nothing."""
    rows = used(data)
    found = np.argwhere(bad & (rows if bad.ndim == 1 else rows[:, None]))
    if len(found) == 0:
        return ""
    return f"{_first(found, values, name, first_column)}: {values[tuple(found[0])]:g}{words}, {len(found)} in all"


def _response(data: Data, first_column: int, bad: Callable[[np.ndarray], np.ndarray]) -> str:
    """The first finite value of y that is `bad`."""
    y = np.asarray(data.y, np.float64)
    with np.errstate(invalid="ignore"):
        return wrong(data, np.isfinite(y) & bad(y), y, "y", first_column)


def _above_trials(data: Data, first_column: int) -> str:
    trials = np.ones(len(data.y)) if data.trials is None else np.asarray(data.trials, np.float64)
    found = wrong(data, ~((trials >= 1) & np.isfinite(trials) & (trials == np.round(trials))), trials, "trials")
    most = trials if np.ndim(data.y) == 1 else trials[:, None]
    return found or _response(data, first_column, lambda y: y > most)


def _unseen(data: Data) -> str:
    assert data.weight is not None
    unit = np.arange(len(data.y)) if data.unit is None else np.asarray(data.unit)
    seen = np.bincount(unit, weights=used(data), minlength=len(data.weight))
    bad = np.flatnonzero(~(np.asarray(data.weight, np.float64) == 0) & (seen == 0))
    return f"first in unit {bad[0]}, {len(bad)} in all" if len(bad) else ""


def _differs(data: Data) -> str:
    assert data.unit is not None and data.z is not None
    first = np.searchsorted(data.unit, data.unit)
    bad = np.flatnonzero(np.any(data.z != data.z[first], axis=1) & _weighted(data))
    return f"first in row {bad[0]} of z, {len(bad)} in all" if len(bad) else ""


def _rows(data: Data) -> str:
    n, counted = np.shape(data.y)[0], int(np.sum(used(data)))
    return f"{n} rows" if counted == n else f"{counted} of {n} rows count"


_PLACES = {
    Problem.WEIGHT_INVALID: lambda data, _: _weight(data),
    Problem.RESPONSE_NOT_FINITE: lambda data, first: _not_finite("y", data, first) or _not_finite("offset", data),
    Problem.COVARIATE_NOT_FINITE: lambda data, _: _not_finite("x", data) or _not_finite("z", data),
    Problem.CONSTANT_RESPONSE: lambda data, first: _constant("y", data, first),
    Problem.CONSTANT_COVARIATE: lambda data, _: _constant("x", data) or _constant("z", data),
    Problem.COLLINEAR: _dependent,
    Problem.TOO_FEW_ROWS: lambda data, _: _rows(data),
    Problem.NOT_A_COUNT: lambda data, first: _response(data, first, lambda y: (y < 0) | (y != np.round(y))),
    Problem.ABOVE_TRIALS: _above_trials,
    Problem.NOT_POSITIVE: lambda data, first: _response(data, first, lambda y: y <= 0),
    Problem.NOTHING_OBSERVED: lambda data, _: _unseen(data),
    Problem.DIFFERS_IN_UNIT: lambda data, _: _differs(data),
}

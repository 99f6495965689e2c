"""On the host: which row or column is to blame for a dataset that cannot be fitted."""

from __future__ import annotations

from typing import Any

import numpy as np

from emjax.base.records import Data
from emjax.base.status import Problem


def explain(model: Any, data: Data, problem: Problem) -> str:
    """One sentence for a single dataset: what is wrong, where, and what to try. A model may know the place itself."""
    text = problem.describe()
    known = model.culprit(data, problem) if hasattr(model, "culprit") else ""
    where = [place for found, place in _PLACES.items() if found & problem for place in [place(data)] if place]
    where = [known] if known else where
    return f"The dataset cannot be fitted: {text}{' (' + '; '.join(where) + ')' if where else ''}."


def not_finite(data: Data, missing: bool = False) -> str:
    """The first NaN or infinity in a row that counts, or nothing; none in y where those are `missing`."""
    names = ("x", "offset") if missing else ("y", "x", "offset")
    return next((found for name in names if (found := _not_finite(name, data))), "")


def _not_finite(name: str, data: Data) -> str:
    values = getattr(data, name)
    if values is None:
        return ""
    bad = np.argwhere(~np.isfinite(values))
    bad = bad[_used(data)[bad[:, 0]]]
    if len(bad) == 0:
        return ""
    column = f", column {bad[0][1]}" if values.ndim == 2 else ""
    return f"first in row {bad[0][0]}{column} of {name}, {len(bad)} in all"


def _used(data: Data) -> np.ndarray:
    """Rows that count, (n,)."""
    assert data.weight is not None
    weight = np.asarray(data.weight if data.unit is None else data.weight[data.unit], np.float64)
    return ~(weight == 0) & observed(data)


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
    values = data.x if data.x is not None else data.y
    if values is None or np.ndim(values) != 2:
        return ""
    scaled = np.asarray(values) / np.maximum(np.max(np.abs(values), axis=0), 1e-300)
    centred = scaled - np.mean(scaled, axis=0)
    centred = centred / np.maximum(np.linalg.norm(centred, axis=0), 1e-300)
    diagonal = np.abs(np.diag(np.linalg.qr(centred)[1]))
    found = np.flatnonzero(diagonal < 1e-6)
    name = "x" if data.x is not None else "y"
    return f"column {', '.join(map(str, found))} of {name} follows from those before it" if len(found) else ""


def _rows(data: Data) -> str:
    return f"{np.shape(data.y)[0]} rows"


_PLACES = {
    Problem.WEIGHT_INVALID: _weight,
    Problem.RESPONSE_NOT_FINITE: lambda data: _not_finite("y", data) or _not_finite("offset", data),
    Problem.COVARIATE_NOT_FINITE: lambda data: _not_finite("x", data),
    Problem.CONSTANT_RESPONSE: lambda data: _constant("y", data.y),
    Problem.CONSTANT_COVARIATE: lambda data: _constant("x", data.x),
    Problem.COLLINEAR: _dependent,
    Problem.TOO_FEW_ROWS: _rows,
}

"""Blocks of parameters with one entry a row of the data (`Model.row_blocks`): padded in lanes, not in results."""

from __future__ import annotations

from typing import Any

import numpy as np

from emjax.base.protocols import Model
from emjax.base.records import Data, Params
from emjax.engine.generated import Generated


def rows_of(data: Any, n_datasets: int) -> np.ndarray:
    """Rows of each dataset of what `fit_many` was given, without padding, (D,)."""
    if isinstance(data, Generated):
        return np.full(n_datasets, data.like.y.shape[0])
    if isinstance(data, Data):
        return np.full(n_datasets, np.shape(data.y)[1])
    return np.array([np.shape(single.y)[0] for single in data])


def aligned(model: Model, parts: list[tuple[Params, np.ndarray]]) -> list[Params]:
    """Parameters (B, ...) of datasets with so many rows (B,), all as long as the longest, NaN beyond their own."""
    most = max(int(np.max(rows)) for _, rows in parts)

    def block(values: np.ndarray, rows: np.ndarray) -> np.ndarray:
        found = np.full((len(values), most, *values.shape[2:]), np.nan)
        here = min(most, values.shape[1])
        found[:, :here] = values[:, :here]
        found[np.arange(most)[None, :] >= rows[:, None]] = np.nan
        return found

    return [_replaced(model, params, lambda values: block(values, rows)) for params, rows in parts]  # noqa: B023


def cut(model: Model, params: Params, n_rows: int) -> Params:
    """Parameters of one dataset, as many rows as it has."""
    return _replaced(model, params, lambda values: values[:n_rows])


def shaped(model: Model, template: Params, n_rows: int) -> Params:
    """Shapes of one dataset's parameters as the user sees them."""
    return _replaced(model, template, lambda leaf: leaf.update(shape=(n_rows, *leaf.shape[1:])))


def _replaced(model: Model, params: Params, change: Any) -> Params:
    if not model.row_blocks:
        return params
    return params._replace(**{name: change(getattr(params, name)) for name in model.row_blocks})

"""Units: the independent pieces of the likelihood, and the rows that belong to them."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from emjax.base.records import Array, Data
from emjax.base.status import DataError, Problem


def count(data: Data) -> int:
    """Units of a dataset: its rows, or as many as it has weights."""
    if data.unit is None:
        return data.y.shape[0]
    if data.weight is None:
        raise DataError("Data(unit=...) needs weight (U,), one entry a unit: its length says how many there are.")
    return data.weight.shape[0]


def whole(data: Data) -> Data:
    """Data with `unit`: without it, all rows are one unit, whose weight is (1,)."""
    if data.unit is not None:
        return data
    weight = np.ones(1, np.bool_) if data.weight is None else data.weight
    if np.shape(weight) != (1,):
        raise DataError(f"weight has shape {np.shape(weight)} but the rows are one sequence: give (1,), or mark units.")
    return data._replace(unit=np.zeros(data.y.shape[0], np.int32), weight=weight)


def masked(data: Data) -> Data:
    """Data whose y is NaN in the cells that `observed` (n, d) says are missing; on the host or traced."""
    if data.observed is None or data.observed.ndim == 1:
        return data
    where = np.where if isinstance(data.y, np.ndarray) else jnp.where
    return data._replace(y=where(data.observed, data.y, np.nan))


def missing_unobserved(data: Data) -> Data:
    """`masked` data whose `observed` (n,) is False also where all cells of y are NaN."""
    data = masked(data)
    missing = data.y != data.y
    missing = missing if missing.ndim == 1 else missing.all(axis=1)
    if data.observed is None:
        return data._replace(observed=~missing)
    observed = data.observed if data.observed.ndim == 1 else data.observed.any(axis=1)
    return data._replace(observed=observed & ~missing)


def weights(data: Data) -> tuple[Array, Array]:
    """Weights (U,), bool where all are 0 or 1, and `Problem` bits: negative, NaN or infinite ones become 0."""
    weight = jnp.ones(count(data), bool) if data.weight is None else jnp.asarray(data.weight)
    problem = jnp.int32(Problem.NONE)
    if weight.dtype != jnp.bool_:
        bad = ~(jnp.isfinite(weight) & (weight >= 0))
        overflow = ~jnp.isfinite(jnp.sum(jnp.where(bad, 0.0, weight)))
        problem |= jnp.where(jnp.any(bad) | overflow, Problem.WEIGHT_INVALID, 0)
        weight = jnp.where(bad, 0.0, weight).astype(data.y.dtype)
    return weight, problem | jnp.where(jnp.any(weight.astype(bool)), 0, Problem.NO_WEIGHT)


def of_rows(values: Array, unit: Array | None) -> Array:
    """Values of the units, (..., U), as those of their rows, (..., n)."""
    return values if unit is None else values[..., unit]


def first_rows(values: Array, unit: Array, n_units: int) -> Array:
    """Of values of the rows, (n, ...), those of each unit's first row, (U, ...); of a unit without rows any row's."""
    n = values.shape[0]
    first = jax.ops.segment_min(jnp.arange(n, dtype=jnp.int32), unit, n_units, indices_are_sorted=True)
    return values[jnp.minimum(first, n - 1)]


def begins(unit: Array | None, n_rows: int) -> Array:
    """Where a unit begins, (n,) bool; without `unit` all rows are one."""
    if unit is None:
        return jnp.arange(n_rows) == 0
    return jnp.concatenate([jnp.ones(1, bool), unit[1:] != unit[:-1]])


def sums(values: Array, unit: Array | None, n_units: int) -> Array:
    """Sums over the rows of each unit, (K, n) -> (K, U)."""
    if unit is None:
        return values
    return jax.ops.segment_sum(values.T, unit, n_units, indices_are_sorted=True).T


def observed_rows(data: Data) -> tuple[Data, Any]:
    """Data whose missing cells are NaN, and which rows are observed at all, (n,) bool or None.

    `Data.observed` is (n,), or (n, d) a cell.
    """
    if data.observed is None:
        return data, None
    observed = jnp.asarray(data.observed, bool)
    return masked(data._replace(observed=observed)), observed if observed.ndim == 1 else jnp.any(observed, axis=1)

"""Free coordinates of rows of probabilities, where any of them may be 0."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from emjax.base.records import Array
from emjax.base.status import DataError

AT_ZERO = 1e-8  # a probability this close to 0 is on the boundary


def check(name: str, values: Any, exact: float = 1e-6) -> None:
    """On the host: rows (..., C) that are not probabilities raise `DataError`, which shows the first of them."""
    rows = np.asarray(values, np.float64)
    rows = rows.reshape(-1, rows.shape[-1])
    sound = np.all(np.isfinite(rows) & (rows >= 0), axis=1)
    whole = np.abs(np.sum(rows, axis=1) - 1.0) <= exact
    for good, must in ((sound, "be finite and not negative"), (whole, "sum to 1")):
        if not np.all(good):
            raise DataError(f"{name} {rows[np.argmin(good)].tolist()} must {must}.")


def _others(n: int, baseline: Array) -> Array:
    """Positions of all entries but the baseline, (n - 1,)."""
    place = jnp.arange(n - 1, dtype=jnp.int32)
    return place + (place >= baseline).astype(jnp.int32)


def to_free(rows: Array, baseline: Array) -> Array:
    """Log-ratios (R, C - 1) of probabilities (R, C) against the entry `baseline` of each row.

    A 0 stands for a number so small that it changes no sum, and that the product of two of them is still a number.
    """
    least = float(jnp.finfo(rows.dtype).tiny) ** 0.25
    logs = jnp.log(jnp.maximum(rows, jnp.asarray(least, rows.dtype)))
    return logs[:, _others(rows.shape[1], baseline)] - logs[:, baseline][:, None]


def from_free(free: Array, baseline: Array) -> Array:
    """The inverse of `to_free`."""
    n_rows, size = free.shape[0], free.shape[1] + 1
    if size == 1:
        return jnp.ones((n_rows, 1), free.dtype)
    place = jnp.arange(size, dtype=jnp.int32)
    source = jnp.clip(place - (place > baseline).astype(jnp.int32), 0, size - 2)
    return jax.nn.softmax(jnp.where((place == baseline)[None, :], 0.0, free[:, source]), axis=1)


def held(rows: Array, baseline: Array) -> Array:
    """As `Model.boundary`: 1 where a probability is 0. Where the baseline's is, one log-ratio is not identified."""
    if rows.shape[1] == 1:
        return jnp.zeros((rows.shape[0], 0), jnp.int32)
    others = rows[:, _others(rows.shape[1], baseline)]
    largest = jnp.arange(others.shape[1])[None, :] == jnp.argmax(others, axis=1)[:, None]
    lost = (rows[:, baseline] < AT_ZERO)[:, None] & largest
    return jnp.where(lost, 2, (others < AT_ZERO).astype(jnp.int32))

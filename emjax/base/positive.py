"""Responses that must be positive: checked, cleaned and scaled once per dataset."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from emjax.base import design
from emjax.base.records import Array, Data
from emjax.base.status import DataError, Problem


def check_values(name: str, values: Any) -> None:
    """On the host: values that are not positive and finite raise `DataError`; None passes."""
    if values is not None and not np.all(np.isfinite(values) & (np.asarray(values) > 0)):
        raise DataError(f"{name} must be positive and finite.")


def prepare(data: Data) -> tuple[Array, Array, Array, Array]:
    """y (n,) in units of its mean, that unit, row weights, and `Problem` bits; what cannot be used becomes 1."""
    y, _, weight, problem = design.clean(data)
    used = weight > 0
    problem |= jnp.where(jnp.any(used & jnp.isfinite(data.y) & (y <= 0)), Problem.NOT_POSITIVE, 0)
    good = used & (y > 0)
    size = design.magnitude(jnp.where(good, y, 0.0))
    y = y / size
    mean = jnp.sum(jnp.where(good, weight * y, 0.0)) / design.total_weight(weight)
    mean = jnp.where(mean > 0, mean, 1.0)
    return jnp.where(good, y / mean, 1.0), mean * size, weight, jnp.int32(problem)


def ratio(numerator: Array, denominator: Array, otherwise: Array) -> Array:
    """numerator / denominator where both are positive: a component without rows stays where it was."""
    full = (numerator > 0) & (denominator > 0)
    return jnp.where(full, numerator / jnp.where(full, denominator, 1.0), otherwise)

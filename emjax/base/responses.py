"""Responses of one or more columns: cleaned, centred and scaled once per dataset, with what is wrong with them."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from emjax.base import design, numerics
from emjax.base.covariances import CovarianceForm
from emjax.base.records import Array, Data
from emjax.base.status import DataError, Problem


class Response(NamedTuple):
    """Prepared responses, rows last."""

    y: Array  # (d, n)
    mean: Array  # (d,) user's units
    unit: Array  # (d,) user's units of one prepared unit; all equal where it is a common one
    deviation: Array  # (d,) standard deviations in prepared units; ones but for a common unit
    scatter: Array  # (d, d) weighted second moments in prepared units
    constant: Array  # () whether a column is constant


def check(name: str, data: Data) -> None:
    """On the host: responses that are neither (n,) nor (n, d) raise `DataError`."""
    if np.ndim(data.y) not in (1, 2) or (np.ndim(data.y) == 2 and np.shape(data.y)[1] == 0):
        raise DataError(f"{name} needs y of shape (n,) or (n, d), not {np.shape(data.y)}.")


def standardise(y: Array, weight: Array, common: bool) -> tuple[Response, Array]:
    """Responses (n,) or (n, d) by columns, or by one `common` unit, and `Problem` bits; rows of weight 0 become 0."""
    y, used = (y[:, None] if y.ndim == 1 else y).T, weight > 0
    bad = ~jnp.isfinite(y)
    problem = jnp.where(jnp.any(bad & used[None, :]), Problem.RESPONSE_NOT_FINITE, 0)
    y = jnp.where(bad | ~used[None, :], 0.0, y)
    total = design.total_weight(weight)
    size = design.magnitude(y)
    size = jnp.broadcast_to(jnp.max(size), size.shape) if common else size
    y = y / size[:, None]
    mean = jnp.sum(y * weight[None, :], axis=1) / total
    y = jnp.where(used[None, :], y - mean[:, None], 0.0)
    deviation, constant = design.unit_of(jnp.sum(y**2 * weight[None, :], axis=1) / total, mean)
    problem |= jnp.where(jnp.any(constant), Problem.CONSTANT_RESPONSE, 0)
    unit = jnp.broadcast_to(jnp.sqrt(jnp.mean(deviation**2)), deviation.shape) if common else deviation
    y = y / unit[:, None]
    scatter = jnp.matmul(y * weight[None, :], y.T, precision=design.HIGHEST) / total
    return Response(y, mean * size, unit * size, deviation / unit, scatter, jnp.any(constant)), problem


def standardise_for(form: CovarianceForm, data: Data) -> tuple[Response, Array]:
    """`standardise`, by one unit for the spherical forms; columns that depend on one another trouble the full ones."""
    found, problem = standardise(data.y, jnp.asarray(data.weight, data.y.dtype), form.shape == "spherical")
    if form.shape == "full":
        problem |= jnp.where(dependent(found), Problem.COLLINEAR, 0)
    return found, problem


def dependent(found: Response) -> Array:
    """Whether a column, none being constant, follows from those before it: a pivot of the scatter is rounding."""
    pivots = jnp.diagonal(numerics.cholesky(found.scatter)) ** 2
    limit = design.COLLINEAR * jnp.finfo(pivots.dtype).eps * jnp.diagonal(found.scatter)
    return jnp.any(pivots < limit) & ~found.constant

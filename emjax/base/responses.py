"""Responses of one or more columns: cleaned, centred and scaled once per dataset, with what is wrong with them."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp

from emjax.base import design, numerics
from emjax.base.covariances import CovarianceForm
from emjax.base.records import Array, Data
from emjax.base.status import Problem


class Response(NamedTuple):
    """Prepared responses, rows last."""

    y: Array  # (d, n)
    mean: Array  # (d,) user's units
    unit: Array  # (d,) user's units of one prepared unit; all equal for the spherical forms
    deviation: Array  # (d,) standard deviations in prepared units; ones but for the spherical forms


def standardise(data: Data, form: CovarianceForm) -> tuple[Response, Array, Array]:
    """By column where the form of the covariances allows it, by one number for the spherical forms.

    data.y (n,) or (n, d). Also the scatter (d, d) in prepared units, and `Problem` bits.
    """
    y = data.y[:, None] if data.y.ndim == 1 else data.y
    y = y.T
    weight = jnp.asarray(data.weight, y.dtype)
    used = weight > 0
    bad = ~jnp.isfinite(y)
    problem = jnp.where(jnp.any(bad & used[None, :]), Problem.RESPONSE_NOT_FINITE, 0)
    y = jnp.where(bad | ~used[None, :], 0.0, y)
    total = design.total_weight(weight)
    size = design.magnitude(y)
    if form.shape == "spherical":
        size = jnp.broadcast_to(jnp.max(size), size.shape)
    y = y / size[:, None]
    mean = jnp.sum(y * weight[None, :], axis=1) / total
    y = jnp.where(used[None, :], y - mean[:, None], 0.0)
    deviation, constant = design.unit_of(jnp.sum(y**2 * weight[None, :], axis=1) / total, mean)
    problem |= jnp.where(jnp.any(constant), Problem.CONSTANT_RESPONSE, 0)
    unit = deviation
    if form.shape == "spherical":
        unit = jnp.broadcast_to(jnp.sqrt(jnp.mean(deviation**2)), deviation.shape)
    y = y / unit[:, None]
    scatter = jnp.matmul(y * weight[None, :], y.T, precision=design.HIGHEST) / total
    if form.shape == "full":
        pivots = jnp.diagonal(numerics.cholesky(scatter)) ** 2
        limit = design.COLLINEAR * jnp.finfo(y.dtype).eps * jnp.diagonal(scatter)
        problem |= jnp.where(jnp.any(pivots < limit) & ~jnp.any(constant), Problem.COLLINEAR, 0)
    return Response(y, mean * size, unit * size, deviation / unit), scatter, problem

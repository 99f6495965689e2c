"""Loadings are known up to a rotation: free coordinates without one, principal axes, varimax. Loadings (..., p, q)."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from emjax.base import numerics
from emjax.base.records import Array
from emjax.base.registry import register
from emjax.base.status import DataError

JACOBI_SWEEPS = 10  # they converge quadratically: six are enough for six factors
VARIMAX_SWEEPS = 1000


class Anchors(NamedTuple):
    """An order of the variables whose first q have independent loadings: order (p,), and the rank of each (p,)."""

    order: Array
    rank: Array


def anchors(loadings: Array, n_factors: int) -> Anchors:
    """The q rows of `loadings` (p, a) picked one after the other, farthest from the span of those before; the rest."""
    p = loadings.shape[0]
    rank, rest = jnp.arange(p, dtype=jnp.int32) + n_factors, loadings
    tiny = jnp.finfo(loadings.dtype).tiny
    for j in range(n_factors):
        length = jnp.where(rank < n_factors, -1.0, jnp.sum(rest**2, axis=1))
        picked = jnp.argmax(length)
        rank = jnp.where(jnp.arange(p) == picked, jnp.int32(j), rank)
        way = rest[picked] / jnp.sqrt(jnp.maximum(length[picked], tiny))
        rest = rest - numerics.apply(rest, way)[:, None] * way[None, :]
    order = jnp.argsort(rank).astype(jnp.int32)
    return Anchors(order, jnp.argsort(order).astype(jnp.int32))


def n_loadings(p: int, n_factors: int) -> int:
    """Free loadings: rotations, q (q - 1) / 2 of them, change nothing."""
    return p * n_factors - n_factors * (n_factors - 1) // 2


def _places(p: int, n_factors: int) -> tuple[np.ndarray, np.ndarray]:
    """Row and column of each free entry of loadings that are lower triangular in their first q rows."""
    found = [(i, j) for i in range(p) for j in range(min(i + 1, n_factors))]
    rows, columns = (np.array(index, np.int32) for index in zip(*found))
    return rows, columns


def loadings_to_free(loadings: Array, variables: Anchors) -> Array:
    """Loadings rotated so that those of the anchors are lower triangular with a diagonal >= 0, packed, (..., f)."""
    turned = loadings[..., variables.order, :]
    columns = [turned[..., j] for j in range(turned.shape[-1])]
    for i in range(len(columns)):
        for j in range(i + 1, len(columns)):
            a, b = columns[i][..., i], columns[j][..., i]
            square = a**2 + b**2
            length = jnp.sqrt(jnp.where(square > 0, square, 1.0))
            cosine, sine = (
                jnp.where(square > 0, value, away) for value, away in ((a / length, 1.0), (b / length, 0.0))
            )
            columns[i], columns[j] = (
                cosine[..., None] * columns[i] + sine[..., None] * columns[j],
                cosine[..., None] * columns[j] - sine[..., None] * columns[i],
            )
        columns[i] = jnp.where(columns[i][..., i, None] < 0, -columns[i], columns[i])
    rows, column = _places(turned.shape[-2], len(columns))
    return jnp.stack(columns, axis=-1)[..., rows, column]


def loadings_from_free(free: Array, variables: Anchors, n_factors: int) -> Array:
    """The inverse of `loadings_to_free`, up to a rotation, (..., p, q)."""
    p = variables.order.shape[0]
    rows, columns = _places(p, n_factors)
    room = jnp.zeros((*free.shape[:-1], p, n_factors), free.dtype)
    return room.at[..., rows, columns].set(free)[..., variables.rank, :]


def principal_axes(loadings: Array, uniquenesses: Array) -> Array:
    """Loadings rotated so that loadings' Psi^-1 loadings is diagonal and descends.

    Each factor's correlations with the variables have a positive sum. By Jacobi's rotations of pairs of columns, which
    have derivatives where the diagonal has no ties.
    """
    q = loadings.shape[-1]
    deviation = jnp.sqrt(uniquenesses)[..., None]
    scaled = loadings / deviation

    def turn(columns: Array, i: int, j: int) -> Array:
        a, b = columns[..., i], columns[..., j]
        gap, product = jnp.sum(a**2 - b**2, axis=-1), 2.0 * jnp.sum(a * b, axis=-1)
        tie = (gap == 0) & (product == 0)
        angle = 0.5 * jnp.arctan2(product, jnp.where(tie, 1.0, gap))
        cosine, sine = jnp.cos(angle)[..., None], jnp.sin(angle)[..., None]
        columns = columns.at[..., i].set(cosine * a + sine * b)
        return columns.at[..., j].set(cosine * b - sine * a)

    def jacobi(_: int, columns: Array) -> Array:
        for i in range(q):
            for j in range(i + 1, q):
                columns = turn(columns, i, j)
        return columns

    if q > 1:
        scaled = jax.lax.fori_loop(0, JACOBI_SWEEPS, jacobi, scaled)
    found = scaled * deviation
    total = jnp.sqrt(jnp.sum(found**2, axis=-1) + uniquenesses)
    negative = jnp.sum(found / total[..., None], axis=-2, keepdims=True) < 0
    return jnp.where(negative, -found, found)


@register
class Rotation(NamedTuple):
    """Rotated loadings (..., p, q), and the orthogonal matrices (..., q, q) that rotated them: loadings @ rotation."""

    loadings: np.ndarray
    rotation: np.ndarray


def varimax(loadings: Array, normalize: bool = True) -> Rotation:
    """Rotate loadings to the largest variance of their squares within columns.

    loadings : (p, q), or with leading axes, each matrix by itself. normalize : rows of length one meanwhile, as Kaiser
    proposed. Rotates one pair of columns after the other by the best angle (Kaiser 1958, Psychometrika 23) until
    nothing moves. NumPy, on the host; score the factors with `params._replace(loadings=...)`.
    """
    found = np.array(loadings, np.float64)
    if found.ndim < 2:
        raise DataError(f"varimax(loadings of shape {found.shape}): give loadings of shape (p, q).")
    p, q = found.shape[-2:]
    length = np.sqrt(np.sum(found**2, axis=-1, keepdims=True)) if normalize else np.ones((*found.shape[:-1], 1))
    length = np.where(length > 0, length, 1.0)
    found = found / length
    rotation = np.broadcast_to(np.eye(q), (*found.shape[:-2], q, q)).copy()
    for _ in range(VARIMAX_SWEEPS):
        turned = 0.0
        for i in range(q):
            for j in range(i + 1, q):
                angle = _varimax_angle(found[..., i], found[..., j])
                turned = max(turned, float(np.max(np.abs(angle), initial=0.0)))
                for columns in (found, rotation):
                    _turn_pair(columns, i, j, angle)
        if turned < 1e-14:
            break
    return Rotation(found * length, rotation)


def _varimax_angle(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The rotation of columns x, y (..., p) that maximises the variance of their squares, radians."""
    p = x.shape[-1]
    u, v = x**2 - y**2, 2.0 * x * y
    a, b = np.sum(u, axis=-1), np.sum(v, axis=-1)
    sine = 2.0 * (np.sum(u * v, axis=-1) - a * b / p)
    cosine = np.sum(u**2 - v**2, axis=-1) - (a**2 - b**2) / p
    nothing = np.hypot(sine, cosine) <= 1e-15 * np.sum(u**2 + v**2, axis=-1)
    return np.where(nothing, 0.0, 0.25 * np.arctan2(sine, cosine))


def _turn_pair(columns: np.ndarray, i: int, j: int, angle: np.ndarray) -> None:
    cosine, sine = np.cos(angle)[..., None], np.sin(angle)[..., None]
    a, b = columns[..., i].copy(), columns[..., j].copy()
    columns[..., i], columns[..., j] = cosine * a + sine * b, cosine * b - sine * a

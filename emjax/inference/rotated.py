"""Standard errors of loadings after a varimax rotation, by the delta method through the rotation.

Rotated loadings are B = A T(A), where T maximises the varimax criterion, so that the derivative F(B) of that criterion
by the angle of each pair of factors is 0. Differentiating both, dB = dA T + B K with K skew-symmetric, and F'(B) dB = 0
gives K (Archer & Jennrich 1973, Psychometrika 38, 581-592; Jennrich 1973, Psychometrika 38, 593-604).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import numpy as np

from emjax.base.rotations import varimax
from emjax.base.status import DataError
from emjax.inference.information import Reason, StandardErrors

SINGULAR = 1e-8  # relative: a criterion this flat in some angle has no single maximum


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["loadings", "rotation", "se", "reason", "covariance"],
    meta_fields=["normalize"],
)
@dataclass(frozen=True)
class RotatedLoadings:
    """Rotated loadings (..., p, q), leading axes as the loadings of the fits have them, in the user's units.

    rotation (..., q, q) : loadings @ rotation were rotated. se : NaN where there is none. reason : `Reason` codes.
    covariance (..., p q, p q) : of the rotated loadings, row by row. normalize : as in `varimax`.
    """

    loadings: Any
    rotation: Any
    se: Any
    reason: Any
    covariance: Any
    normalize: bool


def rotated_loadings(found: StandardErrors, normalize: bool = True) -> RotatedLoadings:
    """Varimax-rotated loadings of factor analyses, or of mixtures of factor analysers, with their standard errors.

    found : from `standard_errors(fits, covariance=True)`, of any kind. normalize : as in `varimax`. The order and the
    signs of the factors are as `varimax` leaves them: put those of many fits in one order before comparing them.

    Errors: `DataError` where there are no loadings, or several arrays of them, or no covariance matrices.
    """
    if not isinstance(found, StandardErrors) or found.covariance is None:
        raise DataError("rotated_loadings needs covariances: give it standard_errors(fits, covariance=True).")
    paths = jax.tree_util.tree_leaves_with_path(found.params)
    where = [i for i, (path, _) in enumerate(paths) if jax.tree_util.keystr(path).endswith(".loadings")]
    if len(where) != 1:
        raise DataError(
            f"rotated_loadings: these parameters have {len(where) or 'no'} loadings; it is for factor analyses."
        )
    leading = np.ndim(found.covariance) - 2
    sizes = [int(np.prod(np.shape(leaf)[leading:])) for _, leaf in paths]
    first = sum(sizes[: where[0]])
    given, why = (np.asarray(jax.tree.leaves(record)[where[0]]) for record in (found.params, found.reason))
    p, q = given.shape[-2:]
    blocks = [slice(first + k * p * q, first + (k + 1) * p * q) for k in range(sizes[where[0]] // (p * q))]
    own = np.stack([found.covariance[..., block, block] for block in blocks], axis=leading)
    covariance = own.reshape(*given.shape[:-2], p * q, p * q)
    flat = [a.reshape(-1, *shape) for a, shape in ((given, (p, q)), (covariance, (p * q, p * q)), (why, (p * q,)))]
    usable = np.all(flat[2] == Reason.FREE, axis=1)
    turned = varimax(np.where(np.isfinite(flat[0]), flat[0], 0.0), normalize)
    jacobian, unique = _jacobian(turned.loadings, turned.rotation, normalize)
    matrices = jacobian @ np.where(usable[:, None, None], flat[1], 0.0) @ np.swapaxes(jacobian, 1, 2)
    worst = np.where(usable & ~unique, Reason.NOT_IDENTIFIED, np.max(flat[2], axis=1))
    reason = np.broadcast_to(worst[:, None, None], flat[0].shape)
    matrices = np.where((worst == Reason.FREE)[:, None, None], matrices, np.nan)
    se = np.sqrt(np.diagonal(matrices, axis1=1, axis2=2)).reshape(flat[0].shape)
    loadings = np.where(np.isfinite(flat[0]), turned.loadings, np.nan)

    def shaped(values: np.ndarray) -> np.ndarray:
        return values.reshape(*given.shape[:-2], *values.shape[1:])

    return RotatedLoadings(
        shaped(loadings), shaped(turned.rotation), shaped(se), shaped(reason), shaped(matrices), normalize
    )


def _jacobian(rotated: np.ndarray, rotation: np.ndarray, normalize: bool) -> tuple[np.ndarray, np.ndarray]:
    """Of rotated loadings (C, p, q) by those before, (C, p q, p q), both row by row; whether the angles are unique."""
    count, p, q = rotated.shape
    basis = np.eye(p * q).reshape(p * q, p, q)
    direct = basis @ rotation[:, None]  # (C, p q, p, q): a direction, then what moves
    pairs = [(i, j) for i in range(q) for j in range(i + 1, q)]
    turns = np.zeros((len(pairs), q, q))
    for s, (i, j) in enumerate(pairs):
        turns[s, i, j], turns[s, j, i] = 1.0, -1.0
    turned = rotated[:, None] @ turns  # (C, s, p, q)
    own = _criterion_change(rotated, turned, pairs, normalize)  # (C, s, pairs)
    forced = _criterion_change(rotated, direct, pairs, normalize)  # (C, p q, pairs)
    size = np.sum(rotated**2, axis=2)
    size = np.full(count, float(p)) if normalize else np.sum(size**2, axis=1)
    unique = np.all(np.linalg.svd(own, compute_uv=False) > SINGULAR * size[:, None], axis=1)
    own = np.where(unique[:, None, None], own, np.eye(len(pairs)))
    angles = -np.swapaxes(np.linalg.solve(np.swapaxes(own, 1, 2), np.swapaxes(forced, 1, 2)), 1, 2)
    moved = direct + np.einsum("cms,cspq->cmpq", angles, turned)
    return np.swapaxes(moved.reshape(count, p * q, p * q), 1, 2), unique


def _criterion_change(
    rotated: np.ndarray, change: np.ndarray, pairs: list[tuple[int, int]], normalize: bool
) -> np.ndarray:
    """Changes (C, M, pairs) of the derivative of the criterion by each pair's angle, as loadings (C, p, q) change by
    (C, M, p, q)."""
    found = rotated[:, None]
    if normalize:
        length = np.sqrt(np.sum(found**2, axis=-1, keepdims=True))
        length = np.where(length > 0, length, 1.0)
        found = found / length
        change = (change - found * np.sum(found * change, axis=-1, keepdims=True)) / length
    p, changes = rotated.shape[1], []
    for i, j in pairs:
        x, y, dx, dy = found[..., i], found[..., j], change[..., i], change[..., j]
        u, v, du, dv = x**2 - y**2, 2.0 * x * y, 2.0 * (x * dx - y * dy), 2.0 * (y * dx + x * dy)
        total = [np.sum(a, axis=-1) for a in (u, v, du, dv)]
        changes.append(np.sum(u * dv + v * du, axis=-1) - (total[0] * total[3] + total[1] * total[2]) / p)
    return np.stack(changes, axis=-1) if changes else np.zeros((*change.shape[:2], 0))

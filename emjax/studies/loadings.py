"""Factor loadings of stored fits put in one form: by sign and order of the factors, or by Procrustes rotation.

Loadings are known up to a rotation. A model that fixes it by a convention still leaves the signs of the factors, and
their order where two explain nearly the same. Procrustes goes further: it turns each fit as near to the truth as any
rotation brings it (Schoenemann 1966, Psychometrika 31:1), which flatters. Shapes: `p` variables, `q` factors.
"""

from __future__ import annotations

import re
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from emjax.base.status import DataError
from emjax.inference.assignment import assign
from emjax.studies.records import Cell, rearranged

SIGNS, PROCRUSTES = "signs", "procrustes"
_LOADING = re.compile(r"(?:^|\.)loadings\[(\d+),\s*(\d+)\]$")


def places(cell: Cell) -> NDArray[np.intp] | None:
    """Where the loadings stand among the entries, (p, q); None where there are none, or not for all factors."""
    at = {}
    for i, entry in enumerate(cell.entries):
        found = _LOADING.search(entry.parameter)
        if found and entry.component == "all":
            at[int(found[1]), int(found[2])] = i
    if not at:
        return None
    shape = tuple(max(index[axis] for index in at) + 1 for axis in (0, 1))
    return np.array([at[index] for index in np.ndindex(shape)]).reshape(shape) if len(at) == np.prod(shape) else None


def aligned(cell: Cell, how: str | None, level: float = 0.95) -> Cell:
    """The cell with its loadings aligned to the true ones, replicate by replicate; as it is without loadings or truth.

    how : "signs", factors matched by the absolute cosine of their loadings and then given the true sign; "procrustes",
    the rotation of least squares, with standard errors by the delta method for a given rotation, where covariances
    were kept, and normal intervals of `level` from them; None, as fitted. Errors: DataError for another `how`.
    """
    if how not in (None, SIGNS, PROCRUSTES):
        raise DataError(f"loadings is {how!r}; it must be 'signs', 'procrustes' or None")
    at = places(cell)
    if how is None or at is None:
        return cell
    fitted, truth = cell.outcomes.estimate[:, at], cell.outcomes.truth[:, at]
    usable = np.all(np.isfinite(fitted) & np.isfinite(truth), axis=(1, 2))
    turn = np.tile(np.eye(at.shape[1]), (len(fitted), 1, 1))
    turn[usable] = (_signs if how == SIGNS else _procrustes)(fitted[usable], truth[usable])
    return _signed(cell, at, turn) if how == SIGNS else _turned(cell, at, turn, level)


def _signs(fitted: NDArray, truth: NDArray) -> NDArray:
    """Signed permutation matrices (N, q, q): fitted @ matrix is nearest in direction."""
    products = np.einsum("npj,npk->njk", fitted, truth)
    length = np.sqrt(np.sum(fitted**2, axis=1)[:, :, None] * np.sum(truth**2, axis=1)[:, None, :])
    cosine = products / np.where(length > 0, length, 1.0)
    order = assign(-np.abs(cosine))
    columns = np.arange(order.shape[1])
    found = np.zeros_like(cosine)
    for k in columns:
        rows = np.arange(len(order))
        found[rows, order[:, k], k] = np.where(cosine[rows, order[:, k], k] < 0, -1.0, 1.0)
    return found


def _procrustes(fitted: NDArray, truth: NDArray) -> NDArray:
    left, _, right = np.linalg.svd(np.einsum("npj,npk->njk", fitted, truth))
    return left @ right


def _signed(cell: Cell, at: NDArray, turn: NDArray) -> Cell:
    """Columns moved and given a sign; a limit below becomes one above."""
    order = np.argmax(np.abs(turn), axis=1)
    sign = np.take_along_axis(turn, order[:, None, :], axis=1)[:, 0]
    origin = np.tile(np.arange(len(cell.entries)), (len(turn), 1))
    flip = np.ones(origin.shape)
    origin[:, at] = np.take_along_axis(np.broadcast_to(at, (len(turn), *at.shape)), order[:, None, :], axis=2)
    flip[:, at] = sign[:, None, :]
    own = rearranged(cell.outcomes, origin)
    lower, upper, covariance = own.lower * flip, own.upper * flip, own.covariance
    if covariance.shape[1]:
        covariance = covariance * flip[:, :, None] * flip[:, None, :]
    moved = own._replace(
        estimate=own.estimate * flip,
        lower=np.where(flip < 0, upper, lower),
        upper=np.where(flip < 0, lower, upper),
        covariance=covariance,
    )
    return cell._replace(outcomes=moved)


def _turned(cell: Cell, at: NDArray, turn: NDArray, level: float) -> Cell:
    """Rows of loadings times the rotation; variances where covariances are known, else no standard errors."""
    own, (p, q) = cell.outcomes, at.shape
    estimate, se, lower, upper = (np.array(a) for a in (own.estimate, own.se, own.lower, own.upper))
    estimate[:, at] = own.estimate[:, at] @ turn
    covariance = own.covariance
    variance = np.full((len(turn), p, q), np.nan)
    if covariance.shape[1]:
        jacobian = np.tile(np.eye(len(cell.entries)), (len(turn), 1, 1))
        for row in at:
            jacobian[:, row[:, None], row[None, :]] = np.swapaxes(turn, 1, 2)
        covariance = jacobian @ np.nan_to_num(covariance) @ np.swapaxes(jacobian, 1, 2)
        known = np.all(np.isfinite(own.se[:, at]), axis=2, keepdims=True)
        variance = np.where(known, np.diagonal(covariance, axis1=1, axis2=2)[:, at], np.nan)
    se[:, at] = np.sqrt(variance)
    z = NormalDist().inv_cdf(0.5 + 0.5 * level)
    lower[:, at], upper[:, at] = estimate[:, at] - z * se[:, at], estimate[:, at] + z * se[:, at]
    moved = own._replace(estimate=estimate, se=se, lower=lower, upper=upper, covariance=covariance)
    return cell._replace(outcomes=moved)

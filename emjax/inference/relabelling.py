"""Parameters, standard errors and covariances with their components in another order, many datasets at a time.

A model's own `relabel` knows what is shared between components, which arrays have two axes of components, and the
baseline of a gate. It is asked once for each permutation that occurs: numbers that all differ, passed through it, say
where every entry comes from. Where that is no rearrangement, as with a gate's baseline, it is linear in the parameters,
x -> A x, and a covariance becomes A cov A'. Shapes: `D` datasets, `K` components, `L` entries of the parameters.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np
from numpy.typing import ArrayLike, NDArray

from emjax.base.status import DataError
from emjax.engine.parameters import flatten, n_exchangeable, unflatten
from emjax.engine.results import Fits
from emjax.inference.information import Reason, StandardErrors

What = TypeVar("What")


class _Map(NamedTuple):
    """One permutation: which datasets have it, and for each entry where it comes from, or else the matrix A (L, L)."""

    datasets: NDArray[np.intp]
    source: NDArray[np.intp] | None
    matrix: NDArray[np.float64] | None


def permute(what: What, permutations: ArrayLike, model: Any = None) -> What:
    """`what` with its components relabelled, in NumPy, leading axis D.

    what : parameters; or `StandardErrors` of a batch, whose parameters, standard errors, reasons and covariances move
        together; or `Fits`, whose parameters move (its data, and the restarts' landscape, have no labels).
    permutations : `(D, K)`, as the functions that align return them. Components that a family puts at the end, such as
        noise, stay there.
    model : whose parameters they are; `Fits` have their own. Without one every array must have the axes `(D, K, ...)`.

    A standard error of a difference, such as a gate's against its new baseline, needs the covariances
    (`standard_errors(..., covariance=True)`); it is NaN without them. Errors: DataError for an array with other axes,
    so that nothing is left half relabelled, for standard errors without a model, and for what are no permutations of
    the model's components.
    """
    order = _checked(permutations, model)
    if isinstance(what, Fits):
        return replace(what, params=permute(what.params, order, what.model))  # type: ignore[return-value]
    if isinstance(what, StandardErrors):
        return _errors_moved(what, order, model)  # type: ignore[return-value]
    if model is not None:
        return _params_moved(what, order, model)

    def relabel(leaf: ArrayLike) -> NDArray:
        array = np.asarray(leaf)
        if array.shape[:2] != order.shape:
            raise DataError(f"a parameter has shape {array.shape}; its first two axes must be (D, K) = {order.shape}")
        index = order.reshape(order.shape + (1,) * (array.ndim - 2))
        return np.take_along_axis(array, index, axis=1)

    return jax.tree.map(relabel, what)


def _checked(permutations: ArrayLike, model: Any) -> NDArray[np.intp]:
    order = np.asarray(permutations)
    if order.ndim != 2 or not np.array_equal(
        np.sort(order, axis=1), np.broadcast_to(np.arange(order.shape[1]), order.shape)
    ):
        raise DataError(f"permutations, shape {order.shape}: give (D, K), in each row all of 0 to K - 1.")
    order = order.astype(np.intp)
    if not hasattr(model, "n_components"):
        return order
    own, exchangeable = np.arange(model.n_components), n_exchangeable(model)
    if order.shape[1] != len(own):
        raise DataError(f"permutations are of {order.shape[1]} components, and this model has {len(own)}: give (D, K).")
    if np.any(order[:, exchangeable:] != own[exchangeable:]):
        raise DataError(
            f"permutations move component {exchangeable}, without parameters of its own: it must stay there."
        )
    return order


def _maps(params: Any, order: NDArray[np.intp], model: Any) -> Iterator[_Map]:
    """One for each permutation that occurs, those in their own order left out."""
    wrong = [np.shape(leaf) for leaf in jax.tree.leaves(params) if np.shape(leaf)[:1] != order.shape[:1]]
    if wrong:
        raise DataError(f"a parameter has shape {wrong[:1]}; permutations (D, K) have shape {order.shape}")
    one = jax.tree.map(lambda leaf: np.zeros((1, *np.shape(leaf)[1:])), params)
    size = sum(leaf.size for leaf in jax.tree.leaves(one))

    def image(values: NDArray[np.float64], permutation: NDArray[np.intp]) -> NDArray[np.float64]:
        with jax.enable_x64(True):  # a relabel that calls jax must not round to float32
            given = jax.tree.map(lambda leaf: leaf[0], unflatten(values[None], one))
            moved = model.relabel(given, permutation)
            return flatten(moved, 0)

    kinds, which = np.unique(order, axis=0, return_inverse=True)
    for kind, permutation in enumerate(kinds):
        if np.array_equal(permutation, np.arange(order.shape[1])):
            continue
        datasets = np.flatnonzero(which.reshape(-1) == kind)
        places = np.arange(1.0, 1.0 + size)
        moved = image(places, permutation)
        if np.array_equal(np.sort(moved), places):
            yield _Map(datasets, moved.astype(np.intp) - 1, None)
        else:
            columns = [image(unit, permutation) for unit in np.eye(size)]
            matrix = np.stack(columns, axis=1) if columns else np.zeros((0, 0))
            linear = np.allclose(matrix @ places, moved, rtol=1e-9)
            yield _Map(datasets, None, matrix if linear else None)


def _params_moved(params: Any, order: NDArray[np.intp], model: Any) -> Any:
    maps = list(_maps(params, order, model))
    flat = flatten(params)
    for moved in maps:
        if moved.source is not None:
            flat[moved.datasets] = flat[moved.datasets][:, moved.source]
            continue
        for d in moved.datasets:  # by the model itself, so that a baseline is exactly 0
            with jax.enable_x64(True):
                one = model.relabel(jax.tree.map(lambda leaf: np.asarray(leaf)[d], params), order[d])  # noqa: B023
                flat[d] = flatten(one, 0)
    return jax.tree.map(lambda new, old: new.astype(np.asarray(old).dtype), unflatten(flat, params), params)


def _errors_moved(found: StandardErrors, order: NDArray[np.intp], model: Any) -> StandardErrors:
    if model is None:
        raise DataError("permute needs model= to move standard errors: it says which entries belong to a component")
    maps = list(_maps(found.params, order, model))
    se, reason = flatten(found.se), flatten(found.reason)
    covariance = None if found.covariance is None else np.array(found.covariance)
    for moved in maps:
        rows, source = moved.datasets, moved.source
        if source is not None:
            se[rows], reason[rows] = se[rows][:, source], reason[rows][:, source]
            if covariance is not None:
                covariance[rows] = covariance[rows][:, source][:, :, source]
        elif moved.matrix is not None:
            own = None if covariance is None else covariance[rows]
            se[rows], reason[rows], own = _mixed(moved.matrix, se[rows], reason[rows], own)
            if covariance is not None:
                covariance[rows] = own
        else:
            raise DataError(f"{model!r} relabels by more than a linear map: fit standard errors after the relabelling")
    return replace(
        found,
        params=_params_moved(found.params, order, model),
        se=unflatten(se, found.se),
        reason=unflatten(reason, found.reason),
        covariance=covariance,
    )


def _mixed(
    matrix: NDArray[np.float64], se: NDArray, reason: NDArray, covariance: NDArray | None
) -> tuple[NDArray, NDArray, NDArray | None]:
    """Standard errors (C, L), reasons (C, L) and covariances of A x; what is fixed has no variance."""
    used = matrix != 0
    fixed = reason == Reason.FIXED
    parts = used[None] & ~fixed[:, None, :]
    worst = np.max(np.where(parts, reason[:, None, :], Reason.FREE), axis=2)
    why = np.where(np.any(parts, axis=2), worst, Reason.FIXED)
    why = np.where(np.all(reason == Reason.NO_FIT, axis=1)[:, None], Reason.NO_FIT, why)
    free = why == Reason.FREE
    both = free[:, :, None] & free[:, None, :]
    if covariance is not None:
        known = np.where(np.isfinite(covariance), covariance, 0.0)
        covariance = np.where(both, matrix @ known @ matrix.T, np.nan)
        return np.sqrt(np.diagonal(covariance, axis1=1, axis2=2)), why, covariance
    alone = np.sum(parts, axis=2) == 1
    size = np.sum(np.where(parts, np.abs(matrix)[None] * se[:, None, :], 0.0), axis=2)
    return np.where(free & alone, size, np.nan), why, None

"""Which scalar stands where: the entries of a method's parameters, and where exchanged labels move them.

Shapes: `N` replicates, `L` entries, in the order of `jax.tree.leaves` and of memory, as in tables of estimates.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import numpy as np

from emjax.base.records import Params
from emjax.engine import parameters
from emjax.inference import relabelling
from emjax.studies.records import Entry


class Layout(NamedTuple):
    """entries : L of them. blocks : for each entry the name of its array and its place there, of which shape.
    n_components : 1 of a model without components. swaps (S, L) : from where each entry comes when components s and
    s + 1 are exchanged; all permutations follow from these. No row where labels are not exchangeable, or where
    exchanging them is more than a rearrangement, as with the baseline of a gate."""

    entries: tuple[Entry, ...]
    blocks: tuple[tuple[str, int, tuple[int, ...]], ...]
    n_components: int
    swaps: np.ndarray


def of_model(model: Any, params: Params, fixed: Any = None) -> Layout:
    """Of parameters with a leading axis of replicates."""
    entries = tuple(Entry(*scalar) for scalar in parameters.scalars(model, params, 1))
    arrays = zip(parameters.names(params), (np.shape(leaf)[1:] for leaf in jax.tree.leaves(params)), strict=True)
    places = tuple((name, place, shape) for name, shape in arrays for place in range(int(np.prod(shape))))
    n_components = int(getattr(model, "n_components", 1))
    return Layout(entries, places, n_components, _swaps(model, params, len(entries), fixed))


def of_arrays(values: dict[str, np.ndarray], known: Layout | None) -> Layout:
    """Of arrays (N, ...) by name. known : of the true model, whose parameters those of the same name and shape are."""
    places = [(name, place, a.shape[1:]) for name, a in values.items() for place in range(a[0].size)]
    at = {} if known is None else {block: place for place, block in enumerate(known.blocks)}
    if known is not None and all(place in at for place in places):
        return chosen(known, np.array([at[place] for place in places]))
    names = (parameters.entry_name(name, np.unravel_index(place, shape)) for name, place, shape in places)
    entries = tuple(Entry(name, parameters.SHARED) for name in names)
    return Layout(entries, tuple(places), 1, np.zeros((0, len(entries)), np.int64))


def chosen(layout: Layout, which: np.ndarray) -> Layout:
    """Some of the entries, in this order; without swaps where one would bring in an entry that is left out."""
    entries, blocks = (tuple(part[i] for i in which) for part in (layout.entries, layout.blocks))
    place = np.full(len(layout.entries), -1)
    place[which] = np.arange(len(which))
    swaps = place[layout.swaps[:, which]]
    return Layout(entries, blocks, layout.n_components, swaps if np.all(swaps >= 0) else swaps[:0])


def values_of(layout: Layout, truth: Any, count: int) -> np.ndarray:
    """True values (N, L) from a record or dictionary of arrays (N, ...); NaN where no array has the name and shape."""
    found = np.full((count, len(layout.entries)), np.nan)
    if truth is None:
        return found
    if isinstance(truth, dict):
        known = {name: np.asarray(values) for name, values in truth.items()}
    else:
        known = dict(zip(parameters.names(truth), map(np.asarray, jax.tree.leaves(truth)), strict=True))
    for column, (name, place, shape) in enumerate(layout.blocks):
        if name in known and known[name].shape[1:] == shape:
            found[:, column] = known[name].reshape(count, -1)[:, place]
    return found


def _swaps(model: Any, params: Params, size: int, fixed: Any) -> np.ndarray:
    count = parameters.n_exchangeable(model) - 1
    if count < 1 or not hasattr(model, "latent") or _labelled(fixed):
        return np.zeros((0, size), np.int64)
    places = parameters.unflatten(np.tile(np.arange(float(size)), (count, 1)), params)
    orders = np.tile(np.arange(model.n_components), (count, 1))
    rows = np.arange(count)
    orders[rows, rows], orders[rows, rows + 1] = rows + 1, rows
    found = parameters.flatten(relabelling.permute(places, orders, model))
    pure = np.array_equal(np.sort(found, axis=1), np.broadcast_to(np.arange(float(size)), found.shape))
    return found.astype(np.int64) if pure else np.zeros((0, size), np.int64)


def _labelled(fixed: Any) -> bool:
    """Whether fixed values give the labels a meaning: they do unless all components have the same."""
    values = [np.asarray(value) for value in (fixed or {}).values() if value is not None]
    return any(value.ndim > 0 and np.any(value != value[:1]) for value in values)

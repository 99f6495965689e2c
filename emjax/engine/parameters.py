"""Parameters of any model as named blocks, which of them have an entry for each component, and as one vector."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import numpy as np

from emjax.base.protocols import Model
from emjax.base.records import Array, Params

SHARED = "all"  # stands for the component of what all components share


class Block(NamedTuple):
    """One array of a model's parameters.

    name : its record field, with the record's own name before it where two fields share theirs. values : as in the
    parameters, with their leading axes. of_components : whether the first of the other axes is the components'.
    """

    name: str
    values: Array
    of_components: bool


def blocks(model: Model, params: Params, leading: int = 0) -> list[Block]:
    """The arrays of `params`, which have `leading` axes of datasets before their own, in the order of the record.

    Components' arrays are told from shared ones by what `model.relabel` moves.
    """
    one = jax.tree.map(lambda a: np.asarray(a)[(0,) * leading], params)
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(params)]
    return [Block(*found) for found in zip(names(params), leaves, _of_components(model, one), strict=True)]


def names(params: Params) -> list[str]:
    """What the arrays of `params` are called, in the order of `jax.tree.leaves`; see `Block`."""
    paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(params)]
    short, full = ([_name(path, whole) for path in paths] for whole in (False, True))
    return [a if short.count(a) == 1 else b for a, b in zip(short, full, strict=True)]


def entries(block: Block, leading: int = 0) -> list[tuple[int, ...]]:
    """Indices into a block without its leading axes and its components' axis, in the order of memory."""
    return list(np.ndindex(block.values.shape[leading + block.of_components :]))


def entry_name(block: str, index: Iterable[Any]) -> str:
    """What a scalar is called, such as "means[0]"."""
    inner = ",".join(map(str, index))
    return f"{block}[{inner}]" if inner else block


def scalars(model: Model, params: Params, leading: int = 0) -> list[tuple[str, Any]]:
    """Name and component of every scalar, in the order of `flatten`; the component is `SHARED` of what all share."""
    found = []
    for block in blocks(model, params, leading):
        own = range(block.values.shape[leading]) if block.of_components else (SHARED,)
        found += [(entry_name(block.name, index), k) for k in own for index in entries(block, leading)]
    return found


def n_exchangeable(model: Any) -> int:
    """How many components may exchange their labels: all but those that a family puts at the end; 0 without any."""
    return getattr(model, "n_components", 0) - getattr(getattr(model, "family", None), "extra", 0)


def flatten(params: Params, leading: int = 1) -> np.ndarray:
    """A record with so many leading axes as one array, its own axes flattened in the order of `jax.tree.leaves`."""
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(params)]
    return np.concatenate([leaf.reshape(*leaf.shape[:leading], -1) for leaf in leaves], axis=leading)


def unflatten(flat: np.ndarray, like: Params) -> Params:
    """Values (D, L) as a record like `like`, leading axis D: the inverse of `flatten`, but for the dtypes."""
    leaves, structure = jax.tree.flatten(like)
    ends = np.cumsum([int(np.prod(np.shape(leaf)[1:])) for leaf in leaves])[:-1]
    parts = np.split(flat, ends, axis=1)
    shaped = [part.reshape(len(flat), *np.shape(leaf)[1:]) for part, leaf in zip(parts, leaves, strict=True)]
    return jax.tree.unflatten(structure, shaped)


def _name(path: tuple[Any, ...], whole: bool) -> str:
    """The place in a record, such as "coefficients" or "parts[1].means"; with what the record belongs to if `whole`."""
    text = jax.tree_util.keystr(path).lstrip(".")
    part, dot, rest = text.partition(".")
    return rest if dot and part in ("latent", "family") and not whole else text


def _of_components(model: Any, params: Params) -> list[bool]:
    n_components, exchangeable = getattr(model, "n_components", 0), n_exchangeable(model)
    sizes = [np.shape(leaf)[:1] for leaf in jax.tree.leaves(params)]
    possible = [size in ((n_components,), (exchangeable,)) for size in sizes]
    if exchangeable < 2:
        return possible
    # Values that all differ: what is the same with two labels exchanged does not depend on them.
    leaves, structure = jax.tree.flatten(params)
    probe = [np.arange(1.0, 1.0 + np.size(leaf)).reshape(np.shape(leaf)) for leaf in leaves]
    order = np.array([1, 0, *range(2, n_components)])
    try:
        moved = jax.tree.leaves(model.relabel(jax.tree.unflatten(structure, probe), order))
    except TypeError:  # a model without labels
        return possible
    return [may and not np.array_equal(a, b) for may, a, b in zip(possible, probe, moved, strict=True)]

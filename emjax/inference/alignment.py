"""Component labels put in one order over many fits, after the fits and without touching what is stored.

A mixture's likelihood does not know which component is called first, so estimates of "the first slope" mean nothing
over many fits until the labels agree. A permutation here is read as numpy's `take`: the aligned component `k` of
dataset `d` is the fitted component `permutations[d, k]`. Shapes: `D` datasets, `K` components, `c` coordinates.
"""

from itertools import permutations as arrangements
from typing import Any, TypeVar

import jax
import numpy as np
from numpy.typing import ArrayLike, NDArray

from emjax.base.status import DataError

Params = TypeVar("Params")

# All K! arrangements are compared, so K is bounded: 6! = 720.
_MAX_COMPONENTS = 6
# Totals held at once (datasets x arrangements), so that memory does not grow with the number of datasets.
_MAX_TOTALS = 1 << 22


def align_by_distance(estimates: ArrayLike, truth: ArrayLike, scale: ArrayLike = 1.0) -> NDArray[np.intp]:
    """The labelling of every fit that lies nearest to given parameters.

    `estimates (D, K, c)` are the fitted components, `truth (K, c)` (or one per dataset, `(D, K, c)`) what they are to
    be matched with, and `scale` the size of an error in each coordinate: anything that broadcasts against `truth`,
    such as `(c,)`. The sum over components of the squared distance, coordinates divided by `scale`, is smallest over
    all K! arrangements (an exact assignment); of equals the first in lexicographic order is taken.

    Returns permutations (D, K). A fit with a value that is not finite keeps its own order. Errors: DataError for
    shapes that disagree, a scale that is not positive, or K > 6.
    """
    values, target = np.asarray(estimates, np.float64), np.asarray(truth, np.float64)
    if values.ndim != 3 or target.shape not in (values.shape, values.shape[1:]):
        raise DataError(
            f"estimates has shape {values.shape} and truth {target.shape}; they must be (D, K, c) and (K, c) or "
            "(D, K, c)"
        )
    n_components = values.shape[1]
    if n_components > _MAX_COMPONENTS:
        raise DataError(
            f"alignment by distance compares all orders of at most {_MAX_COMPONENTS} components, and there are "
            f"{n_components}; order the components by one of their values instead (order_by)"
        )
    size = np.broadcast_to(np.asarray(scale, np.float64), target.shape)
    if not np.all(size > 0):
        raise DataError("scale has a value that is not positive; it is the size of an error in each coordinate")
    finite = np.all(np.isfinite(values), axis=(1, 2))
    # Set to one point, all its components tie, and the first order is its own.
    clean = np.where(finite[:, None, None], values, 0.0)
    orders = np.array(list(arrangements(range(n_components))), dtype=np.intp)
    target, size = np.broadcast_to(target, values.shape), np.broadcast_to(size, values.shape)
    best = np.zeros(len(values), np.intp)
    block = max(1, _MAX_TOTALS // len(orders))
    for i in range(0, len(values), block):
        part = slice(i, i + block)
        best[part] = np.argmin(_totals(clean[part], target[part], size[part], orders), axis=1)
    return orders[best]


def _totals(
    values: NDArray[np.float64], target: NDArray[np.float64], size: NDArray[np.float64], orders: NDArray[np.intp]
) -> NDArray[np.float64]:
    """The total squared distance (D, K!) of every order: fitted component `orders[., k]` stands for target `k`."""
    totals = np.zeros((len(values), len(orders)))
    for k in range(values.shape[1]):
        squared = np.sum(((values - target[:, k, None]) / size[:, k, None]) ** 2, axis=2)
        totals += squared[:, orders[:, k]]
    return totals


def order_by(values: ArrayLike) -> NDArray[np.intp]:
    """The labelling that puts `values (D, K)` in increasing order; ties keep their order and NaN goes last.

    Returns permutations (D, K). Errors: DataError for another number of axes.
    """
    keys = np.asarray(values)
    if keys.ndim != 2:
        raise DataError(f"values has shape {keys.shape}; it must be (D, K), one value per dataset and component")
    return np.argsort(keys, axis=1, kind="stable")


def permute(params: Params, permutations: ArrayLike, model: Any = None) -> Params:
    """Parameters with their components relabelled: the same pytree in NumPy, leading axis D.

    `permutations` is `(D, K)` as the two functions above return it. With the `model` whose parameters they are, by its
    own `relabel`, which knows what is shared between components, which arrays have two axes of components, and the
    baseline of a gate. Without one every leaf must have the axes `(D, K, ...)`. Errors: DataError for a leaf with other
    axes, so that nothing is left half relabelled.
    """
    order = np.asarray(permutations)
    if model is not None:
        return _relabelled(params, order, model)

    def relabel(leaf: ArrayLike) -> NDArray:
        array = np.asarray(leaf)
        if array.shape[:2] != order.shape:
            raise DataError(f"a parameter has shape {array.shape}; its first two axes must be (D, K) = {order.shape}")
        index = order.reshape(order.shape + (1,) * (array.ndim - 2))
        return np.take_along_axis(array, index, axis=1)

    return jax.tree.map(relabel, params)


def _relabelled(params: Params, order: NDArray[np.intp], model: Any) -> Params:
    """Dataset by dataset, those in their own order untouched."""
    moved = jax.tree.map(lambda leaf: np.array(leaf), params)
    wrong = [leaf.shape for leaf in jax.tree.leaves(moved) if leaf.shape[:1] != order.shape[:1]]
    if wrong or order.ndim != 2:
        raise DataError(f"a parameter has shape {wrong[:1]}; permutations (D, K) have shape {order.shape}")
    with jax.enable_x64(True):  # a relabel that calls jax must not round to float32
        for d in np.flatnonzero(np.any(order != np.arange(order.shape[1]), axis=1)):
            one = model.relabel(jax.tree.map(lambda leaf: leaf[d], moved), order[d])  # noqa: B023
            for leaf, value in zip(jax.tree.leaves(moved), jax.tree.leaves(one), strict=True):
                leaf[d] = np.asarray(value)
    return moved

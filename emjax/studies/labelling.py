"""Labels of stored fits put in one order, after the fits; cells are not changed, new ones are returned.

A permutation is read as in `emjax.inference.alignment`: aligned component k of replicate i is the fitted component
`permutations[i, k]`. Shapes: `N` replicates, `K` components, `L` entries.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from emjax.base.status import DataError
from emjax.engine import choice
from emjax.inference.alignment import align_by_distance, order_by
from emjax.inference.assignment import assign
from emjax.studies.records import Cell, rearranged

OVERLAP, DISTANCE, ORDER = "overlap", "distance", "order:"
_QUARTILES = 1.349  # of a normal variable, apart


def n_exchangeable(cell: Cell) -> int:
    """How many components, the first ones, may change places; 1 where the parameters have no labels."""
    size = len(next(iter(cell.moves), ()))
    count = 1
    while count < size and source(cell, _swapped(size, count - 1)) is not None:
        count += 1
    return count


def source(cell: Cell, permutation: tuple[int, ...]) -> NDArray[np.intp] | None:
    """From where each entry comes, (L,); None for labels that are not exchangeable."""
    try:
        return cell.moves[permutation]
    except KeyError:
        return None


def permutations(cell: Cell, align: str | None) -> NDArray[np.intp]:
    """The labelling of every replicate, (N, K): by `align`, "overlap", "distance" or "order:NAME"; None: as fitted.

    Replicates without what is needed keep their own order. Errors: DataError where the cell has not what `align` needs.
    """
    n, size = len(cell.outcomes.status), len(next(iter(cell.moves), ()))
    count = n_exchangeable(cell)
    found = np.tile(np.arange(size), (n, 1))
    if count < 2 or align is None:
        return found
    if align == OVERLAP:
        if not has_overlap(cell):
            raise DataError(f"{where(cell)}: the true labels are not known; align by 'distance' or 'order:NAME'")
        found[:, :count] = assign(-cell.outcomes.overlap[:, :count, :count])
        return found
    values, truth, scale = coordinates(cell)
    if align == DISTANCE:
        if not np.any(np.isfinite(truth)):
            raise DataError(f"{where(cell)}: no true parameters are known; align by 'order:NAME', or None: as fitted")
        known = np.all(np.isfinite(truth), axis=(0, 1))
        found[:, :count] = align_by_distance(values[:, :, known], truth[:, :, known], scale[known])
        return found
    found[:, :count] = _ordered(cell, align.removeprefix(ORDER))
    return found


def chosen(cell: Cell, align: str) -> str | None:
    """What "auto" means for this cell: overlap with true labels where known, else distance to true parameters; None, as
    fitted, where there are none, as of a method with another number of components than the truth."""
    if align != "auto" or n_exchangeable(cell) < 2:
        return align if n_exchangeable(cell) > 1 else None
    return OVERLAP if has_overlap(cell) else DISTANCE if has_true_components(cell) else None


def has_overlap(cell: Cell) -> bool:
    """Whether the true labels were known."""
    overlap = cell.outcomes.overlap
    return overlap.shape[1] >= n_exchangeable(cell) and bool(np.any(np.isfinite(overlap)))


def has_true_components(cell: Cell) -> bool:
    """Whether a true parameter of the exchangeable components is known."""
    return bool(np.any(np.isfinite(coordinates(cell)[1])))


def relabelled(cell: Cell, order: NDArray[np.intp]) -> Cell:
    """The cell with its estimates, standard errors, limits, reasons and covariances moved; true values stay."""
    own = cell.outcomes
    origin = np.empty((len(order), len(cell.entries)), np.intp)
    distinct, which = np.unique(order, axis=0, return_inverse=True)
    for i, permutation in enumerate(distinct):
        origin[which.reshape(-1) == i] = cell.moves[tuple(int(k) for k in permutation)]
    overlap = own.overlap
    if overlap.shape[1] == order.shape[1] and overlap.shape[1]:
        overlap = np.take_along_axis(overlap, order[:, :, None], axis=1)
    return cell._replace(outcomes=rearranged(own, origin)._replace(overlap=overlap))


def coordinates(
    cell: Cell, names: tuple[str, ...] | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Estimates and truth (N, K, c) of the parameters that every component has, and the size of an error in each (c,):
    the median standard error; without any, the SD by quartiles of the estimates of all components.

    names : of the parameters; by default all but those that more moves than the component's place, as the columns of a
    transition matrix.
    """
    columns = np.array([_places(cell, name) for name in (names_of(cell) if names is None else names)], np.intp)
    columns = columns.reshape(-1, n_exchangeable(cell))
    own = cell.outcomes
    values, truth, se = (a[:, columns].transpose(0, 2, 1) for a in (own.estimate, own.truth, own.se))
    return values, truth, np.array([_size(values[:, :, j], se[:, :, j]) for j in range(len(columns))])


def _size(values: NDArray[np.float64], se: NDArray[np.float64]) -> float:
    errors, pooled = se[np.isfinite(se)], values[np.isfinite(values)]
    if len(errors):
        size = float(np.median(errors))
    else:
        size = float(np.subtract(*np.percentile(pooled, [75, 25]))) / _QUARTILES if len(pooled) else 0.0
    return size if size > 0 else 1.0


def disagreement(first: NDArray[np.intp], second: NDArray[np.intp]) -> tuple[int, int]:
    """In how many replicates two labellings (N, K) differ, and how many there are."""
    return int(np.sum(np.any(first != second, axis=1))), len(first)


def between_methods(first: Cell, second: Cell) -> tuple[int, int]:
    """Of the replicates that two methods fitted, both aligned: in how many the components of one lie nearest to those
    of the other in another labelling than the aligned one; and how many there are."""
    count = n_exchangeable(first)
    names = tuple(name for name in names_of(first) if name in names_of(second))
    _, rows, others = np.intersect1d(first.outcomes.replicate, second.outcomes.replicate, return_indices=True)
    both = eligible(first)[rows] & eligible(second)[others]
    if not names or not np.any(both) or count != n_exchangeable(second):
        return 0, 0
    values, _, scale = coordinates(first, names)
    nearest = align_by_distance(values[rows[both]], coordinates(second, names)[0][others[both]], scale)
    return disagreement(nearest, np.tile(np.arange(count), (len(nearest), 1)))


def names_of(cell: Cell) -> tuple[str, ...]:
    """The parameters that each exchangeable component has one of, and that move with it and nowhere else."""
    count, size = n_exchangeable(cell), len(next(iter(cell.moves), ()))
    swaps = [_swapped(size, k) for k in range(count - 1)]
    found = []
    for name in dict.fromkeys(entry.parameter for entry in cell.entries):
        places = _places(cell, name)
        if len(places) == count and all(
            np.array_equal(cell.moves[swap][places], places[list(swap[:count])]) for swap in swaps
        ):
            found.append(name)
    return tuple(found)


def _places(cell: Cell, name: str) -> NDArray[np.intp]:
    """Where the exchangeable components' entries of a parameter stand, in the order of the components."""
    at = {entry.component: i for i, entry in enumerate(cell.entries) if entry.parameter == name}
    return np.array([at[k] for k in range(n_exchangeable(cell)) if k in at], np.intp)


def _ordered(cell: Cell, name: str) -> NDArray[np.intp]:
    """The component of rank r by this parameter is that of rank r by its true values; without those, component r."""
    matching = [own for own in names_of(cell) if own == name or own.endswith("." + name)]
    if len(matching) != 1:
        raise DataError(f"{where(cell)}: cannot order by {name!r}; give one of {', '.join(names_of(cell))}")
    values, truth, _ = coordinates(cell, (matching[0],))
    found = order_by(values[:, :, 0])
    known = np.all(np.isfinite(truth[:, :, 0]), axis=1)
    ranks = np.where(known[:, None], order_by(truth[:, :, 0]), np.arange(found.shape[1]))
    placed = np.empty_like(found)
    np.put_along_axis(placed, ranks, found, axis=1)
    return placed


def _swapped(size: int, k: int) -> tuple[int, ...]:
    order = list(range(size))
    order[k], order[k + 1] = order[k + 1], order[k]
    return tuple(order)


def eligible(cell: Cell) -> NDArray[np.bool_]:
    """Which replicates have a valid fit, (N,): a status of `ELIGIBLE`."""
    return choice.eligible(cell.outcomes.status)


def where(cell: Cell) -> str:
    """The cell in words."""
    factors = ", ".join(f"{name}={level}" for name, level in cell.scenario.items())
    return f"method {cell.method!r} in scenario {{{factors}}}"

"""Exact assignments of K rows to K columns for many cost matrices, on the host: the best, and the second-best total.

Few columns are done by comparing all K! arrangements, many datasets at a time; more by the Hungarian method in its form
of shortest augmenting paths (Kuhn 1955; Jonker & Volgenant 1987), O(K^3) a dataset.
"""

from __future__ import annotations

from itertools import permutations as arrangements

import numpy as np
from numpy.typing import ArrayLike, NDArray

from emjax.base.status import DataError

FEW = 6  # components up to which all K! = 720 arrangements are compared
MOST_TOTALS = 1 << 22  # held at once, so that memory does not grow with the number of datasets


def assign(costs: ArrayLike) -> NDArray[np.intp]:
    """Permutations (D, K) of the least total cost: row `permutations[d, k]` of `costs (D, K, K)` goes to column `k`.

    Of equals the first in lexicographic order is taken where K <= 6. A dataset with a cost that is not finite keeps its
    own order. Errors: `DataError` for another shape.
    """
    return _solved(_checked(costs), False)[0]


def ambiguity(costs: ArrayLike) -> NDArray[np.float64]:
    """The second-best total cost of every dataset over the best, (D,).

    At least 1 where costs are positive, such as distances, and at most 1 where they are negative, such as overlaps with
    a minus sign; near 1 a labelling is ambiguous. The second-best arrangement differs in at least two components. NaN
    for one component or costs that are not finite, infinite where a positive total is compared with 0.
    """
    values = _checked(costs)
    _, best, second = _solved(values, True)
    with np.errstate(divide="ignore", invalid="ignore"):
        return second / best


def _checked(costs: ArrayLike) -> NDArray[np.float64]:
    values = np.asarray(costs, np.float64)
    if values.ndim != 3 or values.shape[1] != values.shape[2]:
        raise DataError(f"costs has shape {values.shape}; it must be (D, K, K), fitted components by targets")
    return values


def _solved(costs: NDArray, second: bool) -> tuple[NDArray[np.intp], NDArray[np.float64], NDArray[np.float64]]:
    """Permutations, best totals and, if asked for, second-best ones."""
    count, n_components, _ = costs.shape
    finite = np.all(np.isfinite(costs), axis=(1, 2))
    # Set to nothing but ties, where the first order is its own.
    clean = np.where(finite[:, None, None], costs, 0.0)
    if n_components > FEW:
        found = [_one(cost, second) for cost in clean]
        order, totals = np.array([f[0] for f in found], np.intp), np.array([f[1:] for f in found])
        order, totals = order.reshape(count, n_components), totals.reshape(count, 2)
        order[~finite] = np.arange(n_components)
    else:
        order, totals = _enumerated(clean)
    totals = np.where(finite[:, None], totals, np.nan)
    return order, totals[:, 0], totals[:, 1]


def _enumerated(costs: NDArray) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    count, n_components, _ = costs.shape
    orders = np.array(list(arrangements(range(n_components))), np.intp).reshape(-1, n_components)
    best, totals = np.zeros(count, np.intp), np.full((count, 2), np.nan)
    block = max(1, MOST_TOTALS // len(orders))
    for i in range(0, count, block):
        part = slice(i, i + block)
        sums = np.zeros((len(costs[part]), len(orders)))
        for k in range(n_components):
            sums += costs[part, :, k][:, orders[:, k]]
        best[part] = np.argmin(sums, axis=1)
        rows = np.arange(len(sums))
        totals[part, 0] = sums[rows, best[part]]
        if len(orders) > 1:
            sums[rows, best[part]] = np.inf
            totals[part, 1] = np.min(sums, axis=1)
    return orders[best], totals


def _one(cost: NDArray, second: bool) -> tuple[NDArray[np.intp], float, float]:
    """One matrix; the second-best total is the least with one pair of the best forbidden (Murty 1968)."""
    order = hungarian(cost.T)
    columns = np.arange(len(cost))
    best, other = float(np.sum(cost[order, columns])), np.nan
    if second:
        other = np.inf
        wall = 1.0 + 2.0 * len(cost) * np.max(np.abs(cost))
        for k in columns:
            barred = cost.copy()
            barred[order[k], k] = wall
            other = min(other, float(np.sum(cost[hungarian(barred.T), columns])))
    return order, best, other


def hungarian(cost: NDArray) -> NDArray[np.intp]:
    """The column of each row of `cost (K, K)` in the assignment of the least total: row after row by a shortest path
    in reduced costs, with potentials of rows and columns."""
    size = len(cost)
    rows, columns = np.zeros(size + 1), np.zeros(size + 1)  # potentials; place `size` stands for a column of its own
    owner = np.full(size + 1, -1)
    for row in range(size):
        owner[size], column = row, size
        least, before = np.full(size, np.inf), np.full(size, size)
        used = np.zeros(size + 1, bool)
        while owner[column] >= 0:
            used[column] = True
            reduced = cost[owner[column]] - rows[owner[column]] - columns[:size]
            closer = ~used[:size] & (reduced < least)
            least[closer], before[closer] = reduced[closer], column
            next_column = int(np.argmin(np.where(used[:size], np.inf, least)))
            step = least[next_column]
            rows[owner[used]] += step
            columns[used] -= step
            least[~used[:size]] -= step
            column = next_column
        while column != size:  # along the path back, everyone moves on by one
            owner[column] = owner[before[column]]
            column = int(before[column])
    found = np.empty(size, np.intp)
    found[owner[:size]] = np.arange(size)
    return found

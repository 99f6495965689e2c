"""A study read back from its directory."""

from __future__ import annotations

import itertools
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from emjax.base.status import DataError
from emjax.studies.layouts import Layout
from emjax.studies.records import Cell, Outcomes
from emjax.studies.store import Store, Unit

MOST_LISTED = 6  # components of which all permutations are listed; those of more are worked out when asked for


class Moves(dict):
    """From where each entry comes, (L,), by permutation of the components; see `Cell`."""

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        self._swaps, self._size = layout.swaps, len(layout.entries)
        self._n_components = layout.n_components
        exchangeable = len(layout.swaps) + 1
        rest = tuple(range(exchangeable, layout.n_components))
        orders = [tuple(range(exchangeable))]
        if 1 < exchangeable <= MOST_LISTED:
            orders = list(itertools.permutations(range(exchangeable)))
        for order in orders:
            self[(*order, *rest)]

    def __missing__(self, permutation: tuple[int, ...]) -> np.ndarray:
        """Worked out from exchanges of neighbours: a permutation is sorted by them, and each moves the entries."""
        order, steps = list(permutation), []
        if sorted(order) != list(range(self._n_components)):
            raise KeyError(permutation)
        for end in range(len(order) - 1, 0, -1):
            for k in range(end):
                if order[k] > order[k + 1]:
                    order[k], order[k + 1] = order[k + 1], order[k]
                    steps.append(k)
        if steps and max(steps) >= len(self._swaps):
            raise KeyError(permutation)  # a component that keeps its place, or labels that are not exchangeable
        source = np.arange(self._size)
        for k in reversed(steps):
            source = source[self._swaps[k]]
        self[permutation] = source
        return source


def cells(directory: Any) -> list[Cell]:
    """Every scenario under every method that has replicates on disk, in the order in which they were first given.

    Replicates beyond those asked for, which only fill up their chunk, are left out. Errors: `DataError` for a directory
    without a study, or a file that is damaged, named.
    """
    store = Store(directory)
    manifest = store.manifest()
    specified, replicates = manifest["specification"], manifest["specification"]["replicates"]
    firsts: dict[tuple[str, str], list[Unit]] = defaultdict(list)
    for path in sorted(Path(store.chunks).glob("*.npz")):
        unit = Unit.of_file(path.name)
        firsts[unit.scenario, unit.method].append(unit)
    found = []
    for scenario, content in specified["scenarios"].items():
        for method in specified["methods"]:
            units = firsts.get((scenario, method), [])
            units = [unit for unit in sorted(units, key=lambda unit: unit.first) if unit.first < replicates]
            if units:
                found.append(_cell(store, units, content, method, replicates))
    if not found:
        raise DataError(f"{directory} holds no finished chunk yet: run the study.")
    return found


def description(directory: Any) -> dict[str, Any]:
    """What the manifest says of the study: "specification", "environment", "chunk" and "hash". Errors: `DataError` for
    a directory without a study."""
    manifest = Store(directory).manifest()
    return {name: manifest[name] for name in ("specification", "environment", "chunk", "hash")}


def _cell(store: Store, units: list[Unit], scenario: dict[str, Any], method: str, replicates: int) -> Cell:
    parts = [store.read(unit) for unit in units]
    layout = parts[0][0]
    joined = Outcomes(*(np.concatenate(arrays) for arrays in zip(*(part for _, part in parts), strict=True)))
    asked = joined.replicate < replicates
    return Cell(scenario, method, layout.entries, Moves(layout), Outcomes(*(array[asked] for array in joined)))

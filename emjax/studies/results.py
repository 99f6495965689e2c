"""`Results`: what a study found, its labels aligned, measured, tabulated and reported."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emjax.base.status import DataError, Status
from emjax.inference.likelihood_ratio import wilson
from emjax.studies import estimands as chosen_estimands
from emjax.studies import labelling, loadings, performance_table, precision, report, scenarios
from emjax.studies.estimands import Estimands
from emjax.studies.measures import McseForm
from emjax.studies.performance_table import Table
from emjax.studies.records import Cell

LONG = ("replicate", "method", "parameter", "component", "estimate", "se", "lower", "upper", "true", "status")
# Names of columns, variables and dimensions of one of the tables, which no factor can have.
RESERVED = {
    *LONG,
    *performance_table.COLUMNS,
    *(status.name for status in performance_table.STATUSES),
    *("first", "second", "differ", "needed", "scenario", "entry", "truth"),
    *("flags", "log_likelihood", "iterations", "share_best", "interval_level"),
}
_LEVEL = 0.95  # of the limits of a function of the user's
OPTIONS = ("align", "loadings", "estimands")
ALIGNMENTS = ("auto", labelling.OVERLAP, labelling.DISTANCE)


@dataclass(frozen=True, eq=False)
class Results:
    """What a study found: cells of scenarios and methods as they are stored, and how they are to be read.

    cells : records of `emjax.studies.records`. description : what the report tells beside the figures: the manifest's
    "specification", "environment" and "chunk"; "title", "level" (of all methods' intervals, by default that of each in
    the specification, else 0.95), and the ADEMP items in words, "aims", "data_generating_mechanisms", "estimands",
    "methods" and "performance_measures"; each may be missing.

    align : how components are labelled, as a step after the fits: "auto", by overlap with the true labels where they
    are known, else by the distance to the true parameters in units of their standard errors, as fitted where there is
    neither; "overlap"; "distance"; "order:NAME", increasing in a parameter; None, as fitted. Aligning by the truth
    is an oracle, which flatters.
    loadings : of factors, "signs", "procrustes" or None; see `emjax.studies.loadings`. estimands : names of parameters,
    or functions of them; see `emjax.studies.estimands.chosen`.

    Errors: DataError for no cells, two of one scenario and method, arrays that disagree, a factor with the name of a
    column, an unknown alignment.
    """

    cells: tuple[Cell, ...]
    description: dict[str, Any] = field(default_factory=dict)
    align: str | None = "auto"
    loadings: str | None = loadings.SIGNS
    estimands: Estimands = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "cells", tuple(self.cells))
        if isinstance(self.estimands, str):
            object.__setattr__(self, "estimands", (self.estimands,))
        chosen_estimands.are_functions(self.estimands)
        object.__setattr__(self, "description", dict(self.description or {}))
        _check(self.cells)
        known = self.align is None or self.align in ALIGNMENTS
        if not known and not (isinstance(self.align, str) and self.align.startswith(labelling.ORDER)):
            raise DataError(f"align is {self.align!r}; it must be 'auto', 'overlap', 'distance', 'order:NAME' or None")

    @property
    def level(self) -> float:
        """Of the methods' intervals. Errors: DataError where they have several; see `levels`."""
        level, *more = self.levels
        if more:
            known = ", ".join(f"{level:g}" for level in self.levels)
            raise DataError(f"the methods' intervals have the levels {known}; take level_of(cell) of each")
        return level

    @property
    def levels(self) -> tuple[float, ...]:
        """All levels of the methods' intervals, in the order of the cells."""
        return tuple(dict.fromkeys(self.level_of(cell) for cell in self.cells))

    def level_of(self, cell: Cell) -> float:
        """Of a method's intervals in a scenario."""
        if "level" in self.description:
            return float(self.description["level"])
        described = self.description.get("specification", {}).get("methods", {}).get(cell.method, {})
        if "by scenario" in described:
            described = described["by scenario"].get(scenarios.name_of(cell.scenario), {})
        return float(described.get("level", _LEVEL))

    @property
    def methods(self) -> tuple[str, ...]:
        """In the order of the cells."""
        return tuple(dict.fromkeys(cell.method for cell in self.cells))

    @property
    def factors(self) -> tuple[str, ...]:
        """The names of the scenarios' factors."""
        return performance_table.factors(self.cells)

    @property
    def turned(self) -> bool:
        """Whether loadings of factors were aligned to true ones."""
        found = [cell for cell in self.cells if loadings.places(cell) is not None]
        known = any(np.any(np.isfinite(cell.outcomes.truth[:, loadings.places(cell)])) for cell in found)
        return self.loadings is not None and known

    @cached_property
    def aligned(self) -> tuple[Cell, ...]:
        """The cells with their labels aligned and the estimands as their entries."""
        return tuple(chosen_estimands.chosen(cell, self.estimands, self.level_of(cell)) for cell in self._labelled)

    @cached_property
    def _labelled(self) -> tuple[Cell, ...]:
        return tuple(self._relabelled(cell) for cell in self.cells)

    def _relabelled(self, cell: Cell) -> Cell:
        how = None if self.align is None else labelling.chosen(cell, self.align)
        if how is not None:
            cell = labelling.relabelled(cell, labelling.permutations(cell, how))
        return loadings.aligned(cell, self.loadings, self.level_of(cell))

    def performance(
        self,
        measures: Iterable[str] | None = None,
        *,
        mcse: McseForm = "robust",
        null: float = 0.0,
        reference: str | None = None,
        level: float = 0.95,
    ) -> Table:
        """Every performance measure with its Monte Carlo SE and interval: a dictionary of columns, one row a figure.

        Columns: the scenario's factors, method, parameter, component, measure, population ("valid", "not_suspect",
        "all"), estimate, mcse, lower, upper, n_sim, the replicates it rests on. measures : names of
        `emjax.studies.performance_table.TITLES`. mcse : "robust" or "morris", the table's. null : the value that power
        is about. reference : the method that relative precision is against, by default the first. level : of the Monte
        Carlo intervals. Source: Morris, White & Crowther (2019), Table 6. Errors: DataError.
        """
        return performance_table.performance(
            self.aligned, measures, mcse=mcse, level=level, null=null, reference=reference
        )

    def n_for(self, measure: str, mcse: float, population: str = "valid", **options: Any) -> Table:
        """Replicates that each figure of a measure needs for an MCSE, from these as the pilot: `performance`'s rows of
        it with the column needed. Errors: DataError as `precision.n_for`."""
        table = self.performance([measure], **options)
        kept = precision.of_population(table, measure, population)
        return {**kept, "needed": precision.n_for(kept, mcse)}

    def status_counts(self) -> Table:
        """How many replicates ended with each status, zeros included: a row a scenario and method, and their number."""
        rows = []
        for cell in self.cells:
            counts = {s.name: int(np.sum(cell.outcomes.status == int(s))) for s in performance_table.STATUSES}
            size = len(cell.outcomes.status)
            rows.append({**cell.scenario, "method": cell.method, **counts, "n_sim": size})
        names = tuple(status.name for status in performance_table.STATUSES)
        return performance_table.as_table(rows, (*self.factors, "method", *names, "n_sim"))

    def disagreements(self) -> Table:
        """How often two labellings differ, over replicates with a valid fit: columns factors, first, second, differ,
        n_sim, estimate, lower, upper (Wilson's interval at 95 %).

        first, second : two alignments of one method ("method: overlap"), wherever both are possible; or two methods,
        where the components of one lie nearest to those of the other in another order than the aligned one.
        """
        rows = []
        for cell in self.cells:
            for pair, (differ, total) in self._between_alignments(cell):
                first, second = (f"{cell.method}: {how}" for how in pair)
                rows.append(_disagreement(cell, first, second, differ, total))
        for one, other in combinations(self._labelled, 2):
            same = performance_table.scenario_key(one) == performance_table.scenario_key(other)
            if same and min(labelling.n_exchangeable(one), labelling.n_exchangeable(other)) > 1:
                differ, total = labelling.between_methods(one, other)
                if total:  # none of methods with other numbers of components
                    rows.append(_disagreement(one, one.method, other.method, differ, total))
        return performance_table.as_table(
            rows, (*self.factors, "first", "second", "differ", "n_sim", "estimate", "lower", "upper")
        )

    def _between_alignments(self, cell: Cell) -> Iterable[tuple[tuple[str, str], tuple[int, int]]]:
        if labelling.n_exchangeable(cell) < 2:
            return
        used = labelling.eligible(cell)
        orders = {}
        for how in dict.fromkeys((labelling.OVERLAP, labelling.DISTANCE, self.align or "auto")):
            possible = labelling.has_overlap(cell) if how == labelling.OVERLAP else how != "auto"
            if how == labelling.DISTANCE:
                possible = labelling.has_true_components(cell)
            if possible:
                orders[how] = labelling.permutations(cell, how)[used]
        for pair in combinations(orders, 2):
            yield pair, labelling.disagreement(orders[pair[0]], orders[pair[1]])

    def columns(self) -> Table:
        """The aligned estimates as one long table, a row a replicate and entry: the factors, then replicate, method,
        parameter, component, estimate, se, lower, upper, true, status (its name); the layout that rsimsum reads."""
        parts = [_long(cell, self.factors) for cell in self.aligned]
        found = {name: np.concatenate([part[name] for part in parts]) for name in (*self.factors, *LONG)}
        levels = [cell.scenario for cell in self.cells]
        numeric = [name for name in self.factors if all(type(own.get(name)) in (int, float) for own in levels)]
        return {**found, **{name: np.array(found[name].tolist()) for name in numeric}}

    def to_frame(self) -> Any:
        """`columns` as a pandas table. Errors: MissingExtraError without pandas."""
        # By its name when called: what is optional is a leaf that no room knows of.
        return import_module("emjax.extras.study_tables").to_frame(self)

    def to_xarray(self) -> Any:
        """An xarray Dataset over scenario, method, replicate and entry. Errors: MissingExtraError without xarray."""
        return import_module("emjax.extras.study_tables").to_xarray(self)

    def save_table(self, path: Any) -> None:
        """Write the estimates to .csv, .parquet (the long table) or .nc (netCDF, the Dataset).

        Errors: MissingExtraError; DataError for another ending, or a file that cannot be written.
        """
        import_module("emjax.extras.study_tables").save_table(self, path)

    def report(self, **options: Any) -> str:
        """The study in Markdown; options as in `performance`. See `emjax.studies.report`."""
        return report.markdown(self, **options)


def _disagreement(cell: Cell, first: str, second: str, differ: int, total: int) -> dict[str, Any]:
    lower, upper = (float(v) for v in wilson(np.array(differ), total)) if total else (np.nan, np.nan)
    found = {"differ": differ, "n_sim": total, "estimate": differ / total if total else np.nan}
    return {**cell.scenario, "first": first, "second": second, **found, "lower": lower, "upper": upper}


def _long(cell: Cell, factors: tuple[str, ...]) -> Table:
    own, size = cell.outcomes, len(cell.entries)
    count = len(own.status)
    names = np.array([Status(int(status)).name for status in own.status], object)
    found: Table = {name: _constant(cell.scenario.get(name), count * size) for name in factors}
    found["replicate"] = np.repeat(own.replicate, size)
    found["method"] = _constant(cell.method, count * size)
    for name in ("parameter", "component"):
        values = np.empty(size, object)
        values[:] = [getattr(entry, name) for entry in cell.entries]
        found[name] = np.tile(values, count)
    for name, array in zip(
        ("estimate", "se", "lower", "upper", "true"), (own.estimate, own.se, own.lower, own.upper, own.truth)
    ):
        found[name] = np.asarray(array, np.float64).reshape(-1)
    found["status"] = np.repeat(names, size)
    return found


def _constant(value: Any, count: int) -> NDArray[Any]:
    found = np.empty(count, object)
    found[:] = [value] * count
    return found


def _check(cells: tuple[Cell, ...]) -> None:
    if not cells:
        raise DataError("there are no cells; run the study before its results are read")
    seen = set()
    for cell in cells:
        key = (performance_table.scenario_key(cell), cell.method)
        if key in seen:
            raise DataError(f"{labelling.where(cell)} is there twice; give each scenario and method once")
        seen.add(key)
        taken = sorted(RESERVED & set(cell.scenario))
        if taken:
            raise DataError(f"the factor {taken[0]!r} has the name of a column of the results; call it something else")
        count, size = len(cell.outcomes.status), len(cell.entries)
        for name in ("estimate", "se", "lower", "upper", "truth", "reason"):
            shape = np.shape(getattr(cell.outcomes, name))
            if shape != (count, size):
                raise DataError(f"{labelling.where(cell)}: {name} has shape {shape}; it must be ({count}, {size})")

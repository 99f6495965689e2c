"""What the figures of a study share: colours of methods, panels of scenarios, labels, files."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from emjax.base.status import DataError
from emjax.extras.optional import require
from emjax.studies import Results
from emjax.studies.performance_table import TITLES, Table
from emjax.studies.records import Cell, Entry

# Okabe & Ito's colours, told apart by everyone, without the yellow that white paper swallows.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#555555")
INK, FAINT, FAULT = "#333333", "#BBBBBB", "#D55E00"
MOST_PANELS = 12
TITLE_WIDTH = 36  # letters above a panel
_FRACTIONS = ("coverage", "bias_eliminated_coverage", "power", "interval_rate")


def colour(results: Results, method: str) -> str:
    """The same for a method in every figure."""
    return COLOURS[results.methods.index(method) % len(COLOURS)]


def scenarios(results: Results) -> list[dict[str, Any]]:
    """All scenarios, in the order of the cells."""
    return list({repr(cell.scenario): cell.scenario for cell in results.cells}.values())


def in_words(scenario: dict[str, Any], width: int = 1000) -> str:
    """Such as "n = 100, noise = 0.5", in lines of so many letters."""
    text = ", ".join(f"{name} = {level}" for name, level in scenario.items())
    return "\n".join(textwrap.wrap(text, width))


def entry_in_words(entry: Entry) -> str:
    """Such as "means[0], component 1"; components count from 0, as in the arrays."""
    return entry.parameter if entry.component == "all" else f"{entry.parameter}, component {entry.component}"


def entries(results: Results) -> list[Entry]:
    """All entries, in the order in which they first appear."""
    return list(dict.fromkeys(entry for cell in results.aligned for entry in cell.entries))


def chosen_entry(results: Results, entry: Entry | tuple[str, Any] | None) -> Entry:
    """The given entry, by default the first. Errors: DataError for one that is not there."""
    known = entries(results)
    if entry is None:
        return known[0]
    found = Entry(*entry)
    if found not in known:
        names = ", ".join(str(tuple(own)) for own in known)
        raise DataError(f"there is no entry {tuple(found)}; give one of {names}")
    return found


def cells_with(results: Results, scenario: dict[str, Any], entry: Entry) -> Iterator[tuple[Cell, int]]:
    """The methods' cells of a scenario, and where the entry stands in each."""
    for cell in results.aligned:
        if cell.scenario == scenario and entry in cell.entries:
            yield cell, cell.entries.index(entry)


def figure(width: float, height: float) -> Any:
    """An empty figure without pyplot: no window, no state. Errors: MissingExtraError."""
    return require("matplotlib.figure", "plots").Figure(figsize=(width, height), layout="constrained")


def panels(
    count: int, columns: int = 4, size: tuple[float, float] = (3.2, 2.6), **options: Any
) -> tuple[Any, list[Any]]:
    """A figure with so many equal panels, no more than `columns` abreast, and room above for title and legend."""
    across = abreast(count, columns)
    down = math.ceil(count / across)
    made = figure(max(size[0] * across, 5.5) + 0.6, size[1] * down + 1.1)
    axes = list(np.atleast_1d(made.subplots(down, across, **options)).ravel())
    for axis in axes[count:]:
        axis.set_visible(False)
    for axis in axes[:count]:
        tidy(axis)
    return made, axes[:count]


def abreast(count: int, columns: int = 4) -> int:
    """Panels in a row, so that rows are as equal as they can be."""
    return math.ceil(count / math.ceil(count / columns))


def shown_scenarios(results: Results) -> tuple[list[dict[str, Any]], str]:
    """As many scenarios as a figure has room for, and a note where there are more."""
    known = scenarios(results)
    note = "" if len(known) <= MOST_PANELS else f" (the first {MOST_PANELS} of {len(known)} scenarios)"
    return known[:MOST_PANELS], note


def tidy(axis: Any) -> None:
    """Two spines, small dark ticks."""
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(colors=INK, labelsize=8)


def legend(made: Any, handles: Sequence[Any], labels: Sequence[str]) -> None:
    """One for the figure, below it, each label once."""
    unique = dict(zip(labels, handles))
    if unique:
        columns = min(len(unique), 6)
        made.legend(
            unique.values(), unique.keys(), loc="outside lower center", ncols=columns, frameon=False, fontsize=9
        )


def method_handles(results: Results) -> tuple[list[Any], list[str]]:
    """A line of its colour for each method."""
    lines = require("matplotlib.lines", "plots")
    handles = [lines.Line2D([], [], color=colour(results, m), marker="o", linewidth=1.5) for m in results.methods]
    return handles, list(results.methods)


def label(measure: str) -> str:
    """What an axis says."""
    return TITLES.get(measure, measure) + (" (share of replicates)" if measure in _FRACTIONS else "")


def target(measure: str) -> float | None:
    """Where a good method lies, if that does not depend on the study."""
    return 0.0 if measure in ("bias", "relative_bias", "median_bias", "relative_error", "relative_precision") else None


def rows_of(table: Table, **wanted: Any) -> np.ndarray:
    """The rows of a table with these values in these columns."""
    found = np.ones(len(table["measure"]), bool)
    for name, value in wanted.items():
        found &= np.array([own == value for own in table[name]], bool)
    return np.flatnonzero(found)


def reach(values: np.ndarray, spread: float = 6.0) -> tuple[float, float]:
    """Limits of an axis that a few estimates gone astray do not stretch: the median and so many robust SDs."""
    low, middle, high = np.percentile(values, [25, 50, 75])
    width = spread * (high - low) / 1.349
    if width == 0:
        return float(np.min(values)) - 0.5, float(np.max(values)) + 0.5
    return float(max(np.min(values), middle - width)), float(min(np.max(values), middle + width))


def save(made: Any, path: Path) -> list[Path]:
    """Write `path` with the endings .png and .svg. Errors: DataError where they cannot be written."""
    written = [path.with_name(path.name + ending) for ending in (".png", ".svg")]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for own in written:
            made.savefig(own, dpi=150)
    except OSError as error:
        raise DataError(f"{path}: cannot write this file ({error.strerror}); choose another folder") from None
    return written


def file_name(*parts: Any) -> str:
    """Parts in one name that any file system takes."""
    return "_".join(re.sub(r"[^0-9A-Za-z.-]+", "-", str(part)).strip("-") for part in parts)

"""The figures of a simulation study (matplotlib): Morris, White & Crowther (2019) and Ruecker & Schwarzer (2014).

Each function returns a matplotlib Figure of aligned results, over the replicates with a valid fit; `save_all` writes
all of them as PNG and SVG. An entry is a pair (parameter, component), by default the first. Errors of each:
MissingExtraError without matplotlib, DataError for an entry or measure that is not there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from emjax.base.status import DataError
from emjax.extras import study_figures as parts
from emjax.extras.optional import require
from emjax.extras.study_distributions import estimates as estimates
from emjax.extras.study_distributions import estimates_against_se as estimates_against_se
from emjax.extras.study_distributions import iterations as iterations
from emjax.extras.study_distributions import restart_landscape as restart_landscape
from emjax.extras.study_figures import FAINT, FAULT, INK
from emjax.studies import Results
from emjax.studies.performance_table import INTERVAL_TRUTH, MEASURES, TITLES, Table, available

_MOST_INTERVALS = 400  # drawn in a panel of the zip plot; the ranks of all are kept
_MOST_ENTRIES = 6  # that `save_all` draws figures of
_MOST_LINES = 40  # of a lollipop plot


def zip_plot(results: Results, entry: Any = None) -> Any:
    """Intervals ranked by how far their estimate is from the truth, in standard errors: those above the level miss it.

    A panel a scenario and method; the band is the Monte Carlo 95 % interval of the coverage.
    """
    own = parts.chosen_entry(results, entry)
    cells = [found for scenario in parts.scenarios(results) for found in parts.cells_with(results, scenario, own)]
    cells = [(cell, i) for cell, i in cells if np.any(available(cell, i, INTERVAL_TRUTH))]
    if not cells:
        raise DataError(f"{parts.entry_in_words(own)} has no intervals with a known truth; choose another entry")
    note = f" (the first {parts.MOST_PANELS} of {len(cells)} panels)" if len(cells) > parts.MOST_PANELS else ""
    cells = cells[: parts.MOST_PANELS]
    made, axes = parts.panels(len(cells), sharex=False, sharey=True)
    table = results.performance(["coverage"], level=0.95)
    for axis, (cell, i) in zip(axes, cells):
        _zip_panel(axis, cell, i, results.level_of(cell))
        (row,) = parts.rows_of(table, **_where(results, cell, own), population="valid")
        low, high = table["lower"][row], table["upper"][row]
        axis.axhspan(100 * low, 100 * high, color=FAINT, alpha=0.5, linewidth=0)
        axis.set_title(
            f"{_title(cell.scenario)}{cell.method}: {100 * table['estimate'][row]:.1f} %", fontsize=9, color=INK
        )
        axis.set_xlabel("interval less the truth", fontsize=8, color=INK)
    for axis in axes[:: parts.abreast(len(axes))]:
        axis.set_ylabel("rank of |z| (%)", fontsize=9, color=INK)
    made.suptitle(
        f"Intervals of {parts.entry_in_words(own)} ranked by their distance from the truth{note}",
        fontsize=11,
        color=INK,
    )
    lines = require("matplotlib.lines", "plots").Line2D
    handles = [lines([], [], color=c, linewidth=2) for c in (parts.COLOURS[0], FAULT, FAINT)]
    parts.legend(made, handles, ["covers the truth", "misses it", "coverage, Monte Carlo 95 % interval"])
    return made


def _zip_panel(axis: Any, cell: Any, i: int, level: float) -> None:
    out, used = cell.outcomes, available(cell, i, INTERVAL_TRUTH)
    error, low, high = ((a[used, i] - out.truth[used, i]) for a in (out.estimate, out.lower, out.upper))
    distance = np.abs(error) / np.where(high > low, high - low, 1.0)
    order = np.argsort(distance, kind="stable")
    rank = 100 * (np.arange(len(order)) + 0.5) / len(order)
    kept = np.unique(np.linspace(0, len(order) - 1, min(len(order), _MOST_INTERVALS)).astype(int))
    low, high = low[order][kept], high[order][kept]
    covers = (low <= 0) & (high >= 0)
    for those, colour in ((covers, parts.COLOURS[0]), (~covers, FAULT)):
        axis.hlines(rank[kept][those], low[those], high[those], color=colour, linewidth=0.7, alpha=0.8)
    axis.axvline(0, color="black", linewidth=1)
    axis.axhline(100 * level, color="black", linewidth=0.8, linestyle=(0, (4, 3)))
    limits = np.concatenate([low, high])
    axis.set_xlim(*parts.reach(limits))
    axis.set_ylim(0, 100)
    axis.locator_params(axis="x", nbins=5)


def lollipop(results: Results, measure: str = "bias", population: str = "valid") -> Any:
    """A measure with its Monte Carlo interval: a panel an entry, a line a scenario and method."""
    table, there = _measured(results, measure, population)
    scenarios = parts.scenarios(results)
    keep = max(1, _MOST_LINES // len(results.methods))
    note = f" (the first {keep} of {len(scenarios)} scenarios)" if len(scenarios) > keep else ""
    scenarios = scenarios[:keep]
    step = len(results.methods) + 0.8
    height = max(1.6, 0.19 * step * len(scenarios))
    made, axes = parts.panels(len(there), size=(2.9, height), sharey=True)
    for axis, own in zip(axes, there):
        for j, scenario in enumerate(scenarios):
            for m, method in enumerate(results.methods):
                rows = parts.rows_of(table, **_cell(results, scenario, method), **own._asdict())
                if len(rows):
                    _lollipop(axis, table, rows[0], step * j + m, parts.colour(results, method), parts.target(measure))
        _reference(axis, results, measure, "v")
        axis.set_title(parts.entry_in_words(own), fontsize=9, color=INK)
        axis.set_xlabel(parts.label(measure), fontsize=8, color=INK)
        axis.locator_params(axis="x", nbins=4)
    middle = (len(results.methods) - 1) / 2
    axes[0].set_yticks([step * j + middle for j in range(len(scenarios))])
    axes[0].set_yticklabels([parts.in_words(scenario, 48) for scenario in scenarios])
    axes[0].set_ylim(step * len(scenarios) - 0.9, -0.9)
    made.suptitle(f"{TITLES[measure]} with Monte Carlo 95 % intervals{note}", fontsize=11, color=INK)
    parts.legend(made, *parts.method_handles(results))
    return made


def _lollipop(axis: Any, table: Table, row: int, y: float, colour: str, target: float | None) -> None:
    value = table["estimate"][row]
    if target is not None:
        axis.hlines(y, target, value, color=colour, linewidth=1.2)
    if np.isfinite(table["lower"][row]):
        axis.hlines(y, table["lower"][row], table["upper"][row], color=colour, linewidth=3.5, alpha=0.35)
    axis.plot(value, y, "o", color=colour, markersize=4)


def nested_loop(results: Results, measure: str = "bias", entry: Any = None, population: str = "valid") -> Any:
    """A measure over all scenarios as steps, one line a method, with the factors' levels as steps below (Ruecker &
    Schwarzer 2014, BMC Medical Research Methodology 14:129). Scenarios are sorted by the factors in their order."""
    own = parts.chosen_entry(results, entry)
    table, _ = _measured(results, measure, population)
    factors, scenarios = _sorted(results)
    made = parts.figure(max(7.0, 0.28 * len(scenarios) + 3), 3.4 + 0.55 * len(factors))
    shape = {"height_ratios": [6.0, *[0.9] * len(factors)], "hspace": 0.02}
    axes = np.atleast_1d(made.subplots(1 + len(factors), 1, sharex=True, gridspec_kw=shape))
    edges = np.arange(len(scenarios) + 1) + 0.5
    for m, method in enumerate(results.methods):
        found = np.full((3, len(scenarios)), np.nan)
        for j, scenario in enumerate(scenarios):
            rows = parts.rows_of(table, **_cell(results, scenario, method), **own._asdict())
            if len(rows):
                found[:, j] = [table[name][rows[0]] for name in ("estimate", "lower", "upper")]
        colour = parts.colour(results, method)
        axes[0].stairs(found[0], edges, baseline=None, color=colour, linewidth=1.6)
        middle = 0.5 * (edges[1:] + edges[:-1]) + 0.08 * (m - (len(results.methods) - 1) / 2)
        axes[0].vlines(middle, found[1], found[2], color=colour, linewidth=3.5, alpha=0.3)
    _reference(axes[0], results, measure, "h")
    axes[0].set_ylabel(parts.label(measure), fontsize=9, color=INK)
    for axis, (name, levels) in zip(axes[1:], factors.items()):
        _factor_steps(axis, name, levels, scenarios, edges)
    for axis in axes:
        parts.tidy(axis)
    axes[-1].set_xlabel("scenario", fontsize=9, color=INK)
    axes[-1].set_xlim(edges[0], edges[-1])
    axes[-1].xaxis.get_major_locator().set_params(integer=True)
    title = f"{TITLES[measure]} of {parts.entry_in_words(own)}, bars: Monte Carlo 95 % intervals"
    made.suptitle(title, fontsize=11, color=INK)
    parts.legend(made, *parts.method_handles(results))
    return made


def _sorted(results: Results) -> tuple[dict[str, list[Any]], list[dict[str, Any]]]:
    """The factors that vary with their levels in the order given, and the scenarios sorted by them."""
    scenarios = parts.scenarios(results)
    every = {name: list({repr(own.get(name)): own.get(name) for own in scenarios}.values()) for name in results.factors}
    factors = {name: levels for name, levels in every.items() if len(levels) > 1}
    return factors, sorted(scenarios, key=lambda own: [levels.index(own.get(n)) for n, levels in factors.items()])


def _factor_steps(axis: Any, name: str, levels: list[Any], scenarios: list[dict[str, Any]], edges: np.ndarray) -> None:
    places = [levels.index(scenario.get(name)) for scenario in scenarios]
    axis.stairs(places, edges, baseline=None, color=INK, linewidth=1.2)
    few = range(len(levels)) if len(levels) <= 3 else (0, len(levels) - 1)
    axis.set_yticks(list(few), [str(levels[k]) for k in few])
    axis.set_ylim(-0.6, len(levels) - 0.4)
    axis.set_ylabel(name, fontsize=9, color=INK, rotation=0, ha="right", va="center")


def heat_map(
    results: Results, measure: str = "rmse", entry: Any = None, factors: Any = None, population: str = "valid"
) -> Any:
    """A measure over two factors, a panel a method, the mean over the levels of further factors.

    factors : two names, by default the first two that vary. Errors: also DataError where fewer than two vary.
    """
    own = parts.chosen_entry(results, entry)
    table, _ = _measured(results, measure, population)
    varying, scenarios = _sorted(results)
    first, second = _two(varying, factors)
    made, axes = parts.panels(
        len(results.methods), size=(0.75 * len(varying[second]) + 1.8, 0.5 * len(varying[first]) + 1)
    )
    grids = []
    for method in results.methods:
        sums, counts = np.zeros((2, len(varying[first]), len(varying[second])))
        for scenario in scenarios:
            rows = parts.rows_of(table, **_cell(results, scenario, method), **own._asdict())
            if len(rows) and np.isfinite(table["estimate"][rows[0]]):
                place = varying[first].index(scenario.get(first)), varying[second].index(scenario.get(second))
                sums[place] += table["estimate"][rows[0]]
                counts[place] += 1
        grids.append(np.where(counts > 0, sums / np.maximum(counts, 1), np.nan))
    limits, colours = _colour_scale(np.stack(grids), measure)
    for axis, method, values in zip(axes, results.methods, grids):
        image = axis.imshow(values, cmap=colours, vmin=limits[0], vmax=limits[1], aspect="auto")
        for place in np.ndindex(values.shape):
            if np.isfinite(values[place]):
                shade = np.mean(image.cmap(image.norm(values[place]))[:3])
                ink = "white" if shade < 0.5 else "black"
                axis.text(place[1], place[0], f"{values[place]:.2g}", ha="center", va="center", fontsize=8, color=ink)
        axis.set_xticks(range(len(varying[second])), [str(level) for level in varying[second]])
        axis.set_yticks(range(len(varying[first])), [str(level) for level in varying[first]])
        axis.set_xlabel(second, fontsize=9, color=INK)
        axis.set_ylabel(first, fontsize=9, color=INK)
        axis.set_title(method, fontsize=9, color=INK)
        axis.spines[:].set_visible(False)
    bar = made.colorbar(image, ax=axes, shrink=0.9)
    bar.set_label(parts.label(measure), fontsize=9, color=INK)
    bar.ax.tick_params(labelsize=8)
    others = [name for name in varying if name not in (first, second)]
    mean = f", mean over {', '.join(others)}" if others else ""
    made.suptitle(f"{TITLES[measure]} of {parts.entry_in_words(own)}{mean}", fontsize=11, color=INK)
    return made


def _two(varying: dict[str, list[Any]], wanted: Any) -> tuple[str, str]:
    names = list(varying) if wanted is None else list(wanted)
    if len(names) < 2 or any(name not in varying for name in names[:2]):
        raise DataError(f"a heat map needs two factors that vary, and these do: {', '.join(varying) or 'none'}")
    return names[0], names[1]


def _colour_scale(values: np.ndarray, measure: str) -> tuple[tuple[float, float], str]:
    """About 0 in both directions where 0 is the aim."""
    if not np.any(np.isfinite(values)):
        return (0.0, 1.0), "viridis"
    if parts.target(measure) is not None:
        most = float(np.nanmax(np.abs(values))) or 1.0
        return (-most, most), "RdBu_r"
    return (float(np.nanmin(values)), float(np.nanmax(values))), "viridis"


def save_all(results: Results, directory: Any, most_entries: int = _MOST_ENTRIES) -> list[Path]:
    """Every figure that the results allow, as PNG and SVG in a directory, which is made; returns the files.

    Figures of single entries are drawn for the first `most_entries`; those that need a truth, intervals, two scenarios
    or two factors are left out where there are none. Errors: MissingExtraError, DataError where a file cannot be
    written.
    """
    folder, written = Path(directory), []
    measured = set(results.performance(["bias", "coverage", "relative_error", "empirical_se", "rmse"])["measure"])
    own = [cell.outcomes for cell in results.cells]
    counted = {"share_best": np.isfinite, "iterations": np.sign}  # a function of the user's counts none: 0
    varying, scenarios = _sorted(results)
    for name in ("bias", "empirical_se", "relative_error", "coverage"):
        if name in measured:
            written += parts.save(lollipop(results, name), folder / f"lollipop_{name}")
    for name, draw in (("share_best", restart_landscape), ("iterations", iterations)):
        if any(np.any(counted[name](getattr(outcomes, name)) > 0) for outcomes in own):
            written += parts.save(draw(results), folder / draw.__name__)
    for entry in parts.entries(results)[:most_entries]:
        made = {"estimates": estimates(results, entry)}
        if "coverage" in measured and _has(results, entry, "coverage"):
            made["zip"] = zip_plot(results, entry)
        if _has(results, entry, "model_se"):
            made["estimates_against_se"] = estimates_against_se(results, entry)
        for name in ("bias", "coverage"):
            if len(scenarios) > 1 and _has(results, entry, name):
                made[f"nested_loop_{name}"] = nested_loop(results, name, entry)
        if len(varying) > 1 and _has(results, entry, "rmse"):
            made["heat_map_rmse"] = heat_map(results, "rmse", entry)
        for name, figure in made.items():
            written += parts.save(figure, folder / parts.file_name(name, *entry))
    return written


def _has(results: Results, entry: Any, measure: str) -> bool:
    """Whether a method has what the measure needs of this entry."""
    needs = MEASURES[measure][1]
    cells = [cell for cell in results.aligned if entry in cell.entries]
    return any(np.any(available(cell, cell.entries.index(entry), needs)) for cell in cells)


def _measured(results: Results, measure: str, population: str) -> tuple[Table, list[Any]]:
    """The rows of a measure of a population, and the entries that have it."""
    table = results.performance([measure])
    rows = parts.rows_of(table, population=population)
    kept = {name: values[rows] for name, values in table.items()}
    named = set(zip(kept["parameter"], kept["component"]))
    there = [entry for entry in parts.entries(results) if tuple(entry) in named]
    if not there:
        raise DataError(f"no entry has the measure {measure!r} of the population {population!r}; choose another")
    return kept, there


def _cell(results: Results, scenario: dict[str, Any], method: str) -> dict[str, Any]:
    return {**{name: scenario.get(name) for name in results.factors}, "method": method}


def _where(results: Results, cell: Any, entry: Any) -> dict[str, Any]:
    return {**_cell(results, cell.scenario, cell.method), **entry._asdict()}


def _title(scenario: dict[str, Any]) -> str:
    return f"{parts.in_words(scenario, parts.TITLE_WIDTH)}\n" if scenario else ""


def _reference(axis: Any, results: Results, measure: str, way: str) -> None:
    """A line where a good method lies, of coverage one for each level of the methods' intervals."""
    draw = axis.axvline if way == "v" else axis.axhline
    target = parts.target(measure)
    at = results.levels if measure in ("coverage", "bias_eliminated_coverage") else () if target is None else (target,)
    for value in at:
        draw(value, color="black", linewidth=0.8, linestyle=(0, (4, 3)), zorder=0)

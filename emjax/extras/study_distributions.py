"""Figures of whole distributions over the replicates: estimates, their standard errors, restarts, iterations.

See `emjax.extras.study_plots`, which offers them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from emjax.base.status import DataError
from emjax.extras import study_figures as parts
from emjax.extras.study_figures import INK
from emjax.studies import Results
from emjax.studies.labelling import eligible
from emjax.studies.performance_table import SE, available

_MOST_POINTS = 1000  # drawn of a cloud
_BINS = 30


def estimates_against_se(results: Results, entry: Any = None) -> Any:
    """Each replicate's estimate against its standard error: a panel a scenario, a colour a method.

    A method whose standard errors depend on its estimates, or are far too small for some, shows it here.
    """
    own = parts.chosen_entry(results, entry)

    def draw(axis: Any, cell: Any, i: int, colour: str) -> np.ndarray | None:
        used = available(cell, i, SE)
        x, y = cell.outcomes.estimate[used, i], cell.outcomes.se[used, i]
        if not len(x):
            return None
        kept = np.unique(np.linspace(0, len(x) - 1, min(len(x), _MOST_POINTS)).astype(int))
        axis.plot(x[kept], y[kept], "o", color=colour, markersize=2.5, alpha=0.4, markeredgewidth=0, rasterized=True)
        return np.stack([x, y])

    made, axes, found, note = _by_scenario(results, own, draw)
    for axis, values in zip(axes, found):
        if values is not None:
            axis.set_xlim(*_padded(values[0]))
            axis.set_ylim(*_padded(values[1]))
        axis.set_xlabel("estimate", fontsize=8, color=INK)
    for axis in axes[:: parts.abreast(len(axes))]:
        axis.set_ylabel("standard error", fontsize=8, color=INK)
    made.suptitle(f"{parts.entry_in_words(own)}: estimates against standard errors{note}", fontsize=11, color=INK)
    return made


def estimates(results: Results, entry: Any = None) -> Any:
    """The distribution of the estimates by method, with the truth: a panel a scenario, points behind their quartiles.

    What lies more than six robust SDs from the median is counted at the edge.
    """
    own = parts.chosen_entry(results, entry)

    def draw(axis: Any, cell: Any, i: int, colour: str) -> np.ndarray | None:
        x = cell.outcomes.estimate[eligible(cell) & np.isfinite(cell.outcomes.estimate[:, i]), i]
        if not len(x):
            return None
        place = results.methods.index(cell.method)
        generator = np.random.default_rng(0)
        kept = np.unique(np.linspace(0, len(x) - 1, min(len(x), _MOST_POINTS)).astype(int))
        height = place + generator.uniform(-0.28, 0.28, len(kept))
        axis.plot(x[kept], height, "o", color=colour, markersize=2, alpha=0.3, markeredgewidth=0, rasterized=True)
        low, middle, high = np.percentile(x, [25, 50, 75])
        axis.hlines(place, low, high, color="white", linewidth=8)
        axis.hlines(place, low, high, color=colour, linewidth=5)
        axis.plot(middle, place, "o", color="white", markersize=4, markeredgecolor=INK)
        truth = cell.outcomes.truth[:, i]
        if np.all(truth == truth[0]):
            axis.axvline(truth[0], color="black", linewidth=1)
        return np.stack([x, np.full(len(x), place)])

    made, axes, found, note = _by_scenario(
        results, own, draw, size=(3.2, 0.45 * len(results.methods) + 1.2), sharey=True
    )
    for axis, values in zip(axes, found):
        axis.set_ylim(len(results.methods) - 0.4, -0.6)
        axis.set_yticks(range(len(results.methods)), list(results.methods))
        if values is not None:
            _outside(axis, values)
        axis.set_xlabel("estimate", fontsize=8, color=INK)
    title = f"{parts.entry_in_words(own)}: estimates, their quartiles and the truth (black){note}"
    made.suptitle(title, fontsize=11, color=INK)
    return made


def restart_landscape(results: Results) -> Any:
    """How easily the best optimum is found: the share of the replicates in which at most so many restarts reached it.

    A curve that rises early warns that a few restarts are too few. A panel a scenario, a line a method.
    """

    def draw(axis: Any, cell: Any, _: int, colour: str) -> np.ndarray | None:
        x = np.sort(cell.outcomes.share_best[np.isfinite(cell.outcomes.share_best)])
        if not len(x):
            return None
        axis.stairs(np.arange(len(x) + 1) / len(x), np.concatenate([[0.0], x, [1.0]]), baseline=None, color=colour)
        return x[None]

    made, axes, _, note = _by_scenario(results, None, draw)
    for axis in axes:
        axis.set_xlim(0, 1)
        axis.set_ylim(0, 1.02)
        axis.set_xlabel("share of restarts at the best optimum", fontsize=8, color=INK)
    for axis in axes[:: parts.abreast(len(axes))]:
        axis.set_ylabel("cumulative share of replicates", fontsize=8, color=INK)
    made.suptitle(f"Restarts within 0.001 nats of the best{note}", fontsize=11, color=INK)
    return made


def iterations(results: Results) -> Any:
    """Iterations of the chosen restart, on a logarithmic axis since their distribution has a long tail."""
    every = np.concatenate([cell.outcomes.iterations for cell in results.cells])
    every = every[np.isfinite(every) & (every > 0)]
    if not len(every):
        raise DataError("no method counts its iterations; there is nothing to draw")
    edges = np.geomspace(np.min(every), max(np.max(every), np.min(every) * 1.5) * 1.001, _BINS + 1)

    def draw(axis: Any, cell: Any, _: int, colour: str) -> np.ndarray | None:
        counts = np.histogram(cell.outcomes.iterations, edges)[0]
        axis.stairs(counts, edges, color=colour, linewidth=1.4)
        axis.stairs(counts, edges, color=colour, alpha=0.15, fill=True)
        return None

    made, axes, _, note = _by_scenario(results, None, draw)
    for axis in axes:
        axis.set_xscale("log")
        axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axis.set_xlabel("iterations", fontsize=8, color=INK)
    for axis in axes[:: parts.abreast(len(axes))]:
        axis.set_ylabel("replicates", fontsize=8, color=INK)
    made.suptitle(f"Iterations of the chosen restart{note}", fontsize=11, color=INK)
    return made


def _by_scenario(
    results: Results,
    entry: Any,
    draw: Callable[[Any, Any, int, str], np.ndarray | None],
    size: tuple[float, float] = (3.2, 2.6),
    **options: Any,
) -> tuple[Any, list[Any], list[np.ndarray | None], str]:
    """A panel a scenario into which each method is drawn; with what was drawn in each, joined."""
    shown, note = parts.shown_scenarios(results)
    made, axes = parts.panels(len(shown), size=size, **options)
    found = []
    for axis, scenario in zip(axes, shown):
        cells = [(c, c.entries.index(entry) if entry in c.entries else -1) for c in results.aligned]
        own = [(c, i) for c, i in cells if c.scenario == scenario and (entry is None or i >= 0)]
        drawn = [draw(axis, cell, i, parts.colour(results, cell.method)) for cell, i in own]
        there = [values for values in drawn if values is not None]
        found.append(np.concatenate(there, axis=1) if there else None)
        axis.set_title(parts.in_words(scenario, parts.TITLE_WIDTH), fontsize=9, color=INK)
    parts.legend(made, *parts.method_handles(results))
    return made, axes, found, note


def _padded(values: np.ndarray) -> tuple[float, float]:
    low, high = parts.reach(values)
    room = 0.05 * (high - low)
    return low - room, high + room


def _outside(axis: Any, values: np.ndarray) -> None:
    """Limits of the axis, and by method how many estimates lie beyond."""
    low, high = _padded(values[0])
    axis.set_xlim(low, high)
    axis.locator_params(axis="x", nbins=5)
    for place in np.unique(values[1]):
        own = values[0][values[1] == place]
        beyond = int(np.sum((own < low) | (own > high)))
        if beyond:
            axis.text(
                0.99, place - 0.33, f"{beyond:,} outside", transform=axis.get_yaxis_transform(), ha="right", fontsize=7
            )

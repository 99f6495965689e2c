"""Figures (matplotlib), drawn without pyplot so that no window, backend or global state is touched."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emjax.base.status import DataError
from emjax.extras.demo import COORDINATES, Experiment
from emjax.extras.optional import require

_COLOURS = ("#2a6f97", "#d1495b")
_INK = "#333333"
# A panel shows the median and this many (robust) standard deviations either side; what lies further is counted in its
# corner, so that one estimate gone astray does not squeeze the others into a single bar.
_REACH = 5.0
_BINS = 40


def save_experiment(experiment: Experiment, path: Path) -> None:
    """The demo's figure as a PNG: a panel per parameter with the estimates' distribution, the truth and the mean.

    Errors: MissingExtraError, DataError where the file cannot be written.
    """
    figure = require("matplotlib.figure", "plots").Figure(figsize=(13, 6.4), layout="constrained")
    axes = figure.subplots(2, 4)
    for component in range(2):
        for j, name in enumerate(COORDINATES):
            values = experiment.estimates[experiment.valid, component, j]
            axis = axes[component, j]
            # Estimated weights lie near multiples of 1 / n: bars of another width would alternate between one and two.
            lattice = 1 / experiment.design.n if name == "weight" else 0.0
            _panel(axis, values, float(experiment.design.truth[component, j]), _COLOURS[component], lattice)
            axis.set_xlabel(f"{name} {component + 1}", color=_INK)
            measure = experiment.measures["bias"]
            _note(axis, measure.estimate[component, j], measure.mcse[component, j])
    for row in axes:
        row[0].set_ylabel("replicates", color=_INK)
    used, finished = int(experiment.valid.sum()), len(experiment.valid)
    figure.suptitle(
        f"Two regression lines, n = {experiment.design.n}: estimates of {used:,} of {finished:,} replicates", color=_INK
    )
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)
    try:
        figure.savefig(path, dpi=150)
    except OSError as error:
        raise DataError(
            f"{path}: cannot write this file ({error.strerror}); choose another folder with --out"
        ) from None


def _panel(axis: Any, values: NDArray[np.float64], truth: float, colour: str, lattice: float) -> None:
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(colors=_INK, labelsize=9)
    if len(values):
        edges = _edges(values, truth, lattice)
        inside = (values >= edges[0]) & (values <= edges[-1])
        axis.hist(values[inside], bins=edges, color=colour, alpha=0.75)
        axis.axvline(float(np.mean(values)), color=_INK, linewidth=1.2, linestyle=(0, (4, 3)), label="mean estimate")
        outside = int(np.sum(~inside))
        if outside:
            axis.text(0.98, 0.97, f"{outside:,} outside", transform=axis.transAxes, ha="right", va="top", fontsize=8)
    axis.axvline(truth, color="black", linewidth=1.6, label="truth")
    axis.locator_params(axis="x", nbins=5)


def _edges(values: NDArray[np.float64], truth: float, lattice: float) -> NDArray[np.float64]:
    """Bar edges over the estimates and the truth, a whole number of lattice steps wide where there is a lattice."""
    lower, middle, upper = np.percentile(values, [25, 50, 75])
    reach = _REACH * (upper - lower) / 1.349
    low = min(max(middle - reach, values.min()), truth)
    high = max(min(middle + reach, values.max()), truth)
    if high <= low:
        low, high = truth - 0.5, truth + 0.5
    width = (high - low) / min(_BINS, 5 + len(values) // 20)
    if not lattice:
        return np.arange(low, high + 1.5 * width, width)
    width = lattice * max(1, round(width / lattice))
    low = lattice * (np.floor(low / lattice) - 0.5)
    return np.arange(low, high + width, width)


def _note(axis: Any, bias: float, error: float) -> None:
    axis.set_title(f"bias {bias:+.2g}, MCSE {error:.1g}", fontsize=9, color=_INK, loc="left")

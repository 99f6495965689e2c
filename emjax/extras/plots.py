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
# The part of the estimates that a panel shows; the rest is counted in its corner, not squeezed in.
_SHOWN = 99.8


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
            _panel(axis, values, float(experiment.design.truth[component, j]), _COLOURS[component])
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


def _panel(axis: Any, values: NDArray[np.float64], truth: float, colour: str) -> None:
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(colors=_INK, labelsize=9)
    if len(values):
        low, high = np.percentile(values, [50 - _SHOWN / 2, 50 + _SHOWN / 2])
        low, high = min(low, truth), max(high, truth)
        if high <= low:
            low, high = truth - 0.5, truth + 0.5
        inside = values[(values >= low) & (values <= high)]
        axis.hist(inside, bins=min(60, 5 + len(values) // 20), range=(low, high), color=colour, alpha=0.75)
        axis.axvline(float(np.mean(values)), color=_INK, linewidth=1.2, linestyle=(0, (4, 3)), label="mean estimate")
        outside = len(values) - len(inside)
        if outside:
            axis.text(0.98, 0.97, f"{outside:,} outside", transform=axis.transAxes, ha="right", va="top", fontsize=8)
    axis.axvline(truth, color="black", linewidth=1.6, label="truth")
    axis.locator_params(axis="x", nbins=5)


def _note(axis: Any, bias: float, error: float) -> None:
    axis.set_title(f"bias {bias:+.2g}, MCSE {error:.1g}", fontsize=9, color=_INK, loc="left")

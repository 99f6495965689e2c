"""The demo's results in words and files: the printed report, the table of measures and every replicate's estimates."""

import csv
from collections.abc import Iterable
from io import StringIO
from textwrap import fill
from typing import Any

import numpy as np

from emjax import Flag, Status
from emjax.base.status import ELIGIBLE
from emjax.extras.demo import COORDINATES, Experiment
from emjax.extras.tables import flag_names

_ENDINGS = [status for status in Status if status != Status.RUNNING]
_FLAGS = (Flag.BOUNDARY, Flag.SUSPECT, Flag.ESCAPED, Flag.NOISE_FLOOR)


def describe_design(experiment: Experiment) -> str:
    """The problem and the settings, defaults included."""
    design, settings = experiment.design, experiment.fits.settings
    (_, b1, k1, s1), (_, b2, k2, s2) = design.truth
    starts = "one start at the truth" if design.start == "truth" else f"{design.restarts} random starts each"
    if settings.race is not None:
        starts += f", raced ({settings.race.iterations} iterations, then the best {settings.race.keep} go on)"
    return (
        f"y = {k1:g} x + {b1:g} + N(0, {s1:g}^2) or y = {k2:g} x + {b2:g} + N(0, {s2:g}^2), each with probability 1/2, "
        f"x ~ U(0, 10)\n"
        f"n = {design.n}, {len(experiment.valid):,} replicates, {starts}, seed {design.seed}, {design.precision}, "
        f"acceleration {settings.acceleration or 'none'}, "
        f"tol {settings.stop.tol:g} nats, at most {settings.stop.max_iterations:,} iterations"
    )


def describe_results(experiment: Experiment, seconds: float) -> str:
    """The whole report: measures with Monte Carlo SEs, the denominator, labels, statuses, flags, work and time."""
    parts = [
        describe_design(experiment),
        _table(experiment),
        _denominator(experiment),
        _counts(experiment),
        _work(experiment, seconds),
    ]
    return "\n\n".join(parts)


def _table(experiment: Experiment) -> str:
    measures, truth = experiment.measures, experiment.design.truth
    header = ["", "truth", *measures]
    rows = [header]
    for component in range(2):
        for j, name in enumerate(COORDINATES):
            cells = [
                _with_error(measure.estimate[component, j], measure.mcse[component, j]) for measure in measures.values()
            ]
            rows.append([f"{name} {component + 1}", f"{truth[component, j]:g}", *cells])
    widths = [max(len(row[j]) for row in rows) for j in range(len(header))]
    lines = ["  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:]))]) for row in rows]
    lines.insert(1, "-" * len(lines[0]))
    return "\n".join([*lines, "(in brackets: Monte Carlo standard errors, which need no normal estimates)"])


def _with_error(estimate: float, error: float) -> str:
    """An estimate with the digits that its Monte Carlo SE leaves it: two of the SE."""
    if not np.isfinite(estimate):
        return "not available"
    digits = 4 if not (np.isfinite(error) and error > 0) else int(np.clip(1 - np.floor(np.log10(error)), 0, 6))
    estimate = round(float(estimate), digits) + 0.0  # adding 0 takes the sign from a rounded -0
    return f"{estimate:.{digits}f} ({error:.{digits}f})"


def _denominator(experiment: Experiment) -> str:
    finished, used = len(experiment.valid), int(experiment.valid.sum())
    names = ", ".join(status.name for status in ELIGIBLE)
    left = finished - used
    others = (
        f"The other {left:,} are not measured, not redrawn and not hidden: they are counted below by status and stay "
        "in estimates.csv."
        if left
        else "None was left out and none was redrawn."
    )
    share = f" ({100 * experiment.slope_order_differs / used:.2f} %)" if used else ""
    denominator = f"Denominator: {used:,} of {finished:,} replicates, those with a valid fit (status {names}). {others}"
    labels = (
        "Labels: aligned after the fits by distance to the truth (each coordinate in units of its standard error with "
        f"known components); ordering by slope disagrees in {experiment.slope_order_differs:,} of {used:,}{share}."
    )
    return "\n".join(fill(text, 115, subsequent_indent="  ") for text in (denominator, labels))


def _counts(experiment: Experiment) -> str:
    fits = experiment.fits
    lines = [f"{'status':<16}{'replicates':>12}{'restarts':>12}"]
    for status in _ENDINGS:
        lanes = int(np.sum(fits.restarts.status == status))
        lines.append(f"{status.name:<16}{int(np.sum(fits.status == status)):>12,}{lanes:>12,}")
    lines += ["", f"{'flag':<16}{'replicates':>12}"]
    lines += [f"{flag.name:<16}{int(np.sum((fits.flags & flag) != 0)):>12,}" for flag in _FLAGS]
    return "\n".join(lines)


def _work(experiment: Experiment, seconds: float) -> str:
    datasets, lanes = len(experiment.valid), int(np.sum(experiment.fits.restarts.status != Status.STOPPED_EARLY))
    return (
        f"{seconds:.1f} s for {datasets:,} replicates (compilation included; {datasets / seconds:,.0f} replicates/s, "
        f"{lanes / seconds:,.0f} fits/s, one a start), work efficiency {experiment.fits.work_efficiency:.2f}"
    )


def measures_csv(experiment: Experiment) -> str:
    """One row per parameter and component: truth, then every measure with its MCSE, and the number of replicates."""
    measures, truth = experiment.measures, experiment.design.truth
    header = ["parameter", "component", "truth"]
    for name in measures:
        column = name.lower().replace(" ", "_")
        header += [column, f"{column}_mcse"]
    rows = []
    for component in range(2):
        for j, name in enumerate(COORDINATES):
            row: list[Any] = [name, component + 1, float(truth[component, j])]
            for measure in measures.values():
                row += [float(measure.estimate[component, j]), float(measure.mcse[component, j])]
            rows.append([*row, measures["mean"].n])
    return _csv([*header, "n_replicates"], rows)


def estimates_csv(experiment: Experiment) -> str:
    """One row per replicate, whatever its status: status, flags, log-likelihood in nats, aligned estimates."""
    fits = experiment.fits
    names = [f"{name}_{component}" for component in (1, 2) for name in COORDINATES]
    rows = (
        [int(i), Status(int(status)).name, flag_names(flags), float(value), *row]
        for i, status, flags, value, row in zip(
            fits.positions, fits.status, fits.flags, fits.log_likelihood, experiment.estimates.reshape(-1, 8).tolist()
        )
    )
    return _csv(["replicate", "status", "flags", "log_likelihood", *names], rows)


def _csv(header: list[str], rows: Iterable[list[Any]]) -> str:
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()

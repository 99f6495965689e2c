"""Fits in words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from emjax.base.status import Flag, Status
from emjax.engine import choice, parameters

MOST_ENTRIES = 40  # of a block that are printed line by line

# Lines with standard errors, or none and why, from a fit, the kind of errors and the level of intervals. The package's
# front sets it: they come from inference, which the engine may not know.
estimates: Callable[[Any, str, float], tuple[list[str], str]] | None = None


def of_fit(fit: Any, kind: str | None = "auto", level: float = 0.95) -> str:
    """One fit, as a statistician expects it; kind None leaves standard errors out."""
    shown, why = ([], "") if kind is None or estimates is None else estimates(fit, kind, level)
    flags = Flag(int(fit.flags))
    named = ", ".join(str(f.name) for f in Flag if f and f in flags) or "none"
    status = fit.restarts.status
    valid = choice.eligible(status) & np.isfinite(fit.restarts.objective)
    same = int(np.sum(valid & (fit.restarts.objective > fit.objective - choice.SAME_MODE)))
    ran, early = int(np.sum(choice.ended(status))), int(np.sum(status == Status.STOPPED_EARLY))
    reached = f"{same} of {ran} at the mode reported" if same else f"{ran}; the mode reported came after, by escape"
    reached += f" ({early} more were out-raced)" if early else ""
    lines = [
        f"{fit.model}",
        f"status            {Status(int(fit.status)).name}: {fit.reason}",
        f"flags             {named}",
        f"log-likelihood    {fit.log_likelihood:.6f} nats ({fit.n_free} free parameters, n = {fit.n_observations:g})",
    ]
    if fit.settings.prior is not None:
        lines.append(f"log prior         {fit.log_prior:.6f} nats; objective {fit.objective:.6f}")
    elif fit.objective != fit.log_likelihood:
        lines.append(f"objective         {fit.objective:.6f} nats, by which the fit stopped and was chosen")
    lines += [
        f"AIC, BIC          {fit.aic:.4f}, {fit.bic:.4f} (lower is better)",
        f"iterations        {int(fit.iterations)}; estimated gain left {fit.remaining:.1e} nats",
        f"certificate       score norm {fit.certificate.score_norm:.1e}, predicted gain "
        f"{fit.certificate.predicted_gain:.1e} nats, smallest eigenvalue {fit.certificate.smallest_eigenvalue:.2e}",
        f"restarts          {reached}; chance that one more finds a new mode {fit.unseen:.2f}",
        *_settings(fit.settings),
        *([f"standard errors   {why}"] if why else []),
        *(shown or _parameters(fit.model, fit.params)),
    ]
    return "\n".join(lines)


def of_fits(fits: Any) -> str:
    """A batch: counts, work, settings."""
    ran = np.mean(np.sum(fits.restarts.status != Status.RUNNING, axis=1))
    early = np.mean(np.sum(fits.restarts.status == Status.STOPPED_EARLY, axis=1))
    statuses = ", ".join(f"{name} {count}" for name, count in fits.status_counts().items())
    flags = ", ".join(f"{name} {count}" for name, count in fits.flag_counts().items())
    lines = [
        f"{fits.model}",
        f"datasets          {len(fits)}{'' if fits.complete else ' (interrupted: the rest was not run)'}",
        f"status            {statuses}",
        f"flags             {flags}",
        f"restarts          {ran:g} each, {early:g} of them out-raced; median chance of a new mode "
        f"{np.nanmedian(fits.unseen) if np.isfinite(fits.unseen).any() else float('nan'):.2f}",
        f"iterations        mean {np.mean(fits.iterations):.1f}, max {np.max(fits.iterations)} (chosen restarts)",
        f"work efficiency   {fits.work_efficiency:.3f} of the executed lane-steps advanced a lane",
        *_settings(fits.settings),
    ]
    return "\n".join(lines)


def _settings(settings: Any) -> list[str]:
    rules = settings.degeneracy
    start = ", ".join(settings.strategies) or "given parameters"
    race = settings.race
    raced = f"{race.iterations} iterations, then the best {race.keep} of a dataset go on" if race else "none"
    return [
        f"settings          tol {settings.stop.tol:g} nats, max_iterations {settings.stop.max_iterations}, restarts "
        f"{settings.restarts}, {settings.precision}{'' if settings.polish else ' unpolished'}, "
        f"acceleration {settings.acceleration or 'none'}",
        f"degeneracy        min_scale_ratio {rules.min_scale_ratio:g} of the {rules.relative_to}, min_rows "
        f"{'by the model' if rules.min_rows is None else rules.min_rows}; suspect below {rules.suspect_scale_ratio:g} "
        f"or {rules.suspect_rows:g} rows a parameter",
        f"starts            {start}",
        f"race              {raced}",
    ]


def _parameters(model: Any, params: Any) -> list[str]:
    """A line an entry and a column a component; blocks with many entries, and shared ones, as NumPy prints them."""
    found = parameters.blocks(model, params)
    mine = [block for block in found if block.of_components and len(parameters.entries(block)) <= MOST_ENTRIES]
    rows = []
    for block in mine:
        for index in parameters.entries(block):
            where = f"[{', '.join(map(str, index))}]" if index else ""
            rows.append([block.name + where, *(f"{value:.6g}" for value in block.values[(slice(None), *index)])])
    lines = _aligned(rows)
    for block in (block for block in found if not any(block is other for other in mine)):
        text = np.array2string(block.values, precision=6, suppress_small=True, max_line_width=110).splitlines()
        lines += [f"{block.name}:", *(f"    {line}" for line in text)]
    return lines


def _aligned(rows: list[list[str]]) -> list[str]:
    """Columns under the numbers of their components, 0 to K - 1 as in the arrays."""
    if not rows:
        return []
    rows = [["component", *map(str, range(max(len(row) for row in rows) - 1))], *rows]
    name = max(18, 1 + max(len(row[0]) for row in rows))
    width = 2 + max(len(cell) for row in rows for cell in row[1:])
    return [row[0].ljust(name) + "".join(cell.rjust(width) for cell in row[1:]) for row in rows]

"""A study in Markdown: what was asked (ADEMP), what was run, what became of every replicate, and what was found."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from emjax.base.status import ELIGIBLE
from emjax.studies import labelling, resistant
from emjax.studies.performance_table import STATUSES, TITLES, Table

if TYPE_CHECKING:
    from emjax.studies.results import Results

MAIN = ("bias", "relative_bias", "empirical_se", "model_se", "relative_error", "rmse")
INFERENCE = ("coverage", "bias_eliminated_coverage", "power", "interval_width", "interval_rate")
RESISTANT = ("median_bias", "mad_se", "trimmed_rmse", "mse", "relative_precision")
FITS = ("convergence", "valid", "suspect", "share_best", "iterations")
ADEMP = {
    "aims": "Aims",
    "data_generating_mechanisms": "Data-generating mechanisms",
    "estimands": "Estimands",
    "methods": "Methods",
    "performance_measures": "Performance measures",
}
_MOST_LEVELS = 12  # of a factor, listed


def markdown(results: Results, **options: Any) -> str:
    """The report of a study as Markdown; options as in `Results.performance`.

    It has the ADEMP items of Morris, White & Crowther (2019), the design, seed, versions and device, counts of every
    status, how labels were aligned and how often other ways disagree, and tables of all measures with Monte Carlo
    standard errors in brackets and their denominators, for valid fits, for those not suspect and for all replicates.
    """
    table = results.performance(**options)
    title = results.description.get("title") or _specified(results).get("name") or "Simulation study"
    parts = [f"# {title}", *_ademp(results), *_run(results), *_missing(results), *_labels(results)]
    parts += ["## Performance", _reading(options)]
    for heading, names in (("Estimates", MAIN), ("Intervals", INFERENCE), ("Resistant and paired measures", RESISTANT)):
        parts += _measures(results, table, heading, names)
    parts += ["### Fits", _of_fits(results, table)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _specified(results: Results) -> dict[str, Any]:
    return results.description.get("specification", {})


def _ademp(results: Results) -> list[str]:
    """What was given in words; what the cells themselves know stands in for the rest."""
    specified = _specified(results)
    entries = dict.fromkeys(entry.parameter for cell in results.aligned for entry in cell.entries)
    known = {
        "aims": "Not stated.",
        "data_generating_mechanisms": _text(specified.get("generate", "Not stated.")),
        "estimands": ", ".join(f"`{name}`" for name in entries),
        "methods": _bullets(
            f"**{name}** {_text(specified.get('methods', {}).get(name, ''), specified.get('scenarios'))}"
            for name in results.methods
        ),
        "performance_measures": "Those of Morris, White & Crowther (2019), Table 6, and the resistant ones below.",
    }
    found = []
    for name, heading in ADEMP.items():
        given = results.description.get(name)
        found += [f"## {heading}", known[name] if given is None else _text(given)]
    return found


def _text(value: Any, scenarios: dict[str, Any] | None = None) -> str:
    return value.strip() if isinstance(value, str) else f"`{_settings(value, scenarios)}`"


def _settings(value: Any, scenarios: dict[str, Any] | None = None) -> str:
    """Plain values of a specification as one would write them: Class(name=value, ...), what is None left out.

    scenarios : by name, of methods by scenario, whose settings are written once where they are the same in all."""
    if isinstance(value, dict) and "by scenario" in value:
        return _settings(_joined(value["by scenario"], scenarios or {}))
    if isinstance(value, dict):
        kept = {name: own for name, own in value.items() if name != "class" and own is not None}
        return f"{value.get('class', '')}({', '.join(f'{name}={_settings(own)}' for name, own in kept.items())})"
    if isinstance(value, list | tuple):
        return f"[{', '.join(_settings(own) for own in value)}]"
    return str(value)


def _joined(of: dict[str, Any], scenarios: dict[str, Any]) -> Any:
    """Settings by scenario in one: what differs is told by the levels of the first factor that it follows."""
    values = list(of.values())
    if all(value == values[0] for value in values):
        return values[0]
    if all(isinstance(value, dict) and value.keys() == values[0].keys() for value in values):
        return {name: _joined({key: own[name] for key, own in of.items()}, scenarios) for name in values[0]}
    texts = {key: _settings(value) for key, value in of.items()}
    factors = dict.fromkeys(name for key in of for name in scenarios.get(key, {}))
    for factor in factors:
        at = {key: str(scenarios[key].get(factor)) for key in of if key in scenarios}
        found = {at[key]: text for key, text in texts.items() if key in at}
        if len(at) == len(of) and all(found[at[key]] == text for key, text in texts.items()):
            return " or ".join(f"{text} where {factor} is {level}" for level, text in found.items())
    return f"{' or '.join(dict.fromkeys(texts.values()))} by scenario"


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line.strip()}" for line in lines)


def _run(results: Results) -> list[str]:
    """Factors with their levels, the replicates, the seed and where it ran."""
    found = ["## Design"]
    scenarios = list({str(cell.scenario): cell.scenario for cell in results.cells}.values())
    levels = {name: list(dict.fromkeys(str(s[name]) for s in scenarios if name in s)) for name in results.factors}
    rows = [
        [name, ", ".join(own[:_MOST_LEVELS]) + (f", ... ({len(own)} levels)" if len(own) > _MOST_LEVELS else "")]
        for name, own in levels.items()
    ]
    if rows:
        found.append(grid(["factor", "levels"], rows))
    sizes = sorted({len(cell.outcomes.status) for cell in results.cells})
    replicates = f"{sizes[0]:,}" if len(sizes) == 1 else f"{sizes[0]:,} to {sizes[-1]:,}"
    lines = [f"{len(scenarios)} scenarios x {len(results.methods)} methods, {replicates} replicates of each."]
    specified, environment = _specified(results), results.description.get("environment", {})
    asked, fits = specified.get("replicates", 0), sum(len(cell.outcomes.status) for cell in results.cells)
    total = asked * len(specified.get("scenarios", ())) * len(specified.get("methods", ()))
    if fits < total:
        lines.append(f"**unfinished**: {fits:,} of the {total:,} fits that were asked for are there")
    lines += [
        f"{name.replace('_', ' ')}: {specified[name]}"
        for name in ("seed", "common_random_numbers")
        if name in specified
    ]
    lines += [
        f"{name}: {results.description[name]}" for name in ("seed", "hash", "chunk") if name in results.description
    ]
    lines += [f"{name}: {value}" for name, value in environment.items()]
    return [*found, _bullets(lines)]


def _missing(results: Results) -> list[str]:
    """Every status, zeros too, and what is done about those that are missing."""
    table = results.status_counts()
    names = [status.name for status in STATUSES]
    rows = [
        [*(_level(table[name][i]) for name in (*results.factors, "method")), *(f"{table[name][i]:,}" for name in names)]
        for i in range(len(table["method"]))
    ]
    eligible = ", ".join(status.name for status in ELIGIBLE)
    text = (
        f"No replicate was redrawn or dropped. A fit is *valid* if its status is {eligible}. Measures are given for "
        "valid fits; for valid fits without the flag SUSPECT; and for all replicates, where a fit that is not valid "
        "or has no interval neither covers nor rejects, and other measures use every estimate that exists. Each figure "
        "states its denominator."
    )
    return ["## Missingness", text, grid([*results.factors, "method", *names], rows)]


def _labels(results: Results) -> list[str]:
    """How labels were aligned, that the truth flatters, and how often it matters."""
    found = ["## Labels"]
    ways = {
        cell.method: labelling.chosen(cell, results.align)
        for cell in results.cells
        if results.align is not None and labelling.n_exchangeable(cell) > 1
    }
    lines = [
        f"{method}: components aligned by {how}"
        if how
        else f"{method}: components as they were fitted, no truth has as many: their figures mix those of all"
        for method, how in ways.items()
    ]
    exchangeable = any(labelling.n_exchangeable(cell) > 1 for cell in results.cells)
    if results.align is None and exchangeable:
        lines.append("components are as they were fitted: figures of a component mix those of all")
    with_loadings = results.turned
    if with_loadings:
        lines.append(f"factor loadings aligned to the true ones by {results.loadings}")
    if not lines:
        return [*found, "No method has labels that could be exchanged."]
    found.append(_bullets(lines))
    oracle = {labelling.OVERLAP, labelling.DISTANCE} & set(ways.values())
    if oracle or with_loadings:
        found.append(
            "**Aligning by the truth is an oracle:** no analyst of real data has it, so that bias and spread of "
            "components that overlap look smaller here than they are in practice."
        )
    table = results.disagreements()
    rows = [
        [
            *(_level(table[name][i]) for name in (*results.factors, "first", "second")),
            f"{table['differ'][i]:,} of {table['n_sim'][i]:,}",
            f"{100 * table['estimate'][i]:.2f} ({100 * table['lower'][i]:.2f} to {100 * table['upper'][i]:.2f})",
        ]
        for i in range(len(table["first"]))
    ]
    if rows:
        header = [*results.factors, "labels by", "and by", "differ", "% (95 % interval)"]
        found += ["How often two labellings of the same replicates differ:", grid(header, rows)]
    return found


def _reading(options: dict[str, Any]) -> str:
    form = options.get("mcse", "robust")
    kind = "robust: no normal estimates are assumed" if form == "robust" else "of the article's Table 6"
    return (
        f"In brackets: Monte Carlo standard errors ({kind}); for rates of 0 and 1, which have none, Wilson's 95 % "
        f"interval. SE from the MAD and trimmed RMSE: bootstrap standard errors, {resistant.RESAMPLES} resamples, seed "
        f"{resistant.SEED}. Rates and relative bias are fractions; relative error and relative precision are per cent. "
        "An empty place: the figure does not exist, or has too few replicates. n: the replicates in the denominators."
    )


def _measures(results: Results, table: Table, heading: str, names: Sequence[str]) -> list[str]:
    """One table of valid fits, then the rows of the other populations that rest on other replicates."""
    there = [name for name in names if name in set(table["measure"])]
    if not there:
        return []
    about = (*results.factors, "method", "parameter", "component")
    lines: dict[str, dict[tuple[str, ...], dict[str, tuple[str, int]]]] = {}
    for i in np.flatnonzero(np.isin(table["measure"], there) & (table["parameter"] != "")):
        key = tuple(_level(table[name][i]) for name in about)
        own = lines.setdefault(str(table["population"][i]), {}).setdefault(key, {})
        own[str(table["measure"][i])] = with_error(table, i), int(table["n_sim"][i])
    valid = lines.get("valid", {})
    header = [*about, *(TITLES[name] for name in there), "n"]
    found = [f"### {heading}", _rows(header, valid, there)]
    for name, text in (("not_suspect", "Valid fits that are not SUSPECT"), ("all", "All replicates")):
        other = {key: own for key, own in lines.get(name, {}).items() if own != valid.get(key)}
        if other:
            found += [f"**{text}**, where that changes a figure:", _rows(header, other, there)]
        else:
            found.append(f"{text}: the same figures.")
    return found


def _rows(header: list[str], lines: dict[tuple[str, ...], dict[str, tuple[str, int]]], names: Sequence[str]) -> str:
    rows = []
    for key, own in lines.items():
        counts = sorted({n for _, n in own.values()})
        rows.append([*key, *(own.get(name, ("", 0))[0] for name in names), " / ".join(f"{n:,}" for n in counts)])
    return grid(header, rows)


def _of_fits(results: Results, table: Table) -> str:
    about = (*results.factors, "method")
    lines: dict[tuple[str, ...], dict[str, str]] = {}
    for i in np.flatnonzero(np.isin(table["measure"], FITS)):
        lines.setdefault(tuple(_level(table[name][i]) for name in about), {})[str(table["measure"][i])] = with_error(
            table, i
        )
    return grid(
        [*about, *(TITLES[name] for name in FITS)],
        [[*key, *(own.get(name, "") for name in FITS)] for key, own in lines.items()],
    )


def with_error(table: Table, i: Any) -> str:
    """A figure of the table with the digits that its Monte Carlo SE leaves it, two of the SE; "" without a figure."""
    estimate, mcse = float(table["estimate"][i]), float(table["mcse"][i])
    if not np.isfinite(estimate):
        return ""
    if not np.isfinite(mcse):
        limits = table["lower"][i], table["upper"][i]
        return (
            f"{estimate:.3g} ({limits[0]:.3f} to {limits[1]:.3f})" if np.all(np.isfinite(limits)) else f"{estimate:.3g}"
        )
    if mcse <= 1e-9 * abs(estimate):  # rounding
        return f"{estimate:.4g} (0)"
    digits = int(np.clip(1 - np.floor(np.log10(mcse)), 0, 8))
    return f"{round(estimate, digits) + 0.0:.{digits}f} ({mcse:.{digits}f})"


def grid(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; text in its cells cannot break it."""
    clean = [[str(value).replace("|", "\\|").replace("\n", " ") for value in row] for row in (header, *rows)]
    lines = [f"| {' | '.join(row)} |" for row in clean]
    lines.insert(1, f"|{'|'.join('---' for _ in header)}|")
    return "\n".join(lines)


def _level(value: Any) -> str:
    return "" if value is None else f"{value:.15g}" if isinstance(value, float) else str(value)

"""The performance measures of a study as one long table: every figure with its MCSE, interval and denominator.

Each measure is given for three populations of replicates, since which ones are used moves the answer (Morris, White &
Crowther 2019, section 5.4; Pawel et al. 2024 on missingness):

- "valid": a valid fit, that is a status of `ELIGIBLE`;
- "not_suspect": those of them without the flag SUSPECT;
- "all": every replicate. Rates have all of them in the denominator, where a fit that is not valid, or has no interval,
  neither covers nor rejects; other measures use the estimates that exist, those of degenerate fits included.

`n_sim` is the denominator: the replicates that the figure rests on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from emjax.base.status import DataError, Flag, Status
from emjax.studies import labelling, measures, model_errors, rates, resistant
from emjax.studies.measures import McseForm, Measure
from emjax.studies.rates import Rate
from emjax.studies.records import Cell

POPULATIONS = ("valid", "not_suspect", "all")
COLUMNS = ("method", "parameter", "component", "measure", "population", "estimate", "mcse", "lower", "upper", "n_sim")
STATUSES = tuple(status for status in Status if status not in (Status.RUNNING, Status.STOPPED_EARLY))

Table = dict[str, NDArray[Any]]


class Sample(NamedTuple):
    """One entry of one method over the replicates of a population that have what a measure needs, (n,) each.

    n_failed : further replicates, which are in the denominator of rates and have no event."""

    estimate: NDArray[np.float64]
    se: NDArray[np.float64]
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    truth: NDArray[np.float64]
    n_failed: int


class Options(NamedTuple):
    """mcse : of `McseForm`. level : of the Monte Carlo intervals. null : the value that power is about."""

    mcse: McseForm = "robust"
    level: float = 0.95
    null: float = 0.0


def _free(s: Sample) -> NDArray[np.float64]:
    """Estimates less what the truth adds to their spread, where it differs between replicates."""
    return s.estimate - s.truth if np.all(np.isfinite(s.truth)) else s.estimate


def _coverage(s: Sample, o: Options) -> Rate:
    return rates.coverage(s.lower, s.upper, s.truth, s.n_failed, o.level)


def _eliminated(s: Sample, o: Options) -> Rate:
    return rates.bias_eliminated_coverage(s.lower, s.upper, s.estimate, s.truth, s.n_failed, o.level, o.mcse)


# What a replicate must have to be in a measure.
ESTIMATE, TRUTH, SE, INTERVAL, INTERVAL_TRUTH = "estimate", "truth", "se", "interval", "interval and truth"
# By name, in the order of reports: what a measure is called, what it needs, and the function.
MEASURES: dict[str, tuple[str, str, Callable[[Sample, Options], Measure | Rate]]] = {
    "mean": ("mean estimate", ESTIMATE, lambda s, o: measures.mean_estimate(s.estimate)),
    "bias": ("bias", TRUTH, lambda s, o: measures.bias(s.estimate, s.truth)),
    "relative_bias": ("relative bias", TRUTH, lambda s, o: measures.relative_bias(s.estimate, s.truth)),
    "empirical_se": ("empirical SE", ESTIMATE, lambda s, o: measures.empirical_se(_free(s), o.mcse)),
    "mse": ("MSE", TRUTH, lambda s, o: measures.mse(s.estimate, s.truth)),
    "rmse": ("RMSE", TRUTH, lambda s, o: measures.rmse(s.estimate, s.truth)),
    "model_se": ("average model SE", SE, lambda s, o: model_errors.average_model_se(s.se)),
    "relative_error": (
        "relative error of the model SE (%)",
        SE,
        lambda s, o: model_errors.relative_error(_free(s), s.se, o.mcse),
    ),
    "coverage": ("coverage", INTERVAL_TRUTH, _coverage),
    "bias_eliminated_coverage": ("bias-eliminated coverage", INTERVAL_TRUTH, _eliminated),
    "power": ("power", INTERVAL, lambda s, o: rates.power(s.lower, s.upper, o.null, s.n_failed, o.level)),
    "interval_width": ("interval width", INTERVAL, lambda s, o: model_errors.interval_width(s.lower, s.upper)),
    "median_bias": ("median bias", TRUTH, lambda s, o: measures.median_bias(s.estimate, s.truth)),
    "mad_se": ("SE from the MAD", ESTIMATE, lambda s, o: resistant.mad_se(_free(s))),
    "trimmed_rmse": ("1 %-trimmed RMSE", TRUTH, lambda s, o: resistant.trimmed_rmse(s.estimate, s.truth)),
}
PAIRED, WITH_INTERVAL = "relative_precision", "interval_rate"
OF_FITS = {
    "convergence": "share CONVERGED",
    "valid": "share with a valid fit",
    "suspect": "share SUSPECT",
    "share_best": "share of restarts at the best optimum",
    "iterations": "iterations of the chosen restart",
}
TITLES = {
    **{name: title for name, (title, _, _) in MEASURES.items()},
    PAIRED: "relative precision (%)",
    WITH_INTERVAL: "share with an interval",
    **OF_FITS,
    **{f"status_{status.name}": f"share {status.name}" for status in STATUSES},
}


def performance(
    cells: Iterable[Cell],
    names: Iterable[str] | None = None,
    *,
    mcse: McseForm = "robust",
    level: float = 0.95,
    null: float = 0.0,
    reference: str | None = None,
) -> Table:
    """Measures of aligned cells, a row each: the scenario's factors, then `COLUMNS`.

    names : of `TITLES`; None for all. reference : the method that relative precision is measured against, by default
    the first. Rows about fits, not parameters, have parameter and component "". Errors: DataError for an unknown name,
    method or form of MCSE.
    """
    cells, options = tuple(cells), Options(mcse, level, null)
    measures.robust(mcse)
    if isinstance(level, (bool, str)) or not 0 < level < 1:
        raise DataError(f"level is {level!r}; give the level of the Monte Carlo intervals, between 0 and 1")
    if isinstance(null, str) or not np.isfinite(null):
        raise DataError(f"null is {null!r}; give the number that power is about")
    wanted = wanted_measures(names)
    known = list(dict.fromkeys(cell.method for cell in cells))
    if reference is not None and reference not in known:
        raise DataError(f"there is no method {reference!r} to compare with; give one of {', '.join(known)}")
    base = {scenario_key(cell): cell for cell in cells if cell.method == (known[0] if reference is None else reference)}
    rows: list[dict[str, Any]] = []
    for cell in cells:
        found = [*_of_fits(cell, wanted, options), *_of_entries(cell, wanted, options)]
        if PAIRED in wanted and cell is not base.get(scenario_key(cell)) and scenario_key(cell) in base:
            found += _paired(base[scenario_key(cell)], cell, options)
        rows += [{**cell.scenario, "method": cell.method, **row} for row in found]
    return as_table(rows, (*factors(cells), *COLUMNS))


def wanted_measures(names: Any) -> tuple[str, ...]:
    """The names of measures, all for None. Errors: DataError for one that is not known."""
    if names is None:
        return tuple(TITLES)
    wanted = tuple(names) if isinstance(names, Iterable) and not isinstance(names, str) else (names,)
    for name in wanted:
        if not isinstance(name, str) or name not in TITLES:
            raise DataError(f"there is no measure {name!r}; give some of {', '.join(TITLES)}")
    return wanted


def factors(cells: Iterable[Cell]) -> tuple[str, ...]:
    """The names of all factors, in the order in which they first appear."""
    return tuple(dict.fromkeys(name for cell in cells for name in cell.scenario))


def scenario_key(cell: Cell) -> tuple[tuple[str, Any], ...]:
    """What tells scenarios apart."""
    return tuple(sorted((name, repr(level)) for name, level in cell.scenario.items()))


def as_table(rows: list[dict[str, Any]], columns: tuple[str, ...]) -> Table:
    """Rows as columns; numbers as numbers, a factor that a scenario does not have is None."""
    found: Table = {}
    for name in columns:
        values = [row.get(name) for row in rows]
        numeric = all(isinstance(v, (int, float, np.number)) and not isinstance(v, bool) for v in values)
        found[name] = np.array(values) if values and numeric else np.array([*values, None], object)[:-1]
    return found


def population(cell: Cell, name: str) -> NDArray[np.bool_]:
    """Which replicates belong to it, (N,)."""
    if name == "all":
        return np.ones(len(cell.outcomes.status), bool)
    valid = labelling.eligible(cell)
    return valid if name == "valid" else valid & ((cell.outcomes.flags & int(Flag.SUSPECT)) == 0)


def available(cell: Cell, entry: int, needs: str) -> NDArray[np.bool_]:
    """Which replicates have what a measure needs of this entry, (N,). An interval counts if the fit is valid."""
    own = cell.outcomes
    found = np.isfinite(own.estimate[:, entry])
    if needs in (TRUTH, INTERVAL_TRUTH):
        found = found & np.isfinite(own.truth[:, entry])
    if needs == SE:
        found = found & np.isfinite(own.se[:, entry])
    if needs in (INTERVAL, INTERVAL_TRUTH):
        found = found & np.isfinite(own.lower[:, entry]) & np.isfinite(own.upper[:, entry]) & labelling.eligible(cell)
    return found


def sample(cell: Cell, entry: int, name: str, needs: str) -> Sample:
    """One entry's replicates in a population that have what is needed."""
    own, members = cell.outcomes, population(cell, name)
    used = members & available(cell, entry, needs)
    estimate, se, lower, upper, truth = (
        array[used, entry] for array in (own.estimate, own.se, own.lower, own.upper, own.truth)
    )
    # A valid fit without an interval is missing among valid fits, and a failure among all.
    n_failed = int(np.sum(members & ~used)) if name == "all" else 0
    return Sample(estimate, se, lower, upper, truth, n_failed)


def _of_entries(cell: Cell, wanted: tuple[str, ...], options: Options) -> Iterator[dict[str, Any]]:
    for i, entry in enumerate(cell.entries):
        about = {"parameter": entry.parameter, "component": entry.component}
        for measure in wanted:
            if measure == WITH_INTERVAL:
                held = available(cell, i, INTERVAL)
                for name in POPULATIONS:
                    found = rates.share(held[population(cell, name)], 0, options.level)
                    yield {**about, **row(measure, name, found)}
            elif measure in MEASURES:
                for name, value in _measured(cell, i, measure, options):
                    yield {**about, **row(measure, name, value, options.level)}


def _measured(cell: Cell, i: int, measure: str, options: Options) -> Iterator[tuple[str, Measure | Rate]]:
    """By population; nothing for what the entry never has, such as a truth."""
    _, needs, function = MEASURES[measure]
    has = available(cell, i, needs)
    if not np.any(has):
        return
    done: dict[tuple[bytes, int], Measure | Rate] = {}
    for name in POPULATIONS:
        own = sample(cell, i, name, needs)
        # Often none failed and none is suspect; then the populations are the same.
        key = (has & population(cell, name)).tobytes(), own.n_failed if needs in (INTERVAL, INTERVAL_TRUTH) else 0
        if key not in done:
            done[key] = function(own, options)
        yield name, done[key]


def _of_fits(cell: Cell, wanted: tuple[str, ...], options: Options) -> Iterator[dict[str, Any]]:
    """Measures of the fits themselves, over all replicates; work over those that report it."""
    own = cell.outcomes
    events = {
        "convergence": own.status == int(Status.CONVERGED),
        "valid": labelling.eligible(cell),
        "suspect": (own.flags & int(Flag.SUSPECT)) != 0,
        **{f"status_{status.name}": own.status == int(status) for status in STATUSES},
    }
    for measure in wanted:
        found: Measure | Rate | None = None
        if measure in events:
            found = rates.share(events[measure], 0, options.level)
        elif measure in ("share_best", "iterations"):
            values = np.asarray(getattr(own, measure), np.float64)
            found = measures.mean_estimate(values[np.isfinite(values)]) if np.any(np.isfinite(values)) else None
        if found is not None:
            yield {"parameter": "", "component": "", **row(measure, "all", found, options.level)}


def _paired(base: Cell, cell: Cell, options: Options) -> list[dict[str, Any]]:
    """Relative precision over the replicates that both methods have, entry by entry of the same name."""
    at = {entry: i for i, entry in enumerate(base.entries)}
    _, first, second = np.intersect1d(base.outcomes.replicate, cell.outcomes.replicate, return_indices=True)
    found = []
    for i, entry in enumerate(cell.entries):
        for name in POPULATIONS if entry in at else ():
            own, other = _spreads(base, at[entry])[first], _spreads(cell, i)[second]
            used = (
                population(base, name)[first] & population(cell, name)[second] & np.isfinite(own) & np.isfinite(other)
            )
            value = model_errors.relative_precision(own[used], other[used], options.mcse)
            about = {"parameter": entry.parameter, "component": entry.component}
            found.append({**about, **row(PAIRED, name, value, options.level)})
    return found


def _spreads(cell: Cell, i: int) -> NDArray[np.float64]:
    """Estimates less their truth, or as they are where none is known."""
    estimate, truth = cell.outcomes.estimate[:, i], cell.outcomes.truth[:, i]
    return estimate - np.where(np.all(np.isfinite(truth)), truth, 0.0)


def row(measure: str, name: str, found: Measure | Rate, level: float = 0.95) -> dict[str, Any]:
    """One row of the table; the Monte Carlo interval is Wilson's for a rate and normal for others."""
    estimate, mcse = float(found.estimate), float(found.mcse)
    if isinstance(found, Rate):
        lower, upper = float(found.lower), float(found.upper)
    else:
        z = NormalDist().inv_cdf(0.5 + 0.5 * level)
        lower, upper = estimate - z * mcse, estimate + z * mcse
    values = {"estimate": estimate, "mcse": mcse, "lower": lower, "upper": upper, "n_sim": found.n}
    return {"measure": measure, "population": name, **values}

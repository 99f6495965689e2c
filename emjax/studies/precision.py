"""How many replicates a Monte Carlo standard error needs, and runs that go on until it is reached."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from emjax.base.status import DataError
from emjax.studies.measures import Measure
from emjax.studies.performance_table import wanted_measures
from emjax.studies.rates import Rate
from emjax.studies.running import CPU_CHUNK
from emjax.studies.store import Store

_Z = 1.959963984540054  # of the 95 % interval of a rate, whose half-width stands in for an MCSE at 0 and 1


def n_for(pilot: Measure | Rate | dict[str, Any], mcse: float) -> NDArray[np.int64]:
    """Replicates that bring the Monte Carlo SE of a measure down to `mcse`, in the measure's units; (...) as the pilot.

    pilot : a measure, a rate, or a table of `performance`: since an MCSE falls as 1 / sqrt(n), n (MCSE / mcse)^2
    replicates are needed. A rate of exactly 0 or 1 has no MCSE; half of Wilson's interval over 1.96 stands in for it.

    Errors: DataError for an `mcse` that is not positive, or a pilot too small to have an MCSE.
    """
    _check(mcse)
    found = pilot if isinstance(pilot, dict) else pilot._asdict()
    n, error = np.asarray(found["n_sim"] if "n_sim" in found else found["n"], np.float64), _error(found)
    if not np.all(np.isfinite(error)):
        raise DataError(f"{int(np.sum(~np.isfinite(error)))} figures of the pilot have no MCSE; give more replicates")
    # The tolerance keeps an error of rounding from asking for one replicate more.
    return np.ceil(np.maximum(n * (error / mcse) ** 2 * (1 - 1e-12), 1)).astype(np.int64)


def n_for_rate(rate: ArrayLike, mcse: float) -> NDArray[np.int64]:
    """Replicates for a Monte Carlo SE of a rate that is known beforehand: p (1 - p) / mcse^2; 1,900 for a coverage of
    0.95 to 0.005 (Morris, White & Crowther 2019, section 5.3). Errors: DataError for a rate outside (0, 1)."""
    p = np.asarray(rate, np.float64)
    if not np.all((p > 0) & (p < 1)):
        raise DataError(f"rate is {rate}; give a share between 0 and 1")
    return n_for(Measure(p, np.sqrt(p * (1 - p)), 1), mcse)


def until(
    run: Callable[[int], Any],
    measure: str,
    mcse: float,
    *,
    first: int,
    at_most: int,
    chunk: int = 1,
    population: str = "valid",
    **options: Any,
) -> Any:
    """Run more replicates until every figure of a measure has an MCSE of at most `mcse`, or there are `at_most`.

    run : a function of the number of replicates to `Results` of that many; it is called with `first`, then with what
    the MCSEs say is needed (twice as many where a figure has none yet), in whole chunks. What is needed is estimated
    from the same replicates, so that the last run is a little longer or shorter than a fixed one. options : of
    `Results.performance`.

    Returns the last results. Errors: DataError for a measure that no entry has, `first` or `chunk` below 1, or
    `at_most` below `first`.
    """
    _check(mcse)
    wanted_measures(measure)  # before anything is run
    if min(first, chunk) < 1 or at_most < first:
        raise DataError(
            f"first is {first}, chunk {chunk} and at_most {at_most}; give 1 <= first <= at_most, chunk >= 1"
        )
    count = min(_whole(first, chunk), at_most)
    while True:
        results = run(count)
        table = results.performance([measure], **options)
        kept = of_population(table, measure, population)
        error = _error(kept)
        if count >= at_most or np.all(error <= mcse):
            return results
        needed = 2 * count
        if np.all(np.isfinite(error)):
            # The replicates of a figure may be fewer than those run; the same share is lost of the next ones.
            needed = int(np.ceil(count * np.max(error / mcse) ** 2))
        count = min(_whole(max(needed, count + 1), chunk), at_most)


def run_until(
    study: Any, directory: Any, measure: str, mcse: float, at_most: int, *, chunk: int | None = None, **options: Any
) -> Any:
    """Run a study in its directory until every figure of a measure has an MCSE of at most `mcse`; see `until`.

    study : a `Study`, whose replicates are the first number. Only what is missing is computed each time. chunk :
    replicates a file, by default those of the directory, 256 in a new one. Returns the last `Results`. Errors:
    DataError; KeyboardInterrupt where a run was interrupted, its finished chunks on disk.
    """

    if chunk is None:
        store = Store(directory)
        chunk = int(store.manifest()["chunk"]) if store.begun() else CPU_CHUNK
    size = chunk

    def run(replicates: int) -> Any:
        asked = replace(study, replicates=replicates)
        if not asked.run(directory, chunk=size).complete:
            raise KeyboardInterrupt  # a part of the replicates would look like all of them
        return asked.results(directory)

    return until(run, measure, mcse, first=study.replicates, at_most=at_most, chunk=size, **options)


def _whole(count: int, chunk: int) -> int:
    return -(-count // chunk) * chunk


def of_population(table: dict[str, Any], measure: str, population: str) -> dict[str, Any]:
    """Rows of a population; measures of the fits themselves have only one, of all. Errors: DataError for none."""
    rows = (table["population"] == population) | (table["parameter"] == "")
    if not np.any(rows):
        raise DataError(f"no entry has the measure {measure!r} of the population {population!r}; choose another")
    return {name: values[rows] for name, values in table.items()}


def _check(mcse: Any) -> None:
    if isinstance(mcse, (bool, str)) or mcse is None or not (np.isfinite(mcse) and mcse > 0):
        raise DataError(f"mcse is {mcse!r}; give the Monte Carlo SE that is wanted, larger than 0")


def _error(found: dict[str, Any]) -> NDArray[np.float64]:
    error = np.asarray(found["mcse"], np.float64)
    if "lower" not in found:
        return error
    certain = np.isnan(error) & np.isin(np.asarray(found["estimate"], np.float64), (0.0, 1.0))
    return np.where(certain, (np.asarray(found["upper"]) - np.asarray(found["lower"])) / (2 * _Z), error)

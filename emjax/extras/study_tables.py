"""The results of a simulation study for other software: pandas, xarray, CSV, parquet, netCDF."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from emjax.base.status import DataError
from emjax.extras.optional import require
from emjax.studies import Results
from emjax.studies.performance_table import scenario_key

_OF_ENTRIES = ("estimate", "se", "lower", "upper", "truth")
_OF_FITS = ("status", "flags", "log_likelihood", "iterations", "share_best")


def to_frame(results: Results) -> Any:
    """The long table; see `Results.columns`. Errors: MissingExtraError."""
    return require("pandas", "frames").DataFrame(results.columns())


def performance_frame(results: Results, **options: Any) -> Any:
    """The table of `Results.performance` for pandas. Errors: MissingExtraError, DataError."""
    return require("pandas", "frames").DataFrame(results.performance(**options))


def to_xarray(results: Results) -> Any:
    """A Dataset with the dimensions scenario, method, replicate and entry; see `Results.to_xarray`.

    Coordinates: each factor along scenario; parameter and component (text) along entry. What a scenario, method or
    replicate does not have is NaN, and its status -1; interval_level is that of a method's intervals.

    Errors: MissingExtraError.
    """
    xarray = require("xarray", "labelled")
    cells = results.aligned
    scenarios = list({scenario_key(cell): cell.scenario for cell in cells})
    levels = {scenario_key(cell): cell.scenario for cell in cells}
    replicates = np.unique(np.concatenate([cell.outcomes.replicate for cell in cells]))
    entries = list(dict.fromkeys(entry for cell in cells for entry in cell.entries))
    shape = len(scenarios), len(results.methods), len(replicates)
    of_entries = {name: np.full((*shape, len(entries)), np.nan) for name in _OF_ENTRIES}
    of_fits = {name: np.full(shape, np.nan) for name in _OF_FITS}
    of_levels = np.full(shape[:2], np.nan)
    for name in ("status", "flags"):
        of_fits[name] = np.full(shape, -1, np.int32)
    for cell in cells:
        place = scenarios.index(scenario_key(cell)), results.methods.index(cell.method)
        rows = np.searchsorted(replicates, cell.outcomes.replicate)
        columns = np.array([entries.index(entry) for entry in cell.entries])
        of_levels[place] = results.level_of(cell)
        for name in _OF_ENTRIES:
            of_entries[name][place][np.ix_(rows, columns)] = getattr(cell.outcomes, name)
        for name in _OF_FITS:
            of_fits[name][place][rows] = getattr(cell.outcomes, name)
    dimensions = ("scenario", "method", "replicate")
    factors = {
        name: ("scenario", _coordinate([levels[key].get(name) for key in scenarios])) for name in results.factors
    }
    return xarray.Dataset(
        {"interval_level": (dimensions[:2], of_levels)}
        | {name: (dimensions, values) for name, values in of_fits.items()}
        | {name: ((*dimensions, "entry"), values) for name, values in of_entries.items()},
        coords={
            "method": list(results.methods),
            "replicate": replicates,
            "parameter": ("entry", [entry.parameter for entry in entries]),
            "component": ("entry", [str(entry.component) for entry in entries]),
            **factors,
        },
        attrs={"align": str(results.align)},
    )


def _coordinate(levels: list[Any]) -> Any:
    """Numbers where all levels are, else text: files have no other kinds."""
    numeric = all(isinstance(level, (int, float)) and not isinstance(level, bool) for level in levels)
    return np.array(levels) if numeric else ["" if level is None else str(level) for level in levels]


def save_table(results: Results, path: Any) -> None:
    """Write .csv, .parquet or .nc; see `Results.save_table`."""
    target = Path(path)
    if target.suffix not in (".csv", ".parquet", ".nc"):
        raise DataError(f"{target}: the ending must be .csv, .parquet or .nc")
    try:
        if target.suffix == ".nc":
            require("scipy", "labelled")  # xarray's writer of netCDF 3
            to_xarray(results).to_netcdf(target, engine="scipy")
            return
        frame = to_frame(results)
        if target.suffix == ".csv":
            frame.to_csv(target, index=False)
            return
        require("pyarrow", "parquet")
        for name in frame.columns:
            if frame[name].dtype == object:  # a component is a number or "all", a factor any plain value
                frame[name] = frame[name].map(str)
        frame.to_parquet(target, index=False)
    except OSError as error:
        raise DataError(
            f"{target}: cannot write this file ({error.strerror or error}); choose another folder"
        ) from None

"""Estimates with their standard errors and intervals as tables: lines of one fit's summary, long columns of a batch."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import numpy as np

from emjax.base import supports
from emjax.base.protocols import Model
from emjax.base.records import Params
from emjax.base.status import DataError, Status
from emjax.engine import choice, parameters
from emjax.engine.certificate import DEFAULT_LIMIT
from emjax.engine.results import Fit, Fits
from emjax.inference import wald
from emjax.inference.information import Reason, standard_errors

SHARED = "all"  # stands for the component of what all components share
MOST_LINES = 120  # of parameters in one table of a summary
WORDS = {
    Reason.FREE: "",
    Reason.FIXED: "fixed",
    Reason.BOUNDARY: "boundary",
    Reason.NOT_IDENTIFIED: "not identified",
    Reason.NO_FIT: "no fit",
    Reason.REPLICATES: "too few bootstrap replicates",
}
KIND_WORDS = {
    "observed": "observed information",
    "opg": "outer products of the scores",
    "sandwich": "sandwich",
    "cluster": "sandwich of clusters",
}


class Estimates(NamedTuple):
    """Every entry of the parameters of a batch: names (L,), numbers (D, L), NaN where there is none.

    component : 0 to K - 1 as in the arrays, or "all" for what components share. parameter : such as "means[0]". z, p :
    of coefficients alone. reason : `Reason` codes.
    """

    component: np.ndarray
    parameter: np.ndarray
    estimate: np.ndarray
    se: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    z: np.ndarray
    p: np.ndarray
    reason: np.ndarray


def estimates(
    fits: Fits, kind: str = "observed", level: float = 0.95, scale: str = "auto", **settings: Any
) -> Estimates:
    """The table of a batch; kind and settings are those of `standard_errors`, level and scale those of `intervals`."""
    found = standard_errors(fits, kind, **settings)
    limits, tests = wald.intervals(found, level, scale), wald.wald_tests(found)
    component, parameter, estimate = _entries(fits.model, found.params)
    rest = (found.se, limits.lower, limits.upper, tests.z, tests.p, found.reason)
    return Estimates(component, parameter, estimate, *(_entries(fits.model, record)[2] for record in rest))


def _entries(model: Model, record: Params) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Components (L,), names (L,) and values (D, L), block by block, a component's entries together."""
    component, names, values = [], [], []
    for block in parameters.blocks(model, record, 1):
        own = range(block.values.shape[1]) if block.of_components else (SHARED,)
        for k in own:
            for index in parameters.entries(block, 1):
                component.append(k)
                names.append(block.name + (f"[{','.join(map(str, index))}]" if index else ""))
                at = (k, *index) if block.of_components else index
                values.append(block.values[(slice(None), *at)])
    whole = np.empty(len(component), object)
    whole[:] = component
    return whole, np.array(names, object), np.stack(values, axis=1)


def columns(fits: Fits, kind: str | None = "observed", level: float = 0.95, scale: str = "auto") -> dict[str, Any]:
    """A long table, one row a dataset and entry of its parameters, as arrays by the name of the column.

    dataset (its name in `fits.ids`), component, parameter, estimate, se, lower, upper, status (of the fit), reason (why
    there is no standard error, or ""). kind : as in `standard_errors`, None for estimates alone.
    """
    if kind is None:
        component, parameter, estimate = _entries(fits.model, fits.params)
        se = lower = upper = np.full(estimate.shape, np.nan)
        words = np.full(estimate.shape, "not asked for", object)
    else:
        table = estimates(fits, kind, level, scale)
        component, parameter, estimate, se, lower, upper = table[:6]
        known = np.array([WORDS[reason] for reason in Reason], object)
        words = known[table.reason.astype(int)]
    count, size = estimate.shape
    names = np.array([Status(int(status)).name for status in fits.status], object)
    return {
        "dataset": np.repeat(fits.ids, size),
        "component": np.tile(component, count),
        "parameter": np.tile(parameter, count),
        **{
            name: np.reshape(values, -1)
            for name, values in (("estimate", estimate), ("se", se), ("lower", lower), ("upper", upper))
        },
        "status": np.repeat(names, size),
        "reason": words.reshape(-1),
    }


# --- one fit in words -------------------------------------------------------------------------------------------------


def lines(fit: Fit, kind: str, level: float) -> tuple[list[str], str]:
    """The lines of a fit's parameters with standard errors; or no line, and a sentence why there are none.

    kind : as in `standard_errors`, or "auto": the observed information where there are at most 30 free parameters.
    """
    if not choice.eligible(np.asarray(fit.status)):
        return [], "none: there is no valid fit"
    if kind == "auto":
        if fit.n_free > DEFAULT_LIMIT or fit.model.row_blocks:
            return [], f"of more than {DEFAULT_LIMIT} parameters only when asked for: summary(kind='observed')"
        try:
            table, shown = _of_one(fit, "observed", level)
        except DataError:
            raise
        except (TypeError, ValueError, NotImplementedError) as error:  # a model of one's own without derivatives
            return [], f"not available: {' '.join(str(error).split())[:100]}"
        kind = "observed"
    else:
        table, shown = _of_one(fit, kind, level)
    if len(shown) > MOST_LINES:
        return [], f"of {len(shown)} entries, too many to print: see emjax.standard_errors"
    return _lines(table, shown, KIND_WORDS[kind], level), ""


def _of_one(fit: Fit, kind: str, level: float) -> tuple[Estimates, np.ndarray]:
    """A table with a leading axis of 1, and the entries that are shown: of a symmetric matrix its upper half."""
    found = standard_errors(fit, kind)
    limits, tests = wald.intervals(found, level), wald.wald_tests(found)
    records = (found.params, found.se, limits.lower, limits.upper, tests.z, tests.p, found.reason)
    parts = [_entries(fit.model, _with_axis(record)) for record in records]
    table = Estimates(*parts[0][:2], *(part[2] for part in parts))
    half = _entries(fit.model, _with_axis(_upper_half(found.params)))[2][0]
    return table, np.flatnonzero(half)


def _with_axis(record: Params) -> Params:
    return jax.tree.map(lambda a: np.asarray(a)[None], record)


def _upper_half(params: Params) -> Params:
    def one(values: Any, support: str) -> np.ndarray:
        full = np.ones(np.shape(values), bool)
        return np.triu(full) if support == supports.COVARIANCE else full

    return jax.tree.map(one, params, supports.of(params))


def _lines(table: Estimates, shown: np.ndarray, words: str, level: float) -> list[str]:
    numbers = {name: getattr(table, name)[0] for name in Estimates._fields[2:]}
    rows = [["parameter", "component", "estimate", "std. error", "z", "P(>|z|)", f"{100 * level:g} % interval", ""]]
    for i in shown:
        own = {name: values[i] for name, values in numbers.items()}
        component = "" if table.component[i] == SHARED else str(table.component[i])
        row = [str(table.parameter[i]), component, f"{own['estimate']:.6g}"]
        if int(own["reason"]) == Reason.FREE:
            tested = np.isfinite(own["z"])
            row += [f"{own['se']:.4g}", f"{own['z']:.2f}" if tested else "", f"{own['p']:.3g}" if tested else ""]
            row += [f"{own['lower']:.5g}", f"{own['upper']:.5g}"]
        else:
            row += [WORDS[Reason(int(own["reason"]))], "", "", "", ""]
        rows.append(row)
    widths = [max(len(row[j]) for row in rows) for j in range(len(rows[0]))]
    text = [row[0].ljust(widths[0]) + "".join("  " + row[j].rjust(widths[j]) for j in range(1, 8)) for row in rows]
    scale = "intervals on the scale of each parameter (logit, log or as it is)"
    return [f"standard errors   {words}; {scale}", *(line.rstrip() for line in text)]

"""Estimates with their standard errors and intervals as tables: lines of one fit's summary, long columns of a batch."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import numpy as np

from emjax.base import supports
from emjax.base.protocols import Model
from emjax.base.records import Params
from emjax.base.status import Status
from emjax.engine import choice, derivatives, parameters
from emjax.engine.certificate import DEFAULT_LIMIT
from emjax.engine.results import Fit, Fits
from emjax.inference import wald
from emjax.inference.information import Reason, StandardErrors, standard_errors

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
    return _table(fits.model, standard_errors(fits, kind, **settings), level, scale, leading=1)


def _table(model: Model, found: StandardErrors, level: float, scale: str, leading: int) -> Estimates:
    """Of a batch, or where `leading` is 0 of one fit, as a batch of one."""
    limits, tests = wald.intervals(found, level, scale), wald.wald_tests(found)
    component, parameter = _named(model, found.params, leading)
    records = (found.params, found.se, limits.lower, limits.upper, tests.z, tests.p, found.reason)
    flat = (parameters.flatten(record, leading) for record in records)
    return Estimates(component, parameter, *(values.reshape(-1, len(component)) for values in flat))


def _named(model: Model, params: Params, leading: int) -> tuple[np.ndarray, np.ndarray]:
    """Components and names of the scalars, (L,) each."""
    names, own = zip(*parameters.scalars(model, params, leading), strict=True)
    component = np.empty(len(own), object)
    component[:] = own
    return component, np.array(names, object)


def columns(fits: Fits, kind: str | None = "observed", level: float = 0.95, scale: str = "auto") -> dict[str, Any]:
    """A long table, one row a dataset and entry of its parameters, as arrays by the name of the column.

    dataset (its name in `fits.ids`), component, parameter, estimate, se, lower, upper, status (of the fit), reason (why
    there is no standard error, or ""). kind : as in `standard_errors`, None for estimates alone, which is all there is
    of a model with parameters of its rows; those of a dataset with fewer rows than others are NaN.
    """
    if kind is None or fits.model.row_blocks:
        component, parameter = _named(fits.model, fits.params, 1)
        estimate = parameters.flatten(fits.params, 1)
        se = lower = upper = np.full(estimate.shape, np.nan)
        words = np.full(estimate.shape, "not asked for" if kind is None else "parameters of rows", object)
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
        if fit.model.row_blocks:
            return [], "none: the model has parameters of each row of its data"
        if fit.n_free > DEFAULT_LIMIT:
            return [], f"of more than {DEFAULT_LIMIT} parameters only when asked for: summary(kind='observed')"
        try:
            table, shown = _of_one(fit, "observed", level)
        except derivatives.NotDifferentiable as error:
            return [], f"none: {error}"
        kind = "observed"
    else:
        table, shown = _of_one(fit, kind, level)
    if len(shown) > MOST_LINES:
        return [], f"of {len(shown)} entries, too many to print: see emjax.standard_errors"
    return _lines(table, shown, KIND_WORDS[kind], level), ""


def _of_one(fit: Fit, kind: str, level: float) -> tuple[Estimates, np.ndarray]:
    """A table with a leading axis of 1, and the entries that are shown: of a symmetric matrix its upper half."""
    found = standard_errors(fit, kind)
    half = parameters.flatten(_upper_half(found.params), 0)
    return _table(fit.model, found, level, "auto", leading=0), np.flatnonzero(half)


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
        component = "" if table.component[i] == parameters.SHARED else str(table.component[i])
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

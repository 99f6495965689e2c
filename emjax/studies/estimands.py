"""Which scalars a study is about: some of the stored parameters, or functions of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emjax.base.status import DataError
from emjax.inference.information import Reason
from emjax.studies.labelling import where
from emjax.studies.records import Cell, Entry, of_entries
from emjax.studies.running import in_words

Values = dict[str, NDArray[np.float64]]
Estimands = tuple[str, ...] | Callable[[Values], Values] | Mapping[str, Callable[[Values], NDArray[np.float64]]] | None
# Central differences lose the least where steps are the cube root of the rounding error, in units of the value.
_STEP = float(np.finfo(np.float64).eps) ** (1 / 3)


def chosen(cell: Cell, estimands: Estimands, level: float = 0.95) -> Cell:
    """An aligned cell with the estimands as its entries, and no labels that could be exchanged any more.

    estimands : names of parameters, or of their arrays ("means" for "family.means[0]", ...); None for all; or a
    function of a dictionary of arrays, (N, K) of what components have and (N,) of what they share, by parameter, to a
    dictionary of scalars (N,), or several functions by name, each to one scalar (N,). They are asked for the true
    values too. Their standard errors are those of the delta method (derivatives by central differences) where the
    covariances were kept, else NaN; their intervals are normal, of `level`.

    Errors: DataError for a name that is not there, or a function that returns something else.
    """
    if isinstance(estimands, Mapping):
        functions = dict(estimands)
        return _of_function(cell, lambda values: {name: own(values) for name, own in functions.items()}, level)
    if callable(estimands):
        return _of_function(cell, estimands, level)
    fixed_labels = {tuple(range(len(next(iter(cell.moves), ())))): np.arange(len(cell.entries))}
    if estimands is None:
        return cell._replace(moves=fixed_labels)
    for name in estimands:
        if not any(_is_called(entry.parameter, name) for entry in cell.entries):
            known = ", ".join(dict.fromkeys(entry.parameter for entry in cell.entries))
            raise DataError(f"{where(cell)} has no parameter {name!r}; it has {known}")
    return _kept(cell, [i for i, e in enumerate(cell.entries) if any(_is_called(e.parameter, n) for n in estimands)])


def are_functions(estimands: Any) -> bool:
    """Whether it is a function, or a dictionary of functions by name. Errors: DataError for another dictionary."""
    if not isinstance(estimands, Mapping):
        return callable(estimands)
    for name, own in estimands.items():
        if not isinstance(name, str) or not re.search(r"\S", name) or not callable(own):
            raise DataError(f"estimands has {name!r}: {own!r}; give a function of the parameters by each name")
    if not estimands:
        raise DataError("estimands is empty; give functions by name, or None for all parameters")
    return True


def _is_called(parameter: str, name: str) -> bool:
    """Whether the parameter is the named one, or an entry of the named array, its record left out or not."""
    return any(own == name or own.startswith(name + "[") for own in (parameter, parameter.rpartition(".")[2]))


def _kept(cell: Cell, which: list[int]) -> Cell:
    moves = {tuple(range(len(next(iter(cell.moves), ())))): np.arange(len(which))}
    entries = tuple(cell.entries[i] for i in which)
    return cell._replace(entries=entries, moves=moves, outcomes=of_entries(cell.outcomes, which))


def _of_function(cell: Cell, function: Callable, level: float) -> Cell:
    own = cell.outcomes
    estimate, names = _evaluated(cell, function, own.estimate)
    truth, _ = _evaluated(cell, function, own.truth)
    se = np.full(estimate.shape, np.nan)
    if own.covariance.shape[1]:
        se = _delta(cell, function)
    z = NormalDist().inv_cdf(0.5 + 0.5 * level)
    unknown = np.where(np.isfinite(estimate), int(Reason.NOT_IDENTIFIED), int(Reason.NO_FIT))
    reason = np.where(np.isfinite(se), int(Reason.FREE), unknown)
    values = own._replace(
        estimate=estimate,
        se=se,
        lower=estimate - z * se,
        upper=estimate + z * se,
        truth=truth,
        reason=reason,
        covariance=np.zeros((len(estimate), 0, 0)),
    )
    moves = {tuple(range(len(next(iter(cell.moves), ())))): np.arange(len(names))}
    return Cell(cell.scenario, cell.method, tuple(Entry(name, "all") for name in names), moves, values)


def _evaluated(cell: Cell, function: Callable, values: NDArray) -> tuple[NDArray[np.float64], list[str]]:
    """The function's scalars (N, number of them), and their names."""
    given: dict[str, NDArray] = {}
    for name in dict.fromkeys(entry.parameter for entry in cell.entries):
        own = [i for i, entry in enumerate(cell.entries) if entry.parameter == name]
        shared = cell.entries[own[0]].component == "all"
        given[name] = values[:, own[0]] if shared else values[:, own]
    try:
        with np.errstate(all="ignore"):  # replicates without a fit are NaN and remain so
            found = function(given)
    except Exception as error:
        known = ", ".join(given)
        raise DataError(f"estimands of {where(cell)} failed ({in_words(error)}); its parameters are {known}") from error
    if not isinstance(found, dict) or not found:
        raise DataError(f"estimands returned {type(found).__name__}; return a dictionary of scalars by name")
    for name, value in found.items():
        if np.shape(value) != (len(values),):
            raise DataError(
                f"estimands[{name!r}] has shape {np.shape(value)} for {len(values)} replicates; return one number each"
            )
    return np.stack([np.asarray(value, np.float64) for value in found.values()], axis=1), list(found)


def _delta(cell: Cell, function: Callable) -> NDArray[np.float64]:
    """Standard errors from J cov J'; an entry held fixed has none to give, another without variance leaves NaN."""
    own = cell.outcomes
    columns = []
    for i in range(len(cell.entries)):
        step = _STEP * np.maximum(np.abs(own.estimate[:, i]), 1.0)
        sides = []
        for sign in (1, -1):
            moved = np.array(own.estimate)
            moved[:, i] += sign * step
            sides.append(_evaluated(cell, function, moved)[0])
        columns.append((sides[0] - sides[1]) / (2 * step[:, None]))
    jacobian = np.stack(columns, axis=2)
    fixed = own.reason == int(Reason.FIXED)
    known = np.isfinite(own.covariance) | fixed[:, :, None] | fixed[:, None, :]
    covariance = np.where(np.isfinite(own.covariance), own.covariance, 0.0)
    variance = np.einsum("nai,nij,naj->na", jacobian, covariance, jacobian)
    reached = (np.abs(jacobian) > 0).astype(np.float64)
    missing = np.einsum("nai,nij,naj->na", reached, (~known).astype(np.float64), reached) > 0
    return np.sqrt(np.where(missing, np.nan, variance))

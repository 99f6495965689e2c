"""Methods of a study: how each dataset is fitted, and what is stored of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, NamedTuple

import jax
import numpy as np

from emjax.base.protocols import Model
from emjax.base.records import Array
from emjax.base.settings import Degeneracy, Race, Stop
from emjax.base.status import DataError, Status
from emjax.engine import choice, fitting, keys, parameters, rehearsal
from emjax.engine.parameters import flatten
from emjax.engine.results import Fits
from emjax.inference import alignment, bootstrapping, information, percentiles, resampling, wald
from emjax.inference.bootstrapping import Missing
from emjax.inference.information import KINDS, Reason
from emjax.studies import layouts
from emjax.studies.layouts import Layout
from emjax.studies.records import Outcomes, of_entries
from emjax.studies.simulating import Simulated

Function = Callable[[Any, Any], dict[str, Any]]
TRUTH = "truth"
UNKNOWN: Any = {}  # parameters to start from, before any are drawn
# Why a bootstrap has no standard error, in the words of the other kinds.
_REASONS = {
    Missing.NONE: Reason.FREE,
    Missing.NO_FIT: Reason.NO_FIT,
    Missing.CONSTANT: Reason.FIXED,
    Missing.ONE_UNIT: Reason.REPLICATES,
    Missing.TOO_FEW: Reason.REPLICATES,
    Missing.NO_ACCELERATION: Reason.NOT_IDENTIFIED,
}


@dataclass(frozen=True)
class Method:
    """A model and how it is fitted to every replicate.

    model to certificate : as in `fit_many`; start may also be "truth", one start at the true parameters, which must
    then be a record of this model's. intervals : the kind of standard errors, as in `standard_errors`, with Wald
    intervals; "bootstrap", with percentile intervals; or None. level : of confidence. bootstraps, resampling : how
    many bootstrap replicates, and the `kind` of `bootstrap`. covariance : whether the covariance matrices of the
    estimates are stored too.

    A study's method may also be a function from the scenario to a `Method`; or any function of (data, keys): a `Data`
    with a leading axis of N replicates and N typed jax keys, to a dictionary of estimates (N, ...) by name, or of
    pairs (estimates, standard errors).

    Errors: `DataError` for settings that the engine would refuse whatever the data.
    """

    model: Model
    restarts: int | str | None = None
    start: Any = None
    stop: Stop = Stop()  # noqa: RUF009 (frozen)
    degeneracy: Degeneracy = Degeneracy()  # noqa: RUF009 (frozen)
    race: Race | None = None
    prior: Any = None
    fixed: Any = None
    precision: str = "float64"
    polish: bool = True
    acceleration: str | None = "auto"
    certificate: bool | None = None
    intervals: str | None = "observed"
    level: float = 0.95
    bootstraps: int = 399
    resampling: str = "parametric"
    covariance: bool = False

    def __post_init__(self) -> None:
        fitting.check_model(self.model)
        known = (*KINDS, "bootstrap")
        if self.intervals is not None and self.intervals not in known:
            raise DataError(f"Method(intervals={self.intervals!r}): use one of {', '.join(known)}, or None.")
        percentiles.check_level(self.level)
        fitting.check_whole("bootstraps", self.bootstraps, 2)
        if self.intervals == "bootstrap":
            resampling.check(self.model, self.resampling)
            least = math.ceil(2 / (1 - self.level) - 1e-9) - 1  # the outermost order statistics are the limits
            if self.bootstraps < least:
                raise DataError(f"Method(bootstraps={self.bootstraps}): intervals of level {self.level} need {least}.")
        if not isinstance(self.covariance, bool):
            raise DataError(f"Method(covariance={self.covariance!r}): use True or False.")
        if self.covariance and self.intervals not in KINDS:
            raise DataError("Method(covariance=True) needs intervals of one of these kinds: " + ", ".join(KINDS) + ".")
        if self._at_truth and self.restarts not in (None, 1):
            raise DataError(
                f"Method(start='truth', restarts={self.restarts!r}): the truth is one start; give no restarts."
            )
        rehearsal.of_settings(self.model, UNKNOWN if self._at_truth else self.start, self._settings)

    @property
    def _at_truth(self) -> bool:
        return isinstance(self.start, str) and self.start == TRUTH

    @property
    def _settings(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in rehearsal.SETTINGS}

    def rehearse(self, like: Simulated, params: Any) -> Any:
        """Shapes of the fitted parameters; None where the model cannot tell. like : shapes of one replicate. params :
        its true parameters where they are known. Errors: `DataError` for what `fit` would refuse."""
        given = self.start
        if self._at_truth:
            given = _record(like.truth)
            if jax.tree.structure(params) == jax.tree.structure(given):
                given = params
            else:
                given = jax.tree.map(lambda leaf: np.full(leaf.shape, np.nan), given)
        given = rehearsal.of_settings(self.model, given, self._settings)
        return rehearsal.of_data(self.model, like.data, given, self._settings)

    def fit(self, simulated: Simulated, root: np.ndarray, replicates: np.ndarray, threads: int | None) -> Fits:
        """Every replicate fitted, named by its number. Errors: KeyboardInterrupt where only some of them are."""
        start = _record(simulated.truth) if self._at_truth else self.start
        ids = replicates.tolist()
        fits = fitting.fit_many(
            self.model, simulated.data, root, start=start, ids=ids, threads=threads, **self._settings
        )
        if not fits.complete:
            raise KeyboardInterrupt
        return fits


def _record(truth: Any) -> Any:
    if truth is None or isinstance(truth, dict):
        raise DataError("start='truth': generate must give the true parameters as a record of the model's.")
    return truth


class Measured(NamedTuple):
    """What a method made of some replicates; efficiency: useful lane-steps by those taken, which is not stored."""

    layout: Layout
    outcomes: Outcomes
    efficiency: float


def of_fits(method: Method, fits: Fits, simulated: Simulated, root: np.ndarray, threads: int | None) -> Measured:
    """Estimates with their standard errors and intervals. root : of the bootstrap's keys."""
    layout = layouts.of_model(fits.model, fits.params, method.fixed)
    count = len(fits)
    truth = layouts.values_of(layout, simulated.truth, count)
    errors = _errors(method, fits, root, threads)
    outcomes = Outcomes(
        replicate=np.asarray(fits.ids, np.int64),
        status=np.asarray(fits.status, np.int32),
        flags=np.asarray(fits.flags, np.int32),
        log_likelihood=np.asarray(fits.log_likelihood, np.float64),
        iterations=np.asarray(fits.iterations, np.int64),
        share_best=_share_best(fits),
        estimate=flatten(fits.params, 1).astype(np.float64),
        truth=truth,
        overlap=_overlap(fits, simulated, layout, truth, threads),
        **errors,
    )
    return Measured(layout, outcomes, fits.work_efficiency)


def _errors(method: Method, fits: Fits, root: np.ndarray, threads: int | None) -> dict[str, np.ndarray]:
    """se, lower, upper, reason (N, L) and covariance of `Outcomes`."""
    covariance = np.zeros((len(fits), 0, 0))
    if method.intervals is None:
        estimate = flatten(fits.params, 1)
        nothing = np.full(estimate.shape, np.nan)
        why = np.where(np.isfinite(estimate), int(Reason.FREE), int(Reason.NO_FIT)).astype(np.int32)
        return {"se": nothing, "lower": nothing, "upper": nothing, "reason": why, "covariance": covariance}
    if method.intervals == "bootstrap":
        found = bootstrapping.bootstrap(
            fits, root, method.bootstraps, method.resampling, level=method.level, threads=threads
        )
        limits = found.intervals()
        codes = flatten(found.reason, 1).astype(int)
        why = np.array([_REASONS[Missing(code)] for code in range(len(Missing))])[codes]
    else:
        found = information.standard_errors(fits, method.intervals, covariance=method.covariance, threads=threads)
        limits = wald.intervals(found, method.level)
        why = flatten(found.reason, 1)
        covariance = covariance if found.covariance is None else found.covariance
    parts = {"se": found.se, "lower": limits.lower, "upper": limits.upper}
    flat = {name: flatten(part, 1).astype(np.float64) for name, part in parts.items()}
    return {**flat, "reason": why.astype(np.int32), "covariance": np.asarray(covariance, np.float64)}


def _share_best(fits: Fits) -> np.ndarray:
    """Of the restarts that ran to their ends, those within `choice.SAME_MODE` nats of the best valid one."""
    status, objective = fits.restarts.status, fits.restarts.objective
    good = choice.eligible(status) & np.isfinite(objective)
    best = np.max(np.where(good, objective, -np.inf), axis=1, keepdims=True)
    near = np.sum(good & (objective >= best - choice.SAME_MODE), axis=1)
    return np.where(good.any(axis=1), near / np.maximum(np.sum(choice.ended(status), axis=1), 1), np.nan)


def _overlap(fits: Fits, simulated: Simulated, layout: Layout, truth: np.ndarray, threads: int | None) -> np.ndarray:
    """(N, K, K), where the true labels are known and the truth has as many components as the method."""
    own = np.array([entry.component != parameters.SHARED for entry in layout.entries])
    same = np.any(np.isfinite(truth[:, own]))
    if simulated.labels is None or not same or not hasattr(fits.model, "latent"):
        return np.zeros((len(fits), 0, 0))
    return alignment.overlaps(fits, np.asarray(simulated.labels), threads)


def of_function(
    function: Function, simulated: Simulated, replicates: np.ndarray, root: np.ndarray, known: Layout | None
) -> Measured:
    """What a user's function gives: CONVERGED where all is finite; limits from normal quantiles, at 95 %."""
    count = len(replicates)
    estimates, errors = _returned(function(simulated.data, keys_of(root, replicates)), count)
    layout = layouts.of_arrays(estimates, known)
    estimate, se = (flatten(list(part.values()), 1) for part in (estimates, errors))
    finite = np.all(np.isfinite(estimate), axis=1)
    width = NormalDist().inv_cdf(0.975) * se
    nan = np.full(count, np.nan)
    outcomes = Outcomes(
        replicate=np.asarray(replicates, np.int64),
        status=np.where(finite, int(Status.CONVERGED), int(Status.NON_FINITE)).astype(np.int32),
        flags=np.zeros(count, np.int32),
        log_likelihood=nan,
        iterations=np.zeros(count, np.int64),
        share_best=nan,
        estimate=estimate,
        se=se,
        lower=estimate - width,
        upper=estimate + width,
        truth=layouts.values_of(layout, simulated.truth, count),
        reason=np.where(np.isfinite(estimate), int(Reason.FREE), int(Reason.NO_FIT)).astype(np.int32),
        overlap=np.zeros((count, 0, 0)),
        covariance=np.zeros((count, 0, 0)),
    )
    return Measured(layout, outcomes, 1.0)


def only(found: Measured, estimands: Sequence[str]) -> Measured:
    """The entries of the parameters with these names. Errors: `DataError` where there is none."""
    which = np.flatnonzero([name in estimands for name, _, _ in found.layout.blocks])
    if not len(which):
        names = sorted({name for name, _, _ in found.layout.blocks})
        raise DataError(f"estimands={list(estimands)} are none of this method's parameters: {', '.join(names)}.")
    return Measured(layouts.chosen(found.layout, which), of_entries(found.outcomes, which), found.efficiency)


def keys_of(root: np.ndarray, replicates: np.ndarray) -> Any:
    """A typed key a replicate, (N,)."""
    with jax.threefry_partitionable(True):
        return _folded(root, replicates.astype(np.uint32))


@jax.jit
def _folded(root: Array, replicates: Array) -> Array:
    return jax.lax.map(lambda number: keys.dataset_key(root, number), replicates)


def _returned(found: Any, count: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Estimates and standard errors (N, ...) by name. Errors: `DataError`."""
    if not isinstance(found, dict) or not found:
        raise DataError(f"a method's function returned {type(found).__name__}: return a dictionary of estimates.")
    estimates, errors = {}, {}
    for name, value in found.items():
        pair = value if isinstance(value, tuple) else (value, None)
        if len(pair) != 2:
            raise DataError(f"a method's function returned {len(pair)} arrays for {name!r}: give (estimates, errors).")
        try:
            values = np.asarray(pair[0], np.float64)
            given = np.full(values.shape, np.nan) if pair[1] is None else np.asarray(pair[1], np.float64)
        except (TypeError, ValueError) as error:
            raise DataError(f"a method's function returned {name!r}, which is no array of numbers: {error}") from None
        if values.shape[:1] != (count,) or given.shape != values.shape or not values.size:
            raise DataError(
                f"a method's function returned {name!r} of shape {values.shape} with standard errors of shape "
                f"{given.shape}: both need one row for each of the {count} replicates."
            )
        estimates[str(name)], errors[str(name)] = values, given
    return estimates, errors

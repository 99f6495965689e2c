"""The bootstrap of every fit of a batch: standard errors, and percentile, basic and BCa intervals.

D datasets x B replicates x restarts are fitted as ordinary datasets; a replicate that ends without a valid optimum is
kept with its status, counted, and left out of standard errors and intervals.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import jax
import numpy as np

from emjax.base.records import Params
from emjax.base.settings import Race
from emjax.base.status import DataError, Status
from emjax.engine import after, choice, fitting, keys, parameters
from emjax.engine.results import Fit, Fits
from emjax.inference import influence, percentiles, resampling
from emjax.inference.labels import Labels
from emjax.inference.percentiles import check_level

INTERVALS = ("percentile", "basic", "bca")
OF_FITS = ("stop", "degeneracy", "prior", "fixed", "precision", "polish", "acceleration")
CONSTANT = 1e-12  # a parameter that varies by no more than this share of itself does not vary


class Missing(IntEnum):
    """Why a parameter has no bootstrap standard error or interval."""

    NONE = 0  # it has one
    NO_FIT = 1  # the dataset has no valid fit
    ONE_UNIT = 2  # a single unit cannot be resampled: use kind="parametric"
    TOO_FEW = 3  # too few valid replicates for this level
    CONSTANT = 4  # the same in all replicates: fixed, or at the edge of its space
    NO_ACCELERATION = 5  # not identified at the fit, so that BCa has no acceleration


@dataclass(frozen=True)
class BootstrapIntervals:
    """Confidence limits and `Missing` codes, records like the parameters'. level : of confidence. kind : of them."""

    lower: Params
    upper: Params
    reason: Params
    level: float
    kind: str


@dataclass(frozen=True)
class Bootstrap:
    """Bootstrap replicates of fits, in the user's units. Arrays lead with the axis D of `Fits`, and have none of `Fit`.

    fits : what was resampled. kind : how. params : (D, B, ...), the labels put in the order of the fit's.
    log_likelihood (D, B) : nats, of the replicates' own data. status (D, B) : `Status`, RUNNING where the dataset was
    not resampled. se : standard deviations over the valid replicates. reason : `Missing` codes, a record like `se`.
    level : of `intervals` by default.
    """

    fits: Fit | Fits
    kind: str
    params: Params
    log_likelihood: Any
    status: Any
    se: Params
    reason: Params
    level: float

    @property
    def valid(self) -> Any:
        """Which replicates ended at a valid optimum, (D, B) bool."""
        return choice.eligible(self.status)

    def status_counts(self) -> dict[str, int]:
        """How many replicates ended with each status."""
        found = Counter(int(status) for status in np.ravel(self.status))
        return {s.name: found[int(s)] for s in Status if found[int(s)] or s == Status.CONVERGED}

    def intervals(self, kind: str = "percentile", level: float | None = None) -> BootstrapIntervals:
        """Confidence intervals from the replicates (Davison & Hinkley 1997, chapter 5).

        "percentile" : order statistics at (B + 1) p, between two of them interpolated on the normal scale. "basic" :
        twice the estimate less those. "bca" : percentiles corrected for bias, and for skewness by the influence of the
        units (Efron 1987). B counts valid replicates; an order statistic beyond the first or the last is NaN with the
        reason TOO_FEW. Errors: `DataError` for another kind or level, and for BCa of models without `terms`.
        """
        if kind not in INTERVALS:
            raise DataError(f"kind={kind!r}: use one of {', '.join(INTERVALS)}.")
        level = self.level if level is None else check_level(level)
        single = isinstance(self.fits, Fit)
        lifted = (
            jax.tree.map(lambda a: np.asarray(a)[None], (self.params, self.status, self.reason)) if single else None
        )
        params, status, given = lifted or (self.params, self.status, self.reason)
        at = after.point(self.fits)
        reason, estimate = parameters.flatten(given, 1), parameters.flatten(at.params, 1)
        values = np.where(choice.eligible(status)[:, :, None], parameters.flatten(params, 2), np.nan)
        tails = np.broadcast_to(np.array([0.5 - 0.5 * level, 0.5 + 0.5 * level])[:, None, None], (2, *estimate.shape))
        if kind == "bca":
            with np.errstate(all="ignore"):
                tails = percentiles.corrected(values, estimate, influence.acceleration(self.fits), tails)
            reason = np.where((reason == 0) & np.any(np.isnan(tails), axis=0), Missing.NO_ACCELERATION, reason)
        lower, upper = (percentiles.order_statistics(values, tail) for tail in tails)
        if kind == "basic":
            lower, upper = 2.0 * estimate - upper, 2.0 * estimate - lower
        lost = np.isnan(lower) | np.isnan(upper)
        reason = np.where((reason == 0) & lost, Missing.TOO_FEW, reason)
        limits = [np.where(reason == Missing.NONE, limit, np.nan) for limit in (lower, upper)]
        found = [parameters.unflatten(a, at.params) for a in (*limits, reason)]
        lower, upper, reason = jax.tree.map(lambda a: a[0], found) if single else found
        return BootstrapIntervals(lower, upper, reason, level, kind)


def bootstrap(
    fits: Fit | Fits,
    key: Any,
    replicates: int = 399,
    kind: str = "parametric",
    restarts: int = 0,
    level: float = 0.95,
    *,
    race: Race | None = None,
    certificate: bool | None = False,
    threads: int | None = None,
) -> Bootstrap:
    """Refit every dataset on bootstrap replicates of itself.

    kind : "parametric", responses drawn from the fit on the dataset's own design; "nonparametric", units drawn with
    replacement, by weights; "weighted", exponential weights of the units. See `resampling.Draw`. Sequences, documents
    and groups are drawn as wholes; frequency weights count as so many units.
    restarts : beside the start at the fit so many random ones, the better objective kept. EM cannot move a probability
    off 0: with a fit on such a boundary, ask for some. race : of those restarts, see `fit_many`.
    certificate : False saves the second pass over each replicate. Other settings are those of the fits.
    key : as for `fit_many`. A replicate depends on its dataset, the dataset's name, its number, the key and the
    settings alone.

    Returns `Bootstrap`. Errors: `DataError` for settings that are not known, for the nonparametric and weighted
    bootstraps where every dataset is a single unit, such as one sequence (use the parametric one), and for a parametric
    one of weights that are not whole numbers.
    """
    for name, value, smallest in (("replicates", replicates, 2), ("restarts", restarts, 0)):
        fitting.check_whole(name, value, smallest)
    at, root = after.point(fits), keys.root_key(key)
    resampling.check(at.model, kind)
    level = check_level(level)
    lost = _lost(at, np.atleast_1d(np.asarray(fits.status)), kind)
    ids = [fits.ids] if isinstance(fits, Fit) else list(fits.ids)
    refit = Refit(
        root,
        restarts,
        race,
        {name: getattr(fits.settings, name) for name in OF_FITS} | {"certificate": certificate, "threads": threads},
    )
    labels = Labels.of(fits, at, threads)
    shape = (len(at.positions), replicates)
    params = jax.tree.map(lambda a: np.full((*shape, *np.shape(a)[1:]), np.nan), at.params)
    log_likelihood, status = np.full(shape, np.nan), np.full(shape, int(Status.RUNNING), np.int32)
    for block in resampling.blocks(at, np.flatnonzero(lost == Missing.NONE), ids, root, kind, replicates):
        start = jax.tree.map(lambda a: np.asarray(a)[block.rows], at.params)  # noqa: B023
        found, *scalars = refit(at.model, block, start)
        found = labels.aligned(found, block.rows)
        where = block.rows, block.numbers
        for room, values in zip(jax.tree.leaves(params), jax.tree.leaves(found), strict=True):
            room[where] = values
        log_likelihood[where], status[where] = scalars
    se, reason = _standard_errors(parameters.flatten(params, 2), choice.eligible(status), lost)
    records = [params, log_likelihood, status, *(parameters.unflatten(a, at.params) for a in (se, reason))]
    params, log_likelihood, status, se, reason = (
        jax.tree.map(lambda a: a[0], records) if isinstance(fits, Fit) else records
    )
    return Bootstrap(fits, kind, params, log_likelihood, status, se, reason, level)


def _lost(at: after.Point, status: np.ndarray, kind: str) -> np.ndarray:
    """`Missing` codes of the datasets, (D,). Errors: `DataError` where the first of them shows it."""
    lost = np.where(choice.eligible(status), Missing.NONE, Missing.NO_FIT)
    for row in np.flatnonzero(lost == Missing.NONE):
        try:
            data = resampling.dataset(at, int(row), kind)
        except DataError as error:
            raise DataError(f"Dataset {row}: {error}") from None
        if kind != "parametric" and resampling.n_units(data) < 2:
            lost[row] = Missing.ONE_UNIT
    if np.any(lost == Missing.ONE_UNIT) and not np.any(lost == Missing.NONE):
        raise DataError(
            f"kind={kind!r} resamples independent units, and each dataset is a single one, such as one sequence: use "
            "kind='parametric'."
        )
    return lost


@dataclass(frozen=True)
class Refit:
    """How a replicate is fitted: from the fit, and from random starts where there are restarts."""

    root: np.ndarray
    restarts: int
    race: Race | None
    settings: dict[str, Any]

    def __call__(self, model: Any, block: resampling.Block, start: Params) -> tuple[Params, np.ndarray, np.ndarray]:
        """Params, log-likelihoods and statuses of the block's datasets."""
        found = fitting.fit_many(model, block.data, self.root, start=start, ids=block.names, **self.settings)
        fits = [found]
        if self.restarts and found.complete:
            settings = {**self.settings, "restarts": self.restarts, "race": self.race}
            fits.append(fitting.fit_many(model, block.data, self.root, ids=block.names, **settings))
        if not fits[-1].complete:
            raise KeyboardInterrupt
        params, log_likelihood, status = found.params, found.log_likelihood, found.status
        if len(fits) == 2:
            value = [
                np.where(choice.eligible(f.status), np.nan_to_num(f.objective, nan=-np.inf), -np.inf) for f in fits
            ]
            other = value[1] > value[0]

            def better(a: np.ndarray, b: np.ndarray) -> np.ndarray:
                return np.where(other.reshape(-1, *[1] * (np.ndim(a) - 1)), b, a)

            pairs = ((f.params, f.log_likelihood, f.status) for f in fits)
            params, log_likelihood, status = jax.tree.map(better, *pairs)
        return params, log_likelihood, status


def _standard_errors(values: np.ndarray, valid: np.ndarray, lost: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Standard deviations over valid replicates of values (D, B, L), and `Missing` codes, both (D, L)."""
    used = valid[:, :, None]
    count = np.sum(valid, axis=1)[:, None]
    mean = np.sum(np.where(used, values, 0.0), axis=1) / np.maximum(count, 1)
    deviation = np.where(used, values - mean[:, None, :], 0.0)
    se = np.sqrt(np.sum(deviation**2, axis=1) / np.maximum(count - 1, 1))
    reason = np.where(se <= CONSTANT * np.abs(mean), int(Missing.CONSTANT), int(Missing.NONE))
    reason = np.where(count < 2, int(Missing.TOO_FEW), reason)
    reason = np.where(lost[:, None] != Missing.NONE, lost[:, None], reason)
    return np.where(reason == Missing.NONE, se, np.nan), reason

"""Profile likelihood intervals of one scalar parameter, for every fit of a batch.

The profile of a scalar g is p(c) = max of the objective over all parameters with g = c; a limit of confidence 1 - a is
where 2 (p(best) - p(c)) is the (1 - a) quantile of chi-squared with one degree of freedom (Cox & Hinkley 1974, section
9.3; Venzon & Moolgavkar 1988, Journal of the Royal Statistical Society C 37, 87-94).

Differs from Venzon & Moolgavkar, who solve for the limit and the other coordinates by one Newton iteration, in that
it stays on the surface g = c: Newton steps of the Lagrangian within it, halved until the objective does not fall, and
where those have ended the next c, by Newton's method on the signed root r(c) = sqrt(2 (p(best) - p(c))), nearly linear
in c, inside what brackets the limit; a c where the objective would be far below the limit's is too far to go at once.
So an end is followed continuously from the fit, and a bad step cannot lose it. g is a logit or a logarithm where its
parameter is bounded; the limits do not depend on that.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from statistics import NormalDist
from typing import Any

import jax
import numpy as np

from emjax.base import supports
from emjax.base.status import DataError
from emjax.engine import after, choice, parameters
from emjax.engine.results import Fit, Fits
from emjax.inference import constrained, information
from emjax.inference.newton_polish import uphill
from emjax.inference.percentiles import check_level

ROUNDS = 60  # of one end; most take six to ten
SETTLED = 1e-3  # nats that another step promises: below it the profile is known well enough to move the target
SOLVED = 1e-8  # nats: below it, and so near the quantile, an end is found, to 1e-8 of a standard error or so
NEAR = 1e-3  # of the signed root: so near its end nothing is bracketed, for the profile is not known to rounding
HIGHER = 1e-4  # nats: a fit with so much to gain, or with so much above it on the profile, is not at its maximum
DEEPEST = 1.0  # times the squared signed root: twice the fall to the limit is as deep as the search goes
WIDER = 3.0  # a target is at most so many times as far from the estimate as what is known
FARTHEST = 18.0  # of a logit, and of a logarithm from the estimate: a probability of 1.5e-8
FARTHEST_REAL = 1000.0  # standard errors from the estimate
NUMBERS = 1 << 24  # entries of matrices held at a time, by thread


class End(IntEnum):
    """How the search for one end of an interval ended."""

    FOUND = 0  # there is a limit
    EDGE = 1  # the profile never falls far enough: the limit is the edge of the space, such as 0, or infinite
    FIXED = 2  # held by the user, or by the model: no limit
    BOUNDARY = 3  # the estimate itself is at the edge of its space: no limit
    NOT_IDENTIFIED = 4  # the information is singular, or not positive definite, in its direction: no limit
    NO_FIT = 5  # the dataset has no valid fit
    NOT_A_MAXIMUM = 6  # the fit, or the profile above it, says so: `polish` it first, or fit with more restarts
    NOT_FOUND = 7  # the search did not end: no limit


_OF_REASON = {
    information.Reason.FREE: End.NOT_FOUND,  # until it is found
    information.Reason.FIXED: End.FIXED,
    information.Reason.BOUNDARY: End.BOUNDARY,
    information.Reason.NOT_IDENTIFIED: End.NOT_IDENTIFIED,
    information.Reason.NO_FIT: End.NO_FIT,
    information.Reason.REPLICATES: End.NOT_FOUND,  # of a bootstrap alone
}


@dataclass(frozen=True)
class ProfileIntervals:
    """Profile likelihood intervals, in the user's units: arrays (D,) of `Fits`, numbers of a `Fit`.

    estimate : of the fit. lower, upper : limits, NaN where there is none. lower_end, upper_end : `End` codes, which say
    why. parameter, component : of what, as in `Fits.to_frame`. level : of confidence.
    """

    parameter: str
    component: Any
    level: float
    estimate: Any
    lower: Any
    upper: Any
    lower_end: Any
    upper_end: Any


def profile_intervals(
    fits: Fit | Fits, parameter: str, component: Any = "all", level: float = 0.95, *, threads: int | None = None
) -> ProfileIntervals:
    """Profile likelihood intervals of one entry of the parameters; see the module for the method.

    parameter, component : as `Fits.to_frame` names them, such as "means[0]" of component 1, or "weights" of component
    0; component "all" is what all components share; an array (D,) names a component for each dataset, as labels need.

    With a prior it is the objective that is profiled. Coordinates that the fit has at an edge stay there. The profile
    is followed from the fit: other modes of the likelihood have no part in it. A fit that stopped short of its maximum
    has no limits: `polish` it first.

    Errors: `DataError` for an unknown name, component or level, or a model with parameters of its rows (PLSA).
    """
    at, level = after.point(fits), check_level(level)
    if at.model.row_blocks:
        raise DataError(f"{type(at.model).__name__} has parameters of its rows: it has no profile.")
    entry, support = _entry(at, parameter, component)
    valid = np.atleast_1d(choice.eligible(np.asarray(fits.status)))
    root = NormalDist().inv_cdf(0.5 + 0.5 * level)
    m = int(np.max(fits.n_free)) if np.any(valid) else 0
    begin = _Beginning(at, entry, support, valid, m, threads)
    (lower, lower_end), (upper, upper_end) = (_Search(begin, sign, root).limits() for sign in (-1.0, 1.0))
    found = (begin.estimate, lower, upper, lower_end, upper_end)
    if isinstance(fits, Fit):
        found = tuple(a[0] for a in found)
    return ProfileIntervals(parameter, component, level, *found)


def _entry(at: after.Point, parameter: str, component: Any) -> tuple[np.ndarray, str]:
    """Where in the ravelled parameters the entry stands, (D,), and its support."""
    size = parameters.flatten(at.params).shape[1]
    places = [leaf[0] for leaf in jax.tree.leaves(parameters.unflatten(np.arange(size)[None], at.params))]
    known = jax.tree.leaves(supports.of(at.params))
    components = np.asarray(component, object)
    if components.shape not in ((), (len(at.positions),)):
        raise DataError(
            f"component has shape {components.shape}: give one, or one for each of {len(at.positions)} fits."
        )
    components = np.broadcast_to(components, (len(at.positions),))
    names: list[str] = []
    for block, support, place in zip(parameters.blocks(at.model, at.params, 1), known, places, strict=True):
        for index in parameters.entries(block, 1):
            name = parameters.entry_name(block.name, index)
            names.append(name)
            if name != parameter:
                continue
            if support == supports.COVARIANCE:
                support = supports.POSITIVE if index[-1] == index[-2] else supports.REAL
            if not block.of_components:
                _check_component(components, ["all"], parameter)
                return np.full(len(components), place[index]), support
            _check_component(components, range(len(place)), parameter)
            return place[(components.astype(int), *index)], support
    raise DataError(f"parameter={parameter!r}: this model has {', '.join(names[:30])}.")


def _check_component(given: np.ndarray, allowed: Any, parameter: str) -> None:
    for k in given.tolist():
        if isinstance(k, bool) or k not in allowed:
            raise DataError(f"component={k!r}: {parameter} is of {', '.join(map(str, allowed))}.")


# --- the search, on the host ------------------------------------------------------------------------------------------


class _Beginning:
    """The fits: estimate, g and its standard error, objective at the maximum, all (D,), and the way of the profile."""

    def __init__(
        self, at: after.Point, entry: np.ndarray, support: str, valid: np.ndarray, m: int, threads: int | None
    ) -> None:
        self.at, self.entry, self.support, self.threads = at, entry, support, threads
        self.estimate, self.value, self.se, self.best = np.full((4, len(valid)), np.nan)
        self.tangent = np.zeros((len(valid), m))
        self.end = np.where(valid, End.FIXED if m == 0 else End.NOT_FOUND, End.NO_FIT)
        rows, nothing = np.flatnonzero(valid), np.zeros_like(self.tangent)
        if m == 0 or len(rows) == 0:
            return
        nowhere, anything = np.full(len(valid), np.nan), np.full(len(valid), -np.inf)
        still = (nothing, nothing, nothing, nowhere, anything, np.ones(len(valid)))
        for where, found in self.look(rows, *still):
            variance, reason = information.natural(
                information.Derivatives(found.information, found.information, found.slope[:, None], found.boundary),
                "observed",
            )
            held = found.boundary != 0
            self.end[where] = np.array([_OF_REASON[why] for why in information.Reason])[reason[:, 0]]
            self.estimate[where], self.value[where] = found.parameter, found.value
            self.se[where] = np.sqrt(variance[:, 0, 0])
            score = np.where(held, 0.0, found.score)
            gain = 0.5 * np.sum(score * uphill(score, found.information, held), axis=1)
            self.best[where] = found.objective + gain
            self.end[where] = np.where(
                (gain > HIGHER) & (self.end[where] == End.NOT_FOUND), End.NOT_A_MAXIMUM, self.end[where]
            )
            self.tangent[where] = constrained.directions(found).tangent

    def look(self, rows: np.ndarray, *move: np.ndarray) -> Iterator[tuple[np.ndarray, constrained.Point]]:
        """What `constrained.Examine` finds at some of the fits, in parts, from arrays (D, ...)."""
        params = jax.tree.map(lambda a: a[rows], self.at.params)
        part = self.at._replace(positions=self.at.positions[rows], params=params)
        extra = constrained.Move(*(a[rows] for a in (*move, self.entry)))
        chunk = max(1, min(after.CHUNK, NUMBERS // self.tangent.shape[1] ** 2))
        for where, found, _ in after.over(
            part, constrained.Examine(self.support), extra, chunk=chunk, threads=self.threads
        ):
            with np.errstate(all="ignore"):
                yield rows[where], found


class _Search:
    """One end of every interval; `away` is how far g is from its estimate, outwards, (D,)."""

    def __init__(self, begin: _Beginning, sign: float, root: float) -> None:
        self.begin, self.sign, self.root = begin, sign, root
        self.end, self.limit = begin.end.copy(), np.full(len(begin.end), np.nan)
        self.going = self.end == End.NOT_FOUND
        self.offset, self.step = np.zeros_like(begin.tangent), np.zeros_like(begin.tangent)
        self.tangent = begin.tangent.copy()
        self.farthest = np.full(len(begin.end), FARTHEST)
        if begin.support == supports.REAL:
            self.farthest = FARTHEST_REAL * begin.se
        elif begin.support == supports.PROBABILITY:
            self.farthest = FARTHEST - sign * begin.value
        self.target = np.minimum(root * begin.se, self.farthest)
        self.inside, self.outside = np.zeros(len(begin.end)), np.full(len(begin.end), np.inf)

    def limits(self) -> tuple[np.ndarray, np.ndarray]:
        """Limits and `End` codes, (D,)."""
        for _ in range(ROUNDS):
            rows = np.flatnonzero(self.going)
            if len(rows) == 0:
                break
            goal, lowest = self.begin.value + self.sign * self.target, self.begin.best - DEEPEST * self.root**2
            move = (self.offset, self.step, self.tangent, goal, lowest, self.begin.se)
            for where, found in self.begin.look(rows, *move):
                self._judge(where, found)
        return self.limit, self.end

    def _judge(self, rows: np.ndarray, found: constrained.Point) -> None:
        ways = constrained.directions(found)
        self.offset[rows], self.step[rows], self.tangent[rows] = found.offset, ways.step, ways.tangent
        se, target = self.begin.se[rows], self.target[rows]
        away = self.sign * (found.value - self.begin.value[rows])
        reached = np.abs(away - target) <= constrained.CLOSE * se
        settled = reached & (ways.gain < SETTLED)
        drop = self.begin.best[rows] - found.objective - ways.gain
        known = settled & (ways.gain < SOLVED)
        solved = known & (np.abs(2.0 * drop - self.root**2) < SOLVED)
        root = np.sqrt(2.0 * np.maximum(drop, 0.0))
        self._close(rows[solved], End.FOUND, found.parameter[solved])
        self._close(rows[settled & (drop < -HIGHER)], End.NOT_A_MAXIMUM, np.nan)
        self._close(rows[known & (target >= self.farthest[rows]) & (root < self.root)], End.EDGE, self._edge())
        self.inside[rows] = np.where(settled & (root < self.root - NEAR), away, self.inside[rows])
        self.outside[rows] = np.where(settled & (root > self.root + NEAR), away, self.outside[rows])
        following = self._following(rows, away, root, -self.sign * ways.multiplier)
        self.target[rows] = np.where(settled, following, np.where(reached, target, 0.5 * (target + away)))

    def _following(self, rows: np.ndarray, away: np.ndarray, root: np.ndarray, falling: np.ndarray) -> np.ndarray:
        """The next target by Newton's method on the signed root, inside its bracket."""
        inside, outside = self.inside[rows], self.outside[rows]
        found = away + (self.root - root) * root / falling
        found = np.where((falling > 0) & np.isfinite(found), found, np.inf)
        between = np.where(np.isfinite(outside), 0.5 * (inside + outside), WIDER * away)
        found = np.where((found > inside) & (found < np.minimum(outside, WIDER * away)), found, between)
        return np.minimum(found, self.farthest[rows])

    def _close(self, rows: np.ndarray, end: End, limit: Any) -> None:
        self.end[rows], self.limit[rows], self.going[rows] = end, limit, False

    def _edge(self) -> float:
        if self.begin.support == supports.REAL or (self.sign > 0 and self.begin.support == supports.POSITIVE):
            return self.sign * np.inf
        return 0.0 if self.sign < 0 else 1.0

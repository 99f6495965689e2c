"""A few damped Newton steps from where the fits ended: EM's last digits come slowly, Newton's at once.

In free coordinates phi, with score g and observed information I of the objective, a step is |I|^-1 g, where |I| has the
absolute values of I's eigenvalues, so that it goes uphill also where I is not positive definite; it is halved until the
objective does not fall (Dennis & Schnabel 1983, sections 5.5 and 6.3). Coordinates at an edge stay where they are.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from emjax.base.protocols import Model
from emjax.base.records import Array, Params
from emjax.base.settings import Degeneracy
from emjax.base.status import DataError, Flag
from emjax.engine import after, certificate, choice, derivatives, em
from emjax.engine.fitting import check_whole
from emjax.engine.results import Fit, Fits

SCALES = (1.0, 0.5, 0.25, 1.0 / 16.0, 1.0 / 64.0)  # of a step, from the longest
LONGEST = 3.0  # a step in free coordinates of prepared data
FLAT = 1e-10  # an eigenvalue is taken for at least this share of the largest
NUMBERS = 1 << 24  # entries of information matrices held at a time, by thread

Record = TypeVar("Record", Fit, Fits)


class _Point(NamedTuple):
    """One dataset at some parameters: nats, free coordinates (m,), score (m,), information (m, m)."""

    objective: Array
    log_likelihood: Array
    collapsed: Array
    free: Array
    score: Array
    information: Array
    boundary: Array


@dataclass(frozen=True)
class _Examine:
    """Static, so that equal questions share one compile."""

    degeneracy: Degeneracy

    def __call__(self, model: Model, fitted: after.Fitted, extra: Any) -> _Point:
        prepared, given = fitted.prepared, fitted.params
        expectation = model.expect(given, prepared)
        flags = model.flags(given, expectation.statistics, prepared, self.degeneracy)
        params = model.canonical(given, prepared)
        boundary = model.boundary(params, prepared)
        free = model.to_free(params, prepared)
        inside = derivatives.inside(free, boundary)
        score, information = derivatives.score_and_information(
            model, lambda free: em.objective_at(model, model.from_free(free, prepared, params), prepared), inside
        )
        objective = em.objective_of(model, given, prepared, expectation.log_likelihood)
        degenerate = (flags & Flag.DEGENERATE) > 0
        return _Point(objective, expectation.log_likelihood, degenerate, free, score, information, boundary)


def _moved(model: Model, fitted: after.Fitted, step: Array) -> Params:
    """User's parameters, in the labels they had, at the longest part of a step that does not lower the objective."""
    prepared = fitted.prepared
    order = model.order(fitted.params, prepared)
    params = model.canonical(fitted.params, prepared)
    free = model.to_free(params, prepared)

    def at(scale: Array) -> Params:
        return model.from_free(free + scale * step, prepared, params)

    scales = jnp.array((*SCALES, 0.0), free.dtype)
    values = jax.lax.map(lambda scale: em.objective_at(model, at(scale), prepared), scales)
    found = at(scales[jnp.argmax(values >= values[-1])])  # the first that is not lower; the last, no step, is not
    if order is not None:
        found = model.relabel(found, jnp.argsort(order))
    return model.to_user(found, prepared)


def polish(fits: Record, steps: int = 5, *, threads: int | None = None) -> Record:
    """The fits, each taken to its maximum by at most `steps` damped Newton steps in free coordinates.

    A step is kept only where the objective does not fall, the score shrinks or the objective rises, and no component
    collapses by the settings of the fit; so no fit ends lower than it was. Of what is kept come `params`, `objective`,
    `log_likelihood`, `remaining` (the gain that one more Newton step promises) and the `certificate`; status, flags,
    iterations and the landscape stay as they were. Datasets without a valid fit are returned as they are.

    Errors: `DataError` for a number of steps below 1, or a model with parameters of its rows (PLSA).
    """
    check_whole("steps", steps, 1)
    at = after.point(fits)
    if at.model.row_blocks:
        raise DataError(f"{type(at.model).__name__} has parameters of its rows: its information is not computed.")
    valid = np.atleast_1d(choice.eligible(np.asarray(fits.status)))
    state = _State(at, fits.settings.degeneracy, valid, threads)
    for _ in range(steps):
        if not np.any(state.going):
            break
        state.advance()
    found = {
        "params": state.params,
        "objective": np.where(state.accepted, state.objective, fits.objective),
        "log_likelihood": np.where(state.accepted, state.log_likelihood, fits.log_likelihood),
        "remaining": np.where(state.accepted & np.isfinite(state.gain), state.gain, fits.remaining),
    }
    own = certificate.Certificate(state.score_norm, state.gain, state.eigenvalue)
    known = valid & np.isfinite(state.score_norm)
    found["certificate"] = certificate.Certificate(
        *(np.where(known, new, old) for new, old in zip(own, fits.certificate, strict=True))
    )
    if isinstance(fits, Fit):
        found = jax.tree.map(lambda a: a[0], found)
    return replace(fits, **found)


class _State:
    """Where all datasets stand; what is m x m is held for one chunk at a time."""

    def __init__(self, at: after.Point, degeneracy: Degeneracy, valid: np.ndarray, threads: int | None) -> None:
        count = len(valid)
        self.at, self.examine, self.threads = at, _Examine(degeneracy), threads
        self.params = jax.tree.map(lambda a: np.array(a), at.params)
        self.objective, self.log_likelihood = np.full((2, count), np.nan)
        self.score_norm, self.gain, self.eigenvalue = np.full((3, count), np.nan)
        self.steps = np.zeros((count, 0))
        self.accepted, self.going = np.zeros(count, bool), valid.copy()
        rows = np.flatnonzero(valid)
        if len(rows):
            self._take(rows, *self._examined(rows, jax.tree.map(lambda a: a[rows], self.params)))

    def _over(self, rows: np.ndarray, params: Params, function: Any, extra: Any, chunk: int) -> Any:
        part = self.at._replace(positions=self.at.positions[rows], params=params)
        return after.over(part, function, extra, chunk=chunk, threads=self.threads)

    def _examined(self, rows: np.ndarray, params: Params) -> tuple[np.ndarray, np.ndarray]:
        """Numbers (6, len(rows)) and next steps (len(rows), m) at parameters with the leading axis of `rows`."""
        numbers, steps = np.full((6, len(rows)), np.nan), None
        chunk = max(1, min(after.CHUNK, NUMBERS // max(1, self._size() ** 2)))
        for where, found, _ in self._over(rows, params, self.examine, None, chunk):
            verdict = certificate.examine(found.free, found.score, found.information, found.boundary)
            numbers[:3, where] = found.objective, found.log_likelihood, found.collapsed
            numbers[3:, where] = verdict.certificate
            steps = np.zeros((len(rows), found.free.shape[1])) if steps is None else steps
            steps[where] = newton_step(found.score, found.information, found.boundary != 0)
        assert steps is not None
        return numbers, steps

    def _size(self) -> int:
        return sum(int(np.prod(np.shape(leaf)[1:])) for leaf in jax.tree.leaves(self.params))

    def _take(self, rows: np.ndarray, numbers: np.ndarray, steps: np.ndarray) -> None:
        if self.steps.shape[1] != steps.shape[1]:
            self.steps = np.zeros((len(self.steps), steps.shape[1]))
        self.objective[rows], self.log_likelihood[rows] = numbers[0], numbers[1]
        self.score_norm[rows], self.gain[rows], self.eigenvalue[rows] = numbers[3:]
        self.steps[rows] = steps
        self.going[rows] = np.any(steps != 0, axis=1)

    def advance(self) -> None:
        """One step of every dataset that is still going."""
        rows = np.flatnonzero(self.going)
        before = jax.tree.map(lambda a: a[rows], self.params)
        tried = jax.tree.map(np.array, before)
        for where, found, _ in self._over(rows, before, _moved, self.steps[rows], after.CHUNK):
            for leaf, new in zip(jax.tree.leaves(tried), jax.tree.leaves(found), strict=True):
                leaf[where] = new
        numbers, steps = self._examined(rows, tried)
        objective, score = numbers[0], numbers[3]
        with np.errstate(invalid="ignore"):
            better = (objective > self.objective[rows]) | (score < self.score_norm[rows])
            better &= (objective >= self.objective[rows]) & (numbers[2] == 0)
        self.going[rows[~better]] = False
        took = rows[better]
        for leaf, new in zip(jax.tree.leaves(self.params), jax.tree.leaves(tried), strict=True):
            leaf[took] = new[better]
        self.accepted[took] = True
        self._take(took, numbers[:, better], steps[better])


def newton_step(score: np.ndarray, information: np.ndarray, held: np.ndarray) -> np.ndarray:
    """`uphill`, no longer than `LONGEST`."""
    step = uphill(score, information, held)
    length = np.linalg.norm(step, axis=1, keepdims=True)
    return step * np.minimum(1.0, LONGEST / np.maximum(length, LONGEST))


def uphill(score: np.ndarray, information: np.ndarray, held: np.ndarray) -> np.ndarray:
    """|I|^-1 g (C, m) of scores (C, m) and information (C, m, m); 0 where held, or where something is not finite."""
    m = score.shape[1]
    if m == 0:
        return score
    both = held[:, :, None] | held[:, None, :]
    matrix, inner = np.where(both, 0.0, information), np.where(held, 0.0, score)
    usable = np.all(np.isfinite(matrix), axis=(1, 2)) & np.all(np.isfinite(inner), axis=1)
    matrix = np.where(usable[:, None, None], matrix, 0.0)
    values, vectors = np.linalg.eigh(matrix)
    size = np.abs(values)
    size = np.maximum(size, FLAT * np.max(size, axis=1, keepdims=True))
    along = np.einsum("cij,ci->cj", vectors, np.where(usable[:, None], inner, 0.0))
    with np.errstate(divide="ignore", invalid="ignore"):
        step = np.einsum("cij,cj->ci", vectors, np.where(size > 0, along / size, 0.0))
    return np.where(held, 0.0, step)

"""Standard errors of every fit of a batch, from the information: observed, scores, sandwich.

With free coordinates phi, observed information I (of the objective) and the scores s_t of the terms of the
log-likelihood, weighted by w_t, the covariance of phi is

    observed   I^-1                                     (Fisher; Efron & Hinkley 1978)
    opg        M^-1,  M = sum_t w_t s_t s_t'            (Berndt, Hall, Hall & Hausman 1974)
    sandwich   I^-1 M I^-1                              (Huber 1967; White 1982)
    cluster    I^-1 M_c I^-1, M_c from sums of the scores over the independent units of the data

and that of the natural parameters J cov J' by the delta method. Frequency weights count a unit w times,
w s s'; sampling weights are the unit's share, w^2 s s'. A coordinate at the edge of its space, or one that the data do
not identify, is left out; what depends on it has no standard error, and a reason why.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from emjax.base.protocols import Model
from emjax.base.records import Array, Params
from emjax.base.status import DataError
from emjax.engine import after, choice, derivatives, em, parameters
from emjax.engine.results import Fit, Fits

KINDS = ("observed", "opg", "sandwich", "cluster")
SINGULAR = 1e-10  # an eigenvalue of the information, scaled to a unit diagonal, below this is 0
FLAT = 1e-14  # a diagonal entry below this, of the largest, is rounding
TOUCHED = 1e-6  # a share of a parameter's gradient, or of a null vector, below this is rounding


class Reason(IntEnum):
    """Why a parameter has a standard error, or has none."""

    FREE = 0  # it has one
    FIXED = 1  # held by the user, or by the model
    BOUNDARY = 2  # at the edge of its space
    NOT_IDENTIFIED = 3  # the information is singular, or not positive definite, in its direction
    NO_FIT = 4  # the dataset has no valid fit
    REPLICATES = 5  # in a study: too few valid bootstrap replicates


@partial(jax.tree_util.register_dataclass, data_fields=["params", "se", "reason", "covariance"], meta_fields=["kind"])
@dataclass(frozen=True)
class StandardErrors:
    """Standard errors of fitted parameters, in the user's units; arrays lead with the datasets' axis D of `Fits`.

    params : the estimates. se : the same record, NaN where there is none. reason : the same, `Reason` codes. kind : how
    they were computed. covariance (D, L, L) : of the parameters flattened in the order of `jax.tree.leaves`, NaN where
    there is none; None unless asked for.
    """

    params: Params
    se: Params
    reason: Params
    kind: str
    covariance: Any


def standard_errors(
    fits: Fit | Fits,
    kind: str = "observed",
    *,
    weights: str = "frequency",
    lags: int = 0,
    clusters: Any = None,
    covariance: bool = False,
    threads: int | None = None,
) -> StandardErrors:
    """Standard errors of every parameter of every fit; see the module for the formulas.

    kind : "observed", "opg", "sandwich" or "cluster". weights : "frequency" or "sampling". lags : of a Newey-West meat
    (Bartlett weights; 1987) over successive terms of a unit, for the time steps of hidden Markov models. clusters : ids
    (U,) or (D, U) of groups of units, for kind "cluster"; by default the units, such as sequences. covariance : also
    the covariance matrices.

    Errors: `DataError` for settings that are not known, and for a model of one's own that jax cannot differentiate
    (twice, but for kind "opg").
    """
    meat = _Meat(*_checked(kind, weights, lags))
    at = after.point(fits)
    if at.model.row_blocks:
        name = type(at.model).__name__
        raise DataError(f"{name} has parameters of each row of its data, hence no standard errors: see to_frame().")
    extra = _clusters(clusters, at) if kind == "cluster" else None
    template = jax.tree.map(lambda a: a[0], at.params)
    size = ravel_pytree(template)[0].shape[0]
    valid = np.atleast_1d(choice.eligible(np.asarray(fits.status)))
    se, reason = np.full((len(valid), size), np.nan), np.full((len(valid), size), int(Reason.NO_FIT))
    matrices = np.full((len(valid), size, size), np.nan) if covariance else None
    with np.errstate(all="ignore"):
        for rows, found, _ in after.over(at, meat, extra, threads=threads):
            part, why = natural(found, kind)
            reason[rows] = np.where(valid[rows, None], why, Reason.NO_FIT)
            good = reason[rows] == Reason.FREE
            se[rows] = np.where(good, np.sqrt(np.diagonal(part, axis1=1, axis2=2)), np.nan)
            if matrices is not None:
                matrices[rows] = np.where(good[:, :, None] & good[:, None, :], part, np.nan)
    single = isinstance(fits, Fit)
    errors, reasons = (parameters.unflatten(values, at.params) for values in (se, reason))
    result = StandardErrors(at.params, errors, reasons, kind, matrices)
    return jax.tree.map(lambda a: a[0], result) if single else result


def _checked(kind: str, weights: str, lags: int) -> tuple[str, bool, int]:
    if kind not in KINDS:
        raise DataError(f"kind={kind!r}: use one of {', '.join(KINDS)}.")
    if weights not in ("frequency", "sampling"):
        raise DataError(f"weights={weights!r}: use 'frequency' or 'sampling'.")
    if isinstance(lags, bool) or not isinstance(lags, (int, np.integer)) or lags < 0:
        raise DataError(f"lags={lags!r}: give a whole number, 0 or larger.")
    if lags and kind not in ("opg", "sandwich"):
        raise DataError(f"lags={lags} goes with kind='opg' or 'sandwich', not {kind!r}.")
    return kind, weights == "sampling", int(lags)


def _clusters(given: Any, at: after.Point) -> Any:
    """Ids of groups of units as (D, U) whole numbers from 0, or None."""
    if given is None:
        return None
    ids = np.asarray(given)
    found = np.unique(ids, return_inverse=True)[1].reshape(ids.shape)
    return np.broadcast_to(found, (len(at.positions), ids.shape[-1])).astype(np.int32)


# --- traced: one dataset ----------------------------------------------------------------------------------------------


class Derivatives(NamedTuple):
    """At one fit, free coordinates (m,): information (m, m), meat (m, m), Jacobian (L, m) of the user's parameters in
    the fit's own labels, which coordinates are at an edge (m,)."""

    information: Array
    meat: Array
    jacobian: Array
    boundary: Array


@dataclass(frozen=True)
class _Meat:
    """What is differentiated: static, so that equal questions share one compile."""

    kind: str
    sampling: bool
    lags: int

    def __call__(self, model: Model, fitted: after.Fitted, extra: Any) -> Derivatives:
        prepared, params = fitted.prepared, fitted.params
        order = model.order(params, prepared)
        params = model.canonical(params, prepared)
        boundary = model.boundary(params, prepared)
        free = derivatives.inside(model.to_free(params, prepared), boundary)

        def at(free: Array) -> Params:
            return model.from_free(free, prepared, params)

        def natural(free: Array) -> Array:
            inside = at(free)
            if order is not None:
                inside = model.relabel(inside, jnp.argsort(order))
            return ravel_pytree(model.to_user(inside, prepared))[0]

        information = meat = jnp.zeros((free.shape[0],) * 2, free.dtype)
        if self.kind != "opg":
            _, information = derivatives.score_and_information(
                model, lambda free: em.objective_at(model, at(free), prepared), free
            )
        if self.kind != "observed":
            meat = self._meat(model, prepared, at, free, extra)
        return Derivatives(information, meat, jax.jacfwd(natural)(free), boundary)

    def _meat(self, model: Model, prepared: Any, at: Any, free: Array, extra: Any) -> Array:
        terms, weight, scores = derivatives.scores(model, prepared, at, free)
        size = weight.shape[0]
        if self.kind == "cluster":
            cluster = terms.cluster
            if extra is not None:
                cluster = jnp.pad(extra, (0, max(0, size - extra.shape[0])), mode="edge")[cluster]
            scores = jax.ops.segment_sum((scores * self._root(weight)[None, :]).T, cluster, size).T
            return scores @ scores.T
        scores = scores * self._root(weight)[None, :]
        meat = scores @ scores.T
        for lag in range(1, self.lags + 1):
            together = (terms.cluster[lag:] == terms.cluster[:-lag]).astype(free.dtype)
            cross = (scores[:, lag:] * together[None, :]) @ scores[:, :-lag].T
            meat = meat + (1.0 - lag / (self.lags + 1.0)) * (cross + cross.T)
        return meat

    def _root(self, weight: Array) -> Array:
        return weight if self.sampling else jnp.sqrt(weight)


# --- on the host: small matrices ------------------------------------------------------------------------------------


def natural(found: Derivatives, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Covariances (C, L, L) of the user's parameters, and `Reason` codes (C, L)."""
    held = found.boundary != 0
    bread, lost = inverse(found.meat if kind == "opg" else found.information, held)
    covariance = bread
    if kind in ("sandwich", "cluster"):
        covariance = bread @ found.meat @ bread
    jacobian = found.jacobian
    matrices = jacobian @ covariance @ np.swapaxes(jacobian, 1, 2)
    size = np.max(np.abs(jacobian), axis=2, keepdims=True)
    touched = (np.abs(jacobian) > TOUCHED * size) & (size > 0)
    reason = np.full(jacobian.shape[:2], int(Reason.FREE))
    reason[np.any(touched & lost[:, None, :], axis=2)] = Reason.NOT_IDENTIFIED
    reason[np.any(touched & (found.boundary == 2)[:, None, :], axis=2)] = Reason.NOT_IDENTIFIED
    reason[np.any(touched & (found.boundary == 1)[:, None, :], axis=2)] = Reason.BOUNDARY
    reason[size[:, :, 0] == 0] = Reason.FIXED
    return matrices, reason


def inverse(matrix: np.ndarray, held: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Inverses of symmetric matrices (C, m, m) without the held coordinates (C, m), whose rows are 0.

    Also which other coordinates (C, m) have no variance: those with a part in the directions in which the matrix is
    not positive, judged on the scale of a unit diagonal; their rows are 0 as well.
    """
    count, m, _ = matrix.shape
    if m == 0:
        return matrix, held
    usable = np.all(np.isfinite(np.where(held[:, :, None] | held[:, None, :], 0.0, matrix)), axis=(1, 2))
    out = held | ~usable[:, None]
    diagonal = np.diagonal(matrix, axis1=1, axis2=2)
    largest = np.max(np.where(out, 0.0, diagonal), axis=1, initial=0.0, keepdims=True)
    flat = ~out & ~(diagonal > FLAT * largest)
    out = out | flat
    scale = np.where(out, 1.0, 1.0 / np.sqrt(np.where(out, 1.0, diagonal)))
    both = out[:, :, None] | out[:, None, :]
    scaled = np.where(both, 0.0, np.where(usable[:, None, None], matrix, 0.0) * scale[:, :, None] * scale[:, None, :])
    scaled[:, np.arange(m), np.arange(m)] = 1.0
    values, vectors = np.linalg.eigh(scaled)
    null = values < SINGULAR
    lost = np.any((np.abs(vectors) > np.sqrt(TOUCHED)) & null[:, None, :], axis=2) & ~out
    inner = np.einsum("cij,cj,ckj->cik", vectors, np.where(null, 0.0, 1.0 / np.where(null, 1.0, values)), vectors)
    gone = out | lost
    inner = np.where(gone[:, :, None] | gone[:, None, :], 0.0, inner) * scale[:, :, None] * scale[:, None, :]
    return inner, (lost | flat | ~usable[:, None]) & ~held

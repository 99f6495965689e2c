"""What a study stores: one scenario's replicates under one method, as they were fitted, labels unaligned."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np


class Entry(NamedTuple):
    """One scalar of a method's parameters.

    parameter : such as "means[0]". component : 0 to K - 1 as in the arrays, or "all" for what components share.
    """

    parameter: str
    component: Any


class Outcomes(NamedTuple):
    """Replicates of one scenario under one method, N of them; L scalars in the order of the method's `Entry` list.

    replicate (N,) : their numbers. status, flags (N,) : codes of `Status` and `Flag`. log_likelihood (N,) nats.
    iterations (N,) : of the chosen restart. share_best (N,) : of the restarts, those within 1e-3 nats of the best.
    estimate, se, lower, upper, truth (N, L) : in the user's units, NaN where there is none; lower and upper are those
    of the method's confidence level. reason (N, L) : why there is no standard error, codes of `Reason`.
    overlap (N, K, K) : rows, by posterior weight, of true component k (last axis) in fitted component j; K = 0 where
    the true labels are not known. covariance (N, L, L) of the estimates, or (N, 0, 0) where it was not kept.
    """

    replicate: np.ndarray
    status: np.ndarray
    flags: np.ndarray
    log_likelihood: np.ndarray
    iterations: np.ndarray
    share_best: np.ndarray
    estimate: np.ndarray
    se: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    truth: np.ndarray
    reason: np.ndarray
    overlap: np.ndarray
    covariance: np.ndarray


class Cell(NamedTuple):
    """One scenario under one method. scenario : its factors and their levels, plain values. moves : by permutation of
    the components (a tuple of K), from where each entry comes, (L,), so that relabelled values are
    `estimate[:, moves[permutation]]`; only the identity where the method's parameters have no labels."""

    scenario: dict[str, Any]
    method: str
    entries: tuple[Entry, ...]
    moves: dict[tuple[int, ...], np.ndarray]
    outcomes: Outcomes


FITTED = ("estimate", "se", "lower", "upper", "reason")  # what an entry has of its own, beside its true value


def of_entries(outcomes: Outcomes, which: Any) -> Outcomes:
    """Some of the entries, `which` (l,), in this order."""
    found = {name: getattr(outcomes, name)[:, which] for name in (*FITTED, "truth")}
    if outcomes.covariance.shape[1]:
        found["covariance"] = outcomes.covariance[:, which][:, :, which]
    return outcomes._replace(**found)


def rearranged(outcomes: Outcomes, origin: np.ndarray) -> Outcomes:
    """What was fitted, moved replicate by replicate: each entry comes from `origin` (N, L); true values stay."""
    found = {name: np.take_along_axis(getattr(outcomes, name), origin, axis=1) for name in FITTED}
    if outcomes.covariance.shape[1]:
        moved = np.take_along_axis(outcomes.covariance, origin[:, :, None], axis=1)
        found["covariance"] = np.take_along_axis(moved, origin[:, None, :], axis=2)
    return outcomes._replace(**found)

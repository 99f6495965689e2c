"""Is the chosen restart a maximum? Score, predicted gain, curvature; and the way on from where it is not.

Factorisations of m x m matrices are NumPy's, on the host: a batched solve and eigenvalues in one XLA:CPU program
blocked for ever in most runs.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

DEFAULT_LIMIT = 30  # free parameters up to which the information is computed unasked
NEGATIVE = 1e-9  # an eigenvalue below this times the largest (both negative) is negative beyond rounding
PROBE_GAINS = (1e-3, 1e-1, 1.0, 4.0)  # nats that a step along a negative eigenvector should gain to second order
LONGEST = 3.0  # longest such step, free coordinates of prepared data
LIFT = 0.02  # a component of weight 0 whose gradient says it wants to grow is tried at this odds


class Certificate(NamedTuple):
    """What is known of the end point; leading axis D in a batch.

    score_norm : Euclidean norm of the score of the objective in free coordinates.
    predicted_gain : g' I^-1 g / 2 in nats, what a Newton step promises; infinite where the information is not positive
        definite, NaN where it was not computed. A CONVERGED fit may have it infinite: the information is then singular
        or barely negative, and no step along its lowest eigenvector, both ways, several lengths, found anything better.
    smallest_eigenvalue : of the observed information in free coordinates, boundary coordinates fixed; NaN likewise.
    """

    score_norm: np.ndarray
    predicted_gain: np.ndarray
    smallest_eigenvalue: np.ndarray


class Verdict(NamedTuple):
    """The certificate of C points, whether each is no maximum, and where to look on from it, (C, P, m).

    negative : a negative eigenvalue. inward : an edge coordinate whose score points back inside (against KKT).
    """

    certificate: Certificate
    negative: np.ndarray
    inward: np.ndarray
    probes: np.ndarray


def empty(count: int) -> Certificate:
    """Nothing known."""
    return Certificate(*(np.full(count, np.nan) for _ in range(3)))


def examine(free: np.ndarray, score: np.ndarray, information: np.ndarray, held_as: np.ndarray) -> Verdict:
    """From free coordinates and scores (C, m), information (C, m, m), and `Model.boundary` (C, m)."""
    count, m = free.shape
    boundary = held_as != 0
    growing = (held_as == 1) & (score > 0)  # however small: the score of a weight w is w times something
    with np.errstate(all="ignore"):
        score_norm = np.sqrt(np.sum(np.where(boundary, 0.0, score) ** 2, axis=1))
    if m == 0 or information.shape[-1] != m:
        nothing = np.zeros((count, 0, m))
        unknown = np.zeros(count) if m == 0 else np.full(count, np.nan)
        none = np.zeros(count, bool)
        return Verdict(Certificate(score_norm, unknown, np.full(count, np.nan)), none, none, nothing)
    usable = np.all(np.isfinite(information), axis=(1, 2)) & np.all(np.isfinite(score), axis=1)
    held = boundary[:, :, None] | boundary[:, None, :]
    largest = np.max(np.abs(np.where(held | ~usable[:, None, None], 0.0, information)), axis=(1, 2))
    largest = np.where(largest > 0, largest, 1.0)
    system = np.where(held, 0.0, np.where(usable[:, None, None], information, 0.0))
    index = np.arange(m)
    system[:, index, index] += np.where(boundary | ~usable[:, None], m * largest[:, None], 0.0)
    values, vectors = np.linalg.eigh(system)
    negative = usable & (values[:, 0] < -NEGATIVE * np.abs(values).max(axis=1))
    inner = np.where(boundary | ~usable[:, None], 0.0, score)
    along = np.einsum("cij,ci->cj", vectors, inner)
    with np.errstate(all="ignore"):
        gain = 0.5 * np.sum(along**2 / values, axis=1)
    gain = np.where(negative | (values[:, 0] <= 0), np.inf, gain)
    certificate = Certificate(score_norm, np.where(usable, gain, np.nan), np.where(usable, values[:, 0], np.nan))
    probes = _probes(free, growing, values, vectors, along)
    return Verdict(certificate, negative, usable & np.any(growing, axis=1), probes)


def _probes(
    free: np.ndarray,
    growing: np.ndarray,
    values: np.ndarray,
    vectors: np.ndarray,
    along: np.ndarray,
) -> np.ndarray:
    """The point itself, the Newton point, steps both ways along the lowest eigenvector, components lifted off zero."""
    with np.errstate(all="ignore"):
        newton = np.einsum("cij,cj->ci", vectors, along / np.abs(values))
        curvature = np.maximum(-values[:, 0], 1e-300)
        # Where nothing is negative a long step could only land at another maximum.
        down = values[:, 0] < 0
        steps = [np.where(down, np.minimum(np.sqrt(2.0 * gain / curvature), LONGEST), 0.0) for gain in PROBE_GAINS]
    way = vectors[:, :, 0]
    candidates = [free, free + newton]
    candidates += [free + sign * step[:, None] * way for step in steps for sign in (1.0, -1.0)]
    candidates.append(np.where(growing, np.log(LIFT), free))
    return np.stack(candidates, axis=1)

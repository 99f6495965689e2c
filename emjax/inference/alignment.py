"""Component labels put in one order over many fits, after the fits and without touching what is stored.

A mixture's likelihood does not know which component is called first, so estimates of "the first slope" mean nothing
over many fits until the labels agree. A permutation here is read as numpy's `take`: the aligned component `k` of
dataset `d` is the fitted component `permutations[d, k]`. Shapes: `D` datasets, `K` components, `c` coordinates.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike, NDArray

from emjax.base import units
from emjax.base.protocols import Model
from emjax.base.records import Array
from emjax.base.status import DataError
from emjax.engine import after, parameters, row_blocks
from emjax.engine.results import Fits
from emjax.inference.assignment import assign


def distances(estimates: ArrayLike, truth: ArrayLike, scale: ArrayLike = 1.0) -> NDArray[np.float64]:
    """Squared distances (D, K, K) of every fitted component to every given one, coordinates divided by `scale`.

    Arguments and errors as `align_by_distance`. `ambiguity(distances(...))` says how clear the labelling is.
    """
    values, target = np.asarray(estimates, np.float64), np.asarray(truth, np.float64)
    if values.ndim != 3 or target.shape not in (values.shape, values.shape[1:]):
        raise DataError(
            f"estimates has shape {values.shape} and truth {target.shape}; they must be (D, K, c) and (K, c) or "
            "(D, K, c)"
        )
    size = np.broadcast_to(np.asarray(scale, np.float64), target.shape)
    if not np.all(size > 0):
        raise DataError("scale has a value that is not positive; it is the size of an error in each coordinate")
    target, size = (np.broadcast_to(a, values.shape) for a in (target, size))
    found = np.empty((*values.shape[:2], values.shape[1]))
    for k in range(values.shape[1]):  # one column at a time: (D, K, c) is held, never (D, K, K, c)
        found[:, :, k] = np.sum(((values - target[:, k, None]) / size[:, k, None]) ** 2, axis=2)
    return found


def align_by_distance(estimates: ArrayLike, truth: ArrayLike, scale: ArrayLike = 1.0) -> NDArray[np.intp]:
    """The labelling of every fit that lies nearest to given parameters.

    `estimates (D, K, c)` are the fitted components, `truth (K, c)` (or one per dataset, `(D, K, c)`) what they are to
    be matched with, and `scale` the size of an error in each coordinate: anything that broadcasts against `truth`,
    such as `(c,)`. The sum over components of the squared distance, coordinates divided by `scale`, is the smallest of
    all (an exact assignment, for any K).

    Returns permutations (D, K). A fit with a value that is not finite keeps its own order. Errors: DataError for
    shapes that disagree, or a scale that is not positive.
    """
    return assign(distances(estimates, truth, scale))


def overlaps(fits: Fits, labels: Any, threads: int | None = None) -> NDArray[np.float64]:
    """What every fitted component has in every known class, (D, K, K): the weighted sums of the posterior
    probabilities of the rows that belong to the class; of units of several rows each row counts.

    labels : the known class of each row, 0 to K - 1, -1 where it is not known: (n,), shared by all datasets of one
    size, (D, n), or a list of arrays, one for each dataset that was given to `fit_many`.

    Errors: DataError for labels that are no such numbers, or not as many as rows, one `Fit`, or models without
    components.
    """
    if not isinstance(fits, Fits):
        raise DataError(f"overlaps are of Fits, not {type(fits).__name__}: fit one dataset by fit_many too.")
    model = fits.model
    if not (hasattr(model, "latent") and hasattr(model, "log_prob")):
        raise DataError(f"{model!r} has no components with posterior probabilities to overlap with.")
    n_components = int(model.n_components)  # type: ignore[attr-defined]
    known = _labels(fits, labels, n_components)
    found = np.full((len(fits), n_components, n_components), np.nan)
    for rows, values, _ in after.over(after.point(fits), _overlap, known, threads=threads):
        found[rows] = values
    return found


def align_by_overlap(fits: Fits, labels: Any, threads: int | None = None) -> NDArray[np.intp]:
    """The labelling of every fit that overlaps most with known classes of the rows; see `overlaps` for `labels`.

    Returns permutations (D, K), exact for any K; a dataset without a fit keeps its own order. Components that a family
    puts at the end, such as noise, stay there: their classes are the last ones.
    `ambiguity(-overlaps(fits, labels))` says how clear it is.
    """
    costs, exchangeable = -overlaps(fits, labels, threads), parameters.n_exchangeable(fits.model)
    return with_those_at_the_end(assign(costs[:, :exchangeable, :exchangeable]), costs.shape[1])


def with_those_at_the_end(order: NDArray[np.intp], n_components: int) -> NDArray[np.intp]:
    """Permutations (D, E) of the exchangeable components as (D, K): the others stay at the end."""
    rest = np.arange(order.shape[1], n_components)
    return np.concatenate([order, np.broadcast_to(rest, (len(order), len(rest)))], axis=1)


def _labels(fits: Fits, labels: Any, n_components: int) -> NDArray[np.int32]:
    """(D, n), short ones filled up with -1."""
    n_datasets = int(np.max(fits.positions)) + 1
    sizes = row_blocks.rows_of(fits.data, n_datasets)
    if not isinstance(labels, np.ndarray) and len(labels) and np.ndim(labels[0]) == 1:
        each = [np.asarray(own) for own in labels]
        wrong = [i for i, (own, n) in enumerate(zip(each, sizes)) if len(own) != n]
        if wrong:
            i = wrong[0]
            raise DataError(f"labels[{i}] has {len(each[i])} entries, and dataset {i} {sizes[i]} rows: give one a row.")
        given = np.full((len(each), max(len(own) for own in each)), -1.0)
        for room, own in zip(given, each):
            room[: len(own)] = own
    else:
        given = np.asarray(labels)
    shape = given.shape
    if given.ndim == 1:
        given = np.broadcast_to(given, (n_datasets, len(given)))
    if given.ndim != 2 or len(given) < n_datasets or given.shape[1] != np.max(sizes):
        raise DataError(
            f"labels has shape {shape}; give (n,) or (D, n), n = {np.max(sizes)}, or a list of arrays, one a dataset"
        )
    if given.dtype.kind not in "fiub":
        raise DataError(f"labels are of type {given.dtype}: give whole numbers, -1 where a class is not known.")
    if not np.all((given == np.round(given)) & (given >= -1) & (given < n_components)):
        raise DataError(f"labels must be 0 to {n_components - 1}, or -1 where a class is not known")
    return given[fits.positions].astype(np.int32)


def _overlap(model: Model, fitted: after.Fitted, labels: Array) -> Array:
    prepared: Any = fitted.prepared
    log_prob = model.log_prob(fitted.params, prepared)  # type: ignore[attr-defined]
    resp = model.latent.probabilities(fitted.params.latent, log_prob, prepared.latent)  # type: ignore[attr-defined]
    n_components, n = resp.shape
    weight = units.of_rows(units.weights(fitted.data)[0], fitted.data.unit).astype(resp.dtype)
    own = jnp.pad(labels, (0, max(0, n - labels.shape[0])), constant_values=-1)[:n]
    classes = (own[None, :] == jnp.arange(n_components, dtype=own.dtype)[:, None]).astype(resp.dtype)
    used = (weight > 0)[None, :]
    return jnp.where(used, resp, 0.0) @ (classes * weight[None, :]).T


def order_by(values: ArrayLike) -> NDArray[np.intp]:
    """The labelling that puts `values (D, K)` in increasing order; ties keep their order and NaN goes last.

    Returns permutations (D, K). Errors: DataError for another number of axes.
    """
    keys = np.asarray(values)
    if keys.ndim != 2:
        raise DataError(f"values has shape {keys.shape}; it must be (D, K), one value per dataset and component")
    return np.argsort(keys, axis=1, kind="stable")

"""How well a latent class model fits: G^2 and Pearson's X^2 over response patterns, residuals of pairs of items, and
how clearly the classes are told apart.

With O observed and E = n sum_k pi_k prod_j p_kj expected counts of a pattern,

    G^2 = 2 sum O log(O / E)        X^2 = sum (O - E)^2 / E over all patterns, those not observed included

on (patterns that are possible) - 1 - m degrees of freedom. Where patterns are many and rows few neither is near a
chi-square distribution, and its p-value is that of a parametric bootstrap: the share of samples drawn from the fit,
each fitted in its turn, whose statistic is as large (Langeheine, Pannekoek & van de Pol 1996). Works on the host; `D`
datasets, `J` items, `K` classes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from emjax.base.records import Data
from emjax.base.status import DataError
from emjax.engine import after, choice, fitting, keys
from emjax.engine.results import Fit, Fits

STARTED = 0.02  # share of even probabilities in the start of a bootstrap fit: what is at 0 could not leave it


@dataclass(frozen=True)
class LatentClassFit:
    """Of one fit, or with a leading axis D of a batch; NaN where a dataset has no valid fit.

    g_squared, pearson : statistics. df : degrees of freedom, negative where the model cannot be identified.
    bivariate (J, J) : Pearson's statistic of each pair of items over (L_i - 1)(L_j - 1), symmetric, diagonal NaN; well
        above 1 where two items depend on each other within classes (Vermunt & Magidson 2005).
    classification (K, K) : rows a unit is assigned to, its most probable class, by columns of its posterior
        probabilities, weighted sums. average_posterior (K, K) : the same, each row divided by its sum; NaN for a class
        that is nobody's most probable one. classification_error : the expected share of wrong assignments.
    g_squared_p, pearson_p : bootstrap p-values (1 + exceedances) / (B + 1), None without a bootstrap. not_fitted : how
        many of the B bootstrap fits had no valid end; each counts as an exceedance.
    """

    g_squared: Any
    pearson: Any
    df: Any
    bivariate: Any
    classification: Any
    average_posterior: Any
    classification_error: Any
    g_squared_p: Any = None
    pearson_p: Any = None
    not_fitted: Any = None


def latent_class_fit(
    fits: Fit | Fits, *, bootstraps: int = 0, key: Any = None, threads: int | None = None
) -> LatentClassFit:
    """Statistics of fitted latent class models, `Mixture(Categorical(...), K)`, complete data and frequency weights.

    bootstraps : B samples a dataset, 0 for none; each is fitted from where the fit ended. key : of their draws.

    Errors: `DataError` for another model, missing cells, or weights that are no whole numbers with a bootstrap.
    """
    if bootstraps:
        fitting.check_whole("bootstraps", bootstraps, 1)
        if key is None:
            raise DataError("A bootstrap needs key=: a whole number or a jax key.")
    after.check(fits)
    single = isinstance(fits, Fit)
    found = []
    for number, fit in enumerate([fits] if single else fits):
        _check(fit)
        if not choice.eligible(np.asarray(fit.status)):
            found.append(_nothing(fit, bootstraps))
            continue
        y, weight = patterns(fit.data)
        own = _statistics(fit, y, weight)
        if bootstraps:
            words = keys.root_key(key).tolist()
            own |= _bootstrap(fit, own, weight, bootstraps, np.random.default_rng([*words, number]), threads)
        found.append(own)
    names = list(found[0])
    stacked = found[0] if single else {name: np.stack([own[name] for own in found]) for name in names}
    return LatentClassFit(**stacked)


def _check(fit: Fit) -> None:
    blocks = getattr(getattr(fit.model, "family", None), "blocks", None)
    if getattr(blocks, "_fields", ()) != ("probabilities",) or not hasattr(fit.params.latent, "weights"):
        raise DataError(f"{fit.model!r} is no latent class model: try Mixture(Categorical(...), K).")
    if fit.data.unit is not None:
        raise DataError("Patterns are those of rows, and these data have units of several rows.")


def patterns(data: Data) -> tuple[np.ndarray, np.ndarray]:
    """Response patterns (P, J) that were observed, in lexicographic order, and their counts (P,), all positive."""
    y = np.asarray(data.y, np.float64)
    y = y[:, None] if y.ndim == 1 else y
    weight = np.ones(len(y)) if data.weight is None else np.asarray(data.weight, np.float64)
    used = weight > 0
    seen = np.ones(len(y), bool) if data.observed is None else np.reshape(data.observed, (len(y), -1)).all(axis=1)
    if np.any(used & ~(seen & np.isfinite(y).all(axis=1))):
        raise DataError("A row has missing cells: patterns can be counted of complete rows alone; drop the others.")
    rows, which = np.unique(y[used].astype(np.int64), axis=0, return_inverse=True)
    return rows, np.bincount(which.reshape(-1), weight[used], len(rows))


def _joint(weights: np.ndarray, probabilities: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Probabilities of patterns (P, J) together with each class, (P, K)."""
    items = np.arange(y.shape[1])
    return weights * np.prod(probabilities[:, items, y], axis=2).T


def _tests(weights: np.ndarray, probabilities: np.ndarray, y: np.ndarray, count: np.ndarray) -> tuple[float, float]:
    """G^2 and Pearson's X^2; patterns that were not observed add their expected counts to the latter."""
    n = np.sum(count)
    expected = n * np.sum(_joint(weights, probabilities, y), axis=1)
    seen = count > 0
    observed, expected = count[seen], expected[seen]
    with np.errstate(divide="ignore"):
        g_squared = 2.0 * np.sum(observed * np.log(observed / expected))
        pearson = np.sum((observed - expected) ** 2 / expected) + n - np.sum(expected)
    return float(g_squared), float(pearson)


def _statistics(fit: Fit, y: np.ndarray, count: np.ndarray) -> dict[str, Any]:
    weights, probabilities = np.asarray(fit.params.latent.weights), np.asarray(fit.params.family.probabilities)
    g_squared, pearson = _tests(weights, probabilities, y, count)
    joint = _joint(weights, probabilities, y)
    resp = joint / np.sum(joint, axis=1, keepdims=True)
    table = np.zeros((len(weights), len(weights)))
    np.add.at(table, np.argmax(resp, axis=1), resp * count[:, None])
    total = np.sum(table, axis=1, keepdims=True)
    return {
        "g_squared": g_squared,
        "pearson": pearson,
        "df": float(math.prod(_levels(fit)) - 1 - fit.n_free),
        "bivariate": _bivariate(weights, probabilities, y, count, _levels(fit)),
        "classification": table,
        "average_posterior": np.where(total > 0, table / np.where(total > 0, total, 1.0), np.nan),
        "classification_error": float(1.0 - np.trace(table) / np.sum(table)),
    }


def _levels(fit: Fit) -> list[int]:
    levels: Any = fit.model.family.levels  # type: ignore[attr-defined]
    return list(levels) if isinstance(levels, tuple) else [levels] * np.shape(fit.params.family.probabilities)[-2]


def _bivariate(
    weights: np.ndarray, probabilities: np.ndarray, y: np.ndarray, count: np.ndarray, levels: list[int]
) -> np.ndarray:
    """Residuals (J, J) of pairs of items."""
    n_items, n = len(levels), np.sum(count)
    found = np.full((n_items, n_items), np.nan)
    for i in range(n_items):
        for j in range(i):
            a, b = levels[i], levels[j]
            observed = np.bincount(y[:, i] * b + y[:, j], count, a * b).reshape(a, b)
            expected = n * np.einsum("k,ka,kb->ab", weights, probabilities[:, i, :a], probabilities[:, j, :b])
            possible = expected > 0
            with np.errstate(divide="ignore", invalid="ignore"):
                parts = np.where(possible | (observed > 0), (observed - expected) ** 2 / expected, 0.0)
            found[i, j] = found[j, i] = np.sum(parts) / ((a - 1) * (b - 1))
    return found


def _nothing(fit: Fit, bootstraps: int) -> dict[str, Any]:
    n_components, n_items = np.shape(fit.params.family.probabilities)[:2]
    tables = {"classification": np.full((n_components, n_components), np.nan)}
    found = dict.fromkeys(("g_squared", "pearson", "df", "classification_error"), np.nan)
    found |= tables | {"average_posterior": tables["classification"], "bivariate": np.full((n_items, n_items), np.nan)}
    return found | (dict.fromkeys(("g_squared_p", "pearson_p", "not_fitted"), np.nan) if bootstraps else {})


# --- the bootstrap ----------------------------------------------------------------------------------------------------


def _bootstrap(
    fit: Fit, own: dict[str, Any], count: np.ndarray, bootstraps: int, rng: np.random.Generator, threads: int | None
) -> dict[str, float]:
    """p-values from samples of the fit's size, each fitted from where the fit ended."""
    n = np.sum(count)
    if n != np.round(n):
        raise DataError(f"The weights sum to {n:g}: a bootstrap draws as many rows, so they must be whole numbers.")
    levels, params = _levels(fit), fit.params
    weights, probabilities = np.asarray(params.latent.weights), np.asarray(params.family.probabilities)
    samples = [_draw(weights, probabilities, int(n), rng) for _ in range(bootstraps)]
    room = max(len(y) for y, _ in samples)
    y, weight = np.zeros((bootstraps, room, len(levels))), np.zeros((bootstraps, room))
    for b, (rows, counts) in enumerate(samples):
        y[b, : len(rows)], weight[b, : len(rows)] = rows, counts
    even = np.arange(probabilities.shape[-1]) < np.array(levels)[:, None]
    family = type(params.family)((1.0 - STARTED) * probabilities + STARTED * even / np.array(levels)[:, None])
    latent = type(params.latent)((1.0 - STARTED) * weights + STARTED / len(weights))
    settings = fit.settings
    fits = fitting.fit_many(
        fit.model, Data(y, weight=weight), 0, start=params._replace(latent=latent, family=family),
        stop=settings.stop, degeneracy=settings.degeneracy, prior=settings.prior, fixed=settings.fixed,
        acceleration=settings.acceleration, certificate=False, threads=threads,
    )  # fmt: skip
    if not fits.complete:
        raise KeyboardInterrupt
    valid = choice.eligible(fits.status)
    exceeded = np.ones((2, bootstraps), bool)
    for b in np.flatnonzero(valid):
        one = jax.tree.map(lambda a: a[b], fits.params)  # noqa: B023
        found = _tests(one.latent.weights, one.family.probabilities, y[b].astype(np.int64), weight[b])
        exceeded[:, b] = np.array(found) >= np.array([own["g_squared"], own["pearson"]])
    p = (1.0 + np.sum(exceeded, axis=1)) / (bootstraps + 1.0)
    return {"g_squared_p": float(p[0]), "pearson_p": float(p[1]), "not_fitted": float(np.sum(~valid))}


def _draw(
    weights: np.ndarray, probabilities: np.ndarray, n: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """A sample of n rows as its patterns and their counts."""
    classes = rng.multinomial(n, weights / np.sum(weights))
    parts = []
    for size, of_class in zip(classes, probabilities):
        edges = np.cumsum(of_class, axis=1)  # (J, L)
        below = rng.random((size, len(edges), 1)) * edges[None, :, -1:] >= edges[None]
        parts.append(np.sum(below, axis=2))
    rows = np.concatenate(parts)
    rows, counts = np.unique(rows, axis=0, return_counts=True)
    return rows, counts.astype(np.float64)

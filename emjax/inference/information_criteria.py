"""Information criteria of every fit of a batch, and the number of components that one of them chooses.

With l the log-likelihood in nats, m free parameters and n the sum of the weights of the independent units,

    AIC    -2 l + 2 m                       (Akaike 1974)
    BIC    -2 l + m log n                   (Schwarz 1978)
    CAIC   -2 l + m (log n + 1)             (Bozdogan 1987)
    SABIC  -2 l + m log((n + 2) / 24)       (Sclove 1987: BIC adjusted for the size of the sample)
    ICL    BIC + 2 E                        (Biernacki, Celeux & Govaert 2000, in its soft form)

and lower is better for all of them. E is the entropy of the posterior probabilities r of the components,
-sum_u w_u sum_k r_uk log r_uk; of a hidden Markov model that of its smoothed states, row by row, which is at least the
entropy of the whole path. n counts the observed time steps of a hidden Markov model. A free start of a Markov chain
counts K - 1 parameters also where it ends at a vertex, fixed values count none.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from emjax.base import units
from emjax.base.protocols import Model
from emjax.base.records import Array, Data
from emjax.base.status import DataError
from emjax.engine import after, choice, fitting
from emjax.engine.results import Fit, Fits

CRITERIA = ("aic", "bic", "icl", "caic", "sabic")
FORMS = ("soft", "map")


@dataclass(frozen=True)
class Criteria:
    """Criteria of one fit, numbers, or of a batch, (D,); lower is better; NaN where a dataset has no valid fit.

    entropy : E, nats; NaN for models without components. relative_entropy : 1 - E / (n log K), 1 where the components
    are told apart without doubt, 0 where nothing is; NaN for one component. n : what log n is taken of. icl_form :
    "soft" or "map", see `criteria`.
    """

    aic: Any
    bic: Any
    icl: Any
    caic: Any
    sabic: Any
    entropy: Any
    relative_entropy: Any
    n: Any
    icl_form: str


def criteria(fits: Fit | Fits, *, icl: str = "soft", n_for_bic: Any = None, threads: int | None = None) -> Criteria:
    """AIC, BIC, ICL, CAIC, sample-size adjusted BIC and entropy; see the module for the formulas.

    icl : "soft", or "map" for BIC - 2 sum_u w_u log max_k r_uk, the form of mclust and flexmix. n_for_bic : n of BIC,
    ICL, CAIC and SABIC, one number or (D,); by default `fits.n_observations`.

    Errors: `DataError` for another form or an n that is not positive.
    """
    if icl not in FORMS:
        raise DataError(f"icl={icl!r}: use one of {', '.join(FORMS)}.")
    after.check(fits)
    count = len(np.atleast_1d(fits.status))
    n = np.broadcast_to(np.asarray(fits.n_observations, np.float64), count)
    asked = n if n_for_bic is None else np.asarray(n_for_bic, np.float64)
    if asked.ndim > 1 or asked.size not in (1, count) or not (n_for_bic is None or np.all(asked > 0)):
        raise DataError(f"n_for_bic={n_for_bic!r}: give a positive number, or one a dataset.")
    valid = np.atleast_1d(choice.eligible(np.asarray(fits.status)))
    fit = np.where(valid, -2.0 * np.atleast_1d(fits.log_likelihood), np.nan)
    m, asked = np.broadcast_to(fits.n_free, count), np.broadcast_to(asked, count)
    soft, classified = _entropies(fits, valid, threads)
    with np.errstate(divide="ignore", invalid="ignore"):
        penalty = np.log(asked)
        bic = fit + m * penalty
        most = n * np.log(getattr(fits.model, "n_components", 1))
        found = {
            "aic": fit + 2.0 * m,
            "bic": bic,
            "icl": bic + 2.0 * (soft if icl == "soft" else classified),
            "caic": fit + m * (penalty + 1.0),
            "sabic": fit + m * np.log((asked + 2.0) / 24.0),
            "entropy": soft,
            "relative_entropy": np.where(most > 0, 1.0 - soft / most, np.nan),
            "n": np.array(asked),
        }
    if isinstance(fits, Fit):
        found = {name: float(values[0]) for name, values in found.items()}
    return Criteria(**found, icl_form=icl)


def _entropies(fits: Fit | Fits, valid: np.ndarray, threads: int | None) -> tuple[np.ndarray, np.ndarray]:
    """The soft entropy and that of the most probable components, (D,), nats; NaN without a fit or components."""
    found = np.full((2, len(valid)), np.nan)
    if hasattr(fits.model, "latent") and hasattr(fits.model, "log_prob"):
        for rows, values, _ in after.over(after.point(fits), _of_dataset, threads=threads):
            found[:, rows] = values.T
    return tuple(np.where(valid, found, np.nan))


def posterior(model: Any, fitted: after.Fitted) -> tuple[Array, Array]:
    """Traced: posterior probabilities of the components (K, U) of a dataset's independent units, and their weights.

    Of a sequential model the rows stand for units, and rows where nothing was observed have weight 0.
    """
    prepared, data = fitted.prepared, fitted.data
    log_prob = model.log_prob(fitted.params, prepared)
    resp = model.latent.probabilities(fitted.params.latent, log_prob, prepared.latent)
    if model.sequential:
        weight = units.of_rows(units.weights(data)[0], data.unit).astype(resp.dtype)
        return resp, weight if prepared.observed is None else jnp.where(prepared.observed, weight, 0.0)
    weight = units.weights(data)[0].astype(resp.dtype)
    if data.unit is not None:
        resp = units.first_rows(resp.T, data.unit, weight.shape[0]).T
    return resp, weight


def _of_dataset(model: Model, fitted: after.Fitted, extra: Any) -> Array:
    resp, weight = posterior(model, fitted)
    resp = jnp.where(weight > 0, resp, 1.0 / resp.shape[0])
    soft = -jnp.sum(jax.scipy.special.xlogy(resp, resp), axis=0)
    return jnp.stack([weight @ soft, -weight @ jnp.log(jnp.max(resp, axis=0))])


@dataclass(frozen=True)
class ComponentChoice:
    """Fits with several numbers of components, and what a criterion makes of them.

    components (C,) : the numbers K that were tried. aic, bic, icl, caic, sabic, entropy, relative_entropy (D, C) :
    lower is better, NaN where a dataset has no valid fit with that K. criterion : the one that chose. chosen (D,) : the
    K with the lowest value, 0 where no K has a valid fit or where not all were run. fits : one `Fits` a K. complete :
    False where the run was interrupted.
    """

    components: np.ndarray
    aic: np.ndarray
    bic: np.ndarray
    icl: np.ndarray
    caic: np.ndarray
    sabic: np.ndarray
    entropy: np.ndarray
    relative_entropy: np.ndarray
    criterion: str
    chosen: np.ndarray
    fits: tuple[Fits, ...]
    complete: bool


def choose_components(
    model: Any,
    data: Data | list[Data],
    key: Any,
    components: Iterable[int] = range(1, 5),
    criterion: str = "bic",
    *,
    icl: str = "soft",
    n_for_bic: Any = None,
    **fit_settings: Any,
) -> ComponentChoice:
    """Fit every dataset of a batch with every K of `components` and choose by a criterion.

    model : its own `n_components` is not used. criterion : "aic", "bic", "icl", "caic" or "sabic". icl, n_for_bic : as
    `criteria` takes them. fit_settings : those of `fit_many`.

    Errors: `DataError` for a model without `n_components`, or settings that are not known.
    """
    if criterion not in CRITERIA:
        raise DataError(f"criterion={criterion!r}: use one of {', '.join(CRITERIA)}.")
    if not hasattr(model, "n_components"):
        raise DataError(f"{model!r} has no n_components to choose.")
    tried = list(components)
    if not tried or len(set(tried)) != len(tried):
        raise DataError(f"components={components!r}: give different numbers, at least one.")
    models = [replace(model, n_components=k) for k in tried]  # a K that is not possible is named before any fit
    n_datasets = np.shape(data.y)[0] if isinstance(data, Data) else len(data)
    names = (*CRITERIA, "entropy", "relative_entropy")
    tables = {name: np.full((n_datasets, len(tried)), np.nan) for name in names}
    runs: list[Fits] = []
    ran = np.zeros((n_datasets, len(tried)), bool)
    for column, one in enumerate(models):
        fits = fitting.fit_many(one, data, key, **fit_settings)
        runs.append(fits)
        at = fits.positions
        ran[at, column] = True
        found = criteria(fits, icl=icl, n_for_bic=_rows(n_for_bic, at), threads=fit_settings.get("threads"))
        for name, table in tables.items():
            table[at, column] = getattr(found, name)
        if not fits.complete:
            break
    values = np.where(np.isfinite(tables[criterion]), tables[criterion], np.inf)
    decided = np.any(np.isfinite(values), axis=1) & np.all(ran, axis=1)
    chosen = np.where(decided, np.array(tried)[np.argmin(values, axis=1)], 0)
    return ComponentChoice(
        np.array(tried), **tables, criterion=criterion, chosen=chosen, fits=tuple(runs), complete=bool(np.all(ran))
    )


def _rows(given: Any, at: np.ndarray) -> Any:
    return given if given is None or np.ndim(given) == 0 else np.asarray(given)[at]

"""The rivals of bench/models.py: each fits every dataset of a batch in a loop from emjax's start.

Each returns emjax's parameters, or log-likelihoods (D,) where the package does not take a start, and the seconds of the
fits alone. They stop when a step gains less than `GAIN` nats.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

import emjax
from bench._python_rivals import MAX_ITERATIONS as MOST
from bench._python_rivals import started_stepmix

GAIN = 1e-7


def _loop(data: emjax.Data, start: Any, one: Callable[[np.ndarray, Any], Any]) -> tuple[Any, float]:
    """Each dataset's result, stacked."""
    import jax

    y = np.asarray(data.y)
    starts = [jax.tree.map(lambda a: np.asarray(a)[i], start) for i in range(len(y))]  # noqa: B023
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        one(y[0], starts[0])  # imports, caches
        began = time.perf_counter()
        found = [one(rows, at) for rows, at in zip(y, starts, strict=True)]
        seconds = time.perf_counter() - began
    return jax.tree.map(lambda *leaves: np.stack(leaves), *found), seconds


def gaussian_mixture(data: emjax.Data, start: Any) -> tuple[Any, float]:
    """scikit-learn's GaussianMixture; `tol` is on the mean over rows."""
    from sklearn.mixture import GaussianMixture

    def one(y: np.ndarray, at: Any) -> Any:
        mixture = GaussianMixture(
            len(at.latent.weights), weights_init=at.latent.weights, means_init=at.family.means,
            precisions_init=np.linalg.inv(at.family.covariances), reg_covar=0.0, tol=GAIN / len(y), max_iter=MOST,
        )  # fmt: skip
        try:
            mixture.fit(y)
        except ValueError:  # a component has collapsed
            return at
        family = emjax.GaussianParams(mixture.means_, mixture.covariances_)
        return emjax.MixtureParams(emjax.WeightsParams(mixture.weights_), family)

    return _loop(data, start, one)


def latent_class(data: emjax.Data, start: Any) -> tuple[Any, float]:
    """StepMix with categorical items, from the responsibilities at emjax's start."""

    def one(y: np.ndarray, at: Any) -> Any:
        items = at.family.probabilities[:, np.arange(y.shape[1])[None, :], y.astype(int)]  # (K, n, J)
        joint = at.latent.weights[:, None] * np.prod(items, axis=2)
        mixture = started_stepmix((joint / joint.sum(0)).T, GAIN, "categorical")
        found = mixture.fit(y).get_parameters()
        levels = np.asarray(found["measurement"]["pis"]).reshape(len(joint), y.shape[1], -1)
        return emjax.MixtureParams(
            emjax.WeightsParams(np.asarray(found["weights"])), emjax.CategoricalParams(np.asarray(levels))
        )

    return _loop(data, start, one)


def _chain(model: Any, at: Any, y: np.ndarray) -> Any:
    model.startprob_, model.transmat_ = at.latent.initial, at.latent.transitions
    model.fit(y[:, None])
    return emjax.MarkovParams(_simplex(model.startprob_), _simplex(model.transmat_))


def _simplex(values: np.ndarray) -> np.ndarray:
    return values / values.sum(-1, keepdims=True)


def gaussian_chain(data: emjax.Data, start: Any) -> tuple[Any, float]:
    """hmmlearn's GaussianHMM without its prior on the variances."""
    from hmmlearn.hmm import GaussianHMM  # type: ignore[import-not-found]

    def one(y: np.ndarray, at: Any) -> Any:
        model = GaussianHMM(
            len(at.latent.initial), "diag", min_covar=0.0, covars_prior=0.0, tol=GAIN, n_iter=MOST, init_params=""
        )
        model.means_, model.covars_ = at.family.means, at.family.covariances[:, :, 0]
        latent = _chain(model, at, y)
        variances = model.covars_[:, :, :1] if model.covars_.ndim == 3 else model.covars_[:, :, None]
        sound = np.all(np.isfinite(variances)) and np.all(variances > 0) and np.all(np.isfinite(latent.transitions))
        return emjax.MixtureParams(latent, emjax.GaussianParams(model.means_, variances)) if sound else at

    return _loop(data, start, one)


def poisson_chain(data: emjax.Data, start: Any) -> tuple[Any, float]:
    """hmmlearn's PoissonHMM; its gamma prior is flat as it comes."""
    from hmmlearn.hmm import PoissonHMM  # type: ignore[import-not-found]

    def one(y: np.ndarray, at: Any) -> Any:
        model = PoissonHMM(len(at.latent.initial), tol=GAIN, n_iter=MOST, init_params="")
        model.lambdas_ = at.family.rates[:, None]
        latent = _chain(model, at, y.astype(int))
        return emjax.MixtureParams(latent, emjax.PoissonParams(model.lambdas_[:, 0]))

    return _loop(data, start, one)


def factor_analysis(data: emjax.Data, start: Any) -> tuple[np.ndarray, float]:
    """scikit-learn's FactorAnalysis; it starts by itself, at unit noise, and rounds no Heywood case."""
    from sklearn.decomposition import FactorAnalysis

    def one(y: np.ndarray, at: Any) -> np.ndarray:
        q = at.loadings.shape[1]
        found = FactorAnalysis(q, tol=GAIN, max_iter=MOST, svd_method="lapack").fit(y)
        return np.asarray(found.score(y) * len(y))

    return _loop(data, start, one)


def factorisation(data: emjax.Data, start: Any) -> tuple[np.ndarray, float]:
    """scikit-learn's NMF with Kullback-Leibler loss, multiplicative updates, from the start's factors."""
    from sklearn.decomposition import NMF

    def one(y: np.ndarray, at: Any) -> np.ndarray:
        totals = y.sum(1, keepdims=True)
        model = NMF(
            at.terms_of_topics.shape[0], init="custom", solver="mu", beta_loss="kullback-leibler", tol=1e-8,
            max_iter=MOST,
        )  # fmt: skip
        left = model.fit_transform(
            y, W=np.ascontiguousarray(totals * at.topics_of_documents), H=at.terms_of_topics.copy()
        )
        mean = left @ model.components_
        mean = mean * totals / np.maximum(mean.sum(1, keepdims=True), 1e-300)
        return np.sum(np.where(y > 0, y * np.log(np.maximum(mean / totals, 1e-300)), 0.0))

    return _loop(data, start, one)

"""Topics of new documents, and how well a fitted topic model foretells tokens that it has not seen."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from emjax.base.records import Data
from emjax.base.status import DataError
from emjax.engine import fitting, keys
from emjax.engine.results import Fit


@dataclass(frozen=True)
class Perplexity:
    """value : exp(-log_likelihood / tokens), the geometric mean of 1 / p(token); V where terms are guessed evenly.

    log_likelihood : nats, of the held-out tokens, documents weighted. tokens : their weighted number. held_out (D, V) :
    the counts held out. folded : the fit of the topics of the documents to the other tokens.
    """

    value: float
    log_likelihood: float
    tokens: float
    held_out: np.ndarray
    folded: Fit


def fold_in(fit: Fit, data: Data, key: Any, **settings: Any) -> Fit:
    """p(topic | new document) with the terms of the topics held as they were fitted (Hofmann 1999, section 3.2).

    fit : of a `PLSA`. data : new documents, the same terms as columns. settings : as in `fit`; one restart by default,
    as the log-likelihood is concave in the topics of a document. A tempered fit folds in at its temperature.

    Returns the `Fit` of the new documents, `params.topics_of_documents` (D, K). Errors: `DataError`, also where the new
    documents hold a term that no topic has: nothing they could be made of explains it.
    """
    terms = _terms(fit)
    _check(terms, data)
    settings.setdefault("restarts", 1)
    return fitting.fit(fit.model, data, key, fixed={"terms_of_topics": terms}, **settings)


def held_out_perplexity(fit: Fit, data: Data, key: Any, *, smoothing: float = 0.0, **settings: Any) -> Perplexity:
    """Perplexity of new documents by document completion (Rosen-Zvi et al. 2004; Wallach et al. 2009, section 5).

    The tokens of each document are shuffled; the first half, one more where their number is odd, folds the document in,
    and the perplexity is that of the others, so that no token is foretold from itself. The shuffle follows from `key`.

    smoothing : the share of a uniform distribution that is mixed into the terms of every topic, and into the topics of
    every folded document. Without it a term that the fitted documents did not have makes the perplexity infinite, the
    maximum-likelihood answer: `DataError`. Nor has it a bound where the first half of a document has no use for a topic
    that its second half needs: the share of the topic goes to 0, and the value says how far EM went. Give a smoothing.

    settings : of the folding in, as in `fold_in`.
    """
    if isinstance(smoothing, bool) or not 0 <= smoothing < 1:
        raise DataError(f"smoothing={smoothing!r}: give a share, 0 or larger and below 1.")
    terms = _terms(fit)
    terms = (1.0 - smoothing) * terms + smoothing / terms.shape[1]
    _check(terms, data)
    counts, weight = np.asarray(data.y), np.ones(len(data.y)) if data.weight is None else np.asarray(data.weight, float)
    counts = np.where((weight > 0)[:, None], counts, 0)
    if not np.all(np.isfinite(counts) & (counts >= 0) & (counts == np.round(counts))):
        raise DataError("Tokens can be held out of whole counts alone: correct y, or give the document weight 0.")
    kept = split_tokens(counts.astype(np.int64), key)
    held_out = counts - kept
    smoothed = replace(fit, params=fit.params._replace(terms_of_topics=terms))
    folded = fold_in(smoothed, data._replace(y=kept.astype(np.float64)), key, **settings)
    topics = (1.0 - smoothing) * folded.params.topics_of_documents + smoothing / len(terms)
    expected = topics @ terms
    impossible = np.flatnonzero(np.any((held_out > 0) & (expected == 0), axis=1))
    if len(impossible):
        raise DataError(
            f"Documents {', '.join(map(str, impossible[:5]))} ({len(impossible)} in all) hold out tokens of topics "
            "that their other tokens exclude: the perplexity is infinite; give a smoothing=."
        )
    weighted = held_out * weight[:, None]
    log_likelihood = float(np.sum(weighted * np.log(np.where(held_out > 0, expected, 1.0))))
    tokens = float(np.sum(weighted))
    if tokens == 0:
        raise DataError("No token is left to be held out: documents need two tokens or more.")
    return Perplexity(float(np.exp(-log_likelihood / tokens)), log_likelihood, tokens, held_out, folded)


def split_tokens(counts: np.ndarray, key: Any) -> np.ndarray:
    """Of counts (D, V) those of a random half of each document's tokens, rounded up, whatever the others are."""
    words = [int(word) for word in keys.root_key(key)]

    def half(number: int, row: np.ndarray) -> np.ndarray:
        rng = np.random.default_rng([*words, number])
        return rng.multivariate_hypergeometric(row, (row.sum() + 1) // 2, method="marginals")

    return np.stack([half(number, row) for number, row in enumerate(counts)])


def _terms(fit: Fit) -> np.ndarray:
    terms = getattr(getattr(fit, "params", None), "terms_of_topics", None)
    if terms is None or not isinstance(fit, Fit):
        what = type(fit.model if isinstance(fit, Fit) else fit).__name__
        raise DataError(f"{what} is no fit with terms_of_topics: give the fit of a PLSA.")
    return np.asarray(terms)


def _check(terms: np.ndarray, data: Data) -> None:
    """Errors: `DataError` for no `Data`, other terms, and terms of probability 0 that the documents hold."""
    if not isinstance(data, Data):
        raise DataError(f"data must be one emjax.Data of documents, not {type(data).__name__}: try Data(y=counts).")
    if np.ndim(data.y) != 2 or np.shape(data.y)[1] != terms.shape[1]:
        raise DataError(f"The fit has {terms.shape[1]} terms and these documents have shape {np.shape(data.y)}.")
    weight = np.ones(len(data.y)) if data.weight is None else np.asarray(data.weight, float)
    unknown = np.flatnonzero(np.any(np.asarray(data.y)[weight > 0] > 0, axis=0) & np.all(terms == 0, axis=0))
    if len(unknown):
        raise DataError(
            f"Terms {', '.join(map(str, unknown[:5]))} ({len(unknown)} in all) have probability 0 in every topic but "
            "stand in these documents: leave those columns out, or give held_out_perplexity a smoothing=."
        )

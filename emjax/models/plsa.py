"""Probabilistic latent semantic analysis: topics of documents and terms of topics from a table of counts."""

from __future__ import annotations

import numbers
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from emjax.base import places, simplices, units
from emjax.base.family_defaults import refuse
from emjax.base.numerics import multiply
from emjax.base.protocols import Model
from emjax.base.records import Array, Data, Expectation
from emjax.base.registry import register
from emjax.base.settings import Degeneracy
from emjax.base.simplices import AT_ZERO
from emjax.base.status import DataError, Flag, Problem


@register
class PLSAParams(NamedTuple):
    """topics_of_documents (D, K), p(topic | document); terms_of_topics (K, V), p(term | topic). Rows sum to 1."""

    topics_of_documents: Array
    terms_of_topics: Array


class PLSAStatistics(NamedTuple):
    """Expected tokens, times the documents' weights: of_documents (n, K), of each topic in each document; of_terms
    (K, V), of each term in each topic."""

    of_documents: Array
    of_terms: Array


class PLSAData(NamedTuple):
    """Prepared: counts (n, V) times the documents' weights; used (n,), whether a document has any; baseline (), the
    commonest term; fixed, PLSAParams with None where free, or None."""

    counts: Array
    used: Array
    baseline: Array
    fixed: Any


@register
@dataclass(frozen=True)
class PLSA(Model):
    """p(term v | document d) = sum_k topics_of_documents[d, k] terms_of_topics[k, v] (Hofmann 1999, UAI).

    Latent semantic analysis proper is a singular value decomposition of the counts; this is its likelihood model.

    n_topics : K, at most V. temperature : above 1 the E-step is tempered, the posterior of the topics being
    proportional to (p(k | d) p(v | k))^(1 / temperature), Hofmann's beta = 1 / temperature. Tempered EM climbs
    temperature * sum n log sum_k (p(k | d) p(v | k))^(1 / temperature), which is the fit's `objective`, by which it
    stops and is chosen; its `log_likelihood` stays sum n log p(v | d), nats.
    Data: y (D, V), whole numbers of tokens, documents as rows; the unit is a document, its weight counts it that often.
    A document of weight 0 or without tokens adds nothing and is given 1 / K for each topic.

    `n_free` is D (K - 1) + K (V - 1) over documents with tokens. Where no probability is 0, K (K - 1) of these are not
    identified (T F = T S S^-1 F): probabilities p(v | d) are, single topics need zeros. Each document has parameters of
    its own, so BIC, whose n is the number of documents, is a convention and no approximation.
    With documents' lengths as weights this is non-negative matrix factorisation by the Kullback-Leibler divergence
    (Gaussier & Goutte 2005): one EM step is Lee & Seung's two updates made at once.
    fixed : {"terms_of_topics": (K, V)} folds new documents in, {"topics_of_documents": (D, K)} the other way round.
    """

    n_topics: int
    temperature: float = 1.0
    row_blocks: ClassVar[tuple[str, ...]] = ("topics_of_documents",)

    def __post_init__(self) -> None:
        whole = isinstance(self.n_topics, numbers.Integral) and not isinstance(self.n_topics, bool)
        if not whole or self.n_topics < 1:
            raise DataError(f"PLSA(n_topics={self.n_topics!r}): give a whole number, 1 or larger.")
        real = isinstance(self.temperature, numbers.Real) and not isinstance(self.temperature, bool)
        if not real or not 0 < self.temperature < float("inf"):
            raise DataError(f"PLSA(temperature={self.temperature!r}): give a positive number; 1 is no tempering.")

    @property
    def extrapolates(self) -> bool:
        """No: most probabilities go to 0, their log-ratios to minus infinity, and extrapolating them takes longer."""
        return False

    @property
    def strategies(self) -> tuple[str, ...]:
        """random : terms by frequency times exponential noise. documents : a random document a topic, smoothed."""
        return ("random", "documents")

    # --- on the host ------------------------------------------------------------------------------------------------

    def check(self, data: Data) -> None:
        """y must be a table with a column a term, no fewer than topics; nothing else has a place here."""
        if np.ndim(data.y) != 2:
            raise DataError(f"PLSA needs y of shape (documents, terms), not {np.shape(data.y)}.")
        if np.shape(data.y)[1] < self.n_topics:
            raise DataError(f"PLSA({self.n_topics}) needs as many terms as topics, not {np.shape(data.y)[1]}.")
        refuse(
            data,
            ("x", "z", "offset", "trials", "unit", "observed"),
            lambda name: f"PLSA has no {name}: leave it out of Data; weight 0 leaves out a document.",
        )

    def check_settings(self, prior: Any, fixed: Any, params: Any) -> None:
        """A prior, unknown blocks and rows that are not probabilities raise `DataError`."""
        if prior is not None:
            raise DataError("PLSA has no prior: leave prior out.")
        if fixed is not None and (not isinstance(fixed, dict) or set(fixed) - set(PLSAParams._fields)):
            raise DataError(f"fixed={fixed!r}: give a dictionary with the names {', '.join(PLSAParams._fields)}.")
        given = {} if params is None else {f"start: {name}": value for name, value in params._asdict().items()}
        for name, value in {**(fixed or {}), **given}.items():
            rows = np.zeros((0, 1)) if value is None else np.asarray(value, np.float64)
            rows = rows[~np.all(np.isnan(rows), axis=-1)]  # documents that a shorter data set lacks
            if not np.all(rows >= 0) or np.max(np.abs(np.sum(rows, axis=-1) - 1.0), initial=0.0) > 1e-6:
                raise DataError(f"{name}: each row must be probabilities that sum to 1.")

    def named(self, params: PLSAParams) -> dict[str, Any]:
        """The blocks of the parameters by the names that `fixed=` uses."""
        return params._asdict()

    def culprit(self, data: Data, problem: Problem) -> str:
        """How many documents there are for the topics."""
        if not problem & Problem.TOO_FEW_ROWS:
            return ""
        used = np.sum(places.used(data) & np.any(data.y > 0, axis=1))
        return f"{used} documents with tokens for {self.n_topics} topics"

    # --- once per dataset -------------------------------------------------------------------------------------------

    def prepare(self, data: Data, prior: Any = None, fixed: Any = None) -> tuple[PLSAData, Array]:
        """Weighted counts and `Problem` bits."""
        weight, problem = units.weights(data)
        counted = weight.astype(bool)[:, None]
        finite = jnp.isfinite(data.y)
        wrong = finite & ((data.y < 0) | (data.y != jnp.round(data.y)))
        problem |= jnp.where(jnp.any(~finite & counted), Problem.RESPONSE_NOT_FINITE, 0)
        problem |= jnp.where(jnp.any(wrong & counted), Problem.NOT_A_COUNT, 0)
        counts = jnp.where(finite & ~wrong & counted, data.y, 0.0) * weight.astype(data.y.dtype)[:, None]
        used = jnp.sum(counts, axis=1) > 0
        held = None
        if fixed is not None:
            given = (fixed.get(name) for name in PLSAParams._fields)
            held = PLSAParams(*(None if block is None else jnp.asarray(block, counts.dtype) for block in given))
            if held.topics_of_documents is not None:
                held = held._replace(topics_of_documents=self._of_rows(held.topics_of_documents, used))
        few = jnp.where(jnp.any(used), Problem.TOO_FEW_ROWS, Problem.NOTHING_OBSERVED)
        needed = 1 if held is not None and held.terms_of_topics is not None else self.n_topics
        problem |= jnp.where((problem == 0) & (jnp.sum(used) < needed), few, 0)
        baseline = jnp.argmax(jnp.sum(counts, axis=0)).astype(jnp.int32)
        return PLSAData(counts, used, baseline, held), jnp.int32(problem)

    def _of_rows(self, topics: Array, used: Array) -> Array:
        """Topics of the documents given, (D, K), as those of the rows, (n, K): 1 / K where nothing is known."""
        n, even = used.shape[0], 1.0 / self.n_topics
        rows = topics[:n]
        if rows.shape[0] < n:
            rows = jnp.concatenate([rows, jnp.full((n - rows.shape[0], self.n_topics), even, rows.dtype)])
        return jnp.where(used[:, None], rows, even)

    # --- the EM step ------------------------------------------------------------------------------------------------

    def _powers(self, params: PLSAParams) -> tuple[Array, Array]:
        """Both matrices to the power 1 / temperature; zeros stay zeros, also in derivatives."""
        if self.temperature == 1.0:
            return params
        raised = (jnp.where(a > 0, a, 1.0) ** (1.0 / self.temperature) for a in params)
        return PLSAParams(*(jnp.where(a > 0, power, 0.0) for a, power in zip(params, raised)))

    def expect(self, params: PLSAParams, prepared: PLSAData) -> Expectation:
        """The E-step: two matrix products after the ratio of counts to what is expected, no (D, K, V) array."""
        counts, shares = prepared.counts, _normalised(params)
        log_likelihood = _log_sum(counts, shares)
        topics, terms = self._powers(shares)
        present = counts > 0
        ratio = jnp.where(present, counts, 0.0) / jnp.where(present, multiply(topics, terms), 1.0)
        of_documents = topics * multiply(ratio, terms.T)
        return Expectation(log_likelihood, PLSAStatistics(of_documents, terms * multiply(topics.T, ratio)))

    def maximize(self, statistics: PLSAStatistics, params: PLSAParams, prepared: PLSAData) -> PLSAParams:
        """Shares of the expected tokens; a document or topic without any keeps what it has."""
        found = []
        for tokens, current in zip(statistics, params, strict=True):
            total = jnp.sum(tokens, axis=1, keepdims=True)
            found.append(jnp.where(total > 0, tokens / jnp.where(total > 0, total, 1.0), current))
        return _with_fixed(PLSAParams(*found), prepared)

    def objective(self, params: PLSAParams, prepared: PLSAData, log_likelihood: Array) -> Array:
        """The log-likelihood, or what tempered EM climbs instead, nats."""
        if self.temperature == 1.0:
            return log_likelihood
        return self.temperature * _log_sum(prepared.counts, self._powers(_normalised(params)))

    def start(self, key: Array, prepared: PLSAData, strategy: str) -> PLSAParams:
        """See `strategies`; topics of documents are drawn uniformly, or even where topics are documents."""
        counts, used = prepared.counts, prepared.used
        dtype, n_documents, n_terms = counts.dtype, counts.shape[0], counts.shape[1]
        of_topics, of_documents = jax.random.split(key)
        overall = jnp.sum(counts, axis=0)
        overall = overall / jnp.maximum(jnp.sum(overall), jnp.finfo(dtype).tiny)
        if strategy == "documents":
            race = jax.random.exponential(of_topics, (n_documents,), dtype)
            _, chosen = jax.lax.top_k(jnp.where(used, -race, -jnp.inf), min(self.n_topics, n_documents))
            chosen = jnp.resize(chosen, (self.n_topics,))
            own = counts[chosen]
            own = own / jnp.maximum(jnp.sum(own, axis=1, keepdims=True), jnp.finfo(dtype).tiny)
            terms = 0.5 * own + 0.5 * overall[None, :]
            topics = jnp.ones((n_documents, self.n_topics), dtype)
        else:
            terms = overall[None, :] * jax.random.exponential(of_topics, (self.n_topics, n_terms), dtype)
            topics = jax.random.exponential(of_documents, (n_documents, self.n_topics), dtype)
        drawn = _normalised(PLSAParams(topics, terms))
        drawn = drawn._replace(topics_of_documents=self._of_rows(drawn.topics_of_documents, used))
        return _with_fixed(drawn, prepared)

    # --- what the engine watches ------------------------------------------------------------------------------------

    def flags(self, params: PLSAParams, statistics: Any, prepared: PLSAData, degeneracy: Degeneracy) -> Array:
        """BOUNDARY where a probability is 0: a topic that a document lacks, a term that a topic lacks."""
        free = _with_fixed(PLSAParams(True, True), prepared, None)
        at_zero = jnp.zeros((), bool)
        if free.topics_of_documents:
            at_zero |= jnp.any((params.topics_of_documents < AT_ZERO) & prepared.used[:, None])
        if free.terms_of_topics:
            at_zero |= jnp.any(params.terms_of_topics < AT_ZERO)
        return jnp.where(at_zero, jnp.int32(Flag.BOUNDARY), jnp.int32(0))

    def relabel(self, params: PLSAParams, permutation: Array) -> PLSAParams:
        """Topic k of the result is topic permutation[k] of `params`."""
        return PLSAParams(params.topics_of_documents[:, permutation], params.terms_of_topics[permutation])

    def canonical(self, params: PLSAParams, prepared: PLSAData) -> PLSAParams:
        """The commonest topic last, the documents' baseline; as they are where fixed blocks give labels a meaning."""
        if prepared.fixed is not None:
            return params
        tokens = jnp.sum(prepared.counts, axis=1, keepdims=True)
        return self.relabel(params, jnp.argsort(jnp.sum(tokens * params.topics_of_documents, axis=0)))

    def boundary(self, params: PLSAParams, prepared: PLSAData) -> Array:
        """Probabilities of 0; not identified are documents without tokens and the terms of a topic that has none."""
        topics, terms = params
        documents = jnp.where(prepared.used[:, None], simplices.held(topics, self._last), 2)
        lost = jnp.max(jnp.where(prepared.used[:, None], topics, 0.0), axis=0) < AT_ZERO
        of_topics = jnp.where(lost[:, None], 2, simplices.held(terms, prepared.baseline))
        return _joined(PLSAParams(documents, of_topics), prepared, jnp.int32)

    # --- coordinates, units -----------------------------------------------------------------------------------------

    @property
    def _last(self) -> Array:
        return jnp.int32(self.n_topics - 1)

    def n_free(self, prepared: PLSAData) -> Array:
        """Number of free parameters, those of documents without tokens not counted."""
        documents = jnp.sum(prepared.used).astype(jnp.int32) * (self.n_topics - 1)
        terms = jnp.int32(self.n_topics * (prepared.counts.shape[1] - 1))
        return sum(_with_fixed(PLSAParams(documents, terms), prepared, jnp.int32(0)))

    def to_free(self, params: PLSAParams, prepared: PLSAData) -> Array:
        """Log-ratios row by row: topics against the last, terms against the commonest; a 0 is the smallest number."""
        free = PLSAParams(
            simplices.to_free(params.topics_of_documents, self._last),
            simplices.to_free(params.terms_of_topics, prepared.baseline),
        )
        return _joined(free, prepared, prepared.counts.dtype)

    def from_free(self, free: Array, prepared: PLSAData, like: Any = None) -> PLSAParams:
        """The inverse of `to_free`."""
        n_documents, n_terms = prepared.counts.shape
        split = n_documents * (self.n_topics - 1)
        held = prepared.fixed or PLSAParams(None, None)
        topics, terms = held
        if topics is None:
            rows = free[:split].reshape(n_documents, self.n_topics - 1)
            topics, free = self._of_rows(simplices.from_free(rows, self._last), prepared.used), free[split:]
        if terms is None:
            terms = simplices.from_free(free.reshape(self.n_topics, n_terms - 1), prepared.baseline)
        return PLSAParams(topics, terms)

    def from_user(self, params: PLSAParams, prepared: PLSAData) -> PLSAParams:
        """A row a row of the prepared data, each summing to 1."""
        topics = self._of_rows(jnp.asarray(params.topics_of_documents), prepared.used)
        return _with_fixed(_normalised(PLSAParams(topics, params.terms_of_topics)), prepared)

    def sample(self, key: Array, params: PLSAParams, data: Data) -> tuple[Data, Array]:
        """Data with y drawn from user's parameters, documents as long as they are; the tokens of each topic (D, K)."""
        of_topics, of_terms = jax.random.split(key)
        topics, terms = _normalised(params)
        lengths, dtype = jnp.sum(data.y, axis=1), topics.dtype
        tokens = jax.random.multinomial(of_topics, lengths.astype(dtype), topics, dtype=dtype)
        shape = (*tokens.shape, terms.shape[1])
        drawn = jax.random.multinomial(of_terms, tokens, jnp.broadcast_to(terms[None], shape), dtype=dtype)
        return data._replace(y=jnp.sum(drawn, axis=1)), tokens


def _normalised(params: PLSAParams) -> PLSAParams:
    # Also in every E-step: float32 rows cast to float64 sum to 1 + 1e-8, which the tokens turn into a false gain.
    return PLSAParams(*(a / jnp.sum(a, axis=1, keepdims=True) for a in params))


def _log_sum(counts: Array, factors: tuple[Array, Array]) -> Array:
    """Sum of counts times the log of the product of both factors, over the counts that are not 0."""
    return jnp.sum(counts * jnp.log(jnp.where(counts > 0, multiply(*factors), 1.0)))


_FIXED = object()


def _with_fixed(params: PLSAParams, prepared: PLSAData, instead: Any = _FIXED) -> PLSAParams:
    """Fixed blocks in their places, or `instead` of them."""
    if prepared.fixed is None:
        return params
    blocks = zip(params, prepared.fixed, strict=True)
    return PLSAParams(*(free if held is None else held if instead is _FIXED else instead for free, held in blocks))


def _joined(blocks: PLSAParams, prepared: PLSAData, dtype: Any) -> Array:
    """Free blocks as one vector."""
    kept = [block for block in _with_fixed(blocks, prepared, None) if block is not None]
    return jnp.concatenate([jnp.zeros(0, dtype), *(block.astype(dtype).reshape(-1) for block in kept)])

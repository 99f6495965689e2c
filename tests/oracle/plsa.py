"""Probabilistic latent semantic analysis by loops over documents, terms and topics. No jax.

Parameters are records with topics_of_documents (D, K) and terms_of_topics (K, V); `weight` (D,) counts documents.
Rows of topics beyond the documents are left alone.
"""

from math import log
from typing import Any

import numpy as np

from tests.oracle.mixture import Posterior


class PLSAProblem:
    """E-step, Q and M-step for one corpus; beta is the inverse temperature."""

    def __init__(self, counts: np.ndarray, weight: np.ndarray, beta: float = 1.0) -> None:
        self.counts, self.weight, self.beta = counts, weight, beta

    def log_likelihood(self, params: Any) -> float:
        """Sum of the tokens' log probabilities, nats."""
        value, topics, terms = 0.0, params.topics_of_documents, params.terms_of_topics
        for d, v in zip(*np.nonzero(self.counts)):
            probability = sum(topics[d, k] * terms[k, v] for k in range(self.k(params)))
            value += self.weight[d] * self.counts[d, v] * log(probability)
        return value

    def objective(self, params: Any) -> float:
        """Expected complete-data log-likelihood plus the entropy of the topics over beta, at the tempered posterior."""
        value = 0.0
        posterior = self.e_step(params).responsibilities
        for d, v in zip(*np.nonzero(self.counts)):
            for k in range(self.k(params)):
                share = posterior[d, k, v]
                if share > 0:
                    joint = log(params.topics_of_documents[d, k] * params.terms_of_topics[k, v])
                    value += self.weight[d] * self.counts[d, v] * share * (joint - log(share) / self.beta)
        return value

    def k(self, params: Any) -> int:
        return len(params.terms_of_topics)

    def e_step(self, params: Any) -> Posterior:
        """Log-likelihood, and p(topic | document, term), (D, K, V), to the power beta and made to sum to 1."""
        n_documents, n_terms = self.counts.shape
        posterior = np.zeros((n_documents, self.k(params), n_terms))
        for d in range(n_documents):
            for v in range(n_terms):
                joint = params.topics_of_documents[d] * params.terms_of_topics[:, v]
                if sum(joint) > 0:
                    posterior[d, :, v] = joint**self.beta / sum(joint**self.beta)
        return Posterior(self.log_likelihood(params), posterior)

    def log_prior(self, params: Any) -> float:
        """There is none."""
        return 0.0

    def q(self, params: Any, posterior: np.ndarray) -> float:
        """The expected complete-data log-likelihood, nats."""
        value = 0.0
        for d, v in zip(*np.nonzero(self.counts)):
            for k in range(self.k(params)):
                joint = log(params.topics_of_documents[d, k]) + log(params.terms_of_topics[k, v])
                value += self.weight[d] * self.counts[d, v] * posterior[d, k, v] * joint
        return value

    def m_step(self, params: Any, posterior: np.ndarray) -> Any:
        """Shares of the expected tokens; documents without tokens have even ones."""
        n_documents, n_topics, n_terms = posterior.shape
        topics, terms = np.full((n_documents, n_topics), 1.0 / n_topics), np.zeros((n_topics, n_terms))
        for d in range(n_documents):
            tokens = [sum(self.counts[d, v] * posterior[d, k, v] for v in range(n_terms)) for k in range(n_topics)]
            if self.weight[d] > 0 and sum(tokens) > 0:
                topics[d] = np.array(tokens) / sum(tokens)
            for k in range(n_topics):
                for v in range(n_terms):
                    terms[k, v] += self.weight[d] * self.counts[d, v] * posterior[d, k, v]
        return params._replace(topics_of_documents=topics, terms_of_topics=terms / terms.sum(axis=1, keepdims=True))

    def em(self, params: Any, iterations: int) -> Any:
        """Parameters after a number of iterations."""
        for _ in range(iterations):
            params = self.m_step(params, self.e_step(params).responsibilities)
        return params


def lee_seung(counts: np.ndarray, left: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both multiplicative updates of non-negative matrix factorisation by the Kullback-Leibler divergence (Lee & Seung
    2001, theorem 2) at the same point: left (D, K), right (K, V)."""
    ratio = counts / (left @ right)
    return left * (ratio @ right.T) / right.sum(axis=1), right * (left.T @ ratio) / left.sum(axis=0)[:, None]

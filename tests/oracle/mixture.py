"""The mixture's E-step, its weights and the EM loop, whatever the components' density. NumPy loops, no jax."""

from collections.abc import Callable
from math import exp, lgamma, log
from typing import Any, NamedTuple

import numpy as np


class Posterior(NamedTuple):
    log_likelihood: float  # sum over rows of weight_i log sum_k weights_k p(y_i | k)
    responsibilities: np.ndarray  # (K, n); not multiplied by the rows' weights


class Run(NamedTuple):
    weights: np.ndarray  # (K,)
    params: Any
    log_likelihoods: np.ndarray  # (iterations + 1,): at the start and after every M-step
    log_priors: np.ndarray  # (iterations + 1,)


def log_sum_exp(values: np.ndarray) -> float:
    largest = max(values)
    if largest == -np.inf:
        return -np.inf
    return largest + log(sum(exp(value - largest) for value in values))


def e_step(weights: np.ndarray, log_prob: np.ndarray, row_weight: np.ndarray | None = None) -> Posterior:
    """Bayes' rule row by row; `log_prob` is (K, n)."""
    n_components, n_rows = log_prob.shape
    row_weight = np.ones(n_rows) if row_weight is None else row_weight
    responsibilities = np.zeros((n_components, n_rows))
    log_likelihood = 0.0
    for i in range(n_rows):
        joint = np.array(
            [(log(weights[k]) if weights[k] > 0 else -np.inf) + log_prob[k, i] for k in range(n_components)]
        )
        total = log_sum_exp(joint)
        for k in range(n_components):
            responsibilities[k, i] = exp(joint[k] - total)
        log_likelihood += row_weight[i] * total
    return Posterior(log_likelihood, responsibilities)


def update_weights(
    responsibilities: np.ndarray, row_weight: np.ndarray | None = None, concentration: Any = 1.0
) -> np.ndarray:
    """The mode of the weights given the responsibilities; a concentration of 1 is maximum likelihood."""
    n_components, n_rows = responsibilities.shape
    row_weight = np.ones(n_rows) if row_weight is None else row_weight
    concentration = np.broadcast_to(concentration, n_components)
    counts = np.array(
        [
            sum(row_weight[i] * responsibilities[k, i] for i in range(n_rows)) + concentration[k] - 1.0
            for k in range(n_components)
        ]
    )
    return counts / sum(counts)


def weights_log_prior(weights: np.ndarray, concentration: Any) -> float:
    """The Dirichlet's normalised log density."""
    concentration = np.broadcast_to(concentration, len(weights))
    value = lgamma(sum(concentration))
    for k in range(len(weights)):
        value += (concentration[k] - 1.0) * log(weights[k]) - lgamma(concentration[k])
    return value


def weights_q(weights: np.ndarray, responsibilities: np.ndarray, row_weight: np.ndarray | None = None) -> float:
    """The weights' part of Q: sum_i weight_i sum_k resp_ki log weights_k."""
    return family_q(np.log(weights)[:, None] * np.ones_like(responsibilities), responsibilities, row_weight)


def family_q(log_prob: np.ndarray, responsibilities: np.ndarray, row_weight: np.ndarray | None = None) -> float:
    """The components' part of Q: sum_i weight_i sum_k resp_ki log p(y_i | k)."""
    n_components, n_rows = log_prob.shape
    row_weight = np.ones(n_rows) if row_weight is None else row_weight
    value = 0.0
    for i in range(n_rows):
        for k in range(n_components):
            if responsibilities[k, i] > 0:  # a point mass has a log density of minus infinity elsewhere
                value += row_weight[i] * responsibilities[k, i] * log_prob[k, i]
    return value


def run_em(
    weights: np.ndarray,
    params: Any,
    *,
    log_prob: Callable[[Any], np.ndarray],
    maximize: Callable[[np.ndarray], Any],
    log_prior: Callable[[Any], float],
    iterations: int,
    row_weight: np.ndarray | None = None,
    concentration: Any = None,
) -> Run:
    """A fixed number of iterations; `maximize` receives the responsibilities."""
    log_likelihoods, log_priors = [], []
    for step in range(iterations + 1):
        posterior = e_step(weights, log_prob(params), row_weight)
        log_likelihoods.append(posterior.log_likelihood)
        weights_part = 0.0 if concentration is None else weights_log_prior(weights, concentration)
        log_priors.append(log_prior(params) + weights_part)
        if step < iterations:
            params = maximize(posterior.responsibilities)
            weights = update_weights(
                posterior.responsibilities, row_weight, 1.0 if concentration is None else concentration
            )
    return Run(weights, params, np.array(log_likelihoods), np.array(log_priors))

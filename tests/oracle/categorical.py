"""Categorical items, independent given the component, by loops. No jax.

Probabilities are (K, J, L), 0 beyond an item's levels; y (n, J) holds levels, NaN where a cell is missing.
"""

from math import inf, isnan, lgamma, log
from typing import Any, NamedTuple

import numpy as np


class Params(NamedTuple):
    probabilities: np.ndarray  # (K, J, L)


def log_prob(params: Any, y: np.ndarray) -> np.ndarray:
    """(K, n)"""
    n_components, n_items, _ = params.probabilities.shape
    values = np.zeros((n_components, len(y)))
    for k in range(n_components):
        for i in range(len(y)):
            for j in range(n_items):
                if not isnan(y[i, j]):
                    p = params.probabilities[k, j, int(y[i, j])]
                    values[k, i] += log(p) if p > 0 else -inf
    return values


def log_prior(params: Any, levels: tuple[int, ...], concentration: Any) -> float:
    """The Dirichlets' normalised log densities; concentration a number or (J, L)."""
    if concentration is None:
        return 0.0
    n_components, n_items, room = params.probabilities.shape
    concentration = np.broadcast_to(concentration, (n_items, room))
    value = 0.0
    for k in range(n_components):
        for j in range(n_items):
            value += lgamma(sum(concentration[j, level] for level in range(levels[j])))
            for level in range(levels[j]):
                value += (concentration[j, level] - 1.0) * log(params.probabilities[k, j, level])
                value -= lgamma(concentration[j, level])
    return value


def maximize(
    responsibilities: np.ndarray,
    y: np.ndarray,
    levels: tuple[int, ...],
    row_weight: np.ndarray,
    concentration: Any = None,
) -> Params:
    """The mode of Q + log prior: shares of the expected counts and pseudo-counts."""
    n_components, n_items, room = len(responsibilities), len(levels), max(levels)
    added = np.broadcast_to(1.0 if concentration is None else concentration, (n_items, room)) - 1.0
    probabilities = np.zeros((n_components, n_items, room))
    for k in range(n_components):
        for j in range(n_items):
            counts = [added[j, level] for level in range(levels[j])]
            for i in range(len(y)):
                if not isnan(y[i, j]):
                    counts[int(y[i, j])] += row_weight[i] * responsibilities[k, i]
            for level in range(levels[j]):
                probabilities[k, j, level] = counts[level] / sum(counts)
    return Params(probabilities)

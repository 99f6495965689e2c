"""Exponential components, by loops. No jax."""

from math import lgamma, log
from typing import Any, NamedTuple

import numpy as np


class Params(NamedTuple):
    rates: np.ndarray  # (K,)


def log_prob(params: Any, y: np.ndarray) -> np.ndarray:
    """(K, n)"""
    return np.array([[log(rate) - rate * value for value in y] for rate in params.rates])


def log_prior(params: Any, prior: tuple[float, float] | None) -> float:
    """The gamma density of the rates; prior is (shape, rate)."""
    if prior is None:
        return 0.0
    shape, rate = prior
    return sum(shape * log(rate) - lgamma(shape) + (shape - 1) * log(r) - rate * r for r in params.rates)


def maximize(
    responsibilities: np.ndarray, y: np.ndarray, row_weight: np.ndarray, prior: tuple[float, float] | None = None
) -> Params:
    """The mode of Q + log prior."""
    shape, rate = prior or (1.0, 0.0)
    rates = []
    for resp in responsibilities:
        rows, total = shape - 1.0, rate
        for i in range(len(y)):
            rows += row_weight[i] * resp[i]
            total += row_weight[i] * resp[i] * y[i]
        rates.append(rows / total)
    return Params(np.array(rates))

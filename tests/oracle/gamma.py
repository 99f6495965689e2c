"""Gamma components by shape and mean, by loops. No jax."""

from math import lgamma, log
from typing import Any, NamedTuple

import numpy as np
from scipy import optimize, special


class Params(NamedTuple):
    shapes: np.ndarray  # (K,)
    means: np.ndarray  # (K,)


def log_prob(params: Any, y: np.ndarray) -> np.ndarray:
    """(K, n)"""
    values = np.zeros((len(params.shapes), len(y)))
    for k, (shape, mean) in enumerate(zip(params.shapes, params.means)):
        rate = shape / mean
        for i, value in enumerate(y):
            values[k, i] = shape * log(rate) - lgamma(shape) + (shape - 1.0) * log(value) - rate * value
    return values


def maximize(responsibilities: np.ndarray, y: np.ndarray, row_weight: np.ndarray) -> Params:
    """The mode of Q: the score of the shape is 0, by bisection."""
    shapes, means = [], []
    for resp in responsibilities:
        case_weight = row_weight * resp
        mean = np.sum(case_weight * y) / np.sum(case_weight)
        gap = log(mean) - np.sum(case_weight * np.log(y)) / np.sum(case_weight)
        root = optimize.brentq(lambda a, gap=gap: log(a) - special.digamma(a) - gap, 1e-4, 1e6, xtol=1e-14, rtol=1e-14)
        shapes.append(root)
        means.append(mean)
    return Params(np.array(shapes), np.array(means))

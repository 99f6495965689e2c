"""Negative binomial components, by loops. No jax. The M-step has no closed form: only the density."""

from math import exp, lgamma, log
from typing import Any

import numpy as np


def log_prob(means: np.ndarray, sizes: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(K, n) at means (K, n), from Gamma(y + s) / (Gamma(s) y!) (s / (s + m))^s (m / (s + m))^y."""
    values = np.zeros(means.shape)
    for k, s in enumerate(sizes):
        for i, count in enumerate(y):
            m = means[k, i]
            values[k, i] = lgamma(count + s) - lgamma(s) - lgamma(count + 1.0)
            values[k, i] += s * log(s / (s + m)) + count * log(m / (s + m))
    return values


def constant_means(params: Any, y: np.ndarray) -> np.ndarray:
    """(K, n)"""
    return np.array([[mean for _ in y] for mean in params.means])


def regression_means(params: Any, design: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """(K, n), log link; `design` holds the column of ones."""
    return np.array(
        [[exp(row @ coefficients + move) for row, move in zip(design, offset)] for coefficients in params.coefficients]
    )

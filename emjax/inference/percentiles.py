"""Levels of confidence, and percentiles of bootstrap replicates: order statistics, and where BCa intervals take them.

Shapes: D datasets, B replicates, NaN where one is not valid, L parameters.
"""

from __future__ import annotations

from statistics import NormalDist
from typing import Any

import numpy as np

from emjax.base.status import DataError

_NORMAL = NormalDist()
_quantile = np.vectorize(_NORMAL.inv_cdf, otypes=[np.float64])


def check_level(level: Any) -> float:
    """A level of confidence; errors: `DataError` outside (0, 1)."""
    if isinstance(level, bool) or not isinstance(level, (float, np.floating)) or not 0.0 < level < 1.0:
        raise DataError(f"level={level!r}: give a number between 0 and 1, such as 0.95.")
    return float(level)


def order_statistics(values: np.ndarray, tail: np.ndarray) -> np.ndarray:
    """Of each column of values (D, B, L), NaN left out, the order statistic (B + 1) p at p = `tail` (D, L).

    Between two of them interpolated on the scale of normal quantiles (Davison & Hinkley 1997, equation 5.8); NaN beyond
    the first and the last.
    """
    ordered = np.sort(values, axis=1)
    count = np.sum(~np.isnan(values), axis=1)
    rank = (count + 1) * tail
    whole = np.where(np.isfinite(rank), np.round(rank), 0.0)
    rank = np.where(np.abs(rank - whole) < 1e-9, whole, rank)
    inside = (rank >= 1) & (rank <= count)
    low = np.where(inside, np.floor(np.where(inside, rank, 1.0)), 1.0).astype(np.int64)
    high = np.minimum(low + 1, np.maximum(count, 1))
    below, above = (np.take_along_axis(ordered, (k - 1)[:, None, :], axis=1)[:, 0] for k in (low, high))
    ends = [_quantile(np.clip(k / (count + 1), 1e-12, 1 - 1e-12)) for k in (low, high)]
    middle = _quantile(np.clip(np.where(inside, tail, 0.5), 1e-12, 1 - 1e-12))
    between = inside & (rank > low)
    share = np.where(between, (middle - ends[0]) / np.where(between, ends[1] - ends[0], 1.0), 0.0)
    return np.where(inside, below + share * np.where(between, above - below, 0.0), np.nan)


def corrected(values: np.ndarray, estimate: np.ndarray, constant: np.ndarray, tails: np.ndarray) -> np.ndarray:
    """Tail probabilities (2, D, L) after the corrections of Efron (1987); NaN where one of them is not known."""
    known = ~np.isnan(values)
    lower = np.where(known, (values < estimate[:, None]) + 0.5 * (values == estimate[:, None]), 0.0)
    share = np.sum(lower, axis=1) / np.maximum(np.sum(known, axis=1), 1)
    bias = np.where((share > 0) & (share < 1), _quantile(np.clip(share, 1e-12, 1 - 1e-12)), np.nan)
    z = bias + _quantile(tails)
    return np.vectorize(_NORMAL.cdf, otypes=[np.float64])(bias + z / (1.0 - constant * z))

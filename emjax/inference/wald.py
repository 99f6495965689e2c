"""Wald intervals, each on the scale where its parameter is unbounded, and tests of coefficients."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import jax
import numpy as np

from emjax.base import supports
from emjax.base.records import Params
from emjax.base.status import DataError
from emjax.inference.information import StandardErrors
from emjax.inference.percentiles import check_level

SCALES = ("auto", "identity")
# Fields of records; the last two, where they are no probabilities.
COEFFICIENTS = (".coefficients", ".gating", ".initial", ".transitions")


@dataclass(frozen=True)
class Intervals:
    """Confidence limits, records like the parameters', NaN where there is no standard error.

    level : of confidence, such as 0.95. scale : "auto" or "identity", see `intervals`.
    """

    lower: Params
    upper: Params
    level: float
    scale: str


@dataclass(frozen=True)
class WaldTests:
    """Wald tests of coefficients against 0: z and two-sided p values, records like the parameters'.

    Coefficients are those of regressions, of gated weights and of gated chains. NaN for anything else: 0 is the edge of
    the space of a scale or a weight, where the test has no meaning.
    """

    z: Params
    p: Params


def intervals(found: StandardErrors, level: float = 0.95, scale: str = "auto") -> Intervals:
    """Wald intervals from standard errors, by the delta method.

    scale : "auto" takes logit for probabilities, log for scales, rates, shapes and variances, and the identity for
    coefficients, means and covariances, so that no limit lies outside the parameter's space; "identity" is estimate
    plus and minus a multiple of the standard error throughout.

    Errors: `DataError` for a level outside (0, 1), another scale, or what are no standard errors.
    """
    _check(found)
    level = check_level(level)
    if scale not in SCALES:
        raise DataError(f"scale={scale!r}: use one of {', '.join(SCALES)}.")
    width = NormalDist().inv_cdf(0.5 + 0.5 * level)
    known = supports.of(found.params)

    def limit(sign: float) -> Params:
        def one(estimate: Any, se: Any, support: str) -> np.ndarray:
            with np.errstate(all="ignore"):
                return _limit(
                    np.asarray(estimate), np.asarray(se), sign * width, support if scale == "auto" else "real"
                )

        return jax.tree.map(one, found.params, found.se, known)

    return Intervals(limit(-1.0), limit(1.0), level, scale)


def _limit(estimate: np.ndarray, se: np.ndarray, width: float, support: str) -> np.ndarray:
    if support == supports.PROBABILITY:
        logit = np.log(estimate) - np.log1p(-estimate) + width * se / (estimate * (1.0 - estimate))
        return 1.0 / (1.0 + np.exp(-logit))
    plain = estimate + width * se
    if support == supports.REAL:
        return plain
    relative = estimate * np.exp(width * se / estimate)
    if support == supports.POSITIVE:
        return relative
    return np.where(np.eye(estimate.shape[-1], dtype=bool), relative, plain)


def wald_tests(found: StandardErrors) -> WaldTests:
    """z = estimate over standard error, and p = P(|Z| > |z|), of coefficients alone; see `WaldTests`.

    Errors: `DataError` for what are no standard errors.
    """
    _check(found)
    paths = jax.tree_util.tree_leaves_with_path(found.params)
    structure = jax.tree.structure(found.params)
    known = jax.tree.leaves(supports.of(found.params))
    z = []
    for (path, estimate), se, support in zip(paths, jax.tree.leaves(found.se), known, strict=True):
        named = support == supports.REAL and jax.tree_util.keystr(path).endswith(COEFFICIENTS)
        with np.errstate(all="ignore"):
            z.append(np.asarray(estimate) / np.asarray(se) if named else np.full(np.shape(se), np.nan))
    two_sided = np.vectorize(lambda value: math.erfc(abs(value) / math.sqrt(2.0)), otypes=[np.float64])
    p = [two_sided(value) if value.size else value for value in z]
    return WaldTests(jax.tree.unflatten(structure, z), jax.tree.unflatten(structure, p))


def _check(found: Any) -> None:
    if not isinstance(found, StandardErrors):
        raise DataError(f"StandardErrors are needed, not {type(found).__name__}: give what standard_errors returned.")

"""Standard errors of rotated loadings: derivatives of the rotation, what does not depend on axes, and simulation."""

from dataclasses import replace
from functools import cache
from itertools import permutations, product
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest

import emjax
from emjax import Data, DataError, FactorAnalysis, Reason, Stop, rotated_loadings, standard_errors, varimax
from emjax.inference.rotated import _jacobian

SIMPLE = np.array(
    [[0.9, 0.0, 0.1], [0.8, 0.2, 0.0], [0.7, 0.1, 0.1], [0.1, 0.9, 0.0], [0.0, 0.8, 0.2], [0.2, 0.7, 0.1]]
)
LOADINGS = np.concatenate([SIMPLE, [[0.0, 0.2, 0.8], [0.1, 0.1, 0.7], [0.2, 0.0, 0.6]]])


def matched(loadings: np.ndarray, like: np.ndarray) -> np.ndarray:
    """With the order and signs of the factors that are nearest to those of `like`."""
    q = like.shape[1]
    ways = (
        loadings[:, order] * np.array(sign)
        for order in map(list, permutations(range(q)))
        for sign in product((1.0, -1.0), repeat=q)
    )
    return min(ways, key=lambda a: float(np.sum((a - like) ** 2)))


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("q", [1, 2, 3])
def test_derivatives_of_the_rotation(normalize: bool, q: int) -> None:
    rng = np.random.default_rng(q)
    given = LOADINGS[:, :q] + 0.1 * rng.normal(size=(2, 9, q))
    given = given @ np.linalg.qr(rng.normal(size=(q, q)))[0]
    turned = varimax(given, normalize)
    found, unique = _jacobian(turned.loadings, turned.rotation, normalize)
    assert unique.all()
    step = 1e-6
    for i in range(9 * q):
        away = step * np.eye(9 * q)[i].reshape(9, q)
        for c in range(2):
            ends = [matched(varimax(given[c] + s * away, normalize).loadings, turned.loadings[c]) for s in (1, -1)]
            slope = (ends[0] - ends[1]).ravel() / (2 * step)
            np.testing.assert_allclose(found[c, :, i], slope, atol=1e-7)


def drawn(count: int, n: int) -> np.ndarray:
    """Two factors, seven variables in units of their own."""
    loadings, unit = LOADINGS[[0, 1, 2, 3, 4, 5, 7], :2], np.array([1.0, 5.0, 0.2, 1.0, 2.0, 1.0, 10.0])
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(count, n, 7)) * 0.6
    return (rng.normal(size=(count, n, 2)) @ loadings.T + noise) * unit


@cache
def two() -> emjax.Fits:
    return emjax.fit_many(FactorAnalysis(2), Data(drawn(2, 100)), 0, restarts=2, stop=Stop(tol=1e-10))


@pytest.mark.slow
def test_simulated_loadings_vary_as_their_standard_errors_say() -> None:
    count, n = 400, 2000  # of 300 rows the loadings near 0 vary up to 13 % less
    fits = emjax.fit_many(FactorAnalysis(2), Data(drawn(count, n)), 0, restarts=2, stop=Stop(tol=1e-8))
    found = rotated_loadings(standard_errors(fits, covariance=True))
    like = found.loadings[0]
    loadings = np.stack([matched(a, like) for a in found.loadings])
    order = [np.argmax(np.abs(a.T @ b), axis=1) for a, b in zip(loadings, found.loadings)]
    se = np.stack([a[:, k] for a, k in zip(found.se, order)])
    spread = np.std(loadings, axis=0, ddof=1)
    # The empirical standard deviation of 400 is known to 3.5 %: four times that for the worst of 14 loadings.
    np.testing.assert_allclose(np.sqrt(np.mean(se**2, axis=0)), spread, rtol=0.14)
    unrotated = np.sqrt(np.mean(standard_errors(fits).se.loadings ** 2, axis=0))
    assert np.max(np.abs(unrotated / spread - 1.0)) > 0.3  # so that the rotation matters here


@pytest.mark.slow
def test_one_fit_its_batch_and_its_axes_agree() -> None:
    fits = two()
    many, one = (rotated_loadings(standard_errors(f, covariance=True)) for f in (fits, fits[1]))
    np.testing.assert_allclose(one.se, many.se[1], rtol=1e-6)
    np.testing.assert_allclose(one.se.ravel() ** 2, np.diagonal(one.covariance), rtol=1e-12)
    np.testing.assert_allclose(fits[1].params.loadings @ one.rotation, one.loadings, atol=1e-12)
    assert np.all(one.reason == Reason.FREE)
    # Communalities do not depend on axes, nor do their standard errors.
    plain = standard_errors(fits[1], covariance=True)
    block = plain.covariance[7:21, 7:21]
    for covariance, loadings in ((block, fits[1].params.loadings), (one.covariance, one.loadings)):
        slope = np.zeros((7, 14))
        for r in range(7):
            slope[r, 2 * r : 2 * r + 2] = 2.0 * loadings[r]
        found = slope @ covariance @ slope.T
        if covariance is block:
            wanted = found
    np.testing.assert_allclose(found, wanted, rtol=1e-8, atol=1e-12)


@pytest.mark.slow
def test_what_cannot_be_rotated_says_why() -> None:
    fit = two()[0]
    with pytest.raises(DataError, match="covariance=True"):
        rotated_loadings(fit)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="covariance=True"):
        rotated_loadings(standard_errors(fit))
    found = standard_errors(fit, covariance=True)
    # Two equal columns of a circle: every rotation is as good, so that none has standard errors.
    angle = np.arange(7) * 2.0 * np.pi / 7
    circle = fit.params._replace(loadings=np.stack([np.cos(angle), np.sin(angle)], axis=1))
    lost = rotated_loadings(replace(found, params=circle))
    assert np.all(lost.reason == Reason.NOT_IDENTIFIED) and np.all(np.isnan(lost.se))
    mixture = emjax.fit(emjax.Mixture(emjax.Poisson(), 1), Data(np.arange(9.0)), 0, restarts=1)
    with pytest.raises(DataError, match="no loadings"):
        rotated_loadings(standard_errors(mixture, covariance=True))


class Loadings(NamedTuple):
    loadings: Any


def test_two_sets_of_loadings_are_not_told_apart() -> None:
    both = (Loadings(np.ones((2, 1))), Loadings(np.ones((2, 1))))
    found = emjax.StandardErrors(both, both, jax.tree.map(np.zeros_like, both), "observed", np.eye(4))
    with pytest.raises(DataError, match="2 loadings"):
        rotated_loadings(found)

"""Fit of latent class models: statistics by hand, residuals, classification, the bootstrap."""

from dataclasses import replace
from functools import cache
from itertools import product
from typing import Any

import numpy as np
import pytest

import emjax
from emjax import Categorical, CategoricalParams, Data, DataError, Mixture, MixtureParams, Status, WeightsParams
from emjax.inference import latent_class
from tests.references import LatentClassReference, latent_class_cases

pytestmark = pytest.mark.slow  # compiling takes most of it


@cache
def case() -> LatentClassReference:
    return next(case for case in latent_class_cases() if case.name == "lca_lsat6-K2")


@cache
def lsat6() -> emjax.Fit:
    weights, probabilities = case().weights, case().probabilities
    assert weights is not None and probabilities is not None
    start = MixtureParams(WeightsParams(weights), CategoricalParams(probabilities))
    stop = emjax.Stop(tol=1e-8)
    return emjax.fit(Mixture(Categorical(2), 2), Data(case().y, weight=case().weight), 0, start=start, stop=stop)


@cache
def found() -> emjax.LatentClassFit:
    return emjax.latent_class_fit(lsat6())


def counts() -> dict[tuple[int, ...], float]:
    return {tuple(row): count for row, count in zip(case().y.astype(int).tolist(), case().weight)}


def test_the_statistics_are_those_by_hand() -> None:
    saturated = sum(count * np.log(count / 1000) for count in counts().values() if count > 0)
    g_squared = 2 * (saturated + 2467.40552388281)  # the reference's log-likelihood
    assert found().g_squared == pytest.approx(g_squared, abs=1e-5) and found().df == 31 - 11
    pearson = 0.0
    for pattern in product((0, 1), repeat=5):
        chances = [np.prod([p[j, level] for j, level in enumerate(pattern)]) for p in case().probabilities]
        expected = 1000 * (case().weights @ np.array(chances))
        pearson += (counts().get(pattern, 0.0) - expected) ** 2 / expected
    assert found().pearson == pytest.approx(pearson, rel=1e-3)
    assert 0 in case().weight  # patterns that nobody gave count in Pearson's statistic


def test_residuals_of_pairs_are_those_by_hand() -> None:
    table = np.zeros((2, 2))
    for pattern, count in counts().items():
        table[pattern[1], pattern[4]] += count
    p = case().probabilities
    expected = 1000 * sum(w * np.outer(one[1], one[4]) for w, one in zip(case().weights, p))
    assert found().bivariate[1, 4] == pytest.approx(np.sum((table - expected) ** 2 / expected), abs=1e-4)
    assert found().bivariate[4, 1] == found().bivariate[1, 4] and np.isnan(np.diagonal(found().bivariate)).all()


def test_classes_are_counted_by_the_most_probable_one() -> None:
    resp = lsat6().predict().responsibilities
    of_one = case().weight @ np.where((resp[:, 0] > resp[:, 1])[:, None], resp, 0.0)
    np.testing.assert_allclose(found().classification[0], of_one, rtol=1e-8)
    np.testing.assert_allclose(found().classification.sum(), 1000.0)
    np.testing.assert_allclose(found().average_posterior[0], of_one / of_one.sum(), rtol=1e-8)
    wrong = case().weight @ (1 - resp.max(axis=1)) / 1000
    assert found().classification_error == pytest.approx(wrong, rel=1e-8)


def test_levels_that_differ_and_a_class_of_nobody() -> None:
    weights, p = np.array([0.9, 0.1]), np.zeros((2, 2, 3))
    p[:, 0, :2], p[:, 1] = [[0.6, 0.4], [0.6, 0.4]], [[0.2, 0.3, 0.5], [0.2, 0.5, 0.3]]
    y = np.array([[a, b] for a in (0, 1) for b in (0, 1, 2)])
    count = np.array([5.0, 1, 2, 3, 4, 6])
    expected = 21 * (0.9 * np.outer(p[0, 0, :2], p[0, 1]) + 0.1 * np.outer(p[1, 0, :2], p[1, 1]))
    residual = latent_class._bivariate(weights, p, y, count, [2, 3])[0, 1]
    assert residual == pytest.approx(np.sum((count.reshape(2, 3) - expected) ** 2 / expected) / 2)
    tests = latent_class._tests(weights, p, y[1:], count[1:])
    full = latent_class._tests(weights, p, y, np.array([0.0, 1, 2, 3, 4, 6]))
    assert tests == pytest.approx(full)


def test_samples_have_the_probabilities_of_the_fit() -> None:
    p = np.array([[[0.2, 0.3, 0.5], [1.0, 0.0, 0.0]], [[0.6, 0.4, 0.0], [0.1, 0.9, 0.0]]])
    y, count = latent_class._draw(np.array([0.3, 0.7]), p, 40000, np.random.default_rng(0))
    share = np.zeros((3, 3))
    np.add.at(share, (y[:, 0], y[:, 1]), count / 40000)
    wanted = 0.3 * np.outer(p[0, 0], p[0, 1]) + 0.7 * np.outer(p[1, 0], p[1, 1])
    assert count.sum() == 40000 and np.all(share[wanted == 0] == 0)
    assert np.abs(share - wanted).max() < 4 * 0.5 / np.sqrt(40000)


@cache
def batch() -> emjax.Fits:
    """One class: items that depend on each other, items that do not, and a dataset that cannot be fitted."""
    rng = np.random.default_rng(5)
    trait = rng.random((150, 1)) < 0.5
    depend, free = rng.random((150, 4)) < np.where(trait, 0.85, 0.15), rng.random((150, 4)) < 0.5
    y = np.stack([depend, free, np.full((150, 4), 7)]).astype(float)
    return emjax.fit_many(Mixture(Categorical(2), 1), Data(y), 0, restarts=1)


def test_the_bootstrap_tells_a_model_that_fits_from_one_that_does_not() -> None:
    fit = emjax.latent_class_fit(batch(), bootstraps=19, key=3)
    assert fit.g_squared_p[0] == fit.pearson_p[0] == 1 / 20 and np.all(fit.not_fitted[:2] == 0)
    assert fit.g_squared_p[1] > 0.1 and fit.pearson_p[1] > 0.1
    assert batch().status[2] == Status.INVALID_DATA and np.isnan(fit.g_squared[2]) and np.isnan(fit.g_squared_p[2])
    assert np.isnan(fit.bivariate[2]).all() and fit.bivariate.shape == (3, 4, 4)
    again = emjax.latent_class_fit(batch()[0], bootstraps=19, key=3)
    assert again.g_squared_p == fit.g_squared_p[0] and again.g_squared == fit.g_squared[0]
    assert np.nanmax(fit.bivariate[1]) < 6.0 < np.nanmin(fit.bivariate[0])


def test_bootstrap_fits_without_an_end_count_as_exceedances(monkeypatch: pytest.MonkeyPatch) -> None:
    fit_many = latent_class.fitting.fit_many

    def five_without(*arguments: Any, **settings: Any) -> emjax.Fits:
        fits = fit_many(*arguments, **settings)
        return replace(fits, status=np.where(np.arange(len(fits)) < 5, int(Status.NON_FINITE), fits.status))

    monkeypatch.setattr(latent_class.fitting, "fit_many", five_without)
    fit = emjax.latent_class_fit(batch()[0], bootstraps=19, key=3)
    assert fit.not_fitted == 5 and fit.g_squared_p == 6 / 20


def test_what_cannot_be_counted_is_named() -> None:
    fit = lsat6()
    with pytest.raises(DataError, match="needs key="):
        emjax.latent_class_fit(fit, bootstraps=9)
    with pytest.raises(DataError, match="missing cells"):
        latent_class.patterns(Data(np.array([[0.0, np.nan]])))
    with pytest.raises(DataError, match="no latent class model"):
        emjax.latent_class_fit(emjax.fit(Mixture(emjax.Poisson(), 1), Data(np.array([1.0, 2, 4, 3])), 0, restarts=1))
    with pytest.raises(DataError, match="whole numbers"):
        latent_class._bootstrap(fit, {}, np.array([0.5, 1.0]), 9, np.random.default_rng(0), None)

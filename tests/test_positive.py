"""Exponential, gamma and negative binomial families: edges of their spaces, and bad data."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special as scipy_special
from scipy import stats

import emjax
from emjax import (
    Data,
    DataError,
    Degeneracy,
    Exponential,
    Flag,
    Gamma,
    GammaParams,
    GammaPrior,
    Mixture,
    NegativeBinomial,
    NegativeBinomialRegression,
    Problem,
    Status,
)
from emjax.base import special
from emjax.families.gamma import GammaStatistics
from tests import lanes

pytestmark = pytest.mark.long  # compiling takes most of a test command of ten minutes

EPS = float(np.finfo(np.float64).eps)


@lanes.in_float64
def test_the_shape_solves_its_equation_from_end_to_end() -> None:
    # Up to c = 100 scipy's difference loses no more than its value over c.
    c = np.geomspace(1e-3, 1e2, 60)
    shapes = np.asarray(special.gamma_shape(jnp.array(c)))
    np.testing.assert_allclose(np.log(shapes) - scipy_special.digamma(shapes), c, rtol=1e2 * EPS / c.min())
    # log a - digamma(a) = 1 / 2a + 1 / 12a^2 - ... for large a, 1 / a + log a + gamma - ... for small a.
    tiny = np.geomspace(1e-30, 1e-9, 22)
    np.testing.assert_allclose(special.gamma_shape(jnp.array(tiny)), 0.5 / tiny, rtol=1e-8)
    assert np.all(np.isfinite(special.gamma_shape(jnp.geomspace(1e-30, 1e8, 100, dtype=jnp.float64))))


@lanes.in_float64
def test_differences_of_log_gamma_functions() -> None:
    y = np.array([0.0, 1.0, 2.0, 7.0, 40.0, 1000.0])
    for s in (1e-4, 0.3, 5.0, 60.0, 2000.0):
        wanted = scipy_special.gammaln(y + s) - scipy_special.gammaln(s) - y * np.log(s)
        np.testing.assert_allclose(special.rising(jnp.array(y), jnp.float64(s)), wanted, rtol=1e-11, atol=1e-10)
        first, second = special.rising_slopes(jnp.array(y), jnp.float64(s))
        np.testing.assert_allclose(first, s * (scipy_special.digamma(y + s) - scipy_special.digamma(s)), atol=1e-9)
        slopes = scipy_special.polygamma(1, s) - scipy_special.polygamma(1, y + s)
        np.testing.assert_allclose(second, s**2 * slopes, atol=1e-8)
    # The Poisson limit: y (y - 1) / 2s.
    np.testing.assert_allclose(special.rising(jnp.float64(40.0), jnp.float64(1e12)), 780e-12, atol=1e2 * EPS)


def gamma_flags(shapes: Any, rows: Any, **settings: Any) -> Flag:
    data, _ = Gamma().prepare(Data(jnp.array([1.0, 2.0, 3.0]), weight=jnp.ones(3)), 2, None, None)
    params = GammaParams(jnp.array(shapes), jnp.ones(len(shapes)))
    statistics = GammaStatistics(jnp.array(rows), jnp.zeros(2), jnp.zeros(2))
    return Flag(int(Gamma().flags(params, statistics, data, Degeneracy(**settings))))


def test_a_gamma_component_collapses_by_its_shape() -> None:
    assert gamma_flags([1.0, 99.0], [50.0, 50.0]) == Flag.NONE
    assert gamma_flags([1.0, 101.0], [50.0, 50.0]) == Flag.SUSPECT
    assert gamma_flags([1.0, 9_900.0], [50.0, 50.0]) == Flag.SUSPECT
    assert gamma_flags([1.0, 10_100.0], [50.0, 50.0]) & Flag.DEGENERATE
    assert gamma_flags([1.0, 1.0], [50.0, 1.9]) & Flag.DEGENERATE
    assert gamma_flags([1.0, 1.0], [50.0, 5.9]) == Flag.SUSPECT
    assert gamma_flags([1e9], [50.0, 50.0]) == Flag.NONE


def test_equal_rows_collapse_and_nothing_is_nan() -> None:
    rng = np.random.default_rng(0)
    y = np.concatenate([np.full(20, 3.0), rng.gamma(2.0, 5.0, 40)])
    fit = emjax.fit(Mixture(Gamma(), 2), Data(y), 1, restarts=8)
    landscape = fit.restarts
    collapsed = landscape.status == Status.DEGENERATE
    assert np.any(collapsed)
    assert np.all(np.isfinite(landscape.log_likelihood))


@pytest.mark.parametrize("regression", [False, True])
def test_no_more_variance_than_mean_is_the_poisson_limit(regression: bool) -> None:
    family = NegativeBinomialRegression() if regression else NegativeBinomial()
    y = np.resize([2.0, 3.0, 3.0, 4.0], 60)
    fit = emjax.fit(Mixture(family, 1), Data(y), 1, restarts=2)
    assert fit.status == Status.CONVERGED
    assert fit.flags & Flag.BOUNDARY
    assert np.isfinite(fit.params.family.sizes[0])
    np.testing.assert_allclose(fit.log_likelihood, np.sum(stats.poisson.logpmf(y, 3.0)), rtol=0.0, atol=1e-5)


def test_counts_of_zero_alone() -> None:
    fit = emjax.fit(Mixture(NegativeBinomial(), 1), Data(np.zeros(30)), 1, restarts=2)
    assert fit.status == Status.CONVERGED
    assert fit.flags & Flag.BOUNDARY
    np.testing.assert_allclose(fit.log_likelihood, 0.0, atol=1e-6)


POSITIVE, COUNTS = np.arange(1.0, 61.0), np.resize([0.0, 1.0, 2.0, 3.0, 5.0, 9.0], 60)
BAD = {
    "exponential zero": (Exponential(), POSITIVE, 0.0, Problem.NOT_POSITIVE),
    "exponential negative": (Exponential(), POSITIVE, -2.0, Problem.NOT_POSITIVE),
    "gamma zero": (Gamma(), POSITIVE, 0.0, Problem.NOT_POSITIVE),
    "negative count": (NegativeBinomial(), COUNTS, -1.0, Problem.NOT_A_COUNT),
    "half a count": (NegativeBinomialRegression(), COUNTS, 2.5, Problem.NOT_A_COUNT),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_values(name: str) -> None:
    family, good, value, problem = BAD[name]
    bad = good.copy()
    bad[7] = value
    model = Mixture(family, 1)
    with pytest.raises(DataError, match=f"row 7 of y: {value:g}"):
        emjax.fit(model, Data(bad), 1, restarts=1)
    fits = emjax.fit_many(model, Data(np.stack([good, bad])), 1, restarts=1)
    assert fits[0].status == Status.CONVERGED
    assert fits[1].status == Status.INVALID_DATA
    assert fits[1].problems == problem
    # A row of weight 0 does not count.
    weight = np.where(np.arange(60) == 7, 0.0, 1.0)
    assert emjax.fit(model, Data(bad, weight=weight), 1, restarts=1).status == Status.CONVERGED


def test_data_and_settings_that_do_not_fit() -> None:
    for model, data, settings in (
        (Gamma(), Data(np.full(60, 2.0)), {}),
        (Gamma(), Data(np.stack([POSITIVE] * 2, axis=1)), {}),
        (Exponential(), Data(POSITIVE, x=POSITIVE[:, None]), {}),
        (NegativeBinomial(), Data(COUNTS, x=POSITIVE[:, None]), {}),
        (NegativeBinomialRegression(intercept=False), Data(COUNTS), {}),
        (Gamma(), Data(POSITIVE), {"prior": {"family": GammaPrior(2.0, 1.0)}}),
        (Exponential(), Data(POSITIVE), {"prior": {"family": GammaPrior(0.5, 1.0)}}),
        (Exponential(), Data(POSITIVE), {"fixed": {"rates": [-1.0]}}),
        (NegativeBinomial(), Data(COUNTS), {"fixed": {"sizes": [0.0]}}),
    ):
        with pytest.raises(DataError):
            emjax.fit(Mixture(model, 1), data, 1, restarts=1, **settings)

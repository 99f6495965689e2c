"""Known answers of factor analysis: the reference fits, R's factanal, and scikit-learn, from random starts."""

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.decomposition import FactorAnalysis as Rival

import emjax
from emjax import Data, FactorAnalysis, Flag, ProbabilisticPCA, Status
from tests.references import FactorReference, factor_cases

CASES = {case.name: case for case in factor_cases()}
QUICK = {"fa_iris-q1"}  # a Heywood case
LOG_LIKELIHOOD = 1e-6  # nats
STOP = emjax.Stop(tol=1e-12)
names = [name if name in QUICK else pytest.param(name, marks=pytest.mark.long) for name in CASES]


def correlations(case: FactorReference, params: emjax.FactorAnalysisParams) -> tuple[np.ndarray, np.ndarray]:
    return params.loadings / case.deviation[:, None], params.uniquenesses / case.deviation**2


@pytest.mark.parametrize("name", names)
def test_default_starts_end_at_the_reference(name: str) -> None:
    case = CASES[name]
    fit = emjax.fit(FactorAnalysis(case.n_factors), Data(case.y), 20)
    assert fit.status == Status.CONVERGED
    assert fit.log_likelihood == pytest.approx(case.log_likelihood, abs=LOG_LIKELIHOOD)
    assert fit.n_free == case.n_free
    gain = fit.log_likelihood - case.log_likelihood
    assert fit.aic + 2.0 * gain == pytest.approx(case.aic, rel=1e-10)
    assert fit.bic + 2.0 * gain == pytest.approx(case.bic, rel=1e-10)
    assert bool(fit.flags & Flag.BOUNDARY) == (case.heywood > 0)


@pytest.mark.parametrize("name", names)
def test_parameters_are_the_references(name: str) -> None:
    case = CASES[name]
    fit = emjax.fit(FactorAnalysis(case.n_factors), Data(case.y), 20, restarts=4, stop=STOP, race=emjax.Race(20, 1))
    loadings, uniquenesses = correlations(case, fit.params)
    np.testing.assert_allclose(uniquenesses, case.uniquenesses, rtol=1e-4)
    np.testing.assert_allclose(loadings, case.loadings, atol=1e-4)
    np.testing.assert_allclose(fit.params.mean, case.y.mean(axis=0), rtol=1e-12, atol=1e-12)


@pytest.mark.long
@pytest.mark.parametrize("name", CASES)
def test_with_its_floor_the_fit_is_factanals(name: str) -> None:
    case = CASES[name]
    fit = emjax.fit(FactorAnalysis(case.n_factors, min_uniqueness=0.005), Data(case.y), 20, restarts=6)
    # factanal stops at a relative change of 1e-7 or so, short of the maximum.
    assert 0 <= fit.log_likelihood + LOG_LIKELIHOOD - case.bounded_log_likelihood < 1e-5
    np.testing.assert_allclose(correlations(case, fit.params)[1], case.bounded_uniquenesses, atol=2e-3)


@pytest.mark.slow
def test_the_likelihood_is_scikit_learns() -> None:
    case = CASES["fa_ability-q2"]
    rival = Rival(2, tol=1e-12, max_iter=20_000, svd_method="lapack").fit(case.y)
    fit = emjax.fit(FactorAnalysis(2), Data(case.y), 20, restarts=4)
    assert fit.log_likelihood == pytest.approx(len(case.y) * rival.score(case.y), abs=1e-5)


@pytest.mark.long
def test_isotropic_noise_is_probabilistic_principal_components() -> None:
    y = CASES["fa_iris-q1"].y
    n, p, q = *y.shape, 2
    fit = emjax.fit(ProbabilisticPCA(q), Data(y), 20, restarts=4, stop=emjax.Stop(tol=1e-11))
    values, vectors = np.linalg.eigh(np.cov(y.T, ddof=0))
    values, vectors = values[::-1], vectors[:, ::-1]
    noise = values[q:].mean()  # Tipping & Bishop 1999, equations 7 and 8
    log_likelihood = -0.5 * n * (p * np.log(2 * np.pi) + np.log(values[:q]).sum() + (p - q) * np.log(noise) + p)
    assert fit.status == Status.CONVERGED
    assert fit.log_likelihood == pytest.approx(log_likelihood, abs=LOG_LIKELIHOOD)
    assert fit.log_likelihood == pytest.approx(n * PCA(q).fit(y).score(y) + _divisor(n, p), abs=0.5)
    np.testing.assert_allclose(fit.params.uniquenesses, noise, rtol=1e-5)
    wanted = vectors[:, :q] * np.sqrt(values[:q] - noise)
    np.testing.assert_allclose(fit.params.loadings @ fit.params.loadings.T, wanted @ wanted.T, atol=1e-4)
    np.testing.assert_allclose(np.abs(fit.params.loadings), np.abs(wanted), atol=1e-3)


def _divisor(n: int, p: int) -> float:
    """scikit-learn divides by n - 1: about how far its likelihood is from the maximum."""
    return 0.25 * p / n


@pytest.mark.long
def test_one_factor_of_three_variables_in_closed_form() -> None:
    rng = np.random.default_rng(0)
    y = rng.normal(size=(200, 1)) * [2.0, 1.0, -1.5] + rng.normal(size=(200, 3)) + [10.0, -5.0, 100.0]
    s = np.cov(y.T, ddof=0)
    fit = emjax.fit(FactorAnalysis(1), Data(y), 20, restarts=2, stop=emjax.Stop(tol=1e-13))
    squares = np.array([s[0, 1] * s[0, 2] / s[1, 2], s[0, 1] * s[1, 2] / s[0, 2], s[0, 2] * s[1, 2] / s[0, 1]])
    np.testing.assert_allclose(fit.params.loadings[:, 0] ** 2, squares, rtol=1e-6)
    np.testing.assert_allclose(fit.params.uniquenesses, np.diag(s) - squares, rtol=1e-6)
    saturated = -0.5 * 200 * (3 * np.log(2 * np.pi) + np.linalg.slogdet(s)[1] + 3)
    assert fit.log_likelihood == pytest.approx(saturated, abs=1e-9)

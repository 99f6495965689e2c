"""Information criteria against reference files and sums by hand; the number of components of a batch."""

from functools import cache

import numpy as np
import pytest

import emjax
from emjax import Data, DataError, Gaussian, HiddenMarkov, Mixture, Poisson, Status
from tests.references import GaussianReference, latent_class_cases

pytestmark = pytest.mark.long  # compiling takes most of it

Q = 3.84145882069412  # any positive number serves


def density(y: np.ndarray, mean: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    gap = y - mean
    distance = np.einsum("ni,ij,nj->n", gap, np.linalg.inv(covariance), gap)
    return np.exp(-0.5 * distance) / np.sqrt(np.linalg.det(2.0 * np.pi * covariance))


def responsibilities(case: GaussianReference) -> np.ndarray:
    """(n, K), from the reference's own parameters."""
    parts = [w * density(case.y, m, c) for w, m, c in zip(case.weights, case.means, case.covariances)]
    joint = np.stack(parts, axis=1)
    return joint / joint.sum(axis=1, keepdims=True)


def at_reference(case: GaussianReference) -> emjax.Fit:
    start = emjax.MixtureParams(emjax.WeightsParams(case.weights), emjax.GaussianParams(case.means, case.covariances))
    model = Mixture(Gaussian(case.covariance), case.K)  # type: ignore[arg-type]
    return emjax.fit(model, Data(case.y), 0, start=start, stop=emjax.Stop(tol=1e-10))


def test_a_gaussian_mixture_has_the_reference_and_both_forms_of_icl(
    gaussian_references: dict[str, GaussianReference],
) -> None:
    case = gaussian_references["gmm_faithful-K2-VVV"]
    fit = at_reference(case)
    found, resp = emjax.criteria(fit), responsibilities(case)
    assert found.aic == pytest.approx(case.aic, abs=1e-6) and found.bic == pytest.approx(case.bic, abs=1e-6)
    entropy = -np.sum(resp * np.log(np.maximum(resp, 1e-300)))
    assert found.entropy == pytest.approx(entropy, rel=1e-4)
    assert found.icl == pytest.approx(case.bic + 2 * entropy, abs=1e-3)
    assert found.relative_entropy == pytest.approx(1 - entropy / (len(resp) * np.log(2)), abs=1e-6)
    # mclust: its BIC, higher is better, plus 2 sum C log z with C the classification.
    by_class = case.bic - 2 * np.sum(np.log(resp.max(axis=1)))
    assert emjax.criteria(fit, icl="map").icl == pytest.approx(by_class, abs=1e-3)
    assert abs(by_class - found.icl) > 0.5
    n, m, fitted = len(resp), case.n_free, -2 * case.log_likelihood
    assert found.caic == pytest.approx(fitted + m * (np.log(n) + 1), abs=1e-6)
    assert found.sabic == pytest.approx(fitted + m * np.log((n + 2) / 24), abs=1e-6)
    assert emjax.criteria(fit, n_for_bic=Q).bic == pytest.approx(fitted + m * np.log(Q), abs=1e-6)


def test_frequency_weights_count_units() -> None:
    case = next(case for case in latent_class_cases() if case.name == "lca_lsat6-K2")
    assert case.weights is not None and case.probabilities is not None
    start = emjax.MixtureParams(emjax.WeightsParams(case.weights), emjax.CategoricalParams(case.probabilities))
    fit = emjax.fit(Mixture(emjax.Categorical(2), 2), Data(case.y, weight=case.weight), 0, start=start)
    found = emjax.criteria(fit)
    assert found.n == 1000 and found.aic == pytest.approx(4956.81104776561, abs=1e-6)
    assert found.bic == pytest.approx(5010.79635583442, abs=1e-6)
    levels = case.y[:, None, :, None] == np.arange(2)
    joint = case.weights * np.prod(np.sum(levels * case.probabilities[None], axis=-1), axis=-1)
    resp = joint / joint.sum(axis=1, keepdims=True)
    assert found.entropy == pytest.approx(-np.sum(case.weight[:, None] * resp * np.log(resp)), rel=1e-5)


def test_rows_of_a_unit_count_once() -> None:
    y = np.array([0.0, 1.0, 0.3, 4.0, 5.0, 4.2, 2.4, 2.7])
    unit = np.array([0, 0, 1, 2, 2, 3, 4, 4])
    params = emjax.MixtureParams(
        emjax.WeightsParams(np.array([0.6, 0.4])),
        emjax.GaussianParams(np.array([[1.0], [4.0]]), np.ones((2, 1, 1))),
    )
    fixed = {"weights": params.latent.weights, "means": params.family.means, "covariances": params.family.covariances}
    fit = emjax.fit(Mixture(Gaussian(), 2), Data(y, unit=unit), 0, start=params, fixed=fixed)
    logs = -0.5 * (y[:, None] - np.array([1.0, 4.0])) ** 2
    joint = np.array([0.6, 0.4]) * np.exp(np.stack([logs[unit == u].sum(axis=0) for u in range(5)]))
    resp = joint / joint.sum(axis=1, keepdims=True)
    found = emjax.criteria(fit)
    assert found.n == 5 and found.entropy == pytest.approx(-np.sum(resp * np.log(resp)), rel=1e-10)


def test_a_chain_counts_observed_steps_and_its_vertex() -> None:
    y = np.array([1.0, 0, 2, 1, 8, 9, 7, np.nan, 10, 8, 1, 0, 1, 2, 0, 9])
    fit = emjax.fit(HiddenMarkov(Poisson(), 2), Data(y), 0, restarts=2)
    found = emjax.criteria(fit)
    assert found.n == 15 and fit.n_free == 2 + 2 + 1  # rates, transitions, and the start at its vertex
    assert found.bic == pytest.approx(-2 * fit.log_likelihood + 5 * np.log(15))
    resp = fit.predict().responsibilities[np.isfinite(y)]
    assert found.entropy == pytest.approx(-np.sum(resp * np.log(np.maximum(resp, 1e-300))), rel=1e-8)


@cache
def chosen() -> emjax.ComponentChoice:
    rng = np.random.default_rng(4)
    one, two = rng.normal(size=80), np.concatenate([rng.normal(size=40), rng.normal(9.0, 1.0, size=40)])
    y = np.stack([one, two, np.full(80, np.nan)])
    return emjax.choose_components(Mixture(Gaussian(), 1), Data(y), 0, range(1, 3), restarts=2)


def test_the_number_of_components_is_chosen_for_every_dataset() -> None:
    found = chosen()
    assert found.components.tolist() == [1, 2] and found.chosen.tolist() == [1, 2, 0] and found.complete
    assert found.fits[0].status[2] == Status.INVALID_DATA
    assert np.isnan(found.bic[2]).all() and np.isnan(found.icl[2]).all()
    for column, fits in enumerate(found.fits):
        np.testing.assert_allclose(found.bic[:2, column], fits.bic[:2])
    np.testing.assert_array_equal(found.entropy[:2, 0], 0.0)  # one component leaves no doubt
    assert np.all(found.icl[:2, 1] >= found.bic[:2, 1]) and np.isnan(found.relative_entropy[:, 0]).all()


def test_a_fit_that_is_not_valid_has_no_criterion() -> None:
    fits = chosen().fits[1]
    found = emjax.criteria(emjax.Fits(**{**vars(fits), "status": np.array([Status.DEGENERATE, 1, 9])}))
    assert np.isfinite(found.aic).tolist() == [False, True, False]
    assert np.isfinite(found.entropy).tolist() == [False, True, False]


def test_settings_that_are_not_known_are_named() -> None:
    fits = chosen().fits[0]
    with pytest.raises(DataError, match="icl='hard'"):
        emjax.criteria(fits, icl="hard")
    with pytest.raises(DataError, match="n_for_bic"):
        emjax.criteria(fits, n_for_bic=0.0)
    with pytest.raises(DataError, match="criterion='likelihood'"):
        emjax.choose_components(fits.model, Data(np.ones((1, 3))), 0, criterion="likelihood")
    with pytest.raises(DataError, match="no n_components"):
        emjax.choose_components(emjax.FactorAnalysis(1), Data(np.ones((1, 3))), 0)
    with pytest.raises(DataError, match="components="):
        emjax.choose_components(fits.model, Data(np.ones((1, 3))), 0, [])

"""Standard errors: those of other software, published ones, and what has none says why."""

from typing import Any

import numpy as np
import pytest

import emjax
from emjax import Data, DataError, MixtureParams, Reason, Stop, WeightsParams
from emjax.inference import information
from tests import references
from tests.references import GaussianReference, RegressionReference

TIGHT = Stop(tol=1e-12)
DEATHS = Data(np.arange(10.0), weight=np.array([162.0, 267.0, 271.0, 185.0, 111.0, 61.0, 27.0, 8.0, 3.0, 1.0]))
RELATIVE = 1e-5  # of the references, which come from analytic derivatives
QUICK, SLOW = {"regmix_NOdata_EqOnNO-K2-component"}, {"gmm_faithful-K2-VVV"}


def at_reference(ref: RegressionReference | GaussianReference) -> emjax.Fit:
    weights = WeightsParams(ref.weights)
    if isinstance(ref, RegressionReference):
        model = emjax.Mixture(emjax.LinearRegression(intercept=ref.intercept, scale=ref.scale), ref.K)  # type: ignore
        start: Any = MixtureParams(weights, emjax.LinearRegressionParams(ref.coefficients, ref.sigma))
        return emjax.fit(model, Data(ref.y, ref.x), 0, start=start, stop=TIGHT)
    start = MixtureParams(weights, emjax.GaussianParams(ref.means, ref.covariances))
    return emjax.fit(emjax.Mixture(emjax.Gaussian(ref.covariance), ref.K), Data(ref.y), 0, start=start, stop=TIGHT)


def cases() -> list[Any]:
    found = [*references.regression_cases(), *references.gaussian_cases()]
    later = {r.name: pytest.mark.slow if r.name in SLOW else pytest.mark.long for r in found if r.name not in QUICK}
    return [pytest.param(r, id=r.name, marks=later.get(r.name, ())) for r in found if r.K > 1]


@pytest.mark.parametrize("ref", cases())
def test_standard_errors_of_the_references(ref: RegressionReference | GaussianReference) -> None:
    fit = at_reference(ref)
    if fit.log_likelihood > ref.log_likelihood + 1e-6:
        pytest.skip("EM left the reference for a higher mode")
    found = emjax.standard_errors(fit)
    named = {**found.se.latent._asdict(), **found.se.family._asdict()}
    named["sigma"] = named.pop("scale", None)
    for name, wanted in ref.se.items():
        known = np.isfinite(wanted)
        np.testing.assert_allclose(named[name][known], wanted[known], rtol=RELATIVE, err_msg=name)


def deaths() -> emjax.Fit:
    return emjax.fit(emjax.Mixture(emjax.Poisson(), 2), DEATHS, 0, stop=TIGHT, acceleration="squarem")


# Weight, rates: from exact derivatives; Hasselblad's published ones come from a numerical Hessian.
HASSELBLAD = {
    "observed": (0.1946843, 0.3500297, 0.2504783),
    "opg": (0.20631486, 0.36961631, 0.26545473),
    "sandwich": (0.1837538, 0.3316768, 0.2363994),
}


@pytest.mark.parametrize("kind", HASSELBLAD)
def test_hasselblads_deaths(kind: str) -> None:
    fit = deaths()
    found = emjax.standard_errors(fit, kind)
    order = np.argsort(fit.params.family.rates)
    se = (found.se.latent.weights[0], *found.se.family.rates[order])
    np.testing.assert_allclose(se, HASSELBLAD[kind], rtol=2e-6)
    np.testing.assert_array_equal(found.reason.family.rates, Reason.FREE)


@pytest.mark.long
def test_frequency_weights_are_rows_and_sampling_weights_are_not() -> None:
    assert DEATHS.weight is not None
    fit, rows = deaths(), Data(np.repeat(DEATHS.y, DEATHS.weight.astype(int)))
    long = emjax.fit(fit.model, rows, 0, start=fit.params, stop=TIGHT)
    for kind in ("opg", "sandwich"):
        one, other = (emjax.standard_errors(f, kind).se.family.rates for f in (fit, long))
        np.testing.assert_allclose(one, other, rtol=1e-4)
    sampled = emjax.standard_errors(fit, "sandwich", weights="sampling").se.family.rates
    assert np.all(sampled > 1.5 * emjax.standard_errors(fit, "sandwich").se.family.rates)
    single = emjax.standard_errors(long, "cluster").se.family.rates  # every row a cluster: the sandwich
    np.testing.assert_allclose(single, emjax.standard_errors(long, "sandwich").se.family.rates, rtol=1e-10)


EARTHQUAKES = {  # rates, then the probabilities of leaving either state
    "observed": (0.7172, 1.3825, 0.0376, 0.0636),
    "opg": (0.4888, 0.7487, 0.0379, 0.0617),
    "sandwich": (1.2981, 2.8107, 0.0395, 0.0806),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", EARTHQUAKES)
def test_earthquakes_start_at_a_vertex(kind: str, earthquakes: emjax.Fit) -> None:
    found = emjax.standard_errors(earthquakes, kind)
    order = np.argsort(earthquakes.params.family.rates)
    leave = [found.se.latent.transitions[a, b] for a, b in (order, order[::-1])]
    np.testing.assert_allclose((*found.se.family.rates[order], *leave), EARTHQUAKES[kind], atol=6e-5)
    assert np.all(np.isin(found.reason.latent.initial, (Reason.BOUNDARY, Reason.FIXED)))
    assert np.all(np.isnan(found.se.latent.initial))


@pytest.fixture(scope="module")
def earthquakes() -> emjax.Fit:
    with open("tests/references/hmm_earthquakes.csv") as file:
        header = file.readline().strip().replace('"', "").split(",")
        y = np.loadtxt(file, delimiter=",", ndmin=2)[:, header.index("y")]
    return emjax.fit(emjax.HiddenMarkov(emjax.Poisson(), 2), Data(y), 0, restarts=8, stop=TIGHT)


@pytest.mark.slow
def test_a_batch_is_its_fits_and_a_broken_dataset_has_a_reason() -> None:
    rng = np.random.default_rng(0)
    y = np.where(rng.random((4, 120)) < 0.5, 0.0, 5.0) + rng.normal(size=(4, 120))
    y[2, 5] = np.nan
    fits = emjax.fit_many(emjax.Mixture(emjax.Gaussian("E"), 2), Data(y), 0, restarts=4)
    found = emjax.standard_errors(fits, covariance=True)
    alone = emjax.standard_errors(fits[3])
    np.testing.assert_allclose(found.se.family.means[3], alone.se.family.means, rtol=1e-6)
    assert np.all(found.reason.family.means[2] == Reason.NO_FIT) and np.all(np.isnan(found.se.family.means[2]))
    np.testing.assert_allclose(np.sqrt(found.covariance[3, 0, 0]), alone.se.latent.weights[0], rtol=1e-6)
    assert found.se.latent.weights[0, 0] == pytest.approx(found.se.latent.weights[0, 1], rel=1e-9)  # they sum to 1


def test_an_entry_that_is_rounding_beside_the_others_has_no_variance() -> None:
    """As the covariance of two columns that are never observed together: scaled to a unit diagonal it would pass."""
    matrix = np.diag([30.0, 2.0, 7e-15])[None]
    inverse, lost = information.inverse(matrix, np.zeros((1, 3), bool))
    np.testing.assert_allclose(inverse[0], np.diag([1 / 30, 0.5, 0.0]))
    assert lost.tolist() == [[False, False, True]]


@pytest.mark.slow
def test_fixed_and_empty_components_have_reasons() -> None:
    y = np.random.default_rng(1).normal(size=200)
    fixed = {"weights": np.array([0.3, 0.7])}
    fit = emjax.fit(emjax.Mixture(emjax.Gaussian("E"), 2), Data(y), 0, restarts=2, fixed=fixed)
    np.testing.assert_array_equal(emjax.standard_errors(fit).reason.latent.weights, Reason.FIXED)


def test_intervals_stay_in_the_space_and_follow_the_level() -> None:
    fit = deaths()
    found = emjax.standard_errors(fit)
    auto, plain = emjax.intervals(found), emjax.intervals(found, scale="identity")
    rates, se = fit.params.family.rates, found.se.family.rates
    np.testing.assert_allclose(plain.upper.family.rates, rates + 1.959963984540054 * se, rtol=1e-12)
    np.testing.assert_allclose(auto.lower.family.rates, rates * np.exp(-1.959963984540054 * se / rates), rtol=1e-12)
    assert np.all((auto.lower.latent.weights > 0) & (auto.upper.latent.weights < 1))
    narrow = emjax.intervals(found, level=0.5)
    assert np.all(narrow.upper.family.rates < auto.upper.family.rates)


def test_only_coefficients_are_tested(regression_references: dict[str, RegressionReference]) -> None:
    fit = at_reference(regression_references["regmix_NOdata_EqOnNO-K2-component"])
    found = emjax.standard_errors(fit)
    tests = emjax.wald_tests(found)
    z = fit.params.family.coefficients / found.se.family.coefficients
    np.testing.assert_allclose(tests.z.family.coefficients, z, rtol=1e-12)
    np.testing.assert_allclose(emjax.wald_tests(found).p.family.coefficients[np.abs(z) > 40], 0.0, atol=1e-300)
    assert np.all(np.isnan(tests.z.latent.weights)) and np.all(np.isnan(tests.p.family.scale))


def test_coefficients_of_gates_are_tested_and_probabilities_are_not() -> None:
    logits, chances = np.array([[0.5, -1.0], [0.2, 3.0]]), np.full((2, 2), 0.5)
    for record, tested in (
        (emjax.GatingParams(logits), [True]),
        (emjax.GatedMarkovParams(chances[0], np.stack([logits, -logits])), [False, True]),
        (emjax.GatedMarkovParams(logits, chances), [True, False]),
        (emjax.GatedMarkovParams(logits, np.stack([logits, -logits])), [True, True]),
        (emjax.MarkovParams(chances[0], chances), [False, False]),
    ):
        se = type(record)(*(np.full(np.shape(part), 0.5) for part in record))
        z = emjax.wald_tests(emjax.StandardErrors(record, se, se, "observed", None)).z
        for values, part, known in zip(z, record, tested, strict=True):
            np.testing.assert_array_equal(values, 2.0 * np.asarray(part) if known else np.nan)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"kind": "hessian"}, "sandwich"),
        ({"weights": "survey"}, "sampling"),
        ({"lags": -1, "kind": "opg"}, "lags"),
        ({"lags": 2}, "opg"),
    ],
)
def test_bad_settings(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=words):
        emjax.standard_errors(deaths(), **settings)
    with pytest.raises(DataError, match="level"):
        emjax.intervals(emjax.standard_errors(deaths()), level=95)  # type: ignore[arg-type]

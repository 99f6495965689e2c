"""Known answers of mixtures of Poisson components and regressions, from random starts with the default settings."""

from typing import Any

import numpy as np
import pytest
from scipy import special, stats

import emjax
from emjax import Data, Mixture, Poisson, PoissonRegression
from tests.references.counts import CountReference, count_cases

CASES = {case.name: case for case in count_cases()}
QUICK = {"glm_london_deaths-K2"}
# The default tolerance is 1e-6 nats.
LOG_LIKELIHOOD = 2e-6
# Modes above the reference, which the file's 40 searches missed.
HIGHER = {"glm_epil_subject-K2": -689.493372327382, "glm_epil_subject-K3": -664.630035178249}
# Hasselblad's table (1969, Journal of the American Statistical Association 64), to all printed places.
DEATHS = np.array([162, 267, 271, 185, 111, 61, 27, 8, 3, 1], float)
TIGHT = emjax.Stop(tol=1e-11, max_iterations=100_000)


def model_of(case: CountReference) -> Mixture:
    family: Any = PoissonRegression(shared=case.shared or None) if case.x.shape[1] else Poisson()
    return Mixture(family, case.K)


def data_of(case: CountReference) -> Data:
    return Data(case.y, case.x if case.x.shape[1] else None, unit=case.unit, weight=case.weight)


def coefficients_of(params: Any) -> np.ndarray:
    values = params.family[0]
    return values if values.ndim == 2 else np.log(values)[:, None]


def params_of(case: CountReference) -> emjax.MixtureParams:
    family: Any = emjax.PoissonRegressionParams(case.coefficients)
    if not case.x.shape[1]:
        family = emjax.PoissonParams(np.exp(case.coefficients[:, 0]))
    return emjax.MixtureParams(emjax.WeightsParams(case.weights / case.weights.sum()), family)


def log_likelihood_by_loops(case: CountReference, params: emjax.MixtureParams) -> float:
    """Straight from the definition, nats."""
    design = np.column_stack([np.ones(len(case.y)), case.x])
    rows = np.array([stats.poisson.logpmf(case.y, np.exp(design @ b)) for b in coefficients_of(params)])
    unit = np.arange(len(case.y)) if case.unit is None else case.unit
    weight = np.ones(len(case.y)) if case.weight is None else case.weight
    joint = [np.log(params.latent.weights) + rows[:, unit == u].sum(axis=1) for u in np.unique(unit)]
    weight = weight if case.unit is None else np.ones(len(joint))
    return float(weight @ special.logsumexp(joint, axis=1))


@pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.long) for n in CASES])
def test_random_starts_end_at_the_reference_or_at_the_higher_mode(name: str) -> None:
    case = CASES[name]
    best = HIGHER.get(name, case.log_likelihood)
    fit = emjax.fit(model_of(case), data_of(case), 0, id=name, threads=1)
    gain = best - case.log_likelihood
    assert fit.status == emjax.Status.CONVERGED
    assert fit.n_free == case.n_free
    assert fit.log_likelihood == pytest.approx(best, abs=LOG_LIKELIHOOD)
    assert fit.log_likelihood == pytest.approx(log_likelihood_by_loops(case, fit.params), abs=1e-9 * abs(best))
    assert fit.aic == pytest.approx(case.aic - 2 * gain, abs=2 * LOG_LIKELIHOOD)
    assert fit.bic == pytest.approx(case.bic - 2 * gain, abs=2 * LOG_LIKELIHOOD)
    start = params_of(case) if name in HIGHER else fit.params
    tight = emjax.fit(model_of(case), data_of(case), 0, start=start, stop=TIGHT, threads=1)
    order = np.argsort(coefficients_of(tight.params)[:, 0])
    assert tight.log_likelihood == pytest.approx(case.log_likelihood, abs=1e-9)
    np.testing.assert_allclose(tight.params.latent.weights[order], case.weights, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(coefficients_of(tight.params)[order], case.coefficients, rtol=1e-4, atol=1e-5)


def test_hasselblads_deaths() -> None:
    fit = emjax.fit(Mixture(Poisson(), 2), Data(np.arange(10.0), weight=DEATHS), 0, stop=TIGHT, restarts=4)
    assert fit.status == emjax.Status.CONVERGED
    order = np.argsort(fit.params.family.rates)
    assert fit.log_likelihood == pytest.approx(-1989.945859883, abs=5e-10)
    np.testing.assert_allclose(fit.params.latent.weights[order][0], 0.3598853970, rtol=0, atol=5e-6)
    np.testing.assert_allclose(fit.params.family.rates[order], [1.2560951012, 2.6634043566], rtol=0, atol=5e-6)


@pytest.mark.slow
def test_squarem_needs_a_tenth_of_the_e_steps_on_hasselblads_deaths() -> None:
    from bench import acceleration

    found = acceleration.measure(acceleration.DEATHS, 100, tol=1e-8, key=0, rounds=1)  # as the benchmark does
    assert found.plain.iterations.mean() >= 10.0 * found.fast.iterations.mean()
    np.testing.assert_allclose(found.fast.log_likelihood, -1989.945859883, rtol=0, atol=2e-8)

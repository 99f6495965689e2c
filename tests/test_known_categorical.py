"""Latent class models from random starts end at the reference log-likelihoods."""

import numpy as np
import pytest

import emjax
from tests.references import LatentClassReference, latent_class_cases

CASES = {case.name: case for case in latent_class_cases()}
QUICK, SLOW = {"lca_carcinoma-K2"}, {"lca_carcinoma-K3"}
LOG_LIKELIHOOD = 1e-6  # nats
PRINTED = 5e-4  # half a unit of the shortest published value
PARAMETERS = 1e-3
STOP = emjax.Stop(tol=1e-8)


def data_of(case: LatentClassReference) -> emjax.Data:
    return emjax.Data(case.y, weight=case.weight)


def model_of(case: LatentClassReference) -> emjax.Mixture:
    return emjax.Mixture(emjax.Categorical(case.levels), case.K)


def marked() -> list:
    return [
        name if name in QUICK else pytest.param(name, marks=pytest.mark.slow if name in SLOW else pytest.mark.long)
        for name in CASES
    ]


@pytest.mark.parametrize("name", marked())
def test_default_starts_reach_the_reference(name: str) -> None:
    case = CASES[name]
    fit = emjax.fit(model_of(case), data_of(case), 20, stop=STOP)
    assert fit.status == emjax.Status.CONVERGED
    assert fit.n_free == case.n_free
    within = LOG_LIKELIHOOD if case.weights is not None else PRINTED
    assert fit.log_likelihood == pytest.approx(case.log_likelihood, abs=within)
    if case.aic is not None:
        assert fit.aic == pytest.approx(case.aic, abs=2 * LOG_LIKELIHOOD)
        order = np.argsort(fit.params.family.probabilities[:, 0, case.order_level])
        np.testing.assert_allclose(fit.params.latent.weights[order], case.weights, atol=PARAMETERS)
        np.testing.assert_allclose(fit.params.family.probabilities[order], case.probabilities, atol=PARAMETERS)
    assert bool(fit.flags & emjax.Flag.BOUNDARY) == (name != "lca_lsat6-K2")


@pytest.mark.long
@pytest.mark.parametrize("name", CASES)
def test_racing_restarts_reach_it_too(name: str) -> None:
    case = CASES[name]
    fit = emjax.fit(model_of(case), data_of(case), 20, restarts=40, race=emjax.Race(), stop=STOP)
    within = LOG_LIKELIHOOD if case.weights is not None else PRINTED
    assert fit.log_likelihood == pytest.approx(case.log_likelihood, abs=within)

"""Known answers: zero-inflated Poisson and negative binomial regressions (pscl's zeroinfl, polished).

The zero part is a constant weight, or where it has covariates gated weights.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import emjax
from emjax import Data, Mixture, PointMass, Status, Stop, WithComponent

FOLDER = Path(__file__).parent / "references"
CASES = {fit["name"]: fit for fit in json.loads((FOLDER / "zip_counts.json").read_text())["fits"]}
STATSMODELS = {fit["name"]: fit for fit in json.loads((FOLDER / "zip_statsmodels.json").read_text())["fits"]}
STOP = Stop(tol=1e-11)
LOG_LIKELIHOOD = 1e-6  # nats
PARAMETERS = 1e-4  # of a standard error: a remaining gain of 1e-11 nats is 4e-6 of one
RESTARTS = 8
STANDARD_ERRORS = 1e-6  # relative: of exact derivatives, and of differences of statsmodels' analytic score


QUICK = {"quine", "candy_expanded_nb"}  # a gated Poisson regression, and negative binomial


def cases() -> list[Any]:
    return [pytest.param(name, marks=pytest.mark.slow if name in QUICK else pytest.mark.long) for name in CASES]


def columns(fit: dict[str, Any], names: list[str]) -> np.ndarray:
    """(n, len(names))"""
    with open(FOLDER / fit["csv"]) as file:
        header = file.readline().strip().replace('"', "").split(",")
        table = np.loadtxt(file, delimiter=",", ndmin=2)
    return table[:, [header.index(name) for name in names]]


def problem(fit: dict[str, Any]) -> tuple[Mixture, Data]:
    y = columns(fit, [fit["response"]])[:, 0]
    x, z = (columns(fit, names) if names else None for names in (fit["covariates"], fit["zero_covariates"]))
    counts = getattr(emjax, "PoissonRegression" if fit["family"] == "poisson" else "NegativeBinomialRegression")
    gates = () if z is None else (emjax.GatedWeights(),)
    return Mixture(WithComponent(counts(), PointMass()), 2, *gates), Data(y, x, z)


@pytest.mark.parametrize("name", cases())
def test_reference(name: str) -> None:
    fit = CASES[name]
    model, data = problem(fit)
    found = emjax.fit(model, data, 1, restarts=RESTARTS, stop=STOP)
    assert found.status == Status.CONVERGED
    assert found.n_free == fit["n_free"]
    np.testing.assert_allclose(found.log_likelihood, fit["loglik"], rtol=0.0, atol=LOG_LIKELIHOOD)
    np.testing.assert_allclose([found.aic, found.bic], [fit["AIC"], fit["BIC"]], rtol=1e-8)
    latent, family, se = found.params.latent, found.params.family, fit["se"]
    if fit["zero_covariates"]:
        zero = latent.gating[1] - latent.gating[0]
    else:
        zero = np.array([np.log(latent.weights[1] / latent.weights[0])])

    def off(values: Any, block: str) -> float:
        return float(np.max(np.abs(values - np.array(fit[block])) / np.array(se[block])))

    assert off(family.coefficients[0], "count") < PARAMETERS
    assert off(zero, "zero") < PARAMETERS
    if "size" in fit:
        assert abs(family.sizes[0] / fit["size"] - 1.0) < PARAMETERS


@pytest.mark.long
@pytest.mark.parametrize("name", CASES)
def test_standard_errors(name: str) -> None:
    fit = CASES[name]
    model, data = problem(fit)
    found = emjax.fit(model, data, 1, restarts=RESTARTS, stop=STOP, acceleration="squarem")
    params, se = found.params, emjax.standard_errors(found).se
    if fit["zero_covariates"]:
        zero = se.latent.gating[0]  # the last component, the point mass, is the baseline
    else:
        zero = se.latent.weights[1:] / np.prod(params.latent.weights)  # of the logit
    for wanted in (fit["se"], STATSMODELS.get(name)):
        if wanted is not None:
            np.testing.assert_allclose(zero, wanted["zero"], rtol=STANDARD_ERRORS)
            np.testing.assert_allclose(se.family.coefficients[0], wanted["count"], rtol=STANDARD_ERRORS)


@pytest.mark.long
def test_no_covariates_are_the_intercept_alone() -> None:
    fit = CASES["candy_expanded_nb"]
    y = columns(fit, [fit["response"]])[:, 0]
    found = emjax.fit(
        Mixture(WithComponent(emjax.NegativeBinomial(), PointMass()), 2), Data(y), 1, restarts=RESTARTS, stop=STOP
    )
    np.testing.assert_allclose(found.log_likelihood, fit["loglik"], rtol=0.0, atol=LOG_LIKELIHOOD)
    np.testing.assert_allclose(np.log(found.params.family.means), fit["count"], rtol=PARAMETERS)

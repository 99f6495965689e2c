"""Known answers of Student-t mixtures: fits made with R, from random starts and default settings."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import emjax
from emjax import Data, Mixture, StudentT, StudentTRegression

FOLDER = Path(__file__).parent / "references"
FILE = json.loads((FOLDER / "tmix.json").read_text())
FITS = {fit["name"]: fit for fit in FILE["fits"]}
RESTARTS = {"galaxies_K3_common": 80, "galaxies_K3_nu4": 80}  # few starts reach these, in the file's own runs too
SLOW = ("DAX_K1",)
SEED = 8
LOG_LIKELIHOOD = 1e-6  # nats
PARAMETERS = 1e-4  # relative, at tol 1e-11


def data_of(case: dict[str, Any]) -> Data:
    with open(FOLDER / case["csv"]) as file:
        header = file.readline().strip().replace('"', "").split(",")
        table = np.loadtxt(file, delimiter=",", ndmin=2)
    assert len(table) == case["n"]
    return Data(table[:, [header.index(name) for name in case["columns"]]])


def marked(names: Any) -> list[Any]:
    return [pytest.param(name, marks=pytest.mark.slow if name in SLOW else pytest.mark.long) for name in names]


def compare(case: dict[str, Any], fit: emjax.Fit, means: np.ndarray, scales: np.ndarray) -> None:
    """Log-likelihood, criteria and parameters, components in the file's order."""
    assert fit.status == emjax.Status.CONVERGED
    assert fit.log_likelihood == pytest.approx(case["loglik"], abs=LOG_LIKELIHOOD)
    assert fit.n_free == case["n_free"]
    assert fit.aic == pytest.approx(case["AIC"], abs=4 * LOG_LIKELIHOOD)
    assert fit.bic == pytest.approx(case["BIC"], abs=4 * LOG_LIKELIHOOD)
    order = np.argsort(means[:, 0])
    np.testing.assert_allclose(fit.params.latent.weights[order], case["weights"], rtol=PARAMETERS)
    np.testing.assert_allclose(means[order], case["means"], rtol=PARAMETERS)
    np.testing.assert_allclose(scales[order], case["scales"], rtol=PARAMETERS)
    np.testing.assert_allclose(fit.params.family.degrees[order], case["nu"], rtol=PARAMETERS)


@pytest.mark.parametrize("name", marked(FITS))
def test_random_starts_reach_the_reference(name: str) -> None:
    case = FITS[name]
    model = Mixture(StudentT(degrees=case["degrees"]), case["K"])
    settings: dict[str, Any] = {"restarts": RESTARTS.get(name, 20)}
    found = emjax.fit(model, data_of(case), SEED, **settings)
    assert found.status == emjax.Status.CONVERGED
    assert found.log_likelihood == pytest.approx(case["loglik"], abs=LOG_LIKELIHOOD)
    exact = emjax.fit(model, data_of(case), SEED, start=found.params, stop=emjax.Stop(tol=1e-11))
    compare(case, exact, exact.params.family.means, exact.params.family.scales)


@pytest.mark.long
@pytest.mark.parametrize("name", [name for name, case in FITS.items() if len(case["columns"]) == 1])
def test_regressions_without_covariates_reach_it_too(name: str) -> None:
    case = FITS[name]
    model = Mixture(StudentTRegression(degrees=case["degrees"]), case["K"])
    data = data_of(case)
    settings: dict[str, Any] = {"restarts": RESTARTS.get(name, 20), "stop": emjax.Stop(tol=1e-11)}
    fit = emjax.fit(model, Data(data.y[:, 0]), SEED, **settings)
    compare(case, fit, fit.params.family.coefficients, fit.params.family.scale[:, None, None] ** 2)


def test_the_peer_stops_short_of_the_reference() -> None:
    ((_, name, log_likelihood),) = FILE["peers"]
    assert 0 < FITS[name]["loglik"] - log_likelihood < 1e-9


@pytest.mark.slow
def test_no_accelerated_start_ends_on_its_way_up() -> None:
    """From a point landed on, a guarded step may fall and still lie above the last accepted one: not the end."""
    case = FITS["diabetes_K3_common"]
    found = emjax.fit(Mixture(StudentT(), 3), data_of(case), 0, restarts=40, acceleration="squarem")
    assert np.all(found.restarts.status == emjax.Status.CONVERGED)
    assert found.log_likelihood > case["loglik"]  # the file's degrees are common

"""Known answers: mixtures of exponential and of gamma distributions, fitted from random starts.

The files' interior rule (largest shape below 5,000, 2.5 rows) is DESIGN's rule of collapse in other words.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import emjax
from emjax import Data, Degeneracy, Exponential, ExponentialParams, Gamma, GammaParams, Mixture, MixtureParams, Status

FOLDER = Path(__file__).parent / "references"
FILES = [json.loads((FOLDER / f"pos_{name}.json").read_text()) for name in ("coal_intervals", "faithful_eruptions")]
CASES = {f"{file['case']}-K{fit['K']}-{fit['family']}": (file, fit) for file in FILES for fit in file["fits"]}
STOP = emjax.Stop(tol=1e-11)
LOG_LIKELIHOOD = 1e-6  # nats
PARAMETERS = 1e-4  # relative
RESTARTS = 40
# No default start ends at this reference: a component of 9 days' intervals of nearly one length (shape 272).
ONLY_FROM_ITSELF = "pos_coal_intervals-K3-gamma"
FOUND_INSTEAD = -1189.361034617  # the mode of the default starts, confirmed by BFGS outside emjax
QUICK = {"pos_coal_intervals-K1-exponential"}
SLOW = {"pos_faithful_eruptions-K2-gamma", "pos_coal_intervals-K2-exponential"}


def marked(names: Any) -> list[Any]:
    later = {name: pytest.mark.slow if name in SLOW else pytest.mark.long for name in CASES}
    return [name if name in QUICK else pytest.param(name, marks=later[name]) for name in names]


def family(fit: dict[str, Any]) -> tuple[Any, Any]:
    """The family, and its parameters at the reference."""
    means = np.array(fit["means"])
    if fit["family"] == "exponential":
        return Exponential(), ExponentialParams(1.0 / means)
    return Gamma(), GammaParams(np.array(fit["shapes"]), means)


def run(name: str, **settings: Any) -> emjax.Fit:
    file, fit = CASES[name]
    y = np.loadtxt(FOLDER / f"{file['case']}.csv", skiprows=1)
    degeneracy = Degeneracy(min_rows=file["min_rows"])
    return emjax.fit(Mixture(family(fit)[0], fit["K"]), Data(y), 1, stop=STOP, degeneracy=degeneracy, **settings)


def check(name: str, found: emjax.Fit) -> None:
    """Log-likelihood, criteria and parameters are the reference's."""
    _, fit = CASES[name]
    assert found.status == Status.CONVERGED
    assert found.n_free == fit["n_free"]
    np.testing.assert_allclose(found.log_likelihood, fit["loglik"], rtol=0.0, atol=LOG_LIKELIHOOD)
    np.testing.assert_allclose([found.aic, found.bic], [fit["AIC"], fit["BIC"]], rtol=1e-8)
    block = found.params.family
    means = 1.0 / block.rates if fit["family"] == "exponential" else block.means
    order = np.argsort(means)
    np.testing.assert_allclose(means[order], fit["means"], rtol=PARAMETERS)
    np.testing.assert_allclose(found.params.latent.weights[order], fit["weights"], rtol=PARAMETERS)
    if fit["family"] == "gamma":
        np.testing.assert_allclose(block.shapes[order], fit["shapes"], rtol=PARAMETERS)


@pytest.mark.parametrize("name", marked(name for name in CASES if name != ONLY_FROM_ITSELF))
def test_reference(name: str) -> None:
    check(name, run(name, restarts=RESTARTS if CASES[name][1]["K"] > 1 else 1))


@pytest.mark.long
def test_the_narrow_mode_is_a_maximum() -> None:
    _, fit = CASES[ONLY_FROM_ITSELF]
    start = MixtureParams(emjax.WeightsParams(np.array(fit["weights"])), family(fit)[1])
    check(ONLY_FROM_ITSELF, run(ONLY_FROM_ITSELF, start=start))


@pytest.mark.long
def test_default_starts_find_another_mode() -> None:
    found = run(ONLY_FROM_ITSELF, restarts=RESTARTS)
    assert found.status == Status.CONVERGED
    np.testing.assert_allclose(found.log_likelihood, FOUND_INSTEAD, rtol=0.0, atol=LOG_LIKELIHOOD)

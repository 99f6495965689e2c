"""Known answers: Markov-switching regressions with a stationary start, and their standard errors (statsmodels)."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import emjax
from emjax import Data, HiddenMarkov, LinearRegression, LinearRegressionParams, MarkovParams, MixtureParams, Stop

FOLDER = Path(__file__).parent / "references"
CASES = {fit["name"]: fit for fit in json.loads((FOLDER / "msr_statsmodels.json").read_text())["fits"]}
LOG_LIKELIHOOD = 1e-8  # nats: both are at the maximum
PARAMETERS = 1e-5  # of a standard error: a remaining gain of 1e-12 nats is 1.4e-6 of one
STANDARD_ERRORS = 1e-6  # relative


def fitted(case: dict[str, Any]) -> emjax.Fit:
    """From the reference, rounded to one digit, so that EM has to come back to it."""
    y = np.loadtxt(FOLDER / case["csv"], skiprows=1)
    data = Data(y[1:], y[:-1, None]) if case["lag"] else Data(y)
    known = case["params"]
    coefficients = np.round(np.array(known["coefficients"]), 1)
    stay, leave = round(known["stay_0"], 1) - 0.05, round(known["leave_1"], 1) + 0.05
    transitions = np.array([[stay, 1.0 - stay], [leave, 1.0 - leave]])
    initial = np.array([leave, 1.0 - stay]) / (leave + 1.0 - stay)
    scale = np.round(np.broadcast_to(np.sqrt(known["variances"]), 2), 1)
    start = MixtureParams(MarkovParams(initial, transitions), LinearRegressionParams(coefficients, scale))
    model = HiddenMarkov(LinearRegression(scale=case["scale"]), 2, "stationary")
    return emjax.fit(model, data, 0, start=start, stop=Stop(tol=1e-12))


def named(record: Any, variances: np.ndarray) -> dict[str, np.ndarray]:
    transitions = record.latent.transitions
    return {
        "stay_0": transitions[0, 0],
        "leave_1": transitions[1, 0],
        "coefficients": record.family.coefficients,
        "variances": variances,
    }


QUICKER = "fedfunds_const"  # most of the time is compiling
MARKED = [pytest.param(n, marks=pytest.mark.slow if n == QUICKER else pytest.mark.long) for n in CASES]


@pytest.mark.parametrize("name", MARKED)
def test_reference(name: str) -> None:
    case = CASES[name]
    fit = fitted(case)
    kept = slice(1) if case["scale"] == "common" else slice(2)
    scale = fit.params.family.scale
    assert fit.log_likelihood == pytest.approx(case["loglik"], abs=LOG_LIKELIHOOD)
    for block, value in named(fit.params, scale[kept] ** 2).items():
        off = (value - np.array(case["params"][block])) / np.array(case["se"]["observed"][block])
        assert np.max(np.abs(off)) < PARAMETERS, block
    for kind in ("observed", "opg", "sandwich"):
        se = emjax.standard_errors(fit, kind).se
        for block, value in named(se, (2.0 * scale * se.family.scale)[kept]).items():
            np.testing.assert_allclose(value, case["se"][kind][block], rtol=STANDARD_ERRORS, err_msg=f"{kind} {block}")

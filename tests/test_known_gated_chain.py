"""Known answer of gated transitions: statsmodels' Markov regression with time-varying transition probabilities."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import emjax
from emjax import Data, Flag, Gaussian, HiddenMarkov, Status, Stop

FOLDER = Path(__file__).parent / "references"


@pytest.mark.slow
def test_treasury_bill_rate_by_inflation() -> None:
    wanted: dict[str, Any] = json.loads((FOLDER / "tvtp_tbill.json").read_text())
    table = np.loadtxt(FOLDER / "tvtp_tbill.csv", delimiter=",", skiprows=1)
    # Its given probabilities are those of two rows before the first, both left by the first row's transitions: here
    # rows without a response.
    change, inflation = np.append([np.nan, np.nan], table[:, 0]), np.append(table[[0, 0], 1], table[:, 1])
    data = Data(change, z=inflation[:, None])
    model = HiddenMarkov(Gaussian(), 2, transition_probabilities="gated")
    found = emjax.fit(model, data, 0, fixed={"initial": np.array([0.5, 0.5])}, stop=Stop(tol=1e-11))
    assert found.status == Status.CONVERGED and found.flags & Flag.BOUNDARY == 0
    assert found.n_free == wanted["n_free"]
    assert found.log_likelihood == pytest.approx(wanted["loglik"], abs=1e-6)
    errors = emjax.standard_errors(found)
    order = np.argsort(found.params.family.covariances[:, 0, 0])
    against_staying = np.array([[-1.0], [1.0]])  # the reference's are all against the second state
    for params, reference, sign in ((found.params, wanted, against_staying), (errors.se, wanted["se"], 1.0)):
        moves = params.latent.transitions[order][:, order]
        np.testing.assert_allclose(moves[[0, 1], [1, 0]], sign * np.array(reference["to_first"]), rtol=1e-4)
        np.testing.assert_allclose(params.family.means[order, 0], reference["means"], rtol=1e-4)
        np.testing.assert_allclose(params.family.covariances[order, 0, 0], reference["variances"], rtol=1e-4)
    first = found.predict().responsibilities[2:7, order[0]]
    np.testing.assert_allclose(first, wanted["smoothed_first_five"], atol=1e-5)

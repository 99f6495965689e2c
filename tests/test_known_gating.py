"""Known answers of gated weights: binomial mixtures with a concomitant variable (flexmix's tribolium)."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import emjax
from emjax import Data, Flag, GatedWeights, Mixture, Race, Status, Stop

FOLDER = Path(__file__).parent / "references"


def reference(n_components: int) -> dict[str, Any]:
    case = json.loads((FOLDER / "glm_tribolium_concomitant.json").read_text())
    return next(fit for fit in case["fits"] if fit["K"] == n_components)


def tribolium() -> Data:
    table = np.loadtxt(FOLDER / "glm_tribolium_concomitant.csv", delimiter=",", skiprows=1)
    return Data(table[:, 0], z=table[:, 2:], trials=table[:, 1])


def fit(n_components: int, **settings: Any) -> emjax.Fit:
    return emjax.fit(Mixture(emjax.Binomial(), n_components, GatedWeights()), tribolium(), 1, **settings)


def ordered(found: emjax.Fit) -> tuple[np.ndarray, np.ndarray]:
    """Logits of the components, ascending, and the gate with the first of them as its baseline."""
    order = np.argsort(found.params.family.probabilities)
    p, gating = found.params.family.probabilities[order], found.params.latent.gating[order]
    return np.log(p) - np.log1p(-p), gating - gating[0]


def test_two_components() -> None:
    wanted, found = reference(2), fit(2, stop=Stop(tol=1e-11))
    assert found.status == Status.CONVERGED and found.flags & Flag.BOUNDARY == 0
    assert found.n_free == wanted["n_free"]
    assert found.log_likelihood == pytest.approx(wanted["loglik"], abs=1e-9)
    assert (found.aic, found.bic) == pytest.approx((wanted["AIC"], wanted["BIC"]), abs=1e-8)
    logits, gating = ordered(found)
    np.testing.assert_allclose(logits, np.ravel(wanted["coefficients"]), rtol=1e-5)
    np.testing.assert_allclose(gating, wanted["gating"], rtol=1e-4)


@pytest.mark.long
def test_three_components_of_which_a_species_has_only_two() -> None:
    """The maximum lies at infinity: the likelihood is reached, coefficients are finite, and the fit says BOUNDARY."""
    wanted, found = reference(3), fit(3, stop=Stop(tol=1e-11), restarts=40)
    assert found.status == Status.CONVERGED and found.flags & Flag.BOUNDARY
    assert found.n_free == wanted["n_free"]
    assert found.log_likelihood == pytest.approx(wanted["loglik"], abs=1e-6)
    assert np.all(np.isfinite(found.params.latent.gating))
    np.testing.assert_allclose(ordered(found)[0], np.ravel(wanted["coefficients"]), rtol=1e-3)


@pytest.mark.long
def test_a_race_reaches_the_same_mode() -> None:
    for n_components in (2, 3):
        raced = fit(n_components, restarts=40, race=Race())
        assert raced.log_likelihood == pytest.approx(reference(n_components)["loglik"], abs=1e-5)

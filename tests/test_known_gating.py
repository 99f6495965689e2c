"""Known answers of gated weights: binomial mixtures with a concomitant variable (flexmix's tribolium).

The family is a small one of the tests' own, the success probabilities as they are: it also shows what a family needs.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import emjax
from emjax import Data, Flag, GatedWeights, Mixture, Race, Status, Stop

FOLDER = Path(__file__).parent / "references"


class Probabilities(NamedTuple):
    probabilities: Any  # (K,)


class Prepared(NamedTuple):
    y: Any
    trials: Any
    constant: Any
    fixed: Any = None


@dataclass(frozen=True)
class Binomials(emjax.FamilyDefaults):
    """Binomial counts y out of trials, one probability a component; exact M-step."""

    blocks: ClassVar[Any] = Probabilities

    def check(self, data: Data) -> None: ...

    def check_params(self, params: Any) -> None: ...

    def prepare(self, data: Data, n_components: int, prior: Any, fixed: Any) -> Any:
        used = jnp.asarray(data.weight) > 0.0
        y, trials = jnp.where(used, data.y, 0.0), jnp.where(used, data.trials, 1.0)
        constant = jax.lax.lgamma(trials + 1.0) - jax.lax.lgamma(y + 1.0) - jax.lax.lgamma(trials - y + 1.0)
        return Prepared(y, trials, constant), jnp.int32(0)

    def initial(self, prepared: Prepared, resp: Any, spread: Any) -> Any:
        return self.maximize(self.statistics(None, prepared, resp), None, prepared)

    def elemental(self, prepared: Prepared) -> int:
        return 1

    def log_prob(self, params: Any, prepared: Prepared) -> Any:
        p = params.probabilities[:, None]
        failures = (prepared.trials - prepared.y)[None, :]
        return prepared.constant[None, :] + prepared.y[None, :] * jnp.log(p) + failures * jnp.log1p(-p)

    def statistics(self, params: Any, prepared: Prepared, resp: Any) -> Any:
        return jnp.sum(resp * prepared.y[None, :], axis=1), jnp.sum(resp * prepared.trials[None, :], axis=1)

    def maximize(self, statistics: Any, params: Any, prepared: Prepared) -> Any:
        return Probabilities((statistics[0] + 1e-12) / (statistics[1] + 2e-12))

    def log_prior(self, params: Any, prepared: Prepared) -> Any:
        return jnp.zeros(())

    def flags(self, params: Any, statistics: Any, prepared: Prepared, degeneracy: Any) -> Any:
        return jnp.int32(0)

    def relabel(self, params: Any, permutation: Any) -> Any:
        return Probabilities(params.probabilities[permutation])

    def component_of_free(self, prepared: Prepared, n_components: int) -> tuple[int, ...]:
        return tuple(range(n_components))

    def n_free(self, prepared: Prepared, n_components: int) -> int:
        return n_components

    def to_free(self, params: Any, prepared: Prepared) -> Any:
        return jnp.log(params.probabilities) - jnp.log1p(-params.probabilities)

    def from_free(self, free: Any, prepared: Prepared, n_components: int) -> Any:
        return Probabilities(jax.nn.sigmoid(free))

    def to_user(self, params: Any, prepared: Prepared) -> Any:
        return params

    from_user = to_user

    def sample(self, key: Any, params: Any, data: Data, labels: Any) -> Any:
        return jax.random.binomial(key, data.trials, params.probabilities[labels])


def reference(n_components: int) -> dict[str, Any]:
    case = json.loads((FOLDER / "glm_tribolium_concomitant.json").read_text())
    return next(fit for fit in case["fits"] if fit["K"] == n_components)


def tribolium() -> Data:
    table = np.loadtxt(FOLDER / "glm_tribolium_concomitant.csv", delimiter=",", skiprows=1)
    return Data(table[:, 0], z=table[:, 2:], trials=table[:, 1])


def fit(n_components: int, **settings: Any) -> emjax.Fit:
    return emjax.fit(Mixture(Binomials(), n_components, GatedWeights()), tribolium(), 1, **settings)


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


@pytest.mark.slow
def test_three_components_of_which_a_species_has_only_two() -> None:
    """The maximum lies at infinity: the likelihood is reached, coefficients are finite, and the fit says BOUNDARY."""
    wanted, found = reference(3), fit(3, stop=Stop(tol=1e-11), restarts=40)
    assert found.status == Status.CONVERGED and found.flags & Flag.BOUNDARY
    assert found.n_free == wanted["n_free"]
    assert found.log_likelihood == pytest.approx(wanted["loglik"], abs=1e-6)
    assert np.all(np.isfinite(found.params.latent.gating))
    np.testing.assert_allclose(ordered(found)[0], np.ravel(wanted["coefficients"]), rtol=1e-3)


@pytest.mark.slow
def test_a_race_reaches_the_same_mode() -> None:
    for n_components in (2, 3):
        raced = fit(n_components, restarts=40, race=Race())
        assert raced.log_likelihood == pytest.approx(reference(n_components)["loglik"], abs=1e-5)

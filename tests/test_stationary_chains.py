"""A chain that starts in its stationary distribution, where its states are hardly ever left: no M-step stands still."""

import jax.numpy as jnp
import numpy as np
import pytest

import emjax
from emjax import Data, Flag, HiddenMarkov, Mixture, Poisson, Status
from emjax.latent import transition_step
from tests import lanes
from tests.oracle.hidden_markov import stationary

ENTERING = np.array([14.0, 12.0])


@lanes.in_float64
@pytest.mark.parametrize("ratio", [1.0, 1.5, 3.0])
@pytest.mark.parametrize("leaving", [1e-2, 1e-3, 1e-4, 1e-6, 1e-9])
def test_the_m_step_gains_however_seldom_a_state_is_left(leaving: float, ratio: float) -> None:
    """The start's distribution asks for another ratio of the two probabilities; the expected moves, for the same."""
    here = np.array([[1.0 - leaving, leaving], [ratio * leaving, 1.0 - ratio * leaving]])
    counts = here * np.array([[40.0], [45.0]])

    def q(transitions: np.ndarray) -> float:
        return float(np.sum(counts * np.log(transitions)) + np.sum(ENTERING * np.log(stationary(transitions))))

    after = np.asarray(transition_step.with_stationary_start(jnp.asarray(counts), jnp.asarray(ENTERING), here))
    np.testing.assert_allclose(after.sum(axis=1), 1.0, atol=1e-14)
    assert q(after) - q(here) > 0.04


@pytest.mark.slow
def test_sequences_that_never_switch_end_where_the_mixture_of_sequences_does() -> None:
    """At the edge of the space, where probabilities of 0 have a ratio; 0.2 nats above where steps stood still."""
    counts = np.random.default_rng(16).poisson(np.where(np.arange(100) % 50 < 25, 5.0, 1.0)).astype(float)
    data = Data(counts, unit=np.repeat(np.arange(25), 4))
    chain = emjax.fit(HiddenMarkov(Poisson(), 2, "stationary"), data, 0, restarts=8)
    mixture = emjax.fit(Mixture(Poisson(), 2), data, 0, restarts=8)
    assert chain.status == Status.CONVERGED and chain.flags & Flag.BOUNDARY
    assert chain.log_likelihood == pytest.approx(mixture.log_likelihood, abs=1e-5)
    np.testing.assert_allclose(chain.params.latent.transitions, np.eye(2), atol=1e-6)
    near = chain.restarts.log_likelihood > mixture.log_likelihood - 0.01
    assert np.mean(near) > 0.7

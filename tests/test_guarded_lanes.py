"""The battery's loop for models whose steps may lower the objective: what the engine's guard accepts."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from emjax import Data, Expectation, Model
from tests import lanes

COUNTS = np.array([2.0, 0.0, 5.0, 3.0, 1.0])


class Intercept(Model):
    """The log rate of Poisson counts by Newton steps, which overshoot from below; `reach` times as long."""

    def __init__(self, monotone: bool, reach: float = 1.0) -> None:
        self.monotone, self.reach = monotone, reach  # type: ignore[misc]

    def expect(self, params: Any, prepared: Data) -> Expectation:
        rate = jnp.exp(params)
        log_likelihood = jnp.sum(prepared.y * params - rate)
        return Expectation(log_likelihood, (jnp.sum(prepared.y - rate), prepared.y.shape[0] * rate))

    def maximize(self, statistics: Any, params: Any, prepared: Data) -> Any:
        score, information = statistics
        return params + self.reach * score / information


@lanes.in_float64
def loop(model: Model) -> tuple[np.ndarray, np.ndarray, bool]:
    """Parameters before each step and after the last, log-likelihoods, and whether the guard gave up."""
    start = jnp.asarray(-1.0, float)
    last, (log_likelihood, passed), gave_up = lanes._em(model, Data(jnp.asarray(COUNTS)), start)
    return *jax.device_get((jnp.append(passed, last), log_likelihood)), bool(gave_up)


def test_a_step_that_falls_is_halved() -> None:
    unguarded, guarded = loop(Intercept(True)), loop(Intercept(False))
    assert np.min(np.diff(unguarded[1])) < -1.0  # the first step overshoots
    assert np.min(np.diff(guarded[1])) > -1e-12
    assert guarded[0][-1] == pytest.approx(np.log(COUNTS.mean()), abs=1e-12)
    assert guarded[0][1] == guarded[0][0] == -1.0  # the first step was refused
    assert not guarded[2]


def test_a_step_that_cannot_be_mended_is_told() -> None:
    params, log_likelihood, gave_up = loop(Intercept(False, reach=-1.0))
    assert gave_up
    assert np.all(params == -1.0) and np.ptp(log_likelihood) == 0.0

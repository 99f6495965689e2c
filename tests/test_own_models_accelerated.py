"""`acceleration="squarem"` on models of one's own: three functions, free coordinates that keep no constraints."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import emjax
from emjax import Data, Expectation, Status, Stop


class TwoRates(NamedTuple):
    weights: Any
    rates: Any


class Poissons(emjax.Model):
    """A mixture of two Poisson distributions: an extrapolation may lead to weights and rates below 0."""

    def expect(self, params: TwoRates, prepared: Data) -> Expectation:
        logs = prepared.y[None, :] * jnp.log(params.rates)[:, None] - params.rates[:, None]
        joint = params.weights[:, None] * jnp.exp(logs)
        total = jnp.sum(joint, axis=0)
        used = jnp.asarray(prepared.weight, total.dtype)
        of_rows = joint * (used / total)[None, :]
        return Expectation(jnp.sum(used * jnp.log(total)), (jnp.sum(of_rows, axis=1), of_rows @ prepared.y))

    def maximize(self, statistics: Any, params: TwoRates, prepared: Data) -> TwoRates:
        counts, sums = statistics
        return TwoRates(counts / jnp.sum(counts), sums / counts)

    def start(self, key: Any, prepared: Data, strategy: str) -> TwoRates:
        rates = jax.random.exponential(key, (2,), prepared.y.dtype)
        return TwoRates(jnp.full(2, 0.5, rates.dtype), 0.1 + jnp.mean(prepared.y) * rates)


def fits(model: emjax.Model, y: np.ndarray, method: str | None, **stop: Any) -> emjax.Fits:
    return emjax.fit_many(
        model, Data(y), 0, restarts=4, certificate=False, threads=1, acceleration=method, stop=Stop(**stop)
    )


def test_an_extrapolation_that_leaves_the_parameter_space_ends_no_lane() -> None:
    """The landing's objective may be higher than any true one; the EM map after it comes back, and down."""
    rng = np.random.default_rng(0)
    y = rng.poisson(np.where(rng.random((32, 60)) < 0.3, 1.0, 2.5)).astype(float)
    found, plain = fits(Poissons(), y, "squarem"), fits(Poissons(), y, None, max_iterations=10_000)
    started = fits(Poissons(), y, None, max_iterations=1)
    assert np.all(found.restarts.status == Status.CONVERGED)
    assert np.all(found.restarts.objective >= started.restarts.objective)
    assert np.all(found.params.weights >= 0) and np.all(found.params.rates > 0)
    assert np.mean(found.objective > plain.objective - 1e-5) > 0.9
    assert found.iterations.sum() < plain.iterations.sum() / 2

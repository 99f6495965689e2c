"""`acceleration="squarem"` on models of one's own: three functions, free coordinates that keep no constraints."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import emjax
from emjax import Data, Expectation, Status, Stop
from tests.test_acceleration import STARTS, Cliff


class Rates(NamedTuple):
    weights: Any
    rates: Any


class Poissons(emjax.Model):
    """A mixture of Poisson distributions: an extrapolation may lead to weights and rates below 0."""

    components = 2

    def expect(self, params: Rates, prepared: Data) -> Expectation:
        logs = prepared.y[None, :] * jnp.log(params.rates)[:, None] - params.rates[:, None]
        joint = params.weights[:, None] * jnp.exp(logs)
        total = jnp.sum(joint, axis=0)
        used = jnp.asarray(prepared.weight, total.dtype)
        of_rows = joint * (used / total)[None, :]
        return Expectation(jnp.sum(used * jnp.log(total)), (jnp.sum(of_rows, axis=1), of_rows @ prepared.y))

    def maximize(self, statistics: Any, params: Rates, prepared: Data) -> Rates:
        counts, sums = statistics
        rates = jnp.where(counts > 0, sums / jnp.where(counts > 0, counts, 1.0), params.rates)
        return Rates(counts / jnp.sum(counts), rates)

    def start(self, key: Any, prepared: Data, strategy: str) -> Rates:
        rates = jax.random.exponential(key, (self.components,), prepared.y.dtype)
        return Rates(jnp.ones_like(rates) / self.components, 0.1 + jnp.mean(prepared.y) * rates)


def counts() -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.poisson(np.where(rng.random((32, 60)) < 0.3, 1.0, 2.5)).astype(float)


def fits(model: emjax.Model, method: str | None, start: Any = None, **stop: Any) -> emjax.Fits:
    return emjax.fit_many(
        model, Data(counts()), 0, restarts=4 if start is None else 1, start=start, certificate=False, threads=1,
        acceleration=method, stop=Stop(**stop),
    )  # fmt: skip


def test_an_extrapolation_that_leaves_the_parameter_space_ends_no_lane() -> None:
    """The landing's objective may be higher than any true one; the EM map after it comes back, and down."""
    found, plain = fits(Poissons(), "squarem"), fits(Poissons(), None)
    started = fits(Poissons(), None, max_iterations=1)
    assert np.all(found.restarts.status == Status.CONVERGED)
    assert np.all(found.restarts.objective >= started.restarts.objective)
    assert np.all(found.params.weights >= 0) and np.all(found.params.rates > 0)
    assert np.mean(found.objective > plain.objective - 1e-5) > 0.9
    assert found.iterations.sum() < plain.iterations.sum() / 2


class Logs(Poissons):
    """Free coordinates that keep the constraints, and are infinite where a weight is 0."""

    components = 3

    def to_free(self, params: Rates, prepared: Data) -> Any:
        logs = jnp.log(params.weights)
        return jnp.concatenate([logs[:-1] - logs[-1:], jnp.log(params.rates)])

    def from_free(self, free: Any, prepared: Data, like: Rates) -> Rates:
        others = like.weights.shape[0] - 1
        weights = jax.nn.softmax(jnp.concatenate([free[:others], jnp.zeros(1, free.dtype)]))
        return Rates(weights, jnp.exp(free[others:]))


@pytest.mark.parametrize("empty", [pytest.param(0, marks=pytest.mark.slow), 2])
def test_a_weight_of_0_is_no_hindrance(empty: int) -> None:
    """Its coordinate, or every weight's where it is their baseline, is EM's own; the others are extrapolated."""
    start = Rates(np.insert([0.5, 0.5], empty, 0.0), np.insert([0.8, 3.0], empty, 1.5))
    found, plain = fits(Logs(), "squarem", start), fits(Logs(), None, start)
    np.testing.assert_array_equal(found.params.weights[:, empty], 0.0)
    assert np.all(np.isfinite(found.params.weights))
    ended = (found.status == Status.CONVERGED) & (found.objective > plain.objective - 1e-5)
    assert np.mean(ended) > 0.9  # there is a flat ridge or two, for plain EM too
    assert found.iterations.sum() < plain.iterations.sum() / (1 if empty else 3)


@pytest.mark.parametrize("limit", [14, 16, 18])
def test_a_fall_at_the_iteration_limit_ends_the_lane_there(limit: int) -> None:
    """Not RUNNING, and with the objective of its parameters."""
    model = Cliff("lingering")
    stop = Stop(max_iterations=limit)
    many = emjax.fit_many(model, STARTS, 0, restarts=1, certificate=False, stop=stop, acceleration="squarem")
    assert np.all(many.iterations <= limit)
    with jax.enable_x64(True):
        data = jax.tree.map(jnp.asarray, STARTS)
        start = jax.vmap(lambda row: model.start(None, row, ""))(data)
        run = jax.jit(jax.vmap(lambda row, s: emjax.fit_lane(model, row, s, stop=stop, acceleration="squarem")))
        lanes = jax.tree.map(np.asarray, run(data, start))
    assert not np.any(lanes.status == Status.RUNNING)
    u = lanes.params.at
    np.testing.assert_array_equal(lanes.objective, np.where(u > 1.0, u, -((u - 1.0) ** 2)))

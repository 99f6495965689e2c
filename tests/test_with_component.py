"""A component without parameters: it keeps its place, may have weight 0, and where it has no density nothing is NaN."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import emjax
from emjax import (
    Data,
    DataError,
    Degeneracy,
    Exponential,
    Flag,
    Gaussian,
    GaussianParams,
    Mixture,
    MixtureParams,
    NegativeBinomial,
    NegativeBinomialParams,
    PointMass,
    Problem,
    Status,
    Stop,
    UniformNoise,
    WeightsParams,
    WithComponent,
)
from tests import lanes
from tests.oracle import gaussian, mixture, with_component

pytestmark = pytest.mark.long  # compiling takes most of a test command of ten minutes

NOISY = Mixture(WithComponent(Gaussian(), UniformNoise()), 3)
INFLATED = Mixture(WithComponent(NegativeBinomial(), PointMass()), 3)


def noisy(seed: int, noise: int = 30) -> np.ndarray:
    rng = np.random.default_rng(seed)
    left, right = rng.normal(0.0, 1.0, (60, 2)), rng.normal(6.0, 0.7, (60, 2))
    return np.concatenate([left, right, rng.uniform(-15.0, 20.0, (noise, 2))])


def by_numpy(y: np.ndarray, iterations: int) -> tuple[float, np.ndarray, np.ndarray]:
    """EM of two Gaussians and uniform noise over the box, in loops: log-likelihood, weights and means."""
    noise = with_component.uniform(y, np.ones(len(y)))
    weights, params = (
        np.array([0.4, 0.4, 0.2]),
        gaussian.Params(np.array([[0.0, 0.0], [6.0, 6.0]]), np.stack([np.eye(2)] * 2)),
    )
    for _ in range(iterations):
        posterior = mixture.e_step(weights, np.vstack([gaussian.log_prob(params, y), noise]))
        resp = posterior.responsibilities
        weights, params = mixture.update_weights(resp), gaussian.maximize(resp[:-1], y, "full")
    posterior = mixture.e_step(weights, np.vstack([gaussian.log_prob(params, y), noise]))
    return posterior.log_likelihood, weights, params.means


def test_noise_is_that_of_an_independent_em() -> None:
    y = noisy(0)
    wanted, weights, means = by_numpy(y, 60)
    fit = emjax.fit(NOISY, Data(y), 1, restarts=8, stop=Stop(tol=1e-10))
    assert fit.status == Status.CONVERGED
    np.testing.assert_allclose(fit.log_likelihood, wanted, rtol=0.0, atol=1e-7)
    order = np.argsort(fit.params.family.means[:, 0])
    np.testing.assert_allclose(fit.params.family.means[order], means, rtol=0.0, atol=1e-4)
    np.testing.assert_allclose(fit.params.latent.weights[[*order, 2]], weights, rtol=0.0, atol=1e-4)


def params(weights: Any) -> MixtureParams:
    return MixtureParams(WeightsParams(jnp.array(weights)), NegativeBinomialParams(jnp.array([3.0, 9.0]), jnp.ones(2)))


@lanes.in_float64
def test_the_last_component_keeps_its_place_and_is_no_baseline() -> None:
    prepared, _ = INFLATED.prepare(Data(jnp.array([0.0, 1.0, 4.0, 9.0, 0.0, 12.0, 7.0])))
    turned = INFLATED.canonical(params([0.6, 0.1, 0.3]), prepared)
    np.testing.assert_array_equal(turned.latent.weights, [0.1, 0.6, 0.3])
    np.testing.assert_array_equal(turned.family.means, [9.0, 3.0])
    kept = INFLATED.canonical(params([0.1, 0.3, 0.6]), prepared)
    np.testing.assert_array_equal(kept.latent.weights, [0.1, 0.3, 0.6])
    # Log-ratios against the second of the exchangeable two; the mass of 0 is at minus infinity.
    free = INFLATED.to_free(params([0.2, 0.8, 0.0]), prepared)
    np.testing.assert_allclose(free[:2], [-np.inf, np.log(0.25)])
    np.testing.assert_array_equal(INFLATED.boundary(params([0.2, 0.8, 0.0]), prepared)[:2], [1, 0])
    back = INFLATED.from_free(free, prepared)
    np.testing.assert_allclose(back.latent.weights, [0.2, 0.8, 0.0])


@lanes.in_float64
def test_derivatives_are_finite_where_the_point_mass_has_no_density() -> None:
    prepared, _ = INFLATED.prepare(Data(jnp.array([0.0, 1.0, 4.0, 9.0, 0.0, 12.0, 7.0])))
    free = INFLATED.to_free(params([0.3, 0.5, 0.2]), prepared)

    def objective(free: Any) -> Any:
        return INFLATED.expect(INFLATED.from_free(free, prepared), prepared).log_likelihood

    assert np.isfinite(objective(free))
    assert np.all(np.isfinite(jax.grad(objective)(free)))
    assert np.all(np.isfinite(jax.hessian(objective)(free)))


def test_no_zeros_are_an_ordinary_boundary() -> None:
    y = np.random.default_rng(0).negative_binomial(4, 0.2, 80) + 1.0
    fit = emjax.fit(Mixture(WithComponent(NegativeBinomial(), PointMass()), 2), Data(y), 1, restarts=4)
    assert fit.status == Status.CONVERGED
    assert fit.flags & Flag.BOUNDARY
    assert fit.params.latent.weights[1] < 1e-8
    alone = emjax.fit(Mixture(NegativeBinomial(), 1), Data(y), 1, restarts=1)
    np.testing.assert_allclose(fit.log_likelihood, alone.log_likelihood, rtol=0.0, atol=1e-5)


@pytest.mark.parametrize("covariance", ["full", "tied"])
def test_a_collapse_beside_noise_is_seen(covariance: Any) -> None:
    """One component, or a common scale, can collapse onto equal rows where noise explains the others."""
    y = np.concatenate([np.zeros(9), np.linspace(-1.0, 1.0, 41)])
    model = Mixture(WithComponent(Gaussian(covariance), UniformNoise()), 2)
    start = MixtureParams(
        WeightsParams(np.array([0.2, 0.8])), GaussianParams(np.zeros((1, 1)), np.full((1, 1, 1), 1e-4))
    )
    fit = emjax.fit(model, Data(y), 1, start=start)
    assert fit.status == Status.DEGENERATE


@lanes.in_float64
def test_two_components_without_parameters() -> None:
    """Inflated at 0 and at 1: each keeps its place, draws its value and leaves the rules to the inner family."""
    model = Mixture(WithComponent(WithComponent(NegativeBinomial(), PointMass()), PointMass(at=1.0)), 4)
    start = params([0.3, 0.2, 0.3, 0.2])
    data = Data(jnp.arange(200.0))
    sample, labels = model.sample(jax.random.key(0), start, data)
    assert np.all(np.where(labels == 2, sample.y == 0.0, True))
    assert np.all(np.where(labels == 3, sample.y == 1.0, True))
    assert set(np.asarray(labels)) == {0, 1, 2, 3}
    prepared, problem = model.prepare(sample)
    assert problem == 0
    expectation = model.expect(start, prepared)
    assert model.flags(start, expectation.statistics, prepared, Degeneracy()) == Flag.NONE
    turned = model.canonical(start, prepared)
    np.testing.assert_array_equal(turned.latent.weights, [0.2, 0.3, 0.3, 0.2])
    again = model.from_free(model.to_free(turned, prepared), prepared)
    np.testing.assert_allclose(again.latent.weights, turned.latent.weights)
    after = model.maximize(expectation.statistics, start, prepared)
    assert np.all(np.isfinite(after.family.means))


def test_settings_that_make_no_sense() -> None:
    for call in (
        lambda: Mixture(WithComponent(Gaussian(), UniformNoise()), 1),
        lambda: WithComponent(Gaussian, UniformNoise()),  # type: ignore[arg-type]
        lambda: WithComponent(Gaussian(), UniformNoise),
        lambda: WithComponent(Gaussian(), Gaussian()),
        lambda: PointMass(at=np.nan),
    ):
        with pytest.raises(DataError):
            call()


def test_a_box_without_volume() -> None:
    """Exponential components alone would take equal rows."""
    model = Mixture(WithComponent(Exponential(), UniformNoise()), 2)
    flat = np.full(60, 3.0)
    with pytest.raises(DataError, match="constant"):
        emjax.fit(model, Data(flat), 1, restarts=1)
    fits = emjax.fit_many(model, Data(np.stack([np.linspace(1.0, 9.0, 60), flat])), 1, restarts=2)
    assert [fit.status == Status.INVALID_DATA for fit in fits] == [False, True]
    assert fits[1].problems == Problem.CONSTANT_RESPONSE


@lanes.in_float64
def test_the_box_knows_used_rows_alone() -> None:
    y = jnp.array([[0.0, 1.0], [2.0, 5.0], [100.0, 3.0], [jnp.nan, 2.0]])
    value, problem = UniformNoise().log_prob(Data(y, weight=jnp.array([1.0, 1.0, 0.0, 0.0])))
    assert problem == 0
    np.testing.assert_allclose(value, -np.log(2.0) - np.log(4.0))

"""DESIGN 5 (1), (5), (6), (7): what is reported is true of the parameters, stops are honest, collapse is scale-free."""

from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import emjax
from emjax import (
    Data,
    Dirichlet,
    Flag,
    Gaussian,
    Mixture,
    NormalInverseGamma,
    Status,
    Stop,
)
from tests.oracle import linear_regression, mixture
from tests.promises import LINES, RESTARTS, SEED, D, N, at, base, leaves_equal, lines, log_likelihood, tight, truth

# --- 1: log_likelihood is that of params


def _recomputed(fits: Any, data: Data) -> np.ndarray:
    return np.array([log_likelihood(fits[i].params, data.y[i], data.x[i]) for i in range(len(fits))])


def test_the_log_likelihood_is_that_of_the_parameters() -> None:
    np.testing.assert_allclose(base().log_likelihood, _recomputed(base(), lines()), rtol=0, atol=1e-9)
    np.testing.assert_array_equal(base().objective, base().log_likelihood)


@pytest.mark.parametrize("limit", [1, 3])
def test_also_of_lanes_that_ran_out_of_iterations(limit: int) -> None:
    """There the step before would be off by nats."""
    fits = emjax.fit_many(LINES, lines(), SEED, restarts=RESTARTS, stop=Stop(max_iterations=limit))
    assert np.all(fits.status == Status.MAX_ITERATIONS)
    assert np.all(fits.iterations == limit)
    assert np.median(base().objective - fits.objective) > 0.1
    np.testing.assert_allclose(fits.log_likelihood, _recomputed(fits, lines()), rtol=0, atol=1e-9)


GAMMA = {"shape": 2.5, "scale": 0.7}
MEAN, STRENGTH = np.array([1.0, 0.8]), np.array([[0.3, 0.1], [0.1, 0.9]])


@pytest.mark.parametrize("limit", [pytest.param(3, marks=pytest.mark.slow), 10_000])
def test_the_objective_of_weighted_groups_with_gaps_and_a_prior(limit: int) -> None:
    """Everything at once: units of two rows with weights, rows not observed, a conjugate prior."""
    rng = np.random.default_rng(4)
    unit, weight = np.repeat(np.arange(N // 2), 2), rng.integers(0, 4, N // 2).astype(float)
    observed = rng.random(N) < 0.9
    y, x = np.array(lines().y[:2]), lines().x[:2]
    y[:, ~observed] = np.nan
    prior = {"weights": Dirichlet(2.0), "family": NormalInverseGamma(MEAN, STRENGTH, **GAMMA)}
    data = [Data(y[i], x[i], unit=unit, weight=weight, observed=observed) for i in range(2)]
    fits = emjax.fit_many(LINES, data, SEED, restarts=RESTARTS, prior=prior, stop=Stop(max_iterations=limit))
    assert np.all(fits.status == (Status.MAX_ITERATIONS if limit == 3 else Status.CONVERGED))
    np.testing.assert_array_equal(fits.n_observations, weight.sum())
    for i, fit in enumerate(fits):
        family = linear_regression.Params(fit.params.family.coefficients, fit.params.family.scale)
        rows = linear_regression.log_prob(family, np.where(observed, y[i], 0.0), linear_regression.design_matrix(x[i]))
        units = np.where(observed, rows, 0.0).reshape(2, -1, 2).sum(axis=2)
        value = mixture.e_step(fit.params.latent.weights, units, weight).log_likelihood
        density = linear_regression.normal_inverse_gamma(2, MEAN, STRENGTH, **GAMMA)
        log_prior = linear_regression.log_prior(family, "component", density)
        log_prior += mixture.weights_log_prior(fit.params.latent.weights, 2.0)
        assert fit.log_likelihood == pytest.approx(value, abs=1e-9)
        assert fit.log_prior == pytest.approx(log_prior, abs=1e-8)
        assert fit.objective == pytest.approx(value + log_prior, abs=1e-8)
        if limit > 3:
            grouped = fit.predict().responsibilities
            np.testing.assert_allclose(grouped[::2], grouped[1::2], rtol=1e-12)
            expected = mixture.e_step(fit.params.latent.weights, units).responsibilities.T
            np.testing.assert_allclose(grouped[::2], expected, atol=1e-9)


# --- 5: stopping is in nats

TIED = Mixture(Gaussian("tied"), 3)


@cache
def two_clusters() -> Data:
    """Two clusters for three components: slow lanes, and a boundary."""
    rng = np.random.default_rng(1)
    return Data(np.stack([np.concatenate([rng.normal(-4, 1, 50), rng.normal(4, 1, 50)]) for _ in range(4)]))


def clusters(weights: Any, means: Any) -> Any:
    means = np.asarray(means, float)[:, None]
    return emjax.MixtureParams(
        emjax.WeightsParams(np.asarray(weights)), emjax.GaussianParams(means, np.ones((len(means), 1, 1)))
    )


SLOW = clusters([0.4, 0.5, 0.1], [-4.0, 4.0, 5.0])


@pytest.mark.slow
@pytest.mark.parametrize("tol", [1e-2, 1e-3, 1e-4, 1e-6])
def test_slow_lanes_stop_with_less_than_the_tolerance_left(tol: float) -> None:
    """One of the four has a plateau where Aitken alone would leave 0.3 nats at 1e-3: the certificate sees it."""
    fits = emjax.fit_many(TIED, two_clusters(), SEED, stop=Stop(tol=tol), start=SLOW)
    assert np.all(fits.status == Status.CONVERGED)
    on = emjax.fit_many(TIED, two_clusters(), SEED, start=fits.params, stop=tight(), certificate=False)
    left = on.objective - fits.objective
    assert np.all(left < tol)
    assert np.all(fits.remaining < tol)
    assert np.all(np.abs(left - fits.remaining) < tol)


def test_aitken_estimates_what_is_left() -> None:
    """Without the certificate, at a tolerance below the plateau's gains."""
    fits = emjax.fit_many(
        TIED, two_clusters(), SEED, stop=Stop(tol=1e-6), start=SLOW, certificate=False, acceleration=None
    )
    on = emjax.fit_many(TIED, two_clusters(), SEED, start=fits.params, stop=tight(), certificate=False)
    left = on.objective - fits.objective
    assert np.max(fits.iterations) > 500
    np.testing.assert_allclose(fits.remaining, left, rtol=0.2)


def test_what_is_left_is_below_the_tolerance() -> None:
    for fits, data in ((base(), lines()), (emjax.fit_many(TIED, two_clusters(), SEED, restarts=8), two_clusters())):
        on = emjax.fit_many(fits.model, data, SEED, start=fits.params, stop=tight(), certificate=False)
        left = on.objective - fits.objective
        assert np.all(left < 2e-6)
        assert np.all(np.abs(fits.certificate.predicted_gain - left) < 1e-6)


def test_the_tolerance_means_the_same_in_any_units() -> None:
    """Also where the log-likelihood is near zero, or far from it."""
    one = at(lines(), 0)
    zero = np.exp(base().log_likelihood[0] / N)
    factors, shifts = np.array([1.0, 1e6, 1e-6, zero, 1.0, 1.0]), np.array([0.0, 0.0, 0.0, 0.0, 1e5, -1e3])
    y = one.y[None, :] * factors[:, None] + shifts[:, None]
    starts = [truth() for _ in factors]
    family = [
        emjax.LinearRegressionParams(f * s.family.coefficients + [[c, 0.0]], f * s.family.scale)
        for f, c, s in zip(factors, shifts, starts)
    ]
    start = emjax.MixtureParams(
        emjax.WeightsParams(np.stack([s.latent.weights for s in starts])),
        emjax.LinearRegressionParams(*(np.stack(leaf) for leaf in zip(*family))),
    )
    fits = emjax.fit_many(LINES, Data(y, one.x), SEED, start=start)
    assert np.all(fits.status == Status.CONVERGED)
    assert abs(fits.log_likelihood[3]) < 1e-3
    assert np.ptp(fits.iterations) <= 1
    np.testing.assert_allclose(fits.log_likelihood + N * np.log(factors), fits.log_likelihood[0], atol=1e-6)
    slopes = fits.params.family.coefficients[:, :, 1] / factors[:, None]
    np.testing.assert_allclose(slopes, slopes[:1].repeat(6, axis=0), rtol=1e-4)
    zeros = emjax.fit_many(LINES, Data(y, one.x), SEED, start=start, stop=Stop(tol=1e-11, max_iterations=1000))
    assert np.all(np.isin(zeros.status, (Status.CONVERGED, Status.PRECISION_LIMIT)))
    assert np.all(zeros.iterations < 200)


def test_what_float64_cannot_resolve_is_said() -> None:
    fits = emjax.fit_many(LINES, lines(), SEED, restarts=RESTARTS, stop=Stop(tol=1e-15, max_iterations=2000))
    assert np.all(fits.status == Status.PRECISION_LIMIT)
    assert np.all((fits.flags & Flag.NOISE_FLOOR) > 0)
    assert np.all(fits.remaining > 1e-15)
    assert np.all(fits.remaining < 1e-9)
    assert np.all(fits.objective >= base().objective - 1e-11)


# --- 6: float32


def test_float32_is_finished_in_float64() -> None:
    fits = emjax.fit_many(LINES, lines(), SEED, restarts=RESTARTS, precision="float32")
    assert np.all(fits.status == Status.CONVERGED)
    np.testing.assert_allclose(fits.objective, base().objective, rtol=0, atol=1e-6)
    assert fits.log_likelihood.dtype == np.float64
    np.testing.assert_allclose(fits.log_likelihood, _recomputed(fits, lines()), rtol=0, atol=1e-9)


def test_float32_is_finished_whatever_its_weights_sum_to() -> None:
    """Weights that sum to 1 + 6e-8 make the first float64 step fall."""
    many = [at(lines(seed=seed), i) for seed in range(3) for i in range(D)]
    stacked = Data(np.stack([m.y for m in many]), np.stack([m.x for m in many]))
    fits = emjax.fit_many(LINES, stacked, SEED, restarts=1, precision="float32", chunk=D)
    assert set(fits.status) <= {Status.CONVERGED, Status.DEGENERATE}


def test_float32_alone_promises_nothing() -> None:
    fits = emjax.fit_many(LINES, lines(), SEED, restarts=RESTARTS, precision="float32", polish=False)
    honest = np.abs(fits.remaining) < 1e-6
    assert np.all((fits.status == Status.PRECISION_LIMIT) | honest)
    assert np.all(base().objective - fits.objective < 1e-6 + 10 * fits.remaining)


# --- for people who compose: fit_lane


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_fit_lane_under_jit_and_vmap_is_the_fit(dtype: str) -> None:
    start = truth(8.0)
    fits = emjax.fit_many(LINES, lines(), SEED, start=start, certificate=False)
    with jax.enable_x64(dtype == "float64"):
        data = jax.tree.map(lambda a: jnp.asarray(a, dtype), lines())
        params = jax.tree.map(lambda a: jnp.asarray(a, dtype), start)
        run = jax.jit(jax.vmap(lambda row: emjax.fit_lane(LINES, row, params)))
        lanes = jax.tree.map(np.asarray, run(data))
    assert all(leaf.dtype == dtype for leaf in jax.tree.leaves((lanes.params, lanes.objective, lanes.remaining)))
    if dtype == "float64":
        np.testing.assert_array_equal(lanes.status, fits.status)
        np.testing.assert_allclose(lanes.objective, fits.objective, rtol=0, atol=1e-6)
        np.testing.assert_array_equal(lanes.log_likelihood, lanes.objective)
        assert np.all(np.abs(lanes.iterations - fits.iterations) <= 1)
    else:
        assert np.all(np.isin(lanes.status, (Status.CONVERGED, Status.PRECISION_LIMIT)))
        np.testing.assert_allclose(lanes.objective, fits.objective, rtol=0, atol=1e-3)


def test_one_x_for_all_is_the_same_as_one_each() -> None:
    x = lines().x[0]
    shared = emjax.fit_many(LINES, Data(lines().y, x), SEED, restarts=RESTARTS)
    each = emjax.fit_many(LINES, Data(lines().y, np.stack([x] * D)), SEED, restarts=RESTARTS)
    leaves_equal((shared.params, shared.restarts), (each.params, each.restarts))
    np.testing.assert_array_equal(shared[3].data.x, x)

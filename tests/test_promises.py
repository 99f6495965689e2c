"""DESIGN 5 (1), (5), (6), (7): what is reported is true of the parameters, stops are honest, collapse is scale-free."""

from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import emjax
from emjax import Data, Degeneracy, Dirichlet, Flag, Gaussian, LinearRegression, Mixture, NormalInverseGamma
from emjax import Status, Stop
from tests.oracle import gaussian, linear_regression, mixture
from tests.promises import D, LINES, N, RESTARTS, SEED, at, base, leaves_equal, lines, log_likelihood, tight, truth

# --- 1: log_likelihood is that of params ---------------------------------------------------------------------------------


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


GAMMA = dict(shape=2.5, scale=0.7)
MEAN, STRENGTH = np.array([1.0, 0.8]), np.array([[0.3, 0.1], [0.1, 0.9]])


@pytest.mark.parametrize("limit", [3, 10_000])
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


# --- 5: stopping is in nats -----------------------------------------------------------------------------------------------

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
    fits = emjax.fit_many(TIED, two_clusters(), SEED, stop=Stop(tol=1e-6), start=SLOW, certificate=False)
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


# --- 6: float32 -----------------------------------------------------------------------------------------------------------


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


# --- 7: degeneracy --------------------------------------------------------------------------------------------------------


def _flags(ratio: float, rows: float, scale: str = "component", pooled: float = 1.0, k: int = 2, **settings: Any) -> Flag:
    """Flags of a regression with one covariate: scales 1 and `ratio`, rows 50 and `rows`."""
    params = emjax.LinearRegressionParams(jnp.zeros((k, 2)), jnp.array([1.0, ratio][-k:]))
    statistics = SimpleNamespace(total=jnp.array([50.0, rows][-k:]))
    prepared = SimpleNamespace(pooled_scale=jnp.float32(pooled))
    family = LinearRegression(scale=scale)  # type: ignore[arg-type]
    return Flag(int(family.flags(params, statistics, prepared, Degeneracy(**settings))))  # type: ignore[arg-type]


def test_the_rules_of_collapse() -> None:
    assert _flags(0.011, 50) == Flag.SUSPECT
    assert _flags(0.0099, 50) & Flag.DEGENERATE
    assert _flags(0.11, 50) == Flag.NONE
    assert _flags(0.0099, 50, min_scale_ratio=0.001) == Flag.SUSPECT
    # Two coefficients and one row more.
    assert _flags(1.0, 2.9) & Flag.DEGENERATE
    assert _flags(1.0, 3.1) == Flag.SUSPECT
    assert _flags(1.0, 3.1, min_rows=4) & Flag.DEGENERATE
    # Three times a component's three parameters.
    assert _flags(1.0, 8.9) == Flag.SUSPECT
    assert _flags(1.0, 9.1) == Flag.NONE
    # One component, or one scale: no rule.
    assert not _flags(1e-9, 1.0, k=1) & Flag.DEGENERATE
    assert not _flags(1.0, 0.1, scale="common") & Flag.DEGENERATE


def test_the_references_interior_rule() -> None:
    interior = vars(Degeneracy.interior(2.0))
    assert _flags(0.019, 50, **interior) & Flag.DEGENERATE
    assert _flags(0.021, 50, **interior) == Flag.NONE
    assert _flags(0.03, 50, pooled=2.0, **interior) & Flag.DEGENERATE
    assert _flags(0.5, 1.9, **interior) & Flag.DEGENERATE


@pytest.mark.parametrize("form", ["full", "diagonal", "spherical"])
def test_gaussian_scales_are_square_roots_of_eigenvalues(form: str) -> None:
    family = Gaussian(form)
    angle = 0.7 if form == "full" else 0.0
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    for ratio, collapsed in ((0.0098, True), (0.0102, False)):
        small = np.array([ratio, 0.5]) if form != "spherical" else np.array([ratio, ratio])
        covariances = jnp.array(np.stack([np.eye(2), turn @ np.diag(small**2) @ turn.T]), jnp.float32)
        params = emjax.GaussianParams(jnp.zeros((2, 2)), covariances)
        prepared: Any = SimpleNamespace(deviation=jnp.ones(2))
        statistics: Any = SimpleNamespace(total=jnp.array([50.0, 50.0]))
        found = Flag(int(family.flags(params, statistics, prepared, Degeneracy())))
        assert bool(found & Flag.DEGENERATE) == collapsed


@cache
def copies() -> tuple[Data, Any]:
    """Two datasets where a component on ten copies of one row has an unbounded likelihood, two sound ones with three."""
    rng = np.random.default_rng(6)
    far = [np.concatenate([rng.normal(0, 1, N - 10), np.full(10, 6.0 + i)]) for i in range(2)]
    near = [np.concatenate([rng.normal(0, 1, 48), rng.normal(6, 1, 49), np.full(3, 0.2)]) for _ in range(2)]
    data = Data(np.stack([*far, *near]))
    return data, emjax.fit_many(Mixture(Gaussian("full"), 2), data, SEED, restarts=12)


def test_copies_of_a_row_are_a_collapse() -> None:
    _, fits = copies()
    assert np.all(fits.status[:2] == Status.DEGENERATE)
    assert np.all(fits.restarts.status[:2] == Status.DEGENERATE)
    assert np.all(fits.status[2:] == Status.CONVERGED)
    assert "component collapsed" in fits.reasons[0]


def test_what_collapsed_is_still_a_covariance_of_its_log_likelihood(tmp_path: Path) -> None:
    data, fits = copies()
    assert np.all(fits.params.family.covariances > 0)
    for i, fit in enumerate(fits):
        values = gaussian.log_prob(gaussian.Params(*fit.params.family), data.y[i][:, None])
        expected = mixture.e_step(fit.params.latent.weights, values).log_likelihood
        # A collapsed variance is the square of a residual: half of the digits are lost.
        assert fit.log_likelihood == pytest.approx(expected, rel=1e-9 if i > 1 else 0.1)
    fits.save(tmp_path / "fits.npz")
    emjax.load(tmp_path / "fits.npz")


def test_noise_of_any_size_is_no_collapse() -> None:
    """From the truth, with the noise multiplied by 1, 0.1, 0.01 and 1e-4: the same fits, and none is degenerate."""
    for factor in (1.0, 0.1, 0.01, 1e-4):
        fits = emjax.fit_many(LINES, lines(factor), SEED, start=truth(factor))
        assert np.all(fits.status == Status.CONVERGED)
        assert not np.any(fits.flags & (Flag.SUSPECT | Flag.DEGENERATE))
        np.testing.assert_allclose(fits.params.family.scale, factor * np.array([[0.1, 0.2]] * D), rtol=0.5)


def test_a_line_through_some_rows_is_a_collapse() -> None:
    y = np.array(lines().y)
    y[:, :10] = 20.0 - lines().x[:, :10, 0]
    start = emjax.MixtureParams(
        emjax.WeightsParams(np.array([0.9, 0.1])),
        emjax.LinearRegressionParams(np.array([[1.5, 1.0], [20.0, -1.0]]), np.array([3.0, 0.1])),
    )
    fits = emjax.fit_many(LINES, Data(y, lines().x), SEED, start=start)
    assert np.all(fits.status == Status.DEGENERATE)
    for factor in (1e-3, 1e4):
        family = emjax.LinearRegressionParams(start.family.coefficients * factor, start.family.scale * factor)
        scaled = emjax.fit_many(LINES, Data(y * factor, lines().x), SEED, start=start._replace(family=family))
        np.testing.assert_array_equal(scaled.status, fits.status)
    relaxed = emjax.fit_many(LINES, Data(y, lines().x), SEED, start=start, degeneracy=Degeneracy(1e-12, min_rows=0))
    assert np.max(relaxed.params.family.scale.min(axis=1)) < np.min(fits.params.family.scale.min(axis=1))


# --- for people who compose: fit_lane -------------------------------------------------------------------------------------


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

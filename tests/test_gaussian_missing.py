"""Gaussian components with missing cells: special cases, closed forms, published values, bad input."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize

import emjax
from emjax import Data, DataError, Gaussian, GaussianParams, MissingGaussian, Mixture, MixtureParams, Problem, Stop
from emjax import WeightsParams as Weights
from emjax.families import gaussian_missing
from tests import lanes
from tests.battery import CLOSE, SAME, close
from tests.oracle import gaussian
from tests.oracle import gaussian_missing as oracle

pytestmark = pytest.mark.long  # compiling takes most of a test command of ten minutes

NAN = np.nan
ONE = Mixture(MissingGaussian(), 1)
# Draper & Smith's cement data with the cells that Rubin made missing, as in Little & Rubin's book and as `missvals` in
# the R package mvnmle.
CEMENT = np.array([
    [7, 26, 6, 60, 78.5], [1, 29, 15, 52, 74.3], [11, 56, 8, 20, 104.3], [11, 31, 8, 47, 87.6], [7, 52, 6, 33, 95.9],
    [11, 55, 9, 22, 109.2], [3, 71, 17, NAN, 102.7], [1, 31, 22, NAN, 72.5], [2, 54, 18, NAN, 93.1],
    [NAN, NAN, 4, NAN, 115.9], [NAN, NAN, 23, NAN, 83.8], [NAN, NAN, 9, NAN, 113.3], [NAN, NAN, 8, NAN, 109.4],
])  # fmt: skip
# What mvnmle prints for them.
CEMENT_MEANS = [6.655166, 49.965259, 11.769231, 27.047094, 95.423077]
CEMENT_VARIANCES = [21.825567, 238.012414, 37.869822, 294.183, 208.904852]


def rows_with_gaps(n: int, d: int, seed: int, share: float = 0.25) -> np.ndarray:
    rng = np.random.default_rng(seed)
    y = rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) + 10.0 * np.arange(d)
    y[rng.random((n, d)) < share] = NAN
    return y


def params_near(y: np.ndarray, n_components: int) -> MixtureParams:
    """Different components about the columns' means."""
    d, deviation = y.shape[1], np.nanstd(y, axis=0)
    means = np.nanmean(y, axis=0) + np.linspace(-1.0, 1.0, n_components)[:, None] * deviation
    covariances = np.stack([(k + 1.0) * (np.eye(d) + 0.2) for k in range(n_components)])
    covariances = covariances * deviation[:, None] * deviation[None, :]
    return MixtureParams(Weights(np.full(n_components, 1.0 / n_components)), GaussianParams(means, covariances))


@lanes.in_float64
def one_step(family: Any, y: np.ndarray, params: MixtureParams) -> lanes.Step:
    data, params = jax.tree.map(jnp.asarray, (Data(y), params))
    return jax.device_get(lanes.step(Mixture(family, len(params.latent.weights)), None, None, data, params))


@pytest.mark.parametrize("form", ["full", "tied"])
def test_without_missing_cells_it_is_the_gaussian(form: str) -> None:
    y = rows_with_gaps(40, 3, 0, share=0.0)
    params = params_near(y, 2)
    if form == "tied":
        tied = np.stack([params.family.covariances[0]] * 2)
        params = params._replace(family=params.family._replace(covariances=tied))
    close(one_step(MissingGaussian(form), y, params), one_step(Gaussian(form), y, params), SAME, form)


def test_many_columns_are_conditioned_on_like_few() -> None:
    y = rows_with_gaps(30, 7, 1)
    params = params_near(y, 1)
    found = one_step(MissingGaussian(), y, params)
    completed = oracle.moments(params.family, y)
    assert found.log_likelihood == pytest.approx(np.sum(oracle.log_prob(params.family, y)), rel=SAME)
    wanted = gaussian.maximize_moments(completed.means, completed.left, np.ones((1, 30)), "full", None)
    close(found.after.family, GaussianParams(*wanted), CLOSE, "M-step")
    away = [jnp.asarray((y[:, j] - params.family.means[:, j])[None, :]) for j in range(7)]
    observed = [~jnp.isnan(row) for row in away]
    away = [jnp.where(seen, row, 0.0) for seen, row in zip(observed, away)]
    covariances = jnp.asarray(params.family.covariances, away[0].dtype)
    one = gaussian_missing._condition_unrolled(covariances, away, observed)
    two = gaussian_missing._condition_stacked(covariances, away, observed)
    close(two, one, 1e3 * float(jnp.finfo(away[0].dtype).eps), "stacked and unrolled")


def factored(y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Closed form where who lacks a column lacks all later ones (Anderson 1957): regressions of each column on those
    before it, in the rows that have it."""
    d = y.shape[1]
    mean, covariance = np.zeros(d), np.zeros((d, d))
    for j in range(d):
        rows = y[~np.isnan(y[:, j]), : j + 1]
        design = np.column_stack([np.ones(len(rows)), rows[:, :j]])
        slopes = np.linalg.lstsq(design, rows[:, j], rcond=None)[0]
        residual = np.mean((rows[:, j] - design @ slopes) ** 2)
        mean[j] = slopes[0] + slopes[1:] @ mean[:j]
        covariance[j, :j] = covariance[:j, j] = covariance[:j, :j] @ slopes[1:]
        covariance[j, j] = residual + slopes[1:] @ covariance[:j, :j] @ slopes[1:]
    return mean, covariance


def monotone_rows() -> np.ndarray:
    y = rows_with_gaps(60, 3, 2, share=0.0)
    y[40:, 1:], y[25:, 2] = NAN, NAN
    return y


def test_a_monotone_pattern_has_its_closed_form() -> None:
    y = monotone_rows()
    found = emjax.fit(ONE, Data(y), 1, restarts=1, stop=Stop(tol=1e-12))
    mean, covariance = factored(y)
    assert found.status == emjax.Status.CONVERGED
    np.testing.assert_allclose(found.params.family.means[0], mean, rtol=1e-6)
    np.testing.assert_allclose(found.params.family.covariances[0], covariance, rtol=1e-5)
    log_likelihood = np.sum(oracle.log_prob(GaussianParams(mean[None], covariance[None]), y))
    assert found.log_likelihood == pytest.approx(log_likelihood, abs=1e-9)


def test_any_pattern_direct_maximisation_finds_no_more() -> None:
    y = np.concatenate([rows_with_gaps(58, 3, 3), np.full((2, 3), NAN)])
    found = emjax.fit(ONE, Data(y), 1, restarts=1, stop=Stop(tol=1e-12))
    lower = np.tril_indices(3)

    def unpack(free: np.ndarray) -> GaussianParams:
        factor = np.zeros((3, 3))
        factor[lower] = free[3:]
        return GaussianParams(free[None, :3], (factor @ factor.T)[None])

    def loss(free: np.ndarray) -> float:
        return -float(np.sum(oracle.log_prob(unpack(free), y)))

    start = np.concatenate([np.nanmean(y, axis=0), np.diag(np.nanstd(y, axis=0))[lower]])
    best = optimize.minimize(loss, start, method="BFGS", options={"gtol": 1e-4})
    assert -best.fun == pytest.approx(found.log_likelihood, abs=1e-6)
    assert found.log_likelihood == pytest.approx(-loss(np.concatenate([
        found.params.family.means[0], np.linalg.cholesky(found.params.family.covariances[0])[lower]
    ])), abs=1e-9)  # fmt: skip
    np.testing.assert_allclose(unpack(best.x).means, found.params.family.means, atol=1e-3)


@pytest.mark.long
def test_published_estimates_of_the_cement_data() -> None:
    """Twenty parameters from 13 rows: every row twice, which leaves the estimates as they are."""
    data = Data(CEMENT, weight=np.full(13, 2.0))
    plain = emjax.fit(ONE, data, 1, restarts=1, stop=Stop(tol=1e-11), acceleration=None)
    np.testing.assert_allclose(plain.params.family.means[0], CEMENT_MEANS, rtol=1e-6)
    np.testing.assert_allclose(np.diag(plain.params.family.covariances[0]), CEMENT_VARIANCES, rtol=1e-5)
    fast = emjax.fit(ONE, data, 1, restarts=1, stop=Stop(tol=1e-11), acceleration="squarem")
    assert fast.log_likelihood == pytest.approx(plain.log_likelihood, abs=1e-9)
    assert fast.iterations < plain.iterations / 2


def test_rows_without_any_cell_add_nothing_and_are_predicted() -> None:
    y = monotone_rows()
    less, more = (emjax.fit(ONE, Data(rows), 1, restarts=1) for rows in (y, np.concatenate([y, np.full((3, 3), NAN)])))
    assert more.log_likelihood == pytest.approx(less.log_likelihood, rel=SAME)
    close(more.params, less.params, CLOSE, "params")
    responsibilities = more.predict().responsibilities
    np.testing.assert_allclose(responsibilities, np.ones((63, 1)))


@pytest.mark.long
def test_missing_cells_by_either_name() -> None:
    """NaN in y, `observed` by cell, `observed` by row."""
    y = monotone_rows()
    seen = ~np.isnan(y)
    by_cell = Data(np.where(seen, y, 1e6), observed=seen)
    out = Data(np.concatenate([y, np.zeros((3, 3))]), observed=np.arange(63) < 60)
    fits = [emjax.fit(ONE, data, 1, restarts=1) for data in (Data(y), by_cell, out)]
    for found in fits[1:]:
        assert found.log_likelihood == pytest.approx(fits[0].log_likelihood, rel=SAME)
        close(found.params, fits[0].params, CLOSE, "params")


BAD = {
    "a column never observed": (1, NAN, Problem.NOTHING_OBSERVED, "column 1 of y"),
    "an infinite cell": (
        (3, 2),
        np.inf,
        Problem.RESPONSE_NOT_FINITE,
        "first in row 3, column 2 of y: inf, 1 in all",
    ),
    "a constant column": (0, 5.0, Problem.CONSTANT_RESPONSE, ""),
}


def broken(what: str) -> np.ndarray:
    y, (place, value, *_) = rows_with_gaps(60, 3, 4), BAD[what]
    y[place if isinstance(place, tuple) else (slice(None), place)] = value
    return y


@pytest.mark.parametrize("what", BAD)
def test_bad_data_say_where(what: str) -> None:
    with pytest.raises(DataError, match=BAD[what][3] or "constant"):
        emjax.fit(ONE, Data(broken(what)), 1, restarts=1)


def test_bad_data_are_invalid_in_a_batch() -> None:
    good = rows_with_gaps(60, 3, 4)
    twins = good.copy()  # never missing together, and equal where both were observed
    twins[:, 1], twins[::3, 1], twins[1::3, 0] = 2.0 * twins[:, 0] + 1.0, NAN, NAN
    found = emjax.fit_many(ONE, [Data(good), *(Data(broken(what)) for what in BAD), Data(twins)], 1, restarts=1)
    wanted = [Problem.NONE, *(problem for _, _, problem, _ in BAD.values()), Problem.COLLINEAR]
    assert [Problem(int(problem)) for problem in found.problems] == wanted
    assert np.all((found.status == emjax.Status.INVALID_DATA) == (found.problems > 0))


@pytest.mark.long
def test_mixtures_with_missing_cells_find_the_groups_and_predict_them() -> None:
    rng = np.random.default_rng(5)
    of = rng.integers(0, 2, 120)
    y = np.array([[0.0, 0.0, 0.0], [4.0, -4.0, 3.0]])[of] + rng.normal(size=(120, 3))
    y[rng.random((120, 3)) < 0.3] = NAN
    found = emjax.fit(Mixture(MissingGaussian("diagonal"), 2), Data(y), 1, restarts=4)
    assert found.status == emjax.Status.CONVERGED
    labels, seen = found.predict().labels, ~np.all(np.isnan(y), axis=1)
    agree = np.mean(labels[seen] == of[seen])
    assert max(agree, 1.0 - agree) > 0.95
    sampled, _ = found.model.sample(jax.random.key(0), jax.tree.map(jnp.asarray, found.params), Data(jnp.asarray(y)))
    np.testing.assert_array_equal(np.isnan(np.asarray(sampled.y)), np.isnan(y))

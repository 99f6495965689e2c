"""Profile likelihood intervals: closed forms, brute force by scipy, invariance, and ends that do not exist."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import pytest
from scipy import optimize, special

import emjax
from emjax import Data, DataError, End, Mixture, MixtureParams, Stop, WeightsParams, profile_intervals
from emjax.inference import constrained

TIGHT = Stop(tol=1e-12)
COUNTS = np.array([162.0, 267.0, 271.0, 185.0, 111.0, 61.0, 27.0, 8.0, 3.0, 1.0])  # Hasselblad 1969
QUANTILE = 3.841458820694124  # of chi-squared, one degree of freedom, .95
RELATIVE = 1e-6


@cache
def deaths() -> emjax.Fit:
    start = MixtureParams(WeightsParams(np.array([0.4, 0.6])), emjax.PoissonParams(np.array([1.0, 3.0])))
    data = Data(np.arange(10.0), weight=COUNTS)
    return emjax.fit(Mixture(emjax.Poisson(), 2), data, 0, start=start, stop=TIGHT, acceleration="squarem")


def log_likelihood(logit: float, rates: np.ndarray) -> float:
    """In plain NumPy."""
    y, w = np.arange(10.0)[:, None], special.expit(logit)
    terms = y * np.log(rates) - rates - special.gammaln(y + 1.0) + np.log([w, 1.0 - w])
    return float(COUNTS @ special.logsumexp(terms, axis=1))


def brute_force(fit: emjax.Fit, which: int, sign: float) -> float:
    """A limit of the logit of the weight (0) or the logarithm of a rate (1, 2): the others maximised by scipy."""
    w, rates = fit.params.latent.weights[0], fit.params.family.rates
    best = np.array([special.logit(w), *np.log(rates)])
    rest = np.delete(best, which)

    def fall(away: float) -> float:
        """2 (best - profile), less the quantile; walks on from where the last one ended."""

        def negative(others: np.ndarray) -> float:
            logit, *logs = np.insert(others, which, best[which] + sign * away)
            return -log_likelihood(logit, np.exp(logs))

        nonlocal rest
        settings = {"xatol": 1e-9, "fatol": 1e-12, "maxiter": 4000}
        found = optimize.minimize(negative, rest, method="Nelder-Mead", options=settings)
        rest = found.x
        return 2.0 * (log_likelihood(best[0], np.exp(best[1:])) + found.fun) - QUANTILE

    grid = np.arange(0.0, 4.0, 0.05)
    last = next(a for a in grid if fall(a) > 0)
    return best[which] + sign * optimize.brentq(fall, last - 0.05, last, xtol=1e-10)  # type: ignore[operator]


@pytest.mark.parametrize(
    ("name", "component", "which"),
    [pytest.param("weights", 0, 0, marks=pytest.mark.slow), ("rates", 0, 1), ("rates", 1, 2)],
)
def test_hasselblads_deaths_by_brute_force(name: str, component: int, which: int) -> None:
    fit = deaths()
    found = profile_intervals(fit, name, component)
    back: Callable = special.expit if which == 0 else np.exp
    wanted = [back(brute_force(fit, which, sign)) for sign in (-1.0, 1.0)]
    np.testing.assert_allclose([found.lower, found.upper], wanted, rtol=RELATIVE)
    assert (found.lower_end, found.upper_end) == (End.FOUND, End.FOUND)


@pytest.mark.slow
@pytest.mark.parametrize("unit", [1.0, 1e-7, 1e5])
def test_the_mean_of_one_gaussian_in_closed_form(unit: float) -> None:
    y = unit * np.random.default_rng(0).normal(3.0, 2.0, (3, 40))
    y[1, 5] = np.nan
    fits = emjax.fit_many(Mixture(emjax.Gaussian(), 1), Data(y), 0, restarts=1)
    found = profile_intervals(fits, "means[0]", 0, level=0.9)
    quantile = 1.6448536269514722**2
    half = y.std(axis=1) * np.sqrt(np.expm1(quantile / 40))  # n log(1 + (mean - c)^2 / s^2) is the quantile
    np.testing.assert_allclose(found.lower[[0, 2]], (y.mean(axis=1) - half)[[0, 2]], rtol=RELATIVE)
    np.testing.assert_allclose(found.upper[[0, 2]], (y.mean(axis=1) + half)[[0, 2]], rtol=RELATIVE)
    assert found.lower_end.tolist() == found.upper_end.tolist() == [End.FOUND, End.NO_FIT, End.FOUND]
    assert np.isnan([found.estimate[1], found.lower[1], found.upper[1]]).all()


@pytest.mark.slow
def test_the_variance_of_one_gaussian_in_closed_form() -> None:
    y = np.random.default_rng(1).normal(3.0, 2.0, 40)
    fit = emjax.fit(Mixture(emjax.Gaussian(), 1), Data(y), 0, restarts=1)
    found = profile_intervals(fit, "covariances[0,0]", 0)

    def fall(ratio: float) -> float:
        return 40 * (np.log(ratio) + 1.0 / ratio - 1.0) - QUANTILE

    wanted = [y.var() * optimize.brentq(fall, *ends) for ends in ((0.1, 1.0), (1.0, 10.0))]  # type: ignore[operator]
    np.testing.assert_allclose([found.lower, found.upper], wanted, rtol=RELATIVE)


@pytest.mark.slow
def test_other_coordinates_and_a_batch_have_the_same_limits() -> None:
    fit = deaths()
    regressions = Mixture(emjax.PoissonRegression(), 2)
    data = Data(np.stack([np.arange(10.0)] * 2), x=np.zeros((10, 0)), weight=COUNTS)
    fits = emjax.fit_many(regressions, data, 0, restarts=4, stop=TIGHT, acceleration="squarem")
    order = np.argsort(fits.params.family.coefficients[:, :, 0], axis=1)
    found = profile_intervals(fits, "coefficients[0]", order[:, 1])
    wanted = profile_intervals(fit, "rates", 1)
    np.testing.assert_allclose(np.exp(found.lower), wanted.lower, rtol=RELATIVE)
    np.testing.assert_allclose(np.exp(found.upper), wanted.upper, rtol=RELATIVE)
    both = [profile_intervals(fit, "weights", k) for k in (0, 1)]
    np.testing.assert_allclose([1.0 - both[1].upper, 1.0 - both[1].lower], [both[0].lower, both[0].upper], rtol=1e-6)


@pytest.mark.slow
def test_limits_of_a_mixture_follow_the_unit() -> None:
    """In steps, in what is near and in what is too far."""
    rng = np.random.default_rng(4)
    y = np.concatenate([rng.normal(0.0, 1.0, 60), rng.normal(2.5, 1.0, 90)])
    unit = np.array([1.0, 1e-7, 1e6])
    start = MixtureParams(
        WeightsParams(np.full((3, 2), 0.5)),
        emjax.GaussianParams(
            unit[:, None, None] * [[[0.0], [3.0]]], unit[:, None, None, None] ** 2 * np.ones((2, 1, 1))
        ),
    )
    fits = emjax.fit_many(Mixture(emjax.Gaussian("E"), 2), Data(unit[:, None] * y), 0, start=start, stop=TIGHT)
    found = profile_intervals(fits, "means[0]", 0)
    assert np.all(found.lower_end == End.FOUND) and np.all(found.upper_end == End.FOUND)
    np.testing.assert_allclose(found.upper / unit, found.upper[0], rtol=RELATIVE)
    np.testing.assert_allclose(found.lower / unit, found.lower[0], rtol=RELATIVE)


@pytest.mark.slow
def test_directions_are_those_of_the_profile() -> None:
    """Of l = b'x - x'Ax / 2 along g = c'x + x'Cx / 2: slope and way of the profile, by differences of scipy's."""
    rng = np.random.default_rng(0)
    root, curved = rng.normal(size=(3, 3)), rng.normal(size=(3, 3))
    a, c, b, along = root @ root.T + np.eye(3), 0.3 * (curved + curved.T), rng.normal(size=3), rng.normal(size=3)

    def best(value: float) -> np.ndarray:
        """Stationary in x and the multiplier: scipy's root from the unconstrained maximum."""

        def score(z: np.ndarray) -> np.ndarray:
            x, multiplier = z[:3], z[3]
            return np.append(b - a @ x - multiplier * (along + c @ x), along @ x + 0.5 * x @ c @ x - value)

        return optimize.root(score, np.append(np.linalg.solve(a, b), 0.0), tol=1e-13).x

    x = np.linalg.solve(a, b)
    value = along @ x + 0.5 * x @ c @ x + 0.3
    here, above, below = best(value), best(value + 1e-5), best(value - 1e-5)
    x = here[:3]
    arrays = (x, 0.0, 0.0, value, b - a @ x, along + c @ x, a, c, np.zeros(3, np.int32))
    found = constrained.directions(constrained.Point(*(np.asarray(v)[None] for v in arrays)))
    assert found.multiplier[0] == pytest.approx(here[3], rel=1e-9) and found.gain[0] < 1e-18
    np.testing.assert_allclose(found.tangent[0], (above - below)[:3] / 2e-5, rtol=1e-6, atol=1e-8)
    off = Place(x + 0.01 * np.linalg.svd((along + c @ x)[None])[2][1])
    arrays = (off.x, 0.0, 0.0, value, b - a @ off.x, along + c @ off.x, a, c, np.zeros(3, np.int32))
    step = constrained.directions(constrained.Point(*(np.asarray(v)[None] for v in arrays))).step[0]
    assert np.linalg.norm(off.x + step - x) < 0.1 * np.linalg.norm(off.x - x)  # quadratic, not linear


@pytest.mark.slow
def test_a_weight_that_may_be_0_has_the_edge_of_its_space_as_limit() -> None:
    y = np.random.default_rng(2).poisson(3.0 + (np.arange(60) % 3 == 0), 60).astype(float)
    start = deaths().params
    fit = emjax.fit(Mixture(emjax.Poisson(), 2), Data(y), 0, start=start, stop=TIGHT, acceleration="squarem")
    one = emjax.fit(Mixture(emjax.Poisson(), 1), Data(y), 0)
    assert 0.0 < 2.0 * (fit.log_likelihood - one.log_likelihood) < QUANTILE  # so that either component may go
    small = int(np.argmin(fit.params.latent.weights))
    found = profile_intervals(fit, "weights", small)
    assert (found.lower, found.lower_end) == (0.0, End.EDGE)
    assert emjax.intervals(emjax.standard_errors(fit)).lower.latent.weights[small] > 0.0


@pytest.mark.slow
def test_what_has_no_interval_says_why() -> None:
    fit = deaths()
    fixed = emjax.fit(fit.model, fit.data, 0, start=fit.params, fixed={"weights": np.array([0.3, 0.7])})
    found = profile_intervals(fixed, "weights", 0)
    assert (found.lower_end, found.upper_end) == (End.FIXED, End.FIXED) and np.isnan(found.upper)
    at_edges = emjax.fit(fit.model, fit.data, 0, start=fit.params, fixed={"weights": np.array([0.0, 1.0])})
    for k in (0, 1):
        assert profile_intervals(at_edges, "weights", k).upper_end == End.FIXED
    everything = {"weights": np.array([0.3, 0.7]), "rates": np.array([1.0, 3.0])}
    fixed = emjax.fit(fit.model, fit.data, 0, start=fit.params, fixed=everything)
    assert profile_intervals(fixed, "rates", 0).upper_end == End.FIXED
    off = fit.params._replace(family=emjax.PoissonParams(fit.params.family.rates * np.array([1.0, 1.02])))
    found = profile_intervals(replace(fit, params=off), "rates", 0)
    assert (found.lower_end, found.upper_end) == (End.NOT_A_MAXIMUM, End.NOT_A_MAXIMUM) and np.isnan(found.lower)


class Place(NamedTuple):
    x: Any


@dataclass(frozen=True)
class Wells(emjax.Model):
    """Modes at -1 and 1, the right one higher by 0.6 nats, and 0.7 nats deep between them."""

    def expect(self, params: Place, prepared: Data) -> emjax.Expectation:
        x = params.x
        return emjax.Expectation(0.3 * x - (x**2 - 1.0) ** 2, x)

    def maximize(self, statistics: Any, params: Place, prepared: Data) -> Place:
        x = statistics
        return Place(x + 0.1 * (0.3 - 4.0 * x * (x**2 - 1.0)))


@pytest.mark.slow
def test_a_higher_mode_on_the_way_is_noticed() -> None:
    fit = emjax.fit(Wells(), Data(np.zeros(3)), 0, start=Place(np.array(-1.0)), stop=TIGHT, certificate=False)
    assert fit.params.x < -0.9
    found = profile_intervals(fit, "x")
    left = optimize.brentq(lambda x: fit.log_likelihood - 0.3 * x + (x**2 - 1) ** 2 - QUANTILE / 2, -3, -1)
    assert found.lower == pytest.approx(left, rel=RELATIVE)  # without other coordinates the profile is the likelihood
    assert found.upper_end == End.NOT_A_MAXIMUM and np.isnan(found.upper)


def test_bad_settings() -> None:
    with pytest.raises(DataError, match="rates"):
        profile_intervals(deaths(), "means[0]", 0)
    with pytest.raises(DataError, match="component=2"):
        profile_intervals(deaths(), "rates", 2)
    with pytest.raises(DataError, match="component='all'"):
        profile_intervals(deaths(), "rates")
    with pytest.raises(DataError, match=r"component has shape \(2,\)"):
        profile_intervals(deaths(), "rates", [0, 1])
    with pytest.raises(DataError, match="level"):
        profile_intervals(deaths(), "rates", 0, level=95)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="parameters of its rows"):
        profile_intervals(replace(deaths(), model=emjax.PLSA(2)), "rates", 0)

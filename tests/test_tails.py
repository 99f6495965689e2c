"""Distribution functions of the families, both tails, and the pseudo-residuals that hidden Markov models make of it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import emjax
from emjax import Data, HiddenMarkov, MarkovParams, MixtureParams
from tests import lanes
from tests.battery import CLOSE, close

DRAWS = 400
RELATIVE, LEAST = 1e-10, 1e-200  # of tails no smaller than that: their logarithms, up to 460, are exact to 1e-13
SELDOM = 1e-4  # how seldom uniform draws look less so
COUNTS = np.array([0.0, 1, 2, 4, 9, 30, 90, 250])
REALS = np.array([-1e3, -60.0, -9.0, -1.0, 0.5, 1.0, 4.0, 30.0, 80.0, 1e5])
POSITIVE = np.array([1e-30, 1e-3, 0.2, 1.0, 4.0, 20.0, 150.0, 400.0])
LINES = np.array([[0.3, 0.5], [2.0, -0.4]])


class Known(NamedTuple):
    family: Any
    params: Any  # of two components
    distribution: Callable[..., Any]  # SciPy's, from the parameters of a component and the data
    far: np.ndarray  # responses out to where a tail is 1e-200
    fields: tuple[str, ...] = ()  # of the data, besides y


def mean_of(coefficients: np.ndarray, data: Data) -> np.ndarray:
    return coefficients[0] + np.asarray(data.x)[:, 0] * coefficients[1] + (0.0 if data.offset is None else data.offset)


def negative_binomial(mean: Any, size: Any) -> Any:
    return stats.nbinom(size, size / (size + mean))


KNOWN = {
    "poisson": Known(
        emjax.Poisson(),
        emjax.PoissonParams(np.array([1.5, 8.0])),
        lambda p, d: stats.poisson(p.rates * np.exp(d.offset)),
        COUNTS,
        ("offset",),
    ),
    "poisson-regression": Known(
        emjax.PoissonRegression(),
        emjax.PoissonRegressionParams(LINES),
        lambda p, d: stats.poisson(np.exp(mean_of(p.coefficients, d))),
        COUNTS,
        ("x", "offset"),
    ),
    "binomial": Known(
        emjax.Binomial(),
        emjax.BinomialParams(np.array([0.02, 0.6])),
        lambda p, d: stats.binom(d.trials, p.probabilities),
        np.minimum(COUNTS, 120.0),
        ("trials",),
    ),
    "binomial-regression": Known(
        emjax.BinomialRegression(),
        emjax.BinomialRegressionParams(LINES),
        lambda p, d: stats.binom(d.trials, 1.0 / (1.0 + np.exp(-mean_of(p.coefficients, d)))),
        np.minimum(COUNTS, 120.0),
        ("x", "offset", "trials"),
    ),
    "negative-binomial": Known(
        emjax.NegativeBinomial(),
        emjax.NegativeBinomialParams(np.array([3.0, 40.0]), np.array([0.7, 25.0])),
        lambda p, d: negative_binomial(p.means, p.sizes),
        COUNTS,
    ),
    "negative-binomial-regression": Known(
        emjax.NegativeBinomialRegression(),
        emjax.NegativeBinomialRegressionParams(LINES, np.array([0.7, 25.0])),
        lambda p, d: negative_binomial(np.exp(mean_of(p.coefficients, d)), p.sizes),
        COUNTS,
        ("x", "offset"),
    ),
    "exponential": Known(
        emjax.Exponential(),
        emjax.ExponentialParams(np.array([0.2, 1.1])),
        lambda p, d: stats.expon(scale=1.0 / p.rates),
        POSITIVE,
    ),
    "gamma": Known(
        emjax.Gamma(),
        emjax.GammaParams(np.array([0.4, 30.0]), np.array([2.0, 9.0])),
        lambda p, d: stats.gamma(p.shapes, scale=p.means / p.shapes),
        POSITIVE,
    ),
    "gaussian": Known(
        emjax.Gaussian(),
        emjax.GaussianParams(np.array([[0.0], [3.0]]), np.array([[[4.0]], [[9.0]]])),
        lambda p, d: stats.norm(p.means[0], np.sqrt(p.covariances[0, 0])),
        REALS,
    ),
    "linear-regression": Known(
        emjax.LinearRegression(),
        emjax.LinearRegressionParams(LINES, np.array([2.0, 3.0])),
        lambda p, d: stats.norm(mean_of(p.coefficients, d), p.scale),
        REALS,
        ("x", "offset"),
    ),
    "student-t": Known(
        emjax.StudentT(),
        emjax.StudentTParams(np.array([[0.0], [3.0]]), np.array([[[4.0]], [[9.0]]]), np.array([1.5, 40.0])),
        lambda p, d: stats.t(p.degrees, p.means[0], np.sqrt(p.scales[0, 0])),
        REALS,
    ),
    "student-t-regression": Known(
        emjax.StudentTRegression(),
        emjax.StudentTRegressionParams(LINES, np.array([2.0, 3.0]), np.array([3.0, 800.0])),
        lambda p, d: stats.t(p.degrees, mean_of(p.coefficients, d), p.scale),
        REALS,
        ("x", "offset"),
    ),
}


def data_of(known: Known) -> tuple[Data, np.ndarray]:
    """The far responses, then SciPy's draws, and the components of all."""
    rng, n = np.random.default_rng(5), len(known.far) + DRAWS
    fields = {"x": rng.uniform(0.0, 2.0, (n, 1)), "offset": rng.normal(0.0, 0.2, n), "trials": np.full(n, 120.0)}
    data = Data(np.zeros(n), **{name: fields[name] for name in known.fields}, weight=np.ones(n))
    labels = np.arange(n) % 2
    y = np.where(labels == 0, *(of_component(known, data, k).ppf(rng.random(n)) for k in range(2)))
    y[: len(known.far)] = known.far
    return data._replace(y=y.astype(float)), labels


def of_component(known: Known, data: Data, k: int) -> Any:
    return known.distribution(jax.tree.map(lambda a: a[k], known.params), data)


@lanes.in_float64
def tails_of(family: Any, params: Any, data: Data) -> Any:
    """(K, n) each, from parameters in the user's units."""

    def ask(params: Any, data: Data) -> Any:
        prepared, _ = family.prepare(data, 2, None, None)
        return family.tails(family.from_user(params, prepared), prepared)

    return jax.device_get(jax.jit(ask)(*jax.tree.map(jnp.asarray, (params, data))))


@pytest.mark.parametrize("name", KNOWN)
def test_tails_are_scipys_and_uniform_for_draws(name: str) -> None:
    known = KNOWN[name]
    data, labels = data_of(known)
    tails = tails_of(known.family, known.params, data)
    shares = np.zeros(len(labels))
    for k in range(2):
        distribution = of_component(known, data, k)
        counted = hasattr(distribution.dist, "pmf")
        at = distribution.pmf(data.y) if counted else np.zeros(len(labels))
        below = distribution.cdf(data.y - 1.0 if counted else data.y)
        for found, wanted in zip(tails, (below, at, distribution.sf(data.y)), strict=True):
            assert np.all(np.abs(found[k] - wanted) <= RELATIVE * wanted + LEAST)
        inside = np.random.default_rng(3).random(len(labels))
        shares = np.where(labels == k, tails[0][k] + inside * tails[1][k], shares)
    assert stats.kstest(shares[len(known.far) :], "uniform").pvalue > SELDOM


# --- what they become in a hidden Markov model ----------------------------------------------------------------------

CHAIN = MarkovParams(np.array([0.6, 0.4]), np.array([[0.8, 0.2], [0.3, 0.7]]))


@lanes.in_float64
def predict(family: Any, data: Data, block: Any) -> Any:
    """Of a chain of two states."""
    model = HiddenMarkov(family, 2)

    def ask(params: Any, data: Data) -> Any:
        prepared, _ = model.prepare(data)
        return model.predict(model.from_user(params, prepared), prepared)

    return jax.device_get(jax.jit(ask)(*jax.tree.map(jnp.asarray, (MixtureParams(CHAIN, block), data))))


def states(n: int) -> np.ndarray:
    rng, found = np.random.default_rng(8), np.zeros(n, int)
    for i in range(n):
        found[i] = rng.choice(2, p=CHAIN.transitions[found[i - 1]] if i else CHAIN.initial)
    return found


def test_pseudo_residuals_of_counts_are_normal_inside_their_intervals() -> None:
    known, rng = KNOWN["negative-binomial"], np.random.default_rng(9)
    of = states(DRAWS)
    means, sizes = known.params.means[of], known.params.sizes[of]
    y = rng.poisson(rng.gamma(sizes, means / sizes)).astype(float)
    found = predict(known.family, Data(y), known.params)
    low, high = stats.norm.cdf(found.pseudo_residual_bounds).T
    assert stats.kstest(low + rng.random(DRAWS) * (high - low), "uniform").pvalue > SELDOM
    close(found.pseudo_residuals, stats.norm.ppf(0.5 * (low + high)), CLOSE, "middles")


def test_a_point_mass_jumps_at_its_value() -> None:
    y, family = np.array([0.0, 2, 0, 0, 5, 40]), emjax.WithComponent(emjax.Poisson(), emjax.PointMass())
    found = predict(family, Data(y), emjax.PoissonParams(np.array([3.0])))
    inside, zero = found.predicted.T
    below = np.where(y > 0, zero, 0.0) + inside * stats.poisson.cdf(y - 1, 3.0)
    above = inside * stats.poisson.sf(y, 3.0)
    lower, upper = found.pseudo_residual_bounds.T
    close(stats.norm.cdf(lower), below, CLOSE, "less")
    close(upper, stats.norm.isf(above), CLOSE, "more")
    assert np.all(lower[y == 0] == -np.inf) and upper[-1] > 8.0


def test_noise_rises_over_the_range() -> None:
    y, family = np.array([-2.0, 0.3, 1.1, 6.0, 0.0]), emjax.WithComponent(emjax.Gaussian(), emjax.UniformNoise())
    found = predict(family, Data(y), emjax.GaussianParams(np.array([[0.5]]), np.array([[[1.0]]])))
    parts = np.stack([stats.norm.cdf(y, 0.5, 1.0), (y + 2.0) / 8.0])
    close(stats.norm.cdf(found.pseudo_residuals), np.sum(found.predicted.T * parts, axis=0), CLOSE, "pseudo-residuals")


class Half:
    """A density of one's own that says nothing of its tails."""

    def check(self, data: Data) -> None: ...

    def log_prob(self, data: Data) -> Any:
        return jnp.full(data.y.shape, -jnp.log(2.0)), jnp.int32(0)

    def sample(self, key: Any, data: Data) -> Any: ...


def test_where_there_is_no_distribution_function_there_are_none() -> None:
    family = emjax.WithComponent(emjax.Gaussian(), Half())
    params = emjax.GaussianParams(np.array([[0.5]]), np.array([[[1.0]]]))
    assert predict(family, Data(np.array([-1.0, 0.3, 1.1])), params).pseudo_residuals is None
    items = emjax.CategoricalParams(np.array([[[0.3, 0.7]], [[0.6, 0.4]]]))
    found = predict(emjax.Categorical(2), Data(np.array([[0.0], [1.0], [1.0]])), items)
    assert found.pseudo_residuals is None and found.pseudo_residual_bounds is None

"""Data, small models and fits that the tests of the engine's promises share; fits are made once a process."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

import emjax
from emjax import Data, Expectation, Fits, Flag, LinearRegression, Mixture, Stop
from tests.oracle import linear_regression, mixture

LINES = Mixture(LinearRegression(), 2)
N, D, RESTARTS, SEED = 100, 12, 4, 2**70  # one shape nearly everywhere: compiling is most of the time
INTERCEPTS, SLOPES, NOISE = np.array([1.0, 2.0]), np.array([0.5, 1.5]), np.array([0.1, 0.2])


@cache
def lines(noise: float = 5.0, seed: int = 0) -> Data:
    """The article's problem with its noise multiplied, y (D, N), x (D, N, 1)."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(0.0, 10.0, (D, N, 1))
    label = rng.integers(0, 2, (D, N))
    y = INTERCEPTS[label] + SLOPES[label] * x[:, :, 0] + noise * NOISE[label] * rng.normal(size=(D, N))
    return Data(y, x)


def truth(noise: float = 5.0) -> Any:
    """The parameters behind `lines`."""
    return emjax.MixtureParams(
        emjax.WeightsParams(np.array([0.5, 0.5])),
        emjax.LinearRegressionParams(np.stack([INTERCEPTS, SLOPES], axis=1), noise * NOISE),
    )


def at(data: Data, index: int | slice | np.ndarray) -> Data:
    """Some of the datasets."""
    return Data(*(None if field is None else field[index] for field in data))


@cache
def base() -> Fits:
    """The batch that most tests look at."""
    fits = emjax.fit_many(LINES, lines(), SEED, restarts=RESTARTS)
    assert np.all(fits.status == emjax.Status.CONVERGED)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves((fits.params, fits.objective)))
    return fits


def log_likelihood(params: Any, y: np.ndarray, x: np.ndarray, row_weight: np.ndarray | None = None) -> float:
    """Of a mixture of regressions with intercepts, by the oracle, in the user's units."""
    family = linear_regression.Params(params.family.coefficients, params.family.scale)
    values = linear_regression.log_prob(family, y, linear_regression.design_matrix(x))
    return mixture.e_step(params.latent.weights, values, row_weight).log_likelihood


def leaves_equal(a: Any, b: Any) -> None:
    """Equal to the bit, NaN included."""
    chex.assert_trees_all_equal(jax.tree.leaves(a), jax.tree.leaves(b))


RESULTS = ("params", "log_likelihood", "objective", "status", "flags", "problems", "iterations", "remaining",
           "restarts", "certificate")  # fmt: skip


def same_fits(a: Any, b: Any, rows_a: Any = slice(None), rows_b: Any = slice(None)) -> None:
    """Every result of some datasets of `a` equals that of some of `b`, to the bit."""
    for name in RESULTS:
        left = jax.tree.map(lambda leaf: np.asarray(leaf)[rows_a], getattr(a, name))
        right = jax.tree.map(lambda leaf: np.asarray(leaf)[rows_b], getattr(b, name))
        leaves_equal(left, right)


class Step(NamedTuple):
    at: ArrayLike


class Scripted(emjax.Model):
    """The objective of the t-th E-step is y[t]: any course of a lane, in one compile."""

    def expect(self, params: Step, prepared: Data) -> Expectation:
        return Expectation(prepared.y[jnp.int32(params.at)], jnp.zeros(()))

    def maximize(self, statistics: Any, params: Step, prepared: Data) -> Step:
        return Step(params.at + 1.0)

    def start(self, key: Any, prepared: Data, strategy: str) -> Step:
        return Step(jnp.zeros(()))


SCRIPTED = Scripted()
COURSE = 32  # rows of a script; shorter ones go on at their last value


def play(courses: Sequence[Sequence[float]], **settings: Any) -> Fits:
    """One lane for each course of objectives."""
    y = np.stack([np.pad(np.asarray(c, float), (0, COURSE - len(c)), mode="edge") for c in courses])
    return emjax.fit_many(SCRIPTED, Data(y), 0, restarts=1, certificate=False, threads=1, **settings)


class Courses(emjax.Model):
    """The objective at the t-th E-step of restart r is y[32 r + t]: any courses of six restarts, in one compile.

    An objective above 1000 is a collapse.
    """

    @property
    def strategies(self) -> tuple[str, ...]:
        return tuple("012345")

    def expect(self, params: Step, prepared: Data) -> Expectation:
        return Expectation(prepared.y[jnp.int32(params.at)], prepared.y[jnp.int32(params.at)])

    def maximize(self, statistics: Any, params: Step, prepared: Data) -> Step:
        last = jnp.int32(params.at) % COURSE == COURSE - 1
        return Step(jnp.where(last, params.at, params.at + 1.0))

    def flags(self, params: Step, statistics: Any, prepared: Data, degeneracy: Any) -> Any:
        return jnp.int32(jnp.where(statistics > 1000.0, Flag.DEGENERATE, 0))

    def start(self, key: Any, prepared: Data, strategy: str) -> Step:
        return Step(jnp.asarray(COURSE * float(strategy), prepared.y.dtype))


COURSES = Courses()


class Slope(emjax.Model):
    """A user's own model of one number u: objective and map are given; y[0] is the start, other rows nothing."""

    def __init__(self, objective: Callable[[Any], Any], step: Callable[[Any], Any]) -> None:
        self.value, self.step = objective, step

    def expect(self, params: Step, prepared: Data) -> Expectation:
        return Expectation(self.value(params.at), jnp.zeros(()))

    def maximize(self, statistics: Any, params: Step, prepared: Data) -> Step:
        return Step(self.step(params.at))

    def start(self, key: Any, prepared: Data, strategy: str) -> Step:
        return Step(prepared.y[0])


class Poisson(emjax.Model):
    """Poisson regression on a constant and x, log link, by Newton steps: y (n,), x (n, 1), start in `offset` (n,)."""

    monotone = False

    def _mean(self, params: Step, prepared: Data) -> Any:
        return jnp.exp(params.at[0] + params.at[1] * prepared.x[:, 0])

    def expect(self, params: Step, prepared: Data) -> Expectation:
        mean = self._mean(params, prepared)
        used = jnp.asarray(prepared.weight, mean.dtype)
        design = jnp.stack([jnp.ones_like(mean), prepared.x[:, 0]])
        score = design @ (used * (prepared.y - mean))
        information = (design * (used * mean)[None, :]) @ design.T
        value = jnp.sum(used * (prepared.y * jnp.log(mean) - mean))
        return Expectation(value, (score, information))

    def maximize(self, statistics: Any, params: Step, prepared: Data) -> Step:
        score, information = statistics
        return Step(params.at + jnp.linalg.solve(information, score))

    def start(self, key: Any, prepared: Data, strategy: str) -> Step:
        return Step(prepared.offset[:2])


class Unguarded(Poisson):
    """The same, which claims that its steps never fall."""

    monotone = True


def tight(tol: float = 1e-12) -> Stop:
    """For a second fit that shows what was left."""
    return Stop(tol=tol, max_iterations=200_000)

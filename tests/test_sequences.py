"""Sequences through the engine: however they are given, and bad input."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import emjax
from emjax import Data, DataError, Gaussian, HiddenMarkov, Status
from tests.battery import CLOSE, close

pytestmark = pytest.mark.long  # compiling takes most of a test command of ten minutes

MODEL = HiddenMarkov(Gaussian("tied"), 2)
N, SEED, RESTARTS = 40, 9, 4


def series(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(size=N) + 4.0 * (np.cumsum(rng.random(N) < 0.15) % 2)


def fit(y: Any, model: Any = MODEL, **settings: Any) -> emjax.Fit:
    fields = {name: settings.pop(name) for name in ("unit", "observed", "weight", "z") if name in settings}
    return emjax.fit(model, Data(y, **fields), SEED, restarts=RESTARTS, **settings)


def same(a: Any, b: Any) -> None:
    for name in ("params", "log_likelihood", "iterations", "n_observations"):
        jax.tree.map(np.testing.assert_array_equal, getattr(a, name), getattr(b, name))


def test_sequences_however_given() -> None:
    """Alone or in a batch, stacked or listed, as one unit said or unsaid, missing either way: the same to the bit."""
    ys = np.stack([series(s) for s in range(3)])
    ys[1, 5] = np.nan
    stacked = emjax.fit_many(MODEL, Data(ys), SEED, restarts=RESTARTS)
    listed = emjax.fit_many(MODEL, [Data(y) for y in ys], SEED, restarts=RESTARTS)
    same(stacked, listed)
    same(stacked[1], fit(ys[1], id=1))
    same(stacked[1], fit(ys[1], id=1, unit=np.full(N, 7), weight=np.array([True])))
    same(stacked[1], fit(np.nan_to_num(ys[1]), id=1, observed=np.arange(N) != 5))
    assert stacked[1].status == Status.CONVERGED and stacked[1].n_observations == N - 1
    found = stacked[1].predict()
    assert isinstance(found, emjax.HiddenMarkovPrediction) and found.labels.shape == (N,)
    close(np.sum(found.log_density), stacked[1].log_likelihood, CLOSE, "log-likelihood")
    again = emjax.fit(MODEL, Data(ys[1]), SEED, start=stacked[1].params)
    close(again.log_likelihood, stacked[1].log_likelihood, 1e-6, "from its own end")


def generate(key: Any) -> Data:
    draw, switch = jax.random.split(key)
    state = (jnp.cumsum(jax.random.uniform(switch, (N,)) < 0.15) % 2).astype(float)
    return Data(jax.random.normal(draw, (N,)) + 4.0 * state)


@pytest.mark.long
def test_streams() -> None:
    (fits,) = emjax.fit_stream(MODEL, generate, 3, SEED, chunk=3, restarts=RESTARTS)
    one = fits[2]
    same(one, emjax.fit(MODEL, fits.data[2], SEED, id=one.ids, restarts=RESTARTS))
    assert one.n_observations == N


HALVES = np.repeat([0, 1], N // 2)
EMPTY = np.where(HALVES == 0, np.nan, series(0))
STATIONARY = HiddenMarkov(Gaussian(), 2, "stationary")
BAD: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "nothing observed": ({"y": EMPTY, "unit": HALVES}, ("no observed value", "unit 0")),
    "infinity": ({"y": np.r_[np.nan, np.inf, series(0)[2:]]}, ("row 1 of y", "1 in all")),
    "units apart": ({"unit": np.arange(N) % 2}, ("unit", "sort")),
    "a sequence of no rows": ({"unit": 2 * HALVES, "weight": np.ones(3)}, ("weight", "2 units")),
    "one weight a row": ({"weight": np.ones(N)}, ("weight", "(1,)")),
    "covariates of the chain": ({"z": np.ones((N, 1))}, ("z", "leave it out")),
    "lists of lists": ({"y": [[1.0, 2.0], [3.0]]}, ("y", "numbers")),
    "a start": ({"fixed": {"initial": [0.9, 0.9]}}, ("initial", "sum to 1")),
    "a fixed stationary start": ({"model": STATIONARY, "fixed": {"initial": [0.5, 0.5]}}, ("initial", "stationary")),
    "a block of another model": ({"fixed": {"weights": [0.5, 0.5]}}, ("weights", "transitions")),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name: str) -> None:
    arguments, words = BAD[name]
    with pytest.raises(DataError) as caught:
        fit(**{"y": series(0)} | arguments)
    for word in words:
        assert word in str(caught.value), str(caught.value)
    assert "\n" not in str(caught.value)


def test_bad_settings() -> None:
    with pytest.raises(DataError, match="initial_distribution='foo'"):
        HiddenMarkov(Gaussian(), 2, "foo")  # type: ignore[arg-type]


def test_nothing_observed_in_a_batch() -> None:
    ys = np.stack([series(0), np.full(N, np.nan), series(2)])
    fits = emjax.fit_many(MODEL, Data(ys), SEED, restarts=RESTARTS)
    assert list(fits.status == Status.INVALID_DATA) == [False, True, False]
    assert fits.problems[1] & emjax.Problem.NOTHING_OBSERVED

"""Grouped membership (flexmix's `| id`): the rows of a unit share their component, through every way in."""

from functools import cache
from typing import Any

import numpy as np
import pytest

import emjax
from emjax import Data, Gaussian, LinearRegression, Mixture, Status
from tests.oracle import linear_regression
from tests.oracle.problem import gaussian_problem, regression_problem

pytestmark = pytest.mark.long  # compiling takes most of a test command of ten minutes

UNITS = 40
MODELS = {"gaussian": Mixture(Gaussian("V"), 2), "regression": Mixture(LinearRegression(), 2)}


@cache
def ragged(name: str, seed: int) -> tuple[Data, np.ndarray]:
    """Components that overlap much in a row, and little in a unit of 3 to 7 rows; and the units' components."""
    rng = np.random.default_rng(seed)
    unit = np.repeat(np.arange(UNITS), np.resize([3, 7, 4, 6, 5], UNITS))
    label = rng.integers(0, 2, UNITS)
    of, x = label[unit], rng.uniform(-1.0, 1.0, (len(unit), 1))
    noise = rng.normal(size=len(unit))
    if name == "gaussian":
        return Data(np.where(of == 0, 0.0, 1.8) + np.where(of == 0, 1.0, 0.6) * noise, unit=unit), label
    return Data(np.where(of == 0, 0.0, 0.8 + 2.0 * x[:, 0]) + noise, x, unit=unit), label


def weight_of(data: Data) -> np.ndarray:
    return np.ones(UNITS) if data.weight is None else np.asarray(data.weight)


def oracle(name: str, data: Data) -> Any:
    if name == "gaussian":
        return gaussian_problem(data.y[:, None], weight_of(data), data.unit, "full")
    return regression_problem(data.y, linear_regression.design_matrix(data.x), weight_of(data), data.unit, "component")


@cache
def batch(name: str) -> emjax.Fits:
    return emjax.fit_many(MODELS[name], [ragged(name, seed)[0] for seed in range(4)], 0, restarts=8)


@pytest.mark.parametrize("name", MODELS)
def test_fits_of_ragged_units_are_the_oracles(name: str) -> None:
    for fit, seed in zip(batch(name), range(4), strict=True):
        data, label = ragged(name, seed)
        assert fit.status == Status.CONVERGED
        assert fit.n_observations == UNITS
        posterior = oracle(name, data).e_step(fit.params)
        assert fit.log_likelihood == pytest.approx(posterior.log_likelihood, abs=1e-9)
        after = oracle(name, data).m_step(fit.params, posterior.responsibilities)
        better = oracle(name, data).e_step(after).log_likelihood
        assert better - fit.log_likelihood < 1e-6  # EM of another make gains nothing more
        prediction = fit.predict()
        np.testing.assert_allclose(prediction.responsibilities, posterior.responsibilities[:, data.unit].T, atol=1e-9)
        first = np.unique(data.unit, return_index=True)[1]
        assert np.array_equal(prediction.labels, prediction.labels[first][data.unit])
        right = np.mean(prediction.labels[first] == label)
        assert max(right, 1.0 - right) > 0.85


def test_one_fit_is_that_of_the_batch() -> None:
    alone = emjax.fit(MODELS["gaussian"], ragged("gaussian", 2)[0], 0, id=2, restarts=8)
    assert alone.objective == batch("gaussian").objective[2]


def test_labels_of_units_need_not_be_numbers_from_zero() -> None:
    data, _ = ragged("gaussian", 2)
    named = emjax.fit(MODELS["gaussian"], data._replace(unit=1000 - 7 * data.unit), 0, id=2, restarts=8)
    assert named.objective == batch("gaussian").objective[2]


@pytest.mark.parametrize("strategy", MODELS["gaussian"].strategies)
def test_every_start_gives_whole_units_to_components(strategy: str) -> None:
    """Each start alone finds the mode; the strategy is data of the compiled program, so nothing is compiled anew."""
    restarts = batch("gaussian").restarts
    chosen = restarts.strategy == MODELS["gaussian"].strategies.index(strategy)
    assert np.sum(chosen) == 8
    reached = restarts.objective > batch("gaussian").objective[:, None] - 1e-3
    assert np.any(chosen & reached), strategy


@pytest.mark.long
@pytest.mark.parametrize("name", MODELS)
def test_a_unit_of_weight_two_is_that_unit_twice_and_one_of_weight_zero_is_none(name: str) -> None:
    data, _ = ragged(name, 0)
    weight = np.resize([1.0, 2.0, 0.0, 1.0], UNITS)
    copies = np.repeat(np.arange(UNITS), weight.astype(int))
    rows = [np.flatnonzero(data.unit == u) for u in copies]
    unit = np.repeat(np.arange(len(copies)), [len(r) for r in rows])
    every = np.concatenate(rows)
    twice = Data(data.y[every], None if data.x is None else data.x[every], unit=unit)
    weighted = emjax.fit(MODELS[name], data._replace(weight=weight), 0, restarts=8)
    repeated = emjax.fit(MODELS[name], twice, 0, restarts=8)
    assert weighted.log_likelihood == pytest.approx(repeated.log_likelihood, abs=1e-5)
    assert weighted.n_observations == repeated.n_observations == weight.sum()
    assert len(weighted.predict().labels) == len(data.y)

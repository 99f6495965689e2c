"""Predictions of rows that a model cannot have are refused, as fits of them are; those of few rows or equal ones not.

A fit is made by hand of a fitted one, so that nothing but the prediction is compiled.
"""

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest

import emjax
from emjax import (
    CategoricalParams,
    Data,
    GatedMarkovParams,
    Gaussian,
    GaussianParams,
    HiddenMarkov,
    Independent,
    IndependentParams,
    Mixture,
    MixtureParams,
    Poisson,
    PoissonParams,
    WeightsParams,
)
from tests.promises import base
from tests.refusals import refused

HALVES = WeightsParams(np.array([0.5, 0.5]))
NORMAL = GaussianParams(np.array([[0.0], [3.0]]), np.ones((2, 1, 1)))
COUNTS = np.array([0.0, 1, 2, 1, 9, 8, 0, 7, 9, 2])
LABELS = (COUNTS > 4).astype(int)


def fitted(model: Any, params: Any, data: Data) -> emjax.Fit:
    return replace(base()[0], model=model, params=params, data=data)


POISSON = fitted(Mixture(Poisson(), 2), MixtureParams(HALVES, PoissonParams(np.array([1.0, 8.0]))), Data(COUNTS))


def put(values: Any, place: Any, value: float) -> np.ndarray:
    changed = np.array(values, float)
    changed[place] = value
    return changed


def test_counts() -> None:
    """Rows of weight 0 may hold anything."""
    assert list(POISSON.predict().labels) == list(LABELS)
    for value in (-1.0, 0.5):
        wrong = put(COUNTS, 7, value)
        refused(partial(POISSON.predict, Data(wrong)), "cannot be predicted", "count", f"row 7 of y: {value:g}, 1 in")
        others = np.arange(10) != 7
        found = POISSON.predict(Data(wrong, weight=others))
        assert list(found.labels[others]) == list(LABELS[others])


def test_few_rows_and_equal_ones() -> None:
    assert list(POISSON.predict(Data([9.0])).labels) == [1]
    assert list(POISSON.predict(Data([1.0, 1.0, 1.0])).labels) == [0, 0, 0]
    normal = fitted(Mixture(Gaussian(), 2), MixtureParams(HALVES, NORMAL), Data(COUNTS))
    assert list(normal.predict(Data([3.0])).labels) == [1]
    refused(partial(normal.predict, Data([np.nan])), "row 0 of y")


def test_members_of_independent() -> None:
    items = CategoricalParams(np.array([[[0.5, 0.4, 0.1]], [[0.1, 0.4, 0.5]]]))
    model = Mixture(Independent([Gaussian("V"), emjax.Categorical(3)]), 2)
    y = np.column_stack([3.0 * LABELS, 2.0 * LABELS])
    fit = fitted(model, MixtureParams(HALVES, IndependentParams((NORMAL, items))), Data(y))
    assert list(fit.predict(Data(put(y, (7, 1), np.nan))).labels) == list(LABELS)
    refused(partial(fit.predict, Data(put(put(y, (3, 1), np.nan), (7, 0), np.nan))), "row 7, column 0 of y, 1 in all")
    refused(partial(fit.predict, Data(put(y, (7, 1), 77.0))), "row 7, column 1 of y: 77 of 3 levels")


@pytest.mark.long
def test_z_of_rows_that_gate_nothing() -> None:
    """A lagged covariate has no value in a sequence's first row, where no transition is."""
    rng = np.random.default_rng(3)
    y, z, unit = rng.normal(1.5, 2.0, 40), rng.normal(size=(40, 1)), np.repeat([0, 1], 20)
    first = np.arange(40) % 20 == 0
    moves = np.array([[[0.0, 0.0], [-1.0, 1.0]], [[-1.0, -1.0], [0.0, 0.0]]])
    model = HiddenMarkov(Gaussian("V"), 2, "free", "gated")
    params = MixtureParams(GatedMarkovParams(np.array([0.5, 0.5]), moves), NORMAL)
    data = Data(y, z=np.where(first[:, None], np.nan, z), unit=unit)
    fit, whole = fitted(model, params, data), fitted(model, params, Data(y, z=z, unit=unit))
    for ours, theirs in zip(fit.predict(), whole.predict(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    refused(partial(fit.predict, data._replace(z=put(data.z, 7, np.nan))), "row 7, column 0 of z, 1 in all")
    both = HiddenMarkov(Gaussian("V"), 2, "gated", "gated")
    gated = fitted(both, params._replace(latent=GatedMarkovParams(moves[1], moves)), whole.data)
    refused(partial(gated.predict, data), "row 0, column 0 of z, 2 in all")

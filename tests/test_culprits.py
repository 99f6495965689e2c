"""Where the fault is: the row and the column of y that the user knows, whatever is masked or handed to a member."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from emjax import (
    Binomial,
    Categorical,
    Data,
    Exponential,
    Gaussian,
    HiddenMarkov,
    Independent,
    LinearRegression,
    MissingGaussian,
    Mixture,
    PointMass,
    Poisson,
    Problem,
    WithComponent,
)  # fmt: skip
from emjax.engine import datasets, diagnosis

P = Problem
N, RNG = 40, np.random.default_rng(7)
PAIR = np.column_stack([RNG.normal(size=N), RNG.integers(0, 5, N)])  # a real number and a count below 5
NORMAL = RNG.normal(size=(N, 2))
ITEMS = np.column_stack([PAIR[:, 0] > 0, PAIR[:, 1]]).astype(float)
UNIT = np.repeat(np.arange(4), 10)


def put(values: Any, *changes: tuple[Any, float]) -> np.ndarray:
    changed = np.array(values, float)
    for place, value in changes:
        changed[place] = value
    return changed


def all_but(*cells: tuple[Any, Any]) -> np.ndarray:
    observed = np.ones((N, 2), bool)
    for cell in cells:
        observed[cell] = False
    return observed


def pair(family: Any) -> Mixture:
    return Mixture(Independent([Gaussian("V"), family]), 2)


def items(*changes: tuple[Any, float]) -> np.ndarray:
    return put(ITEMS, *changes)


NAN, CELL = np.nan, (7, 1)
HOLE_BEFORE = put(PAIR, ((3, 1), NAN), ((7, 0), NAN))  # a missing item, and what may not be missing
TRIALS = np.full(N, 2.0)
FAULTS = {
    # --- members of Independent, whose columns are those of y
    "a negative count": (pair(Poisson()), Data(put(PAIR, (CELL, -1))), P.NOT_A_COUNT,
                         "family 1: first in row 7, column 1 of y: -1, 1 in all"),
    "half a count": (pair(Poisson()), Data(put(PAIR, (CELL, 0.5))), P.NOT_A_COUNT, "row 7, column 1 of y: 0.5"),
    "not positive": (pair(Exponential()), Data(put(PAIR + [0, 1], (CELL, -1))), P.NOT_POSITIVE,
                     "row 7, column 1 of y: -1"),
    "above trials": (pair(Binomial()), Data(put(np.minimum(PAIR, 2), (CELL, 9)), trials=TRIALS), P.ABOVE_TRIALS,
                     "row 7, column 1 of y: 9, 1 in all"),
    "half a trial": (pair(Binomial()), Data(np.minimum(PAIR, 2), trials=put(TRIALS, (5, 2.5))), P.ABOVE_TRIALS,
                     "row 5 of trials: 2.5"),
    "a member with holes": (pair(Categorical(5)), Data(HOLE_BEFORE), P.RESPONSE_NOT_FINITE,
                            "family 0: first in row 7, column 0 of y, 1 in all"),
    "a level": (pair(Categorical(5)), Data(put(PAIR, ((3, 1), NAN), (CELL, 9))), P.UNKNOWN_LEVEL,
                "family 1: first in row 7, column 1 of y: 9 of 5 levels, 1 in all"),
    "an item": (pair(Categorical(5)), Data(put(PAIR, ((slice(None), 1), NAN))), P.NOTHING_OBSERVED, "column 1 of y"),
    "a constant column": (pair(Gaussian()), Data(put(PAIR, ((slice(None), 1), 2))), P.CONSTANT_RESPONSE,
                          "family 1: column 1 of y"),
    "copied columns": (Mixture(Independent([Gaussian("V"), Gaussian()], [1, 2]), 2), Data(np.c_[PAIR, 2 * PAIR[:, 1]]),
                       P.COLLINEAR, "family 1: column 2 of y follows"),
    "a covariate": (pair(LinearRegression()), Data(PAIR, put(NORMAL, ((9, 1), NAN))), P.COVARIATE_NOT_FINITE,
                    "family 1: first in row 9, column 1 of x"),
    "inside another family": (pair(WithComponent(Poisson(), PointMass())), Data(put(PAIR, (CELL, -1))), P.NOT_A_COUNT,
                              "row 7, column 1 of y: -1"),
    "a family in a family": (pair(Independent([Poisson()])), Data(put(PAIR, (CELL, -1))), P.NOT_A_COUNT,
                             "row 7, column 1 of y: -1"),
    "a weight": (pair(Poisson()), Data(PAIR, weight=put(np.ones(N), (4, -1))), P.WEIGHT_INVALID, "row 4: -1"),
    # --- cells masked by `observed` (n, d)
    "a masked level": (HiddenMarkov(Categorical((2, 5)), 2),
                       Data(items(((3, 1), -1), (CELL, 9)), unit=UNIT, observed=all_but((3, 1))), P.UNKNOWN_LEVEL,
                       "first in row 7, column 1 of y: 9 of 5 levels, 1 in all"),
    "a masked level of a mixture": (Mixture(Categorical((2, 5)), 2),
                                    Data(items(((3, 1), -1), (CELL, 9)), observed=all_but((3, 1))), P.UNKNOWN_LEVEL,
                                    "row 7, column 1 of y: 9"),
    "a masked cell of a chain": (HiddenMarkov(Gaussian("diagonal"), 2), Data(NORMAL, observed=all_but(CELL)),
                                 P.RESPONSE_NOT_FINITE, "row 7, column 1 of y, 1 in all"),
    "a masked cell of a mixture": (Mixture(Gaussian("diagonal"), 2), Data(NORMAL, observed=all_but(CELL)),
                                   P.RESPONSE_NOT_FINITE, "row 7, column 1 of y, 1 in all"),
    "a sequence of NaN and masks": (HiddenMarkov(Gaussian("diagonal"), 2),
                                    Data(put(NORMAL, ((slice(10, 20), 0), NAN)), unit=UNIT,
                                         observed=all_but((slice(10, 20), 1))), P.NOTHING_OBSERVED, "unit 1, 1 in all"),
    "a masked infinity": (Mixture(MissingGaussian(), 2), Data(put(NORMAL, ((3, 1), np.inf), (CELL, np.inf)),
                                                              observed=all_but((3, 1))), P.RESPONSE_NOT_FINITE,
                          "row 7, column 1 of y: inf, 1 in all"),
    "an infinity in a masked row": (HiddenMarkov(MissingGaussian("diagonal"), 2),
                                    Data(put(NORMAL, ((3, 1), np.inf), (CELL, np.inf)), observed=np.arange(N) != 3),
                                    P.RESPONSE_NOT_FINITE, "row 7, column 1 of y: inf, 1 in all"),
    "a masked cell of a member": (pair(Categorical(5)), Data(PAIR, observed=all_but((3, 1), (7, 0))),
                                  P.RESPONSE_NOT_FINITE, "family 0: first in row 7, column 0 of y, 1 in all"),
}  # fmt: skip


def problem_of(model: Any, data: Data) -> Problem:
    """Without a fit."""
    with jax.enable_x64(True):
        return Problem(int(model.prepare(jax.tree.map(jnp.asarray, data))[1]))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("what", FAULTS)
def test_the_place(what: str) -> None:
    model, given, problem, place = FAULTS[what]
    data = datasets.one(model, given)
    assert problem_of(model, data) == problem
    text = diagnosis.explain(model, data, problem)
    assert place in text and problem.describe() in text and "\n" not in text, text


def test_z_of_rows_that_gate_nothing() -> None:
    """Neither their NaN nor their values are a fault, and the columns of the others are still judged."""
    first = np.r_[-1, UNIT[:-1]] != UNIT
    z, y = np.where(first[:, None], np.nan, PAIR[:, :1]), NORMAL[:, 0]
    into, out_of = HiddenMarkov(Gaussian("V"), 2, "free", "gated"), HiddenMarkov(Gaussian("V"), 2, "gated", "constant")
    both = HiddenMarkov(Gaussian("V"), 2, "gated", "gated")
    for model, given, place in (
        (into, z, ""),
        (into, put(z, (7, NAN)), "row 7, column 0 of z, 1 in all"),
        (into, np.c_[z, np.where(first, NAN, 3.0)], "column 1 of z"),
        (into, np.c_[z, 2.0 * z + 1.0], "column 1 of z follows"),
        (both, z, "row 0, column 0 of z, 4 in all"),
        (out_of, np.where(first[:, None], PAIR[:, :1], NAN), ""),
        (out_of, z, "row 0, column 0 of z, 4 in all"),
    ):
        data = datasets.one(model, Data(y, z=given, unit=UNIT))
        problem = problem_of(model, data)
        assert bool(problem) == bool(place)
        assert place in diagnosis.explain(model, data, problem)

"""A dataset of every family broken in every way that applies to it: what is done, and what emjax must say of it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from emjax import PLSA, Data, Problem
from tests.cases import CASES
from tests.lanes import in_float64, n_units

P = Problem
ROW = 7  # the culprit


class Breakage(NamedTuple):
    """What is done to a dataset, the problem that it is, and what the sentence about it says beside that: a place."""

    damage: Callable[[Data], Data]
    problem: Problem
    says: str


def put(field: str, value: float, place: Any = ROW) -> Callable[[Data], Data]:
    """One value, or the rows of a slice; in the last column where there are several."""

    def damage(data: Data) -> Data:
        values = np.array(getattr(data, field), float)
        values[(place, -1) if values.ndim == 2 and not isinstance(place, tuple) else place] = value
        return data._replace(**{field: values})

    return damage


def one_row(field: str, value: float) -> Callable[[Data], Data]:
    """One observed cell of the field."""
    return lambda data: put(field, value, int(np.flatnonzero(_observed(data))[ROW]))(data)


def copied(field: str) -> Callable[[Data], Data]:
    """The last column follows from the first."""
    return lambda data: put(field, 2.0 * np.asarray(getattr(data, field))[:, 0] + 1.0, slice(None))(data)


def emptied(data: Data) -> Data:
    """Without rows."""
    return jax.tree.map(lambda values: np.asarray(values)[:0], data)


def unobserved(rows: Callable[[Data], np.ndarray]) -> Callable[[Data], Data]:
    """NaN in all cells of some rows."""

    def damage(data: Data) -> Data:
        y = np.array(data.y, float)
        y[rows(data)] = np.nan
        return data._replace(y=y)

    return damage


def _observed(data: Data) -> np.ndarray:
    y = np.asarray(data.y, float)
    return np.isfinite(y if y.ndim == 1 else y[:, -1]) & (True if data.observed is None else np.asarray(data.observed))


def _differs(data: Data) -> Data:
    """z of a unit's second row is not that of its first."""
    return put("z", 9.0, int(np.flatnonzero(np.diff(np.asarray(data.unit)) == 0)[0]) + 1)(data)


ALL = slice(None)
WEIGHTS = {
    "negative weight": Breakage(put("weight", -1.0), P.WEIGHT_INVALID, f" {ROW}: -1"),
    "NaN weight": Breakage(put("weight", np.nan), P.WEIGHT_INVALID, f" {ROW}: nan"),
    "no weight": Breakage(put("weight", 0.0, ALL), P.NO_WEIGHT, ""),
    "no rows": Breakage(emptied, P.NO_WEIGHT, ""),
}
TWO = {"two units": Breakage(put("weight", 0.0, slice(2, None)), P.TOO_FEW_ROWS, "rows count")}
ONE = {"one unit": Breakage(put("weight", 0.0, slice(1, None)), P.TOO_FEW_ROWS, "(")}
INFINITE = {"infinite y": Breakage(one_row("y", np.inf), P.RESPONSE_NOT_FINITE, " of y")}
NAN = INFINITE | {"NaN in y": Breakage(one_row("y", np.nan), P.RESPONSE_NOT_FINITE, " of y")}
UNSEEN = {"nothing observed": Breakage(unobserved(lambda data: np.full(len(data.y), True)), P.NOTHING_OBSERVED,
                                       " 0")}  # fmt: skip
SEQUENCE = {"a sequence unobserved": Breakage(unobserved(lambda data: np.asarray(data.unit) == 3), P.NOTHING_OBSERVED,
                                              "unit 3")}  # fmt: skip
CONSTANT = {"constant y": Breakage(put("y", 2.0, ALL), P.CONSTANT_RESPONSE, "")}
COLUMNS = {"a copied column of y": Breakage(copied("y"), P.COLLINEAR, "of y follows")}
HOLED_COLUMNS = {what: breakage._replace(says="") for what, breakage in COLUMNS.items()}  # its place is not known
OFFSET = {"NaN in offset": Breakage(put("offset", np.nan), P.RESPONSE_NOT_FINITE, f"row {ROW} of offset")}
COVARIATE = {
    "infinite x": Breakage(put("x", np.inf), P.COVARIATE_NOT_FINITE, f"row {ROW}"),
    "NaN in x": Breakage(put("x", np.nan), P.COVARIATE_NOT_FINITE, f"row {ROW}"),
    "constant x": Breakage(put("x", 3.0, ALL), P.CONSTANT_COVARIATE, "of x"),
}
COVARIATES = COVARIATE | {"a copied column of x": Breakage(copied("x"), P.COLLINEAR, "of x follows")}
GATE = {
    "infinite z": Breakage(put("z", np.inf), P.COVARIATE_NOT_FINITE, f"row {ROW}"),
    "NaN in z": Breakage(put("z", np.nan), P.COVARIATE_NOT_FINITE, f"row {ROW}"),
    "constant z": Breakage(put("z", 3.0, ALL), P.CONSTANT_COVARIATE, "of z"),
}
GROUPED_GATE = GATE | {"z differs in a unit": Breakage(_differs, P.DIFFERS_IN_UNIT, "of z")}
COUNTS = {
    "negative count": Breakage(put("y", -1.0), P.NOT_A_COUNT, "of y: -1"),
    "half a count": Breakage(put("y", 0.5), P.NOT_A_COUNT, "of y: 0.5"),
}
TRIALS = {
    "more successes than trials": Breakage(put("y", 1e4), P.ABOVE_TRIALS, f"row {ROW} of y: 10000"),
    "half a trial": Breakage(put("trials", 0.5), P.ABOVE_TRIALS, f"row {ROW} of trials: 0.5"),
    "NaN in trials": Breakage(put("trials", np.nan), P.ABOVE_TRIALS, f"row {ROW} of trials: nan"),
}
POSITIVE = {
    "zero": Breakage(put("y", 0.0), P.NOT_POSITIVE, f"row {ROW} of y: 0"),
    "negative": Breakage(put("y", -1.0), P.NOT_POSITIVE, f"row {ROW} of y: -1"),
}
LEVELS = {
    "an infinite level": Breakage(one_row("y", np.inf), P.UNKNOWN_LEVEL, "inf of 2 levels"),
    "a level too high": Breakage(put("y", 9.0), P.UNKNOWN_LEVEL, "9 of 2 levels"),
    "a negative level": Breakage(put("y", -1.0), P.UNKNOWN_LEVEL, "-1 of 2 levels"),
    "half a level": Breakage(put("y", 0.5), P.UNKNOWN_LEVEL, "0.5 of 2 levels"),
}
COLUMN = {"a column unobserved": Breakage(put("y", np.nan, ALL), P.NOTHING_OBSERVED, "of y")}

BREAKAGES = {
    "regression-offset": WEIGHTS | TWO | NAN | OFFSET | COVARIATES,
    "regression-shared-slopes": WEIGHTS | TWO | NAN | CONSTANT | COVARIATES,
    "gaussian-full": WEIGHTS | TWO | NAN | CONSTANT | COLUMNS,
    "gaussian-spherical": WEIGHTS | TWO | NAN,
    "missing-gaussian-full": WEIGHTS | TWO | INFINITE | UNSEEN | COLUMN | CONSTANT | HOLED_COLUMNS,
    "poisson": WEIGHTS | TWO | NAN | COUNTS | OFFSET,
    "binomial": WEIGHTS | TWO | NAN | COUNTS | TRIALS,
    "poisson-regression": WEIGHTS | TWO | NAN | COUNTS | OFFSET | COVARIATES,
    "binomial-regression": WEIGHTS | TWO | NAN | COUNTS | OFFSET | TRIALS | COVARIATES,
    "student-component": WEIGHTS | TWO | NAN | CONSTANT | COLUMNS,
    "robust-number": WEIGHTS | TWO | NAN | OFFSET | COVARIATES,
    "exponential": WEIGHTS | TWO | NAN | POSITIVE,
    "gamma": WEIGHTS | TWO | NAN | POSITIVE | CONSTANT,
    "negative-binomial": WEIGHTS | TWO | NAN | COUNTS,
    "negative-binomial-regression": WEIGHTS | TWO | NAN | COUNTS | OFFSET | COVARIATE,
    "categorical-missing": WEIGHTS | TWO | UNSEEN | COLUMN | LEVELS,
    "independent-mixed": WEIGHTS | TWO | NAN | COVARIATES,
    "log-density-weibull": WEIGHTS | TWO | NAN,
    "gaussian-noise": WEIGHTS | TWO | NAN | CONSTANT | COLUMNS,
    "zero-inflated-negative-binomial": WEIGHTS | TWO | NAN | COUNTS,
    "factor-analysis": WEIGHTS | TWO | NAN | CONSTANT | COLUMNS,
    "probabilistic-pca": WEIGHTS | TWO | NAN | CONSTANT,
    "factor-analysers": WEIGHTS | TWO | NAN | CONSTANT | COLUMNS,
    "gated-gaussian-grouped": WEIGHTS | TWO | NAN | GROUPED_GATE,
    "hidden-markov": WEIGHTS | ONE | INFINITE | UNSEEN | SEQUENCE | CONSTANT,
    "hidden-markov-stationary": WEIGHTS | ONE | INFINITE | UNSEEN | SEQUENCE | CONSTANT,
    "hidden-markov-regression": WEIGHTS | ONE | INFINITE | UNSEEN | SEQUENCE | CONSTANT | COVARIATE,
    "gated-chain-both": WEIGHTS | ONE | INFINITE | UNSEEN | SEQUENCE | CONSTANT | GATE,
    "plsa": WEIGHTS | ONE | NAN | COUNTS,
}  # fmt: skip


def weighted(data: Data) -> Data:
    """With a number as each unit's weight, so that a broken weight changes no dtype."""
    weight = np.ones(n_units(data)) if data.weight is None else np.asarray(data.weight, float)
    return data._replace(weight=weight)


def corpus(seed: int) -> Data:
    """Counts of 6 terms in 40 documents."""
    rng = np.random.default_rng(seed)
    counts = [rng.multinomial(60, shares) for shares in rng.dirichlet(np.ones(6), 40)]
    return Data(np.array(counts, float), weight=np.ones(40))


@in_float64
def sound(name: str, count: int = 3) -> tuple[Any, list[Data], dict[str, Any]]:
    """Of a case: the model, its own dataset and others drawn from its model, and settings of a fit."""
    if name == "plsa":
        return PLSA(2), [corpus(seed) for seed in range(count)], {}
    case = next(case for case in CASES if case.name == name)
    own = weighted(case.data)
    given = jax.tree.map(jnp.asarray, (case.near, own))
    drawn = [case.model.sample(jax.random.key(seed), *given)[0] for seed in range(1, count)]
    return case.model, [own, *jax.tree.map(np.asarray, drawn)], {"prior": case.prior, "fixed": case.fixed}

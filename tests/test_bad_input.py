"""Bad input: one sentence with the culprit and the remedy from `fit`; INVALID_DATA for that dataset in a batch."""

from typing import Any

import jax
import numpy as np
import pandas as pd
import pytest

import emjax
from emjax import Data, Degeneracy, Dirichlet, Gaussian, LinearRegression, Mixture, Perturbed, Status, Stop
from tests.promises import LINES, RESTARTS, SEED, N, at, base, lines, same_fits
from tests.refusals import refused

ONE = at(lines(), 0)
Y, X = np.asarray(ONE.y), np.asarray(ONE.x)
FULL = Mixture(Gaussian(), 2)


def put(values: Any, index: Any, value: float) -> np.ndarray:
    changed = np.array(values, float)
    changed[index] = value
    return changed


def fit(y: Any = Y, x: Any = X, model: Any = LINES, key: Any = SEED, fields: Any = None, **settings: Any) -> Any:
    return emjax.fit(model, Data(y, x, **(fields or {})), key, restarts=settings.pop("restarts", RESTARTS), **settings)


ONES = np.ones(N)
DATA = {
    "nan in y": ({"y": put(Y, 7, np.nan)}, ("row 7 of y", "drop")),
    "infinity in y": ({"y": put(Y, 7, -np.inf)}, ("row 7 of y", "drop")),
    "none in y": ({"y": [None, *Y[1:]]}, ("row 0 of y",)),
    "pandas' NA": ({"y": pd.Series([*range(N - 1), pd.NA], dtype="Int64")}, ("y",)),
    "masked y": ({"y": np.ma.masked_array(put(Y, 3, 1e20), np.arange(N) == 3)}, ("y",)),
    "nan in x": ({"x": put(X, (9, 0), np.nan)}, ("row 9, column 0 of x", "drop")),
    "infinity in x": ({"x": put(X, (9, 0), np.inf)}, ("row 9, column 0 of x", "drop")),
    "the culprit has weight": ({"y": put(put(Y, 3, np.nan), 8, np.nan), "fields": {"weight": put(ONES, 3, 0)}},
                               ("row 8 of y", "1 in all")),
    "nan in offset": ({"fields": {"offset": put(ONES, 5, np.nan)}}, ("offset", "row 5")),
    "negative weight": ({"fields": {"weight": put(ONES, 4, -1)}}, ("weight", "row 4")),
    "nan weight": ({"fields": {"weight": put(ONES, 4, np.nan)}}, ("weight", "row 4")),
    "no weight": ({"fields": {"weight": 0 * ONES}}, ("total weight is zero",)),
    "constant y": ({"y": ONES}, ("response is constant",)),
    "constant x": ({"x": np.c_[X, 3 * ONES]}, ("constant", "column 1 of x")),
    "collinear x": ({"x": np.c_[X, 2 * X + 1]}, ("column 1 of x follows",)),
    "few rows": ({"y": Y[:6], "x": X[:6]}, ("fewer rows", "6 rows")),
    "one row": ({"y": Y[:1], "x": X[:1]}, ("fewer rows", "1 row")),
    "no rows": ({"y": [], "x": np.zeros((0, 1))}, ("no rows",)),
    "a number": ({"y": 3.0}, ("no rows",)),
    "x is short": ({"x": X[1:]}, ("100 rows", "x has shape (99, 1)")),
    "x is flat": ({"x": X[:, 0]}, ("x has shape (100,)", "(n, p)")),
    "two responses": ({"y": np.c_[Y, Y]}, ("one response",)),
    "flat list of lists": ({"y": [[1.0, 2.0], [3.0]], "x": None}, ("y",)),
    "text": ({"y": ["a"] * N}, ("y", "not numbers")),
    "complex": ({"y": Y + 0j}, ("y",)),
    "dates": ({"y": np.arange(N).astype("M8[D]")}, ("y",)),
    "weights short": ({"fields": {"weight": ONES[1:]}}, ("weight has shape (99,)", "100 units")),
    "offset of two columns": ({"fields": {"offset": np.ones((N, 2))}}, ("offset", "(100, 2)")),
    "offset of one column": ({"fields": {"offset": np.ones((N, 1))}}, ("offset", "(100, 1)")),
    "units unsorted": ({"fields": {"unit": np.arange(N) % 7}}, ("unit", "sort")),
    "units short": ({"fields": {"unit": np.arange(N - 1)}}, ("unit", "(99,)")),
    "units of two columns": ({"fields": {"unit": np.zeros((N, 2))}}, ("unit", "(100, 2)")),
    "trials": ({"fields": {"trials": ONES}}, ("trials",)),
}  # fmt: skip


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", DATA)
def test_data(name: str) -> None:
    arguments, words = DATA[name]
    refused(lambda: fit(**arguments), *words)


@pytest.mark.slow
def test_gaussian_data() -> None:
    y = np.c_[Y, X[:, 0]]
    refused(lambda: fit(y, X, FULL), "covariates")
    refused(lambda: fit(put(y, (3, 1), np.nan), None, FULL), "row 3, column 1 of y")
    refused(lambda: fit(np.c_[y, 2 * Y], None, FULL), "column 2 of y")
    refused(lambda: fit(np.c_[y, ONES], None, FULL), "column 2 of y", "constant")
    refused(lambda: fit(y[:5], None, Mixture(Gaussian(), 9)), "fewer rows")
    refused(lambda: fit(y, None, FULL, fields={"offset": ONES}), "offset")


P = base()[0].params
SETTINGS = {
    "restarts 0": ({"restarts": 0}, ("restarts=0",)),
    "restarts text": ({"restarts": "many"}, ("'many'", "auto")),
    "restarts fraction": ({"restarts": 2.5}, ("2.5",)),
    "restarts array": ({"restarts": np.array([1, 2])}, ("restarts",)),
    "strategy": ({"start": "kmeans"}, ("'kmeans'", "k-means++")),
    "one strategy of two": ({"start": ("nearest", "farthest")}, ("'farthest'",)),
    "no strategy": ({"start": ()}, ("start",)),
    "strategies as a list": ({"start": ["nearest", "farthest"]}, ("start",)),
    "precision": ({"precision": "float16"}, ("'float16'", "float64")),
    "key": ({"key": 1.5}, ("key",)),
    "key true": ({"key": True}, ("key",)),
    "two keys": ({"key": jax.random.split(jax.random.key(0))}, ("key",)),
    "prior's name": ({"prior": {"weigths": Dirichlet(2.0)}}, ("weigths", "weights")),
    "prior alone": ({"prior": Dirichlet(2.0)}, ("prior",)),
    "prior of another family": ({"prior": {"family": emjax.NormalInverseWishart()}}, ("prior",)),
    "prior swapped": ({"prior": {"family": Dirichlet(2.0)}}, ("prior",)),
    "concentration below 1": ({"prior": {"weights": Dirichlet(0.5)}}, ("concentration",)),
    "concentration's length": ({"prior": {"weights": Dirichlet(np.ones(3))}}, ("concentration",)),
    "prior's scale": ({"prior": {"family": emjax.NormalInverseGamma(scale=-1.0)}}, ("scale",)),
    "prior's length": ({"prior": {"family": emjax.NormalInverseGamma(mean=np.zeros(3))}}, ("mean",)),
    "fixed's name": ({"fixed": {"weight": [0.5, 0.5]}}, ("weight", "coefficients")),
    "fixed weights sum": ({"fixed": {"weights": [0.5, 0.9]}}, ("weights",)),
    "fixed weights' length": ({"fixed": {"weights": [0.5, 0.3, 0.2]}}, ("weights",)),
    "fixed scale negative": ({"fixed": {"scale": [-1.0, 1.0]}}, ("scale",)),
    "fixed nan": ({"fixed": {"scale": [np.nan, 1.0]}}, ("scale",)),
    "fixed shape": ({"fixed": {"coefficients": [1.0, 2.0]}}, ("coefficients",)),
    "fixed alone": ({"fixed": [0.5, 0.5]}, ("fixed",)),
    "start of three": ({"start": emjax.MixtureParams(emjax.WeightsParams(np.ones(3) / 3), emjax.LinearRegressionParams(
        np.zeros((3, 2)), np.ones(3))), "restarts": 1}, ("start",)),
    "start of two slopes": ({"start": P._replace(family=P.family._replace(coefficients=np.zeros((2, 3)))),
                            "restarts": 1},
                            ("start",)),
    "start of another family": ({"start": P._replace(family=emjax.GaussianParams(np.zeros((2, 1)), np.ones((2, 1, 1)))),
                                     "restarts": 1}, ("start",)),
    "start is a dict": ({"start": {"weights": [0.5, 0.5]}, "restarts": 1}, ("start",)),
    "start's weights sum": ({"start": P._replace(latent=emjax.WeightsParams(np.array([2.0, 3.0]))), "restarts": 1},
                            ("weights",)),
    "start nan": ({"start": P._replace(latent=emjax.WeightsParams(np.array([0.5, np.nan]))), "restarts": 1},
                  ("start",)),
    "start's scale": ({"start": P._replace(family=P.family._replace(scale=np.array([-1.0, 1.0]))), "restarts": 1},
                      ("scale",)),
    "equal starts": ({"start": P, "restarts": 5}, ("Perturbed",)),
    "spread": ({"start": Perturbed(P, np.nan)}, ("spread",)),
    "stop is a number": ({"stop": 1e-6}, ("Stop",)),
    "degeneracy is a number": ({"degeneracy": 0.01}, ("Degeneracy",)),
    "acceleration": ({"acceleration": "anderson"}, ("acceleration", "squarem")),
    "acceleration is a flag": ({"acceleration": True}, ("acceleration", "squarem")),
}  # fmt: skip


@pytest.mark.parametrize("name", SETTINGS)
def test_settings(name: str) -> None:
    arguments, words = SETTINGS[name]
    refused(lambda: fit(**arguments), *words)


def test_constructors() -> None:
    for k in (0, -1, 2.0, "2", None, True):
        refused(lambda k=k: Mixture(Gaussian(), k), "n_components")
    refused(lambda: Mixture("gaussian", 2), "gaussian")
    refused(lambda: Mixture(Gaussian, 2), "Gaussian()")
    for name in ("fulll", None, 3, ["full"]):
        refused(lambda name=name: Gaussian(name), "covariance", "tied")
    refused(lambda: LinearRegression(scale="both"), "'both'", "common")
    refused(lambda: LinearRegression(intercept="no"), "intercept")
    for tol in (0.0, -1.0, np.nan, "small"):
        refused(lambda tol=tol: Stop(tol=tol), "tol")
    for limit in (0, -5, 2.5, 2**40, "many"):
        refused(lambda limit=limit: Stop(max_iterations=limit), "max_iterations")
    refused(lambda: Degeneracy(relative_to="x"), "relative_to")  # type: ignore[arg-type]
    refused(lambda: Degeneracy(min_scale_ratio=np.nan), "min_scale_ratio")


def test_batches_as_a_whole() -> None:
    many = lambda data, **settings: emjax.fit_many(LINES, data, SEED, restarts=RESTARTS, **settings)  # noqa: E731
    two = at(lines(), slice(2))
    refused(lambda: many([]), "empty")
    refused(lambda: many(ONE), "fit for one dataset")
    refused(lambda: many(Y), "Data")
    refused(lambda: emjax.fit(LINES, Y, SEED), "Data")
    refused(lambda: emjax.fit(3, ONE, SEED), "model")
    refused(lambda: many(Data(np.zeros((0, N)), X)), "nothing to fit")
    refused(lambda: many(Data(two.y, lines().x[:3])), "(3, 100, 1)", "2 datasets")
    refused(lambda: many(Data(two.y, two.x, weight=np.ones(N - 1))), "weight")
    refused(lambda: many([ONE, Data(Y[1:], X)]), "Dataset 1", "99 rows")
    refused(lambda: many([ONE, Data(Y)]), "Dataset 1", "x")
    refused(lambda: many([ONE, Data(Y, np.c_[X, X**2])]), "Dataset 1", "x")
    refused(lambda: many(two, ids=["a"]), "ids", "2 datasets")
    refused(lambda: many(two, ids=["a", "a"]), "ids", "twice")
    refused(lambda: many(two, ids=5), "ids")
    refused(lambda: many(two, chunk=0), "chunk")
    refused(lambda: many(two, chunk=1.5), "chunk")
    refused(lambda: many(two, threads=-1, chunk=1), "threads")


def test_what_comes_after_a_fit_takes_fits() -> None:
    """Not their parameters, nor fits where standard errors are wanted."""
    found = base()[0]
    for call in (
        emjax.standard_errors, emjax.polish, emjax.criteria, emjax.latent_class_fit,
        lambda what: emjax.profile_intervals(what, "scale", 0),
        lambda what: emjax.bootstrap(what, 0),
    ):  # fmt: skip
        refused(lambda call=call: call(found.params), "MixtureParams", "fit_many")
    for call in (emjax.intervals, emjax.wald_tests):
        refused(lambda call=call: call(found), "not Fit", "standard_errors")
    refused(lambda: emjax.fold_in(found.params, ONE, SEED), "MixtureParams", "PLSA")


def test_predictions() -> None:
    found = base()[0]
    refused(lambda: found.predict(Y), "Data")
    refused(lambda: found.predict(Data(Y)), "x")
    refused(lambda: found.predict(Data(Y, np.c_[X, X])), "x")
    refused(lambda: found.predict(Data(put(Y, 3, np.nan), X)), "row 3 of y")
    weightless = found.predict(Data(Y, X, weight=put(ONES, slice(0, 50), 0)))
    np.testing.assert_allclose(weightless.responsibilities, found.predict().responsibilities, atol=1e-12)


LOOKS = {
    "lists": (Y.tolist(), X.tolist()),
    "pandas": (pd.Series(Y, index=np.arange(N) + 5), pd.DataFrame(X, columns=["a"])),
    "big-endian": (Y.astype(">f8"), X.astype(">f8")),
    "strided": (np.repeat(Y, 2)[::2], np.asfortranarray(np.c_[X, X])[:, :1]),
    "read-only": (np.broadcast_to(Y, (1, N))[0], X),
    "objects": (Y.astype(object), X),
}


@pytest.mark.parametrize("name", LOOKS)
def test_arrays_of_any_make(name: str) -> None:
    same_fits(base()[0], fit(*LOOKS[name], id=0), (), ())


def test_whole_numbers_and_truth_values_are_numbers() -> None:
    whole = np.round(10 * Y).astype(int)
    same_fits(fit(whole), fit(whole.astype(float)), (), ())
    same_fits(fit(whole), fit(whole.astype(np.float32)), (), ())
    same_fits(fit(whole > 40), fit((whole > 40).astype(np.int8)), (), ())


def _sound(found: Any) -> bool:
    """CONVERGED means finite everywhere."""
    finite = all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves((found.params, found.objective)))
    return bool(found.status != Status.CONVERGED or finite)


@pytest.mark.parametrize("factor", [1e150, 1e154, 1e300, 1e-150, 1e-155, 1e-300])
@pytest.mark.parametrize("field", ["y", "x"])
def test_units_of_any_size(field: str, factor: float) -> None:
    """A factor in y or x moves the log-likelihood by a constant; it makes no column constant."""
    found = fit(Y * factor, X) if field == "y" else fit(Y, X * factor)
    assert found.status == Status.CONVERGED
    shift = N * np.log(factor) if field == "y" else 0.0
    assert found.log_likelihood + shift == pytest.approx(base()[0].log_likelihood, abs=1e-6)


@pytest.mark.parametrize("shift", [1e6, 1e9])
def test_offsets_of_any_size(shift: float) -> None:
    """Rounding of the data themselves (shift times eps) is all that moves."""
    for found in (fit(Y + shift, X), fit(Y, X + shift)):
        assert found.status == Status.CONVERGED
        assert found.log_likelihood == pytest.approx(base()[0].log_likelihood, abs=1e-6 + 100 * N * shift * 2.3e-16)


EXTREMES = {
    "outlier": put(Y, 0, 1e20),
    "huge outlier": put(Y, 0, 1e150),
    "beyond squares": put(Y, 0, 1e200),
    "largest": np.where(Y > 5, 1.7e308, -1.7e308),
    "two values": (Y > 5).astype(float),
    "one other value": put(0 * Y, 3, 1.0),
    "a line": 2 * X[:, 0] + 1,
    "two lines": np.where(Y > 5, X[:, 0], -X[:, 0]),
    "repeated": np.repeat(Y[:10], 10),
}


@pytest.mark.parametrize("name", EXTREMES)
def test_extremes_end_with_a_status(name: str) -> None:
    found = fit(EXTREMES[name])
    assert found.status != Status.RUNNING
    assert _sound(found)
    assert found.reason
    assert found.summary()


def test_weights_whose_sum_overflows() -> None:
    refused(lambda: fit(fields={"weight": np.full(N, 1e308)}), "weight", "overflows")


@pytest.mark.parametrize("weight", [1e12, 1e300, 1e-12, 1e-300])
def test_weights_of_any_size(weight: float) -> None:
    """The log-likelihood of weighted rows is the sum of weights times theirs; nats count."""
    found = fit(fields={"weight": np.full(N, weight)})
    assert _sound(found)
    if weight > 1:
        assert found.status in (Status.CONVERGED, Status.PRECISION_LIMIT)
        assert found.log_likelihood / weight == pytest.approx(base()[0].log_likelihood, abs=1e-6)
    else:
        assert found.status == Status.DEGENERATE


def test_one_component_of_tiny_weight_is_least_squares() -> None:
    model = Mixture(LinearRegression(), 1)
    plain = fit(model=model, restarts=1, fields={"weight": ONES})
    for weight in (1e-6, 1e-100, 1e-300):
        tiny = fit(model=model, restarts=1, fields={"weight": np.full(N, weight)})
        np.testing.assert_allclose(tiny.params.family.coefficients, plain.params.family.coefficients, rtol=1e-9)


def test_a_point_mass_stands_beside_counts_alone() -> None:
    for family in (emjax.Gaussian(), emjax.Gamma(), emjax.Independent([emjax.Poisson(), emjax.StudentT()])):
        refused(lambda family=family: emjax.WithComponent(family, emjax.PointMass()), "density", "UniformNoise()")


def test_a_component_without_parameters_in_one_channel_is_one_of_all() -> None:
    """Beside a channel where it has parameters: it is counted, and stays last."""
    inflated = emjax.WithComponent(emjax.Poisson(), emjax.PointMass())
    family = emjax.Independent([inflated, emjax.Gaussian("spherical")])
    assert family.extra == 1
    y = np.column_stack([np.arange(20) % 4, np.sin(np.arange(20))])
    refused(lambda: emjax.fit(Mixture(family, 1), Data(y), 0, restarts=1), "n_components=1", "2 or more")
    fits = emjax.fit_many(Mixture(family, 2), [Data(y)], 0, restarts=1, certificate=False)
    refused(lambda: emjax.permute(fits, [[1, 0]]), "component 1", "must stay")


@pytest.mark.slow
def test_many_columns_and_components() -> None:
    rng = np.random.default_rng(0)
    y = rng.normal(size=(240, 20)) + 4.0 * rng.integers(0, 2, (240, 1))
    found = emjax.fit(Mixture(Gaussian("tied-spherical"), 10), Data(y), SEED, restarts=RESTARTS, certificate=False)
    assert _sound(found)
    assert found.status in (Status.CONVERGED, Status.MAX_ITERATIONS)

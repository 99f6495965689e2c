"""Mixtures of linear regressions."""

from typing import Any

import numpy as np

from emjax import Data, Dirichlet, LinearRegression, LinearRegressionParams, Mixture, MixtureParams, NormalInverseGamma
from tests.lanes import Case
from tests.oracle import linear_regression
from tests.oracle.problem import SharedRegressionProblem, regression_problem
from tests.rows.common import EVEN, MANY, ROWS, WEIGHTS, groups, held_at, labels, mixture, room, weighted

LINES = [[1000.0, 2.0, -1.0], [1020.0, -2.0, 0.5], [1030.0, 1.0, 2.0]]
AWAY_LINES = [[1004.0, 1.0, -0.5], [1017.0, -1.0, 0.2], [1028.0, 0.5, 1.0]]
SCALES = {"component": [2.0, 3.5, 2.5], "common": [2.5, 2.5, 2.5]}
QUICK = {  # not left to the slow tests
    "regression-component",
    "regression-common-map",
    "regression-fixed-coefficients",
    "regression-offset",
}


def regression(weights: Any, coefficients: Any, scale: Any) -> MixtureParams:
    return mixture(weights, LinearRegressionParams(np.array(coefficients, float), np.array(scale, float)))


def regression_data(params: MixtureParams, n: int, seed: int, intercept: bool, grouped: bool, offset: bool) -> Data:
    """From the true parameters; covariates as many as coefficients, less the intercept."""
    rng = np.random.default_rng(seed)
    unit = groups(n) if grouped else np.arange(n)
    x = np.column_stack([rng.uniform(0.0, 10.0, n), rng.normal(5.0, 3.0, n)])
    x = x[:, : params.family.coefficients.shape[1] - intercept]
    of = labels(rng, params.latent.weights, unit)
    y = np.sum(linear_regression.design_matrix(x, intercept) * params.family.coefficients[of], axis=1)
    y = y + params.family.scale[of] * rng.normal(size=n)
    move = rng.normal(100.0, 10.0, n) if offset else None
    return Data(y if move is None else y + move, x if x.shape[1] else None, offset=move, unit=unit if grouped else None)


def regression_case(
    name: str,
    n_free: int,
    *,
    scale: Any = "component",
    components: int = 2,
    intercept: bool = True,
    covariates: int = 2,
    prior: Any = None,
    fixed: tuple[str, ...] = (),
    grouped: bool = False,
    frequency: bool = False,
    offset: bool = False,
    seed: int = 0,
) -> Case:
    """A mixture of linear regressions."""
    columns = slice(0 if intercept else 1, 1 + covariates)
    near = regression(WEIGHTS[components], np.array(LINES)[:components, columns], SCALES[scale][:components])
    away_scales = 2.0 * np.array(SCALES[scale][:components])
    away = regression(EVEN[components], np.array(AWAY_LINES)[:components, columns], away_scales)
    held, away = held_at(fixed, near, away)
    data = regression_data(near, ROWS, seed, intercept, grouped, offset)
    data, weight, unit = weighted(data, frequency)
    response = data.y - (0.0 if data.offset is None else data.offset)
    x = np.zeros((ROWS, 0)) if data.x is None else data.x
    design = linear_regression.design_matrix(x, intercept)
    given, concentration = prior or (None, None)
    known = None if given is None else linear_regression.normal_inverse_gamma(design.shape[1], *given)
    problem = regression_problem(response, design, weight, unit, scale, known, concentration, fixed)
    return Case(
        name=name,
        model=Mixture(LinearRegression(intercept=intercept, scale=scale), components),
        data=data,
        near=near,
        away=away,
        oracle=problem,
        n_free=n_free,
        many=room(regression_data(near, MANY, seed + 1, intercept, grouped, offset)),
        prior=given and {"weights": Dirichlet(concentration), "family": NormalInverseGamma(*given)},
        fixed=held or None,
        closed="coefficients" not in fixed,
        exchangeable=not fixed and np.ndim(concentration) == 0,
        slow=name not in QUICK,
    )


SHARED = {"slopes": (1, 2), "intercept": (0,), (1,): (1,)}


def shared_case(
    name: str, n_free: int, shared: Any, scale: Any = "component", components: int = 2, slow: bool = True
) -> Case:
    """Some columns equal in all components; a shared intercept lies at 0 of the covariates."""
    columns = SHARED[shared]
    near, away = (np.array(lines)[:components] for lines in (LINES, AWAY_LINES))
    for lines in (near, away):
        lines[:, columns] = lines[0, columns]
    slopes = np.array([[2.0, -1.0], [-2.0, 2.0], [4.0, -3.0]])[:components]
    if shared == "intercept":
        near[:, 1:], away[:, 1:] = slopes, 0.6 * slopes
    scales = np.array(SCALES[scale][:components])
    near, away = regression(WEIGHTS[components], near, scales), regression(EVEN[components], away, 2.0 * scales)
    data, weight, unit = weighted(regression_data(near, ROWS, 0, True, False, False), False)
    design = linear_regression.design_matrix(np.asarray(data.x))
    return Case(
        name=name,
        model=Mixture(LinearRegression(scale=scale, shared=shared), components),
        data=data,
        near=near,
        away=away,
        oracle=SharedRegressionProblem(np.asarray(data.y), design, weight, unit, scale, columns),
        n_free=n_free,
        many=room(regression_data(near, MANY, 1, True, False, False)),
        exact_m_step=scale == "common",
        slow=slow,
    )


# ((mean, strength, shape or degrees, scale), Dirichlet concentration); all in the user's units.
RIDGE = (np.array([1010.0, 0.5, 0.0]), np.diag([0.05, 2.0, 1.5]) + 0.1, 2.5, 8.0)

CASES: tuple[Case, ...] = (
    regression_case("regression-component", 9),
    regression_case("regression-common", 8, scale="common"),
    regression_case("regression-no-intercept", 7, intercept=False),
    regression_case("regression-intercept-alone", 5, covariates=0),
    regression_case("regression-three", 14, components=3),
    regression_case("regression-one", 4, components=1),
    regression_case("regression-offset", 9, offset=True),
    regression_case("regression-component-map", 9, prior=(RIDGE, 2.0)),
    regression_case("regression-common-map", 8, scale="common", prior=(RIDGE, 1.5)),
    regression_case("regression-frequencies", 9, frequency=True),
    regression_case("regression-grouped", 9, grouped=True),
    regression_case("regression-grouped-map-frequencies", 9, grouped=True, frequency=True, prior=(RIDGE, 2.0)),
    regression_case("regression-fixed-weights", 8, fixed=("weights",)),
    regression_case("regression-fixed-scale", 7, fixed=("scale",)),
    regression_case("regression-fixed-coefficients", 3, fixed=("coefficients",)),
    shared_case("regression-shared-slopes", 7, "slopes"),
    shared_case("regression-shared-slopes-common", 6, "slopes", scale="common"),
    shared_case("regression-shared-intercept", 8, "intercept"),
    shared_case("regression-shared-column-three", 12, (1,), components=3),
)

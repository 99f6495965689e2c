"""The models of the contract battery: one row each. A new model is one more row here.

Units are far from standard ones on purpose: y about 1,000 or -20, covariates about 5.
"""

from typing import Any

import numpy as np

from emjax import (
    Data,
    Dirichlet,
    Gaussian,
    GaussianParams,
    LinearRegression,
    LinearRegressionParams,
    Mixture,
    MixtureParams,
    NormalInverseGamma,
    NormalInverseWishart,
    WeightsParams,
)
from tests.lanes import Case
from tests.oracle import gaussian, linear_regression
from tests.oracle.problem import gaussian_problem, regression_problem

ROWS, MANY = 56, 512

# --- parameters -----------------------------------------------------------------------------------------------------


def mixture(weights: Any, family: Any) -> MixtureParams:
    return MixtureParams(WeightsParams(np.array(weights, float)), family)


def regression(weights: Any, coefficients: Any, scale: Any) -> MixtureParams:
    return mixture(weights, LinearRegressionParams(np.array(coefficients, float), np.array(scale, float)))


def normal(weights: Any, means: Any, covariances: Any) -> MixtureParams:
    return mixture(weights, GaussianParams(np.array(means, float), np.array(covariances, float)))


WEIGHTS = {1: [1.0], 2: [0.6, 0.4], 3: [0.4, 0.35, 0.25]}
EVEN = {1: [1.0], 2: [0.5, 0.5], 3: [0.4, 0.3, 0.3]}
LINES = [[1000.0, 2.0, -1.0], [1020.0, -2.0, 0.5], [1030.0, 1.0, 2.0]]
AWAY_LINES = [[1004.0, 1.0, -0.5], [1017.0, -1.0, 0.2], [1028.0, 0.5, 1.0]]
SCALES = {"component": [2.0, 3.5, 2.5], "common": [2.5, 2.5, 2.5]}
MEANS = [[1000.0, -20.0, 3.0], [1007.0, -14.0, 0.0], [995.0, -9.0, 6.0]]
AWAY_MEANS = [[1002.0, -18.0, 2.0], [1005.5, -16.0, 1.0], [997.0, -12.0, 5.0]]
FULL = [
    [[4.0, 1.5, 0.5], [1.5, 3.0, -0.5], [0.5, -0.5, 2.0]],
    [[2.0, -0.8, 0.2], [-0.8, 5.0, 0.6], [0.2, 0.6, 1.5]],
    [[3.0, 0.5, 0.0], [0.5, 2.0, 0.4], [0.0, 0.4, 2.5]],
]


def covariances(form: str, n_components: int, d: int) -> np.ndarray:
    """The true ones, in the form asked for."""
    found = np.array(FULL)[:n_components, :d, :d]
    if form.endswith("diagonal"):
        found = found * np.eye(d)
    if form.endswith("spherical"):
        found = found[:, :1, :1] * np.eye(d)
    return np.repeat(found[:1], n_components, axis=0) if form.startswith("tied") else found


# --- data -----------------------------------------------------------------------------------------------------------


def groups(n: int) -> np.ndarray:
    """Units of 2, 3 and 4 rows, by turns."""
    sizes = np.resize([2, 3, 4], n)
    return np.repeat(np.arange(n), sizes)[:n].astype(np.int32)


def frequencies(n: int) -> np.ndarray:
    """Weights, whole and not."""
    return np.resize([1.0, 2.0, 0.5, 3.0, 1.0], n)


def labels(rng: np.random.Generator, weights: np.ndarray, unit: np.ndarray) -> np.ndarray:
    return rng.choice(len(weights), size=int(unit[-1]) + 1, p=weights)[unit]


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


def normal_data(params: MixtureParams, n: int, seed: int, grouped: bool, flat: bool) -> Data:
    """From the true parameters."""
    rng = np.random.default_rng(seed)
    unit = groups(n) if grouped else np.arange(n)
    of = labels(rng, params.latent.weights, unit)
    roots = np.linalg.cholesky(params.family.covariances)[of]
    y = params.family.means[of] + np.einsum("nij,nj->ni", roots, rng.normal(size=params.family.means[of].shape))
    return Data(y[:, 0] if flat else y, unit=unit if grouped else None)


# --- rows -----------------------------------------------------------------------------------------------------------


def _weight(data: Data, frequency: bool) -> tuple[Data, np.ndarray, np.ndarray]:
    unit = np.arange(len(data.y)) if data.unit is None else np.asarray(data.unit)
    count = int(unit[-1]) + 1
    if frequency:
        data = data._replace(weight=frequencies(count))
    return data, np.ones(count) if data.weight is None else np.asarray(data.weight), unit


def _room(data: Data) -> Data:
    """The design to simulate on, with a weight a unit."""
    count = len(data.y) if data.unit is None else int(data.unit[-1]) + 1
    return data._replace(weight=np.ones(count))


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
    held = {name: getattr(near.latent if name == "weights" else near.family, name) for name in fixed}
    away = MixtureParams(*(part._replace(**_blocks(part, held)) for part in away))
    data = regression_data(near, ROWS, seed, intercept, grouped, offset)
    data, weight, unit = _weight(data, frequency)
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
        many=_room(regression_data(near, MANY, seed + 1, intercept, grouped, offset)),
        prior=given and {"weights": Dirichlet(concentration), "family": NormalInverseGamma(*given)},
        fixed=held or None,
        closed="coefficients" not in fixed,
        exchangeable=not fixed and np.ndim(concentration) == 0,
    )


def gaussian_case(
    name: str,
    n_free: int,
    *,
    form: str,
    d: int = 2,
    components: int = 2,
    letters: str | None = None,
    prior: Any = None,
    fixed: tuple[str, ...] = (),
    grouped: bool = False,
    frequency: bool = False,
    seed: int = 0,
) -> Case:
    """A mixture of Gaussians."""
    true = covariances(form, components, d)
    near = normal(WEIGHTS[components], np.array(MEANS)[:components, :d], true)
    away = normal(EVEN[components], np.array(AWAY_MEANS)[:components, :d], 2.0 * true)
    held = {name: getattr(near.latent if name == "weights" else near.family, name) for name in fixed}
    away = MixtureParams(*(part._replace(**_blocks(part, held)) for part in away))
    data, weight, unit = _weight(normal_data(near, ROWS, seed, grouped, d == 1), frequency)
    given, concentration = prior or (None, None)
    known = None if given is None else gaussian.NormalInverseWishart(*(np.asarray(a) for a in given))
    problem = gaussian_problem(data.y.reshape(ROWS, -1), weight, unit, form, known, concentration, fixed)
    return Case(
        name=name,
        model=Mixture(Gaussian(letters or form), components),
        data=data,
        near=near,
        away=away,
        oracle=problem,
        n_free=n_free,
        many=_room(normal_data(near, MANY, seed + 1, grouped, d == 1)),
        prior=given and {"weights": Dirichlet(concentration), "family": NormalInverseWishart(*given)},
        fixed=held or None,
        closed="means" not in fixed,
        exchangeable=not fixed and np.ndim(concentration) == 0,
    )


def _blocks(part: Any, held: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: value for name, value in held.items() if name in part._fields}


# ((mean, strength, shape or degrees, scale), Dirichlet concentration); all in the user's units.
RIDGE = (np.array([1010.0, 0.5, 0.0]), np.diag([0.05, 2.0, 1.5]) + 0.1, 2.5, 8.0)
WISHART = (np.array([1003.0, -17.0]), 0.5, 6.0, np.array([[3.0, 0.4], [0.4, 2.0]]))
WISHART_1 = (np.array([1003.0]), 0.5, 4.0, np.array([[3.0]]))

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
    gaussian_case("gaussian-full", 11, form="full", letters="VVV"),
    gaussian_case("gaussian-diagonal", 9, form="diagonal", letters="VVI"),
    gaussian_case("gaussian-spherical", 7, form="spherical", letters="VII"),
    gaussian_case("gaussian-tied", 8, form="tied", letters="EEE"),
    gaussian_case("gaussian-tied-diagonal", 7, form="tied-diagonal", letters="EEI"),
    gaussian_case("gaussian-tied-spherical", 6, form="tied-spherical", letters="EII"),
    gaussian_case("gaussian-line", 5, form="spherical", letters="V", d=1),
    gaussian_case("gaussian-line-tied", 4, form="tied-spherical", letters="E", d=1),
    gaussian_case("gaussian-three-dimensions", 29, form="full", d=3, components=3),
    gaussian_case("gaussian-full-map", 11, form="full", prior=(WISHART, 2.0)),
    gaussian_case("gaussian-diagonal-map", 9, form="diagonal", prior=(WISHART, 2.0)),
    gaussian_case("gaussian-spherical-map", 7, form="spherical", prior=(WISHART, 2.0)),
    gaussian_case("gaussian-tied-map", 8, form="tied", prior=(WISHART, 1.5)),
    gaussian_case("gaussian-tied-diagonal-map", 7, form="tied-diagonal", prior=(WISHART, 1.5)),
    gaussian_case("gaussian-tied-spherical-map", 6, form="tied-spherical", prior=(WISHART, 1.5)),
    gaussian_case("gaussian-line-map", 5, form="full", d=1, prior=(WISHART_1, 2.0)),
    gaussian_case("gaussian-uneven-dirichlet", 5, form="full", d=1, prior=(WISHART_1, np.array([4.0, 2.0]))),
    gaussian_case("gaussian-frequencies", 11, form="full", frequency=True),
    gaussian_case("gaussian-grouped", 8, form="tied", grouped=True),
    gaussian_case("gaussian-fixed-means", 7, form="full", fixed=("means",)),
    gaussian_case("gaussian-fixed-covariances", 5, form="diagonal", fixed=("covariances",)),
    gaussian_case("gaussian-fixed-weights", 8, form="diagonal", fixed=("weights",)),
)

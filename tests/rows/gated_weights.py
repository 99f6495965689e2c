"""Mixtures whose weights are gated by covariates."""

from typing import Any

import numpy as np

from emjax import (
    Data,
    GatedWeights,
    GatingParams,
    Gaussian,
    GaussianParams,
    LinearRegression,
    LinearRegressionParams,
    Mixture,
    MixtureParams,
)
from tests.lanes import Case
from tests.oracle import gated_weights, linear_regression
from tests.oracle.problem import gaussian_problem, regression_problem
from tests.rows.common import MANY, ROWS, groups, room, weighted
from tests.rows.linear_regression import AWAY_LINES, LINES, SCALES

# Two covariates about 5 with standard deviations of 2 and 3: logits of -2 to 2, so that Newton steps stay short.
GATES = {2: [[-3.6, 0.8], [0.0, 0.0]], 3: [[-3.5, 0.5, 0.2], [2.0, -0.3, -0.1], [0.0, 0.0, 0.0]]}
AWAY_GATES = {2: [[1.0, 0.1], [0.0, 0.0]], 3: [[0.5, 0.0, -0.2], [-1.0, 0.1, 0.2], [0.0, 0.0, 0.0]]}


def design_of(z: np.ndarray, unit: np.ndarray) -> np.ndarray:
    """Of the units: a column of ones, then z of their first rows."""
    first = np.unique(unit, return_index=True)[1]
    return np.column_stack([np.ones(len(first)), z[first]])


def gate(rng: np.random.Generator, coefficients: Any, unit: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """z of the rows and their components."""
    count, coefficients = int(unit[-1]) + 1, np.array(coefficients)
    z = np.column_stack([rng.normal(5.0, 2.0, count), rng.normal(5.0, 3.0, count)])[:, : coefficients.shape[1] - 1]
    weights = np.exp(gated_weights.log_weights(coefficients, np.column_stack([np.ones(count), z])))
    of = np.array([rng.choice(len(coefficients), p=column) for column in weights.T])
    return z[unit], of[unit]


def gaussian_data(params: MixtureParams, n: int, seed: int, grouped: bool) -> Data:
    rng = np.random.default_rng(seed)
    unit = groups(n) if grouped else np.arange(n)
    z, of = gate(rng, params.latent.gating, unit)
    y = params.family.means[of, 0] + np.sqrt(params.family.covariances[of, 0, 0]) * rng.normal(size=n)
    return Data(y, z=z, unit=unit if grouped else None)


def gated_gaussian(
    name: str, n_free: int, grouped: bool = False, frequency: bool = False, held: bool = False, **case: Any
) -> Case:
    """Two Gaussians in one dimension, gated by one covariate."""
    near = MixtureParams(
        GatingParams(np.array(GATES[2])),
        GaussianParams(np.array([[1000.0], [1007.0]]), np.array([[[4.0]], [[9.0]]])),
    )
    away = MixtureParams(
        near.latent if held else GatingParams(np.array(AWAY_GATES[2])),
        GaussianParams(np.array([[1002.0], [1005.0]]), np.array([[[12.0]], [[12.0]]])),
    )
    data, weight, unit = weighted(gaussian_data(near, ROWS, 0, grouped), frequency)
    blocks = ("gating",) if held else ()
    problem = gaussian_problem(data.y[:, None], weight, unit, "full", held=blocks)
    return Case(
        name=name,
        model=Mixture(Gaussian(), 2, GatedWeights()),
        data=data,
        near=near,
        away=away,
        oracle=gated_weights.GatedProblem(problem, design_of(data.z, unit)),
        n_free=n_free,
        many=room(gaussian_data(near, MANY, 1, grouped)),
        fixed={"gating": near.latent.gating} if held else None,
        exact_m_step=False,
        exchangeable=not held,
        **case,
    )


def regression_data(params: MixtureParams, n: int, seed: int) -> Data:
    rng = np.random.default_rng(seed)
    z, of = gate(rng, params.latent.gating, np.arange(n))
    x = rng.uniform(0.0, 10.0, (n, 1))
    y = np.sum(linear_regression.design_matrix(x) * params.family.coefficients[of], axis=1)
    return Data(y + params.family.scale[of] * rng.normal(size=n), x, z)


def gated_regression(name: str, n_free: int, **case: Any) -> Case:
    """Three lines gated by two covariates: a mixture of experts."""
    lines, away_lines = np.array(LINES)[:, :2], np.array(AWAY_LINES)[:, :2]
    scales = np.array(SCALES["component"])
    near = MixtureParams(GatingParams(np.array(GATES[3])), LinearRegressionParams(lines, scales))
    away = MixtureParams(GatingParams(np.array(AWAY_GATES[3])), LinearRegressionParams(away_lines, 2.0 * scales))
    data, weight, unit = weighted(regression_data(near, ROWS, 0), False)
    problem = regression_problem(data.y, linear_regression.design_matrix(data.x), weight, unit, "component")
    return Case(
        name=name,
        model=Mixture(LinearRegression(), 3, GatedWeights()),
        data=data,
        near=near,
        away=away,
        oracle=gated_weights.GatedProblem(problem, design_of(data.z, unit)),
        n_free=n_free,
        many=room(regression_data(near, MANY, 1)),
        exact_m_step=False,
        **case,
    )


CASES: tuple[Case, ...] = (
    gated_gaussian("gated-gaussian", 6),
    gated_gaussian("gated-gaussian-grouped", 6, grouped=True, slow=True),
    gated_gaussian("gated-gaussian-grouped-frequencies", 6, grouped=True, frequency=True, slow=True),
    gated_gaussian("gated-gaussian-fixed-gating", 4, held=True, slow=True),
    gated_regression("gated-regression-three", 15, slow=True),
)

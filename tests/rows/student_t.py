"""Mixtures of Student-t distributions and of regressions with t errors."""

from typing import Any

import numpy as np

from emjax import (
    Data,
    Mixture,
    MixtureParams,
    StudentT,
    StudentTParams,
    StudentTRegression,
    StudentTRegressionParams,
)
from tests.lanes import Case
from tests.oracle import linear_regression
from tests.oracle.student_t import StudentTProblem, StudentTRegressionProblem
from tests.rows.common import EVEN, MANY, ROWS, WEIGHTS, groups, held_at, labels, mixture, room, weighted
from tests.rows.gaussian import AWAY_MEANS, MEANS, covariances
from tests.rows.linear_regression import AWAY_LINES, LINES, SCALES

DEGREES, AWAY_DEGREES = [4.0, 5.0, 5.0], [20.0, 15.0, 25.0]


def degrees_of(setting: Any, values: list[float], components: int) -> np.ndarray:
    """As the setting says: a number, the first for all, or each its own."""
    if isinstance(setting, float):
        return np.full(components, setting)
    return np.array(values[:1] * components if setting == "common" else values[:components])


def closed(degrees: Any, fixed: tuple[str, ...], location: str) -> bool:
    """Whether the oracle has an M-step: given degrees, free location."""
    return (isinstance(degrees, float) or "degrees" in fixed) and location not in fixed


def t_data(params: MixtureParams, n: int, seed: int, grouped: bool, flat: bool) -> Data:
    """From the true parameters."""
    rng = np.random.default_rng(seed)
    unit = groups(n) if grouped else np.arange(n)
    of = labels(rng, params.latent.weights, unit)
    family = params.family
    roots = np.linalg.cholesky(family.scales)[of]
    normal = rng.normal(size=family.means[of].shape)
    precision = rng.chisquare(family.degrees[of]) / family.degrees[of]
    y = family.means[of] + np.einsum("nij,nj->ni", roots, normal) / np.sqrt(precision)[:, None]
    return Data(y[:, 0] if flat else y, unit=unit if grouped else None)


def student_case(
    name: str,
    n_free: int,
    *,
    form: str,
    degrees: Any = "component",
    d: int = 2,
    components: int = 2,
    fixed: tuple[str, ...] = (),
    grouped: bool = False,
    frequency: bool = False,
    slow: bool = True,
    seed: int = 0,
) -> Case:
    """A mixture of t distributions."""
    true = covariances(form, components, d)
    near, away = (
        mixture(w, StudentTParams(np.array(m)[:components, :d], s, degrees_of(degrees, v, components)))
        for w, m, s, v in (
            (WEIGHTS[components], MEANS, true, DEGREES),
            (EVEN[components], AWAY_MEANS, 2.0 * true, AWAY_DEGREES),
        )
    )
    held, away = held_at(fixed, near, away)
    data, weight, unit = weighted(t_data(near, ROWS, seed, grouped, d == 1), frequency)
    return Case(
        name=name,
        model=Mixture(StudentT(form, degrees), components),
        data=data,
        near=near,
        away=away,
        oracle=StudentTProblem(data.y.reshape(ROWS, -1), form, weight, unit, held=fixed),
        n_free=n_free,
        many=room(t_data(near, MANY, seed + 1, grouped, d == 1)),
        fixed=held or None,
        exact_m_step=False,
        closed=closed(degrees, fixed, "means"),
        exchangeable=not fixed,
        slow=slow,
    )


def robust_data(params: MixtureParams, n: int, seed: int, intercept: bool, grouped: bool, offset: bool) -> Data:
    """From the true parameters; covariates as many as coefficients, less the intercept."""
    rng = np.random.default_rng(seed)
    unit = groups(n) if grouped else np.arange(n)
    family = params.family
    x = np.column_stack([rng.uniform(0.0, 10.0, n), rng.normal(5.0, 3.0, n)])
    x = x[:, : family.coefficients.shape[1] - intercept]
    of = labels(rng, params.latent.weights, unit)
    y = np.sum(linear_regression.design_matrix(x, intercept) * family.coefficients[of], axis=1)
    y = y + family.scale[of] * rng.standard_t(family.degrees[of])
    move = rng.normal(100.0, 10.0, n) if offset else None
    return Data(y if move is None else y + move, x if x.shape[1] else None, offset=move, unit=unit if grouped else None)


def robust_case(
    name: str,
    n_free: int,
    *,
    scale: Any = "component",
    degrees: Any = "component",
    components: int = 2,
    intercept: bool = True,
    covariates: int = 2,
    fixed: tuple[str, ...] = (),
    grouped: bool = False,
    frequency: bool = False,
    offset: bool = False,
    slow: bool = True,
    seed: int = 0,
) -> Case:
    """A mixture of regressions with t errors."""
    columns = slice(0 if intercept else 1, 1 + covariates)
    scales = np.array(SCALES[scale][:components])
    near, away = (
        mixture(w, StudentTRegressionParams(np.array(c)[:components, columns], s, degrees_of(degrees, v, components)))
        for w, c, s, v in (
            (WEIGHTS[components], LINES, scales, DEGREES),
            (EVEN[components], AWAY_LINES, 2.0 * scales, AWAY_DEGREES),
        )
    )
    held, away = held_at(fixed, near, away)
    data, weight, unit = weighted(robust_data(near, ROWS, seed, intercept, grouped, offset), frequency)
    response = data.y - (0.0 if data.offset is None else data.offset)
    x = np.zeros((ROWS, 0)) if data.x is None else data.x
    design = linear_regression.design_matrix(x, intercept)
    return Case(
        name=name,
        model=Mixture(StudentTRegression(intercept=intercept, scale=scale, degrees=degrees), components),
        data=data,
        near=near,
        away=away,
        oracle=StudentTRegressionProblem(response, design, scale, weight, unit, held=fixed),
        n_free=n_free,
        many=room(robust_data(near, MANY, seed + 1, intercept, grouped, offset)),
        fixed=held or None,
        exact_m_step=False,
        closed=closed(degrees, fixed, "coefficients"),
        exchangeable=not fixed,
        slow=slow,
    )


CASES: tuple[Case, ...] = (
    student_case("student-line", 7, form="spherical", d=1),
    student_case("student-common", 12, form="full", degrees="common", slow=False),
    student_case("student-number", 11, form="full", degrees=4.0),
    student_case("student-component", 13, form="full"),
    student_case("student-diagonal", 9, form="diagonal", degrees=5.0),
    student_case("student-spherical", 9, form="spherical"),
    student_case("student-tied", 10, form="tied"),
    student_case("student-tied-common", 9, form="tied", degrees="common"),
    student_case("student-tied-diagonal", 7, form="tied-diagonal", degrees=5.0),
    student_case("student-tied-spherical", 6, form="tied-spherical", degrees=5.0),
    student_case("student-three-dimensions", 30, form="full", d=3, components=3, degrees="common"),
    student_case("student-grouped", 12, form="full", degrees="common", grouped=True),
    student_case("student-frequencies", 13, form="full", frequency=True),
    student_case("student-fixed-degrees", 11, form="full", fixed=("degrees",)),
    student_case("student-tied-fixed-degrees", 8, form="tied", fixed=("degrees",)),
    student_case("student-fixed-means", 9, form="full", fixed=("means",)),
    student_case("student-fixed-scales", 7, form="diagonal", fixed=("scales",)),
    student_case("student-fixed-weights", 12, form="full", fixed=("weights",)),
    robust_case("robust-component", 11, slow=False),
    robust_case("robust-common", 9, scale="common", degrees="common"),
    robust_case("robust-common-scale", 10, scale="common"),
    robust_case("robust-common-degrees", 10, degrees="common"),
    robust_case("robust-number", 9, degrees=4.0, offset=True),
    robust_case("robust-no-intercept", 9, intercept=False),
    robust_case("robust-intercept-alone", 7, covariates=0),
    robust_case("robust-grouped", 11, grouped=True),
    # One scale: with a scale each, half of these rows end in a collapse, where nothing is stationary.
    robust_case("robust-frequencies", 10, scale="common", frequency=True),
    robust_case("robust-fixed-degrees", 9, fixed=("degrees",)),
    robust_case("robust-common-fixed-degrees", 8, scale="common", fixed=("degrees",)),
    robust_case("robust-fixed-scale", 9, fixed=("scale",)),
    robust_case("robust-fixed-coefficients", 5, fixed=("coefficients",)),
)

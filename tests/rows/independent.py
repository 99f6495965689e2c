"""Mixed responses, independent given the component."""

from typing import Any

import numpy as np

from emjax import (
    Categorical,
    CategoricalParams,
    Data,
    Dirichlet,
    Gaussian,
    GaussianParams,
    Independent,
    IndependentParams,
    LinearRegression,
    LinearRegressionParams,
    Mixture,
    MixtureParams,
    NormalInverseWishart,
)
from tests.lanes import Case
from tests.oracle import categorical, gaussian, independent, linear_regression
from tests.oracle.problem import MixtureProblem
from tests.rows.categorical import probabilities
from tests.rows.common import EVEN, MANY, WEIGHTS, labels, mixture, room, weighted
from tests.rows.gaussian import AWAY_MEANS, MEANS, covariances, known_wishart
from tests.rows.linear_regression import AWAY_LINES, LINES

ROWS, LEVELS = 80, (2, 3)
FAMILY = Independent([Gaussian("diagonal"), Categorical(LEVELS), LinearRegression()], [2, 2, 1])


def params(weights: Any, means: Any, lines: Any, factor: float, far: bool) -> MixtureParams:
    members = (
        GaussianParams(np.array(means)[:2, :2], factor * covariances("diagonal", 2, 2)),
        CategoricalParams(probabilities(LEVELS, 2, far)),
        LinearRegressionParams(np.array(lines)[:2], factor * np.array([2.0, 3.5])),
    )
    return mixture(weights, IndependentParams(members))


def mixed_data(true: MixtureParams, n: int, seed: int, holes: float) -> Data:
    """From the true parameters; cells of the categorical items missing."""
    rng = np.random.default_rng(seed)
    of = labels(rng, true.latent.weights, np.arange(n))
    normal, items, line = true.family.members
    y = normal.means[of] + np.sqrt(np.diagonal(normal.covariances, axis1=1, axis2=2))[of] * rng.normal(size=(n, 2))
    levels = np.array(
        [[rng.choice(c, p=items.probabilities[k, j, :c]) for j, c in enumerate(LEVELS)] for k in of], float
    )
    levels[rng.random(levels.shape) < holes] = np.nan
    x = np.column_stack([rng.uniform(0.0, 10.0, n), rng.normal(5.0, 3.0, n)])
    response = np.sum(linear_regression.design_matrix(x) * line.coefficients[of], axis=1)
    return Data(np.column_stack([y, levels, response + line.scale[of] * rng.normal(size=n)]), x)


def problem(data: Data, weight: np.ndarray, prior: Any) -> MixtureProblem:
    """Of the oracles of the members."""
    y, design = np.asarray(data.y), linear_regression.design_matrix(np.asarray(data.x))
    wishart, items, of_weights = prior or (None, None, None)
    known = known_wishart(wishart)
    members = (
        independent.Member(
            lambda p: gaussian.log_prob(p, y[:, :2]),
            lambda resp, rows: gaussian.maximize(resp, y[:, :2], "diagonal", rows, known),
        ),
        independent.Member(
            lambda p: categorical.log_prob(p, y[:, 2:4]),
            lambda resp, rows: categorical.maximize(resp, y[:, 2:4], LEVELS, rows, items),
        ),
        independent.Member(
            lambda p: linear_regression.log_prob(p, y[:, 4], design),
            lambda resp, rows: linear_regression.maximize(resp, y[:, 4], design, "component", rows),
        ),
    )
    return MixtureProblem(
        lambda p: independent.log_prob(members, p),
        lambda resp, rows: independent.maximize(members, resp, rows),
        lambda p: (
            gaussian.log_prior(p.members[0], "diagonal", known) + categorical.log_prior(p.members[1], LEVELS, items)
        ),
        weight,
        np.arange(len(y)),
        of_weights,
    )


def independent_case(
    name: str, *, prior: Any = None, frequency: bool = False, holes: float = 0.1, slow: bool = True
) -> Case:
    near, away = params(WEIGHTS[2], MEANS, LINES, 1.0, False), params(EVEN[2], AWAY_MEANS, AWAY_LINES, 2.0, True)
    data, weight, _ = weighted(mixed_data(near, ROWS, 0, holes), frequency)
    given = None
    if prior:
        given = {"0": NormalInverseWishart(*prior[0]), "1": Dirichlet(prior[1]), "weights": Dirichlet(prior[2])}
    return Case(
        name=name,
        model=Mixture(FAMILY, 2),
        data=data,
        near=near,
        away=away,
        oracle=problem(data, weight, prior),
        n_free=23,
        many=room(mixed_data(near, MANY, 1, 0.0)),
        prior=given,
        slow=slow,
    )


WISHART = (np.array([1003.0, -17.0]), 0.5, 6.0, np.array([[3.0, 0.0], [0.0, 2.0]]))

CASES: tuple[Case, ...] = (
    independent_case("independent-mixed"),
    independent_case("independent-map", prior=(WISHART, 2.0, 2.0)),
    independent_case("independent-frequencies", frequency=True, holes=0.0),
)

"""Mixtures of Poisson and binomial components, with and without covariates."""

from typing import Any

import numpy as np

import emjax
from emjax import Data, Dirichlet, Mixture
from tests.lanes import Case
from tests.oracle import counts
from tests.rows.common import EVEN, MANY, ROWS, WEIGHTS, groups, held_at, labels, mixture, room, weighted

VALUES = {"poisson": [2.0, 9.0, 25.0], "binomial": [0.15, 0.6, 0.9]}
AWAY_VALUES = {"poisson": [3.0, 7.0, 18.0], "binomial": [0.3, 0.5, 0.8]}
# Coefficients in the user's units: the covariates lie about 5.
LINES = {
    "poisson": [[0.5, 0.05, 0.1], [3.0, -0.1, 0.05]],
    "binomial": [[-2.0, 0.25, -0.1], [2.0, -0.1, 0.1]],
}
AWAY_LINES = {
    "poisson": [[0.9, 0.02, 0.08], [2.7, -0.05, 0.08]],
    "binomial": [[-1.2, 0.15, -0.05], [1.2, -0.05, 0.05]],
}
SHARED = {None: (), "slopes": (1, 2), "intercept": (0,), (2,): (2,)}
FAMILIES: dict[str, Any] = {"poisson": emjax.Poisson, "binomial": emjax.Binomial}
REGRESSIONS: dict[str, Any] = {"poisson": emjax.PoissonRegression, "binomial": emjax.BinomialRegression}


def draw(kind: str, rng: np.random.Generator, mean: np.ndarray, trials: np.ndarray) -> np.ndarray:
    return (rng.poisson(mean) if kind == "poisson" else rng.binomial(trials.astype(int), mean)).astype(float)


def with_size(kind: str, y: np.ndarray, size: np.ndarray, given: bool, **fields: Any) -> Data:
    """Exposure as an offset, or trials."""
    if given and kind == "poisson":
        return Data(y, offset=np.log(size), **fields)
    return Data(y, trials=size if given else None, **fields)


def plain_data(kind: str, params: Any, n: int, seed: int, grouped: bool, sized: bool) -> Data:
    rng = np.random.default_rng(seed)
    unit = groups(n) if grouped else np.arange(n)
    size = rng.uniform(0.5, 3.0, n) if kind == "poisson" else rng.integers(1, 15, n).astype(float)
    size = size if sized else np.ones(n)
    values = params.family[0][labels(rng, params.latent.weights, unit)]
    y = draw(kind, rng, values * size if kind == "poisson" else values, size)
    return with_size(kind, y, size, sized, unit=unit if grouped else None)


def plain_case(
    name: str,
    kind: str,
    n_free: int,
    *,
    components: int = 2,
    prior: tuple[float, float] | None = None,
    fixed: tuple[str, ...] = (),
    grouped: bool = False,
    frequency: bool = False,
    sized: bool = True,
    slow: bool = True,
) -> Case:
    """Rates or probabilities alone."""
    record = FAMILIES[kind].blocks
    near = mixture(WEIGHTS[components], record(np.array(VALUES[kind][:components])))
    away = mixture(EVEN[components], record(np.array(AWAY_VALUES[kind][:components])))
    held, away = held_at(fixed, near, away)
    data, weight, unit = weighted(plain_data(kind, near, ROWS, 0, grouped, sized), frequency)
    size = np.ones(ROWS) if not sized else np.exp(np.asarray(data.offset)) if kind == "poisson" else data.trials
    concentration = None if prior is None else 2.0
    conjugate: Any = emjax.GammaPrior if kind == "poisson" else emjax.BetaPrior
    return Case(
        name=name,
        model=Mixture(FAMILIES[kind](), components),
        data=data,
        near=near,
        away=away,
        oracle=counts.problem(kind, data.y, np.asarray(size), weight, unit, prior, concentration, fixed),
        n_free=n_free,
        many=room(plain_data(kind, near, MANY, 1, grouped, sized)),
        prior=prior and {"weights": Dirichlet(2.0), "family": conjugate(*prior)},
        fixed=held or None,
        exchangeable=not fixed,
        slow=slow,
    )


def regression_data(kind: str, params: Any, n: int, seed: int, intercept: bool, grouped: bool, sized: bool) -> Data:
    rng = np.random.default_rng(seed)
    unit = groups(n) if grouped else np.arange(n)
    x = np.column_stack([rng.uniform(0.0, 10.0, n), rng.normal(5.0, 3.0, n)])
    x = x[:, : params.family.coefficients.shape[1] - intercept]
    design = np.column_stack([np.ones(n), x]) if intercept else x
    offset = rng.normal(0.0, 0.5, n) if sized else np.zeros(n)
    trials = rng.integers(5, 25, n).astype(float) if sized else np.ones(n)
    of = labels(rng, params.latent.weights, unit)
    eta = np.sum(design * params.family.coefficients[of], axis=1) + offset
    y = draw(kind, rng, np.exp(eta) if kind == "poisson" else 1 / (1 + np.exp(-eta)), trials)
    return Data(
        y,
        x if x.shape[1] else None,
        offset=offset if sized else None,
        trials=trials if sized and kind == "binomial" else None,
        unit=unit if grouped else None,
    )


def regression_case(
    name: str,
    kind: str,
    n_free: int,
    *,
    components: int = 2,
    intercept: bool = True,
    covariates: int = 2,
    shared: Any = None,
    fixed: tuple[str, ...] = (),
    grouped: bool = False,
    frequency: bool = False,
    sized: bool = True,
    slow: bool = True,
) -> Case:
    """Regressions; the M-step is one Newton step, the oracle's too."""
    columns = slice(0 if intercept else 1, 1 + covariates)
    record = REGRESSIONS[kind].blocks
    near, away = (np.array(lines[kind])[:components, columns] for lines in (LINES, AWAY_LINES))
    common = list(SHARED[shared])
    for lines in (near, away):
        lines[:, common] = lines[:1, common] if shared != "intercept" else 1.5
    near, away = mixture(WEIGHTS[components], record(near)), mixture(EVEN[components], record(away))
    held, away = held_at(fixed, near, away)
    data, weight, unit = weighted(regression_data(kind, near, ROWS, 0, intercept, grouped, sized), frequency)
    x = np.zeros((ROWS, 0)) if data.x is None else np.asarray(data.x)
    design = np.column_stack([np.ones(ROWS), x]) if intercept else x
    offset = np.zeros(ROWS) if data.offset is None else np.asarray(data.offset)
    trials = np.ones(ROWS) if data.trials is None else np.asarray(data.trials)
    problem = counts.RegressionProblem(
        kind, np.asarray(data.y), design, offset, trials, weight, unit, SHARED[shared], fixed
    )
    return Case(
        name=name,
        model=Mixture(REGRESSIONS[kind](intercept=intercept, shared=shared), components),
        data=data,
        near=near,
        away=away,
        oracle=problem,
        n_free=n_free,
        many=room(regression_data(kind, near, MANY, 1, intercept, grouped, sized)),
        fixed=held or None,
        exact_m_step=False,
        closed="coefficients" not in fixed,
        exchangeable=not fixed,
        slow=slow,
    )


CASES: tuple[Case, ...] = (
    plain_case("poisson", "poisson", 3, slow=False),
    plain_case("poisson-three", "poisson", 5, components=3, sized=False),
    plain_case("poisson-map-grouped-frequencies", "poisson", 3, prior=(3.0, 0.5), grouped=True, frequency=True),
    plain_case("poisson-fixed-rates", "poisson", 1, fixed=("rates",)),
    plain_case("binomial", "binomial", 3),
    plain_case("binomial-map-three", "binomial", 5, components=3, prior=(2.0, 3.0)),
    plain_case("binomial-grouped-frequencies", "binomial", 3, grouped=True, frequency=True),
    plain_case("binomial-fixed-weights", "binomial", 2, fixed=("weights",)),
    regression_case("poisson-regression", "poisson", 7, slow=False),
    regression_case("poisson-regression-slopes", "poisson", 5, shared="slopes", grouped=True),
    regression_case("poisson-regression-intercept", "poisson", 6, shared="intercept"),
    regression_case("poisson-regression-one", "poisson", 3, components=1, sized=False),
    regression_case("poisson-regression-no-intercept", "poisson", 5, intercept=False, frequency=True),
    regression_case("poisson-regression-fixed", "poisson", 1, fixed=("coefficients",)),
    regression_case("binomial-regression", "binomial", 7),
    regression_case("binomial-regression-column", "binomial", 6, shared=(2,), slow=False),
    regression_case("binomial-regression-grouped", "binomial", 7, grouped=True, frequency=True),
    regression_case("bernoulli-regression-one", "binomial", 3, components=1, sized=False),
)

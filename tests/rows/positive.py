"""Mixtures of exponential, gamma and negative binomial distributions, and of negative binomial regressions."""

from typing import Any

import numpy as np

from emjax import (
    Data,
    Dirichlet,
    Exponential,
    ExponentialParams,
    Gamma,
    GammaParams,
    GammaPrior,
    Mixture,
    MixtureParams,
    NegativeBinomial,
    NegativeBinomialParams,
    NegativeBinomialRegression,
    NegativeBinomialRegressionParams,
)
from tests.lanes import Case
from tests.oracle import exponential, gamma, negative_binomial
from tests.oracle.problem import MixtureProblem
from tests.rows.common import EVEN, MANY, ROWS, WEIGHTS, groups, held_at, labels, mixture, room, weighted

RATES, AWAY_RATES = [0.005, 0.0005, 0.1], [0.003, 0.0008, 0.05]
AWAY_WEIGHTS = {2: [0.3, 0.7], 3: [0.3, 0.4, 0.3]}
SHAPES, AWAY_SHAPES = [8.0, 0.8, 3.0], [2.0, 2.0, 2.0]
GAMMA_MEANS, AWAY_GAMMA_MEANS = [200.0, 2000.0, 900.0], [300.0, 1500.0, 700.0]
MEANS, AWAY_MEANS = [3.0, 20.0, 60.0], [6.0, 14.0, 40.0]
SIZES, AWAY_SIZES = [4.0, 8.0, 20.0], [2.0, 3.0, 8.0]
LINES, AWAY_LINES = [[1.0, 0.2], [3.0, -0.1]], [[1.3, 0.1], [2.6, -0.02]]


def of_components(components: int, weights: Any, record: Any, *values: list[float]) -> MixtureParams:
    """Weights by the number of components, and the first of each block's values."""
    return mixture(weights[components], record(*(np.array(block[:components]) for block in values)))


def drawn(near: MixtureParams, n: int, seed: int, grouped: bool, draw: Any) -> Data:
    """Data from the true parameters; `draw(rng, of)` gives y."""
    rng = np.random.default_rng(seed)
    unit = groups(n) if grouped else np.arange(n)
    of = labels(rng, near.latent.weights, unit)
    return Data(np.asarray(draw(rng, of), float), unit=unit if grouped else None)


def exponential_case(
    name: str,
    n_free: int,
    *,
    components: int = 2,
    prior: Any = None,
    fixed: tuple[str, ...] = (),
    grouped: bool = False,
    frequency: bool = False,
    slow: bool = True,
) -> Case:
    """prior: ((shape, rate), Dirichlet concentration)."""
    near = of_components(components, WEIGHTS, ExponentialParams, RATES)
    away = of_components(components, AWAY_WEIGHTS, ExponentialParams, AWAY_RATES)
    held, away = held_at(fixed, near, away)

    def data(n: int, seed: int) -> Data:
        return drawn(near, n, seed, grouped, lambda rng, of: rng.exponential(1.0 / near.family.rates[of]))

    sample, weight, unit = weighted(data(ROWS, 0), frequency)
    given, concentration = prior or (None, None)
    problem = MixtureProblem(
        lambda params: exponential.log_prob(params, sample.y),
        lambda resp, rows: exponential.maximize(resp, sample.y, rows, given)._asdict(),
        lambda params: exponential.log_prior(params, given),
        weight,
        unit,
        concentration,
        fixed,
    )
    return Case(
        name=name,
        model=Mixture(Exponential(), components),
        data=sample,
        near=near,
        away=away,
        oracle=problem,
        n_free=n_free,
        many=room(data(MANY, 1)),
        prior=given and {"weights": Dirichlet(concentration), "family": GammaPrior(*map(np.float64, given))},
        fixed=held or None,
        exchangeable=not fixed,
        slow=slow,
    )


def gamma_case(
    name: str,
    n_free: int,
    *,
    components: int = 2,
    fixed: tuple[str, ...] = (),
    grouped: bool = False,
    frequency: bool = False,
    slow: bool = True,
) -> Case:
    """A mixture of gamma distributions."""
    near = of_components(components, WEIGHTS, GammaParams, SHAPES, GAMMA_MEANS)
    away = of_components(components, EVEN, GammaParams, AWAY_SHAPES, AWAY_GAMMA_MEANS)
    held, away = held_at(fixed, near, away)
    shapes, means = near.family

    def data(n: int, seed: int) -> Data:
        return drawn(near, n, seed, grouped, lambda rng, of: rng.gamma(shapes[of], means[of] / shapes[of]))

    sample, weight, unit = weighted(data(ROWS, 0), frequency)
    problem = MixtureProblem(
        lambda params: gamma.log_prob(params, sample.y),
        lambda resp, rows: gamma.maximize(resp, sample.y, rows)._asdict(),
        lambda params: 0.0,
        weight,
        unit,
        None,
        fixed,
    )
    return Case(
        name=name,
        model=Mixture(Gamma(), components),
        data=sample,
        near=near,
        away=away,
        oracle=problem,
        n_free=n_free,
        many=room(data(MANY, 1)),
        fixed=held or None,
        closed="means" not in fixed,
        exchangeable=not fixed,
        slow=slow,
    )


def counts_case(
    name: str,
    n_free: int,
    *,
    components: int = 2,
    fixed: tuple[str, ...] = (),
    grouped: bool = False,
    frequency: bool = False,
    slow: bool = True,
) -> Case:
    """A mixture of negative binomial distributions."""
    near = of_components(components, WEIGHTS, NegativeBinomialParams, MEANS, SIZES)
    away = of_components(components, EVEN, NegativeBinomialParams, AWAY_MEANS, AWAY_SIZES)
    held, away = held_at(fixed, near, away)
    means, sizes = near.family

    def data(n: int, seed: int) -> Data:
        return drawn(near, n, seed, grouped, lambda rng, of: rng.poisson(rng.gamma(sizes[of], means[of] / sizes[of])))

    sample, weight, unit = weighted(data(ROWS, 0), frequency)
    problem = MixtureProblem(
        lambda params: negative_binomial.log_prob(
            negative_binomial.constant_means(params, sample.y), params.sizes, sample.y
        ),
        lambda resp, rows: {},
        lambda params: 0.0,
        weight,
        unit,
        None,
        fixed,
    )
    return Case(
        name=name,
        model=Mixture(NegativeBinomial(), components),
        data=sample,
        near=near,
        away=away,
        oracle=problem,
        n_free=n_free,
        many=room(data(MANY, 1)),
        fixed=held or None,
        exact_m_step=False,
        closed=False,
        exchangeable=not fixed,
        slow=slow,
    )


def count_regression_data(near: MixtureParams, n: int, seed: int, grouped: bool, offset: bool) -> Data:
    """From the true parameters; one covariate about 5, and exposures about 1."""
    rng = np.random.default_rng(seed)
    unit = groups(n) if grouped else np.arange(n)
    of = labels(rng, near.latent.weights, unit)
    x = rng.uniform(0.0, 10.0, (n, 1))
    move = np.log(rng.uniform(0.5, 2.0, n)) if offset else np.zeros(n)
    coefficients, sizes = near.family
    means = np.exp(np.sum(np.column_stack([np.ones(n), x]) * coefficients[of], axis=1) + move)
    y = rng.poisson(rng.gamma(sizes[of], means / sizes[of])).astype(float)
    return Data(y, x, offset=move if offset else None, unit=unit if grouped else None)


def count_regression_case(
    name: str,
    n_free: int,
    *,
    fixed: tuple[str, ...] = (),
    grouped: bool = False,
    frequency: bool = False,
    offset: bool = False,
    slow: bool = True,
) -> Case:
    """A mixture of two negative binomial regressions."""
    near = mixture(WEIGHTS[2], NegativeBinomialRegressionParams(np.array(LINES), np.array([8.0, 15.0])))
    away = mixture(EVEN[2], NegativeBinomialRegressionParams(np.array(AWAY_LINES), np.array([3.0, 5.0])))
    held, away = held_at(fixed, near, away)
    sample, weight, unit = weighted(count_regression_data(near, ROWS, 0, grouped, offset), frequency)
    design = np.column_stack([np.ones(ROWS), sample.x])
    move = np.zeros(ROWS) if sample.offset is None else sample.offset
    problem = MixtureProblem(
        lambda params: negative_binomial.log_prob(
            negative_binomial.regression_means(params, design, move), params.sizes, sample.y
        ),
        lambda resp, rows: {},
        lambda params: 0.0,
        weight,
        unit,
        None,
        fixed,
    )
    return Case(
        name=name,
        model=Mixture(NegativeBinomialRegression(), 2),
        data=sample,
        near=near,
        away=away,
        oracle=problem,
        n_free=n_free,
        many=room(count_regression_data(near, MANY, 1, grouped, offset)),
        fixed=held or None,
        exact_m_step=False,
        closed=False,
        exchangeable=not fixed,
        slow=slow,
    )


CASES: tuple[Case, ...] = (
    exponential_case("exponential", 3, slow=False),
    exponential_case("exponential-three-map-frequencies", 5, components=3, prior=((1.5, 20.0), 2.0), frequency=True),
    exponential_case("exponential-grouped", 3, grouped=True),
    exponential_case("exponential-fixed-rates", 1, fixed=("rates",)),
    gamma_case("gamma", 5, slow=False),
    gamma_case("gamma-one", 2, components=1),
    gamma_case("gamma-three-grouped-frequencies", 8, components=3, grouped=True, frequency=True),
    gamma_case("gamma-fixed-shapes", 3, fixed=("shapes",)),
    gamma_case("gamma-fixed-means", 3, fixed=("means",)),
    counts_case("negative-binomial", 5, slow=False),
    counts_case("negative-binomial-one", 2, components=1),
    counts_case("negative-binomial-three-grouped-frequencies", 8, components=3, grouped=True, frequency=True),
    counts_case("negative-binomial-fixed-means", 3, fixed=("means",)),
    counts_case("negative-binomial-fixed-sizes", 3, fixed=("sizes",)),
    count_regression_case("negative-binomial-regression", 7, offset=True, slow=False),
    count_regression_case("negative-binomial-regression-grouped-frequencies", 7, grouped=True, frequency=True),
    count_regression_case("negative-binomial-regression-fixed-coefficients", 3, fixed=("coefficients",)),
    count_regression_case("negative-binomial-regression-fixed-sizes", 5, fixed=("sizes",)),
)

"""Mixtures with a component without parameters: Gaussians in noise, zero-inflated counts."""

from typing import Any

import numpy as np

from emjax import (
    Data,
    GatedWeights,
    GatingParams,
    Gaussian,
    GaussianParams,
    Mixture,
    MixtureParams,
    NegativeBinomial,
    NegativeBinomialParams,
    NegativeBinomialRegression,
    NegativeBinomialRegressionParams,
    PointMass,
    Poisson,
    PoissonParams,
    PoissonRegression,
    PoissonRegressionParams,
    UniformNoise,
    WithComponent,
)
from tests.lanes import Case
from tests.oracle import counts, gated_weights, gaussian, negative_binomial, with_component
from tests.oracle.problem import MixtureProblem
from tests.rows.common import MANY, ROWS, groups, labels, mixture, room, weighted
from tests.rows.gated_weights import AWAY_GATES, GATES, design_of, gate

BOX = np.array([[970.0, -60.0], [1030.0, 20.0]])


def normal(weights: Any, means: Any, scale: float) -> MixtureParams:
    covariances = scale * np.array([[[4.0, 1.5], [1.5, 3.0]], [[2.0, -0.8], [-0.8, 5.0]]])[: len(means)]
    return mixture(weights, GaussianParams(np.array(means), covariances))


def noisy_data(near: MixtureParams, n: int, seed: int, grouped: bool) -> Data:
    """Two normal components and a uniform one, whose box the data reach."""
    rng = np.random.default_rng(seed)
    unit = groups(n) if grouped else np.arange(n)
    of = labels(rng, near.latent.weights, unit)
    means, covariances = near.family
    inner = np.minimum(of, len(means) - 1)
    y = means[inner] + np.einsum("nij,nj->ni", np.linalg.cholesky(covariances)[inner], rng.normal(size=(n, 2)))
    y = np.where((of == len(means))[:, None], rng.uniform(BOX[0], BOX[1], (n, 2)), y)
    y[:2] = BOX  # the box is that of the data, the same for both sizes
    return Data(y, unit=unit if grouped else None)


def noise_case(name: str, n_free: int, *, grouped: bool = False, frequency: bool = False, slow: bool = True) -> Case:
    near = normal([0.5, 0.3, 0.2], [[1000.0, -20.0], [1009.0, -12.0]], 1.0)
    away = normal([0.4, 0.4, 0.2], [[1002.0, -18.0], [1006.0, -15.0]], 2.0)
    data, weight, unit = weighted(noisy_data(near, ROWS, 0, grouped), frequency)
    noise = with_component.uniform(data.y, weight[unit])
    problem = MixtureProblem(
        lambda params: np.vstack([gaussian.log_prob(params, data.y), noise]),
        lambda resp, rows: gaussian.maximize(resp[:-1], data.y, "full", rows)._asdict(),
        lambda params: 0.0,
        weight,
        unit,
    )
    return Case(
        name=name,
        model=Mixture(WithComponent(Gaussian("full"), UniformNoise()), 3),
        data=data,
        near=near,
        away=away,
        oracle=problem,
        n_free=n_free,
        many=room(noisy_data(near, MANY, 1, grouped)),
        exchangeable=False,
        slow=slow,
    )


def inflated_data(near: MixtureParams, n: int, seed: int) -> Data:
    """Means of the components, or by their lines."""
    rng = np.random.default_rng(seed)
    of = labels(rng, near.latent.weights, np.arange(n))
    blocks, sizes = near.family
    inner = np.minimum(of, len(sizes) - 1)
    x, means = None, blocks[inner]
    if isinstance(near.family, NegativeBinomialRegressionParams):
        x = rng.uniform(0.0, 10.0, (n, 1))
        means = np.exp(means[:, 0] + means[:, 1] * x[:, 0])
    y = rng.poisson(rng.gamma(sizes[inner], means / sizes[inner]))
    return Data(np.where(of == len(sizes), 0.0, y), x)


def inflated_case(name: str, n_free: int, components: int, *, regression: bool = False, slow: bool = True) -> Case:
    shares = {2: ([0.7, 0.3], [0.6, 0.4]), 3: ([0.4, 0.3, 0.3], [0.4, 0.4, 0.2])}[components]
    sizes = np.array([8.0 if regression else 5.0, 10.0])[: components - 1]
    record, family = NegativeBinomialParams, NegativeBinomial()
    blocks: tuple[Any, Any] = [4.0, 25.0], [7.0, 18.0]
    if regression:
        record, family = NegativeBinomialRegressionParams, NegativeBinomialRegression()
        blocks = [[0.5, 0.2], [3.0, -0.1]], [[1.2, 0.1], [2.0, 0.0]]
    near = mixture(shares[0], record(np.array(blocks[0])[: components - 1], sizes))
    away = mixture(shares[1], record(np.array(blocks[1])[: components - 1], 0.5 * sizes))
    data, weight, unit = weighted(inflated_data(near, ROWS, 0), False)
    mass = with_component.point_mass(data.y, 0.0)

    def log_prob(params: Any) -> np.ndarray:
        if regression:
            design = np.column_stack([np.ones(ROWS), np.asarray(data.x)])
            means = negative_binomial.regression_means(params, design, np.zeros(ROWS))
        else:
            means = negative_binomial.constant_means(params, data.y)
        return np.vstack([negative_binomial.log_prob(means, params.sizes, data.y), mass])

    problem = MixtureProblem(log_prob, lambda resp, rows: {}, lambda params: 0.0, weight, unit)
    return Case(
        name=name,
        model=Mixture(WithComponent(family, PointMass()), components),
        data=data,
        near=near,
        away=away,
        oracle=problem,
        n_free=n_free,
        many=room(inflated_data(near, MANY, 1)),
        exact_m_step=False,
        closed=False,
        exchangeable=False,
        slow=slow,
    )


def poisson_data(near: MixtureParams, n: int, seed: int) -> Data:
    """Rates or lines; shares alike, or gated by z."""
    rng, gated = np.random.default_rng(seed), isinstance(near.latent, GatingParams)
    z, of = gate(rng, near.latent.gating, np.arange(n)) if gated else (None, None)
    of = labels(rng, near.latent.weights, np.arange(n)) if of is None else of
    x, means = None, near.family[0][0]
    if isinstance(near.family, PoissonRegressionParams):
        x = rng.uniform(0.0, 10.0, (n, 1))
        means = np.exp(means[0] + means[1] * x[:, 0])
    return Data(np.where(of == 1, 0.0, rng.poisson(means, n)), x, z)


def poisson_problem(data: Data, weight: np.ndarray, unit: np.ndarray, regression: bool) -> MixtureProblem:
    y, mass = np.asarray(data.y), with_component.point_mass(data.y, 0.0)
    one = np.ones(len(y))
    if regression:
        design = np.column_stack([one, np.asarray(data.x)])
        problem: Any = counts.RegressionProblem("poisson", y, design, 0.0 * y, one, weight, unit)
        problem.log_prob = lambda params: np.vstack([problem.rows(params), mass])
        return problem
    return MixtureProblem(
        lambda params: np.vstack([counts.log_prob("poisson", params.rates, y, one), mass]),
        lambda resp, rows: {"rates": counts.maximize("poisson", resp[:-1], y, one, rows, None)},
        lambda params: 0.0,
        weight,
        unit,
    )


def poisson_case(name: str, n_free: int, *, regression: bool = False, gated: bool = False, slow: bool = True) -> Case:
    """Zero-inflated Poisson, the zeros' share constant or gated: the gate's baseline is the point mass."""
    record, family = (PoissonRegressionParams, PoissonRegression()) if regression else (PoissonParams, Poisson())
    blocks = ([[0.5, 0.2]], [[1.2, 0.1]]) if regression else ([4.0], [6.0])
    near, away = (mixture(w, record(np.array(block))) for w, block in zip(([0.7, 0.3], [0.5, 0.5]), blocks))
    if gated:
        near, away = (p._replace(latent=GatingParams(np.array(g[2]))) for p, g in ((near, GATES), (away, AWAY_GATES)))
    data, weight, unit = weighted(poisson_data(near, ROWS, 0), False)
    problem = poisson_problem(data, weight, unit, regression)
    gates = (GatedWeights(),) if gated else ()
    return Case(
        name=name,
        model=Mixture(WithComponent(family, PointMass()), 2, *gates),
        data=data,
        near=near,
        away=away,
        oracle=gated_weights.GatedProblem(problem, design_of(np.asarray(data.z), unit)) if gated else problem,
        n_free=n_free,
        many=room(poisson_data(near, MANY, 1)),
        exact_m_step=not (regression or gated),
        closed=not (regression and gated),
        exchangeable=False,
        slow=slow,
    )


CASES: tuple[Case, ...] = (
    noise_case("gaussian-noise", 12, slow=False),
    noise_case("gaussian-noise-grouped-frequencies", 12, grouped=True, frequency=True),
    inflated_case("zero-inflated-negative-binomial", 3, 2, slow=False),
    inflated_case("zero-inflated-negative-binomial-two", 6, 3),
    inflated_case("zero-inflated-negative-binomial-regression", 4, 2, regression=True),
    poisson_case("zero-inflated-poisson", 2),
    poisson_case("zero-inflated-poisson-regression", 3, regression=True),
    poisson_case("zero-inflated-poisson-gated", 3, gated=True),
    poisson_case("zero-inflated-poisson-regression-gated", 4, regression=True, gated=True),
)

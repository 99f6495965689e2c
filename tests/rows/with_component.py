"""Mixtures with a component without parameters: Gaussians in noise, zero-inflated counts."""

from typing import Any

import numpy as np

from emjax import (
    Data,
    Gaussian,
    GaussianParams,
    Mixture,
    MixtureParams,
    NegativeBinomial,
    NegativeBinomialParams,
    PointMass,
    UniformNoise,
    WithComponent,
)
from tests.lanes import Case
from tests.oracle import gaussian, negative_binomial, with_component
from tests.oracle.problem import MixtureProblem
from tests.rows.common import MANY, ROWS, groups, labels, mixture, room, weighted

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
    rng = np.random.default_rng(seed)
    of = labels(rng, near.latent.weights, np.arange(n))
    means, sizes = near.family
    inner = np.minimum(of, len(means) - 1)
    y = rng.poisson(rng.gamma(sizes[inner], means[inner] / sizes[inner]))
    return Data(np.where(of == len(means), 0.0, y))


def inflated_case(name: str, n_free: int, components: int, *, slow: bool = True) -> Case:
    shares = {2: ([0.7, 0.3], [0.6, 0.4]), 3: ([0.4, 0.3, 0.3], [0.4, 0.4, 0.2])}[components]
    sizes = np.array([5.0, 10.0])[: components - 1]
    near = mixture(shares[0], NegativeBinomialParams(np.array([4.0, 25.0])[: components - 1], sizes))
    away = mixture(shares[1], NegativeBinomialParams(np.array([7.0, 18.0])[: components - 1], 0.5 * sizes))
    data, weight, unit = weighted(inflated_data(near, ROWS, 0), False)
    mass = with_component.point_mass(data.y, 0.0)

    def log_prob(params: Any) -> np.ndarray:
        means = negative_binomial.constant_means(params, data.y)
        return np.vstack([negative_binomial.log_prob(means, params.sizes, data.y), mass])

    problem = MixtureProblem(log_prob, lambda resp, rows: {}, lambda params: 0.0, weight, unit)
    return Case(
        name=name,
        model=Mixture(WithComponent(NegativeBinomial(), PointMass()), components),
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


CASES: tuple[Case, ...] = (
    noise_case("gaussian-noise", 12, slow=False),
    noise_case("gaussian-noise-grouped-frequencies", 12, grouped=True, frequency=True),
    inflated_case("zero-inflated-negative-binomial", 3, 2, slow=False),
    inflated_case("zero-inflated-negative-binomial-two", 6, 3),
)

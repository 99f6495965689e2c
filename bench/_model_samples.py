"""The data of bench/models.py: a batch for each model, leading axis D, drawn from what the model says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from emjax import Data

Generator = np.random.Generator


def _labels(rng: Generator, shape: tuple[int, int], weights: Any = (0.6, 0.4)) -> np.ndarray:
    return rng.choice(len(weights), size=shape, p=weights)


def _line(rng: Generator, d: int, n: int = 200) -> tuple[np.ndarray, np.ndarray]:
    """Covariates (D, n, 1) and two crossing linear predictors (D, n)."""
    x = rng.uniform(-1.0, 1.0, (d, n, 1))
    first = _labels(rng, (d, n)) == 0
    return x, np.where(first, 1.5 + 1.0 * x[..., 0], 0.3 - 1.0 * x[..., 0])


def lines(rng: Generator, d: int) -> Data:
    x, eta = _line(rng, d)
    return Data(eta + 0.4 * rng.normal(size=eta.shape), x)


def heavy_lines(rng: Generator, d: int) -> Data:
    x, eta = _line(rng, d)
    return Data(eta + 0.3 * rng.standard_t(4, eta.shape), x)


def parallel(rng: Generator, d: int, n: int = 200) -> Data:
    """Two lines of one slope."""
    x = rng.uniform(-1.0, 1.0, (d, n, 1))
    return Data(np.array([0.0, 2.0])[_labels(rng, (d, n))] + x[..., 0] + 0.5 * rng.normal(size=(d, n)), x)


def people(rng: Generator, d: int, units: int = 50, times: int = 4) -> Data:
    """Crossed lines, every unit on one of them."""
    x = rng.uniform(-1.0, 1.0, (d, units * times, 1))
    slopes = np.repeat(np.array([1.0, -1.0])[_labels(rng, (d, units))], times, axis=1)
    unit = np.broadcast_to(np.repeat(np.arange(units), times), slopes.shape)
    return Data(slopes * x[..., 0] + 0.5 * rng.normal(size=slopes.shape), x, unit=unit)


def counts(rng: Generator, d: int) -> Data:
    x, eta = _line(rng, d)
    return Data(rng.poisson(np.exp(eta + 0.5)).astype(float), x)


def overdispersed(rng: Generator, d: int) -> Data:
    x, eta = _line(rng, d)
    mean = np.exp(eta + 1.0)
    return Data(rng.negative_binomial(4.0, 4.0 / (4.0 + mean)).astype(float), x)


def successes(rng: Generator, d: int) -> Data:
    x, eta = _line(rng, d)
    trials = np.full(eta.shape, 10.0)
    return Data(rng.binomial(10, 1.0 / (1.0 + np.exp(-2.0 * eta))).astype(float), x, trials=trials)


def shares(rng: Generator, d: int, n: int = 200) -> Data:
    """Successes of 10 without covariates."""
    of = _labels(rng, (d, n))
    return Data(rng.binomial(10, np.array([0.3, 0.7])[of]).astype(float), trials=np.full((d, n), 10.0))


def planes(rng: Generator, d: int, n: int = 400, tail: float | None = None) -> Data:
    """Three groups in the plane."""
    centres = np.array([[0.0, 0.0], [3.5, 0.5], [0.5, 3.5]])
    noise = rng.normal(size=(d, n, 2)) if tail is None else rng.standard_t(tail, (d, n, 2))
    return Data(centres[_labels(rng, (d, n), (0.3, 0.3, 0.4))] + noise)


def holes(rng: Generator, d: int) -> Data:
    y = np.asarray(planes(rng, d, 200).y)
    return Data(np.where(rng.random(y.shape) < 0.1, np.nan, y))


def positive(rng: Generator, d: int, shape: float = 1.0, n: int = 300) -> Data:
    means = np.array([1.0, 6.0])[_labels(rng, (d, n))]
    return Data(means * rng.gamma(shape, 1.0 / shape, (d, n)))


def rare(rng: Generator, d: int, n: int = 300) -> Data:
    return Data(rng.poisson(np.array([1.0, 6.0])[_labels(rng, (d, n))]).astype(float))


def zeros(rng: Generator, d: int, counts: Callable[[Generator, int], Data] = counts) -> Data:
    data = counts(rng, d)
    return data._replace(y=np.where(rng.random(np.shape(data.y)) < 0.3, 0.0, data.y))


def noisy(rng: Generator, d: int) -> Data:
    y = np.asarray(planes(rng, d).y)
    return Data(np.where(rng.random((*y.shape[:2], 1)) < 0.05, rng.uniform(-8.0, 10.0, y.shape), y))


def items(rng: Generator, d: int, n: int = 300) -> Data:
    """Six binary items, two classes."""
    likely = np.array([[0.8, 0.7, 0.9, 0.75, 0.85, 0.6], [0.2, 0.3, 0.15, 0.3, 0.25, 0.2]])
    return Data((rng.random((d, n, 6)) < likely[_labels(rng, (d, n))]).astype(float))


def mixed(rng: Generator, d: int, n: int = 300) -> Data:
    of = _labels(rng, (d, n))
    first = np.array([0.0, 3.0])[of] + rng.normal(size=(d, n))
    items = rng.random((d, n, 2)) < np.array([[0.8, 0.7], [0.2, 0.3]])[of]
    return Data(np.concatenate([first[..., None], items], axis=2).astype(float))


def gated(rng: Generator, d: int, n: int = 300) -> Data:
    z = rng.normal(size=(d, n, 1))
    second = rng.random((d, n)) < 1.0 / (1.0 + np.exp(-2.0 * z[..., 0]))
    return Data(np.where(second, 3.0, 0.0) + rng.normal(size=(d, n)), z=z)


def _chain(rng: Generator, d: int, n: int = 200, states: int = 3) -> np.ndarray:
    """States (D, n) of a sticky chain."""
    found = np.zeros((d, n), int)
    found[:, 0] = rng.integers(0, states, d)
    for t in range(1, n):
        stay = rng.random(d) < 0.9
        found[:, t] = np.where(stay, found[:, t - 1], rng.integers(0, states, d))
    return found


def series(rng: Generator, d: int) -> Data:
    of = _chain(rng, d)
    return Data(np.array([-2.0, 0.0, 3.0])[of] + rng.normal(size=of.shape))


def events(rng: Generator, d: int) -> Data:
    return Data(rng.poisson(np.array([1.0, 4.0, 10.0])[_chain(rng, d)]).astype(float))


def switching(rng: Generator, d: int, n: int = 200) -> Data:
    """Two lines, the chain moving between them."""
    x, of = rng.normal(size=(d, n, 1)), _chain(rng, d, n, 2)
    return Data(np.where(of == 0, x[..., 0], 2.0 - x[..., 0]) + 0.5 * rng.normal(size=(d, n)), x)


def steered(rng: Generator, d: int, sequences: int = 20, n: int = 20) -> Data:
    """Sequences of two states; the first of them, and every move, depends on z."""
    z = rng.normal(size=(d, sequences, n))
    of = np.zeros(z.shape, int)
    of[..., 0] = rng.random((d, sequences)) < 1.0 / (1.0 + np.exp(-z[..., 0]))
    for t in range(1, n):
        moves = rng.random((d, sequences)) < 1.0 / (1.0 + np.exp(2.0 - 1.5 * z[..., t]))
        of[..., t] = np.where(moves, 1 - of[..., t - 1], of[..., t - 1])
    y = 2.5 * of + rng.normal(size=z.shape)
    unit = np.broadcast_to(np.repeat(np.arange(sequences), n), (d, sequences * n))
    return Data(y.reshape(d, -1), z=z.reshape(d, -1, 1), unit=unit)


def factors(rng: Generator, d: int, n: int = 200, p: int = 8, q: int = 2) -> Data:
    loadings = rng.normal(size=(d, p, q))
    scores = rng.normal(size=(d, n, q))
    return Data(np.einsum("dpq,dnq->dnp", loadings, scores) + rng.normal(size=(d, n, p)))


def documents(rng: Generator, d: int, documents: int = 40, terms: int = 30, topics: int = 3) -> Data:
    of_documents = rng.dirichlet(np.full(topics, 0.5), (d, documents))
    of_topics = rng.dirichlet(np.full(terms, 0.2), (d, topics))
    return Data(rng.poisson(100.0 * of_documents @ of_topics).astype(float))


def tips(rng: Generator, d: int, n: int = 200) -> Data:
    return Data(np.array([0.0, 5.0])[_labels(rng, (d, n))] + rng.laplace(size=(d, n)))

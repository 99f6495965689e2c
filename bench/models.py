"""Every model on 1,000 datasets: fits a second, work efficiency, compile time; and the obvious rival in a loop.

    python bench/models.py [--only TEXT] [--datasets N]

All datasets of a model are fitted from one start each, at the default tolerance, without the certificate. The rival
(where the registry has one) fits the first few of them from the same starts, and its log-likelihoods are judged by
emjax at the parameters it returns.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import emjax
from bench import _model_rivals as rivals
from bench import timing
from emjax import Data

ROUNDS = 3
Generator = np.random.Generator


class Row(NamedTuple):
    """A model, its datasets (D, n, ...), and the rival with how many datasets it gets."""

    name: str
    model: Any
    make: Callable[[Generator, int], Data]
    rival: Callable[[Data, Any], tuple[Any, float]] | None = None
    rival_name: str = ""
    rival_datasets: int = 50


def _labels(rng: Generator, shape: tuple[int, int], weights: Any = (0.6, 0.4)) -> np.ndarray:
    return rng.choice(len(weights), size=shape, p=weights)


def _line(rng: Generator, d: int, n: int = 200) -> tuple[np.ndarray, np.ndarray]:
    """Covariates (D, n, 1) and two crossing linear predictors (D, n)."""
    x = rng.uniform(-1.0, 1.0, (d, n, 1))
    first = _labels(rng, (d, n)) == 0
    return x, np.where(first, 1.5 + 1.0 * x[..., 0], 0.3 - 1.0 * x[..., 0])


def _lines(rng: Generator, d: int) -> Data:
    x, eta = _line(rng, d)
    return Data(eta + 0.4 * rng.normal(size=eta.shape), x)


def _heavy_lines(rng: Generator, d: int) -> Data:
    x, eta = _line(rng, d)
    return Data(eta + 0.3 * rng.standard_t(4, eta.shape), x)


def _counts(rng: Generator, d: int) -> Data:
    x, eta = _line(rng, d)
    return Data(rng.poisson(np.exp(eta + 0.5)).astype(float), x)


def _overdispersed(rng: Generator, d: int) -> Data:
    x, eta = _line(rng, d)
    mean = np.exp(eta + 1.0)
    return Data(rng.negative_binomial(4.0, 4.0 / (4.0 + mean)).astype(float), x)


def _successes(rng: Generator, d: int) -> Data:
    x, eta = _line(rng, d)
    trials = np.full(eta.shape, 10.0)
    return Data(rng.binomial(10, 1.0 / (1.0 + np.exp(-2.0 * eta))).astype(float), x, trials=trials)


def _planes(rng: Generator, d: int, n: int = 400, tail: float | None = None) -> Data:
    """Three groups in the plane."""
    centres = np.array([[0.0, 0.0], [3.5, 0.5], [0.5, 3.5]])
    noise = rng.normal(size=(d, n, 2)) if tail is None else rng.standard_t(tail, (d, n, 2))
    return Data(centres[_labels(rng, (d, n), (0.3, 0.3, 0.4))] + noise)


def _holes(rng: Generator, d: int) -> Data:
    y = np.asarray(_planes(rng, d, 200).y)
    return Data(np.where(rng.random(y.shape) < 0.1, np.nan, y))


def _positive(rng: Generator, d: int, shape: float = 1.0, n: int = 300) -> Data:
    means = np.array([1.0, 6.0])[_labels(rng, (d, n))]
    return Data(means * rng.gamma(shape, 1.0 / shape, (d, n)))


def _rare(rng: Generator, d: int, n: int = 300) -> Data:
    return Data(rng.poisson(np.array([1.0, 6.0])[_labels(rng, (d, n))]).astype(float))


def _zeros(rng: Generator, d: int) -> Data:
    data = _counts(rng, d)
    return data._replace(y=np.where(rng.random(np.shape(data.y)) < 0.3, 0.0, data.y))


def _noisy(rng: Generator, d: int) -> Data:
    y = np.asarray(_planes(rng, d).y)
    return Data(np.where(rng.random((*y.shape[:2], 1)) < 0.05, rng.uniform(-8.0, 10.0, y.shape), y))


def _items(rng: Generator, d: int, n: int = 300) -> Data:
    """Six binary items, two classes."""
    likely = np.array([[0.8, 0.7, 0.9, 0.75, 0.85, 0.6], [0.2, 0.3, 0.15, 0.3, 0.25, 0.2]])
    return Data((rng.random((d, n, 6)) < likely[_labels(rng, (d, n))]).astype(float))


def _mixed(rng: Generator, d: int, n: int = 300) -> Data:
    of = _labels(rng, (d, n))
    first = np.array([0.0, 3.0])[of] + rng.normal(size=(d, n))
    items = rng.random((d, n, 2)) < np.array([[0.8, 0.7], [0.2, 0.3]])[of]
    return Data(np.concatenate([first[..., None], items], axis=2).astype(float))


def _gated(rng: Generator, d: int, n: int = 300) -> Data:
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


def _series(rng: Generator, d: int) -> Data:
    of = _chain(rng, d)
    return Data(np.array([-2.0, 0.0, 3.0])[of] + rng.normal(size=of.shape))


def _events(rng: Generator, d: int) -> Data:
    return Data(rng.poisson(np.array([1.0, 4.0, 10.0])[_chain(rng, d)]).astype(float))


def _factors(rng: Generator, d: int, n: int = 200, p: int = 8, q: int = 2) -> Data:
    loadings = rng.normal(size=(d, p, q))
    scores = rng.normal(size=(d, n, q))
    return Data(np.einsum("dpq,dnq->dnp", loadings, scores) + rng.normal(size=(d, n, p)))


def _documents(rng: Generator, d: int, documents: int = 40, terms: int = 30, topics: int = 3) -> Data:
    of_documents = rng.dirichlet(np.full(topics, 0.5), (d, documents))
    of_topics = rng.dirichlet(np.full(terms, 0.2), (d, topics))
    return Data(rng.poisson(100.0 * of_documents @ of_topics).astype(float))


def rows() -> list[Row]:
    """The table."""
    mixture, e = emjax.Mixture, emjax
    inflated = e.WithComponent(e.PoissonRegression(), e.PointMass())
    gaussian_chain = e.HiddenMarkov(e.Gaussian("spherical"), 3)
    items = mixture(e.Categorical((2,) * 6), 2)
    mixed = e.Independent((e.Gaussian("spherical"), e.Categorical((2, 2))))
    return [
        Row("linear regressions, K=2", mixture(e.LinearRegression(), 2), _lines),
        Row("t regressions, K=2", mixture(e.StudentTRegression(), 2), _heavy_lines),
        Row("Poisson regressions, K=2", mixture(e.PoissonRegression(), 2), _counts),
        Row("binomial regressions, K=2", mixture(e.BinomialRegression(), 2), _successes),
        Row("negative binomial regressions, K=2", mixture(e.NegativeBinomialRegression(), 2), _overdispersed),
        Row("zero-inflated Poisson regression", mixture(inflated, 2), _zeros),
        Row("Gaussians, d=2, K=3", mixture(e.Gaussian(), 3), _planes, rivals.gaussian_mixture, "scikit-learn", 100),
        Row("Gaussians and noise, d=2, K=3+1", mixture(e.WithComponent(e.Gaussian(), e.UniformNoise()), 4), _noisy),
        Row("Gaussians, missing cells, d=2, K=3", mixture(e.MissingGaussian(), 3), _holes),
        Row("t components, d=2, K=3", mixture(e.StudentT(degrees="common"), 3), lambda r, d: _planes(r, d, tail=5.0)),
        Row("gated Gaussians, K=2", mixture(e.Gaussian("spherical"), 2, e.GatedWeights()), _gated),
        Row("Poissons, K=2", mixture(e.Poisson(), 2), _rare),
        Row("exponentials, K=2", mixture(e.Exponential(), 2), _positive),
        Row("gammas, K=2", mixture(e.Gamma(), 2), lambda r, d: _positive(r, d, 4.0)),
        Row("negative binomials, K=2", mixture(e.NegativeBinomial(), 2), _rare),
        Row("latent classes, 6 items, K=2", items, _items, rivals.latent_class, "StepMix"),
        Row("mixed items, K=2", mixture(mixed, 2), _mixed),
        Row("factor analysers, p=8, q=1, K=2", mixture(e.FactorAnalyser(1), 2), _factors),
        Row("Gaussian HMM, T=200, K=3", gaussian_chain, _series, rivals.gaussian_chain, "hmmlearn"),
        Row("Poisson HMM, T=200, K=3", e.HiddenMarkov(e.Poisson(), 3), _events, rivals.poisson_chain, "hmmlearn"),
        Row("factor analysis, p=8, q=2", e.FactorAnalysis(2), _factors, rivals.factor_analysis, "scikit-learn", 100),
        Row("PLSA, 40 x 30, K=3", e.PLSA(3), _documents, rivals.factorisation, "scikit-learn"),
    ]  # fmt: skip


def _starts(row: Row, data: Data) -> Any:
    """One start a dataset: parameters before the first M-step."""
    once = emjax.fit_many(row.model, data, 0, restarts=1, stop=emjax.Stop(max_iterations=1), certificate=False)
    return once.params


def _some(data: Data, count: int) -> Data:
    return Data(*(None if value is None else value[:count] for value in data))


def measure(row: Row, n_datasets: int) -> list[str]:
    """The row's line."""
    data = row.make(np.random.default_rng(1), n_datasets)
    start = _starts(row, data)
    settings = {"start": start, "certificate": False}
    began = time.perf_counter()
    emjax.fit_many(row.model, data, 0, **settings)
    first = time.perf_counter() - began
    taken, theirs, gap = [], [], ""
    count = min(row.rival_datasets, n_datasets)
    some, its_start = _some(data, count), jax.tree.map(lambda a: a[:count], start)
    for _ in range(ROUNDS):
        began = time.perf_counter()
        fits = emjax.fit_many(row.model, data, 0, **settings)
        taken.append((time.perf_counter() - began) / n_datasets)
        if row.rival is not None:
            found, seconds = row.rival(some, its_start)
            theirs.append(seconds / count)
    compiling = first - statistics.median(taken) * n_datasets
    line = [
        row.name,
        f"{1.0 / statistics.median(taken):,.0f}",
        f"{fits.work_efficiency:.3f}",
        f"{np.mean(fits.iterations):.0f}",
        f"{compiling:.1f}",
        f"{np.mean(fits.status == emjax.Status.CONVERGED):.1%}",
    ]
    if row.rival is None:
        return [*line, "", "", "", ""]
    judged = found
    if not isinstance(found, np.ndarray):
        judged = emjax.fit_many(
            row.model, some, 0, start=found, stop=emjax.Stop(max_iterations=1), certificate=False
        ).log_likelihood
    difference = judged - fits.log_likelihood[:count]
    same = np.abs(difference) < 0.01
    gap = f"{np.max(np.abs(difference[same]), initial=0.0):.1e} on {np.sum(same)} of {count}"
    ratio = timing.ratio(theirs, taken)
    return [*line, row.rival_name, f"{1.0 / statistics.median(theirs):,.0f}", ratio.text(), gap]


HEADER = (
    "model", "fits/s", "work efficiency", "iterations, mean", "first call over later ones, s", "converged", "rival",
    "its fits/s", "times faster", "largest difference, nats, where the optimum is the same",
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", metavar="TEXT", help="rows whose name contains it")
    parser.add_argument("--datasets", type=int, default=1000)
    settings = parser.parse_args()
    print("| " + " | ".join(HEADER) + " |")
    print("| --- |" + " ---: |" * (len(HEADER) - 1))
    for row in rows():
        if settings.only in row.name:
            print("| " + " | ".join(measure(row, settings.datasets)) + " |", flush=True)


if __name__ == "__main__":
    main()

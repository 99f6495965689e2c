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
import jax.numpy as jnp
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import emjax
from bench import _model_rivals as rivals
from bench import _model_samples as draw
from bench import timing
from emjax import Data

ROUNDS = 3


class Row(NamedTuple):
    """A model, its datasets (D, n, ...), and the rival with how many datasets it gets."""

    name: str
    model: Any
    make: Callable[[np.random.Generator, int], Data]
    rival: Callable[[Data, Any], tuple[Any, float]] | None = None
    rival_name: str = ""
    rival_datasets: int = 50


def _smooth_laplace(params: Any, row: Data) -> Any:
    """A log density whose tip is round; its constant is left out."""
    return -params["log_scale"] - jnp.sqrt(((row.y - params["at"]) / jnp.exp(params["log_scale"])) ** 2 + 0.01)


def _its_start(data: Data) -> Any:
    return {"at": jnp.sum(data.weight * data.y) / jnp.sum(data.weight), "log_scale": jnp.zeros(())}


def rows() -> list[Row]:
    """The table."""
    mixture, e = emjax.Mixture, emjax
    inflated_more = e.WithComponent(e.NegativeBinomialRegression(), e.PointMass())
    steered = e.HiddenMarkov(e.Gaussian("spherical"), 2, initial_distribution="gated", transition_probabilities="gated")
    inflated = e.WithComponent(e.PoissonRegression(), e.PointMass())
    gaussian_chain = e.HiddenMarkov(e.Gaussian("spherical"), 3)
    items = mixture(e.Categorical((2,) * 6), 2)
    mixed = e.Independent((e.Gaussian("spherical"), e.Categorical((2, 2))))
    return [
        Row("linear regressions, K=2", mixture(e.LinearRegression(), 2), draw.lines),
        Row("linear regressions, one slope, K=2", mixture(e.LinearRegression(shared="slopes"), 2), draw.parallel),
        Row("linear regressions, 50 units of 4, K=2", mixture(e.LinearRegression(), 2), draw.people),
        Row("t regressions, K=2", mixture(e.StudentTRegression(), 2), draw.heavy_lines),
        Row("Poisson regressions, K=2", mixture(e.PoissonRegression(), 2), draw.counts),
        Row("binomial regressions, K=2", mixture(e.BinomialRegression(), 2), draw.successes),
        Row("negative binomial regressions, K=2", mixture(e.NegativeBinomialRegression(), 2), draw.overdispersed),
        Row("zero-inflated Poisson regression", mixture(inflated, 2), draw.zeros),
        Row("zero-inflated negative binomial regression", mixture(inflated_more, 2),
            lambda r, d: draw.zeros(r, d, draw.overdispersed)),
        Row("Gaussians, d=2, K=3", mixture(e.Gaussian(), 3), draw.planes, rivals.gaussian_mixture, "scikit-learn", 100),
        Row("Gaussians and noise, d=2, K=3+1", mixture(e.WithComponent(e.Gaussian(), e.UniformNoise()), 4), draw.noisy),
        Row("Gaussians, missing cells, d=2, K=3", mixture(e.MissingGaussian(), 3), draw.holes),
        Row("Gaussian, missing cells, d=2, K=1", mixture(e.MissingGaussian(), 1), draw.holes),
        Row("t components, d=2, K=3", mixture(e.StudentT(degrees="common"), 3),
            lambda r, d: draw.planes(r, d, tail=5.0)),
        Row("gated Gaussians, K=2", mixture(e.Gaussian("spherical"), 2, e.GatedWeights()), draw.gated),
        Row("Poissons, K=2", mixture(e.Poisson(), 2), draw.rare),
        Row("binomials of 10, K=2", mixture(e.Binomial(), 2), draw.shares),
        Row("exponentials, K=2", mixture(e.Exponential(), 2), draw.positive),
        Row("gammas, K=2", mixture(e.Gamma(), 2), lambda r, d: draw.positive(r, d, 4.0)),
        Row("negative binomials, K=2", mixture(e.NegativeBinomial(), 2), draw.rare),
        Row("latent classes, 6 items, K=2", items, draw.items, rivals.latent_class, "StepMix"),
        Row("mixed items, K=2", mixture(mixed, 2), draw.mixed),
        Row("a log density alone, K=2", mixture(e.from_log_density(_smooth_laplace, _its_start), 2), draw.tips),
        Row("factor analysers, p=8, q=1, K=2", mixture(e.FactorAnalyser(1), 2), draw.factors),
        Row("Gaussian HMM, T=200, K=3", gaussian_chain, draw.series, rivals.gaussian_chain, "hmmlearn"),
        Row("Poisson HMM, T=200, K=3", e.HiddenMarkov(e.Poisson(), 3), draw.events, rivals.poisson_chain, "hmmlearn"),
        Row("Markov-switching regression, T=200, K=2", e.HiddenMarkov(e.LinearRegression(), 2), draw.switching),
        Row("gated Gaussian HMM, 20 x 20, K=2", steered, draw.steered),
        Row("factor analysis, p=8, q=2", e.FactorAnalysis(2),
            draw.factors, rivals.factor_analysis, "scikit-learn", 100),
        Row("probabilistic PCA, p=8, q=2", e.ProbabilisticPCA(2), draw.factors),
        Row("PLSA, 40 x 30, K=3", e.PLSA(3), draw.documents, rivals.factorisation, "scikit-learn"),
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
    settings = {"start": start, "certificate": False, "acceleration": None}
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

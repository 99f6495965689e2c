"""How often 95 % intervals cover the truth: standard errors from the information, the sandwich, the bootstrap.

    python bench/coverage.py [--only TEXT] [--replicates 2000] [--bootstrap]

Each model's datasets are simulated from known parameters and fitted from them, and every parameter's interval is held
against its truth; labels are aligned with the true ones. Wald intervals on the scale of the parameter (logit, log,
identity), percentile intervals of the parametric bootstrap (--bootstrap: B = 399, 500 datasets of two models).
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import emjax
from bench import timing
from emjax.studies import From, Method, Results, Study, grid

SIZES = (200, 500, 1000, 2000)
CLAIMED = 2000  # rows from which on the claim holds
EACH, MEAN = 1.0, 1.0  # percentage points, the first with three Monte Carlo standard errors
BOOTSTRAPPED = ("Poisson mixture", "linear regressions")


class Row(NamedTuple):
    """A model and the parameters that data are drawn from, in the user's units; covariates; response columns."""

    name: str
    model: Any
    params: Any
    x: Any = None
    d: int | None = None


def _covariate(key: Any, n: int) -> Any:
    return jax.random.uniform(key, (n, 1), minval=0.0, maxval=10.0)


def _mixture(weights: Any, family: Any) -> emjax.MixtureParams:
    return emjax.MixtureParams(emjax.WeightsParams(np.array(weights)), family)


def rows() -> list[Row]:
    """The five models."""
    lines = emjax.LinearRegressionParams(np.array([[1.0, 0.5], [2.0, 1.5]]), np.array([0.8, 1.2]))
    spread = np.array([[[1.0, 0.3], [0.3, 1.0]], [[1.5, -0.4], [-0.4, 0.8]]])
    planes = emjax.GaussianParams(np.array([[0.0, 0.0], [3.0, 2.0]]), spread)
    likely = np.array([[0.85, 0.75, 0.9, 0.8, 0.7], [0.2, 0.3, 0.15, 0.35, 0.25]])
    items = emjax.CategoricalParams(np.stack([1.0 - likely, likely], axis=2))
    chain = emjax.MarkovParams(np.array([2.0 / 3.0, 1.0 / 3.0]), np.array([[0.9, 0.1], [0.2, 0.8]]))
    stationary = emjax.HiddenMarkov(emjax.Poisson(), 2, initial_distribution="stationary")
    states = emjax.MixtureParams(chain, emjax.PoissonParams(np.array([2.0, 7.0])))
    rates = emjax.PoissonParams(np.array([1.5, 6.0]))
    mixture = emjax.Mixture
    return [
        Row("linear regressions", mixture(emjax.LinearRegression(), 2), _mixture([0.4, 0.6], lines), _covariate),
        Row("Gaussians, d = 2", mixture(emjax.Gaussian(), 2), _mixture([0.4, 0.6], planes), d=2),
        Row("Poisson mixture", mixture(emjax.Poisson(), 2), _mixture([0.35, 0.65], rates)),
        Row("Poisson hidden Markov", stationary, states),
        Row("latent classes, 5 items", mixture(emjax.Categorical((2,) * 5), 2), _mixture([0.6, 0.4], items), d=5),
    ]


def study(row: Row, sizes: tuple[int, ...], replicates: int, kinds: tuple[str, ...], seed: int = 1) -> Study:
    """All sizes and kinds of interval of one model."""
    return Study(
        scenarios=grid(rows=list(sizes)),
        generate=From(row.model, row.params, "rows", x=row.x, d=row.d),
        methods={kind: Method(row.model, start="truth", intervals=kind, certificate=False) for kind in kinds},
        replicates=replicates,
        seed=seed,
    )


def coverages(results: Results) -> dict[tuple[int, str], tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """By rows and kind of interval: every parameter's coverage, its Monte Carlo standard error, and how many fits."""
    table = results.performance(["coverage"])
    found: dict[tuple[int, str], Any] = {}
    for n in np.unique(table["rows"]):
        for kind in np.unique(table["method"]):
            at = (table["rows"] == n) & (table["method"] == kind) & (table["population"] == "valid")
            at &= table["measure"] == "coverage"
            one = [np.asarray(table[column][at], float) for column in ("estimate", "n_sim")]
            if len(one[0]):
                error = np.sqrt(0.95 * 0.05 / one[1])
                found[int(n), str(kind)] = (one[0], error, one[1])
    return found


def within(coverage: np.ndarray, error: np.ndarray) -> bool:
    """Every parameter's, and the mean over the parameters."""
    each = np.all(np.abs(100.0 * coverage - 95.0) <= EACH + 300.0 * error)
    return bool(each and abs(100.0 * np.mean(coverage) - 95.0) <= MEAN)


def measure(row: Row, sizes: tuple[int, ...], replicates: int, kinds: tuple[str, ...]) -> list[list[str]]:
    """The lines of one model."""
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        one = study(row, sizes, replicates, kinds)
        one.run(folder)
        found = coverages(one.results(folder))
    taken = time.perf_counter() - began
    lines = []
    for (n, kind), (coverage, error, count) in found.items():
        verdict = "" if n < CLAIMED and kind != "bootstrap" else "yes" if within(coverage, error) else "**no**"
        lines.append(
            [
                row.name, f"{n:,}", kind, str(len(coverage)), f"{100 * np.mean(coverage):.2f}",
                f"{100 * np.min(coverage):.1f}-{100 * np.max(coverage):.1f}", f"{100 * np.max(error):.2f}",
                f"{int(np.min(count))}", verdict, f"{taken:.0f}",
            ]
        )  # fmt: skip
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", metavar="TEXT", help="models whose name contains it")
    parser.add_argument("--replicates", type=int, default=2000)
    parser.add_argument("--bootstrap", action="store_true", help="the bootstrap, 500 datasets of two models")
    settings = parser.parse_args()
    print(timing.machine())
    header = ("model", "rows", "intervals", "parameters", "mean, %", "range, %", "MCSE of one, largest", "fits, fewest",
              "within", "s, all of the model")  # fmt: skip
    print(timing.table(header, []))
    for row in rows():
        if settings.only not in row.name or (settings.bootstrap and row.name not in BOOTSTRAPPED):
            continue
        if settings.bootstrap:
            lines = measure(row, (CLAIMED,), min(500, settings.replicates), ("bootstrap",))
        else:
            lines = measure(row, SIZES, settings.replicates, ("observed", "sandwich"))
        print("\n".join(timing.table(header, lines).splitlines()[2:]), flush=True)


if __name__ == "__main__":
    main()

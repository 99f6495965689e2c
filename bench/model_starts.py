"""How often one random start of the further models ends at the best known maximum, and whether a race gets there.

    python bench/model_starts.py [--only TEXT] [--starts 200]

Regressions with normal errors and Gaussian mixtures have their own table: bench/starts.py.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import emjax
from bench import models
from bench.starts import BEST_OF, SAME_MODE, wilson
from emjax import Data, Mixture
from tests import (
    test_known_categorical,
    test_known_counts,
    test_known_gating,
    test_known_hidden_markov,
    test_known_plsa,
    test_known_positive,
    test_known_student_t,
    test_known_zip,
)
from tests.references import factor_cases, gaussian_cases

KEY = 0
RACED = 40  # restarts of the race
DRAWN = (
    "one slope", "units of 4", "t regressions", "binomial regressions", "noise", "binomials", "mixed items",
    "log density", "switching", "gated Gaussian",
)  # fmt: skip


class Row(NamedTuple):
    """A model, its data, and the best log-likelihood known, nats; infinite where it is that of these starts."""

    name: str
    model: Any
    data: Data
    best: float


def _counts() -> Iterator[Row]:
    for name, case in test_known_counts.CASES.items():
        best = test_known_counts.HIGHER.get(name, case.log_likelihood)
        yield Row(name, test_known_counts.model_of(case), test_known_counts.data_of(case), best)


def _gating() -> Iterator[Row]:
    for k in (2, 3):
        model = Mixture(emjax.Binomial(), k, emjax.GatedWeights())
        best = test_known_gating.reference(k)["loglik"]
        yield Row(f"tribolium, gated, K{k}", model, test_known_gating.tribolium(), best)


def _classes() -> Iterator[Row]:
    for name, case in test_known_categorical.CASES.items():
        model, data = test_known_categorical.model_of(case), test_known_categorical.data_of(case)
        yield Row(name, model, data, case.log_likelihood)


def _chains() -> Iterator[Row]:
    for (case, k, initial), fit in test_known_hidden_markov.REFERENCES.items():
        model = emjax.HiddenMarkov(test_known_hidden_markov.family(case), k, initial)
        yield Row(f"{case}-K{k}-{initial}", model, Data(test_known_hidden_markov.response(case)), fit["loglik"])


def _positive() -> Iterator[Row]:
    folder = test_known_positive.FOLDER
    for name, (file, fit) in test_known_positive.CASES.items():
        model = Mixture(test_known_positive.family(fit)[0], fit["K"])
        yield Row(name, model, Data(np.loadtxt(folder / f"{file['case']}.csv", skiprows=1)), fit["loglik"])


def _heavy_tails() -> Iterator[Row]:
    for name, case in test_known_student_t.FITS.items():
        model = Mixture(emjax.StudentT(degrees=case["degrees"]), case["K"])
        yield Row(f"t, {name}", model, test_known_student_t.data_of(case), case["loglik"])


def _zeros() -> Iterator[Row]:
    for name, fit in test_known_zip.CASES.items():
        yield Row(f"zeros, {name}", *test_known_zip.problem(fit), fit["loglik"])


def _factors() -> Iterator[Row]:
    for case in factor_cases():
        yield Row(case.name, emjax.FactorAnalysis(case.n_factors), Data(case.y), case.log_likelihood)
    iris = next(case.y for case in factor_cases() if case.name == "fa_iris-q1")
    yield Row("iris, principal components q2", emjax.ProbabilisticPCA(2), Data(iris), np.inf)
    for kind in ("component", "common"):
        model = Mixture(emjax.FactorAnalyser(1, uniquenesses=kind), 2)
        yield Row(f"iris, analysers q1 K2, {kind}", model, Data(iris), np.inf)


def _others() -> Iterator[Row]:
    yield Row("Caithness, topics K2", emjax.PLSA(2), Data(test_known_plsa.CAITHNESS), -6528.583114)
    y = np.array(next(case.y for case in gaussian_cases() if case.name == "gmm_faithful-K2-VVV"))
    y[::7, 0], y[3::11, 1] = np.nan, np.nan
    yield Row("faithful with holes, K2", Mixture(emjax.MissingGaussian(), 2), Data(y), np.inf)


def _drawn() -> Iterator[Row]:
    """Models without a reference file of more than one component: the first data set of `bench/models.py`."""
    for row in models.rows():
        if any(text in row.name for text in DRAWN):
            data = row.make(np.random.default_rng(1), 1)
            one = Data(*(None if value is None else value[0] for value in data))
            yield Row(f"drawn: {row.name}", row.model, one, np.inf)


def rows() -> Iterator[Row]:
    """Every case of more than one component."""
    for group in (_counts, _gating, _classes, _chains, _positive, _heavy_tails, _zeros, _factors, _others, _drawn):
        yield from (row for row in group() if getattr(row.model, "n_components", 2) > 1)


def measure(row: Row, n: int) -> str:
    """The row's line: `n` default starts, each judged alone, and one race."""
    run = partial(emjax.fit, row.model, row.data, KEY, id=row.name, certificate=False, acceleration=None)
    fit = run(restarts=n)
    found = fit.restarts
    valid = np.isin(found.status, [emjax.Status.CONVERGED, emjax.Status.MAX_ITERATIONS])
    own = np.max(found.log_likelihood[valid], initial=-np.inf)
    best = own if np.isinf(row.best) else max(own, row.best)
    reached = valid & (found.log_likelihood > best - SAME_MODE)
    share, (low, high) = reached.mean(), wilson(int(reached.sum()), n)
    each = ", ".join(
        f"{name} {100 * reached[found.strategy == i].mean():.0f}" for i, name in enumerate(fit.settings.strategies)
    )
    raced = run(restarts=RACED, race=emjax.Race())
    short = best - raced.log_likelihood
    above = own - row.best if np.isfinite(row.best) and own > row.best + SAME_MODE else 0.0
    return (
        f"| {row.name} | {100 * share:.1f} | {100 * low:.1f}-{100 * high:.1f} "
        f"| {100 * (1 - (1 - share) ** BEST_OF):.1f} | {each} "
        f"| {100 * np.mean(found.status == emjax.Status.DEGENERATE):.0f} | {found.iterations.mean():.0f} "
        f"| {'yes' if short < SAME_MODE else f'{short:.3f} short'} | {f'{above:.3f}' if above else ''} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", metavar="TEXT", help="cases whose name contains it")
    parser.add_argument("--starts", type=int, default=200)
    settings = parser.parse_args()
    print(
        f"| case | one start, % | 95 % interval | best of {BEST_OF} | by strategy, % | collapsed, % | mean iterations "
        f"| a race of {RACED} reaches it | above the file's, nats |\n|---|---:|---:|---:|---|---:|---:|---|---:|"
    )
    for row in rows():
        if settings.only in row.name:
            print(measure(row, settings.starts), flush=True)


if __name__ == "__main__":
    main()

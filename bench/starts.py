"""How often one random start ends at the best known maximum of each reference case.

    python bench/starts.py [--only TEXT] [--starts 200] [--key 0] [--workers 1]

prints the Markdown table of bench/README.md.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import emjax
from emjax.inference.likelihood_ratio import wilson
from tests.references import GaussianReference, RegressionReference, gaussian_cases, regression_cases

STARTS = 200
BEST_OF = 10
SAME_MODE = 1e-3  # nats: a start that ends this close to the reference has reached it
SHORT = ("random-partition", "nearest", "elemental", "k-means++")

Reference = RegressionReference | GaussianReference


class Share(NamedTuple):
    """Of `n` starts of one case, how many ended at the reference or better, and how many of each strategy's did."""

    name: str
    reached: int
    n: int
    by_strategy: dict[str, tuple[int, int]]  # reached, of how many
    collapsed: int  # starts that ended DEGENERATE
    best: float  # highest log-likelihood of an interior end point
    mean_iterations: float
    common_scale: bool
    in_file: tuple[int, int] | None  # what the reference's own random starts did: reached, of how many

    @property
    def share(self) -> float:
        return self.reached / self.n


def problem(case: Reference) -> tuple[emjax.Mixture, emjax.Data, emjax.Degeneracy]:
    """The model, the data and the interior rule of a reference case."""
    if isinstance(case, RegressionReference):
        family: Any = emjax.LinearRegression(intercept=case.intercept, scale=case.scale)  # type: ignore[arg-type]
        data = emjax.Data(y=case.y, x=case.x)
    else:
        family, data = emjax.Gaussian(covariance=case.covariance), emjax.Data(y=case.y)
    return emjax.Mixture(family, case.K), data, emjax.Degeneracy.interior(min_rows=case.min_rows)


def common_scale(case: Reference) -> bool:
    """Whether all components share one scale; then the likelihood is bounded."""
    return case.scale == "common" if isinstance(case, RegressionReference) else case.covariance.startswith("tied")


def reached_in_file(case: Reference) -> tuple[int, int] | None:
    """How many of the reference file's own random starts ended at its reference; None where none were run."""
    if case.starts is None:
        return None
    at_reference = (m.count for m in case.starts.modes if abs(m.log_likelihood - case.log_likelihood) < SAME_MODE)
    return sum(at_reference), case.starts.n_runs


def measure(case: Reference, n: int = STARTS, key: int = 0) -> Share:
    """Run `n` default starts of one case; each is judged alone, without the certificate's second pass."""
    model, data, degeneracy = problem(case)
    # One key a case, whatever the other cases are.
    fit = emjax.fit(
        model, data, key, id=case.name, restarts=n, degeneracy=degeneracy, certificate=False, acceleration=None
    )
    landscape = fit.restarts
    valid = np.isin(landscape.status, [emjax.Status.CONVERGED, emjax.Status.MAX_ITERATIONS])
    reached = valid & (landscape.log_likelihood > case.log_likelihood - SAME_MODE)
    names = fit.settings.strategies
    by_strategy = {
        name: (int(reached[landscape.strategy == i].sum()), int((landscape.strategy == i).sum()))
        for i, name in enumerate(names)
    }
    return Share(
        name=case.name,
        reached=int(reached.sum()),
        n=n,
        by_strategy=by_strategy,
        collapsed=int((landscape.status == emjax.Status.DEGENERATE).sum()),
        best=float(np.max(landscape.log_likelihood[valid], initial=-np.inf)),
        mean_iterations=float(landscape.iterations.mean()),
        common_scale=common_scale(case),
        in_file=reached_in_file(case),
    )


def cases() -> list[Reference]:
    """Every reference case."""
    return [*regression_cases(), *gaussian_cases()]


def _row(found: Share) -> str:
    low, high = (float(end) for end in wilson(np.array(found.reached), found.n))
    best_of = 1 - (1 - found.share) ** BEST_OF
    each = " | ".join(_percent(*found.by_strategy[name]) if name in found.by_strategy else "" for name in SHORT)
    in_file = "" if found.in_file is None else _percent(*found.in_file)
    interval = f"{100 * low:.1f}-{100 * high:.1f}"
    return (
        f"| {found.name} | {100 * found.share:.1f} | {interval} | {100 * best_of:.1f} | {each} | {in_file} "
        f"| {100 * found.collapsed / found.n:.0f} | {found.mean_iterations:.0f} |"
    )


def _percent(reached: int, n: int) -> str:
    return f"{100 * reached / n:.0f}"


def table(shares: Iterator[Share]) -> Iterator[str]:
    """The Markdown table, line by line, in percent."""
    yield (
        f"| case | one start | 95 % interval | best of {BEST_OF} | {' | '.join(SHORT)} | the file's starts "
        "| collapsed | mean iterations |"
    )
    yield "|---" + "|---:" * (len(SHORT) + 6) + "|"
    yield from map(_row, shares)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="cases whose name contains this")
    parser.add_argument("--starts", type=int, default=STARTS)
    parser.add_argument("--key", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1, help="cases at a time")
    settings = parser.parse_args()
    chosen = [case for case in cases() if settings.only in case.name]
    run: Callable[[Reference], Share] = partial(measure, n=settings.starts, key=settings.key)
    with ThreadPoolExecutor(settings.workers) as pool:
        for line in table(pool.map(run, chosen)):
            print(line, flush=True)


if __name__ == "__main__":
    main()

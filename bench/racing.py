"""What racing restarts cost and what they lose: lane-steps, time, and how often the best optimum is reached.

    python bench/racing.py [--only TEXT] [--all] [--keys 20] [--restarts 20] [--iterations 50] [--keep 5] [--wider 4]

prints the Markdown table of bench/README.md: the multimodal reference cases, or with --all every one of two or more
components.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import emjax
from bench.starts import SAME_MODE, Reference, cases, problem
from emjax.base.status import ELIGIBLE
from emjax.engine import choice

MULTIMODAL = (  # some of the cases of which at most 40 % of 200 single starts reach the reference (bench/starts.py)
    "regmix_CO2data-K3-component",
    "regmix_CO2data-K3-common",
    "regmix_NPreg_quadratic-K3-component",
    "gmm_faithful-K4-VII",
    "gmm_faithful-K3-VVV",
    "gmm_faithful-K4-VVV",
    "gmm_faithful_eruptions-K3-V",
    "gmm_galaxies-K4-E",
    "gmm_galaxies-K4-V",
    "gmm_galaxies-K5-V",
    "gmm_galaxies-K6-V",
    "gmm_thyroid-K2-EEE",
    "gmm_thyroid-K3-VVV",
)


class Arm(NamedTuple):
    """One way to search: what each of the keys' fits reached, and what all of them took."""

    objective: np.ndarray  # (keys,), -inf where no restart could be chosen
    lane_steps: int
    alone: float  # share of the keys whose fit is SUSPECT because one restart alone reached it
    seconds: list[float]


class Comparison(NamedTuple):
    """One case: every restart to its end, the same raced, and a race of more restarts."""

    name: str
    reference: float  # log-likelihood of the best interior optimum that other software is known to find
    full: Arm
    raced: Arm
    wider: Arm

    def reached(self, arm: Arm) -> float:
        """Share of keys whose fit is at the reference or better."""
        return float(np.mean(arm.objective > self.reference - SAME_MODE))

    def lost(self, arm: Arm) -> float:
        """Share of keys whose fit is worse than without a race under the same key."""
        return float(np.mean(arm.objective < self.full.objective - SAME_MODE))


def compare(case: Reference, race: emjax.Race, n_keys: int, restarts: int, wider: int, repeats: int) -> Comparison:
    """Fit the case under `n_keys` keys in each way; the timed runs alternate, after one that compiles."""
    model, data, degeneracy = problem(case)
    names = [f"{case.name}-{i}" for i in range(n_keys)]  # a dataset's name is folded into its key

    def run(race: emjax.Race | None, restarts: int) -> tuple[emjax.Fits, float]:
        began = time.perf_counter()
        fits = emjax.fit_many(
            model, [data] * n_keys, 0, ids=names, restarts=restarts, race=race, degeneracy=degeneracy,
            certificate=False, threads=1, acceleration=None,
        )  # fmt: skip
        return fits, time.perf_counter() - began

    ways = ((None, restarts), (race, restarts), (race, wider * restarts))
    first = [run(*way)[0] for way in ways]
    seconds = [[run(*way)[1] for way in ways] for _ in range(repeats)]
    return Comparison(
        case.name, case.log_likelihood, *(_arm(fits, list(s)) for fits, s in zip(first, zip(*seconds), strict=True))
    )


def _arm(fits: emjax.Fits, seconds: list[float]) -> Arm:
    objective = np.where(np.isin(fits.status, ELIGIBLE), fits.objective, -np.inf)
    chosen = choice.choose(fits.restarts, fits.problems)
    alone = float(np.mean(choice.suspicion(fits.restarts, chosen) > 0))
    return Arm(objective, int(fits.restarts.iterations.sum()), alone, seconds)


def _row(found: Comparison) -> str:
    full, raced, wider = found.full, found.raced, found.wider
    n_keys = len(full.objective)
    reached = " | ".join(f"{100 * found.reached(arm):.0f}" for arm in (full, raced, wider))
    lost = " | ".join(f"{100 * found.lost(arm):.0f}" for arm in (raced, wider))
    steps = " | ".join(f"{arm.lane_steps / n_keys:,.0f}" for arm in (full, raced, wider))
    faster = np.array(full.seconds) / np.array(raced.seconds)
    return (
        f"| {found.name} | {reached} | {lost} | {steps} | {full.lane_steps / raced.lane_steps:.1f} "
        f"| {np.median(faster):.1f} ({faster.min():.1f}-{faster.max():.1f}) "
        f"| {100 * full.alone:.0f} | {100 * raced.alone:.0f} |"
    )


def table(found: Iterator[Comparison], restarts: int, wider: int) -> Iterator[str]:
    """The Markdown table, line by line; then the means."""
    races = f"raced | raced {wider * restarts}"
    yield (
        f"| case | reached: all {restarts} | {races} | lost: {races} | lane-steps: all {restarts} | {races} | ratio "
        "| times faster | alone: all | raced |"
    )
    yield "|---" + "|---:" * 12 + "|"
    kept = []
    for comparison in found:
        kept.append(comparison)
        yield _row(comparison)
    reached = [f"{100 * np.mean([c.reached(getattr(c, arm)) for c in kept]):.1f}" for arm in ("full", "raced", "wider")]
    ratio = np.exp(np.mean([np.log(c.full.lane_steps / c.raced.lane_steps) for c in kept]))
    more = np.exp(np.mean([np.log(c.full.lane_steps / c.wider.lane_steps) for c in kept]))
    lost = [f"{100 * np.mean([c.lost(getattr(c, arm)) for c in kept]):.1f}" for arm in ("raced", "wider")]
    yield (
        f"\nMeans over the {len(kept)} cases: reached {' / '.join(reached)} %, lost {' / '.join(lost)} %; geometric "
        f"mean of the ratios {ratio:.2f}, with {wider * restarts} restarts {more:.2f}."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="cases whose name contains this")
    parser.add_argument("--all", action="store_true", help="every case of two or more components")
    parser.add_argument("--keys", type=int, default=20)
    parser.add_argument("--restarts", type=int, default=20)
    parser.add_argument("--iterations", type=int, default=emjax.Race().iterations)
    parser.add_argument("--keep", type=int, default=emjax.Race().keep)
    parser.add_argument("--wider", type=int, default=4, help="the third way races this many times the restarts")
    parser.add_argument("--repeats", type=int, default=3, help="timed runs of each way")
    given = parser.parse_args()
    race = emjax.Race(given.iterations, given.keep)
    chosen = [
        case for case in cases() if (case.K > 1 if given.all else case.name in MULTIMODAL) and given.only in case.name
    ]
    if not chosen:
        raise SystemExit(f"no case's name contains {given.only!r}")
    found = (compare(case, race, given.keys, given.restarts, given.wider, given.repeats) for case in chosen)
    for line in table(found, given.restarts, given.wider):
        print(line, flush=True)


if __name__ == "__main__":
    main()

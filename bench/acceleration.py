"""What acceleration saves where EM is slow, and whether a lane ever pays for it.

    python bench/acceleration.py [--method auto] [--only TEXT] [--starts 100] [--tol 1e-8] [--key 0] [--rounds 5]

prints the Markdown table of bench/README.md and a verdict.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import emjax
from bench.starts import problem
from emjax import Status
from tests.references import gaussian_cases, regression_cases
from tests.references.counts import count_cases

REFERENCES = (
    "gmm_faithful-K2-EEE",
    "gmm_faithful_waiting-K2-E",
    "gmm_faithful_waiting-K3-E",
    "gmm_galaxies-K2-E",
    "regmix_faithful_reg-K2-component",
    "gmm_faithful-K3-VVV",
    "gmm_galaxies-K4-V",
)
SLOW = 200  # plain EM's mean number of maps from which a case counts as slow
MUST = 5.0  # times fewer maps on slow cases
SAME_MODE = 1e-3  # nats: end points this close are one optimum
TIGHT = emjax.Stop(tol=1e-12, max_iterations=200_000)

Lanes = tuple[emjax.Mixture, emjax.Data, emjax.Degeneracy]


class Outcome(NamedTuple):
    """Plain EM and SQUAREM from equal starts, one lane a dataset; the optimum is where tol 1e-12 leads from the end."""

    name: str
    plain: emjax.Fits
    fast: emjax.Fits
    plain_left: np.ndarray  # nats short of the optimum, NaN where a lane collapsed
    fast_left: np.ndarray
    shift: np.ndarray  # SQUAREM's optimum less plain EM's, NaN where either lane collapsed
    seconds: np.ndarray  # (rounds, 2)

    @property
    def ratio(self) -> float:
        return self.plain.iterations.mean() / self.fast.iterations.mean()


def lanes_of(name: str, count: int) -> Lanes:
    """A reference's data, or two lines that cross and are poorly separated (tests/test_work_efficiency.py)."""
    if name == DEATHS:
        case = next(case for case in count_cases() if (case.case, case.K) == ("glm_london_deaths", 2))
        y, weight = (np.repeat(np.asarray(a)[None], count, axis=0) for a in (case.y, case.weight))
        return emjax.Mixture(emjax.Poisson(), 2), emjax.Data(y=y, weight=weight), emjax.Degeneracy()
    if name in SIMULATED:
        rng = np.random.default_rng(5)
        x = rng.uniform(-1.0, 1.0, (count, 200, 1))
        first = rng.random((count, 200)) < 0.5
        noise = SIMULATED[name] * rng.standard_normal((count, 200))
        y = np.where(first, 1.0, -1.0) * (-0.6 + 0.6 * x[..., 0]) + noise
        return emjax.Mixture(emjax.LinearRegression(), 2), emjax.Data(y=y, x=x), emjax.Degeneracy()
    case = next(case for case in (*regression_cases(), *gaussian_cases()) if case.name == name)
    model, data, degeneracy = problem(case)
    y, x = (None if a is None else np.repeat(np.asarray(a)[None], count, axis=0) for a in (data.y, data.x))
    assert y is not None
    return model, emjax.Data(y=y, x=x), degeneracy


DEATHS = "Hasselblad's deaths, Poisson K2"
SIMULATED = {"lines, noise 0.7": 0.7, "lines, noise 1.0": 1.0}


def starts_of(lanes: Lanes, key: int) -> Any:
    """Each lane's start, by the model's strategies in turn: what one E-step of plain EM reports."""
    model, data, degeneracy = lanes
    run = partial(emjax.fit_many, model, data, key, restarts=1, degeneracy=degeneracy, certificate=False)
    found = [run(start=name, stop=emjax.Stop(max_iterations=1)).params for name in model.strategies]
    row = np.arange(len(data.y))
    return jax.tree.map(lambda *leaves: np.stack(leaves)[row % len(leaves), row], *found)


def _run(lanes: Lanes, start: Any, stop: emjax.Stop, method: str | None) -> emjax.Fits:
    model, data, degeneracy = lanes
    return emjax.fit_many(
        model, data, 0, start=start, stop=stop, degeneracy=degeneracy, certificate=False, threads=1, acceleration=method
    )


def _ended(fits: emjax.Fits) -> np.ndarray:
    return np.isin(fits.status, [Status.CONVERGED, Status.PRECISION_LIMIT, Status.MAX_ITERATIONS])


def measure(name: str, count: int, tol: float, key: int, rounds: int, method: str = "squarem") -> Outcome:
    """Both methods from equal starts, timed in turn after one run of each that compiles."""
    lanes = lanes_of(name, count)
    start = starts_of(lanes, key)
    stop = emjax.Stop(tol=tol, max_iterations=200_000)
    runs: list[Callable[[], emjax.Fits]] = [partial(_run, lanes, start, stop, m) for m in (None, method)]
    plain, fast = (run() for run in runs)
    seconds = np.zeros((rounds, 2))
    for turn in range(rounds):
        for which, run in enumerate(runs):
            began = time.perf_counter()
            run()
            seconds[turn, which] = time.perf_counter() - began
    tops = [_run(lanes, fits.params, TIGHT, None) for fits in (plain, fast)]
    optimum = [np.where(_ended(fits) & _ended(top), top.objective, np.nan) for fits, top in zip((plain, fast), tops)]
    left = [top - fits.objective for top, fits in zip(optimum, (plain, fast))]
    return Outcome(name, plain, fast, left[0], left[1], optimum[1] - optimum[0], seconds)


def _short(left: np.ndarray, tol: float) -> str:
    return f"{100 * np.mean(left[np.isfinite(left)] > tol):.1f}"


def _row(found: Outcome, tol: float) -> str:
    plain, fast = found.plain.iterations, found.fast.iterations
    clock = found.seconds[:, 0] / found.seconds[:, 1]
    step = (found.seconds[:, 1] / fast.sum()) / (found.seconds[:, 0] / plain.sum())
    up, down = (np.sum(sign * found.shift > SAME_MODE) for sign in (1, -1))
    collapsed = [int(np.sum(fits.status == Status.DEGENERATE)) for fits in (found.plain, found.fast)]
    return (
        f"| {found.name} | {plain.mean():.0f} | {np.median(plain):.0f} | {fast.mean():.0f} | {np.median(fast):.0f} "
        f"| {found.ratio:.1f} | {_short(found.plain_left, tol)} | {_short(found.fast_left, tol)} | {up} | {down} "
        f"| {collapsed[0]} | {collapsed[1]} | {np.median(clock):.1f} ({clock.min():.1f}-{clock.max():.1f}) "
        f"| {np.median(step):.2f} |"
    )


def table(outcomes: Iterator[Outcome], tol: float, method: str = "squarem") -> Iterator[tuple[Outcome | None, str]]:
    """The Markdown table, line by line, with what each line is about."""
    yield (
        None,
        f"| case | EM maps, mean | median | {method}'s maps, mean | median | ratio of means | EM short, % "
        f"| {method} short, % | up | down | EM collapsed | {method} collapsed | EM's time over {method}'s "
        "| time per lane-step, ratio |",
    )
    yield None, "|---" + "|---:" * 13 + "|"
    for found in outcomes:
        yield found, _row(found, tol)


def verdict(found: list[Outcome], tol: float, method: str = "squarem") -> str:
    """Whether it should be the default, by the figures alone."""
    slow = [o for o in found if o.plain.iterations.mean() >= SLOW]
    lanes = sum(len(o.shift) for o in found)
    up, down = (sum(int(np.sum(sign * o.shift > SAME_MODE)) for o in found) for sign in (1, -1))
    worse = sum(int(np.sum(o.fast.status == Status.DEGENERATE)) for o in found)
    before = sum(int(np.sum(o.plain.status == Status.DEGENERATE)) for o in found)
    short = [
        sum(int(np.nansum(left > tol)) for left in lefts)
        for lefts in zip(*((o.plain_left, o.fast_left) for o in found))
    ]
    reached = [o.name for o in slow if o.ratio >= MUST]
    faster = [o.name for o in found if np.median(o.seconds[:, 0] / o.seconds[:, 1]) > 1.0]
    # Two standard errors of a difference of counts: by chance alone it moves so much.
    no_worse = down - up <= 2 * np.sqrt(up + down) and worse - before <= 2 * np.sqrt(worse + before)
    good = no_worse and short[1] <= short[0] and len(faster) == len(found)
    return (
        f"Slow cases (mean of plain EM >= {SLOW} maps) with at most 1/{MUST:g} of the maps: {len(reached)} of "
        f"{len(slow)}. Faster by the clock: {len(faster)} of {len(found)} cases. Of {lanes} lanes {up} ended at "
        f"a better and {down} at a worse optimum; short of theirs by more than tol: EM {short[0]}, "
        f"{method} {short[1]}; collapsed: EM {before}, {method} {worse}."
        f"\nVerdict: by these cases {method if good else 'plain EM'} should be the default."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", choices=("auto", "squarem"), default="squarem", help="(default %(default)s)")
    parser.add_argument("--only", default="", help="cases whose name contains this")
    parser.add_argument("--starts", type=int, default=100, help="lanes a case")
    parser.add_argument("--tol", type=float, default=1e-8, help="nats")
    parser.add_argument("--key", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=5, help="timed runs of each method")
    given = parser.parse_args()
    names = [name for name in (*REFERENCES, DEATHS, *SIMULATED) if given.only in name]
    outcomes = (measure(name, given.starts, given.tol, given.key, given.rounds, given.method) for name in names)
    found = []
    for outcome, line in table(outcomes, given.tol, given.method):
        print(line, flush=True)
        if outcome is not None:
            found.append(outcome)
    print(f"\n{verdict(found, given.tol, given.method)}")


if __name__ == "__main__":
    main()

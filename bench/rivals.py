"""emjax against what is used today, each on the same data from the same starts.

    python bench/rivals.py [--only NAME] [--quick] [--rounds 3] [--python NAME=PATH]

R packages need Rscript; what is not installed is left out with the reason in one line. `--python gmm-gpu=PATH` runs a
Python rival in another interpreter, for those that cannot live beside emjax. `--only` takes a rival's name, or
`variants` for emjax's own settings, and may be given several times. `--quick` is a rehearsal on few datasets.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import emjax
from bench import _rival_problems as problems
from bench._rival_problems import Problem, Run, Unavailable
from bench._rival_runs import RIVALS, STEP_GAIN, Comparison, compare

DATASETS = {"regressions": 4000, "gaussians": 4000}
QUICK_DATASETS = 200
RESTARTS = 10
RACE = emjax.Race(iterations=10, keep=2)  # mean iterations of a start are 20 and 77 here
WITH_BOTH = {"flexmix": 300.0, "mixtools": 1500.0}  # times faster that acceleration and racing must be
VARIANTS = {
    "plain EM, one start": {},
    "with the default certificate": {"certificate": None},
    "acceleration": {"acceleration": "squarem"},
    f"plain EM, best of {RESTARTS}": {"restarts": RESTARTS},
    f"racing, best of {RESTARTS}": {"restarts": RESTARTS, "race": RACE},
    f"acceleration and racing, best of {RESTARTS}": {"restarts": RESTARTS, "race": RACE, "acceleration": "squarem"},
}


def spread(values: list[float]) -> str:
    """Median (smallest-largest), three digits."""
    median, low, high = (_digits(v) for v in (statistics.median(values), min(values), max(values)))
    return f"{median} ({low}-{high})"


def _digits(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def table(header: tuple[str, ...], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [list(header), ["---"] + ["---:"] * (len(header) - 1), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


COLUMNS = (
    "rival", "datasets", "its fits/s", "emjax fits/s", "times faster", "must", "an iteration", "both on one core",
    "against two cores", "mean iterations, emjax / rival",
    "rival short of the optimum: median, max (nats)", "largest difference (nats)",
    "elsewhere: above, below", "no fit",
)  # fmt: skip


def ratios(slow: list[float], fast: list[float]) -> list[float]:
    """How many times as long, round by round."""
    return [a / b for a, b in zip(slow, fast, strict=True)]


def row(found: Comparison) -> list[str]:
    """One rival's line of the table."""
    rival, times, agreed = found.rival, found.seconds, found.agreement
    must, faster = "", ratios(times["rival"], times["emjax"])
    if rival.must is not None:
        must = f"{rival.must:g}: {'yes' if statistics.median(faster) >= rival.must else '**no**'}"
    own, its = found.iterations
    one = two = ""
    if "emjax, one core" in times:
        one = spread(ratios(times["rival"], times["emjax, one core"]))
        two = spread(ratios(times["rival, two cores"], times["emjax"]))
    return [
        f"{rival.name} {found.version}",
        str(found.datasets),
        spread([1 / t for t in times["rival"]]),
        spread([1 / t for t in times["emjax"]]),
        spread(faster),
        must,
        spread([f * own / its for f in faster]),
        one,
        two,
        f"{own:.1f} / {its:.1f}",
        f"{agreed.shortfall[0]:.1e}, {agreed.shortfall[1]:.1e}",
        f"{agreed.difference:.1e}",
        f"{agreed.above}, {agreed.below}",
        str(agreed.missing),
    ]


def variants(problem: Problem, rounds: int) -> tuple[dict[str, list[float]], list[list[str]]]:
    """Seconds a dataset of emjax's own settings, in turn, and their lines of the table."""
    runs: dict[str, Callable[[], Run]] = {
        name: lambda settings=settings: problems.emjax_run(problem, **settings) for name, settings in VARIANTS.items()
    }
    ended = {name: run().reported for name, run in runs.items()}  # compiles
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(rounds):
        for name in list(runs) if turn % 2 == 0 else reversed(runs):
            taken[name].append(runs[name]().seconds / len(problem.y))
    plain = {False: next(iter(runs)), True: f"plain EM, best of {RESTARTS}"}
    lines = []
    for name, settings in VARIANTS.items():
        gap = np.asarray(ended[name]) - np.asarray(ended[plain["restarts" in settings]])
        lines.append([
            name,
            spread([1 / t for t in taken[name]]),
            spread(ratios(taken[plain["restarts" in settings]], taken[name])),
            f"{np.sum(gap > 1e-3)}, {np.sum(gap < -1e-3)}",
        ])  # fmt: skip
    return taken, lines


def with_both(comparisons: list[Comparison], taken: dict[str, list[float]]) -> list[str]:
    """The claim on acceleration and racing: best of ten starts, for which a rival needs ten times its one start."""
    both = taken[f"acceleration and racing, best of {RESTARTS}"]
    lines = []
    for found in comparisons:
        if found.rival.name in WITH_BOTH:
            must = WITH_BOTH[found.rival.name]
            faster = RESTARTS * statistics.median(found.seconds["rival"]) / statistics.median(both)
            verdict = "yes" if faster >= must else "**no**"
            lines.append(
                f"Best of {RESTARTS} starts with acceleration and racing against {RESTARTS} single fits of "
                f"{found.rival.name}: {_digits(faster)} times faster; must be {must:g}: {verdict}."
            )
    return lines


def machine() -> str:
    """One line: cores, system, versions, load."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    import jax

    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return f"{cores} cores, {platform.system()}, Python {platform.python_version()}, jax {jax.__version__}{load}"


def on_one_problem(name: str, only: list[str], quick: bool, rounds: int, pythons: dict[str, str]) -> None:
    """All rivals of one problem, then emjax's own settings; prints as it goes."""
    chosen = [rival for rival in RIVALS if rival.problem == name and (not only or rival.name in only)]
    if not chosen and only and "variants" not in only:
        return
    problem = getattr(problems, name)(QUICK_DATASETS if quick else DATASETS[name])
    size = "x".join(map(str, problem.y.shape[1:]))
    print(f"\n## {name}: {len(problem.y)} datasets of {size}, {problem.model.n_components} components\n", flush=True)
    comparisons = []
    for rival in chosen:
        print(f"{rival.name}: {rival.quirks}.", flush=True)
        try:
            found = compare(rival, problem, quick, rounds, pythons.get(rival.name))
        except Unavailable as reason:
            print(f"{rival.name} left out: {reason}.", flush=True)
            continue
        comparisons.append(found)
        for note in found.notes:
            print(f"{rival.name}: {note}.", flush=True)
    if comparisons:
        print("\n" + table(COLUMNS, [row(found) for found in comparisons]), flush=True)
    if not only or "variants" in only:
        taken, lines = variants(problem, rounds)
        header = ("emjax", "datasets/s", "times plain EM", "optimum above, below plain EM's by 1e-3 nats")
        print("\n" + table(header, lines), flush=True)
        print("\n" + "\n".join(with_both(comparisons, taken)) if name == "regressions" else "", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [rival.name for rival in RIVALS]
    parser.add_argument("--only", action="append", default=[], choices=[*names, "variants"], metavar="NAME")
    parser.add_argument("--quick", action="store_true", help="few datasets, one round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--python", action="append", default=[], metavar="NAME=PATH", help="another interpreter")
    settings = parser.parse_args()
    pythons = dict(given.partition("=")[::2] for given in settings.python)
    unknown = set(pythons) - {rival.name for rival in RIVALS if rival.module}
    if unknown:
        parser.error(f"--python: {', '.join(sorted(unknown))} is no Python rival: {', '.join(names)}")
    print(machine())
    print(f"emjax stops at tol 1e-6 nats left, rivals when a step gains less than {STEP_GAIN:g} nats (flexmix 1e-5).")
    for name in DATASETS:
        on_one_problem(name, settings.only, settings.quick, 1 if settings.quick else settings.rounds, pythons)


if __name__ == "__main__":
    main()

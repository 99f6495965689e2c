"""A study's time and memory against its replicates: `python bench/studies.py [--replicates 1000]`.

Claim: ten times the replicates take at most 11 times the time, after compilation, and 1.15 times the memory. The study
is two lines, n = 200, fitted from the truth with 95 % intervals; each line is one process, which runs the fewer
replicates first, under another seed, so that all is compiled.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench import coverage, timing
from bench._resident import forget, resident
from emjax.studies import Study

N_ROWS = 200
MOST_TIME, MOST_MEMORY = 11.0, 1.15


def study(replicates: int, seed: int) -> Study:
    """Two lines, as in the coverage."""
    return coverage.study(coverage.rows()[0], (N_ROWS,), replicates, ("observed",), seed)


def one(replicates: int, before: int) -> None:
    """After a study of `before` replicates: seconds of one of `replicates`, results included, and its most bytes."""
    with tempfile.TemporaryDirectory() as folder:
        first = study(before, seed=1)
        first.run(Path(folder, "first"))
        first.results(Path(folder, "first")).performance()
        forget()
        began = time.perf_counter()
        second = study(replicates, seed=2)
        second.run(Path(folder, "second"))
        second.results(Path(folder, "second")).performance()
        print(time.perf_counter() - began, resident("VmHWM"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replicates", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        one(given.one, given.replicates)
        return
    print(timing.machine())
    sizes = (given.replicates, 10 * given.replicates)
    found: dict[int, list[tuple[float, float]]] = {size: [] for size in sizes}
    for turn in range(given.rounds):
        for size in sizes if turn % 2 == 0 else sizes[::-1]:
            command = [sys.executable, __file__, "--replicates", str(sizes[0]), "--one", str(size)]
            said = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.split()
            found[size].append((float(said[0]), float(said[1])))
    lines = []
    for size in sizes:
        seconds, peak = zip(*found[size], strict=True)
        mib = timing.spread(peak).text(scale=2.0**-20)
        lines.append([f"{size:,}", timing.spread(seconds).text(), mib])
    print(timing.table(("replicates", "seconds", "at most, MiB"), lines))
    few, many = (list(zip(*found[size], strict=True)) for size in sizes)
    ratios = [timing.ratio(many[i], few[i]) for i in range(2)]
    claims = [
        timing.Claim(f"ten times the replicates: at most {most:g} times {what}", ratio.text(), ratio.median <= most)
        for what, most, ratio in zip(("the time", "the memory"), (MOST_TIME, MOST_MEMORY), ratios, strict=True)
    ]
    print("\n" + timing.claims(claims))


if __name__ == "__main__":
    main()

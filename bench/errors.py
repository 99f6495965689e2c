"""Standard errors of many fits: their time beside that of the fits, and their memory against the number of fits.

    python bench/errors.py time [--fits 10000] [--rows 200] [--rounds 3] [--only TEXT]
    python bench/errors.py memory

time : claim: they cost less than the fits themselves, ten restarts each. Fits and standard errors take turns, compiled
before. memory : claim: beside what they return, and the padded copy of the data that every call of emjax makes, what
standard errors hold is bounded by the chunk and not by the number of fits; each line is one process, whose fits have 15
parameters (five Gaussians in one dimension).
"""

from __future__ import annotations

import argparse
import gc
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import emjax
from bench import timing
from bench._resident import forget, resident
from bench.coverage import Row, rows
from emjax.engine.datasets import bucket
from emjax.inference.information import KINDS
from emjax.studies import From
from emjax.studies.simulating import draw

RESTARTS = 10
FITS = (10_000, 50_000, 100_000, 200_000)
MOST = 1.15  # what the most fits hold over what a fourth of them do, beyond data and results


def simulated(row: Row, n_fits: int, n_rows: int) -> emjax.Data:
    """Datasets (D, n, ...) from the row's parameters."""
    generate = From(row.model, row.params, n_rows, x=row.x, d=row.d)
    return draw(generate, {}, np.array([0, 3], np.uint32), np.arange(n_fits)).data


def beside_fits(row: Row, n_fits: int, n_rows: int, rounds: int) -> list[str]:
    """One line of the table: seconds of the fits, and of each kind of standard error as a share of them."""
    data = simulated(row, n_fits, n_rows)
    fits = emjax.fit_many(row.model, data, 0, restarts=RESTARTS)
    runs: dict[str, Any] = {"fits": lambda: emjax.fit_many(row.model, data, 0, restarts=RESTARTS)}
    for kind in KINDS:
        runs[kind] = lambda kind=kind: emjax.standard_errors(fits, kind)
        runs[kind]()  # compiles
    taken = timing.alternate(runs, rounds=rounds, warm=0)
    shares = [timing.ratio(taken[kind], taken["fits"]) for kind in KINDS]
    seconds = [timing.spread(taken[name]).text() for name in ("fits", "observed")]
    reached = "yes" if max(share.median for share in shares) < 1 else "**no**"
    return [row.name, *seconds, *(share.text() for share in shares), reached]


def held(n_fits: int) -> None:
    """Print bytes: before the standard errors of `n_fits` fits, at most meanwhile, returned, data; seconds; known."""
    rng = np.random.default_rng(4)
    centres = np.array([-6.0, -3.0, 0.0, 3.0, 6.0])
    y = rng.choice(centres, (n_fits, 100)) + 0.5 * rng.standard_normal((n_fits, 100))
    start = emjax.MixtureParams(
        emjax.WeightsParams(np.full(5, 0.2)), emjax.GaussianParams(centres[:, None], np.full((5, 1, 1), 0.25))
    )
    fits = emjax.fit_many(emjax.Mixture(emjax.Gaussian("V"), 5), emjax.Data(y), 0, start=start, certificate=False)
    gc.collect()
    forget()
    before, began = resident("VmRSS"), time.perf_counter()
    errors = emjax.standard_errors(fits)
    seconds = time.perf_counter() - began
    returned = sum(np.asarray(leaf).nbytes for leaf in jax.tree.leaves((errors.se, errors.reason)))
    known = np.mean(np.concatenate([np.isfinite(leaf).ravel() for leaf in jax.tree.leaves(errors.se)]))
    copied = n_fits * bucket(y.shape[1]) * y.itemsize
    print(before, resident("VmHWM"), returned, copied, seconds, known)


def memory() -> None:
    """A process for each number of fits."""
    lines, beyond = [], {}
    for n_fits in FITS:
        command = [sys.executable, __file__, "--one", str(n_fits)]
        said = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.split()
        before, most, returned, copied, seconds, known = map(float, said)
        beyond[n_fits] = most - before - returned - copied
        mib = [f"{value / 2**20:,.0f}" for value in (before, most, returned, copied, beyond[n_fits])]
        lines.append([f"{n_fits:,}", *mib, f"{seconds:.1f}", f"{100 * known:.2f}"])
    header = ("fits", "before, MiB", "at most", "returned", "data, padded", "the rest", "seconds", "known, %")
    print(timing.table(header, lines))
    growth = beyond[200_000] / beyond[50_000]
    print(f"\nFour times the fits hold {growth:.2f} times as much: {'yes' if growth <= MOST else 'NO'}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", default="time", choices=("time", "memory"))
    parser.add_argument("--fits", type=int, default=10_000)
    parser.add_argument("--rows", type=int, default=200, help="of a dataset (time)")
    parser.add_argument("--rounds", type=int, default=3, help="timed runs of each (time)")
    parser.add_argument("--only", default="", metavar="TEXT", help="models whose name contains it (time)")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        held(given.one)
    elif given.what == "memory":
        memory()
    else:
        print(timing.machine())
        kinds = (f"{kind} / fits" for kind in KINDS)
        header = ("model", "fits, s", "observed, s", *kinds, "all cost less")
        print(timing.table(header, []))
        for row in rows():
            if given.only in row.name:
                line = beside_fits(row, given.fits, given.rows, given.rounds)
                print(timing.table(header, [line]).splitlines()[-1], flush=True)


if __name__ == "__main__":
    main()

"""The bootstrap likelihood-ratio test: its level under one component, and its time beside mclust's.

    python bench/bootstrap.py level [--datasets 1000] [--n 100] [--replicates 99] [--restarts 5] [--covariance V]
    python bench/bootstrap.py mclust [--replicates 999] [--restarts 10] [--covariance V] [--repeats 3]

level : one component is true; claim: p <= .05 in 3 to 7 % of 1,000 datasets. Restarts are raced.
mclust : one component against two for the 272 waiting times of Old Faithful, beside mclustBootstrapLRT(maxG = 1), which
starts each fit once, from a hierarchical clustering. emjax is timed after a first run that compiles.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import emjax
from bench import _r_rivals
from bench._rival_problems import Unavailable
from emjax.inference.likelihood_ratio import FAILED, LikelihoodRatioTest, counts, wilson
from tests.references import gaussian_cases

RACE = emjax.Race(iterations=20, keep=2)  # of five restarts Race() would keep all
AT_ONCE = 100  # datasets a call

# mclust's test stops at the first K that is not rejected; its statistics and p are those of K = 1 against 2.
R_PROGRAM = """
suppressMessages(library(mclust))
given <- commandArgs(TRUE)
y <- scan(given[1], quiet = TRUE)
set.seed(1)
seconds <- system.time(found <- mclustBootstrapLRT(y, modelName = given[2], nboot = as.integer(given[3]), maxG = 1,
                                                   verbose = FALSE))[["elapsed"]]
cat(format(c(seconds, found$obs[1], found$p.value[1]), digits = 15), sep = "\\n")
"""


def level(n_datasets: int, n: int, replicates: int, restarts: int, covariance: str, key: int) -> None:
    """The share of datasets of one component in which it is rejected at 5 %, by either rule for failed replicates."""
    model = emjax.Mixture(emjax.Gaussian(covariance), 1)
    y = np.random.default_rng(key).normal(size=(n_datasets, n))
    rejected = dict.fromkeys(FAILED, 0)
    tested = failed = 0
    began = time.perf_counter()
    for first in range(0, n_datasets, AT_ONCE):
        part = y[first : first + AT_ONCE]
        found = emjax.likelihood_ratio_test(
            model, emjax.Data(part), key, replicates=replicates, restarts=restarts, race=RACE,
            ids=range(first, first + len(part)),
        )  # fmt: skip
        for rule in FAILED:
            rejected[rule] += int(np.sum(counts(found.statistic, found.replicates, rule).p <= 0.05))
        tested += int(np.sum(np.isfinite(found.p)))
        failed += int(np.sum(found.failed))
    print(
        f"model {covariance}, n = {n}: {tested} datasets of {n_datasets} tested, {failed / (tested * replicates):.2%} "
        f"of their replicates without a valid optimum; {time.perf_counter() - began:.0f} s"
    )
    for rule in FAILED:
        low, high = (100 * float(end) for end in wilson(np.array(rejected[rule]), tested))
        share = 100 * rejected[rule] / tested
        print(f"failed={rule!r}: p <= .05 in {share:.1f} % (95 % Monte Carlo interval {low:.1f}-{high:.1f}, Wilson)")


def waiting_times() -> np.ndarray:
    """faithful$waiting, (272,)."""
    return next(case.y for case in gaussian_cases() if case.name == "gmm_faithful_waiting-K2-E").reshape(-1)


def by_emjax(replicates: int, restarts: int, covariance: str) -> tuple[float, LikelihoodRatioTest]:
    """Seconds and the test."""
    began = time.perf_counter()
    model = emjax.Mixture(emjax.Gaussian(covariance), 1)
    found = emjax.likelihood_ratio_test(
        model, [emjax.Data(waiting_times())], 0, replicates=replicates, restarts=restarts
    )
    return time.perf_counter() - began, found


def by_mclust(replicates: int, covariance: str) -> tuple[float, float, float]:
    """Seconds by R's clock, observed statistic, p. Errors: `Unavailable` where R or mclust fails."""
    _r_rivals.version("mclust")
    text = "\n".join(map(repr, waiting_times().tolist()))
    command = ["Rscript", "--vanilla", "-e", R_PROGRAM, "stdin", covariance, str(replicates)]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Unavailable(f"fails: {done.stderr.strip()[-300:]}")
    seconds, statistic, p = map(float, done.stdout.split())
    return seconds, statistic, p


def beside_mclust(replicates: int, restarts: int, covariance: str, repeats: int) -> None:
    """Both tests of the same data, taking turns."""
    first, _ = by_emjax(replicates, restarts, covariance)
    print(f"emjax's first run, compilation included: {first:.2f} s", flush=True)
    mine: list[float] = []
    theirs: list[float] = []
    for _ in range(repeats):
        seconds, found = by_emjax(replicates, restarts, covariance)
        mine.append(seconds)
        r_seconds, statistic, p = by_mclust(replicates, covariance)
        theirs.append(r_seconds)
        print(
            f"emjax {seconds:.2f} s (statistic {found.statistic[0]:.4f}, p {found.p[0]:.4f}, {int(found.failed[0])} "
            f"failed); mclust {r_seconds:.2f} s (statistic {statistic:.4f}, p {p:.4f})",
            flush=True,
        )
    ours, rs = np.median(mine), np.median(theirs)
    print(
        f"{replicates} replicates, {restarts} restarts, model {covariance}, mclust {_r_rivals.version('mclust')}: "
        f"emjax {ours:.2f} s, mclust {rs:.2f} s, ratio {rs / ours:.1f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("level", "mclust"))
    parser.add_argument("--datasets", type=int, default=1000)
    parser.add_argument("--n", type=int, default=100, help="rows of a dataset (level)")
    parser.add_argument("--replicates", type=int, help="99 for level, 999 for mclust")
    parser.add_argument("--restarts", type=int, help="5 for level, 10 for mclust")
    parser.add_argument("--covariance", default="V", choices=("V", "E"))
    parser.add_argument("--repeats", type=int, default=3, help="timed runs of each (mclust)")
    parser.add_argument("--key", type=int, default=0)
    given = parser.parse_args()
    if given.what == "level":
        level(given.datasets, given.n, given.replicates or 99, given.restarts or 5, given.covariance, given.key)
    else:
        beside_mclust(given.replicates or 999, given.restarts or 10, given.covariance, given.repeats)


if __name__ == "__main__":
    main()

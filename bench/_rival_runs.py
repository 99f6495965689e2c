"""One rival against emjax: how it is run, in turn with emjax, and what comes out."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench import _python_rivals, _r_rivals
from bench._rival_problems import EXACT, Problem, Run, Unavailable, emjax_run, log_likelihood

ELSEWHERE = 0.01  # nats: a fit that ends further off than this is at another optimum
STEP_GAIN = 1e-7  # nats: rivals stop when a step gains less; about as far from the optimum as emjax's tol of 1e-6


class Rival(NamedTuple):
    """A rival: the problem that it fits, how many of its datasets (whole run, --quick), the cores that it uses."""

    name: str
    problem: str
    datasets: tuple[int, int]
    cores: int
    must: float | None  # times faster that emjax must be, plain EM
    quirks: str
    module: str | None = None  # of a Python rival; None for R
    why_not_beside: str = ""  # why it cannot live beside emjax
    step_gain: float = STEP_GAIN


RIVALS = (
    Rival("mixtools", "regressions", (200, 20), 1, 700.0,
          "loops over rows in R and refits by lm; a fall by rounding makes it start again at random"),
    Rival("flexmix", "regressions", (400, 40), 1, 150.0,
          "sigma is bias-corrected, so the likelihood is not maximised; returns weights one step ahead of its "
          "coefficients; its limit is no maximum, where the likelihood's steps shrink late, so it stops at a gain of "
          "1e-5 nats, after as many iterations as the others and no further from its limit; drops components below "
          "minprior (here 0)", step_gain=1e-5),
    Rival("numba", "regressions", (4000, 1000), 2, None,
          "a loop of one's own with fastmath: one covariate, no collapse rule, nothing said of bad data", "numba"),
    Rival("scikit-learn", "gaussians", (400, 40), 2, 50.0,
          "lower_bound_ is that of the parameters before; tol is on the mean over rows; reg_covar set to "
          "0, where it raises when a component collapses", "sklearn"),
    Rival("StepMix", "gaussians", (200, 20), 2, None,
          "takes no start (a subclass here gives it one); lower_bound_ is that of the parameters before; reg_covar "
          "set to 0", "stepmix"),
    Rival("gmmx", "gaussians", (200, 20), 2, None,
          "float32 alone, which cannot resolve the tolerance: given as many iterations as emjax's slowest fit took, as "
          "every dataset under vmap waits for the slowest; log-likelihood of the parameters before; NaN counts as "
          "converged", "gmmx"),
    Rival("gmm-gpu", "gaussians", (300, 20), 2, 5.0,
          "fails in float64 as shipped: its k-means, run though a start is given, is left out by a subclass; reg_covar "
          "is accepted and not used", "gmm_gpu", "it needs numpy below 2"),
    Rival("mclust", "gaussians", (400, 40), 1, 10.0,
          "`me` in Fortran, model VVV, from the start's responsibilities; stops by a relative gain"),
)  # fmt: skip


class Agreement(NamedTuple):
    """Log-likelihoods of a rival, all by emjax's function, nats.

    shortfall (median, maximum) : below the reference, emjax at a tolerance of 1e-11 from the same starts, over the
    datasets where the rival is at emjax's optimum. difference : largest |rival - emjax| of those. above, below : how
    many ended at another optimum. missing : how many have no log-likelihood.
    """

    shortfall: tuple[float, float]
    difference: float
    above: int
    below: int
    missing: int


class Comparison(NamedTuple):
    """Seconds a fit, round by round, and where both ended."""

    rival: Rival
    version: str
    datasets: int
    seconds: dict[str, list[float]]  # "emjax", "rival"; for R also "emjax, one core", "rival, two cores"
    iterations: tuple[float, float]  # means, emjax and the rival
    agreement: Agreement
    notes: list[str]


def agreement(reference: np.ndarray, ours: np.ndarray, theirs: np.ndarray) -> Agreement:
    """Compare log-likelihoods (D,), dataset by dataset."""
    known = np.isfinite(theirs) & np.isfinite(ours) & np.isfinite(reference)
    gap = np.where(known, theirs - ours, 0.0)
    same = known & (np.abs(gap) <= ELSEWHERE)
    above, below = int(np.sum(gap > ELSEWHERE)), int(np.sum(gap < -ELSEWHERE))
    missing = int(np.sum(~known))
    if not same.any():
        return Agreement((np.nan, np.nan), np.nan, above, below, missing)
    short = (reference - theirs)[same]
    difference = float(np.max(np.abs(gap[same])))
    return Agreement((float(np.median(short)), float(np.max(short))), difference, above, below, missing)


class Contender(NamedTuple):
    """A rival ready to run: once, and for an R package also on two cores."""

    version: str
    run: Callable[[], Run]
    two_cores: Callable[[], Run] | None = None


def contender(rival: Rival, part: Problem, slowest: int, typical: float, python: str | None) -> Contender:
    """Make a rival ready for the datasets; raises `Unavailable`.

    slowest : iterations of emjax's slowest fit. typical : a typical log-likelihood, for tolerances relative to it.
    python : the interpreter of a rival that cannot live beside emjax.
    """
    given = {"y": part.y, **part.start, "responsibilities": part.responsibilities}
    if part.x is not None:
        given["x"] = part.x
    if rival.module is None:
        arguments = (rival.name, given, part.start, rival.step_gain, typical)
        return Contender(
            _r_rivals.version(rival.name), lambda: _r_rivals.run(*arguments), lambda: _r_rivals.run(*arguments, cores=2)
        )
    given["slowest"] = np.array(slowest)
    if python is not None:
        return _elsewhere(rival, given, part.start, python)
    if importlib.util.find_spec(rival.module) is None:
        beside = f" ({rival.why_not_beside}): give --python {rival.name}=PATH" if rival.why_not_beside else ""
        raise Unavailable(f"not installed here{beside}")
    ready = _python_rivals.RIVALS[rival.name](given, rival.step_gain)
    return Contender(version(rival.name), lambda: Run(*ready()))


def _elsewhere(rival: Rival, given: dict[str, np.ndarray], start: dict[str, np.ndarray], python: str) -> Contender:
    """A rival in another interpreter, a process a run; it times itself."""

    def ask(*command: str) -> str:
        done = subprocess.run([python, *command], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise Unavailable(f"fails under {python}: {done.stderr.strip().splitlines()[-1]}")
        return done.stdout.strip()

    def run() -> Run:
        with tempfile.TemporaryDirectory() as folder:
            source, target = (str(Path(folder) / name) for name in ("problem.npz", "result.npz"))
            np.savez(source, step_gain=rival.step_gain, **given)
            ask(_python_rivals.__file__, rival.name, source, target)
            with np.load(target) as file:
                return Run(float(file["seconds"]), {name: file[name] for name in start}, file["iterations"])

    return Contender(ask("-c", f"from importlib.metadata import version; print(version({rival.name!r}))"), run)


def in_turn(runs: dict[str, Callable[[], tuple[Run, int]]], rounds: int) -> tuple[dict[str, list[float]], Run]:
    """Seconds a fit of each, in turn, every second round backwards, and the last run of "rival"."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    last: dict[str, Run] = {}
    for turn in range(rounds):
        for name in list(runs) if turn % 2 == 0 else reversed(runs):
            last[name], count = runs[name]()
            seconds[name].append(last[name].seconds / count)
    return seconds, last["rival"]


def compare(rival: Rival, problem: Problem, quick: bool, rounds: int, python: str | None) -> Comparison:
    """Run a rival and emjax in turn and compare their fits; raises `Unavailable`.

    emjax fits all the problem's datasets, the rival as many of them as it can in reasonable time: times are per fit.
    """
    count = min(rival.datasets[quick], len(problem.y))
    part = problem.first(count)
    reference = log_likelihood(part, emjax_run(part, stop=EXACT).params)
    ours = emjax_run(part)
    ready = contender(rival, part, int(np.max(ours.iterations)), float(np.nanmedian(reference)), python)
    runs: dict[str, Callable[[], tuple[Run, int]]] = {
        "emjax": lambda: (emjax_run(problem), len(problem.y)),
        "rival": lambda: (ready.run(), count),
    }
    two_cores = ready.two_cores
    if two_cores is not None:
        runs["emjax, one core"] = lambda: (emjax_run(problem, threads=1), len(problem.y))
        runs["rival, two cores"] = lambda: (two_cores(), count)
    for name in runs:
        if name.startswith("emjax"):
            runs[name]()  # compiles
    seconds, theirs = in_turn(runs, rounds)
    own, found = (log_likelihood(part, run.params) for run in (ours, theirs))
    iterations = float(np.mean(ours.iterations)), float(np.nanmean(theirs.iterations))
    notes = _notes(rival, part, reference, own, found, theirs)
    return Comparison(rival, ready.version, count, seconds, iterations, agreement(reference, own, found), notes)


def _notes(rival: Rival, part: Problem, reference: np.ndarray, own: np.ndarray, found: np.ndarray, theirs: Run) -> list:
    """What a package reports of its own fits, and flexmix without its correction."""
    notes = []
    if theirs.reported is not None:
        off = np.nanmax(np.abs(theirs.reported - found))
        notes.append(f"its own log-likelihood differs from emjax's at its parameters by {off:.1e} nats at most")
    if np.isnan(theirs.iterations).any():
        notes.append(f"{np.isnan(theirs.iterations).sum()} fits failed or were started again at random")
    if rival.name == "flexmix":
        n, p = part.y.shape[1], part.start["coefficients"].shape[2]
        undone = {**theirs.params, "scale": theirs.params["scale"] * np.sqrt((n - p) / n)}
        short = agreement(reference, own, log_likelihood(part, undone)).shortfall
        notes.append(f"with sigma times sqrt((n - p) / n) it is {short[0]:.1e} (at most {short[1]:.1e}) nats short")
    return notes

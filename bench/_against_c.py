"""Parts a and b of bench/cpu.py: emjax against the hand-written C of bench/yardstick.c."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np

import emjax
from bench import _batches, _yardstick, timing
from bench._batches import Batch
from bench._scheduling import measured
from bench.timing import Claim

SAME = 1e-6  # nats: lanes further apart than the tolerance ended at different optima
ELSEWHERE = 0.01  # more lanes than this at another optimum: not the same work
ROUNDS = 7
WHO = ("emjax", "C")
CORES = {"all": None, "one": 1}  # threads


class Agreement(NamedTuple):
    """Lane by lane, or dataset by dataset: what two programs found."""

    difference: float  # largest, in nats, where both ended at one optimum
    higher: int  # how often emjax ended at a higher optimum
    lower: int
    iterations: int  # how often the iteration counts differ
    status: int

    def text(self) -> str:
        return (
            f"max difference {self.difference:.1e} nats, other optimum {self.higher} up and {self.lower} down, "
            f"iteration counts differ in {self.iterations} lanes, statuses in {self.status}"
        )


def agreement(fits: emjax.Fits, found: _yardstick.CFits) -> Agreement:
    """What emjax found against what the C program found, lanes in the same order."""
    gap = fits.log_likelihood - found.log_likelihood
    same = np.abs(gap) <= SAME
    return Agreement(
        difference=float(np.max(np.abs(gap[same]), initial=0.0)),
        higher=int(np.sum(gap > SAME)),
        lower=int(np.sum(gap < -SAME)),
        iterations=int(np.sum(fits.restarts.iterations[:, 0] != found.iterations)),
        status=int(np.sum(fits.status != found.status)),
    )


def batches(quick: bool) -> tuple[Batch, ...]:
    """The two cases of the claim."""
    return (_batches.article(1024), _batches.planes(128)) if quick else (_batches.article(8192), _batches.planes(512))


def plain(quick: bool) -> Iterator[str]:
    """Part a: plain EM, same data, same starts, same tolerance, one restart, no certificate."""
    found, rows = [], []
    yield "One restart, equal starts, tol 1e-6, `certificate=False` (plain EM and nothing else); compilation apart.\n"
    for batch in batches(quick):
        last, taken = measured(_plain_runs(batch, _batches.starts(batch)), 3 if quick else ROUNDS)
        for cores in CORES:
            mine, c = ("emjax", cores), ("C", cores)
            rows.append(_row(batch, cores, taken[mine], taken[c], last[mine], last[c]))
        ratio = timing.ratio(*(taken[who, "all"] for who in WHO))
        same = agreement(*(last[who, "all"] for who in WHO))
        reached = ratio.median <= 3.0 and same.higher + same.lower <= ELSEWHERE * len(batch)
        found.append(Claim(f"{batch.name}: at most 3.0 x the time of C", f"{ratio.text()} x; {same.text()}", reached))
        called = ", ".join(_yardstick.vector_exponentials(batch.p, batch.model.n_components))
        yield f"{batch.name}: {len(batch):,} lanes; the C program's exponentials: {called or 'NOT VECTORISED'}."
    yield "\n" + timing.table(PLAIN_HEADER, rows)
    yield "\n" + timing.claims(found)


def _plain_runs(batch: Batch, start: emjax.MixtureParams) -> dict[Any, Callable[[], Any]]:
    settings = {"restarts": 1, "start": start, "certificate": False, "acceleration": None}
    runs: dict[Any, Callable[[], Any]] = {}
    for cores, threads in CORES.items():
        runs["emjax", cores] = partial(emjax.fit_many, batch.model, batch.data, 0, threads=threads, **settings)
        runs["C", cores] = partial(_yardstick.fit, batch.data, start, threads=threads)
    return runs


PLAIN_HEADER = (
    "case",
    "cores",
    "iterations, mean (max)",
    "emjax, ms",
    "C, ms",
    "emjax / C",
    "emjax, ns per point-iteration",
    "C, ns",
)


def _row(
    batch: Batch, cores: str, mine: list[float], c: list[float], fits: emjax.Fits, found: _yardstick.CFits
) -> tuple[str, ...]:
    def each(taken: list[float], iterations: np.ndarray) -> str:
        return timing.spread(taken).text(scale=1e9 / (iterations.sum() * batch.n))

    return (
        batch.name,
        cores,
        f"{found.iterations.mean():.1f} ({found.iterations.max():,})",
        timing.spread(mine).text(scale=1e3),
        timing.spread(c).text(scale=1e3),
        timing.ratio(mine, c).text(),
        each(mine, fits.restarts.iterations),
        each(c, found.iterations),
    )

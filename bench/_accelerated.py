"""Part b of bench/cpu.py: emjax with acceleration and racing against plain EM in C, to the same final likelihoods."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import jax
import numpy as np

import emjax
from bench import _against_c, _batches, _yardstick, timing
from bench._batches import Batch
from bench._scheduling import measured
from bench.timing import Claim

RESTARTS = 10
SAME = 1e-5  # nats: two fits each within the tolerance, 1e-6, of one maximum are nearer than that
STRATEGIES = ("random-partition", "nearest", "elemental", "k-means++")
ONE: dict[str, dict[str, Any]] = {"squarem": {"acceleration": "squarem"}}
TEN: dict[str, dict[str, Any]] = {
    "plain EM": {"acceleration": None},
    "auto, Race(4, 5)": {"acceleration": "auto", "race": emjax.Race(4, 5)},
    "squarem, Race(20, 5)": {"acceleration": "squarem", "race": emjax.Race(20, 5)},
    "squarem, Race()": {"acceleration": "squarem", "race": emjax.Race()},
}
HEADER = (
    "case",
    "restarts",
    "emjax",
    "lane-steps of C's",
    "emjax, ms",
    "C, ms",
    "emjax / C",
    "max difference, nats",
    "higher",
    "lower",
    "lower by more than 0.01",
)


def random_starts(batch: Batch) -> emjax.MixtureParams:
    """Ten random starts of each dataset, through the strategies in rotation, leading axes (D, 10)."""
    each = [_batches.starts(batch, 100 + r, STRATEGIES[r % len(STRATEGIES)]) for r in range(RESTARTS)]
    return jax.tree.map(lambda *leaves: np.stack(leaves, axis=1), *each)


def best_of(found: _yardstick.CFits, restarts: int) -> np.ndarray:
    """The highest log-likelihood of each dataset among the starts that count, (D,)."""
    counts = np.isin(found.status, (emjax.Status.CONVERGED, emjax.Status.MAX_ITERATIONS, emjax.Status.DECREASED))
    return np.max(np.where(counts, found.log_likelihood, -np.inf).reshape(-1, restarts), axis=1)


def _row(
    batch: Batch,
    restarts: int,
    what: str,
    fits: emjax.Fits,
    c: _yardstick.CFits,
    mine: list[float],
    theirs: list[float],
) -> tuple[tuple[str, ...], Claim]:
    gap = fits.log_likelihood - best_of(c, restarts)
    higher, lower = int(np.sum(gap > SAME)), int(np.sum(~(gap >= -SAME)))
    ratio = timing.ratio(mine, theirs)
    row = (
        batch.name,
        str(restarts),
        what,
        f"{fits.restarts.iterations.sum() / c.iterations.sum():.3f}",
        timing.spread(mine).text(scale=1e3),
        timing.spread(theirs).text(scale=1e3),
        ratio.text(),
        f"{np.max(np.abs(gap[np.abs(gap) <= SAME]), initial=0.0):.1e}",
        f"{higher:,} of {len(gap):,}",
        f"{lower:,}",
        f"{np.sum(~(gap >= -0.01)):,}",
    )
    reached = ratio.median < 1.0 and lower <= higher + _against_c.ELSEWHERE * len(gap)
    claim = f"{batch.name}, restarts={restarts}, {what}: faster than plain EM in C, likelihoods no lower"
    return row, Claim(claim, f"{ratio.text()} x its time; {higher:,} higher, {lower:,} lower", reached)


def accelerated(quick: bool) -> Iterator[str]:
    """Part b: equal starts in both, one a dataset and ten random ones, of which racing stops most."""
    yield "tol 1e-6, `certificate=False`, all cores, equal starts. Of ten, the best of each dataset. Where they are"
    yield f"further apart than {SAME:g} nats they are at different optima, emjax's higher or lower than C's.\n"
    sizes = (512, 64, 128) if quick else (8192, 512, 2048)
    batches = [
        make(size) for make, size in zip((_batches.article, _batches.planes, _batches.heavy), sizes, strict=True)
    ]
    rows, claims = [], []
    for batch in batches:
        for restarts, ways in ((1, ONE), (RESTARTS, TEN)):
            few = batch if restarts == 1 else batch.first(len(batch) // 4)
            start = _batches.starts(few) if restarts == 1 else random_starts(few)
            fit = partial(emjax.fit_many, few.model, few.data, 0, start=start, certificate=False)
            runs: dict[str, Any] = {what: partial(fit, **own) for what, own in ways.items()}
            lanes = start if restarts == 1 else jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), start)
            runs["C"] = partial(_yardstick.fit, few.data, lanes)
            last, taken = measured(runs, 3 if quick else _against_c.ROUNDS)
            for what in ways:
                row, claim = _row(few, restarts, what, last[what], last["C"], taken[what], taken["C"])
                rows.append(row)
                claims.append(claim)
    yield timing.table(HEADER, rows)
    yield "\n" + timing.claims(claims)

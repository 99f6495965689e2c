"""Part b of bench/cpu.py: emjax with acceleration and racing against plain EM in C, to the same final likelihoods."""

from __future__ import annotations

import inspect
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
HEADER = (
    "case",
    "restarts",
    "emjax runs",
    "lane-steps of C's",
    "emjax, ms",
    "C, ms",
    "emjax / C",
    "max difference, nats",
    "higher",
    "lower",
)


def settings(racing: bool) -> tuple[dict[str, Any], str]:
    """What this emjax offers of acceleration and racing, as settings of `fit_many` and in words."""
    offered = inspect.signature(emjax.fit_many).parameters
    found: dict[str, Any] = {}
    if "acceleration" in offered:
        found["acceleration"] = "squarem"
    if racing and "race" in offered:
        found["race"] = emjax.Race()  # type: ignore[attr-defined]
    return found, ", ".join(found) or "plain EM: this emjax offers no acceleration and no race"


def random_starts(batch: Batch) -> emjax.MixtureParams:
    """Ten random starts of each dataset, through the strategies in rotation, leading axis D * 10."""
    each = [_batches.starts(batch, 100 + r, STRATEGIES[r % len(STRATEGIES)]) for r in range(RESTARTS)]
    return jax.tree.map(lambda *leaves: np.stack(leaves, axis=1).reshape(-1, *leaves[0].shape[1:]), *each)


def best_of(found: _yardstick.CFits) -> np.ndarray:
    """The highest log-likelihood of each dataset among the starts that count, (D,)."""
    counts = np.isin(found.status, (emjax.Status.CONVERGED, emjax.Status.MAX_ITERATIONS, emjax.Status.DECREASED))
    return np.max(np.where(counts, found.log_likelihood, -np.inf).reshape(-1, RESTARTS), axis=1)


def _row(
    batch: Batch, restarts: int, what: str, fits: emjax.Fits, c: _yardstick.CFits, taken: dict[str, list[float]]
) -> tuple[tuple[str, ...], Claim]:
    best = c.log_likelihood if restarts == 1 else best_of(c)
    gap = fits.log_likelihood - best
    higher, lower = int(np.sum(gap > SAME)), int(np.sum(~(gap >= -SAME)))
    ratio = timing.ratio(taken["emjax"], taken["C"])
    row = (
        batch.name,
        str(restarts),
        what,
        f"{fits.restarts.iterations.sum() / c.iterations.sum():.3f}",
        timing.spread(taken["emjax"]).text(scale=1e3),
        timing.spread(taken["C"]).text(scale=1e3),
        ratio.text(),
        f"{np.max(np.abs(gap[np.abs(gap) <= SAME]), initial=0.0):.1e}",
        f"{higher:,} of {len(gap):,}",
        f"{lower:,}",
    )
    reached = ratio.median < 1.0 and lower <= higher + _against_c.ELSEWHERE * len(gap)
    claim = f"{batch.name}, restarts={restarts}: faster than plain EM in C, likelihoods no lower"
    return row, Claim(claim, f"{ratio.text()} x its time; {higher:,} higher, {lower:,} lower", reached)


def accelerated(quick: bool) -> Iterator[str]:
    """Part b: one start, equal in both; then ten random starts, of which racing stops most."""
    yield "tol 1e-6, `certificate=False`, all cores. One restart: equal starts, lane by lane. Ten: each program's own"
    yield "random starts, through the same strategies; the best of each dataset. Where they are further apart than"
    yield f"{SAME:g} nats they are at different optima, emjax's higher or lower than C's.\n"
    sizes = (512, 64, 128) if quick else (8192, 512, 2048)
    batches = [make(size) for make, size in zip((_batches.article, _batches.planes, _batches.heavy), sizes)]
    rows, claims = [], []
    for batch in batches:
        for restarts in (1, RESTARTS):
            few = batch if restarts == 1 else batch.first(len(batch) // 4)
            start = _batches.starts(few) if restarts == 1 else random_starts(few)
            extra, what = settings(restarts > 1)
            own = {"start": start} if restarts == 1 else {}
            fit = partial(emjax.fit_many, few.model, few.data, 0, restarts=restarts, certificate=False, **own, **extra)
            runs = {"emjax": fit, "C": partial(_yardstick.fit, few.data, start)}
            last, taken = measured(runs, 3 if quick else _against_c.ROUNDS)
            row, claim = _row(few, restarts, what, last["emjax"], last["C"], taken)
            rows.append(row)
            claims.append(claim)
    yield timing.table(HEADER, rows)
    yield "\n" + timing.claims(claims)

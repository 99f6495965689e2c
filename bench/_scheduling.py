"""Parts c and d of bench/cpu.py: what refilling the slots is worth, and what ten times the datasets cost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import numpy as np

import emjax
from bench import _batches, _yardstick, timing
from bench._batches import Batch
from bench.timing import Claim

SAME = 1e-6  # nats: lanes further apart than the tolerance ended at different optima
HEADER = (
    "program",
    "lanes",
    "iterations, mean (max)",
    "work efficiency",
    "seconds",
    "executed lane-steps a second",
    "max difference, nats",
    "at another optimum",
)


@partial(jax.jit, static_argnames="model")
def one_loop(model: emjax.Mixture, data: emjax.Data, params: Any) -> emjax.LaneFit:
    """jit(vmap(while_loop)) of emjax's own step: every lane takes part until the slowest has ended."""
    return jax.vmap(partial(emjax.fit_lane, model, acceleration=None))(data, params)


def _one_loop(batch: Batch, start: emjax.MixtureParams) -> emjax.LaneFit:
    with jax.enable_x64(True):
        return jax.tree.map(np.asarray, one_loop(batch.model, batch.data, start))


def _fit(batch: Batch, start: emjax.MixtureParams) -> emjax.Fits:
    return emjax.fit_many(batch.model, batch.data, 0, restarts=1, start=start, certificate=False, acceleration=None)


def measured(runs: dict[Any, Callable[[], Any]], rounds: int) -> tuple[dict[Any, Any], dict[Any, list[float]]]:
    """What each run returned last, and its seconds in each round."""
    last: dict[Any, Any] = {}

    def keep(name: Any) -> None:
        last[name] = runs[name]()

    return last, timing.alternate({name: partial(keep, name) for name in runs}, rounds)


def _row(
    name: str, iterations: np.ndarray, efficiency: float, taken: list[float], found: np.ndarray, expected: np.ndarray
) -> tuple[str, ...]:
    gap = np.abs(found - expected)
    executed = iterations.sum() / efficiency
    return (
        name,
        f"{len(found):,}",
        f"{iterations.mean():.0f} ({iterations.max():,})",
        f"{efficiency:.3f}",
        timing.spread(taken).text(),
        f"{executed / timing.spread(taken).median:,.0f}",
        f"{np.max(gap[gap <= SAME], initial=0.0):.1e}",
        f"{np.sum(gap > SAME):,}",
    )


def tail(quick: bool) -> Iterator[str]:
    """Part c: a heavy-tailed batch against one vmapped loop, and work efficiency on it."""
    yield "Equal starts, tol 1e-6, `certificate=False`, all cores; the vmapped loop uses what threads XLA gives it.\n"
    batch = _batches.heavy(256 if quick else 2048)
    start = _batches.starts(batch)
    runs = {"emjax": partial(_fit, batch, start), "one vmapped loop": partial(_one_loop, batch, start)}
    last, taken = measured(runs, 3 if quick else 5)
    fits, loop = last["emjax"], last["one vmapped loop"]
    iterations, expected = fits.restarts.iterations[:, 0], loop.log_likelihood
    useful = loop.iterations.sum() / (len(batch) * loop.iterations.max())
    rows = [
        _row("one vmapped loop", loop.iterations, useful, taken["one vmapped loop"], expected, expected),
        _row("emjax", iterations, fits.work_efficiency, taken["emjax"], fits.log_likelihood, expected),
    ]
    ratio = timing.ratio(taken["one vmapped loop"], taken["emjax"])
    name = f"{len(batch):,} lanes"
    found = [
        Claim(f"{name}: work efficiency at least 0.95", f"{fits.work_efficiency:.3f}", fits.work_efficiency >= 0.95),
        Claim(f"{name}: at least 12 x as fast as one vmapped loop", f"{ratio.text()} x", ratio.median >= 12),
    ]
    large = _batches.heavy(2048 if quick else 50_000)
    start = _batches.starts(large)
    last, taken = measured({"emjax": partial(_fit, large, start)}, 1 if quick else 3)
    fits, c = last["emjax"], _yardstick.fit(large.data, start)
    iterations, efficiency = fits.restarts.iterations[:, 0], fits.work_efficiency
    rows.append(_row("emjax", iterations, efficiency, taken["emjax"], fits.log_likelihood, c.log_likelihood))
    found.append(Claim(f"{len(large):,} lanes: work efficiency at least 0.95", f"{efficiency:.3f}", efficiency >= 0.95))
    yield timing.table(HEADER, rows)
    yield f"\nThe {len(batch):,} lanes are compared with the vmapped loop's, the {len(large):,} with the C program's.\n"
    yield timing.claims(found)


def scaling(quick: bool) -> Iterator[str]:
    """Part d: the same datasets, ten times over."""
    few = _batches.article(512 if quick else 4096)
    many = replace(few, data=_batches.repeated(few.data, 10))
    batches = {f"{len(batch):,}": batch for batch in (few, many)}
    start = _batches.starts(few)
    begins = start, _batches.repeated(start, 10)
    runs = {name: partial(_fit, batch, begin) for (name, batch), begin in zip(batches.items(), begins)}
    last, taken = measured(runs, 3 if quick else 7)
    steps = {
        name: last[name].restarts.iterations.sum() / last[name].work_efficiency / len(batches[name]) for name in runs
    }
    small, large = runs
    growth, time = steps[large] / steps[small] - 1, timing.ratio(taken[large], taken[small])
    yield "The datasets of the large batch are those of the small one, ten times over, with the same starts.\n"
    yield timing.table(
        ("datasets", "executed lane-steps a dataset", "seconds"),
        [(name, f"{steps[name]:.3f}", timing.spread(taken[name]).text()) for name in runs],
    )
    yield "\n" + timing.claims(
        [
            Claim("10 x the datasets: lane-steps a dataset within 1 %", f"{100 * growth:+.2f} %", abs(growth) <= 0.01),
            Claim("10 x the datasets: at most 11 x the time", f"{time.text()} x", time.median <= 11),
        ]
    )

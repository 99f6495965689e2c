"""Timings for every benchmark: things taken in turn in one process, medians with their spread, ratios pair by pair.

Two things measured one after the other differ by whatever else the machine did meanwhile; taken in turn they share
it. So a ratio is the median of the ratios of neighbours, never a ratio of two medians.
"""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

Name = TypeVar("Name")


class Spread(NamedTuple):
    """Median, smallest and largest of several measurements."""

    median: float
    low: float
    high: float

    def text(self, digits: int = 3, scale: float = 1.0) -> str:
        """Such as "0.52 (0.50-0.61)", to `digits` significant digits, each multiplied by `scale`."""
        median, low, high = (_significant(value * scale, digits) for value in self)
        return f"{median} ({low}-{high})"


def _significant(value: float, digits: int) -> str:
    if value == 0 or not abs(value) < float("inf"):
        return str(value)
    text = f"{value:.{digits}g}"
    return f"{float(text):,.0f}" if abs(value) >= 10 ** (digits - 1) else f"{value:#.{digits}g}"


def spread(values: Iterable[float]) -> Spread:
    """Median, smallest and largest."""
    known = list(values)
    return Spread(statistics.median(known), min(known), max(known))


def ratio(slow: Sequence[float], fast: Sequence[float]) -> Spread:
    """How many times as long `slow` takes, round by round."""
    return spread(a / b for a, b in zip(slow, fast, strict=True))


def seconds(run: Callable[[], Any]) -> float:
    """Wall time of one call, which must end only when its results are there (block on jax arrays inside it)."""
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def alternate(runs: Mapping[Name, Callable[[], Any]], rounds: int = 5, warm: int = 1) -> dict[Name, list[float]]:
    """Seconds of each of `runs`, by name, in `rounds` rounds; `warm` calls of each come first and are not counted.

    Every second round goes backwards (ABBA), so that a drift of the machine favours none.
    """
    for run in runs.values():
        for _ in range(warm):
            run()
    taken: dict[Name, list[float]] = {name: [] for name in runs}
    for turn in range(rounds):
        for name in list(runs) if turn % 2 == 0 else reversed(list(runs)):
            taken[name].append(seconds(runs[name]))
    return taken


class Claim(NamedTuple):
    """What a benchmark claims, what it measured, and whether that is reached."""

    claim: str
    measured: str
    reached: bool


def table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A Markdown table; the first column is text, the others figures."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def claims(found: Iterable[Claim]) -> str:
    """The Markdown table of claims."""
    rows = [(c.claim, c.measured, "yes" if c.reached else "**no**") for c in found]
    return table(("claim", "measured", "reached"), rows)


def machine() -> str:
    """One line: cores, processor, system, Python, jax, load; what figures are worth depends on all of them."""
    import jax

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    python, system = platform.python_version(), platform.system()
    return f"{cores} cores of {_processor()}, {system}, Python {python}, jax {jax.__version__}{load}"


def _processor() -> str:
    known = Path("/proc/cpuinfo")
    if known.exists():
        for line in known.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "an unnamed processor"

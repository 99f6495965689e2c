"""Progress of a batch: a bar on a terminal, plain lines at intervals anywhere else (a log, a pipe)."""

import sys
from time import monotonic
from typing import Any, Self, TextIO

from emjax.extras.optional import MissingExtraError, require


class Reporter:
    """Shows what `fit_many(..., progress=Reporter())` tells at chunk boundaries.

    On a terminal it draws a tqdm bar; elsewhere, or without tqdm, it prints a line at most every `interval` seconds and
    one at the end. Use it as a context manager, so that the bar is there (at 0 of `total`) while the first chunk still
    compiles, and is closed before anything else is printed.
    """

    def __init__(self, total: int, unit: str = "fits", stream: TextIO | None = None, interval: float = 10.0) -> None:
        self._total = total
        self._unit = unit
        self._stream = sys.stderr if stream is None else stream
        self._interval = interval
        self._last = monotonic()
        self._bar: Any = None
        self._tqdm = self._load() if self._stream.isatty() else None

    def _load(self) -> Any:
        try:
            return require("tqdm", "progress").tqdm
        except MissingExtraError as error:
            print(f"no progress bar: {error}", file=self._stream)
            return None

    def __call__(self, progress: Any) -> None:
        """Show one `Advance` record of the engine; its `converged` is a share."""
        if self._bar is None:
            self._line(progress)
            return
        self._bar.n, self._bar.total = progress.done, progress.total
        self._bar.set_postfix_str(_details(progress), refresh=False)
        self._bar.refresh()

    def _line(self, progress: Any) -> None:
        now = monotonic()
        if now - self._last < self._interval and progress.done < progress.total:
            return
        self._last = now
        speed = progress.fits_per_second
        rate = f"{speed:,.{0 if speed >= 10 else 1}f} {self._unit}/s, {_duration(progress.seconds_left)} left"
        line = f"{progress.done:,} of {progress.total:,} {self._unit}, {rate}, {_details(progress)}"
        print(line, file=self._stream, flush=True)

    def __enter__(self) -> Self:
        if self._tqdm is not None:
            self._bar = self._tqdm(total=self._total, unit=f" {self._unit}", file=self._stream, dynamic_ncols=True)
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def _details(progress: Any) -> str:
    return f"converged {100 * progress.converged:.1f} %, work efficiency {progress.work_efficiency:.2f}"


def _duration(seconds: float) -> str:
    """Seconds as a reader counts them; the rate is not known before the first chunk."""
    if not 0 <= seconds < float("inf"):
        return "unknown time"
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"

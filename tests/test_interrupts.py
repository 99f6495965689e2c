"""Progress at chunk boundaries, and what Ctrl-C leaves: the finished chunks."""

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import emjax
from emjax.engine import pipeline
from tests.promises import LINES, RESTARTS, SEED, D, base, lines, same_fits


def _interrupted(**settings: Any) -> emjax.Fits:
    """A lost interrupt is a failure, not the end of the tests."""
    try:
        return emjax.fit_many(LINES, lines(), SEED, restarts=RESTARTS, chunk=4, **settings)
    except KeyboardInterrupt:
        pytest.fail("the finished chunks are lost")


def test_progress_is_reported() -> None:
    seen: list[emjax.Advance] = []
    emjax.fit_many(LINES, lines(), SEED, restarts=RESTARTS, chunk=4, threads=1, progress=seen.append)
    assert [step.done for step in seen] == [4, 8, 12]
    assert all(step.total == D for step in seen)
    assert seen[-1].seconds_left == 0.0
    assert all(0 < step.work_efficiency <= 1 and 0 <= step.converged <= 1 for step in seen)
    assert all(step.fits_per_second > 0 for step in seen)


@pytest.mark.parametrize("threads, kept", [(1, [0, 1, 2, 3]), (3, [0, 1, 2, 3, 8, 9, 10, 11])])
def test_an_interrupt_leaves_the_finished_chunks(
    threads: int, kept: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The chunk that begins with dataset 4 is interrupted, with several threads once both others are running."""
    whole, running = pipeline.fit_chunk, threading.Barrier(threads)

    def interrupted(plan: Any, chunk: Any) -> Any:
        if threads > 1:
            running.wait(60)
        if chunk.words[0] == 4:
            raise KeyboardInterrupt
        return whole(plan, chunk)

    monkeypatch.setattr(pipeline, "fit_chunk", interrupted)
    fits = _interrupted(threads=threads)
    assert not fits.complete
    assert list(fits.positions) == list(fits.ids) == kept
    same_fits(base(), fits, fits.positions)
    np.testing.assert_array_equal(fits[-1].data.y, lines().y[kept[-1]])
    assert "interrupted" in fits.summary()
    assert base().complete


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("times", [1, 2])
def test_an_interrupt_from_the_progress_callback(threads: int, times: int) -> None:
    """Also a second one, while the finished chunks are being gathered."""
    calls: list[int] = []

    def stop(step: emjax.Advance) -> None:
        calls.append(step.done)
        if len(calls) <= times:
            raise KeyboardInterrupt

    fits = _interrupted(threads=threads, progress=stop)
    assert not fits.complete or len(fits) == D
    same_fits(base(), fits, fits.positions)


def test_an_interrupt_before_anything_is_finished_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(plan: Any, chunk: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "fit_chunk", interrupted)
    with pytest.raises(KeyboardInterrupt):
        emjax.fit_many(LINES, lines(), SEED, restarts=RESTARTS, chunk=4, threads=1)


def test_an_interrupted_fit_can_be_saved(tmp_path: Path) -> None:
    def stop(step: emjax.Advance) -> None:
        raise KeyboardInterrupt

    fits = _interrupted(threads=1, progress=stop)
    assert len(fits) == 4
    fits.save(tmp_path / "part.npz")
    back = emjax.load(tmp_path / "part.npz")
    same_fits(fits, back)
    assert not back.complete

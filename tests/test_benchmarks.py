"""The C yardstick is the same EM as emjax's, and the benchmarks' helpers measure what they say."""

import platform
import shutil

import numpy as np
import pytest

import emjax
from bench import _batches, _yardstick, timing
from emjax.engine import stopping

needs_gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="the C yardstick needs gcc")


def both(batch: _batches.Batch, stop: emjax.Stop | None = None) -> tuple[emjax.Fits, _yardstick.CFits]:
    """emjax's fits and the C program's, both of plain EM, from the same starts."""
    stop, start = stop or emjax.Stop(), _batches.starts(batch)
    fits = emjax.fit_many(
        batch.model, batch.data, 0, restarts=1, start=start, stop=stop, acceleration=None, certificate=False
    )
    return fits, _yardstick.fit(batch.data, start, stop)


@needs_gcc
@pytest.mark.slow
@pytest.mark.parametrize("batch", [_batches.article(32), _batches.planes(32, n=53)], ids=lambda batch: batch.name)
def test_the_c_program_and_emjax_end_at_the_same_fit(batch: _batches.Batch) -> None:
    """Planes with 53 rows: the loops' remainders count too, and some lanes collapse."""
    fits, found = both(batch)
    np.testing.assert_array_equal(found.status, fits.status)
    np.testing.assert_allclose(found.log_likelihood, fits.log_likelihood, rtol=0, atol=1e-9)
    assert np.any(found.status == emjax.Status.DEGENERATE) == (batch.n == 53)
    # Gains that are rounding stop a lane at the first where a hit is confirmed, at the third otherwise.
    assert np.mean(found.iterations == fits.iterations) >= 0.9
    assert np.max(np.abs(found.iterations - fits.iterations)) <= stopping.FLOOR_HITS
    np.testing.assert_allclose(_yardstick.pack(found.params), _yardstick.pack(fits.params), rtol=1e-5, atol=1e-6)


@needs_gcc
@pytest.mark.slow
def test_the_c_program_stops_for_the_same_reasons() -> None:
    batch = _batches.article(32)
    for stop, status in ((emjax.Stop(max_iterations=4), "MAX_ITERATIONS"), (emjax.Stop(tol=1e-15), "PRECISION_LIMIT")):
        fits, found = both(batch, stop)
        assert np.all(fits.status == emjax.Status[status])
        np.testing.assert_array_equal(found.status, fits.status)
        np.testing.assert_allclose(found.log_likelihood, fits.log_likelihood, rtol=0, atol=1e-9)


@needs_gcc
@pytest.mark.slow
def test_a_dataset_may_have_several_starts() -> None:
    batch = _batches.article(32)
    apart = [_batches.starts(batch, key) for key in (0, 1)]
    together = np.stack([_yardstick.pack(start) for start in apart], axis=1).reshape(64, -1)
    found = _yardstick.fit(batch.data, _yardstick.unpack(together, 2))
    for turn, start in enumerate(apart):
        alone = _yardstick.fit(batch.data, start, threads=1)
        np.testing.assert_array_equal(found.log_likelihood[turn::2], alone.log_likelihood)


@needs_gcc
@pytest.mark.skipif(platform.machine() != "x86_64", reason="reads x86-64 assembly")
def test_the_exponential_is_vectorised() -> None:
    assert _yardstick.vector_exponentials(2, 2)
    assert _yardstick.vector_exponentials(5, 3)


def test_without_gcc_there_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(_yardstick.NoCompiler, match=r"^The C yardstick needs gcc[^.\n]*\.$"):
        _yardstick.vector_exponentials(2, 2)


def test_packed_parameters_come_back() -> None:
    rows = np.arange(2.0 * 3 * 7).reshape(2, 21)
    params = _yardstick.unpack(rows, 3)
    assert params.family.coefficients.shape == (2, 3, 5)
    np.testing.assert_array_equal(_yardstick.pack(params), rows)


def test_things_are_timed_in_turn_there_and_back() -> None:
    calls: list[str] = []
    taken = timing.alternate({name: lambda name=name: calls.append(name) for name in "ab"}, rounds=3, warm=2)
    assert "".join(calls) == "aabb" + "ab" + "ba" + "ab"
    assert {name: len(values) for name, values in taken.items()} == {"a": 3, "b": 3}
    assert all(value >= 0 for values in taken.values() for value in values)


def test_a_ratio_is_taken_round_by_round() -> None:
    """A machine that slows down tenfold between rounds changes no ratio."""
    assert timing.ratio([3.0, 30.0, 300.0], [1.0, 10.0, 100.0]) == timing.Spread(3.0, 3.0, 3.0)
    assert timing.ratio([1.0, 2.0, 9.0], [1.0, 1.0, 1.0]) == timing.Spread(2.0, 1.0, 9.0)


def test_figures_are_printed_to_three_digits() -> None:
    assert timing.Spread(0.5213, 0.5, 12.345).text() == "0.521 (0.500-12.3)"
    assert timing.Spread(1.2345, 1.0, 2.0).text(scale=1e3) == "1,230 (1,000-2,000)"
    assert timing.Spread(0.0, 0.0, float("inf")).text() == "0.0 (0.0-inf)"


def test_a_claim_that_is_missed_says_so() -> None:
    text = timing.claims([timing.Claim("fast", "1 s", True), timing.Claim("small", "9 GB", False)])
    assert text.splitlines()[2:] == ["| fast | 1 s | yes |", "| small | 9 GB | **no** |"]

"""The counter of useful work: lane-steps that advanced a lane over lane-steps executed, idle slots included."""

from functools import cache

import jax
import numpy as np
import pytest

import emjax
from emjax.engine import blocks, passes

LANES, N = 2048, 200


@cache
def fits(certificate: bool, max_iterations: int = 10_000) -> emjax.Fits:
    """Two regression lines that cross, poorly separated; one random start a data set."""
    rng = np.random.default_rng(5)
    x = rng.uniform(-1.0, 1.0, (LANES, N, 1))
    first = rng.random((LANES, N)) < 0.5
    y = np.where(first, 1.0, -1.0) * (-0.6 + 0.6 * x[..., 0]) + 0.7 * rng.standard_normal((LANES, N))
    return emjax.fit_many(
        emjax.Mixture(emjax.LinearRegression(), 2),
        emjax.Data(y=y, x=x),
        3,
        restarts=1,
        acceleration=None,
        stop=emjax.Stop(max_iterations=max_iterations),
        certificate=None if certificate else False,
        threads=1,
    )


def executed_lane_steps(iterations: np.ndarray, width: int, steps: int) -> int:
    """A queue of lanes over `width` slots that are refilled every `steps` ticks, by hand."""
    waiting = list(iterations)
    slots = [0] * width
    executed = 0
    while waiting or any(slots):
        slots = [left if left > 0 or not waiting else waiting.pop(0) for left in slots]
        slots = [max(0, left - steps) for left in slots]
        executed += width * steps
    return executed


@pytest.mark.parametrize("certificate", [pytest.param(True, marks=pytest.mark.slow), False])
def test_most_executed_lane_steps_advance_a_lane(certificate: bool) -> None:
    found = fits(certificate)
    iterations = found.restarts.iterations
    # Heavy-tailed: lanes side by side until the slowest ends would do work of which less than a fifth is useful.
    assert iterations.max() > 1000
    assert iterations.mean() < 0.2 * iterations.max()
    assert found.work_efficiency >= 0.95


def test_the_counter_is_that_of_a_queue_simulated_by_hand() -> None:
    found = fits(False, passes.PAUSE)  # in one pass, in the order of the data sets
    iterations = found.restarts.iterations[:, 0]
    width = blocks.width_for(jax.devices()[0], 0)
    executed = executed_lane_steps(iterations, width, blocks.CPU_STEPS)
    assert found.work_efficiency == pytest.approx(iterations.sum() / executed, rel=1e-12)


def test_lanes_that_are_left_go_on_longest_first() -> None:
    """In the order of the data sets the longest would start late, and end alone in their block."""
    iterations = fits(False).restarts.iterations[:, 0]
    width = blocks.width_for(jax.devices()[0], 0)
    as_they_come = iterations.sum() / executed_lane_steps(iterations, width, blocks.CPU_STEPS)
    assert fits(False).work_efficiency > as_they_come + 0.01


def test_the_second_pass_is_counted_too() -> None:
    """The certificate's passes add lanes of their own, most of them alone in their slots."""
    first, both = fits(False), fits(True)
    np.testing.assert_array_equal(first.restarts.iterations, both.restarts.iterations)
    assert both.iterations.sum() > first.iterations.sum()
    assert both.work_efficiency < first.work_efficiency


def test_a_pause_changes_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lane that was set aside goes on as if it had never stopped, whatever the order of the queue."""
    whole = fits(False).restarts
    monkeypatch.setattr(passes, "PAUSE", 9)
    often = fits.__wrapped__(False).restarts
    for left, right in zip(whole, often, strict=True):
        np.testing.assert_array_equal(left, right)

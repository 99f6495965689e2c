"""`acceleration="auto"`: plain EM for 32 iterations, then extrapolation of the lanes that are left."""

from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import emjax
from emjax import Race, Status, Stop
from emjax.engine.acceleration import LATE
from tests.promises import LINES, RESTARTS, SEED, D, at, lines, same_fits, truth

NOISE = 10.0  # times the article's: some lanes take more than 32 iterations at tol 1e-8, some do not
STOP = Stop(tol=1e-8)
late = partial(emjax.fit_many, LINES, certificate=False, stop=STOP, acceleration="auto")


@cache
def fits(method: str | None, **settings: Any) -> emjax.Fits:
    return late(lines(NOISE), SEED, restarts=RESTARTS, acceleration=method, **settings)


def test_quick_lanes_are_plain_and_slow_ones_end_sooner() -> None:
    plain, found = fits(None).restarts, fits("auto").restarts
    slow = plain.iterations > LATE
    assert 5 < slow.sum() < slow.size - 5
    for name in ("log_likelihood", "status", "iterations", "remaining"):
        np.testing.assert_array_equal(getattr(found, name)[~slow], getattr(plain, name)[~slow])
    assert found.iterations[slow].min() > LATE, "the first of them are plain EM's"
    assert (found.iterations[slow] - LATE).sum() < 0.6 * (plain.iterations[slow] - LATE).sum()
    assert np.all(found.status == Status.CONVERGED)
    # Plain EM's own stop leaves more than the tolerance on slow lanes.
    assert np.all(found.objective >= plain.objective - STOP.tol)


def test_the_setting_is_kept() -> None:
    assert fits("auto").settings.acceleration == "auto" and "acceleration auto" in fits("auto").summary()


def test_a_lane_does_not_depend_on_its_company() -> None:
    """One dataset has fewer lanes than a block, which plain EM runs to their ends in one pass."""
    slowest = int(np.argmax(fits(None).restarts.iterations.max(axis=1)))
    one = late([at(lines(NOISE), slowest)], SEED, ids=[slowest], restarts=RESTARTS)[0]
    assert one.restarts.iterations.max() > LATE
    same_fits(fits("auto"), one, slowest, ())
    order = np.arange(D)[::-1]
    mixed = late(at(lines(NOISE), order), SEED, ids=order, restarts=RESTARTS, chunk=3)
    same_fits(fits("auto"), mixed, order, slice(None))


def test_what_leads_a_race_takes_the_steps_it_would_have_taken_without() -> None:
    race = Race(iterations=20, keep=2)
    free, found = fits("auto").restarts, fits("auto", race=race).restarts
    out = found.status == Status.STOPPED_EARLY
    np.testing.assert_array_equal(out, fits(None, race=race).restarts.status == Status.STOPPED_EARLY)
    assert out.any() and (found.iterations[~out] > LATE).any()
    for name in ("log_likelihood", "status", "iterations", "remaining"):
        np.testing.assert_array_equal(getattr(found, name)[~out], getattr(free, name)[~out])


def test_fit_lane_is_the_fit() -> None:
    start = truth(NOISE)
    many = late(lines(NOISE), SEED, start=start)
    with jax.enable_x64(True):
        data, params = jax.tree.map(jnp.asarray, (lines(NOISE), start))
        run = jax.jit(jax.vmap(lambda row: emjax.fit_lane(LINES, row, params, stop=STOP, acceleration="auto")))
        lanes = jax.tree.map(np.asarray, run(data))
    assert many.iterations.max() > LATE
    np.testing.assert_array_equal(lanes.status, many.status)
    np.testing.assert_allclose(lanes.objective, many.objective, rtol=0, atol=1e-8)
    assert np.mean(lanes.iterations == many.iterations) > 0.9


@pytest.mark.parametrize("polish", [True, False])
def test_float32_lanes_end_there_too(polish: bool) -> None:
    settings = {"restarts": RESTARTS, "certificate": False, "stop": Stop(tol=1e-4), "polish": polish}
    found = emjax.fit_many(LINES, lines(NOISE), SEED, precision="float32", acceleration="auto", **settings)
    best = fits(None)
    good = np.isin(found.status, (Status.CONVERGED, Status.PRECISION_LIMIT))
    assert good.all() and np.mean(np.abs(found.log_likelihood - best.log_likelihood) < 0.01) > 0.9


def test_the_polish_of_a_slow_fit_is_extrapolated_from_its_first_step() -> None:
    """Plain EM's last gains promise less than is left: it ends with three quarters of the tolerance to go."""
    slow = lines(2 * NOISE)
    settings = {"start": truth(2 * NOISE), "certificate": False}
    found = emjax.fit_many(LINES, slow, SEED, precision="float32", **settings)
    settings = {"start": found.params, "certificate": False, "stop": Stop(tol=1e-11), "acceleration": "squarem"}
    top = emjax.fit_many(LINES, slow, SEED, **settings)
    assert np.max(top.log_likelihood - found.log_likelihood) < 0.1 * Stop().tol

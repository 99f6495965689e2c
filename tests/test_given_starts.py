"""Starts that the user gives: one a dataset, or one for each restart of each."""

from typing import Any

import jax
import numpy as np
import pytest

import emjax
from emjax import DataError, Perturbed, Race, Status, WeightsParams
from tests.promises import LINES, SEED, D, base, lines, same_fits

R = 3
TWO = ("nearest", "elemental")


def begun(number: int) -> Any:
    """One random start of each dataset: where a fit of a single E-step ends."""
    once = emjax.Stop(max_iterations=1)
    strategy = TWO[number % 2]
    return emjax.fit_many(LINES, lines(), 100 + number, restarts=1, start=strategy, stop=once, certificate=False).params


def each(restarts: int = R) -> Any:
    """Of `restarts` restarts of each dataset, leading axes (D, R)."""
    return jax.tree.map(lambda *leaves: np.stack(leaves, axis=1), *map(begun, range(restarts)))


def test_each_restart_begins_at_its_own_start() -> None:
    many = emjax.fit_many(LINES, lines(), SEED, start=each(), certificate=False)
    assert many.restarts.objective.shape == (D, R)
    for r in range(R):
        alone = emjax.fit_many(LINES, lines(), SEED, start=begun(r), certificate=False)
        for found, expected in zip(many.restarts, alone.restarts, strict=True):
            np.testing.assert_array_equal(found[:, r], expected[:, 0])
    assert len(np.unique(many.restarts.iterations, axis=1)) > 1, "all starts led the same way: nothing was tested"
    same_fits(emjax.fit_many(LINES, lines(), SEED, start=each(), restarts=R, certificate=False), many)
    assert f"{R} restarts" in many.summary().lower() or f"restarts {R}" in many.summary().lower()


def test_what_is_shared_by_all_restarts_may_be_given_once() -> None:
    some = each()
    alike = np.full(2, 0.5)
    short = some._replace(latent=WeightsParams(alike))
    long = some._replace(latent=WeightsParams(np.broadcast_to(alike, (D, R, 2))))
    same_fits(emjax.fit_many(LINES, lines(), SEED, start=short), emjax.fit_many(LINES, lines(), SEED, start=long))


def test_they_race() -> None:
    raced = emjax.fit_many(LINES, lines(), SEED, start=each(), race=Race(2, 1))
    assert np.all(np.sum(raced.restarts.status == Status.STOPPED_EARLY, axis=1) <= R - 1)
    assert np.any(raced.restarts.status == Status.STOPPED_EARLY)


def test_one_dataset_has_them_too() -> None:
    first = jax.tree.map(lambda leaf: leaf[:1], each())
    one = emjax.fit(LINES, jax.tree.map(lambda leaf: leaf[0], lines()), SEED, start=first)
    assert one.restarts.objective.shape[-1] == R


def test_a_start_that_is_not_finite_ends_its_own_lane_alone() -> None:
    starts = jax.tree.map(np.array, each())
    starts.family.scale[4, 1, 0] = np.nan
    found = emjax.fit_many(LINES, lines(), SEED, start=starts, certificate=False)
    assert found.restarts.status[4, 1] == Status.NON_FINITE
    whole = emjax.fit_many(LINES, lines(), SEED, start=each(), certificate=False)
    others = np.ones((D, R), bool)
    others[4, 1] = False
    np.testing.assert_array_equal(found.restarts.objective[others], whole.restarts.objective[others])
    starts.family.scale[4, 2, 0] = -1.0
    with pytest.raises(DataError, match=r"scale.*\(dataset 4, restart 2\)"):
        emjax.fit_many(LINES, lines(), SEED, start=starts)
    nowhere = jax.tree.map(lambda leaf: np.full_like(leaf, np.nan), starts)
    with pytest.raises(DataError, match="finite"):
        emjax.fit_many(LINES, lines(), SEED, start=nowhere)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"restarts": 2}, ("restarts=2", "for 3 of each")),
        ({"restarts": "auto"}, ("restarts='auto'", "for 3 of each")),
        ({"start": "perturbed"}, ("Perturbed", "one set of parameters a dataset")),
        ({"start": "none"}, ("no restarts", "axis is empty")),
        ({"start": "cut"}, ("shape (11, 3, 2)", "needs (2,) or", "restarts, 2")),
        ({"start": "one", "restarts": 4}, ("would all be equal", "Perturbed", "datasets and restarts")),
    ],
)
def test_what_does_not_fit_is_refused(settings: dict[str, Any], words: tuple[str, ...]) -> None:
    starts = {
        "perturbed": lambda: Perturbed(each()),
        "cut": lambda: each()._replace(latent=WeightsParams(np.full((D - 1, R, 2), 0.5))),
        "one": lambda: base().params,
        "none": lambda: jax.tree.map(lambda leaf: leaf[:, :0], each()),
    }
    start = starts[settings["start"]]() if "start" in settings else each()
    with pytest.raises(DataError) as raised:
        emjax.fit_many(LINES, lines(), SEED, **{**settings, "start": start})
    assert all(word in str(raised.value) for word in words), str(raised.value)

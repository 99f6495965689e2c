"""Racing restarts: who goes on, what that costs, and that every promise of the engine holds with a race too."""

from functools import cache
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import emjax
from emjax import Data, DataError, Expectation, Fits, Flag, Race, Status, Stop
from emjax.engine import blocks, choice
from tests.commands import run
from tests.promises import (
    COURSE,
    COURSES,
    LINES,
    RESTARTS,
    SEED,
    Courses,
    D,
    Poisson,
    Step,
    at,
    base,
    lines,
    play,
    same_fits,
)
from tests.test_search import Plain, landscape
from tests.test_work_efficiency import executed_lane_steps

STARTS = 6  # of `Courses`


def rising(first: float, last: float, rate: float = 0.5) -> list[float]:
    """From `first` to `last`, what is left shrinking by `rate` a step."""
    return [last - (last - first) * rate**t for t in range(COURSE)]


def leap(before: float, after: float, when: int) -> list[float]:
    """A gain a step, then another value."""
    return [before + 0.1 * t if t < when else after for t in range(COURSE)]


def fit_courses(*datasets: list[list[float]], **settings: Any) -> Fits:
    y = np.stack([np.concatenate(courses) for courses in datasets])
    return emjax.fit_many(COURSES, Data(y), 0, **{"restarts": STARTS, "certificate": False, "threads": 1} | settings)


C, M, E, G = Status.CONVERGED, Status.MAX_ITERATIONS, Status.STOPPED_EARLY, Status.DEGENERATE
SLOW = [rising(0.0, last) for last in (10.0, 11.0, 12.0, 13.0, 14.0)]
FAST = rising(0.0, 5.0, 1e-4)  # at its end within a few steps
RACE = Race(iterations=8, keep=2)


def test_the_best_few_go_on() -> None:
    courses = [SLOW[1], SLOW[4], FAST, SLOW[0], SLOW[3], SLOW[2]]
    raced, full = fit_courses(courses, race=RACE), fit_courses(courses)
    assert list(raced.restarts.status[0]) == [E, C, C, E, C, E]
    assert np.all(full.restarts.status == C)
    ended = raced.restarts.status[0] == C
    early = raced.restarts.status[0] == E
    np.testing.assert_allclose(raced.restarts.objective[0, ended], full.restarts.objective[0, ended], atol=1e-5)
    # Stopped at the eighth E-step, whose objective is kept.
    assert np.all(raced.restarts.iterations[0, early] == 8)
    assert list(raced.restarts.objective[0, early]) == [course[7] for course in (SLOW[1], SLOW[0], SLOW[2])]
    np.testing.assert_array_equal(raced.restarts.log_likelihood, raced.restarts.objective)
    # Who ended in the short run keeps everything; who went on took one E-step again, and two to judge its gains.
    for name in ("objective", "iterations", "remaining"):
        assert getattr(raced.restarts, name)[0, 2] == getattr(full.restarts, name)[0, 2]
    more = raced.restarts.iterations[0, [1, 4]] - full.restarts.iterations[0, [1, 4]]
    assert np.all((more >= 0) & (more <= 3))
    assert raced.status[0] == C
    assert raced.objective[0] == raced.restarts.objective[0, 1]
    assert raced.iterations[0] == raced.restarts.iterations[0, 1]


def test_restarts_that_ended_take_their_place_in_the_race() -> None:
    """Two that converged in the short run lead: nothing goes on."""
    high = rising(0.0, 20.0, 1e-4)
    fits = fit_courses([SLOW[0], high, SLOW[1], SLOW[2], high, SLOW[3]], race=RACE)
    assert list(fits.restarts.status[0]) == [E, C, E, E, C, E]
    assert fits.objective[0] == fits.restarts.objective[0, 1]


def test_a_collapse_in_the_short_run_takes_no_place() -> None:
    for end, status in ((2000.0, G), (np.nan, Status.NON_FINITE)):
        fits = fit_courses([leap(0.0, end, 3), *SLOW], race=RACE)
        assert list(fits.restarts.status[0]) == [status, E, E, E, C, C]


def test_of_equals_the_first_goes_on() -> None:
    fits = fit_courses([SLOW[0]] * STARTS, race=RACE)
    assert list(fits.restarts.status[0]) == [C, C, E, E, E, E]


def test_an_out_raced_restart_is_never_chosen() -> None:
    """What led falls, and ends below where the others were stopped."""
    fits = fit_courses([leap(20.0, 1.0, 12), *SLOW], race=Race(8, 1))
    assert list(fits.restarts.status[0]) == [Status.DECREASED, E, E, E, E, E]
    assert fits.restarts.objective[0, 5] > fits.objective[0] == 1.0
    assert fits.status[0] == Status.DECREASED


@pytest.mark.parametrize("end, status", [(2000.0, G), (np.nan, Status.NON_FINITE)])
def test_where_all_that_led_collapse_the_others_go_on(end: float, status: Status) -> None:
    """And a dataset beside them that has a winner sends nobody on."""
    broken = [leap(20.0, end, 12), SLOW[0], leap(21.0, end, 14), SLOW[1], leap(0.0, end, 3), SLOW[2]]
    sound = [*SLOW, leap(20.0, end, 12)]
    fits, full = fit_courses(broken, sound, race=RACE), fit_courses(broken, sound)
    assert list(fits.restarts.status[0]) == [status, C, status, C, status, C]
    assert list(fits.restarts.status[1]) == [E, E, E, E, C, status]
    assert list(fits.status) == [C, C]
    np.testing.assert_allclose(fits.objective, full.objective, atol=1e-5)
    assert fits.restarts.iterations[0, 4] == 4  # and did not run again


def test_where_everything_collapses_the_best_collapse_is_reported() -> None:
    courses = [leap(20.0 + r, 2000.0 + r, 12) for r in range(STARTS)]
    fits = fit_courses(courses, race=RACE)
    assert np.all(fits.restarts.status == G)
    assert fits.status[0] == G
    assert fits.objective[0] == 2005.0


@pytest.mark.parametrize("limit", [8, 5])
def test_a_limit_no_longer_than_the_short_run_leaves_nothing_to_race(limit: int) -> None:
    courses = [*SLOW, FAST]
    raced, full = (fit_courses(courses, race=r, stop=Stop(max_iterations=limit)) for r in (RACE, None))
    same_fits(raced, full)
    assert list(raced.restarts.status[0]) == [M] * 5 + [C]


@pytest.mark.parametrize("limit", [9, 12])
def test_the_limit_counts_the_short_run(limit: int) -> None:
    fits = fit_courses([[float(r + t) for t in range(COURSE)] for r in range(STARTS)], race=RACE,
                       stop=Stop(max_iterations=limit))  # fmt: skip
    assert list(fits.restarts.status[0]) == [E] * 4 + [M] * 2
    assert list(fits.restarts.iterations[0]) == [8] * 4 + [limit] * 2
    assert fits.objective[0] == 5.0 + limit - 1


@pytest.mark.parametrize("race", [Race(8, STARTS), Race(1, 100)])
def test_no_more_restarts_than_are_kept_are_no_race(race: Race) -> None:
    same_fits(fit_courses([*SLOW, FAST], race=race), fit_courses([*SLOW, FAST]))


def test_one_restart_and_given_starts_are_no_race() -> None:
    same_fits(play([SLOW[0], FAST], race=Race(2, 1)), play([SLOW[0], FAST]))
    given = emjax.fit_many(LINES, lines(), SEED, start=base().params, race=Race(2, 1))
    same_fits(given, emjax.fit_many(LINES, lines(), SEED, start=base().params))


def test_perturbed_starts_are_raced() -> None:
    near = emjax.Perturbed(base().params, 1.0)
    fits = emjax.fit_many(LINES, lines(), SEED, start=near, restarts=RESTARTS, race=Race(5, 2))
    assert np.any(fits.restarts.status == E)
    assert np.all(fits.objective > base().objective - 1e-5)


# --- the engine's promises


RACED = Race(iterations=6, keep=2)


@cache
def raced() -> Fits:
    """The batch of tests/promises.py, raced."""
    fits = emjax.fit_many(LINES, lines(), SEED, restarts=RESTARTS, race=RACED)
    assert np.sum(fits.restarts.status == E) > D
    return fits


def test_a_race_changes_which_restarts_end_not_where() -> None:
    ended = raced().restarts.status == C
    assert np.all(ended.sum(axis=1) >= 2)
    np.testing.assert_allclose(raced().restarts.objective[ended], base().restarts.objective[ended], atol=1e-5)
    early = raced().restarts.status == E
    assert np.all(raced().restarts.objective[early] < base().restarts.objective[early])
    assert raced().restarts.iterations.sum() < base().restarts.iterations.sum()
    assert np.all(raced().status == C)
    best = np.max(np.where(ended, raced().restarts.objective, -np.inf), axis=1)
    np.testing.assert_allclose(raced().objective, best, atol=1e-5)


def test_a_raced_fit_does_not_depend_on_its_company() -> None:
    back = np.arange(D)[::-1]
    settings: Any = {"restarts": RESTARTS, "race": RACED}
    same_fits(raced(), emjax.fit_many(LINES, lines(), SEED, chunk=5, threads=3, **settings))
    turned = emjax.fit_many(LINES, at(lines(), back), SEED, ids=back, chunk=4, **settings)
    same_fits(raced(), turned, rows_b=back)
    same_fits(raced()[7], emjax.fit(LINES, at(lines(), 7), SEED, id=7, **settings), (), ())
    y = np.array(lines().y)
    y[1, 3], y[5] = np.nan, -1.0
    sound = np.setdiff1d(np.arange(D), [1, 5])
    broken = emjax.fit_many(LINES, Data(y, lines().x), SEED, **settings)
    same_fits(raced(), broken, sound, sound)
    assert np.all(broken.restarts.status[[1, 5]] == Status.INVALID_DATA)


class Counted(Courses):
    """Counts how often it is traced."""

    def __init__(self) -> None:
        self.traces = 0

    def expect(self, params: Step, prepared: Data) -> Expectation:
        self.traces += 1
        return super().expect(params, prepared)


def test_a_race_compiles_nothing_more() -> None:
    """Not for its second pass, nor for the next race, whatever goes on: 24 lanes fill two blocks, 8 or 12 one."""
    model, data = Counted(), Data(np.tile(np.concatenate([*SLOW, FAST]), (4, 1)))
    emjax.fit_many(model, data, 0, restarts=STARTS, certificate=False, threads=1)
    once = model.traces
    for race in (Race(8, 2), Race(5, 3)):
        fits = emjax.fit_many(model, data, 0, restarts=STARTS, certificate=False, threads=1, race=race)
        assert np.sum(fits.restarts.status == E) > 0
    assert model.traces == once > 0


def test_both_passes_are_counted() -> None:
    """Work efficiency against the two queues simulated by hand."""
    fits = emjax.fit_many(LINES, lines(), SEED, restarts=RESTARTS, race=RACED, certificate=False, threads=1)
    iterations, width = fits.restarts.iterations.ravel(), blocks.width_for(jax.devices()[0], 0)
    again = iterations[iterations > RACED.iterations] - RACED.iterations
    queues = np.minimum(iterations, RACED.iterations), again
    executed = sum(executed_lane_steps(queue, width, blocks.CPU_STEPS) for queue in queues)
    assert len(again) > 0
    assert fits.work_efficiency == pytest.approx(iterations.sum() / executed, rel=1e-12)


def test_guarded_lanes_go_on_from_what_they_accepted() -> None:
    """Newton steps of a Poisson regression, halved on the way: the same maximum with a race as without."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=24)
    data = Data(rng.poisson(np.exp(1.0 + 0.5 * x)).astype(float), x[:, None], offset=np.pad([-4.0, 0.0], (0, 22)))
    fits = [emjax.fit(Poisson(), data, 0, restarts=2, certificate=False, race=r) for r in (None, Race(4, 1))]
    assert list(fits[1].restarts.status) == [C, E]
    assert fits[1].objective == pytest.approx(fits[0].objective, abs=1e-6)


def test_a_race_in_float32_is_polished() -> None:
    fits = emjax.fit_many(LINES, lines(), SEED, restarts=RESTARTS, race=RACED, precision="float32")
    assert np.all(fits.status == C)
    assert np.sum(fits.restarts.status == E) > D
    np.testing.assert_allclose(fits.objective, raced().objective, atol=1e-4)


def test_auto_races_every_round() -> None:
    """Ten at a time, of which three run to their ends; only those are observations."""
    y = np.array([[0.0] * 8, [1.0] * 8, [0.0] * 8])
    fits = emjax.fit_many(Plain(), Data(y), SEED, restarts="auto", race=Race(2, 3), certificate=False)
    assert list(np.sum(fits.restarts.status == C, axis=1)) == [3, 30, 3]
    assert list(np.sum(fits.restarts.status == E, axis=1)) == [7, 70, 7]
    np.testing.assert_array_equal(fits.unseen < choice.ENOUGH, [True, False, True])
    assert fits.objective[1] == np.max(fits.restarts.objective[1])


# --- what the landscape says


def test_out_raced_restarts_are_no_evidence() -> None:
    """Neither for modes that were not seen, nor against a mode that the only restart left reached."""

    def suspect(values: Any, status: Any) -> bool:
        found = landscape(values, status)
        return bool(choice.suspicion(found, choice.choose(found, np.zeros(1)))[0] & Flag.SUSPECT)

    assert not suspect([3.0, 2.0, 2.0], [C, E, E])
    assert not suspect([3.0, 2.0, 5.0], [C, E, E])
    assert not suspect([3.0, 3.0, 2.0], [C, C, E])
    assert suspect([3.0, 2.0, 2.5], [C, C, E])
    assert choice.unseen(landscape([3.0, 3.0, 2.0, 9.0], [C, C, E, E]))[0] == 0.0
    assert np.isnan(choice.unseen(landscape([3.0, 2.0], [G, E]))[0])


def test_words_and_files(tmp_path: Path) -> None:
    one = raced()[0]
    early = int(np.sum(one.restarts.status == E))
    assert f"of {RESTARTS - early} at the mode reported ({early} more were out-raced)" in one.summary()
    assert "6 iterations, then the best 2 of a dataset go on" in one.summary()
    mean = np.mean(np.sum(raced().restarts.status == E, axis=1))
    assert f"restarts          {RESTARTS} each, {mean:g} of them out-raced" in raced().summary()
    assert "race              none" in base().summary()
    assert "out-raced" not in base()[0].summary()
    raced().save(tmp_path / "fits.npz")
    back = emjax.load(tmp_path / "fits.npz")
    same_fits(raced(), back)
    assert back.settings.race == raced().settings.race == RACED


@pytest.mark.slow
def test_the_command_line_races(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Race | None] = []

    def watched(*args: Any, race: Race | None = None, **settings: Any) -> Fits:
        asked.append(race)
        return emjax_fit_many(*args, race=race, **settings)

    emjax_fit_many = emjax.fit_many
    monkeypatch.setattr(emjax, "fit_many", watched)
    rows = [f"{y},{x}" for y, x in zip(lines().y[0], lines().x[0, :, 0])]
    (tmp_path / "lines.csv").write_text("\n".join(["y,x", *rows]) + "\n")
    for option in ([], ["--race"]):
        assert run("fit", tmp_path / "lines.csv", "y ~ x", "--components", 2, "--restarts", 6, *option).status == 0
    assert asked == [None, Race()]
    size = ["--replicates", 6, "--restarts", 8, "--n", 96, "--noise", 25]
    ran = run("demo", *size, "--race", "--out", tmp_path / "demo")
    assert ran.status == 0
    assert "8 random starts each, raced (50 iterations, then the best 5 go on)" in ran.out
    early = next(line.split() for line in ran.out.splitlines() if line.startswith("STOPPED_EARLY"))
    assert int(early[1]) == 0 < int(early[2])


@pytest.mark.parametrize("wrong", [0, -1, 2.5, True, "50", None, 2**31])
@pytest.mark.parametrize("name", ["iterations", "keep"])
def test_a_race_that_is_none(name: str, wrong: Any) -> None:
    with pytest.raises(DataError, match=rf"Race\({name}=.*whole number"):
        Race(**{name: wrong})


@pytest.mark.parametrize("wrong", [True, 5, "yes", Race])
def test_something_else_than_a_race(wrong: Any) -> None:
    with pytest.raises(DataError, match="race=.*Race"):
        emjax.fit_many(LINES, lines(), SEED, restarts=RESTARTS, race=wrong)

"""Studies: keys that follow from content, runs that are resumed and extended, replicates made again to the bit."""

import functools
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import emjax
from emjax import DataError
from emjax.studies import Method, grid, loading, run_until, running, scenarios, specification
from tests import study_cases
from tests.study_cases import CHUNK, digests, study


def run(one: Any, directory: Any, **settings: Any) -> Any:
    return one.run(directory, **{"chunk": CHUNK, "threads": 1, **settings})


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of the study, computed without an interruption."""
    directory = tmp_path_factory.mktemp("whole")
    assert run(study(), directory) == running.Ran(12, 0, (), True)
    return directory


def test_grids() -> None:
    assert grid(n=[1, 2], mode=["a", "b"])[1:3] == [{"n": 1, "mode": "b"}, {"n": 2, "mode": "a"}]
    assert grid(n=100, shape="wide") + grid(n=np.arange(2)) == [{"n": 100, "shape": "wide"}, {"n": 0}, {"n": 1}]
    plain = scenarios.checked(grid(n=np.arange(1), level=np.float64(0.5)))
    assert plain == [{"n": 0, "level": 0.5}] and type(plain[0]["n"]) is int


@pytest.mark.parametrize(
    "given, message",
    [
        ([{"n": 1}, {"n": 1.0}], "is given twice"),
        ([], "at least one scenario"),
        ([{"n": float("nan")}], "must be finite"),
        ([{"f": len}], "levels are numbers"),
        ([3], "give a dictionary"),
        ("n", "give grid"),
    ],
)
def test_scenarios_that_are_refused(given: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        study(scenarios=given)


def test_a_key_follows_from_what_a_scenario_holds_not_from_its_place() -> None:
    one, more = study(), study(scenarios=grid(mean=[1.0, 0.0, 2.5]), replicates=7)
    for scenario in one.scenarios:
        for purpose in ("data", "starts"):
            np.testing.assert_array_equal(one.root(scenario, purpose), more.root(scenario, purpose))
    roots = {tuple(one.root(own, purpose)) for own in one.scenarios for purpose in ("data", "starts", "bootstrap")}
    assert len(roots) == 6
    assert tuple(study(seed=1).root(one.scenarios[0], "data")) not in roots
    names = [scenarios.name_of(own) for own in ({"a": 1, "b": 2.0}, {"b": 2, "a": 1.0}, {"a": 1, "b": 2.5})]
    assert names[0] == names[1] != names[2]
    shared = study(common_random_numbers=True)
    np.testing.assert_array_equal(*(shared.root(own, "data") for own in shared.scenarios))


def test_common_random_numbers_are_those_of_every_scenario() -> None:
    own, shared = study(), study(common_random_numbers=True)
    y = [[one.replay(scenario, 3).data.y - scenario["mean"] for scenario in one.scenarios] for one in (own, shared)]
    assert np.all(y[0][0] != y[0][1])
    np.testing.assert_allclose(y[1][0], y[1][1], rtol=0, atol=1e-14)


def test_an_interrupted_run_goes_on_and_ends_with_the_same_bytes(whole: Path, tmp_path: Path) -> None:
    calls: list[Any] = []

    def stop(step: emjax.Advance) -> None:
        calls.append(step)
        if len(calls) == 4:
            raise KeyboardInterrupt

    ran = run(study(), tmp_path, progress=stop)
    assert ran == running.Ran(4, 0, (), False)
    assert [step.done for step in calls] == [8, 16, 24, 32] and calls[0].total == 96
    assert len(digests(tmp_path)) == 4 and not list((tmp_path / "claims").iterdir())
    assert run(study(), tmp_path) == running.Ran(8, 4, (), True)
    assert digests(tmp_path) == digests(whole)


def test_an_interrupt_inside_a_chunk_loses_that_chunk_alone(whole: Path, tmp_path: Path) -> None:
    def interrupted(data: Any, keys: Any) -> Any:
        raise KeyboardInterrupt

    ran = run(study(methods={"mean": study_cases.mean, "last": interrupted}), tmp_path)
    assert ran == running.Ran(1, 0, (), False)
    ((name, digest),) = digests(tmp_path).items()
    assert digests(whole)[name] == digest


def test_more_replicates_scenarios_and_methods_compute_only_what_is_missing(whole: Path, tmp_path: Path) -> None:
    small = study(scenarios=grid(mean=2.5), replicates=5, methods={"mean": study_cases.mean})
    assert run(small, tmp_path).computed == 1
    assert len(loading.cells(tmp_path)[0].outcomes.status) == 5
    assert run(study(replicates=8), tmp_path, chunk=None) == running.Ran(3, 1, (), True)
    assert run(study(), tmp_path) == running.Ran(8, 4, (), True)
    assert digests(tmp_path) == digests(whole)
    assert run(small, tmp_path).computed == 0
    cells = loading.cells(tmp_path)
    assert [(cell.scenario["mean"], cell.method) for cell in cells] == [
        (mean, method) for mean in (2.5, 0.0) for method in ("mean", "the median")
    ]
    assert all(list(cell.outcomes.replicate) == list(range(20)) for cell in cells)


def test_the_stored_numbers_are_those_of_the_data(whole: Path) -> None:
    replay = study().replay({"mean": 2.5}, 17)
    found = {cell.method: cell for cell in loading.cells(whole) if cell.scenario["mean"] == 2.5}
    own = found["mean"].outcomes
    assert own.estimate[17, 0] == replay.data.y.mean() == replay.fits["mean"]["mean"][0]
    assert own.se[17, 0] == replay.data.y.std(ddof=1) / np.sqrt(50)
    assert own.truth[17, 0] == replay.truth["mean"] == 2.5
    assert found["the median"].outcomes.estimate[17, 0] == np.median(replay.data.y)
    assert own.upper[17, 0] - own.estimate[17, 0] == pytest.approx(1.959964 * own.se[17, 0], rel=1e-6)
    assert np.all(np.isnan(found["the median"].outcomes.lower))
    assert found["mean"].entries == (("mean", "all"),)
    assert np.all(own.status == emjax.Status.CONVERGED) and np.abs(own.estimate.mean() - 2.5) < 5 / np.sqrt(20 * 50)


CHANGES: list[tuple[dict[str, Any], str]] = [
    ({"seed": 5}, f"seed was {2**70} and is 5"),
    ({"common_random_numbers": True}, "common_random_numbers was False and is True"),
    ({"methods": {"mean": study_cases.median}}, "methods.mean.function was 'mean' and is 'median'"),
    ({"generate": lambda key, scenario: study_cases.generate(key, scenario)}, "generate.function was 'generate'"),
    ({"estimands": ["mean"]}, r"estimands was None and is \['mean'\]"),
]


@pytest.mark.parametrize("changes, message", CHANGES)
def test_a_changed_specification_is_refused(changes: dict[str, Any], message: str, whole: Path) -> None:
    before = (whole / "manifest.json").read_text()
    with pytest.raises(DataError, match=message):
        run(study(**changes), whole)
    assert (whole / "manifest.json").read_text() == before


def test_settings_of_a_method_are_compared_field_by_field(tmp_path: Path) -> None:
    specified = study_cases.lines().specified()
    changed = study_cases.lines(methods={"EM": Method(study_cases.LINES, restarts=3)}).specified()
    store = running.Store(tmp_path)
    store.begin(specified, 8)
    with pytest.raises(DataError, match=r"methods\.EM\.restarts was 2 and is 3"):
        store.begin(changed, 8)
    by_scenario = study_cases.lines(methods={"EM": lambda own: Method(study_cases.LINES, restarts=int(own["noise"]))})
    restarts = [of["restarts"] for of in by_scenario.specified()["methods"]["EM"]["by scenario"].values()]
    assert restarts == [3, 5]


def test_another_chunk_size_is_refused(whole: Path) -> None:
    with pytest.raises(DataError, match="chunk was 8 and is 4"):
        run(study(), whole, chunk=4)


def test_a_foreign_worker_is_refused(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = running.environment.describe()
    monkeypatch.setattr(running.environment, "describe", lambda: {**here, "jaxlib": "0.0.1", "python": "3.99"})
    with pytest.raises(DataError, match="jaxlib was .* and is '0.0.1'; files would no longer") as refused:
        run(study(), whole)
    assert "python" not in str(refused.value)


def test_a_fault_names_scenario_and_method(tmp_path: Path) -> None:
    wrong = study(methods={"short": lambda data, keys: {"mean": np.zeros(3)}})
    with pytest.raises(DataError, match=r"method 'short' in scenario \{'mean': 0.0\}: .*shape \(3,\)"):
        run(wrong, tmp_path)
    with pytest.raises(DataError, match="estimands=.'slope'. are none of this method's parameters: mean"):
        run(study(estimands=["slope"]), tmp_path / "other")


def _raise(*_: Any) -> Any:
    raise KeyError("slope")


@pytest.mark.parametrize(
    "changes, words",
    [
        (
            {"generate": lambda key, scenario: _raise()},
            r"generate in scenario \{'mean': 0.0\}: KeyError: 'slope'; mend",
        ),
        (
            {"methods": {"mean": lambda data, keys: _raise()}},
            r"method 'mean' in scenario \{'mean': 0.0\}, replicates 0 to 7: KeyError: 'slope'; mend it and",
        ),
    ],
    ids=["generate", "method"],
)
def test_what_a_users_function_raises_names_scenario_method_and_replicates(
    changes: dict[str, Any], words: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=words) as raised:
        run(study(**changes), tmp_path)
    assert isinstance(raised.value.__cause__, KeyError)
    with pytest.raises(DataError, match=r"methods\['a'\] failed in scenario .*KeyError: 'slope'"):
        run(study(methods={"a": lambda scenario: _raise()}), tmp_path)
    for made, message in (("text", "no array of numbers"), (np.zeros((CHUNK, 0)), r"shape \(8, 0\)")):
        with pytest.raises(DataError, match=message):
            run(study(methods={"a": lambda data, keys: {"mean": made}}), tmp_path / message[:2])  # noqa: B023


def test_settings_of_a_run_that_are_refused(tmp_path: Path) -> None:
    for settings, message in [
        ({"threads": 0}, "threads=0"),
        ({"limit": "x"}, "limit='x'"),
        ({"client": "tcp://"}, "give a dask.distributed.Client"),
        ({"progress": "bar"}, "a function of an Advance"),
        ({"retries": -1}, "retries=-1"),
    ]:
        with pytest.raises(DataError, match=message):
            study().run(tmp_path, **settings)
    assert not list(tmp_path.iterdir())
    with pytest.raises(DataError, match="directory=None"):
        study().run(None)


def test_results_and_replays_are_those_of_this_study(whole: Path) -> None:
    with pytest.raises(DataError, match=r"holds another study: seed was \d+ and is 1"):
        study(seed=1).results(whole)
    assert len(study(replicates=8, methods={"mean": study_cases.mean}).results(whole).cells) == 4  # all that is there
    described = study(description={"aims": "Which of the two is nearer."}).results(whole)
    assert "## Aims\n\nWhich of the two is nearer.\n" in described.report()
    with pytest.raises(DataError, match="no scenario {'mean': 7.0}"):
        study().replay({"mean": 7.0}, 0)
    first, again = (study().replay({"mean": mean}, 3).data.y for mean in (0.0, 0))
    np.testing.assert_array_equal(first, again)


def test_a_run_until_keeps_the_chunks_of_its_directory(tmp_path: Path) -> None:
    run(study(replicates=8), tmp_path)
    found = run_until(study(replicates=8), tmp_path, "bias", 0.04, 64)
    table = found.performance(["bias"])
    assert np.max(table["mcse"]) <= 0.04 and np.all(table["n_sim"] % CHUNK == 0) and np.all(table["n_sim"] > 8)


def test_a_share_of_the_work_is_where_a_process_begins(tmp_path: Path) -> None:
    seen: list[str] = []

    def stop(step: emjax.Advance) -> None:
        seen.extend(digests(tmp_path))
        raise KeyboardInterrupt

    run(study(), tmp_path, worker=(1, 2), progress=stop)
    assert seen == [study().units(CHUNK)[6].file]
    with pytest.raises(DataError, match="process I of N"):
        run(study(), tmp_path, worker=(3, 2))


def test_functions_are_told_apart_by_what_they_say() -> None:
    made = [eval(f"lambda key: key + {number}") for number in (1, 2, 1)]  # typed in: there is no source text
    first, second, again = (specification.describe(function) for function in made)
    assert first == again != second

    def held(number: int) -> Any:
        def function(key: Any) -> Any:
            return key + number

        return function

    first, second, again = (specification.describe(held(number)) for number in (1, 2, 1))
    assert first == again != second and first["source"] == second["source"]
    assert specification.describe(functools.partial(held, 3))["args"] == [3]
    assert specification.describe({"a": (jnp.arange(2), np.float64(np.inf))}) == {"a": [[0, 1], "inf"]}


def test_what_is_no_study() -> None:
    for changes, message in [
        ({"methods": {}}, "by name"),
        ({"methods": {"a": 3}}, "give a Method"),
        ({"replicates": 0}, "whole number"),
        ({"seed": 1.5}, "whole number"),
        ({"generate": 3}, "give a function"),
        ({"estimands": "mean"}, "a list of names"),
        ({"name": ""}, "a text as its name"),
        ({"description": {"aim": "none"}}, "of title, aims, data_generating"),
        ({"common_random_numbers": "no"}, "True or False"),
        ({"scenarios": [{"mean": 0.0, "estimate": 1}]}, "'estimate' has the name of a column"),
        ({"methods": {"a": max}}, "a function of scenario or data, keys"),
        ({"methods": {"a": lambda data, keys, more: {}}}, "a function of scenario or data, keys"),
        ({"methods": {"a" * 200: study_cases.mean}}, "a shorter name"),
    ]:
        with pytest.raises(DataError, match=message):
            study(**changes)
    with pytest.raises(DataError, match="intervals='wald'"):
        Method(study_cases.LINES, intervals="wald")
    with pytest.raises(DataError, match="covariance=True"):
        Method(study_cases.LINES, intervals=None, covariance=True)

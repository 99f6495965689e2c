"""What a study refuses before it writes anything, and what it lets a user correct after a first failure."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import emjax
from emjax import Data, DataError
from emjax.studies import From, Method, Results, Simulated, running, store
from emjax.studies.claims import Claims
from tests import study_cases
from tests.promises import LINES
from tests.study_cases import CHUNK, digests, study
from tests.study_cells import mixture_cell

THREE = emjax.Mixture(emjax.LinearRegression(), 3)
PRIORS = {"family": emjax.GammaPrior()}


def run(one: Any, directory: Any) -> Any:
    return one.run(directory, chunk=CHUNK, threads=1)


# --- settings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"restarts": 0}, "restarts=0: give a whole number"),
        ({"race": 5}, "race=5: give Race"),
        ({"stop": 1e-6}, "stop=1e-06: give Stop"),
        ({"degeneracy": True}, "degeneracy=True: give Degeneracy"),
        ({"start": "best"}, "start='best' is not known"),
        ({"start": "truth", "restarts": 5}, "the truth is one start; give no restarts"),
        ({"acceleration": "fast"}, "acceleration='fast': use 'auto', 'squarem' or None"),
        ({"precision": "half"}, "precision='half'"),
        ({"prior": {"means": emjax.Dirichlet(2.0)}}, r"prior=\['means'\]: give a dictionary with the names weights"),
        ({"fixed": {"weights": [0.5, 0.6]}}, "must sum to 1"),
        ({"intervals": "bootstrap", "resampling": "rows"}, "kind='rows': use one of parametric"),
        ({"intervals": "bootstrap", "bootstraps": 38}, r"Method\(bootstraps=38\): intervals of level 0.95 need 39"),
        ({"intervals": "bootstrap", "bootstraps": 198, "level": 0.99}, "intervals of level 0.99 need 199"),
    ],
)
def test_a_method_refuses_what_the_engine_would(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        Method(LINES, **settings)


def test_as_many_bootstraps_as_an_interval_needs_are_enough() -> None:
    for level, count in ((0.95, 39), (0.99, 199), (0.9, 19)):
        assert Method(LINES, intervals="bootstrap", bootstraps=count, level=level).bootstraps == count


@pytest.mark.parametrize(
    "method, message",
    [
        (Method(LINES, prior=PRIORS), "method 'EM' in scenario .*prior=.*GammaPrior.* does not fit the model and data"),
        (Method(LINES, fixed={"weights": [0.2, 0.3, 0.5]}), r"method 'EM' .*fixed\['weights'\] has shape \(3,\)"),
        (Method(THREE, start="truth"), r"method 'EM' in .*A start has parameters of shape \(2,\) where .* \(3,\)"),
        (Method(emjax.Mixture(emjax.Poisson(), 2)), "method 'EM' in scenario .*Poisson has no x"),
    ],
)
def test_settings_that_do_not_suit_the_data_are_told_before_anything_is_written(
    method: Method, message: str, tmp_path: Path
) -> None:
    for by_name in ({"EM": method}, {"EM": lambda scenario: method}):
        with pytest.raises(DataError, match=message):
            study_cases.lines(methods=by_name).run(tmp_path / "d")
    assert not (tmp_path / "d").exists()


def test_a_truth_that_is_no_start_is_told_before_anything_is_written(tmp_path: Path) -> None:
    def generate(key: Any, scenario: dict[str, Any]) -> Simulated:
        return Simulated(Data(jax.random.normal(key, (50,), jnp.float64)), {"mean": jnp.float64(0.0)})

    method = Method(emjax.Mixture(emjax.Gaussian(), 2), start="truth")
    with pytest.raises(DataError, match="method 'EM' in .*start='truth': generate must give the true parameters as"):
        study(generate=generate, methods={"EM": method}).run(tmp_path / "d")
    assert not (tmp_path / "d").exists()


def test_coefficients_without_their_covariates_are_refused(tmp_path: Path) -> None:
    """Broadcast, an intercept and a slope would be added up, and the data be those of another model."""
    for x, message in ((None, "0 covariates in x: give 1 a"), (lambda key, n: jnp.ones((n, 2)), "2 covariates in x")):
        generate = From(LINES, study_cases.truth, "n", x)
        with pytest.raises(DataError, match=rf"generate in scenario .*shape \(2, 2\) do not go with {message}"):
            study_cases.lines(generate=generate).run(tmp_path / "d")
    assert not (tmp_path / "d").exists()


def test_estimands_that_no_method_has_are_told_before_anything_is_written(tmp_path: Path) -> None:
    for names, message in [
        (["slope"], "estimands=.'slope'. are none of this method's parameters: coefficients, scale, weights .'EM'."),
        (["scale", "slope"], "estimands: no method has the parameter 'slope'; they have coefficients, scale, weights"),
    ]:
        with pytest.raises(DataError, match=message):
            study_cases.lines(estimands=names).run(tmp_path / "d")
    assert not (tmp_path / "d").exists()


# --- after a first failure --------------------------------------------------------------------------------------------


def _typo(data: Data, keys: Any) -> dict[str, Any]:
    raise ValueError("typo")


def test_a_study_that_failed_at_first_may_be_corrected(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="ValueError: typo"):
        study(methods={"mean": _typo}, seed=1).run(tmp_path, chunk=4)
    assert not digests(tmp_path) and (tmp_path / "manifest.json").exists()
    assert run(study(replicates=8), tmp_path).complete
    manifest = store.Store(tmp_path).manifest()
    assert (manifest["chunk"], manifest["specification"]) == (CHUNK, study(replicates=8).specified())


def test_a_method_that_failed_at_first_may_be_corrected_and_others_not(tmp_path: Path) -> None:
    run(study(replicates=8), tmp_path / "whole")
    with pytest.raises(DataError, match="ValueError: typo"):
        run(study(replicates=8, methods={"mean": study_cases.mean, "the median": _typo}), tmp_path / "d")
    assert len(digests(tmp_path / "d")) == 1
    with pytest.raises(DataError, match=r"methods\.mean\.function was 'mean' and is 'median'"):
        run(study(replicates=8, methods={"mean": study_cases.median}), tmp_path / "d")
    assert run(study(replicates=8), tmp_path / "d") == running.Ran(3, 1, (), True)
    assert digests(tmp_path / "d") == digests(tmp_path / "whole")


def test_what_another_process_is_at_work_on_is_not_given_up(tmp_path: Path) -> None:
    """It has a claim from when it began until its end, and none once it was killed."""
    store.Store(tmp_path).make()
    with Claims(tmp_path / "claims") as other:
        assert running._begin(study(), store.Store(tmp_path), other, CHUNK) == CHUNK
        with pytest.raises(DataError, match="seed was .* and is 1"):
            run(study(seed=1), tmp_path)
    code = "import os, sys; from pathlib import Path; from emjax.studies import running, store; "
    code += "from emjax.studies.claims import Claims; from tests.study_cases import study; at = Path(sys.argv[1]); "
    code += "running._begin(study(), store.Store(at), Claims(at / 'claims'), 8); os.kill(os.getpid(), 9)"
    assert subprocess.run([sys.executable, "-c", code, tmp_path], check=False).returncode == -9
    assert len(list((tmp_path / "claims").iterdir())) == 1
    assert run(study(seed=1, replicates=8), tmp_path).complete
    assert not list((tmp_path / "claims").iterdir())


def test_a_manifest_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(json.dumps({"name": "a web site"}))
    with pytest.raises(DataError, match="format None"):
        run(study(), tmp_path)
    assert json.loads((tmp_path / "manifest.json").read_text()) == {"name": "a web site"}


# --- results ----------------------------------------------------------------------------------------------------------


def test_options_and_measures_that_are_not_known(tmp_path: Path) -> None:
    run(study(replicates=8), tmp_path)
    with pytest.raises(DataError, match=r"results\(algn=...\) is no option of results; give some of align, loadings"):
        study(replicates=8).results(tmp_path, algn=None)
    found = study(replicates=8).results(tmp_path, align=None)
    for measures in (["accuracy"], "accuracy", 5, [5]):
        with pytest.raises(DataError, match="there is no measure"):
            found.performance(measures)  # type: ignore
    with pytest.raises(DataError, match="there is no measure 'accuracy'"):
        emjax.studies.run_until(study(), tmp_path / "d", "accuracy", 0.1, 64)
    assert not (tmp_path / "d").exists()


@pytest.mark.parametrize("levels", [[True, 1], [0, False], [1, "1"], [1.5, "1.5"], [[True], [1]]])
def test_levels_that_look_alike_are_refused(levels: list[Any]) -> None:
    with pytest.raises(DataError, match=r"scenario 1: the factor 'mean' has the levels .*, which no table tells apart"):
        study(scenarios=[{"mean": level} for level in levels])
    study(scenarios=[{"mean": levels[0]}, {"other": levels[1]}])


def test_levels_of_intervals_are_each_methods_own(tmp_path: Path) -> None:
    """In the limits of estimands by a function, in tables, and in the lines of figures."""
    methods = {"EM": {"level": 0.9}, "by": {"by scenario": {}}, "mean": {"function": "mean"}}
    cells = [mixture_cell({"n": 1}, name, 40, swapped=False, failures=False) for name in methods]
    methods["by"]["by scenario"] = {emjax.studies.scenarios.name_of({"n": 1}): {"level": 0.5}}
    description = {"specification": {"methods": methods}}
    found = Results(cells, description, estimands=lambda values: {"shared": values["shared"]})
    assert found.levels == (0.9, 0.5, 0.95) and [found.level_of(cell) for cell in cells] == [0.9, 0.5, 0.95]
    for cell, z in zip(found.aligned, (1.6448536, 0.6744898, 1.9599640), strict=True):
        own = cell.outcomes
        np.testing.assert_allclose(own.upper - own.estimate, z * own.se, rtol=1e-6)
    with pytest.raises(DataError, match="the methods' intervals have the levels 0.9, 0.5, 0.95; take level_of"):
        assert found.level
    assert Results(cells[:1], description).level == 0.9 and Results(cells, {"level": 0.8}).level == 0.8
    assert Results(cells).level == 0.95
    pytest.importorskip("xarray")
    np.testing.assert_array_equal(found.to_xarray()["interval_level"], [[0.9, 0.5, 0.95]])
    pytest.importorskip("matplotlib")
    from emjax.extras import study_plots

    drawn = study_plots.zip_plot(found, ("shared", "all"))
    lines = [[line.get_ydata()[0] for line in axis.lines] for axis in drawn.axes if axis.get_visible()]
    assert [100 * level in line for level, line in zip(found.levels, lines, strict=True)] == [True] * 3
    axis = study_plots.lollipop(found, "coverage").axes[0]
    dashed = {line.get_xdata()[0] for line in axis.lines if line.get_marker() != "o"}
    assert dashed == {0.9, 0.5, 0.95}


def test_a_report_says_the_settings_of_a_method_by_scenario_once() -> None:
    of = {
        "a": {"class": "Method", "restarts": 1, "level": 0.5, "stop": {"class": "Stop", "tol": 1}},
        "b": {"class": "Method", "restarts": 5, "level": 0.5, "stop": {"class": "Stop", "tol": 1}},
        "c": {"class": "Method", "restarts": 5, "level": 0.5, "stop": {"class": "Stop", "tol": 2}},
    }
    scenarios = {"a": {"n": 10, "noise": 1.0}, "b": {"n": 20, "noise": 1.0}, "c": {"n": 20, "noise": 2.0}}
    specification = {"methods": {"EM": {"by scenario": of}}, "scenarios": scenarios}
    text = Results([mixture_cell({"n": 10, "noise": 1.0}, n=20)], {"specification": specification}).report()
    settings = "restarts=1 where n is 10 or 5 where n is 20, level=0.5, "
    assert f"- **EM** `Method({settings}stop=Stop(tol=1 where noise is 1.0 or 2 where noise is 2.0))`\n" in text
    of["a"]["stop"]["tol"] = 3
    text = Results([mixture_cell({"n": 10, "noise": 1.0}, n=20)], {"specification": specification}).report()
    assert "stop=Stop(tol=3 or 1 or 2 by scenario)" in text

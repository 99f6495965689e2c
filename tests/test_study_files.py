"""Studies from TOML files and the command line: what they mean, and every bad key in one sentence."""

import re
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import emjax
from emjax import DataError
from emjax.extras import study_files
from emjax.studies import Method
from tests.commands import one_sentence
from tests.commands import run as command

SPEC = """
[study]
name = "lines"
replicates = 8
seed = 4

[scenarios]
n = [50]
noise = [3.0, 5.0]

[generate]
model = "LinearRegression"
components = 2
x = [{distribution = "uniform", low = 0, high = "noise"}, {distribution = "normal", mean = 5, sd = 2}]

[generate.parameters]
weights = [0.5, 0.5]
coefficients = [[1.0, 0.5, 0.0], ["noise", 1.5, 0.0]]
scale = {times = "noise", of = [0.1, 0.2]}

[methods.EM]
restarts = 2

[methods.truth]
start = "truth"
intervals = "none"
"""
DIRICHLET = 'distribution = "Dirichlet"'
FUNCTIONS = """
import jax, jax.numpy as jnp, numpy as np
from emjax import Data
from emjax.studies import Simulated
def generate(key, scenario):
    return Simulated(Data(scenario["mean"] + jax.random.normal(key, (50,), jnp.float64)))
def mean(data, keys):
    return {"mean": np.mean(data.y, axis=1)}
"""
OWN = """
[study]
replicates = 20
generate = "own.py:generate"
[[scenario]]
mean = 1.0
[[scenario]]
mean = 3
[methods.mean]
function = "own.py:mean"
"""


def write(folder: Path, text: str = SPEC, name: str = "spec.toml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_a_specification_is_a_study(tmp_path: Path) -> None:
    study = study_files.read(write(tmp_path))
    assert (study.name, study.replicates, study.seed) == ("lines", 8, 4)
    assert study.scenarios == [{"n": 50, "noise": 3.0}, {"n": 50, "noise": 5.0}]
    lines = emjax.Mixture(emjax.LinearRegression(), 2)
    assert study.methods["EM"] == Method(lines, restarts=2)
    assert study.methods["truth"] == Method(lines, start="truth", intervals=None)
    drawn = study.generate.at(study.scenarios[1])
    assert (drawn.model, drawn.n, drawn.d) == (lines, 50, None)
    assert drawn.x.columns == (("uniform", 0.0, 5.0), ("normal", 5.0, 2.0))
    np.testing.assert_array_equal(drawn.params.family.coefficients, [[1.0, 0.5, 0.0], [5.0, 1.5, 0.0]])
    np.testing.assert_array_equal(drawn.params.family.scale, [0.5, 1.0])
    assert study_files.read(tmp_path / "spec.toml", 12).replicates == 12


def test_a_description_is_no_part_of_the_specification(tmp_path: Path) -> None:
    path = write(tmp_path, SPEC + '[description]\naims = "to see"\n')
    assert study_files.read(path).description == {"aims": "to see"}
    assert study_files.read(path).specified() == study_files.read(write(tmp_path, SPEC, "b.toml")).specified()


def test_covariates_have_their_distributions(tmp_path: Path) -> None:
    study = study_files.read(write(tmp_path))
    with jax.enable_x64(True):
        x = np.asarray(study.generate.at(study.scenarios[1]).x(jax.random.key(0), 4000))
    assert x.shape == (4000, 2) and x.dtype == np.float64
    assert x[:, 0].min() >= 0 and 4.9 < x[:, 0].max() <= 5.0
    assert abs(x[:, 1].mean() - 5.0) < 4 * 2 / np.sqrt(4000) and abs(x[:, 1].std() - 2.0) < 4 * 2 / np.sqrt(8000)


def test_settings_of_methods(tmp_path: Path) -> None:
    text = SPEC + (
        '[methods.other]\nmodel = "StudentTRegression"\ncomponents = 3\nsettings = {scale = "common"}\n'
        'restarts = "auto"\ntol = 1e-4\nmax_iterations = 50\nrace = {keep = 2}\nacceleration = "squarem"\n'
        'start = ["nearest", "k-means++"]\nlevel = 0.9\nfixed = {weights = [0.5, 0.25, 0.25]}\n'
        '[methods.many]\ncomponents = 3\nrestarts = "n"\nacceleration = "none"\n'
    )
    study = study_files.read(write(tmp_path, text))
    assert study.methods["other"] == Method(
        emjax.Mixture(emjax.StudentTRegression(scale="common"), 3),
        restarts="auto",
        stop=emjax.Stop(1e-4, 50),
        race=emjax.Race(keep=2),
        acceleration="squarem",
        start=("nearest", "k-means++"),
        level=0.9,
        fixed=study.methods["other"].fixed,
    )
    np.testing.assert_array_equal(study.methods["other"].fixed["weights"], [0.5, 0.25, 0.25])
    many = study.method("many", study.scenarios[0])
    assert many == Method(emjax.Mixture(emjax.LinearRegression(), 3), restarts=50, acceleration=None)


def test_hidden_markov_models_and_several_responses(tmp_path: Path) -> None:
    text = SPEC.replace('"LinearRegression"', '"Gaussian"\nlatent = "hidden-markov"')
    head, _, rest = text.partition("x = [")
    tables = "[generate.parameters]\ninitial = [0.5, 0.5]\ntransitions = [[0.9, 0.1], [0.2, 0.8]]\n"
    tables += "means = [[0, 0], [3, 3]]\ncovariances = [[[1, 0], [0, 1]], [[1, 0], [0, 1]]]\n"
    study = study_files.read(write(tmp_path, head + tables + "[methods" + rest.partition("[methods")[2]))
    drawn = study.generate.at(study.scenarios[0])
    assert isinstance(drawn.model, emjax.HiddenMarkov) and drawn.d == 2 and drawn.x is None
    replay = study_files.read(tmp_path / "spec.toml").generate.at(study.scenarios[0])
    assert isinstance(study.methods["EM"].model, emjax.HiddenMarkov) and replay.n == 50


@pytest.mark.parametrize(
    "old, new, message",
    [
        ("replicates = 8", "", "[study] needs the key 'replicates'"),
        ("replicates = 8", "replicates = 'many'", "replicates='many': give a whole number"),
        ("seed = 4", "sed = 4", "[study] has the key 'sed', which is not known; use name, replicates, seed"),
        ("[scenarios]", "[description]\naim = 'x'\n[scenarios]", "give a dictionary of texts, of title, aims"),
        ("noise = [3.0, 5.0]", "noise = []", "[scenarios] noise = [] has no level"),
        ("restarts = 2", "race = {keep = 'a'}", "methods.EM: Race(keep='a')"),
        ("restarts = 2", "covariance = 'a'", "methods.EM: Method(covariance='a')"),
        ("sd = 2", "sd = -2", "generate.x[1]: mean and sd are [5, -2]; give low below high, a positive sd"),
        ("noise = [3.0, 5.0]", "noise = [3.0]\nstatus = 1", "the factor 'status' has the name of a column"),
        ("[study]", "[stduy]", "the file has the key 'stduy'"),
        ("seed = 4", "seed = = 4", "is not TOML: "),
        ("[scenarios]", "[[scenarios]]", "write factors as a table [scenarios]"),
        ('"LinearRegression"', '"Regression"', "model = 'Regression' is not known; use one of LinearRegression"),
        ("components = 2", "components = 0", "at least one component"),
        ("components = 2", "", "[generate] needs the key 'components'"),
        ('components = 2\nx', 'n = "rows"\ncomponents = 2\nx', "generate.n = 'rows' is no factor of the scenarios"),
        ("components = 2\n", "components = 2\nsettings = {scal = 1}\n", "settings of LinearRegression"),
        ('"uniform", low', '"unifrom", low', "distribution = 'unifrom' is not known; give {distribution = 'uniform'"),
        ("low = 0, ", "", "generate.x[0] has the keys distribution, high; give distribution, low and high"),
        ("weights = [", "wieghts = [", "parameters has no 'wieghts'; this model's parameters are weights, coeff"),
        ("weights = [0.5, 0.5]", "", "parameters lacks 'weights'"),
        ("weights = [0.5, 0.5]", "weights = [0.5, 0.7]", "weights"),
        ("of = [0.1, 0.2]", "of = [0.1, 0.2, 0.3]", "parameters.scale has 3 rows; give one for each of 2 components"),
        ("{times =", "{time =", "scale has the keys time, of; a product is {times = 'factor', of = [...]}"),
        ("[[1.0, 0.5, 0.0], [", "[[1.0, 0.5], [", "coefficients is not an array of numbers"),
        ("restarts = 2", "restart = 2", "methods.EM has the key 'restart', which is not known; use model"),
        ("restarts = 2", "restarts = 'm'", "methods.EM.restarts = 'm' is no factor of the scenarios"),
        ("restarts = 2", "tol = -1.0", "methods.EM: Stop(tol=-1.0)"),
        ("restarts = 2", "race = {kep = 2}", "methods.EM.race has the key 'kep'"),
        ("restarts = 2", "function = 'mean'", "methods.EM.function = 'mean'; write it as 'file.py:function'"),
        ("restarts = 2", "function = 'gone.py:mean'", "gone.py, which cannot be read (No such file"),
        ("restarts = 2", "restarts = 0", "methods.EM: restarts=0: give a whole number, 1 or larger"),
        ("restarts = 2", "acceleration = 'fast'", "methods.EM: acceleration='fast': use 'auto', 'squarem' or None"),
        ("restarts = 2", "start = 'truth'\nrestarts = 3", "methods.EM: Method(start='truth', restarts=3)"),
        ("restarts = 2", "fixed = {weight = [0.5, 0.5]}", "methods.EM: fixed=['weight']: give a dictionary with"),
        ("restarts = 2", "fixed = [0.5, 0.5]", "methods.EM.fixed = [0.5, 0.5]; write a table, such as {weights ="),
        ("restarts = 2", "prior = 'Dirichlet'", "methods.EM.prior = 'Dirichlet'; write a table, such as {weights ="),
        ("restarts = 2", "prior = {weights = {}}", "prior.weights: distribution = None is not known"),
        ("restarts = 2", f"prior = {{weights = {{{DIRICHLET}}}}}", "prior.weights needs the key 'concentration'"),
        ("restarts = 2", f"prior = {{weights = {{{DIRICHLET}, a = 1}}}}", "prior.weights has the key 'a'"),
        (
            "restarts = 2",
            f"prior = {{weights = {{{DIRICHLET}, concentration = 'm'}}}}",
            "methods.EM.prior.weights.concentration = 'm' is no factor of the scenarios",
        ),
        (
            "restarts = 2",
            f"prior = {{weights = {{{DIRICHLET}, concentration = 0.5}}}}",
            "methods.EM: Dirichlet(concentration=...): 0.5 must be 1 or larger",
        ),
        ("restarts = 2", "degeneracy = true", "methods.EM.degeneracy = True; write a table, such as {min_scale_ratio"),
        ("restarts = 2", "degeneracy = {ratio = 1}", "methods.EM.degeneracy has the key 'ratio', which is not known"),
        ("restarts = 2", "degeneracy = {min_rows = -1}", "degeneracy: Degeneracy(min_rows=-1): give a number"),
        ('intervals = "none"', 'intervals = "bootstrap"\nbootstraps = 9', "Method(bootstraps=9): intervals of"),
        ('intervals = "none"', 'intervals = "wald"', "methods.truth: Method(intervals='wald'): use one of observed"),
    ],
)  # fmt: skip
def test_a_bad_key_is_one_sentence(old: str, new: str, message: str, tmp_path: Path) -> None:
    assert SPEC.count(old) >= 1
    path = write(tmp_path, SPEC.replace(old, new, 1))
    with pytest.raises(DataError) as refused:
        study_files.read(path)
    text = str(refused.value)
    assert text.startswith(str(path)) and message in text and "\n" not in text, text
    one_sentence(command("study", "run", path, "--directory", tmp_path / "d"), message)
    assert not (tmp_path / "d").exists()


def test_functions_of_a_file_beside_it_from_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, FUNCTIONS, "own.py")
    spec, directory = write(tmp_path, OWN), tmp_path / "results"
    common = (spec, "--directory", directory)
    one_sentence(command("study", "status", *common), "holds no study")
    ran = command("study", "run", *common, "--chunk", 8, "--threads", 1, "--worker", "2/4", "--replicates", 8)
    assert ran.status == 0 and "2 files computed, 0 were there" in ran.out
    assert "converged 100.0 %" in ran.err and "\r" not in ran.err
    status = command("study", "status", *common)
    assert "mean=1.0  mean: 8 of 20: 8 CONVERGED" in status.out and "16 of 40 fits (40.0 %)" in status.out
    path = next((directory / "chunks").iterdir())
    path.write_bytes(path.read_bytes()[:-1])
    ran = command("study", "run", *common)
    assert ran.status == 0 and "5 files computed, 1 were there" in ran.out
    assert f"{path.name} is truncated or damaged" in ran.err
    assert "40 of 40 fits (100.0 %)" in command("study", "status", *common).out
    write(tmp_path, FUNCTIONS.replace("(50,)", "(60,)"), "own.py")
    one_sentence(command("study", "run", *common), "generate.source was")
    write(tmp_path, FUNCTIONS + "raise ValueError('typo')", "own.py")
    one_sentence(command("study", "run", *common), "own.py cannot be run (ValueError: typo)")


def test_a_worker_is_a_share_and_an_address_a_scheduler(tmp_path: Path) -> None:
    spec = write(tmp_path)
    for bad in ("3", "3/2", "a/b", "0/0", "-1/2"):
        ran = command("study", "run", spec, f"--worker={bad}")
        assert ran.status == 2 and f"'{bad}' is not I/N, such as 0/8" in ran.err and ran.err.count("\n") == 1


def test_report_before_and_after_the_run_and_of_a_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, FUNCTIONS, "own.py")
    spec, directory = write(tmp_path, OWN), tmp_path / "d"
    for verb in ("report", "plot"):
        one_sentence(command("study", verb, spec, "--directory", directory), "holds no study")
    study_files.read(spec).run(directory, threads=1)
    ran = command("study", "report", spec, "--directory", directory)
    shown = (directory / "report.md").read_text()
    assert ran.status == 0 and shown.startswith(ran.out.rstrip()) and "## Figures\n\n![" in shown
    assert all((directory / image).exists() for image in re.findall(r"\((figures/.*?)\)", shown))
    assert ran.out.startswith("# spec\n") and "- seed: 1\n" in ran.out and "- jaxlib: " in ran.out
    assert "unfinished" not in ran.out
    assert command("study", "plot", spec, "--directory", directory).status == 0
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    ran = command("study", "report", spec, "--directory", directory)
    assert ran.status == 0 and "no figures: matplotlib is not installed; run: pip install" in ran.err
    assert (directory / "report.md").read_text().rstrip() == ran.out.rstrip()
    write(tmp_path, OWN + '[description]\naims = "To see."\n')
    assert "## Aims\n\nTo see.\n" in command("study", "report", spec, "--directory", directory).out
    next((directory / "chunks").iterdir()).unlink()
    assert "**unfinished**: 20 of the 40 fits" in command("study", "report", spec, "--directory", directory).out


def test_interrupted_from_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from emjax.extras import progress

    write(tmp_path, FUNCTIONS, "own.py")
    spec = write(tmp_path, OWN)

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(progress.Reporter, "__call__", stop)
    ran = command("study", "run", spec, "--directory", tmp_path / "d")
    assert ran.status == 130
    assert "1 files computed" in ran.out and "the same command goes on from here" in ran.err


def test_the_status_of_a_study_of_which_more_was_asked_before_and_of_another(tmp_path: Path) -> None:
    write(tmp_path, FUNCTIONS, "own.py")
    spec, directory = write(tmp_path, OWN), tmp_path / "d"
    study_files.read(spec).run(directory, threads=1)
    fewer = write(tmp_path, OWN.replace("replicates = 20", "replicates = 5"), "fewer.toml")
    ran = command("study", "status", fewer, "--directory", directory)
    assert "mean: 20 of 20: 20 CONVERGED" in ran.out and "40 of 40 fits (100.0 %)" in ran.out
    other = write(tmp_path, OWN.replace("replicates = 20", "replicates = 20\nseed = 9"), "other.toml")
    for verb in ("status", "report", "plot"):
        one_sentence(command("study", verb, other, "--directory", directory), "seed was 1 and is 9")
    for verb in ("run", "status"):
        one_sentence(command("study", verb, spec, "--directory", spec), "spec.toml")


def test_a_function_that_raises_is_one_sentence(tmp_path: Path) -> None:
    write(
        tmp_path,
        FUNCTIONS.replace('return {"mean": np.mean(data.y, axis=1)}', 'raise ValueError("two\\nlines")'),
        "own.py",
    )
    ran = command("study", "run", write(tmp_path, OWN), "--directory", tmp_path / "d")
    one_sentence(ran, "method 'mean' in scenario {'mean': 1.0}, replicates 0 to 19: ValueError: two lines; mend it")


@pytest.mark.slow
def test_a_study_of_functions_has_figures(tmp_path: Path) -> None:
    """Functions count no iterations and have no restarts."""
    write(tmp_path, FUNCTIONS, "own.py")
    spec, directory = write(tmp_path, OWN), tmp_path / "d"
    assert command("study", "run", spec, "--directory", directory).status == 0
    assert command("study", "plot", spec, "--directory", directory).status == 0
    assert {path.stem for path in (directory / "figures").iterdir()} == {"lollipop_empirical_se", "estimates_mean_all"}

"""Functions that a study is given: estimands of the parameters, and those of a file beside a TOML file; and the tables
of its methods that stand for objects of Python."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import emjax
from emjax import DataError
from emjax.extras import study_files, study_functions
from emjax.studies import Results, loading, specification, store
from tests.commands import one_sentence
from tests.commands import run as command
from tests.study_cases import CHUNK, digests, study
from tests.study_cells import mixture_cell
from tests.test_study_files import FUNCTIONS, OWN, SPEC, write


def twice(values: dict[str, Any]) -> dict[str, Any]:
    return {"twice": 2 * values["mean"]}


def run(one: Any, directory: Any) -> Any:
    return one.run(directory, chunk=CHUNK, threads=1)


# --- estimands --------------------------------------------------------------------------------------------------------


def test_estimands_by_functions_are_evaluated_when_results_are_read(tmp_path: Path) -> None:
    run(study(replicates=8), tmp_path / "all")
    for given in (twice, {"twice": lambda values: 2 * values["mean"]}):
        one = study(replicates=8, estimands=given)
        run(one, tmp_path / "d")
        assert digests(tmp_path / "d") == digests(tmp_path / "all")
        found = one.results(tmp_path / "d")
        for cell, stored in zip(found.aligned, loading.cells(tmp_path / "d"), strict=True):
            assert cell.entries == (("twice", "all"),)
            np.testing.assert_array_equal(cell.outcomes.estimate, 2 * stored.outcomes.estimate)
            np.testing.assert_array_equal(cell.outcomes.truth, 2 * stored.outcomes.truth)
        assert set(found.performance(["bias"])["parameter"]) == {"twice"} and "`twice`" in found.report()
        assert one.results(tmp_path / "d", estimands=None).aligned[0].entries == (("mean", "all"),)
    assert study(replicates=8).results(tmp_path / "d").aligned[0].entries == (("mean", "all"),)


def test_functions_are_in_the_specification_and_may_change(tmp_path: Path) -> None:
    one, other = study(replicates=8, estimands=twice), study(replicates=8, estimands={"more": lambda v: 3 * v["mean"]})
    described = {"function": "twice", "source": specification.describe(twice)["source"]}
    assert one.specified()["estimand_functions"] == described and one.specified()["estimands"] is None
    assert "estimand_functions" not in study().specified()
    run(one, tmp_path)
    assert store.Store(tmp_path).manifest()["specification"]["estimand_functions"] == described
    assert run(other, tmp_path).computed == 0
    assert list(store.Store(tmp_path).manifest()["specification"]["estimand_functions"]) == ["more"]
    with pytest.raises(DataError, match=r"estimands was None and is \['mean'\]"):
        run(study(replicates=8, estimands=["mean"]), tmp_path)


def test_several_functions_by_name_are_as_one_of_all() -> None:
    cell = mixture_cell()
    gap = {"gap": lambda p: p["means[0]"][:, 1] - p["means[0]"][:, 0], "shared": lambda p: p["shared"]}
    (by_name,) = Results([cell], estimands=gap).aligned
    (of_all,) = Results([cell], estimands=lambda p: {name: own(p) for name, own in gap.items()}).aligned
    assert by_name.entries == of_all.entries == (("gap", "all"), ("shared", "all"))
    for name in ("estimate", "se", "lower", "truth"):
        np.testing.assert_array_equal(getattr(by_name.outcomes, name), getattr(of_all.outcomes, name))
    assert np.isfinite(by_name.outcomes.se[:4]).all()


@pytest.mark.parametrize(
    "given, message",
    [({}, "estimands is empty"), ({"gap": "means"}, "estimands has 'gap': 'means'"), ({"": twice}, "estimands has ''")],
)
def test_estimands_that_are_none(given: Any, message: str) -> None:
    for make in (lambda: study(estimands=given), lambda: Results([mixture_cell()], estimands=given)):
        with pytest.raises(DataError, match=message):
            make()


def test_an_estimand_that_fails_names_what_there_is() -> None:
    with pytest.raises(DataError, match=r"EM.* failed \(KeyError: 'mean'\); its parameters are weights, means\[0\]"):
        assert Results([mixture_cell()], estimands=twice).aligned


# --- a file beside a TOML file ----------------------------------------------------------------------------------------

TEXT = """import numpy as np
from os import *
SCALE: float = 2.0  # of the mean
OTHER = 3.0
np.seterr(all="ignore")

def helper(values):
    return SCALE * values

@np.vectorize
def used(values):
    return helper(values)

def unused(values):
    return OTHER * values
"""


@pytest.mark.parametrize(
    "old, new, same",
    [
        ("OTHER = 3.0", "OTHER = 4.0", True),
        ("OTHER * values", "OTHER + values", True),
        ("SCALE: float = 2.0", "SCALE: float = 2.5", False),
        ("SCALE * values", "SCALE + values", False),
        ("@np.vectorize\n", "", False),
        ("import numpy as np", "import jax.numpy as np", False),
        ("from os import *", "from sys import *", False),
        ('"ignore"', '"raise"', False),
    ],
)
def test_a_function_of_a_file_is_told_by_all_that_it_needs_there(old: str, new: str, same: bool) -> None:
    assert TEXT.count(old) == 1
    assert (study_functions.needed(TEXT, "used") == study_functions.needed(TEXT.replace(old, new), "used")) == same


def test_a_function_that_failed_is_corrected_in_the_same_file(tmp_path: Path) -> None:
    """And so is that of the estimands, after all is computed."""
    own = FUNCTIONS + "def median(data, keys):\n    raise ValueError('typo')\n"
    own += "def twice(values):\n    return {'twice': 2 * values['mean']}\n"
    write(tmp_path, own, "own.py")
    text = OWN.replace("replicates = 20", 'replicates = 20\nestimands = "own.py:twice"')
    spec = write(tmp_path, text + '[methods.median]\nfunction = "own.py:median"\n')
    common = (spec, "--directory", tmp_path / "d")
    one_sentence(command("study", "run", *common), "method 'median' in scenario {'mean': 1.0}, replicates 0 to 19")
    write(tmp_path, own.replace("raise ValueError('typo')", "return {'mean': np.median(data.y, axis=1)}"), "own.py")
    ran = command("study", "run", *common)
    assert ran.status == 0 and "3 files computed, 1 were there" in ran.out
    found = study_files.read(spec).results(tmp_path / "d").aligned[0]
    write(tmp_path, (tmp_path / "own.py").read_text().replace("2 * values", "4 * values"), "own.py")
    again = study_files.read(spec).results(tmp_path / "d").aligned[0]
    np.testing.assert_array_equal(2 * found.outcomes.estimate, again.outcomes.estimate)
    write(tmp_path, own.replace("np.mean(data.y", "np.max(data.y"), "own.py")
    one_sentence(command("study", "run", *common), "methods.mean.source was")
    spec.write_text(text.replace("own.py:twice", "own.py:thrice"))
    one_sentence(command("study", "run", *common), "own.py has no function 'thrice'")


# --- tables of methods ------------------------------------------------------------------------------------------------


def test_priors_degeneracy_and_fixed_values_of_a_table(tmp_path: Path) -> None:
    text = SPEC + (
        '[methods.MAP]\ndegeneracy = {min_scale_ratio = 0.02, relative_to = "data"}\n'
        '[methods.MAP.prior]\nweights = {distribution = "Dirichlet", concentration = [2, 3]}\n'
        'family = {distribution = "NormalInverseGamma", shape = 2.5}\n'
        '[methods.by]\nfixed = {scale = ["noise", 2.0]}\nprior = {weights = {distribution = "Dirichlet", '
        'concentration = "noise"}}\ndegeneracy = {min_rows = "noise"}\n'
    )
    found = study_files.read(write(tmp_path, text))
    given = found.methods["MAP"]
    assert given.degeneracy == emjax.Degeneracy(min_scale_ratio=0.02, relative_to="data")
    assert given.prior["family"] == emjax.NormalInverseGamma(shape=2.5) and set(given.prior) == {"weights", "family"}
    np.testing.assert_array_equal(given.prior["weights"].concentration, [2.0, 3.0])
    by = [found.method("by", scenario) for scenario in found.scenarios]
    assert [own.prior["weights"] for own in by] == [emjax.Dirichlet(3.0), emjax.Dirichlet(5.0)]
    assert [own.degeneracy.min_rows for own in by] == [3.0, 5.0]
    np.testing.assert_array_equal([own.fixed["scale"] for own in by], [[3.0, 2.0], [5.0, 2.0]])


@pytest.mark.slow
def test_a_prior_and_fixed_values_of_a_table_are_those_of_python(tmp_path: Path) -> None:
    prior = {"weights": emjax.Dirichlet(2.0), "family": emjax.NormalInverseGamma(strength=0.02)}
    text = SPEC.replace("replicates = 8", "replicates = 2").replace("noise = [3.0, 5.0]", "noise = [3.0]")
    text = text.partition("[methods.EM]")[0] + (
        '[methods.MAP]\nrestarts = 2\nprior = {weights = {distribution = "Dirichlet", concentration = 2}, '
        'family = {distribution = "NormalInverseGamma", strength = 0.02}}\n'
        "[methods.fixed]\nrestarts = 2\nfixed = {weights = [0.4, 0.6]}\n"
    )
    one = study_files.read(write(tmp_path, text))
    assert one.run(tmp_path / "d", threads=1).complete
    replay = one.replay(one.scenarios[0], 1)
    model, root = one.methods["MAP"].model, one.root(one.scenarios[0], "starts")
    given = {"prior": prior}, {"fixed": {"weights": np.array([0.4, 0.6])}}
    for cell, settings in zip(loading.cells(tmp_path / "d"), given, strict=True):
        fit = emjax.fit(model, replay.data, root, id=1, restarts=2, **settings)
        assert cell.outcomes.log_likelihood[1] == fit.log_likelihood

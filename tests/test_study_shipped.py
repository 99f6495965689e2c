"""The studies of bench/studies: each file is read, and runs in its first scenario."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from emjax.extras import study_files

FILES = sorted((Path(__file__).parents[1] / "bench" / "studies").glob("*.toml"))


def test_three_studies_are_shipped() -> None:
    """Each is of the size that bench/README.md tells, and that of hidden Markov models fits 10^5 times at least."""
    studies = {path.stem: study_files.read(path) for path in FILES}
    assert {name: len(study.scenarios) * len(study.methods) for name, study in studies.items()} == {
        "article": 36,
        "poisson_hmm": 2,
        "scales": 12,
    }
    assert [name for name, study in studies.items() if study.name != name] == []
    chains = studies["poisson_hmm"]
    assert chains.replicates * chains.methods["bootstrap"].bootstraps >= 1e5


@pytest.mark.slow
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_it_runs(path: Path, tmp_path: Path) -> None:
    """Eight replicates of its first scenario, at most two restarts and 39 bootstraps: every method ends well."""
    study = study_files.read(path, 8)
    first = study.scenarios[:1]
    methods = {name: study.method(name, first[0]) for name in study.methods}
    small = {
        name: replace(method, bootstraps=39, restarts=None if method.restarts is None else min(method.restarts, 2))
        for name, method in methods.items()
    }
    study = replace(study, scenarios=first, methods=small)
    assert study.run(tmp_path, threads=1).complete
    results = study.results(tmp_path)
    table = results.performance(["bias", "coverage", "valid"])
    valid = table["estimate"][table["measure"] == "valid"]
    assert len(valid) == len(methods) and np.all(valid >= 0.75)
    bias = (table["measure"] == "bias") & (table["population"] == "valid")
    assert bias.any() and np.all(np.isfinite(table["mcse"][bias]))
    assert set(table["method"][table["measure"] == "coverage"]) == set(methods)

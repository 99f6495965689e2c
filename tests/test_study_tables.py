"""What results write and ask for: long tables, files, the report, and runs until they are precise."""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from emjax.studies import Results, precision, run_until
from tests.study_cells import ENTRIES, figure, mixture_cell, study

# --- tables and report ----------------------------------------------------------------------------------------------


def test_the_long_table() -> None:
    frame = Results(study(20)).to_frame()
    names = ["n", "noise", "replicate", "method", "parameter", "component", "estimate", "se", "lower", "upper", "true"]
    assert list(frame.columns) == [*names, "status"]
    assert len(frame) == 12 * 20 * len(ENTRIES)
    own = frame[(frame["n"] == 400) & (frame["noise"] == 1.0) & (frame["method"] == "racing")]
    own = own[(own["parameter"] == "means[0]") & (own["component"] == 1)]
    cell = Results(study(20)).aligned[-1]
    assert (cell.scenario, cell.method) == ({"n": 400, "noise": 1.0}, "racing")
    np.testing.assert_array_equal(own["estimate"], cell.outcomes.estimate[:, 3])
    np.testing.assert_array_equal(own["replicate"], np.arange(20))
    assert set(own["true"]) == {3.0}
    assert list(own["status"][:10].unique()) == ["CONVERGED", "DEGENERATE", "NON_FINITE"]


def test_grids_need_not_be_full() -> None:
    cells = [mixture_cell({"n": 100}, n=20), mixture_cell({"n": 200, "noise": "t"}, n=20)]
    table = Results(cells).performance(["bias"])
    assert list(dict.fromkeys(table["noise"])) == [None, "t"]
    assert set(Results(cells).columns()["noise"]) == {None, "t"}


def test_the_dataset_and_files(tmp_path: Any) -> None:
    xarray = pytest.importorskip("xarray")
    results = Results([*study(20)[:4], mixture_cell({"n": 900, "noise": 0.5}, n=10)])
    found = results.to_xarray()
    assert dict(found.sizes) == {"scenario": 3, "method": 2, "replicate": 20, "entry": 7}
    np.testing.assert_array_equal(found["estimate"][1, 1], results.aligned[3].outcomes.estimate)
    assert np.all(found["status"][2, 1] == -1)
    assert np.all(found["status"][2, 0, 10:] == -1)
    assert np.all(np.isnan(found["estimate"][2, 1]))
    results.save_table(tmp_path / "study.nc")
    with xarray.open_dataset(tmp_path / "study.nc", engine="scipy") as back:
        np.testing.assert_array_equal(back["estimate"], found["estimate"])
        np.testing.assert_array_equal(back["n"], [100, 100, 900])
        assert list(back["method"].values.astype(str)) == ["EM", "racing"]
    results.save_table(tmp_path / "study.csv")
    lines = (tmp_path / "study.csv").read_text().splitlines()
    assert len(lines) == 1 + 90 * 7
    assert lines[0].startswith("n,noise,replicate,method,parameter,component,estimate")


def test_parquet(tmp_path: Any) -> None:
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    results = Results(study(20)[:2])
    results.save_table(tmp_path / "study.parquet")
    back = pandas.read_parquet(tmp_path / "study.parquet")
    np.testing.assert_array_equal(back["estimate"], results.to_frame()["estimate"])
    assert set(back["component"]) == {"0", "1", "all"}


def test_the_report() -> None:
    description = {
        "title": "Labels | and restarts",
        "aims": "To see whether labels matter.",
        "specification": {"seed": 71, "generate": "two lines", "methods": {"EM": {"restarts": 20}}},
        "environment": {"emjax": "0.1.0", "jax": "0.10.2", "device": "cpu"},
    }
    text = Results(study(60), description).report()
    for heading in ("Aims", "Data-generating mechanisms", "Estimands", "Methods", "Performance measures"):
        assert f"## {heading}\n" in text
    for expected in ("To see whether labels matter.", "two lines", "seed: 71", "jax: 0.10.2", "device: cpu"):
        assert expected in text
    assert "| n | 100, 200, 400 |" in text
    assert "an oracle" in text
    assert "| 100 | 0.5 | EM | 51 | 3 | 0 | 3 | 3 | 0 | 0 | 0 |" in text
    assert "neither covers nor rejects" in text
    table = Results(study(60)).performance(["bias"])
    found = figure({k: v[(table["n"] == 100) & (table["noise"] == 0.5)][:21] for k, v in table.items()}, "bias")
    assert f"{found.estimate:.3f} ({found.mcse:.3f})" in text
    assert "**All replicates**, where that changes a figure:" in text
    assert "nan" not in text


def test_the_report_of_a_study_without_failures_repeats_nothing() -> None:
    text = Results([mixture_cell({"n": 5}, failures=False)]).report()
    assert "All replicates: the same figures." in text
    assert "Not stated." in text
    free = Results([mixture_cell(failures=False)], align=None).report()
    assert "components are as they were fitted" in free
    assert "an oracle" not in free


# --- replicates -----------------------------------------------------------------------------------------------------


def test_replicates_needed_from_a_pilot() -> None:
    results = Results([mixture_cell(swapped=False)])
    found = results.n_for("bias", 0.005)
    assert len(found["needed"]) == 7
    se = np.std(results.aligned[0].outcomes.estimate[np.isin(results.aligned[0].outcomes.status, (1, 2)), 2], ddof=1)
    assert found["needed"][2] == math.ceil((se / 0.005) ** 2)


def test_runs_go_on_in_whole_chunks_until_precise() -> None:
    asked = []

    def run(count: int) -> Results:
        asked.append(count)
        return Results([mixture_cell(n=count, failures=False)])

    results = precision.until(run, "bias", 0.02, first=100, at_most=10_000, chunk=64)
    assert np.max(results.performance(["bias"])["mcse"]) <= 0.02
    assert asked[0] == 128
    assert len(asked) < 5
    assert all(count % 64 == 0 for count in asked)
    asked.clear()
    precision.until(run, "bias", 1e-4, first=100, at_most=300, chunk=64)
    assert asked == [128, 300]
    asked.clear()
    precision.until(run, "coverage", 0.05, first=2, at_most=400, population="all")  # coverage is 1 at first
    assert len(asked) > 1


def test_a_study_is_run_until_precise() -> None:
    calls: list[Any] = []

    @dataclass(frozen=True)
    class Made:
        replicates: int
        complete: bool = True

        def run(self, directory: Any, chunk: int) -> Any:
            calls.append((self.replicates, directory, chunk))
            return SimpleNamespace(complete=self.complete)

        def results(self, directory: Any) -> Results:
            return Results([mixture_cell(n=self.replicates, failures=False)])

    found = run_until(Made(50), "here", "bias", 0.03, at_most=5000, chunk=50)
    assert np.max(found.performance(["bias"])["mcse"]) <= 0.03
    assert calls[0] == (50, "here", 50)
    calls.clear()
    run_until(Made(50), "here", "bias", 0.03, at_most=5000)
    assert calls[0] == (256, "here", 256)
    with pytest.raises(KeyboardInterrupt):
        run_until(Made(50, complete=False), "here", "bias", 0.03, at_most=5000)

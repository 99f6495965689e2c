"""Results of made-up studies: statuses, denominators, estimands, and every input that is refused."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from emjax import DataError, Status
from emjax.inference.information import Reason
from emjax.studies import Results, bias, precision
from emjax.studies.performance_table import POPULATIONS, TITLES
from emjax.studies.records import Cell, Entry
from tests.study_cells import figure, mixture_cell, study

# --- statuses and denominators --------------------------------------------------------------------------------------


def test_statuses_are_counted_also_when_zero() -> None:
    table = Results([mixture_cell({"n": 50})]).status_counts()
    counts = {name: int(table[name][0]) for name in table if name not in ("n", "method", "n_sim")}
    assert counts == {
        **dict.fromkeys(("SADDLE", "DECREASED", "PRECISION_LIMIT", "INVALID_DATA"), 0),
        **dict.fromkeys(("MAX_ITERATIONS", "DEGENERATE", "NON_FINITE"), 10),
        "CONVERGED": 170,
    }
    assert (table["n"][0], table["method"][0], table["n_sim"][0]) == (50, "EM", 200)


def test_every_measure_in_three_populations() -> None:
    """Of 200 replicates 180 are valid, 10 of those SUSPECT, 10 DEGENERATE with estimates and 10 without any."""
    cell = mixture_cell(swapped=False)
    table, own = Results([cell]).performance(), cell.outcomes
    valid = np.isin(own.status, (Status.CONVERGED, Status.MAX_ITERATIONS))
    assert [figure(table, "bias", name).n_sim for name in POPULATIONS] == [180, 170, 190]
    assert figure(table, "bias").estimate == pytest.approx(np.mean(own.estimate[valid, 2]))
    assert figure(table, "bias", "all").estimate == pytest.approx(np.nanmean(own.estimate[:, 2]))
    held = np.sum((own.lower[valid, 2] <= 0) & (own.upper[valid, 2] >= 0))
    assert figure(table, "coverage").estimate == held / 180
    assert figure(table, "coverage", "all").estimate == held / 200
    rejected = np.sum((own.lower[valid, 3] > 0) | (own.upper[valid, 3] < 0))
    for name, total in (("valid", 180), ("all", 200)):
        found = figure(table, "power", name, component=1)
        assert (found.estimate, found.n_sim) == (rejected / total, total)
    assert [figure(table, "interval_rate", name).estimate for name in POPULATIONS] == [1.0, 1.0, 0.9]
    assert [figure(table, "interval_width", name).n_sim for name in POPULATIONS] == [180, 170, 180]
    suspect = (own.flags & 2) == 0
    expected = bias(own.estimate[valid & suspect, 6], 5.0)
    found = figure(table, "bias", "not_suspect", "shared", "all")
    assert (found.estimate, found.mcse) == (pytest.approx(expected.estimate), pytest.approx(expected.mcse))


def test_a_valid_fit_without_an_interval_is_missing_or_does_not_cover() -> None:
    cell = mixture_cell(swapped=False, failures=False)
    lower = np.array(cell.outcomes.lower)
    lower[:50, 2] = np.nan
    table = Results([cell._replace(outcomes=cell.outcomes._replace(lower=lower))]).performance()
    assert [figure(table, "coverage", name).n_sim for name in POPULATIONS] == [150, 150, 200]
    assert figure(table, "coverage", "all").estimate == pytest.approx(0.75 * figure(table, "coverage").estimate)
    assert figure(table, "bias").n_sim == 200


def test_a_failure_with_an_interval_does_not_cover() -> None:
    cell = mixture_cell(swapped=False, failures=False)
    status = np.array(cell.outcomes.status)
    status[:100] = Status.SADDLE
    table = Results([cell._replace(outcomes=cell.outcomes._replace(status=status))]).performance(["coverage"])
    assert figure(table, "coverage", "all").estimate <= 0.5


def test_measures_of_the_fits() -> None:
    cell = mixture_cell()
    table = Results([cell]).performance()
    rows = {table["measure"][i]: i for i in np.flatnonzero(table["parameter"] == "")}
    for name, value in (("convergence", 0.85), ("valid", 0.9), ("suspect", 0.05), ("status_SADDLE", 0.0)):
        assert table["estimate"][rows[name]] == pytest.approx(value)
    assert np.isnan(table["mcse"][rows["status_SADDLE"]])
    assert table["upper"][rows["status_SADDLE"]] > 0.01
    assert table["estimate"][rows["share_best"]] == pytest.approx(np.mean(cell.outcomes.share_best))
    assert set(table["population"][list(rows.values())]) == {"all"}


def test_what_is_not_known_has_no_row() -> None:
    own = mixture_cell(swapped=False).outcomes
    nothing = np.full(own.estimate.shape, np.nan)
    cell = mixture_cell(swapped=False)._replace(outcomes=own._replace(truth=nothing, se=nothing, lower=nothing))
    found = set(Results([cell], align=None).performance()["measure"])
    assert not found & {"bias", "coverage", "power", "model_se", "rmse"}
    assert {"mean", "empirical_se", "mad_se", "interval_rate"} <= found


def test_relative_precision_is_paired() -> None:
    first, second = mixture_cell(method="A", swapped=False), mixture_cell(method="B", seed=5, swapped=False)
    second = second._replace(outcomes=type(second.outcomes)(*(np.array(a)[::-1] for a in second.outcomes)))
    table = Results([first, second]).performance(["relative_precision"])
    assert set(table["method"]) == {"B"}
    found = figure(table, "relative_precision")
    valid = np.isin(first.outcomes.status, (1, 2))
    a, b = first.outcomes.estimate[valid, 2], second.outcomes.estimate[::-1][valid, 2]
    assert found.estimate == pytest.approx(100 * (np.var(a) / np.var(b) - 1))
    assert found.n_sim == 180
    swapped = Results([first, second]).performance(["relative_precision"], reference="B")
    assert set(swapped["method"]) == {"A"}


def test_options_reach_the_measures() -> None:
    results = Results([mixture_cell(swapped=False)])
    robust, table = (results.performance(["empirical_se"], mcse=form) for form in ("robust", "morris"))
    found = figure(table, "empirical_se")
    assert found.mcse == pytest.approx(found.estimate / math.sqrt(2 * 179))
    assert figure(robust, "empirical_se").mcse != found.mcse
    pair = Results([mixture_cell(swapped=False), mixture_cell(swapped=False, method="B", seed=3)])
    forms = [
        figure(pair.performance(["relative_precision"], mcse=m), "relative_precision") for m in ("robust", "morris")
    ]
    assert forms[0].mcse != forms[1].mcse
    wide = figure(results.performance(["bias"], level=0.99), "bias")
    assert wide.upper - wide.estimate == pytest.approx(2.5758293 * wide.mcse)
    assert figure(results.performance(["power"], null=3.0), "power", component=1).estimate < 0.2


# --- estimands ------------------------------------------------------------------------------------------------------


def test_estimands_by_name() -> None:
    (found,) = Results([mixture_cell()], estimands=("means", "shared")).aligned
    assert found.entries == (Entry("means[0]", 0), Entry("means[0]", 1), Entry("shared", "all"))
    np.testing.assert_array_equal(found.outcomes.truth[0], [0.0, 3.0, 5.0])
    assert found.outcomes.covariance.shape == (200, 3, 3)


def test_an_estimand_by_a_function_has_a_delta_method_error() -> None:
    def function(values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        means = values["means[0]"]
        return {"gap": means[:, 1] - means[:, 0], "log scale": np.log(values["scale"][:, 1]), "all": values["shared"]}

    cell = mixture_cell()
    (found,) = Results([cell], estimands=function).aligned
    own = mixture_cell(swapped=False).outcomes
    used = np.isfinite(own.se[:, 0])
    assert [entry.parameter for entry in found.entries] == ["gap", "log scale", "all"]
    np.testing.assert_allclose(found.outcomes.truth, np.tile([3.0, math.log(2.0), 5.0], (200, 1)))
    np.testing.assert_allclose(found.outcomes.estimate[used, 0], (own.estimate[:, 3] - own.estimate[:, 2])[used])
    np.testing.assert_allclose(found.outcomes.se[used, 0], np.hypot(own.se[:, 2], own.se[:, 3])[used], rtol=1e-8)
    np.testing.assert_allclose(found.outcomes.se[used, 1], (own.se[:, 5] / own.estimate[:, 5])[used], rtol=1e-6)
    np.testing.assert_allclose(found.outcomes.upper[used, 2], own.upper[used, 6], rtol=1e-8)
    assert np.all(np.isnan(found.outcomes.se[~used]))
    without = cell._replace(outcomes=cell.outcomes._replace(covariance=np.zeros((200, 0, 0))))
    assert np.all(np.isnan(Results([without], estimands=function).aligned[0].outcomes.se))


def test_the_delta_method_knows_covariances() -> None:
    cell = mixture_cell(swapped=False, failures=False)
    covariance, se = np.array(cell.outcomes.covariance), cell.outcomes.se
    covariance[:, 2, 3] = covariance[:, 3, 2] = 0.5 * se[:, 2] * se[:, 3]
    cell = cell._replace(outcomes=cell.outcomes._replace(covariance=covariance))
    (found,) = Results([cell], estimands=lambda p: {"gap": p["means[0]"][:, 1] - p["means[0]"][:, 0]}).aligned
    expected = np.sqrt(se[:, 2] ** 2 + se[:, 3] ** 2 - se[:, 2] * se[:, 3])
    np.testing.assert_allclose(found.outcomes.se[:, 0], expected, rtol=1e-8)


def test_fixed_entries_add_no_variance_and_others_without_one_give_nan() -> None:
    cell = mixture_cell(swapped=False, failures=False)
    covariance, reason = np.array(cell.outcomes.covariance), np.array(cell.outcomes.reason)
    covariance[:, 2, :] = covariance[:, :, 2] = np.nan
    reason[:100, 2], reason[100:, 2] = Reason.FIXED, Reason.NOT_IDENTIFIED
    cell = cell._replace(outcomes=cell.outcomes._replace(covariance=covariance, reason=reason))

    def function(values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {"gap": values["means[0]"][:, 1] - values["means[0]"][:, 0], "second": values["means[0]"][:, 1]}

    (found,) = Results([cell], estimands=function).aligned
    np.testing.assert_allclose(found.outcomes.se[:100, 0], cell.outcomes.se[:100, 3], rtol=1e-8)
    assert np.all(np.isnan(found.outcomes.se[100:, 0]))
    np.testing.assert_allclose(found.outcomes.se[:, 1], cell.outcomes.se[:, 3], rtol=1e-8)


# --- bad input ------------------------------------------------------------------------------------------------------


def wrong(**parts: Any) -> Cell:
    cell = mixture_cell()
    return cell._replace(outcomes=cell.outcomes._replace(**parts))


REFUSED = [
    ("no cells", lambda: Results([])),
    ("there twice", lambda: Results([mixture_cell({"n": 1}), mixture_cell({"n": 1})])),
    ("name of a column", lambda: Results([mixture_cell({"estimate": 1})])),
    ("name of a column", lambda: Results([mixture_cell({"n": 1, "entry": 1})])),
    ("se has shape", lambda: Results([wrong(se=np.ones((200, 6)))])),
    ("align is 'weights'", lambda: Results([mixture_cell()], align="weights")),
    ("loadings is 'x'", lambda: Results([mixture_cell()], loadings="x").aligned),
    ("labels are not known", lambda: Results([mixture_cell(overlap=False)], align="overlap").aligned),
    ("cannot order by 'shared'", lambda: Results([mixture_cell()], align="order:shared").aligned),
    (
        "no true parameters",
        lambda: (
            Results([wrong(truth=np.full((200, 7), np.nan), overlap=np.zeros((200, 0, 0)))], align="distance").aligned
        ),
    ),
    ("between 0 and 1", lambda: Results([mixture_cell()]).performance(level=2)),
    ("null is 'x'", lambda: Results([mixture_cell()]).performance(null="x")),  # type: ignore
    ("population 'none'", lambda: Results([mixture_cell()]).n_for("bias", 0.1, "none")),
    ("mcse is -1", lambda: precision.until(Results, "bias", -1, first=1, at_most=5)),
    ("no measure 'accuracy'", lambda: Results([mixture_cell()]).performance(["accuracy"])),
    ("no method 'R'", lambda: Results([mixture_cell()]).performance(reference="R")),
    ("'robust' or 'morris'", lambda: Results([mixture_cell()]).performance(mcse="x")),  # type: ignore
    ("has no parameter 'mean'", lambda: Results([mixture_cell()], estimands=("mean",)).aligned),
    ("return a dictionary", lambda: Results([mixture_cell()], estimands=lambda p: p["scale"]).aligned),  # type: ignore
    ("one number each", lambda: Results([mixture_cell()], estimands=lambda p: {"a": p["scale"]}).aligned),
    ("the ending must be", lambda: Results([mixture_cell()]).save_table("study.xlsx")),
    ("choose another folder", lambda: Results([mixture_cell()]).save_table("/nowhere/study.csv")),
    ("1 <= first", lambda: precision.until(Results, "bias", 0.1, first=10, at_most=5)),
    (
        "no entry has the measure",
        lambda: precision.until(lambda n: Results([mixture_cell()]), "relative_precision", 1, first=1, at_most=5),
    ),
]


@pytest.mark.parametrize(("text", "call"), REFUSED)
def test_bad_input_is_named(text: str, call: Any) -> None:
    with pytest.raises(DataError, match=text):
        call()


def test_every_measure_has_a_title_and_a_row() -> None:
    table = Results(study(30)[:2]).performance()
    assert set(table["measure"]) == set(TITLES)

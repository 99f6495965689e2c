"""Results of made-up studies: labels, statuses and denominators, tables, estimands, the report, runs until precise."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from emjax import DataError, Status
from emjax.inference.information import Reason
from emjax.studies import Results, bias, labelling, loadings, precision, run_until
from emjax.studies.performance import POPULATIONS, TITLES
from emjax.studies.records import Cell, Entry
from tests.study_cells import ENTRIES, MOVES, Z, exchanged, mixture_cell, study


def figure(table: Any, measure: str, population: str = "valid", parameter: str = "means[0]", component: Any = 0) -> Any:
    """The one row of a table, as an object."""
    kept = (table["measure"] == measure) & (table["population"] == population) & (table["parameter"] == parameter)
    rows = [i for i in np.flatnonzero(kept) if table["component"][i] == component]
    assert len(rows) == 1
    return SimpleNamespace(**{name: values[rows[0]] for name, values in table.items()})


# --- labels ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("align", ["auto", "overlap", "distance", "order:means[0]", "order:scale"])
def test_labels_are_put_back(align: str) -> None:
    """Half of the replicates have their labels exchanged: everything moves together, and the truth stays."""
    own = mixture_cell(swapped=False, failures=False)
    (found,) = Results([mixture_cell(failures=False)], align=align).aligned
    used = np.ones(200, bool)
    if align == "order:scale":  # scales overlap: there the order decides, not what the truth was
        used = own.outcomes.estimate[:, 4] < own.outcomes.estimate[:, 5]
        assert 150 < np.sum(used) < 200
    for name in ("estimate", "se", "lower", "upper", "covariance", "truth"):
        np.testing.assert_array_equal(getattr(found.outcomes, name)[used], getattr(own.outcomes, name)[used], name)


def test_as_fitted_mixes_the_components() -> None:
    cell = mixture_cell(failures=False)
    (found,) = Results([cell], align=None).aligned
    np.testing.assert_array_equal(found.outcomes.estimate, cell.outcomes.estimate)
    assert figure(Results([cell], align=None).performance(["bias"]), "bias").estimate > 1.0


def test_automatic_alignment_without_true_labels_is_by_distance() -> None:
    cell = mixture_cell(overlap=False)
    assert labelling.chosen(cell, "auto") == "distance"
    assert labelling.chosen(mixture_cell(), "auto") == "overlap"
    without = Results([cell]).aligned[0].outcomes
    np.testing.assert_array_equal(without.estimate, Results([cell], align="distance").aligned[0].outcomes.estimate)


def test_order_follows_the_rank_of_the_truth() -> None:
    """True means 0 and 3 given as 3 and 0: the larger estimate belongs to component 0."""
    cell = exchanged(mixture_cell(swapped=False, failures=False), np.ones(200, bool))
    cell = cell._replace(outcomes=cell.outcomes._replace(truth=cell.outcomes.truth[:, MOVES[1, 0]]))
    (found,) = Results([cell], align="order:means[0]").aligned
    np.testing.assert_array_equal(found.outcomes.estimate, cell.outcomes.estimate)
    unknown = cell._replace(outcomes=cell.outcomes._replace(truth=np.full((200, 7), np.nan)))
    (found,) = Results([unknown], align="order:means[0]").aligned
    assert np.all(found.outcomes.estimate[:, 2] < found.outcomes.estimate[:, 3])


def three_components(n: int = 60) -> tuple[Cell, Cell]:
    """Means and the rows of a transition matrix of a chain, labels shuffled; and the cell before."""
    generator = np.random.default_rng(1)
    names = [("means[0]", k) for k in range(3)] + [(f"transition[{j}]", k) for k in range(3) for j in range(3)]
    entries = tuple(Entry(*name) for name in names)
    place = {entry: i for i, entry in enumerate(entries)}
    moves = {}
    for order in itertools.permutations(range(3)):
        own = [place[Entry("means[0]", order[k])] for k in range(3)]
        own += [place[Entry(f"transition[{order[j]}]", order[k])] for k in range(3) for j in range(3)]
        moves[order] = np.array(own)
    truth = np.concatenate([[0.0, 4.0, 8.0], np.arange(9.0) / 10])
    estimate = truth + 0.1 * generator.normal(size=(n, 12))
    base = mixture_cell(n=n, failures=False).outcomes
    parts = {"estimate": estimate, "se": np.abs(estimate), "lower": estimate - 1, "upper": estimate + 1}
    outcomes = base._replace(**parts, truth=np.tile(truth, (n, 1)), reason=np.zeros((n, 12), int))
    outcomes = outcomes._replace(covariance=np.zeros((n, 0, 0)), overlap=np.zeros((n, 0, 0)))
    plain = Cell({}, "EM", entries, moves, outcomes)
    shuffled = labelling.relabelled(plain, np.stack([generator.permutation(3) for _ in range(n)]))
    return plain, shuffled


def test_both_axes_of_a_transition_matrix_move() -> None:
    plain, shuffled = three_components()
    assert labelling.names_of(shuffled) == ("means[0]",)
    (found,) = Results([shuffled], align="distance").aligned
    for name in ("estimate", "se", "lower", "upper"):
        np.testing.assert_array_equal(getattr(found.outcomes, name), getattr(plain.outcomes, name))


def test_permutations_compose_to_the_identity() -> None:
    plain, _ = three_components()
    order = np.stack([np.random.default_rng(i).permutation(3) for i in range(60)])
    back = np.argsort(order, axis=1)
    there = labelling.relabelled(plain, order)
    assert not np.array_equal(there.outcomes.estimate, plain.outcomes.estimate)
    again = labelling.relabelled(there, back)
    np.testing.assert_array_equal(again.outcomes.estimate, plain.outcomes.estimate)


def test_a_component_that_keeps_its_place() -> None:
    """Noise is the third component and is never exchanged; moves of others are not there."""
    moves = {(0, 1, 2): MOVES[0, 1], (1, 0, 2): MOVES[1, 0]}
    cell = mixture_cell(failures=False)
    overlap = np.pad(cell.outcomes.overlap, ((0, 0), (0, 1), (0, 1)), constant_values=1e6)
    cell = cell._replace(moves=moves, outcomes=cell.outcomes._replace(overlap=overlap))
    assert labelling.n_exchangeable(cell) == 2
    expected = mixture_cell(swapped=False, failures=False).outcomes.estimate
    for align in ("overlap", "distance"):
        np.testing.assert_array_equal(Results([cell], align=align).aligned[0].outcomes.estimate, expected)


def test_how_often_alignments_and_methods_disagree() -> None:
    cell = mixture_cell(failures=False)
    overlap = np.array(cell.outcomes.overlap)
    overlap[:10] = overlap[:10, ::-1]  # ten replicates in which the true labels tell otherwise
    odd = cell._replace(outcomes=cell.outcomes._replace(overlap=overlap), method="odd")
    table = Results([cell, odd]).disagreements()
    found = {(a, b): (d, n) for a, b, d, n in zip(table["first"], table["second"], table["differ"], table["n_sim"])}
    assert found["EM: overlap", "EM: distance"] == (0, 200)
    assert found["odd: overlap", "odd: distance"] == (10, 200)
    assert found["EM", "odd"] == (10, 200)
    i = list(table["first"]).index("odd: overlap")
    assert table["rate"][i] == 0.05
    assert table["lower"][i] < 0.05 < table["upper"][i]


# --- factor loadings ------------------------------------------------------------------------------------------------


def factors(n: int = 40) -> tuple[Cell, np.ndarray]:
    """Loadings (4, 2) with signs and order of the factors lost, and each fit's loadings before."""
    generator = np.random.default_rng(0)
    truth = np.array([[0.9, 0.1], [0.8, -0.2], [0.2, 0.7], [-0.1, 0.6]])
    names = [f"loadings[{i},{j}]" for i in range(4) for j in range(2)] + ["uniquenesses[0]"]
    before = truth + 0.05 * generator.normal(size=(n, 4, 2))
    sign, order = generator.choice([-1.0, 1.0], (n, 1, 2)), np.stack([generator.permutation(2) for _ in range(n)])
    fitted = np.take_along_axis(before, order[:, None, :], axis=2) * sign
    estimate = np.concatenate([fitted.reshape(n, 8), np.full((n, 1), 0.3)], axis=1)
    se = np.full((n, 9), 0.05)
    base = mixture_cell(n=n, failures=False).outcomes
    outcomes = base._replace(
        estimate=estimate,
        se=se,
        lower=estimate - 0.1,
        upper=estimate + 0.2,
        truth=np.tile(np.append(truth.ravel(), 0.3), (n, 1)),
        reason=np.zeros((n, 9), int),
        overlap=np.zeros((n, 0, 0)),
        covariance=np.zeros((n, 0, 0)),
    )
    cell = Cell({}, "ML", tuple(Entry(name, "all") for name in names), {(0,): np.arange(9)}, outcomes)
    return cell, before.reshape(n, 8)


def test_loadings_by_sign_and_order() -> None:
    cell, before = factors()
    (found,) = Results([cell]).aligned
    np.testing.assert_array_equal(found.outcomes.estimate[:, :8], before)
    low, high = found.outcomes.lower[:, :8] - before, found.outcomes.upper[:, :8] - before
    assert np.all(low < 0) and np.all(high > 0)  # a limit below became one above
    same = np.isclose(low, -0.1)
    np.testing.assert_allclose(np.where(same, high, -low), 0.2)
    assert 0.2 < np.mean(same) < 0.8
    np.testing.assert_array_equal(found.outcomes.estimate[:, 8], 0.3)
    assert "aligned to the true ones by signs" in Results([cell]).report()


def test_loadings_by_procrustes() -> None:
    """A rotation of the truth is turned back; with covariances of equal, independent errors SEs stay what they are."""
    cell, _ = factors()
    angle = np.linspace(0, 3, 40)
    turn = np.stack([np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)], axis=1).reshape(-1, 2, 2)
    truth = cell.outcomes.truth[0, :8].reshape(4, 2)
    estimate = np.array(cell.outcomes.estimate)
    estimate[:, :8] = (truth @ turn).reshape(40, 8)
    outcomes = cell.outcomes._replace(estimate=estimate)
    turned = loadings.aligned(cell._replace(outcomes=outcomes), "procrustes")
    np.testing.assert_allclose(turned.outcomes.estimate[:, :8], np.tile(truth.ravel(), (40, 1)), atol=1e-12)
    assert np.all(np.isnan(turned.outcomes.se[:, :8]))
    known = outcomes._replace(covariance=np.tile(0.05**2 * np.eye(9), (40, 1, 1)))
    turned = loadings.aligned(cell._replace(outcomes=known), "procrustes")
    np.testing.assert_allclose(turned.outcomes.se, 0.05)
    np.testing.assert_allclose(turned.outcomes.upper[:, :8] - turned.outcomes.estimate[:, :8], Z * 0.05)
    one = np.zeros((40, 9, 9))
    one[:, 0, 0] = 1.0  # only loading (0, 0) is uncertain: row 0 of the turned ones shares it as the rotation says
    turned = loadings.aligned(cell._replace(outcomes=outcomes._replace(covariance=one)), "procrustes")
    np.testing.assert_allclose(turned.outcomes.se[:, 0] ** 2 + turned.outcomes.se[:, 1] ** 2, 1.0)
    np.testing.assert_allclose(turned.outcomes.se[:, 0], np.abs(np.cos(angle)), atol=1e-7)


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
    with pytest.raises(KeyboardInterrupt):
        run_until(Made(50, complete=False), "here", "bias", 0.03, at_most=5000)


# --- bad input ------------------------------------------------------------------------------------------------------


def wrong(**parts: Any) -> Cell:
    cell = mixture_cell()
    return cell._replace(outcomes=cell.outcomes._replace(**parts))


REFUSED = [
    ("no cells", lambda: Results([])),
    ("there twice", lambda: Results([mixture_cell({"n": 1}), mixture_cell({"n": 1})])),
    ("name of a column", lambda: Results([mixture_cell({"estimate": 1})])),
    ("se has shape", lambda: Results([wrong(se=np.ones((200, 6)))])),
    ("align is 'weights'", lambda: Results([mixture_cell()], align="weights")),
    ("loadings is 'x'", lambda: Results([mixture_cell()], loadings="x").aligned),
    ("labels are not known", lambda: Results([mixture_cell(overlap=False)], align="overlap").aligned),
    ("cannot order by 'shared'", lambda: Results([mixture_cell()], align="order:shared").aligned),
    (
        "no true parameters",
        lambda: Results([wrong(truth=np.full((200, 7), np.nan), overlap=np.zeros((200, 0, 0)))]).aligned,
    ),
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

"""Figures of a study: what is drawn is what was measured, text stays apart, files are written, bad input is named."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emjax import DataError
from emjax.studies import Results
from emjax.studies.records import Entry
from tests.study_cells import figure, mixture_cell, study

pytest.importorskip("matplotlib")

from emjax.extras import study_plots  # noqa: E402
from emjax.extras.optional import MissingExtraError  # noqa: E402

MEAN = Entry("means[0]", 1)


@pytest.fixture(scope="module")
def results() -> Results:
    return Results(study(60))


def texts(figure: Any) -> str:
    found = [figure.get_suptitle()]
    for axis in figure.axes:
        found += [axis.get_title(), axis.get_xlabel(), axis.get_ylabel(), *(text.get_text() for text in axis.texts)]
    return "\n".join(found)


def panels(figure: Any) -> list[Any]:
    return [axis for axis in figure.axes if axis.get_visible()]


def test_the_zip_plot_shows_coverage() -> None:
    """Intervals of half the width miss the truth in a third of the replicates; the farther off, the higher."""
    cell = mixture_cell({"n": 200, "noise": 1.0}, "racing", 300)
    out = cell.outcomes
    narrow = {"lower": (out.estimate + out.lower) / 2, "upper": (out.estimate + out.upper) / 2}
    made = Results([*study(20)[:3], cell._replace(outcomes=out._replace(**narrow))])
    drawn = study_plots.zip_plot(made, MEAN)
    assert len(panels(drawn)) == 4
    table = made.performance(["coverage"])
    expected = figure({name: v[table["n"] == 200] for name, v in table.items()}, "coverage", component=1)
    (axis,) = [a for a in panels(drawn) if a.get_title().startswith("n = 200, noise = 1.0\nracing")]
    assert f"{100 * expected.estimate:.1f} %" in axis.get_title()
    covering, missing = (np.array(lines.get_segments()) for lines in axis.collections[:2])
    assert len(covering) + len(missing) == 270  # of 300, those with a valid fit
    assert len(covering) / 270 == pytest.approx(expected.estimate)
    assert 0.5 < expected.estimate < 0.8
    assert all(low > 0 or high < 0 for low, high in missing[:, :, 0])
    segments = np.concatenate([covering, missing])
    segments = segments[np.argsort(segments[:, 0, 1])]
    distance = np.abs(segments[:, :, 0].sum(axis=1)) / np.ptp(segments[:, :, 0], axis=1)
    assert np.all(np.diff(distance) >= -1e-12)
    assert np.all(np.diff(segments[:, 0, 1]) > 0)


def test_the_lollipop_shows_the_measure(results: Results) -> None:
    drawn = study_plots.lollipop(results, "bias")
    table = results.performance(["bias"])
    own = [
        i for i in range(len(table["n_sim"])) if table["population"][i] == "valid" and table["parameter"][i] == "scale"
    ]
    own = [i for i in own if table["component"][i] == 0]
    (axis,) = [a for a in panels(drawn) if a.get_title() == "scale, component 0"]
    dots = sorted(float(line.get_xdata()[0]) for line in axis.lines if line.get_marker() == "o")
    assert dots == pytest.approx(sorted(table["estimate"][own]))
    bars = [tuple(s[:, 0]) for lines in axis.collections for s in lines.get_segments()]
    for i in own:
        assert any(bar == pytest.approx((table["lower"][i], table["upper"][i])) for bar in bars)
    assert "n = 400, noise = 1.0" in [label.get_text() for label in panels(drawn)[0].get_yticklabels()]


def test_the_nested_loop_steps_through_sorted_scenarios(results: Results) -> None:
    cells = [results.cells[2 * i + m] for i in (0, 3, 1, 2, 5, 4) for m in (0, 1)]  # in no order
    measure, n, noise = panels(study_plots.nested_loop(Results(cells), "coverage", MEAN))
    assert (n.get_ylabel(), noise.get_ylabel()) == ("n", "noise")
    (steps,) = (patch.get_data() for patch in n.patches)
    np.testing.assert_array_equal(steps.values, [0, 0, 1, 1, 2, 2])
    (steps,) = (patch.get_data() for patch in noise.patches)
    np.testing.assert_array_equal(steps.values, [0, 1, 0, 1, 0, 1])
    assert [label.get_text() for label in n.get_yticklabels()] == ["100", "200", "400"]
    assert len(measure.patches) == 2
    table = results.performance(["coverage"])
    of = (table["population"] == "valid") & (table["parameter"] == "means[0]") & (table["method"] == "racing")
    expected = table["estimate"][of & np.array([c == 1 for c in table["component"]])]
    np.testing.assert_allclose(measure.patches[1].get_data().values, expected)


def test_the_heat_map_holds_the_measure(results: Results) -> None:
    drawn = study_plots.heat_map(results, "rmse", MEAN)
    table = results.performance(["rmse"])
    of = (table["population"] == "valid") & (table["parameter"] == "means[0]") & (table["method"] == "EM")
    expected = table["estimate"][of & np.array([c == 1 for c in table["component"]])]
    np.testing.assert_allclose(panels(drawn)[0].images[0].get_array(), expected.reshape(3, 2))
    turned = study_plots.heat_map(results, "rmse", MEAN, factors=("noise", "n"))
    np.testing.assert_allclose(panels(turned)[0].images[0].get_array(), expected.reshape(3, 2).T)
    assert f"{expected[0]:.2g}" in texts(drawn)


def test_estimates_and_their_errors(results: Results) -> None:
    cell = next(c for c in results.aligned if c.scenario == {"n": 200, "noise": 0.5} and c.method == "racing")
    used = np.isfinite(cell.outcomes.se[:, 3])
    (axis,) = [
        a for a in panels(study_plots.estimates_against_se(results, MEAN)) if "n = 200, noise = 0.5" in a.get_title()
    ]
    np.testing.assert_array_equal(axis.lines[1].get_xdata(), cell.outcomes.estimate[used, 3])
    np.testing.assert_array_equal(axis.lines[1].get_ydata(), cell.outcomes.se[used, 3])
    (axis,) = [a for a in panels(study_plots.estimates(results, MEAN)) if "n = 200, noise = 0.5" in a.get_title()]
    truths = [line.get_xdata()[0] for line in axis.lines if line.get_color() == "black"]
    assert set(truths) == {3.0}
    medians = [line.get_xdata()[0] for line in axis.lines if line.get_markeredgecolor() == "#333333"]
    assert float(np.median(cell.outcomes.estimate[used, 3])) in medians


def test_estimates_gone_astray_are_counted() -> None:
    cell = mixture_cell(failures=False, swapped=False)
    estimate = np.array(cell.outcomes.estimate)
    estimate[:7, 3] = 1e6
    drawn = study_plots.estimates(Results([cell._replace(outcomes=cell.outcomes._replace(estimate=estimate))]), MEAN)
    assert "7 outside" in texts(drawn)
    assert panels(drawn)[0].get_xlim()[1] < 100


def test_restarts_and_iterations(results: Results) -> None:
    axis = panels(study_plots.restart_landscape(results))[0]
    own = results.cells[0].outcomes
    values, edges, _ = axis.patches[0].get_data()
    np.testing.assert_allclose(edges[1:-1], np.sort(own.share_best))
    assert values[np.searchsorted(edges, np.median(own.share_best)) - 1] == pytest.approx(0.5, abs=0.02)
    axis = panels(study_plots.iterations(results))[0]
    assert np.sum(axis.patches[0].get_data().values) == 60
    assert axis.get_xscale() == "log"


@pytest.mark.slow
def test_no_text_lies_on_another(results: Results) -> None:
    """Titles of panels, of the figure, and the ticks of one axis: their boxes are apart in a drawn figure."""
    long = [
        mixture_cell({"number of rows": n, "distribution of the errors": kind}, method, 40, seed=n)
        for n in (100, 200)
        for kind in ("normal", "lognormal")
        for method in ("EM, 20 random restarts", "raced from 100 starts")
    ]
    for made in (results, Results(long)):
        for name in ("zip_plot", "lollipop", "estimates", "estimates_against_se", "restart_landscape", "iterations"):
            drawn = getattr(study_plots, name)(made)
            drawn.draw_without_rendering()
            titles = [drawn._suptitle, *(axis.title for axis in panels(drawn))]
            groups = [[t for t in titles if t.get_text()]]
            for axis in panels(drawn):
                groups += [[t for t in axis.get_xticklabels() if t.get_text()], [*axis.get_yticklabels()]]
            for group in groups:
                boxes = [text.get_window_extent() for text in group if text.get_visible() and text.get_text()]
                clashes = [pair for pair in itertools.combinations(boxes, 2) if pair[0].overlaps(pair[1])]
                assert not clashes, (name, [t.get_text() for t in group])


@pytest.mark.slow
def test_everything_is_saved(tmp_path: Path) -> None:
    written = study_plots.save_all(Results(study(40)), tmp_path / "figures", most_entries=1)
    assert sorted(written) == sorted((tmp_path / "figures").iterdir())
    stems = {path.stem for path in written}
    assert stems == {
        *("lollipop_bias", "lollipop_empirical_se", "lollipop_relative_error", "lollipop_coverage", "iterations"),
        *("restart_landscape", "estimates_weights_0", "zip_weights_0", "estimates-against-se_weights_0"),
        *("nested-loop-bias_weights_0", "nested-loop-coverage_weights_0", "heat-map-rmse_weights_0"),
    }
    assert {path.suffix for path in written} == {".png", ".svg"}
    assert all(path.stat().st_size > 5000 for path in written)


def test_what_cannot_be_drawn_is_left_out(tmp_path: Path) -> None:
    cell = mixture_cell({}, failures=False, swapped=False, n=40)
    nothing = np.full((40, 7), np.nan)
    own = cell.outcomes._replace(truth=nothing, se=nothing, lower=nothing, upper=nothing, share_best=nothing[:, 0])
    made = Results([cell._replace(outcomes=own)], align=None)
    stems = {path.stem for path in study_plots.save_all(made, tmp_path, most_entries=1)}
    assert stems == {"lollipop_empirical_se", "iterations", "estimates_weights_0"}


def test_levels_may_be_lists() -> None:
    cells = [mixture_cell({"slopes": slopes}, n=40) for slopes in ([1.0, 2.0], [1.0])]
    axes = study_plots.nested_loop(Results(cells), "bias").axes
    assert [label.get_text() for label in axes[1].get_yticklabels()] == ["[1.0, 2.0]", "[1.0]"]


REFUSED = [
    ("no entry", lambda r: study_plots.zip_plot(r, ("means", 7))),
    ("no measure", lambda r: study_plots.lollipop(r, "accuracy")),
    ("of the population 'none'", lambda r: study_plots.lollipop(r, "bias", "none")),
    ("two factors that vary", lambda r: study_plots.heat_map(r, factors=("n", "rows"))),
    ("two factors that vary", lambda r: study_plots.heat_map(Results(r.cells[:1]))),
    ("cannot write", lambda r: study_plots.save_all(Results(r.cells[:1]), "/proc/nowhere", most_entries=0)),
]


@pytest.mark.parametrize(("text", "call"), REFUSED)
def test_bad_input_is_named(results: Results, text: str, call: Any) -> None:
    with pytest.raises(DataError, match=text):
        call(results)


def test_without_intervals_there_is_no_zip_plot() -> None:
    cell = mixture_cell()
    lower = np.full((200, 7), np.nan)
    with pytest.raises(DataError, match="no intervals"):
        study_plots.zip_plot(Results([cell._replace(outcomes=cell.outcomes._replace(lower=lower))]))


def test_without_matplotlib_the_install_command_is_named(results: Results, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match=r"emjax\[plots\]"):
        study_plots.lollipop(results)

"""`emjax demo`: what it simulates, prints and writes, its bad input, interruption (exit status 130), progress."""

import functools
import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import emjax
from emjax.extras import demo, progress
from tests.commands import Ran, one_sentence, rows_of, run

TINY_DEMO = ["--replicates", 12, "--restarts", 3, "--n", 40]


@pytest.fixture(scope="module")
def demo_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Ran]]:
    folder = tmp_path_factory.mktemp("demo") / "results"
    yield folder, run("demo", *TINY_DEMO, "--out", folder)


def test_the_demo_prints_and_writes_everything(demo_run: tuple[Path, Ran]) -> None:
    folder, ran = demo_run
    assert ran.status == 0
    for name in ("weight 1", "intercept 2", "slope 1", "scale 2", "median bias", "empirical SE", "RMSE"):
        assert name in ran.out
    for status in emjax.Status:
        assert (status.name in ran.out) == (status != emjax.Status.RUNNING)
    for text in (
        "SUSPECT",
        "BOUNDARY",
        "work efficiency",
        "12 of 12 replicates",
        "ordering by slope disagrees",
        "fits/s",
    ):
        assert text in ran.out
    assert str(folder) in ran.out
    assert {path.name for path in folder.iterdir()} == {"measures.csv", "estimates.csv", "estimates.png"}
    assert (folder / "estimates.png").read_bytes().startswith(b"\x89PNG")
    assert "12 of 12 replicates" in ran.err  # plain progress lines, as this is no terminal


def test_the_demos_table_is_that_of_its_estimates(demo_run: tuple[Path, Ran]) -> None:
    folder, _ = demo_run
    measures, estimates = rows_of(folder / "measures.csv"), rows_of(folder / "estimates.csv")
    assert len(estimates) == 12
    assert [row["truth"] for row in measures] == ["0.5", "1.0", "0.5", "0.1", "0.5", "2.0", "1.5", "0.2"]
    for row in measures:
        values = np.array([float(each[f"{row['parameter']}_{row['component']}"]) for each in estimates])
        truth = float(row["truth"])
        assert float(row["mean"]) == pytest.approx(values.mean())
        assert float(row["bias"]) == pytest.approx(values.mean() - truth)
        assert float(row["median_bias"]) == pytest.approx(np.median(values) - truth)
        assert float(row["empirical_se"]) == pytest.approx(values.std(ddof=1))
        assert float(row["rmse"]) == pytest.approx(np.sqrt(np.mean((values - truth) ** 2)))
        # Within five standard errors of the truth, so that the labels are aligned and the fits are fits.
        spread = {"weight": 0.08, "intercept": 0.1, "slope": 0.02, "scale": 0.04}[row["parameter"]]
        assert abs(values.mean() - truth) < 5 * spread / np.sqrt(12)


def test_more_replicates_change_none() -> None:
    few, more = demo.simulate(demo.Design(replicates=3)), demo.simulate(demo.Design(replicates=5))
    assert np.array_equal(few.y, more.y[:3])
    other = demo.simulate(demo.Design(replicates=3, seed=2))
    assert not np.array_equal(few.y, other.y)


def test_simulated_data_are_the_articles() -> None:
    data = demo.simulate(demo.Design(replicates=400, noise=0.5, seed=11))
    x = np.asarray(data.x)[..., 0]
    first, second = data.y - (0.5 * x + 1), data.y - (1.5 * x + 2)
    of_first = np.abs(first / 0.05) < np.abs(second / 0.1)
    n = x.size
    assert np.mean(of_first) == pytest.approx(0.5, abs=4 * 0.5 / np.sqrt(n) + 0.01)
    assert np.std(first[of_first]) == pytest.approx(0.05, rel=0.02)
    assert np.std(second[~of_first]) == pytest.approx(0.1, rel=0.02)
    assert (np.min(x) >= 0, np.max(x) <= 10) == (True, True)
    assert np.mean(x) == pytest.approx(5, abs=4 * np.sqrt(100 / 12 / n))


def test_invalid_replicates_are_counted_and_not_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = demo.simulate(demo.Design(n=40, replicates=12))
    y = np.array(whole.y)
    y[[2, 5]] = np.nan
    monkeypatch.setattr(demo, "simulate", lambda design: whole._replace(y=y))
    ran = run("demo", *TINY_DEMO, "--out", tmp_path)
    assert ran.status == 0
    assert "Denominator: 10 of 12 replicates" in ran.out
    assert "The other 2 are not measured, not redrawn" in ran.out
    assert [line.split() for line in ran.out.splitlines() if line.startswith("INVALID_DATA")] == [
        ["INVALID_DATA", "2", "6"]
    ]
    assert {row["n_replicates"] for row in rows_of(tmp_path / "measures.csv")} == {"10"}
    statuses = [row["status"] for row in rows_of(tmp_path / "estimates.csv")]
    assert [i for i, status in enumerate(statuses) if status == "INVALID_DATA"] == [2, 5]


def test_a_demo_without_a_valid_fit_still_reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = demo.simulate(demo.Design(n=40, replicates=12))
    monkeypatch.setattr(demo, "simulate", lambda design: whole._replace(y=np.full((12, 40), np.nan)))
    ran = run("demo", *TINY_DEMO, "--out", tmp_path)
    assert ran.status == 0
    assert "Denominator: 0 of 12 replicates" in ran.out
    assert "not available" in ran.out


def test_the_demo_without_matplotlib_says_so_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    ran = run("demo", *TINY_DEMO, "--start", "truth", "--out", tmp_path, "--restarts", 1)
    assert ran.status == 0
    assert 'no figure will be drawn: matplotlib is not installed; run: pip install "emjax[plots]"' in ran.err
    assert {path.name for path in tmp_path.iterdir()} == {"measures.csv", "estimates.csv"}


def test_an_interrupted_demo_reports_what_is_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chunked: Any = functools.partial(emjax.fit_many, chunk=4, threads=1)
    monkeypatch.setattr(demo, "fit_many", chunked)
    plain = progress.Reporter.__call__

    def interrupt(reporter: progress.Reporter, advance: Any) -> None:
        plain(reporter, advance)
        if advance.done == 8:
            raise KeyboardInterrupt

    monkeypatch.setattr(progress.Reporter, "__call__", interrupt)
    ran = run("demo", *TINY_DEMO, "--out", tmp_path)
    assert ran.status == 130
    assert "interrupted: 8 of 12 replicates were finished" in ran.err
    assert len(rows_of(tmp_path / "estimates.csv")) == 8


def test_an_interruption_before_anything_is_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*arguments: Any, **settings: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "fit_many", interrupt)
    ran = run("demo", *TINY_DEMO, "--out", tmp_path)
    assert ran == Ran(130, "", "emjax: interrupted before anything was finished\n")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Advance(NamedTuple):
    done: int
    total: int
    fits_per_second: float = 123.0
    seconds_left: float = 200.0
    converged: float = 0.5
    work_efficiency: float = 0.91


def test_progress_is_a_bar_on_a_terminal_and_lines_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal()
    with progress.Reporter(40, "fits", screen) as reporter:
        reporter(Advance(20, 40))
    assert "50%" in screen.getvalue()
    assert "work efficiency 0.91" in screen.getvalue()
    log = io.StringIO()
    with progress.Reporter(40, "fits", log) as reporter:
        for done in (10, 20, 40):
            reporter(Advance(done, 40))
    expected = "40 of 40 fits, 123 fits/s, 3 min left, converged 50.0 %, work efficiency 0.91\n"
    assert log.getvalue() == expected  # the others came within the interval
    log = io.StringIO()
    with progress.Reporter(40, "fits", log, interval=0.0) as reporter:
        for done in (10, 20, 40):
            reporter(Advance(done, 40))
    assert [line.split()[0] for line in log.getvalue().splitlines()] == ["10", "20", "40"]
    monkeypatch.setitem(sys.modules, "tqdm", None)
    screen = Terminal()
    with progress.Reporter(1, "fits", screen) as reporter:
        reporter(Advance(1, 1))
    assert 'pip install "emjax[progress]"' in screen.getvalue()
    assert "1 of 1 fits" in screen.getvalue()


BAD_DEMOS = [
    (["--out", "file"], "file: cannot write to this folder"),
    (["--out", "file/folder"], "file/folder: cannot write to this folder"),
    (["--noise", "0"], "--noise: 0 must be positive"),
    (["--replicates", "0"], "--replicates: 0 is too small"),
    (["--n", "1e3"], "--n: '1e3' is not a whole number"),
    (["--n", "10000000000"], "--n times --replicates is more than 1,000,000,000 rows"),
    (["--start", "truth", "--restarts", "3"], "--restarts with --start truth"),
    (["--precision", "half"], "--precision"),
    (["--colour"], "--colour"),
]


@pytest.mark.parametrize(("options", "message"), BAD_DEMOS, ids=[case[1] for case in BAD_DEMOS])
def test_a_bad_demo_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("in the way")
    one_sentence(run("demo", *options), message)

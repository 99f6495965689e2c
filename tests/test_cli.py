"""`emjax fit`, run as a user would: results, and bad input (one sentence on stderr, exit status 2)."""

import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from tests.commands import Ran, one_sentence, rows_of, run

ROOT = Path(__file__).parent.parent
HEADER = "site,y,x1,x2,kind"


def group(site: str, n: int, seed: int) -> list[str]:
    generator = np.random.default_rng(seed)
    x1, x2 = generator.uniform(0, 10, n), generator.normal(size=n)
    first = generator.random(n) < 0.5
    y = np.where(first, 1 + 0.5 * x1, 2 + 1.5 * x1) + 0.3 * x2 + 0.2 * generator.normal(size=n)
    return [f"{site},{a},{b},{c},{'ab'[i % 2]}" for i, (a, b, c) in enumerate(zip(y, x1, x2))]


GOOD = [HEADER, *group("007", 60, 1), *group("west", 60, 2)]
HOLES = group("holes", 60, 3)
HOLES[4] = "holes,,1.0,2.0,a"
HOLES[7] = "holes,1.5,NA,2.0,a"
CONSTANT = [f"constant,{i % 7},1.0,{(i * 5) % 11},a" for i in range(60)]
TINY = ["tiny,1,2,3,a", "tiny,2,1,0,b"]


class Fitted(NamedTuple):
    alone: list[dict[str, str]]
    among_broken: list[dict[str, str]]
    ran: Ran


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Fitted:
    """The good groups by themselves, and the same among broken ones."""
    folder = tmp_path_factory.mktemp("fit")
    (folder / "good.csv").write_text("\n".join(GOOD) + "\n")
    (folder / "all.csv").write_text("\n".join([HEADER, *HOLES, *GOOD[1:], *CONSTANT, *TINY]) + "\n")
    options = ["y ~ x1 + x2", "--components", 2, "--by", "site", "--restarts", 4]
    assert run("fit", folder / "good.csv", *options, "--out", folder / "good_fits.csv").status == 0
    ran = run("fit", folder / "all.csv", *options, "--out", folder / "all_fits.csv")
    return Fitted(rows_of(folder / "good_fits.csv"), rows_of(folder / "all_fits.csv"), ran)


def test_fit_gives_a_row_per_group_and_component(fitted: Fitted) -> None:
    assert fitted.ran.status == 0
    assert [row["site"] for row in fitted.among_broken[::2]] == ["holes", "007", "west", "constant", "tiny"]
    assert [row["component"] for row in fitted.among_broken] == ["1", "2"] * 5
    for row in fitted.alone:
        assert row["status"] == "CONVERGED"
        assert row["reason"] == ""
        assert row["n"] == "60"
        assert float(row["scale"]) == pytest.approx(0.2, rel=0.5)
        assert np.isfinite(float(row["log_likelihood"]))
    slopes = sorted(float(row["coef_x1"]) for row in fitted.alone if row["site"] == "west")
    assert slopes == pytest.approx([0.5, 1.5], abs=0.1)
    assert float(fitted.alone[0]["weight"]) >= float(fitted.alone[1]["weight"])


def test_a_broken_group_has_its_reason_and_harms_no_other(fitted: Fitted) -> None:
    good = [row for row in fitted.among_broken if row["site"] in ("007", "west")]
    assert good == fitted.alone
    reasons = {row["site"]: row["reason"] for row in fitted.among_broken if row["status"] == "INVALID_DATA"}
    assert reasons["holes"].startswith("missing or infinite values in y (1 row), x1 (1 row)")
    assert reasons["constant"].endswith("(x1)")
    assert "fewer rows than free parameters" in reasons["tiny"]
    assert len(reasons) == 3
    assert all(row["weight"] == "" for row in fitted.among_broken if row["status"] == "INVALID_DATA")
    assert "2 CONVERGED, 3 INVALID_DATA" in fitted.ran.err


def test_fit_prints_the_table_without_out(tmp_path: Path) -> None:
    path = tmp_path / "good.csv"
    path.write_text("\n".join([*GOOD[:31], "007,,1,1,a"]) + "\n")
    ran = run("fit", path, "y ~ 1", "--components", 1, "--restarts", 1, "--drop-missing")
    assert ran.status == 0
    header, *rows = [line for line in ran.out.splitlines() if line]
    assert " ".join(header.split()) == "component weight coef_Intercept scale log_likelihood n status flags reason"
    assert len(rows) == 1
    assert "1 of 31 rows with missing values left out" in ran.err
    y = np.array([float(line.split(",")[1]) for line in GOOD[1:31]])
    cells = rows[0].split()
    assert float(cells[2]) == pytest.approx(y.mean(), rel=1e-5)
    assert float(cells[3]) == pytest.approx(y.std(), rel=1e-5)


BAD_FILES = [
    ("missing.csv", None, "missing.csv: no such file"),
    ("empty.csv", b"", "empty.csv: the file is empty"),
    ("blank.csv", b" \n\n", "blank.csv: the file is empty"),
    ("header.csv", b"y,x1\n", "header.csv: there is a header and no row below it"),
    ("binary.csv", bytes(range(256)), "binary.csv: not a CSV file"),
    ("book.csv", b"PK\x03\x04 and so on", "book.csv: not a CSV file (a spreadsheet or zip archive)"),
    ("latin.csv", b"y,x1\n1,2\n1,\xe9\n", "latin.csv: line 3 is not UTF-8 text"),
    ("semicolons.csv", b"y;x1\n1;2\n", "semicolons.csv: the columns seem to be separated by semicolons"),
    ("twice.csv", b"y,x1,y\n1,2,3\n", "twice.csv: two columns are called 'y'"),
    ("long.csv", b"y,x1\n1,2\n1,2,3\n", "long.csv: not a well-formed CSV file (Expected 2 fields in line 3, saw 3)"),
    ("first.csv", b"y,x1\n1,2,3\n1,2\n", "first.csv: a line has more fields than the header"),
    ("quote.csv", b'y,x1\n1,"2\n3,4', "quote.csv: not a well-formed CSV file"),
    ("text.csv", b"y,x1\n1,2\nabc,3\n", "column 'y' must be numeric and has the text 'abc' in row 2"),
    ("covariate.csv", b"y,x1\n1,2\n2,oops\n", "column 'x1' must be numeric and has the text 'oops' in row 2"),
    ("none.csv", b"y,x1\n,2\n1,\n", "no row has a finite value in every column of 'y ~ x1' (y, x1)"),
]


@pytest.mark.parametrize(("name", "content", "message"), BAD_FILES, ids=[case[0] for case in BAD_FILES])
def test_a_bad_file_is_one_sentence(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    one_sentence(run("fit", tmp_path / name, "y ~ x1", "--components", 2), message)


def test_a_folder_and_an_unreadable_file_are_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one_sentence(run("fit", tmp_path, "y ~ x1", "--components", 2), "this is a folder")
    locked = tmp_path / "locked.csv"
    locked.write_text("y,x1\n1,2\n")

    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied")  # tests may run as root, whom no permission stops

    monkeypatch.setattr(Path, "read_bytes", refuse)
    one_sentence(run("fit", locked, "y ~ x1", "--components", 2), "locked.csv: cannot be read (Permission denied)")


BAD_OPTIONS = [
    (["y ~ x3", "--components", "2"], "names 'x3', which is not a column"),
    (["y ~ X1", "--components", "2"], "did you mean 'x1'? available: site, y, x1, x2, kind"),
    (["y ~ x1 +", "--components", "2"], "the formula 'y ~ x1 +' cannot be read"),
    (
        ["y ~ x1", "--components", "2", "--by", "Site"],
        "(--by) names 'Site', which is not a column; did you mean 'site'?",
    ),
    (["y ~ x1", "--components", "0"], "--components: 0 is too small"),
    (["y ~ x1", "--components", "two"], "--components: 'two' is not a whole number"),
    (["y ~ x1"], "--components"),
    (["y ~ x1", "--components", "2", "--restarts", "0"], "--restarts: 0 is too small"),
    (["y ~ x1", "--components", "2", "--tol", "-1"], "--tol: -1 must be positive"),
    (["y ~ x1", "--components", "2", "--scale", "both"], "--scale"),
    (["y ~ x1", "--components", "2", "--seed", "-3"], "--seed: -3 is too small"),
    (["y ~ x1", "--components", "2", "--out", "no/such/folder/fits.csv"], "no/such/folder/fits.csv: cannot write"),
    (["y ~ x1", "--components", "2", "--out", "good.csv/fits.csv"], "good.csv/fits.csv: cannot write"),
    (["y ~ x1", "--components", "2", "--out", "."], ".: this is a folder"),
]


@pytest.mark.parametrize(("options", "message"), BAD_OPTIONS, ids=[case[1] for case in BAD_OPTIONS])
def test_a_bad_option_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("good.csv").write_text("\n".join(GOOD) + "\n")
    one_sentence(run("fit", "good.csv", *options), message)


@pytest.mark.parametrize("package", ["pandas", "formulaic"])
def test_a_missing_extra_names_its_install_command(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    ran = run("fit", "good.csv", "y ~ x1", "--components", 2)
    one_sentence(ran, f'{package} is not installed; run: pip install "emjax[frames]"')


def test_no_traceback_from_the_installed_command(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "emjax.extras.cli", "fit", str(tmp_path / "no.csv"), "y ~ x", "--components", "2"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    one_sentence(Ran(ended.returncode, ended.stdout, ended.stderr), "no.csv: no such file")


def test_importing_the_command_line_is_cheap() -> None:
    code = "import sys, emjax.extras.cli; print(*{m.partition('.')[0] for m in sys.modules})"
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not {"pandas", "formulaic", "matplotlib", "tqdm", "scipy.stats"} & set(ended.stdout.split())


def test_a_disk_that_fills_up_does_not_cost_the_fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "good.csv"
    path.write_text("\n".join(GOOD[:31]) + "\n")

    def full(source: str, target: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    out = tmp_path / "fits.csv"
    ran = run("fit", path, "y ~ 1", "--components", 1, "--restarts", 1, "--out", out)
    assert ran.status == 2
    assert "fits.csv: cannot write this file (No space left on device)" in ran.err
    assert ran.out.startswith("component,weight,coef_Intercept")
    assert [found.name for found in tmp_path.iterdir()] == ["good.csv"]

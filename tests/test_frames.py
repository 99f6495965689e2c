"""From tables and formulas to datasets: columns, groups, gaps and the errors that name them. Nothing is fitted here."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from emjax import DataError
from emjax.extras.files import prepare_file, prepare_folder, read_table, write_text
from emjax.extras.frames import build_groups


def table() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "y": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
            "x1": [1.0, 4.0, 9.0, 16.0, 25.0, 36.0],
            "kind": ["a", "b", "a", "b", "a", "b"],
            "site": ["s2", "s2", "s1", "s1", "s2", "s1"],
        }
    )


def test_groups_keep_their_rows_and_first_appearance() -> None:
    groups = build_groups(table(), "y ~ x1 + kind", by="site")
    assert groups.labels == ["s2", "s1"]
    assert groups.coefficients == ["Intercept", "x1", "kind[T.b]"]
    assert groups.intercept
    assert np.asarray(groups.data[0].y).tolist() == [1.0, 2.0, 5.0]
    assert np.asarray(groups.data[0].x).tolist() == [[1.0, 0.0], [4.0, 1.0], [25.0, 0.0]]
    assert np.asarray(groups.data[1].y).tolist() == [3.0, 4.0, 6.0]
    assert groups.missing == ["", ""]


def test_intercepts() -> None:
    alone = build_groups(table(), "y ~ 1")
    assert (alone.coefficients, alone.intercept, alone.data[0].x) == (["Intercept"], True, None)
    without = build_groups(table(), "y ~ x1 - 1")
    assert (without.coefficients, without.intercept) == (["x1"], False)
    assert np.shape(without.data[0].x) == (6, 1)


def test_transforms_of_both_sides() -> None:
    groups = build_groups(table(), "log(y) ~ np.sqrt(x1)")
    assert np.allclose(groups.data[0].y, np.log([1, 2, 3, 4, 5, 6]))
    assert np.allclose(np.asarray(groups.data[0].x)[:, 0], [1, 2, 3, 4, 5, 6])


def test_a_gap_marks_its_own_group_and_no_other() -> None:
    """center() looks at all rows, so a NaN or an infinity that reached it would undo every group."""
    broken = table()
    broken.loc[2, "x1"] = np.nan
    broken.loc[3, "x1"] = np.inf
    broken.loc[5, "kind"] = None
    groups = build_groups(broken, "y ~ center(x1) + kind", by="site")
    assert np.isfinite(groups.data[0].x).all()
    assert np.isnan(groups.data[1].x).all()
    assert groups.missing[0] == ""
    assert groups.missing[1].startswith("missing or infinite values in x1 (2 rows), kind (1 row)")


def test_a_column_that_formulaic_does_not_see_is_still_checked() -> None:
    broken = table()
    broken.loc[2, "x1"] = np.nan
    groups = build_groups(broken, "y ~ poly(x1, 2)", by="site")
    assert np.isfinite(groups.data[0].x).all()
    assert "x1 (1 row)" in groups.missing[1]


def test_a_transform_that_fails_names_the_term() -> None:
    broken = table()
    broken.loc[2, "x1"] = -1.0
    groups = build_groups(broken, "y ~ log(x1)", by="site")
    assert groups.missing == [
        "",
        "the formula gives no finite number for log(x1) (1 row): correct or delete those rows",
    ]


def test_dropping_keeps_a_group_that_would_vanish() -> None:
    broken = table()
    broken.loc[[0, 2, 3, 5], "y"] = np.nan
    groups = build_groups(broken, "y ~ x1", by="site", drop_missing=True)
    assert groups.labels == ["s2", "s1"]
    assert np.asarray(groups.data[0].y).tolist() == [2.0, 5.0]
    assert np.isnan(groups.data[1].y).all()
    assert "y (3 rows)" in groups.missing[1]
    assert groups.dropped == 1


def test_rows_without_a_group() -> None:
    broken = table()
    broken.loc[[1, 4], "site"] = None
    with pytest.raises(DataError, match=r"'site' names no group in 2 rows \(the first is row 2 below"):
        build_groups(broken, "y ~ x1", by="site")
    groups = build_groups(broken, "y ~ x1", by="site", drop_missing=True)
    assert (groups.labels, groups.dropped) == (["s2", "s1"], 2)
    assert np.asarray(groups.data[0].y).tolist() == [1.0]


BAD_FORMULAS = [
    ("y ~ kinds", "names 'kinds', which is not a column or a known function; did you mean 'kind'?"),
    ("y ~ X1", "did you mean 'x1'? available: y, x1, kind, site"),
    ("y ~ cube(x1)", "'cube'"),
    ("y ~ x1 +", "cannot be read"),
    ("y x1", "cannot be read"),
    ("y ~ .", "write their names"),
    ("", "needs one response"),
    ("~ x1", "needs one response"),
    ("y ~ x1 | x1", "needs one response"),
    ("y + x1 ~ kind", "2 response columns"),
    ("y ~ 0", "nothing on its right"),
    ("y ~ log(kind)", "cannot be evaluated"),
    ("kind ~ x1", "column 'kind' must be numeric and has the text 'a' in row 1 below the header"),
]


@pytest.mark.parametrize(("formula", "message"), BAD_FORMULAS)
def test_a_bad_formula_is_named(formula: str, message: str) -> None:
    with pytest.raises(DataError) as caught:
        build_groups(table(), formula)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_text_among_numbers_is_an_error_and_categories_are_not() -> None:
    mixed = table().assign(x1=["1", "2", "three", "4", "5", "6"])
    with pytest.raises(DataError, match="'x1' must be numeric and has the text 'three' in row 3 below the header"):
        build_groups(mixed, "y ~ x1")
    assert len(build_groups(mixed, "y ~ C(x1)").coefficients) == 6
    assert build_groups(table().assign(x1=list("123456")), "y ~ x1").coefficients == ["Intercept", "x1"]
    names = pd.DataFrame({"y": np.arange(300.0), "name": [f"n{i}" for i in range(300)]})
    with pytest.raises(DataError, match="'name' is text with 300 different values"):
        build_groups(names, "y ~ name")


def test_reading_keeps_labels_as_written(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"\xef\xbb\xbfsite, y ,x1\n007,1,2\n7,2,3\n")
    read = read_table(path, ["site"])
    assert list(read.columns) == ["site", "y", "x1"]
    assert build_groups(read, "y ~ x1", by="site").labels == ["007", "7"]


def test_writing_replaces_whole_files_and_leaves_no_rubbish(tmp_path: Path) -> None:
    target = prepare_file(tmp_path / "a.csv")
    assert list(tmp_path.iterdir()) == []
    write_text(target, "old")
    assert prepare_file(target).read_text() == "old"
    write_text(target, "new")
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]
    assert target.read_text() == "new"
    assert prepare_folder(tmp_path / "b" / "c").is_dir()
    with pytest.raises(DataError, match="cannot write this file"):
        write_text(tmp_path / "gone" / "a.csv", "text")

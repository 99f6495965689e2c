"""Checks on a table's columns before a formula is evaluated, each failure naming the column, the row and the remedy."""

import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emjax.base.status import DataError
from emjax.extras.optional import require

# A text covariate becomes one column per value; beyond this many it is a label or a mistake, and fills the memory.
_MAX_LEVELS = 200


def check_known(names: Iterable[str], available: Sequence[str], where: str, what: str = "a column") -> None:
    """Errors: DataError for the first of `names` that is not `available`, with the nearest name and the whole list."""
    for name in names:
        if name in available:
            continue
        close = get_close_matches(name, available, n=1, cutoff=0.6)
        close = close or [column for column in available if column.lower() == name.lower()]
        hint = f"did you mean '{close[0]}'? " if close else ""
        raise DataError(f"{where} names '{name}', which is not {what}; {hint}available: {', '.join(available)}")


def as_numbers(table: Any, name: str, formula: str, response: bool) -> Any:
    """Column `name` as the formula is to see it: numbers where they are numbers, text where it is categorical.

    Errors: DataError for text in the response or among numbers (the first row and value), a covariate of text with
    too many values, or a column that is neither (dates).
    """
    pandas = require("pandas", "frames")
    column = table[name]
    if pandas.api.types.is_bool_dtype(column) or pandas.api.types.is_numeric_dtype(column):
        return column
    if not (pandas.api.types.is_string_dtype(column) or pandas.api.types.is_object_dtype(column)):
        raise DataError(f"column '{name}' holds {column.dtype}, not numbers or text; convert it")
    if re.search(rf"\bC\(\s*`?{re.escape(name)}\b", formula):
        return column
    numbers = pandas.to_numeric(column, errors="coerce")
    text = (column.notna() & numbers.isna()).to_numpy()
    if not text.any():
        return numbers.astype(float)
    row = int(np.argmax(text))
    if response or numbers.notna().any():
        remedy = "" if response else f", or write C({name}) if it is categorical"
        raise DataError(
            f"column '{name}' must be numeric and has the text '{column.iloc[row]}' in row {row + 1} below the header; "
            f"correct it or leave it empty{remedy}"
        )
    levels = column.nunique()
    if levels > _MAX_LEVELS:
        raise DataError(
            f"column '{name}' is text with {levels:,} different values (the first is '{column.iloc[row]}'); a "
            f"covariate of text may have {_MAX_LEVELS} at most; leave it out or group its values"
        )
    return column


def count_rows(count: int) -> str:
    """The number in words: "1 row", "2 rows"."""
    return f"{count:,} {'row' if count == 1 else 'rows'}"


def gaps(table: Any, names: Sequence[str]) -> NDArray[np.bool_]:
    """Where a value is missing or infinite: (rows, names)."""
    missing = np.zeros((len(table), len(names)), dtype=bool)
    for j, name in enumerate(names):
        column = table[name]
        missing[:, j] = column.isna()
        if column.dtype.kind == "f":
            missing[:, j] |= ~np.isfinite(column.to_numpy(float, na_value=np.nan))
    return missing


def group_labels(table: Any, by: str, what: str = "group", droppable: bool = True) -> NDArray[np.str_]:
    """The labels of the rows as text, of a group or a unit. Errors: DataError for a row without one.

    droppable : whether leaving such rows out is a remedy; where time passes it is not.
    """
    column = table[by]
    empty = column.isna().to_numpy()
    if empty.any():
        first = int(np.argmax(empty)) + 1
        raise DataError(
            f"column '{by}' names no {what} in {count_rows(int(empty.sum()))} (the first is row {first} below the "
            f"header); fill them in{' or drop those rows (--drop-missing)' if droppable else ''}"
        )
    return column.astype(str).to_numpy(dtype=str)

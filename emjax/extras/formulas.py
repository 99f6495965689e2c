"""Formulas (formulaic) evaluated over the rows of a table that are complete, with errors that name the culprit."""

import re
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from emjax.base.status import DataError
from emjax.extras.columns import as_numbers, check_known
from emjax.extras.optional import require


class Formula(NamedTuple):
    """A formula that could be read: its text, formulaic's object, the columns it uses, and those of its response."""

    text: str
    parsed: Any
    used: list[str]
    response: set[str]


def read(text: str, available: list[str]) -> Formula:
    """A formula with a response, such as "y ~ x1 + x2". Errors: DataError for one that cannot be read."""
    parsed = _parse(text, "y ~ x1 + x2")
    sides = getattr(parsed, "lhs", None), getattr(parsed, "rhs", None)
    if any(side is None or isinstance(side, tuple) for side in sides):
        raise DataError(f"the formula '{text}' needs one response, a ~ and covariates; write it as y ~ x1 + x2")
    return _checked(text, parsed, available, {str(name) for name in parsed.lhs.required_variables})


def read_gating(text: str, available: list[str]) -> Formula:
    """A formula without a response, such as "~ z1 + z2". Errors: DataError for one that cannot be read."""
    right = text.strip().removeprefix("~")
    if "~" in right or not right.strip():
        raise DataError(f"the gating formula '{text}' must have covariates and no response; write it as ~ z1 + z2")
    parsed = _parse(right, "~ z1 + z2", text)
    if not isinstance(parsed, require("formulaic", "frames").SimpleFormula):  # several parts
        raise DataError(f"the gating formula '{text}' must be one sum of covariates; write it as ~ z1 + z2")
    return _checked(text, parsed, available, set())


def _checked(text: str, parsed: Any, available: list[str], response: set[str]) -> Formula:
    named = [str(name) for name in parsed.required_variables]
    check_known(sorted(named), available, f"the formula '{text}'", "a column or a known function")
    # formulaic does not look inside transforms such as poly(x, 2), so names in the text count as well.
    return Formula(text, parsed, [name for name in available if name in named or _mentions(text, name)], response)


def _mentions(formula: str, name: str) -> bool:
    return re.search(rf"(?<![\w.]){re.escape(name)}(?![\w.(])", formula) is not None


def _parse(formula: str, example: str, shown: str = "") -> Any:
    shown = shown or formula
    formulaic = require("formulaic", "frames")
    if re.search(r"(?<![\w.])\.(?![\w.])", formula):
        raise DataError(f"the formula '{shown}' has a '.' for all columns; write their names")
    errors = require("formulaic.errors", "frames")
    try:
        return formulaic.Formula(formula)
    except errors.FormulaicError as error:
        raise DataError(f"the formula '{shown}' cannot be read ({_first(error)}); write it as {example}") from None


def columns_for(formulas: list[Formula], table: Any, categories: bool = False) -> tuple[Any, dict[str, int]]:
    """The columns that the formulas use, numbers where they are numbers, as a DataFrame with the index 0, 1, ...

    Where responses are `categories`, they become 0, 1, ... in the order of their sorted values, NaN where missing, and
    their numbers of levels are returned by name too.
    """
    pandas = require("pandas", "frames")
    columns, levels = {}, {}
    for formula in formulas:
        for name in formula.used:
            if categories and name in formula.response:
                codes, values = pandas.factorize(table[name], sort=True)
                columns[name], levels[name] = np.where(codes < 0, np.nan, codes), len(values)
            elif name not in columns:
                columns[name] = as_numbers(table, name, formula.text, name in formula.response)
    return pandas.DataFrame(columns, index=table.index).reset_index(drop=True), levels


def evaluate(formula: Formula, frame: Any, complete: NDArray[np.bool_]) -> list[tuple[NDArray[np.float64], list[str]]]:
    """Response, where there is one, and design over all rows, NaN where a row is not complete, with their columns."""
    try:
        with np.errstate(all="ignore"):  # log(0) and the like become the status of their group, not a warning
            found = formula.parsed.get_model_matrix(frame[complete], na_action="ignore", context={})
            matrices = [found.lhs, found.rhs] if hasattr(found, "lhs") else [found]
            values = [np.asarray(matrix, float) for matrix in matrices]
    except Exception as error:  # a transform runs whatever the formula says, so it may raise anything
        raise DataError(f"the formula '{formula.text}' cannot be evaluated ({_first(error)})") from None
    sides = []
    for matrix, value in zip(matrices, values):
        whole = np.full((len(frame), value.shape[1]), np.nan)
        whole[complete] = value
        sides.append((whole, [str(name) for name in matrix.columns]))
    if not sides[-1][1]:
        raise DataError(f"the formula '{formula.text}' has nothing on its right; write y ~ 1 for an intercept only")
    return sides


def _first(error: Exception) -> str:
    lines = str(error).splitlines() or [type(error).__name__]
    return lines[0].strip().rstrip(".")

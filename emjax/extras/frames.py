"""From a table and a formula to datasets, and from fits back to a table (pandas, formulaic)."""

import re
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from emjax import Data, DataError, Fits, Flag, Problem, Status
from emjax.extras.columns import as_numbers, check_known, count_rows, gaps, group_labels
from emjax.extras.optional import require
from emjax.inference import order_by, permute

_RESERVED = ("component", "weight", "scale", "log_likelihood", "n", "status", "flags", "reason")
# A covariate is named as collinear where this share of its length or less is left beside those before it.
_DEPENDENT = 1e-6
_NOT_FINITE = Problem.RESPONSE_NOT_FINITE | Problem.COVARIATE_NOT_FINITE


class Groups(NamedTuple):
    """The datasets of a table, one per group, in the order in which the groups first appear.

    labels : one per dataset (a single empty one without grouping). data : y (n,), x (n, p) without the column of ones,
    or None where the intercept is all there is. coefficients : the names, intercept first. intercept : whether there is
    one. missing : per dataset a sentence that names the columns with missing values, or "". dropped : rows left out on
    request. by : the grouping column, or None.
    """

    labels: list[str]
    data: list[Data]
    coefficients: list[str]
    intercept: bool
    missing: list[str]
    dropped: int
    by: str | None


class _Design(NamedTuple):
    """The formula's matrices over all rows, NaN where a used column has a gap, and which columns have gaps where."""

    y: NDArray[np.float64]
    x: NDArray[np.float64]
    names: list[str]
    used: list[str]
    gaps: NDArray[np.bool_]


def build_groups(table: Any, formula: str, by: str | None = None, drop_missing: bool = False) -> Groups:
    """Datasets from a pandas DataFrame and a Wilkinson formula such as `"y ~ x1 + log(x2)"`, one per value of `by`.

    Categorical covariates and transforms that look at the data (center, poly) are set up once, over all complete rows,
    so that a coefficient means the same in every group. A row with a gap (missing or infinite) in a column that the
    formula uses becomes NaN, which makes its dataset INVALID_DATA and no other; `drop_missing` leaves such rows out
    instead, except where a group would lose all of them, and rows without a group as well.

    Errors: MissingExtraError; DataError for a formula that cannot be read, an unknown column, text in a numeric column,
    a row without a group, no complete row at all.
    """
    available = [str(name) for name in table.columns]
    if by is not None:
        check_known([by], available, "the grouping (--by)")
        unlabelled = table[by].isna().to_numpy()
        table = table[~unlabelled] if drop_missing else table
        dropped = int(unlabelled.sum()) if drop_missing else 0
        labels = group_labels(table, by)
    else:
        labels, dropped = np.full(len(table), ""), 0
    design = _design(table, formula, available)
    return _split(design, labels, by, drop_missing, dropped)


def _split(design: _Design, labels: NDArray[np.str_], by: str | None, drop_missing: bool, dropped: int) -> Groups:
    values, first, codes = np.unique(labels, return_index=True, return_inverse=True)
    appearance = np.argsort(first)
    rank = np.empty_like(appearance)
    rank[appearance] = np.arange(len(appearance))
    codes = rank[codes]
    incomplete = design.gaps.any(axis=1)
    if drop_missing:
        # A group without one complete row keeps its rows: it then says why it cannot be fitted instead of vanishing.
        some = np.bincount(codes, ~incomplete, len(values)) > 0
        keep = ~(incomplete & some[codes])
        dropped += int(np.sum(~keep))
        codes = codes[keep]
        design = design._replace(y=design.y[keep], x=design.x[keep], gaps=design.gaps[keep])
    rows = np.split(np.argsort(codes, kind="stable"), np.cumsum(np.bincount(codes, minlength=len(values)))[:-1])
    intercept = bool(design.names) and design.names[0] == "Intercept"
    x = design.x[:, 1:] if intercept else design.x
    return Groups(
        labels=[str(label) for label in values[appearance]],
        data=[Data(design.y[i], x[i] if x.shape[1] else None) for i in rows],
        coefficients=design.names,
        intercept=intercept,
        missing=[_missing(design, i) for i in rows],
        dropped=dropped,
        by=by,
    )


def _missing(design: _Design, rows: NDArray[np.intp]) -> str:
    """Which columns of one group have gaps, or which terms of the formula are not finite where no column has one."""
    counts = dict(zip(design.used, design.gaps[rows].sum(axis=0)))
    what, remedy = "missing or infinite values in", "correct them or leave those rows out (--drop-missing)"
    if not any(counts.values()):
        what, remedy = "the formula gives no finite number for", "correct or delete those rows"
        bad = ~np.isfinite(np.column_stack([design.y[rows], design.x[rows]]))
        counts = dict(zip(["the response", *design.names], bad.sum(axis=0)))
    found = [f"{name} ({count_rows(int(count))})" for name, count in counts.items() if count]
    return f"{what} {', '.join(found)}: {remedy}" if found else ""


def _design(table: Any, formula: str, available: list[str]) -> _Design:
    parsed = _parse(formula)
    response = set(parsed.lhs.required_variables)
    named = [str(name) for name in parsed.required_variables]
    check_known(sorted(named), available, f"the formula '{formula}'", "a column or a known function")
    # formulaic does not look inside transforms such as poly(x, 2), so names in the text count as well.
    used = [name for name in available if name in named or _mentions(formula, name)]
    columns = {name: as_numbers(table, name, formula, name in response) for name in used}
    frame = require("pandas", "frames").DataFrame(columns, index=table.index).reset_index(drop=True)
    holes = gaps(frame, used)
    complete = ~holes.any(axis=1)
    if not complete.any():
        raise DataError(f"no row has a finite value in every column of '{formula}' ({', '.join(used)}); fill some in")
    y, x, names = _evaluate(parsed, formula, frame[complete])
    full_y, full_x = np.full(len(frame), np.nan), np.full((len(frame), x.shape[1]), np.nan)
    full_y[complete], full_x[complete] = y, x
    return _Design(full_y, full_x, names, used, holes)


def _mentions(formula: str, name: str) -> bool:
    return re.search(rf"(?<![\w.]){re.escape(name)}(?![\w.(])", formula) is not None


def _parse(formula: str) -> Any:
    formulaic = require("formulaic", "frames")
    if re.search(r"(?<![\w.])\.(?![\w.])", formula):
        raise DataError(f"the formula '{formula}' has a '.' for all columns; write their names")
    errors = require("formulaic.errors", "frames")
    try:
        parsed = formulaic.Formula(formula)
    except errors.FormulaicError as error:
        raise DataError(f"the formula '{formula}' cannot be read ({_first(error)}); write it as y ~ x1 + x2") from None
    sides = getattr(parsed, "lhs", None), getattr(parsed, "rhs", None)
    if any(side is None or isinstance(side, tuple) for side in sides):
        raise DataError(f"the formula '{formula}' needs one response, a ~ and covariates; write it as y ~ x1 + x2")
    return parsed


def _evaluate(parsed: Any, formula: str, frame: Any) -> tuple[NDArray[np.float64], NDArray[np.float64], list[str]]:
    """Response (n,), design (n, p) and its column names over complete rows."""
    try:
        with np.errstate(all="ignore"):  # log(0) and the like become the status of their group, not a warning
            matrices = parsed.get_model_matrix(frame, na_action="ignore", context={})
            y, x = np.asarray(matrices.lhs, float), np.asarray(matrices.rhs, float)
    except Exception as error:  # a transform runs whatever the formula says, so it may raise anything
        raise DataError(f"the formula '{formula}' cannot be evaluated ({_first(error)})") from None
    if y.shape[1:] != (1,):
        raise DataError(f"the formula '{formula}' has {y.shape[1]} response columns; it must give one number per row")
    names = [str(name) for name in matrices.rhs.columns]
    if not names:
        raise DataError(f"the formula '{formula}' has nothing on its right; write y ~ 1 for an intercept only")
    return y[:, 0], x, names


def _first(error: Exception) -> str:
    lines = str(error).splitlines() or [type(error).__name__]
    return lines[0].strip().rstrip(".")


def fits_table(fits: Fits, groups: Groups) -> Any:
    """One row per dataset and component of `fit_many`'s result, as a pandas DataFrame.

    Columns: the group (under the grouping column's name), component (by decreasing weight), weight, one `coef_NAME` a
    coefficient, scale (standard deviation), log_likelihood in nats, n, status, flags, reason (empty when CONVERGED).
    A dataset that could not be fitted has its rows too, with NaN and the reason; one that was not reached before an
    interruption has none. Errors: MissingExtraError.
    """
    pandas = require("pandas", "frames")
    weights = np.asarray(fits.params.latent.weights)
    n_datasets, n_components = weights.shape
    params = permute(fits.params, order_by(-weights))

    def each(values: Any) -> NDArray[Any]:
        return np.repeat(np.asarray(values), n_components)

    columns: dict[str, Any] = {}
    if groups.by is not None:
        name = groups.by if groups.by not in _RESERVED and not groups.by.startswith("coef_") else "group"
        columns[name] = each([groups.labels[i] for i in fits.positions])
    columns["component"] = np.tile(np.arange(1, n_components + 1), n_datasets)
    columns["weight"] = params.latent.weights.ravel()
    for j, coefficient in enumerate(groups.coefficients):
        columns[f"coef_{coefficient}"] = params.family.coefficients[..., j].ravel()
    columns["scale"] = params.family.scale.ravel()
    columns["log_likelihood"] = each(fits.log_likelihood)
    columns["n"] = each([len(groups.data[i].y) for i in fits.positions])
    columns["status"] = each([Status(status).name for status in fits.status])
    columns["flags"] = each([flag_names(flags) for flags in fits.flags])
    columns["reason"] = each(
        [reason(status, problems, groups, i) for i, status, problems in zip(fits.positions, fits.status, fits.problems)]
    )
    return pandas.DataFrame(columns)


def print_table(table: Any) -> str:
    """The table of `fits_table` as aligned text, reasons to the left, six significant digits."""
    width = int(table["reason"].str.len().max())
    shown = table.assign(reason=table["reason"].str.ljust(width))
    text = shown.to_string(index=False, max_colwidth=None, float_format=lambda value: f"{value:.6g}")
    return "\n".join(line.rstrip() for line in text.splitlines())


def reason(status: int, problems: int, groups: Groups, position: int) -> str:
    """Why the fit of dataset `position` is not CONVERGED, in a sentence that names the columns to blame, or ""."""
    if status == Status.CONVERGED:
        return ""
    if status != Status.INVALID_DATA:
        return Status(status).message
    missing, found = groups.missing[position], Problem(int(problems))
    rest = (found & ~_NOT_FINITE if missing else found).describe()
    blamed = _blamed(groups, position, found)
    rest += f" ({', '.join(blamed)})" if blamed else ""
    return "; ".join(text for text in (missing, rest) if text) or Status.INVALID_DATA.message


def _blamed(groups: Groups, position: int, problems: Problem) -> list[str]:
    """The covariates that are constant in this dataset or follow from those before them."""
    x = groups.data[position].x
    if x is None:
        return []
    names = groups.coefficients[int(groups.intercept) :]
    x = np.asarray(x)
    bad = np.zeros(x.shape[1], dtype=bool)
    if problems & Problem.CONSTANT_COVARIATE:
        bad |= np.ptp(x, axis=0) == 0
    elif problems & Problem.COLLINEAR and len(x) >= x.shape[1]:
        centred = x - x.mean(axis=0) if groups.intercept else x
        length = np.linalg.norm(centred, axis=0)
        bad |= np.abs(np.diag(np.linalg.qr(centred / np.where(length > 0, length, 1.0), mode="r"))) < _DEPENDENT
    return [name for name, blame in zip(names, bad) if blame]


def flag_names(flags: int) -> str:
    """The names of the flags that are set, separated by blanks."""
    return " ".join(str(flag.name) for flag in Flag if flag & Flag(int(flags)) and flag != Flag.DEGENERATE)

"""From a table and a formula to datasets: groups, units, weights, gaps (pandas, formulaic)."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from emjax import Data, DataError, GatedWeights, HiddenMarkov, MarkovChain, MixingWeights, Mixture
from emjax.extras import formulas, named_families
from emjax.extras.columns import as_numbers, check_known, count_rows, gaps, group_labels


class Columns(NamedTuple):
    """Names of columns that mean something else than a formula's variables, or None; gating is a formula of its own.

    by : fit every value on its own. unit : rows of one value share their component, or are one sequence. weights : how
    often a row, or a unit, counts. trials : of a binomial response. gating : "~ z1 + z2", covariates of the mixing
    weights. sequential : whether rows follow one another, as in a hidden Markov model.
    """

    by: str | None = None
    unit: str | None = None
    weights: str | None = None
    trials: str | None = None
    gating: str | None = None
    sequential: bool = False


class Groups(NamedTuple):
    """The datasets of a table, one per group, in the order in which the groups first appear.

    labels : one per dataset (a single empty one without grouping). data : y (n,) or (n, d), x (n, p) without the column
    of ones, or None where the intercept is all there is, z (n, c), trials, unit and weight as asked for; rows of one
    unit stand together. family, latent : the parts of the model. responses, coefficients, gating : the names of the
    columns, intercept first. missing : per dataset a sentence that names the columns with missing values, or "".
    dropped : rows left out on request. unobserved : rows of sequences that lack a finite value, where time passes and
    nothing is seen. by : the grouping column, or None.
    """

    labels: list[str]
    data: list[Data]
    family: Any
    latent: Any
    responses: list[str]
    coefficients: list[str]
    gating: list[str]
    missing: list[str]
    dropped: int
    unobserved: int
    by: str | None

    def model(self, components: int) -> Any:
        """The mixture or hidden Markov model. Errors: DataError."""
        if isinstance(self.latent, MarkovChain):
            return HiddenMarkov(self.family, components, self.latent.initial_distribution)
        return Mixture(self.family, components, self.latent)

    @property
    def sequential(self) -> bool:
        """Whether the model is a hidden Markov model."""
        return isinstance(self.latent, MarkovChain)

    @property
    def intercept(self) -> bool:
        """Whether the coefficients have one."""
        return has_intercept(self.coefficients)


class _Rows(NamedTuple):
    """Arrays over all rows, by field of `Data`, NaN where a used column has a gap, and which columns have gaps where.

    `unit` holds numbers of the units over the whole table; x and z have their columns of ones. Of the `unobserved` rows
    of sequences only a gap in the weight is a gap."""

    fields: dict[str, NDArray[Any]]
    used: list[str]
    gaps: NDArray[np.bool_]
    unobserved: NDArray[np.bool_]
    names: dict[str, list[str]]
    levels: list[int]


def has_intercept(names: list[str]) -> bool:
    """Whether the first of a design's columns is the intercept."""
    return bool(names) and names[0] == "Intercept"


def build_groups(
    table: Any,
    formula: str,
    by: str | None = None,
    drop_missing: bool = False,
    *,
    family: str = "linear",
    scale: str | None = None,
    unit: str | None = None,
    weights: str | None = None,
    trials: str | None = None,
    gating: str | None = None,
    latent: str = "mixture",
    initial_distribution: str | None = None,
) -> Groups:
    """Datasets from a pandas DataFrame and a Wilkinson formula such as `"y ~ x1 + log(x2)"`, one per value of `by`.

    Categorical covariates and transforms that look at the data (center, poly) are set up once, over all complete rows,
    so that a coefficient means the same in every group. A row with a gap (missing or infinite) in a column that is
    used becomes NaN, which makes its dataset INVALID_DATA and no other; `drop_missing` leaves such rows out
    instead, except where a group would lose all of them, and rows without a group or unit as well. Categories may be
    missing: that is no gap. Nor are rows of a hidden Markov model's sequences, which then are unobserved.

    family, scale : names that `emjax.extras.named_families` knows. unit, weights, trials, gating : see `Columns`.
    latent : "mixture", or "hidden-markov": the rows of a unit, in the table's order, are a sequence, without units all
    of a group; initial_distribution : of that alone, "free" (default) or "stationary".

    Errors: MissingExtraError; DataError for a formula that cannot be read, an unknown column, text in a numeric column,
    a row without a group or unit, no complete row at all, or what the family does not have.
    """
    columns = Columns(by, unit, weights, trials, gating, latent == "hidden-markov")
    structure = _structure(columns, latent, drop_missing, initial_distribution)
    known = named_families.find(family, trials is not None, scale)
    available = [str(name) for name in table.columns]
    dropped = 0
    for name, option in ((by, "the grouping (--by)"), (unit, "--unit"), (weights, "--weights"), (trials, "--trials")):
        if name is not None:
            check_known([name], available, option)
    for name in (by, unit):
        if name is not None and drop_missing:
            unlabelled = table[name].isna().to_numpy()
            table, dropped = table[~unlabelled], dropped + int(unlabelled.sum())
    labels = np.full(len(table), "") if by is None else group_labels(table, by, droppable=not columns.sequential)
    rows = _rows(table, formula, columns, available, known.levels)
    groups = _split(rows, labels, columns, drop_missing, dropped, family, scale)
    return groups if structure is None else groups._replace(latent=structure)


def _structure(columns: Columns, latent: str, drop_missing: bool, initial_distribution: Any) -> MarkovChain | None:
    """The chain of a hidden Markov model; None for a mixture. Errors: DataError for options without a meaning."""
    if latent not in ("mixture", "hidden-markov"):
        raise DataError(f"latent={latent!r}: use 'mixture' or 'hidden-markov'.")
    if not columns.sequential:
        if initial_distribution is not None:
            raise DataError("--initial-distribution is a hidden Markov model's; leave it out or add --latent")
        return None
    if columns.gating is not None:
        raise DataError("--gating is of a mixture's weights; leave it out (in Python, HiddenMarkov has gated ones)")
    if drop_missing:
        raise DataError(
            "--drop-missing would join what lies before and after a missing row; leave it out: in a hidden Markov "
            "model such a row is unobserved and time passes"
        )
    if columns.weights is not None and columns.unit is None:
        raise DataError("--weights of a hidden Markov model count sequences; name their column by --unit")
    return MarkovChain(initial_distribution or "free")


def _rows(table: Any, formula: str, columns: Columns, available: list[str], categories: bool) -> _Rows:
    read = [formulas.read(formula, available)]
    if columns.gating is not None:
        read.append(formulas.read_gating(columns.gating, available))
    frame, levels = formulas.columns_for(read, table, categories)
    response = sorted(read[0].response) if categories else []
    plain = {"weight": columns.weights, "trials": columns.trials}
    for name in plain.values():
        if name is not None and name not in frame:
            frame[name] = as_numbers(table, name, formula, True).to_numpy(float, na_value=np.nan)
    used = [name for name in frame.columns if name not in response]
    holes = gaps(frame, used)
    complete = np.asarray(~holes.any(axis=1))
    if not complete.any():
        raise DataError(f"no row has a finite value in every column of '{formula}' ({', '.join(used)}); fill some in")
    unobserved = np.zeros(len(table), bool)
    if columns.sequential:
        of_steps = np.array([name != columns.weights for name in used], bool)
        unobserved = np.asarray(holes[:, of_steps].any(axis=1))
        holes[:, of_steps] = False
    (y, responses), (x, coefficients) = formulas.evaluate(read[0], frame, complete)
    if columns.sequential:  # also where the formula gives no response
        unobserved |= complete & np.isnan(y.reshape(len(y), -1)).all(axis=1)
    fields: dict[str, NDArray[Any]] = {"y": y, "x": x}
    names = {"y": responses, "x": coefficients, "z": []}
    if columns.gating is not None:
        ((fields["z"], names["z"]),) = formulas.evaluate(read[1], frame, complete)
    for field, name in plain.items():
        if name is not None:
            kept = complete | (field == "weight" and columns.unit is not None)  # a unit's weight is not the row's
            fields[field] = np.where(kept, frame[name].to_numpy(float, na_value=np.nan), np.nan)
    if columns.unit is not None:
        of_rows = group_labels(table, columns.unit, "unit", droppable=not columns.sequential)
        fields["unit"] = np.unique(of_rows, return_inverse=True)[1]
    counts = [max(2, levels[name]) for name in responses if name in levels]
    return _Rows(fields, used, holes, unobserved, names, counts)


def _split(
    rows: _Rows,
    labels: NDArray[np.str_],
    columns: Columns,
    drop_missing: bool,
    dropped: int,
    family: str,
    scale: str | None,
) -> Groups:
    values, first, codes = np.unique(labels, return_index=True, return_inverse=True)
    appearance = np.argsort(first)
    rank = np.empty_like(appearance)
    rank[appearance] = np.arange(len(appearance))
    codes = rank[codes]
    incomplete = rows.gaps.any(axis=1)
    if drop_missing:
        # A group without one complete row keeps its rows: it then says why it cannot be fitted instead of vanishing.
        some = np.bincount(codes, ~incomplete, len(values)) > 0
        keep = ~(incomplete & some[codes])
        dropped += int(np.sum(~keep))
        codes = codes[keep]
        kept = {name: value[keep] for name, value in rows.fields.items()}
        rows = rows._replace(fields=kept, gaps=rows.gaps[keep], unobserved=rows.unobserved[keep])
    members = np.split(np.argsort(codes, kind="stable"), np.cumsum(np.bincount(codes, minlength=len(values)))[:-1])
    names = rows.names
    return Groups(
        labels=[str(label) for label in values[appearance]],
        data=[_data(rows, i, columns) for i in members],
        family=named_families.build(
            family,
            responses=len(names["y"]),
            intercept=has_intercept(names["x"]),
            covariates=len(names["x"]) > has_intercept(names["x"]),
            scale=scale,
            levels=rows.levels,
        ),
        latent=MixingWeights() if columns.gating is None else GatedWeights(intercept=has_intercept(names["z"])),
        responses=names["y"],
        coefficients=names["x"],
        gating=names["z"],
        missing=[_missing(rows, i, droppable=not columns.sequential) for i in members],
        dropped=dropped,
        unobserved=int(rows.unobserved.sum()),
        by=columns.by,
    )


def _data(rows: _Rows, members: NDArray[np.intp], columns: Columns) -> Data:
    """One dataset; rows of one unit together, units in the order in which they first appear."""
    unit = None
    if "unit" in rows.fields:
        _, first, codes = np.unique(rows.fields["unit"][members], return_index=True, return_inverse=True)
        codes = np.argsort(np.argsort(first))[codes]
        order = np.argsort(codes, kind="stable")
        members, unit = members[order], codes[order].astype(np.int32)
    own = {name: value[members] for name, value in rows.fields.items() if name != "unit"}
    for name in ("x", "z"):
        if name in own:
            own[name] = own[name][:, has_intercept(rows.names[name]) :]
    if not own["x"].shape[1]:
        del own["x"]
    own["y"] = own["y"][:, 0] if own["y"].shape[1] == 1 else own["y"]
    if unit is not None and "weight" in own:
        own["weight"] = _unit_weights(own["weight"], unit, columns)
    return Data(**own, unit=unit)


def _unit_weights(weight: NDArray[np.float64], unit: NDArray[np.int32], columns: Columns) -> NDArray[np.float64]:
    """One weight a unit. Errors: DataError for a unit whose rows disagree."""
    of_units = weight[np.flatnonzero(np.diff(unit, prepend=-1))]
    if not np.array_equal(of_units[unit], weight, equal_nan=True):
        raise DataError(
            f"column '{columns.weights}' has different weights in one value of '{columns.unit}'; the rows "
            "of a unit share their weight, so give all of them the same"
        )
    return of_units


def _missing(rows: _Rows, members: NDArray[np.intp], droppable: bool) -> str:
    """Which columns of one group have gaps, or which terms of the formula are not finite where no column has one."""
    counts = dict(zip(rows.used, rows.gaps[members].sum(axis=0)))
    what, remedy = "missing or infinite values in", "correct them"
    if droppable:
        remedy += " or leave those rows out (--drop-missing)"
    if not any(counts.values()):
        what, remedy = "the formula gives no finite number for", "correct or delete those rows"
        sides = ["x", "z"] if rows.levels else ["y", "x", "z"]
        shown = {"y": ["the response"] * len(rows.names["y"])}
        seen = members[~rows.unobserved[members]]
        bad = {name: ~np.isfinite(rows.fields[name][seen]).T for name in sides if name in rows.fields}
        counts = {
            term: int(count)
            for name, columns in bad.items()
            for term, count in zip(shown.get(name, rows.names[name]), columns.sum(axis=1))
        }
    found = [f"{name} ({count_rows(int(count))})" for name, count in counts.items() if count]
    return f"{what} {', '.join(found)}: {remedy}" if found else ""

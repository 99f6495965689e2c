"""From fits back to a table, one row per group and component, or per parameter too (pandas)."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from emjax import Fits, Flag, LinearRegression, Problem, Status
from emjax.base import recursions
from emjax.engine import parameters
from emjax.extras.frames import Groups, has_intercept
from emjax.extras.optional import require
from emjax.inference import order_by, permute

_RESERVED = ("component", "weight", "scale", "parameter", "value", "log_likelihood", "n", "status", "flags", "reason")
# A covariate is named as collinear where this share of its length or less is left beside those before it.
_DEPENDENT = 1e-6
_NOT_FINITE = Problem.RESPONSE_NOT_FINITE | Problem.COVARIATE_NOT_FINITE


def fits_table(fits: Fits, groups: Groups) -> Any:
    """The result of `fit_many` on the groups' data, as a pandas DataFrame.

    Mixtures of linear regressions have one row per dataset and component, other models one per dataset, component and
    parameter; "transitions[2]" is the probability of going from the row's state to state 2.
    Columns: the group (under the grouping column's name), component (by decreasing weight), weight (the mean over the
    units where weights are gated; of a state its share of the time in the long run), then one `coef_NAME` a
    coefficient, scale (standard deviation) and `gating_NAME`, or parameter and value; log_likelihood in nats, n,
    status, flags, reason (empty when CONVERGED). Parameters that the components share have rows of their own, with
    component "all".
    A dataset that could not be fitted has its rows too, with NaN and the reason; one that was not reached before an
    interruption has none. Errors: MissingExtraError.
    """
    weights = mean_weights(fits, groups)
    order = order_by(-weights)
    params = permute(fits.params, order, fits.model)
    weights = np.take_along_axis(weights, order, axis=1)
    wide = isinstance(groups.family, LinearRegression) and not groups.sequential
    return _wide(fits, groups, params, weights) if wide else _long(fits, groups, params, weights)


def mean_weights(fits: Fits, groups: Groups) -> NDArray[np.float64]:
    """Mixing weights (D, K); of gated ones the means over each dataset's units, by their weights; of a hidden Markov
    model the stationary distribution of its transitions."""
    latent = fits.params.latent
    if groups.sequential:
        with jax.enable_x64(True):
            return np.asarray(jnp.vectorize(recursions.stationary, signature="(k,k)->(k)")(latent.transitions))
    if not groups.gating:
        return np.asarray(latent.weights)
    found = np.full(np.shape(latent.gating)[:2], np.nan)
    for d, i in enumerate(fits.positions):
        data = groups.data[i]
        assert data.z is not None
        first = slice(None) if data.unit is None else np.flatnonzero(np.diff(data.unit, prepend=-1))
        prior = groups.latent.prior_weights(jax.tree.map(lambda a: a[d], latent), data.z[first])  # noqa: B023
        counts = np.ones(len(prior)) if data.weight is None else np.asarray(data.weight)
        with np.errstate(invalid="ignore", divide="ignore"):  # an invalid dataset has NaN
            found[d] = counts @ prior / np.sum(counts)
    return found


def _wide(fits: Fits, groups: Groups, params: Any, weights: NDArray[np.float64]) -> Any:
    """One row per dataset and component, a column a parameter."""
    n_components = weights.shape[1]
    columns = _first(fits, groups, n_components, "coef_", "gating_")
    columns["component"] = np.tile(np.arange(1, n_components + 1), len(weights))
    columns["weight"] = weights.ravel()
    for j, name in enumerate(groups.coefficients):
        columns[f"coef_{name}"] = params.family.coefficients[..., j].ravel()
    columns["scale"] = params.family.scale.ravel()
    for j, name in enumerate(groups.gating):
        columns[f"gating_{name}"] = params.latent.gating[..., j].ravel()
    return require("pandas", "frames").DataFrame(columns | _last(fits, groups, n_components))


def _long(fits: Fits, groups: Groups, params: Any, weights: NDArray[np.float64]) -> Any:
    """One row per dataset, component and parameter; then those that all components share."""
    n_components = weights.shape[1]
    found = [block for block in parameters.blocks(fits.model, params, 1) if block.name != "weights"]
    rows: list[tuple[Any, NDArray, str, NDArray]] = []  # component, its weight (D,), name, values (D,)
    for k in range(n_components):
        for block in found:
            if block.of_components and k < block.values.shape[1]:
                for index in parameters.entries(block, 1):
                    values = block.values[(slice(None), k, *index)]
                    rows.append((k + 1, weights[:, k], _entry(block, index, groups), values))
        if not any(row[0] == k + 1 for row in rows):  # a component without parameters still has a weight
            rows.append((k + 1, weights[:, k], "", np.full(len(weights), np.nan)))
    for block in found:
        if not block.of_components:
            for index in parameters.entries(block, 1):
                name, values = _entry(block, index, groups), block.values[(slice(None), *index)]
                rows.append((parameters.SHARED, np.full(len(weights), np.nan), name, values))
    columns = _first(fits, groups, len(rows))
    columns["component"] = np.tile(np.array([row[0] for row in rows], object), len(weights))
    columns["weight"] = np.stack([row[1] for row in rows], axis=1).ravel()
    columns["parameter"] = np.tile(np.array([row[2] for row in rows], object), len(weights))
    columns["value"] = np.stack([row[3] for row in rows], axis=1).ravel()
    return require("pandas", "frames").DataFrame(columns | _last(fits, groups, len(rows)))


def _entry(block: parameters.Block, index: tuple[int, ...], groups: Groups) -> str:
    """A name such as "coefficients[x1]", "covariances[y1,y2]" or "probabilities[a,0]"."""
    if block.name == "transitions":
        return parameters.entry_name(block.name, [str(k + 1) for k in index])
    names = {"coefficients": groups.coefficients, "gating": groups.gating}.get(block.name, groups.responses)
    last = block.values.shape[-len(index) :] if index else ()
    labels = [names[i] if size == len(names) else str(i) for i, size in zip(index, last)]
    return parameters.entry_name(block.name, labels)


def _first(fits: Fits, groups: Groups, repeats: int, *prefixes: str) -> dict[str, Any]:
    """The grouping column, under its own name where no other column has it."""
    if groups.by is None:
        return {}
    taken = groups.by in _RESERVED or any(groups.by.startswith(prefix) for prefix in prefixes)
    return {"group" if taken else groups.by: np.repeat([groups.labels[i] for i in fits.positions], repeats)}


def _last(fits: Fits, groups: Groups, repeats: int) -> dict[str, Any]:
    """What belongs to the dataset."""
    reasons = [reason(s, p, groups, i) for i, s, p in zip(fits.positions, fits.status, fits.problems)]
    columns = {
        "log_likelihood": fits.log_likelihood,
        "n": [len(groups.data[i].y) for i in fits.positions],
        "status": [Status(status).name for status in fits.status],
        "flags": [flag_names(flags) for flags in fits.flags],
        "reason": reasons,
    }
    return {name: np.repeat(np.asarray(values), repeats) for name, values in columns.items()}


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
    data, found = groups.data[position], []
    for values, names in ((data.x, groups.coefficients), (data.z, groups.gating)):
        if values is not None:
            intercept = has_intercept(names)
            rows = np.asarray(values)[np.isfinite(values).all(axis=1)]
            bad = _bad_columns(rows, intercept, problems)
            found += [name for name, blame in zip(names[int(intercept) :], bad) if blame]
    return found


def _bad_columns(x: NDArray[np.float64], intercept: bool, problems: Problem) -> NDArray[np.bool_]:
    bad = np.zeros(x.shape[1], dtype=bool)
    if problems & Problem.CONSTANT_COVARIATE:
        bad |= np.ptp(x, axis=0) == 0
    elif problems & Problem.COLLINEAR and len(x) >= x.shape[1]:
        centred = x - x.mean(axis=0) if intercept else x
        length = np.linalg.norm(centred, axis=0)
        bad |= np.abs(np.diag(np.linalg.qr(centred / np.where(length > 0, length, 1.0), mode="r"))) < _DEPENDENT
    return bad


def flag_names(flags: int) -> str:
    """The names of the flags that are set, separated by blanks."""
    return " ".join(str(flag.name) for flag in Flag if flag & Flag(int(flags)) and flag != Flag.DEGENERATE)

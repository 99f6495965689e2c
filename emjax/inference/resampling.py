"""Bootstrap datasets of fitted ones: drawn on the device, put together in blocks that are bounded in memory.

A unit, an independent piece of the likelihood, is what is resampled, never a row. Replicate b of a dataset is drawn
from the key fold_in(fold_in(stream root, the dataset's name), b), whatever the batch or the block.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from emjax.base import units
from emjax.base.protocols import Model
from emjax.base.records import Array, Data
from emjax.base.status import DataError
from emjax.engine import after, datasets, keys, results

KINDS = ("parametric", "nonparametric", "weighted")
ROOM = 64 << 20  # bytes of bootstrap datasets at a time
PAIRS = 1 << 14  # bootstrap datasets at a time


class Block(NamedTuple):
    """Some bootstrap datasets, S of them: of which fits (S,), which replicates (S,), their names, and the data as
    `fit_many` takes them."""

    rows: np.ndarray
    numbers: np.ndarray
    names: list[str]
    data: Any


def check(model: Model, kind: str) -> None:
    """Errors: `DataError` for another kind, and for models that cannot be resampled so."""
    if kind not in KINDS:
        raise DataError(f"kind={kind!r}: use one of {', '.join(KINDS)}.")
    if model.row_blocks:
        raise DataError(
            f"{type(model).__name__} has parameters of its own for every row, which resampled rows cannot keep: "
            "there is no bootstrap of it."
        )
    if kind == "parametric" and not hasattr(model, "sample"):
        raise DataError(f"{type(model).__name__} has no sample: give it one, or use kind='nonparametric'.")


def dataset(at: after.Point, row: int, kind: str) -> Data:
    """The data of one fit, as they are resampled: weights filled in, for a parametric bootstrap none but 0 and 1."""
    data = datasets.one(at.model, results.dataset_at(at.data, int(at.positions[row])))
    return expanded(data) if kind == "parametric" else data


def n_units(data: Data) -> int:
    """Units with weight."""
    return int(np.sum(np.asarray(data.weight) > 0))


def expanded(data: Data) -> Data:
    """Every unit as often as its frequency weight says, since copies of a unit are drawn one by one.

    Errors: `DataError` for weights that are no whole numbers.
    """
    weight = np.asarray(data.weight, np.float64)
    if np.all((weight == 0) | (weight == 1)):
        return data
    if np.any(weight != np.round(weight)):
        raise DataError(
            "weights that are no whole numbers do not say how many units to draw: use kind='nonparametric' or "
            "'weighted'."
        )
    n = data.y.shape[0]
    unit = np.arange(n) if data.unit is None else np.asarray(data.unit)
    members = np.split(np.arange(n), np.searchsorted(unit, np.arange(1, len(weight))))
    taken = [members[u] for u in np.repeat(np.arange(len(weight)), weight.astype(np.int64))]
    order = np.concatenate(taken)
    fields = {
        name: None if value is None else value[order]
        for name, value in data._asdict().items()
        if name in datasets.ROW_FIELDS
    }
    if data.unit is not None:
        fields["unit"] = np.repeat(np.arange(len(taken)), [len(part) for part in taken]).astype(np.int32)
    return Data(**fields, weight=np.ones(len(taken), np.bool_))


def blocks(
    at: after.Point, rows: np.ndarray, ids: list[Any], root: np.ndarray, kind: str, replicates: int
) -> Iterator[Block]:
    """All replicates of the fits at `rows`, block by block. ids : names of all fits; root (2,) : of the keys."""
    for group, singles in _groups(at, rows, kind, replicates):
        step = min(replicates, max(1, PAIRS // len(group)), max(1, ROOM // sum(map(_bytes, singles))))
        words = keys.dataset_words([ids[row] for row in group])
        for first in range(0, replicates, step):
            numbers = np.arange(first, min(first + step, replicates))
            drawn = _drawn(at, group, singles, words, root, kind, np.arange(first, first + step))
            field = "y" if kind == "parametric" else "weight"
            data = _joined(singles, [values[: len(numbers)] for values in drawn], field)
            names = [f"{ids[row]}/{number}" for row in group for number in numbers]
            yield Block(np.repeat(group, len(numbers)), np.tile(numbers, len(group)), names, data)


def _bytes(data: Data) -> int:
    return sum(np.asarray(value).nbytes for value in data if value is not None)


def _groups(at: after.Point, rows: np.ndarray, kind: str, replicates: int) -> Iterator[tuple[np.ndarray, list[Data]]]:
    """As many datasets at a time as there is room for all their replicates; one at least."""
    group: list[int] = []
    singles: list[Data] = []
    room = ROOM
    for row in rows:
        single = dataset(at, row, kind)
        needed = _bytes(single) * replicates
        if group and (needed > room or (len(group) + 1) * replicates > PAIRS):
            yield np.array(group), singles
            group, singles, room = [], [], ROOM
        group, singles, room = [*group, int(row)], [*singles, single], room - needed
    if group:
        yield np.array(group), singles


def _drawn(
    at: after.Point,
    group: np.ndarray,
    singles: list[Data],
    words: np.ndarray,
    root: np.ndarray,
    kind: str,
    numbers: np.ndarray,
) -> list[np.ndarray]:
    """Of each dataset its replicates' y (b, n, ...), or weights (b, U)."""
    params = jax.tree.map(lambda a: np.asarray(a)[group], at.params)
    here = at._replace(data=singles, positions=np.arange(len(group)), params=params)
    size = 0
    if kind == "nonparametric":
        size = datasets.bucket(max(int(np.round(np.sum(np.asarray(d.weight, np.float64)))) for d in singles))
    count = len(group)
    stream = np.broadcast_to(keys.stream_root(root, "resampling"), (count, 2))
    extra = stream, words, np.broadcast_to(numbers.astype(np.uint32), (count, len(numbers)))
    found: list[Any] = [None] * count
    for rows, values, _ in after.over(here, Draw(kind, size), extra):
        for row, value in zip(rows, values, strict=True):
            length = singles[row].y.shape[0] if kind == "parametric" else len(np.asarray(singles[row].weight))
            found[row] = value[:, :length]
    return found


def _joined(singles: list[Data], drawn: list[np.ndarray], field: str) -> Any:
    """Bootstrap datasets, dataset by dataset: one stack where all have the same shapes, else a list."""
    shapes = {tuple(None if value is None else value.shape for value in single) for single in singles}
    if len(shapes) > 1:
        pairs = zip(singles, drawn, strict=True)
        return [single._replace(**{field: value}) for single, values in pairs for value in values]
    fields: dict[str, Any] = {field: np.concatenate(drawn)}
    for name, value in singles[0]._asdict().items():
        if value is None or name == field:
            continue
        if len(singles) == 1 and name != "y":  # shared by all replicates
            fields[name] = value
        else:
            fields[name] = np.repeat(np.stack([getattr(d, name) for d in singles]), len(drawn[0]), axis=0)
    return Data(**fields)


# --- traced: one dataset ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Draw:
    """Replicates of one dataset, b of them: responses (b, n, ...) or weights of the units (b, U).

    parametric : the model's `sample` at the fit, on the dataset's own design, missing cells where they are. The others
    keep the data and give the units new weights: nonparametric, how often each is among sum(weight) units drawn with
    probabilities proportional to the weights (Efron 1979); weighted, exponential weights of mean 1, the sum of weight
    of them for each unit (Newton & Raftery 1994). size : draws of the nonparametric bootstrap, at least sum(weight).
    """

    kind: str
    size: int = 0

    def __call__(self, model: Any, fitted: after.Fitted, extra: Any) -> Array:
        root, word, numbers = extra
        data = fitted.data

        def one(number: Array) -> Array:
            key = keys.restart_key(root, word, number)
            if self.kind == "parametric":
                y = model.sample(key, fitted.user, data)[0].y
                return jnp.where(jnp.isnan(data.y), jnp.nan, y.astype(data.y.dtype))
            weight = units.weights(data)[0].astype(data.y.dtype)
            if self.kind == "nonparametric":
                return counts(key, weight, self.size)
            used = weight > 0
            return jnp.where(used, jax.random.gamma(key, jnp.where(used, weight, 1.0)), 0.0)

        return jax.lax.map(one, numbers)


def counts(key: Array, weight: Array, size: int) -> Array:
    """How often each unit (U,) is among round(sum(weight)) drawn in proportion to the weights."""
    ends = jnp.cumsum(weight)
    uniform = jax.random.uniform(key, (size,), weight.dtype)
    picked = jnp.searchsorted(ends, uniform * ends[-1], side="right")
    drawn = jnp.arange(size, dtype=weight.dtype) < jnp.round(ends[-1])
    return jnp.zeros_like(weight).at[picked].add(drawn.astype(weight.dtype))

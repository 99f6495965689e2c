"""From what the user gives to padded batches: one shape a bucket of rows, each dataset in its own bucket."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from emjax.base import units
from emjax.base.protocols import Model
from emjax.base.records import Data
from emjax.base.status import DataError

ROW_FIELDS = ("y", "x", "z", "offset", "trials", "unit", "observed")


class Batch(NamedTuple):
    """Datasets of one padded shape in memory: their positions among those given (B,) and their arrays (B, ...)."""

    positions: np.ndarray
    data: Data

    @property
    def dataset_bytes(self) -> int:
        """Bytes that one padded and prepared dataset takes, about: four times what was given."""
        rows = bucket(self.data.y.shape[1]) / max(1, self.data.y.shape[1])
        return int(4 * rows * sum(value[0].nbytes for value in self.data if value is not None))

    @property
    def shapes(self) -> Data:
        """Shapes and dtypes of one padded dataset."""
        with jax.enable_x64(True):  # jax 0.11 would make them float32
            return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), self.chunk(slice(0, 1), 1))

    def chunk(self, rows: slice, size: int) -> Data:
        """The datasets at `rows`, padded to the bucket of rows and to `size` datasets (the last repeated).

        What all datasets share is there once, with a leading axis of 1.
        """
        n_rows = bucket(self.data.y.shape[1])
        count = len(range(*rows.indices(len(self.positions))))

        def padded(name: str, value: Any) -> Any:
            if value is None:
                return None
            part = np.asarray(value[rows])
            if name != "y" and value.strides[0] == 0:  # `_stacked` repeats what is shared without copying it
                part = part[:1]
            here = size if len(part) == count else 1
            columns = part.shape[1:] if name == "weight" and self.data.unit is not None else (n_rows, *part.shape[2:])
            padding = self.data.weight.shape[1] - 1 if name == "unit" and self.data.weight is not None else 0
            room = _room((here, *columns), part.dtype, padding)
            room[: len(part), : part.shape[1]] = part
            room[len(part) :] = room[len(part) - 1]
            return room

        return Data(**{name: padded(name, value) for name, value in self.data._asdict().items()})


def _room(shape: tuple[int, ...], dtype: np.dtype, fill: int) -> np.ndarray:
    """An array full of one number, at a multiple of 64 bytes, where jax takes it on a CPU as it is, without a copy."""
    size = int(np.prod(shape)) * dtype.itemsize
    room = np.zeros(size + 64, np.uint8)
    first = -room.ctypes.data % 64
    found = room[first : first + size].view(dtype).reshape(shape)
    if fill:
        found[...] = fill
    return found


def bucket(n: int) -> int:
    """Padded number of rows: 8 to 15 steps an octave, so at most an eighth is padding, and always a multiple of 8."""
    step = 1 << max(3, n.bit_length() - 4)
    return -(-n // step) * step


def one(model: Model, data: Any) -> Data:
    """One dataset as float64 NumPy arrays; shapes that disagree raise `DataError`."""
    return _whole(model, _arrays(data))


def _whole(model: Model, data: Data) -> Data:
    """Arrays with units and weights filled in."""
    check_shapes(data)
    n = data.y.shape[0]
    data = _with_units(units.whole(data) if model.sequential else data)
    assert data.weight is not None
    n_units = n if data.unit is None else int(data.unit[-1]) + 1
    check_weight(data.weight, n_units)
    model.check(data)
    return data


def _is_empty(data: Data) -> bool:
    """Whether no field has a row."""
    return all(value is None or value.shape[:1] == (0,) for value in (getattr(data, name) for name in ROW_FIELDS))


def _standing_in(like: Data) -> Data:
    """In place of a dataset without rows one row of weight 0, so that among others it is INVALID_DATA by itself.

    like : a dataset with the fields and columns of the others.
    """
    rows = {name: value for name in ROW_FIELDS if (value := getattr(like, name)) is not None}
    blank = {name: np.zeros((1, *value.shape[1:]), value.dtype) for name, value in rows.items()}
    return Data(**blank, weight=np.zeros(1, np.bool_))


def check_shapes(data: Data) -> None:
    """Of one dataset, its arrays NumPy or traced: fields that have not the rows of y raise `DataError`."""
    if np.ndim(data.y) == 0 or np.shape(data.y)[0] == 0:
        raise DataError("The dataset has no rows: give y of shape (n,) or (n, d) with n >= 1.")
    n = data.y.shape[0]
    for name in ROW_FIELDS[1:]:
        value = getattr(data, name)
        if value is not None and (value.ndim == 0 or value.shape[0] != n):
            raise DataError(f"y has {n} rows but {name} has shape {value.shape}: give one entry of {name} a row of y.")
    for name in ("offset", "trials", "unit", "observed"):
        value = getattr(data, name)
        if value is not None and value.ndim != 1 and not (name == "observed" and value.shape == data.y.shape):
            raise DataError(f"{name} has shape {value.shape}: give one entry a row, ({n},).")
    if data.weight is not None and data.weight.ndim != 1:
        raise DataError(f"weight has shape {data.weight.shape}: give one weight a unit, (U,).")
    if data.x is not None and data.x.ndim != 2:
        raise DataError(f"x has shape {data.x.shape}: give covariates as (n, p), without the column of ones.")


def check_weight(weight: Any, n_units: int) -> None:
    """Weights, NumPy or traced, that are not one a unit raise `DataError`."""
    if np.shape(weight) != (n_units,):
        raise DataError(f"weight has shape {np.shape(weight)} but there are {n_units} units: give one weight a unit.")


def _arrays(data: Any) -> Data:
    if not isinstance(data, Data):
        raise DataError(
            f"data must be an emjax.Data or a list of them, not {type(data).__name__}: try Data(y=..., x=...)."
        )
    fields = {}
    for name, value in data._asdict().items():
        fields[name] = None if value is None else _array(name, value)
    return Data(**fields)


def _array(name: str, value: Any) -> np.ndarray:
    if isinstance(value, np.ma.MaskedArray):
        value = np.ma.filled(value.astype(np.float64), np.nan)
    try:
        array = np.asarray(value)
        if array.dtype.kind not in "fiub":
            if array.dtype.kind not in "OUS":
                raise TypeError(f"their type is {array.dtype}")
            array = array.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"{name} holds values that are not numbers ({error}): convert them first.") from None
    if name == "observed" and array.dtype.kind == "f" and np.isnan(array).any():
        raise DataError("observed holds NaN: say True or False of each row or cell.")
    if name == "observed" or (name == "weight" and array.dtype == np.bool_):
        return array.astype(np.bool_)
    return array if name == "unit" else array.astype(np.float64, copy=False)


def _with_units(data: Data) -> Data:
    """Unit ids as 0, 1, ..., and weights filled in."""
    n = data.y.shape[0]
    if data.unit is None:
        return data if data.weight is not None else data._replace(weight=np.ones(n, np.bool_))
    unit = np.asarray(data.unit)
    changes = np.flatnonzero(np.concatenate([[True], unit[1:] != unit[:-1]]))
    if len(np.unique(unit)) != len(changes):
        raise DataError("unit ids must be contiguous: sort the rows so that each unit's rows stand together.")
    dense = np.cumsum(np.concatenate([[0], unit[1:] != unit[:-1]])).astype(np.int32)
    weight = np.ones(len(changes), np.bool_) if data.weight is None else data.weight
    return data._replace(unit=dense, weight=weight)


def pad(data: Data, n_rows: int) -> Data:
    """Rows up to `n_rows`, and units up to their bucket, with weight 0; a padded row belongs to a padded unit."""
    assert data.weight is not None
    n = data.y.shape[0]
    n_units = n_rows if data.unit is None else bucket(data.weight.shape[0] + 1)
    fields = {name: _pad_rows(getattr(data, name), n_rows) for name in ROW_FIELDS}
    if data.unit is not None:
        fields["unit"][n:] = n_units - 1
    return Data(**fields, weight=_pad_rows(data.weight, n_units))


def _pad_rows(value: Any, n_rows: int) -> Any:
    if value is None:
        return None
    padded = np.zeros((n_rows, *value.shape[1:]), value.dtype)
    padded[: value.shape[0]] = value
    return padded


def batches(model: Model, data: Any) -> tuple[list[Batch], int]:
    """Group datasets by padded shape. `data` is a `Data` with a leading dataset axis on y, or a list of `Data`."""
    if isinstance(data, Data):
        return _stacked(model, data)
    if not isinstance(data, Sequence) or isinstance(data, (str, bytes)):
        raise DataError("data must be an emjax.Data with a leading dataset axis, or a list of emjax.Data.")
    groups: dict[Any, list[tuple[int, Data]]] = defaultdict(list)
    first: Any = None
    given = [_numbered(position, _arrays, item) for position, item in enumerate(data)]
    with_rows = [item for item in given if not _is_empty(item)] or given
    for position, item in enumerate(given):
        single = _numbered(position, _whole, model, _standing_in(with_rows[0]) if _is_empty(item) else item)
        columns = [None if v is None else v.shape[1:] for v in single]
        first = columns if first is None else first
        if columns != first:
            named = ", ".join(n for n, a, b in zip(Data._fields, columns, first, strict=True) if a != b)
            raise DataError(f"Dataset {position} differs from dataset 0 in its columns of {named}: fit them apart.")
        padded = pad(single, bucket(single.y.shape[0]))
        shape = tuple((name, v.shape, v.dtype.str) for name, v in padded._asdict().items() if v is not None)
        groups[shape].append((position, padded))
    found = []
    for members in groups.values():
        positions = np.array([m[0] for m in members])
        stacked = Data(*(None if f[0] is None else np.stack(f) for f in zip(*(m[1] for m in members), strict=True)))
        found.append(Batch(positions, stacked))
    if not found:
        raise DataError("No datasets: the list is empty.")
    return found, len(data)


def _numbered(position: int, function: Callable[..., Data], *arguments: Any) -> Data:
    """Of one dataset of a list, whose number stands before what is wrong with it."""
    try:
        return function(*arguments)
    except DataError as error:
        raise DataError(f"Dataset {position}: {error}") from None


def shared_ranks(data: Data) -> dict[str, int]:
    """Axes of each field beside y where all datasets of a stack share it; y has a leading dataset axis."""
    ranks = {name: 2 if name in ("x", "z") else 1 for name in Data._fields}
    if data.observed is not None and np.shape(data.observed) in (np.shape(data.y), np.shape(data.y)[1:]):
        ranks["observed"] = np.ndim(data.y) - 1  # by cell
    return ranks


def _stacked(model: Model, data: Data) -> tuple[list[Batch], int]:
    """One bucket: y (D, n, ...); the other fields with the dataset axis or shared."""
    data = _arrays(data)
    if data.y.ndim < 2:
        raise DataError(
            f"fit_many needs y with a leading dataset axis, not shape {data.y.shape}: use fit for one dataset."
        )
    n_datasets, n = data.y.shape[:2]
    if n_datasets == 0 or n == 0:
        raise DataError(f"y has shape {data.y.shape}: there is nothing to fit.")
    ranks = shared_ranks(data)
    fields: dict[str, Any] = {"y": data.y}
    for name in (*ROW_FIELDS[1:], "weight"):
        value = getattr(data, name)
        if value is not None and value.ndim == ranks[name]:
            value = np.broadcast_to(value, (n_datasets, *value.shape))
        if value is not None and (value.ndim != ranks[name] + 1 or value.shape[0] != n_datasets):
            raise DataError(
                f"{name} has shape {value.shape} but y has {n_datasets} datasets of {n} rows: they disagree."
            )
        fields[name] = value
    stacked = Data(**fields)
    if stacked.unit is not None:
        return batches(model, [Data(*(None if f is None else f[i] for f in stacked)) for i in range(n_datasets)])
    first = one(model, Data(*(None if f is None else f[0] for f in stacked)))
    if first.unit is not None:  # one unit a dataset: its weight and that of the padding, shaped as `pad` would
        weight = np.ones((n_datasets, 1), np.bool_) if stacked.weight is None else stacked.weight
        weight = np.pad(weight, [(0, 0), (0, bucket(2) - 1)])
        stacked = stacked._replace(weight=weight, unit=np.broadcast_to(np.zeros(n, np.int32), (n_datasets, n)))
    if stacked.weight is None:
        stacked = stacked._replace(weight=np.broadcast_to(np.ones(n, np.bool_), (n_datasets, n)))
    return [Batch(np.arange(n_datasets), stacked)], n_datasets

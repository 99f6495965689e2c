"""Datasets that a traced function makes on the device when they are wanted, and that nothing keeps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from emjax.base import units
from emjax.base.protocols import Model
from emjax.base.records import Array, Data
from emjax.base.status import DataError
from emjax.engine import blocks, datasets, devices, keys
from emjax.engine.programs import Program

Generate = Callable[[Any], Data]


class Generated(Sequence):
    """Datasets `first`, ..., `first + length - 1` of a stream; `data[i]` makes one of them again, NumPy, to the bit.

    generate : from a key to the `Data` of one dataset, pure and traced. root (2,) : the stream's key. like : shapes and
    dtypes of one dataset as it was made, fields that were left out None.
    """

    def __init__(self, generate: Generate, root: np.ndarray, like: Data, first: int, length: int) -> None:
        self.generate, self.root, self.like, self.first, self.length = generate, root, like, first, length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: Any) -> Data:
        if not -self.length <= index < self.length:
            raise IndexError(f"There are {self.length} datasets here, and none at {index}.")
        return Data(*(None if value is None else value[0] for value in self._made(np.array([index % self.length]))))

    def window(self, first: int, length: int) -> Generated:
        """Others of the same stream."""
        return Generated(self.generate, self.root, self.like, first, length)

    def stacked(self) -> Data:
        """All of them in memory, leading axis `length`."""
        return self._made(self.positions)

    def _made(self, positions: np.ndarray) -> Data:
        """NumPy arrays, without padding and without the weights that `generate` left out."""
        padded = self._on_device(positions, blocks.round_up(len(positions), self._width))
        return Data(
            *(
                None if value is None or like is None else np.array(value[: len(positions), : like.shape[0]])
                for value, like in zip(padded, self.like, strict=True)
            )
        )

    # --- what the engine asks of a batch ----------------------------------------------------------------------------

    @property
    def positions(self) -> np.ndarray:
        """Of the datasets among those given, (length,)."""
        return np.arange(self.length)

    @property
    def shapes(self) -> Data:
        """Shapes and dtypes of one padded dataset."""
        with jax.enable_x64(True):  # jax 0.11 would make them float32
            return jax.eval_shape(_padded, self.like)

    @property
    def dataset_bytes(self) -> int:
        """Bytes that one padded and prepared dataset takes, about: four times what was made."""
        return 4 * sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(self.shapes))

    @property
    def _width(self) -> int:
        return blocks.width_for(devices.current(), self.dataset_bytes)

    def chunk(self, rows: slice | np.ndarray, size: int) -> Data:
        """The datasets at `rows`, padded to the bucket of rows and to `size` datasets."""
        return self._on_device(self.positions[rows], size)

    def _on_device(self, positions: np.ndarray, size: int) -> Data:
        numbers = np.resize(self.first + positions, size).astype(np.uint32)
        with jax.enable_x64(True), jax.threefry_partitionable(True):
            return _make(self.generate, self._width, self.root, numbers, np.int32(len(positions)))


def of(model: Model, generate: Generate, root: np.ndarray, first: int, length: int) -> Generated:
    """A stream, its first dataset held against the model. Errors: `DataError`."""
    if not callable(generate):
        raise DataError(f"generate={generate!r}: give a function from a jax key to the Data of one dataset.")
    if model.sequential:
        generate = _Whole(generate)
    with jax.enable_x64(True), jax.threefry_partitionable(True):
        like = jax.eval_shape(partial(_typed, generate), root, np.uint32(0))
    stream = Generated(generate, root, like, first, length)
    made = stream[0]
    checked = datasets.one(model, made)
    if made.unit is not None and not np.array_equal(made.unit, np.asarray(checked.unit)):
        raise DataError("generate must number its units 0, 1, ..., U - 1.")
    return stream


@dataclass(frozen=True)
class _Whole:
    """Datasets that are one unit where they have none."""

    generate: Generate

    def __call__(self, key: Any) -> Data:
        data = self.generate(key)
        return units.whole(data) if isinstance(data, Data) else data


def _typed(generate: Generate, root: Array, number: Array) -> Data:
    """One dataset, real numbers as float64."""
    return typed(generate(keys.dataset_key(root, number)))


def typed(data: Any) -> Data:
    """What a function made as the `Data` of one dataset, traced: real numbers as float64. Errors: `DataError`."""
    if not isinstance(data, Data):
        raise DataError(f"generate returned {type(data).__name__}: return the emjax.Data of one dataset.")
    if data.unit is not None and data.weight is None:
        raise DataError("generate returned unit without weight (U,), whose length says how many units there are.")
    kinds: dict[str, Any] = dict.fromkeys(Data._fields, jnp.float64) | {"unit": jnp.int32, "observed": jnp.bool_}
    fields = {name: None if value is None else jnp.asarray(value) for name, value in data._asdict().items()}
    if fields["weight"] is not None and fields["weight"].dtype == jnp.bool_:
        kinds["weight"] = jnp.bool_
    data = Data(**{name: None if value is None else value.astype(kinds[name]) for name, value in fields.items()})
    datasets.check_shapes(data)  # before they are padded
    return data


def _padded(data: Data) -> Data:
    """`datasets.pad`, traced."""
    n = data.y.shape[0]
    weight = jnp.ones(n, jnp.bool_) if data.weight is None else data.weight
    if data.unit is None:  # else `datasets.one` counts them, in the first dataset
        datasets.check_weight(weight, n)
    n_rows = datasets.bucket(n)
    n_units = n_rows if data.unit is None else datasets.bucket(weight.shape[0] + 1)

    def pad(value: Any, size: int, fill: int = 0) -> Any:
        if value is None:
            return None
        return jnp.pad(value, [(0, size - value.shape[0]), *[(0, 0)] * (value.ndim - 1)], constant_values=fill)

    fields = {name: pad(getattr(data, name), n_rows) for name in datasets.ROW_FIELDS}
    fields["unit"] = pad(data.unit, n_rows, n_units - 1)
    return Data(**fields, weight=pad(weight, n_units))


@Program
@partial(jax.jit, static_argnames=("generate", "width"))
def _make(generate: Generate, width: int, root: Array, numbers: Array, count: Array) -> Data:
    """Padded datasets, leading axis as `numbers`; in blocks, so that one alone is the same to the bit."""
    return blocks.map_blocks(lambda number: _padded(_typed(generate, root, number)), width, count, numbers)

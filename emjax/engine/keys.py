"""Random keys: one root from an int of any size or a typed key, then one key a dataset, one a restart."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from emjax.base.records import Array
from emjax.base.status import DataError

IMPLEMENTATION = "threefry2x32"  # pinned: the same numbers on every device and for every global setting


def root_key(key: Any) -> np.ndarray:
    """Two uint32 words of a threefry key from an int of any size, a typed jax key, or raw key data.

    Ints are hashed on the host, because `jax.random.key` keeps 32 bits of a large seed without a word.
    """
    if isinstance(key, (bool, np.bool_)):
        raise DataError(f"key={key!r}: give a whole number or a jax key.")
    if isinstance(key, (int, np.integer)):
        return _words(str(int(key)).encode())
    if isinstance(key, (jax.Array, np.ndarray)):
        typed = jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
        if key.ndim == (0 if typed else 1):
            data = np.asarray(jax.random.key_data(key) if typed else key)
            if data.dtype == np.uint32:
                return data if data.shape == (2,) else _words(data.tobytes())
    raise DataError(f"key must be a whole number or one jax key, not {type(key).__name__}: try key=0.")


def _words(content: bytes) -> np.ndarray:
    return np.frombuffer(hashlib.sha256(content).digest()[:8], dtype="<u4").astype(np.uint32)


def dataset_words(ids: Iterable[Any]) -> np.ndarray:
    """A 32-bit word for each dataset's name; small whole numbers stand for themselves, as positions do."""
    if isinstance(ids, np.ndarray) and ids.dtype.kind in "iu" and np.all((ids >= 0) & (ids < 2**32)):
        return ids.astype(np.uint32)
    return np.array([_word(name) for name in ids], dtype=np.uint32)


def _word(name: Any) -> int:
    if isinstance(name, (int, np.integer)) and not isinstance(name, bool) and 0 <= int(name) < 2**32:
        return int(name)
    return int(_words(str(name).encode())[0])


def stream_root(root: np.ndarray, purpose: str = "data") -> np.ndarray:
    """The root of what is drawn for one purpose: "data" (datasets that are generated) or "resampling" (replicates of a
    dataset). Hashed, it has nothing in common with the restarts' nor with another purpose's: a generator that splits
    its own key would else draw with the keys of that dataset's replicates, since split(key)[i] is fold_in(key, i)."""
    return _words(purpose.encode() + root.tobytes())


def dataset_key(root: Array, number: Array) -> Array:
    """The key that one dataset of a stream is generated from, traced: fold_in(stream root, number)."""
    return jax.random.fold_in(jax.random.wrap_key_data(root, impl=IMPLEMENTATION), number)


def restart_key(root: Array, word: Array, restart: Array) -> Array:
    """The key of one lane, traced: fold_in(fold_in(root, dataset), restart)."""
    key = jax.random.wrap_key_data(root, impl=IMPLEMENTATION)
    return jax.random.fold_in(jax.random.fold_in(key, word), restart.astype(jnp.uint32))

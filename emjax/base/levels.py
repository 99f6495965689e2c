"""Several items with levels of their own: all S levels side by side, (..., S), or by item and level, (..., J, L)."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from emjax.base.records import Array


class Levels(NamedTuple):
    """Number of levels of each item, (J,); L is the largest."""

    each: tuple[int, ...]

    @property
    def items(self) -> np.ndarray:
        """Item of each of the S levels."""
        return np.repeat(np.arange(len(self.each)), self.each)

    @property
    def levels(self) -> np.ndarray:
        """Level within its item of each of the S levels."""
        return np.concatenate([np.arange(count) for count in self.each])

    @property
    def last(self) -> np.ndarray:
        """Last level of each item, (J,)."""
        return np.array(self.each) - 1

    @property
    def ratios(self) -> tuple[np.ndarray, np.ndarray]:
        """Item and level of each log-ratio against the last level of the item."""
        keep = self.levels < self.last[self.items]
        return self.items[keep], self.levels[keep]

    @property
    def _places(self) -> np.ndarray | None:
        """Where each of the S levels stands among J times L; None where there is no gap."""
        room = max(self.each)
        return None if min(self.each) == room else self.items * room + self.levels

    def spread(self, values: Array) -> Array:
        """(..., S) to (..., J, L), 0 beyond an item's levels."""
        n_items, room, places = len(self.each), max(self.each), self._places
        if places is not None:
            values = jnp.zeros((*values.shape[:-1], n_items * room), values.dtype).at[..., places].set(values)
        return values.reshape(*values.shape[:-1], n_items, room)

    def gather(self, values: Array) -> Array:
        """(..., J, L) to (..., S)."""
        flat = values.reshape(*values.shape[:-2], -1)
        return flat if self._places is None else flat[..., self._places]


def shares(counts: Array) -> Array:
    """Of each item's counts, (..., J, L); 0 where all are 0."""
    return counts / jnp.maximum(jnp.sum(counts, axis=-1, keepdims=True), jnp.finfo(counts.dtype).tiny)

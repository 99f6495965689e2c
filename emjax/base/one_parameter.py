"""Families with one number a component: what they have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, NamedTuple

import jax.numpy as jnp

from emjax.base.protocols import FamilyDefaults
from emjax.base.records import Array, Data
from emjax.base.settings import Degeneracy
from emjax.base.status import Flag

AT_EDGE = 1e-8  # a number this close to the edge of its space, in prepared units, is at it


class OneParameterStatistics(NamedTuple):
    """Weighted by responsibility: counts of rows (K,), of events (K,), and what they are out of (K,)."""

    total: Array
    events: Array
    exposure: Array


class OneParameter(FamilyDefaults, ABC):
    """A family whose record `blocks` has one field (K,)."""

    blocks: ClassVar[Any]

    @abstractmethod
    def _to_free(self, values: Array) -> Array:
        """Unconstrained coordinates, elementwise."""

    @abstractmethod
    def _from_free(self, free: Array) -> Array:
        """The inverse of `_to_free`."""

    @abstractmethod
    def _edges(self, values: Array) -> Array:
        """Which entries are at an end of their space, as `Model.boundary` codes them."""

    def check(self, data: Data) -> None:
        """y must be one column; covariates, and data that the family does not use, have no place here."""
        self.refuse_columns(data)
        own = type(self).__name__
        sentence = f"{own} has no %s: leave it out of Data, or use {own}Regression."
        self.refuse_unused(data, x=sentence % "x", offset=sentence % "offset")

    def elemental(self, prepared: Any) -> int:
        """One row has a value of its own."""
        return 1

    def flags(self, params: Any, statistics: OneParameterStatistics, prepared: Any, degeneracy: Degeneracy) -> Array:
        """BOUNDARY at an end of the space; SUSPECT where a component has few rows; never DEGENERATE."""
        few = jnp.min(statistics.total) < degeneracy.suspect_rows
        bits = jnp.where(few, Flag.SUSPECT, 0) if params[0].shape[0] > 1 else jnp.int32(0)
        if prepared.fixed is None:
            bits |= jnp.where(jnp.any(self._edges(params[0]) > 0), Flag.BOUNDARY, 0)
        return bits

    def boundary(self, params: Any, prepared: Any) -> Array:
        """As `Model.boundary`."""
        return jnp.zeros(0, jnp.int32) if prepared.fixed is not None else self._edges(params[0])

    def relabel(self, params: Any, permutation: Array) -> Any:
        """Component k of the result is component permutation[k] of `params`."""
        return self.blocks(params[0][permutation])

    def component_of_free(self, prepared: Any, n_components: int) -> tuple[int, ...]:
        """One coordinate a component."""
        return () if prepared.fixed is not None else tuple(range(n_components))

    def n_free(self, prepared: Any, n_components: int) -> int:
        """K, or 0 where fixed."""
        return len(self.component_of_free(prepared, n_components))

    def to_free(self, params: Any, prepared: Any) -> Array:
        """(K,), or nothing where fixed."""
        return jnp.zeros(0, params[0].dtype) if prepared.fixed is not None else self._to_free(params[0])

    def from_free(self, free: Array, prepared: Any, n_components: int) -> Any:
        """The inverse of `to_free`."""
        return prepared.fixed if prepared.fixed is not None else self.blocks(self._from_free(free))

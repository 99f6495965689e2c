"""Families whose likelihood is bounded: no component can collapse, so only its rows are watched."""

from __future__ import annotations

import jax.numpy as jnp

from emjax.base.records import Array
from emjax.base.settings import Degeneracy
from emjax.base.status import Flag


def flags(total: Array, size: int, degeneracy: Degeneracy) -> Array:
    """SUSPECT where a component of `size` parameters has few rows, of `total` (K,); no rule for one component.

    DEGENERATE only by a `min_rows` that the user set: nothing else is wrong with a component of few rows.
    """
    if total.shape[0] == 1:
        return jnp.int32(Flag.NONE)
    fewest = jnp.min(total)
    collapsed = jnp.zeros((), bool) if degeneracy.min_rows is None else fewest < degeneracy.min_rows
    suspect = fewest < degeneracy.suspect_rows * size
    return jnp.where(collapsed, Flag.DEGENERATE, 0) | jnp.where(suspect, Flag.SUSPECT, 0)

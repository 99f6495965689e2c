"""What most families have in common, whatever their density."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from emjax.base.records import Array, Data, Params
from emjax.base.status import Problem


class FamilyDefaults:
    """What most families have in common; a family inherits it and overrides what differs."""

    @property
    def monotone(self) -> bool:
        """The M-step never lowers the objective."""
        return True

    @property
    def missing(self) -> bool:
        """NaN in y is an error."""
        return False

    @property
    def uses(self) -> tuple[str, ...]:
        """The response alone."""
        return ()

    @property
    def prior_names(self) -> tuple[str, ...]:
        """One prior for the whole family."""
        return ("family",)

    def named(self, params: Params) -> dict[str, Any]:
        """The fields of the record."""
        return params._asdict()

    def culprit(self, data: Data, problem: Problem) -> str:
        """Nothing that the engine could not see itself."""
        return ""

    def boundary(self: Any, params: Params, prepared: Any) -> Array:
        """All in the interior."""
        return jnp.zeros(self.to_free(params, prepared).shape, jnp.int32)

"""What most families have in common, whatever their density."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import jax.numpy as jnp
import numpy as np

from emjax.base.records import Array, Data, Params
from emjax.base.status import DataError, Problem


def refuse(data: Data, names: Iterable[str], sentence: Callable[[str], str]) -> None:
    """On the host: the first of these fields that is given raises `DataError`, in words by its name."""
    for name in names:
        if getattr(data, name) is not None:
            raise DataError(sentence(name))


class FamilyDefaults:
    """What most families have in common; a family inherits it and overrides what differs."""

    continuous = False  # whether its rows have densities, beside which a point mass has no likelihood

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
    def unused(self) -> tuple[str, ...]:
        """Fields of the data that are not among `uses`."""
        return tuple(name for name in ("x", "offset", "trials", "z") if name not in self.uses)

    def check(self, data: Data) -> None:
        """What the family does not use has no place in the data."""
        self.refuse_unused(data)

    def refuse_unused(self, data: Data, **sentences: str) -> None:
        """On the host: data that are not among `uses` raise `DataError`, some fields with a sentence of their own."""
        usual = "{} has no {}: leave it out of Data."
        refuse(data, self.unused, lambda name: sentences.get(name, usual.format(type(self).__name__, name)))

    def refuse_columns(self, data: Data) -> None:
        """On the host: more than one response raises `DataError`."""
        if np.ndim(data.y) != 1:
            raise DataError(f"{type(self).__name__} needs y of shape (n,), not {np.shape(data.y)}: give one response.")

    @property
    def prior_names(self) -> tuple[str, ...]:
        """One prior for the whole family."""
        return ("family",)

    def named(self, params: Params) -> dict[str, Any]:
        """The fields of the record."""
        return params._asdict()

    def culprit(self, data: Data, problem: Problem, first_column: int = 0) -> str:
        """Nothing that `places.find` could not see."""
        return ""

    @property
    def extra(self) -> int:
        """All components are exchangeable."""
        return 0

    def tails(self, params: Params, prepared: Any) -> tuple[Array, Array, Array] | None:
        """For pseudo-residuals: probabilities of less than each row's y, of it, and of more, (K, n) each; or None."""
        return None

    def boundary(self: Any, params: Params, prepared: Any) -> Array:
        """All in the interior."""
        return jnp.zeros(self.to_free(params, prepared).shape, jnp.int32)

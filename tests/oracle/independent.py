"""Several families at once, independent given the component. No jax."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np


class Member(NamedTuple):
    """One family: its log density (K, n) at its parameters, and its M-step at (K, n) responsibilities, weights (n,)."""

    log_prob: Callable[[Any], np.ndarray]
    maximize: Callable[[np.ndarray, np.ndarray], Any]


def log_prob(members: Sequence[Member], params: Any) -> np.ndarray:
    """(K, n): the sum over the families."""
    values = members[0].log_prob(params.members[0])
    for i in range(1, len(members)):
        values = values + members[i].log_prob(params.members[i])
    return values


def maximize(members: Sequence[Member], responsibilities: np.ndarray, row_weight: np.ndarray) -> dict[str, Any]:
    """Each family alone."""
    return {"members": tuple(member.maximize(responsibilities, row_weight) for member in members)}

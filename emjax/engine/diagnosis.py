"""On the host: what is wrong with a dataset, where, and what to try, in one sentence."""

from __future__ import annotations

from typing import Any

import jax

from emjax.base import places
from emjax.base.records import Data
from emjax.base.status import Problem


def explain(model: Any, data: Data, problem: Problem, fails: str = "The dataset cannot be fitted") -> str:
    """One sentence for a single dataset: what is wrong, where, and what to try. A model may know the place itself."""
    data = model.read(data)
    with jax.enable_x64(True):  # a model that prepares its parts must see what the fit saw
        known = model.culprit(data, problem)
    where = known or places.find(data, problem)
    return f"{fails}: {problem.describe()}{f' ({where})' if where else ''}."

"""Shapes that a model's parameters must have for given data, and the user's starts held against them."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from emjax.base.protocols import Model
from emjax.base.records import Data, Params
from emjax.base.status import DataError
from emjax.engine import row_blocks, starts
from emjax.engine.datasets import Batch
from emjax.engine.generated import Generated


def of(model: Model, batch: Batch | Generated, prior: Any, n_rows: int) -> Params:
    """Shapes and dtypes of one dataset's parameters, by tracing alone; None where the model has no start of its own.

    n_rows : of the longest dataset, without padding.

    Errors: `DataError` where the prior does not fit the data.
    """

    with jax.enable_x64(True):
        try:
            return row_blocks.shaped(model, _params.eval_shape(model, batch.shapes, prior), n_rows)
        except starts.NoStartError:
            return None
        except (TypeError, ValueError, AttributeError, IndexError) as error:
            if isinstance(error, DataError) or prior is None:
                raise
            reason = str(error).splitlines()[0]
            raise DataError(f"prior={prior!r} does not fit the model and data: {reason}") from None


@partial(jax.jit, static_argnames=("model",))  # never run: jit remembers what it has traced
def _params(model: Model, data: Data, prior: Any) -> Params:
    prepared, _ = model.prepare(data, prior, None)
    return starts.start(model, jax.random.key(0), prepared, model.strategies, jnp.int32(0))


def given_starts(params: Params, template: Params, n_datasets: int, shared: bool = False) -> Params:
    """Given starts with leading axes of datasets and of restarts (D, R), R = 1 where there is one a dataset.

    params : shared by all datasets, with a leading axis D, or with D and R. shared : no others are allowed.

    Errors: `DataError` for shapes that disagree.
    """
    if template is None:
        return jax.tree.map(lambda a: np.broadcast_to(np.asarray(a, np.float64), (n_datasets, 1, *np.shape(a))), params)
    if jax.tree.structure(params) != jax.tree.structure(template):
        raise DataError("start is not a record of this model's parameters: copy the form of fit.params.")
    pairs = zip(jax.tree.leaves(params), jax.tree.leaves(template), strict=True)
    each = max((np.shape(a)[1] for a, wanted in pairs if np.ndim(a) == len(wanted.shape) + 2), default=1)

    def lead(given: Any, wanted: Any) -> np.ndarray:
        given, full = np.asarray(given, np.float64), (n_datasets, each, *wanted.shape)
        if given.shape == wanted.shape:
            return np.broadcast_to(given, full)
        if given.shape == (n_datasets, *wanted.shape) and not shared:
            return np.broadcast_to(given[:, None], full)
        if given.shape == full and not shared:
            return given
        shapes = f"{wanted.shape}"
        if not shared:
            each_own = ", ".join(map(str, (n_datasets, "restarts", *wanted.shape)))
            shapes = f"{wanted.shape} or {(n_datasets, *wanted.shape)}, or ({each_own})"
        raise DataError(f"A start has parameters of shape {given.shape} where the model needs {shapes}.")

    return jax.tree.map(lead, params, template)


def flat(starts: Params) -> Params:
    """Starts with one leading axis for the two."""
    return jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), starts)


def check_fixed(model: Any, fixed: Any, template: Params) -> None:
    """Fixed blocks must have the shapes of the parameters that they stand for."""
    if not fixed or template is None:
        return
    shapes = model.named(template)
    for name, value in fixed.items():
        if name in shapes and value is not None and np.shape(value) != shapes[name].shape:
            raise DataError(f"fixed[{name!r}] has shape {np.shape(value)}; the model needs {shapes[name].shape}.")

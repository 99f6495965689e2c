"""The labels of bootstrap replicates, put in the order of the fit that they are replicates of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from emjax.base.records import Params
from emjax.engine import after, parameters
from emjax.engine.results import Fit, Fits
from emjax.inference import alignment, information, relabelling


@dataclass(frozen=True)
class Labels:
    """Puts the components of replicates in the order of their fit's: values (D, E, c) of the E exchangeable
    components, and their standard errors as the scale. None of a model without labels to exchange."""

    model: Any
    target: np.ndarray | None
    scale: np.ndarray | None

    @staticmethod
    def of(fits: Fit | Fits, at: after.Point, threads: int | None) -> Labels:
        """Labels to which `fixed=` gives a meaning stay. Errors: `DataError` for too many components to align."""
        target = _by_component(at.model, at.params)
        if target is None or target.shape[1] < 2 or at.fixed:
            return Labels(at.model, None, None)
        alignment.align_by_distance(target[:1], target[:1])  # too many are known before anything is fitted
        errors = information.standard_errors(fits, threads=threads).se
        errors = jax.tree.map(lambda a: np.asarray(a)[None], errors) if isinstance(fits, Fit) else errors
        scale = _by_component(at.model, errors)
        assert scale is not None
        known = np.isfinite(scale) & (scale > 0)
        count = np.sum(known, axis=1, keepdims=True)
        mean = np.sum(np.where(known, scale, 0.0), axis=1, keepdims=True) / np.maximum(count, 1)
        spread = np.std(target, axis=1, keepdims=True)  # where no component has a standard error
        mean = np.where(count > 0, mean, np.where(spread > 0, spread, 1.0))
        return Labels(at.model, target, np.where(known, scale, np.where(np.isfinite(mean), mean, 1.0)))

    def aligned(self, params: Params, rows: np.ndarray) -> Params:
        """Replicates (S, ...) of the fits at `rows`."""
        if self.target is None or self.scale is None:
            return params
        values = _by_component(self.model, params)
        assert values is not None
        order = alignment.align_by_distance(values, self.target[rows], self.scale[rows])
        order = alignment.with_those_at_the_end(order, self.model.n_components)
        return relabelling.permute(params, order, self.model)


def _by_component(model: Any, params: Params) -> np.ndarray | None:
    """What each exchangeable component has of its own, (D, E, c); None of a model without components."""
    exchangeable = parameters.n_exchangeable(model)
    if exchangeable == 0:
        return None
    # What moves otherwise than along one axis: both axes of transitions, the baseline of a gate. And first states: one
    # sequence puts them at an edge, with next to no standard error, and its replicates at either edge.
    other = ("transitions", "gating", "initial")
    found = [
        block.values[:, :exchangeable].reshape(len(block.values), exchangeable, -1)
        for block in parameters.blocks(model, params, 1)
        if block.of_components and block.name.rpartition(".")[2] not in other
    ]
    return np.concatenate(found, axis=2) if found else None

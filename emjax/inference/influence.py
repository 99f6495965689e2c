"""Influence values of fitted parameters, I^-1 s_i in free coordinates, and what BCa intervals take from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from emjax.base.protocols import Model
from emjax.base.records import Array, Params
from emjax.base.status import DataError
from emjax.engine import after, derivatives
from emjax.engine.results import Fit, Fits
from emjax.inference import information


def acceleration(fits: Fit | Fits) -> np.ndarray:
    """The acceleration constant of every parameter, (D, L), flattened in the order of `jax.tree.leaves`.

    sum_i l_i^3 / (6 (sum_i l_i^2)^1.5), l_i the influence of unit i (Efron 1987, JASA 82, equation 6.6; Davison &
    Hinkley 1997, equation 5.23), with no refit. Of a single sequence i runs over its time steps. NaN where the
    information does not identify the parameter.
    """
    if type(fits.model).terms is Model.terms:
        raise DataError(f"{type(fits.model).__name__} has no terms, which BCa needs: use 'percentile' or 'basic'.")
    at = after.point(fits)
    found: np.ndarray | None = None
    bread: np.ndarray | None = None
    for rows, own, _ in after.over(at, information._Meat("observed", False, 0)):
        inverse, _ = information.inverse(own.information, own.boundary != 0)
        part = own.jacobian @ inverse
        bread = np.zeros((len(at.positions), *part.shape[1:])) if bread is None else bread
        bread[rows] = np.where(np.isfinite(part), part, 0.0)
    for rows, value, _ in after.over(at, Skewness(), bread):
        found = np.full((len(at.positions), value.shape[1]), np.nan) if found is None else found
        found[rows] = value
    assert found is not None
    return found


@dataclass(frozen=True)
class Skewness:
    """Of one dataset: the acceleration of each parameter (L,) from bread (L, m), their Jacobian times I^-1."""

    def __call__(self, model: Model, fitted: after.Fitted, bread: Any) -> Array:
        prepared = fitted.prepared
        params = model.canonical(fitted.params, prepared)
        free = derivatives.inside(model.to_free(params, prepared), model.boundary(params, prepared))

        def at(free: Array) -> Params:
            return model.from_free(free, prepared, params)

        terms, weight, scores = derivatives.scores(model, prepared, at, free)
        size = weight.shape[0]
        influence = jnp.matmul(bread, scores, precision=jax.lax.Precision.HIGHEST)
        together = jax.ops.segment_sum(influence.T, terms.cluster, size).T
        of_units = jax.ops.segment_max(weight, terms.cluster, size)
        of_units = jnp.where(jnp.isfinite(of_units), of_units, 0.0)
        several = jnp.sum(of_units > 0) > 1
        influence, weight = jnp.where(several, together, influence), jnp.where(several, of_units, weight)
        spread = jnp.sum(weight[None, :] * influence**2, axis=1)
        skew = jnp.sum(weight[None, :] * influence**3, axis=1)
        return jnp.where(spread > 0, skew / (6.0 * jnp.where(spread > 0, spread, 1.0) ** 1.5), jnp.nan)

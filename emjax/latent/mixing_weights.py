"""Constant mixing weights: each unit draws its component independently with probabilities `weights`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from emjax.base import bayes, coordinates, priors
from emjax.base.priors import Dirichlet
from emjax.base.records import Array, Data, Posterior
from emjax.base.registry import register
from emjax.base.status import Flag, Problem

AT_ZERO = 1e-8  # a probability this close to 0 or 1 is on the boundary


@register
class WeightsParams(NamedTuple):
    """weights (K,), mixing probabilities."""

    weights: Array


class WeightsData(NamedTuple):
    """weight (U,) of each unit, bool where all are 0 or 1; prior and fixed weights, or None."""

    weight: Array
    prior: Any
    fixed: Any


@dataclass(frozen=True)
class MixingWeights:
    """The latent structure of a finite mixture."""

    params = WeightsParams

    def prepare(self, data: Data, n_components: int, prior: Any, fixed: Any) -> tuple[WeightsData, Array]:
        """Unit weights, checked; negative, NaN or infinite ones become 0 and a problem bit."""
        weight = jnp.asarray(data.weight)
        dtype = data.y.dtype
        problem = jnp.int32(Problem.NONE)
        if weight.dtype != jnp.bool_:
            bad = ~(jnp.isfinite(weight) & (weight >= 0))
            overflow = ~jnp.isfinite(jnp.sum(jnp.where(bad, 0.0, weight)))
            problem |= jnp.where(jnp.any(bad) | overflow, Problem.WEIGHT_INVALID, 0)
            weight = jnp.where(bad, 0.0, weight).astype(dtype)
        problem |= jnp.where(jnp.any(weight.astype(bool)), 0, Problem.NO_WEIGHT)
        if prior is not None:
            concentration = jnp.broadcast_to(jnp.asarray(prior.concentration, dtype), (n_components,))
            prior = Dirichlet(concentration)
        if fixed is not None:
            fixed = WeightsParams(jnp.asarray(fixed.weights, dtype))
        return WeightsData(weight, prior, fixed), problem

    def infer(self, params: WeightsParams, log_prob: Array, prepared: WeightsData) -> Posterior:
        """Bayes' rule per unit; log_prob (K, U)."""
        return Posterior(*bayes.responsibilities(self._joint(params, log_prob), prepared.weight))

    def probabilities(self, params: WeightsParams, log_prob: Array, prepared: WeightsData) -> Array:
        """Posterior probabilities of the components of each unit, (K, U)."""
        return jax.nn.softmax(self._joint(params, log_prob), axis=0)

    @staticmethod
    def _joint(params: WeightsParams, log_prob: Array) -> Array:
        # Normalised here: float32 weights cast to float64 sum to 1 + 1e-8, which n rows turn into a false gain.
        return jnp.log(params.weights / jnp.sum(params.weights))[:, None] + log_prob

    def decode(self, params: WeightsParams, log_prob: Array, prepared: WeightsData) -> Array:
        """Most probable component of each unit, (U,)."""
        return jnp.argmax(self._joint(params, log_prob), axis=0)

    def maximize(self, statistics: Array, params: WeightsParams, prepared: WeightsData) -> WeightsParams:
        """Share of the expected counts; with a Dirichlet prior, its pseudo-counts added."""
        if prepared.fixed is not None:
            return prepared.fixed
        if prepared.prior is not None:
            statistics = statistics + (prepared.prior.concentration - 1.0)
        return WeightsParams(statistics / jnp.maximum(jnp.sum(statistics), jnp.finfo(statistics.dtype).tiny))

    def initial(self, prepared: WeightsData, resp: Array) -> WeightsParams:
        """The M-step at weighted responsibilities (K, U), kept off zero."""
        if prepared.fixed is not None:
            return prepared.fixed
        counts = jnp.sum(resp, axis=1)
        share = counts / jnp.maximum(jnp.sum(counts), jnp.finfo(counts.dtype).tiny)
        n_components = counts.shape[0]
        return WeightsParams(0.9 * share + 0.1 / n_components)

    def log_prior(self, params: WeightsParams, prepared: WeightsData) -> Array:
        """Dirichlet log density in the weights, nats."""
        if prepared.prior is None:
            return jnp.zeros((), params.weights.dtype)
        return priors.log_dirichlet(params.weights, prepared.prior.concentration)

    def flags(self, params: WeightsParams, prepared: WeightsData) -> Array:
        """BOUNDARY where a weight is at 0."""
        at_zero = jnp.any(params.weights < AT_ZERO)
        return jnp.where(at_zero, jnp.int32(Flag.BOUNDARY), jnp.int32(0))

    def from_user(self, params: WeightsParams) -> WeightsParams:
        """Weights that sum to one."""
        return WeightsParams(params.weights / jnp.sum(params.weights))

    def relabel(self, params: WeightsParams, permutation: Array) -> WeightsParams:
        """Component k of the result is component permutation[k] of `params`."""
        return WeightsParams(params.weights[permutation])

    def n_free(self, prepared: WeightsData, n_components: int) -> int:
        """K - 1, or 0 where the weights are fixed."""
        return 0 if prepared.fixed is not None else n_components - 1

    def to_free(self, params: WeightsParams, prepared: WeightsData) -> Array:
        """Log-ratios against the last weight."""
        if prepared.fixed is not None:
            return jnp.zeros(0, params.weights.dtype)
        return coordinates.simplex_to_free(params.weights)

    def from_free(self, free: Array, prepared: WeightsData) -> WeightsParams:
        """The inverse of `to_free`."""
        return prepared.fixed if prepared.fixed is not None else WeightsParams(coordinates.simplex_from_free(free))

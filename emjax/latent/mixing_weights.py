"""Constant mixing weights: each unit draws its component independently with probabilities `weights`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from emjax.base import bayes, coordinates, priors, simplices, units
from emjax.base.priors import Dirichlet
from emjax.base.records import Array, Data, Posterior, Terms
from emjax.base.registry import register
from emjax.base.simplices import AT_ZERO
from emjax.base.status import DataError, Flag


@register
class WeightsParams(NamedTuple):
    """weights (K,), mixing probabilities."""

    weights: Array


class WeightsData(NamedTuple):
    """weight (U,) of each unit, bool where all are 0 or 1; unit (n,) or None; prior and fixed weights, or None."""

    weight: Array
    unit: Array | None
    prior: Any
    fixed: Any


@register
@dataclass(frozen=True)
class MixingWeights:
    """The latent structure of a finite mixture."""

    blocks: ClassVar[Any] = WeightsParams
    prior_names: ClassVar[tuple[str, ...]] = ("weights",)

    @property
    def monotone(self) -> bool:
        """The M-step is exact."""
        return True

    def check(self, data: Data) -> None:
        """Covariates of the weights have no place here."""
        if data.z is not None:
            raise DataError("Constant weights have no use for z: leave it out of Data.")

    def check_params(self, params: WeightsParams, exact: float = 1e-6) -> None:
        """Weights, any leading axes, that are not probabilities raise `DataError`; None passes."""
        if params.weights is not None:
            simplices.check("mixing weights", params.weights, exact)

    def prepare(self, data: Data, n_components: int, prior: dict[str, Any], fixed: Any) -> tuple[WeightsData, Array]:
        """Unit weights, checked; negative, NaN or infinite ones become 0 and a problem bit."""
        weight, problem = units.weights(data)
        dtype = data.y.dtype
        of_weights = prior.get("weights")
        if of_weights is not None:
            concentration = jnp.broadcast_to(jnp.asarray(of_weights.concentration, dtype), (n_components,))
            of_weights = Dirichlet(concentration)
        if fixed is not None:
            fixed = WeightsParams(jnp.asarray(fixed.weights, dtype))
        return WeightsData(weight, data.unit, of_weights, fixed), problem

    # --- the E- and M-step ------------------------------------------------------------------------------------------

    def infer(self, params: WeightsParams, log_prob: Array, prepared: WeightsData) -> Posterior:
        """Bayes' rule per unit; log_prob (K, n)."""
        log_likelihood, resp, counts = bayes.responsibilities(self._joint(params, log_prob, prepared), prepared.weight)
        return Posterior(log_likelihood, units.of_rows(resp, prepared.unit), counts)

    def terms(self, params: WeightsParams, log_prob: Array, prepared: WeightsData) -> Terms:
        """One a unit."""
        log_likelihood = jax.nn.logsumexp(self._joint(params, log_prob, prepared), axis=0)
        return Terms(log_likelihood, prepared.weight, jnp.arange(log_likelihood.shape[0]))

    def probabilities(self, params: WeightsParams, log_prob: Array, prepared: WeightsData) -> Array:
        """Posterior probabilities of the components of each row, (K, n)."""
        return units.of_rows(jax.nn.softmax(self._joint(params, log_prob, prepared), axis=0), prepared.unit)

    def decode(self, params: WeightsParams, log_prob: Array, prepared: WeightsData) -> Array:
        """Most probable component of each row, (n,)."""
        return units.of_rows(jnp.argmax(self._joint(params, log_prob, prepared), axis=0), prepared.unit)

    def _joint(self, params: WeightsParams, log_prob: Array, prepared: WeightsData) -> Array:
        # Normalised here: float32 weights cast to float64 sum to 1 + 1e-8, which n rows turn into a false gain.
        log_weights = jnp.log(params.weights / jnp.sum(params.weights))
        return log_weights[:, None] + self.gather(log_prob, prepared)

    def maximize(self, statistics: Array, params: WeightsParams, prepared: WeightsData) -> WeightsParams:
        """Share of the expected counts; with a Dirichlet prior, its pseudo-counts added."""
        if prepared.fixed is not None:
            return prepared.fixed
        if prepared.prior is not None:
            statistics = statistics + (prepared.prior.concentration - 1.0)
        return WeightsParams(statistics / jnp.maximum(jnp.sum(statistics), jnp.finfo(statistics.dtype).tiny))

    # --- what start strategies are made of --------------------------------------------------------------------------

    def node_weight(self, prepared: WeightsData) -> Array:
        """Weight of each unit, (U,)."""
        return prepared.weight

    def gather(self, log_prob: Array, prepared: WeightsData) -> Array:
        """Log densities of the rows, (K, n), as those of the units, (K, U)."""
        return units.sums(log_prob, prepared.unit, prepared.weight.shape[0])

    def spread(self, resp: Array, prepared: WeightsData) -> Array:
        """Responsibilities of the units, (K, U), as those of the rows, (K, n)."""
        return units.of_rows(resp, prepared.unit)

    def initial(self, prepared: WeightsData, resp: Array) -> WeightsParams:
        """The M-step at weighted responsibilities (K, U), kept off zero."""
        if prepared.fixed is not None:
            return prepared.fixed
        counts = jnp.sum(resp, axis=1)
        share = counts / jnp.maximum(jnp.sum(counts), jnp.finfo(counts.dtype).tiny)
        n_components = counts.shape[0]
        return WeightsParams(0.9 * share + 0.1 / n_components)

    # --- what the engine watches ------------------------------------------------------------------------------------

    def log_prior(self, params: WeightsParams, prepared: WeightsData) -> Array:
        """Dirichlet log density in the weights, nats."""
        if prepared.prior is None:
            return jnp.zeros((), params.weights.dtype)
        return priors.log_dirichlet(params.weights, prepared.prior.concentration)

    def flags(self, params: WeightsParams, statistics: Array, prepared: WeightsData) -> Array:
        """BOUNDARY where a weight is at 0."""
        at_zero = jnp.any(params.weights < AT_ZERO)
        return jnp.where(at_zero, jnp.int32(Flag.BOUNDARY), jnp.int32(0))

    def relabel(self, params: WeightsParams, permutation: Array) -> WeightsParams:
        """Component k of the result is component permutation[k] of `params`."""
        return WeightsParams(params.weights[permutation])

    def order(self, params: WeightsParams, prepared: WeightsData) -> Array:
        """Ascending weights: the softmax baseline, the last, is then never at zero.

        The labels as they are where they mean something: with a Dirichlet prior whose concentrations differ.
        """
        order = jnp.argsort(params.weights)
        if prepared.prior is None:
            return order
        concentration = prepared.prior.concentration
        return jnp.where(jnp.all(concentration == concentration[0]), order, jnp.arange(order.shape[0]))

    def empty(self, params: WeightsParams, prepared: WeightsData) -> Array:
        """Components that have died out, (K,) bool: nothing of their own is identified."""
        return params.weights < AT_ZERO

    def boundary(self, params: WeightsParams, prepared: WeightsData) -> Array:
        """As `Model.boundary`, of the latent structure's own free coordinates."""
        if prepared.fixed is not None:
            return jnp.zeros(0, jnp.int32)
        return (params.weights[:-1] < AT_ZERO).astype(jnp.int32)

    # --- coordinates, units -----------------------------------------------------------------------------------------

    def to_user(self, params: WeightsParams, prepared: WeightsData) -> WeightsParams:
        """The same: weights have no units."""
        return params

    def from_user(self, params: WeightsParams, prepared: WeightsData) -> WeightsParams:
        """Weights that sum to one."""
        return WeightsParams(params.weights / jnp.sum(params.weights))

    def n_free(self, prepared: WeightsData, n_components: int) -> int:
        """K - 1, or 0 where the weights are fixed."""
        return 0 if prepared.fixed is not None else n_components - 1

    def to_free(self, params: WeightsParams, prepared: WeightsData) -> Array:
        """Log-ratios against the last weight."""
        if prepared.fixed is not None:
            return jnp.zeros(0, params.weights.dtype)
        return coordinates.simplex_to_free(params.weights)

    def from_free(self, free: Array, prepared: WeightsData, n_components: int) -> WeightsParams:
        """The inverse of `to_free`."""
        return prepared.fixed if prepared.fixed is not None else WeightsParams(coordinates.simplex_from_free(free))

    def sample(self, key: Array, params: WeightsParams, data: Data) -> Array:
        """The component of each row, (n,), drawn with user's parameters; the rows of a unit share theirs."""
        labels = jax.random.categorical(key, jnp.log(params.weights), shape=(units.count(data),))
        return units.of_rows(labels, data.unit)

"""Mixing weights gated by covariates: each unit draws its component with probabilities that depend on its z."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from emjax.base import bayes, multinomial_logit, numerics, units
from emjax.base import coefficients as shares
from emjax.base.multinomial_logit import LogitData, LogitStatistics
from emjax.base.records import Array, Data, Posterior
from emjax.base.registry import register
from emjax.base.simplices import AT_ZERO
from emjax.base.status import DataError, Flag, Problem
from emjax.latent.mixing_weights import MixingWeights

HIGHEST = jax.lax.Precision.HIGHEST


@register
class GatingParams(NamedTuple):
    """gating (K, 1 + c), coefficients of the logits, the intercept first, the last component's 0."""

    gating: Array


class GatingData(NamedTuple):
    """weight (U,) of each unit, bool where all are 0 or 1; unit (n,) or None; the units' design, rows last; fixed
    coefficients in prepared units, or None."""

    weight: Array
    unit: Array | None
    logit: LogitData
    fixed: Any


@register
@dataclass(frozen=True)
class GatedWeights(MixingWeights):
    """Weights of a mixture as a multinomial logit of Data.z, for `Mixture(family, K, GatedWeights())`.

    log(weight_k / weight_K) = gating_k' (1, z). Concomitant variables (Dayton & Macready 1988, JASA 83; Gruen & Leisch
    2008, Journal of Statistical Software 28(4)); with a regression family a mixture of experts (Jordan & Jacobs 1994,
    Neural Computation 6).

    intercept : put a column of ones first.
    Data: z (n, c), one row a data row, the same in all rows of a unit; c = 0 gives constant weights. It is centred and
    scaled inside. There is no prior; fixed : {"gating": (K, 1 + c)}.

    The M-step is one Newton step, shortened so that it cannot lower the objective. Where z separates the components
    the maximum lies at infinity: coefficients stay finite, and the fit has the flag BOUNDARY.
    """

    intercept: bool = True
    blocks: ClassVar[Any] = GatingParams
    prior_names: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        shares.check_intercept("GatedWeights", self.intercept)

    def check(self, data: Data) -> None:
        """z must be there, (n, c)."""
        multinomial_logit.check(data, "GatedWeights", "weights")
        if not self.intercept and np.shape(np.asarray(data.z))[1] == 0:
            raise DataError("GatedWeights(intercept=False) needs a column of z: give one, or an intercept.")

    def check_params(self, params: GatingParams, exact: float = 1e-6) -> None:
        """Coefficients that are not finite raise `DataError`; None passes."""
        if params.gating is not None and not np.all(np.isfinite(np.asarray(params.gating, np.float64))):
            raise DataError("gating coefficients must be finite.")

    def prepare(self, data: Data, n_components: int, prior: dict[str, Any], fixed: Any) -> tuple[GatingData, Array]:
        """The units' weights and design, centred (with an intercept) and scaled; a unit has the z of its first row."""
        weight, problem = units.weights(data)
        dtype = data.y.dtype
        z = jnp.asarray(data.z, dtype)
        if data.unit is not None:
            of_units = units.first_rows(z, data.unit, weight.shape[0])
            used = weight.astype(bool)[data.unit]
            differs = jnp.any(z != of_units[data.unit], axis=1) & used
            problem |= jnp.where(jnp.any(differs), Problem.DIFFERS_IN_UNIT, 0)
            holes = ~jnp.all(jnp.isfinite(z), axis=1) & used  # also where the unit's first row is sound
            problem |= jnp.where(jnp.any(holes), Problem.COVARIATE_NOT_FINITE, 0)
            z = of_units
        logit, found = multinomial_logit.prepare(z, weight, self.intercept)
        if fixed is not None:
            fixed = _baselined(GatingParams(jnp.asarray(fixed.gating, dtype)))
            fixed = GatingParams(jnp.matmul(fixed.gating, logit.design.to_prepared.T, precision=HIGHEST))
        return GatingData(weight, data.unit, logit, fixed), problem | found

    # --- the E- and M-step ------------------------------------------------------------------------------------------

    @staticmethod
    def _log_weights(params: GatingParams, prepared: GatingData) -> Array:
        """(K, U)"""
        return jax.nn.log_softmax(numerics.linear(params.gating, prepared.logit.design.x), axis=0)

    def _joint(self, params: GatingParams, log_prob: Array, prepared: GatingData) -> Array:
        of_units = units.sums(log_prob, prepared.unit, prepared.weight.shape[0])
        return self._log_weights(params, prepared) + of_units

    def infer(self, params: GatingParams, log_prob: Array, prepared: GatingData) -> Posterior:
        """Bayes' rule per unit; log_prob (K, n)."""
        log_likelihood, resp, _ = bayes.responsibilities(self._joint(params, log_prob, prepared), prepared.weight)
        statistics = self._statistics(jnp.exp(self._log_weights(params, prepared)), resp, prepared)
        return Posterior(log_likelihood, units.of_rows(resp, prepared.unit), statistics)

    def _statistics(self, weights: Array, resp: Array, prepared: GatingData) -> LogitStatistics:
        """Of weights and weighted responsibilities (K, U)."""
        return multinomial_logit.statistics(
            weights, resp, prepared.weight.astype(weights.dtype), prepared.logit.design.x
        )

    def maximize(self, statistics: LogitStatistics, params: GatingParams, prepared: GatingData) -> GatingParams:
        """A Newton step, shortened so that it cannot lower Q."""
        if prepared.fixed is not None:
            return prepared.fixed
        return GatingParams(params.gating + multinomial_logit.newton_step(statistics, prepared.logit))

    def initial(self, prepared: GatingData, resp: Array) -> GatingParams:
        """Constant weights at weighted responsibilities of the units, (K, U), kept off zero; slopes of 0."""
        if prepared.fixed is not None:
            return prepared.fixed
        n_components, q = resp.shape[0], prepared.logit.design.x.shape[0]
        gating = jnp.zeros((n_components, q), resp.dtype)
        if self.intercept:
            counts = jnp.sum(resp, axis=1)
            share = counts / jnp.maximum(jnp.sum(counts), jnp.finfo(counts.dtype).tiny)
            share = 0.9 * share + 0.1 / n_components
            gating = gating.at[:, 0].set(jnp.log(share) - jnp.log(share[-1]))
        return GatingParams(gating)

    # --- what the engine watches ------------------------------------------------------------------------------------

    def log_prior(self, params: GatingParams, prepared: GatingData) -> Array:
        """0: there is no prior."""
        return jnp.zeros((), params.gating.dtype)

    def flags(self, params: GatingParams, statistics: LogitStatistics, prepared: GatingData) -> Array:
        """BOUNDARY where the data say nothing of a direction of some component's coefficients."""
        if params.gating.shape[0] == 1 or prepared.fixed is not None:
            return jnp.int32(0)
        weights = jnp.exp(self._log_weights(params, prepared))
        variance = weights * (1.0 - weights) * prepared.weight.astype(weights.dtype)[None, :]
        information = numerics.weighted_products(variance, variance, prepared.logit.design.x)[0]
        return jnp.where(multinomial_logit.flat(information), jnp.int32(Flag.BOUNDARY), jnp.int32(0))

    def relabel(self, params: GatingParams, permutation: Array) -> GatingParams:
        """Component k of the result is component permutation[k] of `params`; the new last one is the baseline."""
        return _baselined(GatingParams(params.gating[permutation]))

    def order(self, params: GatingParams, prepared: GatingData) -> Array:
        """Ascending mean weights: the baseline, the last, is then none that has died out."""
        weights = jnp.exp(self._log_weights(params, prepared))
        return jnp.argsort(jnp.sum(weights * prepared.weight.astype(weights.dtype)[None, :], axis=1))

    def empty(self, params: GatingParams, prepared: GatingData) -> Array:
        """Components that have died out at every z, (K,) bool."""
        weights = jnp.where(prepared.weight.astype(bool)[None, :], jnp.exp(self._log_weights(params, prepared)), 0.0)
        return jnp.max(weights, axis=1) < AT_ZERO

    def boundary(self, params: GatingParams, prepared: GatingData) -> Array:
        """Of a component that has died out, the intercept is at minus infinity and slopes mean nothing."""
        if prepared.fixed is not None:
            return jnp.zeros(0, jnp.int32)
        free, q = params.gating.shape[0] - 1, params.gating.shape[1]
        code = jnp.full((free, q), 2, jnp.int32)
        code = code.at[:, 0].set(1) if self.intercept else code
        return jnp.where(self.empty(params, prepared)[:free, None], code, jnp.int32(0)).reshape(-1)

    # --- coordinates, units -----------------------------------------------------------------------------------------

    def to_user(self, params: GatingParams, prepared: GatingData) -> GatingParams:
        """Coefficients of the user's z."""
        return GatingParams(jnp.matmul(params.gating, prepared.logit.design.to_user.T, precision=HIGHEST))

    def from_user(self, params: GatingParams, prepared: GatingData) -> GatingParams:
        """Coefficients of the prepared z, the last component's 0."""
        gating = _baselined(params).gating
        return GatingParams(jnp.matmul(gating, prepared.logit.design.to_prepared.T, precision=HIGHEST))

    def n_free(self, prepared: GatingData, n_components: int) -> int:
        """(K - 1) (1 + c), or 0 where the coefficients are fixed."""
        return 0 if prepared.fixed is not None else (n_components - 1) * prepared.logit.design.x.shape[0]

    def to_free(self, params: GatingParams, prepared: GatingData) -> Array:
        """Coefficients against the last component's."""
        if prepared.fixed is not None:
            return jnp.zeros(0, params.gating.dtype)
        return _baselined(params).gating[:-1].reshape(-1)

    def from_free(self, free: Array, prepared: GatingData, n_components: int) -> GatingParams:
        """The inverse of `to_free`."""
        if prepared.fixed is not None:
            return prepared.fixed
        q = prepared.logit.design.x.shape[0]
        return GatingParams(jnp.concatenate([free.reshape(n_components - 1, q), jnp.zeros((1, q), free.dtype)]))

    def prior_weights(self, params: GatingParams, z: Any) -> np.ndarray:
        """Weights of the components at covariates z (n, c), without regard to y: (n, K); user's parameters, NumPy."""
        logits = self._logits(np.asarray(params.gating, np.float64), np.asarray(z, np.float64))
        odds = np.exp(logits - np.max(logits, axis=1, keepdims=True))
        return odds / np.sum(odds, axis=1, keepdims=True)

    def _logits(self, gating: Array, z: Array) -> Array:
        """(n, K); traced or NumPy."""
        return z @ gating[:, 1:].T + gating[None, :, 0] if self.intercept else z @ gating.T

    def sample(self, key: Array, params: GatingParams, data: Data) -> Array:
        """The component of each row, (n,), drawn with user's parameters; the rows of a unit share theirs."""
        z = data.z if data.unit is None else units.first_rows(jnp.asarray(data.z), data.unit, units.count(data))
        labels = jax.random.categorical(key, self._logits(params.gating, z), axis=1)
        return units.of_rows(labels, data.unit)


def _baselined(params: GatingParams) -> GatingParams:
    """The same weights, with coefficients of 0 in the last component."""
    return GatingParams(params.gating - params.gating[-1:])

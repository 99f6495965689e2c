"""Finite mixtures: constant mixing weights over any family."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from emjax.base.protocols import Family, Model
from emjax.base.records import Array, Data, Expectation, Prediction
from emjax.base.registry import register
from emjax.base.settings import Degeneracy
from emjax.base.status import DataError, Problem
from emjax.latent.mixing_weights import AT_ZERO, MixingWeights


@register
class MixtureParams(NamedTuple):
    """latent: the mixing weights; family: the components' parameters."""

    latent: Any
    family: Any


class MixtureStatistics(NamedTuple):
    """Expected sufficient statistics of both parts."""

    latent: Any
    family: Any


class MixtureData(NamedTuple):
    """Prepared data of both parts; unit (n,) and observed (n,), or None."""

    latent: Any
    family: Any
    unit: Array | None
    observed: Array | None


@register
@dataclass(frozen=True)
class Mixture(Model):
    """p(y) = sum_k weights_k p(y | component k).

    family : LinearRegression(), Gaussian(), ...; n_components : K >= 1.
    prior : {"weights": Dirichlet(...), "family": the family's conjugate prior}, either or both.
    fixed : {"weights": (K,), and the family's blocks by name}, in the user's units.
    """

    family: Family
    n_components: int
    latent = MixingWeights()

    def __post_init__(self) -> None:
        if isinstance(self.n_components, bool) or not isinstance(self.n_components, (int, np.integer)):
            raise DataError(f"Mixture(n_components={self.n_components!r}): give a whole number, 1 or larger.")
        if self.n_components < 1:
            raise DataError(f"Mixture(n_components={self.n_components}): at least one component is needed.")
        if isinstance(self.family, type) or not isinstance(self.family, Family):
            raise DataError(f"Mixture(family={self.family!r}) is not a family: try LinearRegression() or Gaussian().")

    @property
    def strategies(self) -> tuple[str, ...]:
        """No single start wins everywhere: restarts rotate through these."""
        return ("random-partition", "nearest", "elemental", "k-means++")

    def check(self, data: Data) -> None:
        """Shapes and settings that disagree raise `DataError`."""
        if data.z is not None:
            raise DataError("Mixture has constant weights and no use for z: leave it out of Data.")
        self.family.check(data)

    def check_settings(self, prior: Any, fixed: Any, params: Any) -> None:
        """Impossible priors, fixed blocks and given starts (leading dataset axis) raise `DataError`."""
        for value in self._named(prior, "prior", ("weights", "family")).values():
            if value is not None and not hasattr(value, "check"):
                raise DataError(f"prior={value!r} is not a prior: try Dirichlet(2.0) or the family's conjugate prior.")
            if value is not None:
                value.check()
        blocks = self.family.blocks
        fixed = self._named(fixed, "fixed", ("weights", *blocks._fields))
        if fixed:
            self.family.check_params(blocks(*(fixed.get(name) for name in blocks._fields)))
        weights = fixed.get("weights")
        if weights is not None and abs(np.sum(self._weights(weights)) - 1.0) > 1e-8:
            raise DataError(f"fixed weights {weights!r} must sum to 1.")
        if params is not None:
            try:
                if np.max(np.abs(np.sum(self._weights(params.latent.weights), axis=-1) - 1.0)) > 1e-6:
                    raise DataError("mixing weights must sum to 1.")
                self.family.check_params(params.family)
            except DataError as error:
                raise DataError(f"start: {error}") from None

    @staticmethod
    def _weights(given: Any) -> np.ndarray:
        weights = np.asarray(given, np.float64)
        if not np.all(np.isfinite(weights) & (weights >= 0)) or not np.all(np.sum(weights, axis=-1) > 0):
            raise DataError(f"mixing weights {weights.tolist()} must be finite, not negative, and not all 0.")
        return weights

    # --- once per dataset -------------------------------------------------------------------------------------------

    def prepare(self, data: Data, prior: Any = None, fixed: Any = None) -> tuple[MixtureData, Array]:
        """Both parts' prepared data and `Problem` bits."""
        n = data.y.shape[0]
        weight = jnp.ones(n if data.unit is None else _units(data), bool) if data.weight is None else data.weight
        prior, fixed = self._named(prior, "prior", ("weights", "family")), fixed or {}
        fixed_latent, fixed_family = self._split_fixed(fixed)
        latent, problem = self.latent.prepare(
            data._replace(weight=weight), self.n_components, prior.get("weights"), fixed_latent
        )
        rows = latent.weight if data.unit is None else latent.weight[data.unit]
        rows = rows.astype(data.y.dtype)
        if data.observed is not None:
            rows = jnp.where(data.observed, rows, 0.0)
        family, found = self.family.prepare(
            data._replace(weight=rows), self.n_components, prior.get("family"), fixed_family
        )
        observed = None if data.observed is None else jnp.asarray(data.observed, bool)
        prepared = MixtureData(latent, family, data.unit, observed)
        n_rows = jnp.maximum(jnp.sum(rows), jnp.sum(rows > 0).astype(rows.dtype))
        few = n_rows < self.n_free(prepared)
        problem |= found | jnp.where(few, Problem.TOO_FEW_ROWS, 0)
        # One reason is enough where the others only follow from it.
        broken = Problem.NO_WEIGHT | Problem.WEIGHT_INVALID | Problem.RESPONSE_NOT_FINITE | Problem.COVARIATE_NOT_FINITE
        problem = jnp.where((problem & broken) > 0, problem & broken, problem)
        follows = Problem.COLLINEAR | Problem.CONSTANT_COVARIATE
        problem = jnp.where((problem & Problem.TOO_FEW_ROWS) > 0, problem & ~follows, problem)
        return prepared, jnp.int32(problem)

    @staticmethod
    def _named(given: Any, what: str, known: tuple[str, ...]) -> dict[str, Any]:
        """A dictionary with no other names than `known`."""
        if given is None:
            return {}
        if not isinstance(given, dict) or set(given) - set(known):
            given = sorted(given) if isinstance(given, dict) else given
            raise DataError(f"{what}={given!r}: give a dictionary with the names {', '.join(known)}.")
        return given

    def _split_fixed(self, fixed: Any) -> tuple[Any, Any]:
        """Blocks by name into the latent's and the family's records."""
        if not fixed:
            return None, None
        blocks = self.family.blocks
        self._named(fixed, "fixed", ("weights", *blocks._fields))
        family = blocks(*(fixed.get(name) for name in blocks._fields))
        latent = None if fixed.get("weights") is None else self.latent.params(fixed["weights"])
        return latent, None if all(part is None for part in family) else family

    def n_free(self, prepared: MixtureData) -> int:
        """Number of free parameters."""
        latent = self.latent.n_free(prepared.latent, self.n_components)
        return latent + self.family.n_free(prepared.family, self.n_components)

    # --- the EM step ------------------------------------------------------------------------------------------------

    def log_prob(self, params: MixtureParams, prepared: MixtureData) -> Array:
        """Log density of every row under every component, (K, n)."""
        log_prob = self.family.log_prob(params.family, prepared.family)
        if prepared.observed is not None:
            log_prob = jnp.where(prepared.observed[None, :], log_prob, 0.0)
        return log_prob

    def _by_unit(self, log_prob: Array, prepared: MixtureData) -> Array:
        if prepared.unit is None:
            return log_prob
        n_units = prepared.latent.weight.shape[0]
        summed = jax.ops.segment_sum(log_prob.T, prepared.unit, n_units, indices_are_sorted=True)
        return summed.T

    def _rows(self, resp: Array, prepared: MixtureData) -> Array:
        """Weighted responsibilities of the rows, (K, n), from those of the units, (K, U)."""
        if prepared.unit is not None:
            resp = resp[:, prepared.unit]
        if prepared.observed is not None:
            resp = jnp.where(prepared.observed[None, :], resp, 0.0)
        return resp

    def expect(self, params: MixtureParams, prepared: MixtureData) -> Expectation:
        """The E-step."""
        log_prob = self._by_unit(self.log_prob(params, prepared), prepared)
        posterior = self.latent.infer(params.latent, log_prob, prepared.latent)
        rows = self._rows(posterior.responsibilities, prepared)
        family = self.family.statistics(params.family, prepared.family, rows)
        return Expectation(posterior.log_likelihood, MixtureStatistics(posterior.statistics, family))

    def maximize(self, statistics: MixtureStatistics, params: MixtureParams, prepared: MixtureData) -> MixtureParams:
        """The M-step of both parts."""
        return MixtureParams(
            self.latent.maximize(statistics.latent, params.latent, prepared.latent),
            self.family.maximize(statistics.family, params.family, prepared.family),
        )

    # --- what start strategies are made of --------------------------------------------------------------------------

    def initial(self, prepared: MixtureData, resp: Array, spread: Array) -> MixtureParams:
        """Parameters at invented responsibilities of the units, (K, U); the scale is pooled over `spread` (K, U)."""
        weight = prepared.latent.weight.astype(resp.dtype)[None, :]
        resp, spread = resp * weight, spread * weight
        family = self.family.initial(prepared.family, self._rows(resp, prepared), self._rows(spread, prepared))
        return MixtureParams(self.latent.initial(prepared.latent, resp), family)

    def unit_log_prob(self, params: MixtureParams, prepared: MixtureData) -> Array:
        """Log density of every unit under every component, (K, U)."""
        return self._by_unit(self.log_prob(params, prepared), prepared)

    def used(self, prepared: MixtureData) -> Array:
        """(U,) bool, False where a unit is padding or has weight 0."""
        return prepared.latent.weight.astype(bool)

    def elemental(self, prepared: MixtureData) -> int:
        """Units that a random elemental subset needs for one component."""
        return self.family.elemental(prepared.family)

    # --- what the engine watches ------------------------------------------------------------------------------------

    def log_prior(self, params: MixtureParams, prepared: MixtureData) -> Array:
        """Log prior density in the natural parameters, nats; 0 without a prior."""
        latent = self.latent.log_prior(params.latent, prepared.latent)
        return latent + self.family.log_prior(params.family, prepared.family)

    def flags(
        self, params: MixtureParams, statistics: MixtureStatistics, prepared: MixtureData, degeneracy: Degeneracy
    ) -> Array:
        """`Flag` bits of both parts."""
        latent = self.latent.flags(params.latent, prepared.latent)
        return latent | self.family.flags(params.family, statistics.family, prepared.family, degeneracy)

    def relabel(self, params: MixtureParams, permutation: Array) -> MixtureParams:
        """Component k of the result is component permutation[k] of `params`."""
        return MixtureParams(
            self.latent.relabel(params.latent, permutation), self.family.relabel(params.family, permutation)
        )

    def canonical(self, params: MixtureParams, prepared: MixtureData) -> MixtureParams:
        """Ascending weights: the softmax baseline, the last, is then never at zero.

        Unchanged where labels mean something: with fixed blocks, or a Dirichlet prior whose concentrations differ.
        """
        if prepared.latent.fixed is not None or prepared.family.fixed is not None:
            return params
        order = jnp.argsort(params.latent.weights)
        if prepared.latent.prior is not None:
            concentration = prepared.latent.prior.concentration
            order = jnp.where(jnp.all(concentration == concentration[0]), order, jnp.arange(self.n_components))
        return self.relabel(params, order)

    def boundary(self, params: MixtureParams, prepared: MixtureData) -> Array:
        """A component of weight 0: its log-ratio and everything of its own is at the edge."""
        empty = params.latent.weights < AT_ZERO
        parts = [] if prepared.latent.fixed is not None else [empty[:-1].astype(jnp.int32)]
        owners = jnp.array(self.family.component_of_free(prepared.family, self.n_components), dtype=jnp.int32)
        parts.append(jnp.where((owners >= 0) & empty[owners], jnp.int32(2), jnp.int32(0)))
        return jnp.concatenate(parts)

    # --- coordinates, units, predictions ----------------------------------------------------------------------------

    def to_free(self, params: MixtureParams, prepared: MixtureData) -> Array:
        """Log-ratios of the weights, then the family's coordinates, (m,)."""
        latent = self.latent.to_free(params.latent, prepared.latent)
        return jnp.concatenate([latent, self.family.to_free(params.family, prepared.family)])

    def from_free(self, free: Array, prepared: MixtureData, like: Any = None) -> MixtureParams:
        """The inverse of `to_free`."""
        split = self.latent.n_free(prepared.latent, self.n_components)
        return MixtureParams(
            self.latent.from_free(free[:split], prepared.latent),
            self.family.from_free(free[split:], prepared.family, self.n_components),
        )

    def to_user(self, params: MixtureParams, prepared: MixtureData) -> MixtureParams:
        """Parameters in the user's units."""
        return params._replace(family=self.family.to_user(params.family, prepared.family))

    def from_user(self, params: MixtureParams, prepared: MixtureData) -> MixtureParams:
        """Parameters in prepared units."""
        family = self.family.from_user(params.family, prepared.family)
        return MixtureParams(self.latent.from_user(params.latent), family)

    def predict(self, params: MixtureParams, prepared: MixtureData) -> Prediction:
        """Posterior probabilities (n, K) and most probable components (n,) of the rows."""
        log_prob = self._by_unit(self.log_prob(params, prepared), prepared)
        resp = self.latent.probabilities(params.latent, log_prob, prepared.latent).T
        labels = self.latent.decode(params.latent, log_prob, prepared.latent)
        if prepared.unit is not None:
            resp, labels = resp[prepared.unit], labels[prepared.unit]
        return Prediction(resp, labels)

    def sample(self, key: Array, params: MixtureParams, data: Data) -> tuple[Data, Array]:
        """Data with y drawn from user's parameters, and the component of each row (n,)."""
        n_units = data.y.shape[0] if data.unit is None else _units(data)
        draw_labels, draw_rows = jax.random.split(key)
        labels = jax.random.categorical(draw_labels, jnp.log(params.latent.weights), shape=(n_units,))
        if data.unit is not None:
            labels = labels[data.unit]
        return data._replace(y=self.family.sample(draw_rows, params.family, data, labels)), labels


def _units(data: Data) -> int:
    if data.weight is None:
        raise DataError("Data(unit=...) needs weight (U,), one entry a unit: its length says how many there are.")
    return data.weight.shape[0]

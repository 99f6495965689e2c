"""A latent structure over components of one family: what mixtures and hidden Markov models share."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from emjax.base import units
from emjax.base.protocols import Family, Latent, Model
from emjax.base.records import Array, Data, Expectation, Prediction, Terms
from emjax.base.registry import register
from emjax.base.settings import Degeneracy
from emjax.base.status import DataError, Problem

# One reason is enough where the others only follow from it.
BROKEN = Problem.NO_WEIGHT | Problem.WEIGHT_INVALID | Problem.RESPONSE_NOT_FINITE | Problem.COVARIATE_NOT_FINITE
FOLLOWS = Problem.COLLINEAR | Problem.CONSTANT_COVARIATE


@register
class MixtureParams(NamedTuple):
    """latent: the mixing weights, or the Markov chain; family: the components' parameters."""

    latent: Any
    family: Any


class ComposedStatistics(NamedTuple):
    """Expected sufficient statistics of both parts."""

    latent: Any
    family: Any


class ComposedData(NamedTuple):
    """Prepared data of both parts; observed (n,), or None."""

    latent: Any
    family: Any
    observed: Array | None


@dataclass(frozen=True)
class Composed(Model):
    """A latent structure x a family; `Mixture` and `HiddenMarkov` say which structure, as `latent`."""

    family: Family
    n_components: int

    @property
    @abstractmethod
    def latent(self) -> Latent:
        """The structure over components."""

    def __post_init__(self) -> None:
        name = type(self).__name__
        if isinstance(self.n_components, bool) or not isinstance(self.n_components, (int, np.integer)):
            raise DataError(f"{name}(n_components={self.n_components!r}): give a whole number, 1 or larger.")
        if self.n_components < 1:
            raise DataError(f"{name}(n_components={self.n_components}): at least one component is needed.")
        if isinstance(self.family, type) or not isinstance(self.family, Family):
            raise DataError(f"{name}(family={self.family!r}) is not a family: try LinearRegression() or Gaussian().")
        if isinstance(self.latent, type) or not isinstance(self.latent, Latent):
            raise DataError(f"{name}(latent={self.latent!r}) is not a latent structure: try MixingWeights().")
        if self.n_components <= self.family.extra:
            raise DataError(
                f"{name}(n_components={self.n_components}): the components without parameters count too; give "
                f"{self.family.extra + 1} or more."
            )

    @property
    def monotone(self) -> bool:  # type: ignore[override]
        """Whether no M-step of either part can lower the objective."""
        return self.family.monotone and self.latent.monotone

    @property
    def strategies(self) -> tuple[str, ...]:
        """No single start wins everywhere: restarts rotate through these."""
        return ("random-partition", "nearest", "elemental", "k-means++")

    # --- on the host ------------------------------------------------------------------------------------------------

    def check(self, data: Data) -> None:
        """Shapes and settings that disagree raise `DataError`."""
        self.latent.check(data)
        self.family.check(data._replace(z=None))

    def check_settings(self, prior: Any, fixed: Any, params: Any) -> None:
        """Impossible priors, fixed blocks and given starts (leading dataset axis) raise `DataError`."""
        for value in self._named(prior, "prior", self._prior_names).values():
            if value is not None and not hasattr(value, "check"):
                raise DataError(f"prior={value!r} is not a prior: try Dirichlet(2.0) or the family's conjugate prior.")
            if value is not None:
                value.check()
        latent, family = self._blocks(fixed)
        self.latent.check_params(latent, 1e-8)
        self.family.check_params(family)
        if params is not None:
            try:
                self.latent.check_params(params.latent)
                self.family.check_params(params.family)
            except DataError as error:
                raise DataError(f"start: {error}") from None

    @property
    def _prior_names(self) -> tuple[str, ...]:
        return (*self.latent.prior_names, *self.family.prior_names)

    @property
    def missing(self) -> bool:  # type: ignore[override]
        """Whether NaN in y is a missing cell, not an error."""
        return self.family.missing

    def culprit(self, data: Data, problem: Problem) -> str:
        """On the host: where the first fault behind `problem` is, or an empty string."""
        return self.family.culprit(data, problem)

    def named(self, params: MixtureParams) -> dict[str, Any]:
        """The blocks of the parameters by the names that `fixed=` uses."""
        return {**params.latent._asdict(), **self.family.named(params.family)}

    @staticmethod
    def _named(given: Any, what: str, known: tuple[str, ...]) -> dict[str, Any]:
        """A dictionary with no other names than `known`."""
        if given is None:
            return {}
        if not isinstance(given, dict) or set(given) - set(known):
            given = sorted(given) if isinstance(given, dict) else given
            raise DataError(f"{what}={given!r}: give a dictionary with the names {', '.join(known)}.")
        return given

    def _blocks(self, fixed: Any) -> tuple[Any, Any]:
        """Fixed blocks by name in the latent's and the family's records, None where free."""
        records = self.latent.blocks, self.family.blocks
        named = self._named(fixed, "fixed", tuple(name for record in records for name in record._fields))
        latent, family = (record(*(named.get(name) for name in record._fields)) for record in records)
        return latent, family

    # --- once per dataset -------------------------------------------------------------------------------------------

    def prepare(self, data: Data, prior: Any = None, fixed: Any = None) -> tuple[ComposedData, Array]:
        """Both parts' prepared data and `Problem` bits."""
        prior = self._named(prior, "prior", self._prior_names)
        held = [None if all(part is None for part in block) else block for block in self._blocks(fixed)]
        data, observed = self._observed(data)
        latent, problem = self.latent.prepare(data, self.n_components, prior, held[0])
        rows = units.of_rows(units.weights(data)[0], data.unit).astype(data.y.dtype)
        if observed is not None:
            rows = jnp.where(observed, rows, 0.0)
        of_family = data._replace(weight=rows, observed=observed)
        names = self.family.prior_names
        of_components = prior.get("family") if names == ("family",) else tuple(prior.get(name) for name in names)
        family, found = self.family.prepare(of_family, self.n_components, of_components, held[1])
        prepared = ComposedData(latent, family, observed)
        n_rows = jnp.maximum(jnp.sum(rows), jnp.sum(rows > 0).astype(rows.dtype))
        problem |= found | jnp.where(n_rows < self.n_free(prepared), Problem.TOO_FEW_ROWS, 0)
        problem = jnp.where((problem & BROKEN) > 0, problem & BROKEN, problem)
        problem = jnp.where((problem & Problem.TOO_FEW_ROWS) > 0, problem & ~FOLLOWS, problem)
        return prepared, jnp.int32(problem)

    def _observed(self, data: Data) -> tuple[Data, Any]:
        """Data with NaN in their missing cells, and the rows that are observed, (n,) bool or None."""
        return units.observed_rows(data)

    def n_free(self, prepared: ComposedData) -> int:
        """Number of free parameters."""
        latent = self.latent.n_free(prepared.latent, self.n_components)
        return latent + self.family.n_free(prepared.family, self.n_components)

    # --- the EM step ------------------------------------------------------------------------------------------------

    def log_prob(self, params: MixtureParams, prepared: ComposedData) -> Array:
        """Log density of every row under every component, (K, n)."""
        log_prob = self.family.log_prob(params.family, prepared.family)
        if prepared.observed is not None:
            log_prob = jnp.where(prepared.observed[None, :], log_prob, 0.0)
        return log_prob

    @staticmethod
    def _seen(resp: Array, prepared: ComposedData) -> Array:
        """Responsibilities of the rows, (K, n), 0 where nothing was observed."""
        return resp if prepared.observed is None else jnp.where(prepared.observed[None, :], resp, 0.0)

    def expect(self, params: MixtureParams, prepared: ComposedData) -> Expectation:
        """The E-step."""
        posterior = self.latent.infer(params.latent, self.log_prob(params, prepared), prepared.latent)
        rows = self._seen(posterior.responsibilities, prepared)
        family = self.family.statistics(params.family, prepared.family, rows)
        return Expectation(posterior.log_likelihood, ComposedStatistics(posterior.statistics, family))

    def terms(self, params: MixtureParams, prepared: ComposedData) -> Terms:
        """One a unit of a mixture, one a row of a Markov chain."""
        return self.latent.terms(params.latent, self.log_prob(params, prepared), prepared.latent)

    def maximize(self, statistics: ComposedStatistics, params: MixtureParams, prepared: ComposedData) -> MixtureParams:
        """The M-step of both parts."""
        return MixtureParams(
            self.latent.maximize(statistics.latent, params.latent, prepared.latent),
            self.family.maximize(statistics.family, params.family, prepared.family),
        )

    # --- what start strategies are made of --------------------------------------------------------------------------

    def initial(self, prepared: ComposedData, resp: Array, spread: Array) -> MixtureParams:
        """Parameters at invented responsibilities of the units, (K, U); the scale is pooled over `spread` (K, U)."""
        weight = self.latent.node_weight(prepared.latent).astype(resp.dtype)[None, :]
        resp, spread = resp * weight, spread * weight
        rows = [self._seen(self.latent.spread(nodes, prepared.latent), prepared) for nodes in (resp, spread)]
        family = self.family.initial(prepared.family, *rows)
        return MixtureParams(self.latent.initial(prepared.latent, resp), family)

    def unit_log_prob(self, params: MixtureParams, prepared: ComposedData) -> Array:
        """Log density of every unit under every component, (K, U)."""
        return self.latent.gather(self.log_prob(params, prepared), prepared.latent)

    def used(self, prepared: ComposedData) -> Array:
        """(U,) bool, False where a unit is padding or has weight 0."""
        return self.latent.node_weight(prepared.latent).astype(bool)

    def elemental(self, prepared: ComposedData) -> int:
        """Units that a random elemental subset needs for one component."""
        return self.family.elemental(prepared.family)

    # --- what the engine watches ------------------------------------------------------------------------------------

    def log_prior(self, params: MixtureParams, prepared: ComposedData) -> Array:
        """Log prior density in the natural parameters, nats; 0 without a prior."""
        latent = self.latent.log_prior(params.latent, prepared.latent)
        return latent + self.family.log_prior(params.family, prepared.family)

    def flags(
        self, params: MixtureParams, statistics: ComposedStatistics, prepared: ComposedData, degeneracy: Degeneracy
    ) -> Array:
        """`Flag` bits of both parts."""
        latent = self.latent.flags(params.latent, statistics.latent, prepared.latent)
        return latent | self.family.flags(params.family, statistics.family, prepared.family, degeneracy)

    def relabel(self, params: MixtureParams, permutation: Array) -> MixtureParams:
        """Component k of the result is component permutation[k] of `params`."""
        return MixtureParams(
            self.latent.relabel(params.latent, permutation), self.family.relabel(params.family, permutation)
        )

    def order(self, params: MixtureParams, prepared: ComposedData) -> Array:
        """Labels that suit the latent coordinates; as they are where fixed blocks give them a meaning."""
        if prepared.latent.fixed is not None or prepared.family.fixed is not None:
            return jnp.arange(self.n_components)
        order = jnp.asarray(self.latent.order(params.latent, prepared.latent))
        # Components that are not exchangeable go back to their places at the end.
        place = jnp.where(order < self.n_components - self.family.extra, 0, order)
        return order[jnp.argsort(place, stable=True)]

    def _extra_first(self, latent: Any, prepared: ComposedData, back: bool = False) -> Any:
        """Latent parameters as their coordinates take them: an exchangeable component last, the baseline.

        As they are where all components are exchangeable, or where fixed values belong to labels.
        """
        extra = self.family.extra
        if extra == 0 or prepared.latent.fixed is not None:
            return latent
        return self.latent.relabel(latent, np.roll(np.arange(self.n_components), -extra if back else extra))

    def boundary(self, params: MixtureParams, prepared: ComposedData) -> Array:
        """What is at an edge: a probability of 0, and everything of a component that has died out."""
        empty = self.latent.empty(params.latent, prepared.latent)
        owners = jnp.array(self.family.component_of_free(prepared.family, self.n_components), dtype=jnp.int32)
        family = self.family.boundary(params.family, prepared.family)
        family = jnp.where((owners >= 0) & empty[owners], jnp.int32(2), family)
        latent = self.latent.boundary(self._extra_first(params.latent, prepared), prepared.latent)
        return jnp.concatenate([latent, family])

    # --- coordinates, units, predictions ----------------------------------------------------------------------------

    def to_free(self, params: MixtureParams, prepared: ComposedData) -> Array:
        """The latent structure's coordinates, then the family's, (m,)."""
        latent = self.latent.to_free(self._extra_first(params.latent, prepared), prepared.latent)
        return jnp.concatenate([latent, self.family.to_free(params.family, prepared.family)])

    def from_free(self, free: Array, prepared: ComposedData, like: Any = None) -> MixtureParams:
        """The inverse of `to_free`."""
        split = self.latent.n_free(prepared.latent, self.n_components)
        latent = self.latent.from_free(free[:split], prepared.latent, self.n_components)
        return MixtureParams(
            self._extra_first(latent, prepared, back=True),
            self.family.from_free(free[split:], prepared.family, self.n_components),
        )

    def to_user(self, params: MixtureParams, prepared: ComposedData) -> MixtureParams:
        """Parameters in the user's units."""
        latent = self.latent.to_user(params.latent, prepared.latent)
        return MixtureParams(latent, self.family.to_user(params.family, prepared.family))

    def from_user(self, params: MixtureParams, prepared: ComposedData) -> MixtureParams:
        """Parameters in prepared units."""
        latent = self.latent.from_user(params.latent, prepared.latent)
        return MixtureParams(latent, self.family.from_user(params.family, prepared.family))

    def predict(self, params: MixtureParams, prepared: ComposedData) -> Any:
        """Posterior probabilities (n, K) and most probable components (n,) of the rows."""
        log_prob = self.log_prob(params, prepared)
        resp = self.latent.probabilities(params.latent, log_prob, prepared.latent).T
        return Prediction(resp, self.latent.decode(params.latent, log_prob, prepared.latent))

    def sample(self, key: Array, params: MixtureParams, data: Data) -> tuple[Data, Array]:
        """Data with y drawn from user's parameters, and the component of each row (n,)."""
        draw_labels, draw_rows = jax.random.split(key)
        labels = self.latent.sample(draw_labels, params.latent, data)
        return data._replace(y=self.family.sample(draw_rows, params.family, data, labels)), labels

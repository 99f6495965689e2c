"""A hidden Markov chain: the component of a row depends on that of the row before it in the same sequence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import jax.numpy as jnp

from emjax.base import coordinates, priors, recursions, simplices, units
from emjax.base.priors import Dirichlet
from emjax.base.records import Array, Data, Posterior, Terms
from emjax.base.registry import register
from emjax.base.simplices import AT_ZERO
from emjax.base.status import DataError, Flag
from emjax.latent import transition_step

STICKY = 0.95  # probability of staying, in a start


@register
class MarkovParams(NamedTuple):
    """initial (K,), probabilities of the first state; transitions (K, K), row: from, column: to."""

    initial: Array
    transitions: Array


NOTHING = MarkovParams(None, None)  # fixed, or with a prior


class MarkovStatistics(NamedTuple):
    """Expected counts, weighted: of first states (K,), of transitions (K, K)."""

    initial: Array
    transitions: Array


class MarkovData(NamedTuple):
    """Rows: weight (n,) of their sequence, bool where all are 0 or 1; whether they begin one, (n,); whether they hold
    an observation, (n,) or None. Prior and fixed blocks, records with None where there is none, or None."""

    weight: Array
    first: Array
    observed: Array | None
    prior: Any
    fixed: Any


@register
@dataclass(frozen=True)
class MarkovChain:
    """The latent structure of a hidden Markov model.

    initial_distribution : "free", probabilities of their own, or "stationary", the stationary distribution of the
    transitions, which then enters their M-step.
    """

    initial_distribution: Literal["free", "stationary"] = "free"
    blocks: ClassVar[Any] = MarkovParams
    prior_names: ClassVar[tuple[str, ...]] = ("initial", "transitions")

    def __post_init__(self) -> None:
        if self.initial_distribution not in ("free", "stationary"):
            raise DataError(
                f"initial_distribution={self.initial_distribution!r}: use 'free', 'stationary' or, in a GatedChain, "
                "'gated', or fixed={'initial': probabilities}."
            )

    @property
    def stationary(self) -> bool:
        """The chain starts in its stationary distribution."""
        return self.initial_distribution == "stationary"

    @property
    def monotone(self) -> bool:
        """No M-step lowers Q; a stationary chain's is not exact."""
        return True

    def check(self, data: Data) -> None:
        """Covariates of the transitions have no place here."""
        if data.z is not None:
            raise DataError(
                "Constant transition probabilities have no use for z: leave it out of Data, or use "
                "HiddenMarkov(transition_probabilities='gated')."
            )

    def check_params(self, params: MarkovParams, exact: float = 1e-6) -> None:
        """Values, any leading axes, that are not probabilities raise `DataError`; None passes."""
        for name, value in params._asdict().items():
            if value is not None:
                simplices.check(f"{name} probabilities", value, exact)

    def check_settings(self, prior: Any, fixed: Any) -> None:
        """A stationary chain has no first probabilities of its own: `DataError`."""
        for what, given in (("prior", prior), ("fixed", fixed)):
            if self.stationary and given and given.get("initial") is not None:
                raise DataError(f"{what}={{'initial': ...}} contradicts a 'stationary' start: leave one out.")

    def prepare(self, data: Data, n_components: int, prior: dict[str, Any], fixed: Any) -> tuple[MarkovData, Array]:
        """Rows' weights and where sequences begin; negative, NaN or infinite weights become 0 and a problem bit."""
        weight, problem = units.weights(data)
        dtype, n = data.y.dtype, data.y.shape[0]
        first = units.begins(data.unit, n)
        shapes = ((n_components,), (n_components, n_components))
        given = [
            found and Dirichlet(jnp.broadcast_to(jnp.asarray(found.concentration, dtype), shape))
            for found, shape in zip(map(prior.get, MarkovParams._fields), shapes, strict=True)
        ]
        of_chain = None if given == [None, None] else MarkovParams(*given)
        if fixed is not None:
            fixed = MarkovParams(*(None if part is None else jnp.asarray(part, dtype) for part in fixed))
        rows = units.of_rows(weight, data.unit)
        return MarkovData(rows, first, data.observed, of_chain, fixed), problem

    # --- the E- and M-step ------------------------------------------------------------------------------------------

    def _normalised(self, params: MarkovParams) -> MarkovParams:
        """Sums of exactly one: float32 probabilities cast to float64 would add a false gain a row."""
        transitions = params.transitions / jnp.sum(params.transitions, axis=1, keepdims=True)
        if self.stationary:
            return MarkovParams(recursions.stationary(transitions), transitions)
        return MarkovParams(params.initial / jnp.sum(params.initial), transitions)

    def _chain(self, params: MarkovParams, prepared: MarkovData) -> MarkovParams:
        """The chain's probabilities, as `recursions` take them."""
        return self._normalised(params)

    def infer(self, params: MarkovParams, log_prob: Array, prepared: MarkovData) -> Posterior:
        """Forward-backward; log_prob (K, n)."""
        chain = self._chain(params, prepared)
        found = recursions.smooth(*chain, log_prob, prepared.first, prepared.weight)
        counts = MarkovStatistics(chain.initial * found.initial, chain.transitions * found.transitions)
        return Posterior(found.log_likelihood, found.responsibilities, counts)

    def terms(self, params: MarkovParams, log_prob: Array, prepared: MarkovData) -> Terms:
        """One a row: its log density given the rows before it; a cluster is a sequence. Scores are uncorrelated."""
        ahead = self.predicted(params, log_prob, prepared)
        cluster = jnp.cumsum(prepared.first, dtype=jnp.int32) - 1
        return Terms(recursions.log_sum_exp(ahead + log_prob, 0), prepared.weight, cluster)

    def probabilities(self, params: MarkovParams, log_prob: Array, prepared: MarkovData) -> Array:
        """Smoothed probabilities of the states of each row, (K, n)."""
        everywhere = jnp.ones_like(prepared.first)
        return recursions.smooth(*self._chain(params, prepared), log_prob, prepared.first, everywhere).responsibilities

    def decode(self, params: MarkovParams, log_prob: Array, prepared: MarkovData) -> Array:
        """The most probable path of each sequence, (n,)."""
        return recursions.best_path(*self._chain(params, prepared), log_prob, prepared.first)

    def predicted(self, params: MarkovParams, log_prob: Array, prepared: MarkovData) -> Array:
        """Log-probabilities of the states of each row given the rows before it, (K, n)."""
        return recursions.predict(*self._chain(params, prepared), log_prob, prepared.first)

    def maximize(self, statistics: MarkovStatistics, params: MarkovParams, prepared: MarkovData) -> MarkovParams:
        """Shares of the expected counts, priors' pseudo-counts added; of a stationary chain, steps up Q."""
        prior, fixed = prepared.prior or NOTHING, prepared.fixed or NOTHING
        counts, entering = statistics.transitions, statistics.initial
        if prior.transitions is not None:
            counts = counts + (prior.transitions.concentration - 1.0)
        if prior.initial is not None:
            entering = entering + (prior.initial.concentration - 1.0)
        if fixed.transitions is not None:
            transitions = fixed.transitions
        elif self.stationary:
            transitions = transition_step.with_stationary_start(counts, entering, params.transitions)
        else:
            transitions = transition_step.shares(counts, params.transitions)
        initial = fixed.initial
        if initial is None:
            initial = (
                recursions.stationary(transitions)
                if self.stationary
                else transition_step.shares(entering, params.initial)
            )
        return MarkovParams(initial, transitions)

    # --- what start strategies are made of --------------------------------------------------------------------------

    def node_weight(self, prepared: MarkovData) -> Array:
        """Weight of each row, (n,); 0 where nothing was observed."""
        if prepared.observed is None:
            return prepared.weight
        return jnp.where(prepared.observed, prepared.weight, jnp.zeros((), prepared.weight.dtype))

    def gather(self, log_prob: Array, prepared: MarkovData) -> Array:
        """The nodes are the rows."""
        return log_prob

    def spread(self, resp: Array, prepared: MarkovData) -> Array:
        """The nodes are the rows."""
        return resp

    def initial(self, prepared: Any, resp: Array) -> MarkovParams:
        """A chain that stays where it is, whatever the invented responsibilities; every first state equally likely.

        Their soft counts reach the best optimum less often: random labels say nothing of transitions, and one first
        row would decide for good.
        """
        n_components, dtype = resp.shape[0], resp.dtype
        leave = (1.0 - STICKY) / max(1, n_components - 1)
        transitions = leave + ((STICKY if n_components > 1 else 1.0) - leave) * jnp.eye(n_components, dtype=dtype)
        initial = jnp.full(n_components, 1.0 / n_components, dtype)
        fixed = prepared.fixed or NOTHING
        transitions = transitions if fixed.transitions is None else fixed.transitions
        if self.stationary:
            initial = recursions.stationary(transitions)
        return MarkovParams(initial if fixed.initial is None else fixed.initial, transitions)

    # --- what the engine watches ------------------------------------------------------------------------------------

    def log_prior(self, params: MarkovParams, prepared: MarkovData) -> Array:
        """Dirichlet log densities in the probabilities, nats."""
        value = jnp.zeros((), params.transitions.dtype)
        prior = prepared.prior or NOTHING
        if prior.initial is not None:
            value = value + priors.log_dirichlet(params.initial, prior.initial.concentration)
        if prior.transitions is not None:
            for k in range(params.transitions.shape[0]):
                value = value + priors.log_dirichlet(params.transitions[k], prior.transitions.concentration[k])
        return value

    def flags(self, params: MarkovParams, statistics: MarkovStatistics, prepared: MarkovData) -> Array:
        """BOUNDARY where a free probability is at 0, as the first ones of a single sequence are but for one."""
        free = [
            jnp.any(part < AT_ZERO)
            for part, fixed in zip(params, prepared.fixed or NOTHING, strict=True)
            if fixed is None
        ]
        at_zero = jnp.any(jnp.stack([*free, jnp.zeros((), bool)]))
        return jnp.where(at_zero, jnp.int32(Flag.BOUNDARY), jnp.int32(0))

    def relabel(self, params: Any, permutation: Array) -> MarkovParams:
        """State k of the result is state permutation[k] of `params`."""
        return MarkovParams(params.initial[permutation], params.transitions[permutation][:, permutation])

    def order(self, params: MarkovParams, prepared: MarkovData) -> Array:
        """The labels as they are: `to_free` finds its own baselines."""
        return jnp.arange(params.initial.shape[0])

    def empty(self, params: MarkovParams, prepared: Any) -> Array:
        """States that cannot be reached, (K,) bool: nothing of their own is identified."""
        reached = params.initial >= AT_ZERO
        possible = params.transitions >= AT_ZERO
        for _ in range(params.initial.shape[0] - 1):
            reached |= jnp.any(possible & reached[:, None], axis=0)
        return ~reached

    def boundary(self, params: MarkovParams, prepared: MarkovData) -> Array:
        """As `Model.boundary`: probabilities at 0, and the transitions out of states that cannot be reached."""
        n_components = params.initial.shape[0]
        parts = [jnp.zeros(0, jnp.int32)]
        if self._free_initial(prepared):
            kept = coordinates.others(params.initial, n_components - 1)[0]
            parts.append((kept < AT_ZERO).astype(jnp.int32))
        if self._free_transitions(prepared):
            empty = self.empty(params, prepared)
            for k in range(n_components):
                kept = coordinates.others(params.transitions[k], k)[0]
                parts.append(jnp.where(empty[k], jnp.int32(2), (kept < AT_ZERO).astype(jnp.int32)))
        return jnp.concatenate(parts)

    # --- coordinates, units -----------------------------------------------------------------------------------------

    def _free_initial(self, prepared: Any) -> bool:
        return not self.stationary and (prepared.fixed is None or prepared.fixed.initial is None)

    def _free_transitions(self, prepared: Any) -> bool:
        return prepared.fixed is None or prepared.fixed.transitions is None

    def to_user(self, params: MarkovParams, prepared: MarkovData) -> MarkovParams:
        """The same: probabilities have no units."""
        return params

    def from_user(self, params: MarkovParams, prepared: MarkovData) -> MarkovParams:
        """Probabilities that sum to one; of a stationary chain the first ones that belong to its transitions."""
        return self._normalised(params)

    def n_free(self, prepared: MarkovData, n_components: int) -> int:
        """K - 1 for a free start, also where it ends at a vertex; K (K - 1) transitions."""
        of_initial = n_components - 1 if self._free_initial(prepared) else 0
        return of_initial + (n_components * (n_components - 1) if self._free_transitions(prepared) else 0)

    def to_free(self, params: MarkovParams, prepared: MarkovData) -> Array:
        """Log-ratios: of the first probabilities against the last, of each row of transitions against its diagonal.

        A baseline near zero is replaced by the largest probability of its row.
        """
        n_components = params.initial.shape[0]
        parts = [jnp.zeros(0, params.transitions.dtype)]
        if self._free_initial(prepared):
            parts.append(coordinates.log_ratios(params.initial, n_components - 1))
        if self._free_transitions(prepared):
            parts += [coordinates.log_ratios(params.transitions[k], k) for k in range(n_components)]
        return jnp.concatenate(parts)

    def from_free(
        self, free: Array, prepared: MarkovData, n_components: int, like: MarkovParams | None = None
    ) -> MarkovParams:
        """The inverse of `to_free`; the baselines are those of `like`, by default the last and the diagonal ones."""
        fixed = prepared.fixed or NOTHING
        initial, transitions = fixed.initial, fixed.transitions
        if self._free_initial(prepared):
            own, free = free[: n_components - 1], free[n_components - 1 :]
            initial = coordinates.from_log_ratios(own, n_components - 1, None if like is None else like.initial)
        if transitions is None:
            rows = free.reshape(n_components, n_components - 1)
            transitions = jnp.stack(
                [
                    coordinates.from_log_ratios(rows[k], k, None if like is None else like.transitions[k])
                    for k in range(n_components)
                ]
            )
        if initial is None:
            initial = recursions.stationary(transitions)
        return MarkovParams(initial, transitions)

    def sample(self, key: Array, params: MarkovParams, data: Data) -> Array:
        """The state of each row, (n,), drawn with user's parameters; without `unit` the rows are one sequence."""
        return recursions.draw(key, *self._normalised(params), units.begins(data.unit, data.y.shape[0]))

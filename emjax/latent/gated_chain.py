"""A hidden Markov chain whose first state and transitions depend on covariates z."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import jax.numpy as jnp
import numpy as np

from emjax.base import multinomial_logit, recursions, supports, units
from emjax.base.records import Array, Data, Posterior
from emjax.base.registry import register
from emjax.base.status import DataError, Flag, Problem
from emjax.latent.chain_rows import ConstantRows, GatedRows
from emjax.latent.markov_chain import MarkovChain, MarkovParams


@register
class GatedMarkovParams(NamedTuple):
    """Row: from, column: to; coefficients of logits, the intercept first.

    transitions (K, K, 1 + c), the coefficients of staying 0; or (K, K), probabilities, where they are constant.
    initial (K, 1 + c), the last state's 0; or (K,), probabilities, where it is free.
    """

    initial: Array
    transitions: Array

    @property
    def supports(self) -> dict[str, str]:
        """See `emjax.base.supports`: with any leading axes, the ranks differ by 2, 1 or 0."""
        apart = np.ndim(self.transitions) - np.ndim(self.initial)
        return {
            "initial": supports.PROBABILITY if apart == 2 else supports.REAL,
            "transitions": supports.PROBABILITY if apart == 0 else supports.REAL,
        }


NOTHING = GatedMarkovParams(None, None)  # fixed


class GatedChainStatistics(NamedTuple):
    """Expected counts where constant, score and information at the current coefficients where gated."""

    initial: Any
    transitions: Any


class GatedChainData(NamedTuple):
    """Rows: weight (n,) of their sequence, bool where all are 0 or 1; whether they begin one, (n,); whether they hold
    an observation, (n,) or None. What gates the first state and the transitions, or None; fixed blocks in prepared
    units, None where there is none, or None."""

    weight: Array
    first: Array
    observed: Array | None
    initial: Any
    transitions: Any
    fixed: Any


@register
@dataclass(frozen=True)
class GatedChain(MarkovChain):
    """The latent structure of a hidden Markov model with covariates, multinomial logits of Data.z.

    log(P(s_t = k | s_{t-1} = j) / P(s_t = j | s_{t-1} = j)) = transitions_jk' (1, z_t): the transition INTO row t
    depends on z of row t. depmixS4, and the models of Diebold, Lee & Weinbach (1994, in Hargreaves (ed.), Nonstationary
    Time Series Analysis and Cointegration) and Filardo (1994, Journal of Business & Economic Statistics 12), take z of
    the row that is left: shift z by one row for their convention. A first state depends on z of its sequence's first
    row, against the last state. EM for such chains: Diebold, Lee & Weinbach.

    initial_distribution : "free", probabilities, or "gated". transition_probabilities : "gated", or "constant".
    Data: z (n, c), finite also where y is missing; c = 0 gives constant probabilities. Where only transitions are gated
    z of a sequence's first row is not used and may be NaN (a lagged covariate has no value there), and z of the others
    where only the first state is. It is centred and scaled inside, over the rows that it is used in. There is no prior.

    The M-step is one Newton step a row of the transitions, shortened so that it cannot lower the objective. Where z
    separates the states the maximum lies at infinity: coefficients stay finite, and the fit has the flag BOUNDARY.
    """

    initial_distribution: Literal["free", "gated"] = "free"  # type: ignore[assignment]
    transition_probabilities: Literal["gated", "constant"] = "gated"
    blocks: ClassVar[Any] = GatedMarkovParams
    prior_names: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        initial, transitions = self.initial_distribution, self.transition_probabilities
        if transitions not in ("constant", "gated"):
            raise DataError(f"transition_probabilities={transitions!r}: use 'constant' or 'gated'.")
        if initial == "stationary":
            raise DataError(
                "initial_distribution='stationary' with gated transitions: a chain that changes with z has no "
                "equilibrium; use 'free' or 'gated'."
            )
        if initial not in ("free", "gated"):
            raise DataError(f"initial_distribution={initial!r}: with gated transitions use 'free' or 'gated'.")
        if (initial, transitions) == ("free", "constant"):
            raise DataError("GatedChain('free', 'constant') has no use for covariates: use MarkovChain('free').")

    @property
    def _initial(self) -> ConstantRows:
        """The row of the first state."""
        return (GatedRows if self.initial_distribution == "gated" else ConstantRows)(diagonal=False)

    @property
    def _transitions(self) -> ConstantRows:
        """The rows of the transitions."""
        return (GatedRows if self.transition_probabilities == "gated" else ConstantRows)(diagonal=True)

    # --- on the host ------------------------------------------------------------------------------------------------

    def check(self, data: Data) -> None:
        """z must be there, (n, c)."""
        multinomial_logit.check(data, "A gated Markov chain", "states")

    def check_params(self, params: Any, exact: float = 1e-6) -> None:
        """Values, any leading axes, that are no probabilities or not finite raise `DataError`; None passes."""
        for name, value, rows in zip(params._fields, params, (self._initial, self._transitions), strict=True):
            if not isinstance(rows, GatedRows):
                super().check_params(MarkovParams(**{**dict.fromkeys(MarkovParams._fields), name: value}), exact)
            elif value is not None and not np.all(np.isfinite(np.asarray(value, np.float64))):
                raise DataError(f"{name} coefficients must be finite.")

    def prepare(self, data: Data, n_components: int, prior: dict[str, Any], fixed: Any) -> tuple[GatedChainData, Array]:
        """Rows' weights, where sequences begin, and two designs: of first rows, and of all others."""
        chain, problem = super().prepare(data, n_components, {}, None)
        dtype = data.y.dtype
        z = jnp.asarray(data.z, dtype)
        used = chain.weight.astype(bool)
        nothing = jnp.zeros((), chain.weight.dtype)
        initial, found = self._initial.prepare(z, jnp.where(chain.first, chain.weight, nothing))
        transitions, more = self._transitions.prepare(z, jnp.where(chain.first, nothing, chain.weight))
        for rows, own in ((self._initial, chain.first), (self._transitions, ~chain.first)):
            if isinstance(rows, GatedRows) and z.shape[1] > 0:
                problem |= jnp.where(jnp.sum(own & used) < 1 + z.shape[1], Problem.TOO_FEW_ROWS, 0)
        prepared = GatedChainData(chain.weight, chain.first, chain.observed, initial, transitions, None)
        if fixed is not None:
            held = GatedMarkovParams(*(None if part is None else jnp.asarray(part, dtype) for part in fixed))
            prepared = prepared._replace(fixed=self.from_user(held, prepared))
        return prepared, problem | found | more

    # --- the E- and M-step ------------------------------------------------------------------------------------------

    def _probabilities(self, params: GatedMarkovParams, of_initial: Array, of_transitions: Array) -> MarkovParams:
        """Of every row: initial (n, K), transitions (n, K, K); designs (q, n)."""
        initial = self._initial.probabilities(params.initial[None], of_initial)
        return MarkovParams(initial[:, 0], self._transitions.probabilities(params.transitions, of_transitions))

    def _chain(self, params: GatedMarkovParams, prepared: GatedChainData) -> MarkovParams:
        ones = jnp.ones((1, prepared.first.shape[0]), params.transitions.dtype)
        designs = (ones if part is None else part.design.x for part in (prepared.initial, prepared.transitions))
        return self._probabilities(params, *designs)

    def infer(self, params: GatedMarkovParams, log_prob: Array, prepared: GatedChainData) -> Posterior:
        """Forward-backward; log_prob (K, n)."""
        chain = self._chain(params, prepared)
        found = recursions.smooth(*chain, log_prob, prepared.first, prepared.weight)
        entering, moves = chain.initial * found.initial, chain.transitions * found.transitions
        statistics = GatedChainStatistics(
            self._initial.statistics(chain.initial[:, None], entering[:, None], prepared.initial),
            self._transitions.statistics(chain.transitions, moves, prepared.transitions),
        )
        return Posterior(found.log_likelihood, found.responsibilities, statistics)

    def maximize(
        self, statistics: GatedChainStatistics, params: GatedMarkovParams, prepared: GatedChainData
    ) -> GatedMarkovParams:
        """Shares of the expected counts where constant, a Newton step where gated."""
        initial, transitions = prepared.fixed or NOTHING
        if initial is None:
            initial = self._initial.maximize(statistics.initial, params.initial[None], prepared.initial)[0]
        if transitions is None:
            transitions = self._transitions.maximize(statistics.transitions, params.transitions, prepared.transitions)
        return GatedMarkovParams(initial, transitions)

    def initial(self, prepared: GatedChainData, resp: Array) -> GatedMarkovParams:
        """As a constant chain starts, with slopes of 0."""
        chain = super().initial(prepared._replace(fixed=None), resp)
        initial, transitions = prepared.fixed or NOTHING
        if initial is None:
            initial = self._initial.start(chain.initial[None], prepared.initial)[0]
        if transitions is None:
            transitions = self._transitions.start(chain.transitions, prepared.transitions)
        return GatedMarkovParams(initial, transitions)

    # --- what the engine watches ------------------------------------------------------------------------------------

    def log_prior(self, params: GatedMarkovParams, prepared: GatedChainData) -> Array:
        """0: there is no prior."""
        return jnp.zeros((), params.transitions.dtype)

    def flags(self, params: GatedMarkovParams, statistics: GatedChainStatistics, prepared: GatedChainData) -> Array:
        """BOUNDARY where a free probability is at 0, or the data say nothing of a direction of free coefficients."""
        edge = jnp.zeros((), bool)
        if self._free_initial(prepared):
            edge |= self._initial.edge(statistics.initial, params.initial[None])
        if self._free_transitions(prepared):
            edge |= self._transitions.edge(statistics.transitions, params.transitions)
        return jnp.where(edge, jnp.int32(Flag.BOUNDARY), jnp.int32(0))

    def relabel(self, params: GatedMarkovParams, permutation: Array) -> GatedMarkovParams:
        """State k of the result is state permutation[k] of `params`; the new last first state is the baseline."""
        initial, transitions = super().relabel(params, permutation)
        # By the operators alone, so that NumPy stays NumPy.
        return GatedMarkovParams(
            initial - initial[-1:] if isinstance(self._initial, GatedRows) else initial, transitions
        )

    def _largest(self, params: GatedMarkovParams, prepared: GatedChainData) -> MarkovParams:
        """The largest probabilities over the data, (K,) and (K, K)."""
        chain, used = self._chain(params, prepared), prepared.weight.astype(bool)
        first, later = used & prepared.first, used & ~prepared.first
        return MarkovParams(
            jnp.max(jnp.where(first[:, None], chain.initial, 0.0), axis=0),
            jnp.max(jnp.where(later[:, None, None], chain.transitions, 0.0), axis=0),
        )

    def empty(self, params: GatedMarkovParams, prepared: GatedChainData) -> Array:
        """States that cannot be reached at any z, (K,) bool."""
        return super().empty(self._largest(params, prepared), prepared)

    def boundary(self, params: GatedMarkovParams, prepared: GatedChainData) -> Array:
        """As `Model.boundary`: states never entered, and all that concerns leaving states that cannot be reached."""
        largest, parts = self._largest(params, prepared), [jnp.zeros(0, jnp.int32)]
        if self._free_initial(prepared):
            parts.append(self._initial.boundary(params.initial[None], largest.initial[None]))
        if self._free_transitions(prepared):
            code = self._transitions.boundary(params.transitions, largest.transitions)
            empty = jnp.repeat(super().empty(largest, prepared), code.shape[0] // len(largest.initial))
            parts.append(jnp.where(empty, jnp.int32(2), code))
        return jnp.concatenate(parts)

    # --- coordinates, units -----------------------------------------------------------------------------------------

    def to_user(self, params: GatedMarkovParams, prepared: GatedChainData) -> GatedMarkovParams:
        """Coefficients of the user's z."""
        initial = self._initial.to_user(params.initial, prepared.initial)
        return GatedMarkovParams(initial, self._transitions.to_user(params.transitions, prepared.transitions))

    def from_user(self, params: GatedMarkovParams, prepared: GatedChainData) -> GatedMarkovParams:
        """Coefficients of the prepared z, those of the baselines 0; probabilities that sum to one; None stays None."""
        initial, transitions = params
        if initial is not None:
            initial = self._initial.from_user(initial[None], prepared.initial)[0]
        if transitions is not None:
            transitions = self._transitions.from_user(transitions, prepared.transitions)
        return GatedMarkovParams(initial, transitions)

    def _sizes(self, prepared: GatedChainData, n_components: int) -> tuple[int, int]:
        """Free coordinates of the first state and of the transitions."""
        initial = self._initial.n_free(1, n_components, prepared.initial)
        transitions = self._transitions.n_free(n_components, n_components, prepared.transitions)
        return initial * self._free_initial(prepared), transitions * self._free_transitions(prepared)

    def n_free(self, prepared: GatedChainData, n_components: int) -> int:
        """(K - 1) or (K - 1) (1 + c) of the first state, K (K - 1) (1 + c) of gated transitions."""
        return sum(self._sizes(prepared, n_components))

    def to_free(self, params: GatedMarkovParams, prepared: GatedChainData) -> Array:
        """Log-ratios, and coefficients of logits, against baselines; one near zero is replaced by a likelier state."""
        parts = [jnp.zeros(0, params.transitions.dtype)]
        if self._free_initial(prepared):
            parts.append(self._initial.to_free(params.initial[None]))
        if self._free_transitions(prepared):
            parts.append(self._transitions.to_free(params.transitions))
        return jnp.concatenate(parts)

    def from_free(
        self, free: Array, prepared: GatedChainData, n_components: int, like: GatedMarkovParams | None = None
    ) -> GatedMarkovParams:
        """The inverse of `to_free`; the baselines are those of `like`, by default the last and the diagonal ones."""
        split = self._sizes(prepared, n_components)[0]
        initial, transitions = prepared.fixed or NOTHING
        if initial is None:
            own = None if like is None else like.initial[None]
            initial = self._initial.from_free(free[:split], 1, n_components, own, prepared.initial)[0]
        if transitions is None:
            own = None if like is None else like.transitions
            transitions = self._transitions.from_free(
                free[split:], n_components, n_components, own, prepared.transitions
            )
        return GatedMarkovParams(initial, transitions)

    def sample(self, key: Array, params: GatedMarkovParams, data: Data) -> Array:
        """The state of each row, (n,), drawn with user's parameters; without `unit` the rows are one sequence."""
        n = data.y.shape[0]
        z = jnp.asarray(data.z, params.transitions.dtype)
        x = jnp.concatenate([jnp.ones((1, n), z.dtype), z.T])
        return recursions.draw(key, *self._probabilities(params, x, x), units.begins(data.unit, n))

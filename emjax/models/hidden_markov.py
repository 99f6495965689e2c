"""Hidden Markov models over any family; with a regression family, Markov-switching regression."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtri

from emjax.base import recursions, units
from emjax.base.records import Array, Data
from emjax.base.registry import register
from emjax.base.status import Problem
from emjax.latent.gated_chain import GatedChain
from emjax.latent.markov_chain import MarkovChain
from emjax.models.composed import BROKEN, Composed, ComposedData, MixtureParams


class HiddenMarkovPrediction(NamedTuple):
    """What a hidden Markov model says of n rows.

    responsibilities : (n, K), smoothed: probabilities of the states given the whole sequence.
    labels : (n,), the most probable path (Viterbi), which need not be the most probable state of each row.
    predicted : (n, K), probabilities of the states given the rows before it in its sequence.
    log_density : (n,), nats, of each row given those before it; 0 where nothing was observed. Their sum is the
        log-likelihood.
    pseudo_residuals : (n,), the normal quantile of each row's distribution function given the rows before it: standard
        normal under the model (Zucchini, MacDonald & Langrock 2016, section 6.2). Of a count the middle of its
        interval. None where the family has no distribution function in one dimension (`tails`): Categorical,
        Independent, several responses, a log density alone. NaN where nothing was observed. A tail's relative error is
        the log density's absolute one.
    pseudo_residual_bounds : (n, 2), the ends of that interval, equal where the response is continuous.
    """

    responsibilities: Array
    labels: Array
    predicted: Array
    log_density: Array
    pseudo_residuals: Array | None
    pseudo_residual_bounds: Array | None


@register
@dataclass(frozen=True)
class HiddenMarkov(Composed):
    """Rows in order; the component of each, its state, depends on that of the row before: a Markov chain.

    family : LinearRegression() for Markov-switching regression, Gaussian(), ...; n_components : K >= 1 states.
    initial_distribution : "free", the first state has probabilities of its own; "stationary", those of the chain in
        equilibrium; or "gated", a multinomial logit of z of its sequence's first row.
    transition_probabilities : "constant", or "gated", multinomial logits of Data.z (`GatedChain`): the transition into
        row t depends on z of row t; that of a sequence's first row is not used, and may be NaN. depmixS4 takes z of the
        row that is left: shift z by one row for its convention.
    Data: `unit` marks the sequences, one without it; `weight` has one entry a sequence. A row whose y is NaN, or whose
        `observed` is False, is missing: time passes, and nothing is seen.
    prior : {"initial": Dirichlet(...), "transitions": Dirichlet(...), "family": ...}, any of them; with z "family".
    fixed : {"initial": (K,), "transitions": (K, K), and the family's blocks by name}, in the user's units; where gated
        (K, 1 + c) and (K, K, 1 + c), see `GatedMarkovParams`.

    The free first probabilities of a single sequence end at 0 and 1: flag BOUNDARY, which is ordinary.
    `fit.predict()` gives a `HiddenMarkovPrediction`; BIC counts observed rows.
    """

    initial_distribution: Literal["free", "stationary", "gated"] = "free"
    transition_probabilities: Literal["constant", "gated"] = "constant"
    sequential: ClassVar[bool] = True

    @property
    def latent(self) -> MarkovChain:
        """The chain."""
        if self.transition_probabilities == "constant" and self.initial_distribution != "gated":
            return MarkovChain(self.initial_distribution)
        return GatedChain(self.initial_distribution, self.transition_probabilities)  # type: ignore[arg-type]

    def check_settings(self, prior: Any, fixed: Any, params: Any) -> None:
        """As for a mixture; nor may a stationary chain have first probabilities of its own."""
        super().check_settings(prior, fixed, params)
        self.latent.check_settings(prior, fixed)

    def read(self, data: Data) -> Data:
        """As of any sequence; z of rows that gate nothing is that of one that does.

        A sequence's first row has no transition into it, and only first rows begin one.
        """
        data = super().read(data)
        if data.z is None:
            return data
        z, first = np.asarray(data.z), np.asarray(units.begins(data.unit, len(data.y)))
        gates = np.where(first, self.initial_distribution == "gated", self.transition_probabilities == "gated")
        sound = np.flatnonzero(gates & np.all(np.isfinite(z), axis=1))
        return data._replace(z=np.where(gates[:, None], z, z[sound[0]] if len(sound) else 0.0))

    def culprit(self, data: Data, problem: Problem) -> str:
        """As for a mixture; gated probabilities need a sequence, or a transition, a coefficient."""
        known = super().culprit(data, problem)
        if known or not problem & Problem.TOO_FEW_ROWS or data.z is None:
            return known
        used = units.of_rows(np.asarray(data.weight, bool), data.unit)
        first, size = np.asarray(units.begins(data.unit, len(used))), 1 + np.shape(data.z)[1]
        few = [
            f"{count} {what} for {size} coefficients"
            for setting, count, what in (
                (self.initial_distribution, np.sum(first & used), "sequences"),
                (self.transition_probabilities, np.sum(~first & used), "transitions"),
            )
            if setting == "gated" and count < size
        ]
        return "; ".join([f"{len(used)} rows", *few]) if few else known

    def prepare(self, data: Data, prior: Any = None, fixed: Any = None) -> tuple[ComposedData, Array]:
        """Both parts' prepared data and `Problem` bits; a sequence with weight must hold an observation."""
        data = units.whole(data)
        prepared, problem = super().prepare(data, prior, fixed)
        weight, _ = units.weights(data)
        seen_rows = jnp.asarray(prepared.observed).astype(data.y.dtype)
        seen = jax.ops.segment_sum(seen_rows, jnp.asarray(data.unit), weight.shape[0])
        unseen = jnp.any(weight.astype(bool) & (seen == 0))
        # Where no sequence holds anything, too few rows and a constant response only follow from that.
        problem = jnp.where(unseen & ~jnp.any(seen > 0), problem & BROKEN, problem)
        return prepared, problem | jnp.where(unseen, Problem.NOTHING_OBSERVED, 0).astype(jnp.int32)

    def _observed(self, data: Data) -> tuple[Data, Any]:
        """A row is missing where all its cells are NaN; so are rows of weight 0, whatever they hold."""
        data = units.missing_unobserved(units.observed_rows(data)[0])
        observed = data.observed & units.of_rows(units.weights(data)[0], data.unit).astype(bool)
        return data._replace(observed=observed), observed

    def from_free(self, free: Array, prepared: ComposedData, like: Any = None) -> MixtureParams:
        """The inverse of `to_free`, whose baselines depend on the parameters: those of `like`."""
        split = self.latent.n_free(prepared.latent, self.n_components)
        given = None if like is None else self._extra_first(like.latent, prepared)
        latent = self.latent.from_free(free[:split], prepared.latent, self.n_components, given)
        return MixtureParams(
            self._extra_first(latent, prepared, back=True),
            self.family.from_free(free[split:], prepared.family, self.n_components),
        )

    def predict(self, params: MixtureParams, prepared: ComposedData) -> HiddenMarkovPrediction:
        """Smoothed, one-step-ahead and jointly most probable states, and pseudo-residuals, of the rows."""
        observed = jnp.asarray(prepared.observed)
        log_prob = self.log_prob(params, prepared)
        predicted = self.latent.predicted(params.latent, log_prob, prepared.latent)
        bounds = middle = None
        tails = getattr(self.family, "tails", lambda *_: None)(params.family, prepared.family)
        if tails is not None:
            bounds, middle = _pseudo_residuals(jnp.exp(predicted), *tails)
            bounds = jnp.where(observed[:, None], bounds, jnp.nan)
            middle = jnp.where(observed, middle, jnp.nan)
        return HiddenMarkovPrediction(
            self.latent.probabilities(params.latent, log_prob, prepared.latent).T,
            self.latent.decode(params.latent, log_prob, prepared.latent),
            jnp.exp(predicted).T,
            jnp.where(observed, recursions.log_sum_exp(predicted + log_prob, 0), 0.0),
            middle,
            bounds,
        )


def _pseudo_residuals(predicted: Array, below: Array, at: Array, above: Array) -> tuple[Array, Array]:
    """Bounds (n, 2) and middle (n,) from the states' probabilities and a family's `tails`, all (K, n)."""
    less, same, more = (jnp.sum(predicted * part, axis=0) for part in (below, at, above))
    ends = _quantile(less, same + more), _quantile(less + same, more)
    return jnp.stack(ends, axis=1), _quantile(less + 0.5 * same, more + 0.5 * same)


def _quantile(below: Array, above: Array) -> Array:
    """The normal quantile, from the smaller of both tails: 1 - 1e-20 is 1."""
    return jnp.where(below < above, ndtri(jnp.minimum(below, 0.5)), -ndtri(jnp.minimum(above, 0.5)))

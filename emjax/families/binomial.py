"""Binomial components: y ~ Binomial(trials, probability_k)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from emjax.base import counts, numerics, priors
from emjax.base.counts import BinomialRows
from emjax.base.one_parameter import AT_EDGE, OneParameter, OneParameterStatistics
from emjax.base.priors import BetaPrior
from emjax.base.records import Array, Data
from emjax.base.registry import register
from emjax.base.status import DataError


@register
class BinomialParams(NamedTuple):
    """probabilities (K,) of success."""

    probabilities: Array


class BinomialData(NamedTuple):
    """Prepared rows, prior (BetaPrior or None) and fixed values (BinomialParams or None)."""

    rows: BinomialRows
    prior: Any
    fixed: Any


@register
@dataclass(frozen=True)
class Binomial(OneParameter):
    """Family of binomial distributions, Bernoulli without `Data.trials`; the M-step is closed.

    Data: y (n,), successes; trials (n,), 1 each by default. One trial a row and no units identify no mixture.
    """

    blocks: ClassVar[Any] = BinomialParams

    @property
    def uses(self) -> tuple[str, ...]:
        """The trials."""
        return ("trials",)

    def check_params(self, params: BinomialParams) -> None:
        """Values that are not parameters raise `DataError`; blocks may be None."""
        if params.probabilities is None:
            return
        values = np.asarray(params.probabilities, np.float64)
        if not np.all((values >= 0) & (values <= 1)):
            raise DataError("probabilities must lie between 0 and 1.")

    def prepare(self, data: Data, n_components: int, prior: Any, fixed: Any) -> tuple[BinomialData, Array]:
        """Successes and trials, checked."""
        _, used = counts.used_rows(data)
        rows, problem = counts.binomial_rows(data, used)
        dtype = rows.y.dtype
        if prior is not None:
            prior = BetaPrior(jnp.asarray(prior.alpha, dtype), jnp.asarray(prior.beta, dtype))
        if fixed is not None:
            fixed = BinomialParams(_inside(jnp.asarray(fixed.probabilities, dtype)))
        return BinomialData(rows, prior, fixed), jnp.int32(problem)

    # --- the EM step ------------------------------------------------------------------------------------------------

    def log_prob(self, params: BinomialParams, prepared: BinomialData) -> Array:
        """(K, n), nats."""
        rows, p = prepared.rows, params.probabilities
        failures = (rows.trials - rows.y)[None, :] * jnp.log1p(-p)[:, None]
        return rows.log_choose[None, :] + rows.y[None, :] * jnp.log(p)[:, None] + failures

    def tails(self, params: BinomialParams, prepared: BinomialData) -> tuple[Array, Array, Array]:
        """P(Y < y), P(Y = y) and P(Y > y), (K, n) each."""
        return counts.binomial_tails(prepared.rows, self._to_free(params.probabilities)[:, None])

    def statistics(self, params: BinomialParams, prepared: BinomialData, resp: Array) -> OneParameterStatistics:
        """Rows, successes and trials."""
        rows = prepared.rows
        return OneParameterStatistics(*numerics.row_sums(resp, resp * rows.y[None, :], resp * rows.trials[None, :]))

    def maximize(self, statistics: OneParameterStatistics, params: BinomialParams, prepared: BinomialData) -> Any:
        """Share of successes, or the posterior mode under a beta prior; kept off 0 and 1."""
        if prepared.fixed is not None:
            return prepared.fixed
        events, exposure = statistics.events, statistics.exposure
        if prepared.prior is not None:
            alpha, beta = prepared.prior
            events, exposure = events + (alpha - 1.0), exposure + (alpha + beta - 2.0)
        return BinomialParams(_inside(events / jnp.maximum(exposure, jnp.finfo(events.dtype).tiny)))

    def initial(self, prepared: BinomialData, resp: Array, spread: Array) -> BinomialParams:
        """Share of successes at `resp`, one of two trials added: off 0 and 1, where EM would stay."""
        if prepared.fixed is not None:
            return prepared.fixed
        rows = prepared.rows
        events, trials = (jnp.sum(resp * values[None, :], axis=1) for values in (rows.y, rows.trials))
        return BinomialParams((events + 0.5) / (trials + 1.0))

    # --- what the engine watches, coordinates and units -------------------------------------------------------------

    def log_prior(self, params: BinomialParams, prepared: BinomialData) -> Array:
        """Beta log density in the probabilities, nats."""
        if prepared.prior is None:
            return jnp.zeros((), params.probabilities.dtype)
        return jnp.sum(priors.log_beta(params.probabilities, *prepared.prior))

    def _to_free(self, values: Array) -> Array:
        return jnp.log(values) - jnp.log1p(-values)

    def _from_free(self, free: Array) -> Array:
        return _inside(jax.nn.sigmoid(free))

    def _edges(self, values: Array) -> Array:
        # At 1 the logit's end is plus infinity, whose score the certificate does not judge.
        return jnp.where(values < AT_EDGE, 1, jnp.where(values > 1.0 - AT_EDGE, 2, 0)).astype(jnp.int32)

    def to_user(self, params: BinomialParams, prepared: BinomialData) -> BinomialParams:
        """The same: probabilities have no units."""
        return params

    def from_user(self, params: BinomialParams, prepared: BinomialData) -> BinomialParams:
        """The same, kept off 0 and 1."""
        return BinomialParams(_inside(params.probabilities))

    def sample(self, key: Array, params: BinomialParams, data: Data, labels: Array) -> Array:
        """y (n,) given the component of each row."""
        p = params.probabilities[labels]
        trials = jnp.ones_like(p) if data.trials is None else jnp.asarray(data.trials, p.dtype)
        return jax.random.binomial(key, trials, p, dtype=p.dtype)


def _inside(p: Array) -> Array:
    """Probabilities whose logarithms, and those of their complements, are finite."""
    info = jnp.finfo(p.dtype)
    return jnp.clip(p, info.tiny, 1.0 - info.eps)

"""Negative binomial regression in each component: counts with log mean x' beta_k + offset and a size of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from emjax.base import bounded, design, numerics, overdispersion, positive, special
from emjax.base import coefficients as shares
from emjax.base.design import Design
from emjax.base.overdispersion import Counts
from emjax.base.protocols import FamilyDefaults
from emjax.base.records import Array, Data
from emjax.base.registry import register
from emjax.base.settings import Degeneracy
from emjax.base.status import DataError, Flag

LONGEST = 2.0  # step of the coefficients, prepared units: about the root mean square change of the log means


@register
class NegativeBinomialRegressionParams(NamedTuple):
    """coefficients (K, p) of the log mean, the intercept first; sizes (K,), a large finite number at infinity."""

    coefficients: Array
    sizes: Array


class NegativeBinomialRegressionStatistics(NamedTuple):
    """At the current parameters, weighted by responsibility.

    counts (K,); information (K, p, p) and score (K, p) of the coefficients; first and second derivative of Q in the
    log sizes (K,).
    """

    total: Array
    information: Array
    score: Array
    size_score: Array
    size_curvature: Array


class NegativeBinomialRegressionData(NamedTuple):
    """Prepared: covariates centred and scaled; counts have no units."""

    counts: Counts
    design: Design
    fixed: Any  # NegativeBinomialRegressionParams in prepared units with None where free, or None


Params = NegativeBinomialRegressionParams
Prepared = NegativeBinomialRegressionData


@register
@dataclass(frozen=True)
class NegativeBinomialRegression(FamilyDefaults):
    """Family of negative binomial regressions with log link (NB2: variance m + m^2 / size).

    intercept : put a column of ones first. Data: y (n,), counts; x (n, p) or None for the intercept alone; optional
    offset (n,) of the log mean. The M-step is one step of Fisher scoring for the coefficients and one guarded Newton
    step for the log size: coefficients and size are orthogonal (Lawless 1987, Canadian Journal of Statistics 15).
    BOUNDARY where a size is at infinity, the Poisson limit, or coefficients are, as where all counts are 0. The
    likelihood is bounded: only a `Degeneracy(min_rows=...)` of one's own makes a fit DEGENERATE.
    """

    intercept: bool = True
    blocks: ClassVar[Any] = Params

    def __post_init__(self) -> None:
        shares.check_intercept("NegativeBinomialRegression", self.intercept)

    @property
    def monotone(self) -> bool:
        """Both steps are Newton's."""
        return False

    @property
    def uses(self) -> tuple[str, ...]:
        """Covariates and offset."""
        return ("x", "offset")

    def check(self, data: Data) -> None:
        """y must be one column; without an intercept there must be covariates."""
        shares.check_data(self, data)

    def check_params(self, params: Params) -> None:
        """Values that are not parameters raise `DataError`; blocks may be None."""
        shares.check_coefficients(params.coefficients, None, self.intercept)
        positive.check_values("sizes", params.sizes)

    def prepare(self, data: Data, n_components: int, prior: Any, fixed: Any) -> tuple[Prepared, Array]:
        """Counts, and the design centred (with an intercept) and scaled."""
        if prior is not None:
            raise DataError("NegativeBinomialRegression has no conjugate prior: leave out prior['family'].")
        found, x, weight, problem = overdispersion.prepare(data)
        dtype = found.y.dtype
        columns, more = design.prepare(x, weight, self.intercept, jnp.zeros((), dtype), jnp.ones((), dtype))
        prepared = Prepared(found, columns, None)
        if fixed is not None:
            blocks = Params(*(f if f is None else jnp.asarray(f, dtype) for f in fixed))
            if blocks.coefficients is not None:
                blocks = self.from_user(blocks, prepared)
            prepared = prepared._replace(fixed=blocks)
        return prepared, jnp.int32(problem | more)

    # --- the EM step ------------------------------------------------------------------------------------------------

    def _log_means(self, coefficients: Array, prepared: Prepared) -> Array:
        log_means = numerics.linear(coefficients, prepared.design.x)
        return log_means if prepared.counts.offset is None else log_means + prepared.counts.offset[None, :]

    def log_prob(self, params: Params, prepared: Prepared) -> Array:
        """(K, n), nats."""
        return overdispersion.log_density(self._log_means(params.coefficients, prepared), params.sizes, prepared.counts)

    def tails(self, params: Params, prepared: Prepared) -> tuple[Array, Array, Array]:
        """P(Y < y), P(Y = y) and P(Y > y), (K, n) each."""
        return overdispersion.tails(self._log_means(params.coefficients, prepared), params.sizes, prepared.counts)

    def statistics(self, params: Params, prepared: Prepared, resp: Array) -> NegativeBinomialRegressionStatistics:
        """Scores and informations, additive at the current parameters."""
        y, s = prepared.counts.y[None, :], params.sizes[:, None]
        odds = self._log_means(params.coefficients, prepared) - jnp.log(s)  # log of mean over size
        above, below = jax.nn.sigmoid(odds), jax.nn.sigmoid(-odds)
        information, residual = s * above, y * below - s * above  # m / (1 + m / s), (y - m) / (1 + m / s)
        first, second = special.rising_slopes(y, s)
        score = first - s * jnp.logaddexp(odds, jnp.zeros((), y.dtype)) - residual
        curvature = score - second + information + residual * below
        xx, xe, total, of_size, bend = numerics.weighted_products(
            resp * information, resp * residual, prepared.design.x, resp, resp * score, resp * curvature
        )
        return NegativeBinomialRegressionStatistics(total, xx, xe, of_size, bend)

    def maximize(self, statistics: NegativeBinomialRegressionStatistics, params: Params, prepared: Prepared) -> Params:
        """One step each, no longer than `LONGEST`: far from the maximum Newton's step in a log mean is too long."""
        coefficients, sizes = prepared.fixed or Params(None, None)  # type: ignore[arg-type]
        if coefficients is None:
            step = numerics.solve_positive(design.ridged(statistics.information), statistics.score)
            length = jnp.sqrt(jnp.sum(step**2, axis=1))
            coefficients = params.coefficients + step * (LONGEST / jnp.maximum(length, LONGEST))[:, None]
        if sizes is None:
            score, curvature = statistics.size_score, statistics.size_curvature
            sizes = overdispersion.size_step(score, curvature, params.sizes, prepared.counts.mean)
        return Params(coefficients, sizes)

    def initial(self, prepared: Prepared, resp: Array, spread: Array) -> Params:
        """Least squares of log(y + 1/2) at `resp`; one size by moments, weighted by `spread`."""
        logs = jnp.log(prepared.counts.y + 0.5)
        if prepared.counts.offset is not None:
            logs = logs - prepared.counts.offset
        coefficients = design.least_squares(prepared.design, logs, resp)
        if prepared.fixed is not None and prepared.fixed.coefficients is not None:
            coefficients = prepared.fixed.coefficients
        highest = jnp.log(4.0 * jnp.max(prepared.counts.y) + 1.0)
        means = jnp.exp(jnp.minimum(self._log_means(coefficients, prepared), highest))
        size = overdispersion.pooled_size(means, prepared.counts, spread)
        sizes = size * jnp.ones(resp.shape[0], resp.dtype)
        if prepared.fixed is not None and prepared.fixed.sizes is not None:
            sizes = prepared.fixed.sizes
        return Params(coefficients, sizes)

    def elemental(self, prepared: Prepared) -> int:
        """One row more than coefficients."""
        return prepared.design.x.shape[0] + 1

    # --- what the engine watches ------------------------------------------------------------------------------------

    def log_prior(self, params: Params, prepared: Prepared) -> Array:
        """No prior."""
        return jnp.zeros((), prepared.counts.y.dtype)

    def flags(
        self,
        params: Params,
        statistics: NegativeBinomialRegressionStatistics,
        prepared: Prepared,
        degeneracy: Degeneracy,
    ) -> Array:
        """BOUNDARY where coefficients or a size run to infinity; SUSPECT where a component has few rows."""
        edge = jnp.any(self.boundary(params, prepared) > 0)
        if (prepared.fixed or (None, None))[0] is None:
            edge |= design.unheld(statistics.information)
        size = params.coefficients.shape[1] + 1
        return jnp.where(edge, Flag.BOUNDARY, 0) | bounded.flags(statistics.total, size, degeneracy)

    def boundary(self, params: Params, prepared: Prepared) -> Array:
        """As `Model.boundary`: a dispersion of 0."""
        coefficients, sizes = prepared.fixed or (None, None)
        codes = [jnp.zeros(0 if coefficients is not None else params.coefficients.size, jnp.int32)]
        if sizes is None:
            codes.append(overdispersion.at_poisson(params.sizes, prepared.counts.mean).astype(jnp.int32))
        return jnp.concatenate(codes)

    def relabel(self, params: Params, permutation: Array) -> Params:
        """Component k of the result is component permutation[k] of `params`."""
        return Params(params.coefficients[permutation], params.sizes[permutation])

    # --- coordinates and units --------------------------------------------------------------------------------------

    def component_of_free(self, prepared: Prepared, n_components: int) -> tuple[int, ...]:
        """Coefficients component by component, then log dispersions."""
        coefficients, sizes = prepared.fixed or (None, None)
        p, owners = prepared.design.x.shape[0], list(range(n_components))
        first = [k for k in owners for _ in range(p)] if coefficients is None else []
        return tuple(first + (owners if sizes is None else []))

    def n_free(self, prepared: Prepared, n_components: int) -> int:
        """Number of free coordinates."""
        return len(self.component_of_free(prepared, n_components))

    def to_free(self, params: Params, prepared: Prepared) -> Array:
        """Coefficients, then log dispersions, minus the log sizes."""
        held = prepared.fixed or (None, None)
        blocks = (params.coefficients.reshape(-1), -jnp.log(params.sizes))
        free = [block for block, fixed in zip(blocks, held) if fixed is None]
        return jnp.concatenate([jnp.zeros(0, prepared.counts.y.dtype), *free])

    def from_free(self, free: Array, prepared: Prepared, n_components: int) -> Params:
        """The inverse of `to_free`."""
        coefficients, sizes = prepared.fixed or (None, None)
        if coefficients is None:
            size = n_components * prepared.design.x.shape[0]
            coefficients, free = free[:size].reshape(n_components, -1), free[size:]
        return Params(coefficients, jnp.exp(-free) if sizes is None else sizes)

    def to_user(self, params: Params, prepared: Prepared) -> Params:
        """Coefficients in the units of the user's x."""
        coefficients = numerics.multiply(params.coefficients, prepared.design.to_user.T)
        return params._replace(coefficients=coefficients)

    def from_user(self, params: Params, prepared: Prepared) -> Params:
        """The inverse of `to_user`."""
        coefficients = numerics.multiply(params.coefficients, prepared.design.to_prepared.T)
        return params._replace(coefficients=coefficients)

    def sample(self, key: Array, params: Params, data: Data, labels: Array) -> Array:
        """y (n,) given the component of each row."""
        log_means = design.predictor(params.coefficients, data, labels, self.intercept)
        return overdispersion.sample(key, jnp.exp(log_means), params.sizes[labels])

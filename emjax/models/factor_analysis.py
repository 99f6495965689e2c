"""Factor analysis by maximum likelihood, and probabilistic principal components."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from emjax.base import design, factors, numerics, responses, rotations, units
from emjax.base.family_defaults import refuse
from emjax.base.protocols import Model
from emjax.base.records import Array, Data, Expectation
from emjax.base.registry import register
from emjax.base.rotations import Anchors
from emjax.base.settings import Degeneracy
from emjax.base.status import DataError, Flag, Problem
from emjax.models.composed import BROKEN

JORESKOG = 0.5  # uniquenesses start at (1 - JORESKOG q / p) / (S^-1)_ii
PERTURBED = 0.5  # standard deviation of the logarithms of uniquenesses in a principal-factor start


@register
class FactorAnalysisParams(NamedTuple):
    """mean (p,); loadings (p, q); uniquenesses (p,), the variances of the noise, all equal where it is isotropic.

    In results loadings' diag(uniquenesses)^-1 loadings is diagonal and descends, and each factor's correlations with
    the variables have a positive sum.
    """

    mean: Array
    loadings: Array
    uniquenesses: Array


@register
class FactorScores(NamedTuple):
    """Factor scores of the rows, both (n, q), for the loadings as they are rotated.

    regression : posterior means (Thomson 1951), shrunk to 0. bartlett : weighted least squares (Bartlett 1937),
    unbiased given the factors.
    """

    regression: Array
    bartlett: Array


class FactorAnalysisData(NamedTuple):
    """Prepared: second moments about the mean, which all iterations run on; the rows are for scores alone."""

    y: Array  # (p, n)
    scatter: Array  # (p, p)
    total: Array  # sum of the weights
    n_rows: Array  # the same, or the number of rows where that is larger
    mean: Array  # (p,) user's units
    unit: Array  # (p,) user's units of one prepared unit; all equal where the noise is isotropic
    specific: Array  # (p,) variance of each variable that the others leave unexplained
    anchors: Anchors


@register
@dataclass(frozen=True)
class FactorAnalysis(Model):
    """y = mean + loadings f + e with factors f ~ N(0, I_q) and noise e ~ N(0, diag(uniquenesses)).

    n_factors : q >= 1. noise : "diagonal", or "isotropic" (probabilistic principal components, Tipping & Bishop 1999,
    Journal of the Royal Statistical Society B 61). min_uniqueness : the floor of a uniqueness, as a share of the
    variable's variance (of the mean variance where the noise is isotropic); one that ends there is a Heywood case and
    flagged BOUNDARY. R's factanal has 0.005.
    Data : y (n, p). Rows of one unit share their weight alone.

    An iteration does not depend on n: it maximises the likelihood itself, variable by variable (`factors.sweep`), or
    is an EM step (Rubin & Thayer 1982) where the noise is isotropic. Free coordinates: the mean, the loadings rotated
    so that those of q variables picked in `prepare` are lower triangular, the logarithms of the uniquenesses.
    Flags: BOUNDARY; SUSPECT where there are no more rows than variables.
    """

    n_factors: int
    noise: str = "diagonal"
    min_uniqueness: float = 1e-6

    def __post_init__(self) -> None:
        factors.check_settings("FactorAnalysis", self.n_factors, self.min_uniqueness)
        if self.noise not in ("diagonal", "isotropic"):
            raise DataError(f"FactorAnalysis(noise={self.noise!r}): use 'diagonal' or 'isotropic'.")

    @property
    def isotropic(self) -> bool:
        """One variance of the noise for all variables."""
        return self.noise == "isotropic"

    @property
    def strategies(self) -> tuple[str, ...]:
        """Random loadings, and principal factors from perturbed uniquenesses, by turns."""
        return ("random", "principal-factor")

    # --- on the host ------------------------------------------------------------------------------------------------

    def check(self, data: Data) -> None:
        """y must be (n, p), with p large enough for so many factors; nothing else but units and weights."""
        if np.ndim(data.y) != 2:
            raise DataError(f"FactorAnalysis needs y of shape (n, p), not {np.shape(data.y)}.")
        unused = ("x", "z", "offset", "trials")
        refuse(data, unused, lambda name: f"FactorAnalysis has no {name}: leave it out of Data.")
        factors.check_identified(np.shape(data.y)[1], self.n_factors, self.isotropic)

    def check_settings(self, prior: Any, fixed: Any, params: Any) -> None:
        """There are no priors and no fixed blocks; a start must be in the parameter space."""
        if prior is not None or fixed is not None:
            raise DataError("FactorAnalysis takes neither prior= nor fixed=: leave them out.")
        if params is not None:
            factors.check_params(params, "start: ")

    # --- once per dataset -------------------------------------------------------------------------------------------

    def prepare(self, data: Data, prior: Any = None, fixed: Any = None) -> tuple[FactorAnalysisData, Array]:
        """Mean and second moments, once."""
        data, observed = units.observed_rows(data)
        weight, problem = units.weights(data)
        rows = units.of_rows(weight, data.unit).astype(data.y.dtype)
        if observed is not None:
            rows = jnp.where(observed, rows, 0.0)
        found, more = responses.standardise(data.y, rows, self.isotropic)
        total = design.total_weight(rows)
        n_rows = jnp.maximum(total, jnp.sum(rows > 0).astype(rows.dtype))
        problem |= more | jnp.where(n_rows < self.n_factors + 2, Problem.TOO_FEW_ROWS, 0)
        p = found.scatter.shape[0]
        if not self.isotropic:
            problem |= jnp.where(responses.dependent(found) & (n_rows > p), Problem.COLLINEAR, 0)
        problem = jnp.where((problem & BROKEN) > 0, problem & BROKEN, problem)
        lower = numerics.inverse_lower(numerics.cholesky(found.scatter))
        specific = 1.0 / jnp.maximum(jnp.sum(lower**2, axis=0), jnp.finfo(rows.dtype).tiny)
        specific = self._noise(jnp.clip(specific, 0.05 * jnp.diagonal(found.scatter), jnp.diagonal(found.scatter)))
        leading = factors.principal_factors(found.scatter, specific, self.n_factors)
        prepared = FactorAnalysisData(
            y=found.y,
            scatter=found.scatter,
            total=total,
            n_rows=n_rows,
            mean=found.mean,
            unit=found.unit,
            specific=specific,
            anchors=rotations.anchors(leading, self.n_factors),
        )
        return prepared, jnp.int32(problem)

    def _noise(self, variances: Array) -> Array:
        """Variances (p,) as the noise has them."""
        return jnp.broadcast_to(jnp.mean(variances), variances.shape) if self.isotropic else variances

    # --- starts and steps -------------------------------------------------------------------------------------------

    def start(self, key: Array, prepared: FactorAnalysisData, strategy: str) -> FactorAnalysisParams:
        """random : loadings in random directions, uniquenesses 0.1 to 0.9 of the variances. principal-factor :
        Jöreskog's uniquenesses (1967, Psychometrika 32), perturbed, and the principal factors that go with them."""
        variance = jnp.diagonal(prepared.scatter)
        p, q, dtype = variance.shape[0], self.n_factors, variance.dtype
        if strategy == "random":
            draw_noise, draw_loadings = jax.random.split(key)
            uniquenesses = variance * jax.random.uniform(draw_noise, (p,), dtype, 0.1, 0.9)
            ways = jax.random.normal(draw_loadings, (p, q), dtype)
            length = jnp.sqrt((variance - uniquenesses) / jnp.sum(ways**2, axis=1))
            loadings = ways * length[:, None]
        else:
            shift = jnp.exp(PERTURBED * jax.random.normal(key, (p,), dtype))
            uniquenesses = (1.0 - JORESKOG * q / p) * prepared.specific * shift
            uniquenesses = jnp.clip(uniquenesses, 0.005 * variance, 0.9 * variance)
            loadings = factors.principal_factors(prepared.scatter, uniquenesses, q)
        return FactorAnalysisParams(jnp.zeros_like(variance), loadings, self._noise(uniquenesses))

    def expect(self, params: FactorAnalysisParams, prepared: FactorAnalysisData) -> Expectation:
        """The log-likelihood; second moments about the sample mean are all that the step needs."""
        uniquenesses = factors.held(params.uniquenesses, self._floor(params))
        scatter = prepared.scatter + params.mean[:, None] * params.mean[None, :]
        mean = factors.mean_log_density(scatter, params.loadings, uniquenesses)
        return Expectation(prepared.total * (mean - jnp.sum(jnp.log(prepared.unit))), prepared.scatter)

    def maximize(
        self, statistics: Array, params: FactorAnalysisParams, prepared: FactorAnalysisData
    ) -> FactorAnalysisParams:
        """The sample mean, and one sweep over the variables, or one EM step where the noise is isotropic."""
        floor = self._floor(params)
        if self.isotropic:
            loadings, squares = factors.expectation_step(statistics, params.loadings, params.uniquenesses)
            uniquenesses = jnp.maximum(self._noise(squares), floor)
        else:
            loadings, uniquenesses = factors.sweep(statistics, params.loadings, params.uniquenesses, floor)
        return FactorAnalysisParams(jnp.zeros_like(params.mean), loadings, uniquenesses)

    def _floor(self, params: FactorAnalysisParams) -> Array:
        return jnp.asarray(self.min_uniqueness, params.uniquenesses.dtype)

    # --- what the engine watches ------------------------------------------------------------------------------------

    def log_prior(self, params: FactorAnalysisParams, prepared: FactorAnalysisData) -> Array:
        """0: there is no prior."""
        return jnp.zeros((), prepared.scatter.dtype)

    def flags(
        self, params: FactorAnalysisParams, statistics: Any, prepared: FactorAnalysisData, degeneracy: Degeneracy
    ) -> Array:
        """BOUNDARY for a Heywood case; SUSPECT where the sample covariance is singular."""
        heywood = jnp.any(factors.at_floor(params.uniquenesses, self._floor(params)))
        singular = prepared.n_rows <= prepared.scatter.shape[0]
        return jnp.where(heywood, Flag.BOUNDARY, 0) | jnp.where(singular, Flag.SUSPECT, 0)

    def boundary(self, params: FactorAnalysisParams, prepared: FactorAnalysisData) -> Array:
        """Logarithms of uniquenesses at their floor: the sign of their scores is checked."""
        p = prepared.scatter.shape[0]
        inside = jnp.zeros(p + rotations.n_loadings(p, self.n_factors), jnp.int32)
        edge = factors.at_floor(params.uniquenesses, self._floor(params)).astype(jnp.int32)
        return jnp.concatenate([inside, edge[: self._n_noise(p)]])

    def _n_noise(self, p: int) -> int:
        return 1 if self.isotropic else p

    # --- coordinates, units, predictions ----------------------------------------------------------------------------

    def to_free(self, params: FactorAnalysisParams, prepared: FactorAnalysisData) -> Array:
        """Mean (p,), loadings (p q - q (q - 1) / 2,), log uniquenesses (p,) or (1,)."""
        loadings = rotations.loadings_to_free(params.loadings, prepared.anchors)
        noise = jnp.log(params.uniquenesses[: self._n_noise(params.uniquenesses.shape[0])])
        return jnp.concatenate([params.mean, loadings, noise])

    def from_free(self, free: Array, prepared: FactorAnalysisData, like: Any = None) -> FactorAnalysisParams:
        """The inverse of `to_free`, up to a rotation of the loadings."""
        p = prepared.scatter.shape[0]
        end = p + rotations.n_loadings(p, self.n_factors)
        loadings = rotations.loadings_from_free(free[p:end], prepared.anchors, self.n_factors)
        uniquenesses = jnp.broadcast_to(jnp.exp(free[end:]), (p,))
        return FactorAnalysisParams(free[:p], loadings, uniquenesses)

    def to_user(self, params: FactorAnalysisParams, prepared: FactorAnalysisData) -> FactorAnalysisParams:
        """User's units, and the loadings' principal axes."""
        loadings = rotations.principal_axes(params.loadings, params.uniquenesses)
        unit = prepared.unit
        return FactorAnalysisParams(
            params.mean * unit + prepared.mean, loadings * unit[:, None], params.uniquenesses * unit**2
        )

    def from_user(self, params: FactorAnalysisParams, prepared: FactorAnalysisData) -> FactorAnalysisParams:
        """Prepared units; the loadings stay rotated as they are."""
        unit = prepared.unit
        return FactorAnalysisParams(
            (params.mean - prepared.mean) / unit, params.loadings / unit[:, None], params.uniquenesses / unit**2
        )

    def predict(self, params: FactorAnalysisParams, prepared: FactorAnalysisData) -> FactorScores:
        """Factor scores of the rows."""
        away = prepared.y - params.mean[:, None]
        regression = numerics.multiply(factors.inverse(params.loadings, params.uniquenesses).scores, away)
        weighted = params.loadings / params.uniquenesses[:, None]
        gram = design.ridged(numerics.multiply(weighted.T, params.loadings))
        lower = numerics.inverse_lower(numerics.cholesky(gram))
        bartlett = numerics.multiply(lower.T, numerics.multiply(lower, numerics.multiply(weighted.T, away)))
        return FactorScores(regression.T, bartlett.T)

    def sample(self, key: Array, params: FactorAnalysisParams, data: Data) -> tuple[Data, Array]:
        """Data with y drawn from user's parameters, and the factors (n, q)."""
        draw_factors, draw_noise = jax.random.split(key)
        n, (p, q), dtype = jnp.shape(data.y)[0], params.loadings.shape, params.loadings.dtype
        scores = jax.random.normal(draw_factors, (n, q), dtype)
        noise = jax.random.normal(draw_noise, (n, p), dtype) * jnp.sqrt(params.uniquenesses)[None, :]
        y = params.mean[None, :] + numerics.multiply(scores, params.loadings.T) + noise
        return data._replace(y=y), scores


def ProbabilisticPCA(n_factors: int, min_uniqueness: float = 1e-6) -> FactorAnalysis:
    """Probabilistic principal components: factor analysis with isotropic noise (Tipping & Bishop 1999)."""
    return FactorAnalysis(n_factors, "isotropic", min_uniqueness)

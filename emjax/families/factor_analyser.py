"""Gaussian components whose covariances are those of a factor analysis: mixtures of factor analysers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from emjax.base import factors, numerics, responses, rotations
from emjax.base.covariances import CovarianceForm
from emjax.base.protocols import FamilyDefaults
from emjax.base.records import Array, Data
from emjax.base.registry import register
from emjax.base.rotations import Anchors
from emjax.base.settings import Degeneracy
from emjax.base.status import DataError, Flag, Problem

FULL = CovarianceForm("full", False)


@register
class FactorAnalyserParams(NamedTuple):
    """means (K, p); loadings (K, p, q); uniquenesses (K, p), equal rows where they are common.

    In results each loadings' diag(uniquenesses)^-1 loadings is diagonal and descends, and each
    factor's correlations with the variables have a positive sum.
    """

    means: Array
    loadings: Array
    uniquenesses: Array


class FactorAnalyserStatistics(NamedTuple):
    """With z = y - mean_k: counts (K,), sum r z (K, p), sum r z z' packed."""

    total: Array
    first: Array
    second: Array


class FactorAnalyserData(NamedTuple):
    """Prepared: centred and scaled by column, rows last."""

    y: Array  # (p, n)
    mean: Array  # (p,) user's units
    unit: Array  # (p,) user's units of one prepared unit
    anchors: Anchors
    fixed: None


@register
@dataclass(frozen=True)
class FactorAnalyser(FamilyDefaults):
    """Family of Gaussians with covariances loadings_k loadings_k' + diag(uniquenesses_k), loadings (p, q).

    n_factors : q >= 1. uniquenesses : "component", or "common" to all (Ghahramani & Hinton 1996, University of
    Toronto, CRG-TR-96-1). min_uniqueness : their floor, as a share of a variable's variance over all rows.
    Data : y (n, p).

    The M-step takes the components alone as missing, as a cycle of AECM does (McLachlan, Peel & Bean 2003,
    Computational Statistics & Data Analysis 41): weighted means, then one sweep of conditional maximisation over the
    variables (`factors.sweep`). There are no priors and no fixed blocks.
    """

    continuous = True

    n_factors: int
    uniquenesses: str = "component"
    min_uniqueness: float = 1e-6
    blocks: ClassVar[Any] = FactorAnalyserParams

    def __post_init__(self) -> None:
        factors.check_settings("FactorAnalyser", self.n_factors, self.min_uniqueness)
        if self.uniquenesses not in ("component", "common"):
            raise DataError(f"FactorAnalyser(uniquenesses={self.uniquenesses!r}): use 'component' or 'common'.")

    @property
    def common(self) -> bool:
        """One set of uniquenesses for all components."""
        return self.uniquenesses == "common"

    def check(self, data: Data) -> None:
        """y must be (n, p), with p large enough for so many factors; covariates have no place here."""
        if np.ndim(data.y) != 2:
            raise DataError(f"FactorAnalyser needs y of shape (n, p), not {np.shape(data.y)}.")
        self.refuse_unused(data)
        factors.check_identified(np.shape(data.y)[1], self.n_factors, isotropic=False)

    def check_params(self, params: FactorAnalyserParams) -> None:
        """Values that are not parameters raise `DataError`; blocks may be None."""
        factors.check_params(params)

    # --- once per dataset -------------------------------------------------------------------------------------------

    def prepare(self, data: Data, n_components: int, prior: Any, fixed: Any) -> tuple[FactorAnalyserData, Array]:
        """Centre and scale; errors: `DataError` for a prior or fixed blocks."""
        if prior is not None or fixed is not None:
            raise DataError("FactorAnalyser has no prior and no fixed blocks: leave them out.")
        weight = jnp.asarray(data.weight, data.y.dtype)
        found, problem = responses.standardise(data.y, weight, False)
        problem |= jnp.where(responses.dependent(found), Problem.COLLINEAR, 0)
        leading = self._leading(found.scatter)[1]
        anchors = rotations.anchors(leading, self.n_factors)
        return FactorAnalyserData(found.y, found.mean, found.unit, anchors, None), jnp.int32(problem)

    def _leading(self, scatter: Array) -> tuple[Array, Array]:
        """Half the variances as uniquenesses (p,), and the principal factors that go with them (p, q)."""
        variance = jnp.maximum(jnp.diagonal(scatter), jnp.finfo(scatter.dtype).eps)
        return 0.5 * variance, factors.principal_factors(scatter, 0.5 * variance, self.n_factors)

    # --- the EM step ------------------------------------------------------------------------------------------------

    def _away(self, params: FactorAnalyserParams, prepared: FactorAnalyserData) -> Array:
        return prepared.y[None, :, :] - params.means[:, :, None]

    def _floor(self, params: FactorAnalyserParams) -> Array:
        return jnp.asarray(self.min_uniqueness, params.uniquenesses.dtype)

    def log_prob(self, params: FactorAnalyserParams, prepared: FactorAnalyserData) -> Array:
        """(K, n), nats."""
        uniquenesses = factors.held(params.uniquenesses, self._floor(params))
        density = factors.row_log_density(self._away(params, prepared), params.loadings, uniquenesses)
        return density - jnp.sum(jnp.log(prepared.unit))

    def statistics(
        self, params: FactorAnalyserParams, prepared: FactorAnalyserData, resp: Array
    ) -> FactorAnalyserStatistics:
        """Second moments about the current means."""
        away = self._away(params, prepared)
        return FactorAnalyserStatistics(*FULL.sums(resp, [away[:, i] for i in range(away.shape[1])]))

    def maximize(
        self, statistics: FactorAnalyserStatistics, params: FactorAnalyserParams, prepared: FactorAnalyserData
    ) -> FactorAnalyserParams:
        """Weighted means, then the loadings and uniquenesses."""
        total = jnp.maximum(statistics.total, jnp.finfo(prepared.y.dtype).tiny)
        shift = statistics.first / total[:, None]
        scatter = numerics.unpack_symmetric(statistics.second, shift.shape[1]) / total[:, None, None]
        scatter = scatter - shift[:, :, None] * shift[:, None, :]
        floor = self._floor(params)
        if self.common:
            loadings, uniquenesses = factors.sweep_common(
                scatter, params.loadings, params.uniquenesses, statistics.total, floor
            )
        else:
            loadings, uniquenesses = factors.sweep(scatter, params.loadings, params.uniquenesses, floor)
        return FactorAnalyserParams(params.means + shift, loadings, uniquenesses)

    def initial(self, prepared: FactorAnalyserData, resp: Array, spread: Array) -> FactorAnalyserParams:
        """Weighted means at `resp`; the principal factors of one pooled covariance, weighted by `spread`."""
        eps = jnp.finfo(resp.dtype).eps
        counts = jnp.maximum(jnp.sum(resp, axis=1), eps)
        means = numerics.multiply(resp, prepared.y.T) / counts[:, None]
        away = prepared.y[None, :, :] - means[:, :, None]
        scatter = jnp.sum(numerics.multiply(spread[:, None, :] * away, factors.swap(away)), axis=0)
        pooled = scatter / jnp.maximum(jnp.sum(spread), eps)
        pooled = pooled + eps * jnp.eye(pooled.shape[0], dtype=resp.dtype)
        uniquenesses, loadings = self._leading(pooled)
        many = resp.shape[0]
        return FactorAnalyserParams(
            means,
            jnp.broadcast_to(loadings, (many, *loadings.shape)),
            jnp.broadcast_to(uniquenesses, (many, *uniquenesses.shape)),
        )

    def elemental(self, prepared: FactorAnalyserData) -> int:
        """One row is a centre."""
        return 1

    # --- what the engine watches ------------------------------------------------------------------------------------

    def log_prior(self, params: FactorAnalyserParams, prepared: FactorAnalyserData) -> Array:
        """0: there is no prior."""
        return jnp.zeros((), prepared.y.dtype)

    def flags(
        self,
        params: FactorAnalyserParams,
        statistics: FactorAnalyserStatistics,
        prepared: FactorAnalyserData,
        degeneracy: Degeneracy,
    ) -> Array:
        """BOUNDARY for a Heywood case; DEGENERATE and SUSPECT by the named settings, as for `Gaussian`."""
        n_components, p = params.means.shape
        heywood = jnp.any(factors.at_floor(params.uniquenesses, self._floor(params)))
        bits = jnp.where(heywood, Flag.BOUNDARY, 0)
        if n_components == 1:
            return bits
        size = 2 * p + rotations.n_loadings(p, self.n_factors)
        suspect = jnp.min(statistics.total) < degeneracy.suspect_rows * size
        if not self.common:
            smallest, largest = self._extreme_scales(params)
            ratio = smallest if degeneracy.relative_to == "data" else smallest / largest
            min_rows = p + 1.0 if degeneracy.min_rows is None else degeneracy.min_rows
            collapsed = (ratio < degeneracy.min_scale_ratio) | (jnp.min(statistics.total) < min_rows)
            bits |= jnp.where(collapsed, Flag.DEGENERATE, 0)
            if degeneracy.relative_to == "components":
                suspect |= ratio < degeneracy.suspect_scale_ratio
        return bits | jnp.where(suspect, Flag.SUSPECT, 0)

    def _extreme_scales(self, params: FactorAnalyserParams) -> tuple[Array, Array]:
        """Smallest and largest square root of an eigenvalue of a component's covariance."""
        loadings, uniquenesses = params.loadings, params.uniquenesses
        scores = factors.inverse(loadings, uniquenesses).scores
        precision = factors.residual_map(loadings, scores) / uniquenesses[:, :, None]
        covariance = numerics.multiply(loadings, factors.swap(loadings)) + numerics.diagonal_matrix(uniquenesses)
        smallest = 1.0 / jnp.max(numerics.largest_eigenvalue(precision))
        return jnp.sqrt(smallest), jnp.sqrt(jnp.max(numerics.largest_eigenvalue(covariance)))

    def relabel(self, params: FactorAnalyserParams, permutation: Array) -> FactorAnalyserParams:
        """Component k of the result is component permutation[k] of `params`."""
        return FactorAnalyserParams(*(block[permutation] for block in params))

    def boundary(self, params: FactorAnalyserParams, prepared: FactorAnalyserData) -> Array:
        """Logarithms of uniquenesses at their floor: the sign of their scores is checked."""
        n_components, p = params.means.shape
        inside = jnp.zeros(n_components * (p + rotations.n_loadings(p, self.n_factors)), jnp.int32)
        edge = factors.at_floor(params.uniquenesses, self._floor(params)).astype(jnp.int32)
        return jnp.concatenate([inside, (edge[:1] if self.common else edge).reshape(-1)])

    # --- coordinates and units --------------------------------------------------------------------------------------

    def component_of_free(self, prepared: FactorAnalyserData, n_components: int) -> tuple[int, ...]:
        """Means component by component, then loadings, then uniquenesses."""
        p = prepared.y.shape[0]
        sizes = [p, rotations.n_loadings(p, self.n_factors)] + ([] if self.common else [p])
        owners = [k for size in sizes for k in range(n_components) for _ in range(size)]
        return tuple(owners + ([-1] * p if self.common else []))

    def n_free(self, prepared: FactorAnalyserData, n_components: int) -> int:
        """Number of free coordinates."""
        return len(self.component_of_free(prepared, n_components))

    def to_free(self, params: FactorAnalyserParams, prepared: FactorAnalyserData) -> Array:
        """Means, loadings without their rotation, log uniquenesses, as in `FactorAnalysis`."""
        loadings = rotations.loadings_to_free(params.loadings, prepared.anchors)
        noise = jnp.log(params.uniquenesses[:1] if self.common else params.uniquenesses)
        return jnp.concatenate([block.reshape(-1) for block in (params.means, loadings, noise)])

    def from_free(self, free: Array, prepared: FactorAnalyserData, n_components: int) -> FactorAnalyserParams:
        """The inverse of `to_free`, up to rotations of the loadings."""
        p = prepared.y.shape[0]
        start, end = n_components * p, n_components * (p + rotations.n_loadings(p, self.n_factors))
        loadings = free[start:end].reshape(n_components, -1)
        return FactorAnalyserParams(
            free[:start].reshape(n_components, p),
            rotations.loadings_from_free(loadings, prepared.anchors, self.n_factors),
            jnp.broadcast_to(jnp.exp(free[end:]).reshape(-1, p), (n_components, p)),
        )

    def to_user(self, params: FactorAnalyserParams, prepared: FactorAnalyserData) -> FactorAnalyserParams:
        """User's units, and the loadings' principal axes."""
        unit = prepared.unit[None, :]
        loadings = rotations.principal_axes(params.loadings, params.uniquenesses)
        return FactorAnalyserParams(
            params.means * unit + prepared.mean[None, :], loadings * unit[:, :, None], params.uniquenesses * unit**2
        )

    def from_user(self, params: FactorAnalyserParams, prepared: FactorAnalyserData) -> FactorAnalyserParams:
        """Prepared units; the loadings stay rotated as they are."""
        unit = prepared.unit[None, :]
        return FactorAnalyserParams(
            (params.means - prepared.mean[None, :]) / unit, params.loadings / unit[:, :, None],
            params.uniquenesses / unit**2,
        )  # fmt: skip

    def sample(self, key: Array, params: FactorAnalyserParams, data: Data, labels: Array) -> Array:
        """y (n, p) given the component of each row."""
        draw_factors, draw_noise = jax.random.split(key)
        p, q = params.loadings.shape[1:]
        scores = jax.random.normal(draw_factors, (labels.shape[0], q), params.means.dtype)
        noise = jax.random.normal(draw_noise, (labels.shape[0], p), params.means.dtype)
        common = numerics.apply(params.loadings[labels], scores)
        return params.means[labels] + common + noise * jnp.sqrt(params.uniquenesses)[labels]

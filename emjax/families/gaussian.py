"""Multivariate Gaussian components in six covariance forms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from emjax.base.registry import register
from emjax.base import coordinates, numerics
from emjax.base.records import Array, Data
from emjax.base.settings import Degeneracy
from emjax.base.status import DataError, Flag, Problem

HIGHEST = jax.lax.Precision.HIGHEST
VARIANCE_FLOOR = 4.0  # times eps squared, prepared units: keeps a collapsed variance positive, never binds otherwise
COLLINEAR = 1e3  # times eps: a column whose unexplained share of variance is below this is collinear
FORMS = {
    "full": ("full", False),
    "diagonal": ("diagonal", False),
    "spherical": ("spherical", False),
    "tied": ("full", True),
    "tied-diagonal": ("diagonal", True),
    "tied-spherical": ("spherical", True),
}
MCLUST = {
    "VVV": "full",
    "VVI": "diagonal",
    "VII": "spherical",
    "V": "spherical",
    "EEE": "tied",
    "EEI": "tied-diagonal",
    "EII": "tied-spherical",
    "E": "tied-spherical",
}


@register
class GaussianParams(NamedTuple):
    """means (K, d); covariances (K, d, d), equal matrices where they are tied."""

    means: Array
    covariances: Array


class GaussianStatistics(NamedTuple):
    """With z = L_k^-1 (y - mean_k): counts (K,), sum r z (K, d), sum r z z' packed or its diagonal."""

    total: Array
    first: Array
    second: Array


@register
class NormalInverseWishart(NamedTuple):
    """Conjugate prior, a density in (mean, Sigma): Sigma ~ IW(degrees, scale), mean ~ N(mean, Sigma / strength).

    Diagonal: each variance ~ IG(degrees / 2, scale_jj / 2); spherical: the one variance ~ IG(degrees / 2, s / 2) with s
    the mean of scale's diagonal. Tied forms share one draw. In the user's units; a field left at None is set from the
    data as in Fraley & Raftery (2007, Journal of Classification 24): the mean of y, d + 2, var(y) / K^(2 / d).
    """

    mean: Array | None = None
    strength: Array | float = 0.01
    degrees: Array | float | None = None
    scale: Array | None = None


class GaussianData(NamedTuple):
    """Prepared: centred and scaled, rows last."""

    y: Array  # (d, n)
    mean: Array  # (d,) user's units
    unit: Array  # (d,) user's units of one prepared unit; all equal for the spherical forms
    deviation: Array  # (d,) standard deviations in prepared units; ones but for the spherical forms
    prior: Any  # NormalInverseWishart in prepared units, or None
    fixed: Any  # GaussianParams in prepared units with None where free, or None


@register
@dataclass(frozen=True)
class Gaussian:
    """Family of multivariate Gaussians.

    covariance : "full", "diagonal", "spherical", "tied", "tied-diagonal", "tied-spherical", or mclust's letters VVV, VVI,
        VII, EEE, EEI, EII, and for one dimension V, E.
    Data: y (n,) or (n, d).
    """

    covariance: str = "full"
    blocks = GaussianParams

    def __post_init__(self) -> None:
        name = MCLUST.get(self.covariance, self.covariance)
        if name not in FORMS:
            known = ", ".join([*FORMS, *MCLUST])
            raise DataError(f"Gaussian(covariance={self.covariance!r}) is not known: use one of {known}.")
        object.__setattr__(self, "covariance", name)

    @property
    def form(self) -> str:
        """full, diagonal or spherical."""
        return FORMS[self.covariance][0]

    @property
    def tied(self) -> bool:
        """One covariance matrix for all components."""
        return FORMS[self.covariance][1]

    def check(self, data: Data) -> None:
        """y must be (n,) or (n, d); covariates have no place here."""
        if np.ndim(data.y) not in (1, 2) or (np.ndim(data.y) == 2 and np.shape(data.y)[1] == 0):
            raise DataError(f"Gaussian needs y of shape (n,) or (n, d), not {np.shape(data.y)}.")
        if data.x is not None:
            raise DataError("Gaussian has no covariates: leave out x, or use LinearRegression.")

    # --- once per dataset -------------------------------------------------------------------------------------------

    def prepare(self, data: Data, n_components: int, prior: Any, fixed: Any) -> tuple[GaussianData, Array]:
        """Centre and scale, by column where the form allows it, by one number for the spherical forms."""
        y = data.y[:, None] if data.y.ndim == 1 else data.y
        y = y.T
        weight = jnp.asarray(data.weight, y.dtype)
        used = weight > 0
        bad = ~jnp.isfinite(y)
        problem = jnp.where(jnp.any(bad & used[None, :]), Problem.RESPONSE_NOT_FINITE, 0)
        y = jnp.where(bad | ~used[None, :], 0.0, y)
        eps, tiny = jnp.finfo(y.dtype).eps, jnp.finfo(y.dtype).tiny
        total = jnp.maximum(jnp.sum(weight), tiny)
        mean = (y @ weight) / total
        y = jnp.where(used[None, :], y - mean[:, None], 0.0)
        variance = (y**2 @ weight) / total
        constant = variance <= (16.0 * eps * mean) ** 2
        problem |= jnp.where(jnp.any(constant), Problem.CONSTANT_RESPONSE, 0)
        deviation = jnp.where(constant, 1.0, jnp.sqrt(variance))
        unit = deviation
        if self.form == "spherical":
            unit = jnp.broadcast_to(jnp.sqrt(jnp.mean(deviation**2)), deviation.shape)
        y = y / unit[:, None]
        scatter = jnp.matmul(y * weight[None, :], y.T, precision=HIGHEST) / total
        if self.form == "full":
            pivots = jnp.diagonal(numerics.cholesky(scatter)) ** 2
            collinear = jnp.any(pivots < COLLINEAR * eps * jnp.diagonal(scatter)) & ~jnp.any(constant)
            problem |= jnp.where(collinear, Problem.COLLINEAR, 0)
        prepared = GaussianData(y, mean, unit, deviation / unit, None, None)
        if prior is not None:
            prepared = prepared._replace(prior=self._prepare_prior(prior, prepared, scatter, n_components))
        if fixed is not None:
            prepared = prepared._replace(fixed=self._prepare_fixed(fixed, prepared))
        return prepared, jnp.int32(problem)

    def _prepare_prior(
        self, prior: NormalInverseWishart, prepared: GaussianData, scatter: Array, n_components: int
    ) -> NormalInverseWishart:
        d, dtype = prepared.y.shape[0], prepared.y.dtype
        mean = jnp.zeros(d, dtype)
        if prior.mean is not None:
            mean = (jnp.asarray(prior.mean, dtype) - prepared.mean) / prepared.unit
        scale = scatter / n_components ** (2.0 / d)
        if prior.scale is not None:
            given = jnp.asarray(prior.scale, dtype)
            given = given * jnp.eye(d, dtype=dtype) if given.ndim == 0 else given
            scale = given / (prepared.unit[:, None] * prepared.unit[None, :])
        degrees = jnp.asarray(d + 2.0 if prior.degrees is None else prior.degrees, dtype)
        return NormalInverseWishart(mean, jnp.asarray(prior.strength, dtype), degrees, scale)

    def _prepare_fixed(self, fixed: GaussianParams, prepared: GaussianData) -> GaussianParams:
        dtype, unit = prepared.y.dtype, prepared.unit
        means, covariances = fixed
        if means is not None:
            means = (jnp.asarray(means, dtype) - prepared.mean[None, :]) / unit[None, :]
        if covariances is not None:
            covariances = jnp.asarray(covariances, dtype) / (unit[:, None] * unit[None, :])[None, :, :]
        return GaussianParams(means, covariances)  # type: ignore[arg-type]

    # --- the EM step ------------------------------------------------------------------------------------------------

    def _factor(self, covariances: Array) -> Array:
        """Lower Cholesky factors (K, d, d)."""
        if self.form == "full":
            return numerics.cholesky(covariances)
        d = covariances.shape[-1]
        return jnp.sqrt(covariances) * jnp.eye(d, dtype=covariances.dtype)[None, :, :]

    def _whiten(self, params: GaussianParams, prepared: GaussianData) -> tuple[Array, Array]:
        """z = L_k^-1 (y - mean_k), (K, d, n), and log det L_k, (K,)."""
        away = prepared.y[None, :, :] - params.means[:, :, None]
        if self.form != "full":
            deviation = jnp.sqrt(jnp.diagonal(params.covariances, axis1=1, axis2=2))
            return away / deviation[:, :, None], jnp.sum(jnp.log(deviation), axis=1)
        factor = numerics.cholesky(params.covariances)
        log_det = 0.5 * numerics.log_determinant(factor)
        d = away.shape[1]
        if d > numerics.UNROLL:
            return numerics.multiply(numerics.inverse_lower(factor), away), log_det
        rows: list[Array] = []
        for i in range(d):
            inner = sum((factor[:, i, j, None] * rows[j] for j in range(i)), jnp.zeros_like(away[:, i]))
            rows.append((away[:, i] - inner) * (1.0 / factor[:, i, i])[:, None])
        return jnp.stack(rows, axis=1), log_det

    def log_prob(self, params: GaussianParams, prepared: GaussianData) -> Array:
        """(K, n), nats."""
        z, log_det = self._whiten(params, prepared)
        d = z.shape[1]
        constant = -log_det - 0.5 * d * numerics.LOG_2PI - jnp.sum(jnp.log(prepared.unit))
        return constant[:, None] - 0.5 * jnp.sum(z**2, axis=1)

    def statistics(self, params: GaussianParams, prepared: GaussianData, resp: Array) -> GaussianStatistics:
        """In whitened residuals, which `log_prob` already made."""
        z, _ = self._whiten(params, prepared)
        weighted = resp[:, None, :] * z
        if self.form == "full":
            pairs = numerics.packed_indices(z.shape[1])
            second = jnp.stack([jnp.sum(weighted[:, i] * z[:, j], axis=1) for i, j in pairs], axis=1)
        else:
            second = jnp.sum(weighted * z, axis=2)
        return GaussianStatistics(jnp.sum(resp, axis=1), jnp.sum(weighted, axis=2), second)

    def maximize(
        self, statistics: GaussianStatistics, params: GaussianParams, prepared: GaussianData
    ) -> GaussianParams:
        """Weighted moments, or the posterior mode under the conjugate prior."""
        tiny = jnp.finfo(prepared.y.dtype).tiny
        d = prepared.y.shape[0]
        total, prior, fixed = statistics.total, prepared.prior, prepared.fixed
        factor = self._factor(params.covariances)
        safe = jnp.maximum(total, tiny)[:, None]
        shift = numerics.apply(factor, statistics.first / safe)
        average = params.means + shift
        second = self._second(statistics, factor, d)
        scatter = second - (safe * shift)[:, :, None] * shift[:, None, :]
        means, rows = average, total
        if prior is not None:
            strength = jnp.broadcast_to(prior.strength, total.shape)
            share = (strength / (total + strength))[:, None]
            means = average + share * (prior.mean[None, :] - average)
            rows = rows + 1.0
        if fixed is not None and fixed.means is not None:
            means = fixed.means
        away = (average - means)[:, :, None] * (average - means)[:, None, :]
        scatter = scatter + total[:, None, None] * away
        if prior is not None:
            pull = means - prior.mean[None, :]
            scatter = scatter + prior.strength * pull[:, :, None] * pull[:, None, :]
        covariances = self._covariances(scatter, rows, prior)
        if fixed is not None and fixed.covariances is not None:
            covariances = fixed.covariances
        return GaussianParams(means, covariances)

    def _second(self, statistics: GaussianStatistics, factor: Array, d: int) -> Array:
        """Scatter about the current means in prepared units, (K, d, d)."""
        if self.form == "full":
            white = numerics.unpack_symmetric(statistics.second, d)
        else:
            white = statistics.second[:, :, None] * jnp.eye(d, dtype=factor.dtype)[None, :, :]
        return numerics.multiply(numerics.multiply(factor, white), jnp.swapaxes(factor, 1, 2))

    def _covariances(self, scatter: Array, rows: Array, prior: Any) -> Array:
        """(K, d, d) from the scatter of each component about its mean; `rows` counts the prior on the mean as one."""
        n_components, d = scatter.shape[0], scatter.shape[1]
        identity = jnp.eye(d, dtype=scatter.dtype)
        tiny, eps = jnp.finfo(scatter.dtype).tiny, jnp.finfo(scatter.dtype).eps
        if self.tied:
            scatter, rows = jnp.sum(scatter, axis=0, keepdims=True), jnp.sum(rows, keepdims=True)
        extra = 0.0 if prior is None else prior.degrees + (d + 1.0 if self.form == "full" else 2.0)
        if self.form == "spherical":
            squares = jnp.trace(scatter, axis1=1, axis2=2)
            if prior is not None:
                squares = squares + jnp.trace(prior.scale) / d
            scatter, rows = (squares / jnp.maximum(d * rows + extra, tiny))[:, None, None] * identity[None, :, :], None
        else:
            if prior is not None:
                scatter = scatter + prior.scale[None, :, :]
            scatter = scatter / jnp.maximum(rows + extra, tiny)[:, None, None]
        if self.form == "diagonal":
            scatter = scatter * identity[None, :, :]
        scatter = scatter + VARIANCE_FLOOR * eps**2 * identity[None, :, :]
        return jnp.broadcast_to(scatter, (n_components, d, d))

    def initial(self, prepared: GaussianData, resp: Array, spread: Array) -> GaussianParams:
        """Weighted means at `resp`, one pooled covariance from the residuals weighted by `spread`."""
        eps = jnp.finfo(resp.dtype).eps
        counts = jnp.maximum(jnp.sum(resp, axis=1), eps)
        means = jnp.matmul(resp, prepared.y.T, precision=HIGHEST) / counts[:, None]
        if prepared.fixed is not None and prepared.fixed.means is not None:
            means = prepared.fixed.means
        away = prepared.y[None, :, :] - means[:, :, None]
        scatter = jnp.einsum("kn,kin,kjn->ij", spread, away, away, precision=HIGHEST)
        d = scatter.shape[0]
        pooled = Gaussian("tied-" + self.form if self.form != "full" else "tied")
        total = jnp.maximum(jnp.sum(spread), eps)[None]
        covariance = pooled._covariances(scatter[None], total, None) + eps * jnp.eye(d, dtype=resp.dtype)[None, :, :]
        covariances = jnp.broadcast_to(covariance, (resp.shape[0], d, d))
        if prepared.fixed is not None and prepared.fixed.covariances is not None:
            covariances = prepared.fixed.covariances
        return GaussianParams(means, covariances)

    def elemental(self, prepared: GaussianData) -> int:
        """One row is a centre."""
        return 1

    # --- what the engine watches ------------------------------------------------------------------------------------

    def log_prior(self, params: GaussianParams, prepared: GaussianData) -> Array:
        """Density in (means, covariances), user's units; the covariance part once where tied."""
        prior = prepared.prior
        if prior is None:
            return jnp.zeros((), prepared.y.dtype)
        d = prepared.y.shape[0]
        log_unit = jnp.sum(jnp.log(prepared.unit))
        factor = self._factor(params.covariances)
        log_det = numerics.log_determinant(factor)
        white = numerics.apply(numerics.inverse_lower(factor), params.means - prior.mean[None, :])
        normal = 0.5 * d * (jnp.log(prior.strength) - numerics.LOG_2PI) - 0.5 * log_det - log_unit
        normal = normal - 0.5 * prior.strength * jnp.sum(white**2, axis=1)
        density = self._log_prior_covariance(params.covariances, factor, log_det, prior, prepared.unit)
        return jnp.sum(normal) + (density[0] if self.tied else jnp.sum(density))

    def _log_prior_covariance(self, covariances: Array, factor: Array, log_det: Array, prior: Any, unit: Array) -> Array:
        """(K,): inverse Wishart, or inverse gammas for the diagonal and spherical forms; per user's units."""
        d, nu = covariances.shape[-1], prior.degrees
        log_unit = jnp.log(unit)
        if self.form == "full":
            inverse = numerics.inverse_lower(factor)
            trace = jnp.sum(inverse * numerics.multiply(inverse, prior.scale[None, :, :]), axis=(1, 2))
            log_scale = numerics.log_determinant(numerics.cholesky(prior.scale))
            steps = 0.5 * (nu - jnp.arange(d, dtype=nu.dtype))
            constant = 0.5 * nu * (log_scale - d * jnp.log(2.0)) - jnp.sum(jax.lax.lgamma(steps))
            constant = constant - 0.25 * d * (d - 1) * jnp.log(jnp.pi) - (d + 1.0) * jnp.sum(log_unit)
            return constant - 0.5 * (nu + d + 1.0) * log_det - 0.5 * trace
        variance = jnp.diagonal(covariances, axis1=1, axis2=2)
        half_scale = 0.5 * jnp.diagonal(prior.scale)
        if self.form == "spherical":
            variance, log_unit = variance[:, :1], log_unit[:1]
            half_scale = jnp.mean(half_scale)[None]
        gamma = 0.5 * nu * jnp.log(half_scale)[None, :] - (0.5 * nu + 1.0) * jnp.log(variance)
        gamma = gamma - half_scale[None, :] / variance - jax.lax.lgamma(0.5 * nu) - 2.0 * log_unit[None, :]
        return jnp.sum(gamma, axis=1)

    def flags(
        self, params: GaussianParams, statistics: GaussianStatistics, prepared: GaussianData, degeneracy: Degeneracy
    ) -> Array:
        """DEGENERATE and SUSPECT by the named settings; no rule for one component or a tied covariance."""
        n_components, d = params.means.shape
        of_shape = {"full": d * (d + 1) // 2, "diagonal": d, "spherical": 1}[self.form]
        min_rows = d + 1.0 if degeneracy.min_rows is None else degeneracy.min_rows
        few = jnp.min(statistics.total) < degeneracy.suspect_rows * (d + of_shape)
        suspect = few if n_components > 1 else jnp.zeros((), bool)
        collapsed = jnp.zeros((), bool)
        if n_components > 1 and not self.tied:
            smallest, largest = self._extreme_scales(params, prepared)
            if degeneracy.relative_to == "data":
                largest = jnp.ones_like(largest)
            ratio = smallest / largest
            collapsed = (ratio < degeneracy.min_scale_ratio) | (jnp.min(statistics.total) < min_rows)
            if degeneracy.relative_to == "components":
                suspect |= ratio < degeneracy.suspect_scale_ratio
        return jnp.where(collapsed, Flag.DEGENERATE, 0) | jnp.where(suspect, Flag.SUSPECT, 0)

    def _extreme_scales(self, params: GaussianParams, prepared: GaussianData) -> tuple[Array, Array]:
        """Smallest and largest square root of a covariance eigenvalue over components, in sd-scaled coordinates."""
        if self.form != "full":
            scale = jnp.sqrt(jnp.diagonal(params.covariances, axis1=1, axis2=2)) / prepared.deviation[None, :]
            return jnp.min(scale), jnp.max(scale)
        inverse = numerics.inverse_lower(numerics.cholesky(params.covariances))
        precision = numerics.multiply(jnp.swapaxes(inverse, 1, 2), inverse)
        smallest = 1.0 / jnp.max(numerics.largest_eigenvalue(precision))
        return jnp.sqrt(smallest), jnp.sqrt(jnp.max(numerics.largest_eigenvalue(params.covariances)))

    def relabel(self, params: GaussianParams, permutation: Array) -> GaussianParams:
        """Component k of the result is component permutation[k] of `params`."""
        return GaussianParams(params.means[permutation], params.covariances[permutation])

    # --- coordinates and units --------------------------------------------------------------------------------------

    def component_of_free(self, prepared: GaussianData, n_components: int) -> tuple[int, ...]:
        """Means component by component, then covariances."""
        d = prepared.y.shape[0]
        of_shape = {"full": d * (d + 1) // 2, "diagonal": d, "spherical": 1}[self.form]
        fixed = prepared.fixed or GaussianParams(None, None)  # type: ignore[arg-type]
        owners: list[int] = []
        if fixed.means is None:
            owners += [k for k in range(n_components) for _ in range(d)]
        if fixed.covariances is None:
            owners += [-1] * of_shape if self.tied else [k for k in range(n_components) for _ in range(of_shape)]
        return tuple(owners)

    def n_free(self, prepared: GaussianData, n_components: int) -> int:
        """Number of free coordinates."""
        return len(self.component_of_free(prepared, n_components))

    def to_free(self, params: GaussianParams, prepared: GaussianData) -> Array:
        """Means, then log-Cholesky factors, log standard deviations, or one log standard deviation a component."""
        fixed = prepared.fixed or GaussianParams(None, None)  # type: ignore[arg-type]
        parts = [jnp.zeros(0, prepared.y.dtype)]
        if fixed.means is None:
            parts.append(params.means.reshape(-1))
        if fixed.covariances is None:
            covariances = params.covariances[:1] if self.tied else params.covariances
            if self.form == "full":
                free = coordinates.covariances_to_free(covariances)
            else:
                free = 0.5 * jnp.log(jnp.diagonal(covariances, axis1=1, axis2=2))
                free = free[:, :1] if self.form == "spherical" else free
            parts.append(free.reshape(-1))
        return jnp.concatenate(parts)

    def from_free(self, free: Array, prepared: GaussianData, n_components: int) -> GaussianParams:
        """The inverse of `to_free`."""
        d = prepared.y.shape[0]
        fixed = prepared.fixed or GaussianParams(None, None)  # type: ignore[arg-type]
        means, covariances = fixed.means, fixed.covariances
        if means is None:
            means, free = free[: n_components * d].reshape(n_components, d), free[n_components * d :]
        if covariances is None:
            rows = free.reshape(1 if self.tied else n_components, -1)
            if self.form == "full":
                covariances = coordinates.covariances_from_free(rows, d)
            else:
                covariances = jnp.exp(2.0 * rows)[:, :, None] * jnp.eye(d, dtype=free.dtype)[None, :, :]
            covariances = jnp.broadcast_to(covariances, (n_components, d, d))
        return GaussianParams(means, covariances)

    def to_user(self, params: GaussianParams, prepared: GaussianData) -> GaussianParams:
        """Means and covariances in the units of the user's y."""
        unit = prepared.unit
        means = params.means * unit[None, :] + prepared.mean[None, :]
        return GaussianParams(means, params.covariances * (unit[:, None] * unit[None, :])[None, :, :])

    def from_user(self, params: GaussianParams, prepared: GaussianData) -> GaussianParams:
        """The inverse of `to_user`."""
        unit = prepared.unit
        means = (params.means - prepared.mean[None, :]) / unit[None, :]
        return GaussianParams(means, params.covariances / (unit[:, None] * unit[None, :])[None, :, :])

    def sample(self, key: Array, params: GaussianParams, data: Data, labels: Array) -> Array:
        """y (n, d), or (n,) where d = 1, given the component of each row."""
        d = params.means.shape[1]
        normal = jax.random.normal(key, (labels.shape[0], d), params.means.dtype)
        y = params.means[labels] + numerics.apply(self._factor(params.covariances)[labels], normal)
        return y[:, 0] if d == 1 and jnp.ndim(data.y) == 1 else y

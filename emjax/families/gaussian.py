"""Multivariate Gaussian components in six covariance forms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from emjax.base import covariances as covariance_forms
from emjax.base import numerics, priors, responses
from emjax.base.covariances import CovarianceForm
from emjax.base.priors import NormalInverseWishart
from emjax.base.protocols import FamilyDefaults
from emjax.base.records import Array, Data
from emjax.base.registry import register
from emjax.base.settings import Degeneracy
from emjax.base.status import DataError

HIGHEST = jax.lax.Precision.HIGHEST


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
class Gaussian(FamilyDefaults):
    """Family of multivariate Gaussians.

    covariance : "full", "diagonal", "spherical", "tied", "tied-diagonal", "tied-spherical", or mclust's letters VVV,
        VVI, VII, EEE, EEI, EII, and for one dimension V, E.
    Data: y (n,) or (n, d).
    """

    continuous = True

    covariance: str = "full"
    blocks: ClassVar[Any] = GaussianParams

    def __post_init__(self) -> None:
        object.__setattr__(self, "covariance", covariance_forms.canonical_name(self.covariance))

    @property
    def form(self) -> CovarianceForm:
        """What is free in the covariances."""
        return CovarianceForm.of(self.covariance)

    def check(self, data: Data) -> None:
        """y must be (n,) or (n, d); covariates have no place here."""
        responses.check("Gaussian", data)
        self.refuse_unused(data, x="Gaussian has no covariates: leave out x, or use LinearRegression.")

    def check_params(self, params: GaussianParams) -> None:
        """Values that are not parameters raise `DataError`; blocks may be None."""
        if params.means is not None and not np.all(np.isfinite(params.means)):
            raise DataError("means must be finite.")
        if params.covariances is not None and not covariance_forms.positive_definite(params.covariances):
            raise DataError("covariances must be finite and positive definite.")

    # --- once per dataset -------------------------------------------------------------------------------------------

    def prepare(self, data: Data, n_components: int, prior: Any, fixed: Any) -> tuple[GaussianData, Array]:
        """Centre and scale, by column where the form allows it, by one number for the spherical forms."""
        found, problem = responses.standardise_for(self.form, data)
        prepared = GaussianData(found.y, found.mean, found.unit, found.deviation, None, None)
        if prior is not None:
            prepared = prepared._replace(prior=self._prepare_prior(prior, prepared, found.scatter, n_components))
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

    def _whiten(self, params: GaussianParams, prepared: GaussianData) -> tuple[list[Array], Array]:
        away = [prepared.y[i][None, :] - params.means[:, i, None] for i in range(prepared.y.shape[0])]
        return self.form.whiten(params.covariances, away)

    def log_prob(self, params: GaussianParams, prepared: GaussianData) -> Array:
        """(K, n), nats."""
        z, log_det = self._whiten(params, prepared)
        constant = -log_det - 0.5 * len(z) * numerics.LOG_2PI - jnp.sum(jnp.log(prepared.unit))
        squares = sum((row**2 for row in z[1:]), z[0] ** 2)
        return constant[:, None] - 0.5 * squares

    def tails(self, params: GaussianParams, prepared: GaussianData) -> tuple[Array, Array, Array] | None:
        """Probabilities of less than each row's y, of it, and of more, (K, n) each; None in several dimensions."""
        z, _ = self._whiten(params, prepared)
        return numerics.normal_tails(z[0]) if len(z) == 1 else None

    def statistics(self, params: GaussianParams, prepared: GaussianData, resp: Array) -> GaussianStatistics:
        """In whitened residuals, which `log_prob` already made."""
        z, _ = self._whiten(params, prepared)
        return GaussianStatistics(*self.form.sums(resp, z))

    def maximize(
        self, statistics: GaussianStatistics, params: GaussianParams, prepared: GaussianData
    ) -> GaussianParams:
        """Weighted moments, or the posterior mode under the conjugate prior."""
        tiny = jnp.finfo(prepared.y.dtype).tiny
        total, prior, fixed = statistics.total, prepared.prior, prepared.fixed
        factor = self.form.factor(params.covariances)
        safe = jnp.maximum(total, tiny)[:, None]
        shift = numerics.apply(factor, statistics.first / safe)
        average = params.means + shift
        second = self.form.colour(statistics.second, factor)
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
        covariances = self.form.estimate(scatter, rows, prior)
        if fixed is not None and fixed.covariances is not None:
            covariances = fixed.covariances
        return GaussianParams(means, covariances)

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
        total = jnp.maximum(jnp.sum(spread), eps)[None]
        pooled = CovarianceForm(self.form.shape, True).estimate(scatter[None], total)
        pooled = pooled + eps * jnp.eye(d, dtype=resp.dtype)[None, :, :]
        covariances = jnp.broadcast_to(pooled, (resp.shape[0], d, d))
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
        factor = self.form.factor(params.covariances) / jnp.sqrt(prior.strength)
        normal = priors.log_normal(params.means - prior.mean[None, :], factor) - jnp.sum(jnp.log(prepared.unit))
        return jnp.sum(normal) + self.form.log_prior(params.covariances, prior, prepared.unit)

    def flags(
        self, params: GaussianParams, statistics: GaussianStatistics, prepared: GaussianData, degeneracy: Degeneracy
    ) -> Array:
        """DEGENERATE and SUSPECT by the named settings; no rule for one component or a tied covariance."""
        d = params.means.shape[1]
        size = d + self.form.size(d)
        return self.form.flags(params.covariances, statistics.total, size, prepared.deviation, degeneracy)

    def relabel(self, params: GaussianParams, permutation: Array) -> GaussianParams:
        """Component k of the result is component permutation[k] of `params`."""
        return GaussianParams(params.means[permutation], params.covariances[permutation])

    # --- coordinates and units --------------------------------------------------------------------------------------

    def component_of_free(self, prepared: GaussianData, n_components: int) -> tuple[int, ...]:
        """Means component by component, then covariances."""
        d = prepared.y.shape[0]
        fixed = prepared.fixed or GaussianParams(None, None)  # type: ignore[arg-type]
        owners: list[int] = []
        if fixed.means is None:
            owners += [k for k in range(n_components) for _ in range(d)]
        if fixed.covariances is None:
            size = self.form.size(d)
            owners += [-1] * size if self.form.tied else [k for k in range(n_components) for _ in range(size)]
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
            parts.append(self.form.to_free(params.covariances))
        return jnp.concatenate(parts)

    def from_free(self, free: Array, prepared: GaussianData, n_components: int) -> GaussianParams:
        """The inverse of `to_free`."""
        d = prepared.y.shape[0]
        fixed = prepared.fixed or GaussianParams(None, None)  # type: ignore[arg-type]
        means, covariances = fixed.means, fixed.covariances
        if means is None:
            means, free = free[: n_components * d].reshape(n_components, d), free[n_components * d :]
        if covariances is None:
            covariances = self.form.from_free(free, n_components, d)
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
        y = params.means[labels] + numerics.apply(self.form.factor(params.covariances)[labels], normal)
        return y[:, 0] if d == 1 and jnp.ndim(data.y) == 1 else y

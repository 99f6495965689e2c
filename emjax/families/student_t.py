"""Student-t components, one or more dimensions, in six forms of the scale matrix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from emjax.base import covariances as covariance_forms
from emjax.base import degrees as degrees_forms
from emjax.base import numerics, responses
from emjax.base.covariances import CovarianceForm
from emjax.base.degrees import DegreesForm, DegreesSums
from emjax.base.protocols import FamilyDefaults
from emjax.base.records import Array, Data
from emjax.base.registry import register
from emjax.base.settings import Degeneracy
from emjax.base.status import DataError

HIGHEST = jax.lax.Precision.HIGHEST


@register
class StudentTParams(NamedTuple):
    """means (K, d); scales (K, d, d), scale matrices, equal where tied; degrees (K,), equal where common.

    The covariance is degrees / (degrees - 2) times the scale matrix where degrees > 2.
    """

    means: Array
    scales: Array
    degrees: Array


class StudentTStatistics(NamedTuple):
    """With z = L_k^-1 (y - mean_k) and precision weights u: counts (K,), sum r u, sum r u z (K, d), sum r u z z'.

    The last packed or its diagonal; `degrees` is None where they are not free.
    """

    total: Array
    precision: Array
    first: Array
    second: Array
    degrees: DegreesSums | None


class StudentTData(NamedTuple):
    """Prepared: centred and scaled, rows last."""

    y: Array  # (d, n)
    mean: Array  # (d,) user's units
    unit: Array  # (d,) user's units of one prepared unit; all equal for the spherical forms
    deviation: Array  # (d,) standard deviations in prepared units; ones but for the spherical forms
    fixed: Any  # StudentTParams in prepared units with None where free, or None


NOTHING = StudentTParams(None, None, None)  # type: ignore[arg-type]


@register
@dataclass(frozen=True)
class StudentT(FamilyDefaults):
    """Family of multivariate Student-t distributions (Peel & McLachlan 2000, Statistics and Computing 10, 339-348).

    covariance : the form of the scale matrices, as in `Gaussian`: "full", "diagonal", "spherical", "tied",
        "tied-diagonal", "tied-spherical", or mclust's letters. degrees : "component", "common", or a number for all
        components. degrees_range : (lowest, highest) of free degrees; a fit that ends at one has the flag BOUNDARY, at
        the highest it is a Gaussian for all practical purposes.
    Data: y (n,) or (n, d). It has no conjugate prior.

    Means and scales by the parameter-expanded EM step (Kent, Tyler & Vardi 1994; Liu, Rubin & Wu 1998, Biometrika 85):
    the scatter is divided by the sum of r u, not of r. Free degrees by a Newton step on the likelihood, which the
    engine guards: see `DegreesForm.step`.
    """

    continuous = True

    covariance: str = "full"
    degrees: str | float = "component"
    degrees_range: tuple[float, float] = (0.1, 1000.0)
    blocks: ClassVar[Any] = StudentTParams

    def __post_init__(self) -> None:
        object.__setattr__(self, "covariance", covariance_forms.canonical_name(self.covariance))
        form = DegreesForm.checked("StudentT", self.degrees, self.degrees_range)
        object.__setattr__(self, "degrees", form.setting)
        object.__setattr__(self, "degrees_range", (form.lowest, form.highest))

    @property
    def form(self) -> CovarianceForm:
        """What is free in the scale matrices."""
        return CovarianceForm.of(self.covariance)

    @property
    def degrees_form(self) -> DegreesForm:
        """What is free in the degrees of freedom."""
        return DegreesForm(self.degrees, *self.degrees_range)

    @property
    def monotone(self) -> bool:
        """With given degrees the step is exact EM's; a Newton step on free ones may overshoot."""
        return not isinstance(self.degrees, str)

    def check(self, data: Data) -> None:
        """y must be (n,) or (n, d); covariates have no place here."""
        responses.check("StudentT", data)
        self.refuse_unused(data, x="StudentT has no covariates: leave out x, or use StudentTRegression.")

    def check_params(self, params: StudentTParams) -> None:
        """Values that are not parameters raise `DataError`; blocks may be None."""
        if params.means is not None and not np.all(np.isfinite(params.means)):
            raise DataError("means must be finite.")
        if params.scales is not None and not covariance_forms.positive_definite(params.scales):
            raise DataError("scales must be finite and positive definite matrices.")
        degrees_forms.check_degrees(params.degrees)

    # --- once per dataset -------------------------------------------------------------------------------------------

    def prepare(self, data: Data, n_components: int, prior: Any, fixed: Any) -> tuple[StudentTData, Array]:
        """Centre and scale, by column where the form allows it, by one number for the spherical forms."""
        degrees_forms.no_prior("StudentT", prior)
        found, problem = responses.standardise_for(self.form, data)
        prepared = StudentTData(found.y, found.mean, found.unit, found.deviation, None)
        if fixed is not None:
            dtype, unit = prepared.y.dtype, prepared.unit
            means, scales, degrees = fixed
            if means is not None:
                means = (jnp.asarray(means, dtype) - prepared.mean[None, :]) / unit[None, :]
            if scales is not None:
                scales = jnp.asarray(scales, dtype) / (unit[:, None] * unit[None, :])[None, :, :]
            if degrees is not None:
                degrees = jnp.asarray(degrees, dtype)
            prepared = prepared._replace(fixed=StudentTParams(means, scales, degrees))  # type: ignore[arg-type]
        return prepared, jnp.int32(problem)

    # --- the EM step ------------------------------------------------------------------------------------------------

    def _whiten(self, params: StudentTParams, prepared: StudentTData) -> tuple[list[Array], Array, Array]:
        """Whitened residuals, d of (K, n) each; their squares' sum (K, n); log det L_k, (K,)."""
        away = [prepared.y[i][None, :] - params.means[:, i, None] for i in range(prepared.y.shape[0])]
        z, log_det = self.form.whiten(params.scales, away)
        return z, sum((row**2 for row in z[1:]), z[0] ** 2), log_det

    def log_prob(self, params: StudentTParams, prepared: StudentTData) -> Array:
        """(K, n), nats."""
        z, squares, log_det = self._whiten(params, prepared)
        density = degrees_forms.log_density(params.degrees, squares, len(z))
        return density - (log_det + jnp.sum(jnp.log(prepared.unit)))[:, None]

    def tails(self, params: StudentTParams, prepared: StudentTData) -> tuple[Array, Array, Array] | None:
        """Probabilities of less than each row's y, of it, and of more, (K, n) each; None in several dimensions."""
        z, _, _ = self._whiten(params, prepared)
        return degrees_forms.tails(params.degrees, z[0]) if len(z) == 1 else None

    def statistics(self, params: StudentTParams, prepared: StudentTData, resp: Array) -> StudentTStatistics:
        """In whitened residuals, which `log_prob` already made."""
        z, squares, _ = self._whiten(params, prepared)
        weighted = resp * degrees_forms.precision(params.degrees, squares, len(z))
        free = self.degrees_form.free((prepared.fixed or NOTHING).degrees)
        of_degrees = degrees_forms.sums(params.degrees, squares, resp) if free else None
        return StudentTStatistics(jnp.sum(resp, axis=1), *self.form.sums(weighted, z), of_degrees)

    def maximize(
        self, statistics: StudentTStatistics, params: StudentTParams, prepared: StudentTData
    ) -> StudentTParams:
        """Moments weighted by the precisions; scatter over their sum; a Newton step on degrees and scale."""
        fixed, weight = prepared.fixed or NOTHING, statistics.precision
        factor = self.form.factor(params.scales)
        safe = jnp.maximum(weight, jnp.finfo(weight.dtype).tiny)[:, None]
        shift = numerics.apply(factor, statistics.first / safe)
        means = params.means + shift
        scatter = self.form.colour(statistics.second, factor) - (safe * shift)[:, :, None] * shift[:, None, :]
        if fixed.means is not None:
            away = (means - fixed.means)[:, :, None] * (means - fixed.means)[:, None, :]
            means, scatter = fixed.means, scatter + weight[:, None, None] * away
        degrees, stretch = self.degrees_form.constrained(params.degrees, fixed.degrees), jnp.zeros_like(weight)
        if statistics.degrees is not None:
            d, scale_free = means.shape[1], fixed.scales is None
            degrees, stretch = self.degrees_form.step(
                params.degrees, statistics.total, statistics.degrees, d, self.form.tied, scale_free
            )
        scales = fixed.scales
        if scales is None:
            rows = degrees_forms.expanded_rows(params.degrees, statistics.total, weight, self.form.tied)
            scales = self.form.estimate(scatter, rows) * jnp.exp(2.0 * stretch)[:, None, None]
        return StudentTParams(means, scales, degrees)

    def initial(self, prepared: StudentTData, resp: Array, spread: Array) -> StudentTParams:
        """Weighted means at `resp`, one pooled scatter from the residuals weighted by `spread`, degrees of every start.

        The scatter stands for the scale matrix as it is.
        """
        fixed, eps = prepared.fixed or NOTHING, jnp.finfo(resp.dtype).eps
        counts = jnp.maximum(jnp.sum(resp, axis=1), eps)
        means = jnp.matmul(resp, prepared.y.T, precision=HIGHEST) / counts[:, None]
        means = means if fixed.means is None else fixed.means
        away = prepared.y[None, :, :] - means[:, :, None]
        scatter = jnp.einsum("kn,kin,kjn->ij", spread, away, away, precision=HIGHEST)
        d = scatter.shape[0]
        total = jnp.maximum(jnp.sum(spread), eps)[None]
        pooled = CovarianceForm(self.form.shape, True).estimate(scatter[None], total)
        pooled = pooled + eps * jnp.eye(d, dtype=resp.dtype)[None, :, :]
        scales = jnp.broadcast_to(pooled, (resp.shape[0], d, d)) if fixed.scales is None else fixed.scales
        return StudentTParams(means, scales, self.degrees_form.start(resp.shape[0], resp.dtype, fixed.degrees))

    def elemental(self, prepared: StudentTData) -> int:
        """One row is a centre."""
        return 1

    # --- what the engine watches ------------------------------------------------------------------------------------

    def log_prior(self, params: StudentTParams, prepared: StudentTData) -> Array:
        """0: there is none."""
        return jnp.zeros((), prepared.y.dtype)

    def flags(
        self, params: StudentTParams, statistics: StudentTStatistics, prepared: StudentTData, degeneracy: Degeneracy
    ) -> Array:
        """As a Gaussian's, the scale matrices for the covariances; BOUNDARY for degrees at an end of their range."""
        d = params.means.shape[1]
        size = d + self.form.size(d) + (0 if self.degrees_form.common else 1)
        found = self.form.flags(params.scales, statistics.total, size, prepared.deviation, degeneracy)
        return found | self.degrees_form.flags(params.degrees, (prepared.fixed or NOTHING).degrees)

    def boundary(self, params: StudentTParams, prepared: StudentTData) -> Array:
        """Degrees at an end of their range; all else is in the interior."""
        m, fixed = self.n_free(prepared, params.degrees.shape[0]), (prepared.fixed or NOTHING).degrees
        return self.degrees_form.boundary_of(params.degrees, fixed, m)

    def relabel(self, params: StudentTParams, permutation: Array) -> StudentTParams:
        """Component k of the result is component permutation[k] of `params`."""
        return StudentTParams(*(block[permutation] for block in params))

    # --- coordinates and units --------------------------------------------------------------------------------------

    def component_of_free(self, prepared: StudentTData, n_components: int) -> tuple[int, ...]:
        """Means component by component, then scales, then degrees."""
        d = prepared.y.shape[0]
        fixed = prepared.fixed or NOTHING
        owners: list[int] = []
        if fixed.means is None:
            owners += [k for k in range(n_components) for _ in range(d)]
        if fixed.scales is None:
            size = self.form.size(d)
            owners += [-1] * size if self.form.tied else [k for k in range(n_components) for _ in range(size)]
        if self.degrees_form.free(fixed.degrees):
            owners += self.degrees_form.owners(n_components)
        return tuple(owners)

    def n_free(self, prepared: StudentTData, n_components: int) -> int:
        """Number of free coordinates."""
        return len(self.component_of_free(prepared, n_components))

    def to_free(self, params: StudentTParams, prepared: StudentTData) -> Array:
        """Means, scales as a Gaussian's covariances, then degrees as `DegreesForm.to_free`."""
        fixed = prepared.fixed or NOTHING
        parts = [jnp.zeros(0, prepared.y.dtype)]
        if fixed.means is None:
            parts.append(params.means.reshape(-1))
        if fixed.scales is None:
            parts.append(self.form.to_free(params.scales))
        if self.degrees_form.free(fixed.degrees):
            parts.append(self.degrees_form.to_free(params.degrees))
        return jnp.concatenate(parts)

    def from_free(self, free: Array, prepared: StudentTData, n_components: int) -> StudentTParams:
        """The inverse of `to_free`."""
        d = prepared.y.shape[0]
        means, scales, degrees = prepared.fixed or NOTHING
        if means is None:
            means, free = free[: n_components * d].reshape(n_components, d), free[n_components * d :]
        if scales is None:
            size = self.form.size(d) * (1 if self.form.tied else n_components)
            scales, free = self.form.from_free(free[:size], n_components, d), free[size:]
        if self.degrees_form.free(degrees):
            degrees = self.degrees_form.from_free(free, n_components)
        else:
            degrees = self.degrees_form.start(n_components, prepared.y.dtype, degrees)
        return StudentTParams(means, scales, degrees)

    def to_user(self, params: StudentTParams, prepared: StudentTData) -> StudentTParams:
        """Means and scale matrices in the units of the user's y."""
        unit = prepared.unit
        means = params.means * unit[None, :] + prepared.mean[None, :]
        return StudentTParams(means, params.scales * (unit[:, None] * unit[None, :])[None, :, :], params.degrees)

    def from_user(self, params: StudentTParams, prepared: StudentTData) -> StudentTParams:
        """The inverse of `to_user`; degrees as the setting allows them."""
        unit = prepared.unit
        means = (params.means - prepared.mean[None, :]) / unit[None, :]
        scales = params.scales / (unit[:, None] * unit[None, :])[None, :, :]
        degrees = self.degrees_form.constrained(params.degrees, (prepared.fixed or NOTHING).degrees)
        return StudentTParams(means, scales, degrees)

    def sample(self, key: Array, params: StudentTParams, data: Data, labels: Array) -> Array:
        """y (n, d), or (n,) where d = 1, given the component of each row."""
        d, of_rows, of_precisions = params.means.shape[1], *jax.random.split(key)
        normal = jax.random.normal(of_rows, (labels.shape[0], d), params.means.dtype)
        normal = normal / jnp.sqrt(degrees_forms.precisions(of_precisions, params.degrees[labels]))[:, None]
        y = params.means[labels] + numerics.apply(self.form.factor(params.scales)[labels], normal)
        return y[:, 0] if d == 1 and jnp.ndim(data.y) == 1 else y

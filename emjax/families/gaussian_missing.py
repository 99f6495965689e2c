"""Multivariate Gaussian components where cells of y are missing: EM over any pattern of missing cells.

Orchard & Woodbury 1972; Dempster, Laird & Rubin 1977; Little & Rubin 2019, Statistical Analysis with Missing Data,
section 8.2. The likelihood is that of the observed cells, as it should be where cells are missing at random.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from emjax.base import design, numerics, places, units
from emjax.base.covariances import CovarianceForm
from emjax.base.records import Array, Data
from emjax.base.registry import register
from emjax.base.status import Problem
from emjax.families.gaussian import HIGHEST, Gaussian, GaussianParams, GaussianStatistics


class MissingGaussianData(NamedTuple):
    """Prepared: centred and scaled by what was observed, rows last, 0 in missing cells; as `GaussianData` else."""

    y: Array  # (d, n)
    observed: Array  # (d, n) bool
    mean: Array
    unit: Array
    deviation: Array
    prior: Any
    fixed: Any


class Completed(NamedTuple):
    """Under each component and given the observed cells: log density less constants, and the missing cells' moments."""

    log_density: Array  # (K, n)
    residuals: list[Array]  # d of (K, n), expected y less the component's mean
    left: list[Array]  # packed lower triangle of (K, n), conditional covariances, 0 where either cell was observed


@register
@dataclass(frozen=True)
class MissingGaussian(Gaussian):
    """Family of multivariate Gaussians of which cells may be missing.

    covariance : as in `Gaussian`, every form. Mixture(MissingGaussian(), 1) is the classical problem of a mean vector
    and a covariance matrix from incomplete data.
    Data: y (n, d), NaN in missing cells, or `Data.observed` (n, d), or both. A row without any observed cell adds
    nothing. Without missing cells this is `Gaussian`.

    Where much is missing EM is slow: its rate is the largest fraction of missing information
    (`acceleration` helps). Two columns that are never observed together leave their partial covariance free:
    the smallest eigenvalue of the certificate is then 0.
    """

    @property
    def missing(self) -> bool:
        """NaN in y is a missing cell."""
        return True

    def culprit(self, data: Data, problem: Problem, first_column: int = 0) -> str:
        """The columns never observed, or the first infinity."""
        y = np.asarray(data.y, np.float64)
        if problem & Problem.NOTHING_OBSERVED:
            seen = ~np.isnan(y.reshape(len(y), -1)[places.used(data)])
            return places.columns(~np.any(seen, axis=0), "y", first_column)
        if problem & Problem.RESPONSE_NOT_FINITE:
            return places.wrong(data, np.isinf(y), y, "y", first_column)
        return ""

    # --- once per dataset -------------------------------------------------------------------------------------------

    def prepare(self, data: Data, n_components: int, prior: Any, fixed: Any) -> tuple[MissingGaussianData, Array]:  # type: ignore[override]
        """As `Gaussian.prepare`, means and scales from the observed cells of each column."""
        y = (data.y[:, None] if data.y.ndim == 1 else data.y).T
        weight = jnp.asarray(data.weight, y.dtype)
        used = (weight > 0)[None, :]
        problem = jnp.where(jnp.any(jnp.isinf(y) & used), Problem.RESPONSE_NOT_FINITE, 0)
        observed = jnp.isfinite(y) & used
        share = jnp.where(observed, weight[None, :], 0.0)
        totals = jnp.sum(share, axis=1)
        seen = totals > 0
        problem |= jnp.where(jnp.any(~seen), Problem.NOTHING_OBSERVED, 0)
        totals = jnp.where(seen, totals, 1.0)
        y = jnp.where(observed, y, 0.0)
        size = design.magnitude(y)
        if self.form.shape == "spherical":
            size = jnp.broadcast_to(jnp.max(size), size.shape)
        y = y / size[:, None]
        mean = jnp.sum(y * share, axis=1) / totals
        y = jnp.where(observed, y - mean[:, None], 0.0)
        deviation, constant = design.unit_of(jnp.sum(y**2 * share, axis=1) / totals, mean)
        problem |= jnp.where(jnp.any(constant & seen), Problem.CONSTANT_RESPONSE, 0)
        unit = deviation
        if self.form.shape == "spherical":
            unit = jnp.broadcast_to(jnp.sqrt(jnp.mean(deviation**2)), deviation.shape)
        y = y / unit[:, None]
        if self.form.shape == "full":
            problem |= jnp.where(_collinear(y, observed, share) & ~jnp.any(constant), Problem.COLLINEAR, 0)
        prepared = MissingGaussianData(y, observed, mean * size, unit * size, deviation / unit, None, None)
        if prior is not None:
            scatter = _covariance(weight[None, :], observed, y[None])
            prepared = prepared._replace(prior=self._prepare_prior(prior, prepared, scatter, n_components))  # type: ignore[arg-type]
        if fixed is not None:
            prepared = prepared._replace(fixed=self._prepare_fixed(fixed, prepared))  # type: ignore[arg-type]
        return prepared, jnp.int32(problem)

    # --- the EM step ------------------------------------------------------------------------------------------------

    def _complete(self, params: GaussianParams, prepared: MissingGaussianData) -> Completed:
        away = [prepared.y[i][None, :] - params.means[:, i, None] for i in range(prepared.y.shape[0])]
        observed = [row[None, :] for row in prepared.observed]
        condition = _condition_unrolled if len(away) <= numerics.UNROLL else _condition_stacked
        return condition(params.covariances, away, observed)

    def log_prob(self, params: GaussianParams, prepared: MissingGaussianData) -> Array:  # type: ignore[override]
        """Log density of the observed cells, (K, n), nats; 0 where none is."""
        constants = 0.5 * numerics.LOG_2PI + jnp.log(prepared.unit)
        constant = jnp.sum(jnp.where(prepared.observed, constants[:, None], 0.0), axis=0)
        return self._complete(params, prepared).log_density - constant[None, :]

    def statistics(self, params: GaussianParams, prepared: MissingGaussianData, resp: Array) -> GaussianStatistics:  # type: ignore[override]
        """Expected over the missing cells: those of the completed residuals, and the covariances that are left."""
        d = prepared.y.shape[0]
        completed = self._complete(params, prepared)
        resp = jnp.where(jnp.any(prepared.observed, axis=0)[None, :], resp, 0.0)
        z, _ = self.form.whiten(params.covariances, completed.residuals)
        total, first, second = self.form.sums(resp, z)
        left = jnp.stack(numerics.row_sums(*(resp * entry for entry in completed.left)), axis=-1)
        inverse = numerics.inverse_lower(self.form.factor(params.covariances))
        left = numerics.multiply(inverse, numerics.unpack_symmetric(left, d))
        left = numerics.multiply(left, jnp.swapaxes(inverse, 1, 2))
        pairs = numerics.packed_indices(d) if self.form.shape == "full" else [(i, i) for i in range(d)]
        return GaussianStatistics(total, first, second + jnp.stack([left[:, i, j] for i, j in pairs], axis=-1))

    def initial(self, prepared: MissingGaussianData, resp: Array, spread: Array) -> GaussianParams:  # type: ignore[override]
        """Weighted means of the observed cells, 0 where a component has none; one pooled covariance."""
        eps, n_components, d = jnp.finfo(resp.dtype).eps, resp.shape[0], prepared.y.shape[0]
        counts = jnp.matmul(resp, prepared.observed.astype(resp.dtype).T, precision=HIGHEST)
        means = jnp.matmul(resp, prepared.y.T, precision=HIGHEST) / jnp.maximum(counts, eps)
        if prepared.fixed is not None and prepared.fixed.means is not None:
            means = prepared.fixed.means
        away = prepared.y[None, :, :] - means[:, :, None]
        scatter = _covariance(spread, prepared.observed, away)
        pooled = CovarianceForm(self.form.shape, True).estimate(scatter[None], jnp.ones(1, scatter.dtype))
        pooled = pooled + eps * jnp.eye(d, dtype=resp.dtype)[None, :, :]
        covariances = jnp.broadcast_to(pooled, (n_components, d, d))
        if prepared.fixed is not None and prepared.fixed.covariances is not None:
            covariances = prepared.fixed.covariances
        return GaussianParams(means, covariances)

    def sample(self, key: Array, params: GaussianParams, data: Data, labels: Array) -> Array:
        """As `Gaussian.sample`; the cells missing in `data` are missing again."""
        y = super().sample(key, params, data, labels)
        given = units.observed_rows(data)[0].y
        return jnp.where(jnp.isnan(given), jnp.nan, y)


def _covariance(spread: Array, observed: Array, away: Array) -> Array:
    """Covariance (d, d) from residuals (K, d, n) with weights (K, n): variances of what was observed, and semidefinite.

    Covariances are those of residuals with 0 for a missing one, so they are drawn towards 0; a start, no estimate.
    """
    away = jnp.where(observed[None, :, :], away, 0.0)
    products = jnp.einsum("kn,kin,kjn->ij", spread, away, away, precision=HIGHEST)
    counts = jnp.sum(jnp.where(observed, jnp.sum(spread, axis=0)[None, :], 0.0), axis=1)
    root = jnp.sqrt(jnp.maximum(counts, jnp.finfo(spread.dtype).eps))
    return products / (root[:, None] * root[None, :])


def _collinear(y: Array, observed: Array, share: Array) -> Array:
    """Whether some columns determine one another: all of them, or two where both were observed."""
    eps, d = jnp.finfo(y.dtype).eps, y.shape[0]
    matrix = _covariance(jnp.max(share, axis=0)[None, :], observed, y[None])
    alone = jnp.any(jnp.diagonal(numerics.cholesky(matrix)) ** 2 < design.COLLINEAR * eps * jnp.diagonal(matrix))
    seen = observed.astype(y.dtype)

    def sums(left: Array, right: Array) -> Array:
        return jnp.matmul(left * share, right.T, precision=HIGHEST)

    counts = jnp.maximum(sums(seen, seen), eps)
    mean, square = sums(y, seen) / counts, sums(y * y, seen) / counts  # of the row's variable, the column's observed
    variance = square - mean**2
    covariance = sums(y, y) / counts - mean * mean.T
    apart = variance * variance.T - covariance**2
    bound = design.COLLINEAR * eps * square * square.T
    pairs = (apart <= bound) & (counts > eps) & ~jnp.eye(d, dtype=bool)
    return alone | jnp.any(pairs)


# Each observed cell in turn is conditioned on, as the sweep operator does; cells that a row lacks are passed over. So
# rows of any pattern take the same elementwise steps, and no matrix is factorised row by row.


def _condition_unrolled(covariances: Array, away: list[Array], observed: list[Array]) -> Completed:
    """For few columns: every entry is an array of its own, so that all of it is one pass over the rows."""
    d = len(away)
    floor = numerics.PIVOT_FLOOR * jnp.finfo(covariances.dtype).eps
    zero = jnp.zeros_like(away[0])
    left = {(i, j): covariances[:, i, j, None] for i, j in numerics.packed_indices(d)}
    expected, log_density = [zero] * d, zero
    for j in range(d):
        pivot = jnp.maximum(left[j, j], floor * covariances[:, j, j, None])
        reciprocal = jnp.where(observed[j], 1.0 / pivot, 0.0)
        innovation = away[j] - expected[j]
        column = [left[max(i, j), min(i, j)] for i in range(d)]
        gain = [entry * reciprocal for entry in column]
        log_density -= 0.5 * (jnp.log(jnp.where(observed[j], pivot, 1.0)) + innovation**2 * reciprocal)
        expected = [expected[i] + gain[i] * innovation for i in range(d)]
        left = {(i, k): entry - gain[i] * column[k] for (i, k), entry in left.items()}
    return _completed(log_density, away, expected, left, observed)


def _condition_stacked(covariances: Array, away: list[Array], observed: list[Array]) -> Completed:
    """For many columns: the same in a few operations on whole matrices (d, d, K, n) for each of them."""
    d = len(away)
    floor = numerics.PIVOT_FLOOR * jnp.finfo(covariances.dtype).eps
    shape = away[0].shape
    left = jnp.broadcast_to(jnp.moveaxis(covariances, 0, 2)[:, :, :, None], (d, d, *shape))
    expected, log_density = jnp.zeros((d, *shape), away[0].dtype), jnp.zeros_like(away[0])
    for j in range(d):
        pivot = jnp.maximum(left[j, j], floor * covariances[:, j, j, None])
        reciprocal = jnp.where(observed[j], 1.0 / pivot, 0.0)
        innovation = away[j] - expected[j]
        gain = left[j] * reciprocal[None]
        log_density -= 0.5 * (jnp.log(jnp.where(observed[j], pivot, 1.0)) + innovation**2 * reciprocal)
        expected = expected + gain * innovation[None]
        left = left - gain[:, None] * left[j][None, :]
    entries = {(i, k): left[i, k] for i, k in numerics.packed_indices(d)}
    return _completed(log_density, away, list(expected), entries, observed)


def _completed(
    log_density: Array, away: list[Array], expected: list[Array], left: dict[Any, Array], observed: list[Array]
) -> Completed:
    """What was observed put back exactly."""
    residuals = [jnp.where(seen, known, guess) for seen, known, guess in zip(observed, away, expected)]
    lacking = [jnp.where(observed[i] | observed[k], 0.0, entry) for (i, k), entry in left.items()]
    return Completed(log_density, residuals, lacking)

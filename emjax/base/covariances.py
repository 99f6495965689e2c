"""Covariance matrices of K components in six forms: full, diagonal or spherical, each free or tied."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

from emjax.base import coordinates, design, numerics, priors
from emjax.base.records import Array
from emjax.base.settings import Degeneracy
from emjax.base.status import DataError, Flag

VARIANCE_FLOOR = 4.0  # times eps squared, prepared units: keeps a collapsed variance positive, never binds otherwise
NAMES = {
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


def positive_definite(matrices: Any) -> bool:
    """On the host: whether all of these (..., d, d) are finite and positive definite."""
    values = np.asarray(matrices, np.float64)
    return bool(np.all(np.isfinite(values))) and bool(np.min(np.linalg.eigvalsh(values)) > 0)


def canonical_name(name: str) -> str:
    """The form's name; mclust's letters are translated."""
    found = MCLUST.get(name, name) if isinstance(name, str) else None
    if found is None or found not in NAMES:
        known = ", ".join([*NAMES, *MCLUST])
        raise DataError(f"covariance={name!r} is not known: use one of {known}.")
    return found


@dataclass(frozen=True)
class CovarianceForm:
    """What is free in the covariance matrices (K, d, d). shape : "full", "diagonal", "spherical"; tied : one matrix."""

    shape: str
    tied: bool

    @staticmethod
    def of(name: str) -> CovarianceForm:
        """From a form's name."""
        return CovarianceForm(*NAMES[canonical_name(name)])

    def size(self, d: int) -> int:
        """Free parameters of one matrix."""
        return {"full": d * (d + 1) // 2, "diagonal": d, "spherical": 1}[self.shape]

    def factor(self, covariances: Array) -> Array:
        """Lower Cholesky factors (K, d, d)."""
        if self.shape == "full":
            return numerics.cholesky(covariances)
        deviation = jnp.sqrt(jnp.diagonal(covariances, axis1=1, axis2=2))  # not of the zeros: their gradient is NaN
        return deviation[:, :, None] * jnp.eye(covariances.shape[-1], dtype=covariances.dtype)[None, :, :]

    def whiten(self, covariances: Array, away: list[Array]) -> tuple[list[Array], Array]:
        """z = L_k^-1 away by rows, d of (K, n) each, and log det L_k, (K,)."""
        d = len(away)
        if self.shape != "full":
            deviation = jnp.sqrt(jnp.diagonal(covariances, axis1=1, axis2=2))
            scaled = [row * (1.0 / deviation[:, i])[:, None] for i, row in enumerate(away)]
            return scaled, jnp.sum(jnp.log(deviation), axis=1)
        factor = numerics.cholesky(covariances)
        log_det = 0.5 * numerics.log_determinant(factor)
        if d > numerics.UNROLL:
            z = numerics.multiply(numerics.inverse_lower(factor), jnp.stack(away, axis=1))
            return [z[:, i] for i in range(d)], log_det
        rows: list[Array] = []
        for i in range(d):
            inner = sum((factor[:, i, j, None] * rows[j] for j in range(i)), jnp.zeros_like(away[i]))
            rows.append((away[i] - inner) * (1.0 / factor[:, i, i])[:, None])
        return rows, log_det

    def sums(self, resp: Array, z: list[Array]) -> tuple[Array, Array, Array]:
        """Over rows: sum of resp (K,), of resp z (K, d), and of the products that this form needs: the packed lower
        triangle (K, P) of resp z z', or its diagonal (K, d)."""
        d = len(z)
        weighted = [resp * row for row in z]
        if self.shape == "full" and d > numerics.UNROLL:
            right = jnp.stack(z, axis=1)
            second = numerics.multiply(jnp.stack(weighted, axis=1), jnp.swapaxes(right, 1, 2))
            i, j = (jnp.array(index, dtype=jnp.int32) for index in zip(*numerics.packed_indices(d)))
            return jnp.sum(resp, axis=1), jnp.sum(resp[:, None, :] * right, axis=2), second[:, i, j]
        pairs = numerics.packed_indices(d) if self.shape == "full" else [(i, i) for i in range(d)]
        total, *rest = numerics.row_sums(resp, *weighted, *(weighted[i] * z[j] for i, j in pairs))
        return total, jnp.stack(rest[:d], axis=1), jnp.stack(rest[d:], axis=1)

    def colour(self, products: Array, factor: Array) -> Array:
        """Scatter matrices (K, d, d) from products of whitened residuals: the inverse of `whiten`, both sides."""
        d = factor.shape[-1]
        if self.shape == "full":
            white = numerics.unpack_symmetric(products, d)
        else:
            white = products[:, :, None] * jnp.eye(d, dtype=factor.dtype)[None, :, :]
        return numerics.multiply(numerics.multiply(factor, white), jnp.swapaxes(factor, 1, 2))

    def estimate(self, scatter: Array, rows: Array, prior: Any = None) -> Array:
        """Covariances (K, d, d) that maximise the expected log-likelihood plus log prior.

        scatter (K, d, d) about the means; rows (K,), where a prior on the mean counts as one more row.
        """
        n_components, d = scatter.shape[0], scatter.shape[1]
        identity = jnp.eye(d, dtype=scatter.dtype)
        tiny, eps = jnp.finfo(scatter.dtype).tiny, jnp.finfo(scatter.dtype).eps
        if self.tied:
            scatter, rows = jnp.sum(scatter, axis=0, keepdims=True), jnp.sum(rows, keepdims=True)
        extra = 0.0 if prior is None else prior.degrees + (d + 1.0 if self.shape == "full" else 2.0)
        if self.shape == "spherical":
            squares = jnp.trace(scatter, axis1=1, axis2=2)
            if prior is not None:
                squares = squares + jnp.trace(prior.scale) / d
            found = (squares / jnp.maximum(d * rows + extra, tiny))[:, None, None] * identity[None, :, :]
        else:
            if prior is not None:
                scatter = scatter + prior.scale[None, :, :]
            found = scatter / jnp.maximum(rows + extra, tiny)[:, None, None]
            found = found if self.shape == "full" else found * identity[None, :, :]
        # Rounding may leave a collapsed variance below zero: the diagonal is lifted to the floor.
        diagonal = jnp.diagonal(found, axis1=1, axis2=2)
        lift = jnp.maximum(VARIANCE_FLOOR * eps**2 - diagonal, VARIANCE_FLOOR * eps**2)
        found = found + numerics.diagonal_matrix(lift)
        return jnp.broadcast_to(found, (n_components, d, d))

    def log_prior(self, covariances: Array, prior: Any, unit: Array) -> Array:
        """Log density under a NormalInverseWishart per user's units, a prepared one being `unit`; once where tied."""
        d = covariances.shape[-1]
        if self.shape == "full":
            density = priors.log_inverse_wishart(self.factor(covariances), prior.degrees, prior.scale)
            density = density - (d + 1.0) * jnp.sum(jnp.log(unit))
        else:
            variance, scale = jnp.diagonal(covariances, axis1=1, axis2=2), jnp.diagonal(prior.scale)
            if self.shape == "spherical":
                variance, scale, unit = variance[:, :1], jnp.mean(scale)[None], unit[:1]
            gamma = priors.log_inverse_gamma(variance, 0.5 * prior.degrees, 0.5 * scale[None, :])
            density = jnp.sum(gamma - 2.0 * jnp.log(unit)[None, :], axis=1)
        return density[0] if self.tied else jnp.sum(density)

    def extreme_scales(self, covariances: Array, deviation: Array) -> tuple[Array, Array]:
        """Smallest and largest square root of a covariance eigenvalue over components, in columns of `deviation`."""
        if self.shape != "full":
            scale = jnp.sqrt(jnp.diagonal(covariances, axis1=1, axis2=2)) / deviation[None, :]
            return jnp.min(scale), jnp.max(scale)
        inverse = numerics.inverse_lower(numerics.cholesky(covariances))
        precision = numerics.multiply(jnp.swapaxes(inverse, 1, 2), inverse)
        smallest = 1.0 / jnp.max(numerics.largest_eigenvalue(precision))
        return jnp.sqrt(smallest), jnp.sqrt(jnp.max(numerics.largest_eigenvalue(covariances)))

    def flags(self, covariances: Array, total: Array, size: int, deviation: Array, degeneracy: Degeneracy) -> Array:
        """DEGENERATE and SUSPECT by the named settings, of which none is for a tied covariance, or one component by
        itself; a scale of nothing but rounding is DEGENERATE whatever they are.

        total (K,) : rows of the components. size : parameters of one. deviation (d,) : as in `extreme_scales`.
        """
        n_components, d = covariances.shape[:2]
        min_rows = d + 1.0 if degeneracy.min_rows is None else degeneracy.min_rows
        few = jnp.min(total) < degeneracy.suspect_rows * size
        compared = n_components > 1 or degeneracy.relative_to == "data"
        suspect = few if compared else jnp.zeros((), bool)
        smallest, largest = self.extreme_scales(covariances[:1] if self.tied else covariances, deviation)
        collapsed = smallest < design.rounding(smallest.dtype)
        if compared and (n_components == 1 or not self.tied):
            if degeneracy.relative_to == "data":
                largest = jnp.ones_like(largest)
            ratio = smallest / largest
            collapsed |= (ratio < degeneracy.min_scale_ratio) | (jnp.min(total) < min_rows)
            if degeneracy.relative_to == "components":
                suspect |= ratio < degeneracy.suspect_scale_ratio
        return jnp.where(collapsed, Flag.DEGENERATE, 0) | jnp.where(suspect, Flag.SUSPECT, 0)

    def to_free(self, covariances: Array) -> Array:
        """Packed log-Cholesky factors, log standard deviations, or one log standard deviation a component; flat."""
        covariances = covariances[:1] if self.tied else covariances
        if self.shape == "full":
            return coordinates.covariances_to_free(covariances).reshape(-1)
        free = 0.5 * jnp.log(jnp.diagonal(covariances, axis1=1, axis2=2))
        return (free[:, :1] if self.shape == "spherical" else free).reshape(-1)

    def from_free(self, free: Array, n_components: int, d: int) -> Array:
        """The inverse of `to_free`, (K, d, d)."""
        rows = free.reshape(1 if self.tied else n_components, -1)
        if self.shape == "full":
            found = coordinates.covariances_from_free(rows, d)
        else:
            found = jnp.exp(2.0 * rows)[:, :, None] * jnp.eye(d, dtype=free.dtype)[None, :, :]
        return jnp.broadcast_to(found, (n_components, d, d))

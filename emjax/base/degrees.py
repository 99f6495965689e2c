"""Degrees of freedom of Student-t components: each its own, one for all, or a given number.

With delta a squared Mahalanobis distance in d dimensions and nu the degrees of freedom, w = nu / (nu + delta) lies in
(0, 1]; the expected precision weight of the row is (nu + d) / nu times w.
"""

from __future__ import annotations

import math
import numbers
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from emjax.base import numerics, special
from emjax.base.records import Array
from emjax.base.status import DataError, Flag

SHIFT = 7  # the asymptotic series below, of odd powers of 1 / x, is taken at arguments above this
SERIES = (1.0 / 12.0, -1.0 / 360.0, 1.0 / 1260.0, -1.0 / 1680.0, 1.0 / 1188.0, -691.0 / 360360.0, 1.0 / 156.0)
START = 10.0  # degrees of freedom that every start has, where they are free
LONGEST = 1.0  # of a step, in log degrees and in log scale
NEAR_GAUSSIAN = 4.0  # above this many, steps are taken in 1 / degrees rather than in their logarithm
AT_EDGE = 1e-5  # relative: degrees of freedom this close to an end of their range are at it
MARGIN = 1e-8  # relative: how far beyond its ends the range of the free coordinates reaches


def log_constant(degrees: Array, d: int) -> Array:
    """Log density of a multivariate t at its centre, scale matrix 1: nats.

    log Gamma((nu + d) / 2) - log Gamma(nu / 2) - d / 2 log(nu / 2) - d / 2 log(2 pi), to rounding for every nu: the
    difference of two `lgamma` loses 1e-7 at nu = 1e8, and its derivatives are slow special functions.
    """
    x, a = 0.5 * degrees, 0.5 * d
    far = x + float(SHIFT)
    ratio = 1.0 + a / x
    for j in range(1, SHIFT):
        ratio = ratio * (1.0 + a / (x + float(j)))
    stirling = (far + (a - 0.5)) * jnp.log1p(a / far) - a + _stirling(far + a) - _stirling(far)
    return stirling + a * jnp.log1p(float(SHIFT) / x) - jnp.log(ratio) - a * numerics.LOG_2PI


def _stirling(x: Array) -> Array:
    inverse = 1.0 / x
    square, total = inverse * inverse, jnp.full_like(x, SERIES[-1])
    for coefficient in SERIES[-2::-1]:
        total = total * square + coefficient
    return total * inverse


def log_density(degrees: Array, squares: Array, d: int) -> Array:
    """Log density (K, n) less log det of the scale's root, from squared distances (K, n); degrees (K,)."""
    half = 0.5 * (degrees + float(d))
    return log_constant(degrees, d)[:, None] - half[:, None] * jnp.log1p(squares * (1.0 / degrees)[:, None])


def tails(degrees: Array, z: Array) -> tuple[Array, Array, Array]:
    """P(T < z), 0 and P(T > z), (K, n) each, of standard t variables; degrees (K,), z (K, n)."""
    ratio = z**2 * (1.0 / degrees)[:, None]  # may overflow: no ratio of two of them
    inside, outside = 1.0 / (1.0 + ratio), 1.0 / (1.0 + 1.0 / ratio)
    front = log_density(degrees, z**2, 1) + jnp.log(jnp.abs(z))
    half = 0.5 * degrees[:, None] + 0.0 * inside
    beyond, _ = special.beta_tails(half, jnp.full_like(half, 0.5), inside, outside, front)
    far, near = 0.5 * beyond, 1.0 - 0.5 * beyond
    return jnp.where(z < 0, far, near), jnp.zeros_like(z), jnp.where(z < 0, near, far)


def precision(degrees: Array, squares: Array, d: int) -> Array:
    """Expected precision weights u = (nu + d) / (nu + delta), (K, n)."""
    return (degrees + float(d))[:, None] / (degrees[:, None] + squares)


def expanded_rows(degrees: Array, total: Array, weight: Array, tied: bool) -> Array:
    """What the scatters (K,) are divided by in the parameter-expanded step, `weight` being the sums of r u.

    The expansion multiplies all precisions of a scale by one factor, whose M-step weighs components by their degrees:
    for a scale of its own the divisor is sum r u; a tied one takes sum r times the factor.
    """
    if not tied:
        return weight
    tiny = jnp.finfo(weight.dtype).tiny
    return total * (jnp.sum(degrees * weight) / jnp.maximum(jnp.sum(degrees * total), tiny))


class DegreesSums(NamedTuple):
    """Over rows, weighted by responsibility, each (K,): of -log w, of 1 - w, and of w (1 - w)."""

    logarithm: Array
    far: Array
    bent: Array


def sums(degrees: Array, squares: Array, resp: Array) -> DegreesSums:
    """What the score and information of degrees and scale are made of."""
    nu = degrees[:, None]
    w = nu / (nu + squares)
    far = resp * (squares / (nu + squares))
    return DegreesSums(*numerics.row_sums(resp * jnp.log1p(squares / nu), far, far * w))


@dataclass(frozen=True)
class DegreesForm:
    """What is free. setting : "component", "common" or a number; lowest, highest : the range of free ones."""

    setting: Any
    lowest: float
    highest: float

    @staticmethod
    def checked(where: str, setting: Any, bounds: Any) -> DegreesForm:
        """From a family's settings; what cannot be raises `DataError`."""
        if not (isinstance(setting, str) and setting in ("component", "common")):
            if isinstance(setting, bool) or not isinstance(setting, numbers.Real) or not 0 < float(setting) < math.inf:
                raise DataError(f"{where}(degrees={setting!r}): use 'component', 'common' or a positive number.")
            setting = float(setting)
        try:
            lowest, highest = (float(bound) for bound in bounds)
        except (TypeError, ValueError):
            lowest, highest = 0.0, 0.0
        if not 0 < lowest < highest < math.inf:
            raise DataError(f"{where}(degrees_range={bounds!r}): give two positive numbers, the lower first.")
        return DegreesForm(setting, lowest, highest)

    @property
    def common(self) -> bool:
        """One value for all components."""
        return self.setting != "component"

    def free(self, fixed: Any) -> bool:
        """Whether degrees are estimated, where `fixed` holds given values (K,) or None."""
        return isinstance(self.setting, str) and fixed is None

    def constrained(self, degrees: Array, fixed: Any = None) -> Array:
        """User's degrees (K,) as the setting allows them."""
        if fixed is not None:
            return fixed
        if not isinstance(self.setting, str):
            return jnp.full(degrees.shape, self.setting, degrees.dtype)
        if self.setting == "common":
            degrees = jnp.broadcast_to(jnp.exp(jnp.mean(jnp.log(degrees))), degrees.shape)
        return jnp.clip(degrees, self.lowest, self.highest)

    def start(self, n_components: int, dtype: Any, fixed: Any) -> Array:
        """Degrees (K,) of every start."""
        return self.constrained(jnp.full(n_components, START, dtype), fixed)

    def step(
        self, degrees: Array, total: Array, found: DegreesSums, d: int, tied: bool, scale_free: bool
    ) -> tuple[Array, Array]:
        """Degrees (K,) after one Newton step, and by how much the log scales (K,) of the components move with them.

        The step maximises sum r log t(y) over degrees and one factor of the scale at once, to second order, at the
        current parameters (ECME, Liu & Rubin 1994, Biometrika 81: the likelihood itself, not the expected one with the
        precisions filled in, whose steps for nu degrees are of the order of nu^2 / 3 times too short). The first-order
        part of the scale's step is left to the weighted scatter. Degrees and scale are taken together since the
        correlation of their scores is large. tied : one scale. scale_free : whether it is estimated.
        """
        nu, p = degrees, degrees + float(d)
        score, scores, curvature, cross, own = _derivatives(nu, p, total, found, d)
        if tied:
            scores, own = _pooled(scores), _pooled(own)
            if self.common:
                score, curvature, cross = _pooled(score), _pooled(curvature), _pooled(cross)
        if not scale_free:
            cross = jnp.zeros_like(cross)
        own = jnp.maximum(own, jnp.finfo(nu.dtype).tiny)
        gradient, information = score - cross * scores / own, curvature - cross**2 / own
        if self.common and not tied:
            gradient, information = _pooled(gradient), _pooled(information)
        # Newton's step in log(1 + c / nu): for large nu the likelihood is near quadratic in 1 / nu.
        share = nu / (nu + NEAR_GAUSSIAN)
        information = jnp.abs(information - share * gradient)
        move = gradient / jnp.maximum(information, jnp.abs(gradient) / LONGEST + jnp.finfo(nu.dtype).tiny)
        place = jnp.log1p(NEAR_GAUSSIAN / nu) - (1.0 - share) * move
        small = jnp.finfo(nu.dtype).eps
        after = NEAR_GAUSSIAN / jnp.expm1(jnp.maximum(place, small))
        after = jnp.clip(after, self.lowest, self.highest)
        along = cross * (jnp.log(after) - jnp.log(nu))
        if tied and not self.common:
            along = _pooled(along)
        return after, jnp.clip(-along / own, -LONGEST, LONGEST)

    # --- coordinates ------------------------------------------------------------------------------------------------

    def owners(self, n_components: int) -> list[int]:
        """The component of each free coordinate, -1 where it is shared."""
        return [-1] if self.common else list(range(n_components))

    def _ends(self, dtype: Any) -> tuple[float, float]:
        """Of 1 / degrees; the edges themselves are inside, so that the score there still has its sign."""
        margin = max(MARGIN, 8.0 * float(jnp.finfo(dtype).eps))
        return 1.0 / (self.highest * (1.0 + margin)), (1.0 + margin) / self.lowest

    def to_free(self, degrees: Array) -> Array:
        """Log odds of 1 / degrees within its range: minus infinity is the Gaussian end."""
        low, high = self._ends(degrees.dtype)
        inverse = 1.0 / (degrees[:1] if self.common else degrees)
        return jnp.log(inverse - low) - jnp.log(high - inverse)

    def from_free(self, free: Array, n_components: int) -> Array:
        """The inverse of `to_free`, (K,)."""
        low, high = self._ends(free.dtype)
        return jnp.broadcast_to(1.0 / (low + (high - low) * jax.nn.sigmoid(free)), (n_components,))

    def boundary(self, degrees: Array) -> Array:
        """1 at the upper end of the range, 2 at the lower one, for each free coordinate."""
        degrees = degrees[:1] if self.common else degrees
        upper = degrees > self.highest * (1.0 - AT_EDGE)
        lower = degrees < self.lowest * (1.0 + AT_EDGE)
        return jnp.where(upper, 1, jnp.where(lower, 2, 0)).astype(jnp.int32)

    def boundary_of(self, degrees: Array, fixed: Any, n_free: int) -> Array:
        """As `Model.boundary`, of all a family's coordinates: the degrees' are the last, the others in the interior."""
        if not self.free(fixed):
            return jnp.zeros(n_free, jnp.int32)
        edge = self.boundary(degrees)
        return jnp.concatenate([jnp.zeros(n_free - edge.shape[0], jnp.int32), edge])

    def flags(self, degrees: Array, fixed: Any) -> Array:
        """BOUNDARY where free degrees are at an end of their range."""
        if not self.free(fixed):
            return jnp.int32(Flag.NONE)
        return jnp.where(jnp.any(self.boundary(degrees) > 0), Flag.BOUNDARY, Flag.NONE)


def check_degrees(degrees: Any) -> None:
    """On the host: values that are not degrees of freedom raise `DataError`; None passes."""
    if degrees is not None and not np.all(np.isfinite(degrees) & (np.asarray(degrees) > 0)):
        raise DataError("degrees must be positive and finite.")


def no_prior(where: str, prior: Any) -> None:
    """A prior raises `DataError`."""
    if prior is not None:
        raise DataError(f"{where} has no conjugate prior: leave 'family' out of prior=, or fix blocks by fixed=.")


def precisions(key: Array, degrees: Array) -> Array:
    """Draws of the precision weights, one an entry of `degrees`: chi-squared over its degrees."""
    return jax.random.gamma(key, 0.5 * degrees) / (0.5 * degrees)


def _pooled(values: Array) -> Array:
    return jnp.broadcast_to(jnp.sum(values), values.shape)


def _derivatives(
    nu: Array, p: Array, total: Array, found: DegreesSums, d: int
) -> tuple[Array, Array, Array, Array, Array]:
    """Of sum r log t: scores of log degrees and log scale; minus its second derivatives: degrees, cross, scale."""

    def first(log_nu: Array) -> Array:
        one = jnp.ones_like(log_nu)
        return jax.jvp(lambda free: log_constant(jnp.exp(free), d), (log_nu,), (one,))[1]

    slope, bend = jax.jvp(first, (jnp.log(nu),), (jnp.ones_like(nu),))
    logarithm, far, bent = found
    score = total * slope - 0.5 * nu * logarithm + 0.5 * p * far
    curvature = 0.5 * nu * logarithm - nu * far + 0.5 * p * bent - total * bend
    return score, p * far - float(d) * total, curvature, p * bent - nu * far, 2.0 * p * bent

"""Robust linear regression in each component: Student-t errors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp

from emjax.base import coefficients as shares
from emjax.base import degrees as degrees_forms
from emjax.base import design, numerics, positive
from emjax.base.covariances import VARIANCE_FLOOR
from emjax.base.degrees import DegreesForm, DegreesSums
from emjax.base.design import Design
from emjax.base.protocols import FamilyDefaults
from emjax.base.records import Array, Data
from emjax.base.registry import register
from emjax.base.settings import Degeneracy
from emjax.base.status import DataError

HIGHEST = jax.lax.Precision.HIGHEST


@register
class StudentTRegressionParams(NamedTuple):
    """coefficients (K, p), the intercept first; scale (K,), not standard deviations; degrees (K,) of freedom."""

    coefficients: Array
    scale: Array
    degrees: Array


class StudentTRegressionStatistics(NamedTuple):
    """With precision weights u and residuals e: counts (K,), sum r u, sum r u x x' (K, p, p), r u x e, r u e e.

    `degrees` is None where they are not free.
    """

    total: Array
    precision: Array
    xx: Array
    xe: Array
    ee: Array
    degrees: DegreesSums | None


class StudentTRegressionData(NamedTuple):
    """Prepared: centred and scaled, rows last."""

    y: Array  # (n,)
    design: Design
    y_unit: Array  # () user's units of one prepared unit
    pooled_scale: Array  # () residual standard deviation of one regression, prepared units
    fixed: Any  # StudentTRegressionParams in prepared units with None where free, or None


NOTHING = StudentTRegressionParams(None, None, None)  # type: ignore[arg-type]


@register
@dataclass(frozen=True)
class StudentTRegression(FamilyDefaults):
    """Family of linear regressions with Student-t errors (Lange, Little & Taylor 1989, JASA 84, 881-896).

    intercept : put a column of ones first. scale : "component" or "common". degrees : "component", "common", or a
        number for all components. degrees_range : (lowest, highest) of free degrees; a fit that ends at one has the
        flag BOUNDARY.
    Data: y (n,), x (n, p) or None for the intercept alone, optional offset (n,). It has no conjugate prior.
    The steps are those of `StudentT`.
    """

    continuous = True

    intercept: bool = True
    scale: Literal["component", "common"] = "component"
    degrees: str | float = "component"
    degrees_range: tuple[float, float] = (0.1, 1000.0)
    blocks: ClassVar[Any] = StudentTRegressionParams

    def __post_init__(self) -> None:
        shares.check_intercept("StudentTRegression", self.intercept)
        if self.scale not in ("component", "common"):
            raise DataError(f"StudentTRegression(scale={self.scale!r}): use 'component' or 'common'.")
        form = DegreesForm.checked("StudentTRegression", self.degrees, self.degrees_range)
        object.__setattr__(self, "degrees", form.setting)
        object.__setattr__(self, "degrees_range", (form.lowest, form.highest))

    @property
    def common(self) -> bool:
        """One scale for all components."""
        return self.scale == "common"

    @property
    def degrees_form(self) -> DegreesForm:
        """What is free in the degrees of freedom."""
        return DegreesForm(self.degrees, *self.degrees_range)

    @property
    def monotone(self) -> bool:
        """With given degrees the step is exact EM's; a Newton step on free ones may overshoot."""
        return not isinstance(self.degrees, str)

    @property
    def uses(self) -> tuple[str, ...]:
        """Covariates and offset."""
        return ("x", "offset")

    def check(self, data: Data) -> None:
        """y must be one column; without an intercept there must be covariates."""
        shares.check_data(self, data)

    def check_params(self, params: StudentTRegressionParams) -> None:
        """Values that are not parameters raise `DataError`; blocks may be None."""
        shares.check_coefficients(params.coefficients, None, self.intercept)
        positive.check_values("scale", params.scale)
        degrees_forms.check_degrees(params.degrees)

    # --- once per dataset -------------------------------------------------------------------------------------------

    def prepare(self, data: Data, n_components: int, prior: Any, fixed: Any) -> tuple[StudentTRegressionData, Array]:
        """Centre (with an intercept) and scale; the pooled scale comes from one Gaussian regression."""
        degrees_forms.no_prior("StudentTRegression", prior)
        found, problem = design.regression(data, self.intercept)
        prepared = StudentTRegressionData(*found, None)
        if fixed is not None:
            dtype = prepared.y.dtype
            coefficients, scale, degrees = fixed
            if coefficients is not None:
                coefficients = prepared.design.coefficients_from_user(jnp.asarray(coefficients, dtype))
            if scale is not None:
                scale = jnp.asarray(scale, dtype) / prepared.y_unit
            if degrees is not None:
                degrees = jnp.asarray(degrees, dtype)
            held = StudentTRegressionParams(coefficients, scale, degrees)  # type: ignore[arg-type]
            prepared = prepared._replace(fixed=held)
        return prepared, jnp.int32(problem)

    # --- the EM step ------------------------------------------------------------------------------------------------

    def _residuals(self, coefficients: Array, prepared: StudentTRegressionData) -> Array:
        return prepared.y[None, :] - numerics.linear(coefficients, prepared.design.x)

    def log_prob(self, params: StudentTRegressionParams, prepared: StudentTRegressionData) -> Array:
        """(K, n), nats."""
        squares = (self._residuals(params.coefficients, prepared) * (1.0 / params.scale)[:, None]) ** 2
        constant = jnp.log(params.scale) + jnp.log(prepared.y_unit)
        return degrees_forms.log_density(params.degrees, squares, 1) - constant[:, None]

    def tails(self, params: StudentTRegressionParams, prepared: StudentTRegressionData) -> tuple[Array, Array, Array]:
        """Probabilities of less than each row's y, of it, and of more, (K, n) each."""
        z = self._residuals(params.coefficients, prepared) * (1.0 / params.scale)[:, None]
        return degrees_forms.tails(params.degrees, z)

    def statistics(
        self, params: StudentTRegressionParams, prepared: StudentTRegressionData, resp: Array
    ) -> StudentTRegressionStatistics:
        """In residual form: raw moments lose the scale to cancellation (DESIGN 4)."""
        residuals = self._residuals(params.coefficients, prepared)
        squares = (residuals * (1.0 / params.scale)[:, None]) ** 2
        weight = resp * degrees_forms.precision(params.degrees, squares, 1)
        xx, xe, total, precision, ee = numerics.weighted_products(
            weight, weight * residuals, prepared.design.x, resp, weight, weight * residuals**2
        )
        free = self.degrees_form.free((prepared.fixed or NOTHING).degrees)
        of_degrees = degrees_forms.sums(params.degrees, squares, resp) if free else None
        return StudentTRegressionStatistics(total, precision, xx, xe, ee, of_degrees)

    def maximize(
        self,
        statistics: StudentTRegressionStatistics,
        params: StudentTRegressionParams,
        prepared: StudentTRegressionData,
    ) -> StudentTRegressionParams:
        """Weighted least squares as a correction of the current coefficients; a Newton step on degrees and scale."""
        fixed, info = prepared.fixed or NOTHING, jnp.finfo(prepared.y.dtype)
        xx, xe, ee, total = statistics.xx, statistics.xe, statistics.ee, statistics.total
        rows = degrees_forms.expanded_rows(params.degrees, total, statistics.precision, self.common)
        if fixed.coefficients is not None:
            move = fixed.coefficients - params.coefficients  # the start may have others
        else:
            move = numerics.solve_positive(design.ridged(xx), xe)
        squares = ee - 2.0 * jnp.sum(move * xe, axis=1) + jnp.sum(move * numerics.apply(xx, move), axis=1)
        squares = jnp.maximum(squares, info.eps**2 * ee)
        if self.common:
            squares, rows = jnp.sum(squares) + 0.0 * squares, jnp.sum(rows) + 0.0 * rows
        scale = jnp.sqrt(squares / jnp.maximum(rows, info.tiny))
        degrees = self.degrees_form.constrained(params.degrees, fixed.degrees)
        if statistics.degrees is not None:
            degrees, stretch = self.degrees_form.step(
                params.degrees, total, statistics.degrees, 1, self.common, fixed.scale is None
            )
            scale = scale * jnp.exp(stretch)
        # Squared distances from a collapsed component must not overflow: its precisions would be 0 x infinity.
        floor = (VARIANCE_FLOOR * info.eps**2) ** 0.5
        scale = jnp.maximum(scale, floor) if fixed.scale is None else fixed.scale
        return StudentTRegressionParams(params.coefficients + move, scale, degrees)

    def initial(self, prepared: StudentTRegressionData, resp: Array, spread: Array) -> StudentTRegressionParams:
        """Weighted least squares at `resp`, one scale from the squared residuals weighted by `spread`."""
        fixed, eps = prepared.fixed or NOTHING, jnp.finfo(prepared.y.dtype).eps
        coefficients = fixed.coefficients
        found = design.least_squares(prepared.design, prepared.y, resp)
        squares = jnp.sum(spread * self._residuals(found, prepared) ** 2) / jnp.maximum(jnp.sum(spread), eps)
        scale = jnp.broadcast_to(jnp.sqrt(jnp.maximum(squares, eps)), resp.shape[:1])
        return StudentTRegressionParams(
            found if coefficients is None else coefficients,
            scale if fixed.scale is None else fixed.scale,
            self.degrees_form.start(resp.shape[0], resp.dtype, fixed.degrees),
        )

    def elemental(self, prepared: StudentTRegressionData) -> int:
        """One row more than coefficients."""
        return prepared.design.x.shape[0] + 1

    # --- what the engine watches ------------------------------------------------------------------------------------

    def log_prior(self, params: StudentTRegressionParams, prepared: StudentTRegressionData) -> Array:
        """0: there is none."""
        return jnp.zeros((), prepared.y.dtype)

    def flags(
        self,
        params: StudentTRegressionParams,
        statistics: StudentTRegressionStatistics,
        prepared: StudentTRegressionData,
        degeneracy: Degeneracy,
    ) -> Array:
        """As a `LinearRegression`'s; BOUNDARY for degrees at an end of their range."""
        p, pooled = params.coefficients.shape[1], prepared.pooled_scale
        found = design.collapse(params.scale, statistics.total, p + 1, pooled, self.common, degeneracy)
        return found | self.degrees_form.flags(params.degrees, (prepared.fixed or NOTHING).degrees)

    def boundary(self, params: StudentTRegressionParams, prepared: StudentTRegressionData) -> Array:
        """Degrees at an end of their range; all else is in the interior."""
        m, fixed = self.n_free(prepared, params.degrees.shape[0]), (prepared.fixed or NOTHING).degrees
        return self.degrees_form.boundary_of(params.degrees, fixed, m)

    def relabel(self, params: StudentTRegressionParams, permutation: Array) -> StudentTRegressionParams:
        """Component k of the result is component permutation[k] of `params`."""
        return StudentTRegressionParams(*(block[permutation] for block in params))

    # --- coordinates and units --------------------------------------------------------------------------------------

    def component_of_free(self, prepared: StudentTRegressionData, n_components: int) -> tuple[int, ...]:
        """Coefficients component by component, then log scales, then degrees."""
        owners: list[int] = []
        fixed = prepared.fixed or NOTHING
        if fixed.coefficients is None:
            owners += [k for k in range(n_components) for _ in range(prepared.design.x.shape[0])]
        if fixed.scale is None:
            owners += [-1] if self.common else list(range(n_components))
        if self.degrees_form.free(fixed.degrees):
            owners += self.degrees_form.owners(n_components)
        return tuple(owners)

    def n_free(self, prepared: StudentTRegressionData, n_components: int) -> int:
        """Number of free coordinates."""
        return len(self.component_of_free(prepared, n_components))

    def to_free(self, params: StudentTRegressionParams, prepared: StudentTRegressionData) -> Array:
        """Coefficients, log scales (one where common), then degrees as `DegreesForm.to_free`."""
        fixed = prepared.fixed or NOTHING
        parts = [jnp.zeros(0, params.scale.dtype)]
        if fixed.coefficients is None:
            parts.append(params.coefficients.reshape(-1))
        if fixed.scale is None:
            parts.append(jnp.log(params.scale[:1] if self.common else params.scale))
        if self.degrees_form.free(fixed.degrees):
            parts.append(self.degrees_form.to_free(params.degrees))
        return jnp.concatenate(parts)

    def from_free(self, free: Array, prepared: StudentTRegressionData, n_components: int) -> StudentTRegressionParams:
        """The inverse of `to_free`."""
        p = prepared.design.x.shape[0]
        coefficients, scale, degrees = prepared.fixed or NOTHING
        if coefficients is None:
            coefficients, free = free[: n_components * p].reshape(n_components, p), free[n_components * p :]
        if scale is None:
            count = 1 if self.common else n_components
            scale, free = jnp.broadcast_to(jnp.exp(free[:count]), (n_components,)), free[count:]
        if self.degrees_form.free(degrees):
            degrees = self.degrees_form.from_free(free, n_components)
        else:
            degrees = self.degrees_form.start(n_components, prepared.y.dtype, degrees)
        return StudentTRegressionParams(coefficients, scale, degrees)

    def to_user(self, params: StudentTRegressionParams, prepared: StudentTRegressionData) -> StudentTRegressionParams:
        """Coefficients and scales in the units of the user's y and x."""
        coefficients = prepared.design.coefficients_to_user(params.coefficients)
        return StudentTRegressionParams(coefficients, params.scale * prepared.y_unit, params.degrees)

    def from_user(self, params: StudentTRegressionParams, prepared: StudentTRegressionData) -> StudentTRegressionParams:
        """The inverse of `to_user`; degrees as the setting allows them."""
        coefficients = prepared.design.coefficients_from_user(params.coefficients)
        degrees = self.degrees_form.constrained(params.degrees, (prepared.fixed or NOTHING).degrees)
        return StudentTRegressionParams(coefficients, params.scale / prepared.y_unit, degrees)

    def sample(self, key: Array, params: StudentTRegressionParams, data: Data, labels: Array) -> Array:
        """y (n,) given the component of each row."""
        of_rows, of_precisions = jax.random.split(key)
        mean = design.predictor(params.coefficients, data, labels, self.intercept)
        normal = jax.random.normal(of_rows, labels.shape, params.scale.dtype)
        u = degrees_forms.precisions(of_precisions, params.degrees[labels])
        return mean + params.scale[labels] * normal / jnp.sqrt(u)

"""Regressions with a canonical link, whose M-step is one Newton step from additive statistics.

The score and the information of Q at the current parameters are sums over rows, and one Newton step from them is
locally equivalent to EM (Lange 1995, Journal of the Royal Statistical Society B 57, 425-437). It may overshoot: the
families are not `monotone`, and the engine halves a step that lowered the objective.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from emjax.base import coefficients as shares
from emjax.base import counts, design, numerics
from emjax.base.coefficients import Columns
from emjax.base.design import Design
from emjax.base.protocols import FamilyDefaults
from emjax.base.records import Array, Data
from emjax.base.settings import Degeneracy
from emjax.base.status import DataError, Flag

HIGHEST = jax.lax.Precision.HIGHEST
LONGEST = 4.0  # of a Newton step, a coordinate in prepared units: a far start must not need more than ten halvings
TRACE = 0.1  # rows that a start borrows from the whole dataset, so that no few rows of a component are separated


class RegressionStatistics(NamedTuple):
    """Weighted by responsibility: counts (K,), information X'VX (K, p, p), score X'(y - mean) (K, p)."""

    total: Array
    information: Array
    score: Array


class RegressionData(NamedTuple):
    """Prepared: covariates centred and scaled, rows last; the link's scale as it is."""

    rows: Any  # what the family's density needs of each row
    offset: Array  # (n,)
    design: Design
    working: Array  # (n,) the link of each row's own mean, nearly, less the offset
    precision: Array  # (n,) of `working`
    share: Array  # (n,) the rows' shares of the total weight
    fixed: Any  # the family's params in prepared units, or None


@dataclass(frozen=True)
class CanonicalRegression(FamilyDefaults, ABC):
    """What Poisson and binomial regression have in common; `blocks` is their record of coefficients (K, p)."""

    intercept: bool = True
    shared: Any = None
    blocks: ClassVar[Any]

    def __post_init__(self) -> None:
        name = type(self).__name__
        shares.check_intercept(name, self.intercept)
        shares.check_setting(name, self.shared, self.intercept)

    @property
    def monotone(self) -> bool:
        """A Newton step may overshoot."""
        return False

    @staticmethod
    @abstractmethod
    def _rows(data: Data, used: Array) -> tuple[Any, Array]:
        """Rows in the form that the density takes, and `Problem` bits."""

    @staticmethod
    @abstractmethod
    def _working(rows: Any) -> tuple[Array, Array]:
        """The link of each row's own mean, nearly, and its precision, (n,)."""

    @staticmethod
    @abstractmethod
    def _density(rows: Any, eta: Array) -> Array:
        """Log density (K, n) at linear predictors (K, n), nats."""

    @staticmethod
    @abstractmethod
    def _tails(rows: Any, eta: Array) -> tuple[Array, Array, Array]:
        """Probabilities of less than y, of y and of more, (K, n) each, at linear predictors (K, n)."""

    @staticmethod
    @abstractmethod
    def _moments(rows: Any, eta: Array) -> tuple[Array, Array]:
        """Residuals and variances, (K, n)."""

    @staticmethod
    @abstractmethod
    def _draw(key: Array, eta: Array, data: Data) -> Array:
        """y (n,) at linear predictors (n,)."""

    def _columns(self, p: int) -> Columns:
        return Columns.of(self.shared, self.intercept, p)

    def _columns_of(self, prepared: RegressionData) -> Columns:
        return self._columns(prepared.design.x.shape[0])

    # --- on the host ------------------------------------------------------------------------------------------------

    def check(self, data: Data) -> None:
        """y must be one column; without an intercept there must be covariates; one column at least must vary."""
        name = type(self).__name__
        shares.check_data(self, data)
        p = int(self.intercept) + (0 if data.x is None else np.shape(data.x)[-1])
        if not self._columns(p).own:
            raise DataError(f"{name}(shared={self.shared!r}) shares every coefficient: leave one to the components.")

    def check_params(self, params: Any) -> None:
        """Values that are not parameters raise `DataError`; blocks may be None."""
        shares.check_coefficients(params.coefficients, self.shared, self.intercept)

    # --- once per dataset -------------------------------------------------------------------------------------------

    def prepare(self, data: Data, n_components: int, prior: Any, fixed: Any) -> tuple[RegressionData, Array]:
        """Centre (with an intercept) and scale the covariates; constants of the density; where a start begins."""
        if prior is not None:
            raise DataError(f"{type(self).__name__} has no conjugate prior: leave out prior['family'].")
        weight, used = counts.used_rows(data)
        rows, problem = self._rows(data, used)
        offset, found = counts.offset_of(data, used)
        x, found_x = design.covariates(data, used)
        zero, one = jnp.zeros((), x.dtype), jnp.ones((), x.dtype)
        centred = self._columns(x.shape[0] + int(self.intercept)).centred(self.intercept)
        columns, found_design = design.prepare(x, weight, self.intercept, zero, one, centred)
        problem |= found | found_x | found_design
        working, precision = self._working(rows)
        share = weight / design.total_weight(weight)
        prepared = RegressionData(rows, offset, columns, working - offset, precision, share, None)
        if fixed is not None:
            held = self.blocks(jnp.asarray(fixed.coefficients, x.dtype))
            prepared = prepared._replace(fixed=self.from_user(held, prepared))
        return prepared, jnp.int32(problem)

    def elemental(self, prepared: RegressionData) -> int:
        """One row more than coefficients."""
        return prepared.design.x.shape[0] + 1

    def initial(self, prepared: RegressionData, resp: Array, spread: Array) -> Any:
        """Weighted least squares of each row's own link, log(y + 1/2) or the empirical logit."""
        if prepared.fixed is not None:
            return prepared.fixed
        weight = (resp + TRACE * prepared.share[None, :]) * prepared.precision[None, :]
        columns = self._columns_of(prepared)
        return self.blocks(design.least_squares(prepared.design, prepared.working, weight, columns))

    # --- the EM step ------------------------------------------------------------------------------------------------

    def _predictor(self, params: Any, prepared: RegressionData) -> Array:
        return numerics.linear(params.coefficients, prepared.design.x) + prepared.offset[None, :]

    def log_prob(self, params: Any, prepared: RegressionData) -> Array:
        """(K, n), nats."""
        return self._density(prepared.rows, self._predictor(params, prepared))

    def tails(self, params: Any, prepared: RegressionData) -> tuple[Array, Array, Array]:
        """P(Y < y), P(Y = y) and P(Y > y), (K, n) each."""
        return self._tails(prepared.rows, self._predictor(params, prepared))

    def statistics(self, params: Any, prepared: RegressionData, resp: Array) -> RegressionStatistics:
        """Score and information of Q at the current parameters."""
        residual, variance = self._moments(prepared.rows, self._predictor(params, prepared))
        information, score, total = numerics.weighted_products(
            resp * variance, resp * residual, prepared.design.x, resp
        )
        return RegressionStatistics(total, information, score)

    def maximize(self, statistics: RegressionStatistics, params: Any, prepared: RegressionData) -> Any:
        """One Newton step, no coordinate longer than `LONGEST`."""
        if prepared.fixed is not None:
            return prepared.fixed
        columns = self._columns_of(prepared)
        step = columns.solve(design.ridged(statistics.information), statistics.score)
        own, shared = columns.split(step)
        own, shared = _shortened(own), _shortened(shared)
        return self.blocks(params.coefficients + columns.join(own, shared))

    # --- what the engine watches ------------------------------------------------------------------------------------

    def log_prior(self, params: Any, prepared: RegressionData) -> Array:
        """There is none."""
        return jnp.zeros((), prepared.offset.dtype)

    def flags(
        self, params: Any, statistics: RegressionStatistics, prepared: RegressionData, degeneracy: Degeneracy
    ) -> Array:
        """BOUNDARY where coefficients run to infinity (separation); SUSPECT where a component has few rows.

        Never DEGENERATE: the likelihood of counts is bounded.
        """
        columns, n_components = self._columns_of(prepared), params.coefficients.shape[0]
        few = jnp.min(statistics.total) < degeneracy.suspect_rows * len(columns.own)
        bits = jnp.where(few, Flag.SUSPECT, 0) if n_components > 1 else jnp.int32(0)
        if prepared.fixed is None:
            for block in columns.blocks(statistics.information):
                bits |= jnp.where(design.unheld(block), Flag.BOUNDARY, 0)
        return bits

    def relabel(self, params: Any, permutation: Array) -> Any:
        """Component k of the result is component permutation[k] of `params`."""
        return self.blocks(params.coefficients[permutation])

    # --- coordinates and units --------------------------------------------------------------------------------------

    def component_of_free(self, prepared: RegressionData, n_components: int) -> tuple[int, ...]:
        """Coefficients component by component, then shared ones."""
        return () if prepared.fixed is not None else tuple(self._columns_of(prepared).owners(n_components))

    def n_free(self, prepared: RegressionData, n_components: int) -> int:
        """Number of free coordinates: shared coefficients once."""
        return len(self.component_of_free(prepared, n_components))

    def to_free(self, params: Any, prepared: RegressionData) -> Array:
        """Coefficients component by component, then shared ones."""
        if prepared.fixed is not None:
            return jnp.zeros(0, params.coefficients.dtype)
        return self._columns_of(prepared).to_free(params.coefficients)

    def from_free(self, free: Array, prepared: RegressionData, n_components: int) -> Any:
        """The inverse of `to_free`."""
        if prepared.fixed is not None:
            return prepared.fixed
        return self.blocks(self._columns_of(prepared).from_free(free, n_components))

    def to_user(self, params: Any, prepared: RegressionData) -> Any:
        """Coefficients in the units of the user's x."""
        return self.blocks(jnp.matmul(params.coefficients, prepared.design.to_user.T, precision=HIGHEST))

    def from_user(self, params: Any, prepared: RegressionData) -> Any:
        """The inverse of `to_user`; shared coefficients are the first component's."""
        coefficients = jnp.matmul(params.coefficients, prepared.design.to_prepared.T, precision=HIGHEST)
        return self.blocks(self._columns_of(prepared).equal(coefficients))

    def sample(self, key: Array, params: Any, data: Data, labels: Array) -> Array:
        """y (n,) given the component of each row."""
        return self._draw(key, design.predictor(params.coefficients, data, labels, self.intercept), data)


def _shortened(step: Array) -> Array:
    """Steps (..., p) in the same direction, no coordinate longer than `LONGEST`."""
    longest = jnp.max(jnp.abs(step), axis=-1, keepdims=True, initial=0.0)
    return step * (LONGEST / jnp.maximum(longest, LONGEST))

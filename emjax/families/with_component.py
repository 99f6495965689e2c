"""A family with one parameter-free component more: uniform noise, or a point mass (zero inflation)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from emjax.base import units
from emjax.base.protocols import Family, FamilyDefaults
from emjax.base.records import Array, Data, Params
from emjax.base.registry import register
from emjax.base.settings import Degeneracy
from emjax.base.status import DataError, Problem


class Density(Protocol):
    """A density without parameters."""

    def check(self, data: Data) -> None:
        """On the host: data that it cannot describe raise `DataError`."""
        ...

    def log_prob(self, data: Data) -> tuple[Array, Array]:
        """Log density of every row, (n,), nats, and `Problem` bits; `data.weight` has one entry a row."""
        ...

    def sample(self, key: Array, data: Data) -> Array:
        """Draws in the form of `data.y`."""
        ...

    # Optional, as a family's: `tails(data)`, probabilities of less than y, of y, and of more, (n,) each, or None.


@register
@dataclass(frozen=True)
class UniformNoise:
    """Uniform over the box that the rows of a dataset span: log density minus the sum of log ranges.

    For continuous responses, univariate or multivariate, without missing cells (Fraley & Raftery 2002, JASA 97, section
    2.4, where the volume is that of the data region). The box belongs to the data, not to the parameters: `sample`
    draws over the box of its `data.y`.
    """

    def check(self, data: Data) -> None:
        """Nothing but numbers is needed."""

    def log_prob(self, data: Data) -> tuple[Array, Array]:
        """The same for all rows; a column without any range is a problem bit."""
        low, high = _box(data.y, jnp.asarray(data.weight) > 0)
        span = high - low
        flat = ~(jnp.isfinite(span) & (span > 0))
        value = -jnp.sum(jnp.log(jnp.where(flat, 1.0, span)))
        problem = jnp.where(jnp.any(flat), Problem.CONSTANT_RESPONSE, 0)
        return value + jnp.zeros(data.y.shape[0], data.y.dtype), problem

    def tails(self, data: Data) -> tuple[Array, Array, Array] | None:
        """Shares of the range, of univariate responses."""
        if data.y.ndim > 1:
            return None
        low, high = _box(data.y, jnp.asarray(data.weight) > 0)
        inside = (low < high) & (low <= data.y) & (data.y <= high)
        below, above = (jnp.where(inside, gap / (high - low), 0.5) for gap in (data.y - low, high - data.y))
        return below, jnp.zeros_like(below), above

    def sample(self, key: Array, data: Data) -> Array:
        """Uniform over the box of `data.y`."""
        rows = units.of_rows(units.weights(data)[0], data.unit) > 0
        low, high = _box(data.y, rows if data.observed is None else rows & units.observed_rows(data)[1])
        return jax.random.uniform(key, data.y.shape, data.y.dtype, low, high)


def _box(y: Array, rows: Array) -> tuple[Array, Array]:
    """Smallest and largest value of each column over the rows that count, (n,) bool, in the shape of a row of y."""
    used = jnp.isfinite(y) & (rows if y.ndim == 1 else rows[:, None])
    return jnp.min(jnp.where(used, y, jnp.inf), axis=0), jnp.max(jnp.where(used, y, -jnp.inf), axis=0)


@register
@dataclass(frozen=True)
class PointMass:
    """All mass at one value; at 0, the zero inflation of a count family (Lambert 1992, Technometrics 34).

    For counts: beside a continuous density a point mass has no likelihood.
    """

    at: float = 0.0

    def __post_init__(self) -> None:
        number = isinstance(self.at, (int, float)) and not isinstance(self.at, bool)
        if not number or not np.isfinite(self.at):
            raise DataError(f"PointMass(at={self.at!r}): give a finite number.")

    def check(self, data: Data) -> None:
        """y must be one column."""
        if np.ndim(data.y) != 1:
            raise DataError(f"PointMass needs y of shape (n,), not {np.shape(data.y)}: give one response.")

    def log_prob(self, data: Data) -> tuple[Array, Array]:
        """0 at the value, minus infinity elsewhere."""
        there = data.y == jnp.asarray(self.at, data.y.dtype)
        return jnp.where(there, 0.0, -jnp.inf).astype(data.y.dtype), jnp.int32(Problem.NONE)

    def tails(self, data: Data) -> tuple[Array, Array, Array]:
        """All on one side."""
        at = jnp.asarray(self.at, data.y.dtype)
        below, there, above = (side.astype(at.dtype) for side in (at < data.y, at == data.y, at > data.y))
        return below, there, above

    def sample(self, key: Array, data: Data) -> Array:
        """The value."""
        return jnp.full(data.y.shape, self.at, data.y.dtype)


class WithComponentData(NamedTuple):
    """Prepared: the inner family's, and the log density of the component without parameters, (n,), and its tails."""

    inner: Any
    log_density: Array
    tails: Any  # three of (n,), or None

    @property
    def fixed(self) -> Any:
        """The inner family's fixed blocks."""
        return self.inner.fixed


@register
@dataclass(frozen=True)
class WithComponent(FamilyDefaults):
    """A family and one component without parameters, the last of the K: `Mixture(WithComponent(family, density), K)`.

    family : describes the first K - 1 components, and is all that the parameters of this one hold. density :
    UniformNoise() or PointMass(at=0.0). The last component keeps its place where labels are exchanged. Collapse is
    judged on the others alone: among one another, and each against the whole sample.
    """

    family: Family
    density: Any

    def __post_init__(self) -> None:
        if isinstance(self.family, type) or not isinstance(self.family, Family):
            raise DataError(f"WithComponent(family={self.family!r}) is not a family: try Gaussian().")
        if isinstance(self.density, type) or not hasattr(self.density, "log_prob") or hasattr(self.density, "blocks"):
            raise DataError(f"WithComponent(density={self.density!r}): use UniformNoise() or PointMass().")
        if self.continuous and isinstance(self.density, PointMass):
            raise DataError(
                f"WithComponent({self.family!r}, PointMass()): beside a density a point mass has no likelihood: use "
                "UniformNoise(), or a family of counts."
            )

    @property
    def blocks(self) -> Any:
        """The inner family's."""
        return self.family.blocks

    @property
    def monotone(self) -> bool:
        """As the inner family."""
        return self.family.monotone

    @property
    def extra(self) -> int:
        """One more than the inner family has."""
        return self.family.extra + 1

    @property
    def continuous(self) -> bool:  # type: ignore[override]
        """As the inner family."""
        return getattr(self.family, "continuous", False)

    @property
    def uses(self) -> tuple[str, ...]:
        """As the inner family."""
        return self.family.uses

    def check(self, data: Data) -> None:
        """What either part refuses."""
        self.family.check(data)
        self.density.check(data)

    def check_params(self, params: Params) -> None:
        """As the inner family."""
        self.family.check_params(params)

    def culprit(self, data: Data, problem: Problem, first_column: int = 0) -> str:
        """As the inner family."""
        return self.family.culprit(data, problem, first_column)

    def prepare(self, data: Data, n_components: int, prior: Any, fixed: Any) -> tuple[WithComponentData, Array]:
        """Both parts."""
        inner, problem = self.family.prepare(data, n_components - 1, prior, fixed)
        log_density, found = self.density.log_prob(data)
        log_density = jnp.where(jnp.asarray(data.weight) > 0, log_density, 0.0)
        tails = getattr(self.density, "tails", lambda _: None)(data)
        return WithComponentData(inner, log_density, tails), problem | jnp.asarray(found, jnp.int32)

    # --- the EM step ------------------------------------------------------------------------------------------------

    def log_prob(self, params: Params, prepared: WithComponentData) -> Array:
        """(K, n), nats."""
        return jnp.concatenate([self.family.log_prob(params, prepared.inner), prepared.log_density[None, :]])

    def tails(self, params: Params, prepared: WithComponentData) -> tuple[Array, Array, Array] | None:
        """P(Y < y), P(Y = y) and P(Y > y), (K, n) each; None where either part has none."""
        inner = getattr(self.family, "tails", lambda *_: None)(params, prepared.inner)
        if inner is None or prepared.tails is None:
            return None
        parts = zip(inner, prepared.tails, strict=True)
        below, at, above = (jnp.concatenate([rows, row[None, :]]) for rows, row in parts)
        return below, at, above

    def statistics(self, params: Params, prepared: WithComponentData, resp: Array) -> Any:
        """The inner family's."""
        return self.family.statistics(params, prepared.inner, resp[:-1])

    def maximize(self, statistics: Any, params: Params, prepared: WithComponentData) -> Params:
        """The inner family's."""
        return self.family.maximize(statistics, params, prepared.inner)

    def initial(self, prepared: WithComponentData, resp: Array, spread: Array) -> Params:
        """The inner family's, of its own responsibilities."""
        return self.family.initial(prepared.inner, resp[:-1], spread[:-1])

    def elemental(self, prepared: WithComponentData) -> int:
        """As the inner family."""
        return self.family.elemental(prepared.inner)

    # --- what the engine watches ------------------------------------------------------------------------------------

    def log_prior(self, params: Params, prepared: WithComponentData) -> Array:
        """As the inner family."""
        return self.family.log_prior(params, prepared.inner)

    def flags(self, params: Params, statistics: Any, prepared: WithComponentData, degeneracy: Degeneracy) -> Array:
        """The inner family's, and each component alone against the whole sample, by the square of `min_scale_ratio`.

        Beside noise a single component, and a common scale, can collapse too. Noise stretches the sample's scale, so
        that a ratio which is small among components is ordinary here.
        """
        bits = self.family.flags(params, statistics, prepared.inner, degeneracy)
        if degeneracy.relative_to == "data":
            return bits
        ratio = degeneracy.min_scale_ratio**2
        against = replace(degeneracy, relative_to="data", min_scale_ratio=ratio)
        for k in range(_count(params)):
            alone = self.family.relabel(params, jnp.arange(k, k + 1 + self.family.extra))
            bits |= self.family.flags(alone, statistics, prepared.inner, against)
        return bits

    def boundary(self, params: Params, prepared: WithComponentData) -> Array:
        """As the inner family."""
        return self.family.boundary(params, prepared.inner)

    def relabel(self, params: Params, permutation: Array) -> Params:
        """Of the first K - 1 components; the last of `permutation` is K - 1."""
        return self.family.relabel(params, permutation[:-1])

    # --- coordinates and units --------------------------------------------------------------------------------------

    def component_of_free(self, prepared: WithComponentData, n_components: int) -> tuple[int, ...]:
        """As the inner family."""
        return self.family.component_of_free(prepared.inner, n_components - 1)

    def n_free(self, prepared: WithComponentData, n_components: int) -> int:
        """As the inner family."""
        return self.family.n_free(prepared.inner, n_components - 1)

    def to_free(self, params: Params, prepared: WithComponentData) -> Array:
        """As the inner family."""
        return self.family.to_free(params, prepared.inner)

    def from_free(self, free: Array, prepared: WithComponentData, n_components: int) -> Params:
        """The inverse of `to_free`."""
        return self.family.from_free(free, prepared.inner, n_components - 1)

    def to_user(self, params: Params, prepared: WithComponentData) -> Params:
        """As the inner family."""
        return self.family.to_user(params, prepared.inner)

    def from_user(self, params: Params, prepared: WithComponentData) -> Params:
        """As the inner family."""
        return self.family.from_user(params, prepared.inner)

    def sample(self, key: Array, params: Params, data: Data, labels: Array) -> Array:
        """Responses given the component of each row."""
        draw_inner, draw_density = jax.random.split(key)
        last = _count(params) + self.family.extra
        inner = self.family.sample(draw_inner, params, data, jnp.minimum(labels, last - 1))
        other = (labels == last).reshape(-1, *(1 for _ in inner.shape[1:]))
        return jnp.where(other, self.density.sample(draw_density, data).astype(inner.dtype), inner)


def _count(params: Params) -> int:
    """Components with parameters: the first block has a row each."""
    return jax.tree.leaves(params)[0].shape[0]

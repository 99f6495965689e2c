"""A family given by the log density of one row alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from emjax.base import numerics
from emjax.base.family_defaults import FamilyDefaults
from emjax.base.records import Array, Data
from emjax.base.registry import register
from emjax.base.settings import Degeneracy
from emjax.base.status import DataError, Flag, Problem

RIDGE = 1e-6  # of a diagonal of one, added to the information that scales the steps: damps what is not identified
START_STEPS = 10  # towards the rows of a component, from `initial`
START_POOLED = 0.5  # share of all rows in a start, so that a few rows cannot make a density collapse
FIELDS = ("y", "x", "offset", "trials")


class NoBlocks(NamedTuple):
    """`fixed=` has no names: what is fixed stands in the log density."""


class LogDensityData(NamedTuple):
    """The rows as given, those of weight 0 replaced by one that counts; pooled: `initial` for the whole sample."""

    rows: Data
    pooled: Any  # parameters of one component
    fixed: Any  # None


@register
@dataclass(frozen=True)
class LogDensity(FamilyDefaults):
    """Family of one's own densities; made by `from_log_density`, which describes its fields."""

    log_density: Callable[[Any, Data], Array]
    initial_values: Callable[[Data], Any]
    sampler: Callable[[Array, Any, Data], Array] | None = None
    steps: int = 3
    blocks: ClassVar[Any] = NoBlocks

    @property
    def monotone(self) -> bool:
        """The steps have no line search: the engine guards them."""
        return False

    @property
    def uses(self) -> tuple[str, ...]:
        """Whatever is given."""
        return ("x", "offset", "trials")

    def named(self, params: Any) -> dict[str, Any]:
        """None."""
        return {}

    def check(self, data: Data) -> None:
        """The user's functions must give one number a row, and floating-point parameters."""
        if np.ndim(data.y) not in (1, 2):
            raise DataError(f"from_log_density needs y of shape (n,) or (n, d), not {np.shape(data.y)}.")
        self.refuse_unused(data, z="The components have no z: leave it out of Data.")
        floats = [(name, getattr(data, name)) for name in FIELDS if getattr(data, name) is not None]
        shapes = {name: jax.ShapeDtypeStruct(np.shape(value), jnp.float32) for name, value in floats}
        row = {name: jax.ShapeDtypeStruct(np.shape(value)[1:], jnp.float32) for name, value in floats}
        weight = jax.ShapeDtypeStruct(np.shape(data.y)[:1], jnp.float32)
        params = jax.eval_shape(self.initial_values, Data(**shapes, weight=weight))
        leaves = jax.tree.leaves(params)
        if not leaves or not all(jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in leaves):
            raise DataError("from_log_density: initial(data) must give floating-point arrays, one component's.")
        found = jax.eval_shape(self.log_density, params, Data(**row))
        if not hasattr(found, "shape") or found.shape != () or not jnp.issubdtype(found.dtype, jnp.floating):
            raise DataError(f"from_log_density: log_density(params, row) must give one number (), not {found}.")

    def check_params(self, params: Any) -> None:
        """Values that are not finite raise `DataError`."""
        if not all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(params)):
            raise DataError("the parameters of a log density must be finite.")

    # --- vectors of one component's parameters ------------------------------------------------------------------

    def _vectors(self, params: Any) -> Array:
        """(K, m / K)"""
        leaves = [leaf.reshape(leaf.shape[0], -1) for leaf in jax.tree.leaves(params)]
        return jnp.concatenate(leaves, axis=1)

    def _params(self, vectors: Array, prepared: LogDensityData) -> Any:
        """The inverse of `_vectors`, any leading axes."""
        leaves, structure = jax.tree.flatten(prepared.pooled)
        parts = jnp.split(vectors, np.cumsum([leaf.size for leaf in leaves])[:-1], axis=-1)
        shaped = [p.reshape(*vectors.shape[:-1], *leaf.shape) for p, leaf in zip(parts, leaves, strict=True)]
        return jax.tree.unflatten(structure, shaped)

    def _over_rows(self, function: Callable[[Array, Data], Array], gives: str, prepared: LogDensityData) -> Any:
        """`function` of one vector (P,) and one row as one of many vectors (..., P), giving (..., n) and what `gives`.

        Rows and components are one lane's own axes: jnp.vectorize broadcasts over them as a ufunc does.
        """
        names = [name for name in FIELDS if getattr(prepared.rows, name) is not None]
        values = [getattr(prepared.rows, name) for name in names]
        shapes = ["(" + ",".join(f"{name}{i}" for i in range(v.ndim - 1)) + ")" for name, v in zip(names, values)]
        many = jnp.vectorize(
            lambda vector, *row: function(vector, Data(**dict(zip(names, row, strict=True)))),
            signature=f"(p),{','.join(shapes)}->{gives}",
        )

        def call(vectors: Array) -> Array:
            lead = (1,) * (vectors.ndim - 1)
            return many(vectors[..., None, :], *(v.reshape(*lead, *v.shape) for v in values))

        return call

    def _one(self, vector: Array, row: Data, prepared: LogDensityData) -> Array:
        return jnp.asarray(self.log_density(self._params(vector, prepared), row), vector.dtype)

    # --- once per dataset -------------------------------------------------------------------------------------------

    def prepare(self, data: Data, n_components: int, prior: Any, fixed: Any) -> tuple[LogDensityData, Array]:
        """A row of weight 0 becomes one that counts, for the density must be finite there too."""
        if prior is not None:
            raise DataError("from_log_density takes no prior: the family has no place for one.")
        dtype = data.y.dtype
        weight = jnp.asarray(data.weight, dtype)
        used, problem, fields = weight > 0, jnp.int32(0), {}
        good = used
        for name in FIELDS:
            value = getattr(data, name)
            if value is not None:
                bad = used & ~jnp.all(jnp.isfinite(value.reshape(value.shape[0], -1)), axis=1)
                which = Problem.COVARIATE_NOT_FINITE if name == "x" else Problem.RESPONSE_NOT_FINITE
                problem |= jnp.where(jnp.any(bad), which, 0)
                good &= ~bad
                fields[name] = value
        first = jnp.argmax(good)
        for name, value in fields.items():
            keep = good.reshape(-1, *(1,) * (value.ndim - 1))
            fields[name] = jnp.where(keep, value, jnp.where(good[first], value[first], 1.0)[None])
        rows = Data(**fields, weight=weight)
        pooled = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), self.initial_values(rows))
        return LogDensityData(rows, pooled, None), jnp.int32(problem)

    # --- the EM step ------------------------------------------------------------------------------------------------

    def log_prob(self, params: Any, prepared: LogDensityData) -> Array:
        """(K, n), nats."""
        return self._over_rows(lambda v, row: self._one(v, row, prepared), "()", prepared)(self._vectors(params))

    def statistics(self, params: Any, prepared: LogDensityData, resp: Array) -> Array:
        """The responsibilities themselves, (K, n): nothing smaller is sufficient."""
        return resp

    def maximize(self, statistics: Array, params: Any, prepared: LogDensityData) -> Any:
        """A few steps of L-BFGS for every component."""
        return self._params(self._climb(self._vectors(params), statistics, self.steps, prepared), prepared)

    def _climb(self, vectors: Array, weight: Array, steps: int, prepared: LogDensityData) -> Array:
        """L-BFGS on the weighted log density of each component, vectors (K, P), weight (K, n).

        In coordinates in which the mean of outer products of the rows' scores is the identity: there the mean score
        is no longer than 1 (Cauchy-Schwarz), the first step is that of Berndt, Hall, Hall & Hausman (1974, Annals of
        Economic and Social Measurement 3), near Fisher scoring where the density fits, and L-BFGS mends the rest.
        """
        import optax  # a quarter of what importing emjax would take, for this family alone

        scores = self._over_rows(jax.grad(lambda v, row: self._one(v, row, prepared)), "(p)", prepared)

        def mean_score(vector: Array, share: Array) -> tuple[Array, Array]:
            of_rows = jnp.where(share[:, None] > 0, scores(vector), 0.0)
            return jnp.sum(share[:, None] * of_rows, axis=0), of_rows

        def climb(vector: Array, weight: Array) -> Array:
            share = weight / jnp.maximum(jnp.sum(weight), jnp.finfo(weight.dtype).tiny)
            score, of_rows = mean_score(vector, share)
            information = jnp.sum(share[:, None, None] * of_rows[:, :, None] * of_rows[:, None, :], axis=0)
            ridge = RIDGE * jnp.diagonal(information) + jnp.finfo(weight.dtype).eps
            white = numerics.inverse_lower(numerics.cholesky(information + numerics.diagonal_matrix(ridge)))
            optimiser = optax.scale_by_lbfgs(memory_size=max(1, steps - 1))
            place = jnp.zeros_like(vector)
            state: Any = optimiser.init(place)
            state = state._replace(weights_memory=state.weights_memory.astype(vector.dtype))
            for step in range(steps):
                downhill = -numerics.apply(white, score)
                with jax.numpy_dtype_promotion("standard"):  # optax mixes widths of its own whole numbers
                    move, state = optimiser.update(downhill, state, place)
                # Where the curvature met is not that of a maximum, the pair says nothing: scoring instead.
                move = jnp.where(jnp.sum(move * downhill) > 0, move, downhill)  # type: ignore[operator]
                place = place - move * jnp.minimum(1.0, 1.0 / jnp.sqrt(jnp.maximum(jnp.sum(move**2), 1e-30)))
                if step < steps - 1:
                    score, _ = mean_score(vector + numerics.apply(white.T, place), share)
            return vector + numerics.apply(white.T, place)

        return jnp.vectorize(climb, signature="(p),(n)->(p)")(vectors, weight)

    def initial(self, prepared: LogDensityData, resp: Array, spread: Array) -> Any:
        """From the user's own values, steps towards the rows of each component, all rows counting for half."""
        rows, tiny = prepared.rows, jnp.finfo(resp.dtype).tiny
        own = resp / jnp.maximum(jnp.sum(resp, axis=1, keepdims=True), tiny)
        total = jnp.maximum(jnp.sum(rows.weight), tiny)  # type: ignore[arg-type]
        weight = (1.0 - START_POOLED) * total * own + START_POOLED * rows.weight[None, :]  # type: ignore[index]

        def values(weight: Array) -> Array:
            return ravel_pytree(self.initial_values(rows._replace(weight=weight)))[0].astype(resp.dtype)

        vectors = jnp.vectorize(values, signature="(n)->(p)")(weight)
        return self._params(self._climb(vectors, weight, START_STEPS, prepared), prepared)

    def elemental(self, prepared: LogDensityData) -> int:
        """As many rows as one component has parameters."""
        return self.n_free(prepared, 1)

    # --- what the engine watches ------------------------------------------------------------------------------------

    def log_prior(self, params: Any, prepared: LogDensityData) -> Array:
        """0: there is no prior."""
        return jnp.zeros((), prepared.rows.y.dtype)

    def flags(self, params: Any, statistics: Array, prepared: LogDensityData, degeneracy: Degeneracy) -> Array:
        """DEGENERATE and SUSPECT by rows alone: which parameter is a scale is not known."""
        bits, size = jnp.int32(0), self.n_free(prepared, 1)
        if statistics.shape[0] > 1:
            fewest = jnp.min(jnp.sum(statistics, axis=1))
            least = float(size) if degeneracy.min_rows is None else degeneracy.min_rows
            bits |= jnp.where(fewest < least, Flag.DEGENERATE, 0)
            bits |= jnp.where(fewest < degeneracy.suspect_rows * size, Flag.SUSPECT, 0)
        return jnp.int32(bits)

    def relabel(self, params: Any, permutation: Array) -> Any:
        """Component k of the result is component permutation[k] of `params`."""
        return jax.tree.map(lambda leaf: leaf[permutation], params)

    # --- coordinates and units --------------------------------------------------------------------------------------

    def component_of_free(self, prepared: LogDensityData, n_components: int) -> tuple[int, ...]:
        """Component by component."""
        size = sum(leaf.size for leaf in jax.tree.leaves(prepared.pooled))
        return tuple(k for k in range(n_components) for _ in range(size))

    def n_free(self, prepared: LogDensityData, n_components: int) -> int:
        """All of the user's parameters."""
        return len(self.component_of_free(prepared, n_components))

    def to_free(self, params: Any, prepared: LogDensityData) -> Array:
        """The parameters themselves."""
        return self._vectors(params).reshape(-1)

    def from_free(self, free: Array, prepared: LogDensityData, n_components: int) -> Any:
        """The inverse of `to_free`."""
        return self._params(free.reshape(n_components, -1), prepared)

    def to_user(self, params: Any, prepared: LogDensityData) -> Any:
        """The same: the density is in the user's units."""
        return params

    def from_user(self, params: Any, prepared: LogDensityData) -> Any:
        """The same."""
        return params

    def sample(self, key: Array, params: Any, data: Data, labels: Array) -> Array:
        """By the user's `sample`, given the parameters of each row's component."""
        if self.sampler is None:
            raise DataError("from_log_density has no sampler: give sample=.")
        return self.sampler(key, jax.tree.map(lambda leaf: leaf[labels], params), data)


def from_log_density(
    log_density: Callable[[Any, Data], Any],
    initial: Callable[[Data], Any],
    *,
    sample: Callable[[Array, Any, Data], Any] | None = None,
    steps: int = 3,
) -> LogDensity:
    """A family of components from the log density of one row under one component.

    log_density : of (params, row), nats, a number. params is one component's: any pytree of arrays, each entry free to
        take any real value (the density transforms them itself, `jnp.exp(params["log_scale"])`). row is a `Data` of one
        row: row.y () or (d,), row.x (p,). It must be twice differentiable in params, by jax.
    initial : of the data, a `Data` of n rows whose `weight` (n,) says how much each counts: params of one component to
        start from, best a weighted estimate in closed form. Steps towards the rows of each component follow.
    sample : of (key, params, data), params with a leading axis of rows: y (n,) or (n, d); for simulation only.
    steps : of L-BFGS (optax), without line search, in each M-step; the engine halves what lowers the likelihood.

    The functions are settings: define them once, at module level, or every fit is compiled anew. `emjax.register` them
    to save a fit. Units are the user's own: scale y and x to ordinary size. A component with fewer rows than parameters
    is DEGENERATE; whether a scale collapses is not known here. Neither `prior=` nor `fixed=`: put them in the density.

    A mixture of two Weibull distributions:

        def weibull(params, row):
            log_shape, log_scale = params["log_shape"], params["log_scale"]
            z = jnp.log(row.y) - log_scale
            return log_shape - log_scale + (jnp.exp(log_shape) - 1.0) * z - jnp.exp(jnp.exp(log_shape) * z)

        def start(data):
            mean = jnp.sum(data.weight * data.y) / jnp.sum(data.weight)
            return {"log_shape": jnp.zeros(()), "log_scale": jnp.log(mean)}

        fit = emjax.fit(Mixture(from_log_density(weibull, start), 2), Data(y), 0)

    Errors: `DataError` for what is no function or no count; at the fit where they do not give what they should.
    """
    for name, value in (("log_density", log_density), ("initial", initial), ("sample", sample)):
        if not callable(value) and not (name == "sample" and value is None):
            raise DataError(f"from_log_density({name}={value!r}): give a function.")
    if isinstance(steps, bool) or not isinstance(steps, (int, np.integer)) or steps < 1:
        raise DataError(f"from_log_density(steps={steps!r}): give a whole number, 1 or larger.")
    return LogDensity(log_density, initial, sample, int(steps))

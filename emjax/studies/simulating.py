"""The replicates of a scenario: data, true parameters and true labels, drawn on the device by a traced function."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from emjax.base import units
from emjax.base.protocols import Model
from emjax.base.records import Array, Data, Params
from emjax.base.status import DataError
from emjax.engine import blocks, devices, generated, keys
from emjax.engine.programs import Program
from emjax.studies.scenarios import Scenario


class Simulated(NamedTuple):
    """One replicate, or many with a leading axis.

    data : one dataset. truth : its true parameters in the user's units, a record as the model's or a dictionary of
    arrays by the names of the parameters ("weights", "coefficients", ...); None where there are none. labels (n,) : the
    true component of each row, 0 to K - 1, -1 where there is none; None where they are not known.
    """

    data: Data
    truth: Any = None
    labels: Any = None


@dataclass(frozen=True)
class From:
    """Data drawn from a model: the common `generate` of a study.

    model : such as `Mixture(LinearRegression(), 2)`; it must offer `sample`. params : in the user's units, or a
    function from the scenario to them. n : rows, a number or the name of the factor that holds it. x : a function of
    (key, n) to the covariates (n, p), or to a whole `Data` whose y is a placeholder (for `z`, `trials`, `unit`, ...);
    None where the model has no covariates. d : response columns; None for y of shape (n,).

    The truth is `params`; the labels are the components that were drawn, of models that draw components.
    """

    model: Model
    params: Any
    n: int | str = "n"
    x: Callable[[Any, int], Any] | None = None
    d: int | None = None

    def __call__(self, key: Array, scenario: Scenario) -> Simulated:
        """One replicate, traced."""
        draw, params = self.split(scenario)
        return draw(key, params)

    def split(self, scenario: Scenario) -> tuple[_Draw, Params]:
        """What must be compiled and the arrays that it takes: scenarios of one size share a compile."""
        n = scenario.get(self.n) if isinstance(self.n, str) else self.n
        if isinstance(n, bool) or not isinstance(n, int) or n < 1:
            raise DataError(f"From(n={self.n!r}) gives {n!r} rows in scenario {scenario}: give a whole number from 1.")
        params = self.params(scenario) if callable(self.params) else self.params
        return _Draw(self.model, n, self.x, self.d), jax.tree.map(lambda a: np.asarray(a, np.float64), params)


@dataclass(frozen=True)
class _Draw:
    model: Model
    n: int
    x: Callable[[Any, int], Any] | None
    d: int | None

    def __call__(self, key: Array, params: Params) -> Simulated:
        if not hasattr(self.model, "sample"):
            raise DataError(f"{self.model!r} cannot draw data (it has no `sample`): give a generate function.")
        of_x, of_rows = jax.random.split(key)
        like = Data(jnp.zeros(self.n if self.d is None else (self.n, self.d), jnp.float64))
        if self.x is not None:
            given = self.x(of_x, self.n)
            like = given if isinstance(given, Data) else like._replace(x=given)
        if getattr(self.model, "sequential", False):
            like = units.whole(like)
        _check_columns(self.model, params, like)
        data, drawn = self.model.sample(of_rows, params, like)  # type: ignore[attr-defined]
        labelled = jnp.ndim(drawn) == 1 and jnp.issubdtype(drawn.dtype, jnp.integer)
        return Simulated(data, params, drawn if labelled else None)


def _check_columns(model: Any, params: Any, like: Data) -> None:
    """Coefficients for other covariates than there are would be broadcast, and data drawn from another model."""
    family: Any = getattr(model, "family", None)
    coefficients = getattr(getattr(params, "family", None), "coefficients", None)
    if coefficients is None or not hasattr(family, "intercept"):
        return
    p = 0 if like.x is None else like.x.shape[1]
    needed = p + int(family.intercept)
    if coefficients.shape[-1] != needed:
        raise DataError(
            f"coefficients of shape {coefficients.shape} do not go with {p} covariates in x: give {needed} a component"
            f"{', the intercept first' if family.intercept else ''}, or another x."
        )


@dataclass(frozen=True)
class _Given:
    """A user's generate function in one scenario, kept as text so that it can be hashed."""

    generate: Callable[[Any, Scenario], Simulated]
    scenario: str

    def __call__(self, key: Array, nothing: Any) -> Simulated:
        found = self.generate(key, json.loads(self.scenario))
        return found if isinstance(found, Simulated) else Simulated(found)


def draw(generate: Any, scenario: Scenario, root: np.ndarray, replicates: np.ndarray) -> Simulated:
    """The replicates with these numbers, NumPy, leading axis: each depends on the root and its number alone.

    Errors: `DataError` for a generate function that returns something else, or labels that are no whole numbers.
    """
    function, arrays = _split(generate, scenario)
    like = _shapes(function, root, arrays)
    with jax.enable_x64(True), jax.threefry_partitionable(True):
        size = 4 * sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(like.data))
        width = blocks.width_for(devices.current(), size)
        numbers = np.resize(replicates, blocks.capacity_for(len(replicates), width)).astype(np.uint32)
        found = _drawn(function, width, root, numbers, np.int32(len(replicates)), arrays)
        return jax.tree.map(lambda a: np.array(a[: len(replicates)]), found)


def like(generate: Any, scenario: Scenario, root: np.ndarray) -> tuple[Simulated, Params]:
    """Shapes and dtypes of one replicate, by tracing alone; and its true parameters where they are known without a
    draw, as those of `From`, else None. Errors: `DataError` as `draw`."""
    function, arrays = _split(generate, scenario)
    return _shapes(function, root, arrays), arrays


def _split(generate: Any, scenario: Scenario) -> tuple[Any, Any]:
    if hasattr(generate, "split"):
        return generate.split(scenario)
    return _Given(generate, json.dumps(scenario)), None


def _shapes(function: Any, root: np.ndarray, arrays: Any) -> Simulated:
    with jax.enable_x64(True), jax.threefry_partitionable(True):
        return _one.eval_shape(function, root, np.uint32(0), arrays)


@partial(jax.jit, static_argnames=("function",))  # never run: jit remembers what it has traced
def _one(function: Any, root: Array, number: Array, arrays: Any) -> Simulated:
    return _typed(function, root, number, arrays)


@Program
@partial(jax.jit, static_argnames=("function", "width"))
def _drawn(function: Any, width: int, root: Array, numbers: Array, count: Array, arrays: Any) -> Simulated:
    return blocks.map_blocks(lambda number: _typed(function, root, number, arrays), width, count, numbers)


def _typed(function: Any, root: Array, number: Array, arrays: Any) -> Simulated:
    data, truth, labels = function(keys.dataset_key(root, number), arrays)
    data = generated.typed(data)
    if labels is not None:
        labels = jnp.asarray(labels)
        if labels.shape != data.y.shape[:1] or not jnp.issubdtype(labels.dtype, jnp.integer):
            raise DataError(
                f"generate returned labels of shape {labels.shape} and type {labels.dtype}: give whole numbers (n,)."
            )
    truth = jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), truth)
    return Simulated(data, truth, None if labels is None else labels.astype(jnp.int32))

"""Start strategies, written once: an M-step at invented responsibilities, with one pooled scale.

A model offers `initial`, `unit_log_prob`, `used` and `elemental`; one that does not gives `start` itself.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from emjax.base.protocols import Model
from emjax.base.records import Array, Params
from emjax.base.status import DataError

# Each strategy is three switches on one program, traced per lane: a program a strategy would compile four times as
# long.
RULES = {
    "random-partition": (True, False, False),
    "elemental": (False, False, False),
    "nearest": (False, False, True),
    "k-means++": (False, True, True),
}


class NoStartError(DataError):
    """The model has neither `initial` nor `start`."""


def start(model: Any, key: Array, prepared: Any, strategies: tuple[str, ...], choice: Array) -> Params:
    """Parameters to start from, prepared units, by strategy number `choice`.

    random-partition : each unit to a random component. elemental : each component fitted to a random subset of
    `elemental` units, the scale that of all rows. nearest : each unit to the nearest of such components, then an
    M-step. k-means++ : the same, each new subset drawn with probability proportional to the distance from the
    components so far (Arthur & Vassilvitskii 2007). The scale is pooled in every start.
    """
    if not hasattr(model, "initial"):
        if type(model).start is Model.start:
            raise NoStartError(f"{type(model).__name__} has no start: give it one, or pass start=parameters.")
        branches = [lambda key, prepared, name=name: model.start(key, prepared, name) for name in strategies]
        return jax.lax.switch(choice, branches, key, prepared)
    partition, far, assign = (jnp.array(column)[choice] for column in zip(*(RULES[name] for name in strategies)))
    n_units, n_components = model.used(prepared).shape[0], model.n_components
    uniform = jax.random.uniform(key, (n_components, n_units), jnp.float64, 1e-12, 1.0)
    parts = _one_hot((uniform[0] * n_components).astype(jnp.int32), n_components)
    first, log_prob = _begun(model, uniform, prepared, far, partition, parts)
    second = _assign(model, log_prob, prepared)
    return jax.tree.map(lambda a, b: jnp.where(assign, a, b), second, first)


def check(model: Model, strategy: str) -> None:
    """On the host: an unknown strategy raises `DataError`."""
    known = tuple(RULES) if hasattr(model, "initial") else model.strategies
    if not isinstance(strategy, str) or strategy not in known:
        raise DataError(f"start={strategy!r} is not known: use one of {', '.join(known)}, or parameters.")


def _one_hot(labels: Array, n_components: int) -> Array:
    return (labels.astype(jnp.int32)[None, :] == jnp.arange(n_components, dtype=jnp.int32)[:, None]).astype(jnp.float64)


def _begun(
    model: Any, uniform: Array, prepared: Any, far: Array, partition: Array, parts: Array
) -> tuple[Params, Array]:
    """Parameters at a random partition, `parts` (K, U), or at disjoint random subsets of units, one a component, far
    apart where `far`; and the log density of every unit under every component, (K, U)."""
    used = model.used(prepared)
    n_components = model.n_components
    size = max(1, min(model.elemental(prepared), used.shape[0] // n_components))
    components = jnp.arange(n_components, dtype=jnp.int32)
    nobody = jnp.zeros((n_components, used.shape[0]), jnp.float64)

    def at(subsets: Array) -> tuple[Params, Array]:
        params = model.initial(
            prepared, jnp.where(partition, parts, subsets), jnp.where(partition, parts, jnp.ones_like(parts))
        )
        return params, model.unit_log_prob(params, prepared)

    def add(k: Array, state: tuple[Array, Params, Array]) -> tuple[Array, Params, Array]:
        """One more subset, and the parameters at those there are: the last are the start's."""
        subsets, _, log_prob = state
        free = used & ~jnp.any(subsets > 0, axis=0)
        best = jnp.max(jnp.where((components < k)[:, None], log_prob, -jnp.inf), axis=0)
        distance = jnp.max(jnp.where(used, best, -jnp.inf)) - best
        distance = jnp.where(far & (k > 0), distance, 1.0)
        # Exponential races: the smallest of E_i / d_i is unit i with probability proportional to d_i.
        race = -jnp.log(uniform[k]) / jnp.maximum(distance, 1e-300)
        picked = _smallest(jnp.where(free, race, jnp.inf), size) & free
        subsets = jnp.where((components == k)[:, None] & picked[None, :], 1.0, subsets)
        return subsets, *at(subsets)

    empty = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(at, nobody))
    state = jax.lax.fori_loop(jnp.int32(0), jnp.int32(n_components), add, (nobody, *empty))
    return state[1], state[2]


def _smallest(values: Array, size: int) -> Array:
    """(n,) bool: the `size` smallest. By as many minima: they are few, and sorting takes far longer."""

    def next_one(_: Array, state: tuple[Array, Array]) -> tuple[Array, Array]:
        left, picked = state
        found = left == jnp.min(left)
        return jnp.where(found, jnp.inf, left), picked | found

    return jax.lax.fori_loop(0, size, next_one, (values, jnp.zeros(values.shape, bool)))[1]


def _assign(model: Any, log_prob: Array, prepared: Any) -> Params:
    """The M-step at the assignment of each unit to the nearest component: at equal scales, the likeliest."""
    resp = _one_hot(jnp.argmax(log_prob, axis=0), model.n_components)
    # A component that attracts nothing keeps a trace of every unit, so that it stays finite.
    return model.initial(prepared, 0.999 * resp + 0.001 / model.n_components, resp)


def perturb(model: Model, key: Array, prepared: Any, params: Params, spread: Array) -> Params:
    """`params` (prepared units) moved by normal noise of standard deviation `spread` in free coordinates."""
    free = model.to_free(params, prepared)
    return model.from_free(free + spread * jax.random.normal(key, free.shape, free.dtype), prepared, params)

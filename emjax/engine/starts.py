"""Start strategies, written once: an M-step at invented responsibilities, with one pooled scale.

A model offers `initial`, `unit_log_prob`, `unit_weight` and `elemental`; one that does not gives `start` itself.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from emjax.base.protocols import Model
from emjax.base.records import Array, Params
from emjax.base.status import DataError

STRATEGIES = ("random-partition", "elemental", "nearest", "k-means++")


def start(model: Any, key: Array, prepared: Any, strategy: str) -> Params:
    """Parameters to start from, prepared units, by the named strategy.

    random-partition : each unit to a random component. elemental : each component fitted to a random subset of
    `elemental` units, the scale that of all rows. nearest : each unit to the nearest of such components, then an M-step.
    k-means++ : the same, each new subset drawn with probability proportional to the distance from the components so far
    (Arthur & Vassilvitskii 2007). The scale is pooled in every start.
    """
    if not hasattr(model, "initial"):
        return model.start(key, prepared, strategy)
    return _BY_NAME[strategy](model, key, prepared)


def check(model: Model, strategy: str) -> None:
    """On the host: an unknown strategy raises `DataError`."""
    known = STRATEGIES if hasattr(model, "initial") else model.strategies
    if strategy not in known:
        raise DataError(f"start={strategy!r} is not known: use one of {', '.join(known)}, or parameters.")


def _used(model: Any, prepared: Any) -> Array:
    return model.unit_weight(prepared) > 0


def _one_hot(labels: Array, n_components: int, dtype: Any) -> Array:
    return (labels[None, :] == jnp.arange(n_components)[:, None]).astype(dtype)


def _random_partition(model: Any, key: Array, prepared: Any) -> Params:
    n_units = model.unit_weight(prepared).shape[0]
    labels = jax.random.randint(key, (n_units,), 0, model.n_components)
    resp = _one_hot(labels, model.n_components, jnp.float64)
    return model.initial(prepared, resp, resp)


def _subsets(model: Any, key: Array, prepared: Any) -> Array:
    """Disjoint random subsets of units, one a component, as responsibilities (K, U)."""
    used = _used(model, prepared)
    noise = jnp.where(used, jax.random.uniform(key, used.shape, jnp.float64), -1.0)
    size, n_components = model.elemental(prepared), model.n_components
    size = max(1, min(size, used.shape[0] // n_components))
    _, units = jax.lax.top_k(noise, size * n_components)
    labels = jnp.full(used.shape, -1).at[units].set(jnp.repeat(jnp.arange(n_components), size))
    return _one_hot(jnp.where(used, labels, -1), n_components, jnp.float64)


def _elemental(model: Any, key: Array, prepared: Any) -> Params:
    subsets = _subsets(model, key, prepared)
    return model.initial(prepared, subsets, jnp.ones_like(subsets))


def _assign(model: Any, params: Params, prepared: Any) -> Params:
    """The M-step at the hard assignment of each unit to the nearest component; all scales being equal, the likeliest."""
    resp = _one_hot(jnp.argmax(model.unit_log_prob(params, prepared), axis=0), model.n_components, jnp.float64)
    # A component that attracts nothing keeps a trace of every unit, so that it stays finite.
    return model.initial(prepared, 0.999 * resp + 0.001 / model.n_components, resp)


def _nearest(model: Any, key: Array, prepared: Any) -> Params:
    return _assign(model, _elemental(model, key, prepared), prepared)


def _plus_plus(model: Any, key: Array, prepared: Any) -> Params:
    used = _used(model, prepared)
    size, n_components = max(1, model.elemental(prepared)), model.n_components
    size = max(1, min(size, used.shape[0] // n_components))
    components = jnp.arange(n_components)

    def add(k: Array, resp: Array) -> Array:
        chosen = jnp.any(resp > 0, axis=0)
        params = model.initial(prepared, resp, jnp.ones_like(resp))
        log_prob = model.unit_log_prob(params, prepared)
        best = jnp.max(jnp.where((components < k)[:, None], log_prob, -jnp.inf), axis=0)
        top = jnp.max(jnp.where(used, best, -jnp.inf))
        distance = jnp.where(used & ~chosen, top - best, 0.0)
        distance = jnp.where(k == 0, 1.0, distance)
        noise = jax.random.uniform(jax.random.fold_in(key, k), used.shape, jnp.float64, 1e-12, 1.0)
        # Exponential races: the smallest of E_i / d_i is unit i with probability proportional to d_i.
        race = -jnp.log(noise) / jnp.maximum(distance, 1e-300)
        _, units = jax.lax.top_k(-jnp.where(used & ~chosen, race, jnp.inf), size)
        picked = jnp.zeros(used.shape, bool).at[units].set(True) & used & ~chosen
        return jnp.where((components == k)[:, None] & picked[None, :], 1.0, resp)

    subsets = jax.lax.fori_loop(0, n_components, add, jnp.zeros((n_components, used.shape[0]), jnp.float64))
    return _assign(model, model.initial(prepared, subsets, jnp.ones_like(subsets)), prepared)


_BY_NAME = {
    "random-partition": _random_partition,
    "elemental": _elemental,
    "nearest": _nearest,
    "k-means++": _plus_plus,
}


def perturb(model: Model, key: Array, prepared: Any, params: Params, spread: Array) -> Params:
    """`params` (prepared units) moved by normal noise of standard deviation `spread` in free coordinates."""
    free = model.to_free(params, prepared)
    return model.from_free(free + spread * jax.random.normal(key, free.shape, free.dtype), prepared, params)

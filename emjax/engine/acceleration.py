"""PROTOTYPE"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from emjax.base.protocols import Model
from emjax.base.records import Array, Params
from emjax.base.status import Flag
from emjax.engine import stopping
from emjax.engine.stopping import Progress

OPT = dict(wait=0, first=4.0, grow=4.0, shrink=4.0, memory=0.5, s1=1, floor=1.0, scheme=3, both=0)


def options(acceleration):
    o = dict(OPT)
    for part in acceleration.split("|")[1:]:
        k, v = part.split("=")
        o[k] = float(v)
    return o


class Cycle(NamedTuple):
    points: Array
    plain: Params
    landed: Array
    longest: Array
    slowest: Array


def begin(model: Model, params: Params, prepared: Any, dtype: Any, acceleration) -> Cycle:
    m = jax.eval_shape(model.to_free, params, prepared).shape[0]
    o = options(acceleration)
    return Cycle(jnp.full((3, m), jnp.nan, dtype), params, jnp.zeros((), bool), jnp.asarray(o["first"], dtype), jnp.ones((), dtype))


class Move(NamedTuple):
    free: Array
    goes: Array
    point: Array
    params: Params
    length: Array
    slow: Array
    capped: Array


def propose(model, prepared, cycle, proposal, acceleration) -> Move:
    o = options(acceleration)
    before, here, _ = cycle.points
    free = jnp.asarray(model.to_free(proposal, prepared), here.dtype)
    held = model.boundary(proposal, prepared) != 0
    r = jnp.where(held, 0.0, here - before)
    v = jnp.where(held, 0.0, free - here) - r
    rr, vv, rv = jnp.sum(r * r), jnp.sum(v * v), jnp.sum(r * v)
    length = jnp.sqrt(rr / vv) if o["scheme"] == 3 else rr / -rv
    slow = jnp.where(rv < 0, rr / -rv, jnp.inf) if o["s1"] else jnp.where(rv < 0, length, jnp.inf)
    step = jnp.minimum(length, cycle.longest)
    point = jnp.where(held, free, before + 2 * step * r + step * step * v)
    goes = ~cycle.landed & (length > 1.0) & jnp.all(jnp.isfinite(point))
    params = model.from_free(jnp.where(goes, point, 0.0), prepared, proposal)
    return Move(free, goes, point, params, length, slow, length >= cycle.longest)


def rejects(cycle, progress: Progress, objective, bits) -> Array:
    low = progress.objective - stopping.resolution(progress.objective)
    bad = ~(objective >= low) | ((bits & Flag.DEGENERATE) > 0)
    return cycle.landed & bad


def advance(cycle: Cycle, move: Move, rejected: Array, proposal: Params, slowest: Array, acceleration, allowed) -> tuple[Params, Cycle]:
    o = options(acceleration)
    before, here, plain = cycle.points
    goes = move.goes & allowed
    nan = jnp.full_like(before, jnp.nan)
    # rejected: go back to the plain point
    nb = jnp.where(rejected, before, here)
    if o["wait"]:
        nb = jnp.where(cycle.landed, nan, nb)
    nh = jnp.where(rejected, plain, jnp.where(goes, move.point, move.free))
    points = jnp.stack([nb, nh, move.free])
    longest = jnp.where(cycle.landed & rejected, jnp.maximum(cycle.longest / o["shrink"], 1.5), cycle.longest)
    # landed well with a capped step
    grow = cycle.landed & ~rejected & (cycle.longest_hit if hasattr(cycle, "longest_hit") else True)
    longest = jnp.where(grow, cycle.longest * o["grow"], longest)
    sel = lambda c, a, b: jax.tree.map(lambda x, y: jnp.where(c, x, y), a, b)
    params = sel(rejected, cycle.plain, sel(goes, move.params, proposal))
    return params, Cycle(points, proposal, goes & ~rejected, longest, slowest)

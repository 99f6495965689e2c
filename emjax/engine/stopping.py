"""When a lane stops: Aitken's estimate of the remaining gain, in nats, and every other reason."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp

from emjax.base.records import Array
from emjax.base.status import Flag, Status

AITKEN_HITS = 2  # successive steps whose estimated remaining gain is below the tolerance
CAUTION = 10.0  # times an accelerated lane's remaining gain, of which extrapolations tell less than Aitken's gains
FLOOR_HITS = 3  # successive gains that are rounding: below the objective's resolution, or not positive
FLOOR = 4.0  # times eps |objective|, or times the largest fall seen: gains up to this are rounding
SLACK = 1e4  # a fall beyond this, times eps (1 + |objective|), is more than rounding


class Progress(NamedTuple):
    """What the stopping rule remembers between ticks."""

    objective: Array
    gain: Array
    remaining: Array
    noise: Array  # the largest fall seen that may be rounding
    aitken_hits: Array
    floor_hits: Array


def begin(dtype: Any) -> Progress:
    """Before the first tick."""
    return Progress(
        objective=jnp.asarray(-jnp.inf, dtype),
        gain=jnp.asarray(jnp.inf, dtype),
        remaining=jnp.asarray(jnp.inf, dtype),
        noise=jnp.zeros((), dtype),
        aitken_hits=jnp.int32(0),
        floor_hits=jnp.int32(0),
    )


def slack(objective: Array) -> Array:
    """The largest fall that may be rounding."""
    return SLACK * jnp.finfo(objective.dtype).eps * (1.0 + jnp.abs(objective))


def resolution(objective: Array) -> Array:
    """The smallest gain that the dtype can tell from rounding."""
    return FLOOR * jnp.finfo(objective.dtype).eps * jnp.abs(objective)


def judge(
    before: Progress,
    objective: Array,
    bits: Array,
    iterations: Array,
    max_iterations: Array,
    tol: Array,
    left: Array | None = None,
) -> tuple[Progress, Array, Array]:
    """After an E-step: the progress, the status and the flags of the lane at its current parameters.

    The resolution is that of the objective or the largest fall seen, whichever is larger: where the log-likelihood
    happens to lie near zero, eps times it says nothing of the rounding of its terms.

    With d1, d2 the last two gains and a = d2 / d1, the remaining gain is estimated as d2 a / (1 - a) (Aitken; McLachlan
    & Krishnan 2008, section 4.9) where d1 > 0 and 0 <= a < 1, else as infinite.

    Between extrapolations d1 and d2 are no geometric series. There `left` is the remaining gain over the last one, as
    the extrapolations' own lengths tell, NaN where they do not.
    """
    gain = objective - before.objective
    fall = jnp.where(jnp.isfinite(gain), -gain, 0.0)
    noise = jnp.where(fall <= slack(objective), jnp.maximum(before.noise, fall), before.noise)
    floor = jnp.maximum(resolution(objective), FLOOR * noise)
    seen = jnp.where(jnp.abs(gain) <= floor, floor, gain)
    geometric = (before.gain > seen) & (seen >= 0) & jnp.isfinite(before.gain)
    rate = jnp.where(geometric, seen / jnp.where(geometric, before.gain, 1.0), 0.0)
    remaining = jnp.where(geometric, seen * rate / (1.0 - rate), jnp.inf)
    enough = remaining < tol
    if left is not None:
        bound = seen * left
        remaining = jnp.where((seen >= 0) & jnp.isfinite(bound), bound, jnp.inf)
        enough = CAUTION * remaining < tol
    # Fast lanes reach rounding within a step or two: that confirms a hit, and is no reason to go on.
    confirmed = (before.aitken_hits > 0) & (jnp.abs(gain) <= floor)
    aitken_hits = jnp.where(enough | confirmed, before.aitken_hits + 1, 0)
    # EM's true gain is positive: a fall is rounding, and so are gains of that size (cycles occur).
    floor_hits = jnp.where(gain <= floor, before.floor_hits + 1, 0)
    at_floor = floor_hits >= FLOOR_HITS
    stopped = (aitken_hits >= AITKEN_HITS) | at_floor
    status = jnp.where(iterations >= max_iterations, Status.MAX_ITERATIONS, Status.RUNNING)
    # Where the dtype cannot resolve the tolerance, a stop is not a convergence.
    status = jnp.where(stopped, jnp.where(floor > tol, Status.PRECISION_LIMIT, Status.CONVERGED), status)
    status = jnp.where(gain < -slack(objective), Status.DECREASED, status)
    status = jnp.where((bits & Flag.DEGENERATE) > 0, Status.DEGENERATE, status)
    status = jnp.where(jnp.isfinite(objective), status, Status.NON_FINITE).astype(jnp.int32)
    at_floor &= aitken_hits < AITKEN_HITS
    flags = bits | jnp.where(at_floor & (status != Status.RUNNING), Flag.NOISE_FLOOR, Flag.NONE)
    remaining = jnp.where(at_floor | confirmed, floor, remaining)
    progress = Progress(objective, gain, remaining, noise, aitken_hits.astype(jnp.int32), floor_hits.astype(jnp.int32))
    return progress, status, flags.astype(jnp.int32)

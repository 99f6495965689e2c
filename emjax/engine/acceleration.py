"""SQUAREM, scheme S3 (Varadhan & Roland 2008, Scandinavian Journal of Statistics 35), for one lane, one EM map a tick.

From u0, two EM maps in free coordinates give u1, u2, r = u1 - u0 and v = (u2 - u1) - r. With alpha = |r| / |v| the
extrapolation is u0 + 2 alpha r + alpha^2 v. Differs from the paper and the package in

1. two maps a cycle: the point landed on starts the next cycle, with no third map in between;
2. the guard costs nothing: a point is judged by the E-step that goes on from it. Landing may lose up to `MOST_LOST`
   (objfn.inc in the package); where the next map has not won it back, or lowers what landing gained (a Newton step,
   or a model of one's own whose constraints `to_free` does not keep), the lane returns to the plain u2 that was kept;
3. the longest step is a trust region: after one that failed its half, or twice its root where that is shorter (the
   first ones may be absurdly long); up to four times one that held;
4. where alpha is below `SHORTEST` the step is plain EM's, which is worth as much and shrinks the fast directions;
5. within `NEAR` nats of the end the steps are Anderson's, of the points seen last: where SQUAREM takes 24 to 35 maps
   to bring the gap from 1e-2 to 1e-8 nats, they take seven. Farther away they go astray, and so they may in a model
   of one's own without free coordinates, which takes none. Where they seem to lead to a saddle they are turned round.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from emjax.base.protocols import Model
from emjax.base.records import Array, Params
from emjax.base.status import DataError, Flag, Status
from emjax.engine import anderson, stopping

METHODS = (None, "squarem", "auto")
LATE = 32
SHORTEST = 1.2  # an alpha worth a step; 1 is the plain EM point
GROWTH = 4.0  # the longest step, over one that held
MOST_LOST = 5.0  # nats that landing may lose
MEMORY = 0.95  # how much of the slowest rate seen is kept from one estimate to the next
NEAR = 0.1  # nats from the end, by the estimate, where Anderson's steps begin
AWAY = 2.0  # times its distance, the step away from a saddle that they would lead to
AT_LEAST = 2  # points that they need besides the newest
CHAIN, LANDED, TRIAL, COMBINED = 0, 1, 2, 3  # a plain EM point; one landed on; the EM point after it; Anderson's
AHEAD = 3  # ticks that an extrapolation may take until a plain point is judged again


class Cycle(NamedTuple):
    """What a lane remembers between ticks; points in free coordinates, (m,), NaN where there is none."""

    before: Array  # whose EM point `here` is, unless `here` was landed on
    here: Array
    points: Array  # those before `here`, (anderson.KEPT, m), and their EM steps
    residuals: Array
    base: Array  # u1 of the last extrapolation, or the point that Anderson's left
    plain: Array  # its EM point, and as parameters
    fallback: Params
    reference: Array  # objective at `base`, which the extrapolation must not lower
    phase: Array
    step: Array  # alpha of the last extrapolation
    longest: Array
    slowest: Array  # 1 / (1 - rate) of the slowest direction
    uphill: Array  # the inner product, at the last point, of Anderson's step, taken or not, and EM's


class Move(NamedTuple):
    """What a tick offers: the EM point's free coordinates; an extrapolation; whether the last one failed."""

    free: Array
    residual: Array  # the EM step, NaN where a coordinate is held
    point: Array
    params: Params
    step: Array
    worthwhile: Array
    combined: Array  # whether it is Anderson's
    failed: Array
    slowest: Array
    uphill: Array  # as in `Cycle`, at this point
    left: Array  # remaining gain over the last one; NaN where not known, as on the way from a saddle


def check(acceleration: Any) -> None:
    """Errors: `DataError` for a method that is not there."""
    if acceleration not in METHODS:
        raise DataError(f"acceleration={acceleration!r}: use 'auto', 'squarem' or None.")


def phases(model: Model, acceleration: str | None) -> tuple[str | None, str | None]:
    """How a lane steps until it has taken `LATE` iterations, or run a longer race, and from there: few are so slow."""
    if acceleration != "auto":
        return acceleration, acceleration
    return None, "squarem" if model.extrapolates else None


def begin(model: Model, params: Params, prepared: Any, dtype: Any) -> Cycle:
    """Before the first tick; `prepared` gives shapes alone."""
    free = jax.eval_shape(model.to_free, params, prepared)
    nowhere = jnp.full(free.shape, jnp.nan, free.dtype)
    none = jnp.full((anderson.KEPT, *free.shape), jnp.nan, free.dtype)
    one = jnp.ones((), dtype)
    return Cycle(
        before=nowhere,
        here=nowhere,
        points=none,
        residuals=none,
        base=nowhere,
        plain=nowhere,
        fallback=params,
        reference=-jnp.inf * one,
        phase=jnp.int32(CHAIN),
        step=one,
        longest=jnp.inf * one,
        slowest=one,
        uphill=jnp.nan * one,
    )


def look(model: Model, prepared: Any, lane: Any, proposal: Params, objective: Array, bits: Array) -> Move:
    """The extrapolation from the last EM points, `proposal` being the newest, and the verdict on the one before."""
    cycle, gain = lane.cycle, objective - lane.progress.objective
    free = model.to_free(proposal, prepared)
    residual = free - cycle.here
    # What has no finite course, such as the logarithm of a weight of 0, is EM's own like what is at a boundary.
    held = (model.boundary(proposal, prepared) != 0) | ~jnp.isfinite(residual)
    residual = jnp.where(held, 0.0, residual)
    failed = _failed(cycle, objective, gain, bits)
    squared, alpha, step, slowest, left = _square(cycle, free, held, residual, failed)
    mixed, uphill, others = anderson.combine(cycle.here, residual, cycle.points, cycle.residuals, held)
    near = (cycle.phase == COMBINED) | ((gain >= 0) & (left * gain < NEAR))
    # Roughly in proportion to the gain to come, and against EM's step towards a saddle: in the metric of the complete
    # data's information it would be so exactly. What is turned round for nothing is taken back where it loses.
    uphill = uphill.astype(slowest.dtype)
    shrank = (uphill > 0) & (cycle.uphill > uphill)
    ratio = jnp.where(shrank, uphill / (cycle.uphill - uphill), jnp.nan)
    left = jnp.where(cycle.phase == COMBINED, ratio, left)
    mixed = jnp.where(uphill > 0, mixed, cycle.here + AWAY * (cycle.here - mixed))
    # Outside the parameter space an objective may be higher than any true one: SQUAREM's next map shows that,
    # Anderson's steps would go on from there.
    combined = near & (uphill != 0) & (others >= AT_LEAST) & (cycle.phase != LANDED) & model.extrapolates
    point = jnp.where(held, free, jnp.where(combined, mixed, squared))
    params = model.from_free(point, prepared, proposal)
    # Ratios to a weight of 0 tell nothing of the others. What is NaN at a finite point is no such thing, and fails.
    partly = ~jnp.all(jnp.isfinite(point))
    params = jax.tree.map(lambda new, plain: jnp.where(partly & jnp.isnan(new), plain, new), params, proposal)
    worthwhile = combined | (jnp.isfinite(alpha) & (alpha > SHORTEST))
    residual = jnp.where(held, jnp.nan, residual)
    return Move(free, residual, point, params, step, worthwhile, combined, failed, slowest, uphill, left)


def _failed(cycle: Cycle, objective: Array, gain: Array, bits: Array) -> Array:
    """Whether the last extrapolation is to be taken back, now that the objective where it led is known."""
    lost = jnp.where(cycle.phase == LANDED, MOST_LOST, stopping.resolution(cycle.reference))
    failed = ~(objective >= cycle.reference - lost) | ((bits & Flag.DEGENERATE) > 0)
    # From within the parameter space no exact EM map lowers the objective: the extrapolation led outside, or a Newton
    # step from where it landed fell.
    failed |= (cycle.phase == TRIAL) & (gain < -stopping.slack(objective))
    return failed & (cycle.phase != CHAIN)


def _square(cycle: Cycle, free: Array, held: Array, onward: Array, failed: Array) -> tuple[Array, ...]:
    """SQUAREM's point, its alpha, NaN where it has no chain of EM points, and what `Move` calls step, slowest and left.

    In one direction of rate rho, |r| / |v| = |r|^2 / |r.v| = 1 / (1 - rho). In several the second, scheme S1's length,
    lies nearer the slowest, and the largest of late is remembered: near the end successive lengths sweep the spectrum.
    Each direction's share of the gap shrinks by rho^2 a map, so that a map of gain d leaves d rho^2 / (1 - rho^2).
    """
    r = cycle.here - cycle.before
    held |= ~jnp.isfinite(r)
    r = jnp.where(held, 0.0, r)
    v = jnp.where(held, 0.0, onward) - r
    rr, rv, vv = jnp.sum(r * r), jnp.sum(r * v), jnp.sum(v * v)
    chained = (cycle.phase == CHAIN) | (cycle.phase == TRIAL)
    alpha = jnp.where(chained, jnp.sqrt(rr / vv), jnp.nan)
    step = jnp.minimum(alpha, cycle.longest.astype(alpha.dtype))
    point = jnp.where(held, free, cycle.before + 2.0 * step * r + step * step * v)
    known = chained & jnp.isfinite(alpha) & (rv < 0)
    length = jnp.maximum(jnp.where(known, rr / -rv, 1.0), 1.0).astype(cycle.slowest.dtype)
    slowest = jnp.maximum(length, 1.0 + MEMORY * (cycle.slowest - 1.0))
    left = jnp.where(known, (slowest - 1.0) ** 2 / (2.0 * slowest - 1.0), jnp.nan)
    slowest = jnp.where(chained & ~failed, slowest, cycle.slowest)
    return point, alpha, step.astype(slowest.dtype), slowest, left


def steer(lane: Any, plain: Any, proposal: Params, move: Move, objective: Array, room: Array) -> Any:
    """The lane after a tick: `plain` is what it is without acceleration, `room` the ticks that are left.

    A point landed on, or one that failed, ends no lane: what is reported has stood its own test as EM's own points do.
    """
    cycle = lane.cycle
    landed = cycle.phase == LANDED
    # A fall later than the guard looks: what an exact map brings back from outside is a new start, of shorter steps.
    back = (plain.status == Status.DECREASED) & ~move.failed & (plain.accepted is None) & (room > 0)
    back &= (cycle.longest > SHORTEST) & (cycle.reference > -jnp.inf)
    forgets = move.failed | back
    aside = landed | forgets
    fell = ~aside & (False if plain.accepted is None else plain.accepted[3] > 0)  # a guarded step, to be halved
    goes = move.worthwhile & ~aside & ~fell & (plain.status == Status.RUNNING) & (room >= AHEAD)
    squares = goes & ~move.combined
    params = select(landed | back, proposal, plain.params)
    params = select(move.failed, cycle.fallback, select(goes, move.params, params))
    here = jnp.where(move.failed, cycle.plain, jnp.where(goes, move.point, jnp.where(fell, jnp.nan, move.free)))
    before = jnp.where(move.failed, cycle.base, jnp.where(fell, jnp.nan, cycle.here))
    shorter = jnp.minimum(2.0 * jnp.sqrt(cycle.step), 0.5 * cycle.step)
    shorter = jnp.where(cycle.phase == COMBINED, cycle.longest, shorter)
    longest = jnp.where(cycle.phase == TRIAL, jnp.maximum(cycle.longest, GROWTH * cycle.step), cycle.longest)
    longest = jnp.where(back, 0.5 * jnp.minimum(cycle.longest, cycle.step), longest)
    onward = jnp.where(landed & ~move.failed, TRIAL, CHAIN)
    following = Cycle(
        before=before,
        here=here,
        points=jnp.where(forgets, jnp.nan, anderson.remember(cycle.points, cycle.here, lane.iterations)),
        residuals=jnp.where(forgets, jnp.nan, anderson.remember(cycle.residuals, move.residual, lane.iterations)),
        base=jnp.where(goes, cycle.here, cycle.base),
        plain=jnp.where(goes, move.free, cycle.plain),
        fallback=select(goes, proposal, cycle.fallback),
        reference=jnp.where(goes, objective, cycle.reference),
        phase=jnp.where(goes, jnp.where(move.combined, COMBINED, LANDED), onward).astype(jnp.int32),
        step=jnp.where(squares, move.step, cycle.step),
        longest=jnp.where(move.failed, shorter, longest),
        slowest=move.slowest,
        uphill=move.uphill,
    )
    old = lane.progress
    small = move.failed | (jnp.abs(objective - old.objective) < lane.tol)
    progress = old._replace(
        objective=jnp.where(move.failed, cycle.reference, objective), aitken_hits=jnp.where(small, old.aitken_hits, 0)
    )
    return plain._replace(
        params=params,
        progress=select(aside, progress, plain.progress),
        accepted=select(aside, lane.accepted, plain.accepted),
        status=jnp.where(aside, Status.RUNNING, plain.status).astype(jnp.int32),
        flags=jnp.where(aside, lane.flags, plain.flags),
        cycle=following,
    )


def select(condition: Array, yes: Any, no: Any) -> Any:
    """Leaf by leaf."""
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), yes, no)

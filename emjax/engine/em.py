"""One lane of EM: a tick is one E-step, a judgement, and one M-step; `fit_lane` loops it to the end."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from emjax.base.protocols import Model
from emjax.base.records import Array, Data, Params
from emjax.base.settings import Degeneracy, Stop
from emjax.base.status import Flag, Problem, Status
from emjax.engine import acceleration as squarem
from emjax.engine import stopping
from emjax.engine.acceleration import select
from emjax.engine.stopping import Progress

MAX_HALVINGS = 10


class Lane(NamedTuple):
    """One lane between ticks. `log_likelihood` and `objective` are those of `params` once the lane has ended."""

    params: Params
    log_likelihood: Array
    objective: Array
    progress: Progress
    accepted: Any  # (params, log_likelihood, objective, halvings) of the last good step where steps are guarded
    iterations: Array
    status: Array
    flags: Array
    tol: Array
    cycle: Any = None  # what an accelerated lane remembers

    @property
    def remaining(self) -> Array:
        """Estimated gain left, nats."""
        return self.progress.remaining


def begin(model: Model, params: Params, tol: Array, prepared: Any, dtype: Any, acceleration: str | None = None) -> Lane:
    """A lane about to take its first tick from `params`, in prepared units."""
    low = jnp.asarray(-jnp.inf, dtype)
    accepted = None if model.monotone else (params, low, low, jnp.int32(0))
    return Lane(
        params=params,
        log_likelihood=low,
        objective=low,
        progress=stopping.begin(dtype),
        accepted=accepted,
        iterations=jnp.int32(0),
        status=jnp.int32(Status.RUNNING),
        flags=jnp.int32(Flag.NONE),
        tol=jnp.asarray(tol, dtype),
        cycle=None if acceleration is None else squarem.begin(model, params, prepared, dtype),
    )


def em_step(model: Model, params: Params, prepared: Any) -> tuple[Params, Array]:
    """One EM step as a pure function: the next parameters and the log-likelihood of the current ones, in nats."""
    expectation = model.expect(params, prepared)
    return model.maximize(expectation.statistics, params, prepared), expectation.log_likelihood


def objective_of(model: Model, params: Params, prepared: Any, log_likelihood: Array) -> Array:
    """What EM climbs, log-likelihood plus log prior if nothing else, in the log-likelihood's dtype, nats."""
    return jnp.asarray(model.objective(params, prepared, log_likelihood), log_likelihood.dtype)


def objective_at(model: Model, params: Params, prepared: Any) -> Array:
    """The objective of `params`, by an E-step of its own, nats."""
    return objective_of(model, params, prepared, model.expect(params, prepared).log_likelihood)


def tick(
    model: Model,
    degeneracy: Degeneracy,
    max_iterations: Array,
    prepared: Any,
    lane: Lane,
    acceleration: str | None = None,
) -> Lane:
    """One E-step at `lane.params`, then either the reason to stop there or the M-step's parameters."""
    expectation = model.expect(lane.params, prepared)
    log_likelihood = expectation.log_likelihood
    objective = objective_of(model, lane.params, prepared, log_likelihood)
    bits = jnp.asarray(model.flags(lane.params, expectation.statistics, prepared, degeneracy), jnp.int32)
    proposal = model.maximize(expectation.statistics, lane.params, prepared)
    current = (lane.params, log_likelihood, objective)
    iterations = lane.iterations + 1
    move = None if acceleration is None else squarem.look(model, prepared, lane, proposal, objective, bits)
    left = None if move is None else move.left
    judged = stopping.judge(lane.progress, objective, bits, iterations, max_iterations, lane.tol, left)
    if model.monotone:
        progress, status, flags = judged
        params, accepted = select(status == Status.RUNNING, proposal, lane.params), None
    else:
        params, log_likelihood, objective, accepted, progress, status, flags = _guarded(
            model, prepared, lane, current, proposal, judged, iterations, max_iterations
        )
    following = Lane(params, log_likelihood, objective, progress, accepted, iterations, status, flags, lane.tol)
    if move is not None:
        following = squarem.steer(lane, following, proposal, move, current[2], max_iterations - iterations)
    return select(lane.status == Status.RUNNING, following, lane)


def _guarded(
    model: Model,
    prepared: Any,
    lane: Lane,
    current: tuple[Params, Array, Array],
    proposal: Params,
    judged: tuple[Progress, Array, Array],
    iterations: Array,
    max_iterations: Array,
) -> tuple[Any, ...]:
    """A step that lowered the objective is halved towards the last accepted parameters, at most ten times."""
    params, _, objective = current
    best_params, _, best_objective, halvings = lane.accepted
    fell = ~jnp.isfinite(objective) | (objective < best_objective - stopping.slack(best_objective))
    fell &= jnp.isfinite(best_objective)
    progress, status, flags = judged
    free_best = model.to_free(best_params, prepared)
    free = model.to_free(params, prepared)
    middle = jnp.where(jnp.isfinite(free), 0.5 * (free + free_best), free_best)
    halved = model.from_free(middle, prepared, params)
    give_up = halvings >= MAX_HALVINGS
    fell_status = jnp.where(give_up, Status.DECREASED, Status.RUNNING)
    fell_status = jnp.where(~give_up & (iterations >= max_iterations), Status.MAX_ITERATIONS, fell_status)
    status = jnp.where(fell, fell_status, status)
    progress = select(fell, lane.progress, progress)
    flags = jnp.where(fell, lane.flags, flags)
    good = select(fell, lane.accepted, (*current, jnp.int32(0)))
    accepted = (good[0], good[1], good[2], jnp.where(fell, halvings + 1, 0))
    running = status == Status.RUNNING
    following = select(fell, halved, proposal)
    return select(running, following, good[0]), good[1], good[2], accepted, progress, status, flags


class LaneFit(NamedTuple):
    """How one lane ended; params in the user's units, log-likelihood and objective in nats, of those params."""

    params: Params
    log_likelihood: Array
    objective: Array
    status: Array
    flags: Array
    problems: Array
    iterations: Array
    remaining: Array  # estimated gain left, nats


def fit_lane(
    model: Model,
    data: Data,
    params: Params,
    *,
    stop: Stop = Stop(),  # noqa: B008 (frozen)
    degeneracy: Degeneracy = Degeneracy(),  # noqa: B008 (frozen)
    prior: Any = None,
    fixed: Any = None,
    acceleration: str | None = "auto",
) -> LaneFit:
    """Fit one dataset from one start: pure, traceable, for use under one's own `jit` and `vmap`.

    data : one dataset, floating-point arrays; its dtype is the dtype of the computation. params : the start, in the
    user's units. Neither restarts nor the certificate are run: see `fit`, also for the settings. Returns a `LaneFit`.
    """
    squarem.check(acceleration)
    prepared, problems = model.prepare(data, prior, fixed)
    dtype = jnp.result_type(data.y)
    tol = jnp.asarray(stop.tol, dtype)
    early, late = squarem.phases(model, acceleration)
    lane = begin(model, model.from_user(params, prepared), tol, prepared, dtype, early)
    lane = lane._replace(status=jnp.where(problems > 0, Status.INVALID_DATA, lane.status).astype(jnp.int32))
    limit = jnp.int32(stop.max_iterations)

    def run(lane: Lane, acceleration: str | None, until: int) -> Lane:
        return jax.lax.while_loop(
            lambda lane: (lane.status == Status.RUNNING) & (lane.iterations < until),
            lambda lane: tick(model, degeneracy, limit, prepared, lane, acceleration),
            lane,
        )

    if early != late:
        lane = run(lane, early, squarem.LATE)
        lane = lane._replace(cycle=squarem.begin(model, lane.params, prepared, dtype))
    lane = run(lane, late, stop.max_iterations)
    broken = problems != Problem.NONE
    ended = jax.tree.map(lambda a: jnp.where(broken, jnp.nan, a), model.to_user(lane.params, prepared))
    log_likelihood, objective = (jnp.where(broken, jnp.nan, a) for a in (lane.log_likelihood, lane.objective))
    return LaneFit(
        ended, log_likelihood, objective, lane.status, lane.flags, problems, lane.iterations, lane.progress.remaining
    )

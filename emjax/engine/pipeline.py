"""One chunk of datasets from arrays to chosen, certified fits. Host code between compiled stages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from emjax.base.protocols import Model
from emjax.base.records import Data, Params
from emjax.base.settings import Degeneracy, Stop
from emjax.base.status import Flag, Problem, Status
from emjax.engine import blocks, certificate, choice, scheduler, stages
from emjax.engine.certificate import Certificate
from emjax.engine.choice import Landscape

MAX_ROUNDS = 6  # second passes through the scheduler before a point is given up as a saddle
TIGHTER = 0.1  # each such pass runs at this much of the tolerance before it


@dataclass(frozen=True)
class Plan:
    """Everything that a chunk needs to know beside its data."""

    model: Model
    stop: Stop
    degeneracy: Degeneracy
    restarts: int  # in one round
    max_rounds: int  # rounds of restarts; 1 unless restarts="auto"
    strategies: tuple[str, ...]  # empty where starts are given
    precision: str
    polish: bool
    certify: bool | None  # None: where m <= certificate.DEFAULT_LIMIT
    width: int

    @property
    def cap(self) -> int:
        """Most restarts a dataset may get."""
        return self.restarts * self.max_rounds


class Chunk(NamedTuple):
    """Input: `count` datasets, arrays with leading axis C (a multiple of the width)."""

    data: Data
    words: np.ndarray
    count: int
    root: np.ndarray
    prior: Any
    fixed: Any
    starts: Params  # user's units, leading axis C, or None
    spread: float  # of perturbed starts, free coordinates


class ChunkFit(NamedTuple):
    """Output, NumPy, leading axis `count`; the landscape (count, R)."""

    params: Params
    log_likelihood: np.ndarray
    objective: np.ndarray
    status: np.ndarray
    flags: np.ndarray
    problems: np.ndarray
    iterations: np.ndarray
    remaining: np.ndarray
    landscape: Landscape
    certificate: Certificate
    n_free: int
    useful: int  # lane-steps that advanced a lane
    executed: int  # lane-steps taken, idle slots included


class _Counter:
    """Lane-steps over all passes of a chunk."""

    def __init__(self) -> None:
        self.useful = 0
        self.executed = 0

    def add(self, lanes: Any, executed: Any) -> None:
        self.useful += int(np.sum(np.asarray(lanes.iterations, np.int64)))
        self.executed += int(executed)


def fit_chunk(plan: Plan, chunk: Chunk) -> ChunkFit:
    """Prepare, start, run, choose, polish, certify, escape, return to the user's units."""
    with jax.enable_x64(True):
        count = np.int32(chunk.count)
        data = jax.tree.map(jnp.asarray, chunk.data)
        prepared, problems = stages.prepare(plan.model, plan.width, data, chunk.prior, chunk.fixed, count)
        problems = np.asarray(problems)[: chunk.count]
        counter = _Counter()
        landscape, params = _run_restarts(plan, chunk, prepared, problems, counter)
        chosen = choice.choose(landscape, problems)
        point = _Point(plan, prepared, chunk.count, chosen, landscape, params)
        if plan.precision == "float32" and plan.polish:
            point.polish(counter)
        point.certify(counter)
        user = stages.to_user(plan.model, plan.width, prepared, point.padded_params(), count)
        return point.result(user, problems, landscape, counter)


def _run_restarts(
    plan: Plan, chunk: Chunk, prepared: Any, problems: np.ndarray, counter: _Counter
) -> tuple[Landscape, Params]:
    """All restarts of all valid datasets; the lanes' parameters stay in a (count, R, ...) pytree, prepared units."""
    landscape = choice.empty(chunk.count, plan.cap, problems)
    params: Params = None
    active = np.flatnonzero(problems == Problem.NONE)
    for turn in range(plan.max_rounds):
        if len(active) == 0:
            break
        first = turn * plan.restarts
        dataset = np.repeat(active, plan.restarts).astype(np.int32)
        restart = np.tile(np.arange(first, first + plan.restarts, dtype=np.int32), len(active))
        lanes = _run_round(plan, chunk, prepared, dataset, restart, counter)
        choice.record(landscape, dataset, restart, lanes, plan.strategies)
        if params is None:
            params = jax.tree.map(lambda a: np.full((chunk.count, plan.cap, *a.shape[1:]), np.nan), lanes.params)
        jax.tree.map(lambda room, new: room.__setitem__((dataset, restart), new), params, lanes.params)
        active = active[~(choice.unseen(landscape)[active] < choice.ENOUGH)]
    if params is None:
        params = _shapes_of_params(plan, chunk, prepared)
    return landscape, params


def _shapes_of_params(plan: Plan, chunk: Chunk, prepared: Any) -> Params:
    """NaN of the right shapes, for a chunk without a single valid dataset."""
    dataset = np.zeros(plan.width, np.int32)
    starts = _starts(plan, chunk, prepared, dataset, dataset)
    return jax.tree.map(lambda a: np.full((chunk.count, plan.cap, *a.shape[1:]), np.nan), starts)


def _run_round(
    plan: Plan, chunk: Chunk, prepared: Any, dataset: np.ndarray, restart: np.ndarray, counter: _Counter
) -> Any:
    count = len(dataset)
    starts = _starts(plan, chunk, prepared, dataset, restart)
    dtype = plan.precision
    data = cast(prepared, dtype)
    tol = np.full(len(jax.tree.leaves(starts)[0]), plan.stop.tol, dtype)
    padded = _padded(dataset, len(tol))
    lanes, executed = scheduler.run_lanes(
        plan.model, plan.degeneracy, plan.width, data, padded, cast(starts, dtype), tol, np.int32(count), _limit(plan)
    )
    lanes = jax.tree.map(lambda a: np.asarray(a)[:count], lanes)
    counter.add(lanes, executed)
    return lanes


def _limit(plan: Plan) -> np.int32:
    return np.int32(plan.stop.max_iterations)


def _padded(values: np.ndarray, size: int) -> np.ndarray:
    room = np.zeros((size, *values.shape[1:]), values.dtype)
    room[: len(values)] = values
    return room


def cast(tree: Any, dtype: str) -> Any:
    """Floating leaves as `dtype`."""
    return jax.tree.map(lambda a: a.astype(dtype) if jnp.issubdtype(a.dtype, jnp.floating) else a, tree)


def _starts(plan: Plan, chunk: Chunk, prepared: Any, dataset: np.ndarray, restart: np.ndarray) -> Params:
    """Start parameters of the lanes, float64, padded to whole blocks; each strategy's lanes in one stage."""
    size = blocks.capacity_for(len(dataset), plan.width)
    if not plan.strategies:
        return stages.given_starts(
            plan.model, plan.width, prepared, chunk.root, chunk.words, _padded(dataset, size), _padded(restart, size),
            np.int32(len(dataset)), chunk.starts, np.float64(chunk.spread),
        )  # fmt: skip
    room: Params = None
    for place, strategy in enumerate(plan.strategies):
        lanes = np.flatnonzero(restart % len(plan.strategies) == place)
        if len(lanes) == 0:
            continue
        part = blocks.capacity_for(len(lanes), plan.width)
        made = stages.random_starts(
            plan.model, plan.width, strategy, prepared, chunk.root, chunk.words,
            _padded(dataset[lanes], part), _padded(restart[lanes], part), np.int32(len(lanes)),
        )  # fmt: skip
        made = jax.tree.map(lambda a: np.asarray(a)[: len(lanes)], made)  # noqa: B023 (called at once)
        if room is None:
            room = jax.tree.map(lambda a: np.zeros((size, *a.shape[1:]), a.dtype), made)
        jax.tree.map(lambda all_, new: all_.__setitem__(lanes, new), room, made)  # noqa: B023
    return room


class _Point:
    """The chosen end point of each dataset of a chunk, and what is done to it before it is reported."""

    def __init__(
        self, plan: Plan, prepared: Any, count: int, chosen: np.ndarray, landscape: Landscape, params: Params
    ) -> None:
        self.plan, self.prepared, self.count = plan, prepared, count
        rows, found = np.arange(count), chosen >= 0
        column = np.where(found, chosen, 0)
        self.params = jax.tree.map(lambda a: np.asarray(a[rows, column], np.float64), params)
        self.status = choice.status_of(landscape, chosen)
        pick = lambda field: getattr(landscape, field)[rows, column]  # noqa: E731
        self.objective = np.where(found, pick("objective"), np.nan).astype(np.float64)
        self.log_likelihood = np.where(found, pick("log_likelihood"), np.nan).astype(np.float64)
        self.iterations = np.where(found, pick("iterations"), 0)
        self.remaining = np.where(found, pick("remaining"), np.nan).astype(np.float64)
        self.flags = np.where(found, pick("flags"), 0) | choice.suspicion(landscape, chosen)
        self.certificate = certificate.empty(count)
        self.n_free = 0
        jax.tree.map(lambda a: a.__setitem__(~found, np.nan), self.params)

    def padded_params(self) -> Params:
        size = jax.tree.leaves(self.prepared)[0].shape[0]
        return jax.tree.map(lambda a: _padded(a, size), self.params)

    def _run(self, rows: np.ndarray, params: Params, tol: float, counter: _Counter) -> Any:
        """One more pass of the scheduler, float64, one lane for each of `rows`."""
        plan = self.plan
        size = blocks.capacity_for(len(rows), plan.width)
        lanes, executed = scheduler.run_lanes(
            plan.model, plan.degeneracy, plan.width, self.prepared, _padded(rows.astype(np.int32), size),
            jax.tree.map(lambda a: _padded(a, size), params), np.full(size, tol), np.int32(len(rows)), _limit(plan),
        )  # fmt: skip
        lanes = jax.tree.map(lambda a: np.asarray(a)[: len(rows)], lanes)
        counter.add(lanes, executed)
        return lanes

    def _accept(self, rows: np.ndarray, lanes: Any, better: np.ndarray, flag: Flag) -> None:
        """Adopt the lanes of `rows` where `better`."""
        took, lanes = rows[better], jax.tree.map(lambda a: a[better], lanes)
        jax.tree.map(lambda a, new: a.__setitem__(took, new), self.params, lanes.params)
        self.status[took] = lanes.status
        self.objective[took] = lanes.objective
        self.log_likelihood[took] = lanes.log_likelihood
        self.remaining[took] = lanes.remaining
        kept = self.flags[took] & (Flag.ESCAPED | Flag.SUSPECT)
        self.flags[took] = lanes.flags | kept | flag
        np.add.at(self.iterations, took, lanes.iterations)

    def polish(self, counter: _Counter) -> None:
        """Finish the float32 choice in float64 from where it stopped."""
        rows = np.flatnonzero(choice.eligible(self.status))
        if len(rows):
            lanes = self._run(rows, jax.tree.map(lambda a: a[rows], self.params), self.plan.stop.tol, counter)
            self._accept(rows, lanes, np.isfinite(lanes.objective), Flag.NONE)

    def _examine(self, rows: np.ndarray, second: bool) -> certificate.Verdict:
        size = blocks.capacity_for(len(rows), self.plan.width)
        params = jax.tree.map(lambda a: _padded(a[rows], size), self.params)
        found = stages.curvature(
            self.plan.model, self.plan.width, second, self.prepared, _padded(rows.astype(np.int32), size), params,
            np.int32(len(rows)),
        )  # fmt: skip
        verdict = certificate.examine(*(np.asarray(a)[: len(rows)] for a in found))
        for mine, new in zip(self.certificate, verdict.certificate, strict=True):
            mine[rows] = new
        return verdict

    def _best_probe(self, rows: np.ndarray, probes: np.ndarray) -> tuple[Params, np.ndarray]:
        """Of each row's probes (rows, P, m) the parameters and objective of the best."""
        n_rows, n_probes, m = probes.shape
        flat = np.repeat(rows, n_probes).astype(np.int32)
        size = blocks.capacity_for(len(flat), self.plan.width)
        like = jax.tree.map(lambda a: _padded(a[flat], size), self.params)
        params, objective = stages.probe(
            self.plan.model, self.plan.width, self.prepared, _padded(flat, size), like,
            _padded(probes.reshape(-1, m), size), np.int32(len(flat)),
        )  # fmt: skip
        objective = np.asarray(objective)[: len(flat)].reshape(n_rows, n_probes)
        best = np.argmax(np.where(np.isfinite(objective), objective, -np.inf), axis=1)
        take = np.arange(n_rows) * n_probes + best
        return jax.tree.map(lambda a: np.asarray(a)[take], params), objective[np.arange(n_rows), best]

    def certify(self, counter: _Counter) -> None:
        """The certificate of every eligible choice, and second passes for what is no maximum or short of one."""
        plan = self.plan
        rows = np.flatnonzero(choice.eligible(self.status))
        self.n_free = self._count_free()
        second = self.n_free <= certificate.DEFAULT_LIMIT if plan.certify is None else plan.certify
        move = second and (plan.precision == "float64" or plan.polish)
        for turn in range(MAX_ROUNDS + 1):
            if len(rows) == 0 or plan.certify is False:
                return
            verdict = self._examine(rows, second)
            if not move:
                return
            short = verdict.negative | (verdict.certificate.predicted_gain > self._tolerance(rows))
            rows = self._onward(rows[short], verdict, short, turn, counter)

    def _tolerance(self, rows: np.ndarray) -> np.ndarray:
        """What the certificate asks for: the tolerance, or what float64 can resolve of the objective."""
        return np.maximum(self.plan.stop.tol, 4.0 * np.finfo(np.float64).eps * np.abs(self.objective[rows]))

    def _onward(
        self, rows: np.ndarray, verdict: certificate.Verdict, short: np.ndarray, turn: int, counter: _Counter
    ) -> np.ndarray:
        """Send what is short of a maximum back through the scheduler; returns the rows that moved."""
        if len(rows) == 0:
            return rows
        tol = self._tolerance(rows)
        negative = verdict.negative[short]
        params, objective = self._best_probe(rows, verdict.probes[short])
        # A negative eigenvalue with nothing better along it is rounding on a flat ridge, not a saddle.
        go = np.where(negative, objective > self.objective[rows] + tol, True) & (self.status[rows] == Status.CONVERGED)
        if turn == MAX_ROUNDS:
            self.status[rows[go & negative]] = Status.SADDLE
            return rows[:0]
        rows, negative = rows[go], negative[go]
        if len(rows) == 0:
            return rows
        lanes = self._run(rows, jax.tree.map(lambda a: a[go], params), self.plan.stop.tol * TIGHTER**turn, counter)
        better = choice.eligible(lanes.status) & (lanes.objective >= self.objective[rows])
        self._accept(rows, lanes, better, Flag.ESCAPED)
        self.status[rows[~better & negative]] = Status.SADDLE
        return rows[better]

    def _count_free(self) -> int:
        one = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), (self.params, self.prepared))
        return int(jax.eval_shape(self.plan.model.to_free, *one).shape[0])

    def result(self, user: Params, problems: np.ndarray, landscape: Landscape, counter: _Counter) -> ChunkFit:
        """The chunk's fits."""
        return ChunkFit(
            params=jax.tree.map(lambda a: np.asarray(a)[: self.count], user),
            log_likelihood=self.log_likelihood,
            objective=self.objective,
            status=self.status,
            flags=self.flags & ~int(Flag.DEGENERATE),
            problems=problems,
            iterations=self.iterations,
            remaining=self.remaining,
            landscape=landscape,
            certificate=self.certificate,
            n_free=self.n_free,
            useful=counter.useful,
            executed=counter.executed,
        )

"""The chosen end point of each dataset of a chunk: finished in float64, certified, sent on where it is no maximum."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from emjax.base.records import Params
from emjax.base.status import Flag, Status
from emjax.engine import blocks, certificate, choice, passes, stages
from emjax.engine.choice import Landscape
from emjax.engine.chunks import ChunkFit, Counter, Plan, padded, put

MAX_ROUNDS = 6  # second passes through the scheduler before a point is given up as a saddle
ROUNDING = 1e-12  # a probe better by more than this, relatively, is better
TIGHTER = 0.1  # each such pass runs at this much of the tolerance before it


class EndPoints:
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
        self.alone = choice.suspicion(landscape, chosen)  # of the search, whatever becomes of the point
        self.flags = np.where(found, pick("flags"), 0) | self.alone
        self.certificate = certificate.empty(count)
        self.n_free = 0
        put(self.params, ~found, jax.tree.map(lambda _: np.nan, self.params))

    def padded_params(self) -> Params:
        size = max(leaf.shape[0] for leaf in jax.tree.leaves(self.prepared))
        return jax.tree.map(lambda a: padded(a, size), self.params)

    def _run(self, rows: np.ndarray, params: Params, tol: float, counter: Counter, begun: bool = False) -> Any:
        """Once more through the scheduler, float64, one lane for each of `rows`."""
        size = blocks.lane_room(len(rows), self.plan.width)
        params = jax.tree.map(lambda a: padded(a, size), params)
        return passes.run_all(self.plan, self.prepared, rows, params, np.full(size, tol), counter, begun=begun)

    def _accept(self, rows: np.ndarray, lanes: Any, better: np.ndarray, flag: Flag) -> None:
        """Adopt the lanes of `rows` where `better`."""
        took, lanes = rows[better], jax.tree.map(lambda a: a[better], lanes)
        put(self.params, took, lanes.params)
        self.status[took] = lanes.status
        self.objective[took] = lanes.objective
        self.log_likelihood[took] = lanes.log_likelihood
        self.remaining[took] = lanes.remaining
        self.flags[took] = lanes.flags | (self.flags[took] & Flag.ESCAPED) | self.alone[took] | flag
        np.add.at(self.iterations, took, lanes.iterations)

    def polish(self, counter: Counter) -> None:
        """Finish the float32 choice in float64 from where it stopped."""
        rows = np.flatnonzero(choice.eligible(self.status))
        if len(rows):
            params = jax.tree.map(lambda a: a[rows], self.params)
            # On the last digits of a slow fit plain EM's gains promise less than is left.
            lanes = self._run(rows, params, self.plan.stop.tol, counter, begun=True)
            self._accept(rows, lanes, np.isfinite(lanes.objective), Flag.NONE)

    def _examine(self, rows: np.ndarray, second: bool) -> certificate.Verdict:
        size = blocks.lane_room(len(rows), self.plan.width)
        params = jax.tree.map(lambda a: padded(a[rows], size), self.params)
        found = stages.curvature(
            self.plan.model, self.plan.width, second, self.prepared, padded(rows.astype(np.int32), size), params,
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
        size = blocks.lane_room(len(flat), self.plan.width)
        like = jax.tree.map(lambda a: padded(a[flat], size), self.params)
        params, objective = stages.probe(
            self.plan.model, self.plan.width, self.prepared, padded(flat, size), like,
            padded(probes.reshape(-1, m), size), np.int32(len(flat)),
        )  # fmt: skip
        objective = np.asarray(objective)[: len(flat)].reshape(n_rows, n_probes)
        best = np.argmax(np.where(np.isfinite(objective), objective, -np.inf), axis=1)
        take = np.arange(n_rows) * n_probes + best
        return jax.tree.map(lambda a: np.asarray(a)[take], params), objective[np.arange(n_rows), best]

    def certify(self, counter: Counter) -> None:
        """The certificate of every eligible choice, and second passes for what is no maximum or short of one."""
        plan = self.plan
        rows = np.flatnonzero(choice.eligible(self.status))
        self.n_free = self._count_free()
        second = plan.wants_information(self.n_free)
        move = second and (plan.precision == "float64" or plan.polish)
        for turn in range(MAX_ROUNDS + 1):
            if len(rows) == 0 or plan.certify is False:
                return
            verdict = self._examine(rows, second)
            if not move:
                return
            short = verdict.negative | verdict.inward | (verdict.certificate.predicted_gain > self._tolerance(rows))
            rows = self._onward(rows[short], verdict, short, turn, counter)

    def _tolerance(self, rows: np.ndarray) -> np.ndarray:
        """What the certificate asks for: the tolerance, or what float64 can resolve of the objective."""
        return np.maximum(self.plan.stop.tol, 4.0 * np.finfo(np.float64).eps * np.abs(self.objective[rows]))

    def _onward(
        self, rows: np.ndarray, verdict: certificate.Verdict, short: np.ndarray, turn: int, counter: Counter
    ) -> np.ndarray:
        """Send what is short of a maximum back through the scheduler; returns the rows that moved."""
        if len(rows) == 0:
            return rows
        tol = self._tolerance(rows)
        negative = (verdict.negative | verdict.inward)[short]
        params, objective = self._best_probe(rows, verdict.probes[short])
        # A negative eigenvalue with nothing better along it is rounding on a flat ridge, not a saddle.
        better = objective > self.objective[rows] + ROUNDING * (1.0 + np.abs(self.objective[rows]))
        go = np.where(negative, better, True) & (self.status[rows] == Status.CONVERGED)
        if turn == MAX_ROUNDS:
            left = negative & (objective > self.objective[rows] + tol)
            self.status[rows[go & left]] = Status.SADDLE
            return rows[:0]
        rows, negative = rows[go], negative[go]
        if len(rows) == 0:
            return rows
        lanes = self._run(rows, jax.tree.map(lambda a: a[go], params), self.plan.stop.tol * TIGHTER**turn, counter)
        gained = choice.eligible(lanes.status) & (lanes.objective >= self.objective[rows])
        self._accept(rows, lanes, gained, Flag.ESCAPED)
        self.status[rows[~gained & negative]] = Status.SADDLE
        return rows[gained]

    def _count_free(self) -> int:
        one = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), (self.params, self.prepared))
        return int(stages.to_free.eval_shape(self.plan.model, *one).shape[0])

    def _own_free(self) -> Any:
        """Free parameters, without those of padding."""
        if not self.plan.model.row_blocks:
            return self.n_free
        found = stages.n_free(self.plan.model, self.plan.width, self.prepared, np.int32(self.count))
        return np.asarray(found)[: self.count]

    def result(
        self, user: Params, problems: np.ndarray, landscape: Landscape, counter: Counter, n_observations: np.ndarray
    ) -> ChunkFit:
        """The chunk's fits. Parameters that the user's units cannot hold are no convergence."""
        user = jax.tree.map(lambda a: np.asarray(a)[: self.count], user)
        finite = [np.all(np.isfinite(a.reshape(self.count, -1)), axis=1) for a in jax.tree.leaves(user)]
        self.status[choice.eligible(self.status) & ~np.all(finite, axis=0)] = Status.NON_FINITE
        return ChunkFit(
            params=user,
            log_likelihood=self.log_likelihood,
            objective=self.objective,
            status=self.status,
            flags=self.flags & ~int(Flag.DEGENERATE),
            problems=problems,
            iterations=self.iterations,
            remaining=self.remaining,
            landscape=landscape,
            certificate=self.certificate,
            n_observations=n_observations,
            n_free=self._own_free(),
            useful=counter.useful,
            executed=counter.executed,
        )

"""Rows of probabilities of the next state, constant or gated by covariates: what a gated chain is made of.

A chain has one row for its first state and one for each state that it may leave; R of them stand together. A row's
baseline is the state with the same number (`diagonal`: staying), or the last one. `largest` (R, K) are the largest
probabilities over the data.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from emjax.base import coordinates, multinomial_logit, numerics
from emjax.base.multinomial_logit import LogitData, LogitStatistics
from emjax.base.records import Array
from emjax.base.simplices import AT_ZERO
from emjax.latent import transition_step

HIGHEST = jax.lax.Precision.HIGHEST


@dataclass(frozen=True)
class ConstantRows:
    """values (R, K), probabilities; statistics are their expected counts."""

    diagonal: bool

    def baseline(self, row: int, n_states: int) -> int:
        """The state against which a row's coordinates are taken."""
        return row if self.diagonal else n_states - 1

    def prepare(self, z: Array, weight: Array) -> tuple[Any, Array]:
        """Nothing: z has no place here."""
        return None, jnp.int32(0)

    def to_user(self, values: Array, data: Any) -> Array:
        """The same: probabilities have no units."""
        return values

    def from_user(self, values: Array, data: Any) -> Array:
        """Probabilities that sum to one."""
        return values / jnp.sum(values, axis=-1, keepdims=True)

    def probabilities(self, values: Array, x: Array) -> Array:
        """Of every row of the data, (n, R, K); x (q, n)."""
        return jnp.broadcast_to(self.from_user(values, None)[None], (x.shape[1], *values.shape))

    def statistics(self, probabilities: Array, counts: Array, data: Any) -> Array:
        """Of expected counts (n, R, K)."""
        return jnp.sum(counts, axis=0)

    def maximize(self, statistics: Array, values: Array, data: Any) -> Array:
        """Shares of the counts."""
        return transition_step.shares(statistics, values)

    def edge(self, statistics: Array, values: Array) -> Array:
        """Whether a probability is at 0, ()."""
        return jnp.any(values < AT_ZERO)

    def start(self, probabilities: Array, data: Any) -> Array:
        """Values of probabilities (R, K) that hold everywhere."""
        return probabilities

    def n_free(self, n_rows: int, n_states: int, data: Any) -> int:
        """Free coordinates of R rows."""
        return n_rows * (n_states - 1)

    def to_free(self, values: Array) -> Array:
        """Log-ratios against the baselines; one near zero is replaced by the largest probability of its row."""
        rows = [coordinates.log_ratios(row, self.baseline(r, len(row))) for r, row in enumerate(values)]
        return jnp.concatenate(rows)

    def from_free(self, free: Array, n_rows: int, n_states: int, like: Array | None, data: Any) -> Array:
        """The inverse of `to_free`, with the baselines of `like`."""
        rows = []
        for r, row in enumerate(free.reshape(n_rows, n_states - 1)):
            own = None if like is None else like[r]
            rows.append(coordinates.from_log_ratios(row, self.baseline(r, n_states), own))
        return jnp.stack(rows)

    def boundary(self, values: Array, largest: Array) -> Array:
        """As `Model.boundary`: 1 where a probability is at 0."""
        kept = [coordinates.others(row, self.baseline(r, len(row)))[0] for r, row in enumerate(values)]
        return (jnp.concatenate(kept) < AT_ZERO).astype(jnp.int32)


@dataclass(frozen=True)
class GatedRows(ConstantRows):
    """values (R, K, q), coefficients of the logits in prepared units, the intercept first, 0 in a row's baseline.

    `data` is the `LogitData` of the rows of the data in which such a row is used.
    """

    def prepare(self, z: Array, weight: Array) -> tuple[LogitData, Array]:
        """Of z (n, c) and the weights (n,) of the rows in which it is used, and `Problem` bits."""
        return multinomial_logit.prepare(z, weight, True)

    def baselined(self, values: Array) -> Array:
        """The same probabilities, with coefficients of 0 in the baselines."""
        return jnp.stack([row - row[self.baseline(r, len(row))][None, :] for r, row in enumerate(values)])

    def to_user(self, values: Array, data: LogitData) -> Array:
        """Coefficients of the user's z."""
        return jnp.matmul(values, data.design.to_user.T, precision=HIGHEST)

    def from_user(self, values: Array, data: LogitData) -> Array:
        """Coefficients of the prepared z."""
        return jnp.matmul(self.baselined(values), data.design.to_prepared.T, precision=HIGHEST)

    def probabilities(self, values: Array, x: Array) -> Array:
        """Of every row of the data, (n, R, K); x (q, n), the ones first."""
        n_rows, n_states, q = values.shape
        logits = numerics.linear(values.reshape(-1, q), x).reshape(n_rows, n_states, -1)
        return jnp.moveaxis(jax.nn.softmax(logits, axis=1), 2, 0)

    def statistics(self, probabilities: Array, counts: Array, data: LogitData) -> list[LogitStatistics]:
        """Of the probabilities and expected counts (n, R, K), row by row."""
        probabilities, counts = (jnp.moveaxis(part, 0, 2) for part in (probabilities, counts))
        return [
            multinomial_logit.statistics(p, count, jnp.sum(count, axis=0), data.design.x)
            for p, count in zip(probabilities, counts, strict=True)
        ]

    def maximize(self, statistics: list[LogitStatistics], values: Array, data: LogitData) -> Array:
        """A Newton step of each row, shortened so that it cannot lower Q."""
        steps = [multinomial_logit.newton_step(found, data) for found in statistics]
        return self.baselined(values + jnp.stack(steps))

    def edge(self, statistics: list[LogitStatistics], values: Array) -> Array:
        """Whether the data say nothing of a direction of some coefficients, as where z separates the states, ()."""
        if values.shape[1] == 1:
            return jnp.zeros((), bool)
        own = [multinomial_logit.own_information(found) for found in statistics]
        return multinomial_logit.flat(jnp.concatenate(own))

    def start(self, probabilities: Array, data: LogitData) -> Array:
        """Intercepts of probabilities (R, K), slopes of 0."""
        slopes = jnp.zeros((*probabilities.shape, data.design.x.shape[0] - 1), probabilities.dtype)
        return self.baselined(jnp.concatenate([jnp.log(probabilities)[:, :, None], slopes], axis=2))

    def n_free(self, n_rows: int, n_states: int, data: LogitData) -> int:
        """Free coordinates of R rows."""
        return n_rows * (n_states - 1) * data.design.x.shape[0]

    def _coordinates(self, values: Array) -> tuple[list[Array], list[Array]]:
        """Of each row the state against which its coordinates are taken, and the others (K - 1,).

        The row's baseline, unless at the mean of z it has died out.
        """
        base = [
            coordinates.baseline(jax.nn.softmax(row[:, 0]), self.baseline(r, len(row))) for r, row in enumerate(values)
        ]
        index = jnp.arange(values.shape[1] - 1)
        return base, [jnp.where(index >= b, index + 1, index) for b in base]

    def to_free(self, values: Array) -> Array:
        """Coefficients against those of one state of the row."""
        return jnp.concatenate(
            [(row - row[b][None, :])[others].reshape(-1) for row, b, others in zip(values, *self._coordinates(values))]
        )

    def from_free(self, free: Array, n_rows: int, n_states: int, like: Array | None, data: LogitData) -> Array:
        """The inverse of `to_free`."""
        q = data.design.x.shape[0]
        blank = jnp.zeros((n_rows, n_states, q), free.dtype)
        places = self._coordinates(blank if like is None else like)[1]
        rows = free.reshape(n_rows, n_states - 1, q)
        return self.baselined(jnp.stack([blank[r].at[places[r]].set(rows[r]) for r in range(n_rows)]))

    def boundary(self, values: Array, largest: Array) -> Array:
        """As `Model.boundary`: of a state never entered, the intercept is at minus infinity and slopes mean nothing."""
        code = jnp.full(values.shape[2], 2, jnp.int32).at[0].set(1)
        never = [row[others] < AT_ZERO for row, others in zip(largest, self._coordinates(values)[1])]
        return jnp.concatenate([jnp.where(found[:, None], code[None, :], 0).reshape(-1) for found in never])

"""The M-step of transition probabilities."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from emjax.base import recursions
from emjax.base.records import Array

INNER_STEPS = 3  # of the M-step of a stationary chain
# Constants that shorten a step, times the transitions out of each state, and times `bend` below: the longest step that
# does not lower Q is taken.
DAMPING = ((0.0, 0.0), (1.0, 0.0), (16.0, 0.0), (0.0, 1.0), (0.0, 8.0))


def shares(counts: Array, otherwise: Array) -> Array:
    """Counts over their sums along the last axis; what was there before where there are none."""
    total = jnp.sum(counts, axis=-1, keepdims=True)
    tiny = jnp.finfo(counts.dtype).tiny
    return jnp.where(total > tiny, counts / jnp.maximum(total, tiny), otherwise)


def with_stationary_start(counts: Array, entering: Array, transitions: Array) -> Array:
    """Transitions that raise Q = sum counts log A + sum entering log pi(A), by a few guarded steps.

    At the maximum A is proportional, in each row, to counts + A times the gradient of the second term, which is known
    up to a constant a row; with a large enough constant the step to it raises Q (Baum & Eagon 1967, Bulletin of the
    American Mathematical Society 73).
    """

    def of_start(transitions: Array) -> Array:
        return jnp.sum(entering * recursions.safe_log(recursions.stationary(transitions)))

    def q(transitions: Array) -> Array:
        return jnp.sum(counts * recursions.safe_log(transitions)) + of_start(transitions)

    total = jnp.sum(counts, axis=1, keepdims=True)

    def step(_: Array, current: tuple[Array, Array]) -> tuple[Array, Array]:
        here, value = current
        pull = jax.grad(of_start)(here)
        pull = pull - jnp.min(pull, axis=1, keepdims=True)
        best = current
        slack = 4.0 * jnp.finfo(value.dtype).eps * jnp.abs(value)
        # Where a state is hardly ever left, log pi bends as much as this: it follows the ratios of small probabilities.
        bend = jnp.sum(entering) / jnp.maximum(1.0 - jnp.max(jnp.diagonal(here)), jnp.finfo(here.dtype).eps)
        for of_total, of_bend in reversed(DAMPING):  # the shortest first: the last that is good enough stays
            point = shares(counts + here * (pull + of_total * total + of_bend * bend), here)
            reached = q(point)
            best = jax.tree.map(lambda a, b: jnp.where(reached >= value - slack, a, b), (point, reached), best)  # noqa: B023
        return best

    return jax.lax.fori_loop(0, INNER_STEPS, step, (transitions, q(transitions)))[0]

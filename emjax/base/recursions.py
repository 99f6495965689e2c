"""Forward and backward recursions of a Markov chain over rows, several sequences in one scan.

In all of them: initial (K,) and transitions (K, K), rows from, columns to, probabilities; log_prob (K, n), nats, 0
where nothing was observed; first (n,), True at the first row of each sequence; weight (n,), that of its sequence.
Where probabilities vary from row to row, both have a leading axis: initial (n, K), of a sequence that begins at a row,
and transitions (n, K, K), into a row from the one before it.
Sources: Rabiner 1989, Proceedings of the IEEE 77; Devijver 1985, Pattern Recognition Letters 3.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from emjax.base.records import Array

LOG_ZERO = -1e30  # stands for log 0: finite, so that sums and derivatives of it are


class Smoothed(NamedTuple):
    """Log-likelihood (), and its derivatives with respect to log_prob (K, n), initial and transitions, as these are.

    The first of these are the posterior probabilities of the states times `weight`; the others, times the
    probabilities themselves, expected counts.
    """

    log_likelihood: Array
    responsibilities: Array
    initial: Array
    transitions: Array


def _by_row(initial: Array, transitions: Array) -> tuple:
    """What a scan reads of the chain row by row: nothing of one that is the same in all of them."""
    return () if transitions.ndim == 2 else (initial, transitions)


@jax.custom_jvp
def smooth(initial: Array, transitions: Array, log_prob: Array, first: Array, weight: Array) -> Smoothed:
    """Forward-backward: probabilities rescaled at every row; logarithms, at four times the cost, where those fail."""
    return _smooth(initial, transitions, log_prob, first, weight)


@smooth.defjvp
def _smooth_jvp(primals: tuple, tangents: tuple) -> tuple:
    """The derivative of the log-likelihood is made of its own results: no gradient goes back through the scans.

    The results themselves have none here (NaN), which would take as long again to compile: differentiate twice instead.
    """
    found = _smooth(*primals)
    change = jnp.sum(found.initial * tangents[0]) + jnp.sum(found.transitions * tangents[1])
    change = change + jnp.sum(found.responsibilities * tangents[2])
    unknown = [jnp.full(part.shape, jnp.nan * change) for part in found[1:]]
    return found, Smoothed(change, *unknown)


def _smooth(initial: Array, transitions: Array, log_prob: Array, first: Array, weight: Array) -> Smoothed:
    found, safe = _scaled(initial, transitions, log_prob, first, weight)

    def in_logarithms(state: tuple[Array, Smoothed]) -> tuple[Array, Smoothed]:
        rows = jnp.where(state[0], 0.0, log_prob)  # what does not depend on the state would be computed before the loop
        return jnp.ones((), bool), _logarithmic(initial, transitions, rows, first, weight)

    # Under vmap a `cond` would run both; a loop runs only while some lane of the block is not done.
    return jax.lax.while_loop(lambda state: ~state[0], in_logarithms, (safe, found))[1]


def _scaled(initial: Array, transitions: Array, log_prob: Array, first: Array, weight: Array) -> tuple[Smoothed, Array]:
    """In probabilities, and whether that was safe.

    What underflows is lost. While every transition is possible another path takes its place at once; otherwise it may
    come to matter once the rest has fallen as far, and together the normalisers say how far it can have fallen.
    """
    dtype, n_states = log_prob.dtype, log_prob.shape[0]
    least = jnp.finfo(dtype).tiny ** 0.8
    peak = jnp.max(log_prob, axis=0)
    density = jnp.exp(log_prob - peak[None, :]).T
    own = _by_row(initial, transitions)

    def forward(filtered: Array, row: tuple) -> tuple:
        density, start, *here = row
        start_at, moves = here or (initial, transitions)
        joint = jnp.where(start, start_at, jnp.sum(filtered[:, None] * moves, axis=0)) * density
        normaliser = jnp.sum(joint)
        filtered = joint / normaliser
        return filtered, (filtered, normaliser)

    _, (filtered, normaliser) = jax.lax.scan(forward, initial[0] if own else initial, (density, first, *own))
    log_normaliser = jnp.log(normaliser)
    far = jnp.sum(log_normaliser) < jnp.log(least)
    certain = (jnp.min(normaliser) > least) & ~(far & (jnp.min(transitions) < jnp.finfo(dtype).tiny ** 0.1))
    # NaN to begin with, as in an idle lane, is NaN in logarithms too.
    certain |= jnp.isnan(jnp.max(initial) + jnp.max(transitions) + jnp.max(peak))
    share = density / normaliser[:, None]

    def backward(carry: tuple, row: tuple) -> tuple:
        later, counts = carry
        share, before, start, weight, *here = row
        onward = share * later
        if not here:
            counts = counts + (before * weight)[:, None] * onward[None, :]
        earlier = jnp.where(start, 1.0, jnp.sum((here[1] if here else transitions) * onward[None, :], axis=1))
        return (earlier, counts), later

    floating = weight.astype(dtype)
    before = jnp.concatenate([filtered[:1], filtered[:-1]])
    begin = jnp.ones(n_states, dtype), jnp.zeros((n_states, n_states), dtype)
    rows = share, before, first, jnp.where(first, 0.0, floating)
    (_, counts), later = jax.lax.scan(backward, begin, (*rows, *own), reverse=True)
    entering = jnp.where(first, floating, 0.0)[:, None] * share * later
    if own:
        counts = (before * rows[3][:, None])[:, :, None] * (share * later)[:, None, :]
    total = jnp.sum(floating * (log_normaliser + peak))
    resp = (filtered * later * floating[:, None]).T
    return Smoothed(total, resp, entering if own else jnp.sum(entering, axis=0), counts), certain


def _logarithmic(initial: Array, transitions: Array, log_prob: Array, first: Array, weight: Array) -> Smoothed:
    """The same in logarithms, whatever the densities; minus infinity where no path is possible."""
    dtype, n_states = log_prob.dtype, log_prob.shape[0]
    log_prob = jnp.maximum(log_prob, LOG_ZERO)
    start_at, moves = safe_log(initial), safe_log(transitions)
    own = _by_row(start_at, moves)
    floating = weight.astype(dtype)
    largest = 0.25 * jnp.log(jnp.finfo(dtype).max)  # beyond it a derivative stands for infinity

    def forward(filtered: Array, row: tuple) -> tuple:
        log_prob, start, *here = row
        enter, move = here or (start_at, moves)
        joint = jnp.where(start, enter, log_sum_exp(filtered[:, None] + move, 0)) + log_prob
        normaliser = log_sum_exp(joint, 0)
        filtered = jnp.maximum(joint - normaliser, LOG_ZERO)
        return filtered, (filtered, normaliser)

    begin = start_at[0] if own else start_at
    _, (filtered, normaliser) = jax.lax.scan(forward, begin, (log_prob.T, first, *own))
    share = log_prob.T - normaliser[:, None]

    def backward(carry: tuple, row: tuple) -> tuple:
        later, counts = carry
        share, before, start, weight, *here = row
        onward = share + later
        if not here:
            path = jnp.exp(jnp.minimum(before[:, None] + onward[None, :], largest))
        move = here[1] if here else moves
        earlier = jnp.where(start, 0.0, jnp.maximum(log_sum_exp(move + onward[None, :], 1), LOG_ZERO))
        return (earlier, counts if here else counts + weight * path), later

    before = jnp.concatenate([filtered[:1], filtered[:-1]])
    begin = jnp.zeros(n_states, dtype), jnp.zeros((n_states, n_states), dtype)
    rows = share, before, first, jnp.where(first, 0.0, floating)
    (_, counts), later = jax.lax.scan(backward, begin, (*rows, *own), reverse=True)
    entering = jnp.where(first, floating, 0.0)[:, None] * jnp.exp(jnp.minimum(share + later, largest))
    if own:
        paths = jnp.exp(jnp.minimum(before[:, :, None] + (share + later)[:, None, :], largest))
        counts = rows[3][:, None, None] * paths
    resp = (jnp.exp(filtered + later) * floating[:, None]).T
    total = jnp.where(jnp.min(normaliser) > 0.1 * LOG_ZERO, jnp.sum(floating * normaliser), -jnp.inf)
    return Smoothed(total, resp, entering if own else jnp.sum(entering, axis=0), counts)


def predict(initial: Array, transitions: Array, log_prob: Array, first: Array) -> Array:
    """Log-probabilities of the states of each row given the rows before it in its sequence, (K, n)."""
    start_at, moves = safe_log(initial), safe_log(transitions)
    own = _by_row(start_at, moves)

    def forward(filtered: Array, row: tuple) -> tuple:
        log_prob, start, *here = row
        enter, move = here or (start_at, moves)
        predicted = jnp.where(start, enter, log_sum_exp(filtered[:, None] + move, 0))
        joint = predicted + log_prob
        return jnp.maximum(joint - log_sum_exp(joint, 0), LOG_ZERO), predicted

    return jax.lax.scan(forward, start_at[0] if own else start_at, (log_prob.T, first, *own))[1].T


def best_path(initial: Array, transitions: Array, log_prob: Array, first: Array) -> Array:
    """The most probable sequence of states, (n,) int32 (Viterbi 1967, IEEE Transactions on Information Theory 13)."""
    start_at, moves = safe_log(initial), safe_log(transitions)
    own = _by_row(start_at, moves)

    def forward(score: Array, row: tuple) -> tuple:
        log_prob, start, *here = row
        enter, move = here or (start_at, moves)
        ways = score[:, None] + move
        # A sequence's first row continues none: its predecessor is the best end of the sequence before it.
        origin = jnp.where(start, jnp.argmax(score), jnp.argmax(ways, axis=0)).astype(jnp.int32)
        score = jnp.where(start, enter, jnp.max(ways, axis=0)) + log_prob
        return score - jnp.max(score), origin

    score, origins = jax.lax.scan(forward, start_at[0] if own else start_at, (log_prob.T, first, *own))

    def backward(state: Array, origin: Array) -> tuple:
        return origin[state], state

    end = jnp.argmax(score).astype(jnp.int32)
    return jax.lax.scan(backward, end, origins, reverse=True)[1]


def draw(key: Array, initial: Array, transitions: Array, first: Array) -> Array:
    """States drawn from the chain, (n,) int32."""
    own = _by_row(initial, transitions)

    def step(state: Array, row: tuple) -> tuple[Array, Array]:
        key, start, *here = row
        start_at, moves = here or (initial, transitions)
        ways = jnp.where(start, start_at, moves[state])
        state = jax.random.categorical(key, safe_log(ways)).astype(jnp.int32)
        return state, state

    return jax.lax.scan(step, jnp.int32(0), (jax.random.split(key, first.shape[0]), first, *own))[1]


def safe_log(probabilities: Array) -> Array:
    """Logarithms, LOG_ZERO with derivative 0 where a probability is 0."""
    positive = probabilities > 0
    return jnp.where(positive, jnp.log(jnp.where(positive, probabilities, 1.0)), LOG_ZERO)


def log_sum_exp(values: Array, axis: int) -> Array:
    """log sum exp over an axis of finite values."""
    peak = jax.lax.stop_gradient(jnp.max(values, axis=axis, keepdims=True))
    return jnp.log(jnp.sum(jnp.exp(values - peak), axis=axis)) + jnp.squeeze(peak, axis)


def stationary(transitions: Array) -> Array:
    """The stationary distribution (K,), without subtractions (Grassmann, Taksar & Heyman 1985, Operations Research 33).

    Of a reducible chain one of several; finite always.
    """
    n_states, tiny = transitions.shape[0], jnp.finfo(transitions.dtype).tiny
    flow = transitions
    ratios = []
    for k in range(n_states - 1, 0, -1):
        ratio = flow[:k, k] / jnp.maximum(jnp.sum(flow[k, :k]), tiny)
        flow = flow[:k, :k] + ratio[:, None] * flow[k, None, :k]
        ratios.append(ratio)
    found = [jnp.ones((), transitions.dtype)]
    for ratio in reversed(ratios):
        found.append(jnp.sum(jnp.stack(found) * ratio))
    found = jnp.stack(found)
    return found / jnp.sum(found)

"""Bayes' rule over components, the middle of every E-step: few passes over the units, few logarithms."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from emjax.base.records import Array


def responsibilities(joint: Array, weight: Array) -> tuple[Array, Array, Array]:
    """Posterior probabilities of the components times the units' weights, and what else an E-step sums over units.

    joint (K, U) : log weight plus log density of each unit under each component, nats. weight (U,) : boolean or
    floating. Returns the log-likelihood (), weighted responsibilities (K, U) and their sums (K,).
    """
    return _rule(joint, weight)


@jax.custom_jvp
def _rule(joint: Array, weight: Array) -> tuple[Array, Array, Array]:
    peak, normaliser, odds = _odds(joint)
    whole = weight.dtype == jnp.bool_
    share = jnp.where(weight, 1.0 / normaliser, 0.0) if whole else weight / normaliser
    resp = odds * share[None, :]
    if whole:
        rows = jnp.where(weight, peak, 0.0)
        normaliser = jnp.where(weight, normaliser, 1.0)
    else:
        rows = jnp.where(weight > 0, weight * (peak + jnp.log(normaliser)), 0.0)
        normaliser = jnp.ones_like(normaliser)
    total, counts = _sums(rows, normaliser, resp)
    return total, resp, counts


@_rule.defjvp
def _rule_jvp(primals: tuple, tangents: tuple) -> tuple:
    """In plain operations, so that it can be differentiated again; and no derivative of the peak, which cancels."""
    joint, weight = primals
    change = tangents[0]
    share = jax.nn.softmax(joint, axis=0)
    drift = jnp.sum(share * change, axis=0)
    floating = weight.astype(joint.dtype)
    resp = floating[None, :] * share * (change - drift[None, :])
    return _rule(joint, weight), (jnp.sum(floating * drift), resp, jnp.sum(resp, axis=1))


def _odds(joint: Array) -> tuple[Array, Array, Array]:
    """The largest joint density of each unit (log), and the odds against it: their sum, and each of them (K, U)."""
    if joint.shape[0] == 2:  # one exponential, not two of which one is 1
        gap = joint[1] - joint[0]
        small = jnp.exp(-jnp.abs(gap))
        behind = jnp.array([1.0, -1.0], joint.dtype)[:, None] * gap[None, :] > 0
        odds = jnp.where(behind, small[None, :], 1.0)
        return jnp.maximum(joint[0], joint[1]), 1.0 + small, odds
    peak = jnp.max(joint, axis=0)
    odds = jnp.exp(joint - peak[None, :])
    normaliser = odds[0]
    for row in odds[1:]:
        normaliser = normaliser + row
    return peak, normaliser, odds


def _sums(rows: Array, normaliser: Array, resp: Array) -> tuple[Array, Array]:
    """Sum of rows + log(normaliser), and the sums of the responsibilities, in one pass.

    A normaliser lies in [1, K]: the logarithm is taken of products of as many as the floating-point type can hold.
    """
    n_components, n_units = resp.shape
    room = 0.9 * math.log(float(jnp.finfo(rows.dtype).max))
    parts = math.ceil(n_units * math.log(n_components) / room) or 1
    terms = (normaliser, rows, *resp)
    starts = tuple(jnp.asarray(value, rows.dtype) for value in (1.0, *(0.0 for _ in terms[1:])))
    if parts > 1:
        short = -n_units % parts
        terms = tuple(jax.lax.pad(t, start, [(0, short, 0)]) for t, start in zip(terms, starts, strict=True))
        terms = tuple(term.reshape(parts, -1) for term in terms)
    product, *sums = jax.lax.reduce(terms, starts, _multiply_and_add, (terms[0].ndim - 1,))
    total, *counts = sums if parts == 1 else [jnp.sum(value) for value in sums]
    return total + jnp.sum(jnp.log(product)), jnp.stack(counts)


def _multiply_and_add(left: tuple, right: tuple) -> tuple:
    return left[0] * right[0], *(a + b for a, b in zip(left[1:], right[1:], strict=True))

"""PLSA beside the contract battery: it is the factorisation's algorithm, and it keeps zeros."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from emjax import Flag, PLSAParams
from emjax.base.settings import Degeneracy
from tests import lanes
from tests.battery import CLOSE, SAME, bare, close, leaf_rows
from tests.oracle.plsa import lee_seung
from tests.rows.plsa import CASES, LENGTHS, TERMS

CASE = CASES[0]
MODEL, COUNTS, USED = CASE.model, CASE.data.y, np.flatnonzero(LENGTHS)
TOPICS = MODEL.n_topics


def test_one_step_is_both_updates_of_the_factorisation() -> None:
    """Non-negative matrix factorisation by Kullback-Leibler divergence, map by map, its factors normalised."""
    weight = CASE.data.weight[USED][:, None]
    point, lengths = lanes.points(CASE)["away"], LENGTHS[USED][:, None] * weight
    left, right = CASE.away.topics_of_documents[USED] * lengths, CASE.away.terms_of_topics
    for step in range(1, 21):
        left, right = lee_seung(COUNTS[USED] * weight, left, right)
        topics, terms = left / left.sum(axis=1, keepdims=True), right / right.sum(axis=1, keepdims=True)
        found = bare(CASE, leaf_rows(point.params, step), USED)
        close(found, PLSAParams(topics, terms), CLOSE, f"step {step}")
        left, right = topics * lengths, terms


@lanes.in_float64
def test_what_is_given_of_a_document_without_tokens_counts_for_nothing() -> None:
    """Its topics are even, from the start on and after an M-step."""
    data, near = jax.tree.map(jnp.asarray, lanes.arrangements(CASE)["near"])
    silent = len(LENGTHS) - 1
    uneven = near.topics_of_documents.at[silent].set(jnp.array([0.7, 0.3]))
    prepared, _ = MODEL.prepare(data)
    params = MODEL.from_user(near._replace(topics_of_documents=uneven), prepared)
    after = MODEL.maximize(MODEL.expect(params, prepared).statistics, params, prepared)
    for found in (params, after):
        np.testing.assert_array_equal(found.topics_of_documents[silent], np.full(TOPICS, 1.0 / TOPICS))


@lanes.in_float64
def test_zeros_stay_zeros_and_are_on_the_boundary() -> None:
    """A topic that a document lacks, a term that a topic lacks, also where they are the coordinates' baselines."""
    data, near = lanes.arrangements(CASE)["near"]
    topics, terms = (np.array(block) for block in near)
    commonest = int(np.argmax(COUNTS[1:].sum(axis=0)))  # the first document is replaced
    topics[0], topics[1] = [1.0, 0.0], [0.0, 1.0]
    terms[0, commonest], terms[1, (commonest + 1) % TERMS] = 0.0, 0.0
    data = jax.tree.map(jnp.asarray, data)
    data = data._replace(y=data.y.at[0].set(0.0).at[0, (commonest + 2) % TERMS].set(1.0))
    prepared, _ = MODEL.prepare(data)
    params = MODEL.from_user(PLSAParams(jnp.asarray(topics), jnp.asarray(terms)), prepared)
    stepped = params
    for _ in range(3):
        expectation = MODEL.expect(stepped, prepared)
        stepped = MODEL.maximize(expectation.statistics, stepped, prepared)
    for block, after in zip(params, stepped, strict=True):
        np.testing.assert_array_equal(np.asarray(after)[np.asarray(block) == 0.0], 0.0)
    assert MODEL.flags(stepped, None, prepared, Degeneracy()) == Flag.BOUNDARY
    held = np.asarray(MODEL.boundary(params, prepared))
    np.testing.assert_array_equal(held[:2], [2, 1])  # the baseline of the first, the other topic of the second
    of_topics = held[len(near.topics_of_documents) :].reshape(TOPICS, TERMS - 1)
    assert np.sum(of_topics[0] == 2) == 1 and np.sum(of_topics[1] == 1) == 1 and np.sum(of_topics > 0) == 2
    free = MODEL.to_free(params, prepared)
    close(MODEL.from_free(free, prepared), params, SAME, "round trip")

    def objective(free: Any) -> Any:
        moved = MODEL.from_free(free, prepared)
        return MODEL.objective(moved, prepared, MODEL.expect(moved, prepared).log_likelihood)

    assert np.all(np.isfinite(jax.grad(objective)(free)))

"""PLSA keeps the contract of DESIGN 10. By hand, since its parameters have a row a document: other documents, other
parameters."""

import copy
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from emjax import PLSA, Data, Flag, PLSAParams
from emjax.base.settings import Degeneracy
from tests import lanes
from tests.battery import CLOSE, CLOSE32, DIFFERENCE, QUANTILE, SAME, TEN, close, leaf_rows
from tests.lanes import EPS, LOOP, Point
from tests.oracle.plsa import PLSAProblem, lee_seung

ROOM, DOCUMENTS, TOPICS, TERMS = 16, 7, 2, 6  # 7 documents, the last without tokens, in 16 rows
ROUNDS = 60
MODELS = [PLSA(TOPICS), PLSA(TOPICS, temperature=1.25)]
RNG = np.random.default_rng(3)
NEAR = PLSAParams(RNG.dirichlet(np.full(TOPICS, 2.0), ROOM), RNG.dirichlet(np.full(TERMS, 1.0), TOPICS))
AWAY = PLSAParams(RNG.dirichlet(np.full(TOPICS, 20.0), ROOM), RNG.dirichlet(np.full(TERMS, 20.0), TOPICS))
COUNTS = np.stack([RNG.multinomial(size, p) for size, p in zip([40, 25, 60, 31, 55, 20], NEAR[0] @ NEAR[1])])
COUNTS = np.concatenate([COUNTS, np.zeros((1, TERMS))]).astype(float)
SHUFFLED = np.array([3, 5, 0, 2, 6, 1, 4])
SOME = np.array([0, 1, 2])  # for weight 2 and twice

pytestmark = pytest.mark.parametrize("model", MODELS, ids=["plain", "tempered"])


def rows(values: np.ndarray, fill: float) -> np.ndarray:
    """In so many rows as all arrangements have."""
    room = np.full((ROOM, *values.shape[1:]), fill)
    room[: len(values)] = values
    return room


def corpus(which: Any, factor: float = 1.0, fill: float = 0.0) -> Data:
    weight = rows(np.full(len(which), factor), 0.0)
    return Data(rows(COUNTS[which], fill), weight=weight)


def params_of(params: PLSAParams, which: Any) -> PLSAParams:
    return PLSAParams(rows(params.topics_of_documents[which], 1.0 / TOPICS), params.terms_of_topics)


@cache
@lanes.in_float64
def arrangements() -> dict[str, tuple[Data, PLSAParams]]:
    every = np.arange(DOCUMENTS)
    relabelled = PLSAParams(NEAR.topics_of_documents[:, ::-1], NEAR.terms_of_topics[::-1])
    many = Data(np.full((ROOM, TERMS), 100.0), weight=np.ones(ROOM))
    simulated, _ = MODELS[0].sample(jax.random.key(1), *jax.tree.map(jnp.asarray, (NEAR, many)))
    return {
        "near": (corpus(every), params_of(NEAR, every)),
        "away": (corpus(every), params_of(AWAY, every)),
        "nan": (corpus(every, fill=np.nan), params_of(NEAR, every)),
        "permuted": (corpus(SHUFFLED), params_of(NEAR, SHUFFLED)),
        "relabelled": (corpus(every), params_of(relabelled, every)),
        "weight 2": (corpus(SOME, factor=2.0), params_of(NEAR, SOME)),
        "twice": (corpus(np.repeat(SOME, 2)), params_of(NEAR, np.repeat(SOME, 2))),
        "simulated": (jax.tree.map(np.asarray, simulated), AWAY),
    }


@cache
@lanes.in_float64
def stretches(model: PLSA) -> list[dict[str, Point]]:
    """EM from every arrangement, all under one vmap, until it stands still."""
    names, pairs = zip(*arrangements().items(), strict=True)
    data, params = jax.tree.map(lambda *leaves: np.stack(leaves), *pairs)
    found = []
    for _ in range(ROUNDS):
        now = jax.device_get(lanes.compiled_points(model, None, None, data, params))
        found.append({name: jax.tree.map(lambda a: a[i], now) for i, name in enumerate(names)})  # noqa: B023
        params = now.last
        if np.max(np.abs(now.score[:, 1])) < STILL:
            break
    return found


STILL = np.sqrt(EPS) * 1600  # of sums over 1,600 tokens


def problem(model: PLSA) -> PLSAProblem:
    return PLSAProblem(COUNTS, np.ones(DOCUMENTS), 1.0 / model.temperature)


def asked(model: PLSA) -> list[tuple[str, PLSAParams, Point]]:
    first = stretches(model)[0]
    return [(name, of_documents(arrangements()[name][1]), first[name]) for name in ("near", "away")]


def of_documents(params: Any) -> PLSAParams:
    """Without padding."""
    return PLSAParams(np.asarray(params.topics_of_documents)[:DOCUMENTS], np.asarray(params.terms_of_topics))


def test_e_step_is_the_oracles(model: PLSA) -> None:
    for name, params, point in asked(model):
        assert point.problem == 0
        close(point.log_likelihood[0], problem(model).log_likelihood(params), SAME, f"{name}: log-likelihood")
        close(point.objective[0], problem(model).objective(params), SAME, f"{name}: objective")


def test_m_step_and_ten_iterations_are_the_oracles(model: PLSA) -> None:
    for name, params, point in asked(model):
        for steps in (1, TEN):
            found = of_documents(leaf_rows(point.params, steps))
            close(found, PLSAParams(*problem(model).em(params, steps)), CLOSE, f"{name}: {steps} steps")


def test_fisher_identity_and_the_m_steps_maximum(model: PLSA) -> None:
    for name, params, point in asked(model):
        oracle = problem(model)
        posterior = oracle.e_step(params)
        scale = 1.0 + abs(oracle.q(params, posterior))
        along = lanes.directions(point.free.shape[1])
        for place, wanted in ((0, along @ point.score[0]), (1, np.zeros(len(along)))):
            around = leaf_rows(point.around, place)
            values = np.array(
                [
                    [oracle.q(of_documents(leaf_rows(around, i, j)), posterior) for j in range(4)]
                    for i in range(len(along))
                ]
            )
            gradient = values @ np.array([1.0, -8.0, 8.0, -1.0]) / (12.0 * lanes.STEP)
            np.testing.assert_allclose(gradient, wanted, rtol=0.0, atol=DIFFERENCE * scale, err_msg=f"{name}, {place}")
        if name == "away":
            assert np.max(np.abs(along @ point.score[0])) > 1e3 * DIFFERENCE * scale, "the score vanishes: move `away`"


def test_the_objective_never_falls(model: PLSA) -> None:
    for name in arrangements():
        objective = np.concatenate([stretch[name].objective for stretch in stretches(model)])
        assert np.all(np.isfinite(objective)), name
        assert np.min(np.diff(objective)) > -SAME * np.max(np.abs(objective)), name


def test_score_is_zero_where_em_stands_still(model: PLSA) -> None:
    for name, point in stretches(model)[-1].items():
        np.testing.assert_allclose(point.score[1], 0.0, rtol=0.0, atol=STILL, err_msg=name)
        close(leaf_rows(point.params, LOOP - 1), point.last, 1e2 * np.sqrt(EPS), f"{name}: EM still moves")


def test_padding_changes_nothing(model: PLSA) -> None:
    found, wanted = stretches(model)[0]["nan"], stretches(model)[0]["near"]
    jax.tree.map(np.testing.assert_array_equal, found, wanted)
    np.testing.assert_array_equal(wanted.last.topics_of_documents[DOCUMENTS - 1 :], 1.0 / TOPICS)


def test_documents_in_another_order_and_topics_under_other_names(model: PLSA) -> None:
    first = stretches(model)[0]
    near, permuted, relabelled = (first[name] for name in ("near", "permuted", "relabelled"))
    for found in (permuted, relabelled):
        close(found.log_likelihood[0], near.log_likelihood[0], SAME, "log-likelihood")
        close(found.objective[0], near.objective[0], SAME, "objective")
    after = of_documents(leaf_rows(near.params, TEN))
    close(
        of_documents(leaf_rows(permuted.params, TEN)), after._replace(topics_of_documents=after[0][SHUFFLED]), CLOSE, ""
    )
    swapped = PLSAParams(after.topics_of_documents[:, ::-1], after.terms_of_topics[::-1])
    close(of_documents(leaf_rows(relabelled.params, TEN)), swapped, CLOSE, "relabelled")
    close(near.canonical, near.objective[0], SAME, "canonical labels")


def test_weight_two_is_the_document_twice(model: PLSA) -> None:
    found, wanted = stretches(model)[0]["weight 2"], stretches(model)[0]["twice"]
    close(found.log_likelihood[: TEN + 1], wanted.log_likelihood[: TEN + 1], SAME, "log-likelihood")
    close(found.objective[: TEN + 1], wanted.objective[: TEN + 1], SAME, "objective")
    one, two = leaf_rows(found.params, TEN), leaf_rows(wanted.params, TEN)
    close(one.terms_of_topics, two.terms_of_topics, CLOSE, "terms")
    close(
        np.repeat(one.topics_of_documents[: len(SOME)], 2, axis=0), two.topics_of_documents[: 2 * len(SOME)], CLOSE, ""
    )


def test_round_trips(model: PLSA) -> None:
    for name, point in stretches(model)[-1].items():  # zeros are here
        close(point.there_and_back, point.user_again, SAME, f"{name}: from_free(to_free(params))")
        close(point.user_again, leaf_rows(point.params, 0), SAME, f"{name}: to_user(from_user(params))")


def test_a_lane_alone_not_compiled_is_what_it_is_under_vmap(model: PLSA) -> None:
    point, alone = stretches(model)[0]["near"], single(model, np.float64)
    close(alone.log_likelihood, point.log_likelihood[0], SAME, "log-likelihood")
    close(alone.objective, point.objective[0], SAME, "objective")
    close(alone.after, leaf_rows(point.params, 1), CLOSE, "M-step")


def test_float32_stays_float32_and_ends_near_float64(model: PLSA) -> None:
    found, wanted = single(model, np.float32), single(model, np.float64)
    for leaf in jax.tree.leaves(found._replace(problem=None)):
        assert leaf.dtype == np.float32
    for name in ("log_likelihood", "objective", "after"):
        close(getattr(found, name), getattr(wanted, name), CLOSE32, name)


@lanes.in_float64
def single(model: PLSA, dtype: Any) -> lanes.Step:
    """One step from `near`, operation by operation, boolean weights."""
    data, params = arrangements()["nan"]
    data, params = jax.tree.map(lambda a: jnp.asarray(a, dtype), (data, params))
    return jax.device_get(lanes.step(model, None, None, data._replace(weight=data.weight > 0), params))


@lanes.in_float64
def test_equal_settings_are_one_trace(model: PLSA) -> None:
    stretches(model)
    data, params = jax.tree.map(lambda *leaves: np.stack(leaves), *arrangements().values())
    twin, before = copy.deepcopy(model), lanes.compiled_points._cache_size()
    assert twin == model and hash(twin) == hash(model)
    lanes.compiled_points(twin, None, None, data, params)
    assert lanes.compiled_points._cache_size() == before


def test_recovers_what_was_simulated(model: PLSA) -> None:
    """By twice the difference in log-likelihood, since single topics are not identified where no probability is 0."""
    if model.temperature != 1.0:
        pytest.skip("tempered fits are drawn away from the maximum likelihood")
    (data, away), fit = arrangements()["simulated"], stretches(model)[-1]["simulated"]
    oracle = PLSAProblem(np.asarray(data.y), np.ones(ROOM))
    identified = ROOM * (TOPICS - 1) + TOPICS * (TERMS - 1) - TOPICS * (TOPICS - 1)
    limit, best = stats.chi2.isf(QUANTILE, identified), oracle.log_likelihood(fit.last)
    assert 0.0 < 2.0 * (best - oracle.log_likelihood(NEAR)) < limit
    assert 2.0 * (best - oracle.log_likelihood(away)) > limit


def test_one_step_is_both_updates_of_the_factorisation(model: PLSA) -> None:
    """Non-negative matrix factorisation by Kullback-Leibler divergence, map by map, its factors normalised."""
    if model.temperature != 1.0:
        pytest.skip("the factorisation knows no temperature")
    counts, point = COUNTS[:-1], stretches(model)[0]["away"]
    left, right = AWAY.topics_of_documents[:6] * counts.sum(axis=1)[:, None], AWAY.terms_of_topics
    for step in range(1, 21):
        left, right = lee_seung(counts, left, right)
        topics, terms = left / left.sum(axis=1, keepdims=True), right / right.sum(axis=1, keepdims=True)
        found = leaf_rows(point.params, step)
        close(found.topics_of_documents[:6], topics, CLOSE, f"step {step}: topics")
        close(found.terms_of_topics, terms, CLOSE, f"step {step}: terms")
        left, right = topics * counts.sum(axis=1)[:, None], terms


@lanes.in_float64
def test_zeros_stay_zeros_and_are_on_the_boundary(model: PLSA) -> None:
    """A topic that a document lacks, a term that a topic lacks, also where they are the coordinates' baselines."""
    topics, terms = (np.array(block) for block in params_of(NEAR, np.arange(DOCUMENTS)))
    commonest = int(np.argmax(COUNTS.sum(axis=0)))
    topics[0], topics[1] = [1.0, 0.0], [0.0, 1.0]
    terms[0, commonest], terms[1, (commonest + 1) % TERMS] = 0.0, 0.0
    data = jax.tree.map(jnp.asarray, corpus(np.array([1, 1, 2, 3, 4, 5])))
    data = data._replace(y=data.y.at[0, commonest].set(0.0))
    prepared, _ = model.prepare(data)
    params = model.from_user(PLSAParams(jnp.asarray(topics), jnp.asarray(terms)), prepared)
    stepped = params
    for _ in range(3):
        expectation = model.expect(stepped, prepared)
        stepped = model.maximize(expectation.statistics, stepped, prepared)
    for block, after in zip(params, stepped, strict=True):
        np.testing.assert_array_equal(np.asarray(after)[np.asarray(block) == 0.0], 0.0)
    assert model.flags(stepped, None, prepared, Degeneracy()) == Flag.BOUNDARY
    held = np.asarray(model.boundary(params, prepared))
    np.testing.assert_array_equal(held[:2], [2, 1])  # the baseline of the first, the other topic of the second
    of_topics = held[ROOM:].reshape(TOPICS, TERMS - 1)
    assert np.sum(of_topics[0] == 2) == 1 and np.sum(of_topics[1] == 1) == 1 and np.sum(of_topics > 0) == 2
    free = model.to_free(params, prepared)
    close(model.from_free(free, prepared), params, SAME, "round trip")

    def objective(free: Any) -> Any:
        moved = model.from_free(free, prepared)
        return model.objective(moved, prepared, model.expect(moved, prepared).log_likelihood)

    assert np.all(np.isfinite(jax.grad(objective)(free)))

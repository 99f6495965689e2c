"""PLSA through `fit` and `fit_many`: corpora of any size, tempering, files, folding in, perplexity, bad input."""

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import emjax
from emjax import PLSA, Data, DataError, Flag, PLSAParams, Problem, Race, Status
from emjax.inference.perplexity import split_tokens
from tests.oracle.plsa import PLSAProblem
from tests.refusals import refused

pytestmark = pytest.mark.long  # compiling takes most of a test command of ten minutes

MODEL, TERMS, SEED, RESTARTS = PLSA(2), 5, 7, 4
SIZES = (6, 8, 11, 7)  # documents: two shapes


def corpus(n_documents: int, seed: int = 0, tokens: int = 40) -> np.ndarray:
    """Counts in which term 4 never occurs."""
    rng = np.random.default_rng(seed)
    topics = rng.dirichlet([0.7, 0.7], n_documents)
    terms = np.array([[0.6, 0.3, 0.1, 0.0, 0.0], [0.0, 0.1, 0.3, 0.6, 0.0]])
    return np.stack([rng.multinomial(tokens, p) for p in topics @ terms]).astype(float)


CORPORA = [Data(corpus(size, size)) for size in SIZES]


@cache
def fits() -> emjax.Fits:
    wrong = corpus(8)
    wrong[3, 2] = 1.5
    return emjax.fit_many(MODEL, [*CORPORA, Data(wrong)], SEED, restarts=RESTARTS)


@cache
def fit() -> emjax.Fit:
    return fits()[1]


def oracle(data: Data, temperature: float = 1.0) -> PLSAProblem:
    return PLSAProblem(np.asarray(data.y), np.ones(len(data.y)), 1.0 / temperature)


def test_corpora_of_any_size_in_one_batch() -> None:
    found = fits()
    np.testing.assert_array_equal(found.status, [Status.CONVERGED] * 4 + [Status.INVALID_DATA])
    assert found.params.topics_of_documents.shape == (5, max(SIZES), 2)
    np.testing.assert_array_equal(found.n_free[:4], [size + 2 * (TERMS - 1) for size in SIZES])
    for i, (size, data) in enumerate(zip(SIZES, CORPORA)):
        params = found[i].params
        assert params.topics_of_documents.shape == (size, 2) and found[i].n_free == found.n_free[i]
        assert np.all(np.isnan(found.params.topics_of_documents[i, size:]))
        for block in params:
            np.testing.assert_allclose(block.sum(axis=1), 1.0, rtol=1e-12)
        assert found.log_likelihood[i] == pytest.approx(oracle(data).log_likelihood(params), rel=1e-12)
        assert found[i].bic == pytest.approx(-2 * found.log_likelihood[i] + found[i].n_free * np.log(size))
    assert "documents" in found.summary() and str(found[0].n_free) in found[0].summary()


def test_a_fit_alone_is_that_of_the_batch_to_the_bit() -> None:
    alone = emjax.fit(MODEL, CORPORA[2], SEED, id=2, restarts=RESTARTS)
    assert alone.log_likelihood == fits()[2].log_likelihood
    for mine, other in zip(alone.params, fits()[2].params, strict=True):
        np.testing.assert_array_equal(mine, other)


def test_what_rests_on_parameters_of_rows() -> None:
    """Corpora of sizes that are padded: a table without standard errors, and sentences where there is nothing."""
    frame = fits().to_frame()
    of_documents = frame[frame.parameter.str.startswith("topics_of_documents") & (frame.dataset == 0)]
    assert len(frame) == len(fits()) * 2 * (max(SIZES) + TERMS) and np.all(frame.se.isna())
    assert set(frame.reason) == {"parameters of rows"} and set(fits().to_frame(kind=None).reason) == {"not asked for"}
    assert np.isfinite(of_documents.estimate).sum() == 2 * SIZES[0]
    for one in (fits(), fit()):
        refused(lambda one=one: emjax.standard_errors(one), "PLSA", "to_frame")
    refused(fit().predict, "PLSA", "fold_in")
    assert "parameters of each row" in fit().summary()


def test_saved_fits_come_back(tmp_path: Path) -> None:
    fits().save(tmp_path / "many.npz")
    fit().save(tmp_path / "one.npz")
    many, one = emjax.load(tmp_path / "many.npz"), emjax.load(tmp_path / "one.npz")
    for mine, other in zip(many.params, fits().params, strict=True):
        np.testing.assert_array_equal(mine, other)
    np.testing.assert_array_equal(many.n_free, fits().n_free)
    assert one.n_free == fit().n_free and one.params.topics_of_documents.shape == (SIZES[1], 2)


def test_a_term_that_never_occurs_and_a_document_that_says_nothing() -> None:
    """Probability 0, on the boundary; documents without tokens or weight get even topics and no parameters."""
    found = fit()
    np.testing.assert_array_equal(found.params.terms_of_topics[:, 4], 0.0)
    assert found.flags & Flag.BOUNDARY
    y = np.concatenate([CORPORA[1].y, np.zeros((1, TERMS)), np.full((1, TERMS), np.nan)])
    weight = np.concatenate([np.ones(SIZES[1] + 1), [0.0]])
    more = emjax.fit(MODEL, Data(y, weight=weight), SEED, id=1, restarts=RESTARTS)
    np.testing.assert_array_equal(more.params.topics_of_documents[-2:], 0.5)
    assert more.n_free == found.n_free
    assert more.log_likelihood == pytest.approx(found.log_likelihood, abs=1e-6)


@pytest.mark.long
def test_ways_to_the_same_optimum() -> None:
    """The default, float32 finished in float64, SQUAREM, a race; the certificate on request."""
    settings: list[dict[str, Any]] = [
        {"precision": "float32"},
        {"acceleration": "squarem"},
        {"race": Race(iterations=5, keep=2)},
        {"certificate": False},
    ]
    for more in settings:
        found = emjax.fit(MODEL, CORPORA[1], SEED, id=1, restarts=RESTARTS, **more)
        assert found.status == Status.CONVERGED, more
        assert found.log_likelihood == pytest.approx(fit().log_likelihood, abs=2e-6), more


def test_a_tempered_fit_stops_on_its_own_objective() -> None:
    model, data = PLSA(2, temperature=1.25), CORPORA[1]
    found = emjax.fit(model, data, SEED, start=fit().params)
    assert found.status == Status.CONVERGED
    assert found.objective == pytest.approx(oracle(data, 1.25).objective(found.params), rel=1e-12)
    assert found.log_likelihood == pytest.approx(oracle(data).log_likelihood(found.params), rel=1e-12)
    assert found.log_likelihood < fit().log_likelihood - 0.01
    line = "objective         "
    assert f"{line}{found.objective:.6f}" in found.summary() and line not in fit().summary()
    many = emjax.fit_many(model, CORPORA, SEED, start=PLSAParams(*(block[:4] for block in fits().params)))
    assert many.objective[1] == pytest.approx(found.objective, abs=1e-6)


def test_shared_terms_are_held_in_every_corpus() -> None:
    terms = fit().params.terms_of_topics
    found = emjax.fit_many(MODEL, CORPORA[:2], SEED, restarts=1, fixed={"terms_of_topics": terms})
    assert np.all(found.status == Status.CONVERGED)
    np.testing.assert_array_equal(found.n_free, SIZES[:2])
    for single in found:
        np.testing.assert_array_equal(single.params.terms_of_topics, terms)
    assert found.log_likelihood[1] == pytest.approx(fit().log_likelihood, abs=2e-6)


@pytest.mark.long
def test_topics_may_be_held_instead_of_terms() -> None:
    topics = fit().params.topics_of_documents
    other = emjax.fit(MODEL, CORPORA[1], SEED, restarts=1, fixed={"topics_of_documents": topics})
    np.testing.assert_array_equal(other.params.topics_of_documents, topics)
    assert other.n_free == 2 * (TERMS - 1)


def test_perplexity_is_that_of_tokens_which_were_not_folded_in() -> None:
    data = Data(corpus(9, 50, tokens=301))
    found = emjax.held_out_perplexity(fit(), data, SEED)
    kept = data.y - found.held_out
    assert np.all(kept >= 0) and np.all(found.held_out >= 0)
    np.testing.assert_array_equal(kept.sum(axis=1), 151.0)
    folded = emjax.fold_in(fit(), Data(kept), SEED)
    np.testing.assert_array_equal(folded.params.topics_of_documents, found.folded.params.topics_of_documents)
    np.testing.assert_array_equal(folded.params.terms_of_topics, fit().params.terms_of_topics)
    expected = folded.params.topics_of_documents @ folded.params.terms_of_topics
    seen = found.held_out > 0
    log_likelihood = np.sum(found.held_out[seen] * np.log(expected[seen]))
    assert (found.tokens, found.log_likelihood) == (9 * 150, pytest.approx(log_likelihood))
    assert found.value == pytest.approx(np.exp(-log_likelihood / (9 * 150)))
    # Less than that of tokens drawn from the held-out tokens' own frequencies, whatever their document.
    overall = found.held_out.sum(axis=0)
    overall = overall[overall > 0]
    assert 1.0 < found.value < np.exp(-np.sum(overall * np.log(overall / found.tokens)) / found.tokens)


def test_the_halves_of_a_document_are_random_and_follow_from_the_key() -> None:
    counts = np.full((200, 2), 4)
    kept = split_tokens(counts, 1)
    np.testing.assert_array_equal(kept, split_tokens(counts, 1))
    assert np.any(kept != split_tokens(counts, 2))
    np.testing.assert_array_equal(kept.sum(axis=1), 4)
    # Hypergeometric: variance 4 (1/2) (1/2) (4 / 7) of the first term's share; 5 standard errors.
    variance = 4.0 / 7.0
    assert abs(kept[:, 0].mean() - 2.0) < 5.0 * np.sqrt(variance / 200)
    assert abs(kept[:, 0].var() - variance) < 5.0 * variance * np.sqrt(2.0 / 200)


def test_terms_that_no_topic_has_need_smoothing() -> None:
    new = corpus(6, 60)
    new[2, 4] = 2.0
    for call in (emjax.fold_in, emjax.held_out_perplexity):
        with pytest.raises(DataError, match="Terms 4 .1 in all. have probability 0"):
            call(fit(), Data(new), SEED)
    assert np.isfinite(emjax.held_out_perplexity(fit(), Data(new), SEED, smoothing=0.01).value)
    with pytest.raises(DataError, match="smoothing"):
        emjax.held_out_perplexity(fit(), Data(new), SEED, smoothing=1.0)
    with pytest.raises(DataError, match="No token is left"):
        emjax.held_out_perplexity(fit(), Data(np.eye(TERMS)[:4]), SEED)
    with pytest.raises(DataError, match="5 terms"):
        emjax.fold_in(fit(), Data(new[:, :4]), SEED)
    for call in (emjax.fold_in, emjax.held_out_perplexity):
        with pytest.raises(DataError, match="one emjax.Data of documents, not list"):
            call(fit(), [Data(new)], SEED)  # type: ignore[arg-type]


APART = np.array([[1.0, 0.0, 0.0, 0.0, 0.0], [0.0, 0.25, 0.25, 0.25, 0.25]])  # no document needs both by its terms


def test_smoothing_bounds_what_a_topic_that_goes_to_zero_costs() -> None:
    """Without it the value says where EM stopped; with it documents that lack a topic cost what they should."""
    new = np.tile([[0, 0, 0, 9, 9]], (6, 1)).astype(float)
    new[:, 0] = 1.0  # a token of the other topic: in most documents held out
    terms = np.array([[0.6, 0.2, 0.1, 0.05, 0.05], [0.0, 0.1, 0.1, 0.4, 0.4]])
    known = replace(fit(), params=fit().params._replace(terms_of_topics=terms))

    def value(smoothing: float, tol: float) -> float:
        return emjax.held_out_perplexity(known, Data(new), SEED, smoothing=smoothing, stop=emjax.Stop(tol=tol)).value

    assert value(0.0, 1e-9) > 1.2 * value(0.0, 1e-3)
    with pytest.raises(DataError, match="hold out tokens of topics that their other tokens exclude"):
        emjax.held_out_perplexity(replace(fit(), params=fit().params._replace(terms_of_topics=APART)), Data(new), SEED)
    assert value(0.01, 1e-9) == pytest.approx(value(0.01, 1e-3), rel=1e-2)


def test_held_blocks_may_be_lists_and_halves_do_not_depend_on_other_documents() -> None:
    terms = fit().params.terms_of_topics
    one, two = (
        emjax.fit(MODEL, CORPORA[1], SEED, restarts=1, fixed={"terms_of_topics": given})
        for given in (terms, terms.tolist())
    )
    np.testing.assert_array_equal(one.params.topics_of_documents, two.params.topics_of_documents)
    counts = corpus(8).astype(int)
    changed = counts.copy()
    changed[2] = 0
    kept, other = split_tokens(counts, SEED), split_tokens(changed, SEED)
    np.testing.assert_array_equal(np.delete(kept, 2, axis=0), np.delete(other, 2, axis=0))


@pytest.mark.parametrize(
    ("model", "data", "settings", "message"),
    [
        (PLSA(2), Data(np.ones(4)), {}, "documents, terms"),
        (PLSA(6), Data(corpus(8)), {}, "as many terms as topics"),
        (PLSA(2), Data(corpus(8), x=np.ones((8, 1))), {}, "PLSA has no x"),
        (PLSA(2), Data(corpus(8), unit=np.arange(8)), {}, "PLSA has no unit"),
        (PLSA(2), Data(corpus(8)), {"prior": {"terms": 1}}, "PLSA has no prior"),
        (PLSA(2), Data(corpus(8)), {"fixed": {"terms": 1}}, "terms_of_topics"),
        (PLSA(2), Data(corpus(8)), {"fixed": {"terms_of_topics": np.full((2, 5), 0.3)}}, "sum to 1"),
        (PLSA(2), Data(corpus(8)), {"fixed": {"terms_of_topics": np.full((2, 4), 0.25)}}, "needs .2, 5."),
        (PLSA(2), Data(corpus(8)), {"fixed": {"topics_of_documents": np.full((7, 2), 0.5)}}, "needs .8, 2."),
        (PLSA(2), Data(corpus(8)), {"start": PLSAParams(np.full((7, 2), 0.5), np.full((2, 5), 0.2))}, "shape .7, 2."),
        (PLSA(2), Data(corpus(8)), {"start": PLSAParams(np.full((8, 2), 0.4), np.full((2, 5), 0.2))}, "sum to 1"),
    ],
)  # fmt: skip
def test_bad_settings_and_shapes(model: PLSA, data: Data, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        emjax.fit(model, data, SEED, **settings)


@pytest.mark.parametrize("settings", [{"n_topics": 0}, {"n_topics": 1.5}, {"n_topics": 2, "temperature": 0.0}])
def test_bad_models(settings: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="give a"):
        PLSA(**settings)


def changed(place: Any, value: float) -> Data:
    y = corpus(8)
    y[place] = value
    return Data(y)


BAD = {
    "negative": (changed((5, 1), -1.0), Problem.NOT_A_COUNT, "first in row 5, column 1 of y: -1, 1 in all"),
    "a fraction": (changed((2, 3), 0.5), Problem.NOT_A_COUNT, "first in row 2, column 3 of y: 0.5"),
    "not a number": (changed((4, 0), np.nan), Problem.RESPONSE_NOT_FINITE, "row 4, column 0 of y"),
    "one document": (changed(slice(1, None), 0.0), Problem.TOO_FEW_ROWS, "1 documents with tokens for 2 topics"),
    "no tokens": (changed(slice(None), 0.0), Problem.NOTHING_OBSERVED, "no observed value"),
    "no weight": (changed((0, 0), 1.0)._replace(weight=np.zeros(8)), Problem.NO_WEIGHT, "total weight is zero"),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_data_say_where(what: str) -> None:
    data, _, message = BAD[what]
    with pytest.raises(DataError, match=message):
        emjax.fit(MODEL, data, SEED, restarts=RESTARTS)


def test_bad_data_are_invalid_in_a_batch() -> None:
    good = Data(corpus(8), weight=np.ones(8))
    weighted = [data if data.weight is not None else data._replace(weight=np.ones(8)) for data, _, _ in BAD.values()]
    found = emjax.fit_many(MODEL, [good, *weighted], SEED, restarts=RESTARTS)
    assert [Problem(int(p)) for p in found.problems] == [Problem.NONE, *(problem for _, problem, _ in BAD.values())]
    assert np.all((found.status == Status.INVALID_DATA) == (found.problems > 0))

"""One broken dataset in a batch of every family: INVALID_DATA for it, with its reason; its neighbours to the bit."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import emjax
from emjax import Categorical, Data, FactorAnalysis, Gaussian, HiddenMarkov, Mixture, Problem, Status
from emjax.engine import datasets, diagnosis
from tests.breakages import BREAKAGES, corpus, emptied, sound
from tests.promises import same_fits
from tests.refusals import refused

SEED = 1
FAST = ("exponential",)  # the others compile for minutes in all


@pytest.mark.parametrize("name", [name if name in FAST else pytest.param(name, marks=pytest.mark.slow)
                                  for name in BREAKAGES])  # fmt: skip
def test_every_breakage_of_a_family(name: str) -> None:
    """All ways at once, each beside the sound datasets: it compiles once a family."""
    model, good, settings = sound(name)
    bad = {what: breakage.damage(good[1]) for what, breakage in BREAKAGES[name].items()}
    fit = lambda data, ids: emjax.fit_many(  # noqa: E731
        model, data, SEED, ids=ids, restarts=2, certificate=False, **settings
    )
    unbroken = fit(good, ["0", "1", "2"])
    fits = fit([*good[:2], *bad.values(), *good[2:]], ["0", "1", *bad, "2"])
    same_fits(fits, unbroken, [0, 1, len(fits) - 1])
    assert np.all(unbroken.status == Status.CONVERGED)
    for place, (what, breakage) in enumerate(BREAKAGES[name].items(), start=2):
        assert fits.status[place] == Status.INVALID_DATA, what
        assert Problem(int(fits.problems[place])) == breakage.problem, what
        assert np.isnan(fits.log_likelihood[place]), what
        assert breakage.problem.describe() in fits.reasons[place], what
        if what == "no rows":
            refused(lambda: emjax.fit(model, emptied(good[1]), SEED), "no rows")
            continue
        sentence = diagnosis.explain(model, datasets.one(model, bad[what]), breakage.problem)
        place_named = sentence.replace(breakage.problem.describe(), "")
        assert breakage.says in place_named and "\n" not in sentence, sentence


@pytest.mark.parametrize("name", BREAKAGES)
def test_what_a_model_has_no_use_for_is_refused(name: str) -> None:
    """Silence would hide a covariate that was meant to count. `tests/test_uses.py` says what each family uses."""
    model, (data,), settings = sound(name, 1)
    uses = getattr(getattr(model, "family", None), "uses", ())
    for field in ("x", "z", "offset", "trials"):
        if getattr(data, field) is None and field not in uses:
            given = data._replace(**{field: np.ones((len(data.y), 1) if field in ("x", "z") else len(data.y))})
            text = refused(lambda given=given: emjax.fit(model, given, SEED, restarts=2, **settings))
            assert field in text or (field == "x" and "covariates" in text), text


def without(field: str) -> Callable[[Data], Data]:
    return lambda data: data._replace(**{field: None})


def replaced(**fields: Any) -> Callable[[Data], Data]:
    return lambda data: data._replace(**fields)


SHAPES = {
    "no covariates": ("regression-offset", without("x"), ("Dataset 1", "x")),
    "no trials of one": ("binomial", without("trials"), ("Dataset 1", "trials")),
    "no covariates of the gate": ("gated-gaussian-grouped", without("z"), ("Dataset 1", "z")),
    "no covariates of the chain": ("gated-chain-both", without("z"), ("Dataset 1", "z")),
    "two responses": ("exponential", lambda data: data._replace(y=np.c_[data.y, data.y]), ("Dataset 1", "(56, 2)")),
    "a column less": ("gaussian-full", lambda data: data._replace(y=data.y[:, :1]), ("Dataset 1", "y")),
    "a response without rows": ("poisson", replaced(y=np.zeros(0)), ("Dataset 1", "no rows")),
    "text": ("gamma", replaced(y=["a"] * 56), ("Dataset 1", "y", "not numbers")),
    "a sequence without rows": ("hidden-markov", lambda data: data._replace(weight=np.ones(len(data.weight) + 1)),
                                ("Dataset 1", "weight", "units")),
    "a sequence apart": ("hidden-markov", lambda data: data._replace(unit=np.roll(data.unit, 1)),
                         ("Dataset 1", "unit", "sort")),
    "an item less": ("categorical-missing", lambda data: data._replace(y=data.y[:, 1:]), ("Dataset 1", "items")),
    "terms in a row": ("plsa", lambda data: data._replace(y=data.y[:, 0]), ("Dataset 1", "y")),
}  # fmt: skip


@pytest.mark.parametrize("what", SHAPES)
def test_shapes_are_refused_with_the_dataset(what: str) -> None:
    name, damage, words = SHAPES[what]
    model, (data,), settings = sound(name, 1)
    refused(lambda: emjax.fit_many(model, [data, damage(data)], SEED, restarts=2, **settings), *words)


@pytest.mark.slow
@pytest.mark.parametrize("place", [0, 1])
def test_a_dataset_of_nothing_has_the_columns_of_the_others(place: int) -> None:
    full = Data(np.random.default_rng(0).normal(size=(30, 2)))
    both = [full, full]
    both[place] = Data(np.array([]))
    model = Mixture(Gaussian("diagonal"), 2)
    found = emjax.fit_many(model, both, SEED, restarts=2, ids=["a", "b"])
    assert found.status[place] == Status.INVALID_DATA
    alone = emjax.fit_many(model, [full], SEED, restarts=2, ids=["ab"[1 - place]])
    assert found.log_likelihood[1 - place] == alone.log_likelihood[0]


def test_more_factors_than_the_data_identify() -> None:
    rng = np.random.default_rng(0)
    y = rng.normal(size=(3, 40, 5))
    refused(lambda: emjax.fit_many(FactorAnalysis(3), Data(y), SEED), "3 factors", "5 variables")
    refused(lambda: emjax.fit_many(Mixture(emjax.FactorAnalyser(3), 2), Data(y), SEED), "3 factors", "5 variables")
    refused(lambda: emjax.fit_many(emjax.ProbabilisticPCA(5), Data(y), SEED), "5 factors", "5 variables")


def test_more_levels_or_topics_than_there_can_be() -> None:
    refused(lambda: Categorical((2, 1)), "levels")
    refused(lambda: emjax.fit_many(Mixture(Categorical((2, 3)), 2), Data(np.zeros((2, 30, 3))), SEED), "items")
    refused(lambda: emjax.fit_many(emjax.PLSA(50), [corpus(0)], SEED), "50")
    refused(lambda: HiddenMarkov(Gaussian(), 0), "n_components")

"""Categorical items: impossible rows, missing cells, edges, special cases, bad input."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import emjax
from emjax import Categorical, CategoricalParams, Data, Flag, Mixture, MixtureParams, Status, WeightsParams
from emjax.base import numerics
from tests.refusals import refused

pytestmark = pytest.mark.long  # compiling takes most of a test command of ten minutes

RNG = np.random.default_rng(3)
N = 96
LABELS = RNG.integers(0, 2, N)
BINARY = (RNG.random((N, 4)) < np.where(LABELS, 0.85, 0.2)[:, None]).astype(float)
MODEL = Mixture(Categorical((2,) * 4), 2)
HOLES = RNG.random((N, 4)) < 0.15


def half(*classes: Any) -> MixtureParams:
    """Equal weights; of each class the probabilities of level 1 of binary items."""
    ones = np.array(classes, float)
    probabilities = np.stack([1.0 - ones, ones], axis=-1)
    return MixtureParams(WeightsParams(np.full(len(ones), 1.0 / len(ones))), CategoricalParams(probabilities))


def test_one_item_of_two_levels_is_bernoulli() -> None:
    y = BINARY[:, 0]
    fit = emjax.fit(Mixture(Categorical(2), 1), Data(y), 0, restarts=1)
    share = y.mean()
    assert fit.log_likelihood == pytest.approx(np.sum(y * np.log(share) + (1 - y) * np.log(1 - share)), abs=1e-9)
    np.testing.assert_allclose(fit.params.family.probabilities, [[[1.0 - share, share]]], atol=1e-12)


def test_a_row_that_is_impossible_under_a_class() -> None:
    """Its log density is -infinity there, and neither values nor derivatives are NaN."""
    with jax.enable_x64(True):
        params = half([0.0, 0.6, 0.3, 0.2], [1.0, 0.1, 0.5, 0.6])
        prepared, problem = MODEL.prepare(jax.tree.map(jnp.asarray, Data(BINARY, weight=np.ones(N, bool))))
        inside = MODEL.from_user(jax.tree.map(jnp.asarray, params), prepared)
        log_prob = np.asarray(MODEL.log_prob(inside, prepared))
        free = MODEL.to_free(inside, prepared)

        def objective(free: Any) -> Any:
            return MODEL.expect(MODEL.from_free(free, prepared), prepared).log_likelihood

        gradient = jax.grad(objective)
        information = jax.jacfwd(gradient)(free)
        scores = gradient(free)
        edge = np.asarray(MODEL.boundary(inside, prepared))
    assert problem == 0
    np.testing.assert_array_equal(np.isneginf(log_prob), [BINARY[:, 0] == 1, BINARY[:, 0] == 0])
    assert np.all(np.isfinite(free)) and np.all(np.isfinite(scores)) and np.all(np.isfinite(information))
    assert {place: edge[place] for place in np.flatnonzero(edge)} == {1: 2, 5: 1}


@pytest.mark.parametrize("p", [1e-290, 1e-200, 1e-8, 0.3, 0.0])
def test_logarithms_of_probabilities_of_any_size_have_two_derivatives(p: float) -> None:
    """Along log p: of n log p they are n and 0, where 1 / p^2 would overflow."""
    with jax.enable_x64(True):
        f = lambda t: 3.0 * numerics.log_probability(jnp.exp(t))  # noqa: E731
        with np.errstate(divide="ignore"):
            t = jnp.asarray(np.log(p))
        first, second = jax.grad(f)(t), jax.jacfwd(jax.grad(f))(t)
    np.testing.assert_allclose([first, second], [3.0 if p > 0 else 0.0, 0.0], atol=1e-12)


def test_missing_cells_are_nan_or_unobserved() -> None:
    with_nan = emjax.fit(MODEL, Data(np.where(HOLES, np.nan, BINARY)), 1, restarts=4)
    unseen = emjax.fit(MODEL, Data(np.where(HOLES, 7.0, BINARY), observed=~HOLES), 1, restarts=4)
    assert with_nan.status == Status.CONVERGED
    assert unseen.log_likelihood == with_nan.log_likelihood
    stacked = Data(np.where(HOLES, 7.0, BINARY)[None], observed=~HOLES)
    many = emjax.fit_many(MODEL, stacked, 1, restarts=4, threads=1)
    assert many.log_likelihood[0] == with_nan.log_likelihood
    assert many[0].data.observed.shape == (N, 4)
    guessed = with_nan.predict()
    assert np.all(np.isfinite(guessed.responsibilities))
    np.testing.assert_allclose(unseen.predict().responsibilities, guessed.responsibilities)
    nothing = with_nan.predict(Data(np.full((1, 4), np.nan))).responsibilities
    np.testing.assert_allclose(nothing[0], with_nan.params.latent.weights, atol=1e-12)


@pytest.mark.long
def test_more_parameters_than_cells_is_reported_and_fails_nothing() -> None:
    """Two binary items have three free cells, two classes five parameters."""
    fit = emjax.fit(Mixture(Categorical(2), 2), Data(BINARY[:, :2]), 1, restarts=4)
    assert fit.status == Status.CONVERGED
    table = np.array([[np.mean((BINARY[:, 0] == a) & (BINARY[:, 1] == b)) for b in (0, 1)] for a in (0, 1)])
    assert fit.log_likelihood == pytest.approx(N * np.sum(table * np.log(table)), abs=1e-5)
    assert fit.n_free == 5
    assert abs(fit.certificate.smallest_eigenvalue) < 1e-4


def test_a_level_that_was_never_seen_is_at_the_edge() -> None:
    fit = emjax.fit(Mixture(Categorical((3, 2, 2, 2)), 2), Data(BINARY), 1, restarts=4)
    assert fit.status == Status.CONVERGED
    assert fit.flags & Flag.BOUNDARY
    np.testing.assert_array_equal(fit.params.family.probabilities[:, 0, 2], 0.0)
    np.testing.assert_array_equal(fit.params.family.probabilities[:, 1:, 2], 0.0)
    assert np.isfinite(fit.certificate.predicted_gain)


@pytest.mark.long
def test_classes_of_few_rows_are_suspect_and_degenerate_only_on_request() -> None:
    fit = emjax.fit(MODEL, Data(BINARY[:20]), 1, restarts=4)
    assert fit.status == Status.CONVERGED and fit.flags & Flag.SUSPECT
    strict = emjax.fit(MODEL, Data(BINARY[:20]), 1, restarts=4, degeneracy=emjax.Degeneracy(min_rows=15.0))
    assert strict.status == Status.DEGENERATE
    assert not emjax.fit(MODEL, Data(BINARY), 1, restarts=4).flags & Flag.SUSPECT


def changed(row: int, item: int, value: float) -> Data:
    y = BINARY.copy()
    y[row, item] = value
    return Data(y)


BAD = {
    "above": (changed(5, 2, 2.0), ("row 5, column 2 of y", "2 of 2 levels", "recode")),
    "negative": (changed(5, 2, -1.0), ("row 5, column 2",)),
    "between": (changed(6, 0, 0.5), ("row 6, column 0", "0.5")),
    "infinite": (changed(6, 0, np.inf), ("row 6, column 0", "inf")),
    "nothing": (Data(np.where(np.arange(4) == 3, np.nan, BINARY)), ("no observed value", "column 3 of y")),
    "three items": (Data(BINARY[:, :3]), ("4 items", "3")),
    "covariates": (Data(BINARY, np.ones((N, 1))), ("no x",)),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_data(name: str) -> None:
    data, words = BAD[name]
    refused(partial(emjax.fit, MODEL, data, 1, restarts=2), *words)


def test_bad_levels_of_weight_0_or_unobserved_do_not_count() -> None:
    data = changed(5, 2, 9.0)
    weight = np.where(np.arange(N) == 5, 0.0, 1.0)
    observed = np.where((np.arange(N) == 5)[:, None] & (np.arange(4) == 2), False, True)
    for fields in ({"weight": weight}, {"observed": observed}):
        assert emjax.fit(MODEL, data._replace(**fields), 1, restarts=2).status == Status.CONVERGED


def test_one_broken_dataset_of_a_batch() -> None:
    y = np.stack([BINARY, np.asarray(changed(5, 2, 2.0).y)])
    fits = emjax.fit_many(MODEL, Data(y), 1, restarts=2, threads=1)
    assert list(fits.status) == [Status.CONVERGED, Status.INVALID_DATA]
    assert fits.problems[1] == emjax.Problem.UNKNOWN_LEVEL


def test_bad_settings() -> None:
    for levels in (1, 0, 2.5, "2", (2, 1), (), None, True, (2, True)):
        refused(partial(Categorical, levels), "levels")
    assert Categorical([2, 3]) == Categorical((2, 3)) and hash(Categorical([2, 3])) == hash(Categorical((2, 3)))
    good = half([0.3] * 4, [0.6] * 4)
    fit = partial(emjax.fit, MODEL, Data(BINARY), 1)
    negative = good._replace(family=CategoricalParams(good.family.probabilities - 0.5))
    refused(partial(fit, start=negative), "probabilities")
    refused(partial(fit, start=good._replace(family=CategoricalParams(2.0 * good.family.probabilities))), "sum to 1")
    refused(partial(fit, fixed={"probabilities": np.full((2, 4), 0.5)}), "probabilities")
    refused(partial(fit, prior={"family": emjax.Dirichlet(0.5)}), "concentration")
    refused(partial(fit, prior={"family": emjax.Dirichlet(np.ones(3))}), "prior")
    refused(partial(fit, prior={"family": emjax.NormalInverseGamma()}), "prior")


def test_a_saved_fit_is_the_same(tmp_path: Any) -> None:
    fit = emjax.fit(MODEL, Data(np.where(HOLES, 7.0, BINARY), observed=~HOLES), 1, restarts=2)
    fit.save(tmp_path / "fit.npz")
    again = emjax.load(tmp_path / "fit.npz")
    assert again.model == fit.model
    np.testing.assert_array_equal(again.params.family.probabilities, fit.params.family.probabilities)

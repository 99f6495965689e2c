"""Newton steps after EM: to the maximum, never downwards, and no further than the settings allow."""

from dataclasses import replace
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import emjax
from emjax import Data, DataError, Mixture, MixtureParams, Status, Stop, WeightsParams
from emjax.inference import newton_polish
from tests.references import _cases
from tests.references.counts import CountReference, _count

pytestmark = pytest.mark.slow  # compiling takes most of it

MODEL = Mixture(emjax.Poisson(), 2)


@cache
def london() -> CountReference:
    (case,) = _cases("glm_london_deaths.json")
    return next(_count(case, fit) for fit in case["fits"] if fit["K"] == 2)


def start(rates: list[list[float]]) -> MixtureParams:
    return MixtureParams(WeightsParams(np.full((len(rates), 2), 0.5)), emjax.PoissonParams(np.array(rates)))


@cache
def short() -> emjax.Fits:
    """EM that stopped early on Hasselblad's table, where it is slow; labels both ways, and a broken dataset."""
    case = london()
    y = np.stack([case.y, case.y, np.full_like(case.y, -1.0)])
    begin = start([[1.0, 3.0], [3.0, 1.0], [1.0, 3.0]])
    stop = Stop(max_iterations=15)
    return emjax.fit_many(MODEL, Data(y, weight=case.weight), 0, start=begin, stop=stop, certificate=False)


def test_a_slow_fit_is_taken_to_the_reference() -> None:
    fits, case = short(), london()
    found = emjax.polish(fits, 8)
    assert np.all(case.log_likelihood - fits.log_likelihood[:2] > 1e-3)
    np.testing.assert_allclose(found.log_likelihood[:2], case.log_likelihood, atol=1e-8)
    np.testing.assert_array_equal(found.objective[:2], found.log_likelihood[:2])
    assert np.all(found.certificate.score_norm[:2] < 1e-6) and np.all(found.remaining[:2] < 1e-12)
    assert np.all(found.certificate.smallest_eigenvalue[:2] > 0)
    np.testing.assert_allclose(found.params.family.rates[0], np.exp(case.coefficients[:, 0]), rtol=1e-6)
    np.testing.assert_allclose(found.params.family.rates[1], np.exp(case.coefficients[::-1, 0]), rtol=1e-6)
    np.testing.assert_allclose(found.params.latent.weights[0], case.weights, rtol=1e-6)
    assert found.status.tolist() == fits.status.tolist()


def test_what_has_no_fit_stays_as_it_is_and_the_given_fits_too() -> None:
    fits = short()
    before = jax.tree.map(np.array, fits.params)
    found = emjax.polish(fits, 8)
    assert fits.status[2] == Status.INVALID_DATA and np.isnan(found.log_likelihood[2])
    assert np.isnan(found.params.family.rates[2]).all() and np.isnan(found.certificate.score_norm[2])
    for a, b in zip(jax.tree.leaves(before), jax.tree.leaves(fits.params)):
        np.testing.assert_array_equal(a, b)


def test_one_fit_is_polished_as_in_its_batch() -> None:
    one, many = emjax.polish(short()[0], 8), emjax.polish(short(), 8)
    assert isinstance(one, emjax.Fit) and one.log_likelihood == pytest.approx(many.log_likelihood[0], abs=1e-9)
    assert one.params.family.rates.shape == (2,) and np.shape(one.certificate.score_norm) == ()


def test_a_step_that_lowers_the_objective_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    fits = short()
    monkeypatch.setattr(newton_polish, "newton_step", lambda score, *_: -0.3 * np.sign(score))
    found = emjax.polish(fits, 2)
    assert np.all(found.log_likelihood[:2] >= fits.log_likelihood[:2])
    np.testing.assert_allclose(found.log_likelihood, fits.log_likelihood, rtol=1e-13)
    np.testing.assert_allclose(found.params.family.rates, fits.params.family.rates, rtol=1e-12)


def test_a_step_that_collapses_a_component_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    fits = short()
    strict = emjax.Degeneracy(min_rows=1e6)  # a setting of its own, so that nothing compiled before is used
    monkeypatch.setattr(emjax.Poisson, "flags", lambda *_: jnp.int32(emjax.Flag.DEGENERATE))
    found = emjax.polish(replace(fits, settings=replace(fits.settings, degeneracy=strict)), 2)
    np.testing.assert_array_equal(found.log_likelihood, fits.log_likelihood)


def test_steps_go_uphill_and_leave_what_is_held() -> None:
    rng = np.random.default_rng(0)
    half = rng.normal(size=(40, 4, 4))
    information, score = half + np.swapaxes(half, 1, 2), rng.normal(size=(40, 4))  # as good as never definite
    held = rng.random((40, 4)) < 0.3
    information[3, 1, 1] = score[4, 2] = np.nan
    held[3, 1] = held[4, 2] = False
    step = newton_polish.newton_step(score, information, held)
    assert np.all(step[held] == 0) and np.all(step[3:5] == 0) and np.all(np.isfinite(step))
    uphill = np.einsum("ci,ci->c", np.where(held, 0.0, np.nan_to_num(score)), step)
    assert np.all(uphill[np.any(step != 0, axis=1)] > 0) and np.sum(uphill > 0) > 30
    assert np.all(np.linalg.norm(step, axis=1) <= newton_polish.LONGEST * (1 + 1e-12))
    plain = newton_polish.uphill(score[:3], information[:3], np.zeros((3, 4), bool))
    values, vectors = np.linalg.eigh(information[:3])
    absolute = np.einsum("cij,cj,ckj->cik", vectors, np.abs(values), vectors)
    np.testing.assert_allclose(np.einsum("cij,cj->ci", absolute, plain), score[:3], rtol=1e-9)
    definite = half @ np.swapaxes(half, 1, 2) + 5 * np.eye(4)
    step = newton_polish.newton_step(score[:3], definite[:3], np.zeros((3, 4), bool))
    np.testing.assert_allclose(np.einsum("cij,cj->ci", definite[:3], step), score[:3], rtol=1e-9)


def test_settings_that_are_not_known_are_named() -> None:
    with pytest.raises(DataError, match="steps=0"):
        emjax.polish(short(), 0)
    with pytest.raises(DataError, match="parameters of its rows"):
        emjax.polish(replace(short(), model=emjax.PLSA(2)))

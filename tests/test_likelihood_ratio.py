"""The bootstrap likelihood-ratio test of K against K + 1 components."""

from dataclasses import replace

import numpy as np
import pytest

import emjax
from emjax import Data, DataError, Gaussian, Mixture
from emjax.engine import after
from emjax.inference import likelihood_ratio
from emjax.inference.likelihood_ratio import LikelihoodRatioTest

pytestmark = pytest.mark.long  # compiling takes most of a test command of ten minutes

MODEL = Mixture(Gaussian("E"), 1)


@pytest.fixture(scope="module")
def data() -> Data:
    """One component, two that stand apart, and a dataset that cannot be fitted."""
    rng = np.random.default_rng(0)
    apart = np.concatenate([rng.normal(0, 1, 25), rng.normal(6, 1, 25)])
    return Data(np.stack([rng.normal(0, 1, 50), apart, np.full(50, np.nan)]))


@pytest.fixture(scope="module")
def found(data: Data) -> LikelihoodRatioTest:
    return emjax.likelihood_ratio_test(MODEL, data, 3, replicates=19, restarts=2, threads=1)


def test_the_statistic_is_twice_the_gain_and_never_negative(data: Data, found: LikelihoodRatioTest) -> None:
    two = emjax.fit_many(replace(MODEL, n_components=2), data, 0, restarts=10, threads=1)
    one = -0.5 * 50 * (np.log(2 * np.pi * np.var(data.y[:2], axis=1)) + 1)
    np.testing.assert_allclose(found.statistic[1], 2 * (two.log_likelihood[1] - one[1]), rtol=0, atol=1e-4)
    assert np.all(found.statistic[:2] >= 0) and np.all(found.replicates[:2] >= 0)


def test_p_values_count_exceedances(found: LikelihoodRatioTest) -> None:
    exceed = np.sum(found.replicates[:2] >= found.statistic[:2, None], axis=1)
    np.testing.assert_array_equal(found.exceedances[:2], exceed)
    np.testing.assert_array_equal(found.p[:2], (1 + exceed) / 20)
    assert found.p[1] == 0.05 and found.p[0] > 0.05
    assert np.all(found.lower[:2] <= exceed / 19) and np.all(exceed / 19 <= found.upper[:2])


def test_a_dataset_that_cannot_be_fitted_has_a_reason(found: LikelihoodRatioTest) -> None:
    assert np.isnan(found.p[2]) and np.isnan(found.lower[2]) and found.failed[2] == 0
    assert found.reasons == ["tested", "tested", "no valid fit of 1"]


def test_a_test_depends_on_its_dataset_key_and_name_alone(data: Data, found: LikelihoodRatioTest) -> None:
    fit = emjax.fit(MODEL, Data(data.y[1]), 0, id=1, restarts=1)
    alone = emjax.likelihood_ratio_test(fit, key=3, replicates=19, restarts=2, threads=1)
    assert alone.statistic == found.statistic[1] and alone.p == found.p[1] and alone.reasons == ["tested"]
    np.testing.assert_array_equal(alone.replicates, found.replicates[1])
    other = emjax.likelihood_ratio_test(fit, key=4, replicates=19, restarts=2, threads=1)
    assert not np.any(other.replicates == alone.replicates)


def test_a_replicate_without_a_valid_optimum_is_an_exceedance(data: Data, found: LikelihoodRatioTest) -> None:
    simulated = found.replicates.copy()
    simulated[1, :3] = np.nan
    counted = likelihood_ratio._result(None, found.null, found.statistic, simulated, 0.95, "exceed")
    assert counted.failed.tolist() == [0, 3, 0] and counted.exceedances[1] == 3 and counted.p[1] == 4 / 20


def test_replicates_without_a_valid_optimum_can_be_omitted(found: LikelihoodRatioTest) -> None:
    simulated = found.replicates.copy()
    simulated[0, :3] = np.nan
    simulated[1, :] = np.nan
    counted = likelihood_ratio._result(None, found.null, found.statistic, simulated, 0.95, "omit")
    exceed = int(np.sum(simulated[0, 3:] >= found.statistic[0]))
    assert counted.failed.tolist() == [3, 19, 0] and counted.rule == "omit" and counted.exceedances[0] == exceed > 0
    assert counted.p[0] == (1 + exceed) / 17 and counted.p[1] == 1.0 and np.isnan(counted.lower[1])
    assert counted.lower[0] == likelihood_ratio.wilson(np.array(exceed), 16)[0]


def test_collapsed_fits_are_no_valid_optimum(data: Data) -> None:
    """Where every fit of two components counts as collapsed nothing is tested."""
    strict = emjax.Degeneracy(min_rows=40.0)
    model = Mixture(Gaussian("V"), 1)
    first = Data(data.y[1:2])
    found = emjax.likelihood_ratio_test(model, first, 3, replicates=19, restarts=2, threads=1, degeneracy=strict)
    assert np.isnan(found.p[0]) and found.reasons == ["no valid fit of 2 components"]


def test_the_split_start_alone_finds_two_components(data: Data, found: LikelihoodRatioTest) -> None:
    """The other starts are taken away: what the split reaches is the maximum, or K components at worst."""
    procedure = likelihood_ratio.Procedure(
        MODEL, replace(MODEL, n_components=2), np.array([1, 2], np.uint32), 2, None, {"threads": 1, "certificate": True}
    )
    null = emjax.fit_many(MODEL, data, 0, restarts=2, threads=1)
    rows = np.array([0, 1])
    starts, finite = likelihood_ratio.split(after.point(null), rows, procedure.bigger, procedure.root, null.ids, 1)
    # Halves that are not moved apart would be a saddle.
    assert finite.all() and np.all(np.abs(np.diff(starts.family.means[:, :, 0], axis=1)) > 1e-3)
    reached = procedure._from_split(null, data)
    assert np.isnan(reached[2])
    gain = 2 * (reached[:2] - null.log_likelihood[:2])
    np.testing.assert_allclose(gain[1], found.statistic[1], rtol=0, atol=1e-3)


def test_wilson() -> None:
    """Brown, Cai & DasGupta 2001: the interval's ends solve |x / n - p| = z sqrt(p (1 - p) / n)."""
    for end in likelihood_ratio.wilson(np.array([3]), 19, 0.95):
        p = float(end[0])
        assert abs(3 / 19 - p) == pytest.approx(1.959963984540054 * np.sqrt(p * (1 - p) / 19), rel=1e-9)
    # Newcombe 1998, Statistics in Medicine 17, table I: 81 of 263, 15 of 148, 0 of 20, 1 of 29.
    printed = {
        (81, 263): (0.2553, 0.3662),
        (15, 148): (0.0624, 0.1605),
        (0, 20): (0.0, 0.1611),
        (1, 29): (0.0061, 0.1718),
    }
    for (count, total), interval in printed.items():
        np.testing.assert_allclose(likelihood_ratio.wilson(np.array(count), total), interval, atol=5e-5)


def test_bad_input(data: Data) -> None:
    fits = emjax.fit_many(MODEL, data, 0, restarts=1, threads=1, certificate=False)
    for given, arguments, text in (
        (MODEL, {"data": data, "replicates": 100}, "multiple of 20"),
        (MODEL, {"data": data, "restarts": 0}, "restarts=0"),
        (MODEL, {"data": data, "failed": "drop"}, "failed='drop'"),
        (MODEL, {}, "needs data"),
        (MODEL, {"data": data, "prior": {"weights": emjax.Dirichlet(2.0)}}, "no use for prior="),
        (fits, {"data": data}, "leave data and ids out"),
        (emjax.FactorAnalysis(1), {"data": data}, "no n_components"),
        (3, {"data": data}, "not a model"),
    ):
        with pytest.raises(DataError, match=text):
            emjax.likelihood_ratio_test(given, key=0, **arguments)


@pytest.mark.long
@pytest.mark.parametrize(
    "model",
    [
        emjax.HiddenMarkov(emjax.Poisson(), 1),
        Mixture(emjax.WithComponent(emjax.Poisson(), emjax.PointMass()), 2),
    ],
    ids=["hidden Markov", "zero-inflated"],
)
def test_components_of_any_structure_can_be_split(model: emjax.Model) -> None:
    """40 counts at rate 1 and 40 at rate 12, in order: two more are far better than one."""
    y = np.random.default_rng(0).poisson(np.repeat([1.0, 12.0], 40)).astype(float)
    found = emjax.likelihood_ratio_test(model, [Data(y)], 0, replicates=19, restarts=2, threads=1)
    assert found.p[0] == 0.05 and found.failed[0] == 0 and np.all(found.replicates >= 0)

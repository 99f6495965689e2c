"""The bootstrap: what is drawn, what is kept, and standard errors and intervals by hand."""

from dataclasses import replace
from statistics import NormalDist
from typing import Any

import jax
import numpy as np
import pytest

import emjax
from emjax import Data, DataError, Gaussian, Mixture, Status
from emjax.engine import after
from emjax.inference import influence, labels, percentiles, relabelling, resampling
from emjax.inference.bootstrapping import Missing

pytestmark = pytest.mark.long  # compiling takes most of it

B = 19


def two_groups(seed: int, n: int = 50) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.normal(0.0, 1.0, n // 2), rng.normal(5.0, 1.0, n - n // 2)])


@pytest.fixture(scope="module")
def fits() -> emjax.Fits:
    """Two datasets of 50 rows; the second could not be fitted."""
    y = np.stack([two_groups(0), np.full(50, np.nan)])
    return emjax.fit_many(Mixture(Gaussian(), 2), Data(y), 0, restarts=2, ids=["first", "broken"], threads=1)


@pytest.fixture(scope="module")
def found(fits: emjax.Fits) -> emjax.Bootstrap:
    return emjax.bootstrap(fits, 1, B, "nonparametric", level=0.9, threads=1)


def drawn(fits: Any, kind: str, replicates: int = B) -> resampling.Block:
    at = after.point(fits)
    root = np.array([1, 2], np.uint32)
    return next(resampling.blocks(at, np.array([0]), ["first"], root, kind, replicates))


def test_replicates_follow_from_the_key_and_the_name(fits: emjax.Fits, found: emjax.Bootstrap) -> None:
    alone = emjax.bootstrap(fits[0], 1, B, "nonparametric", level=0.9, threads=1)
    np.testing.assert_array_equal(alone.log_likelihood, found.log_likelihood[0])
    np.testing.assert_array_equal(alone.se.family.means, found.se.family.means[0])
    other = emjax.bootstrap(fits[0], 2, B, "nonparametric", level=0.9, threads=1)
    assert not np.any(other.log_likelihood == alone.log_likelihood)
    assert len(np.unique(found.log_likelihood[0])) == B
    renamed = emjax.bootstrap(replace(fits[0], ids="other"), 1, B, "nonparametric", level=0.9, threads=1)
    assert not np.any(renamed.log_likelihood == alone.log_likelihood)


def test_a_dataset_without_a_fit_has_a_reason_and_harms_no_other(found: emjax.Bootstrap) -> None:
    assert np.all(found.reason.family.means[1] == Missing.NO_FIT) and np.all(np.isnan(found.se.family.means[1]))
    assert np.all(found.status[1] == Status.RUNNING) and np.all(found.valid[0])
    assert found.status_counts() == {"RUNNING": B, "CONVERGED": B}
    limits = found.intervals()
    assert np.all(limits.reason.family.means == [[[0], [0]], [[Missing.NO_FIT], [Missing.NO_FIT]]])


def test_standard_errors_and_percentiles_by_hand(fits: emjax.Fits, found: emjax.Bootstrap) -> None:
    """At level 0.9 of 19 replicates the limits are the first and the last order statistics: 20 x .05 = 1."""
    means = found.params.family.means[0]
    np.testing.assert_allclose(found.se.family.means[0], np.std(means, axis=0, ddof=1), rtol=1e-12)
    limits = found.intervals("percentile")
    np.testing.assert_array_equal(limits.lower.family.means[0], np.min(means, axis=0))
    np.testing.assert_array_equal(limits.upper.family.means[0], np.max(means, axis=0))
    basic, estimate = found.intervals("basic"), fits.params.family.means[0]
    np.testing.assert_allclose(basic.lower.family.means[0], 2 * estimate - np.max(means, axis=0), rtol=1e-12)
    np.testing.assert_allclose(basic.upper.family.means[0], 2 * estimate - np.min(means, axis=0), rtol=1e-12)
    wider = found.intervals(level=0.95)
    assert np.all(wider.reason.family.means[0] == Missing.TOO_FEW) and np.all(np.isnan(wider.lower.family.means))


def test_invalid_replicates_are_left_out_and_counted(found: emjax.Bootstrap) -> None:
    status = found.status.copy()
    status[0, np.argmax(found.params.family.means[0, :, 0, 0])] = Status.DEGENERATE
    fewer = replace(found, status=status)
    assert fewer.status_counts()["DEGENERATE"] == 1
    second = np.sort(found.params.family.means[0, :, 0, 0])[-2]
    upper = fewer.intervals(level=float(1 - 2 / B)).upper.family.means[0, 0, 0]  # B p = 1 of the B - 1 that are valid
    assert upper == pytest.approx(second, rel=1e-12)


def test_order_statistics_between_two_replicates() -> None:
    values = np.array([3.0, 1.0, 2.0, np.nan, 4.0]).reshape(1, 5, 1)
    at = lambda p: percentiles.order_statistics(values, np.array([[p]]))[0, 0]  # noqa: E731
    assert at(0.2) == 1.0 and at(0.8) == 4.0 and at(0.4) == 2.0
    assert np.isnan(at(0.19)) and np.isnan(at(0.81))
    z = NormalDist().inv_cdf
    assert at(0.3) == pytest.approx(1.0 + (z(0.3) - z(0.2)) / (z(0.4) - z(0.2)), rel=1e-12)


def test_bca_without_bias_and_skewness_is_the_percentile() -> None:
    values, tails = np.arange(1.0, 20.0).reshape(1, 19, 1), np.array([0.05, 0.95]).reshape(2, 1, 1)
    estimate = np.array([[10.0]])
    np.testing.assert_allclose(percentiles.corrected(values, estimate, np.zeros((1, 1)), tails), tails, rtol=1e-12)
    skewed = percentiles.corrected(values, estimate, np.full((1, 1), 0.1), tails)
    z = NormalDist().inv_cdf(0.95)
    by_hand = [NormalDist().cdf(-z / (1 + 0.1 * z)), NormalDist().cdf(z / (1 - 0.1 * z))]
    np.testing.assert_allclose(skewed[:, 0, 0], by_hand, rtol=1e-12)


def test_the_acceleration_of_a_mean() -> None:
    """Of one Gaussian the influence on the mean is y - mean, weighted units counting as so many."""
    y = np.random.default_rng(3).gamma(2.0, size=24)
    weight = np.tile([1.0, 2.0, 3.0], 8)
    fit = emjax.fit(Mixture(Gaussian(), 1), Data(y, weight=weight), 0, restarts=1)
    deviation = y - np.average(y, weights=weight)
    by_hand = np.sum(weight * deviation**3) / (6 * np.sum(weight * deviation**2) ** 1.5)
    constants = influence.acceleration(fit)[0]  # weights, means, covariances
    assert constants[1] == pytest.approx(by_hand, rel=1e-8)
    assert np.isnan(constants[0])  # the weight of the only component


@pytest.mark.parametrize("kind", ["nonparametric", "weighted"])
def test_units_are_resampled_not_rows(kind: str) -> None:
    """20 units of 3 rows; the weights of units of weight 0, 1 and 2 are 0, and 1 and 2 on average."""
    y = np.repeat(two_groups(1, 20), 3) + np.random.default_rng(2).normal(size=60)
    weight = np.array([0.0, *[1.0] * 10, *[2.0] * 9])
    data = Data(y, unit=np.repeat(np.arange(20), 3), weight=weight)
    fit = emjax.fit(Mixture(Gaussian(), 2), data, 0, restarts=2)
    resampled = drawn(fit, kind, 400).data.weight
    assert resampled.shape == (400, 20) and np.all(resampled[:, 0] == 0)
    if kind == "nonparametric":
        assert np.all(resampled == np.round(resampled)) and np.all(resampled.sum(axis=1) == 28)
    share = weight / 28
    variance = 28 * share * (1 - share) if kind == "nonparametric" else weight
    np.testing.assert_array_less(np.abs(resampled.mean(axis=0) - weight), 1e-9 + 4 * np.sqrt(variance / 400))
    # A variance of 400 draws: its relative standard error is below sqrt(8 / 400) for an exponential's fourth moment.
    ratio = np.var(resampled, axis=0)[1:] / variance[1:]
    assert np.all(np.abs(ratio - 1) < 4 * np.sqrt(8 / 400))


def test_frequency_weights_draw_as_many_units_of_the_design() -> None:
    y, x = np.arange(4.0), np.arange(4.0)[:, None] ** 2
    copied = resampling.expanded(Data(y, x, weight=np.array([1.0, 0.0, 3.0, 1.0])))
    np.testing.assert_array_equal(copied.y, [0, 2, 2, 2, 3])
    np.testing.assert_array_equal(copied.x[:, 0], [0, 4, 4, 4, 9])
    grouped = Data(y, unit=np.array([0, 0, 1, 1]), weight=np.array([2.0, 1.0]))
    copied = resampling.expanded(grouped)
    np.testing.assert_array_equal(copied.y, [0, 1, 0, 1, 2, 3])
    np.testing.assert_array_equal(copied.unit, [0, 0, 1, 1, 2, 2])
    with pytest.raises(DataError, match="no whole numbers"):
        resampling.expanded(Data(y, weight=np.array([1.0, 0.5, 1.0, 1.0])))


def test_parametric_standard_error_of_a_mean() -> None:
    """sd / sqrt(n); that of a standard deviation of 399 normal replicates is 1 / sqrt(2 x 398) of it."""
    y = np.random.default_rng(5).normal(3.0, 2.0, 50)
    fit = emjax.fit(Mixture(Gaussian(), 1), Data(y), 0, restarts=1)
    found = emjax.bootstrap(fit, 0, threads=1)
    analytic = np.std(y) / np.sqrt(50)
    assert abs(found.se.family.means[0, 0] / analytic - 1) < 4 / np.sqrt(2 * 398)
    assert found.reason.latent.weights[0] == Missing.CONSTANT and np.isnan(found.se.latent.weights[0])
    for kind in ("percentile", "bca"):
        limits = found.intervals(kind)
        for limit, sign in ((limits.lower, -1), (limits.upper, 1)):
            wald = np.mean(y) + sign * 1.96 * analytic
            # The SE of a .025 quantile of 399 normal values is 2.67 SDs / sqrt(399), and BCa adds that of the bias.
            assert abs(limit.family.means[0, 0] - wald) < 4 * analytic * 2.67 * np.sqrt(2 / 399)


def test_replicates_have_the_labels_of_the_fit(fits: emjax.Fits) -> None:
    at = after.point(fits[0])
    swapped = relabelling.permute(at.params, np.array([[1, 0]]), at.model)
    back = labels.Labels.of(fits[0], at, 1).aligned(swapped, np.array([0]))
    np.testing.assert_array_equal(back.family.means, at.params.family.means)
    np.testing.assert_array_equal(back.latent.weights, at.params.latent.weights)
    assert not np.array_equal(swapped.family.means, at.params.family.means)


def test_the_first_state_of_a_sequence_does_not_name_the_states() -> None:
    """A replicate that begins in the other state, told by a first state that is certain, keeps its states' rates."""
    model = emjax.HiddenMarkov(emjax.Poisson(), 2)

    def params(initial: list[float], rates: list[float]) -> emjax.MixtureParams:
        chain = emjax.MarkovParams(np.array([initial]), np.array([[[0.9, 0.1], [0.1, 0.9]]]))
        return emjax.MixtureParams(chain, emjax.PoissonParams(np.array([rates])))

    target, errors = (
        labels._by_component(model, params(*own)) for own in (([1.0, 0.0], [7.0, 1.0]), ([1e-5, 1e-5], [0.4, 0.1]))
    )
    replicate = params([0.0, 1.0], [7.3, 1.2])
    found = labels.Labels(model, target, errors).aligned(replicate, np.array([0]))
    np.testing.assert_array_equal(found.family.rates, replicate.family.rates)


def test_random_restarts_can_only_raise_the_likelihood(fits: emjax.Fits, found: emjax.Bootstrap) -> None:
    more = emjax.bootstrap(fits[0], 1, B, "nonparametric", restarts=2, threads=1)
    assert np.all(more.log_likelihood >= found.log_likelihood[0] - 1e-9)
    away = jax.tree.map(lambda a: np.array(a), fits[0].params)
    away.family.means[:] = [[-300.0], [0.0]]  # one component can get no rows from here
    lost = emjax.bootstrap(replace(fits[0], params=away), 1, B, "nonparametric", threads=1)
    saved = emjax.bootstrap(replace(fits[0], params=away), 1, B, "nonparametric", restarts=2, threads=1)
    assert np.sum(saved.valid) == B > np.sum(lost.valid)
    assert np.all(saved.log_likelihood <= more.log_likelihood + 1e-9)
    # Random starts have labels in any order; the fit's are ascending.
    assert np.all(np.diff(saved.params.family.means[:, :, 0], axis=1) > 0)


def test_bad_input(fits: emjax.Fits, found: emjax.Bootstrap) -> None:
    for arguments, text in (
        ({"kind": "jackknife"}, "use one of parametric"),
        ({"replicates": 1}, "replicates=1"),
        ({"restarts": -1}, "restarts=-1"),
        ({"level": 1.0}, "level=1.0"),
    ):
        with pytest.raises(DataError, match=text):
            emjax.bootstrap(fits, 0, **arguments)
    with pytest.raises(DataError, match="use one of percentile"):
        found.intervals("wald")
    with pytest.raises(DataError, match="level=95"):
        found.intervals(level=95)


@pytest.mark.parametrize("kind", ["nonparametric", "weighted"])
def test_a_single_sequence_is_refused(kind: str) -> None:
    model = emjax.HiddenMarkov(emjax.Poisson(), 2)
    y = np.random.default_rng(0).poisson(np.repeat([2.0, 9.0, 2.0, 9.0], 10)).astype(float)
    fit = emjax.fit(model, Data(y), 0, restarts=1, certificate=False, stop=emjax.Stop(max_iterations=5))
    with pytest.raises(DataError, match="kind='parametric'"):
        emjax.bootstrap(fit, 0, kind=kind)


def test_rows_with_parameters_of_their_own_are_refused() -> None:
    with pytest.raises(DataError, match="for every row"):
        resampling.check(emjax.PLSA(2), "nonparametric")

"""Performance measures: values worked out by hand, and each Monte Carlo SE against simulated studies."""

import math

import numpy as np
import pytest

from emjax import DataError
from emjax.studies import bias, empirical_se, mean_estimate, median_bias, mse, rmse

BY_HAND = np.array([1.0, 2.0, 6.0])  # mean 3, deviations -2, -1, 3; about the truth 2: errors -1, 0, 4
TRUTH = 2.0


def test_values_by_hand() -> None:
    s = math.sqrt((4 + 1 + 9) / 2)
    assert mean_estimate(BY_HAND).estimate == pytest.approx(3.0)
    assert bias(BY_HAND, TRUTH).estimate == pytest.approx(1.0)
    assert bias(BY_HAND, TRUTH).mcse == pytest.approx(s / math.sqrt(3))
    assert median_bias(BY_HAND, TRUTH).estimate == pytest.approx(0.0)
    assert empirical_se(BY_HAND).estimate == pytest.approx(s)
    assert mse(BY_HAND, TRUTH).estimate == pytest.approx(17 / 3)
    assert rmse(BY_HAND, TRUTH).estimate == pytest.approx(math.sqrt(17 / 3))
    assert {measure.n for measure in (bias(BY_HAND, TRUTH), empirical_se(BY_HAND), rmse(BY_HAND, TRUTH))} == {3}


def test_monte_carlo_errors_by_hand() -> None:
    squares = [1.0, 0.0, 16.0]
    of_mse = math.sqrt(sum((e - 17 / 3) ** 2 for e in squares) / (3 * 2))
    assert mse(BY_HAND, TRUTH).mcse == pytest.approx(of_mse)
    assert rmse(BY_HAND, TRUTH).mcse == pytest.approx(of_mse / (2 * math.sqrt(17 / 3)))
    s = math.sqrt(7)
    assert empirical_se(BY_HAND, mcse="morris").mcse == pytest.approx(s / math.sqrt(2 * 2))
    values = [0.0, 0.0, 1.0, 5.0, 0.5, 0.25]
    mean = sum(values) / 6
    s = math.sqrt(sum((v - mean) ** 2 for v in values) / 5)
    kappa = sum((v - mean) ** 4 for v in values) / (6 * s**4)
    assert empirical_se(values).mcse == pytest.approx(s / 2 * math.sqrt((kappa - 1) / 6))


def test_the_median_uses_order_statistics() -> None:
    values = np.arange(100.0)  # rank floor(50.5 - 1.96 * 5) = 40: the 40th and the 61st value
    assert median_bias(values, 0.0).mcse == pytest.approx((60.0 - 39.0) / (2 * 1.96))


SHAPES = {
    "normal": lambda generator, shape: generator.normal(size=shape),
    "skewed": lambda generator, shape: generator.gamma(2.0, size=shape) / math.sqrt(2),
    "local optimum": lambda generator, shape: generator.normal(size=shape) + 5.0 * (generator.random(shape) < 0.03),
}
STUDIES, REPLICATES = 3000, 500


@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("name", ["bias", "median bias", "empirical SE", "MSE", "RMSE"])
def test_monte_carlo_errors_against_simulated_studies(name: str, kind: str) -> None:
    """Mean MCSE over the SD of the measure across studies; that ratio itself has an SE of 1.3 % here."""
    estimates = SHAPES[kind](np.random.default_rng(7), (REPLICATES, STUDIES))
    truth = -0.3
    measure = {
        "bias": bias(estimates, truth),
        "median bias": median_bias(estimates, truth),
        "empirical SE": empirical_se(estimates),
        "MSE": mse(estimates, truth),
        "RMSE": rmse(estimates, truth),
    }[name]
    assert 0.9 < np.mean(measure.mcse) / np.std(measure.estimate, ddof=1) < 1.1


def test_the_tables_form_is_too_small_for_skewed_estimates() -> None:
    estimates = SHAPES["skewed"](np.random.default_rng(7), (REPLICATES, STUDIES))
    measure = empirical_se(estimates, mcse="morris")
    assert np.mean(measure.mcse) / np.std(measure.estimate, ddof=1) < 0.85


def test_arrays_of_estimands_keep_their_shape() -> None:
    estimates = np.random.default_rng(1).normal(size=(40, 2, 4))
    truth = np.arange(8.0).reshape(2, 4)
    whole = rmse(estimates, truth)
    assert np.shape(whole.estimate) == np.shape(whole.mcse) == (2, 4)
    one = rmse(estimates[:, 1, 2], truth[1, 2])
    assert whole.estimate[1, 2] == pytest.approx(one.estimate)
    assert whole.mcse[1, 2] == pytest.approx(one.mcse)


def test_estimates_that_never_vary_have_no_error() -> None:
    same = np.full(20, 3.0)
    for measure in (empirical_se(same), rmse(same, 3.0), median_bias(same, 3.0), bias(same, 3.0)):
        assert (measure.estimate, measure.mcse) == (0.0, 0.0)


def test_too_few_replicates_give_nan_and_no_warning() -> None:
    assert np.isnan(empirical_se([1.0]).estimate)
    assert np.isnan(median_bias([1.0, 2.0, 3.0], 0.0).mcse)
    for measure in (bias([], 0.0), empirical_se([]), rmse([], 0.0), median_bias([], 0.0)):
        assert np.isnan(measure.estimate)
        assert np.isnan(measure.mcse)
        assert measure.n == 0


def test_bad_input_is_named() -> None:
    with pytest.raises(DataError, match="2 of 4 estimates are not finite"):
        bias([1.0, np.nan, 2.0, np.inf], 0.0)
    with pytest.raises(DataError, match="one row per replicate"):
        mse(3.0, 0.0)
    with pytest.raises(DataError, match="'robust' or 'morris'"):
        empirical_se([1.0, 2.0], mcse="normal")  # pyright: ignore[reportArgumentType]

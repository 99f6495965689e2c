"""Measures of a study: by hand, and each MCSE against simulated studies."""

from __future__ import annotations

import math
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest

from emjax import DataError
from emjax.studies import measures, model_errors, precision, rates, resistant
from emjax.studies.measures import Measure
from emjax.studies.rates import Rate

REFERENCES = Path(__file__).parent / "references"
Z = NormalDist().inv_cdf(0.975)
BY_HAND = np.array([1.0, 2.0, 6.0, 3.0])  # mean 3, deviations -2, -1, 3, 0
SE = np.array([1.0, 2.0, 2.0, 1.0])


def test_model_errors_by_hand() -> None:
    variances, d = SE**2, BY_HAND - 3
    model = math.sqrt(2.5)
    found = model_errors.average_model_se(SE)
    assert found.estimate == pytest.approx(model)
    assert found.mcse == pytest.approx(math.sqrt(np.var(variances, ddof=1) / (4 * 4 * 2.5)))
    s2 = 14 / 3
    relative = model_errors.relative_error(BY_HAND, SE)
    ratio = model / math.sqrt(s2)
    assert relative.estimate == pytest.approx(100 * (ratio - 1))
    influence = (variances - 2.5) / 5 - (d**2 - s2) / (2 * s2)
    assert relative.mcse == pytest.approx(100 * ratio * np.std(influence, ddof=1) / 2)
    table = model_errors.relative_error(BY_HAND, SE, "morris").mcse
    assert table == pytest.approx(100 * ratio * math.sqrt(np.var(variances, ddof=1) / (16 * 2.5**2) + 1 / 6))
    width = model_errors.interval_width(BY_HAND - SE, BY_HAND + 2 * SE)
    assert (width.estimate, width.n) == (pytest.approx(4.5), 4)
    assert width.mcse == pytest.approx(3 * np.std(SE, ddof=1) / 2)


def test_relative_precision_by_hand() -> None:
    other = np.array([3.0, 4.0, 2.0, 3.0])  # mean 3, deviations 0, 1, -1, 0
    a2, b2, rho = 14 / 3, 2 / 3, (-1 - 3) / 3 / math.sqrt(14 / 3 * 2 / 3)
    found = model_errors.relative_precision(BY_HAND, other)
    assert found.estimate == pytest.approx(100 * (7 - 1))
    influence = (BY_HAND - 3) ** 2 / a2 - (other - 3) ** 2 / b2
    assert found.mcse == pytest.approx(700 * np.std(influence, ddof=1) / 2)
    table = model_errors.relative_precision(BY_HAND, other, "morris")
    assert table.mcse == pytest.approx(200 * 7 * math.sqrt((1 - rho**2) / 3))
    itself = model_errors.relative_precision(BY_HAND, BY_HAND)
    assert (itself.estimate, itself.mcse) == (0.0, 0.0)


def test_rates_by_hand() -> None:
    lower, upper = np.array([-1.0, 0.5, -2.0, 1.0, 0.0]), np.array([1.0, 2.0, 0.0, 3.0, 0.5])
    found = rates.coverage(lower, upper, 0.0)  # 1, 3 and 5; of the last two a limit is the truth
    assert (found.estimate, found.n) == (0.6, 5)
    assert found.mcse == pytest.approx(math.sqrt(0.6 * 0.4 / 5))
    with_failures = rates.coverage(lower, upper, 0.0, n_failed=5)
    assert (with_failures.estimate, with_failures.n) == (0.3, 10)
    assert rates.power(lower, upper).estimate == pytest.approx(0.4)
    assert rates.power(lower, upper, null=0.75).estimate == pytest.approx(0.6)
    assert rates.power(lower, upper, n_failed=3).estimate == pytest.approx(0.25)
    estimates = np.array([0.0, 1.2, -1.0, 2.0, 2.8])  # mean 1
    centred = rates.bias_eliminated_coverage(lower, upper, estimates, mcse="morris")
    assert centred.estimate == pytest.approx(0.6)  # 1, 2 and 4 hold 1
    assert centred.mcse == pytest.approx(math.sqrt(0.6 * 0.4 / 5))


def test_a_rate_of_0_or_1_has_wilsons_interval_and_no_error() -> None:
    for events, other in ((np.ones(20, bool), "upper"), (np.zeros(20, bool), "lower")):
        found = rates.share(events)
        assert np.isnan(found.mcse)
        assert getattr(found, other) == pytest.approx(found.estimate)
        # Wilson's limit opposite to the certain one is 1 / (1 + n / z^2) away.
        assert found.upper - found.lower == pytest.approx(1 / (1 + 20 / Z**2))
    none = rates.share(np.zeros(0, bool))
    assert none.n == 0
    assert np.all(np.isnan([none.estimate, none.mcse, none.lower, none.upper]))


def test_relative_bias_by_hand_and_where_the_truth_is_0() -> None:
    found = measures.relative_bias(BY_HAND, 2.0)
    assert found.estimate == pytest.approx(0.5)
    assert found.mcse == pytest.approx(measures.bias(BY_HAND, 2.0).mcse / 2)
    both = measures.relative_bias(np.stack([BY_HAND, BY_HAND], axis=1), np.array([0.0, 4.0]))
    assert np.isnan(both.estimate[0])
    assert np.isnan(both.mcse[0])
    assert both.estimate[1] == pytest.approx(-0.25)


def test_resistant_measures_by_hand() -> None:
    values = np.array([0.0, 1.0, 2.0, 4.0, 100.0])  # median 2, deviations 2, 1, 0, 2, 98
    assert resistant.mad_se(values).estimate == pytest.approx(2 / NormalDist().inv_cdf(0.75))
    even = np.array([0.0, 1.0, 3.0, 100.0])  # median 2, deviations 2, 1, 1, 98
    assert resistant.mad_se(even).estimate == pytest.approx(1.5 / NormalDist().inv_cdf(0.75))
    many = np.concatenate([np.ones(198), [50.0, -70.0]])
    assert resistant.trimmed_rmse(many, 0.0).estimate == pytest.approx(1.0)
    assert resistant.trimmed_rmse(many, 0.0, share=0.0).estimate == pytest.approx(measures.rmse(many, 0.0).estimate)


def test_the_bootstrap_is_one_over_the_replicates() -> None:
    """The same resamples drawn plainly, statistic by statistic, give the same standard errors."""
    values = np.sort(np.random.default_rng(3).normal(size=31))
    drawn = np.random.default_rng(resistant.SEED).integers(0, 31, (resistant.RESAMPLES, 31), dtype=np.int32)
    mads = [np.median(np.abs(x - np.median(x))) / NormalDist().inv_cdf(0.75) for x in values[drawn]]
    assert resistant.mad_se(values).mcse == pytest.approx(np.std(mads, ddof=1))
    squares = np.sort((values - 0.2) ** 2)
    trimmed = [math.sqrt(np.mean(np.sort(x)[: 31 - 3])) for x in squares[drawn]]
    assert resistant.trimmed_rmse(values, 0.2, share=0.1).mcse == pytest.approx(np.std(trimmed, ddof=1))


# --- each MCSE against simulated studies ----------------------------------------------------------------------------

STUDIES, REPLICATES = 1000, 500
SHAPES = {
    "normal": lambda generator, shape: generator.normal(size=shape),
    "lognormal": lambda generator, shape: np.exp(0.5 * generator.normal(size=shape)) - math.exp(0.125),
    "gamma": lambda generator, shape: (generator.gamma(2.0, size=shape) - 2.0) / math.sqrt(2.0),
}


def simulated(kind: str, count: int) -> dict[str, Measure | Rate]:
    """Every measure of `count` studies; standard errors grow with the estimates, and two methods are correlated."""
    generator, shape = np.random.default_rng(3), (REPLICATES, count)
    estimate = SHAPES[kind](generator, shape)
    other = 0.7 * estimate + 0.5 * SHAPES[kind](generator, shape)
    se = np.exp(0.2 * generator.normal(size=shape)) * (1 + 0.1 * np.tanh(estimate))
    lower, upper = estimate - 1.5 * se, estimate + 1.5 * se
    return {
        "relative bias": measures.relative_bias(estimate + 0.5, 0.5),
        "MSE": measures.mse(estimate, 0.1),
        "empirical SE": measures.empirical_se(estimate),
        "model SE": model_errors.average_model_se(se),
        "relative error": model_errors.relative_error(estimate, se),
        "relative precision": model_errors.relative_precision(estimate, other),
        "interval width": model_errors.interval_width(lower, upper),
        "coverage": rates.coverage(lower, upper, 0.0),
        "bias-eliminated coverage": rates.bias_eliminated_coverage(lower, upper, estimate),
        "power": rates.power(lower, upper, -0.5),
    }


@pytest.mark.parametrize("kind", SHAPES)
def test_monte_carlo_errors_against_simulated_studies(kind: str) -> None:
    """Mean MCSE over the SD of the measure across studies; that ratio itself has an SE of 2.2 % here."""
    for name, found in simulated(kind, STUDIES).items():
        ratio = np.mean(found.mcse) / np.std(found.estimate, ddof=1)
        assert 0.9 < ratio < 1.1, (name, ratio)


@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("name", ["mad_se", "trimmed_rmse"])
def test_bootstrap_errors_against_simulated_studies(name: str, kind: str) -> None:
    """That ratio has an SE of 2.2 % here; of 4,000 such studies it is 0.99 to 1.01 for the MAD, 0.95 to 0.96 trimmed
    (and of 6,000 with 500 replicates 1.02 to 1.06, and 0.94 to 0.97)."""
    estimates = SHAPES[kind](np.random.default_rng(5), (2 * REPLICATES, STUDIES))
    found = resistant.mad_se(estimates) if name == "mad_se" else resistant.trimmed_rmse(estimates, 0.0)
    ratio = np.mean(found.mcse) / np.std(found.estimate, ddof=1)
    assert 0.9 < ratio < 1.1, ratio


def test_rates_with_failures_against_simulated_studies() -> None:
    """A fifth of the replicates fails at random: denominators hold them, and the MCSEs know of it."""
    generator = np.random.default_rng(11)
    found: dict[str, list[Rate]] = {"coverage": [], "bias-eliminated coverage": [], "power": []}
    for _ in range(STUDIES):
        failed = int(generator.binomial(REPLICATES, 0.2))
        estimate = SHAPES["gamma"](generator, REPLICATES - failed)
        lower, upper = estimate - 1.5, estimate + 1.5
        found["coverage"].append(rates.coverage(lower, upper, 0.0, failed))
        found["bias-eliminated coverage"].append(rates.bias_eliminated_coverage(lower, upper, estimate, 0.0, failed))
        found["power"].append(rates.power(lower, upper, -0.5, failed))
    for name, own in found.items():
        ratio = np.mean([r.mcse for r in own]) / np.std([r.estimate for r in own], ddof=1)
        assert 0.9 < ratio < 1.1, (name, ratio)


def test_the_tables_forms_are_too_small_for_skewed_estimates() -> None:
    """What the robust forms are for: a quarter and more of the error is missing."""
    generator = np.random.default_rng(3)
    estimate = SHAPES["lognormal"](generator, (REPLICATES, STUDIES))
    se = np.exp(0.2 * generator.normal(size=estimate.shape))
    other = 0.7 * estimate + 0.5 * SHAPES["lognormal"](generator, estimate.shape)
    for found in (
        model_errors.relative_error(estimate, se, "morris"),
        model_errors.relative_precision(estimate, other, "morris"),
    ):
        assert np.mean(found.mcse) / np.std(found.estimate, ddof=1) < 0.8


# --- few replicates, bad input --------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [0, 1, 2, 3])
def test_few_replicates_give_nan_and_never_0(n: int) -> None:
    x, se = np.array([1.0, 2.5, 7.0])[:n], np.array([1.0, 1.5, 1.2])[:n]
    found = {
        "empirical_se": measures.empirical_se(x),
        "relative_error": model_errors.relative_error(x, se),
        "relative_precision": model_errors.relative_precision(x, x**2),
        "mad_se": resistant.mad_se(x),
        "trimmed_rmse": resistant.trimmed_rmse(x, 0.0),
        "median_bias": measures.median_bias(x, 0.0),
    }
    for name, measure in found.items():
        assert np.isnan(measure.mcse), name
        assert measure.n == n
    if n < 2:
        assert np.isnan(model_errors.average_model_se(se).mcse)
        assert np.isnan(measures.relative_bias(x, 1.0).mcse)
        assert np.isnan(rates.coverage(x - 1, x + 1, 1.0).mcse)


def test_a_truth_of_each_replicates_own() -> None:
    generator = np.random.default_rng(2)
    truth = generator.normal(size=(50, 2))
    estimates = truth + generator.normal(size=(50, 2))
    errors = estimates - truth
    assert measures.bias(estimates, truth).estimate == pytest.approx(errors.mean(axis=0))
    assert measures.bias(estimates, truth).mcse == pytest.approx(errors.std(axis=0, ddof=1) / math.sqrt(50))
    assert rates.coverage(estimates - 1, estimates + 1, truth).estimate == pytest.approx(
        np.mean(np.abs(errors) <= 1, axis=0)
    )
    centred = np.abs(errors - errors.mean(axis=0)) <= 1
    found = rates.bias_eliminated_coverage(estimates - 1, estimates + 1, estimates, truth)
    assert found.estimate == pytest.approx(centred.mean(axis=0))


def test_replicates_needed() -> None:
    x = np.random.default_rng(4).normal(size=100)
    pilot = measures.bias(x, 0.0)
    assert precision.n_for(pilot, 0.01) == math.ceil(np.var(x, ddof=1) / 0.01**2)
    assert precision.n_for_rate(0.95, 0.005) == 1900
    assert precision.n_for_rate(0.95, 0.0025) == 7600
    certain = rates.share(np.ones(50, bool))
    assert precision.n_for(certain, 0.01) == math.ceil(50 * ((certain.upper - certain.lower) / (2 * Z) / 0.01) ** 2)
    both = precision.n_for(measures.empirical_se(np.stack([x, 3 * x], axis=1)), 0.05)
    assert both[1] == pytest.approx(9 * both[0], rel=0.01)


REFUSED = [
    ("'robust' or 'morris'", lambda: model_errors.relative_error([1.0, 2.0], [1.0, 1.0], "normal")),  # type: ignore
    ("'robust' or 'morris'", lambda: model_errors.relative_precision([1.0], [1.0], "x")),  # type: ignore
    ("'robust' or 'morris'", lambda: rates.bias_eliminated_coverage([0.0], [1.0], [0.5], mcse="x")),  # type: ignore
    ("same replicates", lambda: model_errors.relative_error([1.0, 2.0], [1.0])),
    ("same replicates", lambda: model_errors.relative_precision([1.0, 2.0], [1.0])),
    ("1 of 2 estimates are not finite", lambda: model_errors.average_model_se([1.0, np.nan])),
    ("not finite", lambda: rates.coverage([np.nan], [1.0], 0.0)),
    ("not finite", lambda: rates.power([0.0], [np.inf])),
    ("truth has shape", lambda: measures.bias(np.ones((3, 2)), np.ones(3))),
    ("true or false", lambda: rates.share([0.0, 1.0])),
    ("share is 1", lambda: resistant.trimmed_rmse([1.0], 0.0, share=1.0)),
    ("larger than 0", lambda: precision.n_for(measures.bias([1.0, 2.0], 0.0), 0.0)),
    ("have no MCSE", lambda: precision.n_for(measures.bias([1.0], 0.0), 0.1)),
    ("between 0 and 1", lambda: precision.n_for_rate(1.0, 0.1)),
]


@pytest.mark.parametrize(("text", "call"), REFUSED)
def test_bad_input_is_named(text: str, call: Any) -> None:
    with pytest.raises(DataError, match=text):
        call()

"""The article that emjax starts from ("Mastering the EM Algorithm") is wrong, and this is how.

Its problem: y = 0.5 x + 1 + N(0, 0.1^2) or y = 1.5 x + 2 + N(0, 0.2^2), each with probability 1/2, x ~ U(0, 10),
n = 100. Its algorithm is written here anew, faults and all, with a switch for the worst of them.
"""

from typing import NamedTuple

import numpy as np
import pytest
from scipy import stats

from tests.oracle import linear_regression, mixture

N_ROWS = 100
TRUE_WEIGHTS = np.array([0.5, 0.5])
TRUTH = linear_regression.Params(np.array([[1.0, 0.5], [2.0, 1.5]]), np.array([0.1, 0.2]))
# A fit that stops 5e-5 nats short of its maximum is off by at most this share of a standard error.
NEGLIGIBLE = 0.01
# What the article prints: slope and intercept of each line, and the two scales.
PRINTED_SLOPES = np.array([0.6444, 1.8291])
PRINTED_INTERCEPTS = np.array([0.2708, 0.4288])
PRINTED_SCALES = np.array([0.5063, 0.8973])


class ArticleFit(NamedTuple):
    params: linear_regression.Params
    p1: np.ndarray
    path: np.ndarray  # (iterations, 2, 2): the coefficients after every iteration


def simulate(seed: int, weights: np.ndarray = TRUE_WEIGHTS, n_rows: int = N_ROWS) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.uniform(0.0, 10.0, n_rows)
    component = (rng.random(n_rows) > weights[0]).astype(int)
    intercept, slope = TRUTH.coefficients[component].T
    return x, intercept + slope * x + rng.normal(size=n_rows) * TRUTH.scale[component]


def article_responsibilities(
    x: np.ndarray, y: np.ndarray, params: linear_regression.Params, rng: np.random.Generator | None
) -> np.ndarray:
    """A ratio of two densities: no mixing probability, and a mean with fresh noise on it unless `rng` is None."""
    means = params.coefficients[:, :1] + params.coefficients[:, 1:] * x
    if rng is not None:
        means = means + rng.normal(size=means.shape) * params.scale[:, None]
    density = stats.norm.pdf(y, means, params.scale[:, None])
    with np.errstate(invalid="ignore"):
        first = density[0] / (density[0] + density[1])
    return np.array([first, 1.0 - first])


def article_m_step(x: np.ndarray, y: np.ndarray, responsibilities: np.ndarray) -> linear_regression.Params:
    """The slope of a line through the origin, then the intercept that is left."""
    counts = responsibilities.sum(1)
    slope = responsibilities @ (x * y) / (responsibilities @ x**2)
    intercept = (responsibilities @ y - slope * (responsibilities @ x)) / counts
    residuals = y - intercept[:, None] - slope[:, None] * x
    scale = np.sqrt((responsibilities * residuals**2).sum(1) / counts)
    return linear_regression.Params(np.column_stack([intercept, slope]), scale)


def article_em(x: np.ndarray, y: np.ndarray, rng: np.random.Generator | None, iterations: int = 200) -> ArticleFit:
    """From the truth, as in the article; it has no rule to stop by."""
    params, path = TRUTH, []
    p1 = np.full(len(x), 0.5)
    for _ in range(iterations):
        responsibilities = article_responsibilities(x, y, params, rng)
        p1 = responsibilities[0]
        params = article_m_step(x, y, responsibilities)
        path.append(params.coefficients)
    return ArticleFit(params, p1, np.array(path))


def log_likelihood(x: np.ndarray, y: np.ndarray, weights: np.ndarray, params: linear_regression.Params) -> float:
    design = linear_regression.design_matrix(x)
    return mixture.e_step(weights, linear_regression.log_prob(params, y, design)).log_likelihood


def oracle_fit(x: np.ndarray, y: np.ndarray) -> mixture.Run:
    return linear_regression.em(y, linear_regression.design_matrix(x), TRUE_WEIGHTS, TRUTH, iterations=100)


def standard_errors() -> np.ndarray:
    """(2, 2), as the coefficients: least squares on half of the rows. For x ~ U(0, 10), E x = 5 and E x^2 = 100 / 3."""
    moments = np.array([[1.0, 5.0], [5.0, 100.0 / 3.0]])
    return TRUTH.scale[:, None] * np.sqrt(np.diag(np.linalg.inv(moments)) / (0.5 * N_ROWS))


@pytest.mark.parametrize("seed", range(3))
def test_noise_in_the_e_step_makes_two_runs_on_the_same_data_differ(seed: int) -> None:
    x, y = simulate(seed)
    first, second = (article_em(x, y, np.random.default_rng([seed, run])) for run in range(2))
    difference = np.abs(first.params.coefficients - second.params.coefficients) / standard_errors()
    assert difference.max() > 10 * NEGLIGIBLE
    silent = [article_em(x, y, None).params.coefficients for _ in range(2)]
    np.testing.assert_array_equal(*silent)


def test_the_responsibilities_leave_the_mixing_probability_out() -> None:
    weights = np.array([0.9, 0.1])
    x, y = simulate(1, weights)
    # Two lines near one another, so that there is something to be decided by the mixing probability.
    params = linear_regression.Params(np.array([[1.0, 1.0], [1.5, 1.0]]), np.array([2.0, 2.5]))
    found = article_responsibilities(x, y, params, None)
    log_prob = linear_regression.log_prob(params, y, linear_regression.design_matrix(x))
    np.testing.assert_allclose(found, mixture.e_step(TRUE_WEIGHTS, log_prob).responsibilities, atol=1e-12)
    assert np.abs(found - mixture.e_step(weights, log_prob).responsibilities).max() > 0.3


def test_the_slope_is_computed_as_if_the_intercept_were_zero() -> None:
    """On two noiseless lines with every row's component known, least squares is exact and the article is not."""
    x, _ = simulate(2)
    component = np.arange(N_ROWS) % 2
    y = TRUTH.coefficients[component, 0] + TRUTH.coefficients[component, 1] * x
    known = np.array([component == 0, component == 1], dtype=float)
    exact = linear_regression.maximize(known, y, linear_regression.design_matrix(x))
    np.testing.assert_allclose(exact.coefficients, TRUTH.coefficients, rtol=1e-12)
    bias = TRUTH.coefficients[:, 0] * (known @ x) / (known @ x**2)
    found = article_m_step(x, y, known).coefficients[:, 1]
    np.testing.assert_allclose(found, TRUTH.coefficients[:, 1] + bias, rtol=1e-12)
    assert np.all(bias > 10 * standard_errors()[:, 1])


@pytest.mark.parametrize("seed", range(3))
def test_it_could_not_stop_by_tolerance(seed: int) -> None:
    """After 900 iterations each one still moves the estimates, where a correct EM has long been at rest."""
    x, y = simulate(seed)
    path = article_em(x, y, np.random.default_rng(seed), iterations=1000).path
    moves = (np.abs(np.diff(path[-100:], axis=0)) / standard_errors()).max((1, 2))
    assert np.all(moves > NEGLIGIBLE)
    run = oracle_fit(x, y)
    once_more = linear_regression.em(y, linear_regression.design_matrix(x), run.weights, run.params, iterations=1)
    at_rest = np.abs(once_more.params.coefficients - run.params.coefficients) / standard_errors()
    assert np.all(at_rest < NEGLIGIBLE**2)


def test_p1_is_an_array_of_responsibilities() -> None:
    x, y = simulate(0)
    assert article_em(x, y, np.random.default_rng(0)).p1.shape == (N_ROWS,)
    assert oracle_fit(x, y).weights.shape == (2,)


def test_the_printed_output_is_far_from_the_truth_and_is_what_the_faults_give() -> None:
    errors = (PRINTED_SLOPES - TRUTH.coefficients[:, 1]) / standard_errors()[:, 1]
    assert np.all(np.abs(errors) > 20.0)
    # For x ~ U(0, 10): a line through the origin has E xy / E x^2 = slope + intercept * 5 / (100 / 3).
    slopes = TRUTH.coefficients[:, 1] + 0.15 * TRUTH.coefficients[:, 0]
    intercepts = TRUTH.coefficients[:, 0] * (1.0 - 0.15 * 5.0)
    assert np.all(np.abs(PRINTED_SLOPES - slopes) < np.abs(PRINTED_SLOPES - TRUTH.coefficients[:, 1]) / 4)
    assert np.all(np.abs(PRINTED_INTERCEPTS - intercepts) < np.abs(PRINTED_INTERCEPTS - TRUTH.coefficients[:, 0]) / 4)
    assert np.min(PRINTED_SCALES / TRUTH.scale) > 4.0


@pytest.mark.parametrize("seed", range(3))
def test_without_the_noise_it_still_falls_short_of_em(seed: int) -> None:
    x, y = simulate(seed)
    fit = article_em(x, y, None)
    weights = np.array([fit.p1.mean(), 1.0 - fit.p1.mean()])
    shortfall = oracle_fit(x, y).log_likelihoods[-1] - log_likelihood(x, y, weights, fit.params)
    # Even the truth, where it started, was better.
    assert shortfall > 100.0
    assert log_likelihood(x, y, weights, fit.params) < log_likelihood(x, y, TRUE_WEIGHTS, TRUTH)


@pytest.mark.parametrize("seed", range(3))
def test_emjax_reaches_the_maximum_from_random_starts(seed: int) -> None:
    import emjax

    x, y = simulate(seed)
    model = emjax.Mixture(emjax.LinearRegression(), n_components=2)
    fit = emjax.fit(model, emjax.Data(y=y, x=x[:, None]), key=seed, restarts=10)
    best = oracle_fit(x, y)
    assert fit.status == emjax.Status.CONVERGED
    assert fit.log_likelihood >= best.log_likelihoods[-1] - 1e-6
    order = np.argsort(fit.params.family.coefficients[:, 1])
    slopes = fit.params.family.coefficients[order, 1]
    assert np.all(np.abs(slopes - TRUTH.coefficients[:, 1]) < 4.5 * standard_errors()[:, 1])
    assert np.all(np.abs(slopes - PRINTED_SLOPES) > 10 * standard_errors()[:, 1])

"""The NumPy oracles are themselves checked: densities by scipy, M-steps by gradients, fixed points by references."""

import ast
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from tests.oracle import gaussian, linear_regression, mixture
from tests.references import GaussianReference, RegressionReference, gaussian_cases, regression_cases

ORACLE = Path(__file__).parent / "oracle"
# Central differences with step h of a function with values near 1e3 err by about 1e3 eps / h + h^2.
STEP = 1e-5
GRADIENT_ERROR = 1e-6


def some_problem(seed: int, n_rows: int = 40, n_components: int = 3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """y (n, 2), responsibilities (K, n) and row weights, one of them 0 and some not whole."""
    rng = np.random.default_rng(seed)
    y = rng.normal(size=(n_rows, 2)) @ np.array([[1.0, 0.6], [0.0, 0.5]]) + [1.0, -2.0]
    row_weight = rng.uniform(0.5, 2.0, size=n_rows)
    row_weight[3] = 0.0
    return y, rng.dirichlet(np.ones(n_components), size=n_rows).T, row_weight


def gradient(function: Callable[[np.ndarray], float], point: np.ndarray) -> np.ndarray:
    steps = STEP * np.eye(len(point))
    return np.array([(function(point + step) - function(point - step)) / (2 * STEP) for step in steps])


def assert_maximum(function: Callable[[np.ndarray], float], point: np.ndarray) -> None:
    """Stationary by finite differences, and lower wherever we step away from it."""
    rng = np.random.default_rng(0)
    scale = max(1.0, np.abs(gradient(function, point + 0.1)).max())
    np.testing.assert_allclose(gradient(function, point) / scale, 0.0, atol=GRADIENT_ERROR)
    top = function(point)
    assert all(function(point + 0.01 * rng.normal(size=len(point))) < top for _ in range(20))


# Coordinates without constraints. A mode is a mode in any coordinates as long as the density keeps its measure.


def pack_covariance(matrix: np.ndarray, covariance: str) -> np.ndarray:
    if covariance.endswith("spherical"):
        return np.log(matrix[:1, 0])
    if covariance.endswith("diagonal"):
        return np.log(np.diag(matrix))
    root = np.linalg.cholesky(matrix)
    return np.array([np.log(root[0, 0]), root[1, 0], np.log(root[1, 1])])


def unpack_covariance(free: np.ndarray, covariance: str) -> np.ndarray:
    if covariance.endswith("spherical"):
        return np.exp(free[0]) * np.eye(2)
    if covariance.endswith("diagonal"):
        return np.diag(np.exp(free))
    root = np.array([[np.exp(free[0]), 0.0], [free[1], np.exp(free[2])]])
    return root @ root.T


def pack_gaussian(params: gaussian.Params, covariance: str) -> np.ndarray:
    matrices = params.covariances[:1] if covariance.startswith("tied") else params.covariances
    return np.concatenate([params.means.ravel(), *(pack_covariance(matrix, covariance) for matrix in matrices)])


def unpack_gaussian(free: np.ndarray, n_components: int, covariance: str) -> gaussian.Params:
    means = free[: 2 * n_components].reshape(n_components, 2)
    blocks = free[2 * n_components :].reshape(1 if covariance.startswith("tied") else n_components, -1)
    matrices = [unpack_covariance(block, covariance) for block in blocks]
    return gaussian.Params(means, np.array(matrices * (n_components // len(matrices))))


def pack_regression(params: linear_regression.Params, scale: str) -> np.ndarray:
    scales = params.scale[:1] if scale == "common" else params.scale
    return np.concatenate([params.coefficients.ravel(), np.log(scales)])


def unpack_regression(free: np.ndarray, n_components: int, n_columns: int) -> linear_regression.Params:
    split = n_components * n_columns
    scales = np.exp(np.broadcast_to(free[split:], n_components))
    return linear_regression.Params(free[:split].reshape(n_components, n_columns), scales)


# Priors, with no two values alike.

NORMAL_INVERSE_WISHART = gaussian.NormalInverseWishart(
    mean=np.array([0.3, -1.0]), strength=1.7, degrees=5.3, scale=np.array([[1.1, 0.2], [0.2, 0.4]])
)
NORMAL_INVERSE_GAMMA = linear_regression.NormalInverseGamma(
    mean=np.array([0.4, -0.2]), strength=np.array([[2.0, 0.3], [0.3, 0.7]]), shape=2.3, scale=0.9
)


def test_no_jax() -> None:
    """Neither an import statement nor anything imported by those imported."""
    for path in ORACLE.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not [name for name in names if name.split(".")[0] in {"jax", "jaxlib", "emjax", "optax", "chex"}]
    modules = ", ".join(f"tests.oracle.{path.stem}" for path in ORACLE.glob("*.py") if path.stem != "__init__")
    code = f"import sys, {modules}; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ORACLE.parent.parent).returncode == 0


def test_log_sum_exp() -> None:
    assert mixture.log_sum_exp(np.array([-1e4, -1e4 + np.log(3.0)])) == pytest.approx(-1e4 + np.log(4.0), rel=1e-15)
    assert mixture.log_sum_exp(np.array([-np.inf, -np.inf])) == -np.inf


def test_e_step_is_bayes_rule() -> None:
    densities = np.array([[0.2, 1e-3, 0.7], [0.5, 2e-3, 0.0]])
    weights = np.array([0.3, 0.7])
    row_weight = np.array([1.0, 2.0, 0.5])
    with np.errstate(divide="ignore"):
        posterior = mixture.e_step(weights, np.log(densities), row_weight)
    joint = weights[:, None] * densities
    np.testing.assert_allclose(posterior.responsibilities, joint / joint.sum(0), rtol=1e-14)
    assert posterior.log_likelihood == pytest.approx(row_weight @ np.log(joint.sum(0)), rel=1e-14)


@pytest.mark.parametrize("concentration", [1.0, 2.5, np.array([1.5, 3.0, 2.0])])
def test_weights_update_is_the_mode(concentration: float | np.ndarray) -> None:
    _, responsibilities, row_weight = some_problem(1)
    weights = mixture.update_weights(responsibilities, row_weight, concentration)

    def objective(free: np.ndarray) -> float:
        powers = np.exp(np.append(free, 0.0))
        current = powers / powers.sum()
        return mixture.weights_q(current, responsibilities, row_weight) + mixture.weights_log_prior(
            current, concentration
        )

    assert_maximum(objective, np.log(weights[:-1] / weights[-1]))


@pytest.mark.parametrize("prior", [None, NORMAL_INVERSE_GAMMA], ids=["ml", "map"])
@pytest.mark.parametrize("scale", ["component", "common"])
def test_regression_m_step_is_the_mode(scale: str, prior: linear_regression.NormalInverseGamma | None) -> None:
    data, responsibilities, row_weight = some_problem(2)
    y, design = data[:, 0], linear_regression.design_matrix(data[:, 1:])
    params = linear_regression.maximize(responsibilities, y, design, scale, row_weight, prior)

    def objective(free: np.ndarray) -> float:
        current = unpack_regression(free, 3, 2)
        expected = mixture.family_q(linear_regression.log_prob(current, y, design), responsibilities, row_weight)
        return expected + linear_regression.log_prior(current, scale, prior)

    assert_maximum(objective, pack_regression(params, scale))


@pytest.mark.parametrize("prior", [None, NORMAL_INVERSE_WISHART], ids=["ml", "map"])
@pytest.mark.parametrize("covariance", gaussian.COVARIANCES)
def test_gaussian_m_step_is_the_mode(covariance: str, prior: gaussian.NormalInverseWishart | None) -> None:
    y, responsibilities, row_weight = some_problem(3)
    params = gaussian.maximize(responsibilities, y, covariance, row_weight, prior)

    def objective(free: np.ndarray) -> float:
        current = unpack_gaussian(free, 3, covariance)
        expected = mixture.family_q(gaussian.log_prob(current, y), responsibilities, row_weight)
        return expected + gaussian.log_prior(current, covariance, prior)

    assert_maximum(objective, pack_gaussian(params, covariance))


def test_log_densities_are_scipys() -> None:
    data, responsibilities, _ = some_problem(4)
    design = linear_regression.design_matrix(data[:, 1:])
    lines = linear_regression.maximize(responsibilities, data[:, 0], design)
    expected = stats.norm.logpdf(data[:, 0], lines.coefficients @ design.T, lines.scale[:, None])
    np.testing.assert_allclose(linear_regression.log_prob(lines, data[:, 0], design), expected, rtol=1e-12)
    normals = gaussian.maximize(responsibilities, data)
    expected = [stats.multivariate_normal.logpdf(data, *component) for component in zip(*normals)]
    np.testing.assert_allclose(gaussian.log_prob(normals, data), expected, rtol=1e-12)


def test_log_priors_are_scipys() -> None:
    weights = np.array([0.2, 0.5, 0.3])
    concentration = np.array([1.5, 3.0, 2.0])
    expected = stats.dirichlet.logpdf(weights, concentration)
    assert mixture.weights_log_prior(weights, concentration) == pytest.approx(expected, rel=1e-12)

    prior = NORMAL_INVERSE_GAMMA
    lines = linear_regression.Params(np.array([[0.5, 0.1], [1.0, -1.0]]), np.array([0.7, 0.7]))
    variance = stats.invgamma.logpdf(0.49, prior.shape, scale=prior.scale)
    coefficients = sum(
        stats.multivariate_normal.logpdf(row, prior.mean, 0.49 * np.linalg.inv(prior.strength))
        for row in lines.coefficients
    )
    assert linear_regression.log_prior(lines, "component", prior) == pytest.approx(coefficients + 2 * variance)
    assert linear_regression.log_prior(lines, "common", prior) == pytest.approx(coefficients + variance)


@pytest.mark.parametrize("covariance", gaussian.COVARIANCES)
def test_gaussian_log_prior_is_scipys(covariance: str) -> None:
    prior = NORMAL_INVERSE_WISHART
    diagonal = np.diag([0.6, 0.6] if covariance.endswith("spherical") else [0.6, 0.9])
    matrix = diagonal if covariance.endswith(("spherical", "diagonal")) else np.array([[0.6, 0.1], [0.1, 0.9]])
    params = gaussian.Params(np.array([[0.5, 0.1], [1.0, -1.0]]), np.array([matrix, matrix]))
    means = sum(stats.multivariate_normal.logpdf(row, prior.mean, matrix / prior.strength) for row in params.means)
    if covariance.endswith("spherical"):
        one = stats.invgamma.logpdf(0.6, prior.degrees / 2, scale=np.trace(prior.scale) / 2 / 2)
    elif covariance.endswith("diagonal"):
        one = stats.invgamma.logpdf(np.diag(matrix), prior.degrees / 2, scale=np.diag(prior.scale) / 2).sum()
    else:
        one = stats.invwishart.logpdf(matrix, prior.degrees, prior.scale)
    copies = 1 if covariance.startswith("tied") else 2
    assert gaussian.log_prior(params, covariance, prior) == pytest.approx(means + copies * one, rel=1e-12)


@pytest.mark.parametrize("prior", [False, True], ids=["ml", "map"])
def test_ten_iterations_never_lower_the_objective(prior: bool) -> None:
    data, _, row_weight = some_problem(5, n_components=2)
    design = linear_regression.design_matrix(data[:, 1:])
    weights = np.array([0.4, 0.6])
    concentration = 2.0 if prior else None
    lines = linear_regression.em(
        data[:, 0],
        design,
        weights,
        linear_regression.Params(np.array([[0.0, 1.0], [1.0, -1.0]]), np.array([1.0, 2.0])),
        row_weight=row_weight,
        prior=NORMAL_INVERSE_GAMMA if prior else None,
        concentration=concentration,
    )
    normals = gaussian.em(
        data,
        weights,
        gaussian.Params(np.array([[0.0, -2.0], [2.0, -2.0]]), np.array([np.eye(2)] * 2)),
        row_weight=row_weight,
        prior=NORMAL_INVERSE_WISHART if prior else None,
        concentration=concentration,
    )
    for run in (lines, normals):
        objective = run.log_likelihoods + run.log_priors
        assert len(objective) == 11
        assert np.all(np.diff(objective) > 0)


def assert_fixed_point(
    run: mixture.Run, case: RegressionReference | GaussianReference, blocks: list[np.ndarray]
) -> None:
    """A gap of 1e-12 nats leaves parameters within sqrt(2e-12) = 1.4e-6 standard errors."""
    np.testing.assert_allclose(run.log_likelihoods, case.log_likelihood, rtol=1e-12, atol=1e-10)
    np.testing.assert_allclose(run.weights, case.weights, rtol=1e-6)
    for found, expected in zip(run.params, blocks):
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6 * np.abs(expected).max())


def assert_criteria(case: RegressionReference | GaussianReference) -> None:
    assert case.aic == pytest.approx(2 * case.n_free - 2 * case.log_likelihood, rel=1e-12)
    assert case.bic == pytest.approx(np.log(len(case.y)) * case.n_free - 2 * case.log_likelihood, rel=1e-12)


@pytest.mark.parametrize("case", regression_cases(), ids=lambda case: case.name)
def test_regression_references_are_fixed_points(case: RegressionReference) -> None:
    params = linear_regression.Params(case.coefficients, case.sigma)
    design = linear_regression.design_matrix(case.x, case.intercept)
    run = linear_regression.em(case.y, design, case.weights, params, scale=case.scale, iterations=1)
    assert_fixed_point(run, case, [case.coefficients, case.sigma])
    assert_criteria(case)
    assert np.all(np.diff(case.coefficients[:, case.order_column]) > 0)
    assert min(case.sigma) >= case.min_scale
    assert min(case.weights) * len(case.y) >= case.min_rows


@pytest.mark.parametrize("case", gaussian_cases(), ids=lambda case: case.name)
def test_gaussian_references_are_fixed_points(case: GaussianReference) -> None:
    params = gaussian.Params(case.means, case.covariances)
    run = gaussian.em(case.y, case.weights, params, covariance=case.covariance, iterations=1)
    assert_fixed_point(run, case, [case.means, case.covariances])
    assert_criteria(case)
    assert np.all(np.diff(case.means[:, case.order_column]) > 0)

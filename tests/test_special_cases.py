"""Settings that must agree with one another, or with a closed form; fixed blocks; the engine's traces."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import emjax
from emjax import Data, Gaussian, LinearRegression, Mixture, MixtureParams, NormalInverseGamma, NormalInverseWishart
from emjax.engine import scheduler, stages
from tests import lanes
from tests.battery import CLOSE, SAME, close
from tests.cases import CASES
from tests.lanes import Case

BY_NAME = {case.name: case for case in CASES}


def case_data(case: Case) -> Data:
    return lanes.arrange(case, np.arange(lanes.n_units(case.data)))


@lanes.in_float64
def one_step(model: Any, data: Data, params: Any, prior: Any = None, fixed: Any = None) -> lanes.Step:
    arrays = jax.tree.map(jnp.asarray, (data, params))
    found = jax.device_get(lanes.step(model, prior, fixed, *arrays))
    assert found.problem == 0
    return found


@pytest.mark.parametrize("form", ["full", "tied", "diagonal", "tied-diagonal", "spherical", "tied-spherical"])
def test_one_gaussian_is_the_sample_moments(form: str) -> None:
    case = BY_NAME["gaussian-full"]
    covariance = np.cov(case.data.y.T, bias=True)
    if form.endswith("diagonal"):
        covariance = np.diag(np.diag(covariance))
    if form.endswith("spherical"):
        covariance = np.mean(np.diag(covariance)) * np.eye(2)
    start = jax.tree.map(lambda a: a[:1], MixtureParams(case.away.latent, case.away.family))
    start = start._replace(latent=start.latent._replace(weights=np.ones(1)))
    start = start._replace(family=start.family._replace(covariances=np.eye(2)[None]))
    after = one_step(Mixture(Gaussian(form), 1), case_data(case), start).after
    close(after.family.means[0], np.mean(case.data.y, axis=0), SAME, "mean")
    close(after.family.covariances[0], covariance, CLOSE, "covariance")
    close(after.latent.weights, np.ones(1), SAME, "weights")


@pytest.mark.parametrize("name", ["gaussian-line", "gaussian-line-tied"])
def test_forms_agree_in_one_dimension(name: str) -> None:
    case = BY_NAME[name]
    tied = "tied-" if "tied" in name else ""
    found = [
        one_step(Mixture(Gaussian(form), 2), case_data(case), case.near)
        for form in (tied + "spherical", tied + "diagonal", "tied" if tied else "full")
    ]
    for other in found[1:]:
        close(other, found[0], CLOSE, name)


@pytest.mark.parametrize("scale", ["component", "common"])
def test_one_regression_is_least_squares(scale: Any) -> None:
    case = BY_NAME["regression-one"]
    design = np.column_stack([np.ones(len(case.data.y)), case.data.x])
    coefficients, squares, *_ = np.linalg.lstsq(design, case.data.y)
    after = one_step(Mixture(LinearRegression(scale=scale), 1), case_data(case), case.away).after
    close(after.family.coefficients[0], coefficients, CLOSE, "coefficients")
    close(after.family.scale[0], np.sqrt(squares[0] / len(case.data.y)), CLOSE, "scale")


@pytest.mark.parametrize("name", ["regression-common", "gaussian-tied"])
def test_units_of_one_row_are_rows(name: str) -> None:
    case = BY_NAME[name]
    data = case_data(case)
    grouped = data._replace(unit=np.arange(len(data.y), dtype=np.int32))
    close(one_step(case.model, grouped, case.near), one_step(case.model, data, case.near), SAME, name)


BLOCKS = {
    "regression-component": ("weights", "coefficients", "scale"),
    "gaussian-full": ("weights", "means", "covariances"),
}


@pytest.mark.parametrize(("name", "block"), [(name, block) for name, blocks in BLOCKS.items() for block in blocks])
def test_fixed_blocks_are_honoured_and_the_others_move(name: str, block: str) -> None:
    case = BY_NAME[name]

    def blocks(params: Any) -> dict[str, np.ndarray]:
        return params.latent._asdict() | params.family._asdict()

    value = blocks(case.away)[block]  # not the value in the start
    after = blocks(one_step(case.model, case_data(case), case.near, fixed={block: value}).after)
    close(after.pop(block), value, SAME, block)
    for other, moved in after.items():
        assert np.max(np.abs(moved - blocks(case.near)[other])) > 1e-3, f"{other} stands still"


def test_default_wishart_is_that_of_fraley_and_raftery() -> None:
    case = BY_NAME["gaussian-full"]
    y = case.data.y
    explicit = NormalInverseWishart(np.mean(y, axis=0), 0.01, 4.0, np.cov(y.T, bias=True) / 2.0)
    found, wanted = (
        one_step(case.model, case_data(case), case.near, prior={"family": prior})
        for prior in (NormalInverseWishart(), explicit)
    )
    close(found, wanted, CLOSE, "default")


def test_default_gamma_is_as_documented() -> None:
    """A flat line at the mean of y, strength 0.01 per standardised covariate, scale 0.5 var(y) / K^2."""
    case = BY_NAME["regression-component"]
    x, y = case.data.x, case.data.y
    variance = np.var(y)
    # In standardised covariates z = (x - m) / s the coefficients are c = T b, so b' (T' T) b = c' c.
    to_standard = np.diag([1.0, *np.std(x, axis=0)])
    to_standard[0, 1:] = np.mean(x, axis=0)
    explicit = NormalInverseGamma(
        np.array([np.mean(y), 0.0, 0.0]), 0.01 * to_standard.T @ to_standard, 1.5, 0.5 * variance / 4.0
    )
    found, wanted = (
        one_step(case.model, case_data(case), case.near, prior={"family": prior})
        for prior in (NormalInverseGamma(), explicit)
    )
    close(found, wanted, CLOSE, "default")


def test_free_coordinates_belong_to_the_components_they_move() -> None:
    for name in ("regression-component", "regression-common", "gaussian-full", "gaussian-tied"):
        with jax.enable_x64(True):
            case = BY_NAME[name]
            data, near = jax.tree.map(jnp.asarray, (case_data(case), case.near))
            prepared = case.model.prepare(data)[0].family
            family = case.model.family
            free = family.to_free(case.model.family.from_user(near.family, prepared), prepared)
            before = family.log_prob(family.from_free(free, prepared, 2), prepared)
            owners = family.component_of_free(prepared, 2)
            assert len(owners) == len(free) == family.n_free(prepared, 2)
            for place, owner in enumerate(owners):
                after = family.log_prob(family.from_free(free.at[place].add(0.1), prepared, 2), prepared)
                moved = set(np.flatnonzero(np.any(np.asarray(after != before), axis=1)))
                assert moved == ({0, 1} if owner < 0 else {owner}), f"{name}: coordinate {place}"


def engine_traces() -> int:
    compiled = (
        scheduler.run_lanes,
        stages.prepare,
        stages.random_starts,
        stages.given_starts,
        stages.curvature,
        stages.probe,
        stages.to_user,
    )
    return sum(function.__wrapped__._cache_size() for function in compiled)


def test_a_second_fit_with_equal_settings_traces_nothing() -> None:
    case = BY_NAME["regression-component"]

    def fit(seed: int, concentration: float) -> emjax.Fit:
        prior = {"weights": emjax.Dirichlet(concentration), "family": NormalInverseGamma()}
        model = Mixture(LinearRegression(), 2)
        return emjax.fit(model, case.data, seed, prior=prior, restarts=2, stop=emjax.Stop(1e-5), start="nearest")

    first = fit(0, 2.0)
    before = engine_traces()
    second = fit(1, 3.0)
    assert before > 0
    assert engine_traces() == before
    assert first.objective != second.objective


def test_a_fit_with_everything_fixed_returns_it() -> None:
    case = BY_NAME["regression-component"]
    fixed = case.near.latent._asdict() | case.near.family._asdict()
    found = emjax.fit(case.model, case.data, 0, fixed=fixed, restarts=2)
    assert found.status == emjax.Status.CONVERGED
    assert found.n_free == 0
    close(found.params, case.near, SAME, "params")
    close(found.log_likelihood, case.oracle.e_step(case.near).log_likelihood, SAME, "log-likelihood")

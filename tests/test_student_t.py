"""Student-t families: special cases, steps, bounds of the degrees, bad input, against scipy."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

import emjax
from emjax import Data, DataError, Flag, Mixture, MixtureParams, Problem, Status, Stop, StudentT, StudentTRegression
from emjax.base import degrees as degrees_forms
from emjax.base.degrees import DegreesForm
from tests import lanes
from tests.battery import CLOSE, SAME, close
from tests.cases import CASES
from tests.test_special_cases import case_data, one_step

pytestmark = pytest.mark.long  # compiling takes most of a test command of ten minutes

BY_NAME = {case.name: case for case in CASES}
SEED = 5
TIGHT = Stop(tol=1e-10)
RNG = np.random.default_rng(11)
HEAVY = 3.0 + 2.0 * RNG.standard_t(3.0, size=300)
LIGHT = RNG.uniform(-1.0, 1.0, size=300)  # lighter tails than a Gaussian's: degrees want to be infinite


@lanes.in_float64
def test_the_constant_and_its_derivatives() -> None:
    nu = np.array([0.05, 0.3, 1.0, 4.0, 25.0, 400.0])
    for d in (1, 3, 8):
        x, a = 0.5 * nu, 0.5 * d
        wanted = special.gammaln(x + a) - special.gammaln(x) - a * np.log(2.0 * np.pi * x)
        close(degrees_forms.log_constant(jnp.array(nu), d), wanted, SAME, "constant")

        def constant(value: Any, d: int = d) -> Any:
            return degrees_forms.log_constant(value, d)

        first = 0.5 * (special.digamma(x + a) - special.digamma(x) - a / x)
        second = 0.25 * (special.polygamma(1, x + a) - special.polygamma(1, x) + a / x**2)
        for order, wanted in ((jax.grad(constant), first), (jax.grad(jax.grad(constant)), second)):
            close(jax.vmap(order)(jnp.array(nu)), wanted, CLOSE, "derivative")
        # (d - 2) d / (4 nu) to first order: the difference of two lgamma has no digit of it left.
        far = degrees_forms.log_constant(jnp.array([1e12]), d) + a * np.log(2.0 * np.pi)
        np.testing.assert_allclose(far, d * (d - 2) / 4e12, rtol=0.0, atol=1e-14)


@pytest.mark.parametrize(("tied", "setting"), [(False, "component"), (False, "common"), (True, "common")])
@lanes.in_float64
def test_the_step_of_degrees_and_scale_is_newtons(tied: bool, setting: Any) -> None:
    """By jax's Hessian of sum r log t in the step's coordinate and log scales, where the scales are stationary."""
    resp = jnp.array(RNG.uniform(0.5, 1.0, (2, 200)))
    z = jnp.array(RNG.standard_t(4.0, (2, 200)))
    nu = jnp.array([5.0, 5.0] if setting == "common" else [5.0, 6.0])
    n_scale = 1 if tied else 2
    for _ in range(200):
        weight = resp * degrees_forms.precision(nu, z**2, 1)
        squares, total = jnp.sum(weight * z**2, axis=1), jnp.sum(weight, axis=1)
        factor = jnp.sum(squares) / jnp.sum(total) * jnp.ones(2) if tied else squares / total
        z = z / jnp.sqrt(factor)[:, None]
    start = jnp.log1p(degrees_forms.NEAR_GAUSSIAN / nu)

    def q(free: Any) -> Any:
        log_scale = jnp.broadcast_to(free[:n_scale], (2,))
        degrees = degrees_forms.NEAR_GAUSSIAN / jnp.expm1(start + jnp.broadcast_to(free[n_scale:], (2,)))
        squares = (z * jnp.exp(-log_scale)[:, None]) ** 2
        return jnp.sum(resp * (degrees_forms.log_density(degrees, squares, 1) - log_scale[:, None]))

    free = jnp.zeros(n_scale + (1 if setting == "common" else 2))
    newton = -jnp.linalg.solve(jax.hessian(q)(free), jax.grad(q)(free))
    form, found = DegreesForm(setting, 0.1, 1000.0), degrees_forms.sums(nu, z**2, resp)
    after, stretch = form.step(nu, jnp.sum(resp, axis=1), found, 1, tied, True)
    moved = jnp.log1p(degrees_forms.NEAR_GAUSSIAN / after) - start
    close(moved[: free.shape[0] - n_scale], newton[n_scale:], CLOSE, "step")
    assert float(jnp.min(jnp.abs(moved))) > 1e-3
    # The scale follows the degrees, which move along a curve: the same to first order.
    np.testing.assert_allclose(stretch[:n_scale], newton[:n_scale], rtol=0.5)


def gaussian_twin(case_name: str, family: Any) -> tuple[Any, Any]:
    """A step of a Gaussian family and of its t family with 1e12 degrees, at the same parameters."""
    case = BY_NAME[case_name]
    near = case.near._replace(family=family(*case.near.family, np.full(2, 1e12)))
    return case, near


@pytest.mark.parametrize("name", ["gaussian-full", "gaussian-tied-diagonal", "gaussian-line"])
def test_many_degrees_are_a_gaussian(name: str) -> None:
    case, near = gaussian_twin(name, emjax.StudentTParams)
    wanted = one_step(case.model, case_data(case), case.near)
    found = one_step(Mixture(StudentT(case.model.family.covariance, 1e12), 2), case_data(case), near)
    close(found.log_likelihood, wanted.log_likelihood, 1e-11, "log-likelihood")
    close(found.after.family[:2], tuple(wanted.after.family), CLOSE, "params")


def test_many_degrees_are_a_gaussian_regression() -> None:
    case, near = gaussian_twin("regression-component", emjax.StudentTRegressionParams)
    wanted = one_step(case.model, case_data(case), case.near)
    found = one_step(Mixture(StudentTRegression(degrees=1e12), 2), case_data(case), near)
    close(found.log_likelihood, wanted.log_likelihood, 1e-11, "log-likelihood")
    close(found.after.family[:2], tuple(wanted.after.family), CLOSE, "params")


def test_a_regression_without_covariates_and_one_column_are_the_univariate_family() -> None:
    case = BY_NAME["student-line"]
    data, family = case_data(case), case.near.family
    wanted = one_step(Mixture(StudentT(), 2), data, case.near)
    column = one_step(Mixture(StudentT(), 2), data._replace(y=data.y[:, None]), case.near)
    close(column, wanted, SAME, "one column")
    coefficients, scale = family.means, np.sqrt(family.scales[:, 0, 0])
    near = case.near._replace(family=emjax.StudentTRegressionParams(coefficients, scale, family.degrees))
    found = one_step(Mixture(StudentTRegression(), 2), data, near)
    close(found.log_likelihood, wanted.log_likelihood, SAME, "log-likelihood")
    after = found.after.family
    close(after.coefficients, wanted.after.family.means, CLOSE, "coefficients")
    close(after.scale**2, wanted.after.family.scales[:, 0, 0], CLOSE, "scale")
    close(after.degrees, wanted.after.family.degrees, CLOSE, "degrees")


def test_one_component_is_scipys_fit() -> None:
    found = emjax.fit(Mixture(StudentT(), 1), Data(HEAVY), SEED, restarts=2, stop=TIGHT)
    df, loc, scale = stats.t.fit(HEAVY)
    theirs = np.sum(stats.t.logpdf(HEAVY, df, loc, scale))
    assert found.status == Status.CONVERGED
    assert found.log_likelihood >= theirs - 1e-9
    assert found.log_likelihood == pytest.approx(theirs, abs=1e-5)
    family = found.params.family
    ours = (family.degrees[0], family.means[0, 0], np.sqrt(family.scales[0, 0, 0]))
    np.testing.assert_allclose(ours, (df, loc, scale), rtol=1e-3)
    own = np.sum(stats.t.logpdf(HEAVY, *ours))
    assert found.log_likelihood == pytest.approx(own, abs=1e-9)


def test_degrees_at_their_end_are_flagged_and_the_fit_is_nearly_a_gaussians() -> None:
    fits = emjax.fit_many(Mixture(StudentT(), 1), Data(np.stack([LIGHT, HEAVY])), SEED, restarts=2)
    assert np.all(fits.status == Status.CONVERGED)
    assert fits.params.family.degrees[0, 0] == 1000.0
    assert fits.flags[0] & Flag.BOUNDARY
    assert not fits.flags[1] & Flag.BOUNDARY
    gaussian = np.sum(stats.norm.logpdf(LIGHT, LIGHT.mean(), LIGHT.std()))
    assert 0 < gaussian - fits.log_likelihood[0] < 0.5


def test_the_range_of_the_degrees_is_a_setting() -> None:
    model = Mixture(StudentT(degrees="common", degrees_range=(5.0, 50.0)), 1)
    fits = emjax.fit_many(model, Data(np.stack([LIGHT, HEAVY])), SEED, restarts=2)
    np.testing.assert_allclose(fits.params.family.degrees[:, 0], [50.0, 5.0])
    assert np.all(fits.flags & Flag.BOUNDARY)
    assert np.all(fits.status == Status.CONVERGED)


BAD_SETTINGS: dict[str, Any] = {
    "negative": (lambda: StudentT(degrees=-1.0), "'common'"),
    "word": (lambda: StudentT(degrees="foo"), "positive number"),
    "bool": (lambda: StudentTRegression(degrees=True), "positive number"),
    "infinite": (lambda: StudentTRegression(degrees=np.inf), "positive number"),
    "range": (lambda: StudentT(degrees_range=(5.0, 2.0)), "the lower first"),
    "no range": (lambda: StudentTRegression(degrees_range=3.0), "two positive numbers"),  # type: ignore[arg-type]
    "form": (lambda: StudentT("round"), "covariance"),
    "scale": (lambda: StudentTRegression(scale="both"), "'common'"),  # type: ignore[arg-type]
    "intercept": (lambda: StudentTRegression(intercept=1), "True or False"),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("name", BAD_SETTINGS)
def test_bad_settings_are_refused(name: str) -> None:
    make, remedy = BAD_SETTINGS[name]
    with pytest.raises(DataError, match=remedy):
        make()


def params_with(**blocks: Any) -> MixtureParams:
    family = emjax.StudentTParams(np.zeros((1, 1)), np.ones((1, 1, 1)), np.full(1, 4.0))._replace(**blocks)
    return MixtureParams(emjax.WeightsParams(np.ones(1)), family)


T, ROBUST = Mixture(StudentT(), 1), Mixture(StudentTRegression(), 1)
NAN = np.where(np.arange(300) == 7, np.nan, HEAVY)
BAD_DATA: dict[str, Any] = {
    "three axes": (T, Data(HEAVY.reshape(10, 30, 1)), {}, "shape"),
    "covariates": (T, Data(HEAVY, HEAVY[:, None]), {}, "StudentTRegression"),
    "trials": (T, Data(HEAVY, trials=np.ones(300)), {}, "trials"),
    "two responses": (ROBUST, Data(np.stack([HEAVY, LIGHT], axis=1)), {}, "one response"),
    "no columns": (Mixture(StudentTRegression(intercept=False), 1), Data(HEAVY), {}, "needs covariates"),
    "a prior": (T, Data(HEAVY), {"prior": {"family": emjax.NormalInverseWishart()}}, "no conjugate prior"),
    "a prior of lines": (ROBUST, Data(HEAVY), {"prior": {"family": emjax.NormalInverseGamma()}}, "no conjugate prior"),
    "degrees": (T, Data(HEAVY), {"start": params_with(degrees=np.zeros(1)), "restarts": 1}, "degrees must be positive"),
    "scales": (T, Data(HEAVY), {"start": params_with(scales=-np.ones((1, 1, 1))), "restarts": 1}, "positive definite"),
    "means": (
        T,
        Data(HEAVY),
        {"start": params_with(means=np.full((1, 1), np.nan)), "restarts": 1},
        "means must be finite",
    ),
    "fixed": (ROBUST, Data(HEAVY), {"fixed": {"degrees": [-1.0]}}, "degrees must be positive"),
    "NaN": (T, Data(NAN), {}, "row 7"),
    "constant": (T, Data(np.full(300, 2.0)), {}, "constant"),
    "collinear": (T, Data(np.stack([HEAVY, 2.0 * HEAVY], axis=1)), {}, "dependent"),
    "collinear design": (ROBUST, Data(HEAVY, np.stack([LIGHT, 2.0 * LIGHT], axis=1)), {}, "dependent"),
}


@pytest.mark.parametrize("name", BAD_DATA)
def test_bad_data_are_refused(name: str) -> None:
    model, data, settings, remedy = BAD_DATA[name]
    with pytest.raises(DataError, match=remedy):
        emjax.fit(model, data, SEED, **({"restarts": 2} | settings))


def test_broken_datasets_in_a_batch_leave_the_others_alone() -> None:
    batch = Data(np.stack([HEAVY, NAN, np.full(300, 2.0), LIGHT]))
    fits = emjax.fit_many(T, batch, SEED, restarts=2)
    wanted = [Problem.NONE, Problem.RESPONSE_NOT_FINITE, Problem.CONSTANT_RESPONSE, Problem.NONE]
    assert [Problem(int(p)) for p in fits.problems] == wanted
    assert [Status(int(s)) for s in fits.status[[0, 3]]] == [Status.CONVERGED] * 2
    alone = emjax.fit(T, Data(HEAVY), SEED, restarts=2)
    assert fits.log_likelihood[0] == pytest.approx(alone.log_likelihood, abs=1e-9)


def test_a_component_on_copies_of_a_row_has_collapsed() -> None:
    y = np.concatenate([np.random.default_rng(6).standard_t(5.0, 90), np.full(10, 8.0)])
    latent, degrees = emjax.WeightsParams(np.array([0.9, 0.1])), np.full(2, 5.0)
    of_t = emjax.StudentTParams(np.array([[0.0], [8.0]]), np.array([1.0, 0.05])[:, None, None], degrees)
    of_lines = emjax.StudentTRegressionParams(of_t.means, np.array([1.0, 0.2]), degrees)
    for family, start in ((StudentT(), of_t), (StudentTRegression(), of_lines)):
        fit = emjax.fit(Mixture(family, 2), Data(y), SEED, start=MixtureParams(latent, start))
        assert fit.status == Status.DEGENERATE


def test_fits_are_saved_and_loaded(tmp_path: Any) -> None:
    fits = emjax.fit_many(ROBUST, Data(HEAVY[None]), SEED, restarts=2)
    fits.save(tmp_path / "fits.npz")
    again = emjax.load(tmp_path / "fits.npz")
    np.testing.assert_array_equal(again.params.family.degrees, fits.params.family.degrees)
    assert again.model == ROBUST

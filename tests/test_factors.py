"""Factor analysis and mixtures of factor analysers: steps, Heywood cases, scores, rotations, bad data, files."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize

import emjax
from emjax import Data, DataError, FactorAnalyser, FactorAnalysis, Flag, Mixture, Problem, Status, varimax
from emjax.base import factors
from tests.lanes import in_float64
from tests.references import factor_cases

pytestmark = pytest.mark.long  # compiling takes most of a test command of ten minutes

CASES = {case.name: case for case in factor_cases()}
ATTITUDE = CASES["fa_attitude-q2"].y
FLOOR = 1e-6


def drawn(n: int = 120, p: int = 5, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, 2)) @ rng.normal(size=(2, p)) + rng.normal(size=(n, p)) + 10.0


def correlation(y: np.ndarray) -> np.ndarray:
    return np.corrcoef(y.T)


def density(scatter: np.ndarray, loadings: np.ndarray, uniquenesses: np.ndarray) -> float:
    sigma = loadings @ loadings.T + np.diag(uniquenesses)
    p = len(scatter)
    return -0.5 * (p * np.log(2 * np.pi) + np.linalg.slogdet(sigma)[1] + np.trace(np.linalg.solve(sigma, scatter)))


# --- the step -------------------------------------------------------------------------------------------------------


@in_float64
def test_the_density_of_second_moments_and_of_rows() -> None:
    y = drawn()
    rng = np.random.default_rng(1)
    loadings, uniquenesses = rng.normal(size=(5, 2)), np.array([0.5, 1.0, 1e-5, 2.0, 0.7])
    away = y - y.mean(axis=0)
    scatter = away.T @ away / len(y)
    found = factors.mean_log_density(*map(jnp.asarray, (scatter, loadings, uniquenesses)))
    assert found == pytest.approx(density(scatter, loadings, uniquenesses), rel=1e-9)
    rows = factors.row_log_density(*(jnp.asarray(a)[None] for a in (away.T, loadings, uniquenesses)))
    assert np.mean(rows) == pytest.approx(float(found), rel=1e-9)


def best_of_row(scatter: np.ndarray, loadings: np.ndarray, uniquenesses: np.ndarray, i: int) -> float:
    """The largest density over one variable's loadings and uniqueness, by a general optimiser."""

    def loss(free: np.ndarray) -> float:
        row, noise = loadings.copy(), uniquenesses.copy()
        row[i], noise[i] = free[:-1], np.exp(free[-1])
        return -density(scatter, row, noise)

    bounds = [(-5, 5)] * loadings.shape[1] + [(np.log(FLOOR), 2.0)]
    starts = [np.append(way * loadings[i], level) for way in (1.0, 0.3) for level in (-1.0, -8.0)]
    return -min(optimize.minimize(loss, x, bounds=bounds, method="L-BFGS-B", tol=1e-14).fun for x in starts)


slow = [pytest.param(name, marks=pytest.mark.long) for name in ("fa_attitude-q2", "fa_attitude-q3")]


@pytest.mark.parametrize("name", ["fa_iris-q1", *slow])
@in_float64
def test_a_sweep_is_the_conditional_maximum_of_each_variable(name: str) -> None:
    case = CASES[name]
    scatter, rng = correlation(case.y), np.random.default_rng(3)
    p = len(scatter)
    loadings, uniquenesses = 0.5 * rng.normal(size=(p, case.n_factors)), np.full(p, 0.5)
    floors, maximise = 0, jax.jit(factors._maximise_row)
    for _ in range(3):
        for i in range(p):
            wanted = best_of_row(scatter, loadings, uniquenesses, i)
            parts = map(jnp.asarray, (scatter, loadings, uniquenesses, FLOOR))
            loadings, uniquenesses = (np.array(a) for a in maximise(jnp.asarray(i), *parts))
            floors += uniquenesses[i] == FLOOR
            assert density(scatter, loadings, uniquenesses) > wanted - 1e-6
    assert (floors > 0) == (case.heywood > 0)


@in_float64
def test_principal_factors_span_the_leading_eigenvectors() -> None:
    scatter = correlation(ATTITUDE)
    found = np.asarray(factors.principal_factors(jnp.asarray(scatter), jnp.full(7, 0.25), 2))
    values, vectors = np.linalg.eigh(scatter)
    leading = vectors[:, -2:] @ np.diag(values[-2:]) @ vectors[:, -2:].T
    np.testing.assert_allclose(found @ found.T, leading, atol=1e-4)


@in_float64
def test_the_step_for_common_uniquenesses_gains_and_for_one_component_ends_where_the_other_does() -> None:
    scatter = jnp.asarray(correlation(CASES["fa_attitude-q3"].y))[None]
    start = jnp.asarray(np.random.default_rng(3).normal(size=(1, 7, 3)) * 0.5), jnp.full((1, 7), 0.5)
    common = jax.jit(lambda a, b: factors.sweep_common(scatter, a, b, jnp.ones(1), jnp.asarray(FLOOR)))
    alone = jax.jit(lambda a, b: factors.sweep(scatter, a, b, jnp.asarray(FLOOR)))
    values, here, other = [], start, start
    for _ in range(300):
        here, other = common(*here), alone(*other)
        values.append(density(np.asarray(scatter[0]), *(np.asarray(a[0]) for a in here)))
    assert min(np.diff(values)) > -1e-9  # of second moments with a uniqueness of 1e-6, by p x p matrices
    assert np.min(np.asarray(here[1])) == FLOOR
    assert values[-1] == pytest.approx(density(np.asarray(scatter[0]), *(np.asarray(a[0]) for a in other)), abs=1e-8)


# --- Heywood cases --------------------------------------------------------------------------------------------------


def test_a_heywood_case_is_left_again_where_the_likelihood_wants_it_and_else_is_a_boundary() -> None:
    case = CASES["fa_iris-q1"]
    model = FactorAnalysis(1)
    at_edge = emjax.FactorAnalysisParams(
        case.y.mean(axis=0), 0.5 * case.deviation[:, None], case.deviation**2 * np.array([1e-6, 0.5, 0.5, 0.5])
    )
    fit = emjax.fit(model, Data(case.y), 1, start=at_edge)
    uniquenesses = fit.params.uniquenesses / case.deviation**2
    assert fit.log_likelihood == pytest.approx(case.log_likelihood, abs=1e-6)
    np.testing.assert_allclose(uniquenesses, case.uniquenesses, rtol=1e-2)
    assert fit.status == Status.CONVERGED and fit.flags & Flag.BOUNDARY and not fit.flags & Flag.ESCAPED
    assert fit.certificate.smallest_eigenvalue > 0
    assert fit.certificate.predicted_gain < 1e-6


@pytest.mark.long
def test_acceleration_and_single_precision_end_there_too() -> None:
    for name in ("fa_iris-q1", "fa_ability-q2"):
        case = CASES[name]
        model, data = FactorAnalysis(case.n_factors), Data(case.y)
        plain = emjax.fit(model, data, 1, restarts=6)
        quick = emjax.fit(model, data, 1, restarts=6, acceleration="squarem")
        single = emjax.fit(model, data, 1, restarts=6, precision="float32")
        for fit in (plain, quick, single):
            assert fit.status == Status.CONVERGED
            assert fit.log_likelihood == pytest.approx(case.log_likelihood, abs=2e-6)


# --- mixtures -------------------------------------------------------------------------------------------------------


@pytest.mark.long
def test_a_mixture_of_one_is_factor_analysis() -> None:
    y = drawn()
    alone = emjax.fit(FactorAnalysis(2), Data(y), 1, restarts=4)
    for uniquenesses in ("component", "common"):
        family = FactorAnalyser(2, uniquenesses)
        mixed = emjax.fit(Mixture(family, 1), Data(y), 1, restarts=1, stop=emjax.Stop(tol=1e-9))
        assert mixed.log_likelihood == pytest.approx(alone.log_likelihood, abs=1e-6)
        assert mixed.n_free == alone.n_free == 5 + 9 + 5
        np.testing.assert_allclose(mixed.params.family.loadings[0], alone.params.loadings, atol=1e-2)


@pytest.mark.long
def test_a_mixture_finds_its_components_and_calls_a_collapse_degenerate() -> None:
    rng = np.random.default_rng(5)
    y = np.concatenate([drawn(150, 4, 0), drawn(150, 4, 1) + 6.0])
    data = Data(np.concatenate([y, y[:1] + 1e-4 * rng.normal(size=(7, 4))]))
    model = Mixture(FactorAnalyser(1), 2)
    fit = emjax.fit(model, data, 1, restarts=12)
    assert fit.status == Status.CONVERGED
    counts = np.bincount(fit.predict().labels, minlength=2)
    assert counts.min() > 100
    centre = emjax.GaussianParams(np.stack([y.mean(axis=0), y[0]]), np.empty(0)).means
    collapsed = emjax.MixtureParams(
        emjax.WeightsParams(np.array([0.97, 0.03])),
        emjax.FactorAnalyserParams(centre, np.ones((2, 4, 1)) * [[[1.0]], [[1e-4]]], np.array([[1.0] * 4, [1e-6] * 4])),
    )
    assert emjax.fit(model, data, 1, start=collapsed).status == Status.DEGENERATE


# --- scores and rotations -------------------------------------------------------------------------------------------


def test_scores_are_factanals_and_follow_a_rotation() -> None:
    fit = emjax.fit(FactorAnalysis(2), Data(ATTITUDE), 1, restarts=4, stop=emjax.Stop(tol=1e-12))
    found = fit.predict()
    ratio = np.sqrt(30 / 29)  # R scales by the standard deviation with n - 1
    # factanal(attitude, 2, rotation = "none", scores = "regression"), then "Bartlett"; rows 1 to 3; R 4.2.2
    regression = [[-0.1821444, -1.5421488], [0.2759154, -0.3987333], [0.6468014, 0.3260637]]
    bartlett = [[-0.1882191, -1.6824517], [0.2851174, -0.4350096], [0.6683727, 0.3557286]]
    np.testing.assert_allclose(found.regression[:3], ratio * np.array(regression), atol=2e-3)
    np.testing.assert_allclose(found.bartlett[:3], ratio * np.array(bartlett), atol=2e-3)
    turned = varimax(fit.params.loadings)
    rotated = dataclasses.replace(fit, params=fit.params._replace(loadings=turned.loadings))
    np.testing.assert_allclose(rotated.predict().regression, found.regression @ turned.rotation, atol=1e-9)
    np.testing.assert_allclose(rotated.predict().bartlett, found.bartlett @ turned.rotation, atol=1e-9)
    np.testing.assert_allclose(fit.predict(Data(ATTITUDE[4:5])).regression, found.regression[4:5], atol=1e-9)
    weight = np.ones(30)
    weight[3] = 0.0
    holed = ATTITUDE.copy()
    holed[3, 0] = np.nan
    blank = fit.predict(Data(holed, weight=weight)).regression
    assert np.isnan(blank[3]).all() and np.isfinite(np.delete(blank, 3, axis=0)).all()


def test_varimax_is_rs() -> None:
    columns = [[0.8, 0.7, 0.6, 0.2, 0.1, -0.3], [0.1, 0.2, -0.3, 0.7, 0.8, 0.5], [0.3, -0.2, 0.1, 0.25, -0.15, 0.4]]
    loadings = np.array(columns).T
    # stats::varimax(normalize = TRUE, then FALSE; eps = 1e-15), R 4.2.2: rows 1 and 6
    normalized = [0.8401910775942104, 0.146488786902452, 0.112338721921374]
    plain = [0.8521149176273253, 0.115516342054302, 0.0235826604811680]
    found = varimax(loadings)
    np.testing.assert_allclose(found.loadings[0], normalized, atol=1e-7)
    np.testing.assert_allclose(
        found.loadings[5], [-0.1989319695509656, 0.156862265775003, 0.660166873651280], atol=1e-7
    )
    np.testing.assert_allclose(varimax(loadings, normalize=False).loadings[0], plain, atol=1e-7)
    np.testing.assert_allclose(loadings @ found.rotation, found.loadings, atol=1e-14)
    np.testing.assert_allclose(found.rotation.T @ found.rotation, np.eye(3), atol=1e-14)
    many = varimax(np.stack([loadings, loadings[::-1]]))
    np.testing.assert_allclose(many.loadings[0], found.loadings, atol=1e-10)
    with pytest.raises(DataError, match="shape"):
        varimax(loadings[:, 0])


# --- bad data and settings ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: FactorAnalysis(0), "1 or larger"),
        (lambda: FactorAnalysis(1.5), "whole number"),
        (lambda: FactorAnalysis(1, noise="spherical"), "isotropic"),
        (lambda: FactorAnalysis(1, min_uniqueness=0.0), "share"),
        (lambda: FactorAnalyser(True), "whole number"),
        (lambda: FactorAnalyser(1, uniquenesses="tied"), "common"),
        (lambda: emjax.fit(FactorAnalysis(3), Data(drawn()), 1), "degrees of freedom"),
        (lambda: emjax.fit(emjax.ProbabilisticPCA(5), Data(drawn()), 1), "not identified"),
        (lambda: emjax.fit(Mixture(FactorAnalyser(3), 2), Data(drawn()), 1), "degrees of freedom"),
        (lambda: emjax.fit(FactorAnalysis(1), Data(drawn()[:, 0]), 1), "shape"),
        (lambda: emjax.fit(FactorAnalysis(1), Data(drawn(), x=drawn()), 1), "no x"),
        (lambda: emjax.fit(FactorAnalysis(1), Data(drawn()), 1, prior={"family": None}), "prior"),
        (
            lambda: emjax.fit(Mixture(FactorAnalyser(1), 2), Data(drawn()), 1, fixed={"means": np.zeros((2, 5))}),
            "fixed",
        ),
    ],
)
def test_impossible_settings(make: Any, match: str) -> None:
    with pytest.raises(DataError, match=match):
        make()


def test_bad_starts() -> None:
    params = emjax.FactorAnalysisParams(np.zeros(5), np.ones((5, 1)), np.array([1.0, 1.0, 0.0, 1.0, 1.0]))
    with pytest.raises(DataError, match="uniquenesses must be"):
        emjax.fit(FactorAnalysis(1), Data(drawn()), 1, start=params)
    with pytest.raises(DataError, match="finite"):
        start = params._replace(uniquenesses=np.ones(5), mean=np.full(5, np.nan))
        emjax.fit(FactorAnalysis(1), Data(drawn()), 1, start=start)


def problem_of(model: Any, y: np.ndarray, weight: Any = None) -> Problem:
    with jax.enable_x64(True):
        return Problem(int(jax.jit(lambda data: model.prepare(data)[1])(Data(jnp.asarray(y), weight=weight))))


def test_problems_of_a_dataset() -> None:
    good = drawn(40)
    constant, holed, copied = good.copy(), good.copy(), good.copy()
    constant[:, 2] = 3.3
    holed[4, 1] = np.nan
    copied[:, 4] = 2.0 * good[:, 0] - good[:, 1]
    for model in (FactorAnalysis(1), Mixture(FactorAnalyser(1), 1)):
        assert problem_of(model, good) == Problem.NONE
        assert problem_of(model, constant) == Problem.CONSTANT_RESPONSE
        assert problem_of(model, holed) == Problem.RESPONSE_NOT_FINITE
        assert problem_of(model, copied) == Problem.COLLINEAR
        assert problem_of(model, good[:2]) & Problem.TOO_FEW_ROWS
    assert problem_of(FactorAnalysis(1), good, jnp.zeros(40)) == Problem.NO_WEIGHT
    assert problem_of(emjax.ProbabilisticPCA(2), copied) == Problem.NONE


@pytest.mark.long
def test_fewer_rows_than_variables_fit_and_are_suspect_and_bad_datasets_harm_no_other(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    wide = rng.normal(size=(9, 1)) @ rng.normal(size=(1, 12)) + 0.5 * rng.normal(size=(9, 12))
    fit = emjax.fit(FactorAnalysis(1), Data(wide), 1, restarts=4)
    assert fit.status == Status.CONVERGED and fit.flags & Flag.SUSPECT
    y = np.stack([drawn(40, 5, seed) for seed in range(4)])
    y[1, :, 0] = 1.0
    fits = emjax.fit_many(FactorAnalysis(1), Data(y), 3, restarts=4)
    assert [Status(s) for s in fits.status] == [Status.CONVERGED, Status.INVALID_DATA, *[Status.CONVERGED] * 2]
    again = emjax.fit(FactorAnalysis(1), Data(y[2]), 3, id=2, restarts=4)
    assert again.log_likelihood == fits.log_likelihood[2]
    with pytest.raises(DataError, match="column 0 of y"):
        emjax.fit(FactorAnalysis(1), Data(y[1]), 3)
    fits.save(tmp_path / "fits.npz")
    loaded = emjax.load(tmp_path / "fits.npz")
    np.testing.assert_array_equal(loaded.params.loadings, fits.params.loadings)
    assert loaded.model == FactorAnalysis(1)
    assert "loadings" in again.summary() and "CONVERGED" in fits.summary()


@pytest.mark.long
def test_the_information_is_not_singular_whatever_the_order_of_the_variables() -> None:
    # The first two variables measure one factor alone: loadings lower triangular there would not be identified.
    rng = np.random.default_rng(4)
    loadings = np.array([[1.0, 0.0], [0.9, 0.0], [0.8, 0.3], [0.2, 0.9], [0.1, 0.8], [0.0, 1.0]])
    y = rng.normal(size=(400, 2)) @ loadings.T + 0.6 * rng.normal(size=(400, 6))
    fit = emjax.fit(FactorAnalysis(2), Data(y), 1, restarts=4)
    assert fit.certificate.smallest_eigenvalue > 1.0

"""Weights gated by covariates: against direct maximisation, logistic regression, constant weights; bad input."""

from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit, log_expit

import emjax
from emjax import (
    Data,
    Flag,
    GatedWeights,
    GatingParams,
    Gaussian,
    GaussianParams,
    Mixture,
    MixtureParams,
    Problem,
    Status,
    Stop,
)
from emjax.engine import datasets, diagnosis
from tests import lanes
from tests.oracle import gaussian
from tests.oracle.gated_weights import GatedProblem
from tests.oracle.problem import gaussian_problem
from tests.refusals import refused

N = 120
MODEL = Mixture(Gaussian("V"), 2, GatedWeights())
TIGHT = {"stop": Stop(tol=1e-11), "restarts": 4}


@cache
def overlapping(apart: float = 3.0) -> Data:
    rng = np.random.default_rng(4)
    z = rng.normal(50.0, 7.0, (N, 1))
    first = rng.random(N) < expit(0.2 * (z[:, 0] - 52.0))
    return Data(np.where(first, 10.0, 10.0 + apart) + rng.normal(size=N), z=z)


def joint(data: Data, coefficients: np.ndarray, means: np.ndarray, scales: np.ndarray) -> float:
    """The log-likelihood by its definition; `coefficients` of the first component's logit."""
    logit = coefficients[0] + data.z @ coefficients[1:]
    density = -0.5 * ((data.y[:, None] - means) / scales) ** 2 - np.log(scales) - 0.5 * np.log(2 * np.pi)
    return float(np.sum(np.logaddexp(log_expit(logit) + density[:, 0], log_expit(-logit) + density[:, 1])))


@pytest.mark.slow
def test_direct_maximisation_finds_the_same() -> None:
    data = overlapping()
    centred = data._replace(z=(data.z - 50.0) / 7.0)  # scipy needs it, emjax does not

    def loss(free: np.ndarray) -> float:
        return -joint(centred, free[:2], free[2:4], np.exp(free[4:]))

    starts = [np.array([a, b, 9.0, 14.0, 0.0, 0.0]) for a in (-1.0, 1.0) for b in (-2.0, 2.0)]
    best = min((minimize(loss, start, method="BFGS", options={"gtol": 1e-7}) for start in starts), key=lambda r: r.fun)
    found = emjax.fit(MODEL, data, 0, **TIGHT)
    assert found.status == Status.CONVERGED and found.flags & Flag.BOUNDARY == 0
    assert found.log_likelihood == pytest.approx(-best.fun, abs=1e-8)
    order = np.argsort(found.params.family.means[:, 0])
    gating = found.params.latent.gating[order] - found.params.latent.gating[order[1]]
    np.testing.assert_allclose(gating[0], [best.x[0] - best.x[1] * 50.0 / 7.0, best.x[1] / 7.0], rtol=1e-4)
    np.testing.assert_allclose(found.params.family.means[order, 0], best.x[2:4], rtol=1e-5)


def test_with_known_components_the_gate_is_a_logistic_regression() -> None:
    data = overlapping(1000.0)
    first = data.y < 500.0

    def loss(free: np.ndarray) -> float:
        logit = free[0] + free[1] * (data.z[:, 0] - 50.0)
        return -float(np.sum(np.where(first, log_expit(logit), log_expit(-logit))))

    best = minimize(loss, np.zeros(2), method="BFGS", options={"gtol": 1e-8}).x
    found = emjax.fit(MODEL, data, 0, **TIGHT)
    order = np.argsort(found.params.family.means[:, 0])
    gating = found.params.latent.gating[order] - found.params.latent.gating[order[1]]
    np.testing.assert_allclose(gating[0], [best[0] - 50.0 * best[1], best[1]], rtol=1e-5)
    prior = found.model.latent.prior_weights(found.params.latent, data.z)[:, order]
    assert prior.shape == (N, 2) and prior.dtype == np.float64
    np.testing.assert_allclose(prior[:, 0], expit(best[0] + best[1] * (data.z[:, 0] - 50.0)), rtol=1e-5)
    np.testing.assert_allclose(np.mean(prior[:, 0]), np.mean(first), atol=1e-6)  # the intercept's score is 0


@pytest.mark.long
def test_without_a_column_of_z_weights_are_constant() -> None:
    data = overlapping()
    gated = emjax.fit(MODEL, data._replace(z=np.zeros((N, 0))), 0, **TIGHT)
    constant = emjax.fit(Mixture(Gaussian("V"), 2), data._replace(z=None), 0, **TIGHT)
    assert gated.n_free == constant.n_free
    assert gated.log_likelihood == pytest.approx(constant.log_likelihood, abs=1e-9)
    weights = MODEL.latent.prior_weights(gated.params.latent, np.zeros((1, 0)))[0]  # type: ignore[attr-defined]
    np.testing.assert_allclose(np.sort(weights), np.sort(constant.params.latent.weights), rtol=1e-4)


def test_separation_ends_with_a_flag_and_finite_numbers() -> None:
    data = overlapping(1000.0)
    data = data._replace(z=np.where(data.y < 500.0, 1.0, 3.0)[:, None] + 0.1 * np.sin(np.arange(N))[:, None])
    for tol in (1e-6, 1e-10):
        found = emjax.fit(MODEL, data, 0, restarts=4, stop=Stop(tol=tol))
        assert found.status == Status.CONVERGED and found.flags & Flag.BOUNDARY
        assert np.all(np.isfinite(found.params.latent.gating))
        family = gaussian.log_prob(gaussian.Params(*found.params.family), data.y[:, None])
        first, second = (family[k][np.argmax(family, axis=0) == k] for k in (0, 1))
        assert found.log_likelihood == pytest.approx(np.sum(first) + np.sum(second), abs=1e-4)  # all weights 0 or 1


# Steep the wrong way; a gate so hard that responsibilities cannot leave it; a component that has died out.
WILD = [[[30.0, -0.6], [0.0, 0.0]], [[150.0, -3.0], [0.0, 0.0]], [[2500.0, -50.0], [0.0, 0.0]], [[-800.0, 0.0], [0, 0]]]


@lanes.in_float64
def test_a_newton_step_never_lowers_the_objective_however_far_it_starts() -> None:
    data, model = overlapping(), Mixture(Gaussian("E"), 2, GatedWeights())
    family = GaussianParams(np.array([[10.0], [13.0]]), np.ones((2, 1, 1)))
    starts = MixtureParams(GatingParams(np.array(WILD)), jax.tree.map(lambda a: np.stack([a] * len(WILD)), family))

    def path(start: Any) -> Any:
        prepared, _ = model.prepare(jax.tree.map(jnp.asarray, data))

        def advance(params: Any, _: Any) -> Any:
            return emjax.em_step(model, params, prepared)

        last, log_likelihood = jax.lax.scan(advance, model.from_user(start, prepared), length=600)
        return model.to_user(last, prepared), log_likelihood

    last, log_likelihood = jax.device_get(jax.vmap(path)(starts))
    assert np.all(np.isfinite(log_likelihood)) and np.all(np.isfinite(last.latent.gating))
    assert np.min(np.diff(log_likelihood, axis=1)) > -1e-9
    np.testing.assert_allclose(log_likelihood[:2, -1], np.max(log_likelihood), atol=1e-6)


def test_relabelling_moves_the_baseline() -> None:
    latent = GatedWeights()
    params = GatingParams(np.array([[1.0, 2.0], [-1.0, 0.5], [0.0, 0.0]]))
    moved = latent.relabel(params, np.array([2, 0, 1]))
    assert np.all(moved.gating[-1] == 0.0)
    z = np.linspace(-1.0, 1.0, 5)[:, None]
    np.testing.assert_allclose(
        latent.prior_weights(moved, z), latent.prior_weights(params, z)[:, [2, 0, 1]], rtol=1e-14
    )


@lanes.in_float64
def explained(z: np.ndarray, unit: Any = None) -> str:
    """What `fit` would say of the problem that preparing the data finds; nothing is compiled for it."""
    single = datasets.one(MODEL, overlapping()._replace(z=z, unit=unit))
    _, problem = MODEL.prepare(jax.tree.map(jnp.asarray, single))
    return diagnosis.explain(MODEL, single, Problem(int(problem)))


def test_bad_input() -> None:
    data = overlapping()
    hole = np.array(data.z)
    hole[7] = np.nan

    def with_z(z: Any) -> Any:
        return lambda: emjax.fit(MODEL, data._replace(z=z), 0, restarts=4)

    refused(with_z(None), "GatedWeights needs covariates", "z")
    refused(with_z(data.z[:, 0]), "z has shape (120,)", "(n, c)")
    refused(with_z(data.z[1:]), "120 rows", "z has shape (119, 1)")
    refused(with_z(hole), "NaN", "row 7, column 0 of z")
    for z, words in (
        (np.c_[data.z, np.ones(N)], ("constant", "column 1 of z")),
        (np.c_[data.z, 2.0 * data.z + 1.0], ("dependent", "column 1 of z follows")),
    ):
        assert all(word in explained(z) for word in words)
    found = explained(data.z, np.repeat(np.arange(N // 2), 2))
    assert "different covariates z" in found and "row 1 of z, 60 in all" in found
    refused(lambda: emjax.fit(Mixture(Gaussian("V"), 2), data, 0), "Constant weights", "z")
    refused(lambda: GatedWeights(intercept="no"), "intercept")  # type: ignore[arg-type]
    refused(lambda: GatedWeights(intercept=False).check(Data(data.y, z=np.zeros((N, 0)))), "column of z")
    refused(lambda: emjax.fit(MODEL, data, 0, fixed={"gating": np.full((2, 2), np.inf)}), "gating")
    refused(lambda: emjax.fit(MODEL, data, 0, prior={"weights": emjax.Dirichlet(2.0)}), "weights", "family")
    fitted = emjax.fit(MODEL, data, 0, **TIGHT)
    refused(lambda: fitted.predict(data._replace(z=np.c_[data.z, data.z])), "z")
    refused(lambda: fitted.predict(data._replace(z=hole)), "row 7, column 0 of z")


def test_a_bad_dataset_harms_no_other() -> None:
    data = overlapping()
    hole = np.array(data.z)
    hole[7] = np.inf
    batch = Data(np.stack([data.y] * 3), z=np.stack([data.z, hole, np.ones((N, 1))]))
    fits = emjax.fit_many(MODEL, batch, 0, restarts=4, ids=[0, "b", "c"])
    assert fits.status.tolist() == [Status.CONVERGED, Status.INVALID_DATA, Status.INVALID_DATA]
    assert fits.problems.tolist() == [0, Problem.COVARIATE_NOT_FINITE, Problem.CONSTANT_COVARIATE]
    alone = emjax.fit(MODEL, data, 0, restarts=4)
    assert alone.objective == fits.objective[0]


@pytest.mark.long
def test_rows_of_weight_zero_may_hold_anything_and_rows_without_y_change_nothing() -> None:
    data = overlapping()
    z, weight = np.array(data.z), np.ones(N)
    z[5], weight[5] = np.nan, 0.0
    found = emjax.fit(MODEL, data._replace(z=z, weight=weight), 0, **TIGHT)
    keep = np.arange(N) != 5
    fewer = Data(data.y[keep], z=data.z[keep])
    unobserved = emjax.fit(MODEL, data._replace(observed=keep), 0, **TIGHT)
    for other in (emjax.fit(MODEL, fewer, 0, **TIGHT), unobserved):
        assert found.log_likelihood == pytest.approx(other.log_likelihood, abs=1e-9)


@pytest.mark.long
def test_units_have_one_gate_and_share_their_labels() -> None:
    data = overlapping(1.0)
    unit = np.repeat(np.arange(N // 4), 4)
    data = data._replace(z=data.z[4 * unit], unit=unit)
    found = emjax.fit(MODEL, data, 0, **TIGHT)
    problem = gaussian_problem(data.y[:, None], np.ones(N // 4), unit, "full")
    oracle = GatedProblem(problem, np.column_stack([np.ones(N // 4), data.z[::4]])).e_step(found.params)
    assert found.log_likelihood == pytest.approx(oracle.log_likelihood, abs=1e-9)
    prediction = found.predict()
    np.testing.assert_allclose(prediction.responsibilities, oracle.responsibilities[:, unit].T, atol=1e-9)
    assert np.all(np.ptp(prediction.labels.reshape(-1, 4), axis=1) == 0)


def test_saving_and_loading(tmp_path: Any) -> None:
    found = emjax.fit(MODEL, overlapping(), 0, **TIGHT)
    found.save(tmp_path / "fit.npz")
    again = emjax.load(tmp_path / "fit.npz")
    assert again.model == MODEL and again.log_likelihood == found.log_likelihood

"""Families by log density: closed-form families and direct maximisation are reached; bad input; saving."""

from functools import partial
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize, special, stats

import emjax
from emjax import Data, Mixture, Status, from_log_density
from tests.references import gaussian_cases
from tests.refusals import refused
from tests.rows import log_density as weibull_rows

pytestmark = pytest.mark.long  # compiling takes most of a test command of ten minutes

REFERENCE = next(case for case in gaussian_cases() if case.name == "gmm_faithful_waiting-K2-V")
COAL = np.loadtxt(Path(__file__).parent / "references" / "pos_coal_intervals.csv", delimiter=",", skiprows=1)
STOP = emjax.Stop(tol=1e-8)


def normal(params: Any, row: Data) -> Any:
    z = (row.y - params["mean"]) * jnp.exp(-params["log_scale"])
    return -0.5 * np.log(2.0 * np.pi) - params["log_scale"] - 0.5 * z * z


def normal_start(data: Data) -> Any:
    share = data.weight / jnp.sum(data.weight)
    mean = jnp.sum(share * data.y)
    return {"mean": mean, "log_scale": 0.5 * jnp.log(jnp.sum(share * (data.y - mean) ** 2))}


def exponential(log_mean: Any, row: Data) -> Any:
    return -log_mean - row.y * jnp.exp(-log_mean)


def exponential_start(data: Data) -> Any:
    return jnp.log(jnp.mean(data.y))  # of all rows whatever their weight: the steps must do the rest


def line(params: Any, row: Data) -> Any:
    z = (row.y - params["intercept"] - params["slopes"] @ row.x) * jnp.exp(-params["log_scale"])
    return -0.5 * np.log(2.0 * np.pi) - params["log_scale"] - 0.5 * z * z


def line_start(data: Data) -> Any:
    found = normal_start(data)
    return {"intercept": found["mean"], "slopes": jnp.zeros(data.x.shape[1]), "log_scale": found["log_scale"]}


NORMAL = from_log_density(normal, normal_start)


@pytest.mark.parametrize("unit", [1.0, pytest.param(1e3, marks=pytest.mark.long)])
def test_a_gaussian_by_its_log_density_reaches_the_reference(unit: float) -> None:
    y = REFERENCE.y[:, 0]
    fit = emjax.fit(Mixture(NORMAL, 2), Data(unit * y), 1, restarts=8, stop=STOP)
    assert fit.status == Status.CONVERGED
    assert fit.n_free == REFERENCE.n_free
    assert fit.log_likelihood + len(y) * np.log(unit) == pytest.approx(REFERENCE.log_likelihood, abs=1e-6)
    np.testing.assert_allclose(np.sort(fit.params.family["mean"]), unit * np.sort(REFERENCE.means[:, 0]), rtol=1e-4)
    # Every start strategy gives starts of its own, and all of them end there.
    assert len(np.unique(fit.restarts.iterations)) > 1
    assert np.all(np.abs(fit.restarts.objective - fit.objective) < 1e-5)


@pytest.mark.long
@pytest.mark.parametrize(
    ("k", "log_likelihood"), [(1, -1203.65016343753), (2, -1191.2017199326), (3, -1190.51279606477)]
)
def test_exponentials_by_their_log_density_reach_the_reference(k: int, log_likelihood: float) -> None:
    model = Mixture(from_log_density(exponential, exponential_start), k)
    fit = emjax.fit(model, Data(COAL), 1, stop=STOP)
    assert fit.status == Status.CONVERGED
    assert fit.log_likelihood == pytest.approx(log_likelihood, abs=1e-6)


@pytest.mark.long
def test_a_regression_by_its_log_density_is_linear_regression() -> None:
    rng = np.random.default_rng(2)
    x = rng.normal(size=(150, 2))
    y = np.where(rng.random(150) < 0.5, 2.0 + x @ [1.0, 2.0], -2.0 - x @ [1.0, 0.5]) + 0.7 * rng.normal(size=150)
    models = Mixture(from_log_density(line, line_start), 2), Mixture(emjax.LinearRegression(), 2)
    mine, wanted = (emjax.fit(model, Data(y, x), 1, stop=STOP) for model in models)
    assert mine.status == Status.CONVERGED and mine.n_free == wanted.n_free
    assert mine.log_likelihood == pytest.approx(wanted.log_likelihood, abs=1e-6)


def weibull_by_scipy(y: np.ndarray, near: Any) -> float:
    """The log-likelihood that direct maximisation of a two-component mixture reaches from the truth."""

    def negative(free: np.ndarray) -> float:
        shape, scale = np.exp(free[1:3]), np.exp(free[3:5])
        parts = stats.weibull_min.logpdf(y[None, :], shape[:, None], scale=scale[:, None])
        log_weights = -np.logaddexp(0.0, [-free[0], free[0]])
        return -float(np.sum(special.logsumexp(log_weights[:, None] + parts, axis=0)))

    weights, family = near.latent.weights, near.family
    start = np.r_[np.log(weights[0] / weights[1]), family["log_shape"], family["log_scale"]]
    found = optimize.minimize(negative, start, method="BFGS", options={"gtol": 1e-9})
    found = optimize.minimize(negative, found.x, method="Nelder-Mead", options={"xatol": 1e-10, "fatol": 1e-12})
    return -found.fun


def test_a_weibull_mixture_is_where_direct_maximisation_ends() -> None:
    case = weibull_rows.CASES[0]
    fit = emjax.fit(case.model, case.data, 1, restarts=8, stop=STOP)
    assert fit.status == Status.CONVERGED
    assert fit.log_likelihood == pytest.approx(weibull_by_scipy(case.data.y, case.near), abs=1e-6)


def test_responsibilities_change_starts() -> None:
    """Whatever the user's values: they look at no weight here."""
    family = from_log_density(exponential, exponential_start)
    y = np.r_[np.ones(40), 9.0 * np.ones(40)].astype(np.float32)
    prepared, problem = family.prepare(Data(y, weight=np.ones(80, np.float32)), 2, None, None)
    resp = jnp.asarray(np.stack([y == 1, y == 9]), jnp.float32)
    found = np.exp(np.asarray(family.initial(prepared, resp, resp)))
    assert problem == 0
    # The weighted means, all rows counting for half.
    np.testing.assert_allclose(found, [0.5 * 1 + 0.5 * 5, 0.5 * 9 + 0.5 * 5], rtol=1e-3)


def test_bad_input() -> None:
    y = COAL[:40]
    refused(partial(from_log_density, 3, normal_start), "log_density", "function")
    refused(partial(from_log_density, normal, {"mean": 0.0}), "initial", "function")
    refused(partial(from_log_density, normal, normal_start, sample=3), "sample")
    for steps in (0, 1.5, True):
        refused(partial(from_log_density, normal, normal_start, steps=steps), "steps")
    fit = partial(emjax.fit, data=Data(y), key=1, restarts=2)
    refused(
        partial(fit, Mixture(from_log_density(lambda p, row: p["mean"] * jnp.ones(2), normal_start), 2)), "one number"
    )
    refused(partial(fit, Mixture(from_log_density(normal, lambda data: {}), 2)), "initial")
    refused(partial(fit, Mixture(NORMAL, 2), prior={"family": emjax.Dirichlet(2.0)}), "prior")
    refused(partial(fit, Mixture(NORMAL, 2), fixed={"mean": np.zeros(2)}), "fixed")
    bad = y.copy()
    bad[3] = np.nan
    refused(partial(fit, Mixture(NORMAL, 2), data=Data(bad)), "row 3 of y")


@pytest.mark.long
def test_a_component_of_fewer_rows_than_parameters_is_degenerate() -> None:
    """The likelihood of Gaussians with scales of their own is unbounded: one of them at a single row."""
    y = np.r_[np.linspace(-1.0, 1.0, 30), 50.0]
    start = emjax.MixtureParams(
        emjax.WeightsParams(np.array([0.97, 0.03])), {"mean": np.array([0.0, 50.0]), "log_scale": np.array([0.0, -1.0])}
    )
    fit = emjax.fit(Mixture(NORMAL, 2), Data(y), 1, start=start)
    assert fit.status == Status.DEGENERATE


def test_saving_needs_registered_functions(tmp_path: Any) -> None:
    fit = emjax.fit(Mixture(NORMAL, 1), Data(COAL / 100.0), 1, restarts=1)
    refused(partial(fit.save, tmp_path / "fit.npz"), "the function normal", "register")
    emjax.register(normal)
    emjax.register(normal_start)
    fit.save(tmp_path / "fit.npz")
    again = emjax.load(tmp_path / "fit.npz")
    assert again.model == fit.model
    np.testing.assert_array_equal(again.params.family["mean"], fit.params.family["mean"])

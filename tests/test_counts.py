"""Poisson and binomial families: special cases that agree, ends at the edge of the space, bad input, settings."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import emjax
from emjax import (
    BetaPrior,
    Binomial,
    BinomialParams,
    BinomialRegression,
    BinomialRegressionParams,
    Data,
    Flag,
    GammaPrior,
    LinearRegression,
    LinearRegressionParams,
    Mixture,
    NegativeBinomialRegression,
    Poisson,
    PoissonParams,
    PoissonRegression,
    PoissonRegressionParams,
    Problem,
    Status,
)
from emjax.base import counts
from tests import lanes
from tests.battery import CLOSE, SAME, close
from tests.refusals import refused
from tests.rows.common import mixture
from tests.test_special_cases import one_step

pytestmark = pytest.mark.long  # compiling takes most of a test command of ten minutes

RNG = np.random.default_rng(3)
N = 40
X = np.column_stack([RNG.uniform(0.0, 10.0, N), RNG.normal(5.0, 3.0, N)])
Y = RNG.poisson(np.where(RNG.random(N) < 0.5, 2.0, 9.0)).astype(float)
TRIALS = RNG.integers(4, 12, N).astype(float)
WON = RNG.binomial(TRIALS.astype(int), np.where(RNG.random(N) < 0.5, 0.2, 0.7)).astype(float)
OFFSET = RNG.normal(0.0, 0.3, N)


def logit(p: Any) -> np.ndarray:
    return np.log(p) - np.log1p(-np.asarray(p))


# --- special cases --------------------------------------------------------------------------------------------------


def test_poisson_regression_without_covariates_is_poisson() -> None:
    rates = np.array([2.0, 8.0])
    data = Data(Y, offset=OFFSET, weight=np.ones(N))
    plain = one_step(Mixture(Poisson(), 2), data, mixture([0.4, 0.6], PoissonParams(rates)))
    start = mixture([0.4, 0.6], PoissonRegressionParams(np.log(rates)[:, None]))
    newton = one_step(Mixture(PoissonRegression(), 2), data, start)
    close(newton.log_likelihood, plain.log_likelihood, SAME, "log-likelihood")
    # Newton's step in log rate towards the closed one: rate (1 + (target - rate) / rate), in the exponent.
    step = plain.after.family.rates / rates - 1.0
    close(newton.after.family.coefficients[:, 0], np.log(rates) + step, CLOSE, "M-step")


def test_binomial_regression_without_covariates_is_binomial() -> None:
    p = np.array([0.25, 0.6])
    data = Data(WON, trials=TRIALS, weight=np.ones(N))
    plain = one_step(Mixture(Binomial(), 2), data, mixture([0.4, 0.6], BinomialParams(p)))
    start = mixture([0.4, 0.6], BinomialRegressionParams(logit(p)[:, None]))
    newton = one_step(Mixture(BinomialRegression(), 2), data, start)
    close(newton.log_likelihood, plain.log_likelihood, SAME, "log-likelihood")
    step = (plain.after.family.probabilities - p) / (p * (1.0 - p))
    close(newton.after.family.coefficients[:, 0], logit(p) + step, CLOSE, "M-step")


@pytest.mark.parametrize("shared", ["slopes", "intercept", (0, 2)])
@pytest.mark.parametrize("family", [PoissonRegression, BinomialRegression, LinearRegression])
def test_shared_with_one_component_is_unshared(family: Any, shared: Any) -> None:
    coefficients = np.array([[0.5, 0.05, 0.02]])
    params = {
        PoissonRegression: PoissonRegressionParams(coefficients),
        BinomialRegression: BinomialRegressionParams(coefficients),
        LinearRegression: LinearRegressionParams(coefficients, np.array([2.0])),
    }[family]
    data = Data(WON, X, trials=TRIALS if family is BinomialRegression else None, weight=np.ones(N))
    found, wanted = (
        one_step(Mixture(model, 1), data, mixture([1.0], params)) for model in (family(shared=shared), family())
    )
    close(found, wanted, CLOSE, "shared")


def test_the_densities_are_scipys() -> None:
    eta = np.array([[-3.0], [0.5], [4.0]])
    y = np.array([0.0, 1.0, 7.0, 31.0, 32.0, 500.0])
    with jax.enable_x64(True):
        data = Data(jnp.asarray(y), weight=jnp.ones(6, bool))
        rows, _ = counts.poisson_rows(data, jnp.ones(6, bool))
        found = counts.poisson_log_prob(rows, jnp.asarray(np.broadcast_to(eta, (3, 6))))
        np.testing.assert_allclose(found, stats.poisson.logpmf(y, np.exp(eta)), rtol=1e-12)
        data = data._replace(trials=jnp.full(6, 600.0))
        binomial, _ = counts.binomial_rows(data, jnp.ones(6, bool))
        found = counts.binomial_log_prob(binomial, jnp.asarray(np.broadcast_to(eta, (3, 6))))
        np.testing.assert_allclose(found, stats.binom.logpmf(y, 600, 1 / (1 + np.exp(-eta))), rtol=1e-11)


def test_large_counts_in_float32_keep_their_density() -> None:
    y, mean = np.float32(2.0**20 + 512.0), 2.0**20
    rows, _ = counts.poisson_rows(Data(jnp.full(1, y)), jnp.ones(1, bool))
    eta = jnp.full((1, 1), np.log(mean), jnp.float32)
    found = float(counts.poisson_log_prob(rows, eta)[0, 0])
    wanted = stats.poisson.logpmf(y, np.exp(np.float64(eta[0, 0])))
    # The direct formula has terms of 1e7, which float32 holds to 1 nat.
    assert found == pytest.approx(wanted, abs=2e-3)


# --- the edge of the space ------------------------------------------------------------------------------------------


def fit(family: Any, data: Data, components: int = 1, **settings: Any) -> emjax.Fit:
    return emjax.fit(Mixture(family, components), data, 0, restarts=settings.pop("restarts", 2), **settings)


@pytest.mark.parametrize("quasi", [False, True])
def test_separation_ends_finite_and_flagged(quasi: bool) -> None:
    y = (X[:, 0] > 5.0).astype(float)
    x = X[:, :1]
    if quasi:  # one covariate's level has successes alone, the other both
        x = (np.arange(N) % 2).astype(float)[:, None]
        y = np.where(x[:, 0] == 1, 1.0, np.arange(N) % 3 == 0).astype(float)
    found = fit(BinomialRegression(), Data(y, x))
    assert found.status in (Status.CONVERGED, Status.MAX_ITERATIONS)
    assert found.flags & Flag.BOUNDARY
    assert np.all(np.isfinite(found.params.family.coefficients))
    best = 0.0 if not quasi else np.sum(stats.bernoulli.logpmf(y[x[:, 0] == 0], np.mean(y[x[:, 0] == 0])))
    assert found.log_likelihood == pytest.approx(best, abs=1e-5)


@pytest.mark.long
def test_no_events_at_all_end_at_the_edge() -> None:
    for family in (Poisson(), PoissonRegression(), NegativeBinomialRegression()):
        found = fit(family, Data(np.zeros(N)))
        assert found.status == Status.CONVERGED
        assert found.flags & Flag.BOUNDARY
        assert found.log_likelihood == pytest.approx(0.0, abs=1e-5)
        assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(found.params))


@pytest.mark.long
def test_ordinary_fits_are_not_at_the_edge() -> None:
    spread = Data(np.random.default_rng(1).negative_binomial(2, 0.2, N).astype(float))
    for family, data in (
        (Poisson(), Data(Y)), (PoissonRegression(), Data(Y)), (Binomial(), Data(WON, trials=TRIALS)),
        (NegativeBinomialRegression(), spread),
    ):  # fmt: skip
        assert not fit(family, data).flags & Flag.BOUNDARY


def test_zero_inflation_is_a_rate_of_zero() -> None:
    y = np.concatenate([np.zeros(30), np.random.default_rng(0).poisson(8.0, 60)])
    found = fit(Poisson(), Data(y), 2, restarts=8)
    assert found.status == Status.CONVERGED
    assert found.flags & Flag.BOUNDARY
    assert np.min(found.params.family.rates) < 1e-7
    assert found.n_free == 3


@pytest.mark.long
def test_probabilities_of_zero_and_one() -> None:
    y = np.array([0.0] * 10 + [8.0] * 12)
    found = fit(Binomial(), Data(y, trials=np.full(22, 8.0)), 2, restarts=8)
    assert found.status == Status.CONVERGED
    assert found.flags & Flag.BOUNDARY
    wanted = 10 * np.log(10 / 22) + 12 * np.log(12 / 22)
    assert found.log_likelihood == pytest.approx(wanted, abs=1e-6)
    np.testing.assert_allclose(np.sort(found.params.family.probabilities), [0.0, 1.0], rtol=0, atol=1e-7)


# --- priors and fixed blocks ----------------------------------------------------------------------------------------


def test_the_default_gamma_prior_has_the_mean_of_the_data() -> None:
    data = Data(Y, offset=OFFSET, weight=np.ones(N))
    start = mixture([1.0], PoissonParams(np.ones(1)))
    rate = 2.0 * np.sum(np.exp(OFFSET)) / np.sum(Y)
    found, wanted = (
        one_step(Mixture(Poisson(), 1), data, start, prior={"family": prior})
        for prior in (GammaPrior(), GammaPrior(2.0, rate))
    )
    close(found, wanted, CLOSE, "default")
    mode = (np.sum(Y) + 1.0) / (np.sum(np.exp(OFFSET)) + rate)
    close(found.after.family.rates, np.array([mode]), CLOSE, "mode")


def test_the_mode_under_a_beta_prior() -> None:
    data = Data(WON, trials=TRIALS, weight=np.ones(N))
    start = mixture([1.0], BinomialParams(np.full(1, 0.5)))
    found = one_step(Mixture(Binomial(), 1), data, start, prior={"family": BetaPrior(3.0, 2.0)})
    mode = (np.sum(WON) + 2.0) / (np.sum(TRIALS) + 3.0)
    close(found.after.family.probabilities, np.array([mode]), CLOSE, "mode")
    wanted = np.sum(stats.binom.logpmf(WON, TRIALS, 0.5)) + stats.beta.logpdf(0.5, 3.0, 2.0)
    close(found.objective, wanted, CLOSE, "objective")


@pytest.mark.parametrize("shared", ["slopes", "intercept", (1,)])
def test_free_coordinates_belong_to_the_components_they_move(shared: Any) -> None:
    family = PoissonRegression(shared=shared)
    with jax.enable_x64(True):
        data = jax.tree.map(jnp.asarray, Data(Y, X, weight=np.ones(N)))
        prepared, _ = family.prepare(data, 2, None, None)
        free = 0.1 * jnp.arange(1.0, family.n_free(prepared, 2) + 1.0)
        before = family.log_prob(family.from_free(free, prepared, 2), prepared)
        owners = family.component_of_free(prepared, 2)
        assert len(owners) == len(free) == {"slopes": 4, "intercept": 5}.get(shared, 5)
        for place, owner in enumerate(owners):
            after = family.log_prob(family.from_free(free.at[place].add(0.1), prepared, 2), prepared)
            moved = set(np.flatnonzero(np.any(np.asarray(after != before), axis=1)))
            assert moved == ({0, 1} if owner < 0 else {owner})
        user = family.to_user(family.from_free(free, prepared, 2), prepared).coefficients
        columns = {"slopes": [1, 2], "intercept": [0]}.get(shared, [1])
        equal = np.max(np.abs(np.asarray(user[0] - user[1])), axis=None, initial=0.0, where=np.isin(range(3), columns))
        assert equal < 1e-14


# --- bad input ------------------------------------------------------------------------------------------------------


def put(values: np.ndarray, index: Any, value: float) -> np.ndarray:
    changed = values.copy()
    changed[index] = value
    return changed


BAD = {
    "negative": (Poisson(), {"y": put(Y, 4, -1.0)}, ("count", "row 4 of y: -1")),
    "not whole": (PoissonRegression(), {"y": put(Y, 5, 2.5), "x": X}, ("count", "row 5 of y: 2.5")),
    "nan": (Poisson(), {"y": put(Y, 5, np.nan)}, ("row 5 of y",)),
    "nan offset": (Poisson(), {"y": Y, "offset": put(OFFSET, 3, np.nan)}, ("row 3 of offset",)),
    "nan offset of a regression": (PoissonRegression(), {"y": Y, "x": X, "offset": put(OFFSET, 3, np.nan)},
                                   ("row 3 of offset",)),
    "above trials": (Binomial(), {"y": put(WON, 6, 99.0), "trials": TRIALS}, ("trials", "row 6 of y: 99")),
    "no trials": (BinomialRegression(), {"y": WON, "trials": put(TRIALS, 2, 0.0), "x": X}, ("row 2 of trials: 0",)),
    "trials not whole": (Binomial(), {"y": WON, "trials": put(TRIALS, 2, 20.5)}, ("row 2 of trials: 20.5",)),
    "more than one": (Binomial(), {"y": put(WON * 0, 7, 2.0)}, ("row 7 of y: 2",)),
    "constant": (PoissonRegression(), {"y": Y, "x": np.c_[X, 3 * np.ones(N)]}, ("constant", "column 2 of x")),
    "constant, shared": (PoissonRegression(shared="intercept"), {"y": Y, "x": np.c_[X, 3 * np.ones(N)]},
                         ("constant", "column 2 of x")),
    "collinear": (BinomialRegression(), {"y": WON, "trials": TRIALS, "x": np.c_[X, X[:, 0] - X[:, 1]]},
                  ("column 2 of x follows",)),
    "covariates": (Poisson(), {"y": Y, "x": X}, ("no x", "PoissonRegression")),
    "trials of a Poisson": (PoissonRegression(), {"y": Y, "trials": TRIALS}, ("no trials", "BinomialRegression")),
    "offset of a binomial": (Binomial(), {"y": WON, "trials": TRIALS, "offset": OFFSET},
                             ("no offset", "BinomialRegression")),
    "z": (PoissonRegression(), {"y": Y, "z": X}, ("z",)),
    "two responses": (Poisson(), {"y": np.c_[Y, Y]}, ("one response",)),
    "no columns": (PoissonRegression(intercept=False), {"y": Y}, ("needs covariates",)),
    "all shared": (PoissonRegression(shared=(0, 1, 2)), {"y": Y, "x": X}, ("every coefficient",)),
    "no such column": (PoissonRegression(shared=(3,)), {"y": Y, "x": X}, ("columns 0 to 2",)),
}  # fmt: skip


QUICK = ("not whole", "nan offset of a regression", "above trials", "constant, shared")
ON_THE_HOST = ("covariates", "trials of a Poisson", "offset of a binomial", "z", "two responses", "no columns",
               "all shared", "no such column")  # fmt: skip


@pytest.mark.parametrize(
    "name", [n if n in QUICK + ON_THE_HOST else pytest.param(n, marks=pytest.mark.long) for n in BAD]
)
def test_bad_data(name: str) -> None:
    family, fields, words = BAD[name]
    refused(lambda: fit(family, Data(**fields), 2), *words)


def test_bad_settings() -> None:
    data = Data(Y, X)
    refused(lambda: PoissonRegression(intercept=1), "intercept")  # type: ignore[arg-type]
    refused(lambda: PoissonRegression(shared="slope"), "slopes")
    refused(lambda: LinearRegression(shared=(-1,)), "shared")
    refused(lambda: BinomialRegression(intercept=False, shared="intercept"), "no intercept")
    refused(lambda: fit(LinearRegression(scale="common", shared=(0, 1, 2)), data), "every coefficient")
    refused(lambda: fit(PoissonRegression(), data, prior={"family": GammaPrior()}), "conjugate")
    refused(lambda: fit(LinearRegression(shared="slopes"), data, prior={"family": emjax.NormalInverseGamma()}), "prior")
    refused(lambda: fit(Poisson(), Data(Y), prior={"family": GammaPrior(0.5)}), "shape")
    refused(lambda: fit(Binomial(), Data(WON, trials=TRIALS), prior={"family": BetaPrior(0.5)}), "alpha")
    refused(lambda: fit(Poisson(), Data(Y), prior={"family": BetaPrior()}), "prior")
    refused(lambda: fit(Poisson(), Data(Y), 2, fixed={"rates": [1.0, -2.0]}), "rates")
    refused(lambda: fit(Binomial(), Data(WON, trials=TRIALS), 1, fixed={"probabilities": [1.5]}), "probabilities")
    start = mixture([0.5, 0.5], PoissonRegressionParams(np.array([[0.0, 1.0, 2.0], [0.0, 1.0, 3.0]])))
    refused(lambda: fit(PoissonRegression(shared="slopes"), data, 2, start=start), "start", "equal")


@lanes.in_float64
def test_each_problem_has_its_bit() -> None:
    def problem(family: Any, **fields: Any) -> Problem:
        data = jax.tree.map(jnp.asarray, Data(**fields, weight=np.ones(N)))
        return Problem(int(Mixture(family, 1).prepare(data)[1]))

    for family in (Poisson(), PoissonRegression()):
        assert problem(family, y=put(Y, 1, -2.0)) == Problem.NOT_A_COUNT
        assert problem(family, y=Y, offset=put(OFFSET, 1, np.inf)) == Problem.RESPONSE_NOT_FINITE
        assert problem(family, y=Y) == Problem.NONE
    for family in (Binomial(), BinomialRegression()):
        assert problem(family, y=put(WON, 1, 0.5), trials=TRIALS) == Problem.NOT_A_COUNT
        assert problem(family, y=WON, trials=put(TRIALS, 1, -3.0)) == Problem.ABOVE_TRIALS
        assert problem(family, y=put(WON, 1, 40.0), trials=TRIALS) == Problem.ABOVE_TRIALS
        assert problem(family, y=WON, trials=TRIALS) == Problem.NONE

"""Independent families: special cases, names, what each member gets, bad input."""

from functools import partial
from typing import Any

import jax
import numpy as np
import pytest

import emjax
from emjax import Categorical, Data, Gaussian, Independent, LinearRegression, Mixture, Status
from tests.refusals import refused

pytestmark = pytest.mark.long  # compiling takes most of a test command of ten minutes

RNG = np.random.default_rng(5)
N = 96
LABELS = RNG.integers(0, 2, N)
NORMAL = RNG.normal(size=(N, 2)) + 2.5 * LABELS[:, None]
LEVELS = np.column_stack([(RNG.random(N) < np.where(LABELS, 0.8, 0.2)), RNG.integers(0, 3, N)]).astype(float)
X = RNG.normal(size=(N, 1))
LINE = np.where(LABELS, 1.0, -1.0) * X[:, 0] + 0.3 * RNG.normal(size=N)
MIXED = Independent([Gaussian("diagonal"), Categorical((2, 3)), LinearRegression()], [2, 2, 1])
MODEL = Mixture(MIXED, 2)
DATA = Data(np.column_stack([NORMAL, LEVELS, LINE]), X)


def same(one: Any, other: Any) -> None:
    assert one.status == other.status == Status.CONVERGED
    assert one.n_free == other.n_free
    assert one.log_likelihood == pytest.approx(other.log_likelihood, abs=1e-6)


PAIRS = {
    "two lines are a diagonal Gaussian": (Independent([Gaussian(), Gaussian()]), Gaussian("diagonal"), NORMAL),
    "two items are one family of items": (Independent([Categorical(2), Categorical(3)]), Categorical((2, 3)), LEVELS),
    "one member is that family": (Independent([Gaussian("diagonal")], [2]), Gaussian("diagonal"), NORMAL),
    "one column": (Independent([Gaussian()]), Gaussian(), NORMAL[:, 0]),
}


QUICK = "two items are one family of items"


@pytest.mark.parametrize("name", [n if n == QUICK else pytest.param(n, marks=pytest.mark.long) for n in PAIRS])
def test_special_cases(name: str) -> None:
    family, plain, y = PAIRS[name]
    one, other = (emjax.fit(Mixture(f, 2), Data(y), 1, restarts=4) for f in (family, plain))
    same(one, other)
    np.testing.assert_allclose(np.sort(one.params.latent.weights), np.sort(other.params.latent.weights), atol=1e-4)


def test_names_of_blocks_and_priors() -> None:
    free = emjax.fit(MODEL, DATA, 1, restarts=4)
    assert free.status == Status.CONVERGED and free.n_free == 1 + 2 * (4 + 3 + 3)
    means = np.array([[0.0, 0.0], [2.5, 2.5]])
    fixed = emjax.fit(MODEL, DATA, 1, restarts=4, fixed={"0.means": means})
    np.testing.assert_allclose(fixed.params.family.members[0].means, means, atol=1e-12)
    assert fixed.n_free == free.n_free - 4
    pulled = emjax.fit(MODEL, DATA, 1, restarts=4, prior={"1": emjax.Dirichlet(30.0)})
    away = [np.abs(f.params.family.members[1].probabilities[:, 0, 0] - 0.5).max() for f in (free, pulled)]
    assert away[1] < 0.7 * away[0]
    fit = partial(emjax.fit, MODEL, DATA, 1, restarts=2)
    refused(partial(fit, fixed={"0.means": np.zeros(2)}), "0.means", "(2, 2)")
    refused(partial(fit, fixed={"means": means}), "0.means")
    refused(partial(fit, fixed={"2.scale": np.array([-1.0, 1.0])}), "scale")
    refused(partial(fit, prior={"family": emjax.Dirichlet(2.0)}), "family")
    refused(partial(fit, prior={"0": emjax.Dirichlet(2.0)}), "prior")


def test_a_missing_cell_leaves_the_others_as_they_are() -> None:
    """And where a member allows none, it is an error."""
    y = np.array(DATA.y)
    y[7, 2] = np.nan
    fit = emjax.fit(MODEL, Data(y, X), 1, restarts=4)
    assert fit.status == Status.CONVERGED
    assert np.all(np.isfinite(fit.predict().responsibilities))
    y[9, 1] = np.nan
    refused(partial(emjax.fit, MODEL, Data(y, X), 1, restarts=2), "NaN")


def test_culprits_and_bad_input() -> None:
    y = np.array(DATA.y)
    y[4, 3] = 3.0
    refused(partial(emjax.fit, MODEL, Data(y, X), 1, restarts=2), "family 1", "row 4, column 3", "3 of 3 levels")
    refused(partial(emjax.fit, MODEL, Data(y[:, :4], X), 1, restarts=2), "(n, 5)", "columns=(2, 2, 1)")
    refused(partial(emjax.fit, MODEL, DATA._replace(trials=np.ones(N)), 1, restarts=2), "trials")
    plain = Mixture(Independent([Gaussian(), Gaussian()]), 2)
    refused(partial(emjax.fit, plain, Data(NORMAL, X), 1, restarts=2), "use for x")
    only_x = Mixture(Independent([Gaussian(), LinearRegression(intercept=False)]), 2)
    refused(partial(emjax.fit, only_x, Data(NORMAL), 1, restarts=2), "family 1", "covariates")
    for families in ((), "ab", [Gaussian], [3], Gaussian()):
        refused(partial(Independent, families), "Independent")
    for columns in ([1], [1, 0], [1, 1.5], 2, [1, True]):
        refused(partial(Independent, [Gaussian(), Gaussian()], columns), "columns")
    assert Independent([Categorical((2, 3)), Gaussian()]).columns == (2, 1)
    assert Independent([Gaussian()], [2]) == Independent((Gaussian(),), (2,))


def test_a_saved_fit_is_the_same(tmp_path: Any) -> None:
    fit = emjax.fit(MODEL, DATA, 1, restarts=2)
    fit.save(tmp_path / "fit.npz")
    again = emjax.load(tmp_path / "fit.npz")
    assert again.model == fit.model
    jax.tree.map(np.testing.assert_array_equal, again.params, fit.params)

"""Negative binomial counts of any size: their log-likelihood is a small difference of large terms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import emjax
from emjax import Data, Mixture, NegativeBinomial, Status
from emjax.base import overdispersion
from tests.lanes import in_float64

# y, size, mean, and R 4.2.2's dnbinom(y, size = size, mu = mean, log = TRUE), which takes deviances as well.
R = np.array([
    (8, 2.3, 5, -2.9606670753327373),
    (9, 1e-3, 100, -9.1138656975033321),
    (1000, 0.5, 1100, -8.3291433032282374),
    (1014969, 2.293, 1e6, -14.370755321842235),
    (3e6, 2.0, 1e6, -17.330601574846998),
    (1e8, 3.7, 1.1e8, -18.724205684758751),
    (123456789, 1e9, 123450000, -10.459005150784591),
    (8, 7.5, 8, -2.3377680317233107),
    (1e6, 1e5, 1.001e6, -9.0710390458179333),
])  # fmt: skip


@in_float64
def log_density(y: np.ndarray, size: np.ndarray, mean: np.ndarray) -> np.ndarray:
    def one(y: jax.Array, size: jax.Array, mean: jax.Array) -> jax.Array:
        rows = overdispersion.Counts(y[None], jax.lax.lgamma(y + 1.0)[None], None, None)
        return overdispersion.log_density(jnp.log(mean)[None, None], size[None], rows)[0, 0]

    return np.asarray(jax.vmap(one)(*(jnp.asarray(value, float) for value in (y, size, mean))))


def test_log_densities_are_rs() -> None:
    y, size, mean, wanted = R.T
    np.testing.assert_allclose(log_density(y, size, mean), wanted, rtol=1e-12)


def test_a_size_at_infinity_is_poisson() -> None:
    """Of relative order y / size, 1e-13, from it; far from the mean, where deviances are left, to the old rounding."""
    y, mean = np.array([25.0, 50.0, 8.0, 1e3, 40.0]), np.array([24.0, 48.0, 1.0, 900.0, 1e-9])
    found = log_density(y, np.full(5, 1e16), mean)
    np.testing.assert_allclose(found, stats.poisson.logpmf(y, mean), rtol=1e-11)


@pytest.mark.slow
def test_counts_of_a_million_converge() -> None:
    """They ended DECREASED by rounding of 4e-7 nats."""
    y = stats.nbinom.rvs(2, 2 / (2 + 1e6), size=200, random_state=1)
    fit = emjax.fit(Mixture(NegativeBinomial(), 1), Data(y), key=0, restarts=2)
    assert fit.status == Status.CONVERGED
    (mean,), (size,) = fit.params.family
    assert mean == pytest.approx(y.mean(), rel=1e-12)
    around = [log_density(y, np.full(200, size * (1 + step)), np.full(200, mean)).sum() for step in (-0.01, 0.0, 0.01)]
    assert fit.log_likelihood == pytest.approx(around[1], abs=1e-9) and max(around) == around[1]

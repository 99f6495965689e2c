"""DESIGN 5 (7): degeneracy is collapse, and scale-free."""

from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import emjax
from emjax import Data, Degeneracy, Flag, Gaussian, LinearRegression, Mixture, Status
from tests.oracle import gaussian, mixture
from tests.promises import LINES, SEED, D, N, lines, truth


def _flags(
    ratio: float, rows: float, scale: str = "component", pooled: float = 1.0, k: int = 2, **settings: Any
) -> Flag:
    """Flags of a regression with one covariate: scales 1 and `ratio`, rows 50 and `rows`."""
    params = emjax.LinearRegressionParams(jnp.zeros((k, 2)), jnp.array([1.0, ratio][-k:]))
    statistics = SimpleNamespace(total=jnp.array([50.0, rows][-k:]))
    prepared = SimpleNamespace(pooled_scale=jnp.float32(pooled))
    family = LinearRegression(scale=scale)  # type: ignore[arg-type]
    return Flag(int(family.flags(params, statistics, prepared, Degeneracy(**settings))))  # type: ignore[arg-type]


def test_the_rules_of_collapse() -> None:
    assert _flags(0.011, 50) == Flag.SUSPECT
    assert _flags(0.0099, 50) & Flag.DEGENERATE
    assert _flags(0.11, 50) == Flag.NONE
    assert _flags(0.0099, 50, min_scale_ratio=0.001) == Flag.SUSPECT
    # Two coefficients and one row more.
    assert _flags(1.0, 2.9) & Flag.DEGENERATE
    assert _flags(1.0, 3.1) == Flag.SUSPECT
    assert _flags(1.0, 3.1, min_rows=4) & Flag.DEGENERATE
    # Three times a component's three parameters.
    assert _flags(1.0, 8.9) == Flag.SUSPECT
    assert _flags(1.0, 9.1) == Flag.NONE
    # One component, or one scale: no rule.
    assert not _flags(1e-5, 1.0, k=1) & Flag.DEGENERATE
    assert not _flags(1.0, 0.1, scale="common") & Flag.DEGENERATE


def test_a_scale_of_rounding_is_a_collapse_whatever_the_rules() -> None:
    never = {"min_scale_ratio": 0.0, "min_rows": 0.0}
    eps = float(jnp.finfo(jnp.float32).eps)
    for k, scale in ((1, "component"), (2, "common"), (2, "component")):
        assert _flags(15.0 * eps, 50.0, scale, k=k, **never) & Flag.DEGENERATE
        assert not _flags(17.0 * eps, 50.0, scale, k=k, **never) & Flag.DEGENERATE


EXACT = np.random.default_rng(3).random(60) < 0.4  # which of two values, or of two lines, without any noise
SLOPES = np.random.default_rng(4).normal(size=(60, 1))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "k", "data"),
    [
        (LinearRegression(scale="common"), 2, Data(np.where(EXACT, 2 + 3 * SLOPES[:, 0], 1 - SLOPES[:, 0]), x=SLOPES)),
        (LinearRegression(), 1, Data(2 + 3 * SLOPES[:, 0], x=SLOPES)),
        (LinearRegression(), 2, Data(np.where(EXACT, 1.0, 0.0), x=SLOPES)),
        (emjax.Gamma(), 2, Data(np.where(EXACT, 1.0, 2.0))),
    ],
    ids=["common scale", "one line", "two values", "gammas"],
)  # fmt: skip
def test_data_without_noise_are_no_convergence(family: Any, k: int, data: Data) -> None:
    """All scales collapse together: their ratios say nothing. A saddle is what lies on the way."""
    fit = emjax.fit(Mixture(family, k), data, SEED, restarts=4)
    assert fit.status in (Status.DEGENERATE, Status.SADDLE)
    assert Status.DEGENERATE in fit.restarts.status


def test_the_references_interior_rule() -> None:
    interior = vars(Degeneracy.interior(2.0))
    assert _flags(0.019, 50, **interior) & Flag.DEGENERATE
    assert _flags(0.021, 50, **interior) == Flag.NONE
    assert _flags(0.03, 50, pooled=2.0, **interior) & Flag.DEGENERATE
    assert _flags(0.5, 1.9, **interior) & Flag.DEGENERATE


@pytest.mark.parametrize("form", ["full", "diagonal", "spherical"])
def test_gaussian_scales_are_square_roots_of_eigenvalues(form: str) -> None:
    family = Gaussian(form)
    angle = 0.7 if form == "full" else 0.0
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    for ratio, collapsed in ((0.0098, True), (0.0102, False)):
        small = np.array([ratio, 0.5]) if form != "spherical" else np.array([ratio, ratio])
        covariances = jnp.array(np.stack([np.eye(2), turn @ np.diag(small**2) @ turn.T]), jnp.float32)
        params = emjax.GaussianParams(jnp.zeros((2, 2)), covariances)
        prepared: Any = SimpleNamespace(deviation=jnp.ones(2))
        statistics: Any = SimpleNamespace(total=jnp.array([50.0, 50.0]))
        found = Flag(int(family.flags(params, statistics, prepared, Degeneracy())))
        assert bool(found & Flag.DEGENERATE) == collapsed


@cache
def copies() -> tuple[Data, Any]:
    """Two datasets where a component sits on ten copies of one row, two sound ones with three copies."""
    rng = np.random.default_rng(6)
    far = [np.concatenate([rng.normal(0, 1, N - 10), np.full(10, 6.0 + i)]) for i in range(2)]
    near = [np.concatenate([rng.normal(0, 1, 48), rng.normal(6, 1, 49), np.full(3, 0.2)]) for _ in range(2)]
    data = Data(np.stack([*far, *near]))
    return data, emjax.fit_many(Mixture(Gaussian("full"), 2), data, SEED, restarts=12)


@pytest.mark.slow
def test_copies_of_a_row_are_a_collapse() -> None:
    _, fits = copies()
    assert np.all(fits.status[:2] == Status.DEGENERATE)
    assert np.all(fits.restarts.status[:2] == Status.DEGENERATE)
    assert np.all(fits.status[2:] == Status.CONVERGED)
    assert "component collapsed" in fits.reasons[0]


def test_what_collapsed_is_still_a_covariance_of_its_log_likelihood(tmp_path: Path) -> None:
    data, fits = copies()
    assert np.all(fits.params.family.covariances > 0)
    for i, fit in enumerate(fits):
        values = gaussian.log_prob(gaussian.Params(*fit.params.family), data.y[i][:, None])
        expected = mixture.e_step(fit.params.latent.weights, values).log_likelihood
        # A collapsed variance is the square of a residual: half of the digits are lost.
        assert fit.log_likelihood == pytest.approx(expected, rel=1e-9 if i > 1 else 0.1)
    fits.save(tmp_path / "fits.npz")
    emjax.load(tmp_path / "fits.npz")


def test_noise_of_any_size_is_no_collapse() -> None:
    """From the truth, with the noise multiplied by 1, 0.1, 0.01 and 1e-4: the same fits, and none is degenerate."""
    for factor in (1.0, 0.1, 0.01, 1e-4):
        fits = emjax.fit_many(LINES, lines(factor), SEED, start=truth(factor))
        assert np.all(fits.status == Status.CONVERGED)
        assert not np.any(fits.flags & (Flag.SUSPECT | Flag.DEGENERATE))
        np.testing.assert_allclose(fits.params.family.scale, factor * np.array([[0.1, 0.2]] * D), rtol=0.5)


def test_a_line_through_some_rows_is_a_collapse() -> None:
    y = np.array(lines().y)
    y[:, :10] = 20.0 - lines().x[:, :10, 0]
    start = emjax.MixtureParams(
        emjax.WeightsParams(np.array([0.9, 0.1])),
        emjax.LinearRegressionParams(np.array([[1.5, 1.0], [20.0, -1.0]]), np.array([3.0, 0.1])),
    )
    fits = emjax.fit_many(LINES, Data(y, lines().x), SEED, start=start)
    assert np.all(fits.status == Status.DEGENERATE)
    for factor in (1e-3, 1e4):
        family = emjax.LinearRegressionParams(start.family.coefficients * factor, start.family.scale * factor)
        scaled = emjax.fit_many(LINES, Data(y * factor, lines().x), SEED, start=start._replace(family=family))
        np.testing.assert_array_equal(scaled.status, fits.status)
    relaxed = emjax.fit_many(LINES, Data(y, lines().x), SEED, start=start, degeneracy=Degeneracy(1e-12, min_rows=0))
    assert np.max(relaxed.params.family.scale.min(axis=1)) < np.min(fits.params.family.scale.min(axis=1))

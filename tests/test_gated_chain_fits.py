"""Fits of gated hidden Markov chains: special cases, many sequences, separation."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import emjax
from emjax import Data, Flag, GatedMarkovParams, Gaussian, HiddenMarkov, MixtureParams, Problem, Status, Stop
from tests import lanes
from tests.test_gated_chain import BOTH, FAMILY, MODEL, TRUTH, simulated

pytestmark = pytest.mark.slow


def test_fits_without_a_column_of_z_are_those_of_the_constant_chain() -> None:
    data = simulated()
    tight: dict[str, Any] = {"restarts": 4, "stop": Stop(tol=1e-11)}
    wanted = emjax.fit(HiddenMarkov(Gaussian("V"), 2), data._replace(z=None), 0, **tight)
    found = emjax.fit(MODEL, data._replace(z=np.zeros((300, 0))), 0, **tight)
    assert found.log_likelihood == pytest.approx(wanted.log_likelihood, abs=1e-8)
    assert found.n_free == wanted.n_free == 7
    order = np.argsort(wanted.params.family.means[:, 0])
    moves = wanted.params.latent.transitions[order][:, order]
    logits = np.log(moves / np.diag(moves)[:, None])[:, :, None]
    flat = np.concatenate([logits, np.zeros((2, 2, 1))], axis=2)
    held = emjax.fit(MODEL, data, 0, fixed={"transitions": flat}, **tight)
    assert held.log_likelihood == pytest.approx(wanted.log_likelihood, abs=1e-8)
    assert held.n_free == 5


def test_estimates_and_standard_errors_of_many_sequences() -> None:
    """200 sequences of 500 rows: bias beyond Monte Carlo error is small; standard errors are those of the estimates."""
    count, n = 200, 500
    many = [simulated(n, seed) for seed in range(count)]
    data = Data(np.stack([one.y for one in many]), z=np.stack([one.z for one in many]))
    fits = emjax.fit_many(MODEL, data, 0, start=TRUTH, fixed={"initial": TRUTH.latent.initial})
    assert np.all(fits.status == Status.CONVERGED)
    errors = emjax.standard_errors(fits, covariance=True)
    for estimate, se, truth in zip(*map(jax.tree.leaves, (fits.params, errors.se, TRUTH)), strict=True):
        free = np.all(np.isfinite(se), axis=0)
        spread = np.std(estimate, axis=0, ddof=1)[free]
        bias = np.abs(np.mean(estimate, axis=0) - truth)[free]
        assert np.all(bias < 3.0 * spread / np.sqrt(count) + 0.1 * spread)
        np.testing.assert_allclose(np.sqrt(np.mean(se**2, axis=0))[free], spread, rtol=0.25)
    swapped = np.broadcast_to([1, 0], (count, 2))
    moved, moved_errors = emjax.permute(fits, swapped), emjax.permute(errors, swapped, MODEL)
    np.testing.assert_array_equal(moved.params.latent.transitions, fits.params.latent.transitions[:, ::-1, ::-1])
    np.testing.assert_array_equal(moved_errors.se.latent.transitions, errors.se.latent.transitions[:, ::-1, ::-1])


def test_one_bad_dataset_and_one_that_z_separates(tmp_path: Any) -> None:
    data = simulated()
    hole, state = np.array(data.z), np.arange(300) // 25 % 2
    hole[7] = np.nan
    # Whenever the state changes z is 1, else -1: transitions are known.
    changes = np.concatenate([[False], state[1:] != state[:-1]])
    apart = np.where(changes, 1.0, -1.0)[:, None] + 0.01 * np.sin(np.arange(300))[:, None]
    y = 9.0 * state + np.cos(np.arange(300.0) ** 2)
    batch = Data(np.stack([data.y, data.y, y]), z=np.stack([data.z, hole, apart]))
    settings: dict[str, Any] = {"restarts": 4, "fixed": {"initial": np.array([0.5, 0.5])}}
    fits = emjax.fit_many(MODEL, batch, 0, **settings)
    assert fits.status.tolist() == [Status.CONVERGED, Status.INVALID_DATA, Status.CONVERGED]
    assert fits.problems.tolist() == [0, Problem.COVARIATE_NOT_FINITE, 0]
    assert emjax.fit(MODEL, data, 0, id=0, **settings).objective == fits.objective[0]
    assert fits.flags[0] & Flag.BOUNDARY == 0
    separated = fits[2]
    assert separated.flags & Flag.BOUNDARY and np.all(np.isfinite(separated.params.latent.transitions))
    known = sum(stats.norm.logpdf(y[state == k], np.mean(y[state == k]), np.std(y[state == k])).sum() for k in (0, 1))
    assert separated.log_likelihood == pytest.approx(known + np.log(0.5), abs=1e-4)  # every transition 0 or 1
    separated.save(tmp_path / "fit.npz")
    again = emjax.load(tmp_path / "fit.npz")
    assert again.model == MODEL and again.log_likelihood == separated.log_likelihood


@lanes.in_float64
def test_a_newton_step_never_lowers_the_objective_however_far_it_starts() -> None:
    data = simulated()
    wild = np.zeros((4, 2, 2, 2))
    wild[:, 0, 1] = [[30.0, -0.6], [-150.0, 3.0], [-80.0, 0.0], [-8.0, 0.0]]
    starts = MixtureParams(
        GatedMarkovParams(np.full((4, 2), 0.5), wild), jax.tree.map(lambda a: np.stack([a] * 4), FAMILY)
    )

    def path(start: Any) -> Any:
        ready, _ = MODEL.prepare(jax.tree.map(jnp.asarray, data))

        def advance(params: Any, _: Any) -> Any:
            return emjax.em_step(MODEL, params, ready)

        return jax.lax.scan(advance, MODEL.from_user(start, ready), length=300)[1]

    log_likelihood = jax.device_get(jax.vmap(path)(starts))
    assert np.all(np.isfinite(log_likelihood))
    assert np.min(np.diff(log_likelihood, axis=1)) > -1e-9


def test_tables_say_which_logit_a_coefficient_is_of(tmp_path: Any) -> None:
    """Component: the state that is left; first index: the one that is entered; second: the intercept, then z."""
    one = simulated(400)
    z, unit = (one.z - 50.0) / 7.0, np.repeat(np.arange(40), 10)
    broken = np.where(np.arange(400) == 3, np.inf, one.y)
    moves = np.array([[[0.0, 0.0], [-1.0, 1.0]], [[-1.0, 1.0], [0.0, 0.0]]])
    start = MixtureParams(GatedMarkovParams(np.zeros((2, 2)), moves), FAMILY)
    batch = Data(np.stack([one.y, broken]), z=np.stack([z, z]), unit=unit)
    fits = emjax.fit_many(BOTH, batch, 0, start=start, ids=["whole", "broken"])
    assert fits.status.tolist() == [Status.CONVERGED, Status.INVALID_DATA]
    fit, errors, latent = fits[0], emjax.standard_errors(fits), fits.params.latent
    frame = fits.to_frame().set_index(["dataset", "component", "parameter"])
    for name, k, index in (("initial", 0, (1,)), ("transitions", 0, (1, 1)), ("transitions", 1, (0, 0))):
        entry = f"{name}[{','.join(map(str, index))}]"
        row, estimate, se = (
            frame.loc["whole", k, entry],
            *(getattr(record, name)[(0, k, *index)] for record in (latent, errors.se.latent)),
        )
        assert (row.estimate, row.se, row.reason) == (estimate, se, "")
        assert row.lower < estimate < row.upper and np.isnan(frame.loc["broken", k, entry].estimate)
        (line,) = (line.split() for line in fit.summary().splitlines() if line.split()[:2] == [entry, str(k)])
        np.testing.assert_allclose([float(cell) for cell in line[2:5]], [estimate, se, estimate / se], rtol=2e-2)
    for k, entry in ((1, "initial[0]"), (0, "transitions[0,1]"), (1, "transitions[1,0]")):  # the baselines
        row = frame.loc["whole", k, entry]
        assert (row.estimate, row.reason) == (0.0, "fixed") and np.isnan(row.se)
    fits.save(tmp_path / "fits.npz")
    again = emjax.load(tmp_path / "fits.npz")
    assert again.model == BOTH and again.to_frame().equals(fits.to_frame())

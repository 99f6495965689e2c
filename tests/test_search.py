"""DESIGN 5 (8) and (9): which restart is the fit, how good the search was, and what certifies its end point."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import emjax
from emjax import Data, Expectation, Flag, Status, Stop
from emjax.engine import choice
from emjax.engine.choice import Landscape
from tests.oracle import linear_regression, mixture
from tests.promises import LINES, RESTARTS, SEED, D, N, Step, base, lines, truth
from tests.test_promises import TIED, clusters, two_clusters


def landscape(objective: Any, status: Any) -> Landscape:
    objective, status = np.atleast_2d(np.array(objective, float)), np.atleast_2d(np.array(status, np.int32))
    zero = np.zeros(objective.shape, np.int32)
    return Landscape(objective, objective, status, zero, zero, np.zeros(objective.shape), zero)


def chosen(objective: Any, status: Any, problems: int = 0) -> tuple[int, Status]:
    found = landscape(objective, status)
    column = choice.choose(found, np.array([problems]))
    return int(column[0]), Status(int(choice.status_of(found, column)[0]))


C, M, G, F = Status.CONVERGED, Status.MAX_ITERATIONS, Status.DEGENERATE, Status.DECREASED
X, S, E = Status.NON_FINITE, Status.SADDLE, Status.STOPPED_EARLY


def test_the_best_restart() -> None:
    assert chosen([-3.0, -2.0, -5.0], [C, C, C]) == (1, C)
    assert chosen([-3.0, -2.0, -5.0], [C, M, C]) == (1, M)
    assert chosen([-3.0, -2.0, -5.0], [C, F, C]) == (1, F)
    assert chosen([-3.0, 99.0, 50.0, 70.0], [C, G, E, S]) == (0, C)
    assert chosen([-3.0, np.nan, np.inf], [C, X, X]) == (0, C)
    assert chosen([5.0, 9.0, np.nan], [G, G, X]) == (1, G)
    assert chosen([np.nan, np.nan, np.nan], [X, X, Status.RUNNING]) == (-1, X)
    assert chosen([np.nan, np.nan], [Status.INVALID_DATA] * 2, problems=1) == (-1, Status.INVALID_DATA)
    assert chosen([1.0, 2.0], [C, C], problems=1)[0] == -1


def test_good_turing_by_hand() -> None:
    """Modes at 10 (three restarts), 7 (two), 5 and 4 (one each): two of seven restarts were alone at theirs."""
    values = [10.0, 10.0004, 9.9996, 7.0, 7.0, 5.0, 4.0]
    assert choice.unseen(landscape(values, [C] * 7))[0] == pytest.approx(2 / 7)
    assert choice.unseen(landscape(values[::-1], [C] * 7))[0] == pytest.approx(2 / 7)
    # Collapsed, broken and unrun ones are no observations.
    more = [*values, 99.0, np.nan, np.nan]
    assert choice.unseen(landscape(more, [*[C] * 7, G, X, Status.RUNNING]))[0] == pytest.approx(2 / 7)
    assert choice.unseen(landscape([1.0, 1.0], [C, C]))[0] == 0.0
    assert choice.unseen(landscape([1.0], [C]))[0] == 1.0
    assert np.isnan(choice.unseen(landscape([1.0, np.nan], [G, X]))[0])


def test_one_restart_at_the_best_mode_is_suspect() -> None:
    def suspect(values: Any, status: Any) -> bool:
        found = landscape(values, status)
        return bool(choice.suspicion(found, choice.choose(found, np.zeros(1)))[0] & Flag.SUSPECT)

    assert suspect([3.0, 2.0, 2.0], [C, C, C])
    assert not suspect([3.0, 3.0005, 2.0], [C, C, C])
    assert not suspect([3.0], [C])
    assert not suspect([3.0, np.nan], [C, Status.RUNNING])


def test_every_restart_is_kept() -> None:
    kept = base().restarts
    assert kept.objective.shape == kept.status.shape == kept.iterations.shape == (D, RESTARTS)
    assert np.all(kept.iterations > 0)
    np.testing.assert_array_equal(kept.strategy, np.tile(np.arange(RESTARTS) % 4, (D, 1)))
    best = np.max(np.where(choice.eligible(kept.status), kept.objective, -np.inf), axis=1)
    assert np.all(base().objective >= best)
    np.testing.assert_allclose(base().objective, best, atol=1e-5)


class Plain(emjax.Model):
    """Each lane stays where it starts, at a height of its own (y > 0), or all at one (y = 0)."""

    def expect(self, params: Step, prepared: Data) -> Expectation:
        return Expectation(params.at * prepared.y[0], jnp.zeros(()))

    def maximize(self, statistics: Any, params: Step, prepared: Data) -> Step:
        return params

    def start(self, key: Any, prepared: Data, strategy: str) -> Step:
        return Step(jax.random.uniform(key, (), prepared.y.dtype))


def test_auto_goes_on_while_new_modes_come() -> None:
    y = np.array([[0.0] * 8, [1.0] * 8, [0.0] * 8])
    fits = emjax.fit_many(Plain(), Data(y), SEED, restarts="auto", certificate=False)
    ran = np.sum(fits.restarts.status != Status.RUNNING, axis=1)
    assert list(ran) == [10, 100, 10]
    assert fits.restarts.objective.shape == (3, 100)
    np.testing.assert_array_equal(fits.unseen < 0.05, [True, False, True])
    assert np.all(np.isnan(fits.restarts.objective[0, 10:]))
    assert fits.objective[1] == np.max(fits.restarts.objective[1])


def test_auto_on_mixtures() -> None:
    """Well-separated lines need one round; structure that is not there needs more."""
    rng = np.random.default_rng(2)
    y, x = np.array(lines(1.0).y[:4]), lines(1.0).x[:4]
    for i in range(2):
        y[i] = rng.integers(-2, 3, N) * x[i, :, 0] + 0.3 * rng.normal(size=N)
    fits = emjax.fit_many(LINES, Data(y, x), SEED, restarts="auto")
    ran = np.sum(fits.restarts.status != Status.RUNNING, axis=1)
    assert list(ran[2:]) == [10, 10]
    assert np.all(ran[:2] > 10)
    assert np.all((fits.unseen < choice.ENOUGH) | (ran == 100))
    again = emjax.fit(LINES, Data(y[1], x[1]), SEED, restarts="auto", id=1)
    np.testing.assert_array_equal(again.restarts.objective, fits.restarts.objective[1])


# --- 9: the certificate


def _oracle_objective(data: Data, index: int) -> Any:
    """Of the free coordinates: log-ratio of the weights, coefficients, log scales, for standardised data."""
    y, x = data.y[index], data.x[index]
    z, design = (y - y.mean()) / y.std(), linear_regression.design_matrix((x - x.mean(0)) / x.std(0))

    def objective(free: np.ndarray) -> float:
        odds = np.exp(np.array([free[0], 0.0]))
        params = linear_regression.Params(free[1:5].reshape(2, 2), np.exp(free[5:]))
        return mixture.e_step(odds / odds.sum(), linear_regression.log_prob(params, z, design)).log_likelihood

    return objective


def _free(fit: Any, data: Data, index: int) -> np.ndarray:
    y, x = data.y[index], data.x[index]
    order = np.argsort(fit.params.latent.weights)
    weights, (beta, scale) = fit.params.latent.weights[order], (leaf[order] for leaf in fit.params.family)
    slope = beta[:, 1] * x.std() / y.std()
    intercept = (beta[:, 0] + beta[:, 1] * x.mean() - y.mean()) / y.std()
    coefficients = np.stack([intercept, slope], axis=1)
    return np.concatenate([[np.log(weights[0] / weights[1])], coefficients.ravel(), np.log(scale / y.std())])


def _differences(function: Any, point: np.ndarray, step: float = 1e-4) -> tuple[np.ndarray, np.ndarray]:
    """Gradient and Hessian by central differences."""
    m = len(point)
    eye = step * np.eye(m)
    value = function(point)
    up, down = (np.array([function(point + sign * e) for e in eye]) for sign in (1, -1))
    hessian = np.diag((up - 2 * value + down) / step**2)
    for i in range(m):
        for j in range(i):
            corners = sum(a * b * function(point + a * eye[i] + b * eye[j]) for a in (1, -1) for b in (1, -1))
            hessian[i, j] = hessian[j, i] = corners / (4 * step**2)
    return (up - down) / (2 * step), hessian


def test_the_certificate_is_the_oracles() -> None:
    fits = emjax.fit_many(LINES, lines(), SEED, restarts=RESTARTS, stop=Stop(max_iterations=8))
    for index in (0, 5):
        score, hessian = _differences(_oracle_objective(lines(), index), _free(fits[index], lines(), index))
        found = fits[index].certificate
        assert found.score_norm == pytest.approx(np.linalg.norm(score), rel=1e-4)
        assert found.predicted_gain == pytest.approx(0.5 * score @ np.linalg.solve(-hessian, score), rel=1e-3)
        assert found.smallest_eigenvalue == pytest.approx(np.linalg.eigvalsh(-hessian)[0], rel=1e-3)


def test_a_converged_fit_is_a_maximum() -> None:
    found = base().certificate
    assert np.all(base().status == Status.CONVERGED)
    assert np.all(found.score_norm < 0.1)
    assert np.all(found.predicted_gain < 1e-6)
    assert np.all(found.smallest_eigenvalue > 0)
    fine = emjax.fit_many(LINES, lines(), SEED, start=base().params, stop=Stop(tol=1e-12))
    assert np.all(fine.certificate.score_norm < 1e-3 * N)
    assert np.all(fine.certificate.predicted_gain < 1e-10)


def test_the_certificate_can_be_left_out() -> None:
    fits = emjax.fit_many(LINES, lines(), SEED, restarts=RESTARTS, certificate=False)
    for leaf in fits.certificate:
        assert np.all(np.isnan(leaf))


class Bowl(emjax.Model):
    """Maximum at y, half of the way a step: as many parameters as rows."""

    def expect(self, params: Step, prepared: Data) -> Expectation:
        return Expectation(-0.5 * jnp.sum((params.at - prepared.y) ** 2), jnp.zeros(()))

    def maximize(self, statistics: Any, params: Step, prepared: Data) -> Step:
        return Step(0.5 * (params.at + prepared.y))

    def start(self, key: Any, prepared: Data, strategy: str) -> Step:
        return Step(jnp.zeros_like(prepared.y))


@pytest.mark.parametrize("rows, certificate, known", [(24, None, True), (32, None, False), (32, True, True)])
def test_the_information_of_large_models_is_not_computed_unasked(rows: int, certificate: Any, known: bool) -> None:
    fit = emjax.fit(Bowl(), Data(np.arange(float(rows))), SEED, restarts=1, certificate=certificate)
    assert fit.n_free == rows
    assert fit.certificate.score_norm < 1e-2
    assert np.isfinite(fit.certificate.predicted_gain) == known
    assert np.isfinite(fit.certificate.smallest_eigenvalue) == known
    if known:
        assert fit.certificate.smallest_eigenvalue == pytest.approx(1.0)
        assert fit.certificate.predicted_gain == pytest.approx(-fit.objective, rel=1e-6)


def test_equal_components_are_a_saddle_and_are_left() -> None:
    """With all components equal nothing moves; the certificate sees it, and the fit goes on to the maximum."""
    line = emjax.LinearRegressionParams(np.array([[1.5, 1.0]] * 2), np.array([3.0, 3.0]))
    start = emjax.MixtureParams(emjax.WeightsParams(np.array([0.4, 0.6])), line)
    stuck = emjax.fit_many(LINES, lines(), SEED, start=start, certificate=False)
    assert np.all(base().objective - stuck.objective > 1.0)
    fits = emjax.fit_many(LINES, lines(), SEED, start=start)
    assert np.all((fits.flags & Flag.ESCAPED) > 0)
    assert np.all(fits.status == Status.CONVERGED)
    assert np.all(fits.certificate.smallest_eigenvalue > 0)
    np.testing.assert_allclose(fits.objective, base().objective, atol=1e-5)
    assert np.all(fits.iterations > stuck.iterations)


def test_a_superfluous_component_of_one_scale_ends_on_the_boundary() -> None:
    """Its weight goes to 0: CONVERGED with the flag BOUNDARY where no row wants it, lifted off again where one does."""
    start = clusters([0.45, 0.45, 0.1], [-4.0, 4.0, 20.0])
    fits = emjax.fit_many(TIED, two_clusters(), SEED, start=start)
    blind = emjax.fit_many(TIED, two_clusters(), SEED, start=start, certificate=False)
    assert np.all(fits.status == Status.CONVERGED)
    assert np.all((blind.flags & Flag.BOUNDARY) > 0)
    edge = (fits.flags & Flag.BOUNDARY) > 0
    assert np.any(edge)
    assert np.all(fits.params.latent.weights[edge].min(axis=1) < 1e-8)
    assert np.all((fits.flags[~edge] & Flag.ESCAPED) > 0)
    assert np.all(fits.objective[~edge] > blind.objective[~edge] + 0.1)
    assert np.all(fits.certificate.smallest_eigenvalue > 0)
    assert np.all(fits.certificate.predicted_gain < 1e-6)
    assert not np.any(base().flags & Flag.BOUNDARY)


def test_a_weight_of_zero_that_wants_to_grow_grows() -> None:
    """The sign of its gradient is checked: a weight of 1e-30 on top of a third cluster is no boundary maximum."""
    rng = np.random.default_rng(2)
    y = np.stack([np.concatenate([rng.normal(c, 1, 33) for c in (-9, 0, 9)] + [[0.0]]) for _ in range(4)])
    start = clusters([0.34, 0.66 - 1e-30, 1e-30], [-9.0, 5.0, 0.0])
    blind = emjax.fit_many(TIED, Data(y), SEED, start=start, certificate=False)
    assert np.all(blind.params.latent.weights[:, 2] < 1e-8)
    fits = emjax.fit_many(TIED, Data(y), SEED, start=start)
    assert np.all(fits.status == Status.CONVERGED)
    assert np.all((fits.flags & Flag.ESCAPED) > 0)
    assert not np.any(fits.flags & Flag.BOUNDARY)
    assert np.all(fits.objective > blind.objective + 10)


def test_the_truth_is_found() -> None:
    """What all the promises are for: estimates within five standard errors (about scale over the root of N / 2)."""
    fits = emjax.fit_many(LINES, lines(1.0), SEED, start=truth(1.0))
    error = np.abs(fits.params.family.coefficients[:, :, 1] - [0.5, 1.5])
    assert np.all(error < 5 * np.array([0.1, 0.2]) / (2.9 * np.sqrt(N / 2)) * 1.5)

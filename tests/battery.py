"""The contract that every model keeps, as checks of a `Case`: for emjax's models and for anyone's own.

    battery.hold(Case(name="mine", model=MyModel(), ...))

Each check raises AssertionError; `hold` runs them all and names those that fail. Tolerances are multiples of eps or
come from standard errors.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from tests import lanes
from tests.lanes import EPS, LOOP, STEP, Case, Point, bare, directions, points, single, still, stretches

TEN = 10
# Two ways to the same number, each a sum over rows of quantities of order one: they differ by rounding alone.
SAME = 2.0**14 * EPS  # 4e-12, relative to the size of what is compared
# The same after ten iterations, or where systems of equations with condition numbers up to 1e4 are solved two ways.
CLOSE = 2.0**20 * EPS  # 2e-10
CLOSE32 = 2.0**11 * float(np.finfo(np.float32).eps)  # 2e-4: float32, condition numbers in the hundreds
# Differences err by h^4 |fifth derivative| / 30 + 1.5 eps |f| / h: 1e-12 |f| where the function varies on a scale of
# one; scale parameters of a tenth make the first term 1e4 times as large.
DIFFERENCE = 1e-8
QUANTILE = 1e-4  # how seldom a right fit is farther from the truth than the recovery check allows


def hold(case: Case) -> None:
    """Run every check; an ExceptionGroup of those that fail, each with its name."""
    failed = []
    for check in CHECKS:
        try:
            check(case)
        except Exception as error:
            error.add_note(f"{check.__name__}, case {case.name}")
            failed.append(error)
    if failed:
        raise ExceptionGroup("; ".join(error.__notes__[-1].split(",")[0] for error in failed), failed)


def close(found: Any, wanted: Any, tolerance: float, what: str) -> None:
    """Every leaf within `tolerance` of the other's, relative to its largest magnitude, or to 1 where that is larger."""
    paths = jax.tree_util.tree_leaves_with_path(wanted)
    leaves = jax.tree.leaves(found)
    assert len(paths) == len(leaves), f"{what}: {len(leaves)} leaves, not {len(paths)}"
    for (path, right), left in zip(paths, leaves, strict=True):
        left, right = np.asarray(left), np.asarray(right)
        assert left.shape == right.shape, f"{what}{jax.tree_util.keystr(path)}: shape {left.shape}, not {right.shape}"
        scale = max(1.0, float(np.max(np.abs(right), initial=0.0)))
        message = f"{what}{jax.tree_util.keystr(path)}"
        np.testing.assert_allclose(left, right, rtol=0.0, atol=tolerance * scale, err_msg=message)


def leaf_rows(tree: Any, *index: int) -> Any:
    """One entry of stacked parameters."""
    return jax.tree.map(lambda a: np.asarray(a)[index], tree)


def differences(function: Callable[[Any], float], around: Any) -> np.ndarray:
    """Derivatives of a function of user's parameters along `directions`, from its values on the stencil."""
    count = jax.tree.leaves(around)[0].shape[0]
    values = np.array([[function(leaf_rows(around, i, j)) for j in range(4)] for i in range(count)]).reshape(count, 4)
    return (values @ np.array([1.0, -8.0, 8.0, -1.0])) / (12.0 * STEP)


# --- checks ---------------------------------------------------------------------------------------------------------


def asked(case: Case) -> tuple[tuple[str, Any, Point], ...]:
    """Name, user's parameters and findings of the two places where the oracle is asked."""
    return ("near", case.near, points(case)["near"]), ("away", case.away, points(case)["away"])


def check_data_is_valid(case: Case) -> None:
    """The case's data have no problem in any arrangement, else the other checks say nothing."""
    for name, point in points(case).items():
        assert point.problem == 0, f"{name}: problem {point.problem}"


def check_number_of_free_coordinates(case: Case) -> None:
    """As counted by hand."""
    assert points(case)["near"].free.shape == (2, case.n_free)


def check_round_trips(case: Case) -> None:
    """User's units to prepared ones and back; constrained parameters to free ones and back, and the other way round."""
    for name, params, point in asked(case):
        params = bare(case, params)
        close(bare(case, point.user_again), params, SAME, f"{name}: to_user(from_user(params))")
        close(bare(case, point.there_and_back), params, SAME, f"{name}: from_free(to_free(params))")
        close(point.free_again, point.free[0], SAME, f"{name}: to_free(from_free(free))")


def check_e_step(case: Case) -> None:
    """Log-likelihood, log prior and responsibilities are the oracle's, whatever the padding."""
    for name, params, point in asked(case):
        posterior = case.oracle.e_step(params)
        own = hasattr(case.oracle, "objective")
        wanted = case.oracle.objective(params) if own else posterior.log_likelihood + case.oracle.log_prior(params)
        close(point.log_likelihood[0], posterior.log_likelihood, SAME, f"{name}: log-likelihood")
        close(point.objective[0], wanted, SAME, f"{name}: objective")
        if hasattr(point.prediction, "labels"):
            unit = np.arange(len(case.data.y)) if case.data.unit is None else case.data.unit
            sequences = hasattr(case.oracle, "decode")  # of states: the labels are the most probable path
            rows = case.oracle.rows(posterior.responsibilities) if sequences else posterior.responsibilities[:, unit]
            close(point.prediction.responsibilities[: len(unit)], rows.T, SAME, f"{name}: responsibilities")
            wanted = case.oracle.decode(params) if sequences else np.argmax(rows, axis=0)
            np.testing.assert_array_equal(point.prediction.labels[: len(unit)], wanted)
        elif point.prediction is not None:
            found = jax.tree.map(lambda a: a[: len(case.data.y)], point.prediction)
            close(found, case.oracle.predict(params), CLOSE, f"{name}: predictions")


def _q(case: Case, params: Any) -> Callable[[Any], float]:
    """The oracle's Q plus log prior, with responsibilities at `params`."""
    resp = case.oracle.e_step(params).responsibilities
    return lambda p: case.oracle.q(p, resp) + case.oracle.log_prior(p)


def check_fisher_identity(case: Case) -> None:
    """At the current parameters the gradient of the objective is that of the oracle's Q plus log prior."""
    for name, params, point in asked(case):
        q = _q(case, params)
        gradient = differences(q, leaf_rows(point.around, 0))
        along = directions(case.n_free) @ point.score[0]
        scale = 1.0 + abs(q(params))
        np.testing.assert_allclose(along, gradient, rtol=0.0, atol=DIFFERENCE * scale, err_msg=name)
        if case.n_free and name == "away":
            assert np.max(np.abs(gradient)) > 1e3 * DIFFERENCE * scale, "the score vanishes at `away`: move it"


def check_m_step_maximises_q(case: Case) -> None:
    """After the M-step the gradient of the oracle's Q plus log prior is 0, and Q is no lower."""
    if not case.exact_m_step:
        return
    for name, params, point in asked(case):
        q, after = _q(case, params), leaf_rows(point.params, 1)
        scale = 1.0 + abs(q(params))
        gradient = differences(q, leaf_rows(point.around, 1))
        np.testing.assert_allclose(gradient, 0.0, rtol=0.0, atol=DIFFERENCE * scale, err_msg=name)
        assert q(after) >= q(params) - SAME * scale, f"{name}: the M-step lowered Q"


def check_m_step(case: Case) -> None:
    """One M-step is the oracle's."""
    if case.closed:
        for name, params, point in asked(case):
            wanted = case.oracle.m_step(params, case.oracle.e_step(params).responsibilities)
            close(bare(case, leaf_rows(point.params, 1)), wanted, CLOSE, f"{name}: M-step")


def check_ten_iterations(case: Case) -> None:
    """Ten iterations end where the oracle's do."""
    if case.closed:
        found = bare(case, leaf_rows(points(case)["near"].params, TEN))
        close(found, case.oracle.em(case.near, TEN), CLOSE, "ten iterations")


def check_monotone(case: Case) -> None:
    """The objective never falls by more than rounding; where the engine guards the steps, each could be mended."""
    for lane in points(case):
        assert not any(stretch[lane].gave_up for stretch in stretches(case)), f"{lane}: a step could not be mended"
        objective = np.concatenate([stretch[lane].objective for stretch in stretches(case)])
        slack = SAME * (len(case.many.y) + np.max(np.abs(objective)))
        assert np.all(np.isfinite(objective)), f"{lane}: the objective is not finite"
        fall = -np.min(np.diff(objective))
        assert fall <= slack, f"{lane}: the objective fell by {fall} at step {np.argmin(np.diff(objective))}"


def check_score_at_the_fixed_point(case: Case) -> None:
    """Where EM stands still, the gradient of the objective is 0."""
    for lane, point in stretches(case)[-1].items():
        np.testing.assert_allclose(point.score[1], 0.0, rtol=0.0, atol=still(case), err_msg=lane)
        before = leaf_rows(point.params, LOOP - 1)
        close(before, point.last, 1e2 * np.sqrt(EPS), f"{lane}: EM still moves")


def _same_point(case: Case, name: str, other: str) -> None:
    found, wanted = points(case)[name], points(case)[other]
    close(found.log_likelihood[0], wanted.log_likelihood[0], SAME, f"{name}: log-likelihood")
    close(found.objective[0], wanted.objective[0], SAME, f"{name}: objective")
    if not case.model.row_blocks:  # a row's coordinates are at its place, each copy's its own
        close(found.score[0], wanted.score[0], CLOSE, f"{name}: score")
    units = lanes.units_of(case)
    rows = np.array([np.flatnonzero(units[name] == unit)[0] for unit in units[other]])
    one, two = (
        bare(case, leaf_rows(found.params, 1), rows),
        bare(case, leaf_rows(wanted.params, 1), np.arange(len(rows))),
    )
    close(one, two, CLOSE, f"{name}: M-step")


def check_padding(case: Case) -> None:
    """What stands in rows of weight 0, NaN too, changes nothing, to the bit; the oracle has no such rows at all."""
    rows = len(case.data.y)
    found, wanted = points(case)["nan"], points(case)["near"]
    jax.tree.map(np.testing.assert_array_equal, found._replace(prediction=None), wanted._replace(prediction=None))
    for a, b in zip(jax.tree.leaves(found.prediction), jax.tree.leaves(wanted.prediction), strict=True):
        np.testing.assert_array_equal(a[:rows], b[:rows])


def check_weight_two_is_twice(case: Case) -> None:
    """A unit of weight 2 is that unit twice."""
    _same_point(case, "weight 2", "twice")


def check_order_of_units(case: Case) -> None:
    """Units in another order give the same."""
    _same_point(case, "permuted", "near")


def check_labels(case: Case) -> None:
    """Relabelled parameters have the same likelihood and prior, and their M-step is relabelled alike."""
    if not case.exchangeable:
        return
    found, wanted, order = points(case)["relabelled"], points(case)["near"], lanes.permutation(case)
    close(found.log_likelihood[0], wanted.log_likelihood[0], SAME, "log-likelihood")
    close(found.objective[0], wanted.objective[0], SAME, "objective")
    close(leaf_rows(found.params, 1), case.model.relabel(leaf_rows(wanted.params, 1), order), CLOSE, "M-step")
    if found.prediction is not None:
        responsibilities = wanted.prediction.responsibilities[:, order]
        close(found.prediction.responsibilities, responsibilities, SAME, "responsibilities")


def check_canonical_labels(case: Case) -> None:
    """The labels that the certificate uses leave the objective as it is: fixed values and priors may depend on them."""
    for name, _, point in asked(case):
        close(point.canonical, point.objective[0], SAME, f"{name}: objective")


def check_compiled_and_vmapped(case: Case) -> None:
    """A lane alone, operation by operation, boolean weights, is what it is compiled, under vmap, with weights of 1."""
    alone, point = single(case), points(case)["near"]
    close(alone.log_likelihood, point.log_likelihood[0], SAME, "log-likelihood")
    close(alone.objective, point.objective[0], SAME, "objective")
    close(alone.after, leaf_rows(point.params, 1), CLOSE, "M-step")


def check_float32(case: Case) -> None:
    """float32 stays float32 and ends near float64."""
    found, wanted = single(case, np.float32), single(case)
    for path, leaf in jax.tree_util.tree_leaves_with_path(found._replace(problem=None)):
        assert leaf.dtype == np.float32, f"{jax.tree_util.keystr(path)} is {leaf.dtype}"
    for name in ("log_likelihood", "objective", "after"):
        close(getattr(found, name), getattr(wanted, name), CLOSE32, name)


@lanes.in_float64
def check_no_retrace(case: Case) -> None:
    """Equal settings are one trace; hyperparameters and fixed values are traced, so other values are the same trace."""
    points(case)
    _, pairs = zip(*lanes.arrangements(case).items(), strict=True)
    data, params = jax.tree.map(lambda *leaves: np.stack(leaves), *pairs)
    twin = copy.deepcopy(case.model)
    assert twin == case.model and hash(twin) == hash(case.model), "equal settings are not equal, or hash differently"
    before = lanes.compiled_points._cache_size()
    prior, fixed = jax.tree.map(lambda a: 1.5 * a, (case.prior, case.fixed))
    lanes.compiled_points(twin, prior, fixed, data, params)
    assert lanes.compiled_points._cache_size() == before, "a second trace for equal settings"


def check_recovery(case: Case) -> None:
    """EM on data simulated at `near` ends within standard errors of it; its start, `away`, is not within them."""
    if 0 in (case.n_free, case.identified):
        return
    near, far = (_by_information if case.identified is None else _by_likelihood)(case)
    limit = stats.chi2.isf(QUANTILE, case.n_free if case.identified is None else case.identified)
    assert 0.0 <= near < limit, f"the fit is {near} from the truth, not within {limit}"
    assert far > limit, f"the start is {far} from the truth, less than {limit}"


def _by_information(case: Case) -> tuple[float, float]:
    """Squared distances from the truth, of the fit and of its start, in standard errors at the fit."""
    start, fit = points(case)["simulated"], stretches(case)[-1]["simulated"]
    assert np.linalg.eigvalsh(fit.information)[0] > 0, "the information at the fit is not positive definite"
    truth, _ = lanes.in_float64(coordinates_and_objective)(case, "simulated", case.near)
    near, far = (float(apart @ fit.information @ apart) for apart in (fit.free[1] - truth, start.free[0] - truth))
    return near, far


def _by_likelihood(case: Case) -> tuple[float, float]:
    """The same where parameters of one likelihood lie along a curve: 2 log of its ratio, of the truth and the start."""
    start, fit = points(case)["simulated"].objective[0], stretches(case)[-1]["simulated"].objective[-1]
    _, truth = lanes.in_float64(coordinates_and_objective)(case, "simulated", case.near)
    return 2.0 * (fit - truth), 2.0 * (fit - start)


def coordinates_and_objective(case: Case, lane: str, params: Any) -> tuple[np.ndarray, float]:
    """Free coordinates of user's parameters and the objective there, prepared for the data of a lane."""
    data, params = jax.tree.map(jnp.asarray, (lanes.arrangements(case)[lane][0], params))
    prepared, _ = case.model.prepare(data, case.prior, case.fixed)
    inside = case.model.from_user(params, prepared)
    objective = case.model.objective(inside, prepared, case.model.expect(inside, prepared).log_likelihood)
    return np.asarray(case.model.to_free(inside, prepared)), float(objective)


CHECKS: tuple[Callable[[Case], None], ...] = (
    check_data_is_valid,
    check_number_of_free_coordinates,
    check_round_trips,
    check_e_step,
    check_fisher_identity,
    check_m_step_maximises_q,
    check_m_step,
    check_ten_iterations,
    check_monotone,
    check_score_at_the_fixed_point,
    check_padding,
    check_weight_two_is_twice,
    check_order_of_units,
    check_labels,
    check_canonical_labels,
    check_compiled_and_vmapped,
    check_float32,
    check_no_retrace,
    check_recovery,
)

"""The contract that every model keeps, as checks of a `Case`: for emjax's models and for anyone's own.

    from tests import battery
    for check in battery.CHECKS: check(my_case)

Each check raises AssertionError. What they need is computed once a case, in a few compiled functions. All of it runs in
float64 inside `jax.enable_x64(True)`, whatever the global flag says. Tolerances are multiples of eps or come from
standard errors.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial, wraps
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from emjax import Data, Model, em_step

STEP = 1e-3  # of central differences of fourth order
DIRECTIONS = 20  # of differentiation, at most; the coordinates themselves where there are no more
LOOP = 256  # EM steps in one compiled call
ROUNDS = 40  # of such calls until the fixed point
TEN = 10
EPS = float(np.finfo(np.float64).eps)
# Two ways to the same number, each a sum over rows of quantities of order one: they differ by rounding alone.
SAME = 2.0**14 * EPS  # 4e-12, relative to the size of what is compared
# The same after ten iterations, or where systems of equations with condition numbers up to 1e4 are solved two ways.
CLOSE = 2.0**20 * EPS  # 2e-10
CLOSE32 = 2.0**11 * float(np.finfo(np.float32).eps)  # 2e-4: float32, systems with condition numbers in the hundreds
# Differences err by h^4 |f'''''| / 30 + 1.5 eps |f| / h, which is 1e-12 |f| where the function varies on a scale of one;
# scale parameters of a tenth make the first term 1e4 times as large.
DIFFERENCE = 1e-8
QUANTILE = 1e-4  # how seldom a right fit is farther from the truth than the recovery check allows


@dataclass(frozen=True, eq=False)
class Case:
    """A model and all that its checks need. Arrays are NumPy's, float64, in the user's units.

    data : without padding; unit ids 0, 1, ...; weight (U,) or None. near, away : parameters close to the truth, by which
    data are simulated, and far from it. oracle : `e_step(params)` with log_likelihood and responsibilities, `q(params,
    responsibilities)`, `log_prior(params)`, and where `closed` is True `m_step(params, responsibilities)` and `em(params,
    iterations)`, as in tests/oracle/problem.py. many : a larger design to simulate
    on, weights of 1; its y is ignored, and `data` are padded to its size.
    exact_m_step : whether the M-step maximises Q. exchangeable : whether components may swap labels.
    """

    name: str
    model: Any
    data: Data
    near: Any
    away: Any
    oracle: Any
    n_free: int
    many: Data
    prior: Any = None
    fixed: Any = None
    exact_m_step: bool = True
    closed: bool = True
    exchangeable: bool = True


def in_float64(function: Callable[..., Any]) -> Callable[..., Any]:
    """Run it with 64-bit types, without touching the global flag."""

    @wraps(function)
    def inside(*args: Any, **kwargs: Any) -> Any:
        with jax.enable_x64(True):
            return function(*args, **kwargs)

    return inside


def close(found: Any, wanted: Any, tolerance: float, what: str) -> None:
    """Every leaf within `tolerance` of the other's, relative to the leaf's largest magnitude or to 1 if that is larger."""
    paths = jax.tree_util.tree_leaves_with_path(wanted)
    leaves = jax.tree.leaves(found)
    assert len(paths) == len(leaves), f"{what}: {len(leaves)} leaves, not {len(paths)}"
    for (path, right), left in zip(paths, leaves, strict=True):
        left, right = np.asarray(left), np.asarray(right)
        assert left.shape == right.shape, f"{what}{jax.tree_util.keystr(path)}: shape {left.shape}, not {right.shape}"
        scale = max(1.0, float(np.max(np.abs(right), initial=0.0)))
        message = f"{what}{jax.tree_util.keystr(path)}"
        np.testing.assert_allclose(left, right, rtol=0.0, atol=tolerance * scale, err_msg=message)


# --- datasets -------------------------------------------------------------------------------------------------------


def n_units(data: Data) -> int:
    """Units of a dataset without padding."""
    return len(data.y) if data.unit is None else int(data.unit[-1]) + 1


def arrange(case: Case, units: Any, factor: float = 1.0, fill: float = 0.0, weight_dtype: Any = np.float64) -> Data:
    """The dataset made of `units`, in that order, weights times `factor`, padded by rows of `fill` with weight 0."""
    data, size, room = case.data, len(case.many.y), len(case.many.weight)
    unit = np.arange(len(data.y)) if data.unit is None else np.asarray(data.unit)
    places = [np.flatnonzero(unit == u) for u in units]
    rows = np.concatenate(places)
    fields: dict[str, Any] = {}
    for name in ("y", "x", "z", "offset", "trials", "observed"):
        value = getattr(data, name)
        if value is not None:
            blank = np.full((size, *value.shape[1:]), fill if value.dtype.kind == "f" else 0, value.dtype)
            blank[: len(rows)] = value[rows]
            fields[name] = blank
    if data.unit is not None:
        fields["unit"] = np.full(size, room - 1, np.int32)
        fields["unit"][: len(rows)] = np.repeat(np.arange(len(places)), [len(p) for p in places])
    weight = np.zeros(room, weight_dtype)
    given = np.ones(n_units(data)) if data.weight is None else data.weight
    weight[: len(places)] = (factor * given)[np.asarray(units)]
    return Data(**fields, weight=weight)


def weight_dtype(case: Case) -> Any:
    """Booleans where the case gives no weights: the faster way of the E-step."""
    return np.bool_ if case.data.weight is None else np.float64


def permutation(case: Case) -> np.ndarray:
    """A cycle of the labels, no involution where there are three."""
    n_components = case.model.n_components
    return np.roll(np.arange(n_components), 1)


# --- compiled once a case -------------------------------------------------------------------------------------------


class Point(NamedTuple):
    """What a model says of one dataset and of a stretch of EM from one set of user's parameters."""

    problem: Any
    log_likelihood: Any  # (LOOP,), before each step
    objective: Any  # (LOOP,)
    params: Any  # (LOOP, ...), user's
    last: Any  # user's, after the last step
    score: Any  # (2, m): gradient of the objective at the first and last parameters
    information: Any  # (m, m), at the last parameters
    around: Any  # user's parameters on stencils about those before (0) and after (1) the first step
    free: Any  # (2, m): at the first and last parameters
    user_again: Any
    free_again: Any
    inside: Any
    inside_again: Any
    prediction: Any


class Step(NamedTuple):
    """One EM step, user's units."""

    problem: Any
    log_likelihood: Any
    objective: Any
    after: Any


def directions(m: int) -> np.ndarray:
    """Unit vectors (P, m) along which derivatives are taken."""
    if m <= DIRECTIONS:
        return np.eye(m)
    drawn = np.random.default_rng(m).normal(size=(DIRECTIONS, m))
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def _em(model: Any, prepared: Any, inside: Any) -> tuple[Any, tuple[Any, Any]]:
    """LOOP steps: the last parameters; log-likelihood and parameters before each step."""

    def advance(inside: Any, _: Any) -> tuple[Any, Any]:
        after, log_likelihood = em_step(model, inside, prepared)
        return after, (log_likelihood, inside)

    return jax.lax.scan(advance, inside, length=LOOP)


def _point(model: Any, prior: Any, fixed: Any, data: Data, params: Any) -> Point:
    prepared, problem = model.prepare(data, prior, fixed)
    inside = model.from_user(params, prepared)

    def to_user(params: Any) -> Any:
        return model.to_user(params, prepared)

    def from_free(free: Any) -> Any:
        return model.from_free(free, prepared, inside)

    def objective(free: Any) -> Any:
        params = from_free(free)
        return model.expect(params, prepared).log_likelihood + model.log_prior(params, prepared)

    last, (log_likelihood, passed) = _em(model, prepared, inside)
    log_prior = jax.vmap(lambda params: model.log_prior(params, prepared))(passed)
    ends = jax.tree.map(lambda a, b: jnp.stack([a[0], a[1], b]), passed, last)
    free = jax.vmap(lambda params: model.to_free(params, prepared))(ends)
    m = free.shape[1]
    # The score at both ends and about the last, in one vmap: its differences are the information.
    nearby = free[2:] + STEP / 10.0 * jnp.concatenate([jnp.eye(m, dtype=free.dtype), -jnp.eye(m, dtype=free.dtype)])
    scores = jax.vmap(jax.grad(objective))(jnp.concatenate([free[::2], nearby]))
    columns = (scores[2 : 2 + m] - scores[2 + m :]) / (STEP / 5.0)
    places = jnp.array([-2.0, -1.0, 1.0, 2.0], free.dtype)[None, :, None] * STEP
    stencil = places * jnp.asarray(directions(m), free.dtype)[:, None, :]
    stencil = free[:2, None, None, :] + stencil[None]
    around = jax.vmap(jax.vmap(jax.vmap(lambda free: to_user(from_free(free)))))(stencil)
    again = from_free(free[0])
    has_predict = type(model).predict is not Model.predict
    return Point(
        problem=problem,
        log_likelihood=log_likelihood,
        objective=log_likelihood + log_prior,
        params=jax.vmap(to_user)(passed),
        last=to_user(last),
        score=scores[:2],
        information=-0.5 * (columns + columns.T),
        around=around,
        free=free[::2],
        user_again=to_user(inside),
        free_again=model.to_free(again, prepared),
        inside=inside,
        inside_again=again,
        prediction=model.predict(inside, prepared) if has_predict else None,
    )


# Run a few times only: half the time to compile without optimisation.
@partial(jax.jit, static_argnames=("model",), compiler_options={"xla_backend_optimization_level": 0})
def _points(model: Any, prior: Any, fixed: Any, data: Data, params: Any) -> Point:
    return jax.vmap(partial(_point, model, prior, fixed))(data, params)


def step(model: Any, prior: Any, fixed: Any, data: Data, params: Any) -> Step:
    """One EM step from user's parameters: one lane, operation by operation."""
    prepared, problem = model.prepare(data, prior, fixed)
    inside = model.from_user(params, prepared)
    after, log_likelihood = em_step(model, inside, prepared)
    objective = log_likelihood + model.log_prior(inside, prepared)
    return Step(problem, log_likelihood, objective, model.to_user(after, prepared))


def lanes(case: Case) -> dict[str, tuple[Data, Any]]:
    """The datasets and parameters at which a model is asked."""
    units = np.arange(n_units(case.data))
    shuffled = np.random.default_rng(0).permutation(units)
    some = units[: len(units) // 2]
    near, relabelled = case.near, case.near
    if case.exchangeable:
        relabelled = jax.tree.map(np.asarray, case.model.relabel(near, permutation(case)))
    simulated, _ = case.model.sample(jax.random.key(1), *jax.tree.map(jnp.asarray, (near, case.many)))
    return {
        "near": (arrange(case, units), near),
        "away": (arrange(case, units), case.away),
        "nan": (arrange(case, units, fill=np.nan), near),
        "permuted": (arrange(case, shuffled), near),
        "relabelled": (arrange(case, units), relabelled),
        "weight 2": (arrange(case, some, factor=2.0), near),
        "twice": (arrange(case, np.repeat(some, 2)), near),
        "simulated": (jax.tree.map(np.asarray, simulated), case.away),
    }


@cache
@in_float64
def stretches(case: Case) -> list[dict[str, Point]]:
    """The model in every lane, under one vmap, from the lane's parameters on until EM stands still."""
    names, pairs = zip(*lanes(case).items(), strict=True)
    data, params = jax.tree.map(lambda *leaves: np.stack(leaves), *pairs)
    found = []
    for _ in range(ROUNDS):
        now = jax.device_get(_points(case.model, case.prior, case.fixed, data, params))
        found.append({name: jax.tree.map(lambda a: a[i], now) for i, name in enumerate(names)})  # noqa: B023
        params = now.last
        if all(np.max(np.abs(p.score[1]), initial=0.0) < still(case) for p in found[-1].values()):
            break
    return found


def points(case: Case) -> dict[str, Point]:
    """The first stretch of EM in every lane."""
    return stretches(case)[0]


@cache
@in_float64
def single(case: Case, dtype: Any = np.float64) -> Step:
    """One EM step from `near`, not compiled, one lane, boolean weights where the case has none."""
    data = arrange(case, np.arange(n_units(case.data)), fill=np.nan, weight_dtype=weight_dtype(case))
    data, params = jax.tree.map(lambda a: a.astype(dtype) if a.dtype == np.float64 else a, (data, case.near))
    return jax.device_get(step(case.model, case.prior, case.fixed, *jax.tree.map(jnp.asarray, (data, params))))


def still(case: Case) -> float:
    """A score, a sum over rows of terms of order one, that is 0 as far as square roots of eps can tell."""
    return np.sqrt(EPS) * len(case.many.y)


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
        close(point.user_again, params, SAME, f"{name}: to_user(from_user(params))")
        close(point.inside_again, point.inside, SAME, f"{name}: from_free(to_free(params))")
        close(point.free_again, point.free[0], SAME, f"{name}: to_free(from_free(free))")


def check_e_step(case: Case) -> None:
    """Log-likelihood, log prior and responsibilities are the oracle's, whatever the padding."""
    for name, params, point in asked(case):
        posterior, log_prior = case.oracle.e_step(params), case.oracle.log_prior(params)
        close(point.log_likelihood[0], posterior.log_likelihood, SAME, f"{name}: log-likelihood")
        close(point.objective[0], posterior.log_likelihood + log_prior, SAME, f"{name}: objective")
        if point.prediction is not None:
            unit = np.arange(len(case.data.y)) if case.data.unit is None else case.data.unit
            wanted = posterior.responsibilities[:, unit].T
            close(point.prediction.responsibilities[: len(unit)], wanted, SAME, f"{name}: responsibilities")
            np.testing.assert_array_equal(point.prediction.labels[: len(unit)], np.argmax(wanted, axis=1))


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
            close(leaf_rows(point.params, 1), wanted, CLOSE, f"{name}: M-step")


def check_ten_iterations(case: Case) -> None:
    """Ten iterations end where the oracle's do."""
    if case.closed:
        close(leaf_rows(points(case)["near"].params, TEN), case.oracle.em(case.near, TEN), CLOSE, "ten iterations")


def check_monotone(case: Case) -> None:
    """The objective never falls by more than rounding."""
    for lane in points(case):
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
    close(found.score[0], wanted.score[0], CLOSE, f"{name}: score")
    close(leaf_rows(found.params, 1), leaf_rows(wanted.params, 1), CLOSE, f"{name}: M-step")


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
    found, wanted, order = points(case)["relabelled"], points(case)["near"], permutation(case)
    close(found.log_likelihood[0], wanted.log_likelihood[0], SAME, "log-likelihood")
    close(found.objective[0], wanted.objective[0], SAME, "objective")
    close(leaf_rows(found.params, 1), case.model.relabel(leaf_rows(wanted.params, 1), order), CLOSE, "M-step")
    if found.prediction is not None:
        responsibilities = wanted.prediction.responsibilities[:, order]
        close(found.prediction.responsibilities, responsibilities, SAME, "responsibilities")


def check_compiled_and_vmapped(case: Case) -> None:
    """A lane alone, operation by operation, boolean weights, gives what it gives compiled, under vmap, with weights of 1."""
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


@in_float64
def check_no_retrace(case: Case) -> None:
    """Equal settings are one trace; hyperparameters and fixed values are traced, so other values are the same trace."""
    points(case)
    _, pairs = zip(*lanes(case).items(), strict=True)
    data, params = jax.tree.map(lambda *leaves: np.stack(leaves), *pairs)
    twin = copy.deepcopy(case.model)
    assert twin == case.model and hash(twin) == hash(case.model), "equal settings are not equal, or hash differently"
    before = _points._cache_size()
    prior, fixed = jax.tree.map(lambda a: 1.5 * a, (case.prior, case.fixed))
    _points(twin, prior, fixed, data, params)
    assert _points._cache_size() == before, "a second trace for equal settings"


def check_recovery(case: Case) -> None:
    """EM on data simulated at `near` ends within standard errors of it; its start, `away`, is not within them."""
    fit = stretches(case)[-1]["simulated"]
    if case.n_free == 0:
        return
    assert np.linalg.eigvalsh(fit.information)[0] > 0, "the information at the fit is not positive definite"
    limit = stats.chi2.isf(QUANTILE, case.n_free)
    truth = in_float64(free_coordinates)(case, "simulated", case.near)

    def distance(point: np.ndarray) -> float:
        return float((point - truth) @ fit.information @ (point - truth))

    start = points(case)["simulated"].free[0]
    assert distance(fit.free[1]) < limit, f"the fit is {distance(fit.free[1])} from the truth, more than {limit}"
    assert distance(start) > limit, f"the start is {distance(start)} from the truth, less than {limit}"


def free_coordinates(case: Case, lane: str, params: Any) -> np.ndarray:
    """Of user's parameters, prepared for the data of a lane."""
    data, params = jax.tree.map(jnp.asarray, (lanes(case)[lane][0], params))
    prepared, _ = case.model.prepare(data, case.prior, case.fixed)
    return np.asarray(case.model.to_free(case.model.from_user(params, prepared), prepared))


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
    check_compiled_and_vmapped,
    check_float32,
    check_no_retrace,
    check_recovery,
)

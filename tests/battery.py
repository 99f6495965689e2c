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

PADDING = 8  # rows of weight 0 in every dataset that a model sees
STEP = 1e-3  # of central differences of fourth order
DIRECTIONS = 20  # of differentiation, at most; the coordinates themselves where there are no more
LOOP = 256  # EM steps in one compiled call
ROUNDS = 40  # of such calls until the fixed point
TEN = 10
SIMULATED_STEPS = 1500
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
    iterations)`, as in tests/oracle/problem.py. many : a larger design to simulate on; its y is ignored.
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


def arrange(data: Data, units: Any, factor: float = 1.0, fill: float = 0.0, weight_dtype: Any = np.float64) -> Data:
    """The dataset made of `units`, in that order, weights times `factor`, padded by rows of `fill` with weight 0."""
    unit = np.arange(len(data.y)) if data.unit is None else np.asarray(data.unit)
    places = [np.flatnonzero(unit == u) for u in units]
    rows = np.concatenate(places)
    size = len(data.y) + PADDING
    room = size if data.unit is None else n_units(data) + 2
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


def half(case: Case) -> np.ndarray:
    """As many units as fit twice into the case's rows."""
    return np.arange(n_units(case.data) // 2)


def permutation(case: Case) -> np.ndarray:
    """A cycle of the labels, no involution where there are three."""
    n_components = case.model.n_components
    return np.roll(np.arange(n_components), 1)


# --- compiled once a case -------------------------------------------------------------------------------------------


class Point(NamedTuple):
    """What a model says of one dataset at one set of user's parameters."""

    problem: Any
    free: Any
    log_likelihood: Any
    log_prior: Any
    score: Any  # of the log-likelihood
    after: Any  # user's parameters after one EM step
    around: Any  # user's parameters on the stencil about the point
    around_after: Any  # and about the point after one EM step
    user_again: Any
    free_again: Any
    inside: Any
    inside_again: Any
    prediction: Any


class Step(NamedTuple):
    """One EM step, user's units."""

    problem: Any
    log_likelihood: Any
    log_prior: Any
    after: Any


class Path(NamedTuple):
    """Some EM steps: objectives and parameters before each, those after the last, and the score there."""

    objective: Any
    params: Any
    last: Any
    score: Any


def directions(m: int) -> np.ndarray:
    """Unit vectors (P, m) along which derivatives are taken."""
    if m <= DIRECTIONS:
        return np.eye(m)
    drawn = np.random.default_rng(m).normal(size=(DIRECTIONS, m))
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def _stencil(model: Model, prepared: Any, inside: Any) -> Any:
    free = model.to_free(inside, prepared)
    places = jnp.array([-2.0, -1.0, 1.0, 2.0], free.dtype) * STEP
    along = jnp.asarray(directions(free.shape[0]), free.dtype)
    points = free[None, None, :] + places[None, :, None] * along[:, None, :]

    def user(free: Any) -> Any:
        return model.to_user(model.from_free(free, prepared, inside), prepared)

    return jax.vmap(jax.vmap(user))(points)


def _point(model: Any, prior: Any, fixed: Any, data: Data, params: Any) -> Point:
    prepared, problem = model.prepare(data, prior, fixed)
    inside = model.from_user(params, prepared)
    free = model.to_free(inside, prepared)

    def log_likelihood(free: Any) -> Any:
        return model.expect(model.from_free(free, prepared, inside), prepared).log_likelihood

    after, value = em_step(model, inside, prepared)
    again = model.from_free(free, prepared, inside)
    has_predict = type(model).predict is not Model.predict
    return Point(
        problem=problem,
        free=free,
        log_likelihood=value,
        log_prior=model.log_prior(inside, prepared),
        score=jax.grad(log_likelihood)(free),
        after=model.to_user(after, prepared),
        around=_stencil(model, prepared, inside),
        around_after=_stencil(model, prepared, after),
        user_again=model.to_user(inside, prepared),
        free_again=model.to_free(again, prepared),
        inside=inside,
        inside_again=again,
        prediction=model.predict(inside, prepared) if has_predict else None,
    )


@partial(jax.jit, static_argnames=("model",))
def _points(model: Any, prior: Any, fixed: Any, data: Data, params: Any) -> Point:
    return jax.vmap(partial(_point, model, prior, fixed))(data, params)


def step(model: Any, prior: Any, fixed: Any, data: Data, params: Any) -> Step:
    """One EM step from user's parameters, without jit."""
    prepared, problem = model.prepare(data, prior, fixed)
    inside = model.from_user(params, prepared)
    after, log_likelihood = em_step(model, inside, prepared)
    return Step(problem, log_likelihood, model.log_prior(inside, prepared), model.to_user(after, prepared))


_jitted_step = jax.jit(step, static_argnames=("model",))


@partial(jax.jit, static_argnames=("model",))
def _path(model: Any, prior: Any, fixed: Any, data: Data, params: Any) -> Path:
    prepared, _ = model.prepare(data, prior, fixed)

    def advance(inside: Any, _: Any) -> tuple[Any, Any]:
        after, log_likelihood = em_step(model, inside, prepared)
        return after, (log_likelihood + model.log_prior(inside, prepared), model.to_user(inside, prepared))

    last, (objective, params) = jax.lax.scan(advance, model.from_user(params, prepared), length=LOOP)
    score = jax.grad(partial(_objective, model, prepared, last))(model.to_free(last, prepared))
    return Path(objective, params, model.to_user(last, prepared), score)


def _objective(model: Any, prepared: Any, like: Any, free: Any) -> Any:
    params = model.from_free(free, prepared, like)
    return model.expect(params, prepared).log_likelihood + model.log_prior(params, prepared)


class Recovery(NamedTuple):
    """Free coordinates of the truth, of the start and of the fit to simulated data; score and information at the fit."""

    truth: Any
    start: Any
    fit: Any
    score: Any
    information: Any
    labels: Any


@partial(jax.jit, static_argnames=("model",))
def _recover(model: Any, prior: Any, fixed: Any, data: Data, truth: Any, start: Any, key: Any) -> Recovery:
    data, labels = model.sample(key, truth, data)
    prepared, _ = model.prepare(data, prior, fixed)
    first = model.from_user(start, prepared)
    last = jax.lax.fori_loop(0, SIMULATED_STEPS, lambda _, inside: em_step(model, inside, prepared)[0], first)
    free = model.to_free(last, prepared)
    score = jax.grad(partial(_objective, model, prepared, last))
    columns = jax.lax.map(lambda v: jax.jvp(score, (free,), (v,))[1], jnp.eye(free.shape[0], dtype=free.dtype))
    true = model.to_free(model.from_user(truth, prepared), prepared)
    return Recovery(true, model.to_free(first, prepared), free, score(free), -columns, labels)


LANES = ("near", "away", "nan", "permuted", "relabelled", "weight 2", "twice")


@cache
@in_float64
def points(case: Case) -> dict[str, Point]:
    """The model at every dataset and parameter set of `LANES`, computed under one vmap."""
    units = np.arange(n_units(case.data))
    shuffled = np.random.default_rng(0).permutation(units)
    some = half(case)
    near = case.near
    relabelled = jax.tree.map(np.asarray, case.model.relabel(near, permutation(case))) if case.exchangeable else near
    lanes = [
        (arrange(case.data, units), near),
        (arrange(case.data, units), case.away),
        (arrange(case.data, units, fill=np.nan), near),
        (arrange(case.data, shuffled), near),
        (arrange(case.data, units), relabelled),
        (arrange(case.data, some, factor=2.0), near),
        (arrange(case.data, np.repeat(some, 2)), near),
    ]
    data, params = jax.tree.map(lambda *leaves: np.stack(leaves), *lanes)
    found = jax.device_get(_points(case.model, case.prior, case.fixed, data, params))
    return {name: jax.tree.map(lambda a: a[i], found) for i, name in enumerate(LANES)}  # noqa: B023 (used at once)


@cache
@in_float64
def single(case: Case) -> Step:
    """One EM step from `near`, compiled, one lane, boolean weights where the case has none."""
    data = arrange(case.data, np.arange(n_units(case.data)), fill=np.nan, weight_dtype=weight_dtype(case))
    return jax.device_get(_jitted_step(case.model, case.prior, case.fixed, data, case.near))


@cache
@in_float64
def paths(case: Case) -> list[Path]:
    """EM from `near` to the fixed point."""
    data = arrange(case.data, np.arange(n_units(case.data)))
    found, params = [], case.near
    for _ in range(ROUNDS):
        found.append(jax.device_get(_path(case.model, case.prior, case.fixed, data, params)))
        params = found[-1].last
        if np.max(np.abs(found[-1].score), initial=0.0) < still(case):
            break
    return found


def still(case: Case) -> float:
    """A score, a sum over rows of terms of order one, that is 0 as far as square roots of eps can tell."""
    return np.sqrt(EPS) * len(case.data.y)


def leaf_rows(tree: Any, *index: int) -> Any:
    """One entry of stacked parameters."""
    return jax.tree.map(lambda a: np.asarray(a)[index], tree)


def differences(function: Callable[[Any], float], around: Any) -> np.ndarray:
    """Derivatives of a function of user's parameters along `directions`, from its values on the stencil."""
    count = jax.tree.leaves(around)[0].shape[0]
    values = np.array([[function(leaf_rows(around, i, j)) for j in range(4)] for i in range(count)]).reshape(count, 4)
    return (values @ np.array([1.0, -8.0, 8.0, -1.0])) / (12.0 * STEP)


# --- checks ---------------------------------------------------------------------------------------------------------


def check_data_is_valid(case: Case) -> None:
    """The case's data have no problem in any arrangement, else the other checks say nothing."""
    for name, point in points(case).items():
        assert point.problem == 0, f"{name}: problem {point.problem}"


def check_number_of_free_coordinates(case: Case) -> None:
    """As counted by hand."""
    assert points(case)["near"].free.shape == (case.n_free,)


def check_round_trips(case: Case) -> None:
    """User's units to prepared ones and back; constrained parameters to free ones and back, and the other way round."""
    for name, params in (("near", case.near), ("away", case.away)):
        point = points(case)[name]
        close(point.user_again, params, SAME, f"{name}: to_user(from_user(params))")
        close(point.inside_again, point.inside, SAME, f"{name}: from_free(to_free(params))")
        close(point.free_again, point.free, SAME, f"{name}: to_free(from_free(free))")


def check_e_step(case: Case) -> None:
    """Log-likelihood, log prior and responsibilities are the oracle's."""
    for name, params in (("near", case.near), ("away", case.away)):
        point, posterior = points(case)[name], case.oracle.e_step(params)
        close(point.log_likelihood, posterior.log_likelihood, SAME, f"{name}: log-likelihood")
        close(point.log_prior, case.oracle.log_prior(params), SAME, f"{name}: log prior")
        if point.prediction is not None:
            unit = np.arange(len(case.data.y)) if case.data.unit is None else case.data.unit
            wanted = posterior.responsibilities[:, unit].T
            close(point.prediction.responsibilities[: len(unit)], wanted, SAME, f"{name}: responsibilities")
            np.testing.assert_array_equal(point.prediction.labels[: len(unit)], np.argmax(wanted, axis=1))


def check_fisher_identity(case: Case) -> None:
    """At the current parameters the gradient of the log-likelihood is that of the oracle's Q."""
    for name, params in (("near", case.near), ("away", case.away)):
        point, resp = points(case)[name], case.oracle.e_step(params).responsibilities
        gradient = differences(lambda p: case.oracle.q(p, resp), point.around)  # noqa: B023 (used at once)
        scale = 1.0 + abs(case.oracle.q(params, resp))
        along = directions(case.n_free) @ point.score
        np.testing.assert_allclose(along, gradient, rtol=0.0, atol=DIFFERENCE * scale, err_msg=name)
        if case.n_free and name == "away":
            assert np.max(np.abs(gradient)) > 1e3 * DIFFERENCE * scale, "the score vanishes at `away`: move it"


def check_m_step_maximises_q(case: Case) -> None:
    """After the M-step the gradient of the oracle's Q plus log prior is 0."""
    if not case.exact_m_step:
        return
    for name, params in (("near", case.near), ("away", case.away)):
        point, resp = points(case)[name], case.oracle.e_step(params).responsibilities

        def objective(p: Any, resp: Any = resp) -> float:
            return case.oracle.q(p, resp) + case.oracle.log_prior(p)

        gradient = differences(objective, point.around_after)
        scale = 1.0 + abs(objective(params))
        np.testing.assert_allclose(gradient, 0.0, rtol=0.0, atol=DIFFERENCE * scale, err_msg=name)
        assert objective(point.after) >= objective(params) - SAME * scale, f"{name}: the M-step lowered Q"


def check_m_step(case: Case) -> None:
    """One M-step is the oracle's."""
    if not case.closed:
        return
    for name, params in (("near", case.near), ("away", case.away)):
        wanted = case.oracle.m_step(params, case.oracle.e_step(params).responsibilities)
        close(points(case)[name].after, wanted, CLOSE, f"{name}: M-step")


def check_ten_iterations(case: Case) -> None:
    """Ten iterations end where the oracle's do."""
    if case.closed:
        close(leaf_rows(paths(case)[0].params, TEN), case.oracle.em(case.near, TEN), CLOSE, "ten iterations")


def check_monotone(case: Case) -> None:
    """The objective never falls by more than rounding."""
    objective = np.concatenate([path.objective for path in paths(case)])
    slack = SAME * (len(case.data.y) + np.max(np.abs(objective)))
    worst = np.min(np.diff(objective))
    assert np.all(np.isfinite(objective)), "the objective is not finite"
    assert worst >= -slack, f"the objective fell by {-worst} at step {np.argmin(np.diff(objective))}"


def check_score_at_the_fixed_point(case: Case) -> None:
    """Where EM stands still, the gradient of the objective is 0."""
    path = paths(case)[-1]
    np.testing.assert_allclose(path.score, 0.0, rtol=0.0, atol=still(case))
    moved = max(np.max(np.abs(a[-1] - b), initial=0.0) for a, b in zip(*map(jax.tree.leaves, (path.params, path.last))))
    size = max(np.max(np.abs(a)) for a in jax.tree.leaves(path.last))
    assert moved <= 1e2 * np.sqrt(EPS) * size, f"EM still moves, by {moved}"


def _same_point(case: Case, name: str, other: str, prediction: bool = False) -> None:
    found, wanted = points(case)[name], points(case)[other]
    for field in ("log_likelihood", "log_prior", "score", "after"):
        tolerance = CLOSE if field in ("after", "score") else SAME
        close(getattr(found, field), getattr(wanted, field), tolerance, f"{name}: {field}")
    if prediction and found.prediction is not None:
        rows = len(case.data.y)
        close(found.prediction.responsibilities[:rows], wanted.prediction.responsibilities[:rows], SAME, name)


def check_padding(case: Case) -> None:
    """What stands in rows of weight 0, NaN too, changes nothing; that they are there changes nothing (see the oracle)."""
    rows = len(case.data.y)
    found, wanted = points(case)["nan"], points(case)["near"]
    jax.tree.map(np.testing.assert_array_equal, found._replace(prediction=None), wanted._replace(prediction=None))
    for a, b in zip(jax.tree.leaves(found.prediction), jax.tree.leaves(wanted.prediction), strict=True):
        np.testing.assert_array_equal(a[:rows], b[:rows])
    close(single(case).after, points(case)["near"].after, CLOSE, "NaN in padding, one lane")


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
    close(found.log_likelihood, wanted.log_likelihood, SAME, "log-likelihood")
    close(found.log_prior, wanted.log_prior, SAME, "log prior")
    relabelled = case.model.relabel(wanted.after, order)
    close(found.after, relabelled, CLOSE, "M-step")
    if found.prediction is not None:
        responsibilities = wanted.prediction.responsibilities[:, order]
        close(found.prediction.responsibilities, responsibilities, SAME, "responsibilities")


def check_vmapped_is_looped(case: Case) -> None:
    """A lane under vmap gives what it gives alone."""
    alone, point = single(case), points(case)["near"]
    close(alone.log_likelihood, point.log_likelihood, SAME, "log-likelihood")
    close(alone.log_prior, point.log_prior, SAME, "log prior")
    close(alone.after, point.after, CLOSE, "M-step")


@in_float64
def check_jit_is_no_jit(case: Case) -> None:
    """Compiled and operation by operation the same."""
    data = arrange(case.data, np.arange(n_units(case.data)), weight_dtype=weight_dtype(case))
    data, params = jax.tree.map(jnp.asarray, (data, case.near))
    eager = step(case.model, case.prior, case.fixed, data, params)
    close(eager.log_likelihood, single(case).log_likelihood, SAME, "log-likelihood")
    close(eager.log_prior, single(case).log_prior, SAME, "log prior")
    close(eager.after, single(case).after, CLOSE, "M-step")


@in_float64
def check_float32(case: Case) -> None:
    """float32 stays float32 and ends near float64."""
    data = arrange(case.data, np.arange(n_units(case.data)), weight_dtype=weight_dtype(case))

    def cast(a: Any) -> Any:
        return a.astype(np.float32) if a.dtype == np.float64 else a

    data, params = jax.tree.map(cast, (data, case.near))
    found, wanted = _jitted_step(case.model, case.prior, case.fixed, data, params), single(case)
    for path, leaf in jax.tree_util.tree_leaves_with_path(found._replace(problem=None)):
        assert leaf.dtype == jnp.float32, f"{jax.tree_util.keystr(path)} is {leaf.dtype}"
    close(found.log_likelihood, wanted.log_likelihood, CLOSE32, "log-likelihood")
    close(found.log_prior, wanted.log_prior, CLOSE32, "log prior")
    close(found.after, wanted.after, CLOSE32, "M-step")


@in_float64
def check_no_retrace(case: Case) -> None:
    """Equal settings are one trace; hyperparameters and fixed values are traced, so other values are the same trace."""
    single(case)
    data = arrange(case.data, np.arange(n_units(case.data)), weight_dtype=weight_dtype(case))
    twin = copy.deepcopy(case.model)
    assert twin == case.model and hash(twin) == hash(case.model), "equal settings are not equal, or hash differently"
    before = _jitted_step._cache_size()
    prior, fixed = jax.tree.map(lambda a: 1.5 * a, (case.prior, case.fixed))
    _jitted_step(twin, prior, fixed, data, case.away)
    assert _jitted_step._cache_size() == before, "a second trace for equal settings"


@in_float64
def check_recovery(case: Case) -> None:
    """EM on data simulated at `near` ends within standard errors of it; its start, `away`, is not within them."""
    found = jax.device_get(
        _recover(case.model, case.prior, case.fixed, case.many, case.near, case.away, jax.random.key(1))
    )
    np.testing.assert_allclose(found.score, 0.0, atol=np.sqrt(EPS) * len(case.many.y))
    if case.n_free == 0:
        return
    assert np.linalg.eigvalsh(found.information)[0] > 0, "the information at the fit is not positive definite"
    limit = stats.chi2.isf(QUANTILE, case.n_free)

    def distance(point: np.ndarray) -> float:
        return float((point - found.truth) @ found.information @ (point - found.truth))

    assert distance(found.fit) < limit, f"the fit is {distance(found.fit)} from the truth, more than {limit}"
    assert distance(found.start) > limit, f"the start is {distance(found.start)} from the truth, less than {limit}"


CHECKS: tuple[Callable[[Case], None], ...] = (
    check_data_is_valid,
    check_number_of_free_coordinates,
    check_round_trips,
    check_e_step,
    check_fisher_identity,
    check_m_step_maximises_q,
    check_m_step,
    check_padding,
    check_weight_two_is_twice,
    check_order_of_units,
    check_labels,
    check_vmapped_is_looped,
    check_ten_iterations,
    check_monotone,
    check_score_at_the_fixed_point,
    check_jit_is_no_jit,
    check_float32,
    check_no_retrace,
    check_recovery,
)

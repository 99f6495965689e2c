"""A model asked about one dataset in several arrangements, under one compiled function a case: what the battery checks.

Everything runs in float64 inside `jax.enable_x64(True)`, whatever the global flag says.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial, wraps
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from emjax import Data, Degeneracy, Model, Status, em_step
from emjax.engine import em, stopping

EPS = float(np.finfo(np.float64).eps)
STEP = 1e-3  # of central differences of fourth order
DIRECTIONS = 20  # of differentiation, at most; the coordinates themselves where there are no more
LOOP = 256  # EM steps in one compiled call
ROUNDS = 40  # of such calls until the fixed point
NEVER = Degeneracy(min_scale_ratio=0.0, min_rows=0.0)  # collapses


@dataclass(frozen=True, eq=False)
class Case:
    """A model and all that its checks need. Arrays are NumPy's, float64, in the user's units.

    data : without padding; unit ids 0, 1, ...; weight (U,) or None. near : the truth by which data are simulated;
    away : parameters far from it. oracle : `e_step(params)` with log_likelihood and responsibilities, `q(params,
    responsibilities)`, `log_prior(params)`, and where `closed` is True `m_step(params, responsibilities)` and
    `em(params, iterations)`, as in tests/oracle/problem.py; `predict(params)` where it predicts no labels.
    many : a larger design to simulate on, weights of 1; its y is ignored, and `data` are padded to its size.
    exact_m_step : whether the M-step maximises Q. exchangeable : whether components may swap labels. identified : how
    many of the n_free coordinates the data identify, where not all; 0 where a fit is no maximum of the likelihood.
    slow : left to the slow tests.

    Blocks of rows (`Model.row_blocks`) are as long as `many`, their first rows those of `data`; n_free counts padding.
    An oracle whose objective is not log-likelihood plus log prior has `objective(params)`.
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
    identified: int | None = None
    slow: bool = False


def in_float64(function: Callable[..., Any]) -> Callable[..., Any]:
    """Run it with 64-bit types, without touching the global flag."""

    @wraps(function)
    def inside(*args: Any, **kwargs: Any) -> Any:
        with jax.enable_x64(True):
            return function(*args, **kwargs)

    return inside


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


def of_rows(case: Case, params: Any, rows: Any, size: int) -> Any:
    """Parameters with these rows of their blocks of rows, NaN from there to `size`."""
    blocks = {}
    for name in case.model.row_blocks:
        block = np.asarray(getattr(params, name))
        blocks[name] = np.full((size, *block.shape[1:]), np.nan, block.dtype)
        blocks[name][: len(rows)] = block[rows]
    return params._replace(**blocks) if blocks else params


def bare(case: Case, params: Any, rows: Any = None) -> Any:
    """User's parameters without the rows of padding, or these rows of theirs."""
    rows = np.arange(len(case.data.y)) if rows is None else rows
    return of_rows(case, params, rows, len(rows))


def weight_dtype(case: Case) -> Any:
    """Booleans where the case gives no weights: the faster way of the E-step."""
    return np.bool_ if case.data.weight is None else np.float64


def permutation(case: Case) -> np.ndarray:
    """A cycle of the labels, no involution where there are three."""
    n_labels = case.model.n_topics if case.model.row_blocks else case.model.n_components
    return np.roll(np.arange(n_labels), 1)


# --- compiled once a case -------------------------------------------------------------------------------------------


class Point(NamedTuple):
    """What a model says of one dataset and of a stretch of EM from one set of user's parameters."""

    problem: Any
    gave_up: Any  # whether a step could not be mended by the engine's guard
    log_likelihood: Any  # (LOOP,), before each step
    objective: Any  # (LOOP,)
    params: Any  # (LOOP, ...), user's
    last: Any  # user's, after the last step
    score: Any  # (2, m): gradient of the objective at the first and last parameters
    information: Any  # (m, m), at the last parameters
    canonical: Any  # (): objective of the first parameters in their canonical labels
    around: Any  # user's parameters on stencils about those before (0) and after (1) the first step
    free: Any  # (2, m): at the first and last parameters
    user_again: Any
    free_again: Any
    there_and_back: Any  # user's, through free coordinates, in which loadings may be rotated
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


def _em(model: Any, prepared: Any, inside: Any) -> tuple[Any, tuple[Any, Any], Any]:
    """LOOP steps: the last parameters; log-likelihood and parameters before each step; whether the guard gave up."""

    def advance(inside: Any, _: Any) -> tuple[Any, Any]:
        after, log_likelihood = em_step(model, inside, prepared)
        return after, (log_likelihood, inside)

    if not model.monotone:
        return _guarded_em(model, prepared, inside)
    return *jax.lax.scan(advance, inside, length=LOOP), jnp.zeros((), bool)


def _guarded_em(model: Any, prepared: Any, inside: Any) -> tuple[Any, tuple[Any, Any], Any]:
    """The same as the engine runs it where a step may lower the objective: what its guard accepted, tick by tick.

    A lane forgets that it would stop; a tick whose step is being halved repeats what was accepted before it.
    """
    dtype = jnp.result_type(float)
    limit = jnp.int32(2**31 - 1)

    def advance(lane: Any, _: Any) -> tuple[Any, Any]:
        lane = em.tick(model, NEVER, limit, prepared, lane)
        params, log_likelihood, _, _ = lane.accepted
        gave_up = lane.status == Status.DECREASED
        going = lane._replace(status=jnp.int32(Status.RUNNING), progress=stopping.begin(dtype))
        return going, (log_likelihood, params, gave_up)

    start = em.begin(model, inside, jnp.zeros((), dtype), prepared, dtype)
    _, (log_likelihood, passed, gave_up) = jax.lax.scan(advance, start, length=LOOP + 1)
    before = jax.tree.map(lambda a: a[:LOOP], passed)
    return jax.tree.map(lambda a: a[LOOP], passed), (log_likelihood[:LOOP], before), jnp.any(gave_up)


def _point(model: Any, prior: Any, fixed: Any, data: Data, params: Any) -> Point:
    prepared, problem = model.prepare(data, prior, fixed)
    inside = model.from_user(params, prepared)

    def to_user(params: Any) -> Any:
        return model.to_user(params, prepared)

    def from_free(free: Any) -> Any:
        return model.from_free(free, prepared, inside)

    def objective(free: Any) -> Any:
        params = from_free(free)
        return model.objective(params, prepared, model.expect(params, prepared).log_likelihood)

    last, (log_likelihood, passed), gave_up = _em(model, prepared, inside)
    objectives = jax.vmap(lambda params, value: model.objective(params, prepared, value))(passed, log_likelihood)
    ends = jax.tree.map(lambda a, b: jnp.stack([a[0], a[1], b]), passed, last)
    free = jax.vmap(lambda params: model.to_free(params, prepared))(ends)
    m = free.shape[1]
    # The score at both ends and about the last, in one vmap: its differences are the information.
    nearby = free[2:] + STEP / 10.0 * jnp.concatenate([jnp.eye(m, dtype=free.dtype), -jnp.eye(m, dtype=free.dtype)])
    canonical = model.to_free(model.canonical(inside, prepared), prepared)
    values, scores = jax.vmap(jax.value_and_grad(objective))(jnp.concatenate([free[::2], nearby, canonical[None]]))
    columns = (scores[2 : 2 + m] - scores[2 + m : -1]) / (STEP / 5.0)
    places = jnp.array([-2.0, -1.0, 1.0, 2.0], free.dtype)[None, :, None] * STEP
    stencil = places * jnp.asarray(directions(m), free.dtype)[:, None, :]
    stencil = free[:2, None, None, :] + stencil[None]
    around = jax.vmap(jax.vmap(jax.vmap(lambda free: to_user(from_free(free)))))(stencil)
    again = from_free(free[0])
    has_predict = type(model).predict is not Model.predict
    return Point(
        problem=problem,
        gave_up=gave_up,
        log_likelihood=log_likelihood,
        objective=objectives,
        params=jax.vmap(to_user)(passed),
        last=to_user(last),
        score=scores[:2],
        information=-0.5 * (columns + columns.T),
        canonical=values[-1],
        around=around,
        free=free[::2],
        user_again=to_user(inside),
        free_again=model.to_free(again, prepared),
        there_and_back=to_user(again),
        prediction=model.predict(inside, prepared) if has_predict else None,
    )


@partial(jax.jit, static_argnames=("model",))
def compiled_points(model: Any, prior: Any, fixed: Any, data: Data, params: Any) -> Point:
    return jax.vmap(partial(_point, model, prior, fixed))(data, params)


def step(model: Any, prior: Any, fixed: Any, data: Data, params: Any) -> Step:
    """One EM step from user's parameters: one lane, operation by operation."""
    prepared, problem = model.prepare(data, prior, fixed)
    inside = model.from_user(params, prepared)
    after, log_likelihood = em_step(model, inside, prepared)
    objective = model.objective(inside, prepared, log_likelihood)
    return Step(problem, log_likelihood, objective, model.to_user(after, prepared))


def units_of(case: Case) -> dict[str, np.ndarray]:
    """The units of the case's data that each arrangement holds, in its order."""
    units = np.arange(n_units(case.data))
    some = units[: len(units) // 2]
    every = dict.fromkeys(("near", "away", "nan", "relabelled"), units)
    shuffled = np.random.default_rng(0).permutation(units)
    return {**every, "permuted": shuffled, "weight 2": some, "twice": np.repeat(some, 2)}


def arrangements(case: Case) -> dict[str, tuple[Data, Any]]:
    """The datasets and parameters at which a model is asked."""
    near, relabelled, held = case.near, case.near, units_of(case)
    if case.exchangeable:
        relabelled = jax.tree.map(np.asarray, case.model.relabel(near, permutation(case)))
    simulated, _ = case.model.sample(jax.random.key(1), *jax.tree.map(jnp.asarray, (near, case.many)))

    def at(lane: str, params: Any, **how: Any) -> tuple[Data, Any]:
        return arrange(case, held[lane], **how), of_rows(case, params, held[lane], len(case.many.y))

    return {
        "near": at("near", near),
        "away": at("away", case.away),
        "nan": at("nan", near, fill=np.nan),
        "permuted": at("permuted", near),
        "relabelled": at("relabelled", relabelled),
        "weight 2": at("weight 2", near, factor=2.0),
        "twice": at("twice", near),
        "simulated": (jax.tree.map(np.asarray, simulated), case.away),
    }


@cache
@in_float64
def stretches(case: Case) -> list[dict[str, Point]]:
    """The model in every lane, under one vmap, from the lane's parameters on until EM stands still."""
    names, pairs = zip(*arrangements(case).items(), strict=True)
    data, params = jax.tree.map(lambda *leaves: np.stack(leaves), *pairs)
    found = []
    for _ in range(ROUNDS):
        now = jax.device_get(compiled_points(case.model, case.prior, case.fixed, data, params))
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
    params = arrangements(case)["near"][1]
    data, params = jax.tree.map(lambda a: a.astype(dtype) if a.dtype == np.float64 else a, (data, params))
    return jax.device_get(step(case.model, case.prior, case.fixed, *jax.tree.map(jnp.asarray, (data, params))))


def still(case: Case) -> float:
    """A score, a sum over rows of terms of order one, that is 0 as far as square roots of eps can tell."""
    return np.sqrt(EPS) * len(case.many.y)

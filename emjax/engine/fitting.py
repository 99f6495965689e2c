"""`fit` for one dataset and `fit_many` for thousands: the public way in."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import jax
import numpy as np

from emjax.base.protocols import Model
from emjax.base.records import Data
from emjax.base.settings import Degeneracy, Race, Stop
from emjax.base.status import DataError, Problem, Status
from emjax.engine import blocks, datasets, devices, diagnosis, keys, pipeline, planning, row_blocks, runner, templates
from emjax.engine.acceleration import check as check_acceleration
from emjax.engine.certificate import Certificate
from emjax.engine.choice import Landscape
from emjax.engine.chunks import Chunk, ChunkFit, Plan
from emjax.engine.datasets import Batch
from emjax.engine.generated import Generated
from emjax.engine.results import Fit, Fits, Settings
from emjax.engine.runner import Advance, Job, Part


def fit(model: Model, data: Data, key: Any, *, id: Any = 0, certificate: bool | None = None, **settings: Any) -> Fit:
    """Fit one dataset from several restarts.

    The settings are those of `fit_many`. `id` names the dataset: with a batch's key, settings and the name of one of
    its datasets, that fit is had again, to the bit. Data that cannot be fitted raise `DataError`, which names the
    culprit.

    Returns a `Fit`.
    """
    check_model(model)
    if "ids" in settings:
        raise DataError("fit takes one dataset: name it by id=, not ids=.")
    settings.setdefault("threads", 1)
    single = datasets.one(model, data)
    found = fit_many(model, [data], key, ids=[id], certificate=certificate, **settings)
    if found.status[0] == Status.INVALID_DATA:
        raise DataError(diagnosis.explain(model, single, Problem(int(found.problems[0]))))
    return found[0]


def fit_many(
    model: Model,
    data: Data | Sequence[Data],
    key: Any,
    *,
    restarts: int | str | None = None,
    start: Any = None,
    stop: Stop = Stop(),  # noqa: B008 (frozen)
    degeneracy: Degeneracy = Degeneracy(),  # noqa: B008 (frozen)
    race: Race | None = None,
    prior: Any = None,
    fixed: Any = None,
    precision: str = "float64",
    polish: bool = True,
    acceleration: str | None = "auto",
    certificate: bool | None = None,
    ids: Iterable[Any] | None = None,
    chunk: int | None = None,
    threads: int | None = None,
    progress: Callable[[Advance], None] | None = None,
) -> Fits:
    """Fit many independent datasets, each from many restarts.

    Parameters
    ----------
    model : such as `Mixture(LinearRegression(), 2)`.
    data : `Data` whose y has a leading axis D (x (n, p) is shared, (D, n, p) one a dataset; likewise the others), or a
        list of `Data`, of any rows (none: INVALID_DATA); kept, not copied: leave the arrays unchanged while they serve.
    key : a whole number of any size, or a typed jax key.
    restarts : starts per dataset, 20 by default; "auto" adds ten at a time until the Good-Turing estimate of the
        chance of a new mode is below 5 %, or a hundred.
    start : None rotates through the model's strategies; the name of one, or a tuple of names; parameters in the user's
        units, shared or with leading axes D (then one restart) or D and R (a start each); or `Perturbed(params)`.
    stop, degeneracy : see `Stop` and `Degeneracy`.
    race : None runs every restart to its end; `Race()` only the best few of each dataset after a short run.
    prior : {"weights": Dirichlet(...), "family": ...} for maximum a posteriori estimates.
    fixed : blocks held fixed, by name, in the user's units: {"weights": ...}.
    precision : "float64", whatever jax's global flag says, or "float32"; with `polish` the restart chosen in float32 is
        finished in float64, without it the estimated gap is reported and nothing is promised.
    acceleration : "squarem" extrapolates EM's steps (Varadhan & Roland 2008), "auto" those of slow restarts, None none.
    certificate : True also computes the information of models with more than 30 free parameters, False computes nothing
        and makes no second pass.
    ids : names of the datasets, unique; by default their positions. A fit depends on its data, its name, the key and
        the settings alone.
    chunk : datasets at a time; it bounds memory and changes no result. threads : chunks at a time, by default one a
        core, or a device where there are GPUs; over several devices they are spread.
    progress : called with an `Advance` after each chunk.

    Ctrl-C returns the finished chunks, with `complete` False. Errors: `DataError` for what is wrong as a whole; a
    dataset that cannot be fitted gets the status INVALID_DATA and harms no other.

    Returns `Fits`.
    """
    check_arguments(model, stop, degeneracy, polish, acceleration, certificate, chunk, threads)
    root = keys.root_key(key)
    words = int(root[0]), int(root[1])
    settings = Settings(
        stop, degeneracy, restarts, (), precision, polish, certificate, words, prior, fixed, race, acceleration
    )
    return _fit_all(model, data, root, settings, start, ids, chunk, threads or devices.default_threads(), progress)


def _fit_all(
    model: Model,
    data: Any,
    root: np.ndarray,
    settings: Settings,
    start: Any,
    ids: Any,
    chunk: int | None,
    threads: int,
    progress: Callable[[Advance], None] | None,
) -> Fits:
    streamed = isinstance(data, Generated)
    groups, n_datasets = ([data], len(data)) if streamed else datasets.batches(model, data)
    plan, given, spread = planning.plan_for(model, settings, start)
    prior, fixed = settings.prior, settings.fixed
    if any(value is not None for value in (given, prior, fixed)):
        template = templates.of(model, groups[0], prior, int(np.max(row_blocks.rows_of(data, n_datasets))))
        model.check_settings(prior, fixed, None)
        templates.check_fixed(model, fixed, template)
        if given is not None:
            given = templates.given_starts(given, template, n_datasets, shared=streamed)
            plan = planning.one_lane_a_start(plan, settings.restarts, jax.tree.leaves(given)[0].shape[1], spread)
            planning.check_starts(model, given)
    names = _names(ids, n_datasets)
    words = keys.dataset_words(names)

    pool = devices.Pool(threads)

    def run(job: Job) -> ChunkFit:
        positions = job.batch.positions[job.rows]
        first = None if given is None else jax.tree.map(lambda a: _fill(a[positions], job.size), given)
        with pool.device():
            own = job.batch.chunk(job.rows, job.size)
            return pipeline.fit_chunk(
                replace(plan, width=job.width),
                Chunk(own, _fill(words[positions], job.size), len(positions), root, prior, fixed, first, spread),
            )

    jobs = [job for group in groups for job in _jobs(group, plan, chunk, threads)]
    parts, complete = runner.run_all(run, jobs, threads, n_datasets, progress)
    ran = plan.cap if settings.restarts != "auto" else "auto"
    settings = replace(settings, restarts=ran, strategies=plan.strategies)
    return _assemble(model, data, names, parts, complete, settings)


def check_model(model: Any) -> None:
    """`DataError` where it is no model."""
    if isinstance(model, type) or not (hasattr(model, "expect") and hasattr(model, "maximize")):
        raise DataError(f"{model!r} is not a model: try Mixture(LinearRegression(), 2).")


def check_arguments(
    model: Any, stop: Any, degeneracy: Any, polish: Any, acceleration: Any, certificate: Any, chunk: Any, threads: Any
) -> None:
    """What is of the wrong kind altogether: `DataError`."""
    check_model(model)
    check_acceleration(acceleration)
    if not isinstance(stop, Stop):
        raise DataError(f"stop={stop!r}: give Stop(tol=..., max_iterations=...).")
    if not isinstance(degeneracy, Degeneracy):
        raise DataError(f"degeneracy={degeneracy!r}: give Degeneracy(...).")
    if not isinstance(polish, bool) or not (certificate is None or isinstance(certificate, bool)):
        raise DataError(f"polish={polish!r} and certificate={certificate!r}: use True or False.")
    for name, value in (("chunk", chunk), ("threads", threads)):
        if value is not None:
            check_whole(name, value, 1)


def check_whole(name: str, value: Any, smallest: int) -> None:
    """`DataError` where it is not a whole number, `smallest` or larger."""
    whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not (whole and value >= smallest):
        raise DataError(f"{name}={value!r}: give a whole number, {smallest} or larger.")


def _fill(rows: np.ndarray, size: int) -> np.ndarray:
    return np.concatenate([rows, np.repeat(rows[-1:], size - len(rows), axis=0)])


def _names(ids: Iterable[Any] | None, n_datasets: int) -> np.ndarray:
    if ids is None:
        return np.arange(n_datasets)
    if isinstance(ids, (str, bytes)) or not isinstance(ids, Iterable):
        raise DataError(f"ids={ids!r}: give a list of names, one a dataset.")
    names = list(ids)
    if len(names) != n_datasets:
        raise DataError(f"ids has {len(names)} names but there are {n_datasets} datasets: give one name a dataset.")
    if len(set(map(str, names))) != len(names):
        raise DataError("ids has a name twice: two datasets of one name would get the same starts.")
    whole = all(isinstance(name, (int, np.integer)) for name in names)
    small = whole and all(-(2**63) <= int(name) < 2**63 for name in names)
    found = np.empty(len(names), np.int64 if small else object)
    found[:] = names
    return found


def _jobs(batch: Batch | Generated, plan: Plan, chunk: int | None, threads: int) -> list[Job]:
    """Chunks of a batch; by default as many datasets as lanes and bytes allow, and work for every thread."""
    count = len(batch.positions)
    if chunk is None:
        chunk = blocks.chunk_for(devices.current(), batch.dataset_bytes, plan.restarts, count, threads)
    # The last chunk of a stream is padded to the size of the others: one shape, one compile.
    chunk = max(1, chunk if isinstance(batch, Generated) else min(chunk, count))
    width = blocks.width_for(devices.current(), batch.dataset_bytes)
    size = blocks.capacity_for(chunk, width)
    return [Job(batch, slice(first, min(first + chunk, count)), size, width) for first in range(0, count, chunk)]


def _assemble(
    model: Model,
    data: Any,
    names: np.ndarray,
    parts: list[Part],
    complete: bool,
    settings: Settings,
) -> Fits:
    """Chunks in the order of the datasets."""
    positions = np.concatenate([p for p, _ in parts])
    order = np.argsort(positions, kind="stable")
    results = [r for _, r in parts]

    def join(pick: Callable[[ChunkFit], Any]) -> Any:
        return jax.tree.map(lambda *leaves: np.concatenate(leaves)[order], *(pick(r) for r in results))

    rows = row_blocks.rows_of(data, len(names)) if model.row_blocks else np.zeros(len(names), int)
    results = [
        r._replace(params=own)
        for r, own in zip(results, row_blocks.aligned(model, [(r.params, rows[p]) for p, r in parts]), strict=True)
    ]
    executed = sum(r.executed for r in results)
    return Fits(
        model=model,
        params=join(lambda r: r.params),
        log_likelihood=join(lambda r: r.log_likelihood),
        objective=join(lambda r: r.objective),
        status=join(lambda r: r.status),
        flags=join(lambda r: r.flags),
        problems=join(lambda r: r.problems),
        iterations=join(lambda r: r.iterations),
        remaining=join(lambda r: r.remaining),
        n_observations=join(lambda r: r.n_observations),
        ids=names[positions[order]],
        restarts=Landscape(*join(lambda r: tuple(r.landscape))),
        certificate=Certificate(*join(lambda r: tuple(r.certificate))),
        n_free=join(lambda r: r.n_free) if model.row_blocks else max(r.n_free for r in results),
        work_efficiency=sum(r.useful for r in results) / max(executed, 1),
        settings=settings,
        data=data,
        positions=positions[order],
        complete=complete,
    )

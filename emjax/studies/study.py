"""`Study`: scenarios, a way to make data, methods; replicates that can be resumed, extended and made again."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np

from emjax.base.records import Data
from emjax.base.status import DataError
from emjax.engine import fitting
from emjax.engine.runner import Advance
from emjax.studies import estimands as chosen_estimands
from emjax.studies import (
    layouts,
    loading,
    methods,
    preflight,
    report,
    running,
    scenarios,
    simulating,
    specification,
    store,
)
from emjax.studies.methods import Measured, Method
from emjax.studies.results import OPTIONS, RESERVED, Results
from emjax.studies.scenarios import Scenario
from emjax.studies.simulating import From, Simulated
from emjax.studies.store import Unit


class Replay(NamedTuple):
    """One replicate made again: its data, NumPy, its true parameters and labels; and by the name of the method its
    `Fit` with every restart, or the dictionary that a method's function returned."""

    data: Data
    truth: Any
    labels: Any
    fits: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Study:
    """A Monte Carlo simulation study (ADEMP; Morris, White & Crowther 2019).

    scenarios : `grid(...)`, or any list of dictionaries of plain values. generate : a traced function of (key,
    scenario) to `Simulated(data, truth, labels)`, or `From(model, params, n)`. methods : by name, `Method`, a function
    of the scenario to one, or a function of (data, keys); see `Method`. estimands : names of the parameters that are
    stored ("coefficients", ...), all by default; or functions of the parameters as in `Results`, one or several by
    name, evaluated when results are read. Then all parameters are stored, functions are in the specification by name
    and source, and changing them changes no file and is not refused; their standard errors and intervals need methods
    with `covariance=True`. replicates : of each scenario. seed : of everything random, a whole
    number of any size. common_random_numbers : the same keys in every scenario. name, description : for reports
    alone; texts by the names "title", "aims", "data_generating_mechanisms", "estimands", "methods" and
    "performance_measures", of which the report says what it knows where they are missing.

    A replicate depends on the seed, its scenario's content and its number alone: not on the other scenarios, methods or
    replicates, nor on chunks, processes or machines' count. All methods get the same data, and equal starts where they
    draw them alike. Errors: `DataError`.
    """

    scenarios: Any
    generate: Callable[[Any, Scenario], Simulated] | From
    methods: dict[str, Any]
    replicates: int
    seed: int
    estimands: Any = None
    common_random_numbers: bool = False
    name: str = "study"
    description: Any = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "scenarios", scenarios.checked(self.scenarios))
        taken = sorted({name for scenario in self.scenarios for name in scenario} & RESERVED)
        if taken:
            raise DataError(f"the factor {taken[0]!r} has the name of a column of the results; call it something else.")
        if not isinstance(self.name, str) or not re.search(r"\S", self.name):
            raise DataError(f"name={self.name!r}: give the study a text as its name.")
        if not isinstance(self.common_random_numbers, bool):
            raise DataError(f"common_random_numbers={self.common_random_numbers!r}: give True or False.")
        fitting.check_whole("replicates", self.replicates, 1)
        if self.replicates > 2**32:
            raise DataError(f"replicates={self.replicates}: a scenario has 2^32 at most.")
        if isinstance(self.seed, bool) or not isinstance(self.seed, (int, np.integer)):
            raise DataError(f"seed={self.seed!r}: give a whole number.")
        if not callable(self.generate):
            raise DataError(f"generate={self.generate!r}: give a function of (key, scenario), or From(model, params).")
        _check_methods(self.methods)
        _check_description(self.description)
        if self.estimands is not None and not chosen_estimands.are_functions(self.estimands):
            named = isinstance(self.estimands, (list, tuple)) and all(isinstance(e, str) for e in self.estimands)
            if not named or not self.estimands:
                raise DataError(
                    f"estimands={self.estimands!r}: give a list of names of parameters, functions of them by name, or "
                    "None for all."
                )

    # --- what is computed -------------------------------------------------------------------------------------------

    def scenario(self, name: str) -> Scenario:
        """By its name on disk, see `scenarios.name_of`."""
        return next(own for own in self.scenarios if scenarios.name_of(own) == name)

    def root(self, scenario: Scenario, purpose: str) -> np.ndarray:
        """The root of a scenario's keys for "data", "starts", "bootstrap" or a method's function."""
        return scenarios.root(int(self.seed), scenario, purpose, self.common_random_numbers)

    @property
    def stored(self) -> tuple[str, ...] | None:
        """The names of the parameters that are stored; None for all of them."""
        if self.estimands is None or chosen_estimands.are_functions(self.estimands):
            return None
        return tuple(self.estimands)

    def units(self, chunk: int) -> list[Unit]:
        """What is to be computed: scenario by scenario, chunk by chunk, all methods of one after another."""
        return [
            Unit(scenarios.name_of(scenario), method, first)
            for scenario in self.scenarios
            for first in range(0, self.replicates, chunk)
            for method in self.methods
        ]

    def specified(self) -> dict[str, Any]:
        """The specification as plain values, as the manifest has it."""
        functions = self.estimands is not None and self.stored is None
        return {
            "name": self.name,
            "seed": int(self.seed),
            "common_random_numbers": self.common_random_numbers,
            "generate": specification.describe(self.generate),
            "estimands": None if self.stored is None else list(self.stored),
            **({store.FUNCTIONS: specification.describe(self.estimands)} if functions else {}),
            "replicates": int(self.replicates),
            "scenarios": {scenarios.name_of(scenario): scenario for scenario in self.scenarios},
            "methods": {name: self._described(name) for name in self.methods},
        }

    def _described(self, name: str) -> Any:
        method = self.methods[name]
        if not isinstance(method, Method) and _of_scenario(method):
            of = {scenarios.name_of(own): specification.describe(self.method(name, own)) for own in self.scenarios}
            return {"by scenario": of}
        return specification.describe(method)

    def method(self, name: str, scenario: Scenario) -> Any:
        """The `Method` in this scenario, or a function of (data, keys)."""
        method = self.methods[name]
        if isinstance(method, Method) or not _of_scenario(method):
            return method
        try:
            found = method(dict(scenario))
        except DataError:
            raise
        except Exception as error:
            raise DataError(f"methods[{name!r}] failed in scenario {scenario}: {running.in_words(error)}.") from error
        if not isinstance(found, Method):
            raise DataError(f"methods[{name!r}] gave {type(found).__name__} in scenario {scenario}: return a Method.")
        return found

    def measure(
        self, name: str, scenario: Scenario, simulated: Simulated, replicates: np.ndarray, threads: int | None
    ) -> Measured:
        """One method's estimates of simulated replicates."""
        method = self.method(name, scenario)
        if isinstance(method, Method):
            fits = method.fit(simulated, self.root(scenario, "starts"), replicates, threads)
            found = methods.of_fits(method, fits, simulated, self.root(scenario, "bootstrap"), threads)
        else:
            model = getattr(self.generate, "model", None)
            known = None if model is None else layouts.of_model(model, simulated.truth)
            found = methods.of_function(method, simulated, replicates, self.root(scenario, f"method {name}"), known)
        return found if self.stored is None else methods.only(found, self.stored)

    # --- the public way in ------------------------------------------------------------------------------------------

    def run(
        self,
        directory: Any,
        *,
        worker: tuple[int, int] = (0, 1),
        progress: Callable[[Advance], None] | None = None,
        chunk: int | None = None,
        threads: int | None = None,
        client: Any = None,
        retries: int = 2,
        limit: float = running.LIMIT,
    ) -> running.Ran:
        """Compute what the directory lacks: after an interrupt, with more replicates, scenarios or methods.

        Several processes may serve one directory at a time; each takes chunks that no other has, and all end when every
        chunk is there. Whole chunks are computed, so that the last may hold replicates beyond those asked for, which
        are not read until more are asked for.

        worker : (I, N), process I of N begins at its share of the work, then helps the others. progress : called with
        an `Advance` after each chunk. chunk : replicates a file, fixed when the directory is begun; by default at most
        256 on a CPU. threads : as in `fit_many`. client : a `dask.distributed.Client`; its workers compute, this
        process writes. retries : of a task that fails there. limit : seconds after which the claim of a silent process
        on another machine is taken over; that of a dead one on this machine is at once.

        Ctrl-C ends the run with the finished chunks on disk, `complete` False. Errors: `DataError`, before anything is
        written, for methods whose settings do not suit their model and data; for a directory that holds another study
        (which field, from what to what), was computed with other versions or another machine type, or cannot be
        written. Methods of which no chunk was finished may be changed while no other process is at work.
        """
        preflight.check(self)
        return running.run(
            self,
            directory,
            worker=worker,
            progress=progress,
            chunk=chunk,
            threads=threads,
            client=client,
            retries=retries,
            limit=limit,
        )

    def replay(self, scenario: Scenario, replicate: int, threads: int | None = 1) -> Replay:
        """One replicate again, equal to the bit to what the study stored of it."""
        (given,) = scenarios.checked([scenario])
        name = scenarios.name_of(given)
        if not any(scenarios.name_of(known) == name for known in self.scenarios):
            raise DataError(f"the study has no scenario {given}: give one of study.scenarios.")
        fitting.check_whole("replicate", replicate, 0)
        own = self.scenario(name)  # with its levels as they were given: 1 and 1.0 are one scenario
        numbers = np.array([replicate])
        drawn = simulating.draw(self.generate, own, self.root(own, "data"), numbers)
        fits = {}
        for name in self.methods:
            method = self.method(name, own)
            if isinstance(method, Method):
                fits[name] = method.fit(drawn, self.root(own, "starts"), numbers, threads)[0]
            else:
                keys = methods.keys_of(self.root(own, f"method {name}"), numbers)
                fits[name] = {key: _first(value) for key, value in method(drawn.data, keys).items()}
        data, truth, labels = _first(drawn)
        return Replay(data, truth, labels, fits)

    def results(self, directory: Any, **options: Any) -> Results:
        """The `Results` of all replicates that are on disk. options : `align`, `loadings`, `estimands` of `Results`.

        Errors: `DataError` for a directory without any, of another study, or with a damaged file; for other options.
        """
        unknown = next((name for name in options if name not in OPTIONS), None)
        if unknown is not None:
            raise DataError(f"results({unknown}=...) is no option of results; give some of {', '.join(OPTIONS)}.")
        if self.estimands is not None and self.stored is None:
            options = {"estimands": self.estimands, **options}
        cells, described = loading.cells(directory), loading.description(directory)
        store.Store(directory).refuse_changes(described["specification"], self.specified())
        return Results(tuple(cells), {**described, **(self.description or {})}, **options)


def _first(tree: Any) -> Any:
    return jax.tree.map(lambda a: np.asarray(a)[0], tree)


def _check_methods(given: Any) -> None:
    if not isinstance(given, dict) or not given:
        raise DataError('methods: give a dictionary by name, such as {"EM": Method(model)}.')
    for name, method in given.items():
        if not isinstance(name, str) or not re.search(r"\S", name):
            raise DataError(f"a method is called {name!r}: give it a text as its name.")
        if len(store.Unit("", name, 0).file) > store.LONGEST:
            raise DataError(f"a method is called {name!r}: give it a shorter name, which its files can have.")
        if isinstance(method, Method):
            continue
        if not callable(method) or _arguments(method) not in (1, 2):
            raise DataError(f"methods[{name!r}] is {method!r}: give a Method, or a function of scenario or data, keys.")


def _check_description(given: Any) -> None:
    known = ("title", *report.ADEMP)
    named = isinstance(given, dict) and all(name in known and isinstance(text, str) for name, text in given.items())
    if given is not None and not named:
        raise DataError(f"description={given!r}: give a dictionary of texts, of {', '.join(known)}.")


def _of_scenario(method: Any) -> bool:
    """A function of the scenario to a Method has one argument, one of (data, keys) has two."""
    return _arguments(method) == 1


def _arguments(function: Any) -> int | None:
    try:
        return len(inspect.signature(function).parameters)
    except ValueError:  # some of those that are written in C
        return None

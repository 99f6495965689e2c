"""What a study's first chunks would fail on, told before anything is written: shapes alone, nothing is computed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from emjax.base.status import DataError
from emjax.engine import parameters
from emjax.studies import simulating
from emjax.studies.methods import Method
from emjax.studies.running import in_words


def check(study: Any) -> None:
    """Errors: `DataError` naming the scenario where data cannot be drawn, and the method whose settings do not suit its
    model and the data; for estimands that no method has, or none of them. Methods that are functions are not called."""
    names: dict[str, set[str]] = {}
    for scenario in study.scenarios:
        with _told(f"generate in scenario {scenario}"):
            like, params = simulating.like(study.generate, scenario, study.root(scenario, "data"))
        for name in study.methods:
            method = study.method(name, scenario)
            if isinstance(method, Method):
                with _told(f"method {name!r} in scenario {scenario}"):
                    template = method.rehearse(like, params)
                found = () if template is None else parameters.names(template)
                names.setdefault(name, set()).update(found)
    _check_estimands(study.stored, names, len(study.methods))


@contextmanager
def _told(where: str) -> Iterator[None]:
    """Every fault as one sentence that begins with `where`."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{where}: {error}") from error
    except Exception as error:  # of a user's function or model, in most cases
        raise DataError(f"{where}: {in_words(error)}; mend it and run again.") from error


def _check_estimands(wanted: Any, names: dict[str, set[str]], n_methods: int) -> None:
    """names : of the parameters, by method; empty where a model cannot tell, missing for functions."""
    if wanted is None:
        return
    for method, own in names.items():
        if own and not own & set(wanted):
            known = ", ".join(sorted(own))
            raise DataError(f"estimands={list(wanted)} are none of this method's parameters: {known} ({method!r}).")
    known = set().union(*names.values())
    lacking = next((name for name in wanted if name not in known), None)
    if lacking is not None and len(names) == n_methods and all(names.values()):
        raise DataError(f"estimands: no method has the parameter {lacking!r}; they have {', '.join(sorted(known))}.")

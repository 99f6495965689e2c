"""Scenarios of a study, and the random keys that follow from what they hold, never from their place in a grid."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from emjax.base.status import DataError
from emjax.engine import keys

Scenario = dict[str, Any]


def grid(**levels: Any) -> list[Scenario]:
    """The full factorial design: a dictionary for each combination, the last factor running fastest.

    levels : a list of levels for each factor, or one level. A level is a number, a text, True, False, None, or a list
    or dictionary of such. Designs that are not full are sums of grids, or any list of dictionaries:
    `grid(n=[50, 100], noise=[1.0, 2.0]) + grid(n=1000, noise=1.0)`.
    """
    ways = [_levels(name, level) for name, level in levels.items()]
    return [dict(zip(levels, chosen, strict=True)) for chosen in itertools.product(*ways)]


def _levels(name: str, level: Any) -> Sequence[Any]:
    if isinstance(level, (str, bytes, Mapping)) or not isinstance(level, Iterable):
        return [level]
    found = list(level)
    if not found:
        raise DataError(f"grid({name}=[]): the factor has no level; give at least one.")
    return found


def checked(scenarios: Any) -> list[Scenario]:
    """Scenarios as plain dictionaries. Errors: `DataError` for what is no list of them, holds one twice, or has levels
    of a factor that are equal or look alike, such as True, 1 and "1"."""
    if isinstance(scenarios, Mapping):
        scenarios = [scenarios]
    if isinstance(scenarios, (str, bytes)) or not isinstance(scenarios, Iterable):
        raise DataError(f"scenarios={scenarios!r}: give grid(...) or a list of dictionaries.")
    found: list[Scenario] = []
    seen: set[str] = set()
    written: dict[tuple[str, str], Any] = {}
    for place, scenario in enumerate(scenarios):
        if not isinstance(scenario, Mapping) or not all(isinstance(name, str) for name in scenario):
            raise DataError(f"scenario {place} is {scenario!r}: give a dictionary of factors and their levels.")
        own = {name: plain(level, f"scenario {place}, {name}") for name, level in scenario.items()}
        name = name_of(own)
        if name in seen:
            raise DataError(f"scenario {place}, {own}, is given twice: leave it out once.")
        seen.add(name)
        found.append(own)
        for factor, level in own.items():
            other = written.setdefault((factor, str(_whole(level, (bool, float)))), level)
            if canonical(other) != canonical(level):
                raise DataError(
                    f"scenario {place}: the factor {factor!r} has the levels {other!r} and {level!r}, which no table "
                    "tells apart: write one in another way."
                )
    if not found:
        raise DataError("a study needs at least one scenario: give grid(...), or [{}] for a single one.")
    return found


def plain(value: Any, where: str) -> Any:
    """A level as JSON can hold it. Errors: `DataError` naming `where`."""
    if isinstance(value, (np.generic, np.ndarray)):
        value = value.tolist()
    if isinstance(value, float) and not np.isfinite(value):
        raise DataError(f"{where} is {value!r}: levels must be finite.")
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)):
        return [plain(part, where) for part in value]
    if isinstance(value, Mapping):
        return {str(name): plain(part, where) for name, part in value.items()}
    raise DataError(f"{where} is {value!r}: levels are numbers, texts, True, False, None, or lists of these.")


def canonical(value: Any) -> str:
    """One text for equal plain values: names sorted, 1.0 written as 1."""
    return json.dumps(_whole(value), sort_keys=True, separators=(",", ":"), allow_nan=False)


def _whole(value: Any, kinds: tuple[type, ...] = (float,)) -> Any:
    """With 1.0 as 1, or True as 1 too where `kinds` has bool."""
    if isinstance(value, kinds) and float(value).is_integer():
        return int(value)
    if isinstance(value, list):
        return [_whole(part, kinds) for part in value]
    if isinstance(value, dict):
        return {name: _whole(part, kinds) for name, part in sorted(value.items())}
    return value


def name_of(scenario: Scenario) -> str:
    """The scenario's name on disk: 16 hexadecimal digits of the SHA-256 of its content."""
    return hashlib.sha256(canonical(scenario).encode()).hexdigest()[:16]


def root(seed: int, scenario: Scenario, purpose: str, shared: bool = False) -> np.ndarray:
    """Two words of the threefry key of a scenario, into which a replicate's number is folded.

    purpose : "data", "starts", ...; keys for different purposes have nothing in common. shared : common random numbers,
    the same keys in every scenario.
    """
    content = canonical([seed, purpose, None if shared else scenario])
    return keys.root_key(int.from_bytes(hashlib.sha256(content.encode()).digest(), "big"))

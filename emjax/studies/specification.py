"""A study's specification as plain values that can be read, compared and hashed."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import inspect
import tokenize
import types
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from emjax.studies import scenarios

ABSENT = "absent"


def describe(value: Any) -> Any:
    """Plain values that say all there is to say of settings, models, arrays and functions.

    A function is told by its name and by a hash of its source text, of which comments are a part; what it calls is not
    looked at. An object is told by its class and fields, or by what its own `described()` returns.
    """
    if hasattr(value, "described"):
        return describe(value.described())
    if isinstance(value, (np.generic, np.ndarray, jax.Array)):
        value = np.asarray(value).tolist()
    if value is None or isinstance(value, (bool, int, float, str)):
        return repr(value) if isinstance(value, float) and not np.isfinite(value) else value
    if isinstance(value, functools.partial):
        return {"partial": describe(value.func), "args": describe(value.args), "keywords": describe(value.keywords)}
    if isinstance(value, type):
        return f"{value.__module__}.{value.__qualname__}"
    if isinstance(value, dict):
        return {str(name): describe(part) for name, part in value.items()}
    if hasattr(value, "_fields") or dataclasses.is_dataclass(value):
        names = getattr(value, "_fields", None) or [f.name for f in dataclasses.fields(value)]
        return {"class": type(value).__name__, **{name: describe(getattr(value, name)) for name in names}}
    if isinstance(value, (list, tuple)):
        return [describe(part) for part in value]
    if isinstance(value, (types.FunctionType, types.MethodType, types.BuiltinFunctionType)):
        return _function(value)
    return {"class": type(value).__name__, **{name: describe(part) for name, part in sorted(vars(value).items())}}


def _function(function: Any) -> dict[str, Any]:
    try:
        source = inspect.getsource(function)
    except (OSError, TypeError, SyntaxError, tokenize.TokenError):
        code = getattr(function, "__code__", None)  # typed in by hand: there is no text, or another one
        held = [held for held in getattr(code, "co_consts", ()) if not hasattr(held, "co_code")]
        source = repr((getattr(code, "co_code", function.__name__), getattr(code, "co_names", ()), held))
    found = {"function": function.__qualname__, "source": hashlib.sha256(source.encode()).hexdigest()[:16]}
    names = getattr(getattr(function, "__code__", None), "co_freevars", ())
    cells = getattr(function, "__closure__", None) or ()
    held = {name: cell.cell_contents for name, cell in zip(names, cells, strict=True) if _filled(cell)}
    plain = {name: describe(value) for name, value in held.items() if not callable(value)}
    return {**found, "closure": plain} if plain else found


def _filled(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018 (a variable that is not yet set has none)
    except ValueError:
        return False
    return True


def name_of(described: Any) -> str:
    """A hash of what `describe` returned."""
    return hashlib.sha256(scenarios.canonical(described).encode()).hexdigest()


def differences(old: Any, new: Any, where: str = "") -> Iterator[str]:
    """Each field that both have with other values, or that one of them lacks: which, from what, to what."""
    if isinstance(old, dict) and isinstance(new, dict):
        for name in sorted({*old, *new}):
            path = f"{where}.{name}" if where else name
            yield from differences(old.get(name, ABSENT), new.get(name, ABSENT), path)
    elif scenarios.canonical(old) != scenarios.canonical(new):
        yield f"{where} was {_short(old)} and is {_short(new)}"


def _short(value: Any) -> str:
    text = value if value is ABSENT else repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."

"""Classes that may be read back from a file, by name: nothing is unpickled."""

from __future__ import annotations

from typing import Any, TypeVar

T = TypeVar("T", bound=Any)
_CLASSES: dict[str, Any] = {}


def register(cls: T) -> T:
    """Let `emjax.load` build this NamedTuple or frozen dataclass again, or find this function: by its name.

    A decorator, for models and densities of one's own too.
    """
    _CLASSES[cls.__name__] = cls
    return cls


def find(name: str) -> Any:
    """The class registered under `name`, or None."""
    return _CLASSES.get(name)


def is_registered(value: Any) -> bool:
    """Whether `value` is an instance of a registered class."""
    return _CLASSES.get(type(value).__name__) is type(value)

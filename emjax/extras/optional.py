"""Optional dependencies: imported where they are used, and named with their install command where they are missing."""

from importlib import import_module
from typing import Any


class MissingExtraError(ImportError):
    """A package that an extra brings is not installed; the message is one line with the install command."""


def require(module: str, extra: str) -> Any:
    """The module called `module`. Errors: MissingExtraError naming `pip install "emjax[extra]"` if it is absent."""
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        package = module.partition(".")[0]
        if error.name is not None and error.name.partition(".")[0] != package:
            raise  # the package is there and broken: another message would hide which part
        raise MissingExtraError(f'{package} is not installed; run: pip install "emjax[{extra}]"') from None

"""Which device a thread works on."""

from __future__ import annotations

from typing import Any

import jax


def chosen() -> Any:
    """What `jax.default_device` says in this thread, or None. jax compiles anew for None and for the first device."""
    return jax.config.jax_default_device  # pyright: ignore[reportAttributeAccessIssue]


def current() -> Any:
    """The device on which this thread's programs run."""
    return chosen() or jax.devices()[0]

"""What results depend on beside a specification: versions, number types and the machine."""

from __future__ import annotations

import importlib.metadata
import platform
from pathlib import Path

import jax
import numpy as np

from emjax.engine import devices

REPORTED = ("python",)  # told, and no reason to refuse


def describe() -> dict[str, str]:
    """Versions of emjax, jax, jaxlib, numpy and python, jax's default floating type, device kind and CPU model."""
    return {
        "emjax": _version("emjax"),
        "jax": jax.__version__,
        "jaxlib": _version("jaxlib"),
        "numpy": np.__version__,
        "python": platform.python_version(),
        "jax's default dtype": "float64" if jax.config.read("jax_enable_x64") else "float32",
        "device": devices.current().device_kind,
        "cpu": _cpu_model(),
    }


def compared(described: dict[str, str]) -> dict[str, str]:
    """What two workers of one directory must have in common."""
    return {name: value for name, value in described.items() if name not in REPORTED}


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "source"


def _cpu_model() -> str:
    """Of the first core: XLA compiles for the instructions that it has."""
    listed = Path("/proc/cpuinfo")
    if listed.exists():
        for line in listed.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()

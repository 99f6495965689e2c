"""Memory bounded by the chunk whatever the number of datasets is; importing emjax loads little more than jax."""

import os
import subprocess
import sys

import pytest

MEMORY = """
import resource, sys
import numpy as np, emjax
from tests.promises import LINES
rng = np.random.default_rng(0)
x = rng.uniform(0, 10, (100, 1))
def fits(d):
    y = np.where(rng.random((d, 100)) < 0.5, 1 + 0.5 * x[:, 0], 2 + 1.5 * x[:, 0]) + 0.1 * rng.normal(size=(d, 100))
    return emjax.fit_many(LINES, emjax.Data(y, x), 0, restarts=2, chunk=500, threads=1)
fits(500)
fits(int(sys.argv[1]))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def _output(*command: str, env: dict[str, str] | None = None) -> str:
    return subprocess.run([sys.executable, *command], capture_output=True, text=True, check=True, env=env).stdout


@pytest.mark.slow
def test_memory_is_bounded_by_the_chunk() -> None:
    """Ten times the datasets: 18,000 more, each with 100 rows in and two restarts' results out, some 2.5 kB."""
    small, large = (int(_output("-c", MEMORY, size)) for size in ("2000", "20000"))
    assert (large - small) * 1024 < 18_000 * 2_500 * 2


def test_import_loads_no_more_than_jax_does() -> None:
    """What an import costs is what it loads and what it computes: no package beyond jax's own, and nothing on a device,
    which it could not ask here. Its seconds are in `bench/cpu.py`."""
    loaded = "import sys, jax; before = set(sys.modules); import emjax; print(*set(sys.modules) - before)"
    environment = {**os.environ, "JAX_PLATFORMS": "nowhere"}
    packages = {name.split(".")[0] for name in _output("-c", loaded, env=environment).split()}
    assert packages - set(sys.stdlib_module_names) == {"emjax", "jax", "numpy"}

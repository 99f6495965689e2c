"""Memory bounded by the chunk whatever the number of datasets is; importing emjax costs little more than jax."""

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


def _output(*command: str) -> str:
    return subprocess.run([sys.executable, *command], capture_output=True, text=True, check=True).stdout


@pytest.mark.slow
def test_memory_is_bounded_by_the_chunk() -> None:
    """Ten times the datasets: 18,000 more, each with 100 rows in and two restarts' results out, some 2.5 kB."""
    small, large = (int(_output("-c", MEMORY, size)) for size in ("2000", "20000"))
    assert (large - small) * 1024 < 18_000 * 2_500 * 2


@pytest.mark.slow
def test_import_costs_little() -> None:
    """At most 0.3 s of processor time more than jax, the least of seven of each: a busy machine changes it little. On a
    slow one, where jax takes more than the 0.6 s that it took where the bound was set, at most half as much as jax."""
    seconds: dict[str, list[float]] = {"jax": [], "emjax": []}
    for _ in range(8):
        for name, taken in seconds.items():
            taken.append(float(_output("-c", f"import {name}, time; print(time.process_time())")))
    least = {name: min(taken[1:]) for name, taken in seconds.items()}
    assert least["emjax"] - least["jax"] < max(0.3, 0.5 * least["jax"])

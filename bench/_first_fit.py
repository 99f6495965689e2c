"""Part f of bench/cpu.py: from a fresh process to the first fit, import and compile included."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from bench import timing
from bench.timing import Claim

ROOT = Path(__file__).resolve().parent.parent
IMPORT = "import emjax"
PROGRAM = """
import numpy as np, emjax
rng = np.random.default_rng(1)
x = rng.uniform(0, 10, 100)
first = rng.random(100) < 0.5
y = np.where(first, 0.5 * x + 1 + 0.1 * rng.normal(size=100), 1.5 * x + 2 + 0.2 * rng.normal(size=100))
fit = emjax.fit(emjax.Mixture(emjax.LinearRegression(), 2), emjax.Data(y=y, x=x[:, None]), key=0)
assert fit.status == emjax.Status.CONVERGED
print(fit.log_likelihood)
"""


def _run(program: str, bytecode: str, cache: str | None) -> str:
    found = {name: value for name, value in os.environ.items() if not name.startswith(("JAX_", "XLA_"))}
    found.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed package has its bytecode beside it
    found["PYTHONPYCACHEPREFIX"] = bytecode
    found["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    found["JAX_ENABLE_COMPILATION_CACHE"] = "false" if cache is None else "true"
    if cache is not None:
        found["JAX_COMPILATION_CACHE_DIR"] = cache
        found["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
        found["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"
    ran = subprocess.run([sys.executable, "-c", program], env=found, capture_output=True, text=True, check=True)
    return ran.stdout


def first_fit(quick: bool) -> Iterator[str]:
    """Part f."""
    yield "A fresh Python process: import, one dataset of 100 rows, 20 restarts, the certificate, all defaults.\n"
    with tempfile.TemporaryDirectory() as cache, tempfile.TemporaryDirectory() as bytecode:
        runs = {
            "import emjax alone": partial(_run, IMPORT, bytecode, None),
            "no compilation cache": partial(_run, PROGRAM, bytecode, None),
            "warm compilation cache": partial(_run, PROGRAM, bytecode, cache),
        }
        taken = timing.alternate(runs, 3 if quick else 7)  # the warming calls fill the cache
        n_files = sum(1 for _ in Path(cache).iterdir())
    found = {name: timing.spread(values) for name, values in taken.items()}
    yield timing.table(("process", "seconds"), [(name, spread.text()) for name, spread in found.items()])
    cold, warm = found["no compilation cache"], found["warm compilation cache"]
    yield f"\n{n_files} files in the compilation cache.\n"
    yield timing.claims(
        [
            Claim("first fit in a fresh process at most 5 s", f"{cold.text()} s", cold.median <= 5.0),
            Claim("with a warm compilation cache at most 2.5 s", f"{warm.text()} s", warm.median <= 2.5),
        ]
    )

"""The first fit of a fresh process, import and compile included: `python bench/startup.py`.

Every line is the median and range of several processes, the ways taken in turn: nothing compiled before, and a warm
compilation cache.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time

WAYS = {"cold": 5.0, "warm cache": 2.5}  # seconds, at most


def first_fit(way: str, folder: str) -> None:
    """README's first example; prints seconds of the import, of the fit, and of the processor, and programs compiled."""
    began = time.perf_counter()
    import jax
    import numpy as np

    import emjax

    compiled = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda name, _, **about: compiled.append(about) if name.endswith("backend_compile_duration") else None
    )
    if way == "warm cache":
        emjax.use_compilation_cache(folder)
    imported = time.perf_counter()
    rng = np.random.default_rng(1)
    x = rng.uniform(0, 10, 100)
    first = rng.random(100) < 0.5
    y = np.where(first, 0.5 * x + 1 + 0.1 * rng.normal(size=100), 1.5 * x + 2 + 0.2 * rng.normal(size=100))
    model = emjax.Mixture(emjax.LinearRegression(), n_components=2)
    fit = emjax.fit(model, emjax.Data(y=y, x=x[:, None]), key=0)
    fitted = time.perf_counter()
    assert fit.status == emjax.Status.CONVERGED
    print(imported - began, fitted - imported, time.process_time(), len(compiled))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        first_fit(*arguments.one)
        return
    clean = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    clean.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed package has its bytecode beside it
    taken: dict[str, list[list[float]]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as bytecode:
        clean["PYTHONPYCACHEPREFIX"] = bytecode
        for turn in range(arguments.repeats + 1):  # the first fills the caches, also that of the files
            for way in WAYS:
                command = [sys.executable, __file__, "--one", way, folder]
                began = time.perf_counter()
                said = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=clean).stdout
                whole = time.perf_counter() - began
                if turn:
                    taken[way].append([whole, *(float(word) for word in said.split())])
    print("| way | process, s | range | import, s | fit, s | processor, s | programs | at most, s |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    for way, most in WAYS.items():
        whole, imported, fitted, processor, programs = (statistics.median(column) for column in zip(*taken[way]))
        spread = [row[0] for row in taken[way]]
        verdict = f"{most:g}: {'yes' if whole <= most else 'NO'}"
        print(
            f"| {way} | {whole:.2f} | {min(spread):.2f}-{max(spread):.2f} | {imported:.2f} | {fitted:.2f} "
            f"| {processor:.2f} | {programs:.0f} | {verdict} |"
        )


if __name__ == "__main__":
    main()

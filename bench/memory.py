"""Memory and time of a stream of simulated datasets, against their number: `python bench/memory.py`.

Each line is one process, so that its peak is its own. The datasets are the article's problem, n = 200, two restarts.
"""

import argparse
import resource
import subprocess
import sys
import time

N_ROWS, RESTARTS, CHUNK = 200, 2, 1024
SIZES, FULL = (20_000, 200_000), 1_000_000
MOST_GIB = 2.0


def measure(n_datasets: int) -> None:
    """Fit `n_datasets` and print: peak bytes, seconds after the first chunk and its datasets, share converged."""
    import jax
    import jax.numpy as jnp

    import emjax

    def generate(key: jax.Array) -> emjax.Data:
        of_x, of_label, of_error = jax.random.split(key, 3)
        x = jax.random.uniform(of_x, (N_ROWS,), maxval=10.0)
        first = jax.random.bernoulli(of_label, 0.5, (N_ROWS,))
        error = jax.random.normal(of_error, (N_ROWS,))
        return emjax.Data(jnp.where(first, 0.5 * x + 1.0 + 0.1 * error, 1.5 * x + 2.0 + 0.2 * error), x[:, None])

    model = emjax.Mixture(emjax.LinearRegression(), 2)
    converged, done, began, compiled = 0, 0, 0.0, 0
    for fits in emjax.fit_stream(model, generate, n_datasets, 0, restarts=RESTARTS, chunk=CHUNK):
        done += len(fits)
        converged += fits.status_counts()["CONVERGED"]
        if not began:
            began, compiled = time.perf_counter(), done
    seconds = time.perf_counter() - began
    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    print(peak, seconds, done - compiled, converged / done)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help=f"also {FULL:,} datasets")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        measure(arguments.one)
        return
    sizes = (*SIZES, FULL) if arguments.full else SIZES
    print(
        "| datasets | peak, GiB | against the first | fits a second | time a dataset, against the first | converged |"
    )
    print("|---:|---:|---:|---:|---:|---:|")
    peaks, costs = [], []
    for size in sizes:
        command = [sys.executable, __file__, "--one", str(size)]
        said = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.split()
        peak, seconds, timed, converged = (float(word) for word in said)
        peaks.append(peak / 2**30)
        costs.append(seconds / timed)
        print(
            f"| {size:,} | {peaks[-1]:.3f} | {peaks[-1] / peaks[0]:.3f} | {1 / costs[-1]:,.0f} "
            f"| {costs[-1] / costs[0]:.3f} | {100 * converged:.3f} % |",
            flush=True,
        )
    print(f"\nAt most {MOST_GIB:g} GiB: {'yes' if max(peaks) <= MOST_GIB else 'NO'}")


if __name__ == "__main__":
    main()

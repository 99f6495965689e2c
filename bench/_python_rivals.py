"""The Python rivals. Each takes the arrays of a problem and gives a function that runs the fits once.

    PYTHON bench/_python_rivals.py NAME problem.npz result.npz

runs one of them in another interpreter; nothing but NumPy and the rival is imported. A rival's function returns the
seconds of the fits, the parameters and the iterations; what must be done once (compiling, starting processes) it has
done before.
"""

from __future__ import annotations

import os
import sys
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

Arrays = dict[str, np.ndarray]
Result = tuple[float, Arrays, np.ndarray]

MAX_ITERATIONS = 10_000
WORKERS = 2


def _timed(run: Callable[[], Any]) -> tuple[float, Any]:
    began = time.perf_counter()
    found = run()
    return time.perf_counter() - began, found


def _gaussian_arrays(fits: list[tuple[Any, Any, Any, float]]) -> tuple[Arrays, np.ndarray]:
    weights, means, covariances, iterations = (np.array(part) for part in zip(*fits))
    return {"weights": weights, "means": means, "covariances": covariances}, iterations


def _in_processes(fit_some: Callable[..., list], problem: Arrays, step_gain: float) -> Callable[[], Result]:
    """joblib over two processes, a few chunks each; the processes are started before."""
    from joblib import Parallel, delayed

    names = ("y", "weights", "means", "covariances", "responsibilities")
    parallel = Parallel(n_jobs=WORKERS)

    def run(count: int) -> list:
        rows = np.array_split(np.arange(count), min(count, 4 * WORKERS))
        tasks = (delayed(fit_some)(*(problem[name][part] for name in names), step_gain) for part in rows)
        return [fit for part in parallel(tasks) for fit in part]

    def timed() -> Result:
        seconds, fits = _timed(lambda: run(len(problem["y"])))
        return seconds, *_gaussian_arrays(fits)

    run(2 * WORKERS)
    return timed


def _scikit_learn_some(y: Any, weights: Any, means: Any, covariances: Any, _: Any, step_gain: float) -> list:
    from sklearn.mixture import GaussianMixture

    fits = []
    warnings.simplefilter("ignore")  # "did not converge" is seen in the iterations
    for one, w, m, c in zip(y, weights, means, np.linalg.inv(covariances)):
        mixture = GaussianMixture(
            len(w), weights_init=w, means_init=m, precisions_init=c, reg_covar=0.0, tol=step_gain / len(one),
            max_iter=MAX_ITERATIONS,
        )  # fmt: skip
        try:
            mixture.fit(one)
            fits.append((mixture.weights_, mixture.means_, mixture.covariances_, mixture.n_iter_))
        except ValueError:  # a component has collapsed
            fits.append((np.nan * w, np.nan * m, np.nan * c, np.nan))
    return fits


def scikit_learn(problem: Arrays, step_gain: float) -> Callable[[], Result]:
    """GaussianMixture in joblib's processes; `tol` is on the mean log-likelihood of a row."""
    return _in_processes(_scikit_learn_some, problem, step_gain)


def started_stepmix(given: np.ndarray, step_gain: float, measurement: str, **settings: Any) -> Any:
    """A StepMix of these settings that begins at responsibilities (n, K), as it takes no start."""
    from stepmix.stepmix import StepMix  # type: ignore[import-not-found]

    class Started(StepMix):
        """The first M-step is made here."""

        def _initialize_parameters(self, X: Any, random_state: Any) -> None:
            self.log_resp_ = np.log(np.clip(given, 1e-300, 1.0))
            self.weights_ = given.mean(0)
            self._initialize_parameters_measurement(X, random_state)

    return Started(
        given.shape[1], measurement=measurement, n_init=1, abs_tol=step_gain / len(given), rel_tol=0.0,
        max_iter=MAX_ITERATIONS, progress_bar=0, **settings,
    )  # fmt: skip


def _stepmix_some(y: Any, weights: Any, means: Any, covariances: Any, resp: Any, step_gain: float) -> list:
    fits = []
    warnings.simplefilter("ignore")
    for one, given in zip(y, resp):
        mixture = started_stepmix(given, step_gain, "gaussian_full", measurement_params={"reg_covar": 0.0})
        try:
            found = mixture.fit(one).get_parameters()
            measured = found["measurement"]
            fits.append((found["weights"], measured["means"], measured["covariances"], mixture.n_iter_))
        except ValueError:  # scikit-learn's M-step
            fits.append((np.nan * given[0], np.nan * means[0], np.nan * covariances[0], np.nan))
    return fits


def stepmix(problem: Arrays, step_gain: float) -> Callable[[], Result]:
    """StepMix, measurement model gaussian_full, in joblib's processes."""
    return _in_processes(_stepmix_some, problem, step_gain)


def gmmx(problem: Arrays, _: float) -> Callable[[], Result]:
    """gmmx's EMFitter under jit(vmap): every dataset waits for the slowest.

    It takes float32 alone, whose mean log-likelihood cannot resolve the tolerance: every dataset is given as many
    iterations as emjax's slowest took.
    """
    import jax
    import jax.numpy as jnp
    from gmmx import EMFitter, GaussianMixtureModelJax  # type: ignore[import-not-found]

    fitter = EMFitter(max_iter=int(problem["slowest"]), tol=0.0, reg_covar=0.0)

    def one(y: Any, weights: Any, means: Any, covariances: Any) -> Any:
        start = GaussianMixtureModelJax.from_squeezed(means, covariances, weights)
        found = fitter.fit(y, start)
        gmm = found.gmm
        return gmm.weights[0, :, 0, 0], gmm.means[0, :, :, 0], gmm.covariances.values[0], found.n_iter

    compiled = jax.jit(jax.vmap(one))
    arguments = [jnp.asarray(problem[name], jnp.float32) for name in ("y", "weights", "means", "covariances")]

    def timed() -> Result:
        seconds, found = _timed(lambda: jax.block_until_ready(compiled(*arguments)))
        weights, means, covariances, iterations = (np.asarray(part) for part in found)
        return seconds, {"weights": weights, "means": means, "covariances": covariances}, iterations

    timed()
    return timed


def gmm_gpu(problem: Arrays, step_gain: float) -> Callable[[], Result]:
    """gmm-gpu batched by torch on the CPU, in float64 and without the k-means that it runs though a start is given."""
    import torch  # type: ignore[import-not-found]
    from gmm_gpu.gmm import GMM  # type: ignore[import-not-found]

    torch.set_default_dtype(torch.float64)  # it makes its identity matrices in the default dtype
    names = ("y", "weights", "means", "covariances")

    class Started(GMM):
        def _init_clusters(self, X: Any) -> Any:  # its k-means mixes float32 with the data's dtype and fails
            return torch.zeros(X.shape[:2], dtype=torch.int64)

    def fit(rows: Any) -> list:
        y, weights, means, covariances = (torch.tensor(problem[name][rows]) for name in names)
        found = Started(
            weights.shape[1], max_iter=MAX_ITERATIONS, device="cpu", tol=step_gain / y.shape[1], means_init=means,
            weights_init=weights, precisions_init=torch.linalg.inv(covariances), dtype=torch.float64,
        )  # fmt: skip
        found.fit(y)
        parts = (torch.stack(part, 1).numpy() for part in (found._pi, found.means, found.covs))
        return list(zip(*parts, found.convergence_iters.numpy()))

    # Two threads over the datasets: torch's own threads inside one small operation only wait for one another.
    pool = ThreadPoolExecutor(WORKERS, initializer=torch.set_num_threads, initargs=(1,))

    def run(count: int) -> list:
        return [fit for part in pool.map(fit, np.array_split(np.arange(count), WORKERS)) for fit in part]

    def timed() -> Result:
        seconds, fits = _timed(lambda: run(len(problem["y"])))
        return seconds, *_gaussian_arrays(fits)

    run(2 * WORKERS)
    return timed


def numba(problem: Arrays, step_gain: float) -> Callable[[], Result]:
    """The loop of _numba_regression.py, parallel over datasets."""
    sys.path.insert(0, str(Path(__file__).resolve().parent))
    import _numba_regression

    y, x = problem["y"], np.ascontiguousarray(problem["x"][..., 0])
    names = ("weights", "coefficients", "scale")

    def timed(count: int | None = None) -> Result:
        arrays = {name: problem[name][:count].copy() for name in names}
        given = (y[:count], x[:count], *arrays.values(), step_gain, MAX_ITERATIONS)
        seconds, iterations = _timed(lambda: _numba_regression.fit(*given))
        return seconds, arrays, iterations

    timed(2)
    return timed


RIVALS: dict[str, Callable[[Arrays, float], Callable[[], Result]]] = {
    "scikit-learn": scikit_learn,
    "StepMix": stepmix,
    "gmmx": gmmx,
    "gmm-gpu": gmm_gpu,
    "numba": numba,
}


def main(name: str, source: str, target: str) -> None:
    """Run one rival on a saved problem and save what it found."""
    from importlib.metadata import version

    with np.load(source) as file:
        problem = dict(file)
    step_gain = float(problem.pop("step_gain"))
    seconds, arrays, iterations = RIVALS[name](problem, step_gain)()
    np.savez(target, seconds=seconds, iterations=iterations, version=version(name), **arrays)


if __name__ == "__main__":
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    main(*sys.argv[1:])

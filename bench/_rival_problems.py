"""What the rivals are compared on: datasets, one start for each, and the one function that judges every fit.

Arrays go to the rivals and come back as a dictionary, component axis second: `weights` (D, K) and `coefficients`
(D, K, p), `scale` (D, K) of regressions or `means` (D, K, d), `covariances` (D, K, d, d) of Gaussian mixtures.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import emjax

ONE_STEP = emjax.Stop(max_iterations=1)  # the log-likelihood of the parameters given, no step taken
EXACT = emjax.Stop(tol=1e-11)  # the reference: what all should end at


class Problem(NamedTuple):
    """D datasets of one shape and one start for each.

    responsibilities (D, n, K) are those of the start, for packages that begin with an M-step.
    """

    name: str
    model: emjax.Mixture
    y: np.ndarray
    x: np.ndarray | None
    start: dict[str, np.ndarray]
    responsibilities: np.ndarray

    def first(self, count: int) -> Problem:
        """The first datasets alone: slow rivals get fewer."""
        start = {name: value[:count] for name, value in self.start.items()}
        x = None if self.x is None else self.x[:count]
        return self._replace(y=self.y[:count], x=x, start=start, responsibilities=self.responsibilities[:count])

    @property
    def data(self) -> emjax.Data:
        """As emjax takes them."""
        return emjax.Data(y=self.y, x=self.x)


class Run(NamedTuple):
    """One pass over the datasets: seconds of the fits alone, parameters as above, iterations (D,).

    reported : (D,) the log-likelihoods that a package states itself, where they were kept.
    """

    seconds: float
    params: dict[str, np.ndarray]
    iterations: np.ndarray
    reported: np.ndarray | None = None


class Unavailable(Exception):
    """Why a rival cannot be run here, in one line."""


def regressions(n_datasets: int, seed: int = 0, n: int = 300) -> Problem:
    """The article's two lines with noise (1, 1.5) in place of (0.1, 0.2), so that the components overlap.

    A start cuts the sorted response in two at a random place and regresses in both parts (the rule of mixtools without
    its noise); one scale for both, and the parts' shares.
    """
    rng = np.random.default_rng(seed)
    x = rng.uniform(0, 10, (n_datasets, n))
    noise = rng.normal(size=(n_datasets, n))
    first = rng.random((n_datasets, n)) < 0.5
    y = np.where(first, 0.5 * x + 1 + noise, 1.5 * x + 2 + 1.5 * noise)
    cut = rng.uniform(0.25, 0.75, (n_datasets, 1)) * n
    low = np.argsort(np.argsort(y, axis=1), axis=1) < cut
    parts = np.stack([low, ~low], axis=1).astype(float)
    counts = parts.sum(2)
    x_mean, y_mean = ((parts * v[:, None, :]).sum(2) / counts for v in (x, y))
    centred = parts * (x[:, None, :] - x_mean[..., None])
    slope = (centred * y[:, None, :]).sum(2) / (centred * x[:, None, :]).sum(2)
    coefficients = np.stack([y_mean - slope * x_mean, slope], axis=2)
    residuals = y[:, None, :] - coefficients[..., :1] - coefficients[..., 1:] * x[:, None, :]
    scale = np.sqrt((parts * residuals**2).sum((1, 2)) / n)
    start = {
        "weights": counts / n,
        "coefficients": coefficients,
        "scale": np.repeat(scale[:, None], 2, axis=1),
    }
    model = emjax.Mixture(emjax.LinearRegression(), 2)
    return with_responsibilities(Problem("regressions", model, y, x[..., None], start, y))


def gaussians(n_datasets: int, seed: int = 0, n: int = 400) -> Problem:
    """Three Gaussians in the plane with different covariances, three to four standard deviations apart.

    A start is the rivals' own default rule, k-means: from three random rows, ten rounds; then the parts' shares, their
    means, and one covariance pooled over them.
    """
    rng = np.random.default_rng(seed)
    means = np.array([[0.0, 0.0], [3.5, 0.5], [0.5, 3.5]])
    factors = np.linalg.cholesky(np.array([[[1.0, 0.5], [0.5, 1.0]], [[0.6, -0.2], [-0.2, 1.2]], [[1.5, 0], [0, 0.5]]]))
    member = rng.choice(3, (n_datasets, n), p=[0.3, 0.3, 0.4])
    y = means[member] + np.einsum("...ij,...j->...i", factors[member], rng.normal(size=(n_datasets, n, 2)))
    rows = np.argsort(rng.random((n_datasets, n)), axis=1)[:, :3]
    centres = np.take_along_axis(y, rows[..., None], axis=1)
    for _ in range(10):
        nearest = ((y[:, :, None, :] - centres[:, None]) ** 2).sum(3).argmin(2)
        parts = (nearest[:, None, :] == np.arange(3)[None, :, None]).astype(float)
        counts = parts.sum(2)
        centres = parts @ y / counts[..., None]
    residuals = y[:, None] - centres[:, :, None, :]
    pooled = np.einsum("dkn,dkni,dknj->dij", parts, residuals, residuals) / n
    start = {
        "weights": counts / n,
        "means": centres,
        "covariances": np.repeat(pooled[:, None], 3, axis=1),
    }
    return with_responsibilities(Problem("gaussians", emjax.Mixture(emjax.Gaussian("full"), 3), y, None, start, y))


def with_responsibilities(problem: Problem) -> Problem:
    """The E-step at the start, in plain NumPy."""
    start = problem.start
    if problem.x is None:
        residuals = problem.y[:, None] - start["means"][:, :, None, :]
        solved = residuals @ np.linalg.inv(start["covariances"])
        log_prob = -0.5 * ((solved * residuals).sum(3) + np.linalg.slogdet(start["covariances"])[1][..., None])
    else:
        mean = start["coefficients"][..., :1] + start["coefficients"][..., 1:] @ problem.x.transpose(0, 2, 1)
        standard = (problem.y[:, None] - mean) / start["scale"][..., None]
        log_prob = -0.5 * standard**2 - np.log(start["scale"])[..., None]
    joint = np.exp(log_prob - log_prob.max(1, keepdims=True)) * start["weights"][..., None]
    return problem._replace(responsibilities=(joint / joint.sum(1, keepdims=True)).transpose(0, 2, 1))


def record(problem: Problem, arrays: dict[str, np.ndarray]) -> emjax.MixtureParams:
    """emjax's parameters from the dictionary of arrays."""
    family: Any = (
        emjax.GaussianParams(arrays["means"], arrays["covariances"])
        if problem.x is None
        else emjax.LinearRegressionParams(arrays["coefficients"], arrays["scale"])
    )
    return emjax.MixtureParams(emjax.WeightsParams(arrays["weights"]), family)


def log_likelihood(problem: Problem, arrays: dict[str, np.ndarray]) -> np.ndarray:
    """emjax's log-likelihood, (D,) nats, of anyone's parameters; NaN where they are not finite or not parameters."""
    good = np.all([np.isfinite(v).reshape(len(v), -1).all(1) for v in arrays.values()], axis=0)
    weights = np.where(good[:, None], arrays["weights"], np.nan)
    if problem.x is None:
        covariances = np.where(good[:, None, None, None], arrays["covariances"], np.eye(problem.y.shape[2]))
        good &= (np.linalg.eigvalsh(covariances) > 0).all((1, 2))
    else:
        good &= (arrays["scale"] > 0).all(1)
    good &= (weights >= 0).all(1) & (np.abs(weights.sum(1) - 1.0) < 1e-3)
    filled = {}
    for name, value in arrays.items():
        mask = good.reshape(-1, *[1] * (value.ndim - 1))
        filled[name] = np.where(mask, np.asarray(value, np.float64), problem.start[name])
    filled["weights"] = filled["weights"] / filled["weights"].sum(1, keepdims=True)
    found = emjax.fit_many(
        problem.model, problem.data, 0, start=record(problem, filled), stop=ONE_STEP, certificate=False
    )
    return np.where(good, found.log_likelihood, np.nan)


def emjax_run(problem: Problem, **settings: Any) -> Run:
    """One timed call of `fit_many`, from the problem's starts unless restarts are asked for, without the certificate.

    `reported` is its own log-likelihood.
    """
    settings = {"certificate": False, "acceleration": None, **settings}
    if "restarts" not in settings:
        settings["start"] = record(problem, problem.start)
    began = time.perf_counter()
    fits = emjax.fit_many(problem.model, problem.data, 0, **settings)
    seconds = time.perf_counter() - began
    params = {"weights": fits.params.latent.weights, **fits.params.family._asdict()}
    return Run(seconds, params, fits.iterations, fits.log_likelihood)

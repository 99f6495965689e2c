"""Tiny studies that the tests share; run as a program it serves a directory, to be killed: DIRECTORY [SECONDS]."""

import hashlib
import sys
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import emjax
from emjax import Data
from emjax.studies import From, Method, Simulated, Study, grid
from tests.promises import LINES

CHUNK, REPLICATES = 8, 20
NAP = 0.0  # seconds that a chunk takes more


def generate(key: Any, scenario: dict[str, Any]) -> Simulated:
    """Normal observations about scenario["mean"]."""
    y = scenario["mean"] + jax.random.normal(key, (50,), jnp.float64)
    return Simulated(Data(y), {"mean": jnp.float64(scenario["mean"])})


def mean(data: Data, keys: Any) -> dict[str, Any]:
    y = np.asarray(data.y)
    time.sleep(NAP)
    return {"mean": (y.mean(axis=1), y.std(axis=1, ddof=1) / np.sqrt(y.shape[1]))}


def median(data: Data, keys: Any) -> dict[str, Any]:
    return {"mean": np.median(np.asarray(data.y), axis=1)}


def study(**changes: Any) -> Study:
    """No model is fitted, so that nothing but the data has to be compiled."""
    settings = {
        "scenarios": grid(mean=[0.0, 2.5]),
        "generate": generate,
        "methods": {"mean": mean, "the median": median},
        "replicates": REPLICATES,
        "seed": 2**70,
    }
    return Study(**{**settings, **changes})


def covariates(key: Any, n: int) -> Any:
    return jax.random.uniform(key, (n, 1), jnp.float64, maxval=10.0)


def truth(scenario: dict[str, Any]) -> Any:
    """The article's problem."""
    scale = scenario["noise"] * np.array([0.1, 0.2])
    family = emjax.LinearRegressionParams(np.array([[1.0, 0.5], [2.0, 1.5]]), scale)
    return emjax.MixtureParams(emjax.WeightsParams(np.array([0.5, 0.5])), family)


def lines(**changes: Any) -> Study:
    """EM from random starts and from the truth."""
    settings = {
        "scenarios": grid(n=50, noise=[3.0, 5.0]),
        "generate": From(LINES, truth, "n", covariates),
        "methods": {"EM": Method(LINES, restarts=2), "truth": Method(LINES, start="truth", covariance=True)},
        "replicates": 8,
        "seed": 3,
    }
    return Study(**{**settings, **changes})


def digests(directory: Any) -> dict[str, str]:
    """SHA-256 of every file that is to be equal to the byte."""
    files = sorted(Path(directory, "chunks").glob("*.npz"))
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


if __name__ == "__main__":
    if sys.argv[2:]:
        NAP = float(sys.argv[2])
    print("begun", flush=True)
    print(study().run(sys.argv[1], chunk=CHUNK, threads=1, limit=5.0))

"""The batches that bench/cpu.py fits, simulated from fixed seeds, and starts that any program can be given."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np

import emjax


@dataclass(frozen=True)
class Batch:
    """Many datasets of one model: y (D, n), x (D, n, p - 1)."""

    name: str
    model: emjax.Mixture
    data: emjax.Data

    @property
    def n(self) -> int:
        return self.data.y.shape[1]

    @property
    def p(self) -> int:
        """Coefficients, the intercept counted."""
        return np.asarray(self.data.x).shape[2] + 1

    def first(self, count: int) -> Batch:
        """The first `count` datasets."""
        return replace(self, data=jax.tree.map(lambda leaf: leaf[:count], self.data))

    def __len__(self) -> int:
        return len(self.data.y)


def _lines(n_components: int) -> emjax.Mixture:
    return emjax.Mixture(emjax.LinearRegression(), n_components)


def article(n_datasets: int, n: int = 200) -> Batch:
    """The two lines of the article that emjax starts from, with x ~ U(0, 10): easy, some 15 iterations."""
    rng = np.random.default_rng(1)
    x = rng.uniform(0.0, 10.0, (n_datasets, n, 1))
    first = rng.random((n_datasets, n)) < 0.5
    noise = rng.standard_normal((n_datasets, n))
    y = np.where(first, 0.5 * x[..., 0] + 1.0 + 0.1 * noise, 1.5 * x[..., 0] + 2.0 + 0.2 * noise)
    return Batch(f"n={n}, p=2, K=2", _lines(2), emjax.Data(y=y, x=x))


def planes(n_datasets: int, n: int = 1000) -> Batch:
    """Three hyperplanes over four covariates; the coefficients differ from dataset to dataset."""
    rng = np.random.default_rng(2)
    x = rng.standard_normal((n_datasets, n, 4))
    coefficients = 1.5 * rng.standard_normal((n_datasets, 3, 5))
    scale = rng.uniform(0.5, 1.0, (n_datasets, 3))
    label = rng.integers(0, 3, (n_datasets, n))
    own = np.take_along_axis(coefficients, label[..., None], axis=1)
    mean = own[..., 0] + np.sum(own[..., 1:] * x, axis=-1)
    y = mean + np.take_along_axis(scale, label, axis=1) * rng.standard_normal((n_datasets, n))
    return Batch(f"n={n}, p=5, K=3", _lines(3), emjax.Data(y=y, x=x))


def heavy(n_datasets: int, n: int = 200) -> Batch:
    """Two lines that cross, poorly separated: iteration counts with a heavy tail.

    Noise and seed were chosen so that 2,048 lanes from `starts` take 156 iterations on average and 1,579 at most, near
    the 158 and 1,405 of the prototype that the claims were set by.
    """
    rng = np.random.default_rng(14)
    x = rng.uniform(-1.0, 1.0, (n_datasets, n, 1))
    first = rng.random((n_datasets, n)) < 0.5
    y = np.where(first, 1.0, -1.0) * (-0.6 + 0.6 * x[..., 0]) + 0.78 * rng.standard_normal((n_datasets, n))
    return Batch(f"heavy tail, n={n}, p=2, K=2", _lines(2), emjax.Data(y=y, x=x))


def repeated(tree: Any, times: int) -> Any:
    """Every leaf `times` over along its leading axis: data sets, or their starts."""
    return jax.tree.map(lambda leaf: np.concatenate([leaf] * times), tree)


def starts(batch: Batch, key: int = 0, strategy: str = "elemental") -> emjax.MixtureParams:
    """A random start of each dataset in the user's units: a fit that ends after its first E-step is where it began."""
    begun = emjax.fit_many(
        batch.model, batch.data, key, restarts=1, start=strategy, stop=emjax.Stop(max_iterations=1), certificate=False
    )
    return begun.params

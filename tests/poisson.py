"""A family of Poisson counts for the tests of hidden Markov models: `emjax.Poisson` where it is there, or this one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import gammainc, gammaincc

import emjax
from emjax import Data, DataError, FamilyDefaults, Problem


class PoissonParams(NamedTuple):
    rates: Any


class PoissonData(NamedTuple):
    y: Any
    log_factorial: Any
    weight: Any
    fixed: Any = None


@dataclass(frozen=True)
class Poisson(FamilyDefaults):
    blocks: ClassVar[Any] = PoissonParams

    def check(self, data: Data) -> None:
        if np.ndim(data.y) != 1 or data.x is not None:
            raise DataError("y (n,) alone.")

    def check_params(self, params: Any) -> None:
        pass

    def prepare(self, data: Data, n_components: int, prior: Any, fixed: Any) -> tuple[PoissonData, Any]:
        used = data.weight > 0
        problem = jnp.where(jnp.any(used & ~jnp.isfinite(data.y)), Problem.RESPONSE_NOT_FINITE, 0)
        y = jnp.where(used & jnp.isfinite(data.y), data.y, 0.0)
        return PoissonData(y, jax.lax.lgamma(y + 1.0), data.weight), problem

    def initial(self, prepared: PoissonData, resp: Any, spread: Any) -> PoissonParams:
        counts = jnp.maximum(jnp.sum(resp, axis=1), 1e-12)
        return PoissonParams(jnp.maximum(jnp.sum(resp * prepared.y[None, :], axis=1) / counts, 1e-3))

    def elemental(self, prepared: Any) -> int:
        return 1

    def log_prob(self, params: PoissonParams, prepared: PoissonData) -> Any:
        rates = params.rates[:, None]
        return prepared.y[None, :] * jnp.log(rates) - rates - prepared.log_factorial[None, :]

    def tails(self, params: PoissonParams, prepared: PoissonData) -> tuple[Any, Any, Any]:
        y, rates = prepared.y[None, :], params.rates[:, None]
        less = jnp.where(y > 0, gammaincc(jnp.maximum(y, 1.0), rates), 0.0)
        return less, jnp.exp(self.log_prob(params, prepared)), gammainc(y + 1.0, rates)

    def statistics(self, params: Any, prepared: PoissonData, resp: Any) -> Any:
        return jnp.sum(resp, axis=1), jnp.sum(resp * prepared.y[None, :], axis=1)

    def maximize(self, statistics: Any, params: Any, prepared: Any) -> PoissonParams:
        return PoissonParams(jnp.maximum(statistics[1], 1e-10) / jnp.maximum(statistics[0], 1e-10))

    def log_prior(self, params: Any, prepared: PoissonData) -> Any:
        return jnp.zeros((), prepared.y.dtype)

    def flags(self, params: Any, statistics: Any, prepared: Any, degeneracy: Any) -> Any:
        return jnp.int32(0)

    def relabel(self, params: PoissonParams, permutation: Any) -> PoissonParams:
        return PoissonParams(params.rates[permutation])

    def component_of_free(self, prepared: Any, n_components: int) -> tuple[int, ...]:
        return tuple(range(n_components))

    def n_free(self, prepared: Any, n_components: int) -> int:
        return n_components

    def to_free(self, params: PoissonParams, prepared: Any) -> Any:
        return jnp.log(params.rates)

    def from_free(self, free: Any, prepared: Any, n_components: int) -> PoissonParams:
        return PoissonParams(jnp.exp(free))

    def to_user(self, params: Any, prepared: Any) -> Any:
        return params

    def from_user(self, params: Any, prepared: Any) -> Any:
        return params

    def sample(self, key: Any, params: PoissonParams, data: Data, labels: Any) -> Any:
        return jax.random.poisson(key, params.rates[labels]).astype(params.rates.dtype)


def family() -> Any:
    """The package's own, where it has one."""
    return emjax.Poisson() if hasattr(emjax, "Poisson") else Poisson()  # type: ignore[attr-defined]

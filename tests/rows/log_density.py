"""Components by their log density alone."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from emjax import Data, Mixture, MixtureParams, from_log_density
from tests.lanes import Case
from tests.oracle.problem import MixtureProblem
from tests.rows.common import EVEN, MANY, WEIGHTS, groups, labels, mixture, room, weighted

ROWS = 80


def weibull(params: Any, row: Data) -> Any:
    """Shape and scale as logarithms."""
    log_shape, log_scale = params["log_shape"], params["log_scale"]
    z = jnp.log(row.y) - log_scale
    return log_shape - log_scale + (jnp.exp(log_shape) - 1.0) * z - jnp.exp(jnp.exp(log_shape) * z)


def start(data: Data) -> Any:
    mean = jnp.sum(data.weight * data.y) / jnp.sum(data.weight)
    return {"log_shape": jnp.zeros_like(mean), "log_scale": jnp.log(mean)}


def draw(key: Any, params: Any, data: Data) -> Any:
    uniform = jax.random.uniform(key, data.y.shape, params["log_scale"].dtype)
    return jnp.exp(params["log_scale"] + jnp.exp(-params["log_shape"]) * jnp.log(-jnp.log1p(-uniform)))


FAMILY = from_log_density(weibull, start, sample=draw)


def oracle_log_prob(params: Any, y: np.ndarray) -> np.ndarray:
    """(K, n), from the textbook's form of the density."""
    shape, scale = np.exp(params["log_shape"]), np.exp(params["log_scale"])
    values = np.zeros((len(shape), len(y)))
    for k in range(len(shape)):
        for i in range(len(y)):
            ratio = y[i] / scale[k]
            values[k, i] = np.log(shape[k] / scale[k] * ratio ** (shape[k] - 1.0) * np.exp(-(ratio ** shape[k])))
    return values


def weibull_params(weights: Any, shape: Any, scale: Any) -> MixtureParams:
    return mixture(weights, {"log_scale": np.log(scale), "log_shape": np.log(shape)})


def weibull_data(true: MixtureParams, n: int, seed: int, grouped: bool) -> Data:
    rng = np.random.default_rng(seed)
    unit = groups(n) if grouped else np.arange(n)
    of = labels(rng, true.latent.weights, unit)
    shape, scale = np.exp(true.family["log_shape"]), np.exp(true.family["log_scale"])
    return Data(scale[of] * rng.weibull(shape[of]), unit=unit if grouped else None)


def weibull_case(name: str, *, grouped: bool = False, frequency: bool = False, slow: bool = True) -> Case:
    near, away = (
        weibull_params(WEIGHTS[2], [1.5, 4.0], [20.0, 80.0]),
        weibull_params(EVEN[2], [1.2, 2.5], [30.0, 60.0]),
    )
    data, weight, unit = weighted(weibull_data(near, ROWS, 0, grouped), frequency)
    return Case(
        name=name,
        model=Mixture(FAMILY, 2),
        data=data,
        near=near,
        away=away,
        oracle=MixtureProblem(lambda p: oracle_log_prob(p, data.y), lambda resp, rows: {}, lambda p: 0.0, weight, unit),
        n_free=5,
        many=room(weibull_data(near, MANY, 1, grouped)),
        exact_m_step=False,
        closed=False,
        slow=slow,
    )


CASES: tuple[Case, ...] = (
    weibull_case("log-density-weibull"),
    weibull_case("log-density-grouped", grouped=True),
    weibull_case("log-density-frequencies", frequency=True),
)

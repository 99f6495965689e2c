"""What the rows share: sizes, weights, units, and how a case is put together.

Units are far from standard ones on purpose: y about 1,000 or -20, covariates about 5.
"""

from typing import Any

import numpy as np

from emjax import Data, MixtureParams, WeightsParams

ROWS, MANY = 56, 512
WEIGHTS = {1: [1.0], 2: [0.6, 0.4], 3: [0.4, 0.35, 0.25]}
EVEN = {1: [1.0], 2: [0.5, 0.5], 3: [0.4, 0.3, 0.3]}


def mixture(weights: Any, family: Any) -> MixtureParams:
    return MixtureParams(WeightsParams(np.array(weights, float)), family)


def groups(n: int) -> np.ndarray:
    """Units of 2, 3 and 4 rows, by turns."""
    sizes = np.resize([2, 3, 4], n)
    return np.repeat(np.arange(n), sizes)[:n].astype(np.int32)


def frequencies(n: int) -> np.ndarray:
    """Weights, whole and not."""
    return np.resize([1.0, 2.0, 0.5, 3.0, 1.0], n)


def labels(rng: np.random.Generator, weights: np.ndarray, unit: np.ndarray) -> np.ndarray:
    return rng.choice(len(weights), size=int(unit[-1]) + 1, p=weights)[unit]


def weighted(data: Data, frequency: bool) -> tuple[Data, np.ndarray, np.ndarray]:
    unit = np.arange(len(data.y)) if data.unit is None else np.asarray(data.unit)
    count = int(unit[-1]) + 1
    if frequency:
        data = data._replace(weight=frequencies(count))
    return data, np.ones(count) if data.weight is None else np.asarray(data.weight), unit


def room(data: Data) -> Data:
    """The design to simulate on, with a weight a unit."""
    count = len(data.y) if data.unit is None else int(data.unit[-1]) + 1
    return data._replace(weight=np.ones(count))


def held_at(fixed: tuple[str, ...], near: MixtureParams, away: MixtureParams) -> tuple[dict[str, Any], MixtureParams]:
    """Fixed blocks of `near` by name, and `away` with them."""
    held = {name: getattr(part, name) for part in near for name in fixed if name in part._fields}
    own = ({name: value for name, value in held.items() if name in part._fields} for part in away)
    return held, MixtureParams(*(part._replace(**values) for part, values in zip(away, own)))

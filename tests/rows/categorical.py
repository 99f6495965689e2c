"""Latent class analysis."""

from typing import Any

import numpy as np

from emjax import Categorical, CategoricalParams, Data, Dirichlet, Mixture, MixtureParams
from tests.lanes import Case
from tests.oracle import categorical
from tests.oracle.problem import MixtureProblem
from tests.rows.common import EVEN, MANY, WEIGHTS, groups, held_at, labels, mixture, room, weighted

ROWS = 120
MIXED = (2, 3, 2, 4, 2)
BINARY = (2,) * 6
FIRST = {2: [0.9, 0.15, 0.5], 3: [0.7, 0.15, 0.3], 4: [0.6, 0.1, 0.3]}


def probabilities(levels: tuple[int, ...], components: int, far: bool = False) -> np.ndarray:
    """(K, J, L): the first level's differs by component, more for even items; `far` pulls them together."""
    found = np.zeros((components, len(levels), max(levels)))
    for k in range(components):
        for j, count in enumerate(levels):
            first = FIRST[count][k] if j != 1 else FIRST[count][-1 - k]
            first = 0.5 * first + 0.25 if far else first
            rest = np.arange(1.0, count) + k
            found[k, j, :count] = [first, *(1.0 - first) * rest / rest.sum()]
    return found


def categorical_data(
    params: MixtureParams, levels: tuple[int, ...], n: int, seed: int, grouped: bool, holes: float
) -> Data:
    """From the true parameters, a share of the cells missing."""
    rng = np.random.default_rng(seed)
    unit = groups(n) if grouped else np.arange(n)
    of = labels(rng, params.latent.weights, unit)
    y = np.zeros((n, len(levels)))
    for i in range(n):
        for j, count in enumerate(levels):
            y[i, j] = rng.choice(count, p=params.family.probabilities[of[i], j, :count])
    y[rng.random(y.shape) < holes] = np.nan
    return Data(y, unit=unit if grouped else None)


def problem(y: np.ndarray, levels: Any, weight: Any, unit: Any, prior: Any, held: tuple[str, ...]) -> MixtureProblem:
    """Of the oracle; prior: concentrations of the items and of the weights."""
    items, of_weights = prior or (None, None)
    return MixtureProblem(
        lambda params: categorical.log_prob(params, y),
        lambda resp, rows: categorical.maximize(resp, y, levels, rows, items)._asdict(),
        lambda params: categorical.log_prior(params, levels, items),
        weight,
        unit,
        of_weights,
        held,
    )


def categorical_case(
    name: str,
    n_free: int,
    *,
    levels: tuple[int, ...] = MIXED,
    given: Any = None,
    components: int = 2,
    prior: Any = None,
    fixed: tuple[str, ...] = (),
    grouped: bool = False,
    frequency: bool = False,
    holes: float = 0.0,
    seed: int = 0,
    slow: bool = True,
) -> Case:
    """A latent class model; `given` is how the levels are said."""
    near = mixture(WEIGHTS[components], CategoricalParams(probabilities(levels, components)))
    away = mixture(EVEN[components], CategoricalParams(probabilities(levels, components, far=True)))
    held, away = held_at(fixed, near, away)
    data, weight, unit = weighted(categorical_data(near, levels, ROWS, seed, grouped, holes), frequency)
    return Case(
        name=name,
        model=Mixture(Categorical(given or levels), components),
        data=data,
        near=near,
        away=away,
        oracle=problem(data.y, levels, weight, unit, prior, fixed),
        n_free=n_free,
        many=room(categorical_data(near, levels, MANY, seed + 1, grouped, 0.0)),
        prior=prior and {"weights": Dirichlet(prior[1]), "family": Dirichlet(prior[0])},
        fixed=held or None,
        exchangeable=not fixed,
        slow=slow,
    )


UNEVEN = 1.5 + 0.5 * np.arange(20.0).reshape(5, 4) / 20.0

CASES: tuple[Case, ...] = (
    categorical_case("categorical-missing", 17, holes=0.15, slow=False),
    categorical_case("categorical-binary", 13, levels=BINARY, given=2, prior=(1.5, 2.0)),
    categorical_case("categorical-mixed", 17),
    categorical_case("categorical-three", 26, components=3, prior=(2.0, 2.0)),
    categorical_case("categorical-one", 8, components=1),
    categorical_case("categorical-uneven-map", 17, prior=(UNEVEN, 2.0)),
    categorical_case("categorical-frequencies", 17, frequency=True),
    categorical_case("categorical-grouped", 17, grouped=True, holes=0.1),
    categorical_case("categorical-fixed-probabilities", 1, fixed=("probabilities",)),
    categorical_case("categorical-fixed-weights", 16, fixed=("weights",)),
)

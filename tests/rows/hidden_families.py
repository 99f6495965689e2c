"""Hidden Markov models of families other than Gaussians and regressions."""

from typing import Any

import numpy as np

from emjax import (
    Categorical,
    CategoricalParams,
    Data,
    HiddenMarkov,
    Independent,
    IndependentParams,
    MixtureParams,
    PointMass,
    Poisson,
    PoissonParams,
    WithComponent,
)
from tests.lanes import Case
from tests.oracle import categorical, counts, independent, with_component
from tests.oracle.hidden_markov import HiddenMarkovProblem
from tests.rows.categorical import probabilities
from tests.rows.common import MANY, ROWS, room, weighted
from tests.rows.hidden_markov import AWAY_CHAINS, CHAINS, chain, sequences, states

LEVELS, LENGTHS = (2, 3), (3, 5, 4, 6)
RATES, AWAY_RATES = [3.0, 12.0], [5.0, 9.0]
INFLATED = WithComponent(Poisson(), PointMass())
FAMILIES: dict[str, Any] = {
    "poisson": Poisson(),
    "inflated": INFLATED,
    "categorical": Categorical(LEVELS),
    "independent": Independent([Poisson(), Categorical(LEVELS)], [1, 2]),
}


def block(kind: str, far: bool) -> Any:
    """Parameters of two states, of which a point mass has none."""
    rates = PoissonParams(np.array(AWAY_RATES if far else RATES)[: 1 if kind == "inflated" else 2])
    items = CategoricalParams(probabilities(LEVELS, 2, far))
    return {"categorical": items, "independent": IndependentParams((rates, items))}.get(kind, rates)


def hidden_data(kind: str, params: MixtureParams, n: int, seed: int) -> Data:
    """Every ninth row missing."""
    rng, unit = np.random.default_rng(seed), sequences(n, LENGTHS)
    of = states(rng, params.latent, unit)
    drawn = rng.poisson([*RATES[:1], 0.0] if kind == "inflated" else RATES, (n, 2))[np.arange(n), of].astype(float)
    items = probabilities(LEVELS, 2)
    levels = np.array([[rng.choice(c, p=items[k, j, :c]) for j, c in enumerate(LEVELS)] for k in of], float)
    y = {"categorical": levels, "independent": np.column_stack([drawn, levels])}.get(kind, drawn)
    y[np.arange(n) % 9 == 7] = np.nan
    return Data(y, unit=unit)


def parts(kind: str, y: np.ndarray, seen: np.ndarray) -> Any:
    """Log density and M-step of the oracle; missing rows are left out of both."""
    y = np.where(seen if y.ndim == 1 else seen[:, None], y, 0.0)
    number, levels = (y[:, 0], y[:, 1:]) if kind == "independent" else (y, y)
    one = np.ones(len(y))
    rates = independent.Member(
        lambda p: counts.log_prob("poisson", p.rates, number, one),
        lambda resp, rows: {"rates": counts.maximize("poisson", resp, number, one, rows * seen, None)},
    )
    items = independent.Member(
        lambda p: categorical.log_prob(p, levels),
        lambda resp, rows: categorical.maximize(resp, levels, LEVELS, rows * seen)._asdict(),
    )
    if kind == "inflated":
        mass = with_component.point_mass(y, 0.0)
        return lambda p: np.vstack([rates.log_prob(p), mass]), lambda resp, rows: rates.maximize(resp[:-1], rows)
    if kind == "independent":

        def maximize(resp: np.ndarray, rows: np.ndarray) -> dict[str, Any]:
            found = PoissonParams(**rates.maximize(resp, rows)), CategoricalParams(**items.maximize(resp, rows))
            return {"members": found}

        return lambda p: independent.log_prob((rates, items), p), maximize
    return items if kind == "categorical" else rates


def family_case(kind: str, n_free: int, slow: bool = True) -> Case:
    near, away = (
        MixtureParams(chain(*chains[2], False), block(kind, far))
        for chains, far in ((CHAINS, False), (AWAY_CHAINS, True))
    )
    data, weight, unit = weighted(hidden_data(kind, near, ROWS, 0), False)
    y = np.asarray(data.y)
    seen = np.isfinite(y) if y.ndim == 1 else np.isfinite(y[:, 0])
    log_prob, maximize = parts(kind, y, seen)
    return Case(
        name=f"hidden-markov-{kind}",
        model=HiddenMarkov(FAMILIES[kind], 2),
        data=data,
        near=near,
        away=away,
        oracle=HiddenMarkovProblem(log_prob, maximize, lambda params: 0.0, weight, unit, seen),
        n_free=n_free,
        many=room(hidden_data(kind, near, MANY, 1)),
        exchangeable=kind != "inflated",
        slow=slow,
    )


CASES: tuple[Case, ...] = (
    family_case("poisson", 5),
    family_case("inflated", 4),
    family_case("categorical", 9),
    family_case("independent", 11),
)

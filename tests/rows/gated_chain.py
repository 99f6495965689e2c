"""Hidden Markov models gated by covariates: short ragged sequences, so that the oracle can enumerate their paths."""

from typing import Any

import numpy as np

from emjax import Data, GatedMarkovParams, Gaussian, HiddenMarkov, MixtureParams
from tests.lanes import Case
from tests.oracle import gaussian
from tests.oracle.gated_chain import GatedChainProblem, log_rows
from tests.oracle.hidden_markov import HiddenMarkovProblem
from tests.rows.common import MANY, held_at, room, weighted
from tests.rows.hidden_markov import AWAY_CHAINS, CHAINS, family_params, sequences

ROWS = 200  # and seeds such that in no half of them z separates the states: the maximum would lie at infinity
# A covariate about 5 with a standard deviation of 2: moderate logits.
INITIAL = {2: [[-1.5, 0.4], [0.0, 0.0]]}
AWAY_INITIAL = {2: [[0.5, 0.0], [0.0, 0.0]]}
MOVES = {
    2: [[[0.0, 0.0], [-2.5, 0.3]], [[0.5, -0.2], [0.0, 0.0]]],
    3: [
        [[0.0, 0.0], [-1.5, 0.2], [-1.0, 0.0]],
        [[0.5, -0.2], [0.0, 0.0], [-1.0, 0.1]],
        [[-0.5, 0.0], [0.4, -0.2], [0.0, 0.0]],
    ],
}
AWAY_MOVES = {
    2: [[[0.0, 0.0], [-0.5, 0.0]], [[-0.5, 0.05], [0.0, 0.0]]],
    3: np.where(np.eye(3, dtype=bool)[:, :, None], 0.0, np.array([-0.4, 0.05])),
}


def design_of(z: np.ndarray) -> np.ndarray:
    return np.column_stack([np.ones(len(z)), z])


def gated_data(params: MixtureParams, n: int, seed: int, lengths: tuple[int, ...], missing: bool) -> Data:
    """From the true parameters; some rows missing, either way of saying so."""
    rng = np.random.default_rng(seed)
    unit, (initial, moves) = sequences(n, lengths), params.latent
    z = rng.normal(5.0, 2.0, (n, 1))
    first = np.exp(log_rows(initial, design_of(z), initial.ndim == 2))
    onward = np.exp(np.stack([log_rows(row, design_of(z), moves.ndim == 3) for row in moves], axis=1))
    of = np.zeros(n, int)
    for i in range(n):
        begins = i == 0 or unit[i] != unit[i - 1]
        of[i] = rng.choice(len(initial), p=first[i] if begins else onward[i, of[i - 1]])
    y = params.family.means[of, 0] + np.sqrt(params.family.covariances[of, 0, 0]) * rng.normal(size=n)
    observed = None
    if missing:
        observed = np.arange(n) % 9 != 4
        y[np.arange(n) % 9 == 7] = np.nan
    return Data(y, z=z, observed=observed, unit=unit)


def gated_case(
    name: str,
    n_free: int,
    *,
    initial: Any = "free",
    transitions: Any = "gated",
    n_states: int = 2,
    lengths: tuple[int, ...] = (3, 5, 4, 6),
    missing: bool = False,
    frequency: bool = False,
    fixed: tuple[str, ...] = (),
    seed: int = 0,
    slow: bool = True,
) -> Case:
    """A hidden Markov model of Gaussians."""

    def params(away: bool) -> MixtureParams:
        chain = (AWAY_CHAINS if away else CHAINS)[n_states]
        starts, moves = (AWAY_INITIAL, AWAY_MOVES) if away else (INITIAL, MOVES)
        latent = GatedMarkovParams(
            np.array(starts[n_states] if initial == "gated" else chain[0], float),
            np.array(moves[n_states] if transitions == "gated" else chain[1], float),
        )
        return MixtureParams(latent, family_params(False, n_states, away))

    near, away = params(False), params(True)
    held, away = held_at(fixed, near, away)
    data, weight, unit = weighted(gated_data(near, ROWS, seed, lengths, missing), frequency)
    seen = np.isfinite(data.y) & (True if data.observed is None else data.observed)
    y = np.where(seen, data.y, 0.0)
    problem = HiddenMarkovProblem(
        lambda params: gaussian.log_prob(params, y[:, None]),
        lambda resp, rows: gaussian.maximize(resp, y[:, None], "full", rows, None)._asdict(),
        lambda params: 0.0,
        weight,
        unit,
        seen,
        held=fixed,
    )
    return Case(
        name=name,
        model=HiddenMarkov(Gaussian(), n_states, initial, transitions),
        data=data,
        near=near,
        away=away,
        oracle=GatedChainProblem(problem, design_of(data.z)),
        n_free=n_free,
        many=room(gated_data(near, MANY, seed + 1, lengths, missing)),
        fixed=held or None,
        exact_m_step=False,
        exchangeable=not fixed,
        slow=slow,
    )


CASES: tuple[Case, ...] = (
    gated_case("gated-chain", 9, missing=True, seed=3, slow=False),
    gated_case("gated-chain-both", 10, initial="gated", frequency=True),
    gated_case("gated-chain-initial", 8, initial="gated", transitions="constant", missing=True),
    gated_case("gated-chain-fixed-transitions", 5, fixed=("transitions",)),
    gated_case("gated-chain-fixed-initial", 8, initial="gated", fixed=("initial",)),
    gated_case("gated-chain-three", 20, n_states=3, lengths=(4, 3, 5)),
)

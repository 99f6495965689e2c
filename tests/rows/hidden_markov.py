"""Hidden Markov models: several short ragged sequences, so that the oracle can enumerate their paths."""

from typing import Any

import numpy as np

from emjax import (
    Data,
    Dirichlet,
    Gaussian,
    GaussianParams,
    HiddenMarkov,
    LinearRegression,
    LinearRegressionParams,
    MarkovParams,
    MixtureParams,
    NormalInverseWishart,
)
from tests.lanes import Case
from tests.oracle import gaussian, linear_regression
from tests.oracle.hidden_markov import HiddenMarkovProblem, stationary
from tests.rows.common import MANY, ROWS, held_at, room, weighted
from tests.rows.gaussian import known_wishart

CHAINS = {
    2: ([0.7, 0.3], [[0.8, 0.2], [0.35, 0.65]]),
    3: ([0.5, 0.3, 0.2], [[0.7, 0.2, 0.1], [0.15, 0.7, 0.15], [0.2, 0.2, 0.6]]),
}
AWAY_CHAINS = {
    2: ([0.5, 0.5], [[0.55, 0.45], [0.5, 0.5]]),
    3: ([0.4, 0.3, 0.3], [[0.5, 0.25, 0.25], [0.3, 0.4, 0.3], [0.3, 0.3, 0.4]]),
}
MEANS, AWAY_MEANS = [1000.0, 1006.0, 992.0], [1001.5, 1004.0, 994.0]
VARIANCES = [4.0, 6.0, 3.0]
LINES, AWAY_LINES = [[1000.0, 2.0], [1020.0, -2.0]], [[1003.0, 1.0], [1016.0, -1.0]]
PRIOR = (np.array([1003.0]), 0.5, 4.0, np.array([[5.0]]))


def chain(initial: Any, transitions: Any, is_stationary: bool) -> MarkovParams:
    transitions = np.array(transitions, float)
    return MarkovParams(stationary(transitions) if is_stationary else np.array(initial, float), transitions)


def sequences(n: int, lengths: tuple[int, ...]) -> np.ndarray:
    count = -(-n // min(lengths))
    return np.repeat(np.arange(count), np.resize(lengths, count))[:n].astype(np.int32)


def states(rng: np.random.Generator, latent: MarkovParams, unit: np.ndarray) -> np.ndarray:
    found = np.zeros(len(unit), int)
    for i in range(len(unit)):
        first = i == 0 or unit[i] != unit[i - 1]
        found[i] = rng.choice(len(latent.initial), p=latent.initial if first else latent.transitions[found[i - 1]])
    return found


def hidden_data(params: MixtureParams, n: int, seed: int, lengths: tuple[int, ...], missing: bool) -> Data:
    """From the true parameters; some rows missing, either way of saying so."""
    rng = np.random.default_rng(seed)
    unit = sequences(n, lengths)
    of, noise, x = states(rng, params.latent, unit), rng.normal(size=n), None
    if isinstance(params.family, GaussianParams):
        y = params.family.means[of, 0] + np.sqrt(params.family.covariances[of, 0, 0]) * noise
    else:
        x = rng.uniform(0.0, 10.0, (n, 1))
        design = linear_regression.design_matrix(x, True)
        y = np.sum(design * params.family.coefficients[of], axis=1) + params.family.scale[of] * noise
    observed = None
    if missing:
        observed = np.arange(n) % 9 != 4
        y[np.arange(n) % 9 == 7] = np.nan
    return Data(y, x, observed=observed, unit=unit)


def family_params(regression: bool, n_states: int, away: bool) -> Any:
    if regression:
        return LinearRegressionParams(
            np.array(AWAY_LINES if away else LINES), np.array([4.0, 7.0] if away else [2.0, 3.5])
        )
    variances = np.array(VARIANCES)[:n_states, None, None] * (2.0 if away else 1.0)
    return GaussianParams(np.array(AWAY_MEANS if away else MEANS)[:n_states, None], variances)


def hidden_case(
    name: str,
    n_free: int,
    *,
    initial: Any = "free",
    n_states: int = 2,
    regression: bool = False,
    lengths: tuple[int, ...] = (3, 5, 4, 6),
    missing: bool = False,
    frequency: bool = False,
    concentrations: dict[str, float] | None = None,
    fixed: tuple[str, ...] = (),
    seed: int = 0,
    slow: bool = True,
) -> Case:
    """A hidden Markov model of Gaussians, or Markov-switching regression."""
    is_stationary = initial == "stationary"
    near, away = (
        MixtureParams(chain(*chains[n_states], is_stationary), family_params(regression, n_states, far))
        for chains, far in ((CHAINS, False), (AWAY_CHAINS, True))
    )
    held, away = held_at(fixed, near, away)
    data, weight, unit = weighted(hidden_data(near, ROWS, seed, lengths, missing), frequency)
    seen = np.isfinite(data.y) & (True if data.observed is None else data.observed)
    y = np.where(seen, data.y, 0.0)
    given = PRIOR if concentrations else None
    known = known_wishart(given)
    if regression:
        design = linear_regression.design_matrix(data.x, True)
        parts: Any = (
            lambda params: linear_regression.log_prob(params, y, design),
            lambda resp, rows: linear_regression.maximize(resp, y, design, "component", rows)._asdict(),
            lambda params: 0.0,
        )
    else:
        parts = (
            lambda params: gaussian.log_prob(params, y[:, None]),
            lambda resp, rows: gaussian.maximize(resp, y[:, None], "full", rows, known)._asdict(),
            lambda params: gaussian.log_prior(params, "full", known),
        )
    prior: Any = {name: Dirichlet(value) for name, value in (concentrations or {}).items()}
    prior |= {} if given is None else {"family": NormalInverseWishart(*given)}
    return Case(
        name=name,
        model=HiddenMarkov(LinearRegression() if regression else Gaussian(), n_states, initial),
        data=data,
        near=near,
        away=away,
        oracle=HiddenMarkovProblem(*parts, weight, unit, seen, is_stationary, concentrations, fixed),
        n_free=n_free,
        many=room(hidden_data(near, MANY, seed + 1, lengths, missing)),
        prior=prior or None,
        fixed=held or None,
        exact_m_step=not is_stationary,
        closed=not is_stationary,
        exchangeable=not fixed,
        slow=slow,
    )


CASES: tuple[Case, ...] = (
    hidden_case("hidden-markov", 7, missing=True, slow=False),
    hidden_case("hidden-markov-stationary", 6, initial="stationary"),
    hidden_case("hidden-markov-map", 7, concentrations={"initial": 2.0, "transitions": 1.5}),
    hidden_case("hidden-markov-stationary-map", 6, initial="stationary", concentrations={"transitions": 1.5}),
    hidden_case("hidden-markov-fixed-transitions", 5, fixed=("transitions",)),
    hidden_case("hidden-markov-fixed-initial", 6, fixed=("initial",), missing=True),
    hidden_case("hidden-markov-regression", 9, regression=True, frequency=True, lengths=(4, 6, 5)),
    hidden_case("hidden-markov-three", 14, n_states=3, lengths=(4, 3, 5)),
    hidden_case("hidden-markov-three-stationary", 12, initial="stationary", n_states=3, lengths=(4, 3, 5)),
)

"""A hidden Markov model by its definition: every path of every short sequence, K^T of them. NumPy loops, no jax."""

from collections.abc import Callable
from itertools import product
from math import exp, log
from typing import Any, NamedTuple

import numpy as np

from tests.oracle import mixture


class Path(NamedTuple):
    rows: range  # of its sequence
    states: tuple[int, ...]
    probability: float  # given the sequence


class Posterior(NamedTuple):
    log_likelihood: float  # sum over sequences of weight_u log p(y_u)
    responsibilities: list[Path]  # of all sequences; named as in a mixture, where the components' probabilities suffice


def stationary(transitions: np.ndarray) -> np.ndarray:
    """The distribution that `transitions` leave as it is."""
    n_states = len(transitions)
    system = np.vstack([transitions.T - np.eye(n_states), np.ones(n_states)])
    return np.linalg.lstsq(system, np.append(np.zeros(n_states), 1.0), rcond=None)[0]


def log_zero(value: float) -> float:
    return log(value) if value > 0 else -np.inf


class HiddenMarkovProblem:
    """E-step, Q, log prior and M-step of a hidden Markov model for one dataset, as `problem.MixtureProblem`.

    Parameters: any record with `latent.initial`, `latent.transitions` and the blocks of the components under `family`.
    seen (n,): rows that hold an observation. concentrations: of the Dirichlet priors, by name.
    """

    def __init__(
        self,
        log_prob: Callable[[Any], np.ndarray],
        maximize: Callable[[np.ndarray, np.ndarray], dict[str, np.ndarray]],
        log_prior: Callable[[Any], float],
        weight: np.ndarray,
        unit: np.ndarray,
        seen: np.ndarray,
        is_stationary: bool = False,
        concentrations: dict[str, float] | None = None,
        held: tuple[str, ...] = (),
    ) -> None:
        self.log_prob, self.maximize, self.family_log_prior = log_prob, maximize, log_prior
        self.weight, self.unit, self.seen, self.held = weight, unit, seen, held
        self.is_stationary, self.concentrations = is_stationary, concentrations or {}
        starts = [i for i in range(len(unit)) if i == 0 or unit[i] != unit[i - 1]]
        self.sequences = [range(a, b) for a, b in zip(starts, [*starts[1:], len(unit)])]

    def rows_log_prob(self, params: Any) -> np.ndarray:
        """(K, n); 0 where nothing was seen."""
        return np.where(self.seen, self.log_prob(params.family), 0.0)

    def log_chain(self, params: Any) -> tuple[np.ndarray, np.ndarray]:
        """Of every row, as if a sequence began there, and as if none did: (n, K) and (n, K, K)."""
        first = stationary(params.latent.transitions) if self.is_stationary else params.latent.initial
        logs = [np.vectorize(log_zero, otypes=[float])(part) for part in (first, params.latent.transitions)]
        n = len(self.unit)
        return np.broadcast_to(logs[0], (n, *logs[0].shape)), np.broadcast_to(logs[1], (n, *logs[1].shape))

    @staticmethod
    def log_joint(
        chain: tuple[np.ndarray, np.ndarray], log_prob: np.ndarray, rows: range, states: tuple[int, ...]
    ) -> float:
        """log p(path, observations of its sequence)."""
        value = chain[0][rows[0], states[0]]
        for before, after, i in zip(states, states[1:], rows[1:]):
            value += chain[1][i, before, after]
        for state, i in zip(states, rows):
            value += log_prob[state, i]
        return value

    def _paths(self, params: Any, rows: range) -> list[tuple[tuple[int, ...], float]]:
        log_prob, chain = self.rows_log_prob(params), self.log_chain(params)
        everything = product(range(len(log_prob)), repeat=len(rows))
        return [(states, self.log_joint(chain, log_prob, rows, states)) for states in everything]

    def e_step(self, params: Any) -> Posterior:
        """Log-likelihood in nats, and the probability of every path."""
        log_likelihood, found = 0.0, []
        for u, rows in enumerate(self.sequences):
            paths = self._paths(params, rows)
            total = mixture.log_sum_exp(np.array([value for _, value in paths]))
            found += [Path(rows, states, exp(value - total)) for states, value in paths]
            log_likelihood += self.weight[u] * total
        return Posterior(log_likelihood, found)

    def rows(self, responsibilities: list[Path]) -> np.ndarray:
        """Smoothed probabilities of the states of each row, (K, n)."""
        found = np.zeros((1 + max(max(path.states) for path in responsibilities), len(self.unit)))
        for path in responsibilities:
            for state, i in zip(path.states, path.rows):
                found[state, i] += path.probability
        return found

    def decode(self, params: Any) -> np.ndarray:
        """The most probable path of every sequence, (n,)."""
        return np.concatenate([max(self._paths(params, rows), key=lambda path: path[1])[0] for rows in self.sequences])

    def q(self, params: Any, responsibilities: list[Path]) -> float:
        """The expected complete-data log-likelihood, nats."""
        log_prob, chain = self.rows_log_prob(params), self.log_chain(params)
        value = 0.0
        for path in responsibilities:
            joint = self.log_joint(chain, log_prob, path.rows, path.states)
            if path.probability > 0:  # an impossible path, beside a point mass, is 0 x infinity
                value += self.weight[self.unit[path.rows[0]]] * path.probability * joint
        return value

    def log_prior(self, params: Any) -> float:
        """Nats; 0 without a prior."""
        value = self.family_log_prior(params.family)
        if "initial" in self.concentrations:
            value += mixture.weights_log_prior(params.latent.initial, self.concentrations["initial"])
        if "transitions" in self.concentrations:
            for row in params.latent.transitions:
                value += mixture.weights_log_prior(row, self.concentrations["transitions"])
        return value

    def m_step(self, params: Any, responsibilities: list[Path]) -> Any:
        """The mode of Q + log prior where the start is free; held blocks as in `params`."""
        n_states = len(params.latent.initial)
        first = np.full(n_states, self.concentrations.get("initial", 1.0) - 1.0)
        moves = np.full((n_states, n_states), self.concentrations.get("transitions", 1.0) - 1.0)
        for path in responsibilities:
            weight = self.weight[self.unit[path.rows[0]]] * path.probability
            first[path.states[0]] += weight
            for before, after in zip(path.states, path.states[1:]):
                moves[before, after] += weight
        found = self.maximize(self.rows(responsibilities), self.weight[self.unit] * self.seen)
        found |= {"initial": first / sum(first), "transitions": moves / moves.sum(axis=1, keepdims=True)}
        found = {name: value for name, value in found.items() if name not in self.held}
        latent = {name: found.pop(name) for name in ("initial", "transitions") if name in found}
        return params._replace(latent=params.latent._replace(**latent), family=params.family._replace(**found))

    def em(self, params: Any, iterations: int) -> Any:
        """Parameters after a number of iterations."""
        for _ in range(iterations):
            params = self.m_step(params, self.e_step(params).responsibilities)
        return params

"""A hidden Markov model whose chain is gated by covariates: every path, as in `hidden_markov`. NumPy loops, no jax.

`design` (n, q) holds a column of ones and z. A block of three axes (transitions), or of two where a vector stands
otherwise (initial), holds coefficients of logits; else probabilities.
"""

from typing import Any

import numpy as np

from tests.oracle import gated_weights
from tests.oracle.hidden_markov import HiddenMarkovProblem, Path, log_zero


def log_rows(values: np.ndarray, design: np.ndarray, gated: bool) -> np.ndarray:
    """(n, K), of probabilities (K,), or coefficients (K, q)."""
    if gated:
        return gated_weights.log_weights(values, design).T
    return np.array([[log_zero(value) for value in values]] * len(design))


def newton_row(
    values: np.ndarray, counts: np.ndarray, design: np.ndarray, weight: np.ndarray, baseline: int
) -> np.ndarray:
    """Coefficients (K, q) after a shortened step towards expected counts (K, n); rows weighted by `weight` (n,)."""
    own = counts.sum(axis=0)
    shares = counts / np.where(own > 0, own, 1.0)
    step = gated_weights.newton_step(values - values[-1], shares, design, own)
    columns, to_standard = gated_weights.standardised(design, weight, True)
    values = values + gated_weights.shortened(step @ to_standard.T, columns) * step
    return values - values[baseline]


class GatedChainProblem(HiddenMarkovProblem):
    """A hidden Markov model, of another problem's components and data, with a gated first state or transitions."""

    def __init__(self, problem: HiddenMarkovProblem, design: np.ndarray) -> None:
        self.__dict__.update(vars(problem))
        self.design = design

    def log_chain(self, params: Any) -> tuple[np.ndarray, np.ndarray]:
        """Of every row, as if a sequence began there, and as if none did: (n, K) and (n, K, K)."""
        initial, transitions = params.latent
        first = log_rows(initial, self.design, initial.ndim == 2)
        moves = [log_rows(row, self.design, transitions.ndim == 3) for row in transitions]
        return first, np.stack(moves, axis=1)

    def counts(self, responsibilities: list[Path], n_states: int) -> tuple[np.ndarray, np.ndarray]:
        """Expected first states (n, K) and transitions (n, K, K), weighted, at the rows that they lead into."""
        first, moves = np.zeros((len(self.unit), n_states)), np.zeros((len(self.unit), n_states, n_states))
        for path in responsibilities:
            weight = self.weight[self.unit[path.rows[0]]] * path.probability
            first[path.rows[0], path.states[0]] += weight
            for before, after, i in zip(path.states, path.states[1:], path.rows[1:]):
                moves[i, before, after] += weight
        return first, moves

    def m_step(self, params: Any, responsibilities: list[Path]) -> Any:
        """The components' mode; shares of counts where constant, a shortened Newton step a row where gated."""
        initial, transitions = params.latent
        n_states = len(initial)
        first, moves = self.counts(responsibilities, n_states)
        begins = np.isin(np.arange(len(self.unit)), [rows[0] for rows in self.sequences])
        weight = self.weight[self.unit]
        if initial.ndim == 2:
            at = begins & (weight > 0)
            initial = newton_row(initial, first[at].T, self.design[at], weight[at], n_states - 1)
        else:
            initial = first.sum(axis=0) / first.sum()
        at = ~begins & (weight > 0)
        if transitions.ndim == 3:
            rows = [newton_row(transitions[k], moves[at, k].T, self.design[at], weight[at], k) for k in range(n_states)]
            transitions = np.stack(rows)
        else:
            transitions = moves.sum(axis=0) / moves.sum(axis=(0, 2))[:, None]
        found = self.maximize(self.rows(responsibilities), weight * self.seen)
        latent = {"initial": initial, "transitions": transitions}
        latent = {name: value for name, value in latent.items() if name not in self.held}
        return params._replace(latent=params.latent._replace(**latent), family=params.family._replace(**found))

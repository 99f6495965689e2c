"""Poisson and binomial components without covariates, by loops. No jax.

`kind` is "poisson" (`size` (n,): exposure) or "binomial" (`size` (n,): trials); `values` (K,): rates or probabilities.
"""

from math import exp, lgamma, log
from typing import Any

import numpy as np

from tests.oracle.problem import MixtureProblem


def poisson(y: float, mean: float) -> float:
    """Log density, nats."""
    return y * log(mean) - mean - lgamma(y + 1)


def binomial(y: float, trials: float, p: float) -> float:
    """Log density, nats."""
    choose = lgamma(trials + 1) - lgamma(y + 1) - lgamma(trials - y + 1)
    return choose + y * log(p) + (trials - y) * log(1 - p)


def log_prob(kind: str, values: np.ndarray, y: np.ndarray, size: np.ndarray) -> np.ndarray:
    """(K, n)"""
    found = np.zeros((len(values), len(y)))
    for k in range(len(values)):
        for i in range(len(y)):
            if kind == "poisson":
                found[k, i] = poisson(y[i], values[k] * size[i])
            else:
                found[k, i] = binomial(y[i], size[i], values[k])
    return found


def log_prior(kind: str, values: np.ndarray, prior: tuple[float, float] | None) -> float:
    """Gamma(shape, rate) of rates, or Beta(alpha, beta) of probabilities: normalised log density."""
    if prior is None:
        return 0.0
    a, b = prior
    if kind == "poisson":
        return sum(a * log(b) - lgamma(a) + (a - 1) * log(v) - b * v for v in values)
    constant = lgamma(a + b) - lgamma(a) - lgamma(b)
    return sum(constant + (a - 1) * log(v) + (b - 1) * log(1 - v) for v in values)


def maximize(
    kind: str, resp: np.ndarray, y: np.ndarray, size: np.ndarray, weight: np.ndarray, prior: tuple[float, float] | None
) -> np.ndarray:
    """The mode of Q + log prior, (K,)."""
    found = np.zeros(len(resp))
    for k in range(len(resp)):
        events = sum(weight[i] * resp[k, i] * y[i] for i in range(len(y)))
        out_of = sum(weight[i] * resp[k, i] * size[i] for i in range(len(y)))
        if prior is not None:
            a, b = prior
            events += a - 1
            out_of += b if kind == "poisson" else a + b - 2
        found[k] = events / out_of
    return found


def problem(
    kind: str,
    y: np.ndarray,
    size: np.ndarray,
    weight: np.ndarray,
    unit: np.ndarray,
    prior: tuple[float, float] | None = None,
    concentration: Any = None,
    held: tuple[str, ...] = (),
) -> MixtureProblem:
    """A mixture of Poisson or binomial components."""
    block = {"poisson": "rates", "binomial": "probabilities"}[kind]
    return MixtureProblem(
        lambda params: log_prob(kind, params[0], y, size),
        lambda resp, rows: {block: maximize(kind, resp, y, size, rows, prior)},
        lambda params: log_prior(kind, params[0], prior),
        weight,
        unit,
        concentration,
        held,
    )


# --- regression -----------------------------------------------------------------------------------------------------


class RegressionProblem(MixtureProblem):
    """Poisson or binomial regression: one Newton step of Q from the current coefficients, shared columns summed.

    design (n, p), offset (n,), trials (n,) (unused for Poisson).
    """

    def __init__(
        self,
        kind: str,
        y: np.ndarray,
        design: np.ndarray,
        offset: np.ndarray,
        trials: np.ndarray,
        weight: np.ndarray,
        unit: np.ndarray,
        shared: tuple[int, ...] = (),
        held: tuple[str, ...] = (),
    ) -> None:
        super().__init__(self.rows, lambda resp, rows: {}, lambda params: 0.0, weight, unit, None, held)
        self.kind, self.y, self.design, self.offset, self.trials = kind, y, design, offset, trials
        self.shared = shared

    def means(self, coefficients: np.ndarray) -> np.ndarray:
        """Rates or probabilities, (n,)."""
        found = np.zeros(len(self.y))
        for i in range(len(self.y)):
            eta = self.design[i] @ coefficients + self.offset[i]
            found[i] = exp(eta) if self.kind == "poisson" else 1 / (1 + exp(-eta))
        return found

    def rows(self, params: Any) -> np.ndarray:
        """Log densities (K, n)."""
        found = np.zeros((len(params.coefficients), len(self.y)))
        for k, coefficients in enumerate(params.coefficients):
            means = self.means(coefficients)
            for i in range(len(self.y)):
                if self.kind == "poisson":
                    found[k, i] = poisson(self.y[i], means[i])
                else:
                    found[k, i] = binomial(self.y[i], self.trials[i], means[i])
        return found

    def m_step(self, params: Any, responsibilities: np.ndarray) -> Any:
        """Newton's step in all coefficients at once, the shared ones as one coordinate each."""
        after = super().m_step(params, responsibilities)
        if "coefficients" in self.held:
            return after
        old = params.family.coefficients
        resp, weight = responsibilities[:, self.unit], self.weight[self.unit]
        n_components, p = old.shape
        place = np.arange(n_components * p).reshape(n_components, p)
        place[:, self.shared] = place[0, self.shared]
        size = n_components * p
        information, score = np.zeros((size, size)), np.zeros(size)
        for k in range(n_components):
            means = self.means(old[k])
            for i in range(len(self.y)):
                mean = means[i] if self.kind == "poisson" else self.trials[i] * means[i]
                variance = mean if self.kind == "poisson" else mean * (1 - means[i])
                case_weight = weight[i] * resp[k, i]
                score[place[k]] += case_weight * (self.y[i] - mean) * self.design[i]
                information[np.ix_(place[k], place[k])] += (
                    case_weight * variance * np.outer(self.design[i], self.design[i])
                )
        used = np.unique(place)
        step = np.zeros(size)
        step[used] = np.linalg.solve(information[np.ix_(used, used)], score[used])
        return after._replace(family=after.family._replace(coefficients=old + step[place]))

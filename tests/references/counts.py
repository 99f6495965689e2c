"""Reference mixtures of Poisson components and Poisson regressions; see README.md for the source of every number."""

from typing import Any, NamedTuple

import numpy as np

from tests.references import _cases, _columns


class CountReference(NamedTuple):
    """y (n,) and x (n, p) without the intercept's column; every model has an intercept."""

    case: str
    y: np.ndarray
    x: np.ndarray
    unit: np.ndarray | None  # rows of a unit share their component
    weight: np.ndarray | None  # frequencies
    shared: tuple[int, ...]  # columns of the coefficients that all components have in common
    K: int
    log_likelihood: float
    n_free: int
    aic: float
    bic: float
    weights: np.ndarray  # (K,)
    coefficients: np.ndarray  # (K, p), the intercept first; components ascend by it
    starts: tuple[int, tuple[tuple[float, int], ...]] | None  # runs, and (log-likelihood, count) of each mode
    peers: tuple[tuple[str, float], ...]

    @property
    def name(self) -> str:
        return f"{self.case}-K{self.K}"


def count_cases() -> list[CountReference]:
    """Every reference mixture of counts, sorted by case, in the order of its file."""
    return [_count(case, fit) for case in _cases("glm_*.json") if "concomitant" not in case for fit in case["fits"]]


def _column(case: dict[str, Any], field: str) -> np.ndarray | None:
    return None if case[field] is None else _columns(case, [case[field]])[:, 0]


def _count(case: dict[str, Any], fit: dict[str, Any]) -> CountReference:
    assert case["order_rule"] == "components ascending by coefficient of (Intercept)"
    assert case["offset"] is None
    assert case["trials"] is None
    own = fit["own_em"]
    group = _column(case, "group")
    return CountReference(
        case=case["case"],
        y=_columns(case, [case["response"]])[:, 0],
        x=_columns(case, case["covariates"]),
        unit=None if group is None else group.astype(int),
        weight=_column(case, "frequency_weights"),
        shared=tuple(1 + case["covariates"].index(name) for name in case["shared"]),
        K=fit["K"],
        log_likelihood=fit["loglik"],
        n_free=fit["n_free"],
        aic=fit["AIC"],
        bic=fit["BIC"],
        weights=np.array(fit["weights"], float),
        coefficients=np.array(fit["coefficients"], float),
        starts=None if own is None else (own["n_runs"], tuple((m[0], m[1]) for m in own["modes"])),
        peers=tuple((package, value) for package, value in fit["peers"]),
    )

"""Reference fits by other software as records of NumPy arrays; see README.md for the source of every number."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

_FOLDER = Path(__file__).parent


class Mode(NamedTuple):
    """A local maximum and how many of the random starts ended there."""

    log_likelihood: float
    count: int
    scale_ratio: float
    rows: float


class Starts(NamedTuple):
    """Where the random starts of an independent EM ended; those that failed are counted in n_runs."""

    n_runs: int
    n_failed: int
    modes: tuple[Mode, ...]


class RegressionReference(NamedTuple):
    """A mixture of linear regressions: y (n,), x (n, p) without the intercept's column."""

    case: str
    y: np.ndarray
    x: np.ndarray
    intercept: bool
    K: int
    scale: str  # "component" or "common"
    log_likelihood: float
    n_free: int
    aic: float
    bic: float
    weights: np.ndarray  # (K,)
    coefficients: np.ndarray  # (K, p), the intercept first
    sigma: np.ndarray  # (K,)
    se: dict[str, np.ndarray]  # weights, coefficients, sigma
    order_column: int  # components ascend by this column of `coefficients`
    min_scale: float  # the smallest sigma of an interior maximum
    min_rows: float
    starts: Starts | None
    better_log_likelihood: float | None
    peers: tuple[tuple[str, float], ...]

    @property
    def name(self) -> str:
        return f"{self.case}-K{self.K}-{self.scale}"


class GaussianReference(NamedTuple):
    """A Gaussian mixture: y (n, d)."""

    case: str
    y: np.ndarray
    K: int
    model: str  # mclust's letters
    covariance: str  # the same form in emjax's words
    log_likelihood: float
    n_free: int
    aic: float
    bic: float
    weights: np.ndarray  # (K,)
    means: np.ndarray  # (K, d)
    covariances: np.ndarray  # (K, d, d)
    se: dict[str, np.ndarray]  # weights, means, covariances (NaN where an entry is no parameter)
    order_column: int  # components ascend by this column of `means`
    min_scale: float  # the smallest sqrt(eigenvalue), columns divided by their standard deviations
    min_rows: float
    starts: Starts | None
    better_log_likelihood: float | None
    peers: tuple[tuple[str, float], ...]

    @property
    def name(self) -> str:
        return f"{self.case}-K{self.K}-{self.model}"


class FactorReference(NamedTuple):
    """A factor analysis: y (n, p); loadings and uniquenesses of the variables divided by `deviation`."""

    case: str
    y: np.ndarray
    n_factors: int
    log_likelihood: float
    n_free: int
    aic: float
    bic: float
    loadings: np.ndarray  # (p, q), loadings' Psi^-1 loadings diagonal, column sums positive
    uniquenesses: np.ndarray  # (p,), 1e-6 at the least
    heywood: int  # how many of them are at 1e-6
    deviation: np.ndarray  # (p,), divisor n
    bounded_log_likelihood: float  # what factanal returns by default, uniquenesses 0.005 at the least
    bounded_uniquenesses: np.ndarray

    @property
    def name(self) -> str:
        return f"{self.case}-q{self.n_factors}"


class LatentClassReference(NamedTuple):
    """A latent class model: y (n, J) levels, weight (n,) frequencies; components ascend by `order_level` of item 0."""

    case: str
    y: np.ndarray
    weight: np.ndarray
    levels: tuple[int, ...]
    K: int
    log_likelihood: float
    n_free: int | None
    aic: float | None
    weights: np.ndarray | None  # (K,)
    probabilities: np.ndarray | None  # (K, J, L), L levels padded with zeros
    order_level: int

    @property
    def name(self) -> str:
        return f"{self.case}-K{self.K}"


# To the digits printed in the examples of poLCA (Linzer & Lewis 2011, Journal of Statistical Software 42(10)): K, nats.
CARCINOMA = {2: -317.2568, 3: -293.705, 4: -289.2858}


def latent_class_cases() -> list[LatentClassReference]:
    """Every reference latent class model; the carcinoma data have a published log-likelihood alone."""
    found = [_latent_class(case, fit) for case in _cases("lca_*.json") for fit in case["fits"]]
    with open(_FOLDER / "lca_carcinoma.csv") as file:
        y = np.loadtxt(file, delimiter=",", skiprows=1)
    return found + [
        LatentClassReference("lca_carcinoma", y, np.ones(len(y)), (2,) * 7, k, value, 8 * k - 1, None, None, None, 1)
        for k, value in CARCINOMA.items()
    ]


def _latent_class(case: dict[str, Any], fit: dict[str, Any]) -> LatentClassReference:
    levels = tuple(case["levels"])
    probabilities = np.zeros((fit["K"], len(levels), max(levels)))
    for k in range(fit["K"]):
        for j, count in enumerate(levels):
            probabilities[k, j, :count] = fit["probabilities"][k][j]
    table = _columns(case, [*case["items"], "frequency"])
    return LatentClassReference(
        case=case["case"],
        y=table[:, :-1],
        weight=table[:, -1],
        levels=levels,
        K=fit["K"],
        log_likelihood=fit["loglik"],
        n_free=fit["n_free"],
        aic=fit["AIC"],
        weights=np.array(fit["weights"]),
        probabilities=probabilities,
        order_level=case["order_level"],
    )


def regression_cases() -> list[RegressionReference]:
    """Every reference mixture of linear regressions, sorted by case, in the order of its file."""
    return [_regression(case, fit) for case in _cases("regmix_*.json") for fit in case["fits"]]


def gaussian_cases() -> list[GaussianReference]:
    """Every reference Gaussian mixture, sorted by case, in the order of its file."""
    return [_gaussian(case, fit) for case in _cases("gmm_*.json") for fit in case["fits"]]


def factor_cases() -> list[FactorReference]:
    """Every reference factor analysis, sorted by case, in the order of its file."""
    return [_factors(case, fit) for case in _cases("fa_*.json") for fit in case["fits"]]


def _cases(pattern: str) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(_FOLDER.glob(pattern))]


def _columns(case: dict[str, Any], names: list[str]) -> np.ndarray:
    with open(_FOLDER / f"{case['case']}.csv") as file:
        header = file.readline().strip().replace('"', "").split(",")
        table = np.loadtxt(file, delimiter=",", ndmin=2)
    assert table.shape[0] == case["n"], f"{case['case']}: {table.shape[0]} rows, expected {case['n']}"
    return table[:, [header.index(name) for name in names]]


def _shared_fields(case: dict[str, Any], fit: dict[str, Any]) -> dict[str, Any]:
    better = fit["better_mode"]
    return {
        "case": case["case"],
        "K": fit["K"],
        "log_likelihood": fit["loglik"],
        "n_free": fit["n_free"],
        "aic": fit["AIC"],
        "bic": fit["BIC"],
        "weights": np.array(fit["weights"], dtype=float),
        "se": {name: np.array(values, dtype=float) for name, values in fit["se"].items()},
        "min_rows": float(case["min_rows"]),
        "starts": _starts(fit["own_em"]),
        "better_log_likelihood": None if better is None else better["loglik"],
        "peers": tuple((package, loglik) for package, loglik in fit["peers"]),
    }


def _starts(own_em: dict[str, Any] | None) -> Starts | None:
    if own_em is None:
        return None
    return Starts(own_em["n_runs"], own_em["n_failed"], tuple(Mode(*mode) for mode in own_em["modes"]))


def _regression(case: dict[str, Any], fit: dict[str, Any]) -> RegressionReference:
    ordered_by = case["order_rule"].rsplit(" ", 1)[1]
    return RegressionReference(
        y=_columns(case, [case["response"]])[:, 0],
        x=_columns(case, case["covariates"]),
        intercept=case["intercept"],
        scale=fit["scale"],
        coefficients=np.array(fit["coefficients"], dtype=float),
        sigma=np.array(fit["sigma"], dtype=float),
        order_column=case["covariates"].index(ordered_by) + int(case["intercept"]),
        min_scale=case["min_scale_ratio"] * case["ols_residual_sd"],
        **_shared_fields(case, fit),
    )


def _gaussian(case: dict[str, Any], fit: dict[str, Any]) -> GaussianReference:
    ordered_by = case["order_rule"].rsplit(" ", 1)[1]
    return GaussianReference(
        y=_columns(case, case["columns"]),
        model=fit["model"],
        covariance=fit["covariance"],
        means=np.array(fit["means"], dtype=float),
        covariances=np.array(fit["covariances"], dtype=float),
        order_column=case["columns"].index(ordered_by),
        min_scale=case["min_scale_ratio"],
        **_shared_fields(case, fit),
    )


def _factors(case: dict[str, Any], fit: dict[str, Any]) -> FactorReference:
    bounded = fit["factanal_default"]
    return FactorReference(
        case=case["case"],
        y=_columns(case, case["columns"]),
        n_factors=fit["n_factors"],
        log_likelihood=fit["loglik"],
        n_free=fit["n_free"],
        aic=fit["AIC"],
        bic=fit["BIC"],
        loadings=np.array(fit["loadings"], dtype=float),
        uniquenesses=np.array(fit["uniquenesses"], dtype=float),
        heywood=fit["heywood"],
        deviation=np.array(case["ml_sd"], dtype=float),
        bounded_log_likelihood=fit["loglik"] - 0.5 * case["n"] * (bounded["objective"] - fit["objective"]),
        bounded_uniquenesses=np.array(bounded["uniquenesses"], dtype=float),
    )

"""Known answers: every reference fit by other software, fitted here from random starts at tol 1e-11.

Cases of one shape are fitted together, shorter data padded with rows of weight 0, so that a shape is compiled once.
"""

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import emjax
from tests.references import GaussianReference, RegressionReference, gaussian_cases, regression_cases

Reference = RegressionReference | GaussianReference

CASES: dict[str, Reference] = {case.name: case for case in [*regression_cases(), *gaussian_cases()]}
RESTARTS = 48
# Few random starts reach these references (bench/README.md); a group has as many restarts as its hardest member.
MORE_RESTARTS = {
    "regmix_CO2data-K3-component": 192,
    "regmix_CO2data-K3-common": 96,
    "regmix_NPreg_quadratic-K3-component": 96,
    "regmix_faithful_reg-K2-component": 192,
    "gmm_faithful-K3-VVV": 96,
    "gmm_faithful-K4-VVV": 96,
    "gmm_galaxies-K4-V": 96,
    "gmm_galaxies-K6-V": 384,
    "gmm_thyroid-K2-EEE": 192,
    "gmm_thyroid-K3-EEE": 192,
}
STOP = emjax.Stop(tol=1e-11)
LOG_LIKELIHOOD = 1e-6  # nats: how far below the reference a fit may end, and how far above is the same optimum
PARAMETERS = 1e-4  # relative

# What random starts find above the reference within its interior rule, beside the `better_mode` of the files.
HIGHER: dict[str, float] = {}


def group_name(case: Reference) -> str:
    if isinstance(case, RegressionReference):
        intercept = "" if case.intercept else "-no-intercept"
        return f"regression-p{case.x.shape[1]}{intercept}-K{case.K}-{case.scale}"
    return f"gaussian-d{case.y.shape[1]}-K{case.K}-{case.covariance}"


def groups() -> dict[str, list[Reference]]:
    found = defaultdict(list)
    for case in CASES.values():
        found[group_name(case)].append(case)
    return dict(found)


GROUPS = groups()
QUICK = {"regression-p1-K1-component", "regression-p1-K2-component", "gaussian-d2-K2-full"}  # in the default run


def marked(names: Any) -> list[Any]:
    return [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in names]


def model_of(case: Reference) -> emjax.Mixture:
    if isinstance(case, RegressionReference):
        return emjax.Mixture(emjax.LinearRegression(intercept=case.intercept, scale=case.scale), case.K)  # type: ignore
    return emjax.Mixture(emjax.Gaussian(covariance=case.covariance), case.K)


def stacked(cases: list[Reference]) -> emjax.Data:
    """One batch; a shorter data set repeats its first row with weight 0."""
    n = max(len(case.y) for case in cases)
    index = np.array([np.where(np.arange(n) < len(case.y), np.arange(n), 0) for case in cases])
    weight = np.array([np.arange(n) < len(case.y) for case in cases], dtype=float)
    y = np.array([case.y[rows] for case, rows in zip(cases, index)])
    x = None
    if isinstance(cases[0], RegressionReference):
        x = np.array([case.x[rows] for case, rows in zip(cases, index)])
    return emjax.Data(y=y, x=x, weight=weight)


def params_of(case: Reference) -> emjax.MixtureParams:
    if isinstance(case, RegressionReference):
        family: Any = emjax.LinearRegressionParams(case.coefficients, case.sigma)
    else:
        family = emjax.GaussianParams(case.means, case.covariances)
    return emjax.MixtureParams(emjax.WeightsParams(case.weights), family)


def fits_of(group: str) -> emjax.Fits:
    """The group's cases from random starts."""
    cases = GROUPS[group]
    (min_rows,) = {case.min_rows for case in cases}
    return emjax.fit_many(
        model_of(cases[0]),
        stacked(cases),
        20,
        ids=[case.name for case in cases],
        restarts=max(MORE_RESTARTS.get(case.name, RESTARTS) for case in cases),
        stop=STOP,
        degeneracy=emjax.Degeneracy.interior(min_rows=min_rows),
        threads=1,
    )


def at_reference(case: Reference) -> emjax.Fit:
    """The fit that starts at the reference."""
    degeneracy = emjax.Degeneracy.interior(min_rows=case.min_rows)
    data = stacked([case])
    fits = emjax.fit_many(model_of(case), data, 20, start=params_of(case), stop=STOP, degeneracy=degeneracy, threads=1)
    return fits[0]


def named_higher(case: Reference) -> float | None:
    """The log-likelihood of a known interior mode above the reference."""
    known = [value for value in (case.better_log_likelihood, HIGHER.get(case.name)) if value is not None]
    return max(known, default=None)


def ordered(case: Reference, params: emjax.MixtureParams) -> dict[str, np.ndarray]:
    """Parameters by name, the components in the reference's order."""
    names = ("coefficients", "sigma") if isinstance(case, RegressionReference) else ("means", "covariances")
    order = np.argsort(params.family[0][:, case.order_column])
    return {name: values[order] for name, values in zip(("weights", *names), (params.latent.weights, *params.family))}


def difference(case: Reference, params: emjax.MixtureParams) -> str:
    """The parameters that differ from the reference's by more than PARAMETERS; empty when none does."""
    found = []
    for name, values in ordered(case, params).items():
        reference = getattr(case, name)
        off = np.abs(values - reference) > PARAMETERS * np.abs(reference)
        if off.any():
            found.append(f"{name} {values[off]} instead of {reference[off]}")
    return "; ".join(found)


def interior(case: Reference, params: emjax.MixtureParams) -> bool:
    """The file's `interior_rule`, from the parameters alone; none where the scale of a Gaussian mixture is tied."""
    if case.K == 1 or (isinstance(case, GaussianReference) and case.covariance.startswith("tied")):
        return True
    if isinstance(case, RegressionReference):
        smallest = params.family.scale.min()
    else:
        deviation = case.y.std(axis=0, ddof=1)
        smallest = np.sqrt(np.linalg.eigvalsh(params.family.covariances / np.outer(deviation, deviation)).min())
    # 1 %: emjax divides by n where the file divides by n - 1.
    return bool(smallest >= 0.99 * case.min_scale and params.latent.weights.min() * len(case.y) >= case.min_rows)


def faults(case: Reference, fit: emjax.Fit) -> list[str]:
    """What is wrong with a fit from random starts."""
    found = []
    gain = fit.log_likelihood - case.log_likelihood
    if fit.n_free != case.n_free:
        found.append(f"{fit.n_free} free parameters instead of {case.n_free}")
    # The criteria of the reference, moved by the gain, so that a higher mode is held to them too.
    for name in ("aic", "bic"):
        criterion, reference = getattr(fit, name), getattr(case, name) - 2 * gain
        if abs(criterion - reference) > 1e-9 * abs(reference):
            found.append(f"{name.upper()} {criterion:.12g} instead of {reference:.12g}")
    higher = named_higher(case)
    if fit.status != emjax.Status.CONVERGED:
        found.append(fit.reason)
    if not interior(case, fit.params):
        found.append("not an interior maximum")
    if gain < -LOG_LIKELIHOOD:
        found.append(f"{-gain:.3g} nats below the reference")
    elif gain < LOG_LIKELIHOOD:
        found.append(difference(case, fit.params))
    elif higher is None or abs(fit.log_likelihood - higher) > LOG_LIKELIHOOD:
        found.append(f"a mode {gain:.9g} nats above the reference that no file names: {fit.log_likelihood:.15g}")
    return [f"{case.name}: {fault}" for fault in found if fault]


@pytest.mark.parametrize("group", marked(GROUPS))
def test_random_starts_end_at_the_reference_or_at_a_named_higher_mode(group: str) -> None:
    fits = fits_of(group)
    found = [fault for case, fit in zip(GROUPS[group], fits) for fault in faults(case, fit)]
    assert not found, "\n".join(found)


HIGHER_CASES = [name for name, case in CASES.items() if named_higher(case) is not None]


@pytest.mark.slow
@pytest.mark.parametrize("name", HIGHER_CASES)
def test_a_reference_below_a_higher_mode_is_a_maximum_too(name: str) -> None:
    case = CASES[name]
    fit = at_reference(case)
    assert fit.status == emjax.Status.CONVERGED
    assert fit.log_likelihood == pytest.approx(case.log_likelihood, abs=LOG_LIKELIHOOD)
    assert not difference(case, fit.params)


def peers_short() -> dict[tuple[str, str], float]:
    """(case, package and how it was started) -> nats that the best of its fits lies below the reference."""
    found = {}
    for name, case in CASES.items():
        for place, (package, log_likelihood) in enumerate(case.peers):
            if package == "mclust":
                package += (" from its own start", " from 100 random starts")[place]
            if case.log_likelihood - log_likelihood > LOG_LIKELIHOOD:
                found[name, package] = case.log_likelihood - log_likelihood
    return found


def test_the_table_of_peers_that_stop_short_is_that_of_the_files() -> None:
    readme = (Path(__file__).parent / "references" / "README.md").read_text()
    rows = [line.strip("| ").split(" | ") for line in readme.splitlines() if line.startswith("| ")]
    printed = {(row[0], row[1]): float(row[2]) for row in rows if row[0] in CASES}
    assert printed == {case: float(f"{short:.4g}") for case, short in peers_short().items()}

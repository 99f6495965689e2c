"""Measures of a study and their MCSEs against the published figures of simsum (Stata) and rsimsum (R)."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest

from emjax.studies import measures, model_errors, rates

REFERENCES = Path(__file__).parent / "references"
Z = NormalDist().inv_cdf(0.975)


def reference(name: str) -> tuple[dict[str, Any], dict[str, tuple[np.ndarray, np.ndarray]]]:
    """What was published, and by method estimates and standard errors."""
    published = json.loads((REFERENCES / f"{name}.json").read_text())
    table = np.genfromtxt(REFERENCES / published["csv"], delimiter=",", names=True)
    return published, {m: (table[f"b_{m}"], table[f"se_{m}"]) for m in published["morris"]}


def measured(estimate: np.ndarray, se: np.ndarray, base: np.ndarray, truth: float, form: Any) -> dict[str, Any]:
    lower, upper = estimate - Z * se, estimate + Z * se
    return {
        "mean": measures.mean_estimate(estimate),
        "bias": measures.bias(estimate, truth),
        "relative_bias": measures.relative_bias(estimate, truth),
        "empirical_se": measures.empirical_se(estimate, form),
        "mse": measures.mse(estimate, truth),
        "rmse": measures.rmse(estimate, truth),
        "relative_precision": model_errors.relative_precision(base, estimate, form),
        "model_se": model_errors.average_model_se(se),
        "relative_error": model_errors.relative_error(estimate, se, form),
        "interval_width": model_errors.interval_width(lower, upper),
        "coverage": rates.coverage(lower, upper, truth),
        "bias_eliminated_coverage": rates.bias_eliminated_coverage(lower, upper, estimate, mcse=form),
        "power": rates.power(lower, upper),
    }


RSIMSUM = {
    "bias": "bias",
    "rbias": "relative_bias",
    "empse": "empirical_se",
    "mse": "mse",
    "modelse": "model_se",
    "relprec": "relative_precision",
    "relerror": "relative_error",
    "cover": "coverage",
    "becover": "bias_eliminated_coverage",
    "power": "power",
}


def test_rsimsums_published_example() -> None:
    """MIsim, three ways with missing values, in the vignette of rsimsum: 10 measures x 3 methods to 7 decimals."""
    published, data = reference("simsum_MIsim")
    for method, (estimate, se) in data.items():
        found = measured(estimate, se, data["CC"][0], 0.5, "morris")
        for theirs, ours in RSIMSUM.items():
            value, mcse = published["morris"][method][theirs]
            # The data are single precision, 1 in 1.7e7, which a difference of two variances in per cent magnifies.
            assert found[ours].estimate == pytest.approx(value, abs=2e-7, rel=2e-7), (method, theirs)
            assert found[ours].mcse == pytest.approx(mcse, abs=2e-7, rel=2e-7), (method, theirs)


@pytest.mark.parametrize("form", ["morris", "robust"])
def test_simsums_own_test_log(form: Any) -> None:
    """Three analyses of a Cox model, simsum 2.3.1 without and with `robust`: 12 measures x 3 methods to 7 digits."""
    published, data = reference("simsum_cox")
    for method, (estimate, se) in data.items():
        found = measured(estimate, se, data["PERFECT"][0], 0.5, form)
        for name, (value, mcse) in published[form][method].items():
            scale = 100.0 if name.endswith("_percent") else 1.0
            own = found[name.removesuffix("_percent")]
            # Their robust forms correct for n - 1 degrees of freedom elsewhere: 2 in n of an MCSE, here 0.002.
            allowed = 2.5e-3 if form == "robust" else 2e-6
            assert scale * own.estimate == pytest.approx(value, rel=2e-6, abs=2e-6), (method, name)
            assert scale * own.mcse == pytest.approx(mcse, rel=allowed, abs=1e-7), (method, name)

"""`emjax fit` beyond linear regressions: families, units, weights, gating, and the tables they give."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import emjax
from emjax import DataError, GatedWeights, LinearRegression, MixingWeights
from emjax.extras import cli, named_families
from emjax.extras.frames import build_groups
from emjax.extras.named_families import FAMILIES, Known
from tests.commands import one_sentence, rows_of, run

pytestmark = pytest.mark.long  # compiling takes most of a test command of ten minutes

N = 90


def table(seed: int = 0, n: int = N) -> pd.DataFrame:
    """Two components that every family can tell apart; `z` gates them, `subject` has three rows each, scattered."""
    rng = np.random.default_rng(seed)
    subject = rng.permutation(np.arange(n) % (n // 3))
    gate = rng.normal(3.0, 1.0, n // 3)
    first = (rng.random(n // 3) < 1.0 / (1.0 + np.exp(-1.5 * (gate - 3.0))))[subject]
    x = rng.uniform(0.0, 1.0, n)
    success = rng.binomial(20, np.where(first, 0.2, 0.8))
    kinds = np.where(rng.random((n, 3)) < np.where(first, 0.1, 0.9)[:, None], "yes", "no")
    return pd.DataFrame(
        {
            "y": np.where(first, 1.0 + x, 5.0 - 2.0 * x) + 0.3 * rng.normal(size=n),
            "y2": np.where(first, 0.0, 3.0) + rng.normal(size=n),
            "x": x,
            "z": gate[subject],
            "subject": [f"s{u}" for u in subject],
            "twice": np.where(subject % 2 == 0, 2, 1),
            "count": rng.poisson(np.where(first, 2.0, 12.0)),
            "success": success,
            "trials": 20,
            "positive": rng.gamma(3.0, np.where(first, 0.3, 4.0)),
            **{f"item{j}": kinds[:, j] for j in range(3)},
        }
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    table().to_csv(tmp_path / "data.csv", index=False)
    return tmp_path / "data.csv"


def fit(path: Path, formula: str, *options: Any) -> pd.DataFrame:
    out = path.parent / "fits.csv"
    ran = run("fit", path, formula, "--components", 2, "--restarts", 4, *options, "--out", out)
    assert ran.status == 0, ran.err
    return pd.read_csv(io.StringIO(out.read_text()), keep_default_na=True)


def test_the_names_are_those_of_the_registry() -> None:
    assert tuple(FAMILIES) == cli._FAMILIES
    assert {"linear", "gaussian"} <= set(named_families.available())


def test_gaussians_of_two_columns_give_a_row_a_parameter(path: Path) -> None:
    found = fit(path, "y + y2 ~ 1", "--family", "gaussian")
    names = ["means[y]", "means[y2]", *(f"covariances[{a},{b}]" for a in ("y", "y2") for b in ("y", "y2"))]
    assert found["component"].tolist() == [1] * 6 + [2] * 6
    assert found["parameter"].tolist() == names * 2
    assert found.columns.tolist()[:4] == ["component", "weight", "parameter", "value"]
    data = emjax.Data(table()[["y", "y2"]].to_numpy())
    alone = emjax.fit(emjax.Mixture(emjax.Gaussian(), 2), data, 1, id="", restarts=4)
    k = int(np.argmax(alone.params.latent.weights))
    assert found["weight"][0] == alone.params.latent.weights[k]
    assert found["value"].tolist()[:2] == alone.params.family.means[k].tolist()
    assert found["value"].tolist()[2:6] == alone.params.family.covariances[k].ravel().tolist()
    assert found["log_likelihood"][0] == alone.log_likelihood


def test_units_weights_and_gating_are_those_of_the_library(path: Path) -> None:
    options = ["--unit", "subject", "--weights", "twice", "--gating", "~ z"]
    found = fit(path, "y ~ x", *options)
    rows = table()
    order = rows["subject"].map({name: i for i, name in enumerate(dict.fromkeys(rows["subject"]))})
    rows = rows.iloc[np.argsort(order.to_numpy(), kind="stable")]
    first = ~rows["subject"].duplicated()
    data = emjax.Data(
        rows["y"].to_numpy(),
        rows[["x"]].to_numpy(),
        rows[["z"]].to_numpy(),
        unit=np.cumsum(first) - 1,
        weight=rows["twice"][first].to_numpy(float),
    )
    model = emjax.Mixture(LinearRegression(), 2, GatedWeights())
    alone = emjax.fit(model, data, 1, id="", restarts=4)
    assert found["log_likelihood"].tolist() == [alone.log_likelihood] * 2
    prior = GatedWeights().prior_weights(alone.params.latent, rows[["z"]][first].to_numpy())
    weights = np.average(prior, axis=0, weights=data.weight)
    order = np.argsort(-weights)
    np.testing.assert_allclose(found["weight"], weights[order], rtol=1e-12)
    np.testing.assert_allclose(found["coef_x"], alone.params.family.coefficients[order, 1], rtol=1e-12)
    gating = alone.params.latent.gating[order] - alone.params.latent.gating[order[-1]]
    np.testing.assert_allclose(found[["gating_Intercept", "gating_z"]], gating, rtol=1e-12, atol=1e-12)
    assert found["gating_z"][1] == 0.0 != found["gating_z"][0]


FORMULAS = {
    "linear": "y ~ x",
    "gaussian": "y ~ 1",
    "poisson": "count ~ x",
    "binomial": "success ~ x",
    "student-t": "y ~ x",
    "exponential": "positive ~ 1",
    "gamma": "positive ~ 1",
    "negative-binomial": "count ~ x",
    "categorical": "item0 + item1 + item2 ~ 1",
}


@pytest.mark.long
@pytest.mark.parametrize("name", named_families.available())
def test_every_family_of_this_version_fits_and_gives_a_table(path: Path, name: str) -> None:
    trials = ["--trials", "trials"] if name == "binomial" else []
    found = fit(path, FORMULAS[name], "--family", name, *trials)
    assert found["status"].isin(["CONVERGED", "MAX_ITERATIONS"]).all()
    assert set(found["component"].astype(str)) - {"all"} == {"1", "2"}
    assert np.isfinite(found["log_likelihood"]).all()
    assert found["weight"].dropna().between(0.3, 0.7).all()
    if name == "categorical":
        assert found["parameter"].tolist()[0] == "probabilities[item0,0]"


def test_groups_of_the_generic_table_keep_their_reasons(tmp_path: Path) -> None:
    good, bad = table(0).assign(site="a"), table(1).assign(site="b")
    bad.loc[4, "y"] = np.nan
    pd.concat([bad, good]).to_csv(tmp_path / "data.csv", index=False)
    found = fit(tmp_path / "data.csv", "y ~ 1", "--family", "gaussian", "--by", "site")
    assert found["site"].tolist() == ["b"] * 4 + ["a"] * 4
    assert found["reason"][0].startswith("missing or infinite values in y (1 row)")
    assert found["value"][:4].isna().all() and found["value"][4:].notna().all()
    assert found["status"].tolist() == ["INVALID_DATA"] * 4 + ["CONVERGED"] * 4


BAD = [
    (["y ~ x", "--family", "normal"], "--family: invalid choice: 'normal'"),
    (["y ~ x", "--family", "gaussian"], "--family gaussian can have no covariates"),
    (["y ~ 0 + x", "--family", "gaussian"], "write the formula as y ~ 1"),
    (["y + y2 ~ x"], "the formula has 2 response columns; --family linear takes one"),
    (["y ~ 1", "--family", "gaussian", "--scale", "common"], "--family gaussian has no --scale"),
    (["y ~ x", "--trials", "trials"], "--family linear has no trials"),
    (["y ~ x", "--unit", "Subject"], "--unit names 'Subject', which is not a column; did you mean 'subject'?"),
    (["y ~ x", "--weights", "w"], "--weights names 'w', which is not a column"),
    (["y ~ x", "--weights", "subject"], "column 'subject' must be numeric and has the text"),
    (["y ~ x", "--unit", "subject", "--weights", "count"], "column 'count' has different weights in one value of"),
    (["y ~ x", "--gating", "y ~ z"], "the gating formula 'y ~ z' must have covariates and no response"),
    (["y ~ x", "--gating", "~"], "the gating formula '~' must have covariates"),
    (["y ~ x", "--gating", "~ z +"], "the formula '~ z +' cannot be read"),
    (["y ~ x", "--gating", "~ z | x"], "the gating formula '~ z | x' must be one sum"),
    (["y ~ x", "--gating", "~ zz"], "names 'zz', which is not a column or a known function; did you mean 'z'?"),
    (["y ~ x", "--gating", "~ 0"], "the formula '~ 0' has nothing on its right"),
]


@pytest.mark.parametrize(("options", "message"), BAD, ids=[case[1] for case in BAD])
def test_a_bad_option_is_one_sentence(path: Path, options: list[str], message: str) -> None:
    one_sentence(run("fit", path, *options, "--components", 2), message)


class Counts:
    """Stands for a family of another version."""

    def __init__(self, intercept: bool = True) -> None:
        self.intercept = intercept


def test_a_family_that_this_version_lacks_is_named(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    monkeypatch.setitem(FAMILIES, "gamma", Known("NoSuchClass"))
    ran = run("fit", path, "positive ~ 1", "--components", 2, "--family", "gamma")
    one_sentence(ran, "--family gamma: no such family; available: linear, gaussian")
    assert "gamma" not in named_families.available()


def test_a_family_is_built_as_the_formula_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(emjax, "Counts", Counts, raising=False)
    monkeypatch.setitem(FAMILIES, "poisson", Known("Counts", covariates=True))
    monkeypatch.setitem(FAMILIES, "binomial", Known("Counts", covariates=True, trials=True))
    built = build_groups(table(), "count ~ x - 1", family="poisson")
    assert isinstance(built.family, Counts) and not built.family.intercept
    assert built.latent == MixingWeights()
    with pytest.raises(DataError, match="binomial needs the number of trials of each row; name its column by --trials"):
        build_groups(table(), "success ~ x", family="binomial")
    built = build_groups(table(), "success ~ x", family="binomial", trials="trials")
    assert np.asarray(built.data[0].trials).tolist() == [20.0] * N


def test_categories_become_whole_numbers_and_may_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    class Items:
        def __init__(self, levels: tuple[int, ...]) -> None:
            self.levels = levels

    monkeypatch.setattr(emjax, "Items", Items, raising=False)
    monkeypatch.setitem(FAMILIES, "categorical", Known("Items", several="Items", levels=True))
    rows = table().assign(item1=np.resize(["c", "a", "b"], N))
    rows.loc[3, "item1"] = None
    built = build_groups(rows, "item0 + item1 ~ 1", family="categorical", drop_missing=True)
    assert built.family.levels == (2, 3)
    assert built.responses == ["item0", "item1"]
    assert np.asarray(built.data[0].y)[:3, 1].tolist() == [2.0, 0.0, 1.0]
    assert np.isnan(built.data[0].y[3, 1]) and built.dropped == 0


def test_gaps_in_the_other_columns_are_named_and_dropped() -> None:
    rows = table().assign(site=np.resize(["a", "b"], N))
    rows.loc[0, "z"], rows["twice"] = np.nan, rows["twice"].astype(float)
    rows.loc[2, "twice"] = np.inf
    options: dict[str, Any] = {"by": "site", "gating": "~ z", "weights": "twice"}
    built = build_groups(rows, "y ~ x", **options)
    assert built.missing[0].startswith("missing or infinite values in z (1 row), twice (1 row)")
    assert built.missing[1] == ""
    assert np.isnan(built.data[0].z[0, 0]) and np.isfinite(built.data[1].z).all()
    assert build_groups(rows, "y ~ x", drop_missing=True, **options).dropped == 2
    rows.loc[5, "subject"] = None
    with pytest.raises(DataError, match="column 'subject' names no unit in 1 row"):
        build_groups(rows, "y ~ x", unit="subject")
    assert build_groups(rows, "y ~ x", unit="subject", drop_missing=True).dropped == 1


def test_rows_of_a_unit_are_brought_together() -> None:
    rows = pd.DataFrame({"y": np.arange(6.0), "who": ["b", "a", "b", "c", "a", "b"], "n": [2, 3, 2, 1, 3, 2]})
    (data,) = build_groups(rows, "y ~ 1", unit="who", weights="n").data
    assert np.asarray(data.y).tolist() == [0.0, 2.0, 5.0, 1.0, 4.0, 3.0]
    assert np.asarray(data.unit).tolist() == [0, 0, 0, 1, 1, 2]
    assert np.asarray(data.weight).tolist() == [2.0, 3.0, 1.0]


@pytest.mark.long
def test_a_gate_that_cannot_be_fitted_names_its_column(tmp_path: Path) -> None:
    table().assign(z=1.0).to_csv(tmp_path / "data.csv", index=False)
    out = tmp_path / "fits.csv"
    ran = run("fit", tmp_path / "data.csv", "y ~ x", "--components", 2, "--gating", "~ z", "--out", out)
    assert ran.status == 0
    assert all(row["status"] == "INVALID_DATA" and row["reason"].endswith("(z)") for row in rows_of(out))

"""`emjax fit --latent hidden-markov`: sequences in a table, gaps, and the table of states."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import emjax
from emjax import DataError, HiddenMarkov
from emjax.extras.frames import build_groups
from tests.commands import one_sentence, run

REFERENCES = Path(__file__).parent / "references"
HIDDEN = ("--latent", "hidden-markov")


def fit(path: Path, formula: str, *options: Any) -> pd.DataFrame:
    out = path.parent / "fits.csv"
    ran = run("fit", path, formula, "--components", 2, *HIDDEN, *options, "--out", out)
    assert ran.status == 0, ran.err
    assert ("unobserved" in ran.err) == ("--unit" in options)
    return pd.read_csv(io.StringIO(out.read_text()))


def earthquakes(tmp_path: Path) -> Path:
    """The yearly counts, in a folder to write to."""
    (tmp_path / "earthquakes.csv").write_text((REFERENCES / "hmm_earthquakes.csv").read_text())
    return tmp_path / "earthquakes.csv"


@pytest.mark.slow
@pytest.mark.parametrize("initial", ["free", "stationary"])
def test_the_earthquakes_are_the_references(tmp_path: Path, initial: str) -> None:
    found = fit(earthquakes(tmp_path), "y ~ 1", "--family", "poisson", "--initial-distribution", initial)
    fits = json.loads((REFERENCES / "hmm_earthquakes.json").read_text())["fits"]
    (reference,) = (one for one in fits if (one["K"], one["initial_distribution"]) == (2, initial))
    assert found["log_likelihood"].tolist() == pytest.approx([reference["loglik"]] * len(found), abs=1e-5)
    assert round(found["log_likelihood"][0], 4) == {"free": -341.8787, "stationary": -342.3183}[initial]
    assert found["status"].unique().tolist() == ["CONVERGED"] and found["n"].unique().tolist() == [107]
    names = ["initial", "transitions[1]", "transitions[2]", "coefficients[Intercept]"]
    assert found["parameter"].tolist() == names * 2 and found["component"].tolist() == [1] * 4 + [2] * 4
    value = found["value"].to_numpy().reshape(2, 4)
    order = np.argsort(value[:, 3])
    assert np.exp(value[order, 3]) == pytest.approx(list(reference["theta"].values()), rel=1e-4)
    assert value[np.ix_(order, 1 + order)] == pytest.approx(np.array(reference["transitions"]), abs=1e-4)
    weight = found["weight"].to_numpy()[::4]
    assert weight[0] >= weight[1] and weight @ value[:, 1:3] == pytest.approx(weight, abs=1e-12)


def panel(seed: int = 0, n: int = 40) -> pd.DataFrame:
    """Two sequences of each of two sites, their rows interleaved."""
    rng = np.random.default_rng(seed)
    rows = []
    for site in "ab":
        for name in ("one", "two"):
            state = np.cumsum(rng.random(n) < 0.1) % 2
            x = rng.normal(size=n)
            y = np.where(state == 0, x, 6.0 - x) + 0.3 * rng.normal(size=n)
            rows += [{"site": site, "run": name, "t": t, "y": y[t], "x": x[t], "twice": 2} for t in range(n)]
    return pd.DataFrame(rows).sort_values("t", kind="stable").reset_index(drop=True)


ROLES: dict[str, Any] = {"by": "site", "unit": "run", "latent": "hidden-markov"}


def test_sequences_of_a_group_are_brought_together_in_the_order_of_the_file() -> None:
    rows = panel()
    groups = build_groups(rows, "y ~ x", weights="twice", **ROLES)
    assert groups.labels == ["a", "b"] and groups.sequential
    for label, data in zip("ab", groups.data, strict=True):
        own = [rows[(rows["site"] == label) & (rows["run"] == run)] for run in ("one", "two")]
        assert np.asarray(data.y).tolist() == [*own[0]["y"], *own[1]["y"]]
        assert np.asarray(data.unit).tolist() == [0] * 40 + [1] * 40
        assert np.asarray(data.weight).tolist() == [2.0, 2.0]
    assert groups.model(3) == HiddenMarkov(emjax.LinearRegression(), 3)
    stationary = build_groups(rows, "y ~ x", initial_distribution="stationary", **ROLES)
    assert stationary.model(2) == HiddenMarkov(emjax.LinearRegression(), 2, "stationary")


def test_a_gap_is_an_unobserved_row_and_no_fault() -> None:
    rows = panel()
    rows.loc[9, "y"], rows.loc[14, "x"] = np.nan, np.nan
    rows["twice"] = rows["twice"].astype(float)
    groups = build_groups(rows, "y ~ x", weights="twice", **ROLES)
    assert groups.unobserved == 2 and groups.missing == ["", ""]
    assert sum(np.isnan(data.y).sum() for data in groups.data) == 2
    assert all(np.asarray(data.weight).tolist() == [2.0, 2.0] for data in groups.data)
    rows.loc[(rows["site"] == "b") & (rows["run"] == "two"), "twice"] = np.nan
    broken = build_groups(rows, "y ~ x", weights="twice", **ROLES)
    assert broken.missing[0] == "" and broken.missing[1].startswith("missing or infinite values in twice (40 rows)")


@pytest.mark.slow
def test_markov_switching_regressions_of_groups_with_gaps(tmp_path: Path) -> None:
    """A group all of whose rows of one sequence are missing says so; the other is fitted as the library fits it."""
    rows = panel()
    rows.loc[9, "y"], rows.loc[14, "x"] = np.nan, np.nan
    rows.loc[(rows["site"] == "b") & (rows["run"] == "two"), "y"] = np.nan
    rows.to_csv(tmp_path / "panel.csv", index=False)
    found = fit(tmp_path / "panel.csv", "y ~ x", "--by", "site", "--unit", "run", "--restarts", 4)
    names = ["initial", "transitions[1]", "transitions[2]", "coefficients[Intercept]", "coefficients[x]", "scale"]
    assert found["parameter"].tolist() == names * 4
    a, b = (found.loc[found["site"] == site].to_dict("list") for site in "ab")
    assert set(b["status"]) == {"INVALID_DATA"} and np.isnan(b["value"]).all()
    assert all(reason.startswith("a column, a unit or a sequence has no observed value") for reason in b["reason"])
    groups = build_groups(rows, "y ~ x", **ROLES)
    alone = emjax.fit(groups.model(2), groups.data[0], 1, id="a", restarts=4)
    assert a["log_likelihood"] == [alone.log_likelihood] * 12
    assert set(a["status"]) == {"CONVERGED"}
    slopes = [value for name, value in zip(a["parameter"], a["value"], strict=True) if name == "coefficients[x]"]
    assert sorted(slopes) == pytest.approx([-1.0, 1.0], abs=0.2)


BAD = [
    (["--latent", "markov"], "--latent: invalid choice: 'markov'"),
    (["--initial-distribution", "free"], "--initial-distribution is a hidden Markov model's; leave it out or add"),
    ([*HIDDEN, "--initial-distribution", "none"], "--initial-distribution: invalid choice: 'none'"),
    (
        [*HIDDEN, "--gating", "~ x"],
        "--gating is of a mixture's weights; leave it out (in Python",
    ),
    ([*HIDDEN, "--drop-missing"], "--drop-missing would join what lies before and after a missing row; leave it out"),
    ([*HIDDEN, "--weights", "twice"], "--weights of a hidden Markov model count sequences; name their column"),
    ([*HIDDEN, "--unit", "run", "--weights", "t"], "column 't' has different weights in one value of 'run'"),
    ([*HIDDEN, "--unit", "runs"], "--unit names 'runs', which is not a column; did you mean 'run'?"),
    ([*HIDDEN, "--family", "gaussian"], "--family gaussian can have no covariates"),
]


@pytest.mark.parametrize(("options", "message"), BAD, ids=[case[1] for case in BAD])
def test_a_bad_option_is_one_sentence(tmp_path: Path, options: list[str], message: str) -> None:
    panel(n=4).to_csv(tmp_path / "panel.csv", index=False)
    one_sentence(run("fit", tmp_path / "panel.csv", "y ~ x", "--components", 2, *options), message)


def test_the_library_refuses_the_same() -> None:
    with pytest.raises(DataError, match="no row has a finite value"):
        build_groups(panel().assign(y=np.nan), "y ~ x", **ROLES)


@pytest.mark.parametrize("column", ["site", "run"])
def test_a_row_without_a_group_is_not_to_be_dropped(column: str) -> None:
    rows = panel().astype({column: object})
    rows.loc[2, column] = None
    with pytest.raises(DataError, match=f"'{column}' names no .*; fill them in$"):
        build_groups(rows, "y ~ x", **ROLES)


def test_a_row_that_the_formula_gives_no_response_is_unobserved_and_counted() -> None:
    rows = panel().assign(y=lambda table: np.exp(table["y"]))
    rows.loc[[1, 4], "y"] = -1.0
    with np.errstate(invalid="ignore"):
        groups = build_groups(rows, "log(y) ~ x", **ROLES)
    assert groups.unobserved == 2 and not any(groups.missing)


def test_a_latent_structure_of_another_name_is_refused() -> None:
    with pytest.raises(DataError, match="latent='hidden_markov': use 'mixture' or 'hidden-markov'"):
        build_groups(panel(), "y ~ x", **{**ROLES, "latent": "hidden_markov"})


def test_a_gap_in_y_leaves_its_group_alone_where_units_have_weights() -> None:
    rows = panel().assign(twice=2.0)
    rows.loc[1, "y"] = np.nan
    groups = build_groups(rows, "y ~ x", by="site", unit="run", weights="twice")
    assert [bool(sentence) for sentence in groups.missing] == [True, False]

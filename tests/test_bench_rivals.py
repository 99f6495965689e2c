"""What bench/rivals.py judges and passes by: likelihoods, files, agreement. R alone is needed by one of them."""

from pathlib import Path

import numpy as np
import pytest

from bench import _python_rivals, _r_rivals, _rival_runs
from bench import _rival_problems as problems
from bench._rival_problems import Problem, Unavailable


@pytest.fixture(scope="module")
def small() -> dict[str, Problem]:
    """Few datasets of the sizes of the benchmark."""
    return {"regressions": problems.regressions(6), "gaussians": problems.gaussians(6)}


def density(problem: Problem, arrays: dict[str, np.ndarray]) -> np.ndarray:
    """weights_k p(y | k), (D, n, K), row by row from the definition."""
    found = np.empty(problem.responsibilities.shape)
    for d, i, k in np.ndindex(found.shape):
        weight = arrays["weights"][d, k]
        if problem.x is None:
            residual = problem.y[d, i] - arrays["means"][d, k]
            covariance = arrays["covariances"][d, k]
            square = residual @ np.linalg.solve(covariance, residual)
            scale = np.sqrt(np.linalg.det(2 * np.pi * covariance))
        else:
            mean = arrays["coefficients"][d, k] @ [1.0, *problem.x[d, i]]
            square = ((problem.y[d, i] - mean) / arrays["scale"][d, k]) ** 2
            scale = np.sqrt(2 * np.pi) * arrays["scale"][d, k]
        found[d, i, k] = weight * np.exp(-0.5 * square) / scale
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", ["regressions", "gaussians"])
def test_starts_and_likelihoods_are_those_of_the_definition(small: dict[str, Problem], name: str) -> None:
    problem = small[name]
    own = {"scale": problem.start.get("scale"), "covariances": problem.start.get("covariances")}
    spread = {key: value * np.resize([1.0, 2.0, 3.0], value.shape[1]).reshape(-1, *[1] * (value.ndim - 2))
              for key, value in own.items() if value is not None}  # fmt: skip
    problem = problems.with_responsibilities(problem._replace(start={**problem.start, **spread}))
    joint = density(problem, problem.start)
    np.testing.assert_allclose(problem.responsibilities, joint / joint.sum(2, keepdims=True), rtol=1e-9, atol=1e-12)
    found = problems.log_likelihood(problem, problem.start)
    np.testing.assert_allclose(found, np.log(joint.sum(2)).sum(1), rtol=1e-12)


def test_parameters_that_are_none_have_no_likelihood(small: dict[str, Problem]) -> None:
    problem = small["regressions"]
    arrays = {name: value.copy() for name, value in problem.start.items()}
    arrays["scale"][1, 0] = np.nan
    arrays["weights"][2] = [1.5, -0.5]
    arrays["scale"][3, 1] = 0.0
    found = problems.log_likelihood(problem, arrays)
    assert np.isnan(found[[1, 2, 3]]).all()
    others = [0, 4, 5]
    np.testing.assert_array_equal(found[others], problems.log_likelihood(problem, problem.start)[others])


def test_agreement_tells_a_shortfall_from_another_optimum() -> None:
    reference = np.array([-10.0, -20.0, -30.0, -40.0, -50.0])
    ours = reference - np.array([1e-7, 0.0, 0.0, 5.0, 0.0])
    theirs = reference - np.array([4e-3, 1e-3, 7.0, 0.0, np.nan])
    found = _rival_runs.agreement(reference, ours, theirs)
    assert (found.above, found.below, found.missing) == (1, 1, 1)
    np.testing.assert_allclose(found.shortfall, [2.5e-3, 4e-3])
    np.testing.assert_allclose(found.difference, 4e-3 - 1e-7)
    nowhere = _rival_runs.agreement(reference, ours, np.full(5, np.nan))
    assert nowhere.missing == 5
    assert np.isnan(nowhere.difference)


@pytest.mark.parametrize("name", ["regressions", "gaussians"])
def test_parameters_written_by_columns_come_back_in_place(small: dict[str, Problem], name: str, tmp_path: Path) -> None:
    start = small[name].start
    # R unrolls an array from its first axis; its component axis is the last.
    rows = [
        np.concatenate([[7.0, -1.5], *(np.ravel(value[d].T, order="F") for value in start.values())]) for d in range(6)
    ]
    lines = [",".join(map(repr, row.tolist())) for row in rows]
    lines[4] = ",".join(["NA"] * len(rows[4]))
    (tmp_path / "fits.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "seconds.txt").write_text("0.25\n")
    found = _r_rivals.read(tmp_path, start)
    assert found.seconds == 0.25
    for key, value in start.items():
        np.testing.assert_array_equal(found.params[key][:4], value[:4])
        assert np.isnan(found.params[key][4]).all()
    np.testing.assert_array_equal(found.iterations, [7.0] * 4 + [np.nan] + [7.0])
    (tmp_path / "fits.csv").write_text("1,2,3\n")
    with pytest.raises(ValueError, match="fits.csv has 3 columns"):
        _r_rivals.read(tmp_path, start)


def test_what_is_missing_is_named(small: dict[str, Problem], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(Unavailable, match="Rscript is not installed"):
        _rival_runs.contender(_rival_runs.RIVALS[0], small["regressions"], 10, -600.0, None)
    absent = _rival_runs.RIVALS[-2]._replace(module="no_such_module")
    with pytest.raises(Unavailable, match=r"numpy below 2\): give --python gmm-gpu=PATH"):
        _rival_runs.contender(absent, small["gaussians"], 10, -1400.0, None)


def test_every_rival_has_its_problem_and_its_function() -> None:
    for rival in _rival_runs.RIVALS:
        assert hasattr(problems, rival.problem)
        assert rival.module is None or rival.name in _python_rivals.RIVALS


@pytest.mark.slow
@pytest.mark.parametrize("rival", [r for r in _rival_runs.RIVALS if r.module is None], ids=lambda r: r.name)
def test_r_ends_where_emjax_ends(small: dict[str, Problem], rival: _rival_runs.Rival) -> None:
    problem = small[rival.problem]
    ours = problems.emjax_run(problem)
    assert ours.reported is not None
    try:
        ready = _rival_runs.contender(rival, problem, 0, float(np.median(ours.reported)), None)
    except Unavailable as reason:
        pytest.skip(f"{rival.name}: {reason}")
    found = problems.log_likelihood(problem, ready.run().params)
    # flexmix divides by rows less coefficients: n (2 / n)^2 / 4 nats, near 3e-3, below the maximum.
    np.testing.assert_allclose(found, ours.reported, rtol=0, atol=1e-2 if rival.name == "flexmix" else 1e-4)

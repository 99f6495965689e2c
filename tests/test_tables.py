"""Estimates with standard errors: the lines of a summary and the long table of a batch."""

import re
from dataclasses import replace
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import emjax
from emjax import Data, DataError, Mixture, MixtureParams, Reason, Status, WeightsParams
from emjax.engine import parameters, summaries
from emjax.inference import tables

LINES = Mixture(emjax.LinearRegression(), 2)


@cache
def fits() -> emjax.Fits:
    """Two datasets of two lines, and one that is broken."""
    rng = np.random.default_rng(3)
    x = rng.uniform(0.0, 10.0, 90)
    y = np.where(np.arange(90) % 3 > 0, 1.0 + 0.5 * x, 9.0 - 0.7 * x) + 0.4 * rng.normal(size=(3, 90))
    y[1, 4] = np.nan
    start = MixtureParams(
        WeightsParams(np.array([0.6, 0.4])),
        emjax.LinearRegressionParams(np.array([[1.0, 0.5], [9.0, -0.7]]), np.array([0.4, 0.4])),
    )
    return emjax.fit_many(LINES, Data(y, x[:, None]), 0, start=start, ids=["a", "b", "c"])


def row(text: str, name: str, component: int) -> list[str]:
    found = [line.split() for line in text.splitlines() if line.split()[:2] == [name, str(component)]]
    assert len(found) == 1
    return found[0]


def test_a_summary_has_estimate_error_z_and_interval() -> None:
    fit = fits()[0]
    text, errors = fit.summary(), emjax.standard_errors(fit)
    found = row(text, "coefficients[1]", 1)
    estimate, se = fit.params.family.coefficients[1, 1], errors.se.family.coefficients[1, 1]
    wanted = [estimate, se, estimate / se, 0.0, estimate - 1.959964 * se, estimate + 1.959964 * se]
    np.testing.assert_allclose([float(cell) for cell in found[2:]], wanted, rtol=2e-3, atol=1e-12)
    found = row(text, "scale", 0)  # no z, and limits on the scale of the logarithm
    scale, se = fit.params.family.scale[0], errors.se.family.scale[0]
    limits = scale * np.exp(np.array([-1.0, 1.0]) * 1.959964 * se / scale)
    np.testing.assert_allclose([float(cell) for cell in found[2:]], [scale, se, *limits], rtol=1e-4)
    assert "95 % interval" in text and "observed information" in text


def test_the_level_and_the_kind_are_what_was_asked_for() -> None:
    fit = fits()[0]
    text = fit.summary(kind="sandwich", level=0.5)
    se = emjax.standard_errors(fit, "sandwich").se.latent.weights[0]
    assert "50 % interval" in text and float(row(text, "weights", 0)[3]) == pytest.approx(se, rel=1e-3)
    with pytest.raises(DataError, match="level=95"):
        fit.summary(level=95)
    with pytest.raises(DataError, match="kind='hessian'"):
        fit.summary(kind="hessian")


def test_without_standard_errors_the_plain_table_stands_with_the_reason() -> None:
    fit = fits()[0]
    plain = fit.summary(kind=None)
    assert "standard errors" not in plain and "std. error" not in plain
    for other, why in ((replace(fit, n_free=31), "more than 30"), (replace(fit, status=Status.DEGENERATE), "no valid")):
        text = other.summary()
        assert "std. error" not in text and why in text
        assert text.splitlines()[-4:] == plain.splitlines()[-4:]


class Walks(emjax.Model):
    """A normal mean whose log-likelihood is summed by a `while_loop`, which has no derivatives in reverse."""

    def expect(self, params: Any, prepared: Data) -> emjax.Expectation:
        weight = jnp.asarray(prepared.weight, prepared.y.dtype)
        terms = -0.5 * weight * (prepared.y - params) ** 2
        _, total = jax.lax.while_loop(
            lambda s: s[0] < terms.shape[0], lambda s: (s[0] + 1, s[1] + terms[s[0]]), (0, 0.0 * params)
        )
        return emjax.Expectation(total, (jnp.sum(weight * prepared.y), jnp.sum(weight)))

    def maximize(self, statistics: Any, params: Any, prepared: Data) -> Any:
        return statistics[0] / statistics[1]


def test_a_model_without_derivatives_says_so() -> None:
    data, refused = Data(np.arange(9.0)), "Walks cannot be differentiated .*certificate=False and bootstrap"
    fit = emjax.fit(Walks(), data, 0, restarts=1, start=np.zeros(()), certificate=False)
    assert fit.params == 4.0
    text = fit.summary()
    assert re.search(f"standard errors +none: {refused}", text) and "std. error" not in text
    for asked in (
        partial(fit.summary, kind="observed"),
        partial(emjax.standard_errors, fit),
        partial(emjax.standard_errors, fit, "sandwich"),
        partial(emjax.polish, fit),
        partial(emjax.fit, Walks(), data, 0, restarts=1, start=np.zeros(())),
    ):
        with pytest.raises(DataError, match=refused):
            asked()


class ReverseOnly(Walks):
    """The same by a function that was given derivatives in reverse alone."""

    def terms(self, params: Any, prepared: Data) -> emjax.Terms:
        weight = jnp.asarray(prepared.weight, prepared.y.dtype)
        return emjax.Terms(reverse_only(prepared.y - params), weight, jnp.arange(weight.shape[0]))


class Slips(Walks):
    """Terms of the wrong shape."""

    def terms(self, params: Any, prepared: Data) -> emjax.Terms:
        return emjax.Terms(jnp.ones(3) + prepared.y, prepared.weight, jnp.arange(prepared.y.shape[0]))


@jax.custom_vjp
def reverse_only(residual: Any) -> Any:
    return -0.5 * residual**2


reverse_only.defvjp(lambda residual: (reverse_only(residual), residual), lambda residual, slope: (-residual * slope,))


def test_scores_need_derivatives_and_terms() -> None:
    def asked(model: emjax.Model) -> emjax.StandardErrors:
        fit = emjax.fit(model, Data(np.arange(9.0)), 0, restarts=1, start=np.zeros(()), certificate=False)
        return emjax.standard_errors(fit, "opg")

    with pytest.raises(DataError, match="ReverseOnly cannot be differentiated .*certificate=False and bootstrap"):
        asked(ReverseOnly())
    with pytest.raises(TypeError, match="incompatible shapes"):  # a slip is no lack of derivatives
        asked(Slips())
    with pytest.raises(DataError, match="Walks has no terms, of which scores are made: give it terms"):
        asked(Walks())


def test_why_there_is_no_error_stands_in_its_place() -> None:
    names = np.array(["weights", "covariances[0,0]"], object)
    numbers = np.array([[0.0, 2.0]])
    nothing = np.full((1, 2), np.nan)
    codes = np.array([[Reason.BOUNDARY, Reason.NOT_IDENTIFIED]])
    table = tables.Estimates(np.array([0, "all"], object), names, numbers, *([nothing] * 5), codes)
    found = tables._lines(table, np.arange(2), "sandwich", 0.9)
    assert found[2].split() == ["weights", "0", "0", "boundary"]
    assert found[3].split() == ["covariances[0,0]", "2", "not", "identified"]


def test_of_a_covariance_matrix_half_is_shown() -> None:
    params = MixtureParams(WeightsParams(np.ones(1)), emjax.GaussianParams(np.zeros((1, 2)), np.eye(2)[None]))
    half = tables._upper_half(params)
    assert half.family.covariances[0].tolist() == [[True, True], [False, True]] and half.family.means.all()


def test_a_long_table_has_a_row_an_entry() -> None:
    pandas = pytest.importorskip("pandas")
    found, errors = fits().to_frame(), emjax.standard_errors(fits())
    limits = emjax.intervals(errors)
    wanted = ["dataset", "component", "parameter", "estimate", "se", "lower", "upper", "status", "reason"]
    assert list(found.columns) == wanted and len(found) == 3 * 8 and isinstance(found, pandas.DataFrame)
    one = found[(found.dataset == "c") & (found.parameter == "coefficients[1]") & (found.component == 0)]
    assert len(one) == 1
    for name, record in (("estimate", errors.params), ("se", errors.se), ("lower", limits.lower)):
        assert one[name].item() == record.family.coefficients[2, 0, 1]
    assert one.status.item() == "CONVERGED" and one.reason.item() == ""
    broken = found[found.dataset == "b"]
    assert set(broken.status) == {"INVALID_DATA"} and set(broken.reason) == {"no fit"} and broken.se.isna().all()
    alone = fits().to_frame(kind=None)
    assert alone.se.isna().all() and alone.estimate.equals(found.estimate)


def test_entries_are_named_component_by_component() -> None:
    model = Mixture(emjax.Gaussian(), 2)
    params = MixtureParams(
        WeightsParams(np.full((4, 2), 0.5)),
        emjax.GaussianParams(np.arange(8.0).reshape(4, 2, 1), np.ones((4, 2, 1, 1))),
    )
    (component, names), values = tables._named(model, params, 1), parameters.flatten(params, 1)
    assert component.tolist() == [0, 1] * 3 and values.shape == (4, 6)
    assert names.tolist() == ["weights", "weights", "means[0]", "means[0]", "covariances[0,0]", "covariances[0,0]"]
    np.testing.assert_array_equal(values[:, 2:4], params.family.means[:, :, 0])


def test_the_engine_alone_prints_the_plain_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(summaries, "estimates", None)
    assert "std. error" not in fits()[0].summary()

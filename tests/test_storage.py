"""What a fit gives back: records, words, predictions, files; and what Ctrl-C leaves."""

import json
import zipfile
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import emjax
from emjax import Data, DataError, Fit, Fits, Flag, Status
from tests.oracle import linear_regression, mixture
from tests.promises import LINES, RESTARTS, SEED, D, N, at, base, lines, same_fits


def test_one_of_many_is_a_fit() -> None:
    fits = base()
    assert len(fits) == D
    one = fits[-1]
    assert isinstance(one, Fit)
    assert one.status is Status(int(fits.status[-1]))
    same_fits(fits, one, D - 1, ())
    assert one.ids == fits.ids[-1] == D - 1
    np.testing.assert_array_equal(one.data.y, lines().y[-1])
    assert [fit.objective for fit in fits] == list(fits.objective)
    for wrong in (D, -D - 1):
        with pytest.raises(IndexError, match="12 datasets"):
            fits[wrong]
    with pytest.raises(TypeError, match="whole number"):
        fits[1:3]  # type: ignore[index]


def test_results_are_numpy() -> None:
    fits = base()
    for leaf in jax.tree.leaves((fits.params, fits.restarts, fits.certificate, fits.objective, fits.status)):
        assert type(leaf) is np.ndarray
        assert leaf.shape[0] == D
    assert fits.restarts.objective.shape == (D, RESTARTS)
    assert fits.log_likelihood.dtype == np.float64


def test_criteria() -> None:
    fits = base()
    assert fits.n_free == 7
    np.testing.assert_allclose(fits.aic, 14 - 2 * fits.log_likelihood, rtol=1e-14)
    np.testing.assert_allclose(fits.bic, 7 * np.log(N) - 2 * fits.log_likelihood, rtol=1e-14)
    np.testing.assert_array_equal(fits.log_prior, 0.0)


def test_words() -> None:
    one, many = base()[0].summary(), base().summary()
    for word in ("CONVERGED", "tol 1e-06", "max_iterations 10000", "min_scale_ratio 0.01", "float64", "restarts 4",
                 "coefficients", "acceleration auto",
                 f"{base().log_likelihood[0]:.6f}", "7 free parameters", "n = 100"):  # fmt: skip
        assert word in one
    assert f"datasets          {D}" in many
    assert "work efficiency" in many
    assert sum(base().status_counts().values()) == D
    assert set(base().flag_counts()) == {"BOUNDARY", "SUSPECT", "ESCAPED", "NOISE_FLOOR"}
    suspect = int(np.sum((base().flags & Flag.SUSPECT) > 0))
    assert base().flag_counts()["SUSPECT"] == suspect


def test_words_for_what_could_not_be_fitted() -> None:
    y = np.array(lines().y)
    y[0, 0] = np.nan
    fits = emjax.fit_many(LINES, Data(y, lines().x), SEED, restarts=RESTARTS)
    assert "response" in fits[0].reason
    assert "INVALID_DATA" in fits[0].summary()
    assert "INVALID_DATA 1" in fits.summary()


def _oracle_prediction(fit: Any, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    family = linear_regression.Params(fit.params.family.coefficients, fit.params.family.scale)
    values = linear_regression.log_prob(family, y, linear_regression.design_matrix(x))
    return mixture.e_step(fit.params.latent.weights, values).responsibilities.T


def test_predictions_are_the_oracles() -> None:
    """New rows are not the sample: neither their mean nor their spread may enter, nor the rows they come with."""
    fit = base()[3]
    found = fit.predict()
    np.testing.assert_allclose(found.responsibilities, _oracle_prediction(fit, *fit.data[:2]), atol=1e-9)
    np.testing.assert_array_equal(found.labels, np.argmax(found.responsibilities, axis=1))
    rng = np.random.default_rng(0)
    y, x = rng.normal(20.0, 3.0, 17), rng.uniform(3.0, 30.0, (17, 1))
    found = fit.predict(Data(y, x))
    np.testing.assert_allclose(found.responsibilities, _oracle_prediction(fit, y, x), atol=1e-9)
    alone = fit.predict(Data(y[:1], x[:1]))
    np.testing.assert_allclose(alone.responsibilities, found.responsibilities[:1], atol=1e-9)
    assert alone.labels.shape == (1,)


def test_predictions_of_rows_far_away_are_finite() -> None:
    found = base()[3].predict(Data(np.array([1e100, -1e100, 1e200]), np.ones((3, 1))))
    np.testing.assert_allclose(found.responsibilities[:2].sum(axis=1), 1.0)
    # Where every density is 0 in float64 there is no confident label.
    assert np.all(np.isnan(found.responsibilities[2])) and found.labels[2] == -1


def test_a_saved_fit_is_the_same(tmp_path: Path) -> None:
    for record in (base(), base()[2]):
        record.save(tmp_path / "fits.npz")
        back = emjax.load(tmp_path / "fits.npz")
        assert type(back) is type(record)
        same_fits(record, back, *((slice(None),) * 2 if isinstance(record, Fits) else ((), ())))
        assert back.settings == record.settings
        assert back.model == record.model
        assert back.summary() == record.summary()
        np.testing.assert_array_equal(back.ids, record.ids)
        np.testing.assert_array_equal(back.data.y, record.data.y)
    assert back.status is base()[2].status
    assert back.status.name == "CONVERGED"
    np.testing.assert_array_equal(back.predict().labels, base()[2].predict().labels)
    assert not list(tmp_path.glob("*.part"))


def test_fits_of_any_data_come_back(tmp_path: Path) -> None:
    """Lists, names, datasets that could not be fitted, covariates far from zero."""
    own = [at(lines(), i) for i in range(4)]
    own[1] = own[1]._replace(y=np.full(N, np.nan))
    own[2] = own[2]._replace(x=own[2].x + 1e9)
    fits = emjax.fit_many(LINES, own, SEED, restarts=RESTARTS, ids=["a", "b", "c", "d"], chunk=4)
    fits.save(tmp_path / "fits.npz")
    back = emjax.load(tmp_path / "fits.npz")
    same_fits(fits, back)
    assert list(back.ids) == ["a", "b", "c", "d"]


@pytest.mark.parametrize("shift", [1e12, 1e14])
def test_what_was_saved_can_be_loaded(tmp_path: Path, shift: float) -> None:
    """Coefficients of covariates this far off carry the log-likelihood to 1e-5 only; the file is still its own."""
    one = at(lines(), 0)
    fit = emjax.fit(LINES, one._replace(x=one.x + shift), SEED, restarts=RESTARTS)
    fit.save(tmp_path / "fit.npz")
    emjax.load(tmp_path / "fit.npz")


def _rewrite(path: Path, change: Any) -> None:
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    document = json.loads(arrays.pop("json").tobytes())
    document = change(document, arrays) or document
    np.savez(path, json=np.frombuffer(json.dumps(document).encode(), np.uint8), **arrays)


def _field(document: Any, *names: str) -> str:
    node = document["content"]
    for name in names:
        node = node["fields"][name]
    return node["array"]


def _raise(path: tuple[str, ...], amount: float) -> Any:
    def change(document: Any, arrays: Any) -> None:
        arrays[_field(document, *path)] = arrays[_field(document, *path)] + amount

    return change


TAMPERED = {
    "a coefficient": _raise(("params", "family", "coefficients"), 1e-2),
    "a weight": _raise(("params", "latent", "weights"), 1e-3),
    "the data": _raise(("data", "y"), 1e-2),
    "the objective": _raise(("objective",), 1e-3),
    "the log-likelihood": _raise(("log_likelihood",), 1e-3),
    "another format": lambda document, arrays: document | {"format": 99},
    "no format": lambda document, arrays: document.pop("format"),
    "not a document": lambda document, arrays: [1, 2],
    "an array is missing": lambda document, arrays: arrays.pop(_field(document, "params", "latent", "weights")),
    "a field is missing": lambda document, arrays: document["content"]["fields"].pop("status"),
    "an unknown class": lambda document, arrays: document["content"].update(record="Popen"),
    "content is a number": lambda document, arrays: document | {"content": 3},
}  # fmt: skip


@pytest.mark.parametrize("name", TAMPERED)
def test_changed_files_are_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "fit.npz"
    base()[2].save(path)

    def change(document: Any, arrays: Any) -> Any:
        changed = TAMPERED[name](document, arrays)
        return changed if name in ("another format", "not a document", "content is a number") else None

    _rewrite(path, change)
    _refused(path)


def _refused(path: Path) -> None:
    with pytest.raises(DataError) as caught:
        emjax.load(path)
    assert path.name in str(caught.value) or "register" in str(caught.value)
    assert "\n" not in str(caught.value)


class _Harmful:
    def __reduce__(self) -> tuple[Any, ...]:
        return (pytest.fail, ("unpickled",))


def test_other_files_are_refused(tmp_path: Path) -> None:
    good = tmp_path / "good.npz"
    base()[2].save(good)
    whole = good.read_bytes()
    np.save(tmp_path / "array.npy", np.zeros(3))
    np.savez(tmp_path / "foreign.npz", a=np.zeros(3))
    (tmp_path / "text.npz").write_text("y,x\n1,2\n")
    (tmp_path / "empty.npz").write_bytes(b"")
    (tmp_path / "half.npz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "short.npz").write_bytes(whole[:-10])
    with zipfile.ZipFile(tmp_path / "notes.npz", "w") as file:
        file.writestr("json.npy", "hello")
    (tmp_path / "folder.npz").mkdir()
    for path in sorted(tmp_path.iterdir()):
        if path != good:
            _refused(path)
    _refused(tmp_path / "missing.npz")
    emjax.load(good)


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    pickled = np.empty(1, object)
    pickled[0] = _Harmful()
    np.savez(tmp_path / "pickled.npz", json=pickled, allow_pickle=True)
    _refused(tmp_path / "pickled.npz")
    base()[2].save(tmp_path / "fit.npz")
    with np.load(tmp_path / "fit.npz") as file:
        np.savez(tmp_path / "fit.npz", allow_pickle=True, **(dict(file) | {"a0": pickled}))
    _refused(tmp_path / "fit.npz")


def test_a_flipped_byte_is_refused_or_harmless(tmp_path: Path) -> None:
    path = tmp_path / "fit.npz"
    base()[2].save(path)
    whole = bytearray(path.read_bytes())
    rng = np.random.default_rng(0)
    for place in rng.integers(0, len(whole), 60):
        broken = bytearray(whole)
        broken[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(broken)
        try:
            back = emjax.load(path)
        except DataError:
            continue
        same_fits(back, base()[2], (), ())


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be written"):
        base()[0].save(tmp_path / "nowhere" / "fit.npz")

"""Fits on disk: one npz file of plain arrays and a JSON text; nothing pickled, and a load recomputes the objective."""

from __future__ import annotations

import dataclasses
import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from emjax.base import registry
from emjax.base.status import DataError, Problem, Status
from emjax.engine import after, em
from emjax.engine.certificate import Certificate
from emjax.engine.choice import Landscape
from emjax.engine.generated import Generated
from emjax.engine.results import Fit, Fits, Settings

FORMAT = 1
AGREE = 1e-8  # relative: a recomputed value further off than this means another file, model or version

for _cls in (Fit, Fits, Settings, Landscape, Certificate):
    registry.register(_cls)


def save(record: Fit | Fits, path: Any) -> None:
    """Write to a temporary name beside `path`, then rename.

    What the user's parameters give when recomputed goes along: it differs from the fit's own values by the rounding of
    the change of units, which ill-scaled data make large.
    """
    if isinstance(record.data, Generated):
        record = dataclasses.replace(record, data=record.data.stacked())
    arrays: dict[str, np.ndarray] = {}
    check = {"recomputed": recompute(after.point(record)), "stated": _stated(record)}
    document = {"format": FORMAT, "content": _encode(record, arrays), "check": _encode(check, arrays)}
    text = json.dumps(document)
    target = Path(path)
    part = target.with_name(f"{target.name}.{os.getpid()}.part")
    try:
        with open(part, "wb") as file:
            np.savez_compressed(file, json=np.frombuffer(text.encode(), np.uint8), **arrays)  # type: ignore[arg-type]
        os.replace(part, target)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise DataError(f"{path} cannot be written ({error.strerror}): choose another folder.") from None


def load(path: Any) -> Any:
    """Read what `save` wrote and recompute every objective from the saved data and parameters.

    Returns a `Fit` or `Fits`. Errors: `DataError` where the file is missing, is not emjax's, or no longer agrees with
    what this version computes. A model of one's own must be known by `emjax.register` first.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}).") from None
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        document = json.loads(arrays.pop("json").tobytes())
        version = document["format"]
        found, check = (_decode(document[part], arrays) for part in ("content", "check"))
        recomputed, stated = (np.asarray(check[name], np.float64) for name in ("recomputed", "stated"))
    except DataError:
        raise
    except Exception as error:  # a damaged file can fail anywhere in the readers
        raise DataError(f"{path} is not a file that emjax saved, or is damaged ({type(error).__name__}).") from None
    if version != FORMAT or not isinstance(found, Fit | Fits):
        raise DataError(f"{path} has format {version}; this version of emjax reads fits of format {FORMAT}.")
    _verify(found, recomputed, stated, path)
    return found


def _encode(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    if value is None or isinstance(value, (bool, str)) or type(value) is int:
        return value
    if registry.is_registered(value):
        names = value._fields if hasattr(value, "_fields") else [f.name for f in dataclasses.fields(value)]
        inner = {name: _encode(getattr(value, name), arrays) for name in names}
        return {"record": type(value).__name__, "fields": inner}
    if isinstance(value, (list, tuple)):
        return {"list" if isinstance(value, list) else "tuple": [_encode(v, arrays) for v in value]}
    if isinstance(value, dict):
        return {"dict": {str(k): _encode(v, arrays) for k, v in value.items()}}
    if callable(value) and registry.find(getattr(value, "__name__", "")) is value:
        return {"function": value.__name__}
    array = np.asarray(value)
    if array.dtype == object and array.ndim:
        return {"names": [v if isinstance(v, int) else str(v) for v in array.tolist()]}
    if array.dtype.kind not in "fiubU":
        what = f"the function {value.__name__}" if hasattr(value, "__name__") else f"the class {type(value).__name__}"
        raise DataError(f"{type(value).__name__} cannot be saved: register {what} with emjax.register.")
    name = f"a{len(arrays)}"
    arrays[name] = array
    return {"array": name}


def _decode(node: Any, arrays: dict[str, np.ndarray]) -> Any:
    if not isinstance(node, dict):
        return node
    (kind, content), *rest = node.items()
    if kind == "record":
        cls = _registered(content)
        inner = {name: _decode(v, arrays) for name, v in rest[0][1].items()}
        if cls is Fit:
            inner["status"] = Status(int(inner["status"]))
        return cls(**inner)
    if kind == "function":
        return _registered(content)
    if kind in ("list", "tuple"):
        items = [_decode(v, arrays) for v in content]
        return items if kind == "list" else tuple(items)
    if kind == "dict":
        return {name: _decode(v, arrays) for name, v in content.items()}
    if kind == "names":
        return np.array(content, dtype=object)
    array = arrays[content]
    return array[()] if array.ndim == 0 else array


def _registered(name: str) -> Any:
    found = registry.find(name)
    if found is None:
        raise DataError(f"The file holds a {name}: register it with emjax.register before loading.")
    return found


def _stated(record: Fit | Fits) -> np.ndarray:
    """Log-likelihoods and objectives, (2, D), as the record states them."""
    return np.stack([np.atleast_1d(np.asarray(v, np.float64)) for v in (record.log_likelihood, record.objective)])


def _verify(record: Fit | Fits, saved: np.ndarray, stated: np.ndarray, path: Any) -> None:
    """The data and parameters must give what they gave at saving, and the record must state what it stated."""
    found = recompute(after.point(record))
    claimed = _stated(record)
    if not saved.shape == stated.shape == found.shape:
        raise DataError(f"{path} is damaged: its check values have shape {saved.shape}, not {found.shape}.")
    with np.errstate(invalid="ignore"):
        size = AGREE * (1.0 + np.abs(saved))
        wrong = ~(np.abs(found - saved) <= size) & ~(np.isnan(found) & np.isnan(saved))
    wrong |= ~((claimed == stated) | (np.isnan(claimed) & np.isnan(stated)))
    if np.any(wrong):
        which, first = (int(v) for v in np.argwhere(wrong)[0])
        what = ("log-likelihood", "objective")[which]
        raise DataError(
            f"{path}: dataset {first} was saved with {what} {claimed[which, first]:.9f} but its data and parameters "
            f"give {found[which, first]:.9f}; the file was changed, or made by another version."
        )


def recompute(at: after.Point) -> np.ndarray:
    """Log-likelihood and objective at user's parameters, (2, D); NaN where invalid."""
    found = np.full((2, len(at.positions)), np.nan)
    for rows, values, problems in after.over(at, _objective, threads=1):
        found[:, rows] = np.where(problems == Problem.NONE, np.stack(values), np.nan)
    return found


def _objective(model: Any, fitted: after.Fitted, _: Any) -> Any:
    log_likelihood = model.expect(fitted.params, fitted.prepared).log_likelihood
    return log_likelihood, em.objective_of(model, fitted.params, fitted.prepared, log_likelihood)

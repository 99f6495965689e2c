"""What a fit returns: NumPy-backed records, the same fields for one dataset and for many."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from importlib import import_module
from typing import Any

import jax
import numpy as np

from emjax.base import places
from emjax.base.protocols import Model
from emjax.base.records import Data, Params
from emjax.base.settings import Degeneracy, Race, Stop
from emjax.base.status import OF_ROWS, DataError, Flag, Problem, Status
from emjax.engine import choice, datasets, diagnosis, row_blocks, stages
from emjax.engine.certificate import Certificate
from emjax.engine.choice import Landscape


@dataclass(frozen=True)
class Settings:
    """How the fits were made."""

    stop: Stop
    degeneracy: Degeneracy
    restarts: int | str | None
    strategies: tuple[str, ...]
    precision: str
    polish: bool
    certificate: bool | None
    key: tuple[int, int]
    prior: Any = None
    fixed: Any = None
    race: Race | None = None
    acceleration: str | None = "auto"


@dataclass(frozen=True)
class _Record:
    """Fields shared by `Fit` and `Fits`; arrays of `Fits` have a leading axis D.

    params : in the user's units. log_likelihood, log_prior, objective : nats, of those params. status : `Status`.
    flags : `Flag` bits. problems : `Problem` bits, why a dataset is INVALID_DATA. iterations : E-steps of the chosen
    restart, later passes included. remaining : estimated gain left, nats. n_observations : sum of the weights of the
    units, without those of which nothing was observed. restarts : the landscape, (R,) a dataset; see `Landscape`.
    certificate : see `Certificate`. n_free : free parameters, one number for all unless they depend on a dataset's
    rows, as in `PLSA`.
    """

    model: Model
    params: Params
    log_likelihood: Any
    objective: Any
    status: Any
    flags: Any
    problems: Any
    iterations: Any
    remaining: Any
    n_observations: Any
    ids: Any
    restarts: Landscape
    certificate: Certificate
    n_free: Any
    work_efficiency: float
    settings: Settings
    data: Any

    @property
    def log_prior(self) -> Any:
        """Log prior density of the parameters, nats; 0 without a prior. What tempering takes from the objective."""
        return self.objective - self.log_likelihood

    @property
    def aic(self) -> Any:
        """Akaike's criterion -2 l + 2 m; lower is better."""
        return -2.0 * self.log_likelihood + 2.0 * self.n_free

    @property
    def bic(self) -> Any:
        """Schwarz's criterion -2 l + m log n, n the sum of the units' weights; lower is better."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return -2.0 * self.log_likelihood + self.n_free * np.log(self.n_observations)


@dataclass(frozen=True)
class Fit(_Record):
    """One fitted dataset; see `fit`."""

    @property
    def unseen(self) -> float:
        """Good-Turing estimate of the chance that one more start finds a new mode."""
        return float(choice.unseen(_with_axis(self.restarts))[0])

    @property
    def reason(self) -> str:
        """Why the fit ended as it did, in one sentence."""
        return _reason(self.status, self.problems)

    def predict(self, data: Data | None = None) -> Any:
        """What the model predicts for the rows of `data`, by default those fitted: a `Prediction`, `FactorScores`.

        One row will do, but for a component of uniform noise, whose box is that of the rows asked. Errors: `DataError`
        for rows that the model cannot have, but where their weight is 0: those that hold NaN become NaN and -1, others
        are read as the nearest that it can have.
        """
        if self.model.row_blocks:
            name = type(self.model).__name__
            raise DataError(f"{name} has parameters of each row of its data: see fit.params, or fold_in for new rows.")
        single = datasets.one(self.model, self.data if data is None else data)
        fitted = datasets.one(self.model, self.data)
        for name in ("y", "x", "z", "offset"):
            new, old = _columns(getattr(single, name)), _columns(getattr(fitted, name))
            if new != old:
                raise DataError(f"The model was fitted with {name} of columns {old}, and these data have {new}.")
        n = single.y.shape[0]
        seen = self.model.read(single)
        culprit = places.not_finite(seen, self.model.missing)
        if culprit:
            raise DataError(f"These data cannot be predicted: NaN or infinity, {culprit}; drop those rows.")
        # Weights belong to the fit: rows of weight 0 are predicted too.
        asked = single._replace(weight=np.ones(np.asarray(single.weight).shape, bool))
        padded = datasets.pad(asked, datasets.bucket(n))
        with jax.enable_x64(True):
            own = None if np.all(np.asarray(single.weight) > 0) else datasets.pad(single, datasets.bucket(n)).weight
            found, problems = stages.predict(self.model, jax.tree.map(np.asarray, padded), self.params, own)
            found = jax.tree.map(lambda leaf: np.array(leaf)[:n], found)
        wrong = Problem(int(problems)) & OF_ROWS
        if wrong:
            raise DataError(diagnosis.explain(self.model, single, wrong, "These data cannot be predicted"))
        return _blank(found, seen, self.model.missing)

    def summary(self, kind: str | None = "auto", level: float = 0.95) -> str:
        """The fit in words: how it ended, its criteria, what the restarts say, its parameters with standard errors.

        kind : of standard errors, as `standard_errors` takes it; None for none; "auto" for those of the observed
        information where the model has at most 30 free parameters and derivatives. level : of the intervals.
        """
        from emjax.engine import summaries

        return summaries.of_fit(self, kind, level)

    def save(self, path: Any) -> None:
        """Write the fit and its data to one file (numpy and json only); see `emjax.load`."""
        from emjax.engine import storage

        storage.save(self, path)


@dataclass(frozen=True)
class Fits(_Record):
    """Many fitted datasets, leading axis D; `fits[i]` is a `Fit`; see `fit_many`.

    complete : False where the run was interrupted; then only the finished datasets are here, and `positions` says
        which.
    """

    positions: Any
    complete: bool

    def __len__(self) -> int:
        return len(self.status)

    def __getitem__(self, index: int) -> Fit:
        if not isinstance(index, (int, np.integer)):
            raise TypeError(f"fits[{index!r}]: give one whole number; the fields are arrays and can be sliced.")
        if not -len(self) <= index < len(self):
            raise IndexError(f"fits[{index}]: there are {len(self)} datasets.")
        position = int(index) % len(self)
        mine = {f.name: getattr(self, f.name) for f in fields(_Record)}
        row = ("log_likelihood", "objective", "flags", "problems", "iterations", "remaining", "n_observations", "ids")
        for name in row:
            mine[name] = mine[name][position]
        mine["status"] = Status(int(self.status[position]))
        for name in ("params", "restarts", "certificate"):
            mine[name] = jax.tree.map(lambda leaf: leaf[position], mine[name])
        mine["n_free"] = int(np.broadcast_to(self.n_free, len(self))[position])
        mine["data"] = dataset_at(self.data, int(self.positions[position]))
        mine["params"] = row_blocks.cut(self.model, mine["params"], np.shape(mine["data"].y)[0])
        return Fit(**mine)

    def __iter__(self) -> Iterator[Fit]:
        return (self[i] for i in range(len(self)))

    @property
    def unseen(self) -> np.ndarray:
        """Good-Turing estimate per dataset, (D,): the chance that one more start finds a new mode."""
        return choice.unseen(self.restarts)

    @property
    def reasons(self) -> list[str]:
        """Why each fit ended as it did."""
        return [_reason(s, p) for s, p in zip(self.status, self.problems, strict=True)]

    def status_counts(self) -> dict[str, int]:
        """How many datasets ended with each status, zeros included."""
        return {
            s.name: int(np.sum(self.status == s)) for s in Status if s not in (Status.RUNNING, Status.STOPPED_EARLY)
        }

    def flag_counts(self) -> dict[str, int]:
        """How many datasets carry each flag."""
        return {str(f.name): int(np.sum((self.flags & f) > 0)) for f in Flag if f not in (Flag.NONE, Flag.DEGENERATE)}

    def summary(self) -> str:
        """The batch in words: statuses, flags, work, settings."""
        from emjax.engine import summaries

        return summaries.of_fits(self)

    def to_frame(self, kind: str | None = "observed", level: float = 0.95, scale: str = "auto") -> Any:
        """A long pandas table with a row a dataset and entry of its parameters: dataset, component (0 to K - 1, or
        "all" where shared), parameter, estimate, se, lower, upper, status, reason (why there is no se).

        kind : of standard errors, as `standard_errors` takes it; None for none. level, scale : as in `intervals`.
        Errors: MissingExtraError without pandas.
        """
        # By its name when called: what is optional is a leaf that no room knows of.
        return import_module("emjax.extras.long_table").to_frame(self, kind, level, scale)

    def save(self, path: Any) -> None:
        """Write the fits and their data to one file (numpy and json only); see `emjax.load`."""
        from emjax.engine import storage

        storage.save(self, path)


def _columns(values: Any) -> Any:
    return None if values is None else np.asarray(values).shape[1:]


def _blank(found: Any, data: Data, missing: bool) -> Any:
    """NaN and -1 for rows of weight 0 that hold NaN, and for rows too far away for any density."""
    n = np.shape(data.y)[0]
    leaves = jax.tree.leaves(getattr(found, "responsibilities", found))  # a missing row has them, but no residual
    bad = ~np.all([np.all(np.isfinite(np.reshape(leaf, (n, -1))), axis=1) for leaf in leaves], axis=0)
    observed = places.observed(data)
    for values in (None if missing else data.y, data.x, data.z, data.offset):
        if values is not None:
            bad |= observed & ~np.all(np.isfinite(np.reshape(np.asarray(values), (n, -1))), axis=1)
    for leaf in jax.tree.leaves(found):
        leaf[bad] = np.nan if np.issubdtype(leaf.dtype, np.floating) else -1
    return found


def _reason(status: Any, problems: Any) -> str:
    return Problem(int(problems)).describe() or Status(int(status)).message


def _with_axis(landscape: Landscape) -> Landscape:
    return Landscape(*(np.asarray(a)[None] for a in landscape))


def dataset_at(data: Any, position: int) -> Data:
    """One dataset of what `fit_many` was given."""
    if not isinstance(data, Data):
        return data[position]
    data = Data(*(None if value is None else np.asarray(value) for value in data))
    n_datasets, ranks = np.shape(data.y)[0], datasets.shared_ranks(data)
    found = {"y": data.y[position]}
    for name, value in data._asdict().items():
        if name == "y" or value is None:
            continue
        shared = np.ndim(value) == ranks[name]
        if not shared and np.shape(value)[0] != n_datasets:
            raise DataError(f"{name} has no dataset {position}.")
        found[name] = value if shared else value[position]
    return Data(**found)

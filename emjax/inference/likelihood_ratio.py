"""The bootstrap likelihood-ratio test of K against K + 1 components, for every dataset of a batch.

The statistic has no chi-square distribution, as K components lie on the edge of the space of K + 1; its distribution
is simulated under the fit of K (McLachlan 1987, Applied Statistics 36, 318-324). The observed data and every bootstrap
dataset get the same procedure: started at the fit alone, bootstrap statistics are too small and the test too liberal.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from emjax.base.protocols import Model
from emjax.base.records import Array, Params
from emjax.base.settings import Race
from emjax.base.status import DataError
from emjax.engine import after, choice, fitting, keys, parameters, results
from emjax.engine.generated import Generated
from emjax.engine.results import Fit, Fits
from emjax.inference import resampling
from emjax.inference.percentiles import check_level

APART = 0.5  # standard deviation, in free coordinates, of the noise that parts the halves of a split component
SPLIT = 2**32 - 1  # the number, among a dataset's restarts, of the key for that
FAILED = ("exceed", "omit")
_OF_FITS = ("stop", "degeneracy", "precision", "polish")


@dataclass(frozen=True)
class LikelihoodRatioTest:
    """The test of K against K + 1 components; arrays lead with the axis D of the datasets, and have none of one `Fit`.

    null : the fits of K components by the test's procedure. statistic (D,) : 2 (l_{K+1} - l_K), nats doubled, 0 or
    larger. p (D,) : (1 + exceedances) / (B + 1), NaN where there is no valid fit of K or of K + 1 components, see
    `reasons`. lower, upper (D,) : Wilson's interval (1927) at `level` for the p value that endless replicates would
    give, from the share of exceedances. exceedances (D,) : replicates with a statistic as large as the observed one,
    and those without a valid optimum unless they are omitted, B being less then; failed (D,) : how many of the latter.
    replicates (D, B) : their statistics, NaN where failed. rule : "exceed" or "omit", what becomes of those.
    """

    null: Fit | Fits
    statistic: Any
    p: Any
    lower: Any
    upper: Any
    exceedances: Any
    failed: Any
    replicates: Any
    level: float
    rule: str

    @property
    def reasons(self) -> list[str]:
        """Of each dataset: "tested", or why it was not."""
        status, statistic = np.atleast_1d(np.asarray(self.null.status)), np.atleast_1d(self.statistic)
        k = self.null.model.n_components  # type: ignore[attr-defined]
        valid = choice.eligible(status)
        names = {True: f"no valid fit of {k + 1} components", False: f"no valid fit of {k}"}
        return ["tested" if t == t else names[bool(v)] for v, t in zip(valid, statistic, strict=True)]


def likelihood_ratio_test(
    model_or_fits: Any,
    data: Any = None,
    key: Any = None,
    *,
    replicates: int = 199,
    restarts: int = 10,
    race: Race | None = Race(),  # noqa: B008 (frozen)
    acceleration: str | None = "auto",
    failed: str = "exceed",
    level: float = 0.95,
    ids: Any = None,
    certificate: bool | None = False,
    threads: int | None = None,
    **settings: Any,
) -> LikelihoodRatioTest:
    """Test K components against K + 1 by the parametric bootstrap.

    model_or_fits : a model of K components with `data` as `fit_many` takes them; or `Fit` or `Fits` of it, whose data,
    names and settings (stop, degeneracy, precision) are taken, while the fits are made anew.
    replicates : B, of which B + 1 must be a multiple of 20, so that p = .05 can be reached.
    restarts : random starts of K and of K + 1 components, observed and bootstrap data alike. K + 1 are started
    once more where a random component of the K fit is split and its halves are moved apart. Unmoved, the halves have
    the likelihood of K components exactly, so the statistic is never taken below 0; but that alone is no valid optimum.
    race, acceleration : as in `fit_many`, whatever the fits' own, and with a race by default: a component too many
    makes EM slow, and observed and bootstrap data share the procedure.
    failed : replicates without a valid optimum, say as every start of K + 1 free scales collapsed, "exceed" the
    observed statistic, which is safe, but where they are more than one in twenty hardly anything is rejected; or "omit"
    them, which keeps the level, as observed data are tested only where the same procedure finds them a valid optimum
    (p is 1 where none is left).
    certificate and settings : as in `fit_many`; a replicate depends on its dataset, the dataset's name, its number, the
    key and the settings alone.

    Errors: `DataError`, also for models without `n_components` and with `prior` or `fixed`, under which two numbers of
    components are no nested maximum-likelihood fits.
    """
    model, data, ids, settings = _question(model_or_fits, data, ids, settings)
    _check(model, replicates, restarts, settings)
    if failed not in FAILED:
        raise DataError(f"failed={failed!r}: use 'exceed' or 'omit'.")
    level, root = check_level(level), keys.root_key(key)
    settings = {**settings, "acceleration": acceleration, "certificate": certificate, "threads": threads}
    procedure = Procedure(
        model,
        replace(model, n_components=model.n_components + 1),
        root,
        restarts,
        race,
        settings,  # fmt: skip
    )
    null, statistic = procedure(data, ids)
    names, at = list(null.ids), after.point(null)
    simulated = np.full((len(null), replicates), np.nan)
    tested = np.flatnonzero(np.isfinite(statistic))
    for block in resampling.blocks(at, tested, names, root, "parametric", replicates):
        simulated[block.rows, block.numbers] = procedure(block.data, block.names)[1]
    return _result(model_or_fits, null, statistic, simulated, level, failed)


def _question(given: Any, data: Any, ids: Any, settings: dict[str, Any]) -> tuple[Any, Any, Any, dict[str, Any]]:
    """Model, data as `fit_many` takes them, names and settings."""
    if not isinstance(given, (Fit, Fits)):
        fitting.check_model(given)
        if data is None:
            raise DataError("likelihood_ratio_test of a model needs data, as fit_many takes them.")
        return given, data, ids, settings
    if data is not None or ids is not None:
        raise DataError("likelihood_ratio_test takes the data and names of the fits: leave data and ids out.")
    named = {name: getattr(given.settings, name) for name in ("prior", "fixed")}
    named = {name: value for name, value in named.items() if value is not None}
    settings = {**{name: getattr(given.settings, name) for name in _OF_FITS}, **named, **settings}
    if isinstance(given, Fit):
        return given.model, [given.data], [given.ids], settings
    data = given.data
    if isinstance(data, Generated) or len(given) != len(data.y if hasattr(data, "y") else data):
        data = [results.dataset_at(data, int(position)) for position in given.positions]
    return given.model, data, list(given.ids), settings


def _check(model: Any, replicates: Any, restarts: Any, settings: dict[str, Any]) -> None:
    fitting.check_whole("replicates", replicates, 1)
    fitting.check_whole("restarts", restarts, 1)
    if (replicates + 1) % 20:
        raise DataError(
            f"replicates={replicates}: one more than their number must be a multiple of 20; try 99, 199 or 999."
        )
    if not hasattr(model, "n_components"):
        raise DataError(f"{type(model).__name__} has no n_components, of which one more could be tested.")
    for name in ("prior", "fixed", "start", "chunk"):
        if settings.get(name) is not None:
            raise DataError(f"likelihood_ratio_test has no use for {name}=: leave it out.")
    resampling.check(model, "parametric")


class Counts(NamedTuple):
    """Of the replicates of D datasets, (D,): those without a valid optimum, those counted, exceedances, p."""

    failed: np.ndarray
    counted: np.ndarray
    exceedances: np.ndarray
    p: np.ndarray


def counts(statistic: np.ndarray, simulated: np.ndarray, rule: str) -> Counts:
    """statistic (D,), simulated (D, B), NaN where there is none; rule : one of `FAILED`."""
    tested = np.isfinite(statistic)
    failed = np.where(tested, np.sum(np.isnan(simulated), axis=1), 0)
    omitted = failed if rule == "omit" else 0 * failed
    counted = simulated.shape[1] - omitted
    exceedances = np.sum(simulated >= statistic[:, None], axis=1) + failed - omitted
    return Counts(failed, counted, exceedances, np.where(tested, (1.0 + exceedances) / (counted + 1.0), np.nan))


def _result(
    given: Any, null: Fits, statistic: np.ndarray, simulated: np.ndarray, level: float, rule: str
) -> LikelihoodRatioTest:
    failed, counted, exceedances, p = counts(statistic, simulated, rule)
    limits = wilson(exceedances, np.maximum(counted, 1), level)
    lower, upper = (np.where(np.isfinite(p) & (counted > 0), limit, np.nan) for limit in limits)
    found = statistic, p, lower, upper, exceedances, failed, simulated
    if not isinstance(given, Fit):
        return LikelihoodRatioTest(null, *found, level, rule)
    statistic, p, lower, upper, exceedances, failed, simulated = (values[0] for values in found)
    return LikelihoodRatioTest(null[0], statistic, p, lower, upper, exceedances, failed, simulated, level, rule)


def wilson(count: np.ndarray, total: int | np.ndarray, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Wilson's interval of a probability from `count` among `total` (1927, JASA 22, 209-212)."""
    z = NormalDist().inv_cdf(0.5 + 0.5 * level)
    share, spread = np.asarray(count) / total, z * z / total
    middle = (share + 0.5 * spread) / (1.0 + spread)
    half = z / (1.0 + spread) * np.sqrt(share * (1.0 - share) / total + spread / (4.0 * total))
    return np.maximum(middle - half, 0.0), np.minimum(middle + half, 1.0)


@dataclass(frozen=True)
class Procedure:
    """Both fits of datasets, observed or bootstrap: what the test does to them is written here alone."""

    model: Any
    bigger: Any
    root: np.ndarray
    restarts: int
    race: Race | None
    settings: dict[str, Any]

    def __call__(self, data: Any, names: Any) -> tuple[Fits, np.ndarray]:
        """The fits of K components and the statistics (D,), NaN without a valid optimum of K or of K + 1."""
        null, larger = (self._random(model, data, names) for model in (self.model, self.bigger))
        smaller = valid_log_likelihood(null)
        best = np.fmax(valid_log_likelihood(larger), self._from_split(null, data))
        statistic = 2.0 * (np.maximum(best, smaller) - smaller)
        return null, np.where(np.isfinite(best) & np.isfinite(smaller), statistic, np.nan)

    def _random(self, model: Any, data: Any, names: Any) -> Fits:
        return _whole(
            fitting.fit_many(model, data, self.root, restarts=self.restarts, race=self.race, ids=names, **self.settings)
        )

    def _from_split(self, null: Fits, data: Any) -> np.ndarray:
        """Log-likelihoods (D,) from the start that splits a component, NaN where it ends at no valid optimum."""
        found = np.full(len(null), np.nan)
        at = after.point(null)
        rows = np.flatnonzero(np.isfinite(valid_log_likelihood(null)))
        starts, finite = split(at, rows, self.bigger, self.root, list(null.ids), self.settings["threads"])
        rows = rows[finite]
        if len(rows) == 0:
            return found
        if len(rows) < len(null):
            data = [results.dataset_at(data, int(row)) for row in rows]
        start = jax.tree.map(lambda a: a[finite], starts)
        names = [null.ids[row] for row in rows]
        fits = _whole(fitting.fit_many(self.bigger, data, self.root, start=start, ids=names, **self.settings))
        found[rows] = valid_log_likelihood(fits)
        return found


def _whole(fits: Fits) -> Fits:
    """A test of a part of the datasets would look like one of all."""
    if not fits.complete:
        raise KeyboardInterrupt
    return fits


def valid_log_likelihood(fits: Fits) -> np.ndarray:
    """Log-likelihoods (D,), nats, NaN where the optimum is not valid."""
    return np.where(choice.eligible(fits.status), fits.log_likelihood, np.nan)


def split(
    at: after.Point, rows: np.ndarray, bigger: Any, root: np.ndarray, ids: list[Any], threads: int | None
) -> tuple[Params, np.ndarray]:
    """Starts of K + 1 components from the fits at `rows`, in the user's units, and which of them are finite."""
    if len(rows) == 0:
        return None, np.zeros(0, bool)
    here = at._replace(positions=at.positions[rows], params=jax.tree.map(lambda a: np.asarray(a)[rows], at.params))
    extra = np.broadcast_to(root, (len(rows), 2)), keys.dataset_words([ids[row] for row in rows])
    starts: Any = None
    for part, params, _ in after.over(here, Split(bigger), extra, threads=threads):
        if starts is None:
            starts = jax.tree.map(lambda a: np.full((len(rows), *a.shape[1:]), np.nan), params)
        for room, values in zip(jax.tree.leaves(starts), jax.tree.leaves(params), strict=True):
            room[part] = values
    leaves = [np.isfinite(leaf).reshape(len(rows), -1).all(axis=1) for leaf in jax.tree.leaves(starts)]
    return starts, np.all(leaves, axis=0)


@dataclass(frozen=True)
class Split:
    """Of one dataset: parameters of K + 1 components, a random component of the fit twice, then moved apart by noise
    in the free coordinates. Those take the shares of components as ratios, so that they need not add up before."""

    bigger: Any

    def __call__(self, model: Model, fitted: after.Fitted, extra: Any) -> Params:
        root, word = extra
        choose, move = jax.random.split(keys.restart_key(root, word, jnp.uint32(SPLIT)))
        n_components = self.bigger.n_components
        component = jax.random.randint(choose, (), 0, parameters.n_exchangeable(model), jnp.int32)
        index = jnp.arange(n_components, dtype=jnp.int32)
        index = jnp.where(index <= component, index, index - 1)
        prepared, _ = self.bigger.prepare(fitted.data)
        doubled = self.bigger.relabel(model.from_user(fitted.user, prepared), index)
        doubled = self.bigger.canonical(doubled, prepared)
        free: Array = self.bigger.to_free(doubled, prepared)
        free = free + APART * jax.random.normal(move, free.shape, free.dtype)
        return self.bigger.to_user(self.bigger.from_free(free, prepared, doubled), prepared)

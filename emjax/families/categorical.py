"""Several categorical items, independent given the component: with a mixture, latent class analysis."""

from __future__ import annotations

import numbers
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from emjax.base import design, numerics, places
from emjax.base.levels import Levels, shares
from emjax.base.priors import Dirichlet
from emjax.base.protocols import FamilyDefaults
from emjax.base.records import Array, Data
from emjax.base.registry import register
from emjax.base.settings import Degeneracy
from emjax.base.simplices import AT_ZERO
from emjax.base.status import DataError, Flag, Problem

# A probability that means less than such a count of rows is on the boundary too, if below 1e-6.
COUNT_AT_ZERO = 1e-5
LOW = -1e30  # stands for log 0 in sums of products: 0 times it is 0, and one of it says that the row is impossible
POOLED = 0.2  # share of the whole sample's frequencies in a start, so that no probability starts at 0


@register
class CategoricalParams(NamedTuple):
    """probabilities (K, J, L): of level l of item j, L the largest number of levels, 0 beyond an item's own."""

    probabilities: Array


class CategoricalStatistics(NamedTuple):
    """Expected counts of the levels of all items, (K, S), and rows of each component, (K,)."""

    counts: Array
    total: Array


class CategoricalData(NamedTuple):
    """Prepared: S levels of all items together, rows last."""

    one_hot: Array  # (S, n), 0 throughout an item that is missing in a row
    pooled: Array  # (J, L) frequencies in the whole sample
    at_zero: Array  # () a probability below it is on the boundary
    prior: Any  # Dirichlet, concentration (J, L), or None
    fixed: Any  # CategoricalParams, or None


@register
@dataclass(frozen=True)
class Categorical(FamilyDefaults):
    """Family of J categorical items, independent given the component (local independence).

    levels : their number, 2 or more: one for all items, or one an item. Mixture(Categorical((2,) * 7), 3) is a latent
        class model of seven binary items (Lazarsfeld & Henry 1968; EM: Goodman 1974, Biometrika 61, 215-231).
    Data: y (n, J), or (n,) for one item, with values 0, 1, ..., levels - 1. A missing cell is NaN, or False in
    `Data.observed` (n, J); what it would have said is left out of the likelihood (missing at random).

    prior : Dirichlet(concentration), a number or (J, L), on the probabilities of every item in every component.
    A probability of 0 or 1 is ordinary: flag BOUNDARY. Nothing collapses, so DEGENERATE only by a given
    `Degeneracy(min_rows=...)`; SUSPECT by rows. With more free parameters than distinct rows could identify (J binary
    items have 2^J - 1 cells) the fit is one of many; the certificate then shows an eigenvalue of 0.
    """

    levels: int | tuple[int, ...] = 2
    blocks: ClassVar[Any] = CategoricalParams

    def __post_init__(self) -> None:
        given = self.levels
        each = (given,) if isinstance(given, numbers.Integral) else given
        try:
            each = tuple(each)  # type: ignore[arg-type]
        except TypeError:
            each = ()
        whole = all(isinstance(v, numbers.Integral) and not isinstance(v, bool) for v in each)
        if not each or not whole or min(each) < 2:
            raise DataError(f"Categorical(levels={given!r}): give a whole number, 2 or larger, or one for each item.")
        each = tuple(int(v) for v in each)
        object.__setattr__(self, "levels", each[0] if isinstance(given, numbers.Integral) else each)

    @property
    def missing(self) -> bool:
        """NaN is a missing cell."""
        return True

    @property
    def n_columns(self) -> int | None:
        """Columns of y where the levels say it."""
        return len(self.levels) if isinstance(self.levels, tuple) else None

    def _layout(self, n_items: int) -> Levels:
        return Levels(self.levels if isinstance(self.levels, tuple) else (self.levels,) * n_items)

    def check(self, data: Data) -> None:
        """y must have a column an item; covariates have no place here."""
        shape = np.shape(data.y)
        if len(shape) not in (1, 2) or (len(shape) == 2 and shape[1] == 0):
            raise DataError(f"Categorical needs y of shape (n,) or (n, J), not {shape}.")
        n_items = 1 if len(shape) == 1 else shape[1]
        if self.n_columns not in (None, n_items):
            raise DataError(f"Categorical(levels={self.levels!r}) has {self.n_columns} items but y has {n_items}.")
        self.refuse_unused(data)

    def check_params(self, params: CategoricalParams) -> None:
        """Values that are not probabilities raise `DataError`; None passes."""
        if params.probabilities is None:
            return
        given = np.asarray(params.probabilities, np.float64)
        if given.ndim < 3 or not np.all(np.isfinite(given) & (given >= 0)):
            raise DataError("probabilities must have shape (K, J, L) and be finite and not negative.")
        beyond = np.arange(given.shape[-1]) >= np.array(self._layout(given.shape[-2]).each)[:, None]
        if np.any(given[..., beyond] != 0):
            raise DataError("probabilities must be 0 beyond an item's number of levels.")
        if np.max(np.abs(np.sum(given, axis=-1) - 1.0)) > 1e-6:
            raise DataError("probabilities must sum to 1 over the levels of each item.")

    def culprit(self, data: Data, problem: Problem, first_column: int = 0) -> str:
        """The first unknown level, or item without a value."""
        y = np.asarray(data.y, np.float64)
        items = y.reshape(len(y), -1)
        seen = ~np.isnan(items) & places.used(data)[:, None]
        each = np.array(self._layout(items.shape[1]).each)
        found = []
        bad = seen & ~((items >= 0) & (items < each) & (items == np.round(items)))
        if problem & Problem.UNKNOWN_LEVEL and np.any(bad):
            levels = each[np.argwhere(bad)[0][1]]
            found.append(places.wrong(data, bad.reshape(y.shape), y, "y", first_column, f" of {levels} levels"))
        if problem & Problem.NOTHING_OBSERVED:
            found.append(places.columns(~np.any(seen, axis=0), "y", first_column))
        return "; ".join(filter(None, found))

    # --- once per dataset -------------------------------------------------------------------------------------------

    def prepare(self, data: Data, n_components: int, prior: Any, fixed: Any) -> tuple[CategoricalData, Array]:
        """Which level each row has of each item, as zeros and ones."""
        y = (data.y[:, None] if data.y.ndim == 1 else data.y).T
        n_items, dtype = y.shape[0], y.dtype
        layout = self._layout(n_items)
        weight = jnp.asarray(data.weight, dtype)
        seen = ~jnp.isnan(y) & (weight > 0)[None, :]
        y = jnp.where(seen, y, -1.0)
        each = jnp.array(layout.each, dtype)[:, None]
        unknown = seen & ~((y >= 0) & (y < each) & (y == jnp.round(y)))
        problem = jnp.where(jnp.any(unknown), Problem.UNKNOWN_LEVEL, 0)
        nothing = ~jnp.any(seen, axis=1)
        problem |= jnp.where(jnp.any(nothing), Problem.NOTHING_OBSERVED, 0)
        one_hot = (y[layout.items] == jnp.array(layout.levels, dtype)[:, None]).astype(dtype)
        pooled = shares(layout.spread(jnp.sum(one_hot * weight[None, :], axis=1)))
        at_zero = jnp.clip(COUNT_AT_ZERO / design.total_weight(weight), AT_ZERO, 1e-6)
        if prior is not None:
            concentration = jnp.asarray(prior.concentration, dtype)
            prior = Dirichlet(jnp.broadcast_to(concentration, (n_items, max(layout.each))))
        if fixed is not None:
            fixed = CategoricalParams(jnp.asarray(fixed.probabilities, dtype))
        return CategoricalData(one_hot, pooled, at_zero, prior, fixed), jnp.int32(problem)

    # --- the EM step ------------------------------------------------------------------------------------------------

    def log_prob(self, params: CategoricalParams, prepared: CategoricalData) -> Array:
        """(K, n), nats; -infinity where a row has a level of probability 0."""
        # Normalised here: float32 probabilities cast to float64 sum to 1 + 1e-8.
        total = jnp.sum(params.probabilities, axis=-1, keepdims=True)
        layout = self._layout(total.shape[1])
        logs = jnp.maximum(numerics.log_probability(layout.gather(params.probabilities / total)), LOW)
        sums = numerics.multiply(logs, prepared.one_hot)
        return jnp.where(sums > 0.5 * LOW, sums, -jnp.inf)

    def statistics(self, params: CategoricalParams, prepared: CategoricalData, resp: Array) -> CategoricalStatistics:
        """Expected counts."""
        return CategoricalStatistics(numerics.multiply(resp, prepared.one_hot.T), jnp.sum(resp, axis=1))

    def maximize(
        self, statistics: CategoricalStatistics, params: CategoricalParams, prepared: CategoricalData
    ) -> CategoricalParams:
        """Shares of the expected counts, a Dirichlet prior's pseudo-counts added; as they were where there are none."""
        if prepared.fixed is not None:
            return prepared.fixed
        layout, counts = self._layout(params.probabilities.shape[1]), statistics.counts
        if prepared.prior is not None:
            counts = counts + layout.gather(prepared.prior.concentration - 1.0)[None, :]
        counts = layout.spread(counts)
        total = jnp.sum(counts, axis=-1, keepdims=True)
        some = total > 0
        return CategoricalParams(jnp.where(some, counts / jnp.where(some, total, 1.0), params.probabilities))

    def initial(self, prepared: CategoricalData, resp: Array, spread: Array) -> CategoricalParams:
        """Frequencies at `resp`, drawn towards those of the whole sample."""
        if prepared.fixed is not None:
            return prepared.fixed
        counts = self._layout(prepared.pooled.shape[0]).spread(numerics.multiply(resp, prepared.one_hot.T))
        pooled = jnp.broadcast_to(prepared.pooled[None], counts.shape)
        own = jnp.where(jnp.sum(counts, axis=-1, keepdims=True) > 0, shares(counts), pooled)
        return CategoricalParams((1.0 - POOLED) * own + POOLED * pooled)

    def elemental(self, prepared: CategoricalData) -> int:
        """One row is a centre."""
        return 1

    # --- what the engine watches ------------------------------------------------------------------------------------

    def log_prior(self, params: CategoricalParams, prepared: CategoricalData) -> Array:
        """Dirichlet log density of every item's probabilities in every component, nats."""
        prior, p = prepared.prior, params.probabilities
        if prior is None:
            return jnp.zeros((), p.dtype)
        layout = self._layout(p.shape[1])
        concentration = layout.gather(prior.concentration)
        extra = concentration[None, :] - 1.0
        powers = jnp.where(extra == 0, 0.0, extra * numerics.log_probability(layout.gather(p)))
        total = jnp.sum(layout.spread(concentration), axis=-1)
        constant = jnp.sum(jax.lax.lgamma(total)) - jnp.sum(jax.lax.lgamma(concentration))
        return jnp.sum(powers) + p.shape[0] * constant

    def flags(
        self,
        params: CategoricalParams,
        statistics: CategoricalStatistics,
        prepared: CategoricalData,
        degeneracy: Degeneracy,
    ) -> Array:
        """BOUNDARY where a probability is at 0; SUSPECT by rows; DEGENERATE where fewer than a given `min_rows`."""
        n_components, n_items, _ = params.probabilities.shape
        at_zero = jnp.any(self._layout(n_items).gather(params.probabilities) < prepared.at_zero) & (
            prepared.fixed is None
        )
        bits = jnp.where(at_zero, Flag.BOUNDARY, 0)
        if n_components > 1:
            fewest = jnp.min(statistics.total)
            size = prepared.one_hot.shape[0] - n_items
            bits |= jnp.where(fewest < degeneracy.suspect_rows * size, Flag.SUSPECT, 0)
            if degeneracy.min_rows is not None:
                bits |= jnp.where(fewest < degeneracy.min_rows, Flag.DEGENERATE, 0)
        return jnp.int32(bits)

    def boundary(self, params: CategoricalParams, prepared: CategoricalData) -> Array:
        """1 where a level's probability is at 0.

        Where that is the item's last level, the baseline, every ratio against it is infinite, and only the ratios of
        the others among themselves are identified: the largest of them is held fixed (2).
        """
        if prepared.fixed is not None:
            return jnp.zeros(0, jnp.int32)
        p = params.probabilities
        layout = self._layout(p.shape[1])
        items, levels = layout.ratios
        others, base = p[:, items, levels], p[:, items, layout.last[items]]
        largest = jnp.argmax(p, axis=-1)[:, items] == levels[None, :]
        codes = jnp.where(others < prepared.at_zero, 1, jnp.where((base < prepared.at_zero) & largest, 2, 0))
        return codes.reshape(-1).astype(jnp.int32)

    def relabel(self, params: CategoricalParams, permutation: Array) -> CategoricalParams:
        """Component k of the result is component permutation[k] of `params`."""
        return CategoricalParams(params.probabilities[permutation])

    # --- coordinates and units --------------------------------------------------------------------------------------

    def component_of_free(self, prepared: CategoricalData, n_components: int) -> tuple[int, ...]:
        """Component by component, item by item."""
        if prepared.fixed is not None:
            return ()
        size = prepared.one_hot.shape[0] - prepared.pooled.shape[0]
        return tuple(k for k in range(n_components) for _ in range(size))

    def n_free(self, prepared: CategoricalData, n_components: int) -> int:
        """K times the sum over items of levels less 1."""
        return len(self.component_of_free(prepared, n_components))

    def to_free(self, params: CategoricalParams, prepared: CategoricalData) -> Array:
        """Log-ratios against the last level of each item; a probability of 0 counts as the smallest number."""
        p = params.probabilities
        if prepared.fixed is not None:
            return jnp.zeros(0, p.dtype)
        layout = self._layout(p.shape[1])
        items, levels = layout.ratios
        logs = jnp.log(jnp.maximum(p, jnp.finfo(p.dtype).tiny))
        return (logs[:, items, levels] - logs[:, items, layout.last[items]]).reshape(-1)

    def from_free(self, free: Array, prepared: CategoricalData, n_components: int) -> CategoricalParams:
        """The inverse of `to_free`."""
        if prepared.fixed is not None:
            return prepared.fixed
        n_items, room = prepared.pooled.shape
        layout = self._layout(n_items)
        blank = np.full((n_components, n_items, room), -np.inf)
        blank[:, np.arange(n_items), layout.last] = 0.0
        items, levels = layout.ratios
        logits = jnp.asarray(blank, free.dtype).at[:, items, levels].set(free.reshape(n_components, -1))
        return CategoricalParams(jax.nn.softmax(logits, axis=-1))

    def to_user(self, params: CategoricalParams, prepared: CategoricalData) -> CategoricalParams:
        """The same: probabilities have no units."""
        return params

    def from_user(self, params: CategoricalParams, prepared: CategoricalData) -> CategoricalParams:
        """Probabilities that sum to one."""
        return CategoricalParams(params.probabilities / jnp.sum(params.probabilities, axis=-1, keepdims=True))

    def sample(self, key: Array, params: CategoricalParams, data: Data, labels: Array) -> Array:
        """y (n, J), or (n,) for one item where `data.y` is, given the component of each row."""
        logs = jnp.log(params.probabilities)[labels]
        y = jax.random.categorical(key, logs, axis=-1).astype(params.probabilities.dtype)
        return y[:, 0] if y.shape[1] == 1 and jnp.ndim(data.y) == 1 else y

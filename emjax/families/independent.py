"""Several responses of different kinds, independent given the component."""

from __future__ import annotations

import numbers
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from emjax.base import places
from emjax.base.family_defaults import FamilyDefaults, refuse
from emjax.base.protocols import Family
from emjax.base.records import Array, Data
from emjax.base.registry import register
from emjax.base.settings import Degeneracy
from emjax.base.status import DataError, Problem


@register
class IndependentParams(NamedTuple):
    """members: the parameters of each family, in their order."""

    members: tuple[Any, ...]


class IndependentData(NamedTuple):
    """Each member's prepared data; `fixed` is None where nothing is."""

    members: tuple[Any, ...]
    fixed: Any


@dataclass(frozen=True)
class Blocks:
    """Names of the members' blocks side by side, "0.means"; called as a record's class is, it gives their values."""

    _fields: tuple[str, ...]

    def __call__(self, *values: Any) -> tuple[Any, ...]:
        return values


@register
@dataclass(frozen=True)
class Independent(FamilyDefaults):
    """Several families at once: p(y | component) = prod_i p_i(y_i | component), y_i the columns of family i.

    families : such as (Gaussian("diagonal"), Categorical((2, 3)), LinearRegression()).
    columns : how many columns of y each family has, side by side; None gives one to each, and to those whose settings
        say it (Categorical with a tuple of levels) as many as they have.
    Data: y (n, d), d the sum of `columns`. x, offset and trials go to the families that use them.

    With a mixture, a latent class model of mixed items; with a hidden Markov model, several channels. A missing cell
    (NaN) of a family that allows it leaves the other families' cells of its row as they are.

    fixed : blocks by the family's position, {"0.means": ...}. prior : likewise, {"0": NormalInverseWishart()}.
    """

    families: Sequence[Family]
    columns: Sequence[int] | None = None

    def __post_init__(self) -> None:
        families = self.families
        if isinstance(families, (str, bytes)) or not isinstance(families, Sequence) or len(families) == 0:
            raise DataError(f"Independent({families!r}): give a list of families.")
        for family in families:
            if isinstance(family, type) or not isinstance(family, Family):
                raise DataError(f"Independent: {family!r} is not a family: try Gaussian() or Categorical(2).")
        columns = self.columns
        if columns is None:
            columns = tuple(getattr(family, "n_columns", None) or 1 for family in families)
        whole = isinstance(columns, Sequence) and all(
            isinstance(v, numbers.Integral) and not isinstance(v, bool) and int(v) >= 1 for v in columns
        )
        if not whole or len(columns) != len(families):
            raise DataError(
                f"Independent(columns={self.columns!r}): give the number of columns of y of each of the "
                f"{len(families)} families, 1 or more."
            )
        object.__setattr__(self, "families", tuple(families))
        object.__setattr__(self, "columns", tuple(int(v) for v in columns))

    # --- what the members say together ------------------------------------------------------------------------------

    @property
    def monotone(self) -> bool:
        """Where every member is."""
        return all(family.monotone for family in self.families)

    @property
    def missing(self) -> bool:
        """Where some member allows it; the others' NaN are errors still."""
        return any(family.missing for family in self.families)

    @property
    def continuous(self) -> bool:  # type: ignore[override]
        """Where any member is."""
        return any(getattr(family, "continuous", False) for family in self.families)

    @property
    def extra(self) -> int:
        """As many as the member with the most: the others have parameters there too."""
        return max(family.extra for family in self.families)

    @property
    def uses(self) -> tuple[str, ...]:
        """What any member uses."""
        return tuple(sorted({name for family in self.families for name in family.uses}))

    @property
    def n_columns(self) -> int:
        """Columns of y."""
        return sum(self.columns)  # type: ignore[arg-type]

    @property
    def prior_names(self) -> tuple[str, ...]:
        """The members' positions."""
        return tuple(str(i) for i in range(len(self.families)))

    @property
    def blocks(self) -> Blocks:  # type: ignore[override]
        """The members' blocks, "0.means"."""
        return Blocks(tuple(f"{i}.{name}" for i, family in enumerate(self.families) for name in family.blocks._fields))

    def named(self, params: IndependentParams) -> dict[str, Any]:
        """The members' blocks, "0.means"."""
        pairs = enumerate(zip(self.families, params.members, strict=True))
        return {f"{i}.{name}": v for i, (family, part) in pairs for name, v in family.named(part).items()}

    def _blocks_of(self, given: Any) -> tuple[Any, ...]:
        """Values in the order of `blocks` as records of the members, None where nothing is given."""
        if isinstance(given, IndependentParams):
            return given.members
        parts, rest = [], list(given)
        for family in self.families:
            size = len(family.blocks._fields)
            own, rest = rest[:size], rest[size:]
            parts.append(family.blocks(*own))
        return tuple(parts)

    def _part(self, data: Data, i: int) -> Data:
        """The data of member i: its columns of y, and of the rest what it uses."""
        assert self.columns is not None
        first, count = sum(self.columns[:i]), self.columns[i]
        y = data.y[:, None] if np.ndim(data.y) == 1 else data.y
        y = y[:, first] if count == 1 else y[:, first : first + count]
        unused = {name: None for name in ("x", "offset", "trials") if name not in self.families[i].uses}
        return data._replace(y=y, **unused)

    def _each(self, call: Callable[..., Any], *parts: Any) -> list[Any]:
        """`call(family, ...)` for every member with its share of each of `parts`."""
        return [call(*of_member) for of_member in zip(self.families, *parts, strict=True)]

    # --- on the host ------------------------------------------------------------------------------------------------

    def check(self, data: Data) -> None:
        """y must have the columns of all members; what no member uses has no place here."""
        shape = np.shape(data.y)
        if shape[1:] != (self.n_columns,) and not (len(shape) == 1 and self.n_columns == 1):
            raise DataError(
                f"Independent needs y of shape (n, {self.n_columns}), not {shape}: columns={self.columns} says how "
                "many each family has."
            )
        refuse(data, self.unused, lambda name: f"No family of Independent has use for {name}: leave it out of Data.")
        for i, family in enumerate(self.families):
            try:
                family.check(self._part(data, i))
            except DataError as error:
                raise DataError(f"family {i} of Independent: {error}") from None

    def check_params(self, params: Any) -> None:
        """Each member's."""
        self._each(lambda family, part: family.check_params(part), self._blocks_of(params))

    def culprit(self, data: Data, problem: Problem, first_column: int = 0) -> str:
        """The place in the first member that is to blame: one that prepares its columns without a problem is not."""
        used = places.used(data)
        for i, (family, count) in enumerate(zip(self.families, self.columns, strict=True)):  # type: ignore[arg-type]
            part = self._part(data, i)
            rows = part._replace(z=None, weight=used.astype(np.float64), observed=used)
            found = family.prepare(jax.tree.map(jnp.asarray, rows), family.extra + 1, None, None)[1]
            own = Problem(int(found)) & problem
            part = part._replace(y=np.reshape(part.y, (-1, count)))
            place = family.culprit(part, own, first_column) or places.find(part, own, first_column)
            if own and place:
                return f"family {i}: {place}"
            first_column += count
        return ""

    # --- once per dataset -------------------------------------------------------------------------------------------

    def prepare(self, data: Data, n_components: int, prior: Any, fixed: Any) -> tuple[IndependentData, Array]:
        """Each member's own; a problem of one is a problem of the row."""
        held = (None,) * len(self.families) if fixed is None else self._blocks_of(fixed)
        held = [None if part is None or all(value is None for value in part) else part for part in held]
        priors = (None,) * len(self.families) if prior is None else prior
        found = [
            family.prepare(self._part(data, i), n_components, priors[i], held[i])
            for i, family in enumerate(self.families)
        ]
        members, problems = zip(*found, strict=True)
        is_fixed = None if all(part is None for part in held) else tuple(held)
        return IndependentData(members, is_fixed), jnp.int32(reduce(or_, problems))

    # --- the EM step ------------------------------------------------------------------------------------------------

    def log_prob(self, params: IndependentParams, prepared: IndependentData) -> Array:
        """(K, n), nats: the sum of the members'."""
        parts = self._each(lambda f, p, data: f.log_prob(p, data), params.members, prepared.members)
        return sum(parts[1:], parts[0])

    def statistics(self, params: IndependentParams, prepared: IndependentData, resp: Array) -> Any:
        """Each member's own."""
        return tuple(self._each(lambda f, p, data: f.statistics(p, data, resp), params.members, prepared.members))

    def maximize(self, statistics: Any, params: IndependentParams, prepared: IndependentData) -> IndependentParams:
        """Each member's own."""
        parts = statistics, params.members, prepared.members
        return IndependentParams(tuple(self._each(lambda f, s, p, data: f.maximize(s, p, data), *parts)))

    def initial(self, prepared: IndependentData, resp: Array, spread: Array) -> IndependentParams:
        """Each member's own."""
        return IndependentParams(tuple(self._each(lambda f, data: f.initial(data, resp, spread), prepared.members)))

    def elemental(self, prepared: IndependentData) -> int:
        """As many rows as the most demanding member needs."""
        return max(self._each(lambda f, data: f.elemental(data), prepared.members))

    # --- what the engine watches ------------------------------------------------------------------------------------

    def log_prior(self, params: IndependentParams, prepared: IndependentData) -> Array:
        """The sum of the members'."""
        parts = self._each(lambda f, p, data: f.log_prior(p, data), params.members, prepared.members)
        return sum(parts[1:], parts[0])

    def flags(
        self, params: IndependentParams, statistics: Any, prepared: IndependentData, degeneracy: Degeneracy
    ) -> Array:
        """What any member notices."""
        parts = params.members, statistics, prepared.members
        return jnp.int32(reduce(or_, self._each(lambda f, p, s, data: f.flags(p, s, data, degeneracy), *parts)))

    def relabel(self, params: IndependentParams, permutation: Array) -> IndependentParams:
        """Component k of the result is component permutation[k] of `params`."""
        return IndependentParams(tuple(self._each(lambda f, p: f.relabel(p, permutation), params.members)))

    def boundary(self, params: IndependentParams, prepared: IndependentData) -> Array:
        """The members' codes, one after the other."""
        return jnp.concatenate(self._each(lambda f, p, data: f.boundary(p, data), params.members, prepared.members))

    # --- coordinates and units --------------------------------------------------------------------------------------

    def component_of_free(self, prepared: IndependentData, n_components: int) -> tuple[int, ...]:
        """Member by member."""
        owners = self._each(lambda f, data: f.component_of_free(data, n_components), prepared.members)
        return tuple(owner for part in owners for owner in part)

    def n_free(self, prepared: IndependentData, n_components: int) -> int:
        """Number of free coordinates."""
        return sum(self._each(lambda f, data: f.n_free(data, n_components), prepared.members))

    def to_free(self, params: IndependentParams, prepared: IndependentData) -> Array:
        """Member by member."""
        return jnp.concatenate(self._each(lambda f, p, data: f.to_free(p, data), params.members, prepared.members))

    def from_free(self, free: Array, prepared: IndependentData, n_components: int) -> IndependentParams:
        """The inverse of `to_free`."""
        sizes = self._each(lambda f, data: f.n_free(data, n_components), prepared.members)
        shares = jnp.split(free, np.cumsum(sizes)[:-1])
        parts = self._each(lambda f, share, data: f.from_free(share, data, n_components), shares, prepared.members)
        return IndependentParams(tuple(parts))

    def to_user(self, params: IndependentParams, prepared: IndependentData) -> IndependentParams:
        """Parameters in the user's units."""
        parts = self._each(lambda f, p, data: f.to_user(p, data), params.members, prepared.members)
        return IndependentParams(tuple(parts))

    def from_user(self, params: IndependentParams, prepared: IndependentData) -> IndependentParams:
        """Parameters in prepared units."""
        parts = self._each(lambda f, p, data: f.from_user(p, data), params.members, prepared.members)
        return IndependentParams(tuple(parts))

    def sample(self, key: Array, params: IndependentParams, data: Data, labels: Array) -> Array:
        """y (n, d), or (n,) where there is one column and `data.y` has one axis, given the component of each row."""
        keys = jax.random.split(key, len(self.families))
        drawn = [
            family.sample(keys[i], params.members[i], self._part(data, i), labels).reshape(labels.shape[0], -1)
            for i, family in enumerate(self.families)
        ]
        y = jnp.concatenate(drawn, axis=1)
        return y[:, 0] if y.shape[1] == 1 and jnp.ndim(data.y) == 1 else y

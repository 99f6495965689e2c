"""What the rooms promise one another. All traced methods are pure, for ONE dataset and ONE parameter set."""

from __future__ import annotations

from typing import Any, ClassVar, Protocol, runtime_checkable

import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from emjax.base import units
from emjax.base.family_defaults import FamilyDefaults as FamilyDefaults
from emjax.base.latent_structure import Latent as Latent
from emjax.base.records import Array, Data, Expectation, Params, Terms
from emjax.base.settings import Degeneracy
from emjax.base.status import DataError, Flag, Problem


@runtime_checkable
class Family(Protocol):
    """p(y | x, component k) for all K components at once.

    `prepared` is what `prepare` returned: finite everywhere, centred and scaled. `params` are in prepared units except
    where a method says otherwise. `resp` are weighted responsibilities, (K, n).

    blocks : the NamedTuple class of the parameters, whose field names `fixed=` uses. monotone : as in `Model`.
    """

    blocks: ClassVar[Any]

    @property
    def monotone(self) -> bool:
        """False where the M-step may lower the objective; the engine then guards it."""
        ...

    @property
    def extra(self) -> int:
        """How many components at the end keep their places where labels are exchanged."""
        ...

    @property
    def missing(self) -> bool:
        """Whether NaN in y is a missing cell, not an error."""
        ...

    @property
    def uses(self) -> tuple[str, ...]:
        """Fields of `Data` beside y that the log density depends on: of "x", "offset", "trials"."""
        ...

    @property
    def prior_names(self) -> tuple[str, ...]:
        """What `prior=` may name: ("family",), or a name for each of several priors, which then come as a tuple."""
        ...

    def named(self, params: Params) -> dict[str, Any]:
        """The blocks of the parameters by the names that `fixed=` uses."""
        ...

    def culprit(self, data: Data, problem: Problem, first_column: int = 0) -> str:
        """On the host: where the first fault behind `problem` is, or an empty string where `places.find` will do.

        `data` are as `Model.read` gives them; first_column : as in `places.find`.
        """
        ...

    def prepare(self, data: Data, n_components: int, prior: Any, fixed: Any) -> tuple[Any, Array]:
        """Once per dataset, traced: the prepared record, which has a field `fixed`, and `Problem` bits.

        `data.weight` has one entry a row; `data.observed`, where given, one a row too, and missing cells of y are NaN.
        """
        ...

    def initial(self, prepared: Any, resp: Array, spread: Array) -> Params:
        """Closed-form locations at `resp`; one pooled scale from the residuals weighted by `spread` (K, n)."""
        ...

    def elemental(self, prepared: Any) -> int:
        """Rows that a random elemental subset needs for one component."""
        ...

    def log_prob(self, params: Params, prepared: Any) -> Array:
        """Log density of every row under every component, (K, n), nats, in the user's units."""
        ...

    def statistics(self, params: Params, prepared: Any, resp: Array) -> Any:
        """Expected sufficient statistics at the current parameters, additive over rows."""
        ...

    def maximize(self, statistics: Any, params: Params, prepared: Any) -> Params:
        """The M-step; no pass over rows."""
        ...

    def log_prior(self, params: Params, prepared: Any) -> Array:
        """Log prior density in the natural parameters and user's units, nats; 0 without a prior."""
        ...

    def flags(self, params: Params, statistics: Any, prepared: Any, degeneracy: Degeneracy) -> Array:
        """`Flag` bits, int32."""
        ...

    def relabel(self, params: Params, permutation: Array) -> Params:
        """Component k of the result is component permutation[k] of `params`."""
        ...

    def n_free(self, prepared: Any, n_components: int) -> int:
        """Number of free coordinates: shared values once, fixed ones not at all."""
        ...

    def to_free(self, params: Params, prepared: Any) -> Array:
        """Unconstrained coordinates, (m,)."""
        ...

    def from_free(self, free: Array, prepared: Any, n_components: int) -> Params:
        """The inverse of `to_free`."""
        ...

    def to_user(self, params: Params, prepared: Any) -> Params:
        """Parameters in the user's units."""
        ...

    def from_user(self, params: Params, prepared: Any) -> Params:
        """Parameters in prepared units."""
        ...

    def boundary(self, params: Params, prepared: Any) -> Array:
        """As `Model.boundary`, for the coordinates of the family."""
        ...

    def component_of_free(self, prepared: Any, n_components: int) -> tuple[int, ...]:
        """For each free coordinate the component it belongs to, -1 where it is shared."""
        ...

    def sample(self, key: Array, params: Params, data: Data, labels: Array) -> Array:
        """Responses in the user's units drawn from user's parameters, given the component of each row."""
        ...

    def check(self, data: Data) -> None:
        """On the host, before anything is traced: shapes and settings that disagree raise `DataError`."""
        ...

    def check_params(self, params: Params) -> None:
        """On the host: values outside the parameter space raise `DataError`; blocks may be None."""
        ...


class Model(Protocol):
    """What the engine runs. A model of one's own subclasses this and gives `expect`, `maximize` and `start`.

    monotone : False where an M-step may lower the objective (Newton or optax steps); the engine then guards it.
    missing : True where NaN in y is a missing cell, not an error.
    sequential : True where a unit is a sequence of rows: without `Data.unit` a dataset is one unit, NaN in y is a
    missing row, and information criteria count observed rows, not units. row_blocks : blocks of the parameters, a
    NamedTuple, that have one entry a row of the data; in lanes they are padded as the data are, `from_user` takes any
    number of rows, and `n_free(prepared)` counts no padding.
    """

    monotone: ClassVar[bool] = True
    missing: ClassVar[bool] = False
    sequential: ClassVar[bool] = False
    row_blocks: ClassVar[tuple[str, ...]] = ()

    def expect(self, params: Params, prepared: Any) -> Expectation:
        """The E-step: the log-likelihood of `params` in nats, and expected sufficient statistics."""
        ...

    def maximize(self, statistics: Any, params: Params, prepared: Any) -> Params:
        """The M-step."""
        ...

    def start(self, key: Array, prepared: Any, strategy: str) -> Params:
        """Parameters to start from, by the named strategy; unused where a model offers `initial`."""
        raise TypeError(f"{type(self).__name__} has no start; give it one, or pass start=parameters.")

    @property
    def strategies(self) -> tuple[str, ...]:
        """Start strategies, through which the restarts of a dataset rotate by default."""
        return ("random",)

    @property
    def extrapolates(self) -> bool:
        """Whether `acceleration="auto"` extrapolates the steps of slow restarts.

        Where free coordinates are the model's own: parameters as they are may be led outside their space.
        """
        return type(self).to_free is not Model.to_free

    def prepare(self, data: Data, prior: Any = None, fixed: Any = None) -> tuple[Any, Array]:
        """Once per dataset, traced: what the other methods get as `prepared`, and `Problem` bits."""
        return data, jnp.int32(Problem.NONE)

    def log_prior(self, params: Params, prepared: Any) -> Array:
        """Log prior density, nats; 0 without a prior."""
        return jnp.zeros(())

    def objective(self, params: Params, prepared: Any, log_likelihood: Array) -> Array:
        """What EM climbs, nats: the log-likelihood plus the log prior, unless the model says otherwise (tempering)."""
        return log_likelihood + jnp.asarray(self.log_prior(params, prepared), log_likelihood.dtype)

    def flags(self, params: Params, statistics: Any, prepared: Any, degeneracy: Degeneracy) -> Array:
        """`Flag` bits, int32."""
        return jnp.int32(Flag.NONE)

    def terms(self, params: Params, prepared: Any) -> Terms:
        """The log-likelihood term by term, for standard errors that rest on the scores of independent units."""
        name = type(self).__name__
        raise DataError(f"{name} has no terms, of which scores are made: give it terms(), or ask for kind='observed'.")

    def order(self, params: Params, prepared: Any) -> Array | None:
        """The permutation of the labels that suits `to_free` near a boundary; None where there are no labels."""
        return None

    def relabel(self, params: Params, permutation: Array) -> Params:
        """Component k of the result is component permutation[k] of `params`."""
        raise TypeError(f"{type(self).__name__} has no labels.")

    def canonical(self, params: Params, prepared: Any) -> Params:
        """Parameters of the same objective, in the form that suits `to_free` near a boundary."""
        order = self.order(params, prepared)
        return params if order is None else self.relabel(params, order)

    def boundary(self, params: Params, prepared: Any) -> Array:
        """Which free coordinates the certificate holds fixed, (m,) int32.

        0 interior; 1 at the edge, its end at minus infinity (the sign of its score is checked); 2 not identified there.
        """
        return jnp.zeros(self.to_free(params, prepared).shape, jnp.int32)

    def to_free(self, params: Params, prepared: Any) -> Array:
        """Unconstrained, identified coordinates, (m,): m is the number of free parameters.

        The default ravels `params`, which is right where every entry may take any real value.
        """
        return ravel_pytree(params)[0]

    def from_free(self, free: Array, prepared: Any, like: Params) -> Params:
        """The inverse of `to_free`; `like` gives the shapes."""
        return ravel_pytree(like)[1](free)

    def to_user(self, params: Params, prepared: Any) -> Params:
        """Parameters in the user's units."""
        return params

    def from_user(self, params: Params, prepared: Any) -> Params:
        """Parameters in prepared units."""
        return params

    def predict(self, params: Params, prepared: Any) -> Any:
        """Predictions for the rows of a prepared dataset."""
        raise TypeError(f"{type(self).__name__} has no predict.")

    def check(self, data: Data) -> None:
        """On the host, before anything is traced: shapes and settings that disagree raise `DataError`."""

    def read(self, data: Data) -> Data:
        """On the host: data as the likelihood reads them, what it does not read being NaN in y or not `observed`."""
        return units.missing_unobserved(data) if self.sequential else units.masked(data)

    def culprit(self, data: Data, problem: Problem) -> str:
        """On the host: where the first fault behind `problem` is in what `read` gives, or an empty string."""
        return ""

    def check_settings(self, prior: Any, fixed: Any, params: Params) -> None:
        """On the host: impossible priors, fixed blocks and given starts (leading dataset axis) raise `DataError`."""

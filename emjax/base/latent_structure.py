"""What a latent structure promises. All traced methods are pure, for ONE dataset and ONE parameter set."""

from __future__ import annotations

from typing import Any, ClassVar, Protocol, runtime_checkable

from emjax.base.records import Array, Data, Params, Posterior, Terms


@runtime_checkable
class Latent(Protocol):
    """The structure over components. `log_prob` (K, n) and responsibilities (K, n) are those of the rows.

    Starts are made of nodes, U of them, the pieces that may each be given to a component: units in a mixture, rows in
    a Markov chain.

    blocks : the NamedTuple class of the parameters, whose field names `fixed=` uses. prior_names : what `prior=` may
    name. monotone : as in `Model`.
    """

    blocks: ClassVar[Any]
    prior_names: ClassVar[tuple[str, ...]]

    @property
    def monotone(self) -> bool:
        """False where the M-step may lower the objective."""
        ...

    def check(self, data: Data) -> None:
        """On the host, before anything is traced: shapes and settings that disagree raise `DataError`."""
        ...

    def check_params(self, params: Params, exact: float = 1e-6) -> None:
        """On the host: values outside the parameter space raise `DataError`; blocks may be None."""
        ...

    def prepare(self, data: Data, n_components: int, prior: dict[str, Any], fixed: Any) -> tuple[Any, Array]:
        """The prepared record, which has a field `fixed`, and `Problem` bits. prior : by name, of `prior_names`."""
        ...

    def infer(self, params: Params, log_prob: Array, prepared: Any) -> Posterior:
        """Log-likelihood (weighted), responsibilities (K, n) times the units' weights, expected statistics."""
        ...

    def terms(self, params: Params, log_prob: Array, prepared: Any) -> Terms:
        """The log-likelihood, term by term."""
        ...

    def probabilities(self, params: Params, log_prob: Array, prepared: Any) -> Array:
        """Posterior probabilities of the components of each row, (K, n)."""
        ...

    def decode(self, params: Params, log_prob: Array, prepared: Any) -> Array:
        """Most probable component of each row, or path, (n,)."""
        ...

    def maximize(self, statistics: Any, params: Params, prepared: Any) -> Params:
        """The M-step."""
        ...

    def node_weight(self, prepared: Any) -> Array:
        """Weight of each node, (U,), bool or floating."""
        ...

    def gather(self, log_prob: Array, prepared: Any) -> Array:
        """Log densities of the rows, (K, n), as those of the nodes, (K, U)."""
        ...

    def spread(self, resp: Array, prepared: Any) -> Array:
        """Responsibilities of the nodes, (K, U), as those of the rows, (K, n)."""
        ...

    def initial(self, prepared: Any, resp: Array) -> Params:
        """Parameters at weighted responsibilities of the nodes, (K, U)."""
        ...

    def log_prior(self, params: Params, prepared: Any) -> Array:
        """Log prior density in the natural parameters, nats; 0 without a prior."""
        ...

    def flags(self, params: Params, statistics: Any, prepared: Any) -> Array:
        """`Flag` bits, int32; `statistics` are those of `infer` at these parameters."""
        ...

    def relabel(self, params: Params, permutation: Array) -> Params:
        """Component k of the result is component permutation[k] of `params`."""
        ...

    def order(self, params: Params, prepared: Any) -> Array:
        """The permutation of the labels that suits `to_free` near a boundary, (K,)."""
        ...

    def empty(self, params: Params, prepared: Any) -> Array:
        """Components that have died out, (K,) bool."""
        ...

    def boundary(self, params: Params, prepared: Any) -> Array:
        """As `Model.boundary`, for the coordinates of the latent structure."""
        ...

    def to_user(self, params: Params, prepared: Any) -> Params:
        """Parameters in the user's units."""
        ...

    def from_user(self, params: Params, prepared: Any) -> Params:
        """Parameters in prepared units that satisfy their constraints exactly."""
        ...

    def n_free(self, prepared: Any, n_components: int) -> int:
        """Number of free coordinates."""
        ...

    def to_free(self, params: Params, prepared: Any) -> Array:
        """Unconstrained coordinates."""
        ...

    def from_free(self, free: Array, prepared: Any, n_components: int) -> Params:
        """The inverse of `to_free`."""
        ...

    def sample(self, key: Array, params: Params, data: Data) -> Array:
        """The component of each row, (n,), drawn with user's parameters."""
        ...

"""Array records: the data of one dataset and what the E-step returns."""

from __future__ import annotations

from typing import Any, NamedTuple

from emjax.base.registry import register

Array = Any  # a jax or a NumPy array: the same code takes both
Params = Any  # a pytree of arrays, one record a model


@register
class Data(NamedTuple):
    """One dataset, rows flat; with a leading axis `D`, many of them.

    Fields (`n` rows, `U` units, `d` response dimension, `p` covariates):

    y : (n,) or (n, d). The response.
    x : (n, p). Covariates, without the column of ones.
    z : (n, c). Covariates of the latent structure (gating); refused by models without one.
    offset : (n,). Added to the linear predictor with coefficient 1.
    trials : (n,). Binomial trials; refused by other families.
    unit : (n,). Sorted, contiguous ids of the independent pieces of the likelihood; a row each by default.
    observed : (n,) bool. False where a row is missing; it then adds nothing to its unit's likelihood. Or as y, (n, d),
        False where a cell is missing, for the families that allow it; they take NaN in y for the same.
    weight : (U,). One entry a unit: the log-likelihood is sum_u weight_u log p(y_u). Booleans mean 0 and 1.
    """

    y: Array
    x: Array | None = None
    z: Array | None = None
    offset: Array | None = None
    trials: Array | None = None
    unit: Array | None = None
    observed: Array | None = None
    weight: Array | None = None


class Expectation(NamedTuple):
    """What one E-step gives: the log-likelihood in nats and the expected sufficient statistics."""

    log_likelihood: Array
    statistics: Any


class Posterior(NamedTuple):
    """The latent structure given the data: log-likelihood, weighted responsibilities (K, U), its own statistics."""

    log_likelihood: Array
    responsibilities: Array
    statistics: Any


class Prediction(NamedTuple):
    """Posterior probabilities of the components, (n, K), and the most probable component of each row, (n,)."""

    responsibilities: Array
    labels: Array

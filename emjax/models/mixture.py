"""Finite mixtures over any family."""

from __future__ import annotations

from dataclasses import dataclass

from emjax.base.protocols import Latent
from emjax.base.registry import register
from emjax.latent.mixing_weights import MixingWeights
from emjax.models.composed import Composed


@register
@dataclass(frozen=True)
class Mixture(Composed):
    """p(y) = sum_k weights_k p(y | component k), all rows of a unit sharing their component.

    family : LinearRegression(), Gaussian(), ...; n_components : K >= 1.
    latent : MixingWeights(), constant weights, or GatedWeights(), weights that depend on Data.z.
    prior : {"weights": Dirichlet(...), "family": the family's conjugate prior}, either or both.
    fixed : {"weights": (K,) or "gating": (K, 1 + c), and the family's blocks by name}, in the user's units.
    """

    latent: Latent = MixingWeights()  # type: ignore[assignment]

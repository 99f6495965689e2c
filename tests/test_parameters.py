"""Names of parameters, which of them belong to components, how a summary prints them, and how they are relabelled."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import pytest

import emjax
from emjax import DataError, GatedWeights, GatingParams, Gaussian, GaussianParams, Mixture, MixtureParams, WeightsParams
from emjax.engine import parameters, summaries
from emjax.inference import permute


class Chain(NamedTuple):
    weights: Any
    transitions: Any  # (K, K): both axes are components'


class Shared(NamedTuple):
    means: Any  # (K,)
    slopes: Any  # (K,), one for each of K covariates, the same in all components
    scale: Any  # ()


class Channels(NamedTuple):
    parts: tuple[Any, ...]


class Own(emjax.Model):
    """A model with shared parameters whose shape alone would not tell, and a matrix with two axes of components."""

    n_components = 3

    def relabel(self, params: Any, permutation: Any) -> Any:
        latent, family = params
        latent = Chain(latent.weights[permutation], jnp.asarray(latent.transitions)[permutation][:, permutation])
        return MixtureParams(latent, family._replace(means=family.means[permutation]))


class Bare(emjax.Model):
    """Without components."""


def own_params(n_datasets: int) -> MixtureParams:
    rng = np.random.default_rng(0)
    of = lambda *shape: rng.normal(size=(n_datasets, *shape))  # noqa: E731
    return MixtureParams(Chain(of(3), of(3, 3)), Shared(of(3), of(3), of()))


def test_shared_parameters_are_told_from_those_of_components() -> None:
    found = parameters.blocks(Own(), own_params(4), leading=1)
    assert [(block.name, block.of_components) for block in found] == [
        ("weights", True), ("transitions", True), ("means", True), ("slopes", False), ("scale", False),
    ]  # fmt: skip
    assert [len(parameters.entries(block, 1)) for block in found] == [1, 3, 1, 3, 1]
    gated = MixtureParams(GatingParams(np.zeros((2, 3))), GaussianParams(np.zeros((2, 1)), np.ones((2, 1, 1))))
    model = Mixture(Gaussian(), 2, GatedWeights())
    assert all(block.of_components for block in parameters.blocks(model, gated))


def test_names_tell_fields_of_one_name_apart() -> None:
    class Two(NamedTuple):
        first: Shared
        second: Shared

    part = Shared(np.zeros(3), np.zeros(3), np.zeros(()))
    found = [block.name for block in parameters.blocks(Bare(), Two(part, part))]
    assert found == [f"{a}.{b}" for a in ("first", "second") for b in Shared._fields]
    found = [block.name for block in parameters.blocks(Bare(), MixtureParams(part, Chain(part.means, part.slopes)))]
    assert found == ["means", "slopes", "scale", "weights", "transitions"]
    found = [block.name for block in parameters.blocks(Bare(), MixtureParams(part, part._replace()))]
    assert found == [f"{a}.{b}" for a in MixtureParams._fields for b in Shared._fields]
    channels = MixtureParams(WeightsParams(np.ones(1)), Channels((part, part)))
    found = [block.name for block in parameters.blocks(Bare(), channels)]
    assert found[:2] == ["weights", "parts[0].means"] and len(set(found)) == len(found)


def test_a_summary_has_a_column_a_component_and_a_line_an_entry() -> None:
    params = MixtureParams(
        WeightsParams(np.array([0.25, 0.75])), GaussianParams(np.array([[1.5, 2.0], [-3.0, 1e7]]), np.ones((2, 2, 2)))
    )
    lines = summaries._parameters(Mixture(Gaussian(), 2), params)
    cells = [line.split() for line in lines]
    assert cells[0] == ["component", "0", "1"]
    assert cells[1] == ["weights", "0.25", "0.75"]
    assert cells[2:4] == [["means[0]", "1.5", "-3"], ["means[1]", "2", "1e+07"]]
    assert [row[:2] for row in cells[4:]] == [["covariances[0,", "0]"], ["covariances[0,", "1]"],
                                              ["covariances[1,", "0]"], ["covariances[1,", "1]"]]  # fmt: skip
    assert len({len(line) for line in lines}) == 1  # aligned


def test_a_summary_prints_shared_and_large_blocks_as_arrays() -> None:
    one = MixtureParams(Chain(*(a[0] for a in own_params(1).latent)), Shared(*(a[0] for a in own_params(1).family)))
    lines = summaries._parameters(Own(), one)
    assert [line for line in lines if line.endswith(":")] == ["slopes:", "scale:"]
    large = MixtureParams(WeightsParams(np.ones(1)), GaussianParams(np.zeros((1, 9)), np.zeros((1, 9, 9))))
    lines = summaries._parameters(Mixture(Gaussian(), 1), large)
    assert [line for line in lines if line.endswith(":")] == ["covariances:"]


def test_permuting_with_the_model_knows_what_is_shared_and_what_has_two_axes() -> None:
    params = own_params(4)
    order = np.array([[0, 1, 2], [2, 0, 1], [1, 0, 2], [2, 1, 0]])
    moved = permute(params, order, Own())
    for d in range(4):
        for k in range(3):
            assert moved.family.means[d, k] == params.family.means[d, order[d, k]]
            for m in range(3):
                wanted = params.latent.transitions[d, order[d, k], order[d, m]]
                assert moved.latent.transitions[d, k, m] == wanted
    assert np.array_equal(moved.family.slopes, params.family.slopes)
    assert np.array_equal(moved.family.scale, params.family.scale)
    assert all(leaf.dtype == np.float64 for leaf in (moved.latent.transitions, moved.family.means))
    with pytest.raises(DataError, match=r"a parameter has shape \[\(4, 3\)\]"):
        permute(params, order[:2], Own())


def test_permuting_gates_moves_their_baseline() -> None:
    rng = np.random.default_rng(1)
    gating = np.concatenate([rng.normal(size=(5, 2, 2)), np.zeros((5, 1, 2))], axis=1)
    params = MixtureParams(GatingParams(gating), GaussianParams(np.zeros((5, 3, 1)), np.ones((5, 3, 1, 1))))
    order = np.array([rng.permutation(3) for _ in range(5)])
    moved = permute(params, order, Mixture(Gaussian(), 3, GatedWeights()))
    assert np.all(moved.latent.gating[:, -1] == 0.0)
    z = rng.normal(size=(4, 1))
    for d in range(5):
        before = GatedWeights().prior_weights(GatingParams(gating[d]), z)
        after = GatedWeights().prior_weights(GatingParams(moved.latent.gating[d]), z)
        np.testing.assert_allclose(after, before[:, order[d]], rtol=1e-13)

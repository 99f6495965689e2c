"""Lanes in blocks of one width: every stage runs the same shape whatever the batch, so results do not depend on it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import jaxpr_as_fun

from emjax.base.records import Array

CPU_WIDTH = 16  # lanes a block: the working set of a small fit stays in the first-level caches
GPU_WIDTH = 4096  # at most
GPU_BLOCK_BYTES = 1 << 30  # of datasets in one block


def width_for(device: Any, dataset_bytes: int) -> int:
    """Lanes a block, a constant of the device kind and the padded dataset: another width would round differently."""
    if device.platform == "cpu":
        return CPU_WIDTH
    most = max(CPU_WIDTH, GPU_BLOCK_BYTES // max(1, dataset_bytes))
    return min(GPU_WIDTH, 1 << (most.bit_length() - 1))


def round_up(count: int, multiple: int) -> int:
    """The next multiple."""
    return -(-count // multiple) * multiple


def capacity_for(count: int, width: int) -> int:
    """Room for `count` lanes in whole blocks: few distinct sizes, so few compiles."""
    blocks = -(-count // width)
    step = max(1, 1 << max(0, blocks.bit_length() - 3))
    return width * round_up(blocks, step)


def lane_room(count: int, width: int) -> int:
    """Room for the parameters of `count` lanes: they take little of it, so very few sizes, and still fewer compiles."""
    blocks = 4
    while blocks * width < count:
        blocks *= 4
    return blocks * width


def take(tree: Any, index: Array) -> Any:
    """Rows of every leaf."""
    return jax.tree.map(lambda leaf: leaf[index], tree)


def map_blocks(function: Callable[..., Any], width: int, count: Array, *arrays: Any) -> Any:
    """`function` of each of the first `count` rows, vmapped in blocks of `width`; the other rows are 0.

    The arrays' leading axis is a multiple of `width`. The number of blocks is traced, so a loop of one block is
    compiled like a loop of many.
    """
    size = jax.tree.leaves(arrays)[0].shape[0]
    example = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((width, *leaf.shape[1:]), leaf.dtype), arrays)
    # Traced once: asking for the shapes first and mapping then would trace it twice.
    program, shapes = jax.make_jaxpr(jax.vmap(function), return_shape=True)(*example)
    room = jax.tree.map(lambda leaf: jnp.zeros((size, *leaf.shape[1:]), leaf.dtype), shapes)

    def body(block: Array, results: Any) -> Any:
        start = block * width
        rows = jax.tree.map(lambda leaf: lax.dynamic_slice_in_dim(leaf, start, width), arrays)
        values = jax.tree.unflatten(jax.tree.structure(shapes), jaxpr_as_fun(program)(*jax.tree.leaves(rows)))
        return jax.tree.map(lambda all_, new: lax.dynamic_update_slice_in_dim(all_, new, start, 0), results, values)

    return lax.fori_loop(0, (count + width - 1) // width, body, room)

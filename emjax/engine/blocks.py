"""Lanes in blocks of one width: every stage runs the same shape whatever the batch, so results do not depend on it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from emjax.base.records import Array

CPU_WIDTH, CPU_LEAST = 16, 4  # lanes a block: more cost less each, until their data leave the caches
CPU_BLOCK_BYTES = 640 << 10  # of datasets in one block
GPU_WIDTH = 4096  # at most
GPU_BLOCK_BYTES = 1 << 30  # of datasets in one block


# XLA:CPU vectorises a sum over rows only where it may change the order of its terms; with that and the machine's widest
# vectors the step takes a third of the time. NaN, infinities, divisions and functions keep their meaning.
COMPILER_OPTIONS = {
    "xla_cpu_enable_fast_math": True,
    "xla_cpu_fast_math_honor_nans": True,
    "xla_cpu_fast_math_honor_infs": True,
    "xla_cpu_fast_math_honor_division": True,
    "xla_cpu_fast_math_honor_functions": True,
    "xla_cpu_prefer_vector_width": 512,
}


def width_for(device: Any, dataset_bytes: int) -> int:
    """Lanes a block, a constant of the device kind and the padded dataset: another width would round differently."""
    if device.platform == "cpu":
        least, most, room = CPU_LEAST, CPU_WIDTH, CPU_BLOCK_BYTES
    else:
        least, most, room = CPU_WIDTH, GPU_WIDTH, GPU_BLOCK_BYTES
    fitting = max(least, room // max(1, dataset_bytes))
    return min(most, 1 << (fitting.bit_length() - 1))


def round_up(count: int, multiple: int) -> int:
    """The next multiple."""
    return -(-count // multiple) * multiple


def capacity_for(count: int, width: int) -> int:
    """Room for `count` lanes in whole blocks: few distinct sizes, so few compiles.

    Two blocks at least: the slice of one from one is no slice, and XLA would fuse, and round, what follows otherwise.
    """
    blocks = max(2, -(-count // width))
    step = max(1, 1 << max(0, blocks.bit_length() - 3))
    return width * round_up(blocks, step)


def take(tree: Any, index: Array) -> Any:
    """Rows of every leaf."""
    return jax.tree.map(lambda leaf: leaf[index], tree)


def map_blocks(function: Callable[..., Any], width: int, count: Array, *arrays: Any) -> Any:
    """`function` of each of the first `count` rows, vmapped in blocks of `width`; the other rows are 0.

    The arrays' leading axis is a multiple of `width`. The number of blocks is traced, so a loop of one block is
    compiled like a loop of many.
    """
    size = jax.tree.leaves(arrays)[0].shape[0]
    example = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), arrays)
    shapes = jax.eval_shape(function, *example)
    room = jax.tree.map(lambda leaf: jnp.zeros((size, *leaf.shape), leaf.dtype), shapes)

    def body(block: Array, results: Any) -> Any:
        start = block * width
        rows = jax.tree.map(lambda leaf: lax.dynamic_slice_in_dim(leaf, start, width), arrays)
        values = jax.vmap(function)(*rows)
        return jax.tree.map(lambda all_, new: lax.dynamic_update_slice_in_dim(all_, new, start, 0), results, values)

    return lax.fori_loop(0, (count + width - 1) // width, body, room)

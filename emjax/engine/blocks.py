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
# A GPU starts a kernel in some microseconds, in which it could read tens of megabytes: its blocks are that large.
GPU_WIDTH = 16_384  # at most
GPU_BLOCK_BYTES = 1 << 30  # of datasets in one block
CPU_STEPS, GPU_STEPS = 4, 16  # ticks between refills: a GPU's loop asks the host each time whether to go on
# Lanes and bytes of datasets at a time: they bound memory and change no result. On a CPU small chunks find their memory
# again where they left it; but of too few lanes the slowest are left running alone, so that bytes may be doubled there.
CPU_CHUNK = 16_384, 32 << 20
CPU_CHUNK_LEAST = 256  # lanes
GPU_CHUNK = 1 << 20, 4 << 30


def width_for(device: Any, dataset_bytes: int) -> int:
    """Lanes a block, a constant of the device kind and the padded dataset: another width would round differently."""
    if device.platform == "cpu":
        least, most, room = CPU_LEAST, CPU_WIDTH, CPU_BLOCK_BYTES
    else:
        least, most, room = CPU_WIDTH, GPU_WIDTH, GPU_BLOCK_BYTES
    fitting = max(least, room // max(1, dataset_bytes))
    return min(most, 1 << (fitting.bit_length() - 1))


def steps_for(device: Any) -> int:
    """Ticks between refills of the slots."""
    return CPU_STEPS if device.platform == "cpu" else GPU_STEPS


def chunk_for(device: Any, dataset_bytes: int, restarts: int, count: int, threads: int) -> int:
    """Datasets at a time by default: of `count`, `restarts` lanes each; chunks of one size, as many for each thread."""
    on_cpu = device.platform == "cpu"
    lanes, room = CPU_CHUNK if on_cpu else GPU_CHUNK
    fitting = room // dataset_bytes
    if on_cpu:
        fitting = max(fitting, min(CPU_CHUNK_LEAST // restarts, 2 * room // dataset_bytes))
    chunks = -(-count // max(1, min(lanes // restarts, fitting)))
    return -(-count // round_up(chunks, threads))


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


def lane_room(count: int, width: int) -> int:
    """Room for the parameters of `count` lanes: they take little of it, so very few sizes, and still fewer compiles."""
    blocks = 4
    while blocks * width < count:
        blocks *= 4
    return blocks * width


def take(tree: Any, index: Array) -> Any:
    """Rows of every leaf; a leaf with one row has it for all."""

    def rows(leaf: Array) -> Array:
        return leaf[index if leaf.shape[0] > 1 else jnp.minimum(index, 0)]

    return jax.tree.map(rows, tree)


def map_blocks(function: Callable[..., Any], width: int, count: Array, *arrays: Any, share: bool = False) -> Any:
    """`function` of each of the first `count` rows, vmapped in blocks of `width`; the other rows are 0.

    The arrays' leading axis is a multiple of `width`, or 1 where all rows share one. The number of blocks is traced, so
    a loop of one block is compiled like a loop of many. share : what follows from shared arrays alone is returned once.
    """
    size = max(leaf.shape[0] for leaf in jax.tree.leaves(arrays))
    example = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((width, *leaf.shape[1:]), leaf.dtype), arrays)
    # Traced once: asking for the shapes first and mapping then would trace it twice.
    program, shapes = jax.make_jaxpr(jax.vmap(function), return_shape=True)(*example)
    own = [leaf.shape[0] > 1 for leaf in jax.tree.leaves(arrays)]
    alone = _depends(program.jaxpr, own) if share else [True] * len(jax.tree.leaves(shapes))
    room = [
        jnp.zeros((size if mine else 1, *leaf.shape[1:]), leaf.dtype)
        for leaf, mine in zip(jax.tree.leaves(shapes), alone, strict=True)
    ]

    from jax.extend.core import jaxpr_as_fun  # brings Pallas, a tenth of what importing emjax would take

    def rows_of(leaf: Array, start: Array) -> Array:
        if leaf.shape[0] > 1:
            return lax.dynamic_slice_in_dim(leaf, start, width)
        # Behind the barrier the arithmetic is that of rows of one's own: results do not depend on what is shared.
        return lax.optimization_barrier(jnp.broadcast_to(leaf, (width, *leaf.shape[1:])))

    def body(block: Array, results: list[Array]) -> list[Array]:
        start = block * width
        values = jaxpr_as_fun(program)(*(rows_of(leaf, start) for leaf in jax.tree.leaves(arrays)))
        return [
            lax.dynamic_update_slice_in_dim(room, new if mine else new[:1], start if mine else 0, 0)
            for room, new, mine in zip(results, values, alone, strict=True)
        ]

    found = lax.fori_loop(0, (count + width - 1) // width, body, room)
    return jax.tree.unflatten(jax.tree.structure(shapes), found)


def _depends(jaxpr: Any, own: list[bool]) -> list[bool]:
    """Whether each result of a program follows from an argument marked in `own`."""
    from jax.extend.core import Literal

    marked = {variable for variable, mine in zip(jaxpr.invars, own, strict=True) if mine}
    for equation in jaxpr.eqns:
        if any(not isinstance(variable, Literal) and variable in marked for variable in equation.invars):
            marked.update(equation.outvars)
    return [not isinstance(variable, Literal) and variable in marked for variable in jaxpr.outvars]

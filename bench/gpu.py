"""The engine's loop on one NVIDIA GPU against the roofline and against vmap(while_loop): `python bench/gpu.py`.

Data and starts are made on the device beforehand; compilation is left out. "fixed" is a loop of a fixed number of EM
steps of as many lanes as there are slots, without stopping rule or refilling.

The roofline of a lane-iteration is the larger of two times: one pass over the rows of its dataset as they were given
(response and covariates, without padding or the column of ones) at the memory's bandwidth, and the operations of one
E- and M-step at the peak rate (an exponential counts 8 in float32 and 24 in float64; see `Problem`).
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

import emjax
from emjax.engine import blocks, em, generated, keys, scheduler, stages

# float32 and float64 operations a second (no tensor cores), bytes a second: NVIDIA's H100 and H200 data sheets, SXM.
PEAKS = {
    "NVIDIA H100 80GB HBM3": (67e12, 34e12, 3.35e12),
    "NVIDIA H200": (67e12, 34e12, 4.8e12),
}
TOLERANCE = {"float32": 1e-3, "float64": 1e-6}  # nats; float32 resolves no less of a log-likelihood near 1,000
SAME_OPTIMUM = 0.1  # nats: lanes further apart ended at different optima
EXPONENTIAL = {"float32": 8, "float64": 24}
BUDGET = 8 * 60.0  # seconds for everything
NEEDED = 90.0  # seconds that one more line may take


class Problem(NamedTuple):
    """A model, its data, and what one row costs: values read, operations and exponentials of each component."""

    name: str
    model: Any
    generate: Callable[[Any], emjax.Data]
    n: int
    values: int
    operations: int
    n_components: int


def regressions(key: Any) -> emjax.Data:
    """n = 500; two planes over two covariates (p = 3 with the intercept), far in each other's noise."""
    of_x, of_label, of_error = jax.random.split(key, 3)
    x = jax.random.normal(of_x, (500, 2))
    first = jax.random.bernoulli(of_label, 0.5, (500,))
    error = jax.random.normal(of_error, (500,))
    plane = jnp.where(first, 1.0 + x[:, 0] - x[:, 1], -0.5 - 0.4 * x[:, 0] + 0.6 * x[:, 1])
    return emjax.Data(plane + jnp.where(first, 1.5, 1.8) * error, x)


def clusters(key: Any) -> emjax.Data:
    """n = 400, d = 2; three overlapping normal clusters."""
    of_label, of_error = jax.random.split(key)
    label = jax.random.randint(of_label, (400,), 0, 3)
    centres = jnp.array([[0.0, 0.0], [2.5, 0.0], [0.0, 2.5]])
    return emjax.Data(centres[label] + jax.random.normal(of_error, (400, 2)))


def series(key: Any) -> emjax.Data:
    """T = 200; a chain of three states that stays nine times in ten, normal responses."""
    of_start, of_moves, of_states, of_error = jax.random.split(key, 4)
    moves = jax.random.bernoulli(of_moves, 0.1, (200,))
    fresh = jax.random.randint(of_states, (200,), 0, 3)

    def step(state: Any, row: Any) -> Any:
        state = jnp.where(row[0], row[1], state)
        return state, state

    states = lax.scan(step, jax.random.randint(of_start, (), 0, 3), (moves, fresh))[1]
    return emjax.Data(jnp.array([-2.0, 0.0, 3.0])[states] + jax.random.normal(of_error, (200,)))


# Operations of one row and component, in the order of the sums below.
# Regression: residual 2p, its square and scale 3, weight and share 3, x x' p (p + 1), x e 2p + 1, e e 2, count 1.
# Hidden Markov: residual, square and scale 4, forward 2K + 2, backward 2K + 2, expected moves 3K, weight 2, sums 4.
# Gaussian: centring d, whitening d (d + 1), square and sum 2d, weight and share 3, sum 2d, outer d (d + 1), count 1.
PROBLEMS = (
    Problem(
        "regression, n = 500, p = 3, K = 2",
        emjax.Mixture(emjax.LinearRegression(), 2), regressions, 500, 3, 6 + 3 + 3 + 12 + 7 + 2 + 1, 2,
    ),
    Problem(
        "GMM, n = 400, d = 2, K = 3",
        emjax.Mixture(emjax.Gaussian("full"), 3), clusters, 400, 2, 2 + 6 + 4 + 3 + 4 + 6 + 1, 3,
    ),
    Problem(
        "Gaussian HMM, T = 200, K = 3",
        emjax.HiddenMarkov(emjax.Gaussian("spherical"), 3), series, 200, 1, 4 + 8 + 8 + 9 + 2 + 4, 3,
    ),
)  # fmt: skip


class Lanes(NamedTuple):
    """What a loop starts from: prepared data, and per lane its dataset, start and tolerance."""

    prepared: Any
    dataset: Any
    starts: Any
    tol: Any


@partial(jax.jit, static_argnames=("model", "steps"))
def fixed_steps(model: Any, steps: int, prepared: Any, params: Any) -> Any:
    """`steps` EM steps of every lane; prepared data and parameters with the lane axis."""
    step = jax.vmap(partial(em.em_step, model))
    return lax.fori_loop(0, steps, lambda _, params: step(params, prepared)[0], params)


@partial(jax.jit, static_argnames=("model",))
def vmapped_loop(model: Any, lanes: Lanes, limit: Any) -> Any:
    """The same ticks and stopping rule under vmap(while_loop): all lanes run until the slowest ends."""
    rules = emjax.Degeneracy()

    def one(dataset: Any, start: Any, tol: Any) -> Any:
        data = blocks.take(lanes.prepared, dataset)
        lane = lax.while_loop(
            lambda lane: lane.status == emjax.Status.RUNNING,
            lambda lane: em.tick(model, rules, limit, data, lane),
            em.begin(model, start, tol, data, tol.dtype),
        )
        return lane.log_likelihood, lane.status, lane.iterations

    return jax.vmap(one)(lanes.dataset, lanes.starts, lanes.tol)


def make_lanes(problem: Problem, dtype: str, count: int, width: int) -> Lanes:
    """`count` lanes, a dataset and a random start each, on the device."""
    root = keys.root_key(0)
    stream = generated.of(problem.model, problem.generate, keys.stream_root(root), 0, count)
    size = blocks.round_up(count, width)
    prepared, _ = stages.prepare(problem.model, width, stream.chunk(slice(0, count), size), None, None, np.int32(count))
    index, words = np.arange(size, dtype=np.int32), np.arange(size, dtype=np.uint32)
    starts = stages.random_starts(
        problem.model, width, ("random-partition",), prepared, root, words, index, 0 * index, np.int32(count)
    )  # fmt: skip

    def cast(leaf: Any) -> Any:
        return leaf.astype(dtype) if leaf.dtype == jnp.float64 else leaf

    return Lanes(*jax.tree.map(cast, (prepared, jnp.asarray(index), starts)), jnp.full(size, TOLERANCE[dtype], dtype))


def seconds(function: Callable[[], Any]) -> float:
    began = time.perf_counter()
    jax.block_until_ready(function())
    return time.perf_counter() - began


def in_turn(ways: dict[str, Callable[[], Any]], repeats: int) -> tuple[dict[str, Any], dict[str, list[float]]]:
    """What each way returns, and its times, the ways taken in turn; compilation apart."""
    results = {name: jax.block_until_ready(way()) for name, way in ways.items()}
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            taken[name].append(seconds(way))
    return results, taken


def roofline(problem: Problem, dtype: str, peaks: tuple[float, float, float]) -> float:
    """The least seconds of a lane-iteration."""
    rate, size = (peaks[0], 4) if dtype == "float32" else (peaks[1], 8)
    operations = problem.n_components * (problem.operations + EXPONENTIAL[dtype])
    return problem.n * max(problem.values * size / peaks[2], operations / rate)


def measure(problem: Problem, dtype: str, device: Any, quick: bool) -> str:
    """One line of the table."""
    width = blocks.width_for(device, 4 * problem.n * (problem.values + 1) * 8)
    few = 128 if quick else max(65_536, width)  # lanes of the comparison, and of the fixed loop
    lanes = make_lanes(problem, dtype, few if quick else 4 * few, width)
    limit = np.int32(10_000)

    def engine(count: int) -> Any:
        begun = scheduler.begin_lanes(problem.model, lanes.prepared, lanes.starts, lanes.tol)
        return scheduler.run_lanes(
            problem.model, emjax.Degeneracy(), width, lanes.prepared, lanes.dataset, begun, np.int32(count), limit,
            np.int32(scheduler.NEVER),
        )  # fmt: skip

    first = Lanes(lanes.prepared, *(jax.tree.map(lambda leaf: leaf[:few], part) for part in lanes[1:]))
    slots = jax.tree.map(lambda leaf: leaf[:width], (lanes.prepared, lanes.starts))
    steps = 8 if quick else 64
    ways = {
        "engine": lambda: engine(few),
        "vmapped": lambda: vmapped_loop(problem.model, first, limit),
        "fixed": lambda: fixed_steps(problem.model, steps, *slots),
    }
    results, taken = in_turn(ways, 2 if quick else 5)
    median = {name: statistics.median(values) for name, values in taken.items()}
    gap = np.abs(np.asarray(results["engine"][0].log_likelihood)[:few] - np.asarray(results["vmapped"][0]))
    same = gap <= SAME_OPTIMUM
    # More lanes where there is time: the engine's rate is that of a long queue.
    many = int(min(lanes.tol.shape[0], max(few, few * 4.0 / median["engine"])))
    whole = statistics.median(seconds(lambda: engine(many)) for _ in range(1 if quick else 3))
    found, executed = engine(many)
    iterations = np.asarray(found.iterations)[:many]
    converged = int(np.sum(np.asarray(found.status)[:many] == emjax.Status.CONVERGED))
    per_step = median["fixed"] / (steps * width)
    peaks = PEAKS.get(device.device_kind)
    share = "" if peaks is None else f"{100 * roofline(problem, dtype, peaks) / per_step:.1f} %"
    return (
        f"| {problem.name} | {dtype} | {width:,} | {converged / whole:,.0f} | {many:,} "
        f"| {100 * converged / many:.2f} % | {iterations.mean():.0f} / {iterations.max()} "
        f"| {1e9 * whole / iterations.sum():.2f} | {iterations.sum() / int(executed):.3f} | {1e9 * per_step:.2f} "
        f"| {share} | {median['vmapped'] / median['engine']:.1f} "
        f"({min(taken['vmapped']) / max(taken['engine']):.1f}-{max(taken['vmapped']) / min(taken['engine']):.1f}) "
        f"| {np.max(gap[same], initial=0.0):.1e} | {np.sum(~same)} |"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--allow-cpu", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--quick", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    began = time.perf_counter()
    device = jax.devices()[0]
    if device.platform != "gpu" and not arguments.allow_cpu:
        print(f"bench/gpu.py needs an NVIDIA GPU and jax's CUDA build: jax {jax.__version__} finds only {device}.",
              file=sys.stderr)  # fmt: skip
        return 2
    print(f"{device.device_kind}, jax {jax.__version__}, {time.strftime('%Y-%m-%d')}, tolerance {TOLERANCE}")
    if device.device_kind not in PEAKS:
        print(f"No peak rates are known here for {device.device_kind}: the fraction of the roofline is left out.")
    print(
        "\n| problem | dtype | slots | converged fits/s | lanes | converged | iterations, mean / max "
        "| ns a lane-iteration | work efficiency | fixed: ns a lane-iteration | fixed: of the roofline "
        "| time of vmap(while_loop), times the engine's | largest difference, nats | lanes at another optimum |\n"
        "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|"
    )
    for problem in PROBLEMS:
        for dtype in TOLERANCE:
            if time.perf_counter() - began > BUDGET - NEEDED:
                print(f"| {problem.name} | {dtype} | left out: no time left |")
                continue
            with jax.enable_x64(True), jax.threefry_partitionable(True):
                print(measure(problem, dtype, device, arguments.quick), flush=True)
    print(f"\n{time.perf_counter() - began:.0f} s in all")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Chunks over several devices, sizes by the kind of device, and what datasets share."""

import os
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest

import emjax
from emjax import Data
from emjax.engine import blocks, datasets, devices, stages
from tests.promises import LINES, RESTARTS, SEED, D, N, lines, same_fits

SPREAD = """
import hashlib, os, sys
flags = os.environ.get("XLA_FLAGS")
import jax
import emjax
from emjax.engine import devices, pipeline
from tests.promises import LINES, SEED, at, lines
from tests.test_streaming import make
assert os.environ.get("XLA_FLAGS") == flags
whole, used = pipeline.fit_chunk, set()
def watched(plan, chunk):
    used.add(devices.current().id)
    found = whole(plan, chunk)
    return found
pipeline.fit_chunk = watched
many = emjax.fit_many(LINES, lines(), SEED, restarts=4, chunk=2, threads=2)
used_by_many, used = used, set()
parts = list(emjax.fit_stream(LINES, make, 12, SEED, restarts=4, chunk=2, threads=2))
results = [(f.params, f.objective, f.restarts, f.certificate) for f in (many, *parts)]
print(hashlib.sha256(b"".join(leaf.tobytes() for leaf in jax.tree.leaves(results))).hexdigest(), used_by_many == used)
print(*sorted(used))
"""


@pytest.mark.slow
def test_two_devices_share_the_chunks_and_give_the_fits_of_one() -> None:
    said = []
    for count in (1, 2):
        environment = {**os.environ, "XLA_FLAGS": f"--xla_force_host_platform_device_count={count}"}
        ran = subprocess.run(
            [sys.executable, "-c", SPREAD], capture_output=True, text=True, check=False, env=environment
        )
        assert ran.returncode == 0, ran.stderr
        said.append(ran.stdout.splitlines())
    (one, by_one), (two, by_two) = said
    assert one == two
    assert one.endswith("True")
    assert (by_one, by_two) == ("0", "0 1")


def test_workers_take_free_devices_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["first", "second"]
    monkeypatch.setattr(jax, "local_devices", lambda: names)
    pool = devices.Pool(3)
    assert [pool._slots.get() for _ in range(3)] == ["first", "second", "first"]
    monkeypatch.setattr(jax, "local_devices", lambda: names[:1])
    with devices.Pool(1).device():
        assert devices.chosen() is None  # jax's own choice: naming it would compile anew


def test_a_device_that_the_user_chose_is_the_only_one(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = jax.devices()[0]
    monkeypatch.setattr(jax, "local_devices", lambda: [None, mine])
    with jax.default_device(mine):
        pool = devices.Pool(2)
    for _ in range(2):
        with pool.device():
            assert devices.chosen() is mine
    assert devices.chosen() is None


def test_sizes_follow_the_kind_of_device() -> None:
    cpu, gpu = SimpleNamespace(platform="cpu"), SimpleNamespace(platform="gpu")
    assert blocks.width_for(cpu, 1) == blocks.CPU_WIDTH
    assert blocks.width_for(cpu, 10**6) == blocks.CPU_LEAST
    assert blocks.width_for(gpu, 1) == blocks.GPU_WIDTH
    assert blocks.width_for(gpu, 1 << 20) == 1024
    assert blocks.width_for(gpu, 1 << 40) == blocks.CPU_WIDTH
    assert blocks.steps_for(gpu) > blocks.steps_for(cpu)
    for device in (cpu, gpu):
        chunk = blocks.chunk_for(device, 64_000, 10, 10**6, 2)
        assert 10 * chunk >= 16 * blocks.width_for(device, 64_000)
        assert chunk * 64_000 <= (64 << 20 if device is cpu else 4 << 30)
    assert [blocks.chunk_for(cpu, 13_312, 1, count, 2) for count in (1, 3, 500, 8192)] == [1, 2, 250, 2048]
    assert blocks.chunk_for(cpu, 200_000, 1, 512, 2) == 256


def _shared(repeat: bool, **fields: Any) -> Data:
    """Shared fields as they are, or one copy a dataset."""
    return Data(y=lines().y, **{k: np.repeat(v[None], D, axis=0) if repeat else v for k, v in fields.items()})


WEIGHTS = np.where(np.arange(N) < 80, 1.0, 0.5)


@pytest.mark.parametrize("weight", [None, pytest.param(WEIGHTS, marks=pytest.mark.slow)], ids=["no weights", "weights"])
@pytest.mark.parametrize("model", [LINES, emjax.Mixture(emjax.Gaussian("full"), 2)], ids=["lines", "Gaussian"])
def test_shared_data_give_the_fits_of_copies(model: Any, weight: Any) -> None:
    fields = {"x": lines().x[0]} if model is LINES else {}
    if weight is not None:
        fields["weight"] = weight
    settings = {"restarts": RESTARTS, "chunk": 5, "threads": 1}
    once = emjax.fit_many(model, _shared(False, **fields), SEED, **settings)
    copies = emjax.fit_many(model, _shared(True, **fields), SEED, **settings)
    same_fits(once, copies)
    np.testing.assert_array_equal(once.n_observations, copies.n_observations)
    alone = emjax.fit(model, once[7].data, SEED, id=7, restarts=RESTARTS)
    same_fits(once[7], alone, (), ())


def test_shared_covariates_are_on_the_device_once() -> None:
    """What follows from x and the weights alone is prepared once; what has to do with y once a dataset."""
    (batch,), _ = datasets.batches(LINES, _shared(False, x=lines().x[0]))
    chunk = batch.chunk(slice(0, D), 16)
    assert chunk.y.shape[0] == 16
    assert chunk.x.shape[0] == chunk.weight.shape[0] == 1
    with jax.enable_x64(True):
        shapes = stages.prepare.__wrapped__.eval_shape
        prepared, problems = shapes(LINES, blocks.CPU_WIDTH, chunk, None, None, np.int32(D))
    design = prepared.family.design
    once = [prepared.latent.weight, design.x]
    own = [prepared.family.y, prepared.family.y_unit, prepared.family.pooled_scale, design.to_user, problems]
    assert [leaf.shape[0] for leaf in once] == [1, 1]
    assert [leaf.shape[0] for leaf in own] == [16] * 5


def _gpu_benchmark(*arguments: str) -> Any:
    command = [sys.executable, "bench/gpu.py", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": "."})


@pytest.mark.skipif(jax.default_backend() == "gpu", reason="there is a GPU")
def test_the_gpu_benchmark_refuses_in_one_sentence_without_one() -> None:
    ran = _gpu_benchmark()
    assert ran.returncode == 2
    assert ran.stderr.count("\n") == 1
    assert "needs an NVIDIA GPU" in ran.stderr
    assert ran.stdout == ""


@pytest.mark.slow
def test_the_gpu_benchmark_runs() -> None:
    ran = _gpu_benchmark("--allow-cpu", "--quick")
    assert ran.returncode == 0, ran.stderr
    lines = [line.split("|")[1:-1] for line in ran.stdout.splitlines() if line.startswith("|")]
    assert len(lines) == 2 + 6
    assert len({len(line) for line in lines}) == 1
    for line in lines[2:]:
        assert float(line[5].strip(" %")) >= (95.0 if "HMM" in line[0] else 100.0)  # a state may collapse
        single = line[1].strip() == "float32"
        assert float(line[12]) < (0.1 if single else 1e-5)
        assert int(line[13]) <= (3 if single else 0)  # of 128: float32's rounding may lead elsewhere

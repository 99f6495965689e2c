"""Studies by several processes, on a cluster and on several devices: killed at random, they end with the same bytes."""

import importlib.util
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from emjax import DataError
from emjax.extras import cluster
from emjax.studies import running
from tests import study_cases
from tests.study_cases import CHUNK, digests, study

ROOT = Path(__file__).parent.parent
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The files of a run by one process."""
    directory = tmp_path_factory.mktemp("whole")
    assert study().run(directory, chunk=CHUNK, threads=1).complete
    return digests(directory)


class Client:
    """What `run` asks of dask.distributed's client, by threads."""

    def __init__(self) -> None:
        self.pool, self.keys = ThreadPoolExecutor(2), []

    def submit(self, function: Any, *arguments: Any, key: str, retries: int, pure: bool) -> Any:
        assert pure and retries == 2
        self.keys.append(key)
        return self.pool.submit(function, *arguments)


def test_a_client_computes_and_this_process_writes(whole: dict[str, str], tmp_path: Path) -> None:
    client, seen = Client(), []
    ran = study().run(tmp_path, chunk=CHUNK, client=client, progress=seen.append)
    assert ran == running.Ran(12, 0, (), True)
    assert digests(tmp_path) == whole
    assert len(set(client.keys)) == 12 and seen[-1].done == seen[-1].total == 96
    assert study().run(tmp_path, client=client).computed == 0


def test_a_foreign_machine_of_a_cluster_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "AHEAD", 1)
    sent = running.task(study(), study().units(CHUNK)[0], CHUNK, 1)
    elsewhere = sent._replace(environment={**sent.environment, "cpu": "another"})
    monkeypatch.setattr(running, "task", lambda *_: elsewhere)
    with pytest.raises(DataError, match="cpu was .* and is 'another'"):
        study().run(tmp_path, chunk=CHUNK, client=Client())
    assert digests(tmp_path) == {}


def test_a_task_that_fails_every_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(*_: Any) -> None:
        raise TimeoutError("worker lost")

    monkeypatch.setattr(running, "task", lost)
    with pytest.raises(DataError, match=r"gave up on a chunk \(TimeoutError: worker lost\)"):
        study().run(tmp_path, chunk=CHUNK, client=Client())


def _serve(directory: Path, nap: float) -> subprocess.Popen:
    command = [sys.executable, "-m", "tests.study_cases", str(directory), str(nap)]
    return subprocess.Popen(command, cwd=ROOT, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True)


def _until(condition: Any, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come about in time"
        time.sleep(0.02)


def _count(directory: Path) -> int:
    return len(list(directory.glob("chunks/*.npz")))


@pytest.mark.slow
def test_two_processes_of_which_one_is_killed(whole: dict[str, str], tmp_path: Path) -> None:
    first = _serve(tmp_path, 0.3)
    _until(lambda: _count(tmp_path) >= 1, 120)
    second = _serve(tmp_path, 0.3)
    _until(lambda: _count(tmp_path) >= 3, 120)
    first.send_signal(signal.SIGKILL)
    out, _ = second.communicate(timeout=180)
    first.communicate()
    assert second.returncode == 0 and first.returncode == -signal.SIGKILL
    assert "complete=True" in out
    assert digests(tmp_path) == whole


@pytest.mark.long
def test_ten_kills_at_random_moments(whole: dict[str, str], tmp_path: Path) -> None:
    moments, killed = random.Random(1), 0
    while killed < 10:
        process = _serve(tmp_path, 0.2)
        assert process.stdout is not None and process.stdout.readline() == "begun\n"
        try:
            process.wait(moments.uniform(0.0, 3.0))
        except subprocess.TimeoutExpired:
            process.kill()
        process.communicate()
        killed += 1
    process = _serve(tmp_path, 0.0)
    out, _ = process.communicate(timeout=180)
    assert "complete=True" in out
    assert digests(tmp_path) == whole
    assert not list((tmp_path / "claims").iterdir())


# --- dask -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def scheduler(tmp_path: Path) -> Iterator[tuple[str, list[subprocess.Popen]]]:
    """The address of a real scheduler on the loopback, and its two worker processes."""
    if importlib.util.find_spec("distributed") is None:
        pytest.skip("dask.distributed is not installed")
    environment = {**ENVIRONMENT, "DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": "60s"}
    address = tmp_path / "scheduler.json"

    def start(program: str, *arguments: str) -> subprocess.Popen:
        command = [sys.executable, "-m", f"distributed.cli.dask_{program}", *arguments]
        log = open(tmp_path / f"{program}.log", "ab")  # noqa: SIM115 (the process keeps it)
        return subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=log, stderr=log)

    here = ["--host", "127.0.0.1", "--no-dashboard"]
    processes = [start("scheduler", *here, "--port", "0", "--scheduler-file", str(address))]
    try:
        _until(address.exists, 120)
        worker = ["--scheduler-file", str(address), "--no-nanny", "--nthreads", "1", *here]
        processes += [start("worker", *worker) for _ in range(2)]
        yield str(address), processes[1:]
    finally:
        for process in reversed(processes):
            process.kill()
            process.wait()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_real_dask_cluster_of_which_a_worker_is_killed(
    whole: dict[str, str], tmp_path: Path, scheduler: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import distributed

    file, workers = scheduler
    directory, seen = tmp_path / "study", []

    def kill(step: Any) -> None:
        seen.append(step.done)
        if len(seen) == 3:
            workers[0].kill()

    with distributed.Client(scheduler_file=file, timeout=60) as client:
        client.wait_for_workers(2, timeout=120)
        client.run(_sleepy)
        ran = study().run(directory, chunk=CHUNK, client=client, progress=kill)
    assert workers[0].wait() == -signal.SIGKILL and workers[1].poll() is None
    assert ran == running.Ran(12, 0, (), True)
    assert digests(directory) == whole


def _sleepy() -> None:
    """On a worker: chunks take so long that one is in the works when its process dies."""
    study_cases.NAP = 0.3


@pytest.mark.filterwarnings("ignore")
def test_a_scheduler_that_does_not_answer() -> None:
    pytest.importorskip("distributed")
    with pytest.raises(DataError, match="--cluster tcp://127.0.0.1:1: no scheduler answers"):
        cluster.connect("tcp://127.0.0.1:1", 0.2)


DEVICES = """
import sys, jax
from tests import study_cases
from emjax.studies import Method, grid
assert len(jax.devices()) == int(sys.argv[2])
method = Method(study_cases.LINES, start="truth")
one = study_cases.lines(scenarios=grid(n=50, noise=3.0), methods={"EM": method})
assert one.run(sys.argv[1], chunk=8, threads=2).complete
"""


@pytest.mark.long
def test_two_devices_write_the_bytes_of_one(tmp_path: Path) -> None:
    for count in (1, 2):
        environment = {**ENVIRONMENT, "XLA_FLAGS": f"--xla_force_host_platform_device_count={count}"}
        command = [sys.executable, "-c", DEVICES, str(tmp_path / str(count)), str(count)]
        ran = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stderr
    assert digests(tmp_path / "1") == digests(tmp_path / "2")
    assert len(digests(tmp_path / "1")) == 1

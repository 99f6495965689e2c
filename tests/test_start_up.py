"""The first fit of a process: what is compiled, once, and what a warm cache spares."""

import os
import stat
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache

import emjax
from emjax import DataError
from emjax.engine import blocks, programs
from tests.commands import one_sentence, run

FIRST_FIT = """
import os, sys
import jax
compiled, loaded = [], []
def listen(name, seconds, **about):
    if name == "/jax/core/compile/backend_compile_duration":
        compiled.append(about.get("fun_name"))
def count(name, **about):
    if name == "/jax/compilation_cache/cache_hits":
        loaded.append(name)
jax.monitoring.register_event_duration_secs_listener(listen)
jax.monitoring.register_event_listener(count)
import numpy as np, emjax
if len(sys.argv) > 1:
    emjax.use_compilation_cache(sys.argv[1] + "-before")
    jax.jit(lambda x: x + 1)(1.0)  # the folder may change after a compile
    del compiled[:], loaded[:]
    emjax.use_compilation_cache(sys.argv[1])
x = np.random.default_rng(0).uniform(0, 10, (100, 1))
y = np.where(np.arange(100) % 2, 1 + x[:, 0] / 2, 2 + 1.5 * x[:, 0]) + 0.1 * np.random.default_rng(1).normal(size=100)
fit = emjax.fit(emjax.Mixture(emjax.LinearRegression(), 2), emjax.Data(y, x), 0, restarts=4)
print(fit.objective, len(loaded), *sorted(compiled))
"""


def _first_fit(*arguments: str) -> list[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", FIRST_FIT, *arguments],
        capture_output=True, text=True, check=False, env=environment,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.split()


@pytest.mark.slow
def test_a_first_fit_compiles_each_stage_once_and_nothing_else(tmp_path: Path) -> None:
    """No small program of a stray operation, none twice, none in vain; and all of them come from a warm cache."""
    stages = [
        "jit(begin_lanes)",
        "jit(curvature)",
        "jit(prepare)",
        "jit(random_starts)",
        "jit(run_lanes)",
        "jit(to_user)",
    ]
    folder = tmp_path / "cache"
    cold = _first_fit(str(folder))
    assert cold[1:] == ["0", *stages]
    warm = _first_fit(str(folder))
    assert [warm[0], *warm[2:]] == [cold[0], *stages]
    kept = int(warm[1])  # begin_lanes may be compiled in less time than is worth a file
    assert kept in (len(stages) - 1, len(stages))
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert len(list(folder.glob("*-cache"))) == kept


def test_threads_wait_for_one_compile(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two threads ask for the same program at once: it is called once on empty arguments, then once by each."""
    calls: Counter[int] = Counter()
    inside, go = threading.Event(), threading.Event()

    def stage(count: Any) -> Any:
        calls[int(count)] += 1
        if count == 0:
            inside.set()
            assert go.wait(10)
        return count

    monkeypatch.setattr(programs.Program, "_all", [])
    program = programs.Program(stage)
    threads = [threading.Thread(target=program, args=(np.int32(3),)) for _ in range(2)]
    for thread in threads:
        thread.start()
    assert inside.wait(10)
    assert calls == {0: 1}
    go.set()
    for thread in threads:
        thread.join()
    assert calls == {0: 1, 3: 2}
    program(np.int32(5))
    assert calls == {0: 1, 3: 2, 5: 1}


def test_old_programs_make_room_for_new_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the compiler aborts the process at some four hundred of them."""
    monkeypatch.setattr(programs.Program, "_all", [])
    monkeypatch.setattr(programs, "MOST", 2)
    program = programs.Program(jax.jit(lambda x: x + 1.0))
    for size in (2, 3, 4, 2):
        np.testing.assert_array_equal(program(np.zeros(size, np.float32)), np.ones(size))
        assert len(program._ready) <= 2
        assert program.__wrapped__._cache_size() <= 2  # pyright: ignore[reportAttributeAccessIssue]


def test_few_sizes_of_lanes() -> None:
    width = blocks.CPU_WIDTH
    sizes = {blocks.lane_room(count, width) for count in range(1, 20_000)}
    assert sizes == {4 * width, 16 * width, 64 * width, 256 * width, 1024 * width, 4096 * width}
    assert all(blocks.lane_room(count, width) >= count for count in (1, 64, 65, 1024, 19_999))


OPTIONS = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs",
           "jax_persistent_cache_min_entry_size_bytes")  # fmt: skip


@pytest.fixture
def no_cache(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = {name: getattr(jax.config, name) for name in OPTIONS}
    jax.config.update("jax_compilation_cache_dir", None)
    yield
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


@pytest.mark.skipif(sys.platform != "linux", reason="the place differs by operating system")
def test_the_folder_is_the_users_own(no_cache: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "not/absolute")
    assert emjax.use_compilation_cache() == tmp_path / ".cache" / "emjax"
    assert emjax.use_compilation_cache(tmp_path / "given") == tmp_path / "given"
    assert emjax.use_compilation_cache() == tmp_path / "given"  # set already
    jax.config.update("jax_compilation_cache_dir", None)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert emjax.use_compilation_cache() == tmp_path / "xdg" / "emjax"
    assert stat.S_IMODE((tmp_path / "xdg" / "emjax").stat().st_mode) == 0o700


def test_a_folder_that_will_not_do_is_refused(no_cache: None, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be made"):
        emjax.use_compilation_cache(tmp_path / "file" / "cache")
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    with pytest.raises(DataError, match="other users"):
        emjax.use_compilation_cache(shared)
    assert jax.config.jax_compilation_cache_dir is None


def test_the_command_line_uses_it_and_lives_without(
    no_cache: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert run("fit", tmp_path / "none.csv", "y ~ x", "--components", 2).status == 2
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / "emjax")
    jax.config.update("jax_compilation_cache_dir", None)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    one_sentence(run("fit", tmp_path / "none.csv", "y ~ x", "--components", 2), "none.csv")
    assert jax.config.jax_compilation_cache_dir is None

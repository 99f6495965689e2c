"""What is on disk: bytes without clocks, damage that is named, disks that are full or read-only, claims of the dead."""

import errno
import io
import os
import resource
import socket
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from emjax import DataError
from emjax.studies import chunk_files, loading, running, store
from emjax.studies.claims import Claims
from tests.study_cases import CHUNK, digests, study


def run(directory: Any, **changes: Any) -> Any:
    return study(**changes).run(directory, chunk=CHUNK, threads=1)


@pytest.fixture
def done(tmp_path: Path) -> Path:
    """A small study that is on disk."""
    run(tmp_path / "done", replicates=8)
    return tmp_path / "done"


def test_bytes_without_clocks_that_numpy_reads(done: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unit = study().units(CHUNK)[0]
    content = (done / "chunks" / unit.file).read_bytes()
    monkeypatch.setattr(time, "time", lambda: 2e9)
    measured = running.Worker(study(), CHUNK, 1).measure(unit)
    assert chunk_files.encode(measured, unit.file) == content
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert {member.date_time for member in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    with np.load(done / "chunks" / unit.file) as file:
        np.testing.assert_array_equal(file["estimate"], measured.outcomes.estimate)
    layout, outcomes = chunk_files.decode(content, Path(unit.file))
    assert layout.entries == measured.layout.entries and layout.blocks == measured.layout.blocks
    for name, array in outcomes._asdict().items():
        np.testing.assert_array_equal(array, getattr(measured.outcomes, name))


def test_names_of_files_and_back() -> None:
    unit = store.Unit("0123456789abcdef", "EM, 10 starts/x.y", 4096)
    assert "/" not in unit.file
    assert store.Unit.of_file(unit.file) == unit


@pytest.mark.parametrize("damage", ["truncated", "empty", "a byte", "another's"])
def test_a_damaged_chunk_is_named_and_computed_anew(damage: str, done: Path) -> None:
    before = digests(done)
    other, path = sorted((done / "chunks").iterdir())[:2]
    content = path.read_bytes()
    flipped = bytearray(content)
    flipped[content.index(b"NUMPY", 2000) + 200] ^= 1
    damages = {"truncated": content[:-700], "empty": b"", "a byte": bytes(flipped), "another's": other.read_bytes()}
    path.write_bytes(damages[damage])
    with pytest.raises(DataError, match=f"{path.name} is truncated or damaged"):
        loading.cells(done)
    with pytest.warns(UserWarning, match=f"{path.name} is truncated or damaged"):
        ran = run(done, replicates=8)
    assert (ran.computed, ran.found, len(ran.damaged), ran.complete) == (1, 3, 1, True)
    assert digests(done) == before


def _full(*_: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_is_named_and_nothing_else_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(tmp_path, replicates=8)
    before = digests(tmp_path)
    monkeypatch.setattr(store.os, "fsync", _full)
    with pytest.raises(DataError, match="cannot be written .*: the disk or quota is full"):
        run(tmp_path)
    assert digests(tmp_path) == before
    assert not list((tmp_path / "claims").iterdir())
    monkeypatch.undo()
    whole = os.open
    monkeypatch.setattr(os, "open", lambda path, *rest: _full() if "claims" in str(path) else whole(path, *rest))
    with pytest.raises(DataError, match=r"claims/manifest\.json cannot be written .*: the disk or quota is full"):
        run(tmp_path)
    monkeypatch.undo()
    assert run(tmp_path).computed == 8


def test_nobody_sees_half_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While one is written there is none of its name; what a killed process left of one goes, but not too early."""
    seen, sync = [], os.fsync

    def watched(handle: int) -> None:
        seen.append(len(digests(tmp_path)))
        sync(handle)

    monkeypatch.setattr(store.os, "fsync", watched)
    run(tmp_path, replicates=8)
    # Of the manifest and each chunk: the file itself, then its folder.
    assert seen == [0, 0, 0, 1, 1, 2, 2, 3, 3, 4]
    for age in (10.0, 2 * store.FORGOTTEN):
        left = tmp_path / "chunks" / f".x.{age}.part"
        left.write_text("half")
        os.utime(left, (time.time() - age,) * 2)
    run(tmp_path, replicates=8)
    assert [path.name for path in tmp_path.rglob("*.part")] == [".x.10.0.part"]


def test_a_file_that_may_not_grow(tmp_path: Path) -> None:
    """The system itself refuses to write more than so many bytes to a file."""
    run(tmp_path, replicates=8)
    before = digests(tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    largest = max(path.stat().st_size for path in (tmp_path / "chunks").iterdir())
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest - 100, hard))
    try:
        with pytest.raises(DataError, match="npz cannot be written .*the disk or quota is full"):
            run(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert digests(tmp_path) == before
    assert list(tmp_path.iterdir()) and not list(tmp_path.rglob("*.part"))
    assert run(tmp_path).complete


def test_a_read_only_directory_is_named(done: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if os.geteuid() == 0:  # to whom modes are nothing

        def refused(*_: Any, **__: Any) -> None:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))

        monkeypatch.setattr(Path, "touch", refused)
    else:
        (done / "chunks").chmod(0o500)
    with pytest.raises(DataError, match="chunks cannot be written .*it is read-only; choose a directory"):
        run(done)
    if os.geteuid() != 0:
        (done / "chunks").chmod(0o700)
    assert len(loading.cells(done)) == 4


def test_directories_without_a_study(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no study"):
        loading.cells(tmp_path)
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(DataError, match="cannot be read"):
        run(tmp_path)
    for text, message in [('{"format": 99}', "format 99"), ("[]", "format None"), ('{"format": 1}', "lacks 'chunk'")]:
        (tmp_path / "manifest.json").write_text(text)
        with pytest.raises(DataError, match=message):
            loading.cells(tmp_path)


def test_chunks_whose_manifest_is_lost_are_not_taken_for_another_studys(done: Path) -> None:
    (done / "manifest.json").unlink()
    with pytest.raises(DataError, match="has chunks but no manifest.json: restore it"):
        study(seed=1).run(done, chunk=CHUNK)


def test_a_manifest_that_was_edited_is_named(done: Path) -> None:
    path = done / "manifest.json"
    path.write_text(path.read_text().replace('"replicates": 8', '"replicates": 4'))
    with pytest.raises(DataError, match="manifest.json was changed"):
        loading.cells(done)


def test_what_is_no_chunk_is_named(done: Path) -> None:
    (done / "chunks" / "copy.npz").write_bytes(b"")
    with pytest.raises(DataError, match="copy.npz among the chunks is no file of a study"):
        loading.cells(done)


# --- claims -----------------------------------------------------------------------------------------------------------


def test_a_claim_is_one_process_s_until_it_is_released(tmp_path: Path) -> None:
    with Claims(tmp_path / "claims") as one, Claims(tmp_path / "claims") as other:
        assert one.take("a")
        assert not other.take("a")
        assert other.take("b")
        one.release("a")
        assert other.take("a")
    assert not list((tmp_path / "claims").iterdir())


def test_the_claim_of_a_dead_process_is_taken_over_at_once(tmp_path: Path) -> None:
    code = "import os, sys; from emjax.studies.claims import Claims; from pathlib import Path; "
    code += "print(Claims(Path(sys.argv[1])).take('a'), flush=True); os.kill(os.getpid(), 9)"
    ran = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=False)
    assert ran.stdout == "True\n" and ran.returncode == -9
    assert (tmp_path / "a").exists()
    with Claims(tmp_path) as mine:
        assert mine.take("a")
        (tmp_path / "b").write_text((tmp_path / "a").read_text().replace(str(os.getpid()), "1", 1))
        mine.sweep()
        assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_the_claim_of_a_silent_process_elsewhere_is_taken_over_after_a_while(tmp_path: Path) -> None:
    with Claims(tmp_path, limit=0.3, beat=0.05) as one, Claims(tmp_path, limit=0.3, beat=0.05) as other:
        assert one.take("a")
        text = (tmp_path / "a").read_text()
        (tmp_path / "a").write_text(text.replace(socket.gethostname(), "elsewhere"))
        until = time.monotonic() + 0.8
        while time.monotonic() < until:  # its heart beats
            assert not other.take("a")
            time.sleep(0.02)
        one._stop.set()
        time.sleep(0.1)
        assert not other.take("a")
        time.sleep(0.5)
        assert other.take("a")


def test_a_chunk_that_another_process_has_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other one finishes it meanwhile."""
    run(tmp_path / "whole", replicates=8)
    mine = tmp_path / "mine"
    units = study(replicates=8).units(CHUNK)
    held = Claims(mine / "claims")
    assert held.take(units[2].file)
    store.Store(mine).make()

    def finish(_: float) -> None:
        store.Store(mine).save(units[2], (tmp_path / "whole" / "chunks" / units[2].file).read_bytes())

    monkeypatch.setattr(running, "time", SimpleNamespace(sleep=finish))
    assert run(mine, replicates=8) == running.Ran(3, 1, (), True)
    assert digests(mine) == digests(tmp_path / "whole")


def test_two_extensions_at_the_same_time_are_both_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = (study(methods={name: study().methods[name]}, replicates=8) for name in study().methods)
    held = Claims(tmp_path / "claims")
    assert held.take("manifest.json") and held.take("at-work.other")  # as a run has it until its end

    def extend(_: float) -> None:
        store.Store(tmp_path).make()
        store.Store(tmp_path).begin(other.specified(), CHUNK)
        held.release("manifest.json")

    monkeypatch.setattr(running, "time", SimpleNamespace(sleep=extend))
    assert one.run(tmp_path, chunk=CHUNK, threads=1).computed == 2
    assert sorted(store.Store(tmp_path).manifest()["specification"]["methods"]) == ["mean", "the median"]

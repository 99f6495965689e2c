"""Which process works on which chunk: a claim file each, made exclusively, that a dead process cannot keep.

Claims save work, they guard nothing: chunk files are the same whoever writes them, and are renamed into place. So when
two processes take over one claim in the same moment, both compute the chunk and nothing is wrong.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path

from emjax.base.status import DataError
from emjax.studies import store

LIMIT = 120.0  # seconds without a heartbeat after which a claim from another machine is taken over
BEAT = 10.0  # seconds between heartbeats


class Claims:
    """The claims of one process in one folder. limit, beat : seconds."""

    def __init__(self, folder: Path, limit: float = LIMIT, beat: float = BEAT) -> None:
        self.folder, self.limit, self.beat = folder, limit, beat
        self._seen: dict[str, tuple[int, float]] = {}
        self._mine: set[Path] = set()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Claims:
        self._thread = threading.Thread(target=self._heartbeat, name="emjax claims", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        for path in list(self._mine):
            self.release(path.name)

    def take(self, name: str) -> bool:
        """Whether the claim is now this process's; one whose owner is dead or silent is taken over.

        Errors: `DataError` where the file cannot be written.
        """
        path = self.folder / name
        if not self._create(path):
            if not self._abandoned(path):
                return False
            with suppress(FileNotFoundError):
                path.unlink()
            if not self._create(path):
                return False
        self._seen.pop(name, None)
        return True

    def release(self, name: str) -> None:
        """The chunk is written, or given up."""
        path = self.folder / name
        self._mine.discard(path)
        with suppress(FileNotFoundError):
            path.unlink()

    def others(self) -> bool:
        """Whether another process has a claim here; those of dead ones go."""
        self.sweep()
        return any(path not in self._mine for path in self.folder.glob("*"))

    def sweep(self) -> None:
        """Away with the claims of dead processes, such as one that was killed when its chunk was written."""
        for path in self.folder.glob("*"):
            if self._abandoned(path):
                with suppress(FileNotFoundError):
                    path.unlink()

    def _create(self, path: Path) -> bool:
        owner = {"host": socket.gethostname(), "pid": os.getpid(), "started": _started(os.getpid())}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        except FileExistsError:
            return False
        except OSError as error:
            raise DataError(store.sentence(path, error)) from None
        self._mine.add(path)
        try:
            with os.fdopen(handle, "w") as file:
                json.dump(owner, file)
        except OSError as error:
            self.release(path.name)
            raise DataError(store.sentence(path, error)) from None
        return True

    def _abandoned(self, path: Path) -> bool:
        """Its process is gone from this machine, or its heartbeat has stood still while this process watched.

        Watching, by this process's own monotonic clock, needs no agreement between the clocks of two machines.
        """
        try:
            beat = path.stat().st_mtime_ns
            owner = json.loads(path.read_text() or "{}")
        except FileNotFoundError:
            return True
        except ValueError:
            owner = {}
        if owner.get("host") == socket.gethostname() and _started(int(owner["pid"])) != owner["started"]:
            return True
        last, since = self._seen.get(path.name, (-1, 0.0))
        if beat != last:
            self._seen[path.name] = beat, time.monotonic()
            return False
        return time.monotonic() - since > self.limit

    def _heartbeat(self) -> None:
        while not self._stop.wait(self.beat):
            for path in list(self._mine):
                with suppress(OSError):
                    os.utime(path)


def _started(pid: int) -> str | None:
    """When a process of this machine began, in the system's ticks, or None where there is none: numbers are reused."""
    listed = Path(f"/proc/{pid}/stat")
    if Path("/proc/self/stat").exists():
        try:
            state, *rest = listed.read_text().rpartition(")")[2].split()
        except OSError:
            return None
        return None if state == "Z" else rest[18]
    try:
        with suppress(PermissionError):  # of another user's process, which is there then
            os.kill(pid, 0)
    except ProcessLookupError:
        return None
    return "running"

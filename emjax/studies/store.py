"""A study's directory: a manifest, and immutable files, one a scenario, method and chunk of replicates."""

from __future__ import annotations

import errno
import json
import os
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, unquote

from emjax.base.status import DataError
from emjax.studies import chunk_files, environment, specification
from emjax.studies.layouts import Layout
from emjax.studies.methods import Measured
from emjax.studies.records import Outcomes

FORMAT = 1
MANIFEST, CHUNKS = "manifest.json", "chunks"
PARTS = ("chunk", "specification", "environment", "hash")  # of a manifest
LONGEST = 200  # letters of a file's name; most systems take 255 with the ending of a temporary one
FORGOTTEN = 3600.0  # seconds after which a temporary file is nobody's
# What an extension may add to, and what it may change.
FUNCTIONS = "estimand_functions"  # of what is stored, evaluated when it is read
_GROWING, _FREE = ("scenarios", "methods"), ("name", "replicates", FUNCTIONS)


class Unit(NamedTuple):
    """The work behind one file: replicates `first`, ..., `first + chunk - 1`. scenario : its name, see `name_of`."""

    scenario: str
    method: str
    first: int

    @property
    def file(self) -> str:
        """Its name in the folder of chunks."""
        method = quote(self.method, safe="").replace(".", "%2E")
        return f"{self.scenario}.{method}.{self.first:09d}.npz"

    @staticmethod
    def of_file(name: str) -> Unit:
        """The inverse of `file`."""
        try:
            scenario, method, first, _ = name.split(".")
            return Unit(scenario, unquote(method), int(first))
        except ValueError:
            raise DataError(f"{name} among the chunks is no file of a study: move it away.") from None


class Store:
    """One directory; safe for several processes at a time, since files are renamed into place whole."""

    def __init__(self, directory: Any) -> None:
        if not isinstance(directory, (str, os.PathLike)):
            raise DataError(f"directory={directory!r}: give the name of a folder.")
        self.directory = Path(directory)
        self.chunks = self.directory / CHUNKS

    def make(self) -> None:
        """A folder that is there and takes files: tried, since a question about permissions may be answered wrongly.

        What killed processes left half written goes. Errors: `DataError` where nothing can be written.
        """
        folder = self.chunks
        try:
            folder.mkdir(parents=True, exist_ok=True)
            probe = folder / f".probe.{uuid.uuid4().hex}"
            probe.touch()
            old = probe.stat().st_mtime - FORGOTTEN  # by the clock of the file system
            probe.unlink()
            for part in folder.glob(".*.part"):
                with suppress(FileNotFoundError):  # another process may be quicker
                    if part.stat().st_mtime < old:
                        part.unlink()
        except OSError as error:
            raise DataError(sentence(folder, error)) from None

    def begun(self) -> bool:
        """Whether there is a manifest."""
        return (self.directory / MANIFEST).exists()

    def manifest(self) -> dict[str, Any]:
        """What is on disk. Errors: `DataError` where there is no study."""
        path = self.directory / MANIFEST
        try:
            found = json.loads(path.read_text())
        except FileNotFoundError:
            raise DataError(f"{self.directory} holds no study ({MANIFEST} is missing): run one there first.") from None
        except (OSError, ValueError) as error:
            raise DataError(f"{path} cannot be read ({error}): restore it, or use a new directory.") from None
        read = found.get("format") if isinstance(found, dict) else None
        if read != FORMAT:
            raise DataError(f"{path} has format {read}; this version of emjax reads format {FORMAT}.")
        lacking = [name for name in PARTS if name not in found]
        if lacking:
            raise DataError(f"{path} lacks {lacking[0]!r}: restore it, or use a new directory.")
        if found["hash"] != specification.name_of(found["specification"]):
            raise DataError(f"{path} was changed (its hash does not agree): restore it, or use a new directory.")
        return found

    def begun_with(self, alone: bool) -> dict[str, Any] | None:
        """The manifest, None of a new directory. alone : no other process is at work here; then methods of which there
        is no chunk do not count, nor does a study without any: what failed at first may be corrected.

        Errors: `DataError` for chunks without a manifest.
        """
        units = [Unit.of_file(path.name) for path in self.chunks.glob("*.npz")]
        if not self.begun():
            if units:  # of whatever study: they would be taken for this one's
                raise DataError(f"{self.directory} has chunks but no {MANIFEST}: restore it, or use a new directory.")
            return None
        found = self.manifest()
        if not alone:
            return found
        specified, computed = found["specification"], {unit.method for unit in units}
        methods = {name: own for name, own in specified["methods"].items() if name in computed}
        return {**found, "specification": {**specified, "methods": methods}} if methods else None

    def begin(self, specified: dict[str, Any], chunk: int, alone: bool = False) -> dict[str, Any]:
        """Write or extend the manifest, and return it. alone : see `begun_with`.

        Errors: `DataError` naming the field where the directory holds another specification, was computed on a machine
        or with versions that give other bits, or cannot be written.
        """
        path = self.directory / MANIFEST
        here = environment.describe()
        found = self.begun_with(alone)
        if found is None:
            found = {"format": FORMAT, "chunk": chunk, "specification": specified, "environment": here}
        else:
            self.refuse_changes(found["specification"], specified)
            self.refuse_foreign(found, here)
            merged = {name: {**found["specification"][name], **specified[name]} for name in _GROWING}
            replicates = max(found["specification"]["replicates"], specified["replicates"])
            found = {**found, "specification": {**specified, **merged, "replicates": replicates}}
        found["hash"] = specification.name_of(found["specification"])
        text = json.dumps(found, indent=1) + "\n"
        if not path.exists() or path.read_text() != text:
            self.write(path, text.encode())
        return found

    def refuse_changes(self, old: dict[str, Any], new: dict[str, Any]) -> None:
        """More replicates, scenarios or methods are an extension; anything else is another study."""
        before, after = (
            {name: value for name, value in spec.items() if name not in (*_GROWING, *_FREE)} for spec in (old, new)
        )
        changed = list(specification.differences(before, after))
        for group in _GROWING:
            for name in sorted(old[group].keys() & new[group].keys()):
                changed += specification.differences(old[group][name], new[group][name], f"{group}.{name}")
        if changed:
            raise DataError(
                f"{self.directory} holds another study: {'; '.join(changed)}; use a new directory, or the old "
                "specification."
            )

    def refuse_foreign(self, manifest: dict[str, Any], here: dict[str, str]) -> None:
        """Errors: `DataError` naming what differs between this process and the one that began the directory."""
        began = environment.compared(manifest["environment"])
        changed = list(specification.differences(began, environment.compared(here)))
        if changed:
            raise DataError(
                f"{self.directory} was computed elsewhere: {'; '.join(changed)}; files would no longer be equal to the "
                "bit, so use the same versions and machine type, or a new directory."
            )

    def has(self, unit: Unit) -> bool:
        """Whether its file is there, whole or not."""
        return (self.chunks / unit.file).exists()

    def read(self, unit: Unit) -> tuple[Layout, Outcomes]:
        """Errors: `DataError` naming a file that is missing or damaged."""
        path = self.chunks / unit.file
        try:
            content = path.read_bytes()
        except OSError as error:
            raise DataError(f"{path} cannot be read ({error.strerror}): run the study again.") from None
        return chunk_files.decode(content, path)

    def damaged(self, unit: Unit) -> str | None:
        """Why its file is of no use; None where it is whole."""
        try:
            self.read(unit)
        except DataError as error:
            return str(error)
        return None

    def remove(self, unit: Unit) -> None:
        """Of a damaged file."""
        with suppress(FileNotFoundError):
            (self.chunks / unit.file).unlink()

    def save(self, unit: Unit, content: bytes | Measured) -> None:
        """Errors: `DataError` where it cannot be written."""
        if isinstance(content, Measured):
            content = chunk_files.encode(content, unit.file)
        self.write(self.chunks / unit.file, content)

    def write(self, path: Path, content: bytes) -> None:
        """A temporary name beside it, synced, renamed, and the folder synced: all of the file or nothing.

        Errors: `DataError` naming the file and why, in one sentence.
        """
        part = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
        try:
            try:
                with open(part, "wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(part, path)
            except BaseException:
                with suppress(OSError):
                    part.unlink()
                raise
            _sync(path.parent)
        except OSError as error:
            raise DataError(sentence(path, error)) from None


def sentence(path: Path, error: OSError) -> str:
    """What happened, where, and what to try."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        remedy = "the disk or quota is full; all finished chunks are whole: make room and run again"
    elif error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        remedy = "it is read-only; choose a directory that can be written"
    elif error.errno in (errno.ENOTDIR, errno.EEXIST):
        remedy = "a file has this name; choose another directory"
    else:
        remedy = "all finished chunks are whole: mend it and run again"
    return f"{path} cannot be written ({error.strerror or type(error).__name__}): {remedy}."


def _sync(folder: Path) -> None:
    """So that the renamed file's name survives a loss of power; not all systems can."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

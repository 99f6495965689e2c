"""One chunk of replicates as bytes: an npz file without clocks, and a checksum of what it holds."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from emjax.base.status import DataError
from emjax.studies.layouts import Layout
from emjax.studies.methods import Measured
from emjax.studies.records import Entry, Outcomes

_EPOCH = (1980, 1, 1, 0, 0, 0)  # the zip format's first moment
_UNIX = 3
DIGITS = 64  # of the checksum, at the end of the file


def encode(measured: Measured, file: str) -> bytes:
    """The same bytes for the same content and name of the file, wherever and whenever."""
    layout = measured.layout
    described = {
        "file": file,
        "entries": [list(entry) for entry in layout.entries],
        "blocks": [[name, place, list(shape)] for name, place, shape in layout.blocks],
        "n_components": layout.n_components,
    }
    text = np.frombuffer(json.dumps(described, sort_keys=True).encode(), np.uint8)
    arrays = {"layout": text, "swaps": layout.swaps.astype(np.int64), **measured.outcomes._asdict()}
    packed = {f"{name}.npy": _npy(array) for name, array in arrays.items()}
    room = io.BytesIO()
    with zipfile.ZipFile(room, "w", zipfile.ZIP_STORED) as archive:  # compressors differ between versions
        for name, content in packed.items():
            member = zipfile.ZipInfo(name, _EPOCH)
            member.create_system, member.external_attr = _UNIX, 0o644 << 16
            archive.writestr(member, content)
        archive.comment = _checksum(b"")  # holds the place
    whole = room.getvalue()[:-DIGITS]
    return whole + _checksum(whole)


def decode(content: bytes, path: Path) -> tuple[Layout, Outcomes]:
    """What `encode` was given. Errors: `DataError` naming a file that is truncated, damaged or another's copy."""
    try:
        if content[-DIGITS:] != _checksum(content[:-DIGITS]):
            raise ValueError("its checksum does not agree")
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            packed = {member: archive.read(member) for member in archive.namelist()}
        arrays = {
            member.removesuffix(".npy"): np.lib.format.read_array(io.BytesIO(part), allow_pickle=False)
            for member, part in packed.items()
        }
        described = json.loads(arrays.pop("layout").tobytes())
        if described["file"] != path.name:
            raise ValueError(f"it was {described['file']}")
        swaps = arrays.pop("swaps")
        outcomes = Outcomes(**arrays)
    except Exception as error:  # a damaged file can fail anywhere in the readers
        raise DataError(
            f"{path} is truncated or damaged ({' '.join(str(error).split())}): run the study again, which computes "
            "this chunk anew."
        ) from None
    return _layout(described, swaps), outcomes


def _layout(described: dict[str, Any], swaps: np.ndarray) -> Layout:
    entries = tuple(Entry(*entry) for entry in described["entries"])
    blocks = tuple((name, place, tuple(shape)) for name, place, shape in described["blocks"])
    return Layout(entries, blocks, described["n_components"], swaps)


def _npy(array: Any) -> bytes:
    room = io.BytesIO()
    np.lib.format.write_array(room, np.ascontiguousarray(array), version=(1, 0), allow_pickle=False)
    return room.getvalue()


def _checksum(content: bytes) -> bytes:
    """SHA-256 of everything before it, as the zip file's comment."""
    return hashlib.sha256(content).hexdigest().encode()

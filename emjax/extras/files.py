"""Reading a CSV file and writing results, each failure one sentence that names the file and the remedy."""

import csv
import os
import re
import tempfile
import warnings
from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import Any

from emjax.base.status import DataError
from emjax.extras.optional import require

# First bytes of files that people rename to .csv or mistake for one.
_SIGNATURES = {
    b"PK\x03\x04": "a spreadsheet or zip archive",
    b"\x1f\x8b": "a gzip archive",
    b"PAR1": "a parquet file",
    b"%PDF": "a PDF",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook",
}

# Bytes that no text has: it keeps tab, line feed, form feed and carriage return.
_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f]")


def read_table(path: str | os.PathLike[str], text_columns: Sequence[str] = ()) -> Any:
    """A comma-separated UTF-8 file with a header as a pandas DataFrame, one row per line, index 0, 1, ...

    `text_columns` are kept as they are written (labels such as "007"). Errors: MissingExtraError; DataError for a file
    that is missing, a folder, unreadable, empty, binary, not UTF-8, not separated by commas, without rows, with two
    columns of one name, or with lines of unequal length.
    """
    pandas = require("pandas", "frames")
    name = os.fspath(path)
    text = _text(Path(path), name)
    header = _header(text, name)
    try:
        with warnings.catch_warnings():
            # A line longer than the header is only a warning to pandas, which then drops the surplus.
            warnings.simplefilter("error", pandas.errors.ParserWarning)
            table = pandas.read_csv(
                StringIO(text),
                index_col=False,
                skipinitialspace=True,
                dtype={column: str for column in header if column.strip() in text_columns},
                low_memory=False,
            )
    except pandas.errors.ParserWarning:
        raise DataError(f"{name}: a line has more fields than the header; quote the fields that hold commas") from None
    except pandas.errors.ParserError as error:
        detail = str(error).split("C error: ")[-1].strip().rstrip(".")
        raise DataError(f"{name}: not a well-formed CSV file ({detail}); quote the fields that hold commas") from None
    table.columns = [str(column).strip() for column in table.columns]
    if not len(table):
        raise DataError(f"{name}: there is a header and no row below it; add the data")
    return table


def _text(path: Path, name: str) -> str:
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{name}: no such file; check the name and the folder") from None
    except IsADirectoryError:
        raise DataError(f"{name}: this is a folder; name the CSV file in it") from None
    except OSError as error:
        raise DataError(f"{name}: cannot be read ({error.strerror}); check the file and its permissions") from None
    if not raw.strip():
        raise DataError(f"{name}: the file is empty; it needs a header line and rows")
    kind = next((kind for start, kind in _SIGNATURES.items() if raw.startswith(start)), None)
    if kind or _CONTROL.search(raw):
        raise DataError(
            f"{name}: not a CSV file ({kind or 'it holds binary data'}); export it as comma-separated UTF-8"
        )
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise DataError(f"{name}: line {line} is not UTF-8 text; save the file as comma-separated UTF-8") from None


def _header(text: str, name: str) -> list[str]:
    """The column names as pandas will see them."""
    line = next(line for line in text.splitlines() if line.strip())
    header = next(csv.reader([line], skipinitialspace=True))
    for mark, called in ((";", "semicolons"), ("\t", "tabs")):
        if len(header) == 1 and mark in line:
            raise DataError(f"{name}: the columns seem to be separated by {called}; save the file with commas")
    names = [column.strip() for column in header]
    twice = next((column for i, column in enumerate(names) if column and column in names[:i]), None)
    if twice is not None:
        raise DataError(f"{name}: two columns are called '{twice}'; rename one")
    return header


def prepare_folder(path: str | os.PathLike[str]) -> Path:
    """The folder `path`, made if need be and proven writable: to be called before a long computation.

    Errors: DataError naming the folder and the reason.
    """
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _probe(folder)
    except OSError as error:
        raise DataError(f"{path}: cannot write to this folder ({_why(error)}); choose another with --out") from None
    return folder


def prepare_file(path: str | os.PathLike[str]) -> Path:
    """The file `path`, proven writable without touching what it holds: to be called before a long computation.

    Errors: DataError naming the file and the reason.
    """
    target = Path(path)
    if target.is_dir():
        raise DataError(f"{path}: this is a folder; name a file in it with --out")
    try:
        if target.exists() and not os.access(target, os.W_OK):
            raise PermissionError(13, "Permission denied")
        _probe(target.parent)
    except OSError as error:
        raise DataError(f"{path}: cannot write this file ({_why(error)}); choose another with --out") from None
    return target


def write_text(path: Path, text: str) -> None:
    """Write `text` under a temporary name and rename, so that a failure leaves no half file.

    Errors: DataError naming the file and the reason (a full disk, a folder that went away).
    """
    try:
        with tempfile.NamedTemporaryFile(
            "w", dir=path.parent, prefix=f".{path.name}.", delete=False, encoding="utf-8", newline=""
        ) as partial:
            try:
                partial.write(text)
                partial.flush()
                os.chmod(partial.name, _mode(path))
                os.replace(partial.name, path)
            except BaseException:
                os.unlink(partial.name)
                raise
    except OSError as error:
        raise DataError(f"{path}: cannot write this file ({_why(error)}); choose another with --out") from None


def _mode(path: Path) -> int:
    """The permissions of the file that is replaced, or those of an ordinary new file."""
    if path.exists():
        return path.stat().st_mode & 0o777
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


def _probe(folder: Path) -> None:
    """Writing is tried rather than asked about: a read-only disk answers a question about permissions with yes."""
    with tempfile.TemporaryFile(dir=folder):
        pass


def _why(error: OSError) -> str:
    return error.strerror or type(error).__name__

"""jax's persistent compilation cache in a private folder: later processes load what an earlier one compiled."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import jax
from jax.experimental.compilation_cache import compilation_cache

from emjax.base.status import DataError

SHORTEST = 0.05  # seconds of compiling that are worth a file; jax's own limit, 1 s, would leave half of a fit's out


def use_compilation_cache(folder: str | os.PathLike[str] | None = None) -> Path:
    """Keep compiled programs on disk for later processes, from now on; the library does so only when asked.

    folder : by default `emjax` in the user's cache folder ($XDG_CACHE_HOME or ~/.cache; ~/Library/Caches on macOS,
        %LOCALAPPDATA% on Windows), unless jax was told of a cache already, which is then left as it is. It is made for
        its owner alone (mode 0700) and may be emptied at any time; jax does not bound its size.

    Sets jax's options of that name for the whole process, other programs included. Returns the folder. Errors:
    `DataError` where it cannot be made or written, or where other users could write to it: what lies there is run.
    """
    set_already = getattr(jax.config, "jax_compilation_cache_dir")  # noqa: B009 (unknown to type checkers)
    if folder is None and set_already:
        return Path(set_already)
    path = _default() if folder is None else Path(folder)
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = path.stat()
    except OSError as error:
        raise DataError(f"{path} cannot be made ({error.strerror}): choose another folder for the cache.") from None
    if hasattr(os, "getuid") and (found.st_uid != os.getuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)):
        raise DataError(f"{path} can be written by other users: choose a folder of your own for the cache (mode 0700).")
    if not os.access(path, os.W_OK | os.X_OK):
        raise DataError(f"{path} cannot be written: choose another folder for the cache.")
    jax.config.update("jax_compilation_cache_dir", str(path))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", SHORTEST)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    compilation_cache.reset_cache()  # jax keeps to the folder of the first compile otherwise
    return path


def _default() -> Path:
    """The user's cache folder of the operating system."""
    try:
        home = Path.home()
    except RuntimeError:
        raise DataError(
            "There is no home folder to keep compiled programs in: give use_compilation_cache(folder)."
        ) from None
    if sys.platform == "darwin":
        return home / "Library" / "Caches" / "emjax"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local") / "emjax" / "Cache"
    given = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (given if given.is_absolute() else home / ".cache") / "emjax"  # by the standard, a relative one is ignored

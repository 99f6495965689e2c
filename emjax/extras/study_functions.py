"""Functions of a Python file beside a study's TOML file, written there as "file.py:function"."""

import ast
import hashlib
import importlib.util
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emjax.base.status import DataError
from emjax.studies.running import in_words


@dataclass(frozen=True)
class UserFunction:
    """A function of a Python file, loaded where it is called, so that it can be sent to other processes.

    source : a hash of what `needed` tells of it. content : of the whole file."""

    path: str
    name: str
    source: str
    content: str

    def described(self) -> dict[str, str]:
        """For the manifest: the file may move and hold other functions too, what this one needs may not change."""
        return {"function": f"{Path(self.path).name}:{self.name}", "source": self.source}

    def load(self) -> Any:
        """Errors: `DataError` where the file cannot be run, or has no such function."""
        module = f"emjax_study_{self.content}"
        if module not in sys.modules:
            spec = importlib.util.spec_from_file_location(module, self.path)
            assert spec is not None and spec.loader is not None
            loaded = importlib.util.module_from_spec(spec)
            try:
                spec.loader.exec_module(loaded)
            except Exception as error:
                raise DataError(f"{self.path} cannot be run ({in_words(error)}); mend it.") from error
            sys.modules[module] = loaded
        found = getattr(sys.modules[module], self.name, None)
        if not callable(found):
            raise DataError(f"{self.path} has no function {self.name!r}: define it there.")
        return found

    def __call__(self, first: Any, second: Any) -> Any:
        """As a study calls it: (key, scenario), or (data, keys)."""
        return self.load()(first, second)


@dataclass(frozen=True)
class UserEstimands(UserFunction):
    """The same of one argument, the parameters by name."""

    def __call__(self, values: Any) -> Any:  # type: ignore[override]
        """See `emjax.studies.estimands.chosen`."""
        return self.load()(values)


def read(path: Path, key: str, given: Any, kind: type[UserFunction] = UserFunction) -> UserFunction:
    """The function that a key of the TOML file `path` names. Errors: `DataError`."""
    file, colon, name = str(given).rpartition(":")
    source = path.parent / file
    if not colon or not name.isidentifier() or not file.endswith(".py"):
        raise DataError(f"{path}: {key} = {given!r}; write it as 'file.py:function'.")
    try:
        content = source.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: {key} names {source}, which cannot be read ({error.strerror}).") from None
    found = kind(str(source.resolve()), name, "", _hash(content))
    found.load()
    return kind(found.path, name, _hash(needed(content.decode(), name).encode()), found.content)


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def needed(text: str, name: str) -> str:
    """Of a Python file, the lines of a function, of all at the top level that it names, directly or not, and of the
    statements that give nothing a name, such as settings: what may change what it returns, other files left out."""
    lines, statements = text.splitlines(), ast.parse(text).body
    bound = [set(_bound(statement)) for statement in statements]
    waiting, known, kept = [name], {name}, {i for i, names in enumerate(bound) if not names}
    while waiting:
        wanted = waiting.pop()
        for i in (i for i, names in enumerate(bound) if wanted in names or "*" in names):
            kept.add(i)
            used = {node.id for node in ast.walk(statements[i]) if isinstance(node, ast.Name)} - known
            known |= used
            waiting += used
    parts = []
    for i in sorted(kept):
        first = min([statements[i].lineno, *(d.lineno for d in getattr(statements[i], "decorator_list", ()))])
        parts += lines[first - 1 : statements[i].end_lineno]
    return "\n".join(parts)


def _bound(statement: ast.stmt) -> Iterator[str]:
    """The names that a statement of the top level gives to something."""
    if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        yield statement.name
        return
    for node in ast.walk(statement):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield from ((alias.asname or alias.name).partition(".")[0] for alias in node.names)
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id

"""The rooms of the design: who may import whom, what may be imported from outside, and how long things may be.

The source is read, never imported, so a room that does not run yet is checked too.
"""

import ast
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MAY_IMPORT = {
    "base": set(),
    "families": {"base"},
    "latent": {"base"},
    "models": {"base", "families", "latent"},
    "engine": {"base"},
    "inference": {"base", "engine"},
    "studies": {"base", "engine", "inference"},
}
ROOMS = {*MAY_IMPORT, "extras"}
CORE_DEPENDENCIES = {"jax", "jaxlib", "numpy", "optax", "chex"}
LONGEST_FUNCTION = 60
LONGEST_FILE = 330
TOP_LEVEL = {"pyproject.toml", "README.md", "LICENSE", "emjax", "tests", "bench"}


def imported_modules(tree: ast.AST, package: tuple[str, ...]) -> Iterator[tuple[int, str]]:
    """Line and absolute dotted name of everything imported, also inside functions and relatively."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*start, *([node.module] if node.module else [])])
            for alias in node.names:
                yield node.lineno, f"{module}.{alias.name}"


def import_faults(path: Path, source: str) -> list[str]:
    """`path` is relative to the root, such as emjax/engine/em.py."""
    package = path.parts[:-1]
    room = package[1] if len(package) > 1 else "emjax"
    faults = []
    for line, name in imported_modules(ast.parse(source), package):
        top, *rest = name.split(".")
        if top == "emjax":
            reason = _internal_fault(room, rest[0] if rest else "")
        else:
            reason = _external_fault(room, top)
        if reason:
            faults.append(f"{path}:{line} {room} imports {name}: {reason}")
    return faults


def _internal_fault(room: str, target: str) -> str | None:
    if room == "extras":
        return None
    if target == "extras":
        return "nothing imports extras"
    if room == "emjax":
        return None
    if target not in ROOMS:
        return "a room imports from rooms, not from the package's front"
    if target != room and target not in MAY_IMPORT.get(room, set()):
        return f"allowed are {sorted(MAY_IMPORT.get(room, set()))}"
    return None


def _external_fault(room: str, top: str) -> str | None:
    allowed = CORE_DEPENDENCIES | sys.stdlib_module_names
    return "not a core dependency" if room != "extras" and top not in allowed else None


def transformation_faults(path: Path, source: str) -> list[str]:
    """Only the engine maps over lanes; jit stands at module level and nowhere else."""
    tree = ast.parse(source)
    room = path.parts[1]
    faults = []
    if room not in {"engine", "extras"}:
        lines = _mentions(tree, {"vmap", "pmap", "shard_map"})
        faults += [f"{path}:{line} maps over lanes outside the engine" for line in lines]
    inside = (node for owner in ast.walk(tree) for node in _nested_statements(owner))
    lines = {line for node in inside for line in _mentions(node, {"jit"})}
    return faults + [f"{path}:{line} jit inside a function or method" for line in sorted(lines)]


def _nested_statements(owner: ast.AST) -> list[ast.stmt]:
    """A function's or class's body; the decorators of its own line stand at the level above."""
    return owner.body if isinstance(owner, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) else []


def _mentions(tree: ast.AST, names: set[str]) -> list[int]:
    lines = []
    for node in ast.walk(tree):
        of_jax = isinstance(node, ast.Attribute) and node.attr in names and getattr(node.value, "id", None) == "jax"
        if of_jax or (isinstance(node, ast.Name) and node.id in names):
            lines.append(node.lineno)
    return lines


def length_faults(path: Path, source: str) -> list[str]:
    faults = []
    n_lines = source.count("\n")
    if n_lines > LONGEST_FILE:
        faults.append(f"{path}: {n_lines} lines")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > LONGEST_FUNCTION:
                faults.append(f"{path}:{node.lineno} {node.name}: {length} lines")
    return faults


def name_faults(path: Path, source: str) -> list[str]:
    """`from emjax.engine import em` must not be either the module or the function, by the order of imports."""
    clash = path.stem in _top_level_names(ast.parse(source))
    return [f"{path}: the module shares its name with something it exports"] if clash else []


def front_faults(path: Path, source: str) -> list[str]:
    """What the package's front re-exports must not hide a room."""
    hidden = sorted(ROOMS & _imported_names(ast.parse(source))) if path == Path("emjax/__init__.py") else []
    return [f"{path}: `{name}` hides the room of that name" for name in hidden]


def _top_level_names(tree: ast.Module) -> set[str]:
    names = set()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
    return names


def _imported_names(tree: ast.Module) -> set[str]:
    aliases = [alias for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names]
    return {alias.asname or alias.name for alias in aliases}


def collect(check: Callable[[Path, str], list[str]], *folders: str) -> list[str]:
    paths = sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))
    assert paths, f"nothing to check in {folders}"
    return [fault for path in paths for fault in check(path.relative_to(ROOT), path.read_text())]


@pytest.mark.parametrize("check", [import_faults, transformation_faults, name_faults, front_faults])
def test_rooms(check: Callable[[Path, str], list[str]]) -> None:
    assert collect(check, "emjax") == []


def test_lengths() -> None:
    assert collect(length_faults, "emjax", "tests", "bench") == []


def test_every_folder_is_a_room() -> None:
    assert {path.parent.name for path in (ROOT / "emjax").glob("*/*.py")} <= ROOMS


def test_nothing_else_at_the_top() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    top = {Path(line).parts[0] for line in tracked.splitlines()}
    assert {name for name in top if not name.startswith(".")} <= TOP_LEVEL


PLANTED = [
    (import_faults, "emjax/base/a.py", "from emjax.engine.em import step"),
    (import_faults, "emjax/families/a.py", "import emjax.latent.weights"),
    (import_faults, "emjax/latent/a.py", "from ..families import gaussian"),
    (import_faults, "emjax/engine/a.py", "def f():\n    from emjax.models import mixture"),
    (import_faults, "emjax/inference/a.py", "from emjax import fit"),
    (import_faults, "emjax/inference/a.py", "from emjax import studies"),
    (import_faults, "emjax/studies/a.py", "from emjax.extras.frames import table"),
    (import_faults, "emjax/__init__.py", "from .extras import cli"),
    (import_faults, "emjax/studies/a.py", "import pandas as pd"),
    (import_faults, "emjax/__init__.py", "from scipy import stats"),
    (transformation_faults, "emjax/models/a.py", "import jax\nf = jax.vmap(g)"),
    (transformation_faults, "emjax/inference/a.py", "from jax import vmap\nf = vmap(g)"),
    (transformation_faults, "emjax/engine/a.py", "import jax\ndef f(g):\n    return jax.jit(g)"),
    (transformation_faults, "emjax/engine/a.py", "import jax\nclass A:\n    @jax.jit\n    def f(self): ..."),
    (length_faults, "emjax/engine/a.py", "def f():\n" + "    g()\n" * LONGEST_FUNCTION),
    (length_faults, "emjax/engine/a.py", "f()\n" * (LONGEST_FILE + 1)),
    (name_faults, "emjax/engine/em.py", "def em(): ..."),
    (name_faults, "emjax/engine/status.py", "status: int = 3"),
    (front_faults, "emjax/__init__.py", "from emjax.engine.em import run as engine"),
]
ALLOWED = [
    (import_faults, "emjax/engine/a.py", "import math\nimport jax.numpy as jnp\nfrom emjax.base import records"),
    (import_faults, "emjax/engine/a.py", "from . import stopping\nfrom .em import step\nfrom ..base import Status"),
    (import_faults, "emjax/studies/a.py", "from emjax.inference.tables import table\nfrom emjax.engine import fitting"),
    (import_faults, "emjax/extras/a.py", "import pandas\nimport emjax\nfrom emjax.extras import cli"),
    (import_faults, "emjax/__init__.py", "from emjax.engine.fitting import fit as fit"),
    (transformation_faults, "emjax/engine/a.py", "import jax\n@jax.jit\ndef f(): ...\nh = jax.jit(jax.vmap(f))"),
    (length_faults, "emjax/engine/a.py", "def f():\n" + "    g()\n" * (LONGEST_FUNCTION - 1)),
    (name_faults, "emjax/engine/em.py", "def step(em): ..."),
    (front_faults, "emjax/__init__.py", "from emjax.engine.fitting import fit as fit"),
]


@pytest.mark.parametrize(("check", "path", "source"), PLANTED)
def test_a_planted_fault_is_seen(check: Callable[[Path, str], list[str]], path: str, source: str) -> None:
    assert len(check(Path(path), source)) == 1


@pytest.mark.parametrize(("check", "path", "source"), ALLOWED)
def test_what_is_allowed_passes(check: Callable[[Path, str], list[str]], path: str, source: str) -> None:
    assert check(Path(path), source) == []

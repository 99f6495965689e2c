"""A study from a TOML file. Every fault is one sentence with the file, the key and what would be right.

    [study]                                    [generate]
    name = "lines"                             model = "LinearRegression"
    replicates = 1000                          components = 2
    seed = 1                                   n = "n"
                                               x = [{distribution = "uniform", low = 0, high = 10}]
    [scenarios]
    n = [50, 100]                              [generate.parameters]
    noise = [0.5, 1.0]                         weights = [0.5, 0.5]
                                               coefficients = [[1.0, 0.5], [2.0, 1.5]]
    [methods.EM]                               scale = {times = "noise", of = [0.1, 0.2]}
    restarts = 10

Scenarios are the full factorial of [scenarios], and each [[scenario]]. `generate = "file.py:function"` in [study] takes
a function of (key, scenario) beside the TOML file, and `function = "file.py:function"` in a method's table one of
(data, keys). A method has the generating model unless it names its own `model`, `latent`, `components`, `settings`;
where a number is asked for, the name of a factor will do. [description] holds texts for the report: title, aims,
data_generating_mechanisms, estimands, methods, performance_measures.
"""

import hashlib
import importlib.util
import sys
import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import emjax
from emjax.base.status import DataError
from emjax.extras import study_models
from emjax.studies import Method, Study, grid
from emjax.studies.running import in_words

TABLES = ("study", "scenarios", "scenario", "generate", "methods", "description")
STUDY = ("name", "replicates", "seed", "estimands", "common_random_numbers", "generate")
GENERATE = ("model", "latent", "components", "settings", "parameters", "n", "x")
MODEL = ("model", "latent", "components", "settings")
STOP, RACE = ("tol", "max_iterations"), ("iterations", "keep")
# Of `Method`, those that a file can say; priors and degeneracy rules are objects of Python.
OF_METHOD = tuple(f.name for f in fields(Method) if f.name not in ("model", "stop", "prior", "degeneracy"))
METHOD = (*MODEL, *OF_METHOD, *STOP, "function")
COUNTED = ("components", "restarts", "tol", "max_iterations", "level", "bootstraps")  # which may be factors


@dataclass(frozen=True)
class UserFunction:
    """A function of a Python file, loaded where it is called, so that it can be sent to other processes."""

    path: str
    name: str
    source: str

    def described(self) -> dict[str, str]:
        """For the manifest: the file may move, what it says may not change."""
        return {"function": f"{Path(self.path).name}:{self.name}", "source": self.source}

    def load(self) -> Any:
        """Errors: `DataError` where the file cannot be run, or has no such function."""
        module = f"emjax_study_{self.source}"
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


def read(path: Any, replicates: int | None = None) -> Study:
    """The study that a TOML file describes; `replicates` in place of the file's. Errors: `DataError`."""
    name, content = str(path), _content(path)
    study = _table(name, content, "study")
    _known(f"{name}: [study]", study, STUDY)
    count = replicates if replicates is not None else _needed(f"{name}: [study]", study, "replicates")
    scenarios = _scenarios(name, content)
    generate = _generate(Path(path), content, study)
    settings = {key: study[key] for key in ("estimands", "common_random_numbers") if key in study}
    given = _table(name, content, "methods")
    methods = {method: _method(Path(path), method, table, generate) for method, table in given.items()}
    try:
        found = Study(
            scenarios=scenarios,
            generate=generate,
            methods=methods,
            replicates=count,
            seed=study.get("seed", 1),
            name=study.get("name", Path(path).stem),
            description=content.get("description"),
            **settings,
        )
        for own in found.scenarios:  # every fault is told before anything is computed
            if isinstance(generate, study_models.FromFile):
                generate.at(own)
            for method in methods:
                found.method(method, own)
    except DataError as error:
        raise DataError(_prefixed(name, str(error))) from None
    return found


def _content(path: Any) -> dict[str, Any]:
    """The file's tables, all of them known."""
    name = str(path)
    try:
        content = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{name}: no such file; check the name and the folder.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{name} cannot be read ({error}); check the file and its permissions.") from None
    except tomllib.TOMLDecodeError as error:
        raise DataError(f"{name} is not TOML: {error}.") from None
    _known(f"{name}: the file", content, TABLES)
    return content


def _prefixed(name: str, message: str) -> str:
    return message if message.startswith(name) else f"{name}: {message}"


def _known(where: str, table: dict[str, Any], names: tuple[str, ...]) -> None:
    unknown = next((key for key in table if key not in names), None)
    if unknown is not None:
        raise DataError(f"{where} has the key {unknown!r}, which is not known; use {', '.join(names)}.")


def _table(name: str, content: dict[str, Any], key: str) -> dict[str, Any]:
    found = content.get(key)
    if not isinstance(found, dict) or not found:
        raise DataError(f"{name} needs a table [{key}] that is not empty.")
    return found


def _needed(where: str, table: dict[str, Any], key: str) -> Any:
    if key not in table:
        raise DataError(f"{where} needs the key {key!r}.")
    return table[key]


def _scenarios(name: str, content: dict[str, Any]) -> list[dict[str, Any]]:
    factors, listed = content.get("scenarios", {}), content.get("scenario", [])
    if not isinstance(factors, dict) or not isinstance(listed, list):
        raise DataError(f"{name}: write factors as a table [scenarios], single scenarios as tables [[scenario]].")
    empty = next((key for key, levels in factors.items() if levels == []), None)
    if empty is not None:
        raise DataError(f"{name}: [scenarios] {empty} = [] has no level; give at least one.")
    found = (grid(**factors) if factors else []) + listed
    return found or [{}]


def _generate(path: Path, content: dict[str, Any], study: dict[str, Any]) -> Any:
    given = content.get("generate", study.get("generate"))
    if isinstance(given, str):
        return _function(path, "generate", given)
    where = f"{path}: [generate]"
    if not isinstance(given, dict):
        raise DataError(f"{path} needs a table [generate], or generate = 'file.py:function' in [study].")
    _known(where, given, GENERATE)
    parameters = _needed(where, given, "parameters")
    if not isinstance(parameters, dict):
        raise DataError(f"{where}: parameters = {parameters!r} must be a table [generate.parameters].")
    model = study_models.build(
        where,
        _needed(where, given, "model"),
        given.get("latent", "mixture"),
        _needed(where, given, "components"),
        given.get("settings", {}),
    )
    return study_models.FromFile(f"{path}: generate", model, parameters, given.get("n", "n"), given.get("x"))


def _function(path: Path, key: str, given: Any) -> UserFunction:
    file, colon, name = str(given).rpartition(":")
    source = path.parent / file
    if not colon or not name.isidentifier() or not file.endswith(".py"):
        raise DataError(f"{path}: {key} = {given!r}; write it as 'file.py:function'.")
    try:
        text = source.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: {key} names {source}, which cannot be read ({error.strerror}).") from None
    found = UserFunction(str(source.resolve()), name, hashlib.sha256(text).hexdigest()[:16])
    found.load()
    return found


@dataclass(frozen=True, eq=False)
class MethodOf:
    """A method's table, in which numbers may be factors of the scenario."""

    where: str
    table: dict[str, Any]
    model: Any

    def __call__(self, scenario: dict[str, Any]) -> Method:
        """In one scenario. Errors: `DataError` naming file and key."""
        own = dict(self.table)
        for name in COUNTED:
            if name in own and not (name == "restarts" and own[name] == "auto"):
                own[name] = study_models.resolve(f"{self.where}.{name}", own[name], scenario)
        settings = {name: own[name] for name in OF_METHOD if name in own}
        if isinstance(settings.get("start"), list):
            settings["start"] = tuple(settings["start"])
        if settings.get("intervals") == "none":
            settings["intervals"] = None
        if "race" in settings:
            settings["race"] = self._race(settings["race"])
        stop = {name: own[name] for name in STOP if name in own}
        try:
            return Method(self._model(own), stop=emjax.Stop(**stop), **settings)
        except DataError as error:
            raise DataError(_prefixed(self.where, str(error))) from None

    def _model(self, own: dict[str, Any]) -> Any:
        if not any(name in own for name in MODEL):
            if self.model is None:
                raise DataError(f"{self.where} needs the keys 'model' and 'components': generate is a function.")
            return self.model
        default = self.model
        latent = "hidden-markov" if isinstance(default, emjax.HiddenMarkov) else "mixture"
        components: Any = own.get("components", getattr(default, "n_components", None))
        if "model" not in own and default is not None and not {"settings", "latent"} & set(own):
            return type(default)(default.family, components)
        family = own.get("model", type(getattr(default, "family", None)).__name__)
        return study_models.build(self.where, family, own.get("latent", latent), components, own.get("settings", {}))

    def _race(self, given: Any) -> Any:
        if isinstance(given, bool):
            return emjax.Race() if given else None
        if not isinstance(given, dict):
            raise DataError(f"{self.where}.race = {given!r}; write true, or {{iterations = 50, keep = 5}}.")
        _known(f"{self.where}.race", given, RACE)
        try:
            return emjax.Race(**given)
        except DataError as error:
            raise DataError(f"{self.where}: {error}") from None


def _method(path: Path, name: str, table: Any, generate: Any) -> Any:
    where = f"{path}: methods.{name}"
    if not isinstance(table, dict):
        raise DataError(f"{where} = {table!r} must be a table [methods.{name}].")
    _known(where, table, METHOD)
    if "function" in table:
        if len(table) > 1:
            raise DataError(f"{where} has a function and other keys; a function decides everything itself.")
        return _function(path, f"methods.{name}.function", table["function"])
    made = MethodOf(where, table, getattr(generate, "model", None))
    factors = any(isinstance(table.get(key), (str, dict)) and table[key] != "auto" for key in COUNTED)
    return made if factors else made({})

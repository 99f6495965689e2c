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
where a number is asked for, the name of a factor will do; for priors and more see `emjax.extras.study_methods`.
`estimands` in [study] lists parameters, or is "file.py:function", a function of them as `Study` takes it. [description]
holds texts for the report: title, aims, data_generating_mechanisms, estimands, methods, performance_measures.
"""

import tomllib
from pathlib import Path
from typing import Any

from emjax.base.status import DataError
from emjax.extras import study_functions, study_models
from emjax.extras.study_methods import KEYS, MethodOf, prefixed, refuse_unknown
from emjax.studies import Study, grid

TABLES = ("study", "scenarios", "scenario", "generate", "methods", "description")
STUDY = ("name", "replicates", "seed", "estimands", "common_random_numbers", "generate")
GENERATE = ("model", "latent", "components", "settings", "parameters", "n", "x")


def read(path: Any, replicates: int | None = None) -> Study:
    """The study that a TOML file describes; `replicates` in place of the file's. Errors: `DataError`."""
    name, content = str(path), _content(path)
    study = _table(name, content, "study")
    refuse_unknown(f"{name}: [study]", study, STUDY)
    count = replicates if replicates is not None else _needed(f"{name}: [study]", study, "replicates")
    scenarios = _scenarios(name, content)
    generate = _generate(Path(path), content, study)
    settings = {key: study[key] for key in ("estimands", "common_random_numbers") if key in study}
    if isinstance(settings.get("estimands"), str):
        settings["estimands"] = study_functions.read(
            Path(path), "estimands", settings["estimands"], study_functions.UserEstimands
        )
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
        raise DataError(prefixed(name, str(error))) from None
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
    refuse_unknown(f"{name}: the file", content, TABLES)
    return content


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
        return study_functions.read(path, "generate", given)
    where = f"{path}: [generate]"
    if not isinstance(given, dict):
        raise DataError(f"{path} needs a table [generate], or generate = 'file.py:function' in [study].")
    refuse_unknown(where, given, GENERATE)
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


def _method(path: Path, name: str, table: Any, generate: Any) -> Any:
    where = f"{path}: methods.{name}"
    if not isinstance(table, dict):
        raise DataError(f"{where} = {table!r} must be a table [methods.{name}].")
    refuse_unknown(where, table, KEYS)
    if "function" in table:
        if len(table) > 1:
            raise DataError(f"{where} has a function and other keys; a function decides everything itself.")
        return study_functions.read(path, f"methods.{name}.function", table["function"])
    made = MethodOf(where, table, getattr(generate, "model", None))
    return made if made.varies else made({})

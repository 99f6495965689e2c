"""A method of a study from its table of a TOML file: settings, priors, fixed values; its numbers may be factors.

[methods.MAP]
restarts = 10
degeneracy = {min_scale_ratio = 0.02, relative_to = "data"}
fixed = {weights = [0.5, 0.5]}

[methods.MAP.prior]
family = {distribution = "NormalInverseGamma", shape = 2.0}
"""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np

import emjax
from emjax.base.status import DataError
from emjax.extras import study_models
from emjax.studies import Method

MODEL = ("model", "latent", "components", "settings")
STOP, RACE = ("tol", "max_iterations"), ("iterations", "keep")
DEGENERACY = tuple(f.name for f in fields(emjax.Degeneracy))
PRIORS = ("Dirichlet", "NormalInverseGamma", "NormalInverseWishart", "GammaPrior", "BetaPrior")
OF_METHOD = tuple(f.name for f in fields(Method) if f.name not in ("model", "stop"))
KEYS = (*MODEL, *OF_METHOD, *STOP, "function")
COUNTED = ("components", "restarts", "tol", "max_iterations", "level", "bootstraps")  # which may be factors
NESTED = ("prior", "degeneracy", "fixed")  # tables of numbers that may be
WORDS = ("distribution", "relative_to")  # of them, what is no number


def refuse_unknown(where: str, table: dict[str, Any], names: tuple[str, ...]) -> None:
    """Errors: `DataError` for a key that is none of the names."""
    unknown = next((key for key in table if key not in names), None)
    if unknown is not None:
        raise DataError(f"{where} has the key {unknown!r}, which is not known; use {', '.join(names)}.")


def prefixed(name: str, message: str) -> str:
    """The message, which begins with the name."""
    return message if message.startswith(name) else f"{name}: {message}"


@dataclass(frozen=True, eq=False)
class MethodOf:
    """A method's table, in which numbers may be factors of the scenario."""

    where: str
    table: dict[str, Any]
    model: Any

    @property
    def varies(self) -> bool:
        """Whether a factor of the scenarios is named where a number stands."""
        counted = (self.table.get(name) for name in COUNTED)
        return any(_named(value) for value in counted if value != "auto") or any(
            _named(self.table.get(name)) for name in NESTED
        )

    def __call__(self, scenario: dict[str, Any]) -> Method:
        """In one scenario. Errors: `DataError` naming file and key."""
        own = dict(self.table)
        for name in COUNTED:
            if name in own and not (name == "restarts" and own[name] == "auto"):
                own[name] = study_models.resolve(f"{self.where}.{name}", own[name], scenario)
        settings = {name: own[name] for name in OF_METHOD if name in own}
        if isinstance(settings.get("start"), list):
            settings["start"] = tuple(settings["start"])
        for name in ("intervals", "acceleration"):
            if settings.get(name) == "none":
                settings[name] = None
        if "race" in settings:
            settings["race"] = self._race(settings["race"])
        for name in NESTED:
            if name in settings:
                settings[name] = getattr(self, f"_{name}")(f"{self.where}.{name}", settings[name], scenario)
        stop = {name: own[name] for name in STOP if name in own}
        try:
            return Method(self._model(own), stop=emjax.Stop(**stop), **settings)
        except DataError as error:
            raise DataError(prefixed(self.where, str(error))) from None

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
        refuse_unknown(f"{self.where}.race", given, RACE)
        try:
            return emjax.Race(**given)
        except DataError as error:
            raise DataError(f"{self.where}: {error}") from None

    def _degeneracy(self, where: str, given: Any, scenario: dict[str, Any]) -> Any:
        table = _table(where, given, "{min_scale_ratio = 0.02, relative_to = 'data'}")
        refuse_unknown(where, table, DEGENERACY)
        own = {name: value if name in WORDS else _number(where, name, value, scenario) for name, value in table.items()}
        try:
            return emjax.Degeneracy(**own)
        except DataError as error:
            raise DataError(f"{where}: {error}") from None

    def _prior(self, where: str, given: Any, scenario: dict[str, Any]) -> dict[str, Any]:
        """By name, as `prior` of `fit_many`; the engine knows which names and priors go with a model."""
        found = {}
        for name, value in _table(where, given, "{weights = {distribution = 'Dirichlet', concentration = 2}}").items():
            here = f"{where}.{name}"
            table = dict(_table(here, value, "{distribution = 'Dirichlet', concentration = 2}"))
            kind = table.pop("distribution", None)
            if kind not in PRIORS:
                raise DataError(f"{here}: distribution = {kind!r} is not known; use one of {', '.join(PRIORS)}.")
            cls = getattr(emjax, kind)
            refuse_unknown(here, table, ("distribution", *cls._fields))
            lacking = next((own for own in cls._fields if own not in {**table, **cls._field_defaults}), None)
            if lacking is not None:
                raise DataError(f"{here} needs the key {lacking!r}.")
            found[name] = cls(**{own: _number(here, own, given, scenario) for own, given in table.items()})
        return found

    def _fixed(self, where: str, given: Any, scenario: dict[str, Any]) -> dict[str, Any]:
        table = _table(where, given, "{weights = [0.5, 0.5]}")
        return {name: _number(where, name, value, scenario) for name, value in table.items()}


def _named(value: Any) -> bool:
    """Whether there is a text where a number is meant."""
    if isinstance(value, dict):
        return any(_named(own) for name, own in value.items() if name not in WORDS)
    return any(map(_named, value)) if isinstance(value, list) else isinstance(value, str)


def _table(where: str, given: Any, example: str) -> dict[str, Any]:
    if not isinstance(given, dict):
        raise DataError(f"{where} = {given!r}; write a table, such as {example}.")
    return given


def _number(where: str, name: str, value: Any, scenario: dict[str, Any]) -> Any:
    """A number, or an array from nested lists; factors in their level."""
    found = study_models.resolve(f"{where}.{name}", value, scenario)
    if not isinstance(found, list):
        return found
    try:
        return np.asarray(found, np.float64)
    except (TypeError, ValueError):
        raise DataError(f"{where}.{name} is not an array of numbers; give nested lists of equal lengths.") from None

"""Models, true parameters and covariates of a study from the plain values of its TOML file."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import emjax
from emjax.base.status import DataError
from emjax.studies import From, Simulated

FAMILIES = (
    *("LinearRegression", "PoissonRegression", "BinomialRegression", "NegativeBinomialRegression"),
    *("StudentTRegression", "Gaussian", "Poisson", "Binomial", "NegativeBinomial", "Exponential", "Gamma", "StudentT"),
    "Categorical",
)
LATENT = ("mixture", "hidden-markov")
DISTRIBUTIONS = {"uniform": ("low", "high"), "normal": ("mean", "sd")}


def build(where: str, family: Any, latent: Any, components: Any, settings: Any) -> Any:
    """The model. `where` stands before every message. Errors: `DataError`."""
    if family not in FAMILIES:
        raise DataError(f"{where}: model = {family!r} is not known; use one of {', '.join(FAMILIES)}.")
    if latent not in LATENT:
        raise DataError(f"{where}: latent = {latent!r} is not known; use one of {', '.join(LATENT)}.")
    if not isinstance(settings, dict):
        raise DataError(f"{where}: settings = {settings!r} must be a table, such as {{scale = 'common'}}.")
    settings = {name: tuple(v) if isinstance(v, list) else v for name, v in settings.items()}
    try:
        made = getattr(emjax, family)(**settings)
        return emjax.Mixture(made, components) if latent == "mixture" else emjax.HiddenMarkov(made, components)
    except TypeError as error:
        raise DataError(f"{where}: settings of {family}: {' '.join(str(error).split())}.") from None
    except DataError as error:
        raise DataError(f"{where}: {error}") from None


def resolve(where: str, value: Any, scenario: dict[str, Any]) -> Any:
    """A number, the level of the factor that a text names, a product `{times = ..., of = ...}`, or a list of such."""
    if isinstance(value, str):
        if value not in scenario:
            names = ", ".join(scenario) or "none"
            raise DataError(f"{where} = {value!r} is no factor of the scenarios; they are {names}.")
        return scenario[value]
    if isinstance(value, list):
        return [resolve(where, part, scenario) for part in value]
    if isinstance(value, dict):
        if set(value) != {"times", "of"}:
            raise DataError(f"{where} has the keys {', '.join(value)}; a product is {{times = 'factor', of = [...]}}.")
        times, of = (np.asarray(resolve(where, value[name], scenario), float) for name in ("times", "of"))
        return (times * of).tolist()
    return value


@dataclass(frozen=True)
class Covariates:
    """x (n, p), columns independent: each ("uniform", low, high) or ("normal", mean, sd)."""

    columns: tuple[tuple[str, float, float], ...]

    def __call__(self, key: Any, n: int) -> Any:
        """Drawn from a jax key."""
        keys = jax.random.split(key, len(self.columns))
        drawn = [self._column(own, n, *column) for own, column in zip(keys, self.columns, strict=True)]
        return jnp.stack(drawn, axis=1)

    @staticmethod
    def _column(key: Any, n: int, distribution: str, first: float, second: float) -> Any:
        if distribution == "uniform":
            return jax.random.uniform(key, (n,), jnp.float64, first, second)
        return first + second * jax.random.normal(key, (n,), jnp.float64)


@dataclass(frozen=True, eq=False)
class FromFile:
    """The `generate` of a TOML file's [generate] table, whose numbers may be factors of the scenario."""

    where: str
    model: Any
    parameters: dict[str, Any]
    n: Any
    x: Any

    def described(self) -> dict[str, Any]:
        """For the manifest, in which the file's name has no place."""
        return {"model": self.model, "parameters": self.parameters, "n": self.n, "x": self.x}

    def at(self, scenario: dict[str, Any]) -> From:
        """In one scenario. Errors: `DataError` naming file and key."""
        params = _record(f"{self.where}.parameters", self.model, self.parameters, scenario)
        means = np.shape(getattr(params.family, "means", 0.0))
        n = resolve(f"{self.where}.n", self.n, scenario)
        if isinstance(n, bool) or not isinstance(n, int) or n < 1:
            raise DataError(f"{self.where}.n is {n!r} in scenario {scenario}; give a whole number, 1 or larger.")
        x = None if self.x is None else _covariates(f"{self.where}.x", self.x, scenario)
        return From(self.model, params, n, x, means[1] if len(means) == 2 and means[1] > 1 else None)

    def split(self, scenario: dict[str, Any]) -> tuple[Callable[..., Any], Any]:
        """See `From.split`."""
        return self.at(scenario).split(scenario)

    def __call__(self, key: Any, scenario: dict[str, Any]) -> Simulated:
        """One replicate, traced."""
        return self.at(scenario)(key, scenario)


def _record(where: str, model: Any, given: dict[str, Any], scenario: dict[str, Any]) -> Any:
    """The true parameters as the model's record, checked as given starts are."""
    records = model.latent.blocks, model.family.blocks
    names = [name for record in records for name in record._fields]
    unknown = [name for name in given if name not in names]
    lacking = [name for name in names if name not in given]
    if unknown or lacking:
        problem = f"has no {unknown[0]!r}" if unknown else f"lacks {lacking[0]!r}"
        raise DataError(f"{where} {problem}; this model's parameters are {', '.join(names)}.")

    def array(name: str) -> np.ndarray:
        try:
            return np.asarray(resolve(f"{where}.{name}", given[name], scenario), np.float64)
        except (TypeError, ValueError) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(f"{where}.{name} is not an array of numbers; give nested lists of equal lengths.") from None

    latent, family = (record(*(array(name) for name in record._fields)) for record in records)
    params = emjax.MixtureParams(latent, family)
    try:
        model.check_settings(None, None, jax.tree.map(lambda a: a[None], params))
    except DataError as error:
        raise DataError(f"{where} in scenario {scenario}: {str(error).removeprefix('start: ')}") from None
    sizes = {name: len(np.atleast_1d(array(name))) for name in names}
    wrong = next((name for name, size in sizes.items() if size != model.n_components), None)
    if wrong is not None:
        raise DataError(
            f"{where}.{wrong} has {sizes[wrong]} rows; give one for each of {model.n_components} components."
        )
    return params


def _covariates(where: str, given: Any, scenario: dict[str, Any]) -> Covariates:
    columns = []
    for place, column in enumerate(given if isinstance(given, list) else [given]):
        here = f"{where}[{place}]"
        kind = column.get("distribution") if isinstance(column, dict) else None
        if kind not in DISTRIBUTIONS:
            known = ", ".join(f"{{distribution = '{k}', {a} = ..., {b} = ...}}" for k, (a, b) in DISTRIBUTIONS.items())
            raise DataError(f"{here}: distribution = {kind!r} is not known; give {known}.")
        names = DISTRIBUTIONS[kind]
        if set(column) != {"distribution", *names}:
            raise DataError(f"{here} has the keys {', '.join(column)}; give distribution, {' and '.join(names)}.")
        values = [resolve(f"{here}.{name}", column[name], scenario) for name in names]
        if not all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values):
            raise DataError(f"{here}: {names[0]} and {names[1]} are {values}; give numbers or factors.")
        if (kind == "normal" and values[1] <= 0) or (kind == "uniform" and values[0] >= values[1]):
            raise DataError(f"{here}: {names[0]} and {names[1]} are {values}; give low below high, a positive sd.")
        columns.append((kind, float(values[0]), float(values[1])))
    return Covariates(tuple(columns))

"""Families by the names that the command line knows, those of this version only."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import emjax
from emjax.base.status import DataError


class Known(NamedTuple):
    """How a family is made.

    cls : its class in emjax. several : the class for several responses, or None where there may be only one.
    covariates : whether a formula may have any, which is also whether it has `intercept`. trials : whether it needs
    them. scale : whether it knows a common one. levels : whether its responses are categories.
    """

    cls: str
    several: str | None = None
    covariates: bool = False
    trials: bool = False
    scale: bool = False
    levels: bool = False


FAMILIES = {
    "linear": Known("LinearRegression", covariates=True, scale=True),
    "gaussian": Known("Gaussian", several="Gaussian"),
    "poisson": Known("PoissonRegression", covariates=True),
    "binomial": Known("BinomialRegression", covariates=True, trials=True),
    "student-t": Known("StudentTRegression", several="StudentT", covariates=True, scale=True),
    "exponential": Known("Exponential"),
    "gamma": Known("Gamma"),
    "negative-binomial": Known("NegativeBinomialRegression", covariates=True),
    "categorical": Known("Categorical", several="Categorical", levels=True),
}


def available() -> list[str]:
    """Names whose families this version of emjax has."""
    return [name for name, known in FAMILIES.items() if hasattr(emjax, known.cls)]


def find(name: str, trials: bool, scale: str | None) -> Known:
    """The family called `name`. Errors: DataError for one that is not known, or for options that it has no use for."""
    if name not in available():
        raise DataError(f"--family {name}: no such family; available: {', '.join(available())}")
    known = FAMILIES[name]
    if known.trials and not trials:
        raise DataError(f"--family {name} needs the number of trials of each row; name its column by --trials")
    if trials and not known.trials:
        raise DataError(f"--family {name} has no trials; leave --trials out")
    if scale is not None and not known.scale:
        raise DataError(f"--family {name} has no --scale; leave it out")
    return known


def build(
    name: str,
    *,
    responses: int,
    intercept: bool,
    covariates: bool,
    scale: str | None = None,
    levels: Sequence[int] = (),
) -> Any:
    """The family for a formula with so many responses and with or without intercept and covariates.

    Errors: DataError where the formula asks for what the family does not have.
    """
    known = FAMILIES[name]
    if responses > 1 and known.several is None:
        raise DataError(f"the formula has {responses} response columns; --family {name} takes one")
    several = responses > 1
    if (covariates or not intercept) and (several or not known.covariates):
        left = "several responses" if several and known.covariates else f"--family {name}"
        raise DataError(f"{left} can have no covariates and needs the intercept; write the formula as y ~ 1")
    cls = getattr(emjax, str(known.several) if several else known.cls)
    if known.levels:
        return cls(tuple(levels))
    settings: dict[str, Any] = {}
    if known.covariates and not several:
        settings["intercept"] = intercept
        if scale is not None:
            settings["scale"] = scale
    return cls(**settings)

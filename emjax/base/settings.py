"""Settings that are passed as static arguments: frozen and hashable, so that equal settings share one compile."""

from __future__ import annotations

import numbers
from dataclasses import dataclass
from typing import Any, Literal

from emjax.base.registry import register
from emjax.base.status import DataError


@register
@dataclass(frozen=True)
class Stop:
    """When a lane stops.

    tol : nats. A lane stops when the estimated remaining gain in the objective is below it. Near the maximum a
        remaining gain of e nats puts every scalar function of the parameters within sqrt(2 e) of its standard errors
        of its maximum-likelihood value; 1e-6 nats is 0.14 % of a standard error.
    max_iterations : E-steps a lane may take.
    """

    tol: float = 1e-6
    max_iterations: int = 10_000

    def __post_init__(self) -> None:
        if isinstance(self.tol, bool) or not isinstance(self.tol, numbers.Real) or not 0 < self.tol < float("inf"):
            raise DataError(f"Stop(tol={self.tol!r}): the tolerance must be positive; the default is 1e-6 nats.")
        _check_count("Stop", "max_iterations", self.max_iterations)


@register
@dataclass(frozen=True)
class Race:
    """Racing restarts: a short run from every start, then the best few of each dataset go on to their ends.

    Short runs from many starts, the best continued: Biernacki, Celeux & Govaert 2003, Computational Statistics & Data
    Analysis 41, 561-575 (there from the single best).

    iterations : E-steps of the short run. A restart that ends before keeps its status.
    keep : how many restarts of a dataset, by the objective where the short run left them, stay in the race: those of
        them that have not ended go on from where they stopped, the others end STOPPED_EARLY. A dataset with no more
        restarts than this has nothing to race: all of them run to their ends.
    """

    iterations: int = 50
    keep: int = 5

    def __post_init__(self) -> None:
        _check_count("Race", "iterations", self.iterations)
        _check_count("Race", "keep", self.keep)


def _check_count(cls: str, name: str, value: Any) -> None:
    whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not whole or not 1 <= int(value) < 2**31:
        raise DataError(f"{cls}({name}={value!r}): give a whole number from 1 to 2**31 - 1.")


@register
@dataclass(frozen=True)
class Degeneracy:
    """Which solutions count as collapsed (status DEGENERATE) and which are only reported (flag SUSPECT).

    min_scale_ratio : smallest over largest component scale, in prepared units (Hathaway 1985); scale-free.
    min_rows : fewest effective rows of a component; None means its free parameters without scale, plus one.
    relative_to : "components" compares the smallest scale with the largest component's; "data" with the scale of the
        whole sample (the residual standard deviation of one regression, or sd-scaled coordinates), which is the
        `interior_rule` of the reference fits made with other software.
    suspect_scale_ratio, suspect_rows : below this ratio, or below this many rows per component parameter: SUSPECT.
    """

    min_scale_ratio: float = 0.01
    min_rows: float | None = None
    relative_to: Literal["components", "data"] = "components"
    suspect_scale_ratio: float = 0.1
    suspect_rows: float = 3.0

    def __post_init__(self) -> None:
        if self.relative_to not in ("components", "data"):
            raise DataError(f"Degeneracy(relative_to={self.relative_to!r}): use 'components' or 'data'.")
        for name in ("min_scale_ratio", "min_rows", "suspect_scale_ratio", "suspect_rows"):
            value = getattr(self, name)
            number = (
                isinstance(value, numbers.Real) and not isinstance(value, bool) and 0 <= float(value) < float("inf")
            )
            if not number and not (name == "min_rows" and value is None):
                raise DataError(f"Degeneracy({name}={value!r}): give a number, 0 or larger.")

    @staticmethod
    def interior(min_rows: float | None = None) -> Degeneracy:
        """The `interior_rule` of the reference fits: 0.02 of the sample's scale.

        For regressions of the residual standard deviation of one regression, common scales included; for Gaussians in
        sd-scaled coordinates, tied forms exempt, and with the files' own min_rows (2.5 for d = 1, 6 for 2, 12 for 5).
        """
        return Degeneracy(min_scale_ratio=0.02, min_rows=min_rows, relative_to="data")

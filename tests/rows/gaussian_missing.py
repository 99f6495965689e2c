"""Mixtures of Gaussians with missing cells: rows that lack some cells, all of them, or none."""

from typing import Any

import numpy as np

from emjax import Data, MissingGaussian, Mixture
from tests.lanes import Case
from tests.oracle.gaussian_missing import MissingProblem
from tests.rows.common import MANY, ROWS, held_at, room, weighted
from tests.rows.gaussian import WISHART, conjugate, known_wishart, near_and_away, normal_data

MISSING = 0.25  # share of the cells


def with_gaps(data: Data, seed: int) -> Data:
    """Cells missing completely at random, and one row without any; the first rows are complete."""
    lacking = np.random.default_rng(seed + 100).random(data.y.shape) < MISSING
    lacking[:4] = False
    lacking[5] = True
    return data._replace(y=np.where(lacking, np.nan, data.y))


def missing_case(
    name: str,
    n_free: int,
    *,
    form: str = "full",
    d: int = 2,
    components: int = 2,
    prior: Any = None,
    fixed: tuple[str, ...] = (),
    grouped: bool = False,
    frequency: bool = False,
    slow: bool = True,
    seed: int = 0,
) -> Case:
    """A mixture of Gaussians with missing cells."""
    near, away = near_and_away(form, components, d)
    held, away = held_at(fixed, near, away)
    data = with_gaps(normal_data(near, ROWS, seed, grouped, False), seed)
    data, weight, unit = weighted(data, frequency)
    given, concentration = prior or (None, None)
    return Case(
        name=name,
        model=Mixture(MissingGaussian(form), components),
        data=data,
        near=near,
        away=away,
        oracle=MissingProblem(data.y, weight, unit, form, known_wishart(given), concentration, fixed),
        n_free=n_free,
        many=room(with_gaps(normal_data(near, MANY, seed + 1, grouped, False), seed + 1)),
        prior=conjugate(prior),
        fixed=held or None,
        closed="means" not in fixed,
        exchangeable=not fixed,
        slow=slow,
    )


CASES: tuple[Case, ...] = (
    missing_case("missing-gaussian-full", 19, d=3, slow=False),
    missing_case("missing-gaussian-one", 9, d=3, components=1),
    missing_case("missing-gaussian-diagonal", 9, form="diagonal"),
    missing_case("missing-gaussian-spherical", 7, form="spherical"),
    missing_case("missing-gaussian-tied", 8, form="tied"),
    missing_case("missing-gaussian-full-map", 11, prior=(WISHART, 2.0)),
    missing_case("missing-gaussian-grouped-frequencies", 11, grouped=True, frequency=True),
    missing_case("missing-gaussian-fixed-covariances", 5, fixed=("covariances",)),
)

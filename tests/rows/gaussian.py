"""Mixtures of Gaussians."""

from typing import Any

import numpy as np

from emjax import Data, Dirichlet, Gaussian, GaussianParams, Mixture, MixtureParams, NormalInverseWishart
from tests.lanes import Case
from tests.oracle import gaussian
from tests.oracle.problem import gaussian_problem
from tests.rows.common import EVEN, MANY, ROWS, WEIGHTS, groups, held_at, labels, mixture, room, weighted

MEANS = [[1000.0, -20.0, 3.0], [1007.0, -14.0, 0.0], [995.0, -9.0, 6.0]]
AWAY_MEANS = [[1002.0, -18.0, 2.0], [1005.5, -16.0, 1.0], [997.0, -12.0, 5.0]]
FULL = [
    [[4.0, 1.5, 0.5], [1.5, 3.0, -0.5], [0.5, -0.5, 2.0]],
    [[2.0, -0.8, 0.2], [-0.8, 5.0, 0.6], [0.2, 0.6, 1.5]],
    [[3.0, 0.5, 0.0], [0.5, 2.0, 0.4], [0.0, 0.4, 2.5]],
]
QUICK = {  # not left to the slow tests
    "gaussian-tied",
    "gaussian-line",
    "gaussian-uneven-dirichlet",
    "gaussian-fixed-means",
}


def normal(weights: Any, means: Any, covariances: Any) -> MixtureParams:
    return mixture(weights, GaussianParams(np.array(means, float), np.array(covariances, float)))


def covariances(form: str, n_components: int, d: int) -> np.ndarray:
    """The true ones, in the form asked for."""
    found = np.array(FULL)[:n_components, :d, :d]
    if form.endswith("diagonal"):
        found = found * np.eye(d)
    if form.endswith("spherical"):
        found = found[:, :1, :1] * np.eye(d)
    return np.repeat(found[:1], n_components, axis=0) if form.startswith("tied") else found


def near_and_away(form: str, components: int, d: int) -> tuple[MixtureParams, MixtureParams]:
    """The true parameters, and a start away from them."""
    true = covariances(form, components, d)
    near = normal(WEIGHTS[components], np.array(MEANS)[:components, :d], true)
    return near, normal(EVEN[components], np.array(AWAY_MEANS)[:components, :d], 2.0 * true)


def known_wishart(given: Any) -> gaussian.NormalInverseWishart | None:
    """As the oracle takes it."""
    return None if given is None else gaussian.NormalInverseWishart(*(np.asarray(a) for a in given))


def conjugate(prior: Any) -> Any:
    """As `fit` takes it."""
    return prior and {"weights": Dirichlet(prior[1]), "family": NormalInverseWishart(*prior[0])}


def normal_data(params: MixtureParams, n: int, seed: int, grouped: bool, flat: bool) -> Data:
    """From the true parameters."""
    rng = np.random.default_rng(seed)
    unit = groups(n) if grouped else np.arange(n)
    of = labels(rng, params.latent.weights, unit)
    roots = np.linalg.cholesky(params.family.covariances)[of]
    y = params.family.means[of] + np.einsum("nij,nj->ni", roots, rng.normal(size=params.family.means[of].shape))
    return Data(y[:, 0] if flat else y, unit=unit if grouped else None)


def gaussian_case(
    name: str,
    n_free: int,
    *,
    form: str,
    d: int = 2,
    components: int = 2,
    letters: str | None = None,
    prior: Any = None,
    fixed: tuple[str, ...] = (),
    grouped: bool = False,
    frequency: bool = False,
    seed: int = 0,
) -> Case:
    """A mixture of Gaussians."""
    near, away = near_and_away(form, components, d)
    held, away = held_at(fixed, near, away)
    data, weight, unit = weighted(normal_data(near, ROWS, seed, grouped, d == 1), frequency)
    given, concentration = prior or (None, None)
    known = known_wishart(given)
    problem = gaussian_problem(data.y.reshape(ROWS, -1), weight, unit, form, known, concentration, fixed)
    return Case(
        name=name,
        model=Mixture(Gaussian(letters or form), components),
        data=data,
        near=near,
        away=away,
        oracle=problem,
        n_free=n_free,
        many=room(normal_data(near, MANY, seed + 1, grouped, d == 1)),
        prior=conjugate(prior),
        fixed=held or None,
        closed="means" not in fixed,
        exchangeable=not fixed and np.ndim(concentration) == 0,
        slow=name not in QUICK,
    )


# ((mean, strength, degrees, scale), Dirichlet concentration); all in the user's units.
WISHART = (np.array([1003.0, -17.0]), 0.5, 6.0, np.array([[3.0, 0.4], [0.4, 2.0]]))
WISHART_1 = (np.array([1003.0]), 0.5, 4.0, np.array([[3.0]]))

CASES: tuple[Case, ...] = (
    gaussian_case("gaussian-full", 11, form="full", letters="VVV"),
    gaussian_case("gaussian-diagonal", 9, form="diagonal", letters="VVI"),
    gaussian_case("gaussian-spherical", 7, form="spherical", letters="VII"),
    gaussian_case("gaussian-tied", 8, form="tied", letters="EEE"),
    gaussian_case("gaussian-tied-diagonal", 7, form="tied-diagonal", letters="EEI"),
    gaussian_case("gaussian-tied-spherical", 6, form="tied-spherical", letters="EII"),
    gaussian_case("gaussian-line", 5, form="spherical", letters="V", d=1),
    gaussian_case("gaussian-line-tied", 4, form="tied-spherical", letters="E", d=1),
    gaussian_case("gaussian-three-dimensions", 29, form="full", d=3, components=3),
    gaussian_case("gaussian-full-map", 11, form="full", prior=(WISHART, 2.0)),
    gaussian_case("gaussian-diagonal-map", 9, form="diagonal", prior=(WISHART, 2.0)),
    gaussian_case("gaussian-spherical-map", 7, form="spherical", prior=(WISHART, 2.0)),
    gaussian_case("gaussian-tied-map", 8, form="tied", prior=(WISHART, 1.5)),
    gaussian_case("gaussian-tied-diagonal-map", 7, form="tied-diagonal", prior=(WISHART, 1.5)),
    gaussian_case("gaussian-tied-spherical-map", 6, form="tied-spherical", prior=(WISHART, 1.5)),
    gaussian_case("gaussian-line-map", 5, form="full", d=1, prior=(WISHART_1, 2.0)),
    gaussian_case("gaussian-uneven-dirichlet", 5, form="full", d=1, prior=(WISHART_1, np.array([4.0, 2.0]))),
    gaussian_case("gaussian-frequencies", 11, form="full", frequency=True),
    gaussian_case("gaussian-grouped", 8, form="tied", grouped=True),
    gaussian_case("gaussian-fixed-means", 7, form="full", fixed=("means",)),
    gaussian_case("gaussian-fixed-covariances", 5, form="diagonal", fixed=("covariances",)),
    gaussian_case("gaussian-fixed-weights", 8, form="diagonal", fixed=("weights",)),
)

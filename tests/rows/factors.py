"""Factor analysis, probabilistic principal components, and mixtures of factor analysers."""

import numpy as np

from emjax import Data, FactorAnalyser, FactorAnalyserParams, FactorAnalysis, FactorAnalysisParams, Mixture
from tests.lanes import Case
from tests.oracle.factor_analyser import FactorAnalyserProblem
from tests.oracle.factor_analysis import FactorProblem, principal
from tests.rows.common import EVEN, MANY, ROWS, WEIGHTS, groups, labels, mixture, room, weighted

MEAN = np.array([1000.0, -20.0, 3.0, 50.0, 0.0])
LOADINGS = np.array([[2.0, 0.3], [1.5, -0.8], [0.6, 1.1], [-0.7, 0.9], [0.9, 0.2]])
UNIQUENESSES = np.array([1.5, 0.8, 0.5, 0.9, 0.4])
AWAY_LOADINGS = np.array([[1.0, -0.6], [0.9, 0.9], [0.5, 0.1], [-0.5, 0.5], [-0.3, 0.8]])


def factor_params(p: int, q: int, isotropic: bool) -> tuple[FactorAnalysisParams, FactorAnalysisParams]:
    """The truth and what is far from it, on their principal axes."""
    noise = np.full(p, 0.7) if isotropic else UNIQUENESSES[:p]
    near = FactorAnalysisParams(MEAN[:p], principal(LOADINGS[:p, :q], noise), noise)
    # One factor so close that the first step meets no Heywood case, which the oracle does not know.
    far, wide = (AWAY_LOADINGS[:p, :q], 2.0 * noise) if q > 1 else (0.9 * LOADINGS[:p, :q], 1.1 * noise)
    away = FactorAnalysisParams(MEAN[:p] + 1.0, principal(far, wide), wide)
    return near, away


def factor_data(params: FactorAnalysisParams, n: int, seed: int, grouped: bool) -> Data:
    rng = np.random.default_rng(seed)
    p, q = params.loadings.shape
    y = params.mean + rng.normal(size=(n, q)) @ params.loadings.T + rng.normal(size=(n, p)) * params.uniquenesses**0.5
    return Data(y, unit=groups(n) if grouped else None)


def factor_case(
    name: str, n_free: int, p: int, q: int, noise: str = "diagonal", grouped: bool = False, slow: bool = False
) -> Case:
    """Factor analysis with frequencies."""
    near, away = factor_params(p, q, noise == "isotropic")
    data, weight, unit = weighted(factor_data(near, ROWS, 0, grouped), True)
    return Case(
        name=name,
        model=FactorAnalysis(q, noise),
        data=data,
        near=near,
        away=away,
        oracle=FactorProblem(data.y, weight[unit], noise == "isotropic"),
        n_free=n_free,
        many=room(factor_data(near, MANY, 1, grouped)),
        exact_m_step=False,
        exchangeable=False,
        slow=slow,
    )


def analysers(near: bool) -> FactorAnalyserParams:
    """Two components of four variables and one factor."""
    shift = np.array([[0.0, 0.0, 0.0, 0.0], [4.0, -3.0, 2.0, 3.0]])
    loadings = np.array([[[1.5], [1.1], [-1.0], [1.2]], [[1.2], [-1.0], [1.4], [1.1]]])
    noise = np.array([[1.2, 0.8, 0.9, 0.7], [0.8, 0.9, 1.1, 0.7]])
    if near:
        return FactorAnalyserParams(MEAN[:4] + shift, loadings, noise)
    return FactorAnalyserParams(MEAN[:4] + 0.8 * shift + 0.5, 0.7 * loadings[:, ::-1], 1.5 * noise)


def analyser_case(name: str, n_free: int, uniquenesses: str = "component", slow: bool = False) -> Case:
    """A mixture of two factor analysers."""
    families = [analysers(True), analysers(False)]
    if uniquenesses == "common":
        families = [family._replace(uniquenesses=family.uniquenesses[[0, 0]]) for family in families]
    near, away = mixture(WEIGHTS[2], families[0]), mixture(EVEN[2], families[1])

    def drawn(n: int, seed: int) -> Data:
        rng = np.random.default_rng(seed)
        of = labels(rng, near.latent.weights, np.arange(n))
        family = FactorAnalyserParams(*(block[of] for block in near.family))
        common = np.einsum("npq,nq->np", family.loadings, rng.normal(size=(n, 1)))
        return Data(family.means + common + rng.normal(size=(n, 4)) * family.uniquenesses**0.5)

    data, weight, unit = weighted(drawn(3 * ROWS, 2), False)
    return Case(
        name=name,
        model=Mixture(FactorAnalyser(1, uniquenesses), 2),
        data=data,
        near=near,
        away=away,
        oracle=FactorAnalyserProblem(data.y, weight, unit),
        n_free=n_free,
        many=room(drawn(MANY, 3)),
        exact_m_step=False,
        closed=uniquenesses == "component",
        slow=slow,
    )


CASES: tuple[Case, ...] = (
    factor_case("factor-analysis", 19, p=5, q=2),
    factor_case("factor-analysis-one-factor", 12, p=4, q=1, grouped=True, slow=True),
    factor_case("probabilistic-pca", 15, p=5, q=2, noise="isotropic", slow=True),
    analyser_case("factor-analysers", 25, slow=True),
    analyser_case("factor-analysers-common", 21, "common", slow=True),
)

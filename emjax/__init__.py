"""EM for thousands of latent-variable models at once."""

from emjax.base.priors import BetaPrior as BetaPrior
from emjax.base.priors import Dirichlet as Dirichlet
from emjax.base.priors import GammaPrior as GammaPrior
from emjax.base.priors import NormalInverseGamma as NormalInverseGamma
from emjax.base.priors import NormalInverseWishart as NormalInverseWishart
from emjax.base.protocols import Family as Family
from emjax.base.protocols import FamilyDefaults as FamilyDefaults
from emjax.base.protocols import Latent as Latent
from emjax.base.protocols import Model as Model
from emjax.base.records import Data as Data
from emjax.base.records import Expectation as Expectation
from emjax.base.records import Posterior as Posterior
from emjax.base.records import Prediction as Prediction
from emjax.base.records import Terms as Terms
from emjax.base.registry import register as register
from emjax.base.settings import Degeneracy as Degeneracy
from emjax.base.settings import Race as Race
from emjax.base.settings import Stop as Stop
from emjax.base.status import DataError as DataError
from emjax.base.status import Flag as Flag
from emjax.base.status import Problem as Problem
from emjax.base.status import Status as Status
from emjax.engine.compilation_cache import use_compilation_cache as use_compilation_cache
from emjax.engine.em import LaneFit as LaneFit
from emjax.engine.em import em_step as em_step
from emjax.engine.em import fit_lane as fit_lane
from emjax.engine.fitting import Perturbed as Perturbed
from emjax.engine.fitting import fit as fit
from emjax.engine.fitting import fit_many as fit_many
from emjax.engine.results import Fit as Fit
from emjax.engine.results import Fits as Fits
from emjax.engine.runner import Advance as Advance
from emjax.engine.storage import load as load
from emjax.engine.streaming import fit_stream as fit_stream
from emjax.families.binomial import Binomial as Binomial
from emjax.families.binomial import BinomialParams as BinomialParams
from emjax.families.binomial_regression import BinomialRegression as BinomialRegression
from emjax.families.binomial_regression import BinomialRegressionParams as BinomialRegressionParams
from emjax.families.exponential import Exponential as Exponential
from emjax.families.exponential import ExponentialParams as ExponentialParams
from emjax.families.gamma import Gamma as Gamma
from emjax.families.gamma import GammaParams as GammaParams
from emjax.families.gaussian import Gaussian as Gaussian
from emjax.families.gaussian import GaussianParams as GaussianParams
from emjax.families.linear_regression import LinearRegression as LinearRegression
from emjax.families.linear_regression import LinearRegressionParams as LinearRegressionParams
from emjax.families.negative_binomial import NegativeBinomial as NegativeBinomial
from emjax.families.negative_binomial import NegativeBinomialParams as NegativeBinomialParams
from emjax.families.negative_binomial_regression import NegativeBinomialRegression as NegativeBinomialRegression
from emjax.families.negative_binomial_regression import (
    NegativeBinomialRegressionParams as NegativeBinomialRegressionParams,
)
from emjax.families.poisson import Poisson as Poisson
from emjax.families.poisson import PoissonParams as PoissonParams
from emjax.families.poisson_regression import PoissonRegression as PoissonRegression
from emjax.families.poisson_regression import PoissonRegressionParams as PoissonRegressionParams
from emjax.families.student_t import StudentT as StudentT
from emjax.families.student_t import StudentTParams as StudentTParams
from emjax.families.student_t_regression import StudentTRegression as StudentTRegression
from emjax.families.student_t_regression import StudentTRegressionParams as StudentTRegressionParams
from emjax.families.with_component import PointMass as PointMass
from emjax.families.with_component import UniformNoise as UniformNoise
from emjax.families.with_component import WithComponent as WithComponent
from emjax.inference.information import Reason as Reason
from emjax.inference.information import StandardErrors as StandardErrors
from emjax.inference.information import standard_errors as standard_errors
from emjax.latent.mixing_weights import MixingWeights as MixingWeights
from emjax.latent.mixing_weights import WeightsParams as WeightsParams
from emjax.models.composed import MixtureParams as MixtureParams
from emjax.models.mixture import Mixture as Mixture

__version__ = "0.1.0"

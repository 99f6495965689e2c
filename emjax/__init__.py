"""EM for thousands of latent-variable models at once."""

from emjax.base.priors import Dirichlet as Dirichlet
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
from emjax.families.gaussian import Gaussian as Gaussian
from emjax.families.gaussian import GaussianParams as GaussianParams
from emjax.families.gaussian_missing import MissingGaussian as MissingGaussian
from emjax.families.linear_regression import LinearRegression as LinearRegression
from emjax.families.linear_regression import LinearRegressionParams as LinearRegressionParams
from emjax.latent.mixing_weights import MixingWeights as MixingWeights
from emjax.latent.mixing_weights import WeightsParams as WeightsParams
from emjax.models.composed import MixtureParams as MixtureParams
from emjax.models.mixture import Mixture as Mixture

__version__ = "0.1.0"

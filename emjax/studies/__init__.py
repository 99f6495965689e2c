"""Simulation studies: performance measures of an estimator, each with its Monte Carlo standard error."""

from emjax.studies.measures import Measure as Measure
from emjax.studies.measures import bias as bias
from emjax.studies.measures import empirical_se as empirical_se
from emjax.studies.measures import mean_estimate as mean_estimate
from emjax.studies.measures import median_bias as median_bias
from emjax.studies.measures import mse as mse
from emjax.studies.measures import relative_bias as relative_bias
from emjax.studies.measures import rmse as rmse
from emjax.studies.model_errors import average_model_se as average_model_se
from emjax.studies.model_errors import interval_width as interval_width
from emjax.studies.model_errors import relative_error as relative_error
from emjax.studies.model_errors import relative_precision as relative_precision
from emjax.studies.precision import n_for as n_for
from emjax.studies.precision import n_for_rate as n_for_rate
from emjax.studies.precision import run_until as run_until
from emjax.studies.rates import Rate as Rate
from emjax.studies.rates import bias_eliminated_coverage as bias_eliminated_coverage
from emjax.studies.rates import coverage as coverage
from emjax.studies.rates import power as power
from emjax.studies.rates import share as share
from emjax.studies.resistant import mad_se as mad_se
from emjax.studies.resistant import trimmed_rmse as trimmed_rmse
from emjax.studies.results import Results as Results

"""Simulation studies: performance measures of an estimator, each with its Monte Carlo standard error."""

from emjax.studies.measures import Measure as Measure
from emjax.studies.measures import bias as bias
from emjax.studies.measures import empirical_se as empirical_se
from emjax.studies.measures import mean_estimate as mean_estimate
from emjax.studies.measures import median_bias as median_bias
from emjax.studies.measures import mse as mse
from emjax.studies.measures import rmse as rmse

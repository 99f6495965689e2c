"""Simulation studies: performance measures of an estimator, each with its Monte Carlo standard error."""

from emjax.studies.measures import Measure as Measure
from emjax.studies.measures import bias as bias
from emjax.studies.measures import empirical_se as empirical_se
from emjax.studies.measures import mean_estimate as mean_estimate
from emjax.studies.measures import median_bias as median_bias
from emjax.studies.measures import mse as mse
from emjax.studies.measures import rmse as rmse
from emjax.studies.methods import Method as Method
from emjax.studies.running import Ran as Ran
from emjax.studies.scenarios import grid as grid
from emjax.studies.simulating import From as From
from emjax.studies.simulating import Simulated as Simulated
from emjax.studies.study import Replay as Replay
from emjax.studies.study import Study as Study

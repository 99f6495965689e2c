"""The article's problem as a Monte Carlo experiment: simulate, fit, align, measure.

y = 0.5 x + 1 + N(0, 0.1^2) or y = 1.5 x + 2 + N(0, 0.2^2), each with probability 1/2, x ~ U(0, 10). A replicate is one
simulated sample of n rows; its data depend on the seed and its number alone, so more replicates change none.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from emjax import (
    Data,
    Fits,
    LinearRegression,
    LinearRegressionParams,
    Mixture,
    MixtureParams,
    Race,
    WeightsParams,
    fit_many,
)
from emjax.engine import choice
from emjax.inference import align_by_distance, order_by
from emjax.studies import Measure, bias, empirical_se, mean_estimate, median_bias, rmse

COORDINATES = ("weight", "intercept", "slope", "scale")
_LARGEST_X = 10.0


@dataclass(frozen=True)
class Design:
    """What the experiment varies. `noise` multiplies both noise scales; `start` is "random" or "truth"; `race` races
    the restarts."""

    n: int = 100
    replicates: int = 10_000
    restarts: int = 10
    noise: float = 1.0
    seed: int = 1
    precision: str = "float64"
    start: str = "random"
    race: bool = False
    acceleration: str | None = "auto"

    @property
    def truth(self) -> NDArray[np.float64]:
        """The true parameters (2, 4): a row per component, columns as `COORDINATES`."""
        return np.array([[0.5, 1.0, 0.5, 0.1 * self.noise], [0.5, 2.0, 1.5, 0.2 * self.noise]])

    @property
    def error_size(self) -> NDArray[np.float64]:
        """The unit of distance in each coordinate (4,): its standard error if the components were known.

        The mean over the two components of the variance, n / 2 rows each, x uniform.
        """
        rows = self.n / 2
        variance = np.mean(self.truth[:, 3] ** 2)
        spread = _LARGEST_X**2 / 12
        intercept = variance / rows * (1 + (_LARGEST_X / 2) ** 2 / spread)
        return np.sqrt(np.array([0.25 / self.n, intercept, variance / rows / spread, variance / rows / 2]))


class Experiment(NamedTuple):
    """What came out, over the `D` replicates that were finished.

    estimates : (D, 2, 4), aligned by distance to the truth. valid : (D,), whether the fit ended in a status that the
    engine chooses from; the measures rest on these. slope_order_differs : how many valid ones ordering by slope would
    have labelled otherwise. measures : per name a `Measure` of shape (2, 4). fits : as the engine gave them.
    """

    design: Design
    fits: Fits
    estimates: NDArray[np.float64]
    valid: NDArray[np.bool_]
    slope_order_differs: int
    measures: dict[str, Measure]


def simulate(design: Design) -> Data:
    """The replicates' data: y (D, n), x (D, n, 1). Deterministic in `seed`; more replicates change none."""
    shape = (design.replicates, design.n)
    # One stream a variable, each filled replicate by replicate: that is what makes the first ones independent of D.
    covariate, component, error = (np.random.default_rng(s) for s in np.random.SeedSequence(design.seed).spawn(3))
    x = covariate.uniform(0.0, _LARGEST_X, shape)
    which = (component.random(shape) < 0.5).astype(np.intp)
    _, intercept, slope, scale = design.truth[which].transpose(2, 0, 1)
    y = intercept + slope * x + scale * error.standard_normal(shape)
    return Data(y, x[..., None])


def run_experiment(design: Design, progress: Callable[[Any], None] | None = None) -> Experiment:
    """Simulate, fit every replicate and measure. Ctrl-C leaves an experiment of the finished ones.

    Errors: DataError for settings that the engine refuses; KeyboardInterrupt when nothing was finished.
    """
    model = Mixture(LinearRegression(), 2)
    start, restarts = None, design.restarts
    if design.start == "truth":
        weight, intercept, slope, scale = design.truth.T
        start = MixtureParams(WeightsParams(weight), LinearRegressionParams(np.column_stack([intercept, slope]), scale))
        restarts = 1
    fits = fit_many(
        model,
        simulate(design),
        design.seed,
        restarts=restarts,
        start=start,
        precision=design.precision,
        race=Race() if design.race else None,
        acceleration=design.acceleration,
        progress=progress,
    )
    return analyse(design, fits)


def analyse(design: Design, fits: Fits) -> Experiment:
    """Align the labels after the fits and measure the valid ones against the truth."""
    params = fits.params
    estimates = np.concatenate(
        [params.latent.weights[..., None], params.family.coefficients, params.family.scale[..., None]], axis=2
    )
    valid = choice.eligible(fits.status) & np.isfinite(estimates).all(axis=(1, 2))
    order = align_by_distance(estimates, design.truth, design.error_size)
    differs = (order != order_by(estimates[..., 2])).any(axis=1)
    estimates = np.take_along_axis(estimates, order[..., None], axis=1)
    used = estimates[valid]
    measures = {
        "mean": mean_estimate(used),
        "bias": bias(used, design.truth),
        "median bias": median_bias(used, design.truth),
        "empirical SE": empirical_se(used),
        "RMSE": rmse(used, design.truth),
    }
    return Experiment(design, fits, estimates, valid, int(np.sum(differs & valid)), measures)

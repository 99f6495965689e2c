"""Why a lane ended, what was noticed on the way, and why a dataset could not be fitted."""

from __future__ import annotations

from enum import IntEnum, IntFlag


class Status(IntEnum):
    """Why a lane ended. `message` says what it means and what to try."""

    RUNNING = 0
    CONVERGED = 1
    MAX_ITERATIONS = 2
    SADDLE = 3
    STOPPED_EARLY = 4
    DEGENERATE = 5
    NON_FINITE = 6
    DECREASED = 7
    PRECISION_LIMIT = 8
    INVALID_DATA = 9

    @property
    def message(self) -> str:
        """One sentence: what happened and what to try."""
        return _MESSAGES[self]


_MESSAGES = {
    Status.RUNNING: "The lane has not been run.",
    Status.CONVERGED: "The estimated remaining gain in the objective is below the tolerance.",
    Status.MAX_ITERATIONS: "The iteration limit came first; raise Stop(max_iterations=...) or loosen Stop(tol=...).",
    Status.SADDLE: "A stationary point that is not a maximum and could not be left; try more restarts.",
    Status.STOPPED_EARLY: "A lane that was stopped before its end (racing restarts, idle slots); it is never chosen.",
    Status.DEGENERATE: "A component collapsed (too small a scale or too few rows); try fewer components, a common "
    "scale, a prior, or another Degeneracy(...).",
    Status.NON_FINITE: "The objective became NaN or infinite; check the data's scale, or use a prior.",
    Status.DECREASED: "The objective fell by more than rounding and the step could not be mended; rescale the data, or "
    "try other starts.",
    Status.PRECISION_LIMIT: "The floating-point type cannot resolve the tolerance; use a larger Stop(tol=...), or of "
    "float32 precision='float64' or polish=True.",
    Status.INVALID_DATA: "The dataset cannot be fitted; `problems` says why.",
}

# A restart may be chosen as a dataset's fit if it ended in one of these. PRECISION_LIMIT is how float32 lanes end.
ELIGIBLE = (Status.CONVERGED, Status.MAX_ITERATIONS, Status.DECREASED, Status.PRECISION_LIMIT)


class Flag(IntFlag):
    """What was noticed on the way; a flag drops nothing."""

    NONE = 0
    BOUNDARY = 1  # a parameter sits on the edge of its space
    SUSPECT = 2  # a small scale ratio, few rows in a component, or a best mode reached by one restart only
    ESCAPED = 4  # the first stop was not a maximum, or short of one, and the lane went on from there
    NOISE_FLOOR = 8  # stopped because gains fell below the rounding error of the objective
    DEGENERATE = 16  # a component has collapsed; the engine turns it into the status


class Problem(IntFlag):
    """Why a dataset is INVALID_DATA."""

    NONE = 0
    RESPONSE_NOT_FINITE = 1
    COVARIATE_NOT_FINITE = 2
    WEIGHT_INVALID = 4
    NO_WEIGHT = 8
    TOO_FEW_ROWS = 16
    CONSTANT_RESPONSE = 32
    CONSTANT_COVARIATE = 64
    COLLINEAR = 128
    NOT_A_COUNT = 256
    ABOVE_TRIALS = 512
    NOT_POSITIVE = 1024
    UNKNOWN_LEVEL = 2048
    NOTHING_OBSERVED = 4096
    DIFFERS_IN_UNIT = 8192

    def describe(self) -> str:
        """One sentence: every reason with its remedy; empty when there is none."""
        return "; ".join(text for problem, text in _PROBLEMS.items() if problem & self)


# What is wrong with single rows, not with too few of them or with all together.
OF_ROWS = (
    Problem.RESPONSE_NOT_FINITE | Problem.COVARIATE_NOT_FINITE | Problem.NOT_A_COUNT | Problem.ABOVE_TRIALS
    | Problem.NOT_POSITIVE | Problem.UNKNOWN_LEVEL | Problem.DIFFERS_IN_UNIT
)  # fmt: skip

_PROBLEMS = {
    Problem.RESPONSE_NOT_FINITE: "NaN or infinity in the response y (or its offset): drop those rows or give them "
    "weight 0",
    Problem.COVARIATE_NOT_FINITE: "NaN or infinity in the covariates: drop those rows or give them weight 0",
    Problem.WEIGHT_INVALID: "a weight is negative, NaN or infinite: weights must be 0 or larger",
    Problem.NO_WEIGHT: "the total weight is zero: no row is left to fit",
    Problem.TOO_FEW_ROWS: "fewer rows than free parameters: use fewer components or more data",
    Problem.CONSTANT_RESPONSE: "the response is constant, or has a constant column: drop it",
    Problem.CONSTANT_COVARIATE: "a covariate is constant: drop it, the intercept already carries it",
    Problem.COLLINEAR: "columns are linearly dependent: drop one of them",
    Problem.NOT_A_COUNT: "a response that must be a count is negative or not a whole number: drop or correct it",
    Problem.ABOVE_TRIALS: "more successes than trials, or trials that are no whole number of 1 or more: correct them",
    Problem.NOT_POSITIVE: "a response that must be positive is 0 or negative: drop or correct it",
    Problem.UNKNOWN_LEVEL: "a level is not one of 0, 1, ..., levels - 1: recode it",
    Problem.NOTHING_OBSERVED: "a column, a unit or a sequence has no observed value: drop it",
    Problem.DIFFERS_IN_UNIT: "rows of one unit have different covariates z of the weights: give all of them the same",
}


class DataError(ValueError):
    """Bad input found on the host: what is wrong, where, and what to try, in one sentence."""

"""The models of the contract battery: one row each, in `tests/rows`. A new model is a file there, a line here."""

from tests.lanes import Case
from tests.rows import categorical, gaussian, independent, linear_regression, log_density

CASES: tuple[Case, ...] = (
    *linear_regression.CASES,
    *gaussian.CASES,
    *categorical.CASES,
    *independent.CASES,
    *log_density.CASES,
)

"""The models of the contract battery: one row each, in `tests/rows`. A new model is a file there, a line here."""

from tests.lanes import Case
from tests.rows import gaussian, gaussian_missing, linear_regression

CASES: tuple[Case, ...] = (*linear_regression.CASES, *gaussian.CASES, *gaussian_missing.CASES)

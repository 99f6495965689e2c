"""The models of the contract battery: one row each, in `tests/rows`. A new model is a file there, a line here."""

from tests.lanes import Case
from tests.rows import gated_weights, gaussian, linear_regression

CASES: tuple[Case, ...] = (*linear_regression.CASES, *gaussian.CASES, *gated_weights.CASES)

"""The models of the contract battery: one row each, in `tests/rows`. A new model is a file there, a line here."""

from tests.lanes import Case
from tests.rows import (
    categorical,
    counts,
    factors,
    gated_chain,
    gated_weights,
    gaussian,
    gaussian_missing,
    hidden_families,
    hidden_markov,
    independent,
    linear_regression,
    log_density,
    plsa,
    positive,
    student_t,
    with_component,
)

CASES: tuple[Case, ...] = (
    *linear_regression.CASES,
    *gaussian.CASES,
    *counts.CASES,
    *student_t.CASES,
    *positive.CASES,
    *with_component.CASES,
    *categorical.CASES,
    *independent.CASES,
    *log_density.CASES,
    *hidden_markov.CASES,
    *hidden_families.CASES,
    *gated_chain.CASES,
    *factors.CASES,
    *gated_weights.CASES,
    *gaussian_missing.CASES,
    *plsa.CASES,
)

"""Every model in `tests/cases.py` keeps the contract of DESIGN 10. One test a case, so that it is compiled once."""

import pytest

from tests import battery
from tests.cases import CASES
from tests.lanes import Case

# The first cases of their models, which no other may stand for, that take more than ten seconds each.
LATER = {
    "binomial-regression-column", "categorical-missing", "factor-analysis", "gamma", "gated-chain", "gaussian-noise",
    "hidden-markov", "missing-gaussian-full", "negative-binomial", "negative-binomial-regression", "student-common",
    "zero-inflated-negative-binomial", "zero-inflated-negative-binomial-regression",
    "zero-inflated-poisson-regression-gated",
}  # fmt: skip


def marks(case: Case) -> list[pytest.MarkDecorator]:
    """The first models' variants are slow, as the first cases in `LATER` are; variants of the others are long."""
    if case.name in LATER:
        return [pytest.mark.slow]
    if not case.slow:
        return []
    return [pytest.mark.slow if case.name.startswith(("regression-", "gaussian-")) else pytest.mark.long]


def marked(case: Case) -> object:
    return pytest.param(case, id=case.name, marks=marks(case))


@pytest.mark.parametrize("case", [marked(case) for case in CASES])
def test_contract(case: Case) -> None:
    battery.hold(case)

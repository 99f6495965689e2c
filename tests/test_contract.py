"""Every model in `tests/cases.py` keeps the contract of DESIGN 10. One test a case, so that it is compiled once."""

import pytest

from tests import battery
from tests.cases import CASES
from tests.lanes import Case


def mark(case: Case) -> pytest.MarkDecorator:
    """The first models' variants are slow, those of the others long."""
    return pytest.mark.slow if case.name.startswith(("regression-", "gaussian-")) else pytest.mark.long


def marked(case: Case) -> object:
    return pytest.param(case, id=case.name, marks=[mark(case)] if case.slow else [])


@pytest.mark.parametrize("case", [marked(case) for case in CASES])
def test_contract(case: Case) -> None:
    battery.hold(case)

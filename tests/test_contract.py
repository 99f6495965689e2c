"""Every model in `tests/cases.py` keeps the contract of DESIGN 10. One test a case, so that it is compiled once."""

import pytest

from tests import battery
from tests.cases import CASES
from tests.lanes import Case


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_contract(case: Case) -> None:
    battery.hold(case)

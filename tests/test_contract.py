"""Every model in `tests/cases.py` keeps the contract of DESIGN 10."""

from collections.abc import Callable

import pytest

from tests import battery
from tests.battery import Case
from tests.cases import CASES


@pytest.mark.parametrize("check", battery.CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
@pytest.mark.parametrize("case", [pytest.param(c, id=c.name, marks=pytest.mark.xdist_group(c.name)) for c in CASES])
def test_contract(case: Case, check: Callable[[Case], None]) -> None:
    check(case)

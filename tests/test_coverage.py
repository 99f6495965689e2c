"""95 % intervals cover the truth in about 95 % of simulated datasets; `bench/coverage.py` shows it more closely."""

from pathlib import Path

import numpy as np
import pytest

from bench import coverage

REPLICATES = 400
LOW, HIGH = 0.915, 0.98  # 95 % less 3.2 and plus 2.8 Monte Carlo standard errors of 400 replicates
KINDS = ("observed", "sandwich")


@pytest.mark.slow
@pytest.mark.parametrize("row", coverage.rows(), ids=lambda row: row.name)
def test_intervals_cover(row: coverage.Row, tmp_path: Path) -> None:
    one = coverage.study(row, (coverage.CLAIMED,), REPLICATES, KINDS, seed=2)
    one.run(tmp_path)
    found = coverage.coverages(one.results(tmp_path))
    assert set(found) == {(coverage.CLAIMED, kind) for kind in KINDS}
    for share, _, count in found.values():
        assert np.all(count == REPLICATES)
        assert np.all((share >= LOW) & (share <= HIGH)), share

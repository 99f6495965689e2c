"""One default start often enough ends at the best known maximum; the shares themselves are in bench/README.md."""

import pytest

from bench import starts

REACHED_IN_FILE = 0.05  # a reference that the file's own random starts reached this often must not be out of reach


def promised(case: starts.Reference) -> bool:
    """Whether 0 of 200 would be a fault: one scale for all components, or within reach of the file's own starts."""
    in_file = starts.reached_in_file(case)
    return case.K > 1 and (
        starts.common_scale(case) or (in_file is not None and in_file[0] >= REACHED_IN_FILE * in_file[1])
    )


CASES = {case.name: case for case in starts.cases() if promised(case)}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_some_of_200_default_starts_reach_the_reference(name: str) -> None:
    found = starts.measure(CASES[name])
    assert found.n == 200
    assert found.reached > 0, f"best {found.best}, reference {CASES[name].log_likelihood}"


def test_every_case_with_a_common_scale_is_promised() -> None:
    common = {case.name for case in starts.cases() if case.K > 1 and starts.common_scale(case)}
    assert common <= set(CASES)
    assert {"regmix_NOdata_NOonEq-K2-common", "gmm_thyroid-K3-EEE", "gmm_galaxies-K6-E"} <= common

"""Strictness for every test: no silent broadcasting over ranks, no silent promotion of dtypes.

The 64-bit flag stays as jax ships it: emjax must give float64 whatever the flag says.
"""

import gc
from collections.abc import Iterator
from pathlib import Path

import jax
import pytest

from tests.references import GaussianReference, RegressionReference, gaussian_cases, regression_cases


def pytest_configure(config: pytest.Config) -> None:
    """Compilation dominates: workers and later runs share what was compiled (jax keys it by the program)."""
    if getattr(config, "cache", None) is None:  # -p no:cacheprovider
        return
    jax.config.update("jax_compilation_cache_dir", str(config.cache.mkdir("jax")))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.05)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")


MAPS = Path("/proc/self/maps")
MOST_MAPS = 15_000  # Linux allows a process 65,530, and each compiled program takes some eighty


@pytest.fixture(autouse=True, scope="module")
def _room_for_programs() -> Iterator[None]:
    """Compiled programs are let go between modules before the system refuses memory to the compiler, which aborts."""
    yield
    if MAPS.exists() and len(MAPS.read_bytes().splitlines()) > MOST_MAPS:
        jax.clear_caches()
        gc.collect()


@pytest.fixture(scope="session")
def regression_references() -> dict[str, RegressionReference]:
    """By name, such as "regmix_CO2data-K2-common"."""
    return {case.name: case for case in regression_cases()}


@pytest.fixture(scope="session")
def gaussian_references() -> dict[str, GaussianReference]:
    """By name, such as "gmm_faithful-K3-VVV"."""
    return {case.name: case for case in gaussian_cases()}

"""Coefficients (K, p) of which some columns are the same in all components."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

from emjax.base import numerics
from emjax.base.records import Array, Data
from emjax.base.status import DataError

SAME = 1e-6  # given values that are this close, relative to the largest, count as equal


def check_intercept(name: str, intercept: Any) -> None:
    """Errors: `DataError` for an `intercept` that is not True or False."""
    if not isinstance(intercept, bool):
        raise DataError(f"{name}(intercept={intercept!r}): use True or False.")


def check_data(family: Any, data: Data) -> None:
    """Errors: `DataError` for data that a regression does not use, several responses, or nothing to regress on."""
    family.refuse_unused(data)
    family.refuse_columns(data)
    if not family.intercept and (data.x is None or np.shape(data.x)[-1] == 0):
        name = type(family).__name__
        raise DataError(f"{name}(intercept=False) needs covariates: give Data(x=...) or an intercept.")


def check_setting(name: str, shared: Any, intercept: bool) -> None:
    """Errors: `DataError` for a `shared` that is not None, "slopes", "intercept" or a tuple of column numbers."""
    numbers = isinstance(shared, tuple) and all(
        isinstance(j, (int, np.integer)) and not isinstance(j, bool) and j >= 0 for j in shared
    )
    if shared is not None and shared not in ("slopes", "intercept") and not numbers:
        raise DataError(
            f"{name}(shared={shared!r}): use None, 'slopes', 'intercept' or a tuple of columns of the coefficients."
        )
    if shared == "intercept" and not intercept:
        raise DataError(f"{name}(shared='intercept', intercept=False): there is no intercept to share.")


@dataclass(frozen=True)
class Columns:
    """Which columns each component has for itself, and which all have in common."""

    own: tuple[int, ...]
    shared: tuple[int, ...] = ()

    @staticmethod
    def of(shared: Any, intercept: bool, p: int) -> Columns:
        """From a family's setting and the number of columns; `DataError` for a column that is not there."""
        if shared is None:
            return Columns(tuple(range(p)))
        chosen = {"slopes": range(int(intercept), p), "intercept": (0,)}.get(shared, shared) if shared else ()
        if any(j >= p for j in chosen):
            raise DataError(f"shared={shared!r}: the coefficients have columns 0 to {p - 1}, the intercept first.")
        return Columns(tuple(j for j in range(p) if j not in chosen), tuple(j for j in range(p) if j in chosen))

    def centred(self, intercept: bool) -> tuple[bool, ...] | None:
        """Which covariates may be centred where there is an intercept; None for all.

        A shared intercept is at 0 of the covariates whose slopes differ: centring those would move it apart.
        """
        if not intercept or 0 not in self.shared:
            return None
        return tuple(j in self.shared for j in range(1, len(self.own) + len(self.shared)))

    def split(self, coefficients: Array) -> tuple[Array, Array]:
        """Own ones (K, q), and the shared ones (s,) of the first component."""
        return _take(coefficients, self.own), _take(coefficients[0], self.shared)

    def join(self, own: Array, shared: Array) -> Array:
        """The inverse of `split`, (K, p)."""
        if not self.shared:
            return own
        columns: dict[int, Array] = {j: own[:, i] for i, j in enumerate(self.own)}
        columns |= {j: jnp.broadcast_to(shared[i], own.shape[:1]) for i, j in enumerate(self.shared)}
        return jnp.stack([columns[j] for j in range(len(columns))], axis=1)

    def equal(self, coefficients: Array) -> Array:
        """Shared columns set to the first component's, so that they agree to the bit."""
        return self.join(*self.split(coefficients)) if self.shared else coefficients

    def solve(self, information: Array, score: Array) -> Array:
        """Newton's step (K, p): information (K, p, p) and score (K, p) of the components, summed where shared.

        The system is bordered: each component's own block is eliminated first, then the shared one is solved.
        """
        if not self.shared:
            return numerics.solve_positive(information, score)
        common = _take(information, self.shared)  # (K, p, s)
        total = jnp.sum(_take(jnp.swapaxes(common, 1, 2), self.shared), axis=0)
        right = jnp.sum(_take(score, self.shared), axis=0)
        none = jnp.zeros((score.shape[0], 0), score.dtype)
        if not self.own:
            return self.join(none, numerics.solve_positive(total, right))
        block = jnp.swapaxes(_take(jnp.swapaxes(_take(information, self.own), 1, 2), self.own), 1, 2)
        cross = _take(jnp.swapaxes(common, 1, 2), self.own)  # (K, s, q)
        own = _take(score, self.own)
        sides = jnp.concatenate([cross, own[:, None, :]], axis=1)
        solved = numerics.solve_positive(block[:, None, :, :], sides)
        borders = jnp.sum(cross[:, :, None, :] * solved[:, None, :, :], axis=(0, 3))  # (s, s + 1)
        step = numerics.solve_positive(total - borders[:, :-1], right - borders[:, -1])
        mine = solved[:, -1] - jnp.sum(step[None, :, None] * solved[:, :-1], axis=1)
        return self.join(mine, step)

    def blocks(self, information: Array) -> list[Array]:
        """The components' own blocks (K, q, q) and the shared one (1, s, s) of the information, where not empty."""
        shared = _take(jnp.swapaxes(_take(jnp.sum(information, axis=0), self.shared), 0, 1), self.shared)
        own = _take(jnp.swapaxes(_take(information, self.own), 1, 2), self.own)
        return [block for block in (own, shared[None]) if block.shape[-1]]

    # --- free coordinates: own ones component by component, then the shared ones once ------------------------------

    def owners(self, n_components: int) -> list[int]:
        """The component of each free coordinate, -1 where it is shared."""
        return [k for k in range(n_components) for _ in self.own] + [-1] * len(self.shared)

    def to_free(self, coefficients: Array) -> Array:
        """(K, p) -> (K q + s,)."""
        own, shared = self.split(coefficients)
        return jnp.concatenate([own.reshape(-1), shared])

    def from_free(self, free: Array, n_components: int) -> Array:
        """The inverse of `to_free`."""
        size = n_components * len(self.own)
        return self.join(free[:size].reshape(n_components, len(self.own)), free[size:])


def _take(values: Array, columns: Sequence[int]) -> Array:
    """Static columns along the last axis: slices, which fuse where a gather would not."""
    if not columns:
        return values[..., :0]
    if len(columns) == values.shape[-1]:
        return values
    return jnp.stack([values[..., j] for j in columns], axis=-1)


def check_coefficients(coefficients: Any, shared: Any, intercept: bool) -> None:
    """On the host: coefficients (..., K, p) that are not finite, or differ where they are shared, raise `DataError`."""
    if coefficients is None:
        return
    values = np.asarray(coefficients, np.float64)
    if not np.all(np.isfinite(values)):
        raise DataError("coefficients must be finite.")
    if values.ndim < 2:
        return  # its shape is refused elsewhere
    columns = list(Columns.of(shared, intercept, values.shape[-1]).shared)
    away = np.abs(values - values[..., :1, :])[..., columns]
    if np.any(away > SAME * np.max(np.abs(values), initial=0.0)):
        raise DataError(f"coefficients must be equal in all components in the shared columns {columns}.")

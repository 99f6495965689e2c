"""Cells of made-up studies for the tests of measures, results and figures: no engine, NumPy alone."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from emjax import Flag, Status
from emjax.studies.records import Cell, Entry, Outcomes

ENTRIES = tuple(Entry(name, k) for name in ("weights", "means[0]", "scale") for k in (0, 1)) + (Entry("shared", "all"),)
TRUTH = np.array([0.4, 0.6, 0.0, 3.0, 1.0, 2.0, 5.0])
MOVES = {(0, 1): np.arange(7), (1, 0): np.array([1, 0, 3, 2, 5, 4, 6])}
Z = 1.959963984540054


def mixture_cell(
    scenario: dict[str, Any] | None = None,
    method: str = "EM",
    n: int = 200,
    seed: int = 0,
    *,
    spread: float = 0.2,
    bias: float = 0.0,
    swapped: bool = True,
    failures: bool = True,
    overlap: bool = True,
) -> Cell:
    """Two components, seven entries; labels exchanged in half of the replicates, which overlap with the truth tells.

    Of every 20 replicates with `failures` one is DEGENERATE with estimates far off and no intervals, one NON_FINITE,
    one stopped at MAX_ITERATIONS and one is SUSPECT.
    """
    generator = np.random.default_rng(seed)
    size = len(ENTRIES)
    error = spread * (1 + 0.3 * np.arange(size)) * generator.normal(size=(n, size))
    se = spread * (1 + 0.3 * np.arange(size)) * np.exp(0.1 * generator.normal(size=(n, size)))
    estimate = TRUTH + error + bias
    status, flags = np.full(n, int(Status.CONVERGED)), np.zeros(n, int)
    if failures:
        status[4::20], status[9::20], status[14::20] = Status.DEGENERATE, Status.NON_FINITE, Status.MAX_ITERATIONS
        flags[17::20] = Flag.SUSPECT
        estimate[4::20] += 10.0
        estimate[9::20] = np.nan
        se[status == Status.DEGENERATE] = np.nan
        se[status == Status.NON_FINITE] = np.nan
    share = np.clip(generator.beta(4, 2, n), 0.05, 1.0)
    labels = np.array([[90.0, 10.0], [20.0, 80.0]])
    cell = Cell(
        {} if scenario is None else scenario,
        method,
        ENTRIES,
        MOVES,
        Outcomes(
            replicate=np.arange(n),
            status=status,
            flags=flags,
            log_likelihood=-100.0 + generator.normal(size=n),
            iterations=generator.lognormal(4, 0.8, n).astype(int) + 5,
            share_best=share,
            estimate=estimate,
            se=se,
            lower=estimate - Z * se,
            upper=estimate + Z * se,
            truth=np.tile(TRUTH, (n, 1)),
            reason=np.where(np.isfinite(se), 0, 4),
            overlap=np.tile(labels, (n, 1, 1)) if overlap else np.zeros((n, 0, 0)),
            covariance=se[:, :, None] * np.eye(size) * se[:, None, :],
        ),
    )
    return exchanged(cell, np.arange(n) % 2 == 1) if swapped else cell


def exchanged(cell: Cell, which: np.ndarray) -> Cell:
    """The cell with the labels of both components exchanged in some replicates, as fits leave them."""
    own, move = cell.outcomes, MOVES[1, 0]
    moved = {}
    for name in ("estimate", "se", "lower", "upper", "reason"):
        array = np.array(getattr(own, name))
        array[which] = array[which][:, move]
        moved[name] = array
    covariance, overlap = np.array(own.covariance), np.array(own.overlap)
    covariance[which] = covariance[which][:, move][:, :, move]
    if overlap.shape[1]:
        overlap[which] = overlap[which][:, ::-1]
    return cell._replace(outcomes=own._replace(**moved, covariance=covariance, overlap=overlap))


def study(n: int = 200) -> list[Cell]:
    """Two factors of three and two levels, two methods; the second is more precise and a little biased."""
    cells = []
    for i, rows in enumerate((100, 200, 400)):
        for j, noise in enumerate((0.5, 1.0)):
            spread = 0.3 * noise * np.sqrt(100 / rows)
            scenario = {"n": rows, "noise": noise}
            cells.append(mixture_cell(scenario, "EM", n, 10 * i + j, spread=spread))
            other = mixture_cell(scenario, "racing", n, 100 + 10 * i + j, spread=0.8 * spread, bias=0.05 * noise)
            cells.append(other)
    return cells


def figure(table: Any, measure: str, population: str = "valid", parameter: str = "means[0]", component: Any = 0) -> Any:
    """The one row of a table, as an object."""
    kept = (table["measure"] == measure) & (table["population"] == population) & (table["parameter"] == parameter)
    rows = [i for i in np.flatnonzero(kept) if table["component"][i] == component]
    assert len(rows) == 1
    return SimpleNamespace(**{name: values[rows[0]] for name, values in table.items()})

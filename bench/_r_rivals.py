"""The R packages, each in a process of its own: arrays out by binary files, fits by CSV, times by R's clock."""

from __future__ import annotations

import csv
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench._rival_problems import Run, Unavailable

SCRIPT = Path(__file__).resolve().parent / "rivals.R"
Arrays = dict[str, np.ndarray]


def version(package: str) -> str:
    """The package's version and R's; raises `Unavailable` where there is none."""
    if shutil.which("Rscript") is None:
        raise Unavailable("Rscript is not installed")
    asked = f"cat(as.character(packageVersion('{package}')), ' (R ', as.character(getRversion()), ')', sep = '')"
    found = subprocess.run(["Rscript", "--vanilla", "-e", asked], capture_output=True, text=True, check=False)
    if found.returncode != 0:
        raise Unavailable("the R package is not installed")
    return found.stdout.strip()


def write(folder: Path, arrays: Arrays, step_gain: float, log_likelihood: float) -> None:
    """Arrays as row-major doubles, sizes as one line of CSV."""
    shape = arrays["responsibilities"].shape
    width = (arrays["coefficients"] if "coefficients" in arrays else arrays["means"]).shape[2]
    with open(folder / "problem.csv", "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("D", "n", "K", "width", "step_gain", "log_likelihood"))
        rows.writerow((*shape, width, step_gain, log_likelihood))
    for name, value in arrays.items():
        np.ascontiguousarray(value, np.float64).tofile(folder / f"{name}.bin")


def read(folder: Path, start: Arrays) -> Run:
    """What rivals.R left: the columns are iterations, R's log-likelihood, and R's column-major parameters in turn.

    Iterations and parameters are NaN where R failed, iterations alone where it started again.
    """
    seconds = float((folder / "seconds.txt").read_text())
    table = np.genfromtxt(folder / "fits.csv", delimiter=",", ndmin=2)
    needed = 2 + sum(like[0].size for like in start.values())
    if needed != table.shape[1]:
        raise ValueError(f"fits.csv has {table.shape[1]} columns and the fits need {needed}: see rivals.R.")
    params, column = {}, 2
    for name, like in start.items():
        size = like[0].size
        # R's column-major arrays have the component last: read row-major it comes first, as here.
        params[name] = table[:, column : column + size].reshape(len(table), *like.shape[1:])
        column += size
    return Run(seconds, params, table[:, 0], table[:, 1])


def run(package: str, arrays: Arrays, start: Arrays, step_gain: float, log_likelihood: float, cores: int = 1) -> Run:
    """One pass of a package over all datasets; raises `Unavailable` with R's last words where it fails."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder, arrays, step_gain, log_likelihood)
        command = ["Rscript", "--vanilla", str(SCRIPT), package, name, str(cores)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise Unavailable(f"fails: {done.stderr.strip()[-300:]}")
        return read(folder, start)

"""bench/yardstick.c compiled with the machine's gcc and called by ctypes."""

from __future__ import annotations

import ctypes
import platform
import re
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

import emjax

SOURCE = Path(__file__).with_name("yardstick.c")
FLAGS = ("-O3", "-march=native", "-ffast-math", "-fopenmp")


class NoCompiler(RuntimeError):
    """There is no gcc that can build the yardstick; the message is one sentence."""


class CFits(NamedTuple):
    """What the C program found, one entry a lane (D * S,), the starts of a dataset side by side.

    params : user's units; log_likelihood : nats, of those params; status : `emjax.Status`; iterations : E-steps.
    """

    params: emjax.MixtureParams
    log_likelihood: np.ndarray
    status: np.ndarray
    iterations: np.ndarray


def _gcc(*arguments: str) -> None:
    gcc = shutil.which("gcc")
    if gcc is None:
        raise NoCompiler(
            "The C yardstick needs gcc and there is none on the path: install gcc (Debian: gcc, libc-dev)."
        )
    wide = ("-mprefer-vector-width=512",) if platform.machine() in ("x86_64", "AMD64") else ()
    ran = subprocess.run([gcc, *FLAGS, *wide, *arguments], capture_output=True, text=True, check=False)
    if ran.returncode != 0:
        line = (ran.stderr.strip() or "no message").splitlines()[0]
        raise NoCompiler(f"gcc could not build the C yardstick, which needs Linux with OpenMP and libmvec: {line}.")


@cache
def compiled(p: int, n_components: int) -> ctypes.CDLL:
    """The program for `p` coefficients (intercept counted) and `n_components`; raises `NoCompiler`."""
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "yardstick.so"
        sizes = (f"-DP={p}", f"-DK={n_components}", "-shared", "-fPIC")
        _gcc(*sizes, str(SOURCE), "-o", str(library), "-lmvec", "-lm")
        loaded = ctypes.CDLL(str(library))
    whole, real, array = ctypes.c_int, ctypes.c_double, ctypes.c_void_p
    loaded.fit_lanes.argtypes = [whole, whole, whole, array, array, array, real, whole, whole, *[array] * 4]
    loaded.fit_lanes.restype = None
    return loaded


def vector_exponentials(p: int, n_components: int) -> list[str]:
    """The vectorised exponentials that the assembly calls, such as _ZGVeN8v_exp (8 at a time)."""
    with tempfile.TemporaryDirectory() as folder:
        assembly = Path(folder) / "yardstick.s"
        _gcc(f"-DP={p}", f"-DK={n_components}", "-S", str(SOURCE), "-o", str(assembly))
        return sorted(set(re.findall(r"call\s+(_ZGV\w+_exp)\b", assembly.read_text())))


def pack(params: emjax.MixtureParams) -> np.ndarray:
    """Parameters with a leading axis of lanes as the C program has them, (L, K (p + 2))."""
    leaves = params.latent.weights, params.family.coefficients, params.family.scale
    rows = [np.asarray(leaf, np.float64).reshape(len(leaf), -1) for leaf in leaves]
    return np.ascontiguousarray(np.concatenate(rows, axis=1))


def unpack(packed: np.ndarray, n_components: int) -> emjax.MixtureParams:
    """The inverse of `pack`."""
    weights, middle, scale = np.split(packed, [n_components, packed.shape[1] - n_components], axis=1)
    coefficients = middle.reshape(len(packed), n_components, -1)
    return emjax.MixtureParams(
        emjax.WeightsParams(weights.copy()), emjax.LinearRegressionParams(coefficients.copy(), scale.copy())
    )


def fit(
    data: emjax.Data, start: emjax.MixtureParams, stop: emjax.Stop | None = None, threads: int | None = None
) -> CFits:
    """Fit every lane: y (D, n), x (D, n, p - 1), starts with a leading axis of D or D * S; threads None: all cores."""
    stop = stop or emjax.Stop()
    y, x = (np.ascontiguousarray(a, np.float64) for a in (data.y, data.x))
    packed = pack(start)
    lanes, n_components = np.shape(start.latent.weights)
    end, log_likelihood = np.empty_like(packed), np.empty(lanes)
    status, iterations = np.empty(lanes, np.int32), np.empty(lanes, np.int32)
    program = compiled(x.shape[2] + 1, n_components)
    program.fit_lanes(
        len(y), lanes // len(y), y.shape[1], x.ctypes.data, y.ctypes.data, packed.ctypes.data, stop.tol,
        stop.max_iterations, threads or 0, end.ctypes.data, log_likelihood.ctypes.data, status.ctypes.data,
        iterations.ctypes.data,
    )  # fmt: skip
    return CFits(unpack(end, n_components), log_likelihood, status, iterations)

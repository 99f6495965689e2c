"""`fit_stream`: datasets made on the device, fitted, handed over chunk by chunk, and kept by nobody."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from emjax.base.protocols import Model
from emjax.base.records import Data
from emjax.base.status import DataError
from emjax.engine import blocks, devices, fitting, generated, keys, runner
from emjax.engine.generated import Generated
from emjax.engine.results import Fits
from emjax.engine.runner import Advance

LANES = 16  # restarts a dataset, about, by which the default chunk is counted
LARGEST = 2**32  # a dataset's number is folded into its key as 32 bits


def fit_stream(
    model: Model,
    generate: Callable[[Any], Data],
    n_datasets: int,
    key: Any,
    *,
    first: int = 0,
    chunk: int | None = None,
    threads: int | None = None,
    progress: Callable[[Advance], None] | None = None,
    **settings: Any,
) -> Iterator[Fits]:
    """Fit datasets that are generated on the fly: an iterator of `Fits`, one a chunk, in order.

    Memory depends on the chunk, not on the number of datasets: data are made on the device inside the chunk, and
    nothing is kept of a chunk that the caller lets go.

    Parameters
    ----------
    model : as for `fit_many`.
    generate : from a jax key to the `Data` of one dataset (real numbers become float64; U units are numbered
        0, ..., U - 1 and have weights). Pure, traceable, the same shapes for every key, and one function object for all
        calls: a new one is compiled anew.
    n_datasets, first : datasets `first`, ..., `first + n_datasets - 1` of the stream, below 2^32. A dataset's name
        (`ids`) is its number.
    key : a whole number of any size, or a typed jax key. Dataset i is generated from fold_in(stream, i), where the
        stream's key is hashed from this one: it depends on `key`, `generate` and i alone, and shares no random number
        with its restarts.
    chunk : datasets at a time; changes no result. threads : chunks at a time, by default one a core; as many more are
        ready, at most, while the caller holds one.
    progress : called with an `Advance` before each chunk is handed over.
    settings : all others of `fit_many`, except `ids`. Given starts are shared by all datasets.

    `fits.data[i]` makes dataset i of the chunk again, so `fits[i]` is the same as `fit(model, fits.data[i], key,
    id=fits.ids[i], ...)` to the bit, and can predict and be saved. Ctrl-C raises KeyboardInterrupt at the loop, after
    the chunks being worked on; `first=` goes on from there.

    Errors: `DataError`, from this call for what is wrong with `generate`, from the first chunk for the settings.
    """
    fitting.check_model(model)
    if "ids" in settings:
        raise DataError("fit_stream names datasets by their numbers: leave ids= out.")
    for name, value, smallest in (("n_datasets", n_datasets, 1), ("first", first, 0)):
        fitting.check_whole(name, value, smallest)
    for name, value in (("chunk", chunk), ("threads", threads)):
        if value is not None:
            fitting.check_whole(name, value, 1)
    if first + n_datasets > LARGEST:
        raise DataError(f"first + n_datasets = {first + n_datasets}: a stream has 2^32 datasets at most.")
    stream = generated.of(model, generate, keys.stream_root(keys.root_key(key)), first, n_datasets)
    threads = threads or devices.default_threads()
    if chunk is None:
        chunk = blocks.chunk_for(devices.current(), stream.dataset_bytes, LANES, n_datasets, threads)
    return _fits(model, stream, key, chunk, threads, progress, settings)


def _fits(
    model: Model,
    stream: Generated,
    key: Any,
    chunk: int,
    threads: int,
    progress: Callable[[Advance], None] | None,
    settings: dict[str, Any],
) -> Iterator[Fits]:
    end = stream.first + len(stream)
    pool = devices.Pool(threads)

    def run(window: Generated) -> Fits:
        ids = range(window.first, window.first + len(window))
        with pool.device():
            return fitting.fit_many(model, window, key, ids=ids, chunk=chunk, threads=1, **settings)

    windows = (stream.window(first, min(chunk, end - first)) for first in range(stream.first, end, chunk))
    tally = runner.Tally(len(stream))

    def tell(fits: Fits) -> Fits:
        if progress is not None:
            # Every dataset counts alike in the efficiency: a record of fits does not hold its lane-steps.
            progress(tally.add(fits.status, fits.work_efficiency * len(fits), len(fits)))
        return fits

    # A loop that yields would hold the chunk while its caller has it.
    yield from map(tell, runner.in_order(run, windows, threads))

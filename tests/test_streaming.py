"""`fit_stream`: data made on the fly give the fits that the same data give from memory, and nothing is kept."""

import gc
import threading
import time
import weakref
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import emjax
from emjax import Data, DataError, Fits
from emjax.engine import after, generated, keys, pipeline
from emjax.inference import resampling
from tests.promises import INTERCEPTS, LINES, NOISE, RESTARTS, SEED, SLOPES, D, N, base, same_fits

FIRST = 5


def make(key: Any) -> Data:
    """The article's problem with five times its noise, as `tests.promises.lines` but from a jax key."""
    of_x, of_label, of_error = jax.random.split(key, 3)
    x = jax.random.uniform(of_x, (N,), maxval=10.0)
    label = jax.random.bernoulli(of_label, 0.5, (N,)).astype(jnp.int32)
    intercept, slope, noise = (jnp.asarray(a)[label] for a in (INTERCEPTS, SLOPES, 5.0 * NOISE))
    return Data(intercept + slope * x + noise * jax.random.normal(of_error, (N,)), x[:, None])


def weighted(key: Any) -> Data:
    """Thirty units of two rows, weights of 1 and 2, real numbers of single precision."""
    data = make(key)
    weight = jnp.asarray(np.tile([1.0, 2.0], 15))
    unit = jnp.arange(60) // 2
    return Data(data.y[:60].astype(jnp.float32), data.x[:60].astype(jnp.float32), unit=unit, weight=weight)


def stream(n: int = D, **settings: Any) -> list[Fits]:
    settings = {"restarts": RESTARTS, "chunk": 4, "threads": 1, "first": FIRST, **settings}
    return list(emjax.fit_stream(LINES, make, n, SEED, **settings))


def test_chunks_in_order_named_by_their_numbers() -> None:
    chunks = stream(10, threads=3)
    assert [list(fits.ids) for fits in chunks] == [[5, 6, 7, 8], [9, 10, 11, 12], [13, 14]]
    assert all(fits.complete and np.all(fits.status == emjax.Status.CONVERGED) for fits in chunks)
    assert all(np.all(fits.n_observations == N) for fits in chunks)
    assert len({float(value) for fits in chunks for value in fits.objective}) == 10


def test_a_dataset_depends_on_neither_chunk_nor_total_nor_threads() -> None:
    chunks = stream(threads=3)
    longer = stream(2 * D, chunk=7)
    for number in range(FIRST, FIRST + D):
        place, other = number - FIRST, number - FIRST
        same_fits(chunks[place // 4][place % 4], longer[other // 7][other % 7], (), ())
    from_the_start = stream(8, first=0)
    same_fits(from_the_start[1][3], chunks[0][2], (), ())


def test_the_same_dataset_alone_and_in_memory_is_the_same_fit() -> None:
    fits = stream()[1]
    alone = emjax.fit(LINES, fits.data[2], SEED, id=fits.ids[2], restarts=RESTARTS)
    same_fits(fits[2], alone, (), ())
    whole = emjax.fit_many(LINES, fits.data.stacked(), SEED, ids=fits.ids, restarts=RESTARTS)
    same_fits(fits, whole)
    np.testing.assert_array_equal(fits[2].predict().responsibilities, alone.predict().responsibilities)
    assert fits[2].data.y.dtype == np.float64
    assert fits[2].data.weight is None


@pytest.mark.slow
def test_units_weights_and_single_precision() -> None:
    (fits,) = emjax.fit_stream(LINES, weighted, 4, SEED, restarts=RESTARTS, threads=1)
    assert fits.data[1].y.dtype == np.float64
    assert fits.data[1].y.shape == (60,)
    assert fits.data[1].weight.shape == (30,)
    np.testing.assert_array_equal(fits.n_observations, 45.0)
    same_fits(fits[1], emjax.fit(LINES, fits.data[1], SEED, id=1, restarts=RESTARTS), (), ())


def gated(key: Any) -> Data:
    """Two components whose weights depend on z."""
    of_z, of_label, of_error = jax.random.split(key, 3)
    z = jax.random.normal(of_z, (80, 1))
    label = jax.random.bernoulli(of_label, jax.nn.sigmoid(2.0 * z[:, 0])).astype(z.dtype)
    return Data(4.0 * label + jax.random.normal(of_error, (80,)), z=z)


@pytest.mark.slow
def test_covariates_of_the_weights() -> None:
    model = emjax.Mixture(emjax.Gaussian("V"), 2, emjax.GatedWeights())
    (fits,) = emjax.fit_stream(model, gated, 2, SEED, restarts=4, threads=1)
    assert fits.data[1].z.shape == (80, 1)
    same_fits(fits[1], emjax.fit(model, fits.data[1], SEED, id=1, restarts=4), (), ())
    assert np.all(np.abs(fits.params.latent.gating[:, 0, 1]) > 1.0)


def test_data_and_restarts_have_different_keys() -> None:
    root = keys.root_key(SEED)
    assert not np.array_equal(root, keys.stream_root(root))
    key = keys.dataset_key(keys.stream_root(root), np.uint32(3))
    expected = jax.random.fold_in(jax.random.wrap_key_data(keys.stream_root(root), impl="threefry2x32"), 3)
    assert jnp.all(jax.random.key_data(key) == jax.random.key_data(expected))
    other = next(emjax.fit_stream(LINES, make, 1, SEED + 1, restarts=RESTARTS, threads=1))
    assert not np.array_equal(other.data[0].y, stream(1, first=0)[0].data[0].y)


def test_settings_pass_through() -> None:
    start = jax.tree.map(lambda a: a[0], base().params)
    (fits,) = stream(4, start=start, restarts=None, stop=emjax.Stop(max_iterations=3))
    assert fits.restarts.status.shape == (4, 1)
    assert np.all(fits.restarts.iterations <= 3)
    with pytest.raises(DataError, match="shape"):
        stream(4, start=jax.tree.map(lambda a: a[:4], base().params), restarts=None)
    with pytest.raises(DataError, match="precision"):
        stream(4, precision="float16")


def test_nothing_is_kept_of_a_chunk_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of twelve chunks no data is held but of those being worked on, and one chunk a thread is ahead."""
    threads = 2
    data: list[weakref.ref] = []
    whole = pipeline.fit_chunk

    def watched(plan: Any, chunk: Any) -> Any:
        data.append(weakref.ref(chunk.data.y))
        assert sum(array() is not None for array in data) <= threads
        return whole(plan, chunk)

    monkeypatch.setattr(pipeline, "fit_chunk", watched)
    stream_of_fits = emjax.fit_stream(LINES, make, 48, SEED, restarts=1, chunk=4, threads=threads)
    for handed in range(1, 13):
        fits = weakref.ref(next(stream_of_fits))
        ahead = min(12, handed + threads)
        patience = time.monotonic() + 10.0
        while fits() is not None or len(data) < ahead:  # the thread that made them may be just leaving its function
            gc.collect()
            time.sleep(0.01)
            assert time.monotonic() < patience
        time.sleep(0.05)
        assert len(data) == ahead
    assert len(data) == 12


def test_leaving_early_and_interrupts_stop_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    began: list[int] = []
    whole = pipeline.fit_chunk

    def counted(plan: Any, chunk: Any) -> Any:
        began.append(int(chunk.words[0]))
        return whole(plan, chunk)

    monkeypatch.setattr(pipeline, "fit_chunk", counted)
    fits = emjax.fit_stream(LINES, make, 80, SEED, restarts=RESTARTS, chunk=4, threads=2)
    next(fits)
    fits.close()
    assert len(began) <= 4
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ThreadPool")]

    def interrupt(step: emjax.Advance) -> None:
        if step.done == 8:
            raise KeyboardInterrupt

    seen = []
    with pytest.raises(KeyboardInterrupt):
        for part in emjax.fit_stream(LINES, make, 80, SEED, restarts=RESTARTS, chunk=4, threads=2, progress=interrupt):
            seen.append(part)
    assert [list(part.ids) for part in seen] == [[0, 1, 2, 3]]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ThreadPool")]


def test_progress_is_reported() -> None:
    seen: list[emjax.Advance] = []
    stream(progress=seen.append)
    assert [step.done for step in seen] == [4, 8, 12]
    assert all(step.total == D and 0 < step.work_efficiency <= 1 and step.converged == 1.0 for step in seen)
    assert seen[-1].seconds_left == 0.0


def test_fits_of_a_stream_can_be_saved(tmp_path: Path) -> None:
    fits = stream(4)[0]
    fits.save(tmp_path / "chunk.npz")
    back = emjax.load(tmp_path / "chunk.npz")
    same_fits(fits, back)
    np.testing.assert_array_equal(back.data.y[2], fits[2].data.y)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda key: 3.0, "return the emjax.Data"),
        (lambda key: Data(jnp.zeros(5), jnp.zeros((4, 1))), "x has shape"),
        (lambda key: Data(jnp.zeros(5), z=jnp.zeros((40, 1))), "y has 5 rows but z has shape"),  # more than are padded
        (lambda key: Data(jnp.zeros(4), unit=jnp.array([0, 0, 1, 1])), "without weight"),
        (lambda key: Data(jnp.zeros(4), unit=jnp.array([3, 3, 5, 5]), weight=jnp.ones(2)), "number its units"),
        (lambda key: Data(jnp.zeros(5), jnp.ones((5, 1)), weight=jnp.ones(40)), "weight has shape .* 5 units"),
        (lambda key: Data(jnp.zeros(5), weight=jnp.ones((5, 1))), "weight has shape .*one weight a unit"),
        (
            lambda key: Data(jnp.zeros(4), jnp.ones((4, 1)), unit=jnp.array([0, 0, 1, 1]), weight=jnp.ones(30)),
            "weight has shape .* 2 units",
        ),
        ("data", "give a function"),
    ],
)
def test_what_is_no_dataset_is_refused(made: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        emjax.fit_stream(LINES, made, 4, 0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_datasets": 0}, "n_datasets=0"),
        ({"first": -1}, "first=-1"),
        ({"first": 2**32 - 1}, "2\\^32"),
        ({"chunk": 0}, "chunk=0"),
        ({"threads": True}, "threads=True"),
        ({"ids": [1, 2]}, "ids="),
        ({"model": None}, "not a model"),
    ],
)
def test_bad_arguments_are_refused_at_once(settings: dict[str, Any], message: str) -> None:
    given = {"model": LINES, "n_datasets": 4, **settings}
    model, n_datasets = given.pop("model"), given.pop("n_datasets")
    with pytest.raises(DataError, match=message):
        emjax.fit_stream(model, make, n_datasets, 0, **given)


def test_a_dataset_out_of_range() -> None:
    window = generated.of(LINES, make, np.array([1, 2], np.uint32), 3, 2)
    np.testing.assert_array_equal(window[-1].y, window[1].y)
    np.testing.assert_array_equal(window.window(4, 1)[0].y, window[1].y)
    with pytest.raises(IndexError, match="none at 2"):
        window[2]


@pytest.mark.slow
def test_the_bootstrap_of_a_stream_with_its_key_draws_other_numbers() -> None:
    """A generator that splits its key has fold_in(key, i), which must not be the key of bootstrap replicate i."""
    (fits,) = stream(4, first=0)
    block = next(resampling.blocks(after.point(fits), np.array([0]), [0], keys.root_key(SEED), "weighted", 2))
    with jax.enable_x64(True), jax.threefry_partitionable(True):
        key = jax.random.split(keys.dataset_key(keys.stream_root(keys.root_key(SEED)), np.uint32(0)))[0]
        drawn = np.asarray(jax.random.gamma(key, jnp.ones(N)))
    assert block.data.weight[0].shape == (N,) and not np.any(np.isclose(block.data.weight[0], drawn))

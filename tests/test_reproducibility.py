"""DESIGN 5 (3) and (4): a fit depends on its data, its key and the settings, not on the company it keeps."""

import subprocess
import sys

import jax
import numpy as np
import pytest

import emjax
from emjax import Data, Status
from emjax.engine import datasets, keys
from tests.promises import LINES, RESTARTS, SEED, D, N, at, base, lines, same_fits


def test_chunks_and_threads_change_nothing() -> None:
    same_fits(base(), emjax.fit_many(LINES, lines(), SEED, restarts=RESTARTS, chunk=4, threads=1))
    same_fits(base(), emjax.fit_many(LINES, lines(), SEED, restarts=RESTARTS, chunk=5, threads=3))


def test_the_place_in_the_batch_changes_nothing() -> None:
    back = np.arange(D)[::-1]
    turned = emjax.fit_many(LINES, at(lines(), back), SEED, restarts=RESTARTS, ids=back, chunk=4)
    same_fits(base(), turned, rows_b=back)
    np.testing.assert_array_equal(turned.ids, back)


def test_one_dataset_alone_is_the_same_fit() -> None:
    for position in (0, 7):
        alone = emjax.fit(LINES, at(lines(), position), SEED, restarts=RESTARTS, id=position)
        same_fits(base()[position], alone, (), ())
        assert alone.ids == position


def test_a_list_is_the_same_as_a_stack() -> None:
    listed = emjax.fit_many(LINES, [at(lines(), i) for i in range(4)], SEED, restarts=RESTARTS, chunk=4)
    same_fits(base(), listed, slice(4))


def test_other_sizes_in_the_batch_change_nothing() -> None:
    """Each dataset is padded to its own bucket."""
    odd = at(lines(), 1)
    mixed = [at(lines(), 0), Data(odd.y[:30], odd.x[:30]), at(lines(), 2)]
    fits = emjax.fit_many(LINES, mixed, SEED, restarts=RESTARTS)
    same_fits(base(), fits, np.array([0, 2]), np.array([0, 2]))
    assert list(fits.n_observations) == [N, 30, N]
    same_fits(fits[1], emjax.fit(LINES, mixed[1], SEED, restarts=RESTARTS, id=1), (), ())
    assert datasets.bucket(N) != datasets.bucket(30)


def test_broken_neighbours_change_nothing() -> None:
    y, x = np.array(lines().y), np.array(lines().x)
    weight = np.ones((D, N), bool)
    y[1, 3] = np.nan
    x[2, 5, 0] = np.inf
    x[4] = 3.0  # constant
    y[5] = -1.0  # constant
    weight[7] = False
    weight[8, 6:] = False  # fewer rows than parameters
    y[9, :50] = 1e250
    broken = np.array([1, 2, 4, 5, 7, 8])
    fits = emjax.fit_many(LINES, Data(y, x, weight=weight), SEED, restarts=RESTARTS)
    sound = np.setdiff1d(np.arange(D), [*broken, 9])
    same_fits(base(), fits, sound, sound)
    assert np.all(fits.status[broken] == Status.INVALID_DATA)
    assert len({fits.reasons[i] for i in broken}) == 6
    for leaf in jax.tree.leaves((fits.params, fits.log_likelihood, fits.objective)):
        assert np.all(np.isnan(leaf[broken]))


def test_the_key_and_the_name_matter() -> None:
    one = at(lines(), 0)
    landscapes = {
        emjax.fit(LINES, one, seed, restarts=RESTARTS, id=name).restarts.objective.tobytes()
        for seed, name in [(SEED, 0), (SEED, 1), (SEED + 1, 0), (SEED + 2**64, 0), (SEED, "north")]
    }
    assert len(landscapes) == 5


def test_seeds_of_any_size_differ() -> None:
    seeds = [0, 1, -1, 2**31, 2**32, 2**64, 2**70, 2**70 + 2**64, 2**70 + 2**32, 10**400]
    words = {keys.root_key(seed).tobytes() for seed in seeds}
    assert len(words) == len(seeds)
    for kind in (np.int8, np.int64, np.uint16):
        np.testing.assert_array_equal(keys.root_key(kind(7)), keys.root_key(7))
    typed = jax.random.key(7)
    np.testing.assert_array_equal(keys.root_key(typed), jax.random.key_data(typed))
    np.testing.assert_array_equal(keys.root_key(typed), keys.root_key(jax.random.key_data(typed)))
    other = keys.root_key(jax.random.key(7, impl="rbg"))
    assert other.shape == (2,)
    assert not np.array_equal(other, keys.root_key(jax.random.key(8, impl="rbg")))


def test_names_give_words() -> None:
    words = keys.dataset_words([0, 5, np.int64(5), "5", "north", 2**32, 2**70, -1, (1, 2)])
    assert words.dtype == np.uint32
    assert words[0] == 0
    assert words[1] == words[2] == 5
    assert len(set(words.tolist())) == 8
    np.testing.assert_array_equal(words, keys.dataset_words([0, 5, 5, "5", "north", 2**32, 2**70, -1, (1, 2)]))
    for whole in ([0, 5, 2**32 - 1], [0, 5, 2**32], [-1, 5]):  # in one go, and one by one
        np.testing.assert_array_equal(keys.dataset_words(np.array(whole)), keys.dataset_words(whole))


def test_names_of_any_size_are_kept() -> None:
    names = [2**70, "north"]
    fits = emjax.fit_many(LINES, at(lines(), slice(2)), SEED, restarts=RESTARTS, ids=names)
    assert list(fits.ids) == names
    whole = emjax.fit_many(LINES, at(lines(), slice(2)), SEED, restarts=RESTARTS, ids=[2**70, 2**70 + 1])
    same_fits(fits, whole, np.array([0]), np.array([0]))


def _draw() -> np.ndarray:
    key = keys.restart_key(np.array([1, 2], np.uint32), np.uint32(3), np.int32(4))
    with jax.enable_x64(True):
        return np.asarray(jax.random.uniform(key, (8,), "float64"))


def test_draws_do_not_depend_on_global_settings() -> None:
    expected = _draw()
    with jax.enable_x64(True):
        np.testing.assert_array_equal(_draw(), expected)
    with jax.default_prng_impl("rbg"):
        np.testing.assert_array_equal(_draw(), expected)


FLAGS = """
import sys, hashlib
import jax, numpy as np
for setting in sys.argv[1:]:
    name, value = setting.split("=")
    jax.config.update(name, {"True": True, "False": False}.get(value, value))
before = {name: getattr(jax.config, name) for name in dir(jax.config) if name.startswith("jax_")}
import emjax
from tests.promises import LINES, at, lines
fits = emjax.fit_many(LINES, at(lines(), slice(4)), 2**70, restarts=4, threads=1)
after = {name: getattr(jax.config, name) for name in before}
assert before == after, {name for name in before if before[name] != after[name]}
assert fits.log_likelihood.dtype == np.float64
leaves = jax.tree.leaves((fits.params, fits.objective, fits.restarts, fits.certificate))
print(hashlib.sha256(b"".join(leaf.tobytes() for leaf in leaves)).hexdigest())
"""


@pytest.mark.slow
def test_a_fit_does_not_depend_on_global_flags_and_changes_none() -> None:
    settings = [
        (),
        ("jax_enable_x64=True",),
        ("jax_default_prng_impl=rbg",),
        ("jax_threefry_partitionable=False",),
        ("jax_default_matmul_precision=bfloat16",),
        ("jax_numpy_dtype_promotion=strict", "jax_numpy_rank_promotion=raise"),
    ]
    hashes = {
        setting: subprocess.run(
            [sys.executable, "-W", "error", "-c", FLAGS, *setting], capture_output=True, text=True, check=False
        )
        for setting in settings
    }
    failed = {setting: run.stderr[-500:] for setting, run in hashes.items() if run.returncode}
    assert not failed
    assert {setting: run.stdout for setting, run in hashes.items()} == dict.fromkeys(settings, hashes[()].stdout)


def test_padding_changes_no_fit() -> None:
    """Rows of weight 0, in another bucket, from the same start: equal but for the order of sums."""
    start = jax.tree.map(lambda a: a[:4], base().params)
    own = at(lines(), slice(4))
    y = np.concatenate([own.y, np.full((4, 30), 7.0)], axis=1)
    x = np.concatenate([own.x, np.full((4, 30, 1), -50.0)], axis=1)
    weight = np.broadcast_to(np.arange(N + 30) < N, y.shape)
    shifted = jax.tree.map(np.array, start)
    shifted.family.coefficients[:, :, 1] += 0.05
    plain = emjax.fit_many(LINES, own, 0, start=shifted)
    padded = emjax.fit_many(LINES, Data(y, x, weight=weight), 0, start=shifted)
    np.testing.assert_allclose(padded.log_likelihood, plain.log_likelihood, atol=1e-6, rtol=0)
    np.testing.assert_array_equal(padded.status, Status.CONVERGED)
    np.testing.assert_array_equal(padded.n_observations, N)
    for left, right in zip(jax.tree.leaves(padded.params), jax.tree.leaves(plain.params), strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-4)

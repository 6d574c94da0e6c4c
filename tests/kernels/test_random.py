"""Numbers drawn by a hash: uniform, not alike between places, keys and bits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn.kernels.random import uniform

KEYS = jax.random.split(jax.random.key(3), 400)


@pytest.fixture(scope="module")
def drawn():
    return np.asarray(jax.jit(jax.vmap(lambda key: uniform(key, (50, 40))))(KEYS)).reshape(400, 2000)


def test_every_number_is_as_likely(drawn):
    assert drawn.dtype == np.float32 and drawn.min() >= 0 and drawn.max() < 1
    counts = np.bincount((drawn.ravel() * 1000).astype(int), minlength=1000)
    chi_squared = ((counts - 800) ** 2 / 800).sum() / 999
    assert abs(chi_squared - 1) < 0.2
    for axis, n in ((0, 400), (1, 2000)):  # no place and no key is preferred
        assert np.abs(drawn.mean(axis) - 0.5).max() < 5 / np.sqrt(12 * n)


@pytest.mark.parametrize("apart", [1, 2, 7, 40, 1000])
def test_neighbours_have_nothing_in_common(drawn, apart):
    for one, other in ((drawn[:, apart:], drawn[:, :-apart]), (drawn[apart % 399 :], drawn[: -(apart % 399) or None])):
        assert abs(12 * ((one - 0.5) * (other - 0.5)).mean()) < 5 / np.sqrt(one.size)


def test_every_bit_is_a_coin_of_its_own(drawn):
    bits = (drawn[:, :500].astype(np.float64) * 2**24).astype(np.int64)
    coins = np.stack([(bits >> i & 1).ravel() * 2 - 1 for i in range(24)]).astype(np.float64)
    alike = coins @ coins.T / coins.shape[1] - np.eye(24)
    assert np.abs(alike).max() < 6 / np.sqrt(coins.shape[1])
    assert np.abs(coins.mean(1)).max() < 6 / np.sqrt(coins.shape[1])


@pytest.mark.slow
def test_keys_that_differ_in_one_bit_draw_other_numbers():
    words = [
        np.array([0, 0], np.uint32),
        *(np.array(w, np.uint32) for w in ([1, 0], [0, 1], [2**31, 0], [0, 2**31], [1, 1])),
    ]
    drawn = [np.asarray(uniform(jax.random.wrap_key_data(jnp.asarray(word)), (4000,))) for word in words]
    for i, one in enumerate(drawn):
        for other in drawn[:i]:
            assert abs(np.corrcoef(one, other)[0, 1]) < 0.07


@pytest.mark.slow
def test_another_generator_has_keys_of_more_words():
    a, b = (uniform(jax.random.key(seed, impl="rbg"), (1000,)) for seed in (0, 1))
    assert abs(float(a.mean()) - 0.5) < 0.05 and not np.array_equal(a, b)

"""The order of an epoch: a permutation, uniform, and its own in every epoch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn.kernels.random import permutation

KEY = jax.random.key_data(jax.random.key(7))


@pytest.mark.parametrize("rows", [1, 2, 3, 5, 100, 257, 1500])
def test_every_row_once(rows):
    orders = jax.vmap(lambda epoch: permutation(KEY, epoch, rows))(jnp.arange(20))
    assert (np.sort(orders, axis=1) == np.arange(rows)).all()
    assert rows < 100 or len({tuple(order) for order in orders.tolist()}) == 20


def test_a_table_with_room_left_has_the_order_of_its_rows_alone():
    alone = permutation(KEY, jnp.int32(3), 37)
    in_a_table = jax.jit(lambda count: permutation(KEY, jnp.int32(3), 64, count))(37)
    assert in_a_table[:37].tolist() == alone.tolist()
    assert not in_a_table[37:].any() or set(in_a_table[37:].tolist()) <= set(range(37))


def test_uniform():
    n, epochs = 100, 4000
    orders = np.asarray(jax.jit(jax.vmap(lambda epoch: permutation(KEY, epoch, n)))(jnp.arange(epochs)))

    def chi_squared(counts):
        expected = counts.sum() / counts.size
        return ((counts - expected) ** 2 / expected).sum() / counts.size

    places = np.stack([np.bincount(orders[:, j], minlength=n) for j in range(n)])
    steps = np.bincount((np.diff(orders, axis=1) % n).ravel(), minlength=n)[1:]
    again = (orders[:-1] == orders[1:]).mean() * n  # the place of the epoch before: about once by chance
    batch = np.empty_like(orders)
    batch[np.arange(epochs)[:, None], orders] = np.arange(n) // 10
    mates = (batch[:, :-1] == batch[:, 1:]).mean() / (9 / 99)
    assert 0.95 < chi_squared(places) < 1.05
    assert 0.6 < chi_squared(steps) < 1.5
    assert 0.97 < again < 1.03
    assert 0.98 < mates < 1.02


def test_another_key_has_another_order():
    orders = [permutation(jax.random.key_data(jax.random.key(s)), jnp.int32(0), 50).tolist() for s in range(5)]
    assert len({tuple(order) for order in orders}) == 5

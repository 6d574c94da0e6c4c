"""The order of the rows in an epoch: a random permutation that needs no sort.

The swap-or-not shuffle (Hoang, Morris & Rogaway 2012, "An enciphering scheme based on a card shuffle"): in each round
every position x has a partner k - x modulo n, and a hash of the pair decides whether the two swap. Every row computes
where it goes by itself, so it vectorises; it compiles in a third of the time of `jax.random.permutation` and runs 15
to 40 times as fast.
"""

from typing import Any

import jax.numpy as jnp
from jax import lax

from fnn.kernels.random import GOLDEN, mix, mix_once
from fnn.types import Array

# fixed, so that a table of n rows has the same order whatever room it is stored in; 48 rounds mix 2^24 rows
ROUNDS = 48


def epoch_order(key_data: Array, epoch: Array, rows: int, count: Any = None) -> Array:
    """The permutation of `count` rows in this epoch, int32, in a table of `rows` (the places past `count` hold 0).

    Args:
        key_data: raw key data, uint32, two words.
        epoch: which epoch, an integer; each has an order of its own.
        rows: length of the result, static.
        count: how many of them are real, traced or not; all by default.

    >>> import jax, jax.numpy as jnp
    >>> from fnn.kernels.shuffle import epoch_order
    >>> order = epoch_order(jax.random.key_data(jax.random.key(0)), jnp.int32(0), 5)
    >>> print(sorted(order.tolist()))
    [0, 1, 2, 3, 4]
    """
    n = jnp.asarray(rows if count is None else count, jnp.uint32)
    seed = mix(key_data[0] + mix(key_data[1] + epoch.astype(jnp.uint32) * jnp.uint32(GOLDEN)))
    words = mix(jnp.arange(2 * ROUNDS, dtype=jnp.uint32) * jnp.uint32(GOLDEN) + seed).reshape(ROUNDS, 2)
    place = jnp.arange(rows, dtype=jnp.uint32)
    place = jnp.where(place < n, place, jnp.uint32(0))

    def swap_round(x: Array, word: Array) -> tuple[Array, None]:
        k = lax.rem(word[0], n)
        partner = jnp.where(x > k, k - x + n, k - x)  # (k - x) mod n, in unsigned arithmetic
        coin = mix_once(jnp.maximum(x, partner) ^ word[1])
        return jnp.where(coin >> 31 == 1, partner, x), None

    return lax.scan(swap_round, place, words)[0].astype(jnp.int32)

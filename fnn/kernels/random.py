"""A hash of whole numbers: what randomness inside a compiled loop is made of, where millions of numbers are drawn.

The finaliser of MurmurHash3 turns a position and a key into 32 bits that look random, in a few operations that
vectorise; `jax.random` takes ten times as long on a CPU.
"""

from math import prod

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fnn.kernels.operations import where
from fnn.types import Array, Key, Numbers, Shape

GOLDEN = np.uint32(0x9E3779B1)  # 2³² over the golden ratio: neighbours come to lie far apart


def mix(h: Array) -> Array:
    """Every bit of the input moves every bit of the result."""
    h = lax.mul(_fold(h, 16), np.uint32(0x85EBCA6B))
    h = lax.mul(_fold(h, 13), np.uint32(0xC2B2AE35))
    return _fold(h, 16)


def _fold(h: Array, by: int) -> Array:
    return lax.bitwise_xor(h, lax.shift_right_logical(h, np.uint32(by)))


def mix_once(h: Array) -> Array:
    """As much of it as one coin, the top bit, needs."""
    return lax.mul(_fold(lax.mul(h, np.uint32(0x85EBCA6B)), 15), np.uint32(0xC2B2AE35))


def uniform(key: Key, shape: Shape) -> Array:
    """Numbers from [0, 1), float32, multiples of 2⁻²⁴; for masks and slopes, not for secrets.

    >>> import jax
    >>> from fnn.kernels.random import uniform
    >>> share = uniform(jax.random.key(0), (100, 50))
    >>> print(share.shape, bool(abs(share.mean() - 0.5) < 0.02))
    (100, 50) True
    """
    words = jax.random.key_data(key).astype(jnp.uint32)
    first, second = mix(words[0] + GOLDEN), words[0]
    for word in words[1:]:
        first, second = mix(first + word), mix(second ^ first) + word
    place = lax.iota(jnp.uint32, prod(shape)) * GOLDEN
    bits = mix(mix_once(place + first) + second)
    return (lax.convert_element_type(bits >> 8, jnp.int32).astype(jnp.float32) * 2.0**-24).reshape(shape)


# fixed, so that a table of n rows has the same order whatever room it is stored in; 48 rounds mix 2^24 rows
ROUNDS = 48
MULTIPLES = np.arange(2 * ROUNDS, dtype=np.uint32) * GOLDEN  # two for each round


def permutation(key_data: Array, epoch: Array, rows: int, count: Numbers | None = None) -> Array:
    """The permutation of `count` rows in this epoch, int32, in a table of `rows` (the places past `count` hold 0).

    Args:
        key_data: raw key data, uint32, two words.
        epoch: which epoch, an integer; each has an order of its own.
        rows: length of the result, static.
        count: how many of them are real, traced or not; all by default.

    >>> import jax, jax.numpy as jnp
    >>> from fnn.kernels.random import permutation
    >>> order = permutation(jax.random.key_data(jax.random.key(0)), jnp.int32(0), 5)
    >>> print(sorted(order.tolist()))
    [0, 1, 2, 3, 4]
    """
    n = jnp.asarray(rows if count is None else count, jnp.uint32)
    first, second = (lax.squeeze(lax.slice(key_data, (i,), (i + 1,)), (0,)) for i in range(2))
    seed = mix(lax.add(first, mix(lax.add(second, lax.mul(epoch.astype(jnp.uint32), GOLDEN)))))
    words = mix(lax.add(MULTIPLES, seed))
    place = lax.iota(jnp.uint32, rows)
    place = where(lax.lt(place, n), place, 0)

    def swap_round(x: Array, word: Array) -> tuple[Array, None]:
        k, salt = (lax.squeeze(lax.slice(word, (i,), (i + 1,)), (0,)) for i in range(2))
        k = lax.rem(k, n)
        partner = lax.sub(k, x)  # mod n, in unsigned arithmetic
        partner = where(lax.gt(x, k), lax.add(partner, n), partner)
        coin = mix_once(lax.bitwise_xor(lax.max(x, partner), salt))
        return where(lax.ge(coin, np.uint32(1 << 31)), partner, x), None

    return lax.scan(swap_round, place, lax.reshape(words, (ROUNDS, 2)))[0].astype(jnp.int32)

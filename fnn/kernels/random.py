"""A hash of whole numbers: what randomness inside a compiled loop is made of, where millions of numbers are drawn.

The finaliser of MurmurHash3 turns a position and a key into 32 bits that look random, in a few operations that
vectorise; `jax.random` takes ten times as long on a CPU.
"""

from math import prod

import jax
import jax.numpy as jnp
from jax import lax

from fnn.types import Array, Key, Shape

GOLDEN = 0x9E3779B1  # 2³² over the golden ratio: neighbours come to lie far apart


def mix(h: Array) -> Array:
    """Every bit of the input moves every bit of the result."""
    h = (h ^ (h >> 16)) * jnp.uint32(0x85EBCA6B)
    h = (h ^ (h >> 13)) * jnp.uint32(0xC2B2AE35)
    return h ^ (h >> 16)


def mix_once(h: Array) -> Array:
    """As much of it as one coin, the top bit, needs."""
    h = h * jnp.uint32(0x85EBCA6B)
    return (h ^ (h >> 15)) * jnp.uint32(0xC2B2AE35)


def uniform(key: Key, shape: Shape) -> Array:
    """Numbers from [0, 1), float32, multiples of 2⁻²⁴; for masks and slopes, not for secrets.

    >>> import jax
    >>> from fnn.kernels.random import uniform
    >>> share = uniform(jax.random.key(0), (100, 50))
    >>> print(share.shape, bool(abs(share.mean() - 0.5) < 0.02))
    (100, 50) True
    """
    words = jax.random.key_data(key).astype(jnp.uint32)
    first, second = mix(words[0] + jnp.uint32(GOLDEN)), words[0]
    for word in words[1:]:
        first, second = mix(first + word), mix(second ^ first) + word
    place = lax.iota(jnp.uint32, prod(shape)) * jnp.uint32(GOLDEN)
    bits = mix(mix_once(place + first) + second)
    return (lax.convert_element_type(bits >> 8, jnp.int32).astype(jnp.float32) * 2.0**-24).reshape(shape)

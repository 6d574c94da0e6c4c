"""What no program can beat: the matrix products of a step, and what its parameters move in memory, timed alone."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from bench.timing import Work

Product = tuple[int, int, int]  # rows, inner, columns


def dense_products(sizes: Sequence[int], batch: int) -> list[Product]:
    """Those of a step of a dense network: forward, by the weights, and by the inputs, which the first needs not.

    >>> dense_products((784, 10), 128)
    [(128, 784, 10), (784, 128, 10)]
    """
    found: list[Product] = []
    for layer, (wide, narrow) in enumerate(pairwise(sizes)):
        found += [(batch, wide, narrow), (wide, batch, narrow)] + [(batch, narrow, wide)] * (layer > 0)
    return found


def flops(products: Sequence[Product]) -> int:
    """Two a multiply-add."""
    return sum(2 * m * k * n for m, k, n in products)


def products(shapes: Sequence[Product], steps: int, dtype: Any = "float32") -> Work:
    """These products in a loop; each needs a number of the round before, so that none is left out."""

    def once(_: Any, carry: Any) -> Any:
        pairs, results = carry
        pairs = [(a.at[0, 0].add((1e-9 * y[0, 0]).astype(dtype)), b) for (a, b), y in zip(pairs, results, strict=True)]
        return pairs, [lax.optimization_barrier(a @ b) for a, b in pairs]

    pairs = [(jnp.ones((m, k), dtype), jnp.ones((k, n), dtype)) for m, k, n in shapes]
    start = (pairs, [jnp.zeros((m, n), dtype) for m, _, n in shapes])
    run = jax.jit(lambda carry: lax.fori_loop(0, steps, once, carry))
    return lambda: run(start)


def weights(sizes: Sequence[int]) -> int:
    """Parameters of a dense network, biases included.

    >>> weights((784, 10))
    7850
    """
    return sum(wide * narrow + narrow for wide, narrow in pairwise(sizes))


def momentum(parameters: int, steps: int) -> Work:
    """Momentum's update of so many numbers: bound by the bytes it reads and writes, not by what it computes."""

    def once(_: Any, carry: Any) -> Any:
        parameters, velocity, gradient = carry
        velocity = gradient + 0.9 * velocity
        return parameters - 0.01 * velocity, velocity, gradient

    run = jax.jit(lambda carry: lax.fori_loop(0, steps, once, carry))
    start = tuple(jnp.full(parameters, value, "float32") for value in (1.0, 0.0, 0.5))
    return lambda: run(start)

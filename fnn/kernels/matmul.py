"""The three matrix products of a dense layer, each computed in the way that is fast for its size and platform.

XLA calls a library for every product on a CPU, which costs more than a product of a handful of numbers. Those are
written as multiply and sum with the rows on the last axis, where they vectorise and fuse with what is around them:
a 2-3-2 network trains twice as fast. From 16 weights on the library wins (measured on AVX-512 with 32 to 1,000 rows).
"""

from contextlib import AbstractContextManager, nullcontext

import jax
from jax import lax

from fnn.types import Array

FEW_WEIGHTS = 16
SCOPE = "fnn_product"  # where the multiplications of a product are traced, for `fnn.complexity` to count them


def forward(x: Array, w: Array) -> Array:
    """`x w`: (rows, fan_in) and (fan_in, features) to (rows, features)."""
    if not _few(w.shape):
        return lax.dot(x, w, preferred_element_type=x.dtype) if x.dtype == w.dtype else x @ w
    with jax.named_scope(SCOPE):
        return (w[:, :, None] * x.T[:, None, :]).sum(0).T


def weight_gradient(x: Array, dy: Array) -> Array:
    """`xᵀ dy`: the derivative by the weights."""
    shape = (x.shape[1], dy.shape[1])
    return (x.T[:, None, :] * dy.T[None, :, :]).sum(-1) if _few(shape) else x.T @ dy


def input_gradient(dy: Array, w: Array) -> Array:
    """`dy wᵀ`: the derivative by the inputs."""
    return (w[:, :, None] * dy.T[None, :, :]).sum(1).T if _few(w.shape) else dy @ w.T


def exact_products() -> AbstractContextManager[None]:
    """A context: what is traced in it multiplies float32 numbers as they are.

    A GPU rounds the factors of a product of matrices to 10 bits (TF32) unless it is asked not to, which is faster and
    good enough to train. It is not where a small difference of two costs counts, nor in a system of equations.

    >>> import jax.numpy as jnp
    >>> from fnn.kernels.matmul import exact_products
    >>> with exact_products():
    ...     print(jnp.full((1, 2), 1 + 2.0**-20) @ jnp.ones((2, 1)) - 2)
    [[1.9073486e-06]]
    """
    return nullcontext() if jax.default_backend() == "cpu" else jax.default_matmul_precision("highest")


def _few(shape: tuple[int, ...]) -> bool:
    return shape[0] * shape[1] <= FEW_WEIGHTS and jax.default_backend() == "cpu"

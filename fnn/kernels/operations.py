"""Operations on arrays of one dtype by JAX's primitives, for what is traced in every run.

A function of `jax.numpy` is traced anew by JAX for each shape that it meets, which takes 0.2 to 0.5 ms, ten times as
long as a primitive. So a run's own code calls primitives where a formula stays as easy to read. What is computed is the
same, to the bit.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fnn.types import Array, Scalar


def where(condition: Array, a: Array | Scalar, b: Array | Scalar) -> Array:
    """`a` where the condition holds, else `b`: two arrays of one shape and dtype, or an array and a number.

    Args:
        condition: of the shape of the arrays, or one for all.
        a, b: at least one of them an array.

    >>> import jax.numpy as jnp
    >>> from fnn.kernels.operations import where
    >>> print(where(jnp.array([True, False]), jnp.array([1.0, 2.0]), 0.0))
    [1. 0.]
    """
    like = a if isinstance(a, jax.Array) else b
    one, other = (x if isinstance(x, jax.Array) else lax.full_like(like, x) for x in (a, b))
    return lax.select(condition, one, other)


def number(value: Scalar, x: Array) -> np.ndarray:
    """A number of the dtype of `x`, as primitives want it beside `x`.

    >>> import jax.numpy as jnp
    >>> from fnn.kernels.operations import number
    >>> number(0.5, jnp.ones(2, "bfloat16")).dtype
    dtype(bfloat16)
    """
    return np.asarray(value, x.dtype)


def across(a: Array, x: Array) -> Array:
    """`a`, which has the first axes of `x`, in the shape of `x`: one number of `a` for all that stand at its place.

    >>> import jax.numpy as jnp
    >>> from fnn.kernels.operations import across
    >>> print(across(jnp.array([1.0, 2.0]), jnp.ones((2, 3))))
    [[1. 1. 1.]
     [2. 2. 2.]]
    """
    return lax.broadcast_in_dim(a, x.shape, tuple(range(a.ndim)))


def add_to_rows(x: Array, a: Array) -> Array:
    """`x + a`, where `a` has the shape of one row of `x`.

    >>> import jax.numpy as jnp
    >>> from fnn.kernels.operations import add_to_rows
    >>> print(add_to_rows(jnp.ones((2, 2)), jnp.array([1.0, 2.0])))
    [[2. 3.]
     [2. 3.]]
    """
    if a.dtype != x.dtype:
        return x + a[None]
    return lax.add(x, lax.broadcast_in_dim(a, x.shape, tuple(range(1, x.ndim))))


def take_rows(table: Array, at: Array) -> Array:
    """The rows of a table at these places, int32, all of which it has.

    >>> import jax.numpy as jnp
    >>> from fnn.kernels.operations import take_rows
    >>> print(take_rows(jnp.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]), jnp.array([2, 0])))
    [[5. 6.]
     [1. 2.]]
    """
    numbers = lax.GatherDimensionNumbers(tuple(range(1, table.ndim)), (0,), (0,))
    mode = lax.GatherScatterMode.PROMISE_IN_BOUNDS
    return lax.gather(table, lax.expand_dims(at, (1,)), numbers, (1, *table.shape[1:]), mode=mode)


def sum_of_rows(x: Array) -> Array:
    """`x.sum(-1)`; numbers of 16 bits are added up in float32.

    >>> import jax.numpy as jnp
    >>> from fnn.kernels.operations import sum_of_rows
    >>> print(sum_of_rows(jnp.ones((2, 3))))
    [3. 3.]
    """
    wide = x.astype(jnp.float32) if x.dtype.itemsize < 4 else x
    total: Array = lax.reduce_sum(wide, (x.ndim - 1,)).astype(x.dtype)
    return total

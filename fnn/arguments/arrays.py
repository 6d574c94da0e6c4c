"""Arrays, traced or not: what a user has as an array of NumPy or JAX, and numbers that fit one."""

import contextlib
import types
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnn.arguments.values import describe_error, describe_thing, is_deleted
from fnn.types import Array, ArrayLike, HasShape, Numbers, Record, Scalar


def as_numpy(name: str, value: object, what: str = "an array") -> np.ndarray:
    """What NumPy makes of a value, of any dtype; for what is none, an error in place of NumPy's own or of objects.

    Raises:
        TypeError: it is traced, deleted, or no array.
        ValueError: it is a list of rows of different lengths.
    """
    hint = "Pass an array, or a list of numbers."
    if (
        value is None
        or isinstance(value, (dict, set, frozenset, type))
        or (not hasattr(value, "__array__") and (callable(value) or hasattr(value, "__next__")))
        or isinstance(value, (types.ModuleType, Record, jax.core.Tracer))
        or is_deleted(value)
    ):
        got = "None" if value is None else describe_thing(value)
        raise TypeError(f"{name}: expected {what}, got {got}. {hint}")
    try:
        array = np.asarray(value)
    except ValueError:
        raise ValueError(
            f"{name}: expected a rectangular array, got rows of different lengths. Pad or drop them."
        ) from None
    except Exception as error:  # of a class of the user's
        got = f"{type(value).__name__}, which raises {describe_error(error)}"
        raise TypeError(f"{name}: expected {what}, got {got}. {hint}") from error
    return array


def as_array(name: str, value: object, what: str = "real numbers") -> Array:
    """A value as an array of JAX: real numbers or bools, traced or not."""
    if isinstance(value, (list, tuple)) and any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(value)):
        with contextlib.suppress(TypeError, ValueError):
            value = jnp.asarray(value)
    array: Any = value if isinstance(value, jax.Array) and not is_deleted(value) else as_numpy(name, value, what)
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{name}: expected {what}, got a masked array. Fill the gaps or drop their rows.")
    if not any(jnp.issubdtype(array.dtype, kind) for kind in (jnp.floating, jnp.integer, jnp.bool_)):
        got = describe_thing(value) if isinstance(value, (str, bytes)) else array.dtype
        into = "numbers, classes to 0, 1, …" if getattr(array.dtype, "kind", "") in "USO" else "a floating dtype"
        raise TypeError(f"{name}: expected {what}, got {got}. Convert them to {into}.")
    return jnp.asarray(value if isinstance(value, (bool, int, float)) else array)


def as_floats(name: object, x: ArrayLike, what: str = "real numbers") -> Array:
    """`x` as a floating array; integers stand for the numbers that they are."""
    array = as_array(str(name), x, what)
    return array if jnp.issubdtype(array.dtype, jnp.floating) else array.astype(jnp.result_type(float))


def beside(a: Array, x: Array) -> Array:
    """`a` with axes of 1 in front, as many axes as `x` has: what NumPy does by itself, and JAX can be set to refuse.

    >>> import jax.numpy as jnp
    >>> from fnn.arguments import beside
    >>> print(beside(jnp.ones(3), jnp.ones((5, 2, 3))).shape)
    (1, 1, 3)
    """
    return a.reshape(*[1] * (x.ndim - a.ndim), *a.shape)


def like(number: Numbers | Sequence[Scalar], x: HasShape) -> jax.Array:
    """A number in the dtype of `x`: NumPy's, JAX's or a traced one would turn bfloat16 into float32 otherwise.

    >>> import jax.numpy as jnp, numpy as np
    >>> from fnn.arguments import like
    >>> (like(np.float64(0.5), jnp.ones(2, jnp.bfloat16)) * jnp.ones(2, jnp.bfloat16)).dtype
    dtype(bfloat16)
    """
    return jnp.asarray(number, x.dtype)

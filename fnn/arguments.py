"""Numbers that a user hands to a factory: a coefficient, a learning rate, a number of steps. Checked where known."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def beside(a: Any, x: Any) -> Any:
    """`a` with axes of 1 in front, as many axes as `x` has: what NumPy does in silence, and JAX can be set to refuse.

    >>> import jax.numpy as jnp
    >>> from fnn.arguments import beside
    >>> print(beside(jnp.ones(3), jnp.ones((5, 2, 3))).shape)
    (1, 1, 3)
    """
    return a.reshape(*[1] * (x.ndim - a.ndim), *a.shape)


def told(value: Any) -> str:
    """A value that ought to be a whole number, for a message; a traced one has a name that tells a user nothing.

    >>> from fnn.arguments import told
    >>> told(2.5)
    '2.5'
    """
    if isinstance(value, jax.core.Tracer):
        return "a traced setting (whole numbers alone in `over` are not traced: 8, not 8.0)"
    return repr(value)


def scalar(name: str, what: str, value: Any, mend: str, positive: bool = False) -> Any:
    """`value` as a Python number; as it came where it is traced (one of the settings), since it is not known yet.

    Args:
        name: of the factory, for the message.
        what: is expected, such as "a coefficient".
        value: a finite number of at least 0: Python's, NumPy's or JAX's, or traced.
        mend: what to do instead, for the message, after "Do".
        positive: whether 0 is too small as well.

    Raises:
        TypeError: it is not one real number.
        ValueError: it is too small, infinite or NaN.

    >>> from fnn.arguments import scalar
    >>> scalar("l1", "a coefficient", -1, "pass 0 for no penalty")
    Traceback (most recent call last):
        ...
    ValueError: l1: expected a coefficient of at least 0, got -1. Do pass 0 for no penalty.
    """
    wanted = f"{what} {'above' if positive else 'of at least'} 0"
    number = real_number(name, wanted, value, f"Do {mend}.")
    if isinstance(number, jax.core.Tracer):
        return number
    if not (number >= 0 and math.isfinite(number)) or (positive and number == 0):
        raise ValueError(f"{name}: expected {wanted}, got {number}. Do {mend}.")
    return number


def finite(name: str, what: str, value: Any, hint: str) -> Any:
    """`value` as a Python number of either sign, neither infinite nor NaN; as it came where it is traced.

    >>> from fnn.arguments import finite
    >>> finite("leaky_relu", "a finite slope", float("nan"), "Pass 0.2.")
    Traceback (most recent call last):
        ...
    ValueError: leaky_relu: expected a finite slope, got nan. Pass 0.2.
    """
    number = real_number(name, what, value, hint)
    if not isinstance(number, jax.core.Tracer) and not math.isfinite(number):
        raise ValueError(f"{name}: expected {what}, got {number}. {hint}")
    return number


def real_number(name: str, what: str, value: Any, hint: str) -> Any:
    """`value` as a Python number; as it came where it is traced. Raises a TypeError if it is not one real number."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.generic, np.ndarray, jax.Array)):
        raise TypeError(f"{name}: expected {what}, got {type(value).__name__} {value!r}. {hint}")
    if isinstance(value, (int, float)) and not isinstance(value, np.generic):
        return value
    real = jnp.issubdtype(value.dtype, jnp.floating) or jnp.issubdtype(value.dtype, jnp.integer)
    if value.shape != () or not real:
        raise TypeError(f"{name}: expected {what}, got {value.dtype}{list(value.shape)}. {hint}")
    return value if isinstance(value, jax.core.Tracer) else value.item()


def like(number: Any, x: Any) -> jax.Array:
    """A number in the dtype of `x`: NumPy's, JAX's or a traced one would turn bfloat16 into float32 otherwise.

    >>> import jax.numpy as jnp, numpy as np
    >>> from fnn.arguments import like
    >>> (like(np.float64(0.5), jnp.ones(2, jnp.bfloat16)) * jnp.ones(2, jnp.bfloat16)).dtype
    dtype(bfloat16)
    """
    return jnp.asarray(number, x.dtype)

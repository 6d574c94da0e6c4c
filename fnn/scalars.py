"""Numbers that a user hands to a factory: a coefficient, a learning rate, a number of steps. Checked where known."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def told(value: Any) -> str:
    """A value that ought to be a whole number, for a message; a traced one has a name that tells a user nothing.

    >>> from fnn.scalars import told
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

    >>> from fnn.scalars import scalar
    >>> scalar("l1", "a coefficient", -1, "pass 0 for no penalty")
    Traceback (most recent call last):
        ...
    ValueError: l1: expected a coefficient of at least 0, got -1. Do pass 0 for no penalty.
    """
    wanted = f"{name}: expected {what} {'above' if positive else 'of at least'} 0, got"
    if isinstance(value, bool) or not isinstance(value, (int, float, np.generic, np.ndarray, jax.Array)):
        raise TypeError(f"{wanted} {type(value).__name__} {value!r}. Do {mend}.")
    if not isinstance(value, (int, float)):
        real = jnp.issubdtype(value.dtype, jnp.floating) or jnp.issubdtype(value.dtype, jnp.integer)
        if value.shape != () or not real:
            raise TypeError(f"{wanted} {value.dtype}{list(value.shape)}. Do {mend}.")
        if isinstance(value, jax.core.Tracer):
            return value
    number = value if isinstance(value, (int, float)) else value.item()
    if not (number >= 0 and math.isfinite(number)) or (positive and number == 0):
        raise ValueError(f"{wanted} {number}. Do {mend}.")
    return number

"""A formula of an elementwise activation, applied: what it raises is named, and what it returns is checked."""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np

from fnn.arguments import array_of, call, function, instance
from fnn.types import Array, Scalar, Shape, ShapeError


def check_formulas(name: str, value: Callable[[Array], Array], derivative: Callable[[Array], Array]) -> None:
    """Raise a TypeError where they are no functions of one array, or the name is no word."""
    hint = "Pass a function such as jnp.sin."
    function("elementwise", value, 1, "a value, a function of an array,", hint)
    function("elementwise", derivative, 1, "a derivative, a function of an array,", hint)
    if not instance("elementwise", name, str, "Pass a word.", "a name"):
        raise ValueError("elementwise: expected a name, got an empty one. Pass a word.")


def apply_formula(name: str, formula: Callable[[Array], Array], x: Array) -> Array:
    """What a formula makes of each element.

    >>> import jax.numpy as jnp
    >>> from fnn.activations.formulas import apply_formula
    >>> apply_formula("value of mine", lambda x: x.sum(), jnp.ones(3))
    Traceback (most recent call last):
    ...
    fnn.ShapeError: value of mine: expected the shape of the inputs (3,), got (). Return a number for each element.
    """
    y = array_of(name, call(name, formula, x), "an array")
    if y.shape != x.shape:
        wanted, hint = f"the shape of the inputs {x.shape}", "Return a number for each element."
        raise ShapeError(f"{name}: expected {wanted}, got {y.shape}. {hint}")
    return y


def slopes(initial: Scalar | np.ndarray, shape: Shape) -> Array:
    """The slopes of a prelu at the start, one per channel: a number stands for all."""
    if np.shape(initial) not in ((), shape):
        wanted, got = f"one slope, or one per channel, shape {shape}", np.shape(initial)
        raise ShapeError(f"prelu: expected {wanted}, got {got}. Pass a number such as 0.25.")
    return jnp.full(shape, initial, jnp.result_type(float))

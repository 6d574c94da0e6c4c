"""Functions of the user's: what they can be called with, what they raise, what they return."""

import inspect
import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnn.arguments.modules import is_module
from fnn.arguments.values import describe_error, describe_thing
from fnn.types import Array

OUR_FORM = re.compile(r"[^\n]{1,200}?: expected .*? got ", re.DOTALL)


def function(name: str, value: Any, count: int, what: str, hint: str) -> Callable[..., Any]:
    """A function that can be called with so many arguments; no class, and no factory that still has to be called.

    >>> from fnn.arguments import function
    >>> function("from_function", lambda a, b: a, 1, "a function of the inputs", "Pass jnp.sin.")
    Traceback (most recent call last):
        ...
    TypeError: from_function: expected a function of the inputs, got function <lambda> of other arguments (a, b).
    Pass jnp.sin.
    """
    got = describe_thing(value)
    if is_module(value):
        got += ", a module of another library"
    elif callable(value) and not isinstance(value, type) and not getattr(value, "is_factory", False):
        signature = _signature(value)
        if signature is None or _takes(signature, count):
            found: Callable[..., Any] = value
            return found
        got += f" of other arguments ({', '.join(signature.parameters)})"
    raise TypeError(f"{name}: expected {what}, got {got}. {hint}")


def _signature(value: Callable[..., Any]) -> inspect.Signature | None:
    try:
        return inspect.signature(value)
    except (TypeError, ValueError):  # some of C do not tell
        return None


def _takes(signature: inspect.Signature, count: int) -> bool:
    try:
        signature.bind(*[None] * count)
    except TypeError:
        return False
    return True


def call(name: str, function: Callable[..., Any], *given: Any, what: str = "a function that JAX can trace") -> Any:
    """What a user's function returns. Of errors that are Python's, JAX's or NumPy's own, it says where they come from.

    Other errors, and those of a class of the user's, go on as they are.
    """
    try:
        return function(*given)
    except (TypeError, ValueError, AttributeError, LookupError, ArithmeticError) as error:
        library = type(error).__module__.partition(".")[0]
        if OUR_FORM.match(str(error)) or library not in ("builtins", "jax", "jaxlib", "numpy", "optax"):
            raise
        kind = ValueError if isinstance(error, ValueError) else TypeError
        raise kind(f"{name}: expected {what}, got {_of_function(error)}") from error


def _of_function(error: Exception) -> str:
    """What went wrong in a function, and the hint."""
    if isinstance(error, jax.errors.TracerArrayConversionError):
        return "one that computes with NumPy. Use jnp in place of np in it."
    if isinstance(error, jax.errors.ConcretizationTypeError):
        return "one that looks at the value of an array. Use jnp.where or jax.lax.cond in place of if."
    return f"one that raises {describe_error(error)}. Look at the function; its own error stands above."


def array_of(name: str, value: object, what: str, floats: bool = True) -> Array:
    """What a user's function returned, if it is an array of JAX; with `floats`, one of a floating dtype."""
    hint = "Return an array of jnp."
    if isinstance(value, (np.ndarray, np.generic)):
        hint = "Use jnp in place of np in it."
    elif isinstance(value, jax.Array) and not jnp.issubdtype(value.dtype, jax.dtypes.extended):
        real = jnp.issubdtype(value.dtype, jnp.floating)
        others = jnp.issubdtype(value.dtype, jnp.integer) or value.dtype == jnp.bool_
        if real or (others and not floats):
            return value
        hint = "Return real numbers" + " of a floating dtype." * floats
    got = f"a NumPy {value.dtype}{list(value.shape)}" if hint.startswith("Use") else describe_thing(value)  # type: ignore
    raise TypeError(f"{name}: expected {what}, got {got}. {hint.rstrip('.')}.")

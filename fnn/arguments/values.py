"""A value in a message; words, True and False, things of a class."""

import re
import types
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import numpy as np

from fnn.arguments.modules import adapter_hint
from fnn.types import Layer, Record

T = TypeVar("T")
SHOWN = 60  # characters of a value in a message

# ---- in a message


def describe_value(value: object) -> str:
    """A value for a message: short, on one line, without an address, whatever it is.

    >>> import jax.numpy as jnp
    >>> from fnn.arguments import describe_value
    >>> print(describe_value("a"), describe_value(jnp.sin), describe_value(jnp.ones((2, 3))), describe_value(int))
    'a' function sin float32[2, 3] the class int
    """
    if isinstance(value, (np.ndarray, jax.Array)):
        kind = "a traced " if isinstance(value, jax.core.Tracer) else "a deleted " if is_deleted(value) else ""
        whole = f"{kind}{value.dtype}{list(value.shape)}"
        return whole if kind or value.shape else _short(value, str) or f"one {value.dtype}"
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if isinstance(value, types.ModuleType):
        return f"the module {value.__name__}"
    name = None if isinstance(value, Record) or not callable(value) else getattr(value, "__name__", None)
    if isinstance(name, str):
        kind = "ufunc" if isinstance(value, np.ufunc) else "function"
        return f"{'the factory' if getattr(value, 'is_factory', False) else kind} {name}"
    return _short(value.item() if isinstance(value, (np.number, np.bool_)) else value, repr) or type(value).__name__


def describe_thing(value: object) -> str:
    """A value with the name of its class, for where another class is wanted.

    >>> from fnn.arguments import describe_thing
    >>> print(describe_thing("a"), describe_thing([1]), describe_thing(None), describe_thing(object()))
    str 'a' list [1] NoneType None object
    """
    shown, kind = describe_value(value), type(value).__name__
    plain = shown.startswith((kind, "the ", "a ", "function ", "ufunc "))
    return shown if plain else f"{kind} {shown}"


def _short(value: object, show: Callable[[Any], str]) -> str:
    try:
        text = show(value)
    except Exception:  # of whatever class it is
        return ""
    if " at 0x" in text or "\n" in text:
        return ""
    if len(text) <= SHOWN:
        return text
    return f"{text[:SHOWN]}…" if isinstance(value, (int, str, bytes)) else ""


def is_deleted(value: object) -> bool:
    """Whether it is an array of JAX whose memory is gone: deleted, or donated to a program."""
    return isinstance(value, jax.Array) and not isinstance(value, jax.core.Tracer) and value.is_deleted()


# ---- checked


def flag(name: str, value: object, function: str = "") -> bool:
    """True or False, also NumPy's; a word such as "no" counts as true in Python, so it is refused."""
    if not isinstance(value, (bool, np.bool_)):
        wanted = f"{function}: expected {name}" if function else f"{name}: expected"
        raise TypeError(f"{wanted} True or False, got {describe_value(value)}. Pass {name}=True or {name}=False.")
    return bool(value)


def one_of(name: str, value: object, choices: tuple[str, ...]) -> str:
    """One of a few words."""
    if not isinstance(value, str) or value not in choices:
        words = ", ".join(map(repr, choices))
        raise ValueError(f"{name}: expected one of {words}, got {describe_value(value)}. Choose one of them.")
    return value


def instance(name: str, value: object, kind: type[T], hint: str, what: str = "") -> T:
    """A thing of a class; what is wanted is called by the name of the class, or `what`."""
    if not isinstance(value, kind):
        wanted, hint = what or f"a {kind.__name__}", (kind is Layer and adapter_hint(value)) or hint
        named = isinstance(value, (type, types.ModuleType, jax.core.Tracer))
        got = describe_value(value) if named else type(value).__name__
        raise TypeError(f"{name}: expected {wanted}, got {got}. {hint}")
    return value


def describe_error(error: Exception) -> str:
    """The class of an error and the first line of what it says, in short."""
    line = next(iter(str(error).strip().splitlines()), "")
    line = line if len(line) <= 200 else f"{line[:200]}…"
    return f"{type(error).__name__}: {re.sub(' at 0x[0-9a-f]+', '', line).rstrip('.')}"

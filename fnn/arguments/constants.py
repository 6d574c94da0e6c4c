"""Whether what a function computes can ever change: the factories' products cannot, a user's functions can.

A user's function may read a global, an attribute or an array that changes from call to call, so it is traced at each
call. What cannot change is compared as it is, which takes no tracing.
"""

import functools
import types
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from fnn.types import Record

LIBRARIES = frozenset({"builtins", "fnn", "jax", "jaxlib", "numpy", "optax"})  # their modules hold nothing that changes
_NUMBERS = (type(None), bool, int, float, complex, str, bytes, np.generic, np.dtype)
_SCOPE = type(jax.named_scope("of a function"))
_known: dict[int, Any] = {}  # by address, since to compare a network takes as long as to look through it
_JITTED = type(jax.jit(lambda: None))


def is_constant(thing: object) -> bool:
    """Whether a thing is made of numbers, words and functions of fnn and the libraries below it, all the way down.

    >>> import fnn, jax.numpy as jnp, textwrap
    >>> from fnn.arguments.constants import is_constant
    >>> is_constant(fnn.serial(fnn.dense(3), jnp.sin)), is_constant(fnn.serial(fnn.dense(3), textwrap.dedent))
    (True, False)
    """
    if type(thing) is tuple:
        return all(map(is_constant, thing))
    if _known.get(id(thing)) is thing:
        return True
    constant = _is_constant(thing, {})
    if constant:
        if len(_known) > 1024:
            _known.clear()
        _known[id(thing)] = thing  # held, so that nothing else gets its address
    return constant


def _is_constant(thing: Any, seen: dict[int, Any]) -> bool:
    """`seen` holds what has been looked at, by address: else a tuple made for the look would lend its to another."""
    if isinstance(thing, _NUMBERS) or id(thing) in seen:
        return True
    seen[id(thing)] = thing
    if isinstance(thing, (tuple, frozenset)):  # layers and their specs too
        return all(_is_constant(part, seen) for part in thing)
    if isinstance(thing, Record):
        return _from_libraries(type(thing)) and all(_is_constant(part, seen) for part in thing.parts())
    if isinstance(thing, type):
        return _from_libraries(thing)
    if isinstance(thing, (types.BuiltinFunctionType, np.ufunc)):  # a method of an object is none
        return isinstance(getattr(thing, "__self__", None), (types.ModuleType, type(None)))
    if isinstance(thing, functools.partial):
        return all(_is_constant(part, seen) for part in (thing.func, thing.args, tuple(thing.keywords.items())))
    if isinstance(thing, jax.custom_jvp):
        return _is_constant(thing.fun, seen) and _is_constant(thing.jvp, seen)
    if isinstance(thing, types.FunctionType):
        return _is_constant_function(thing, seen)
    if isinstance(thing, _JITTED) or hasattr(thing, "cache_info"):  # a jitted or a memoised function
        return _is_constant(thing.__wrapped__, seen)
    return False


def _is_constant_function(function: Any, seen: dict[int, Any]) -> bool:
    if getattr(function, "is_factory", False):  # it remembers what it has made, which changes nothing
        return _is_constant(getattr(function, "__wrapped__", ()), seen)
    cells = [cell.cell_contents for cell in function.__closure__ or ()]
    cells = [tuple(cell) if type(cell) is list else cell for cell in cells]  # lists of its own: no user reaches them
    cells = [cell for cell in cells if not isinstance(cell, _SCOPE)]
    bound = (tuple(cells), function.__defaults__, tuple((function.__kwdefaults__ or {}).items()))
    return _from_libraries(function) and all(_is_constant(part, seen) for part in bound)


def _from_libraries(thing: object) -> bool:
    return str(getattr(thing, "__module__", "")).partition(".")[0] in LIBRARIES


def memoise_constants(function: Callable[..., Any]) -> Callable[..., Any]:
    """Remember the results of a function where its arguments cannot change; else call it each time.

    So no user's function, and nothing that one has captured, is held.
    """
    memoised = functools.lru_cache(maxsize=128)(function)

    @functools.wraps(function)
    def call(*arguments: Any) -> Any:
        return memoised(*arguments) if is_constant(arguments) else function(*arguments)

    return call

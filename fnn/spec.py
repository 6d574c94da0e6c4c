"""How layers are made: a factory remembers what it made and with which arguments.

`dense(3) is dense(3)`: a network that is built again is the same object, so it finds the program compiled for it.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from fnn.types import Loss


class Spec(NamedTuple):
    """How a thing was made: the factory and every argument, defaults filled in. Prints as the call, `dense(128)`."""

    factory: Any
    arguments: tuple[tuple[str, Any], ...] = ()

    def __repr__(self) -> str:
        if not callable(self.factory):
            return str(self.factory)
        parameters = inspect.signature(self.factory).parameters
        shown: list[str] = []
        for name, value in self.arguments:
            parameter = parameters[name]
            if parameter.kind is parameter.VAR_POSITIONAL:
                shown += [_show(v) for v in value]
            elif parameter.default is parameter.empty:
                shown.append(_show(value))
            elif isinstance(value, (jax.Array, np.ndarray)) or value != parameter.default:
                shown.append(f"{name}={_show(value)}")
        return f"{self.factory.__name__}({', '.join(shown)})"


def _show(value: Any) -> str:
    if isinstance(value, (jax.Array, np.ndarray)):
        return f"<{value.dtype}{list(value.shape)}>"
    return getattr(value, "__name__", None) or repr(value)


def factory(make: Callable[..., Any]) -> Callable[..., Any]:
    """Turn a function that makes a layer, a loss, or anything else with a `spec`, into a factory.

    The result of equal arguments is one object, its `spec` (a loss's `name`) is filled in, and a factory that was
    handed on without being called is recognised. Arguments that cannot be remembered (arrays, traced settings) make a
    new object each time.

    >>> import fnn
    >>> fnn.dense(3) is fnn.dense(features=3)
    True
    >>> fnn.dense(3, bias=False).spec
    dense(3, bias=False)
    """
    signature = inspect.signature(make)

    def finish(spec: Spec, bound: inspect.BoundArguments) -> Any:
        made = make(*bound.args, **bound.kwargs)
        return made._replace(name=str(spec)) if isinstance(made, Loss) else made._replace(spec=spec)

    @functools.lru_cache(maxsize=1024)
    def remembered(identity: Any) -> list[Any]:
        return []

    @functools.wraps(make)
    def build(*args: Any, **kwargs: Any) -> Any:
        bound = signature.bind(*map(_frozen, args), **{k: _frozen(v) for k, v in kwargs.items()})
        bound.apply_defaults()
        spec = Spec(build, tuple(bound.arguments.items()))
        identity = _typed(spec.arguments)
        if identity is None:
            return finish(spec, bound)
        place = remembered(identity)
        if not place:
            place.append(finish(spec, bound))
        return place[0]

    build.is_factory = True  # type: ignore[attr-defined]
    return build


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


def _typed(value: Any) -> Any:
    """A hashable stand-in in which 1, 1.0 and True differ; None where there is none."""
    if type(value) is tuple:
        inner = tuple(map(_typed, value))
        return None if any(v is None for v in inner) else inner
    try:
        hash(value)
    except TypeError:
        return None
    return type(value), value

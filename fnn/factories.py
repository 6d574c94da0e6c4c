"""How layers are made: a factory remembers what it made and with which arguments.

`dense(3) is dense(3)`: a network that is built again is the same object, so it finds the program compiled for it.
"""

import functools
import inspect
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple, ParamSpec, TypeVar, overload

import jax
import jax.numpy as jnp
import numpy as np

from fnn.types import Layer, Loss

P = ParamSpec("P")  # the arguments of a factory
M = TypeVar("M")  # what it makes


class Spec(NamedTuple):
    """How a thing was made: the factory and every argument, defaults filled in. Prints as the call, `dense(128)`.

    `children` are the layers that it is made of, in the order in which inputs pass through them; None for a layer that
    is made of no others, or where the factory does not say. Two specs are equal if factory and arguments are; arguments
    that cannot be hashed (arrays) are compared by identity.
    """

    factory: Any
    arguments: tuple[tuple[str, Any], ...] = ()
    children: tuple[Any, ...] | None = None

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Spec):
            return NotImplemented
        return self.factory == other.factory and _hashable(self.arguments) == _hashable(other.arguments)

    def __ne__(self, other: object) -> bool:  # a tuple's own does not ask __eq__
        return not self == other

    def __hash__(self) -> int:
        return hash((self.factory, _hashable(self.arguments)))

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


def _show(value: object) -> str:
    if isinstance(value, (jax.Array, np.ndarray)):
        return f"<{value.dtype}{list(value.shape)}>"
    return getattr(value, "__name__", None) or repr(value)


@overload
def factory(make: Callable[P, M], *, children: Callable[..., Any] | None = None) -> Callable[P, M]: ...
@overload
def factory(make: None = None, *, children: Callable[..., Any]) -> Callable[[Callable[P, M]], Callable[P, M]]: ...
def factory(make: Callable[..., Any] | None = None, *, children: Callable[..., Any] | None = None) -> Any:
    """Turn a function that makes a layer, a loss, or anything else with a `spec`, into a factory.

    The result of equal arguments is one object, its `spec` (a loss's `name`) is filled in, and a factory that was
    handed on without being called is recognised. NumPy's and JAX's single numbers become Python's. Arguments that
    cannot be remembered (arrays, traced settings) make a new object each time.

    Args:
        make: the function. It is called with the factory's arguments.
        children: for a factory that puts layers together, a function of the same arguments that returns these layers,
            in the order in which inputs pass through them. `summary` counts them one by one. A factory that returns
            what another factory made needs none.

    >>> import fnn
    >>> fnn.dense(3) is fnn.dense(features=3)
    True
    >>> fnn.dense(3, bias=False).spec
    dense(3, bias=False)

    A layer around another one:

    >>> @fnn.factory(children=lambda layer: [layer])
    ... def named(layer):
    ...     return fnn.Layer(None, layer.init, layer.forward, layer.backward)
    >>> fnn.summary(named(fnn.dense(3)), (2,)).multiply_adds
    6
    """
    if make is None:
        return functools.partial(factory, children=children)
    signature = inspect.signature(make)

    def finish(spec: Spec, bound: inspect.BoundArguments) -> Any:
        made = make(*bound.args, **bound.kwargs)
        if isinstance(made, Loss):
            return made._replace(name=str(spec))
        if children is not None:
            spec = spec._replace(children=tuple(children(*bound.args, **bound.kwargs)))
        elif isinstance(made, Layer) and isinstance(made.spec, Spec):  # another factory made it
            spec = spec._replace(children=(made,))
        return made._replace(spec=spec)

    @functools.lru_cache(maxsize=1024)
    def remembered(identity: Hashable) -> list[Any]:
        return []

    @functools.wraps(make)
    def build(*args: Any, **kwargs: Any) -> Any:
        bound = signature.bind(*map(_plain, args), **{k: _plain(v) for k, v in kwargs.items()})
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


def _plain(value: Any) -> Any:
    """Lists as tuples, which can be remembered, and single numbers of NumPy and JAX as Python's, where they are known.

    >>> _plain([np.int64(3), [jnp.float32(0.5)]])
    (3, (0.5,))
    """
    if type(value) in (list, tuple):
        return tuple(map(_plain, value))
    if isinstance(value, (np.generic, np.ndarray, jax.Array)) and not isinstance(value, jax.core.Tracer):
        kinds = (jnp.floating, jnp.integer, jnp.bool_)
        if value.shape == () and any(jnp.issubdtype(value.dtype, kind) for kind in kinds):
            return value.item()
    return value


def _hashable(value: object) -> Hashable:
    """A stand-in that can be hashed: what cannot is itself alone."""
    if isinstance(value, tuple):
        return tuple(map(_hashable, value))
    try:
        hash(value)
    except TypeError:
        return "the object", id(value)
    return value


def _typed(value: object) -> Hashable:
    """A hashable stand-in in which 1, 1.0 and True differ; None where there is none."""
    if type(value) is tuple:
        inner = tuple(map(_typed, value))
        return None if any(v is None for v in inner) else inner
    try:
        hash(value)
    except TypeError:
        return None
    return type(value), value

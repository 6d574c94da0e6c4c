"""How layers are made: a factory remembers what it made and with which arguments.

`dense(3) is dense(3)`: a network that is built again is the same object, so it finds the program compiled for it.
What was made so is pickled as the call that made it, and what fnn offers under a name by that name.
"""

import copyreg
import functools
import importlib
import inspect
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple, ParamSpec, TypeVar, overload

import jax
import jax.numpy as jnp
import numpy as np

from fnn.arguments import argument_hint, call, describe_thing, public_name
from fnn.types import Layer, Loss, Penalty, Record

P = ParamSpec("P")  # the arguments of a factory
M = TypeVar("M")  # what it makes
R = TypeVar("R", bound=Record)


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
            elif parameter.kind is parameter.VAR_KEYWORD:
                shown += [f"{own}={_show(v)}" for own, v in value]
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
    _check_functions(make=make, children=children)
    if make is None:
        return functools.partial(factory, children=children)
    name, signature = describe_thing(make), inspect.signature(make)

    def finish(spec: Spec, bound: inspect.BoundArguments) -> Any:
        made = _call_make(name, make, bound)
        if isinstance(made, Loss):
            return note_call(made._replace(name=str(spec)), spec.factory, dict(spec.arguments))
        if children is not None:
            spec = spec._replace(children=_children(name, children, bound))
        elif isinstance(made, Layer) and isinstance(made.spec, Spec):  # another factory made it
            spec = spec._replace(children=(made,))
        made = made._replace(spec=spec)
        return note_call(made, spec.factory, dict(spec.arguments)) if isinstance(made, Record) else made

    places = _Places()

    @functools.wraps(make)
    def build(*args: Any, **kwargs: Any) -> Any:
        bound = _bind(make, signature, tuple(map(_plain, args)), {k: _plain(v) for k, v in kwargs.items()})
        bound.apply_defaults()
        spec = Spec(build, tuple((name, _pairs(signature, name, value)) for name, value in bound.arguments.items()))
        identity = _identity(spec.arguments)
        if identity is None:
            return finish(spec, bound)
        place = places.of(identity)
        if not place:
            place.append(finish(spec, bound))
        return place[0]

    build.is_factory = True  # type: ignore[attr-defined]
    return build


def _check_functions(**functions: Any) -> None:
    for name, value in functions.items():
        if value is not None and (not callable(value) or isinstance(value, (type, Record))):
            got = describe_thing(value)
            raise TypeError(f"factory: expected a function as {name}, got {got}. Write @fnn.factory above it.")


def _bind(make: Callable[..., Any], signature: inspect.Signature, args: Any, kwargs: Any) -> inspect.BoundArguments:
    """The arguments of a call by name; where they do not fit, an error that says what there is."""
    try:
        return signature.bind(*args, **kwargs)
    except TypeError as error:
        name, names = getattr(make, "__name__", type(make).__name__), ", ".join(signature.parameters)
        unknown = sorted(kwargs.keys() - signature.parameters.keys())
        hint = argument_hint(unknown[0], signature.parameters) if unknown else ""
        hint = hint or (f"Call help({public_name(make)})." if names else f"Write {name}().")
        raise TypeError(f"{name}: expected the arguments ({names}), got a call of others: {error}. {hint}") from None


def _call_make(name: str, make: Callable[..., Any], bound: inspect.BoundArguments) -> Any:
    """What a factory's function returns."""
    made = call(name, functools.partial(make, *bound.args, **bound.kwargs), what="a function that makes a layer")
    if not isinstance(made, Record) and not (hasattr(made, "_replace") and hasattr(made, "spec")):
        got = describe_thing(made)
        raise TypeError(f"factory: expected {name} to return a layer, or what has a spec, got {got}. Return one.")
    return made


def _children(name: str, children: Callable[..., Any], bound: inspect.BoundArguments) -> tuple[Any, ...]:
    """The layers that a factory's `children` returns."""
    made = call(f"children of {name}", functools.partial(children, *bound.args, **bound.kwargs))
    if not isinstance(made, (list, tuple)) or not all(isinstance(child, Record) or callable(child) for child in made):
        got = describe_thing(made)
        raise TypeError(f"children of {name}: expected a list of layers, got {got}. Return the layers in it.")
    return tuple(made)


class _Places:
    """Where a factory keeps what it made: a list for each call, of the last 1024. A pickled factory begins anew."""

    def __init__(self) -> None:
        self.of: Callable[[Any], list[Any]] = functools.lru_cache(maxsize=1024)(lambda identity: [])

    def __reduce__(self) -> Any:
        return _Places, ()


def call_factory(factory: Any, arguments: dict[str, Any]) -> Any:
    """The factory's result for arguments by name, `*layers` among them; `factory` may be its public name.

    Those that it takes by any name, `**layers`, are pairs of name and argument.

    >>> from fnn.factories import call_factory
    >>> call_factory("fnn.serial", {"layers": (call_factory("fnn.dense", {"features": 3}),)})
    serial(dense(3))
    """
    factory = find_public(factory) if isinstance(factory, str) else factory
    signature = inspect.signature(factory)
    if surplus := arguments.keys() - signature.parameters.keys():
        raise TypeError(f"{factory.__name__} has no argument {sorted(surplus)[0]!r}")
    named = {name for name, parameter in signature.parameters.items() if parameter.kind is parameter.VAR_KEYWORD}
    given: Any = {name: dict(value) if name in named else value for name, value in arguments.items()}
    bound = inspect.BoundArguments(signature, given)
    return factory(*bound.args, **bound.kwargs)


# ---- arguments, compared


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


def _pairs(signature: inspect.Signature, name: str, value: Any) -> Any:
    """The arguments of any name, `**layers`, as pairs, which can be remembered; others as they are."""
    parameter = signature.parameters[name]
    return tuple(value.items()) if parameter.kind is parameter.VAR_KEYWORD else value


def _hashable(value: object) -> Hashable:
    """A stand-in that can be hashed: what cannot is itself alone."""
    if isinstance(value, tuple):
        return tuple(map(_hashable, value))
    try:
        hash(value)
    except TypeError:
        return "the object", id(value)
    return value


def _identity(value: object) -> Hashable:
    """A hashable stand-in in which 1, 1.0 and True differ; None where there is none."""
    if type(value) is tuple:
        inner = tuple(map(_identity, value))
        return None if any(v is None for v in inner) else inner
    try:
        hash(value)
    except TypeError:
        return None
    return type(value), value


# ---- pickle: a thing by its public name, else by the call that made it, else by its functions

PUBLIC = ("fnn", "fnn.losses", "fnn.penalties")
OF_JAX = ("jax.nn", "jax.numpy", "jax.lax", "jax.scipy.special")  # some of whose functions do not pickle themselves


def note_call(made: R, factory: Callable[..., Any], arguments: dict[str, Any]) -> R:
    """A layer, loss, penalty or activation that remembers which call made it; equal to one of an equal call."""
    spec = Spec(factory, tuple(arguments.items()))
    known = _identity(spec.arguments)
    return made._with_origin(spec, None if known is None else (factory, known))


def origin(thing: Any) -> Spec | None:
    """The call that makes this layer, loss, penalty or activation; None if there is none, or it was changed since.

    >>> import fnn
    >>> from fnn.factories import origin
    >>> layer = fnn.dense(3)
    >>> print(origin(layer), origin(layer._replace(init=fnn.dense(4).init)))
    dense(3) None
    """
    return vars(thing).get("_origin") if isinstance(thing, Record) else None


def _public_name(thing: Any, modules: tuple[str, ...] = PUBLIC) -> str | None:
    """`"fnn.relu"` for what fnn (or the modules named) has under that name."""
    name = thing.parts()[0] if isinstance(thing, Record) else getattr(thing, "__name__", None)
    if isinstance(name, str):
        for module in modules:
            if getattr(importlib.import_module(module), name, None) is thing:
                return f"{module}.{name}"
    return None


def find_public(name: str) -> Any:
    """What a module offers under a name: `"fnn.losses.huber"`.

    >>> from fnn.factories import find_public
    >>> find_public("fnn.relu")
    relu
    """
    module, _, own = name.rpartition(".")
    return getattr(importlib.import_module(module), own)


class _Named:
    """What stands for a function in a pickle, and comes back as that function."""

    def __init__(self, name: str):
        self.name = name

    def __reduce__(self) -> Any:
        return find_public, (self.name,)


def _to_pickle(value: Any) -> Any:
    """An argument or a field with names in place of JAX's functions."""
    if type(value) is tuple:
        return tuple(map(_to_pickle, value))
    name = _public_name(value, OF_JAX) if callable(value) and not isinstance(value, Record) else None
    return value if name is None else _Named(name)


def reduce(thing: Any) -> Any:
    """What pickle wants to know of a layer, a loss, a penalty or an activation (see `copyreg`)."""
    name = _public_name(thing)
    if name is not None:
        return find_public, (name,)
    spec = origin(thing)
    if spec is not None:
        arguments = {name: _to_pickle(value) for name, value in spec.arguments}
        return call_factory, (_public_name(spec.factory) or spec.factory, arguments)
    fields = tuple(map(_to_pickle, thing.parts()))
    documented = vars(thing).get("__doc__")
    return (type(thing), fields) if documented is None else (type(thing), fields, {"__doc__": documented})


for _kind in (Layer, Loss, Penalty):
    copyreg.pickle(_kind, reduce)

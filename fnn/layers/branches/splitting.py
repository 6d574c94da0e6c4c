"""From several arrays, or to several: a layer for each, or one of them."""

from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp

from fnn import arguments
from fnn.arguments.leaves import is_float, is_shape
from fnn.factories import factory
from fnn.layers.combinators import layer_of
from fnn.layers.passes import backward_layer, forward_layer, init_layer
from fnn.types import Array, Cache, Key, Layer, LayerLike, Params, Shape, ShapeError, State, Train, Tree

Place = str | int  # of an array among several: its key in a dict, its number in a tuple


@factory(children=lambda *layers, **named: (*layers, *named.values()))
def parallel(*layers: LayerLike, **named: LayerLike) -> Layer:
    """Layers side by side: `y_k = f_k(x_k)`, or `y_k = f_k(x)`; backward `dx_k` of each, or `dx = Σ_k dx_k`.

    By name (`parallel(a=…, b=…)`) outputs are a dict, by place (`parallel(…, …)`) a tuple. Several inputs, of the same
    names or as many, go each through their own layer; a single array goes through all of them. To hand one of several
    on as it is, use `serial()`.

    Args:
        layers: layers, activations or plain functions, one per place of a tuple.
        named: likewise, by name; one or the other.

    Returns:
        A layer whose params and state are like its outputs: a dict with an entry per name, or a tuple.

    Raises:
        ShapeError: at init, when a layer does not fit (the message names the branch), or the inputs have other names.
        TypeError: no layer, or some by name and some by place.

    Two inputs and two heads:

    >>> import fnn, jax
    >>> net = fnn.serial(
    ...     fnn.parallel(image=fnn.flatten(), table=fnn.dense(4)), fnn.concatenate(), fnn.dense(8), fnn.relu,
    ...     fnn.parallel(price=fnn.dense(1), kind=fnn.dense(3)),
    ... )
    >>> net.init(jax.random.key(0), {"image": (5, 5, 1), "table": (6,)})[2]
    {'price': (1,), 'kind': (3,)}
    """
    if bool(layers) == bool(named):
        got = "none" if not layers else "both"
        raise TypeError(f"parallel: expected layers by name, or layers by place, got {got}. Write parallel(a=…, b=…).")
    if len(layers) == 1 and isinstance(layers[0], (list, tuple, dict)):
        got, stars = arguments.describe_thing(layers[0]), "**" if isinstance(layers[0], dict) else "*"
        raise TypeError(f"parallel: expected layers, got {got}. Write parallel({stars}layers).")
    places: tuple[Place, ...] = tuple(named) if named else tuple(range(len(layers)))
    children = [
        layer_of(f"parallel: {place}", child) for place, child in zip(places, named.values() or layers, strict=True)
    ]

    def like(values: Iterable[Any]) -> Any:
        made = list(values)
        return dict(zip(places, made, strict=True)) if named else tuple(made)

    def init(key: Key, in_shape: Shape) -> tuple[Params, State, Shape]:
        shapes: Any = in_shape
        if is_shape(in_shape):
            shapes = like(in_shape for _ in places)
        _check_places(places, shapes)
        made = []
        for i, (place, child) in enumerate(zip(places, children, strict=True)):
            try:
                made.append(init_layer(child, jax.random.fold_in(key, i), shapes[place]))
            except ShapeError as error:
                raise ShapeError(f"{place}: {error}") from None
        params, states, out_shapes = (like(part) for part in zip(*made, strict=True))
        return params, states, out_shapes

    def forward(params: Params, state: State, x: Tree, key: Key, train: Train) -> tuple[Tree, State, Cache]:
        own = _are_several(x)
        if own:
            _check_places(places, x)
        made = []
        for i, (place, child) in enumerate(zip(places, children, strict=True)):
            child_key = None if key is None else jax.random.fold_in(key, i)
            made.append(forward_layer(child, params[place], state[place], x[place] if own else x, child_key, train))
        y, states, caches = (like(part) for part in zip(*made, strict=True))
        return y, states, (() if own else None, caches)  # as structure, which a trace keeps

    def backward(params: Params, cache: Cache, dy: Tree) -> tuple[Params, Tree]:
        own, caches = cache[0] is not None, cache[1]
        made = [
            backward_layer(child, params[place], caches[place], dy[place])
            for place, child in zip(places, children, strict=True)
        ]
        dparams, dx = (list(part) for part in zip(*made, strict=True))
        return like(dparams), like(dx) if own else sum(dx[1:], dx[0])

    return Layer(None, init, forward, backward)


def _are_several(x: object) -> bool:
    return isinstance(x, (dict, tuple))


def _check_places(places: tuple[Place, ...], x: Any) -> None:
    """Raise unless there is one array for each layer."""
    got: tuple[Place, ...] = tuple(x) if isinstance(x, dict) else tuple(range(len(x)))
    if set(got) != set(places):
        wanted = "inputs named " + ", ".join(map(str, places))
        if isinstance(places[0], int):
            wanted = f"a tuple of {len(places)} inputs"
        found = f"a tuple of {len(got)}" if not isinstance(x, dict) else f"those named {', '.join(map(str, got))}"
        hint = "Give each input a layer; serial() hands one on as it is."
        raise ShapeError(f"parallel: expected {wanted}, got {found}. {hint}")


@factory
def select(place: Place) -> Layer:
    """One of several arrays: `y = x[place]`; backward `dx[place] = dy`, 0 for the others.

    Args:
        place: the name in a dict, or the number in a tuple.

    Raises:
        ShapeError: at init, when there is none of that name.

    >>> import fnn, jax
    >>> net = fnn.serial(fnn.select("age"), fnn.dense(2))
    >>> net.init(jax.random.key(0), {"age": (1,), "image": (8, 8)})[2]
    (2,)
    """
    if isinstance(place, bool) or not isinstance(place, (str, int)):
        got = arguments.describe_thing(place)
        raise TypeError(f"select: expected a name or a number, got {got}. Write select('age').")

    def choose(x: Any) -> Any:
        several = isinstance(x, (dict, tuple)) and not is_shape(x)
        got = "a single one" if not several else f"a tuple of {len(x)}"
        if isinstance(x, dict):
            got = f"those named {', '.join(x)}"
        there = range(-len(x), len(x)) if several and isinstance(x, tuple) else x
        if not several or place not in there:
            wanted, hint = f"inputs with {place!r} among them", "Name one of the inputs."
            raise ShapeError(f"select({place!r}): expected {wanted}, got {got}. {hint}")
        return x[place]

    def init(key: Key, in_shape: Shape) -> tuple[Params, State, Shape]:
        return (), (), choose(in_shape)

    def forward(params: Params, state: State, x: Tree, key: Key, train: Train) -> tuple[Tree, State, Cache]:
        return choose(x), state, x

    def backward(params: Params, x: Tree, dy: Tree) -> tuple[Params, Tree]:
        dx = jax.tree.map(_zeros, x)
        if isinstance(dx, dict):
            return (), {**dx, place: dy}
        at = range(len(dx))[place]  # type: ignore[index]
        return (), (*dx[:at], dy, *dx[at + 1 :])

    return Layer(None, init, forward, backward)


def _zeros(x: Array) -> Array:
    """The derivative by what has no share in the outputs; floats, also of integers, as every layer has it."""
    return jnp.zeros(x.shape, x.dtype if is_float(x) else jnp.result_type(float))

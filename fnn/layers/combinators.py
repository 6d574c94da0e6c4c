"""Networks from layers: one after another, repeated, with a shortcut; and layers from plain functions."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fnn import activations, arguments
from fnn.activations.elementwise import Activation
from fnn.arguments import adapter_hint, array_of, as_floats, call, describe_thing, is_module
from fnn.arguments.constants import memoise_constants
from fnn.factories import factory, note_call
from fnn.layers.passes import backward_layer, forward_layer, init_layer
from fnn.types import Array, Cache, Key, Layer, LayerLike, Loss, Params, Penalty, Shape, ShapeError, State, Train


@arguments.explain_call
def as_layer(thing: LayerLike) -> Layer:
    """What may stand where a layer is wanted: a layer, an activation, or any function of an array (`jnp.sin`).

    Raises a TypeError for anything else.

    >>> import fnn, jax.numpy as jnp
    >>> fnn.as_layer(fnn.sigmoid), fnn.as_layer(jnp.sin)
    (sigmoid, from_function(sin))
    """
    return layer_of("layer", thing)


def layer_of(name: str, thing: LayerLike) -> Layer:
    """`as_layer`, where the argument is called `name`."""
    if isinstance(thing, Layer):
        return thing
    if isinstance(thing, Activation):
        layer: Layer = _activation_layer(thing)
        return layer
    if getattr(thing, "is_factory", False):
        raise TypeError(
            f"{thing.__name__}: expected a layer, got the factory that makes it. Call it: {thing.__name__}(...)."
        )
    hint = "Write dense(10)."
    if isinstance(thing, np.ufunc):
        hint = f"Write jnp.{thing.__name__}."
    elif adapter := adapter_hint(thing):
        hint = adapter
    elif isinstance(thing, (list, tuple)):
        hint = "Write serial(*layers)."
    elif is_module(thing):
        hint = "Wrap it: fnn.Layer(name, init, forward, backward)."
    elif isinstance(thing, str) and isinstance(getattr(activations, thing, None), Activation):
        hint = f"Write fnn.{thing}."
    elif callable(thing) and not isinstance(thing, (Loss, Penalty, type)):
        return from_function(thing)
    raise TypeError(f"{name}: expected a layer or a function, got {describe_thing(thing)}. {hint}")


@memoise_constants
def _activation_layer(activation: Activation) -> Layer:
    """An activation as a layer without parameters; `forward` keeps `x` for `backward`."""

    def init(key: Key, in_shape: Shape) -> tuple[Params, State, Shape]:
        return (), (), in_shape

    def forward(params: Params, state: State, x: Array, key: Key, train: Train) -> tuple[Array, State, Cache]:
        x = as_floats(activation, x)
        return activation.value(x), state, x

    def backward(params: Params, x: Array, dy: Array) -> tuple[Params, Array]:
        return (), activation.backward(x, dy)

    return note_call(Layer(activation.spec, init, forward, backward), as_layer, {"thing": activation})


@factory
def from_function(function: Callable[[Array], Array]) -> Layer:
    """A layer from any function of a batch of inputs; its backward comes from `jax.vjp`.

    `function` works on the whole batch, `(batch, ...) -> (batch, ...)`, and must not mix rows. It gets floats: integer
    inputs are converted, so that a byte less 128 is a number below 0.

    >>> import fnn, jax.numpy as jnp
    >>> fnn.serial(fnn.dense(8), jnp.sin, fnn.dense(1))
    serial(dense(8), sin, dense(1))
    """

    hint = "Pass a function such as jnp.sin."
    function = arguments.function("from_function", function, 1, "a function of the inputs", hint)
    name = f"from_function({getattr(function, '__name__', type(function).__name__)})"

    def apply(x: Array) -> Array:
        y = array_of(name, call(name, function, x), "an array of outputs")
        if y.shape[:1] != x.shape[:1]:
            wanted, got = f"one output per row, shape ({x.shape[0]}, ...)", y.shape
            raise ShapeError(f"{name}: expected {wanted}, got {got}. Keep the first axis.")
        return y

    def init(key: Key, in_shape: Shape) -> tuple[Params, State, Shape]:
        one = jax.ShapeDtypeStruct((1, *in_shape), jnp.result_type(float))
        return (), (), jax.eval_shape(apply, one).shape[1:]

    def forward(params: Params, state: State, x: Array, key: Key, train: Train) -> tuple[Array, State, Cache]:
        x = as_floats("from_function", x)
        return apply(x), state, x

    def backward(params: Params, x: Array, dy: Array) -> tuple[Params, Array]:
        return (), jax.vjp(apply, x)[1](dy)[0]

    return Layer(None, init, forward, backward)


@factory(children=lambda *layers: tuple(map(as_layer, layers)))
def serial(*layers: LayerLike) -> Layer:
    """Layers one after another: `y = fₙ(… f₂(f₁(x)))`; backward the chain rule, from the last layer to the first.

    Args:
        layers: layers, activations, or plain functions, in the order in which the inputs pass through them.

    Returns:
        A layer whose params and state are tuples, one entry per layer. Layers without parameters at the beginning do
        not change which weights a key gives to those after them.

    Raises:
        ShapeError: at init, when layers do not fit; it names the layer, and the shapes up to it.

    >>> import fnn, jax
    >>> net = fnn.serial(fnn.dense(3), fnn.sigmoid, fnn.dense(2))
    >>> params, state, out_shape = net.init(jax.random.key(0), (4,))
    >>> print(out_shape, [p["w"].shape for p in params if p])
    (2,) [(4, 3), (3, 2)]
    >>> net.layers[0], net[:2]  # the parameters of these are params[0], params[:2]
    (dense(3), serial(dense(3), sigmoid))
    """
    children = [as_layer(layer) for layer in layers]

    def init(key: Key, in_shape: Shape) -> tuple[Params, State, Shape]:
        params: list[Any] = []
        states, shapes = [], [in_shape]
        for i, child in enumerate(children):
            # what prepares the inputs (rescale, flatten) does not change which weights a seed gives
            place = i - next((j for j, p in enumerate(params) if jax.tree.leaves(p)), i)
            try:
                p, s, out_shape = init_layer(child, jax.random.fold_in(key, place), shapes[-1])
            except ShapeError as error:
                chain = " -> ".join(map(str, shapes))
                raise ShapeError(f"layer {i}, {error} (shapes up to here: {chain})") from None
            params.append(p)
            states.append(s)
            shapes.append(out_shape)
        return tuple(params), tuple(states), shapes[-1]

    def forward(params: Params, state: State, x: Array, key: Key, train: Train) -> tuple[Array, State, Cache]:
        states, caches = [], []
        for i, child in enumerate(children):
            child_key = None if key is None else jax.random.fold_in(key, i)
            x, s, cache = forward_layer(child, params[i], state[i], x, child_key, train)
            states.append(s)
            caches.append(cache)
        return x, tuple(states), tuple(caches)

    def backward(params: Params, caches: Cache, dy: Array) -> tuple[Params, Array]:
        dparams = []
        for child, p, cache in zip(reversed(children), reversed(params), reversed(caches), strict=True):
            dp, dy = backward_layer(child, p, cache, dy)
            dparams.append(dp)
        return tuple(reversed(dparams)), dy

    return Layer(None, init, forward, backward)


@factory(children=lambda layer, times: (layer,) * times)
def repeat(layer: LayerLike, times: int) -> Layer:
    """The same structure `times` times, each with parameters of its own: `y = f(…f(f(x)))`.

    Compiled as a loop, so that compile time does not grow with depth. Params and state have a leading axis `times`.
    Backward: the chain rule, from the last round to the first.

    Raises:
        ShapeError: at init, when the layer changes the shape.

    >>> import fnn, jax
    >>> deep = fnn.repeat(fnn.serial(fnn.dense(8), fnn.tanh), times=10)
    >>> params, state, out_shape = deep.init(jax.random.key(0), (8,))
    >>> print(params[0]["w"].shape)
    (10, 8, 8)
    """
    child = as_layer(layer)
    times = arguments.whole_number("repeat", times, 1, "Write times=2.", what="times to be a whole number")

    def init(key: Key, in_shape: Shape) -> tuple[Params, State, Shape]:
        out_shape = init_layer(child, key, in_shape)[2]
        if out_shape != in_shape:
            raise ShapeError(
                f"repeat: expected a layer that keeps the shape, got {in_shape} -> {out_shape} from {child}. "
                f"Put a layer to {out_shape} before it."
            )
        keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(times))
        params, state = jax.vmap(lambda k: child.init(k, in_shape)[:2])(keys)
        return params, state, in_shape

    def forward(params: Params, state: State, x: Array, key: Key, train: Train) -> tuple[Array, State, Cache]:
        def once(x: Array, part: tuple[Array, Params, State]) -> tuple[Array, tuple[State, Cache]]:
            i, p, s = part
            y, s, cache = forward_layer(child, p, s, x, None if key is None else jax.random.fold_in(key, i), train)
            return y, (s, cache)

        y, (state, caches) = lax.scan(once, as_floats("repeat", x), (jnp.arange(times), params, state))
        return y, state, caches

    def backward(params: Params, caches: Cache, dy: Array) -> tuple[Params, Array]:
        def once(dy: Array, part: tuple[Params, Cache]) -> tuple[Array, Params]:
            dp, dx = backward_layer(child, *part, dy)
            return dx, dp

        dx, dparams = lax.scan(once, dy, (params, caches), times, reverse=True)
        return dparams, dx

    return Layer(None, init, forward, backward)


@factory(children=lambda *layers: layers)
def residual(*layers: LayerLike) -> Layer:
    """Layers with a shortcut around them: `y = x + f(x)`; backward `dx = dy +` what `f` passes back.

    He et al. 2015, arXiv:1512.03385.

    Raises:
        ShapeError: at init, when the layers change the shape.

    >>> import fnn, jax
    >>> block = fnn.residual(fnn.dense(8), fnn.relu, fnn.dense(8))
    >>> block.init(jax.random.key(0), (8,))[2]
    (8,)
    """
    inner = serial(*layers)

    def init(key: Key, in_shape: Shape) -> tuple[Params, State, Shape]:
        params, state, out_shape = inner.init(key, in_shape)
        if out_shape != in_shape:
            raise ShapeError(
                f"residual: expected layers that keep the shape, got {in_shape} -> {out_shape}. "
                f"End them with as many features as come in."
            )
        return params, state, out_shape

    def forward(params: Params, state: State, x: Array, key: Key, train: Train) -> tuple[Array, State, Cache]:
        y, state, cache = inner.forward(params, state, x, key, train)
        return as_floats("residual", x) + y, state, cache

    def backward(params: Params, cache: Cache, dy: Array) -> tuple[Params, Array]:
        dparams, dx = inner.backward(params, cache, dy)
        return dparams, dy + dx

    return Layer(None, init, forward, backward)

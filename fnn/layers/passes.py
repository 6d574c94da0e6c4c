"""A layer's three functions, called; what one of your own raises is named, and what it returns is checked.

Other modules call layers by these, so that a mistake in a layer says which layer, and which of its functions.
"""

from typing import Any

import jax
import numpy as np

from fnn.arguments import array_of, call, describe_thing
from fnn.factories import Spec
from fnn.types import Array, BackwardFn, Cache, Key, Layer, Params, Shape, ShapeError, State, Train


def init_layer(layer: Layer, key: Key, in_shape: Shape) -> tuple[Params, State, Shape]:
    """`layer.init(key, in_shape)`, which returns params, state and the shape of one output.

    >>> import fnn, jax
    >>> from fnn.layers.passes import init_layer
    >>> init_layer(fnn.Layer("mine", lambda key, shape: shape, None, None), jax.random.key(0), (3,))
    Traceback (most recent call last):
    ...
    TypeError: init of mine: expected (params, state, out_shape), got tuple (3,). Return these 3.
    """
    made = _call("init", layer, "(params, state, out_shape)", 3, key, in_shape)
    shape = made[2]
    if not isinstance(shape, (tuple, list)) or not all(isinstance(n, int) and n >= 0 for n in shape):
        got = describe_thing(shape)
        raise TypeError(f"init of {_name(layer)}: expected an out_shape of whole numbers, got {got}. Return a tuple.")
    return made[0], made[1], tuple(shape)


def forward_layer(
    layer: Layer, params: Params, state: State, x: Array, key: Key, train: Train
) -> tuple[Array, State, Cache]:
    """`layer.forward(params, state, x, key, train)`, which returns outputs, new state and a cache for `backward`."""
    made = _call("forward", layer, "(y, new_state, cache)", 3, params, state, x, key, train)
    name = f"forward of {_name(layer)}"
    for output in jax.tree.leaves(made[0], is_leaf=lambda leaf: leaf is None) or [
        made[0]
    ]:  # of your own: several, maybe
        # a layer that is called by hand, of NumPy's inputs, may return what NumPy made of them
        both = isinstance(x, np.ndarray) and isinstance(output, np.ndarray)
        y = output if both else array_of(name, output, "an array of outputs", floats=False)
        if hasattr(x, "shape") and y.shape[:1] != x.shape[:1]:
            wanted, got = f"one output per row, shape ({x.shape[0]}, ...)", y.shape
            raise ShapeError(f"{name}: expected {wanted}, got {got}. Keep the first axis.")
    return made[0], made[1], made[2]


def backward_layer(layer: Layer, params: Params, cache: Cache, dy: Array) -> tuple[Params, Array]:
    """`layer.backward(params, cache, dy)`, which returns the derivatives by the parameters and by the inputs."""
    made = _call("backward", layer, "(dparams, dx)", 2, params, cache, dy)
    return made[0], array_of(f"backward of {_name(layer)}", made[1], "an array dx", floats=False)


class NoRulesByHand(TypeError):
    """A layer whose derivative is autodiff's alone, where its rules by hand are asked for."""


def no_rules_by_hand(name: str) -> BackwardFn:
    """The `backward` of a layer that has no rules by hand: it says so.

    >>> from fnn.layers.passes import no_rules_by_hand
    >>> no_rules_by_hand("mine")((), (), None)
    Traceback (most recent call last):
    ...
    fnn.layers.passes.NoRulesByHand: backward of mine: expected rules by hand, got a layer that has none. Use
    gradient=fnn.autodiff.
    """

    def backward(params: Params, cache: Cache, dy: Array) -> tuple[Params, Array]:
        hint = "Use gradient=fnn.autodiff."
        raise NoRulesByHand(f"backward of {name}: expected rules by hand, got a layer that has none. {hint}")

    return backward


def _call(what: str, layer: Layer, wanted: str, count: int, *given: Any) -> tuple[Any, ...]:
    name, function = f"{what} of {_name(layer)}", getattr(layer, what)
    if not callable(function):
        hint = "Pass a function, or train with gradient=fnn.autodiff." if what == "backward" else "Pass a function."
        raise TypeError(f"{name}: expected a function that returns {wanted}, got {describe_thing(function)}. {hint}")
    try:
        made = call(name, function, *given)
    except TypeError as error:
        raised = str(error).removeprefix(f"{name}: ").partition(" got one that raises ")
        own = isinstance(layer.spec, Spec) and what == "forward" and raised[0].startswith("expected ")
        if not own or not raised[2]:
            raise
        got = f"others, with which it raises {raised[2].partition('. Look at')[0]}"
        hint = "Pass what its init returned, or what was trained."
        raise TypeError(f"{name}: expected params and a state like those of its init, got {got}. {hint}") from error
    if not isinstance(made, (tuple, list)) or len(made) != count:
        got = f"{len(made)} things" if isinstance(made, (tuple, list)) and _has_arrays(made) else describe_thing(made)
        raise TypeError(f"{name}: expected {wanted}, got {got}. Return these {count}.")
    return tuple(made)


def _has_arrays(made: Any) -> bool:
    return any(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(made))


def _name(layer: Layer) -> str:
    text = str(layer)
    return text if len(text) <= 80 else f"{text[:80]}…"

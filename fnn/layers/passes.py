"""A layer's three functions, called; what one of your own raises is named, and what it returns is checked.

Other modules call layers by these, so that a mistake in a layer says which layer, and which of its functions.
"""

from typing import Any

import jax
import numpy as np

from fnn.arguments import array_of, call, describe_thing
from fnn.arguments.leaves import is_shape, shape_leaves
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
    if not is_shape(in_shape):
        _check_takes_several(layer, in_shape)
    made = _call("init", layer, "(params, state, out_shape)", 3, key, in_shape)
    shape = tuple(made[2]) if isinstance(made[2], list) else made[2]
    leaves = shape_leaves(shape)
    if not leaves or not all(is_shape(leaf) and all(n >= 0 for n in leaf) for leaf in leaves):
        got = describe_thing(made[2])
        raise TypeError(f"init of {_name(layer)}: expected an out_shape of whole numbers, got {got}. Return a tuple.")
    return made[0], made[1], shape


OF_SEVERAL = ("parallel", "concatenate", "select", "add", "from_function", "serial", "mixed_precision")  # they take it


def _check_takes_several(layer: Layer, in_shape: Shape) -> None:
    """Raise a ShapeError where a layer of fnn that takes one array is given several."""
    if isinstance(layer.spec, Spec):
        factory = layer.spec.factory
        own = str(getattr(factory, "__module__", "")).startswith("fnn.")
        if own and getattr(factory, "__name__", "") not in OF_SEVERAL:
            refuse_several(layer, in_shape)


def refuse_several(layer: object, in_shape: Shape) -> None:
    """Raise a ShapeError where examples are several arrays, and the layer (or activation) takes one.

    >>> from fnn.layers.passes import refuse_several
    >>> refuse_several("relu", {"age": (1,)})
    Traceback (most recent call last):
    fnn.ShapeError: relu: expected one array, got several, examples of shape {'age': (1,)}. Put select, concatenate or
    parallel before it.
    """
    if not is_shape(in_shape):
        flat = all(shape == () for shape in shape_leaves(in_shape))  # a number per row each: columns of a table
        hint = "Pass np.column_stack(list(values))." if flat else "Put select, concatenate or parallel before it."
        raise ShapeError(f"{_name(layer)}: expected one array, got several, examples of shape {in_shape}. {hint}")


def forward_layer(
    layer: Layer, params: Params, state: State, x: Array, key: Key, train: Train
) -> tuple[Array, State, Cache]:
    """`layer.forward(params, state, x, key, train)`, which returns outputs, new state and a cache for `backward`."""
    made = _call("forward", layer, "(y, new_state, cache)", 3, params, state, x, key, train)
    name = f"forward of {_name(layer)}"
    # a layer that is called by hand, of NumPy's inputs, may return what NumPy made of them
    of_numpy = any(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(x))
    for output in jax.tree.leaves(made[0], is_leaf=lambda leaf: leaf is None) or [
        made[0]
    ]:  # of your own: several, maybe
        both = of_numpy and isinstance(output, np.ndarray)
        y = output if both else array_of(name, output, "an array of outputs", floats=False)
        rows = x.shape[:1] if hasattr(x, "shape") else _rows_of_several(x)
        if rows is not None and y.shape[:1] != rows:
            wanted, got = f"one output per row, shape ({rows[0]}, ...)", y.shape
            raise ShapeError(f"{name}: expected {wanted}, got {got}. Keep the first axis.")
    return made[0], made[1], made[2]


def _rows_of_several(x: object) -> Shape | None:
    """How many rows the arrays of a dict or a tuple have, as a shape; None where that is none of these."""
    leaves = jax.tree.leaves(x) if isinstance(x, (dict, tuple)) else []
    return leaves[0].shape[:1] if leaves and hasattr(leaves[0], "shape") else None


def backward_layer(layer: Layer, params: Params, cache: Cache, dy: Array) -> tuple[Params, Array]:
    """`layer.backward(params, cache, dy)`, which returns the derivatives by the parameters and by the inputs."""
    made = _call("backward", layer, "(dparams, dx)", 2, params, cache, dy)
    name = f"backward of {_name(layer)}"
    if isinstance(made[1], (dict, tuple)) and made[1]:  # of several inputs
        return made[0], jax.tree.map(lambda leaf: array_of(name, leaf, "arrays dx", floats=False), made[1])
    return made[0], array_of(name, made[1], "an array dx", floats=False)


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


def _name(layer: object) -> str:
    text = str(layer)
    return text if len(text) <= 80 else f"{text[:80]}…"

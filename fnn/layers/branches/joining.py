"""Several arrays become one: side by side, or their sum."""

from functools import reduce
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnn.arguments import as_floats
from fnn.arguments.leaves import is_shape, shape_leaves
from fnn.factories import factory
from fnn.types import Array, Cache, Key, Layer, Params, Shape, ShapeError, State, Train, Tree


@factory
def concatenate() -> Layer:
    """Several arrays side by side, along their last axis: `y = [x_1, …, x_n]`; backward `dx_k` is its part of `dy`.

    Those of a dict in the order of the names (sorted), those of a tuple in their order. Integers become floats.

    Raises:
        ShapeError: at init, when the other axes differ, or there is one array alone.

    >>> import fnn, jax.numpy as jnp
    >>> x = {"b": jnp.array([[3.0]]), "a": jnp.array([[1.0, 2.0]])}
    >>> print(fnn.concatenate().forward((), (), x, None, False)[0])
    [[1. 2. 3.]]
    """

    def init(key: Key, in_shape: Shape) -> tuple[Params, State, Shape]:
        shapes = _several("concatenate", in_shape)
        for shape in shapes:
            if not shape or shape[:-1] != shapes[0][:-1]:
                hint = "Put fnn.flatten() before those that are larger." if shape else "Give each a last axis."
                raise ShapeError(
                    f"concatenate: expected examples whose shapes differ in the last axis alone, got {in_shape}. {hint}"
                )
        return (), (), (*shapes[0][:-1], sum(shape[-1] for shape in shapes))

    def forward(params: Params, state: State, x: Tree, key: Key, train: Train) -> tuple[Array, State, Cache]:
        return jnp.concatenate([as_floats("concatenate", a) for a in jax.tree.leaves(x)], -1), state, x

    def backward(params: Params, x: Tree, dy: Array) -> tuple[Params, Tree]:
        leaves, structure = jax.tree.flatten(x)
        ends: Any = np.cumsum([a.shape[-1] for a in leaves])[:-1]
        return (), jax.tree.unflatten(structure, jnp.split(dy, ends, -1))

    return Layer(None, init, forward, backward)


@factory
def add() -> Layer:
    """The sum of several arrays, `y = Σ_k x_k`; backward `dx_k = dy`. Integers become floats.

    Raises:
        ShapeError: at init, when the arrays have different shapes, or there is one alone.

    >>> import fnn, jax.numpy as jnp
    >>> print(fnn.add().forward((), (), (jnp.array([[1.0, 2.0]]), jnp.array([[3.0, 4.0]])), None, False)[0])
    [[4. 6.]]
    """

    def init(key: Key, in_shape: Shape) -> tuple[Params, State, Shape]:
        shapes = _several("add", in_shape)
        if any(shape != shapes[0] for shape in shapes):
            raise ShapeError(
                f"add: expected examples of one shape, got {in_shape}. Put a layer before each that makes them alike."
            )
        return (), (), shapes[0]

    def forward(params: Params, state: State, x: Tree, key: Key, train: Train) -> tuple[Array, State, Cache]:
        return reduce(jnp.add, [as_floats("add", a) for a in jax.tree.leaves(x)]), state, jax.tree.map(lambda a: (), x)

    def backward(params: Params, places: Tree, dy: Array) -> tuple[Params, Tree]:
        return (), jax.tree.map(lambda place: dy, places, is_leaf=lambda place: place == ())

    return Layer(None, init, forward, backward)


def _several(name: str, in_shape: Shape) -> list[Shape]:
    """The shapes of several arrays."""
    if is_shape(in_shape):
        raise ShapeError(
            f"{name}: expected several arrays, got one, examples of shape {in_shape}. Put fnn.parallel(…) before it."
        )
    return shape_leaves(in_shape)

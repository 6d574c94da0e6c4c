"""Layers that are as wide as the widest of several, and are each of them by a number.

A dense layer begins with the weights that the narrow one has by itself, in its first rows and columns, and zeros
elsewhere. JAX draws a number by hashing its place in the array, so that the first n numbers of a longer vector are
those of a vector of n: one draw serves all widths.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from fnn.activations import sigmoid, softplus
from fnn.activations.elementwise import Activation
from fnn.factories import call_factory
from fnn.types import Array, Cache, Key, Layer, Params, Shape, State, Train, Tree


class Widths(NamedTuple):
    """Of a dense layer in several networks: how wide; and how wide what comes in, None where that does not differ."""

    features: list[int]
    inputs: list[int] | None


def padded_dense(widest: Layer, widths: Widths, number: Any) -> Layer:
    """The widest dense layer, begun as that of this number, which may be traced."""
    factory, given = widest.spec.factory, dict(widest.spec.arguments)

    def init(key: Key, in_shape: Shape) -> tuple[Params, State, Shape]:
        inputs = widths.inputs or [in_shape[0]] * len(widths.features)
        shapes = list(zip(inputs, widths.features, strict=True))
        if callable(given["weight_init"]) or callable(given["bias_init"]) or not _hashes_places(key):
            like, state, out_shape = widest.init(key, in_shape)
            each = [call_factory(factory, {**given, "features": width}).init for width in widths.features]
            begun = [
                lambda key, begin=begin, fan_in=fan_in: pad(begin(key, (fan_in,))[0], like)
                for begin, fan_in in zip(each, inputs, strict=True)
            ]
            return lax.switch(number, begun, key), state, out_shape
        deviations = [fan_in**-0.5 if given["weight_init"] is None else given["weight_init"] for fan_in in inputs]
        wide = (in_shape[0], max(widths.features))
        params = {"w": _values(jax.random.fold_in(key, 0), shapes, wide, deviations, number)}
        if given["bias"]:
            rows = [(1, width) for width in widths.features]
            deviations = [given["bias_init"]] * len(rows)
            params["b"] = _values(jax.random.fold_in(key, 1), rows, (1, wide[1]), deviations, number)[0]
        return params, (), wide[1:]

    return widest._replace(init=init)


def _hashes_places(key: Key) -> bool:
    """Whether JAX draws each number by its place alone."""
    return (
        bool(getattr(jax.config, "jax_threefry_partitionable", False))
        and str(jax.random.key_impl(key)) == "threefry2x32"
    )


def _values(
    key: Key, shapes: Sequence[tuple[int, int]], wide: tuple[int, int], deviations: Sequence[float], number: Any
) -> Array:
    """Normal numbers, those that an array of the shape of this number gets, in its rows and columns; zeros beyond."""
    dtype = jnp.result_type(float)
    if not any(deviations):
        return jnp.zeros(wide, dtype)
    rows, columns = (_entry(sizes, number) for sizes in zip(*shapes, strict=True))
    row, column = (lax.broadcasted_iota(jnp.int32, wide, axis) for axis in range(2))
    drawn = jax.random.normal(key, (max(a * b for a, b in shapes),), dtype)
    values = jnp.take(drawn, row * columns + column, mode="clip") * _entry(deviations, number, dtype)
    return jnp.where((row < rows) & (column < columns), values, 0)


def _entry(table: Sequence[Any], number: Any, dtype: Any = jnp.int32) -> Any:
    """That of this number."""
    return jnp.asarray(table, dtype)[number]


def chosen_activation(kinds: list[Activation], widths: list[int] | None, number: Any) -> Layer:
    """The activation of this number, 0 beyond its width."""
    different = list(dict.fromkeys(kinds))
    cut_off = widths is not None and not all(map(is_zero_at_zero, different))

    def choose(functions: Sequence[Callable[..., Array]], *operands: Array) -> Array:
        which = _entry([different.index(kind) for kind in kinds], number)
        chosen: Array = lax.switch(which, functions, *operands) if len(different) > 1 else functions[0](*operands)
        return chosen

    def init(key: Key, in_shape: Shape) -> tuple[Params, State, Shape]:
        return (), (), in_shape

    def forward(params: Params, state: State, x: Array, key: Key, train: Train) -> tuple[Array, State, Cache]:
        y = choose([kind.value for kind in different], x)
        return (
            (jnp.where(lax.iota(jnp.int32, x.shape[-1]) < _entry(widths or [], number), y, 0) if cut_off else y),
            state,
            x,
        )

    def backward(params: Params, x: Array, dy: Array) -> tuple[Params, Array]:
        return (), choose([kind.backward for kind in different], x, dy)

    return Layer("activation", init, forward, backward)


def is_zero_at_zero(activation: Activation) -> bool:
    """Of the activations that may stand in a padded network."""
    return activation is not sigmoid and activation is not softplus


def pad(tree: Tree, like: Tree) -> Tree:
    """Arrays with zeros behind them, of the shapes of those in `like`."""

    def one(a: Array, wide: Any) -> Array:
        return jnp.pad(a, [(0, more - size) for size, more in zip(a.shape, wide.shape, strict=True)])

    return jax.tree.map(one, tree, like)


def cut(tree: Tree, like: Tree) -> Tree:
    """Arrays less what lies beyond the shapes of those in `like`."""

    def one(a: Any, narrow: Any) -> Any:
        return a if a.shape == narrow.shape else a[tuple(slice(size) for size in narrow.shape)]

    return jax.tree.map(one, tree, like)

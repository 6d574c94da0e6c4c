"""What is kept of the outputs of a chunk, and how that of two rows becomes one: `reduce` and `combine`."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnn import arguments
from fnn.types import Array, ShapeError, Tree


def check_functions(reduce: object, combine: object) -> None:
    """Raise a TypeError where these are given, and are no functions of one thing and of two."""
    if reduce is not None:
        arguments.function("reduce", reduce, 1, "a function of the outputs of a chunk", "Pass jax.nn.softmax, say.")
    if combine is not None:
        arguments.function("combine", combine, 2, "a function of two things", "Pass jnp.add, say.")


def check_row_axis(made: Tree, rows: int, reduce: object) -> None:
    """What is kept of a chunk's outputs is one thing per row."""
    for leaf in jax.tree.leaves(made):
        if leaf.shape[:1] != (rows,):
            raise ShapeError(
                f"{'outputs' if reduce is None else 'reduce'}: expected one thing per row, shape ({rows}, ...), got "
                f"{leaf.shape}. Reduce over the outputs of a row; rows are put together by combine=jnp.add."
            )


def require_arrays(name: str, made: Tree) -> Tree:
    """What a function returned, a tree of arrays of JAX."""
    leaves = jax.tree.leaves(made, is_leaf=lambda leaf: leaf is None)
    for leaf in leaves:
        if not isinstance(leaf, jax.Array):
            numpy = isinstance(leaf, (np.ndarray, np.generic))
            got = "one of NumPy" if numpy else arguments.describe_thing(leaf)
            raise TypeError(f"{name}: expected an array of JAX, got {got}. Use jnp in it, and return an array.")
    if not leaves:
        raise TypeError(f"{name}: expected an array, got {arguments.describe_thing(made)}. Return one.")
    return made


def _combine_two(combine: Callable[[Tree, Tree], Tree], left: Tree, right: Tree) -> Tree:
    made = require_arrays("combine", arguments.call("combine", combine, left, right))
    structures: list[Any] = [jax.tree.structure(tree) for tree in (left, made)]
    shapes = [[a.shape for a in jax.tree.leaves(tree)] for tree in (left, made)]
    if structures[0] != structures[1] or shapes[0] != shapes[1]:
        raise ShapeError(f"combine: expected a thing like the two, {shapes[0]}, got {shapes[1]}. Return jnp.add, say.")
    return made


def combine_rows(combine: Callable[[Tree, Tree], Tree], values: Tree, count: Array) -> Tree:
    """The first `count` rows made one, by halves; where only one of a pair is real it is taken as it is."""
    rows = jax.tree.leaves(values)[0].shape[0]
    real = jnp.arange(rows, dtype=jnp.int32) < count
    while rows > 1:
        half = rows // 2
        pairs = [jax.tree.map(lambda a, k=k: a[k : 2 * half : 2], (values, real)) for k in (0, 1)]  # noqa: B023
        (left, _), (right, both) = pairs  # rows that are real come first
        joined = jax.tree.map(
            lambda new, old, both=both: jnp.where(both.reshape(-1, *[1] * (old.ndim - 1)), new, old),
            jax.vmap(lambda a, b: _combine_two(combine, a, b))(left, right),
            left,
        )
        rest = jax.tree.map(lambda a, half=half: a[2 * half :], (values, real))
        values, real = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), (joined, pairs[0][1]), rest)
        rows -= half
    return jax.tree.map(lambda a: a[0], values)

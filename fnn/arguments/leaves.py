"""Rows that lie in several arrays with one row axis, a dict or a tuple of arrays; their leaves by name, their shapes.

A single array is a tree of one leaf: every function here takes one too, and leaves it as it is.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fnn.arguments.arrays import as_array
from fnn.arguments.sparse import is_sparse
from fnn.arguments.values import describe_thing
from fnn.types import HasShape, Shape, ShapeError, Tree


def is_several(value: object) -> bool:
    """Whether this is a dict or a tuple of arrays. A tuple of numbers or of lists is one array, as a list is.

    >>> import numpy as np
    >>> from fnn.arguments.leaves import is_several
    >>> [is_several(v) for v in ({"age": [1.0]}, (np.zeros(2), np.zeros((2, 3))), ([1.0], [2.0]), [np.zeros(2)])]
    [True, True, False, False]
    """
    if isinstance(value, tuple):
        return any(is_several(part) or len(getattr(part, "shape", ())) > 0 for part in value)
    return isinstance(value, dict) and not is_sparse(value)  # the matrix of SciPy that is a dict of its places


def map_leaves(name: str, function: Callable[[str, Any], Any], value: Any) -> Tree:
    """A tree of plain dicts and tuples with `function(name of the leaf, leaf)` in the place of each array.

    Raises:
        TypeError: a key is no text.
        ValueError: a dict is empty.

    >>> from fnn.arguments.leaves import map_leaves
    >>> map_leaves("x", lambda name, leaf: name, {"age": 1, "pixels": ({"left": 2}, 3)})
    {'age': 'x["age"]', 'pixels': ({'left': 'x["pixels"][0]["left"]'}, 'x["pixels"][1]')}
    """
    if not is_several(value):
        return function(name, value)
    if isinstance(value, dict):
        if not value:
            raise ValueError(f"{name}: expected at least one array, got an empty dict. Pass arrays by their names.")
        for key in value:
            if not isinstance(key, str) or not key:
                got = describe_thing(key)
                raise TypeError(f"{name}: expected text as keys, got {got}. Name each array: {{'age': …}}.")
        return {key: map_leaves(f'{name}["{key}"]', function, part) for key, part in value.items()}
    return tuple(map_leaves(f"{name}[{i}]", function, part) for i, part in enumerate(value))


def row_arrays(name: str, value: Any, what: str = "real numbers") -> Tree:
    """A value as an array of JAX; of a dict or a tuple of arrays as one of these.

    >>> from fnn.arguments.leaves import row_arrays
    >>> row_arrays("x", {"age": [1.0]})
    {'age': Array([1.], dtype=float32)}
    """
    if not is_several(value):
        return as_array(name, value, what)
    return map_leaves(name, lambda leaf, part: as_array(leaf, part, what), value)


def named_leaves(name: str, tree: Tree) -> dict[str, Any]:
    """The leaves of a tree of arrays by name, such as `x["age"]`, in the order of `jax.tree.leaves`. None is a leaf.

    >>> from fnn.arguments.leaves import named_leaves
    >>> named_leaves("x", {"b": (1, 2), "a": 3})
    {'x["a"]': 3, 'x["b"][0]': 1, 'x["b"][1]': 2}
    """
    found: dict[str, Any] = {}
    for way, leaf in jax.tree_util.tree_flatten_with_path(tree, is_leaf=lambda leaf: leaf is None)[0]:
        keys = [getattr(step, "key", getattr(step, "idx", None)) for step in way]
        found[name + "".join(f'["{key}"]' if isinstance(key, str) else f"[{key}]" for key in keys)] = leaf
    return found


def leaf_name(name: str, place: object) -> str:
    """What messages call the part at a key of a dict, or at a place of a tuple.

    >>> from fnn.arguments.leaves import leaf_name
    >>> leaf_name("x", "age"), leaf_name("x", 0)
    ('x["age"]', 'x[0]')
    """
    return f'{name}["{place}"]' if isinstance(place, str) else f"{name}[{place}]"


def row_count(tree: Tree) -> int:
    """How many rows there are: the length of the first axis, which all leaves have in common."""
    count: int = jax.tree.leaves(tree)[0].shape[0]
    return count


def row_size(tree: Tree) -> int:
    """How many numbers a row has, in all leaves together.

    >>> import numpy as np
    >>> from fnn.arguments.leaves import row_size
    >>> row_size({"image": np.zeros((5, 8, 8)), "age": np.zeros(5)})
    65
    """
    return sum(int(np.prod(a.shape[1:])) for a in jax.tree.leaves(tree))


def some_rows(tree: Tree, count: int) -> Tree:
    """The shapes and dtypes of so many rows like these."""
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct((count, *a.shape[1:]), a.dtype), tree)


# ---- shapes of one example: a tuple of whole numbers for each leaf


def example_shape(tree: Tree) -> Shape:
    """The shape of one example: a tuple; of several arrays a tree of tuples.

    >>> import numpy as np
    >>> from fnn.arguments.leaves import example_shape
    >>> example_shape(np.zeros((5, 3))), example_shape({"image": np.zeros((5, 8, 8)), "age": np.zeros(5)})
    ((3,), {'age': (), 'image': (8, 8)})
    """
    shape: Shape = jax.tree.map(lambda a: tuple(a.shape[1:]), tree)
    return shape


def is_shape(value: object) -> bool:
    """Whether this is the shape of one array: a tuple of whole numbers.

    >>> from fnn.arguments.leaves import is_shape
    >>> is_shape((8, 8)), is_shape(()), is_shape(((8, 8), (3,)))
    (True, True, False)
    """
    return isinstance(value, tuple) and all(isinstance(n, (int, np.integer)) for n in value)


def shape_leaves(shape: Shape) -> list[Shape]:
    """The shapes in a tree of shapes."""
    found: list[Shape] = jax.tree.leaves(shape, is_leaf=is_shape)
    return found


def map_shapes(function: Callable[..., Any], shape: Shape) -> Tree:
    """The tree with `function(shape)` in the place of each shape."""
    return jax.tree.map(function, shape, is_leaf=is_shape)


class NamedShapes(NamedTuple):
    """Shapes by name as a memory can be asked for them: a dict has no hash."""

    items: tuple[tuple[str, Any], ...]


def hashable_shape(shape: Shape) -> Any:
    """A shape, or a tree of shapes, as tuples all the way down.

    >>> from fnn.arguments.leaves import hashable_shape, shape_again
    >>> shapes = {"age": (), "pixels": ((8, 8), (3,))}
    >>> isinstance(hash(hashable_shape(shapes)), int), shape_again(hashable_shape(shapes)) == shapes
    (True, True)
    """
    if isinstance(shape, dict):
        return NamedShapes(tuple((name, hashable_shape(shape[name])) for name in sorted(shape)))
    parts: Any = shape
    return tuple(parts) if is_shape(tuple(parts)) else tuple(map(hashable_shape, parts))


def shape_again(hashable: Any) -> Shape:
    """`hashable_shape` backwards."""
    if isinstance(hashable, NamedShapes):
        named: Any = {name: shape_again(shape) for name, shape in hashable.items}
        return named  # type: ignore[no-any-return]
    return tuple(hashable) if is_shape(hashable) else tuple(map(shape_again, hashable))  # type: ignore[arg-type]


def rows_of_shape(shape: Shape, rows: int) -> Tree:
    """Floats in so many rows of examples of this shape: shapes and dtypes."""
    return map_shapes(lambda one: jax.ShapeDtypeStruct((rows, *one), jnp.result_type(float)), shape)


# ---- checked


def check_one_row_axis(name: str, tree: Tree) -> None:
    """Raise a ShapeError unless all leaves have as many rows."""
    leaves = named_leaves(name, tree)
    first = next(iter(leaves))
    count = leaves[first].shape[0]
    for leaf, array in leaves.items():
        if array.shape[0] != count:
            raise ShapeError(
                f"{leaf}: expected {count} rows, as {first} has, got {array.shape[0]}. Pair the arrays row by row; "
                "rows that lie in a tuple are put together by np.stack."
            )


def check_same_tree(name: str, expected: Shape, got: Tree) -> None:
    """Raise a ShapeError unless examples have this shape: the same leaves, each of the same shape.

    Of a single array where a single array is expected nothing is said: the layers know better what they want.
    """
    if is_shape(expected) and not is_several(got):
        return
    wanted = map_shapes(lambda one: jax.ShapeDtypeStruct((1, *one), np.float32), expected)
    known, found = named_leaves(name, wanted), named_leaves(name, got)
    for leaf in [*known, *found]:
        if leaf not in found or leaf not in known:
            got_text, hint = ("none", "Pass it too") if leaf not in found else ("it", "Leave it out")
            what = f"expected the arrays of the training ({', '.join(known)})"
            raise ShapeError(f"{leaf}: {what}, got {got_text} here. {hint}.")
        shape, own = known[leaf].shape[1:], tuple(found[leaf].shape[1:])
        if shape != own:
            raise ShapeError(f"{leaf}: expected examples of shape {shape}, got {own}. Pass what was trained with.")


def check_same_structure(name: str, expected: Tree, got: Tree) -> None:
    """Raise a ShapeError unless a tree has the same leaves as another, whatever they are."""
    structures: list[Any] = [jax.tree.structure(tree) for tree in (expected, got)]
    if structures[0] != structures[1]:
        names = [", ".join(named_leaves("", tree)) or "one array" for tree in (expected, got)]
        raise ShapeError(f"{name}: expected arrays like the outputs ({names[0]}), got {names[1]}. Return these.")


def describe_shape(tree: Tree) -> str:
    """The shapes of a tree of arrays, for messages.

    >>> import numpy as np
    >>> from fnn.arguments.leaves import describe_shape
    >>> print(describe_shape(np.zeros((5, 3))), describe_shape({"age": np.zeros((5, 1))}))
    (5, 3) {'age': (5, 1)}
    """
    return str(jax.tree.map(lambda a: tuple(a.shape), tree))


def as_shape(name: str, value: Any, number: Callable[[Any], int]) -> Shape:
    """The shape of one example from what a user has: a tuple or a list of whole numbers, or a dict or tuple of these.

    Args:
        name: what errors call it.
        value: the shape.
        number: checks one whole number.
    """
    if isinstance(value, dict) and value:
        made: Any = {key: as_shape(f'{name}["{key}"]', part, number) for key, part in value.items()}
        return made  # type: ignore[no-any-return]
    if not isinstance(value, (tuple, list)):
        got = describe_thing(value)
        raise TypeError(f"{name}: expected the shape of one example, got {got}. Pass a tuple, such as (3,).")
    if isinstance(value, tuple) and any(isinstance(part, (tuple, list, dict)) for part in value):
        several: Any = tuple(as_shape(f"{name}[{i}]", part, number) for i, part in enumerate(value))
        return several  # type: ignore[no-any-return]
    return tuple(map(number, value))


def numbers_in(shape: Shape) -> int:
    """How many numbers one example of this shape has."""
    return sum(int(np.prod(one)) for one in shape_leaves(shape))


# ---- the leaves that are floats, which have derivatives


def is_float(leaf: HasShape) -> bool:
    """Whether a leaf holds floats, as opposed to categories and counts."""
    return bool(jnp.issubdtype(leaf.dtype, jnp.floating))


def map_floats(function: Callable[..., Any], tree: Tree) -> Tree:
    """The tree with `function(leaf)` in the place of each leaf of floats, None in that of the others.

    >>> import numpy as np
    >>> from fnn.arguments.leaves import map_floats, with_floats
    >>> x = {"age": np.float32([4.0]), "town": np.int32([7])}
    >>> map_floats(lambda a: a + 1, x)
    {'age': array([5.], dtype=float32), 'town': None}
    >>> with_floats(x, map_floats(lambda a: a + 1, x))
    {'age': array([5.], dtype=float32), 'town': array([7], dtype=int32)}
    """
    return jax.tree.map(lambda leaf: function(leaf) if is_float(leaf) else None, tree)


def with_floats(tree: Tree, floats: Tree) -> Tree:
    """The tree with other floats: `map_floats` backwards."""
    return jax.tree.map(lambda new, old: old if new is None else new, floats, tree, is_leaf=lambda leaf: leaf is None)

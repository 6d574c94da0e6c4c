"""Trees of arrays as named arrays, and back: what a file can hold."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnn.arguments import as_array, call
from fnn.arguments.constants import memoise_constants
from fnn.arguments.leaves import hashable_shape, shape_again
from fnn.types import Array, HasShape, Layer, Params, Shape, ShapeError, State, Tree

MOST_LINES = 100  # of a message that lists what differs


def flatten_named(tree: Tree, prefix: str = "") -> dict[str, Any]:
    """The leaves of a tree by name: the way to a leaf, with slashes (`~1` for a slash in a key, `~0` for `~`).

    Raises:
        TypeError: a leaf is not an array, or is a typed key.

    >>> import numpy as np
    >>> from fnn.arguments.trees import flatten_named
    >>> flatten_named({"params": ({"w": np.zeros(2)}, ())})
    {'params/0/w': array([0., 0.])}
    """
    leaves: dict[str, Any] = {}
    for way, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        name = "/".join([prefix] * bool(prefix) + [_key(step) for step in way])
        if not (hasattr(leaf, "shape") and hasattr(leaf, "dtype")) or jnp.issubdtype(leaf.dtype, jax.dtypes.extended):
            raise TypeError(
                f"{name}: expected an array, got {getattr(leaf, 'dtype', type(leaf).__name__)}. "
                "Use jnp.asarray, and jax.random.key_data for a key."
            )
        if name in leaves:
            raise ValueError(f"{name}: expected one leaf of that name, got two. Rename a key.")
        leaves[name] = leaf
    return leaves


def as_arrays(name: str, tree: Tree, keys: bool = False) -> Tree:
    """A tree of arrays of JAX, or a TypeError that says which leaf is none; with `keys` typed keys stay as they are.

    >>> from fnn.arguments.trees import as_arrays
    >>> as_arrays("params", {"w": "text"})
    Traceback (most recent call last):
    TypeError: params/w: expected real numbers, got str 'text'. Convert them to numbers, classes to 0, 1, ….
    """

    def leaf(path: Any, a: Any) -> Any:
        return a if keys and is_key(a) else as_array("/".join([name, *map(_key, path)]), a)

    made: Tree = jax.tree_util.tree_map_with_path(leaf, tree, is_leaf=lambda a: a is None)
    return made


def map_with_names(function: Callable[[str, Any], Any], tree: Tree, prefix: str = "") -> Tree:
    """The tree with `function(name, leaf)` in the place of each leaf; names as in `flatten_named`.

    >>> from fnn.arguments.trees import map_with_names
    >>> map_with_names(lambda name, leaf: f"{name} is {leaf}", {"w": (1, 2)})
    {'w': ('w/0 is 1', 'w/1 is 2')}
    """

    def leaf(path: Any, a: Any) -> Any:
        return function("/".join([prefix] * bool(prefix) + [_key(step) for step in path]), a)

    made: Tree = jax.tree_util.tree_map_with_path(leaf, tree)
    return made


def is_key(leaf: object) -> bool:
    """Whether it holds typed keys, as `jax.random.key` makes, or is their shape and dtype."""
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def without_keys(tree: Tree) -> Tree:
    """The tree with the numbers of typed keys in their place, which a file can hold; so too of shapes and dtypes.

    >>> import jax
    >>> from fnn.arguments.trees import with_keys, without_keys
    >>> tree = {"noise": jax.random.key(7)}
    >>> print(without_keys(tree), with_keys(without_keys(tree), tree) == tree)
    {'noise': Array([0, 7], dtype=uint32)} True
    """

    def numbers(leaf: Array) -> Array:
        if not is_key(leaf):
            return leaf
        of_shapes = isinstance(leaf, jax.ShapeDtypeStruct)
        return jax.eval_shape(jax.random.key_data, leaf) if of_shapes else jax.random.key_data(leaf)

    return jax.tree.map(numbers, tree)


def with_keys(tree: Tree, like: Tree) -> Tree:
    """`without_keys` backwards: typed keys again where `like` has them."""
    return jax.tree.map(lambda a, b: jax.random.wrap_key_data(a, dtype=b.dtype) if is_key(b) else a, tree, like)


def _key(step: object) -> str:
    return escape(next(getattr(step, kind) for kind in ("name", "idx", "key") if hasattr(step, kind)))


def escape(key: object) -> str:
    """A key as a part of a name, as in RFC 6901."""
    return str(key).replace("~", "~0").replace("/", "~1")


def unflatten_named(like: Tree, leaves: Mapping[str, Any], name: str = "leaves") -> Tree:
    """A tree like `like` (arrays, or their shapes and dtypes), with the values of the leaves of those names.

    Raises:
        ShapeError: leaves are missing or unexpected, or of another shape or dtype; all of them are listed.
        ValueError: 64-bit values, and JAX is not set to hold them.

    >>> import jax
    >>> from fnn.arguments.trees import unflatten_named
    >>> like = {"w": jax.ShapeDtypeStruct((2,), "float32")}
    >>> unflatten_named(like, {"v": jax.numpy.zeros(2)})
    Traceback (most recent call last):
    fnn.ShapeError: leaves: expected those of this program, got 2 that differ:
      w: expected float32(2,), got none
      v: expected none, got float32(2,)
    Use the program that wrote them.
    """
    expected = flatten_named(like)
    check_same_leaves(name, "those of this program", expected, leaves, "Use the program that wrote them.")
    return jax.tree.unflatten(jax.tree.structure(like), [to_jax(n, leaves[n]) for n in expected])


def check_same_leaves(
    name: str, what: str, expected: Mapping[str, Any], got: Mapping[str, Any], hint: str, width: bool = True
) -> None:
    """Raise a ShapeError that lists every leaf that differs; `width=False` allows float16 for float32 and so on."""

    def kind(leaf: HasShape) -> object:
        families = (jnp.bool_, jnp.signedinteger, jnp.unsignedinteger, jnp.floating, jnp.complexfloating)
        return leaf.dtype if width else next(i for i, f in enumerate(families) if jnp.issubdtype(leaf.dtype, f))

    def describe(leaf: HasShape | None) -> str:
        return "none" if leaf is None else f"{leaf.dtype}{tuple(leaf.shape)}"

    lines = []
    for leaf in [*expected, *sorted(got.keys() - expected.keys())]:
        a, b = expected.get(leaf), got.get(leaf)
        if a is None or b is None or tuple(a.shape) != tuple(b.shape) or kind(a) != kind(b):
            lines.append(f"  {leaf}: expected {describe(a)}, got {describe(b)}")
    count = len(lines)
    if count > MOST_LINES:
        lines[MOST_LINES:] = [f"  … and {count - MOST_LINES} more"]
    if lines:
        raise ShapeError("\n".join([f"{name}: expected {what}, got {count} that differ:", *lines, hint]))


def check_fits_network(net: Layer, params: Params, state: State, in_shape: Shape | None, name: str) -> None:
    """Compare leaves with those that the network makes for examples of that shape, where it is known."""
    if in_shape is None:
        return
    shapes, structure = _initial_shapes(net, hashable_shape(in_shape))
    leaves, given = jax.tree.flatten((params, state))
    if given == structure and all(
        a.shape == getattr(b, "shape", None) and a.dtype == getattr(b, "dtype", None)
        for a, b in zip(shapes, leaves, strict=True)
    ):
        return
    made: tuple[Params, State] = jax.tree.unflatten(structure, shapes)
    expected, got = ({"params": p, "state": s} for p, s in (made, (params, state)))
    what, hint = f"the parameters of {net}", "Pass the network that was trained."
    # the width of the numbers is the user's choice: a float32 run may be read where the default is float64
    check_same_leaves(name, what, flatten_named(expected), flatten_named(got), hint, width=False)
    ours: Any = jax.tree.structure(expected)
    theirs: Any = jax.tree.structure(got)
    if ours != theirs:  # a layer without parameters more or less
        raise ShapeError(f"{name}: expected {what}, as {ours}, got {theirs}. {hint}")


@memoise_constants
def _initial_shapes(net: Layer, hashable: Any) -> tuple[list[Any], Any]:
    """Shapes and dtypes of the leaves of parameters and state, and their structure."""
    name, in_shape = f"init of {net}", shape_again(hashable)
    made: tuple[list[Any], Any] = jax.tree.flatten(
        jax.eval_shape(lambda: call(name, net.init, jax.random.key(0), in_shape)[:2])
    )
    return made


def to_jax(name: str, array: HasShape) -> jax.Array:
    """The array on the device, to the same bits; an error where JAX would cut it to 32 bits. A shape stays one."""
    if jax.dtypes.canonicalize_dtype(array.dtype) != array.dtype:
        raise ValueError(
            f"{name}: expected 32-bit numbers, since JAX is set to these, got {array.dtype}. "
            'Run jax.config.update("jax_enable_x64", True) first.'
        )
    if isinstance(array, (jax.Array, jax.ShapeDtypeStruct)):
        return array  # type: ignore[return-value]
    made: jax.Array = jax.device_put(np.array(array))  # compiles nothing; it is ours
    return made

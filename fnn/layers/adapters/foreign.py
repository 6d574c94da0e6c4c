"""What the layers of other libraries share: trees as dicts, rows that fill up a batch, and no rules by hand."""

import importlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from fnn.arguments import as_floats, describe_thing, describe_value
from fnn.factories import note_call
from fnn.layers.adapters.convolutions import use_fast_convolutions
from fnn.layers.passes import no_rules_by_hand
from fnn.types import Array, Cache, DType, DTypeLike, InitFn, Key, Layer, Params, Rows, Shape, State, Train, Tree

Apply = Callable[[Params, State, Array, Key, bool], tuple[Array, State]]  # (params, state, x, key, train) -> y, state


def foreign_layer(
    factory: Callable[..., Layer], arguments: dict[str, Any], name: str, dtype: DType, init: InitFn, apply: Apply
) -> Layer:
    """A layer that remembers the call that makes it, and whose derivative is autodiff's.

    Where the last batch is filled up, copies of its true rows stand in the place of the filling, if the network has a
    state: so no statistics of a batch see anything else than rows of this batch.
    """

    def forward(params: Params, state: State, x: Array, key: Key, train: Train) -> tuple[Array, State, Cache]:
        x = as_floats(name, x) if jnp.issubdtype(dtype, jnp.floating) else x.astype(dtype)  # a run may have made floats
        if isinstance(train, Rows) and jax.tree.leaves(state):
            x = _repeat_true_rows(x, train.mask)
        with jax.numpy_dtype_promotion("standard"):  # their code was written for it
            y, new_state = use_fast_convolutions(
                lambda p, s, x, k: apply(p, s, x, k, bool(train)), params, state, x, key
            )
        return y, new_state, ()

    return note_call(Layer(name, init, forward, no_rules_by_hand(name)), factory, arguments)


def _repeat_true_rows(x: Array, mask: Array) -> Array:
    """`x` with copies of rows of which the mask is True in the place of the others."""
    place = jnp.arange(x.shape[0], dtype=jnp.int32)
    first = jnp.argsort(~mask, stable=True).astype(jnp.int32)  # the true rows, then the others
    count = jnp.maximum(mask.sum(dtype=jnp.int32), 1)
    return x[jnp.where(mask, place, first[place % count])]


def import_library(name: str, module: str, package: str) -> Any:
    """A module of another library, or an ImportError that says how to install it."""
    try:
        return importlib.import_module(module)
    except ImportError:
        raise ImportError(f"{name}: {package} is not installed. Run: pip install {package}") from None


def refuse(name: str, what: str, value: object, hint: str) -> TypeError:
    """The error for something that is no network of this library."""
    return TypeError(f"{name}: expected {what}, got {describe_thing(value)}. {hint}")


def example(in_shape: Shape, dtype: DType) -> Array:
    """A batch of one example, of zeros, to start a network with."""
    return jnp.zeros((1, *in_shape), jnp.result_type(float) if jnp.issubdtype(dtype, jnp.floating) else dtype)


def output_shape(apply: Apply, params: Params, state: State, x: Array) -> Shape:
    """The shape of one example of the outputs; nothing is computed."""
    with jax.numpy_dtype_promotion("standard"):
        y = jax.eval_shape(lambda p, s, x: apply(p, s, x, None, False)[0], params, state, x)
    shape: Shape = y.shape[1:]
    return shape


def input_dtype(name: str, dtype: DTypeLike) -> DType:
    """The dtype of the inputs: real numbers or whole ones."""
    try:
        known = jnp.dtype(dtype) if isinstance(dtype, (str, type, jnp.dtype)) else None
    except TypeError:
        known = None
    if known is None or not (jnp.issubdtype(known, jnp.floating) or jnp.issubdtype(known, jnp.integer)):
        got = describe_value(dtype)
        raise TypeError(f"{name}: expected in_dtype to be a dtype of real or whole numbers, got {got}. Write 'int32'.")
    return known


# ---- their trees as dicts, which files and optimizers take


def to_dicts(tree: Tree) -> dict[str, Any]:
    """The leaves of any tree as dicts in dicts, by their names on the way.

    >>> from fnn.layers.adapters.foreign import to_dicts
    >>> to_dicts([{"w": 1.0}, {"w": 2.0}])
    {'0': {'w': 1.0}, '1': {'w': 2.0}}
    """
    made: dict[str, Any] = {}
    for path, leaf in jax.tree.leaves_with_path(tree):
        *way, last = _names(path)
        place = made
        for name in way:
            place = place.setdefault(name, {})
        place[last] = leaf
    return made


def from_dicts(dicts: dict[str, Any], like: Tree) -> Tree:
    """`to_dicts` backwards, for a tree like this one; what the dicts have besides is left out."""

    def find(path: Sequence[object]) -> Any:
        place: Any = dicts
        for name in _names(path):
            place = place[name]
        return place

    return jax.tree.map_with_path(lambda path, leaf: find(path), like)


def _names(path: Sequence[object]) -> list[str]:
    """The names on the way to a leaf; the `value` of a variable of Flax has none of its own."""
    names = [next(getattr(step, kind) for kind in ("name", "idx", "key") if hasattr(step, kind)) for step in path]
    shown = [str(name) for name in names]
    return shown[:-1] if len(shown) > 1 and shown[-1] == "value" else shown

"""Which parameters are weights, those that a penalty makes small: not biases, nor the scale and offset of a
normalisation, nor the slopes of a prelu. Source document 0."""

from collections.abc import Callable, Sequence
from typing import Any

import jax

from fnn.arguments import call, describe_value, function
from fnn.arguments.trees import as_arrays
from fnn.types import Params, Tree

Mask = Callable[[Params], Any] | None
EXEMPT = ("b", "bias", "scale", "offset")  # "bias" is what Flax and Equinox call it
SLOPE = "a"  # of a prelu, which has no other parameter: your own layer may call a weight so


def weight_mask(params: Params, mask: Mask = None) -> Tree:
    """A pytree of bools like `params`: True for what is a weight.

    Args:
        params: a pytree of arrays.
        mask: None, and all count but those named "b", "bias", "scale" or "offset" (the last key on their path), and
            an "a" that is the only parameter of its layer, a prelu's slopes; or a function of `params` that returns
            such a pytree, as optax's masks are.

    Raises:
        TypeError, ValueError: the mask is no function, or returns something else.

    >>> from fnn.penalties.masks import weight_mask
    >>> params = ({"b": 2.0, "w": 1.0}, (), {"w": 3.0})
    >>> weight_mask(params)
    ({'b': False, 'w': True}, (), {'w': True})
    >>> weight_mask(params, mask=lambda params: ({"b": True, "w": True}, (), {"w": False}))
    ({'b': True, 'w': True}, (), {'w': False})
    """
    if mask is None:
        return _all_but_exempt(params)
    wanted, hint = "a function of the parameters", "Write lambda params: …."
    if not callable(mask):
        raise TypeError(f"mask: expected {wanted}, got {type(mask).__name__}. {hint}")
    marks = call("mask", function("mask", mask, 1, wanted, hint), params)
    wanted, got = _structure(params), _structure(marks)
    if got != wanted:
        raise ValueError(
            f"mask: expected a pytree like the parameters, {wanted}, got {got}. "
            "Use jax.tree.map or jax.tree.map_with_path in it."
        )
    for mark in jax.tree.leaves(marks):
        if not isinstance(mark, bool):
            raise TypeError(f"mask: expected True or False for each array, got {describe_value(mark)}. Return bools.")
    return marks


def _all_but_exempt(params: Params) -> Tree:
    def mark(path: Sequence[object], part: Tree) -> Tree:
        return {SLOPE: False} if _is_slopes(part) else not path or _name(path[-1]) not in EXEMPT

    return jax.tree.map_with_path(mark, params, is_leaf=_is_slopes)


def _is_slopes(part: object) -> bool:
    return isinstance(part, dict) and set(part) == {SLOPE} and jax.tree_util.all_leaves([part[SLOPE]])


def map_weights(params: Params, mask: Mask, f: Callable[..., Any], otherwise: Callable[..., Any], *more: Tree) -> Tree:
    """`f` of each weight, `otherwise` of each other array; and of their like in more pytrees."""
    return jax.tree.map(
        lambda counts, *arrays: f(*arrays) if counts else otherwise(*arrays),
        weight_mask(params, mask),
        as_arrays("params", params),
        *more,
    )


def _structure(tree: Tree) -> jax.tree_util.PyTreeDef:
    return jax.tree.structure(tree)


def _name(key: object) -> object:
    return getattr(key, "key", getattr(key, "name", None))

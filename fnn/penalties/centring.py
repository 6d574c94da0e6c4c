"""Coordinates in which the cost of a linear model bends much the same in all directions: inputs centred, bias scaled.

Counts of words are never below 0, so all weights together move all outputs, as the bias does. In that one direction
the cost bends far more than in all others, and as it decides the step size, the others wait for it. A model of weights
`w` and a bias `b`, `y = x w + b`, is the same as `y = (x - m) w + v/s` with::

    v = s (b + m w)        and so        ∂J/∂w at fixed v = ∂J/∂w - m ∂J/∂b,    ∂J/∂v = ∂J/∂b / s

for any numbers `m`, one per column, and `s`. With the columns' means as `m` the one direction is gone, which is what
centring the columns does, as `Lasso` does; sparse ones stay sparse. With `s = √(L_b/L)` the bias bends as the weights.

Both are read off the cost, of whatever loss and penalty: where the bias is turned by a little, `H (0, z)`, the weights'
derivatives turn by `m` times as much as its own. `z` is the direction in which the cost bends the most, by `L_b`.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fnn.penalties.masks import Mask, weight_mask
from fnn.types import Array, Params

ROUNDS = 4  # of power iteration for `L_b`; one is enough where there is one output
Pair = tuple[Array, Array]


class Centring(NamedTuple):
    """`m`, of the shape of one output's weights, and `s`."""

    mean: Array
    scale: Array


def init_centring(params: Params, mask: Mask) -> Centring | None:
    """The coordinates as they are; None where the parameters are not weights (…, features) and a bias (features,).

    >>> import jax.numpy as jnp
    >>> from fnn.penalties.centring import init_centring
    >>> print(init_centring({"w": jnp.ones((3, 2)), "b": jnp.ones(2)}, None).mean)
    [0. 0. 0.]
    """
    marks, leaves = _marks(params, mask), jax.tree.leaves(params)
    if sorted(marks) != [False, True]:
        return None
    w, b = leaves[marks.index(True)], leaves[marks.index(False)]
    if b.ndim != 1 or w.ndim < 2 or w.shape[-1] != b.size:
        return None
    return Centring(jnp.zeros(w.shape[:-1], w.dtype), jnp.ones((), b.dtype))


def find_centring(params: Params, mask: Mask, bend: Callable[[Params], Params]) -> Centring:
    """`m`, and `√L_b` as `s`.

    Args:
        params, mask: whose bias it is.
        bend: the Hessian's product with a direction.
    """
    w, b = pair_of(params, mask)

    def turn(_: int, carry: tuple[Array, Pair]) -> tuple[Array, Pair]:
        z = carry[0]
        by_w, by_b = pair_of(bend(_like(params, mask, jnp.zeros_like(w), z)), mask)
        squared = (by_b * by_b).sum()
        return by_b / jnp.sqrt(jnp.where(squared > 0, squared, 1)), (by_w, by_b)

    z = np.cos(np.arange(b.size))  # any direction that is not that of all outputs alike
    start = jnp.asarray(z / np.sqrt((z * z).sum()), b.dtype), (jnp.zeros_like(w), jnp.zeros_like(b))
    _, (by_w, by_b) = lax.fori_loop(0, 1 if b.size == 1 else ROUNDS, turn, start)
    squared = jnp.square(by_b).sum()
    mean = by_w @ by_b.astype(w.dtype) / jnp.where(squared > 0, squared, 1).astype(w.dtype)
    return Centring(mean, jnp.where(squared > 0, squared, 1) ** 0.25)


def centre_params(held: Centring | None, params: Params, mask: Mask) -> Params:
    """Parameters, or a difference of two, in these coordinates: `(w, v)`; as they are, if there are none."""
    if held is None:
        return params
    w, b = pair_of(params, mask)
    return _like(params, mask, w, held.scale * (b + _along(held, w, b)))


def restore_params(held: Centring | None, params: Params, mask: Mask) -> Params:
    """The way back: `(w, b)`."""
    if held is None:
        return params
    w, v = pair_of(params, mask)
    return _like(params, mask, w, v / held.scale - _along(held, w, v))


def centre_gradient(held: Centring | None, grads: Params, mask: Mask) -> Params:
    """The gradient by `(w, v)`, from that by `(w, b)`."""
    if held is None:
        return grads
    by_w, by_b = pair_of(grads, mask)
    return _like(grads, mask, by_w - held.mean[..., None] * by_b.astype(by_w.dtype), by_b / held.scale)


def pair_of(tree: Params, mask: Mask) -> Pair:
    """The weights and the bias."""
    leaves, at = jax.tree.leaves(tree), _marks(tree, mask).index(True)
    return leaves[at], leaves[1 - at]


def with_weights(tree: Params, mask: Mask, w: Array) -> Params:
    """A tree like this one of these weights, and of a bias of 0."""
    return _like(tree, mask, w, jnp.zeros_like(pair_of(tree, mask)[1]))


def _like(tree: Params, mask: Mask, w: Array, b: Array) -> Params:
    first = _marks(tree, mask)[0]
    return jax.tree.unflatten(jax.tree.structure(tree), (w, b) if first else (b, w))


def _along(held: Centring, w: Array, b: Array) -> Array:
    return jnp.tensordot(held.mean, w, held.mean.ndim).astype(b.dtype)


def _marks(params: Params, mask: Mask) -> list[bool]:
    found: list[bool] = jax.tree.leaves(weight_mask(params, mask))
    return found

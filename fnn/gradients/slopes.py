"""The slope of a cost along directions in the space of its parameters, in ways that know no rule of differentiation."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fnn.gradients.finite_differences import difference, usual_size
from fnn.gradients.interpreters.complex_step import NotAnalytic, complex_step
from fnn.gradients.interpreters.walk import contains
from fnn.types import Array, DTypeLike, Numbers, Params, Tree

EXHAUSTIVE_UP_TO, RANDOM_DIRECTIONS = (
    256,
    16,
)  # a leaf with more numbers than this is looked at along so many random directions


class DirectionalDerivatives(NamedTuple):
    """One entry for each of the directions."""

    by_hand: Array
    noise: Array  # of `by_hand`, where it is known
    exact: Array  # by a complex step; nan where there is none
    kink: Array  # how far it is to the nearest, in units of the direction; nan where nobody knows
    numerical: Array  # nan where differences cannot judge
    error: Array  # of `numerical`, as estimated; inf where every step crosses a kink
    scale: Array  # the size of the numbers that move; 1 where all are 0


class DirectionPlan(NamedTuple):
    """Which directions: for each the point it starts from, the leaf that moves, and how."""

    point: np.ndarray
    leaf: np.ndarray
    number: np.ndarray  # of the direction in its leaf
    random: np.ndarray  # whether it is a random direction, not along the number-th number alone


def directions_plan(
    leaves: list[Any], most: int = EXHAUSTIVE_UP_TO, tries: int = RANDOM_DIRECTIONS, point: int = 0
) -> DirectionPlan:
    """Along every number of a leaf that has at most `most` of them, else along so many random directions (`tries`)."""
    counts = [directions(leaf, most, tries) for leaf in leaves]
    of = np.repeat(np.arange(len(leaves)), counts).astype(np.int32)
    number = np.concatenate([np.arange(n) for n in counts]).astype(np.int32)
    random = np.repeat([leaf.size > most for leaf in leaves], counts)
    return DirectionPlan(np.full_like(of, point), of, number, random)


def directions(leaf: Array, most: int = EXHAUSTIVE_UP_TO, tries: int = RANDOM_DIRECTIONS) -> int:
    """How many directions a leaf is looked at along."""
    return leaf.size if leaf.size <= most else tries


def directional_derivatives(
    costs: Callable[..., Any], points: Params, by_hand: Array, noise: Array, wanted: DirectionPlan, *more: Tree
) -> DirectionalDerivatives:
    """The derivative of the sum of `costs(point, *more)` along each direction that is wanted, one after another.

    Args:
        costs: a pytree of floats to values.
        points, more: pytrees, each leaf with one entry per point on its first axis.
        by_hand, noise: (points, numbers) arrays: the derivative as one long vector, and how uncertain each number is.
        wanted: the directions.
    """

    numbers = jnp.concatenate([p.reshape(len(p), -1).astype(by_hand.dtype) for p in jax.tree.leaves(points)], -1)
    usual = jnp.stack([jax.vmap(usual_size)(p).astype(by_hand.dtype) for p in jax.tree.leaves(points)], -1)

    def along(point: Array, leaf: Array, number: Array, random: Array) -> DirectionalDerivatives:
        at, *rest = jax.tree.map(lambda a: a[point], (points, *more))
        leaves, tree = jax.tree.flatten(at)
        moves = [_direction(p, number, random) * (leaf == j).astype(p.dtype) for j, p in enumerate(leaves)]
        long = jnp.concatenate([jnp.ravel(m).astype(by_hand.dtype) for m in moves])
        cost, direction = (lambda p: costs(p, *rest)), jax.tree.unflatten(tree, moves)
        hand = jnp.where(long != 0, long * by_hand[point], 0).sum()
        uncertain = jnp.sqrt(jnp.square(jnp.where(long != 0, long * noise[point], 0)).sum())
        exact, kink, comparable = _complex_step(cost, at, direction)
        sizes = usual[point, leaf], jnp.where(long != 0, jnp.abs(numbers[point]), 0).max()
        scale = jnp.maximum(*sizes)
        scale = jnp.where(scale > 0, scale, 1.0)
        numerical, error = difference(cost, at, direction, sizes)
        numerical = numerical if comparable else jnp.full_like(numerical, jnp.nan)
        return DirectionalDerivatives(hand, uncertain, exact, kink, numerical, error, scale)

    slopes: DirectionalDerivatives = lax.map(lambda one: along(*one), tuple(map(jnp.asarray, wanted)))
    return slopes


def _direction(leaf: Array, number: Array, random: Array) -> Array:
    """Along one number of a leaf; or a random direction, each number of it in [-1, 1]."""
    place = jnp.arange(leaf.size, dtype=jnp.int32)
    unit = (place == number).astype(leaf.dtype)
    return jnp.where(random, pseudo_random(leaf.size, number, leaf.dtype), unit).reshape(leaf.shape)


def pseudo_random(size: int, seed: Numbers, dtype: DTypeLike) -> Array:
    """So many numbers in [-1, 1): scrambled by an odd multiplier and shifts, as good as random and quick to compile."""
    place = lax.iota(jnp.uint32, size) + jnp.asarray(seed).astype(jnp.uint32) * jnp.uint32(max(size, 1))
    bits = place * jnp.uint32(2654435761)
    bits = (bits ^ (bits >> 15)) * jnp.uint32(2246822519)
    uniform: Array = (bits ^ (bits >> 13)).astype(dtype) / 2.0**31 - 1.0
    return uniform


def _complex_step(cost: Callable[[Any], Any], point: Params, direction: Params) -> tuple[Array, Array, bool]:
    """The slope, how far the nearest kink is, and whether differences alone may judge in the place of the slope.

    They move what `stop_gradient` holds constant, and so are those of another function.
    """
    dtype = jnp.result_type(*jax.tree.leaves(point))
    try:
        found = complex_step(cost, point, direction)
    except NotAnalytic:
        unknown = jnp.full((), jnp.nan, dtype)
        return unknown, unknown, not contains(jax.make_jaxpr(cost)(point).jaxpr, "stop_gradient")
    return found.slope.sum(), found.kink, True

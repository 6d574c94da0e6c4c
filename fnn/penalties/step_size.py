"""The step size of a descent without a learning rate: 1 over the largest curvature of the cost, which it measures.

At the first step the largest eigenvalue of the cost's Hessian is found by power iteration, each round of which takes
about the time of two gradients. For a linear model with squared errors the curvature is the same everywhere; for one
with cross-entropy it is largest where all logits are 0. Of other costs it may grow: at every later step two gradients
that are known anyway, `|g - g'| / |θ - θ'|`, say how large it was on the way, and what was larger is believed.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from fnn.types import Array, Params

ROUNDS = 30  # of power iteration, at most
ENOUGH = 1e-3  # rounds end when the eigenvalue grows by less than this share of itself
MARGIN = 1.02  # an eigenvalue by power iteration is too small, if anything
BEYOND, RAISED = 1.05, 1.2  # a curvature on the way that is so much larger is met by one that is larger still
SEEN = 1e-2  # steps shorter than this share of the parameters say nothing: their gradients differ by rounding


class StepSizeState(NamedTuple):
    """The largest curvature so far, and the last point with its gradient.

    Before the first step `at` is a random direction, from which the power iteration starts.
    """

    curvature: Array
    at: Params
    grads: Params


def init_step_size(params: Params) -> StepSizeState:
    """Before the first step."""
    zeros = jax.tree.map(jnp.zeros_like, params)
    return StepSizeState(jnp.zeros((), jnp.result_type(float)), _random_direction(params), zeros)


def find_step_size(
    state: StepSizeState, first: Array, params: Params, grads: Params, grad_fn: Callable[[Params], Params]
) -> tuple[Array, StepSizeState, Array]:
    """The learning rate of this step, the state after it, and whether the curvature was larger than believed.

    Args:
        state: of the step before.
        first: whether this is the first step.
        params, grads: where the step begins, and the gradient there.
        grad_fn: the gradient at any parameters.
    """
    measured = _largest_eigenvalue(first, state.at, params, grad_fn).astype(state.curvature.dtype)
    way = jax.tree.map(jnp.subtract, params, state.at)
    turn = jax.tree.map(jnp.subtract, grads, state.grads)
    length = norm(way)
    seen = norm(turn) / jnp.where(length > 0, length, 1)
    larger = ~first & (length > SEEN * norm(params)) & (seen > BEYOND * state.curvature) & jnp.isfinite(seen)
    curvature = jnp.where(first, MARGIN * measured, jnp.where(larger, RAISED * seen, state.curvature))
    rate = 1.0 / jnp.where(curvature > 0, curvature, 1.0)
    return rate, StepSizeState(curvature, params, grads), larger


def _largest_eigenvalue(first: Array, start: Params, params: Params, grad_fn: Callable[[Params], Params]) -> Array:
    """By power iteration from the direction `start`, if `first`; else without a round, whatever is mapped over it."""

    def more(carry: tuple[Array, Params, Array, Array]) -> Array:
        rounds, _, value, before = carry
        return first & (rounds < ROUNDS) & (jnp.abs(value - before) > ENOUGH * value)

    def turn(carry: tuple[Array, Params, Array, Array]) -> tuple[Array, Params, Array, Array]:
        rounds, direction, value, _ = carry
        bent = jax.jvp(grad_fn, (params,), (direction,))[1]
        size = norm(bent)
        by = jnp.where(size > 0, size, 1)
        return rounds + 1, jax.tree.map(lambda b: b / by.astype(b.dtype), bent), size, value

    zero = jnp.zeros((), jnp.result_type(float))
    return lax.while_loop(more, turn, (jnp.int32(0), start, zero + 1, zero))[2]


def _random_direction(params: Params) -> Params:
    """Of length 1: the same for all runs."""
    leaves, structure = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(0), max(1, len(leaves)))
    drawn = [jax.random.normal(k, a.shape, a.dtype) for k, a in zip(keys, leaves, strict=False)]
    size = norm(drawn)
    return jax.tree.unflatten(structure, [a / size.astype(a.dtype) for a in drawn])


def norm(tree: Params) -> Array:
    """The Euclidean length of all numbers of a tree."""
    squares = [jnp.square(a.astype(jnp.result_type(float))).sum() for a in jax.tree.leaves(tree)]
    return jnp.sqrt(sum(squares, start=jnp.zeros((), jnp.result_type(float))))

"""The step size of a descent without a learning rate: 1 over the largest curvature of the cost, which it measures.

At the first step the largest eigenvalue of the cost's Hessian is found by Lanczos' method: `ROUNDS` products of the
Hessian with a direction, each of which takes about the time of a gradient. They give a tridiagonal matrix of that
size, whose largest eigenvalue is at most that of the Hessian and close to it (Golub & Van Loan, Matrix Computations,
4th edition, chapter 10). Power iteration comes as close in two to three times as many rounds. Of a linear model it is
that of centred inputs (`fnn.penalties.centring`).

For a linear model with squared errors the curvature is the same everywhere; for one with cross-entropy it is largest
where all logits are 0. Of other costs it may grow: at every later step two gradients that are known anyway,
`|g - g'| / |θ - θ'|`, say how large it was on the way, and what was larger is believed.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.flatten_util import ravel_pytree

from fnn.penalties.centring import (
    Centring,
    centre_gradient,
    centre_params,
    find_centring,
    init_centring,
    pair_of,
    restore_params,
    with_weights,
)
from fnn.penalties.masks import Mask
from fnn.types import Array, Params

ROUNDS = 12  # of Lanczos' method: the eigenvalue is then 1 to 2 % too small where the largest ones are close together
MARGIN = 1.02  # so much larger than the measured eigenvalue is the curvature that is believed
BEYOND, RAISED = 1.05, 1.2  # a curvature on the way that is so much larger is met by one that is larger still
SEEN = 1e-2  # steps shorter than this share of the parameters say nothing: their gradients differ by rounding


class StepSizeState(NamedTuple):
    """The largest curvature so far, the last point with its gradient, and of a linear model how it is centred.

    Before the first step `at` is a random direction, from which Lanczos' method starts.
    """

    curvature: Array
    at: Params
    grads: Params
    centring: Centring | None


def init_step_size(params: Params, mask: Mask) -> StepSizeState:
    """Before the first step."""
    zeros, none = jax.tree.map(jnp.zeros_like, params), jnp.zeros((), jnp.result_type(float))
    return StepSizeState(none, _random_direction(params), zeros, init_centring(params, mask))


def find_step_size(
    state: StepSizeState, first: Array, params: Params, grads: Params, grad_fn: Callable[[Params], Params], mask: Mask
) -> tuple[Array, StepSizeState, Array]:
    """The learning rate of this step, the state after it, and whether the curvature was larger than believed.

    Args:
        state: of the step before.
        first: whether this is the first step.
        params, grads: where the step begins, and the gradient there.
        grad_fn: the gradient at any parameters.
        mask: which parameters are weights.
    """
    believed, centring = _measure_first(first, state, params, grad_fn, mask)
    way = centre_params(centring, jax.tree.map(jnp.subtract, params, state.at), mask)
    turn = centre_gradient(centring, jax.tree.map(jnp.subtract, grads, state.grads), mask)
    length = norm(way)
    seen = norm(turn) / jnp.where(length > 0, length, 1)
    far = length > SEEN * norm(centre_params(centring, params, mask))
    larger = ~first & far & (seen > BEYOND * believed) & jnp.isfinite(seen)
    curvature = jnp.where(larger, RAISED * seen, believed)
    rate = 1.0 / jnp.where(curvature > 0, curvature, 1.0)
    return rate, StepSizeState(curvature, params, grads, centring), larger


def _measure_first(
    first: Array, state: StepSizeState, params: Params, grad_fn: Callable[[Params], Params], mask: Mask
) -> tuple[Array, Centring | None]:
    """The curvature and the coordinates measured here, if `first`; else those of before, without any work."""

    def bend(direction: Params) -> Params:
        return jax.jvp(grad_fn, (params,), (direction,))[1]

    def measure(_: tuple[Array, Array, Centring | None]) -> tuple[Array, Array, Centring | None]:
        if state.centring is None:
            start, unravel = ravel_pytree(state.at)
            largest = _largest_eigenvalue(start, lambda flat: ravel_pytree(bend(unravel(flat)))[0])
            return jnp.zeros_like(first), MARGIN * largest.astype(state.curvature.dtype), None
        found = find_centring(params, mask, bend)
        start = pair_of(state.at, mask)[0]

        def bend_weights(w: Array) -> Array:
            by = bend(restore_params(found, with_weights(params, mask, w), mask))
            return pair_of(centre_gradient(found, by, mask), mask)[0]

        largest = _largest_eigenvalue(start, bend_weights)
        scale = found.scale / jnp.sqrt(jnp.where(largest > 0, largest, 1)).astype(found.scale.dtype)
        return jnp.zeros_like(first), MARGIN * largest.astype(state.curvature.dtype), found._replace(scale=scale)

    # a loop of one round, or none: under `vmap` a condition would compute both of its branches at every step
    return lax.while_loop(lambda carry: carry[0], measure, (first, state.curvature, state.centring))[1:]


def _largest_eigenvalue(start: Array, bend: Callable[[Array], Array]) -> Array:
    """Of a symmetric function, by Lanczos' method from the direction `start`: the largest without its sign."""

    def unit(a: Array) -> tuple[Array, Array]:
        size = jnp.sqrt((a * a).sum())
        return a / jnp.where(size > 0, size, 1), size

    def more(carry: tuple[Array, Array, Array], _: None) -> tuple[tuple[Array, Array, Array], tuple[Array, Array]]:
        direction, before, size = carry
        bent = bend(direction) - size * before
        along = (bent * direction).sum()
        following, size = unit(bent - along * direction)
        return (following, direction, size), (along, size)

    first = unit(start)[0]
    carry = first, jnp.zeros_like(first), jnp.zeros((), first.dtype)
    diagonal, beside = lax.scan(more, carry, length=ROUNDS)[1]
    matrix = jnp.diag(diagonal) + jnp.diag(beside[:-1], 1) + jnp.diag(beside[:-1], -1)
    return jnp.abs(jnp.linalg.eigvalsh(matrix.astype(float))).max()


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

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

from fnn.penalties.centring import Centring, centred, centred_gradient, find_centring, init_centring, uncentred
from fnn.penalties.masks import Mask, map_weights
from fnn.types import Array, Params

ROUNDS = 12  # of Lanczos' method: the eigenvalue is then 1 to 2 % too small where the largest ones are close together
MARGIN = 1.02  # so much larger than the measured eigenvalue is the curvature that is believed
BEYOND, RAISED = 1.05, 1.2  # a curvature on the way that is so much larger is met by one that is larger still
SEEN = 1e-2  # steps shorter than this share of the parameters say nothing: their gradients differ by rounding

Bend = Callable[[Params], Params]


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
    way = centred(centring, jax.tree.map(jnp.subtract, params, state.at), mask)
    turn = centred_gradient(centring, jax.tree.map(jnp.subtract, grads, state.grads), mask)
    length = norm(way)
    seen = norm(turn) / jnp.where(length > 0, length, 1)
    far = length > SEEN * norm(centred(centring, params, mask))
    larger = ~first & far & (seen > BEYOND * believed) & jnp.isfinite(seen)
    curvature = jnp.where(larger, RAISED * seen, believed)
    rate = 1.0 / jnp.where(curvature > 0, curvature, 1.0)
    return rate, StepSizeState(curvature, params, grads, centring), larger


def _measure_first(
    first: Array, state: StepSizeState, params: Params, grad_fn: Callable[[Params], Params], mask: Mask
) -> tuple[Array, Centring | None]:
    """The curvature and the coordinates measured here, if `first`; else those of before, without any work."""

    def measure(_: tuple[Array, Array, Centring | None]) -> tuple[Array, Array, Centring | None]:
        bend = jax.linearize(grad_fn, params)[1]
        found = None if state.centring is None else find_centring(params, mask, bend)

        def bend_weights(direction: Params) -> Params:
            """In centred coordinates, where the bias bends by itself."""
            by = centred_gradient(found, bend(uncentred(found, direction, mask)), mask)
            return by if found is None else map_weights(by, mask, lambda w: w, jnp.zeros_like)

        start = state.at if found is None else map_weights(state.at, mask, lambda w: w, jnp.zeros_like)
        largest = MARGIN * _largest_eigenvalue(start, bend_weights).astype(state.curvature.dtype)
        if found is not None:
            root = jnp.sqrt(jnp.where(largest > 0, largest / MARGIN, 1)).astype(found.scale.dtype)
            found = found._replace(scale=found.scale / root)
        return jnp.zeros_like(first), largest, found

    # a loop of one round, or none: under `vmap` a condition would compute both of its branches at every step
    return lax.while_loop(lambda carry: carry[0], measure, (first, state.curvature, state.centring))[1:]


def _largest_eigenvalue(start: Params, bend: Bend) -> Array:
    """By Lanczos' method from the direction `start`."""
    dtype = jnp.result_type(float)

    def dot(a: Params, b: Params) -> Array:
        products = jax.tree.map(lambda a, b: (a.astype(dtype) * b.astype(dtype)).sum(), a, b)
        return sum(jax.tree.leaves(products), start=jnp.zeros((), dtype))

    def scaled(by: Array, a: Params, c: Array, b: Params) -> Params:
        return jax.tree.map(lambda a, b: by.astype(a.dtype) * a + c.astype(b.dtype) * b, a, b)

    def more(carry: tuple[Params, Params, Array], _: None) -> tuple[tuple[Params, Params, Array], tuple[Array, Array]]:
        direction, before, beside = carry
        bent = scaled(jnp.ones_like(beside), bend(direction), -beside, before)
        along = dot(bent, direction)
        rest = scaled(jnp.ones_like(beside), bent, -along, direction)
        size = norm(rest)
        following = jax.tree.map(lambda a: a / jnp.where(size > 0, size, 1).astype(a.dtype), rest)
        return (following, direction, size), (along, size)

    size = norm(start)
    unit = jax.tree.map(lambda a: a / jnp.where(size > 0, size, 1).astype(a.dtype), start)
    carry = unit, jax.tree.map(jnp.zeros_like, unit), jnp.zeros((), dtype)
    _, (diagonal, beside) = lax.scan(more, carry, length=ROUNDS)
    matrix = jnp.diag(diagonal) + jnp.diag(beside[:-1], 1) + jnp.diag(beside[:-1], -1)
    return jnp.abs(jnp.linalg.eigvalsh(matrix)).max()


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

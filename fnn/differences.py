"""Derivatives by differences: a function's values at a few points on either side, and nothing known of its inside."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from fnn.types import Array, Params

# central differences: offsets, weights, and the power of eps that balances truncation against rounding
STENCILS = {2: ((1,), (1 / 2,), 1 / 3), 6: ((1, 2, 3), (3 / 4, -3 / 20, 1 / 60), 1 / 7)}
ONE_SIDED = (-49 / 20, 6.0, -15 / 2, 20 / 3, -15 / 4, 6 / 5, -1 / 6)  # of sixth order, at 0, h, … 6h


def numerical_gradient(
    function: Callable[[Params], Array], params: Params, *, order: int = 6, step: float | None = None
) -> Params:
    """The derivative of a scalar function by central differences, for every single number of a pytree.

    `order=2` is `(f(p+ε) - f(p-ε))/2ε`, document D2's; `order=6` has six points and a far smaller error.

    Args:
        function: a pytree of floating arrays to a scalar.
        params: where.
        order: 2 or 6.
        step: ε; by default several are tried, and the one is taken that agrees best with its neighbour.

    >>> import fnn, jax.numpy as jnp
    >>> print(fnn.numerical_gradient(lambda p: (p["w"] ** 2).sum(), {"w": jnp.array([1.0, -3.0])})["w"].round(2))
    [ 2. -6.]
    """
    if order not in STENCILS:
        raise ValueError(f"order: expected 2 or 6, got {order}. Do choose one of them.")
    leaves, tree = jax.tree.flatten(params)

    def by(i: int, k: Array, params: Params) -> Array:
        unit = (jnp.arange(leaves[i].size, dtype=k.dtype) == k).astype(leaves[i].dtype).reshape(leaves[i].shape)
        moves = [unit if j == i else jnp.zeros_like(leaf) for j, leaf in enumerate(leaves)]
        return difference(function, params, jax.tree.unflatten(tree, moves), order, step)[0]

    def every(params: Params) -> list[Array]:
        return [lax.map(lambda k, i=i: by(i, k, params), jnp.arange(leaf.size)) for i, leaf in enumerate(leaves)]

    grads = jax.jit(every)(params)
    return jax.tree.unflatten(tree, [g.reshape(leaf.shape) for g, leaf in zip(grads, leaves, strict=True)])


def difference(
    function: Callable[[Any], Array], point: Any, direction: Any, order: int = 6, step: float | None = None
) -> tuple[Array, Array]:
    """(the derivative of the sum of `function` along `direction`, an estimate of its error).

    Where the function has several values they are subtracted one by one and summed thereafter, so that a long sum costs
    no digits. Without a given step, five are tried, each a quarter of the one before: of two neighbours that agree
    best, the smaller; how far they are apart, and what the rounding of the values costs, is the estimate. So a function
    that bends sharply is followed, and rounding does not take over where it is flat. With a given step it is 0.
    """
    dtype = jnp.result_type(*jax.tree.leaves(point))
    offsets, factors, _ = STENCILS[order]
    tried = [step] if step is not None else steps(dtype, order)
    by = jnp.asarray([[s * o * h for o in offsets for s in (1, -1)] for h in tried], dtype)

    def moved(by: Array) -> Array:
        return jnp.ravel(function(jax.tree.map(lambda p, d: p + by * d, point, direction)))

    values = jax.vmap(jax.vmap(moved))(by)
    apart = (values[:, ::2] - values[:, 1::2]).sum(-1)
    slopes = apart @ jnp.asarray(factors, values.dtype) / jnp.asarray(tried, values.dtype)
    if len(tried) == 1:
        return slopes[0], jnp.zeros_like(slopes[0])
    changes = jnp.abs(jnp.diff(slopes))
    best = jnp.argmin(changes)
    rounding = jnp.finfo(dtype).eps * jnp.sqrt(jnp.square(values[0, 0]).sum()) / jnp.asarray(tried[1:], values.dtype)
    return slopes[1:][best], changes[best] + rounding[best]


def steps(dtype: Any, order: int = 6) -> list[float]:
    """The steps that are tried, from the largest to the smallest."""
    return [float(jnp.finfo(dtype).eps) ** STENCILS[order][2] / 4**k for k in range(5)]


def one_sided(function: Callable[[Any], Array], point: Any, direction: Any, step: float) -> Array:
    """The derivative of each value of `function` when the point moves along `direction`, and never against it.

    Of sixth order, from the values at 0, h, … 6h, `h` the step. At a kink it is the derivative of the piece that the
    direction leads into.
    """
    values = [function(jax.tree.map(lambda p, d, k=k: p + k * step * d, point, direction)) for k in range(7)]
    rises = jnp.stack([v - values[0] for v in values[1:]])
    return jnp.tensordot(jnp.asarray(ONE_SIDED[1:], rises.dtype), rises, 1) / step

"""Derivatives by differences: a function's values at a few points on either side, and nothing known of its inside."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from fnn import arguments
from fnn.arguments import trees
from fnn.gradients.interpreters.branches import record_branches
from fnn.kernels.matmul import exact_products
from fnn.types import Array, Params, Scalar

# central differences: offsets, weights, and the power of eps that balances truncation against rounding
STENCILS = {2: ((1,), (1 / 2,), 1 / 3), 6: ((1, 2, 3), (3 / 4, -3 / 20, 1 / 60), 1 / 7)}
LOWER = {2: (0.0,), 6: (2 / 3, -1 / 12, 0.0)}  # the weights of the next lower order: how far off it is tells the error
ONE_SIDED = (-49 / 20, 6.0, -15 / 2, 20 / 3, -15 / 4, 6 / 5, -1 / 6)  # of sixth order, at 0, h, … 6h
TRIED = 6  # steps
NEAR = 1e-2  # of a number that is 0: how small the steps may be, beside the leaf's other numbers
ALONE = 1e-4  # likewise where all of the leaf is 0, and its size unknown


@arguments.explain_call
def numerical_gradient(
    function: Callable[[Params], Array], params: Params, *, order: int = 6, step: Scalar | None = None
) -> Params:
    """The derivative of a scalar function by central differences, for every single number of a pytree.

    `order=2` is `(f(p+ε) - f(p-ε))/2ε`, source document 2's; `order=6` has six points and a far smaller error.

    Args:
        function: a pytree of floating arrays to a scalar.
        params: where.
        order: 2 or 6.
        step: ε; by default several are tried, measured by the size of the number itself, and the one is taken
            whose estimated error is least.

    Returns:
        A pytree like `params`; nan where `step` is lost in the rounding of the number that it is added to.

    >>> import fnn, jax.numpy as jnp
    >>> print(fnn.numerical_gradient(lambda p: (p["w"] ** 2).sum(), {"w": jnp.array([1.0, -3.0])})["w"].round(2))
    [ 2. -6.]
    """
    if not isinstance(order, int) or order not in STENCILS:
        raise ValueError(f"order: expected 2 or 6, got {arguments.describe_value(order)}. Choose one of them.")
    hint = "Pass a function of the parameters that returns one number."
    arguments.function("function", function, 1, "a function of the parameters", hint)
    if step is not None:
        known = arguments.scalar("numerical_gradient", "a step", step, "Pass None to have it chosen", positive=True)
        step = known if isinstance(known, jax.core.Tracer) else arguments.number("step", known, 0)
    params = trees.as_arrays("params", params)
    leaves, tree = jax.tree.flatten(params)
    if not leaves or not all(jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in leaves):
        got = ", ".join(str(leaf.dtype) for leaf in leaves) or "none"
        raise TypeError(f"params: expected floating arrays, got {got}. Convert them to a floating dtype.")
    jax.eval_shape(lambda params: _one_number(arguments.call("function", function, params)), params)

    def by(i: int, k: Array, params: Params) -> Array:
        unit = (jnp.arange(leaves[i].size, dtype=k.dtype) == k).astype(leaves[i].dtype).reshape(leaves[i].shape)
        moves = [unit if j == i else jnp.zeros_like(leaf) for j, leaf in enumerate(leaves)]
        sizes = usual_size(leaves[i]), jnp.abs(leaves[i].ravel()[k])
        return difference(function, params, jax.tree.unflatten(tree, moves), sizes, order, step).slope

    def every(params: Params) -> list[Array]:
        return [lax.map(lambda k, i=i: by(i, k, params), jnp.arange(leaf.size)) for i, leaf in enumerate(leaves)]

    with exact_products():
        grads = jax.jit(every)(params)
    return jax.tree.unflatten(tree, [g.reshape(leaf.shape) for g, leaf in zip(grads, leaves, strict=True)])


def _one_number(value: object) -> Array:
    made = arguments.array_of("function", value, "one that returns one floating number")
    if made.shape:
        raise TypeError(f"function: expected one that returns one number, got {made.shape}. Take the sum in it.")
    return made


class Difference(NamedTuple):
    """The derivative of the sum of a function along a direction, and what is known of its error."""

    slope: Array
    error: Array  # as estimated; inf where every step crosses a kink


def difference(
    function: Callable[[Any], Array],
    point: Params,
    direction: Params,
    sizes: tuple[Array, Array],
    order: int = 6,
    step: Scalar | None = None,
) -> Difference:
    """The derivative of the sum of `function` along `direction`.

    Where the function has several values they are subtracted one by one and summed thereafter, so that a long sum costs
    no digits. Without a given step, six are tried, from a share of `sizes` downwards: how large the numbers of the leaf
    usually are, and the largest of those that move. The error of each is estimated: by how far the next lower order is
    from it, or the next larger step, whichever is nearer; by how far it is from a smaller step, beyond its rounding;
    and by what the rounding of the values costs. The step with the least is taken, of those that cross no kink if there
    are any. So a function that bends sharply is followed, and rounding does not take over where it is flat. With a
    given step the error is 0, and kinks are not looked for.
    """
    dtype = jnp.result_type(*jax.tree.leaves(point))
    offsets, factors, _ = STENCILS[order]
    tried = (
        jnp.full(1, step, dtype) if step is not None else _steps(sizes[0].astype(dtype), sizes[1].astype(dtype), order)
    )
    signed = jnp.asarray([s * o for o in offsets for s in (1, -1)], dtype)

    def move(by: Array) -> Params:
        return jax.tree.map(lambda p, d: p + by.astype(d.dtype) * d, point, direction)

    def value(by: Array) -> tuple[Array, Array]:
        values, branch = record_branches(function)(move(by)) if step is None else (function(move(by)), by)
        return jnp.ravel(values), branch

    by = jnp.append((tried[:, None] * signed).ravel(), jnp.zeros((), dtype))  # the last: where it stands
    values, branches = jax.vmap(value)(by)
    here, values = values[-1], values[:-1].reshape(len(tried), len(signed), -1)
    apart = (values[:, ::2] - values[:, 1::2]).sum(-1)
    slopes = apart @ jnp.asarray(factors, values.dtype) / tried.astype(values.dtype)
    if step is not None:
        return Difference(jnp.where(_is_lost(point, move(tried[0]), direction), jnp.nan, slopes[0]), 0.0 * here[0])
    crosses = (branches[:-1].reshape(len(tried), -1) != branches[-1]).any(-1)
    truncation = jnp.abs(slopes - apart @ jnp.asarray(LOWER[order], values.dtype) / tried.astype(values.dtype))
    neighbour = jnp.abs(jnp.diff(slopes, prepend=jnp.inf))
    size = jnp.sqrt(jnp.square(here).sum()) + jnp.abs(slopes) * jnp.maximum(*sizes).astype(values.dtype)
    rounding = float(jnp.finfo(dtype).eps) * size / tried.astype(values.dtype)  # of the values and of the number moved
    errors = jnp.maximum(jnp.minimum(truncation, neighbour), _beyond(slopes, 10 * rounding, crosses)) + rounding
    # where all of a leaf is 0 nobody knows its scale: every step may leap over a bend that only a small one would see
    errors = jnp.maximum(errors, jnp.where(sizes[0] > 0, 0.0, rounding[0] / ALONE))
    errors = jnp.where(jnp.isfinite(errors), errors, jnp.inf)
    best = jnp.argmin(jnp.where(crosses & ~crosses.all(), jnp.inf, errors))
    return Difference(slopes[best], jnp.where(crosses.all(), jnp.inf, errors[best]))


def _beyond(slopes: Array, rounding: Array, crosses: Array) -> Array:
    """How far a slope is from one of a smaller step, beyond the latter's rounding: a step may leap over everything."""
    later = jnp.triu(jnp.ones((len(slopes),) * 2, bool), 1) & ~crosses
    apart = jnp.abs(slopes[:, None] - slopes) - rounding
    return jnp.where(later & jnp.isfinite(apart), apart, 0.0).max(1, initial=0.0)


def usual_size(leaf: Array) -> Array:
    """How large the numbers of a leaf usually are: the root of their mean square."""
    top = jnp.abs(leaf).max(initial=0)
    unit = jnp.where(top > 0, top, 1)  # so that squares of large and of tiny numbers exist
    return unit * jnp.sqrt(jnp.square(leaf / unit).mean()) if leaf.size else top


def _steps(usual: Array, own: Array, order: int) -> Array:
    """The steps that are tried, from the largest to the smallest: powers of two, which add to a number exactly."""
    dtype = own.dtype
    scale = jnp.maximum(usual, own)
    scale = jnp.where(scale > 0, scale, 1)
    smallest = jnp.where(own > 0, own, scale * jnp.where(usual > 0, NEAR, ALONE))
    largest = scale * float(jnp.finfo(dtype).eps) ** STENCILS[order][2]
    ratio = jnp.maximum(4, (256 * (scale / smallest)) ** (1 / (TRIED - 1)))
    return lax.reduce_precision(largest / ratio ** jnp.arange(TRIED, dtype=dtype), jnp.finfo(dtype).nexp, 0)


def _is_lost(point: Params, moved: Params, direction: Params) -> Array:
    """Whether a number that was to move did not."""
    stays = jax.tree.map(lambda p, m, d: ((d != 0) & (p == m)).any(), point, moved, direction)
    return jnp.stack(jax.tree.leaves(stays)).any()


def one_sided_difference(function: Callable[[Any], Array], point: Params, direction: Params, step: float) -> Array:
    """The derivative of each value of `function` when the point moves along `direction`, and never against it.

    Of sixth order, from the values at 0, h, … 6h, `h` the step. At a kink it is the derivative of the piece that the
    direction leads into.
    """
    values = [function(jax.tree.map(lambda p, d, k=k: p + k * step * d, point, direction)) for k in range(7)]
    rises = jnp.stack([v - values[0] for v in values[1:]])
    return jnp.tensordot(jnp.asarray(ONE_SIDED[1:], rises.dtype), rises, 1) / step

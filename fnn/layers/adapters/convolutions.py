"""Convolutions of other libraries' networks, computed as fnn's own are.

On a CPU XLA's convolutions take about twenty times as long inside a compiled loop, such as a run, as outside. So the
program of a network is gone through, and each convolution of two axes in it becomes fnn's, which is the same to
rounding. Other convolutions (of one or three axes, transposed ones, those in a loop of the network's own) stay.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import Literal

from fnn.kernels import convolution
from fnn.kernels.convolution import Convolution
from fnn.kernels.windows import Windows
from fnn.types import Array, Equation, Jaxpr, Tree

CALLS = {"pjit", "jit", "closed_call"}  # equations that only call another program


def use_fast_convolutions(function: Callable[..., Tree], *arguments: Tree) -> Tree:
    """`function(*arguments)`, on a CPU with fnn's convolutions in it.

    >>> import jax.numpy as jnp
    >>> from jax import lax
    >>> from fnn.layers.adapters.convolutions import use_fast_convolutions
    >>> slide = lambda x, w: lax.conv(x, w, (1, 1), "SAME")
    >>> print(use_fast_convolutions(slide, jnp.ones((1, 1, 2, 2)), jnp.ones((1, 1, 3, 3))).ravel())
    [4. 4. 4. 4.]
    """
    if jax.default_backend() != "cpu":
        return function(*arguments)
    closed, shapes = jax.make_jaxpr(function, return_shape=True)(*arguments)
    if not _has_convolutions(closed.jaxpr):
        return function(*arguments)
    outputs = _evaluate(closed.jaxpr, closed.consts, jax.tree.leaves(arguments))
    return jax.tree.unflatten(jax.tree.structure(shapes), outputs)


def _has_convolutions(jaxpr: Jaxpr) -> bool:
    return any(_is_ours(equation) or _has_inner(equation) for equation in jaxpr.eqns)


def _has_inner(equation: Equation) -> bool:
    return equation.primitive.name in CALLS and _has_convolutions(_inner(equation).jaxpr)


def _inner(equation: Equation) -> Any:
    return equation.params.get("jaxpr") or equation.params["call_jaxpr"]


def _evaluate(jaxpr: Jaxpr, constants: Sequence[Any], arguments: Sequence[Any]) -> list[Any]:
    """What a program computes, equation by equation."""
    values: dict[Any, Any] = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*constants, *arguments], strict=True))

    def read(place: Any) -> Any:
        return place.val if isinstance(place, Literal) else values[place]

    for equation in jaxpr.eqns:
        given = [read(place) for place in equation.invars]
        if _is_ours(equation):
            made = [_convolve(given[0], given[1], equation.params)]
        elif _has_inner(equation):
            made = _evaluate(_inner(equation).jaxpr, _inner(equation).consts, given)
        else:
            with equation.ctx.manager:
                found = equation.primitive.bind(*given, **equation.primitive.get_bind_params(equation.params))
            made = found if equation.primitive.multiple_results else [found]
        values.update(zip(equation.outvars, made, strict=True))
    return [read(place) for place in jaxpr.outvars]


def _is_ours(equation: Equation) -> bool:
    """Whether this is a convolution that fnn has."""
    if equation.primitive is not lax.conv_general_dilated_p:
        return False
    p, (x, w) = equation.params, [place.aval for place in equation.invars]
    kept = x.dtype == w.dtype == equation.outvars[0].aval.dtype and x.dtype in (jnp.float32, jnp.float64)
    plain = p["batch_group_count"] == 1 and set(p["lhs_dilation"]) == {1} and np.min(p["padding"]) >= 0
    return bool(x.ndim == 4 and kept and plain and 0 not in (*x.shape, *w.shape, *equation.outvars[0].aval.shape))


def _convolve(x: Array, w: Array, params: dict[str, Any]) -> Array:
    """The outputs, with axes in the orders that the convolution asks for."""
    of_x, of_w, of_y = params["dimension_numbers"]  # batch, channels, axes; outputs, inputs, axes
    x = x.transpose(of_x[0], of_x[2], of_x[3], of_x[1])
    w = w.transpose(of_w[2], of_w[3], of_w[1], of_w[0])
    over = params["window_strides"], params["rhs_dilation"], params["padding"]
    each = zip(x.shape[1:3], w.shape[:2], *over, strict=True)
    rows, columns = (Windows(n, size, stride, dilation, *pads) for n, size, stride, dilation, pads in each)
    y = convolution.forward(x, w, Convolution(rows, columns, params["feature_group_count"]))
    return y.transpose(*np.argsort((of_y[0], of_y[2], of_y[3], of_y[1])).tolist())

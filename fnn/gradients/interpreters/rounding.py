"""What rounding alone does to a result: the program evaluated again with an ulp added to each number it computes.

Rounding is measured where it arises, in the terms that are summed, and not guessed from the size of the sum: where the
terms cancel (a bias before a batch_norm, targets that equal the outputs) all of the sum may be rounding.
The idea is that of Monte Carlo arithmetic: Parker 1997, "Monte Carlo Arithmetic", UCLA CSD-970002.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from fnn.gradients.interpreters.walk import Interpreter, bind, is_float
from fnn.types import Array, Equation, Numbers, Tree

WHOLE = 1024  # whole numbers up to this are computed without rounding: masks, labels, counts, powers
# what moves or picks numbers, and so rounds none
_EXACT = frozenset(
    (
        *("reshape", "transpose", "squeeze", "expand_dims", "broadcast_in_dim", "slice", "rev", "pad", "concatenate"),
        *("dynamic_slice", "dynamic_update_slice", "gather", "scatter", "split", "stack", "copy", "copy_p", "neg"),
        *("max", "min", "abs", "sign", "clamp", "reduce_max", "reduce_min", "sort", "cummax", "cummin", "select_n"),
        *("floor", "ceil", "round", "stop_gradient", "optimization_barrier", "real", "imag", "top_k", "iota"),
        *("reduce_window_max", "reduce_window_min", "select_and_gather_add", "reduce_precision"),
    )
)
_SUMS = frozenset(
    (
        *("reduce_sum", "dot_general", "conv_general_dilated", "cumsum", "scatter-add", "scatter_add"),
        *("fnn_convolution_outputs", "fnn_convolution_by_weights", "fnn_convolution_by_inputs", "reduce_window_sum"),
    )
)


def add_rounding(function: Callable[..., Any], amount: Numbers, seed: Numbers) -> Callable[..., Any]:
    """`function` with every number that it computes, and every number that it is given, moved by `amount` ulps.

    Up or down by chance; the same number always the same way, so that what is equal stays equal. 0 changes no bit.

    Args:
        function: of pytrees of arrays.
        amount, seed: numbers, which may be traced.

    >>> from fnn.gradients.interpreters.rounding import add_rounding
    >>> import jax.numpy as jnp
    >>> x = jnp.array([1.25, -0.3])
    >>> print(add_rounding(lambda x: (x + 1e6) - 1e6, 0.0, 0)(x))
    [ 1.25  -0.3125]
    >>> off = add_rounding(lambda x: (x + 1e6) - 1e6, 1.0, 0)(x) - x
    >>> print(bool((abs(off) > 0.05).all()))
    True
    """

    def move(*arguments: Tree) -> Tree:
        traced, out = jax.make_jaxpr(function, return_shape=True)(*arguments)
        walk = _Rounding(jnp.asarray(amount, jnp.float32), scatter_seed(seed))
        given = [walk.round(a) for a in jax.tree.leaves(arguments)]
        return jax.tree.unflatten(jax.tree.structure(out), walk.run(traced.jaxpr, traced.consts, given))

    return move


def scatter_seed(seed: Numbers) -> Array:
    """An odd number of as many bits as there are, from a small one."""
    words = jnp.uint64 if jnp.result_type(float) == jnp.float64 else jnp.uint32
    word: Array = jnp.asarray(seed).astype(words) * words(0x9E3779B97F4A7C15 % 2 ** (8 * jnp.dtype(words).itemsize)) | 1
    return word


class _Rounding(Interpreter):
    """Evaluates a program, and moves what is computed."""

    def __init__(self, amount: Array, seed: Array) -> None:
        self.amount, self.seed = amount, seed

    def inner(self) -> "_Rounding":
        return _Rounding(self.amount, self.seed)

    def calculate(self, equation: Equation, inputs: list[Any]) -> list[Any]:
        name = equation.primitive.name
        if name in _SUMS:  # its terms one by one, equal ones too, since a sum rounds after each
            inputs = [self.round(v, place=True) for v in inputs]
        outputs = bind(equation, inputs)
        exact = name in _EXACT or not any(map(is_float, inputs))
        return outputs if exact else [*map(self.round, outputs)]

    def round(self, value: Array, place: bool = False) -> Array:
        known = is_float(value) and jnp.dtype(jnp.result_type(value)).itemsize in _BITS
        return (_move_by_place if place else move_by_ulps)(value, self.amount, self.seed) if known else value


@jax.jit
def move_by_ulps(value: Array, amount: Array, seed: Array) -> Array:
    """Each number up or down by so many ulps, by its own bits; small whole numbers stay."""
    return _move_by_bits(value, _bits(value), amount, seed)


@jax.jit
def _move_by_place(value: Array, amount: Array, seed: Array) -> Array:
    bits = _bits(value)
    place = lax.iota(bits.dtype, value.size).reshape(value.shape)
    return _move_by_bits(value, bits + place * bits.dtype.type(0x3C6EF372), amount, seed)


def _bits(value: Array) -> Array:
    bits = lax.bitcast_convert_type(value, _BITS[value.dtype.itemsize])
    return bits if bits.dtype.itemsize == 8 else bits.astype(jnp.uint32) << (16 if bits.dtype.itemsize == 2 else 0)


def _move_by_bits(value: Array, bits: Array, amount: Array, seed: Array) -> Array:
    """Up or down by the top bit of the bits times an even number: the sign does not matter then."""
    up = bits * (seed.astype(bits.dtype) * 2) >> (8 * bits.dtype.itemsize - 1) == 1
    ulp = (amount * float(jnp.finfo(value.dtype).eps)).astype(value.dtype)
    other = value * jnp.where(up, 1 + ulp, 1 - ulp)
    return jnp.where((value == jnp.round(value)) & (jnp.abs(value) <= WHOLE), value, other)


_BITS = {8: jnp.uint64, 4: jnp.uint32, 2: jnp.uint16}

"""A program that computes in a narrow dtype, evaluated in a wide one: the same formulas without their rounding.

So a network in bfloat16 is checked to the digits of float32, where differences would see the steps of its rounding.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from fnn.gradients.interpreters.rounding import move_by_ulps, scatter_seed
from fnn.gradients.interpreters.walk import CALLS, Interpreter, bind, is_float
from fnn.types import Array, DType, DTypeLike, Equation, Jaxpr, Numbers, Tree

_CHOSEN = ("new_dtype", "preferred_element_type")  # parameters of an equation that choose the dtype of its result


def widen(function: Callable[..., Any], dtype: DTypeLike, *arguments: Tree) -> tuple[Callable[..., Any], float]:
    """(`function` evaluated in `dtype` wherever it is narrower, its arguments included; itself where it nowhere is;
    the eps of the narrowest dtype that was in it, to whose digits its constants are rounded, or 0).

    The wide function also takes `amount` and `seed`: its narrow constants moved by so many times their rounding, as
    `with_rounding` moves numbers. gelu's √½ and its derivative's 1/√2π are each rounded in bfloat16, so that one is
    the derivative of the other only to that.

    Args:
        function: of pytrees of arrays.
        dtype: a floating dtype.
        arguments: what it takes, or their shapes and dtypes.

    >>> from fnn.gradients.interpreters.widening import widen
    >>> import jax.numpy as jnp
    >>> narrow = lambda x: (x.astype("bfloat16") + 1).astype("float32")
    >>> x = jnp.float32(1e-3)
    >>> wide, eps = widen(narrow, jnp.float32, x)
    >>> print(narrow(x), wide(x), eps)
    1.0 1.001 0.0078125
    """
    traced, out = jax.make_jaxpr(function, return_shape=True)(*arguments)
    found = narrower(traced.jaxpr, dtype)
    if not found:
        return lambda *given, amount=0.0, seed=0: function(*given), 0.0

    def wide(*given: Tree, amount: Numbers = 0.0, seed: Numbers = 0) -> Tree:
        walk = _Widening(jnp.dtype(dtype), jnp.asarray(amount, jnp.float32), scatter_seed(seed))
        leaves = [walk.lift(a) for a in jax.tree.leaves(given)]
        values = walk.run(traced.jaxpr, [walk.lift(a) for a in traced.consts], leaves)
        return jax.tree.unflatten(jax.tree.structure(out), map(walk.lift, values))

    return wide, max(float(jnp.finfo(d).eps) for d in found)


def narrower(jaxpr: Jaxpr, dtype: DTypeLike) -> set[Any]:
    """The floating dtypes in a program that have fewer bytes."""
    variables = [*jaxpr.invars, *jaxpr.constvars, *(v for equation in jaxpr.eqns for v in equation.outvars)]
    dtypes = {v.aval.dtype for v in variables if hasattr(v.aval, "dtype")}
    found = {d for d in dtypes if jnp.issubdtype(d, jnp.floating) and d.itemsize < jnp.dtype(dtype).itemsize}
    bodies = [
        b for equation in jaxpr.eqns for b in jax.tree.leaves(list(equation.params.values()), is_leaf=_is_program)
    ]
    return found.union(*(narrower(getattr(b, "jaxpr", b), dtype) for b in bodies if _is_program(b)))


def _is_program(value: object) -> bool:
    return hasattr(value, "eqns") or hasattr(getattr(value, "jaxpr", None), "eqns")


class _Widening(Interpreter):
    """Evaluates a program with its narrow floats wide."""

    def __init__(self, dtype: DType, amount: Array, seed: Array) -> None:
        self.dtype, self.amount, self.seed = dtype, amount, seed

    def inner(self) -> "_Widening":
        return _Widening(self.dtype, self.amount, self.seed)

    def lift(self, value: Array) -> Array:
        narrow = jnp.result_type(value)
        if not self.narrow(narrow):
            return value
        half_an_ulp = float(jnp.finfo(narrow).eps / 2 / jnp.finfo(self.dtype).eps)
        moved: Array = move_by_ulps(jnp.asarray(value).astype(self.dtype), half_an_ulp * self.amount, self.seed)
        return moved

    def narrow(self, dtype: DTypeLike) -> bool:
        return jnp.issubdtype(dtype, jnp.floating) and jnp.dtype(dtype).itemsize < self.dtype.itemsize

    def one(self, equation: Equation, inputs: list[Any]) -> list[Any]:
        name = equation.primitive.name
        if name in (*CALLS, "scan", "cond"):
            return super().one(equation, [*map(self.lift, inputs)])
        return super().one(equation, inputs)

    def calculate(self, equation: Equation, inputs: list[Any]) -> list[Any]:
        """In the wide dtype; by a function that does not take it, in the narrow one."""
        narrow = [v.aval.dtype for v in equation.invars]
        if equation.primitive.name == "bitcast_convert_type":
            return [*map(self.lift, bind(equation, [*map(_as, inputs, narrow)]))]
        chosen = {
            k: self.dtype for k, v in equation.params.items() if k in _CHOSEN and v is not None and self.narrow(v)
        }
        if equation.primitive.name == "reduce_precision":
            return [self.lift(inputs[0])]
        try:
            return [
                *map(self.lift, bind(equation.replace(params={**equation.params, **chosen}), [*map(self.lift, inputs)]))
            ]
        except (TypeError, ValueError):
            return [*map(self.lift, bind(equation, [*map(_as, inputs, narrow)]))]


def _as(value: Array, dtype: DTypeLike) -> Array:
    return jnp.asarray(value).astype(dtype) if is_float(value) else value

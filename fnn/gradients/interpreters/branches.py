"""Which piece of a piecewise function a point lies on: every choice that the program makes on the way, as one number.

Two points with the same number lie on the same piece, so that a difference of their values crosses no kink.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from fnn.gradients.interpreters.walk import Interpreter, bind, is_float
from fnn.types import Array, Equation, Numbers, Tree


def record_branches(function: Callable[[Any], Any]) -> Callable[[Any], tuple[Any, Array]]:
    """`function` of one pytree, with a number that stands for its choices: `p -> (function(p), number)`.

    A choice is a comparison, what `max`, `abs`, `clip`, `sort` and their like pick, a whole number made of a float, a
    branch of `lax.cond`. Those under `jax.named_scope("smooth")` join pieces without a kink, and do not count; those
    inside of a `while` loop are not seen.

    >>> from fnn.gradients.interpreters.branches import record_branches
    >>> import fnn, jax.numpy as jnp
    >>> both = record_branches(fnn.relu.value)
    >>> left, on, right, further = (int(both(jnp.float32(x))[1]) for x in (-0.1, 0.0, 0.1, 0.2))
    >>> print(left == right, right == further)
    False True
    """

    def both(point: Tree) -> tuple[Any, Array]:
        traced, out = jax.make_jaxpr(function, return_shape=True)(point)
        walk = _Branches()
        values = walk.run(traced.jaxpr, traced.consts, jax.tree.leaves(point))
        return jax.tree.unflatten(jax.tree.structure(out), values), walk.result()

    return both


class _Branches(Interpreter):
    """Evaluates a program as it is, and adds up its choices."""

    def __init__(self, smooth: bool = False) -> None:
        self.smooth = smooth
        self.number = jnp.zeros((), jnp.uint32)

    def inner(self) -> "_Branches":
        return _Branches(self.smooth)

    def result(self) -> Array:
        return self.number

    def note(self, found: Array) -> None:
        self.count(found)

    def cond(self, parameters: Mapping[str, Any], inputs: list[Any]) -> list[Any]:
        self.count(inputs[0])
        return super().cond(parameters, inputs)

    def calculate(self, equation: Equation, inputs: list[Any]) -> list[Any]:
        outputs = bind(equation, inputs)
        if not self.smooth and any(map(is_float, inputs)):
            choice = _CHOICES.get(equation.primitive.name)
            chosen = outputs if choice is None else choice(inputs, outputs[0], equation.params)
            for each in chosen:
                if not is_float(each) and not jnp.issubdtype(jnp.result_type(each), jax.dtypes.extended):
                    self.count(each)
        return outputs

    def count(self, choices: Numbers) -> None:
        """Add the choices, each times an odd number of its own, so that no two patterns have one sum but by chance."""
        choices = jnp.ravel(jnp.asarray(choices)).astype(jnp.uint32)
        place = lax.iota(jnp.uint32, choices.size) * jnp.uint32(2654435761)
        place = (place ^ (place >> 15)) * jnp.uint32(2246822519)
        self.number = self.number * jnp.uint32(31) + (choices * (place ^ (place >> 13) | 1)).sum(dtype=jnp.uint32)


def _side(a: Numbers, b: Numbers) -> list[Array]:
    return [jnp.sign(jnp.subtract(a, b)).astype(jnp.int32)]


def _equal(inputs: list[Any], chosen: Array, parameters: Mapping[str, Any]) -> list[Array]:
    axes = parameters.get("axes")
    return [inputs[0] == (chosen if axes is None else jnp.expand_dims(chosen, axes))]


def _order(inputs: list[Any], chosen: Array, parameters: Mapping[str, Any]) -> list[Array]:
    return [jnp.argsort(inputs[0], axis=parameters["dimension"])]


# those whose result is a float: its inputs, its (first) output and its parameters to what stands for the choice
_CHOICES: dict[str, Callable[[list[Any], Array, Any], list[Array]]] = {
    "max": lambda inputs, chosen, parameters: _side(*inputs),
    "min": lambda inputs, chosen, parameters: _side(*inputs),
    "abs": lambda inputs, chosen, parameters: _side(inputs[0], 0),
    "sign": lambda inputs, chosen, parameters: _side(inputs[0], 0),
    "clamp": lambda inputs, chosen, parameters: _side(inputs[1], inputs[0]) + _side(inputs[1], inputs[2]),
    "rem": lambda inputs, chosen, parameters: [jnp.trunc(inputs[0] / inputs[1]).astype(jnp.int32)],
    **dict.fromkeys(("reduce_max", "reduce_min", "cummax", "cummin"), _equal),
    **dict.fromkeys(("floor", "ceil", "round"), lambda inputs, chosen, parameters: [chosen.astype(jnp.int32)]),
    "sort": _order,
}

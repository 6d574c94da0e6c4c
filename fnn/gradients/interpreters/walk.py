"""A traced program evaluated one equation after another, by other rules of calculation than JAX's own.

What a calculation becomes is up to the kind of walk: in complex numbers, with rounding added, with a note of each
choice. Calls, loops and branches are walked through here, in one place.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import Literal

from fnn.kernels.loops import inner_jaxprs
from fnn.types import Array, Equation, Jaxpr, Numbers, Tree

SMOOTH = "smooth"  # a scope in which pieces meet without a kink
CALLS = ("jit", "closed_call", "custom_jvp_call", "custom_vjp_call", "remat2", "checkpoint", "core_call")


class Interpreter:
    """Evaluates a traced program. A kind of walk defines `calculate`, and what else it needs of the rest."""

    smooth = False  # whether the equation at hand is in a scope without kinks

    def calculate(self, equation: Equation, inputs: list[Any]) -> list[Any]:
        """The outputs of an equation that is no call, loop or branch."""
        return bind(equation, inputs)

    def inner(self) -> Self:
        """A walk for the body of a loop or a branch, which is a program of its own."""
        raise NotImplementedError

    def result(self) -> Tree:
        """What this walk has noted: arrays of one structure, whatever the program."""
        return ()

    def note(self, found: Tree) -> None:
        """Take over what the walks through a body found; `found` has one entry per round on its first axis."""

    def lift(self, value: Array) -> Array:
        """A value as this walk has it, so that the rounds of a loop and all branches agree."""
        return value

    def run(self, jaxpr: Jaxpr, consts: Sequence[Any], arguments: Sequence[Any]) -> list[Any]:
        """The outputs of a program."""
        values: dict[Any, Any] = dict(zip(jaxpr.constvars, consts, strict=True))
        values.update(zip(jaxpr.invars, arguments, strict=True))
        read: Callable[[Any], Any] = lambda v: v.val if isinstance(v, Literal) else values[v]  # noqa: E731
        for equation in jaxpr.eqns:
            outside = self.smooth
            self.smooth = outside or SMOOTH in str(equation.source_info.name_stack).split("/")
            results = self.one(equation, [read(v) for v in equation.invars])
            self.smooth = outside
            values.update(zip(equation.outvars, results, strict=True))
        return [read(v) for v in jaxpr.outvars]

    def one(self, equation: Equation, inputs: list[Any]) -> list[Any]:
        """The outputs of one equation."""
        name, parameters = equation.primitive.name, equation.params
        if name in CALLS:
            called = next(parameters[k] for k in ("jaxpr", "call_jaxpr", "fun_jaxpr") if k in parameters)
            return self.run(getattr(called, "jaxpr", called), getattr(called, "consts", ()), inputs)
        if name == "scan":
            return self.scan(parameters, inputs)
        if name == "cond":
            return self.cond(parameters, inputs)
        return self.calculate(equation, inputs)

    def scan(self, parameters: Mapping[str, Any], inputs: list[Any]) -> list[Any]:
        """A loop, each round of it walked."""
        body = parameters["jaxpr"]
        if "ft_in" in parameters:  # JAX from 0.12 on
            fixed, carried, _ = map(len, parameters["ft_in"].unpack())
        else:
            fixed, carried = parameters["num_consts"], parameters["num_carry"]
        consts, rest = inputs[:fixed], inputs[fixed + carried :]
        carry = [self.lift(v) for v in inputs[fixed : fixed + carried]]

        def once(carry: list[Array], each: list[Array]) -> tuple[list[Array], tuple[list[Array], Tree]]:
            walk = self.inner()
            outputs = walk.run(body.jaxpr, body.consts, [*consts, *carry, *each])
            return [*map(self.lift, outputs[:carried])], (outputs[carried:], walk.result())

        how = {name: parameters[name] for name in ("length", "reverse", "unroll")}
        carry, (rows, found) = lax.scan(once, carry, rest, **how)
        self.note(found)
        return [*carry, *rows]

    def cond(self, parameters: Mapping[str, Any], inputs: list[Any]) -> list[Any]:
        """A choice of branches, each of them walked."""
        index, *operands = inputs

        def walk_branch(branch: Jaxpr) -> Callable[[list[Array]], tuple[list[Array], Tree]]:
            def take(operands: list[Any]) -> tuple[list[Array], Tree]:
                walk = self.inner()
                outputs = walk.run(branch.jaxpr, branch.consts, operands)
                return [*map(self.lift, outputs)], jax.tree.map(lambda a: a[None], walk.result())

            return take

        outputs: list[Any]
        outputs, found = lax.switch(index, [walk_branch(branch) for branch in parameters["branches"]], operands)
        self.note(found)
        return outputs


def contains(jaxpr: Jaxpr, primitive: str) -> bool:
    """Whether a program, or one within it, has such an equation."""
    return any(
        equation.primitive.name == primitive or any(contains(inner, primitive) for inner in inner_jaxprs(equation))
        for equation in jaxpr.eqns
    )


def bind(equation: Equation, inputs: list[Any]) -> list[Any]:
    """The outputs of an equation as JAX has them."""
    outputs = equation.primitive.bind(*inputs, **equation.primitive.get_bind_params(equation.params))
    return [*outputs] if equation.primitive.multiple_results else [outputs]


def is_float(value: Numbers) -> bool:
    """Whether a value has a floating dtype."""
    return jnp.issubdtype(jnp.result_type(value), jnp.floating)

"""A function as it was when it was traced, and how it compiles: large arrays that it has captured are arguments.

JAX writes a captured array into the program as a constant. The compiler copies a constant several times, and what it
frees stays with the process: so a loss with a table of 20 MB took 100 MB to compile. As an argument it takes nothing.
And JAX 0.10 ends the process where a constant of more than 10 kB is used in a loop that becomes one function.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun

from fnn.compilation.same_bits import same_bits_options
from fnn.gradients.interpreters.walk import Interpreter, bind
from fnn.kernels.loops import compile_for_size, inner_jaxprs
from fnn.kernels.memory import aligned_copy
from fnn.types import Equation, Jaxpr, Tree

LARGE = 2**12  # bytes of an array that is no constant of a program


class Frozen(NamedTuple):
    """A function as it was when it was traced: what it reads may change, the operations stay."""

    call: Callable[..., Any]
    shapes: Tree  # shapes and dtypes of what it returns
    jaxpr: Jaxpr
    bytes: int  # of the arrays that it has captured
    held: tuple[Any, ...]  # those of them that are large; copies, so that nobody else changes or deletes them
    call_with: Callable[..., Any]  # likewise, of `held` and the arguments

    def jit(
        self,
        donates: bool = False,
        in_shardings: Any = None,
        put: Callable[[Tree], Tree] = lambda held: held,
        **options: Any,
    ) -> Any:
        """The function, to be compiled when it is first called or lowered.

        Args:
            donates: whether its first argument is donated.
            in_shardings: of its arguments, if they lie on several devices.
            put: puts the arrays that it holds where its arguments lie.
            options: of `jax.jit`.
        """
        options["compiler_options"] = (same_bits_options() | options.get("compiler_options", {})) or None
        if in_shardings is not None:
            held_first = self.held and isinstance(in_shardings, tuple)
            options["in_shardings"] = (None, *in_shardings) if held_first else in_shardings
        if not self.held:
            return jax.jit(self.call, donate_argnums=(0,) if donates else (), **options)
        return WithArrays(jax.jit(self.call_with, donate_argnums=(1,) if donates else (), **options), put(self.held))


class WithArrays:
    """A jitted function of some arrays and of arguments, as a function of the arguments."""

    def __init__(self, jitted: Any, held: tuple[Any, ...]) -> None:
        self._jitted, self._held = jitted, held

    def __call__(self, *given: Tree) -> Any:
        """The results."""
        return self._jitted(self._held, *given)

    def lower(self, *given: Tree) -> "LoweredWithArrays":
        """As that of a jitted function."""
        return LoweredWithArrays(self._jitted.lower(self._held, *given), self._held)


class LoweredWithArrays:
    """What `WithArrays` lowers to."""

    def __init__(self, lowered: Any, held: tuple[Any, ...]) -> None:
        self._lowered, self._held = lowered, held

    def compile(self, options: dict[str, Any] | None = None) -> Callable[..., Any]:
        """The compiled function of the arguments."""
        return functools.partial(self._lowered.compile(options), self._held)

    def as_text(self) -> str:
        """The program."""
        text: str = self._lowered.as_text()
        return text


def freeze(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Frozen:
    """A function as it is now, for arguments of these shapes and dtypes.

    >>> import jax.numpy as jnp
    >>> from fnn.compilation.frozen import freeze
    >>> scale = {"by": 2.0}
    >>> frozen = freeze(lambda x: scale["by"] * x, (jnp.ones(3),))
    >>> scale["by"] = 5.0
    >>> print(frozen.call(jnp.ones(3)), frozen.shapes.shape)
    [2. 2. 2.] (3,)
    """
    with jax.disable_jit(False):  # else loops would be run here, not traced
        closed, made = jax.make_jaxpr(lambda *given: function(*given), return_shape=True)(*arguments)
        if hides_large(closed.jaxpr):
            closed = jax.make_jaxpr(functools.partial(_expose, closed))(*jax.tree.leaves(arguments))
    large = [is_large(constant) for constant in closed.consts]
    held = tuple(own(constant) for constant, its in zip(closed.consts, large, strict=True) if its)
    evaluate, structure = jaxpr_as_fun(_with_arguments(closed, large)), jax.tree.structure(made)

    def call_with(held: tuple[Any, ...], *given: Tree) -> Tree:
        return jax.tree.unflatten(structure, evaluate(*held, *jax.tree.leaves(given)))

    def call(*given: Tree) -> Tree:
        return call_with(held, *given)

    call.__name__ = call_with.__name__ = function.__name__  # by which profiles and messages of the compiler know it
    return Frozen(call, made, closed.jaxpr, bytes_of(closed), held, call_with)


def bytes_of(closed: ClosedJaxpr) -> int:
    """Of the arrays that a traced function has captured."""
    return sum(getattr(constant, "nbytes", 0) for constant in closed.consts)


def is_large(constant: Any) -> bool:
    """Whether a captured array is to be an argument. One that JAX cannot hand over as it is stays a constant."""
    if getattr(constant, "nbytes", 0) < LARGE or getattr(constant, "weak_type", False):
        return False
    if isinstance(constant, jax.Array) and not constant.is_fully_addressable:
        return False  # JAX says what is wrong with it
    dtype: Any = constant.dtype  # of a typed key none of NumPy's
    return not jnp.issubdtype(dtype, jax.dtypes.extended) and jax.dtypes.canonicalize_dtype(dtype) == dtype


def own(constant: Any) -> jax.Array:
    """A copy of an array, on the usual device but free to be moved."""
    copy: jax.Array = jax.device_put(aligned_copy(constant))
    return copy


def _with_arguments(closed: ClosedJaxpr, large: list[bool]) -> ClosedJaxpr:
    """The program with these of its constants as its first arguments."""
    jaxpr, pairs = closed.jaxpr, list(zip(closed.jaxpr.constvars, closed.consts, large, strict=True))
    handed = [variable for variable, _, its in pairs if its]
    small = [(variable, constant) for variable, constant, its in pairs if not its]
    inner = jaxpr.replace(constvars=[variable for variable, _ in small], invars=[*handed, *jaxpr.invars])
    return ClosedJaxpr(inner, [constant for _, constant in small])


# ---- arrays that a user's own `jax.jit` has captured: they belong to the program of that call


def hides_large(jaxpr: Jaxpr) -> bool:
    """Whether a call, a loop or a branch within a program has captured a large array."""
    return any(map(_holds_large, jaxpr.eqns))


def _holds_large(equation: Equation) -> bool:
    programs = [p for p in jax.tree.leaves(equation.params, is_leaf=_is_program) if isinstance(p, ClosedJaxpr)]
    if any(is_large(constant) for program in programs for constant in program.consts):
        return True
    return any(map(hides_large, inner_jaxprs(equation)))


def _is_program(parameter: Any) -> bool:
    return hasattr(parameter, "eqns")


def _expose(closed: ClosedJaxpr, *given: Any) -> list[Any]:
    return _Exposing().run(closed.jaxpr, closed.consts, given)


class _Exposing(Interpreter):
    """Evaluates a program so that what is captured within it is captured by the whole of it."""

    def inner(self) -> "_Exposing":
        return self

    def one(self, equation: Equation, inputs: list[Any]) -> list[Any]:
        name = equation.primitive.name
        if not _holds_large(equation) or name in ("checkpoint", "remat2"):  # a call of these is no mere call
            return bind(equation, inputs)
        if name == "fnn_loop":
            made = equation.params["made"]
            outputs: list[Any] = compile_for_size(lambda *flat: self.run(made.jaxpr, made.consts, flat), *inputs)
            return outputs
        if name == "while":
            return self._while(equation, inputs)
        return super().one(equation, inputs)

    def _while(self, equation: Equation, inputs: list[Any]) -> list[Any]:
        parameters = equation.params
        test, body = parameters["cond_jaxpr"], parameters["body_jaxpr"]
        if test.out_avals[0].shape:  # of many members: `lax.while_loop` takes one test
            return bind(equation, inputs)
        first = parameters["cond_nconsts"]
        split = first + parameters["body_nconsts"]
        of_test, of_body, carry = inputs[:first], inputs[first:split], inputs[split:]
        end: list[Any] = lax.while_loop(
            lambda carry: self.run(test.jaxpr, test.consts, [*of_test, *carry])[0],
            lambda carry: self.run(body.jaxpr, body.consts, [*of_body, *carry]),
            carry,
        )
        return end

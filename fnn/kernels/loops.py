"""How the loop of a whole run is compiled on a CPU: a small one into one function, large ones member after member.

XLA calls one function for every operation of a loop, which costs more than the work where the work is a few hundred
numbers: a 2-3-2 network's step takes a third of the time as one function. From JAX 0.11 on XLA makes one of a small
loop by itself; JAX 0.10 does where a flag asks for it. It cannot where the loop calls a library, sorts, or stands in
another loop: then it would end the process. So what may be in such a loop is listed here, and what is not listed is
compiled as always.

Under `vmap` the members of a small network share every call of a function. Of the smallest, whose loop is one function,
the members run one after another inside that function: alone each is faster than with others. Of a large one each step
fills the cache by itself, and all members' at once overflow it: they run one after another too.
"""

from collections.abc import Callable, Iterator, Sequence
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental.xla_metadata import set_xla_metadata
from jax.extend.core import ClosedJaxpr, Primitive, jaxpr_as_fun
from jax.interpreters import ad, batching, mlir

from fnn.types import Array, Equation, Jaxpr, Tree

XLA_FUSES_SINCE = (0, 11)  # from this version of JAX on XLA makes one function unasked
ONE_FUNCTION_BELOW = 2**16  # numbers that a round of the loop makes; beyond, XLA's usual functions are as fast
LARGEST_ARRAY_BYTES = 2**13  # of the largest array made or summed; XLA hands sums over twice as many to a library
SEQUENTIAL_FROM = 2**20  # numbers that a round makes; beyond, members run one after another
_ALLOWED = """
    abs acos acosh add add_any asin asinh atan atan2 atanh cbrt ceil clamp cos cosh digamma div erf erf_inv erfc exp
    exp2 expm1 floor integer_pow lgamma log log1p logistic max min mul neg nextafter pow reduce_precision rem round
    rsqrt sign sin sinh sqrt square sub tan tanh
    and clz eq ge gt is_finite le lt ne not or population_count select_n shift_left shift_right_arithmetic
    shift_right_logical xor
    argmax argmin cumlogsumexp cummax cummin cumprod cumsum reduce_and reduce_max reduce_min reduce_or reduce_prod
    reduce_sum
    bitcast_convert_type broadcast_in_dim concatenate convert_element_type copy copy_p dynamic_slice gather iota pad
    reshape rev slice split squeeze stack stop_gradient tile transpose
    random_bits random_fold_in random_seed random_split random_unwrap random_wrap threefry2x32
"""
# allowed, and no work of their own: a history's row is written in place
_FREE = """
    closed_call cond custom_jvp_call custom_vjp_call custom_vmap_call dynamic_update_slice jit pjit scan while
"""
ALLOWED, FREE = frozenset(_ALLOWED.split()), frozenset(_FREE.split())


def compile_for_size(call: Callable[..., Any], *arguments: Tree) -> Tree:
    """`call(*arguments)`, a loop, compiled in the way that is fast for its size: nothing else changes.

    >>> import jax.numpy as jnp
    >>> from jax import lax
    >>> from fnn.kernels.loops import compile_for_size
    >>> print(compile_for_size(lambda x: lax.fori_loop(0, 10, lambda _, x: 2 * x, x), jnp.arange(3)))
    [   0 1024 2048]
    """
    if jax.default_backend() != "cpu":
        return call(*arguments)
    flat, tree = jax.tree.flatten(arguments)
    whole = jax.make_jaxpr(lambda *flat: call(*jax.tree.unflatten(tree, flat)), return_shape=True)
    closed, shapes = whole(*flat)
    if _fits_one_function(closed.jaxpr) or _numbers_per_round(closed.jaxpr) >= SEQUENTIAL_FROM:
        # what `call` has from outside may be traced: an argument too
        inner = closed.jaxpr.replace(constvars=[], invars=[*closed.jaxpr.constvars, *closed.jaxpr.invars])
        outputs = _loop.bind(*closed.consts, *flat, made=ClosedJaxpr(inner, []))
    else:  # the loop as it was traced; `call` would trace it again
        outputs = jaxpr_as_fun(closed)(*flat)
    return jax.tree.unflatten(jax.tree.structure(shapes), outputs)


def _fits_one_function(jaxpr: Jaxpr) -> bool:
    """Whether XLA can make one function of it, does so only when asked, and whether that is worth it."""
    equations = _counted_equations(jaxpr)
    return (
        jax.__version_info__ < XLA_FUSES_SINCE
        and all(equation.primitive.name in ALLOWED for equation in equations)
        and _numbers_per_round(jaxpr) <= ONE_FUNCTION_BELOW
        and all(_bytes(v) <= LARGEST_ARRAY_BYTES for e in equations for v in (*e.outvars, *_operands_of_sum(e)))
    )


def _operands_of_sum(equation: Equation) -> list[Any]:
    """The arrays of which an operation makes a few numbers, such as their sum."""
    return equation.invars if equation.primitive.name.startswith(("reduce_", "arg")) else []


def _bytes(value: Jaxpr) -> int:
    """Of an array of a program."""
    size: int = prod(value.aval.shape) * value.aval.dtype.itemsize
    return size


def _numbers_per_round(jaxpr: Jaxpr) -> int:
    """How many numbers are made where every loop in it has one round."""
    return sum(prod(v.aval.shape) for equation in _counted_equations(jaxpr) for v in equation.outvars)


def _counted_equations(jaxpr: Jaxpr) -> list[Any]:
    return [equation for equation in _equations(jaxpr) if equation.primitive.name not in FREE]


def _equations(jaxpr: Jaxpr) -> Iterator[Any]:
    for equation in jaxpr.eqns:
        yield equation
        for inner in inner_jaxprs(equation):
            yield from _equations(inner)


def inner_jaxprs(equation: Equation) -> Iterator[Jaxpr]:
    """The programs that an operation has in it: the body of a loop, the branches of a choice."""
    for inner in jax.tree.leaves(equation.params, is_leaf=lambda p: hasattr(p, "eqns")):
        if hasattr(inner, "eqns"):
            yield getattr(inner, "jaxpr", inner)


# ---- its rules in JAX


def _lowering_rule(ctx: Any, *operands: Any, made: ClosedJaxpr) -> Any:
    call: Callable[..., Any] = jaxpr_as_fun(made)
    if _fits_one_function(made.jaxpr) and _outermost() and not _any_large_constant(made.jaxpr, operands):
        call = _one_function(call)
    return mlir.lower_fun(call, multiple_results=True)(ctx, *operands)


def _one_function(call: Callable[..., Any]) -> Callable[..., Any]:
    """`call`, to be compiled into one function, which uses all that it is handed.

    XLA ends the process where such a function has a parameter that no instruction in it uses, for then that parameter
    has no place in memory. And XLA makes parameters unused by itself: those that no result depends on, and those of
    size 0, whose every use it replaces by a constant. So every operand is a result too, which the caller drops (a
    copy of each, once for the whole loop, is what that costs); and what has size 0 is made inside.
    """

    def one(*operands: Array) -> list[Array]:
        def whole(*filled: Array) -> tuple[list[Array], tuple[Array, ...]]:
            given = iter(filled)
            return call(*(next(given) if a.size else jnp.zeros_like(a) for a in shapes)), filled

        shapes = [jax.typeof(a) for a in operands]
        with set_xla_metadata(xla_cpu_small_call="true", inlineable="false"):
            leaves: list[Array] = jax.jit(whole)(*(a for a in operands if a.size))[0]
            return leaves

    return one


def _any_large_constant(jaxpr: Jaxpr, operands: Sequence[Any]) -> bool:
    """Whether a large array is written into the program: XLA ends the process where one function takes it."""
    large = [value for value, v in zip(operands, jaxpr.invars, strict=True) if _bytes(v) > LARGEST_ARRAY_BYTES]
    return any(getattr(getattr(value, "owner", None), "name", "") == "stablehlo.constant" for value in large)


def _outermost() -> bool:
    """Whether what is lowered now stands in the program itself, in no loop and in no function that a loop may call."""
    try:
        place = mlir.ir.InsertionPoint.current.block.owner
        return str(place.attributes["sym_name"]) == '"main"'
    except (AttributeError, KeyError, ValueError):
        return False


def _batching_rule(
    operands: Sequence[Array], axes: Sequence[int | None], *, made: ClosedJaxpr
) -> tuple[list[Array], list[int]]:
    call = jaxpr_as_fun(made)
    together = _fits_one_function(made.jaxpr)
    if not together and _numbers_per_round(made.jaxpr) < SEQUENTIAL_FROM:
        outputs = compile_for_size(jax.vmap(call, in_axes=tuple(axes)), *operands)
        return outputs, [0] * len(outputs)

    def one(member: list[Any]) -> list[Array]:
        own = iter(member)
        results: list[Array] = call(*(a if axis is None else next(own) for a, axis in zip(operands, axes, strict=True)))
        return results

    of_each = [jnp.moveaxis(a, axis, 0) for a, axis in zip(operands, axes, strict=True) if axis is not None]
    outputs = (
        compile_for_size(lambda *of_each: lax.map(one, list(of_each)), *of_each) if together else lax.map(one, of_each)
    )
    return outputs, [0] * len(outputs)


def _jvp_rule(primals: Sequence[Array], tangents: Any, *, made: ClosedJaxpr) -> tuple[list[Array], list[Array]]:
    return jax.jvp(jaxpr_as_fun(made), tuple(primals), tuple(ad.instantiate_zeros(t) for t in tangents))


_loop = Primitive("fnn_loop")
_loop.multiple_results = True
_loop.def_impl(lambda *operands, made: jax.jit(jaxpr_as_fun(made))(*operands))
_loop.def_abstract_eval(lambda *_, made: made.out_avals)
mlir.register_lowering(_loop, _lowering_rule, cacheable=False)  # where it stands matters
batching.primitive_batchers[_loop] = _batching_rule
ad.primitive_jvps[_loop] = _jvp_rule

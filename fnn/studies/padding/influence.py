"""Whether padding stays 0 and counts in nothing, read off the traced programs of optimizer and penalty.

A program is traced for the widest parameters and for narrower ones. Where both have the same operations, with the same
numbers, an array is padded where its two shapes differ. What stands in the padding is followed through the operations:
0, a number above 0, or any number. An operation that is not known here, a sum over padding that is not 0, a division
by 0, a mean (whose divisor is another number for another width), random numbers: each of them is a no.
"""

from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any

import jax
import numpy as np
from jax.extend import core

from fnn.compilation.fingerprints import parameters_text
from fnn.types import Equation, Jaxpr, Tree


class Padding(Enum):
    """What stands in the padding of an array."""

    NONE = "the array has no padding"
    ZERO = "0"
    POSITIVE = "numbers above 0"
    ANY = "finite numbers"


NONE, ZERO, POSITIVE, ANY = Padding


class InfluenceError(Exception):
    """Padding may change a result."""


def follow(
    function: Callable[..., Any], wide: tuple[Tree, ...], narrow: tuple[Tree, ...], given: Sequence[Padding]
) -> list[Padding]:
    """What stands in the padding of each result, given that of each argument.

    Args:
        function: of arrays.
        wide, narrow: shapes and dtypes of its arguments, for two widths.
        given: what stands in the padding, a leaf each; read only where the two shapes differ.

    Raises:
        InfluenceError: what stands in the padding may change what stands elsewhere.

    >>> import jax, jax.numpy as jnp
    >>> from fnn.studies.padding.influence import InfluenceError, ZERO, follow
    >>> wide, narrow = ((jax.ShapeDtypeStruct((n,), "float32"),) for n in (8, 4))
    >>> [kind.name for kind in follow(lambda x: (x / (jnp.sqrt(x) + 1.0), jnp.square(x).sum()), wide, narrow, [ZERO])]
    ['ZERO', 'NONE']
    >>> follow(jnp.mean, wide, narrow, [ZERO])
    Traceback (most recent call last):
    fnn.studies.padding.influence.InfluenceError: div: two widths differ in a number
    """
    # a function made here: JAX remembers the program of one that it has traced
    both = [jax.make_jaxpr(lambda *leaves: function(*leaves))(*arguments) for arguments in (wide, narrow)]
    if not all(np.array_equal(*pair) for pair in zip(both[0].consts, both[1].consts, strict=False)):
        raise InfluenceError("two widths differ in an array")
    return _follow(both[0].jaxpr, both[1].jaxpr, [NONE] * len(both[0].consts), given)


def _follow(wide: Jaxpr, narrow: Jaxpr, constants: Sequence[Padding], given: Sequence[Padding]) -> list[Padding]:
    """`follow` for two traced programs."""
    if len(wide.eqns) != len(narrow.eqns) or len(wide.constvars) != len(narrow.constvars):
        raise InfluenceError("two widths have different operations")
    known: dict[Any, Padding] = {}
    partner: dict[Any, Any] = {}

    def note(ours: Sequence[Any], theirs: Sequence[Any], kinds: Sequence[Padding]) -> None:
        for one, other, kind in zip(ours, theirs, kinds, strict=True):
            partner[one] = other
            known[one] = NONE if one.aval.shape == other.aval.shape else kind
            if known[one] is NONE and one.aval.shape != other.aval.shape:
                raise InfluenceError("an array without known padding")

    def read(ours: Sequence[Any], theirs: Sequence[Any], what: str) -> list[Any]:
        """What stands in the padding of each; a number that is written into the program as itself."""
        kinds: list[Any] = []
        for one, other in zip(ours, theirs, strict=True):
            if isinstance(one, core.Literal) != isinstance(other, core.Literal):
                raise InfluenceError(f"{what}: two widths have different operations")
            if isinstance(one, core.Literal):
                if not np.array_equal(one.val, other.val):
                    raise InfluenceError(f"{what}: two widths differ in a number")
                kinds.append(np.asarray(one.val))
            elif partner[one] is not other:
                raise InfluenceError(f"{what}: two widths have different operations")
            else:
                kinds.append(known[one])
        return kinds

    note(wide.constvars, narrow.constvars, constants)
    note(wide.invars, narrow.invars, given)
    for ours, theirs in zip(wide.eqns, narrow.eqns, strict=True):
        name = ours.primitive.name
        if ours.primitive is not theirs.primitive:
            raise InfluenceError(f"{name}: two widths have different operations")
        made = _of_operation(name, ours, theirs, read(ours.invars, theirs.invars, name))
        note(ours.outvars, theirs.outvars, made)
    last = read(wide.outvars, narrow.outvars, "result")
    return [kind if isinstance(kind, Padding) else NONE for kind in last]


def _of_operation(name: str, ours: Equation, theirs: Equation, kinds: list[Any]) -> list[Padding]:
    """What stands in the padding of what an operation makes."""
    inner = [_inner(equation) for equation in (ours, theirs)]
    if inner[0] is not None and inner[1] is not None:
        numbers = [kind if isinstance(kind, Padding) else NONE for kind in kinds]
        closed = isinstance(inner[0], core.ClosedJaxpr)
        wide, narrow = ((each.jaxpr if closed else each) for each in inner)
        return _follow(wide, narrow, [], numbers)
    padded = any(isinstance(kind, Padding) and kind is not NONE for kind in kinds)
    if not padded and all(a.aval.shape == b.aval.shape for a, b in zip(ours.outvars, theirs.outvars, strict=True)):
        if parameters_text(ours) != parameters_text(theirs):
            raise InfluenceError(f"{name}: two widths have different operations")
        return [NONE] * len(ours.outvars)
    if name == "broadcast_in_dim" and not padded:
        if ours.invars[0].aval.shape != ():
            raise InfluenceError(f"{name}: an array is repeated over padding")
        return [_sign(kinds[0])]
    rule = RULES.get(name)
    made = None if rule is None else rule(ours, [_sign(kind) for kind in kinds])
    if made is None:
        raise InfluenceError(f"{name}: padding may change what it makes")
    return [made]


def _inner(equation: Equation) -> Any:
    """The program that an operation calls with its own arguments, if it is such a call."""
    if equation.primitive.name in ("jit", "pjit", "closed_call", "custom_jvp_call", "custom_vjp_call"):
        return next(p for p in equation.params.values() if isinstance(p, (core.Jaxpr, core.ClosedJaxpr)))
    return None


def _sign(kind: Any) -> Padding:
    """Of a number that stands beside padding as one: that in the program, or one that is known later."""
    if isinstance(kind, Padding):
        return ANY if kind is NONE else kind
    if not np.all(np.isfinite(kind)):
        return ANY
    return ZERO if not np.any(kind) else POSITIVE if np.all(kind > 0) else ANY


# ---- operations on single numbers: what they make of what stands in the padding; None: it may be no finite number


def _multiply(equation: Equation, kinds: list[Padding]) -> Padding:
    return ZERO if ZERO in kinds else ANY  # also of two above 0, whose product may be too small for a number


def _add(equation: Equation, kinds: list[Padding]) -> Padding:
    return ZERO if kinds == [ZERO, ZERO] else ANY if ANY in kinds else POSITIVE


def _subtract(equation: Equation, kinds: list[Padding]) -> Padding:
    return ZERO if kinds == [ZERO, ZERO] else kinds[0] if kinds[1] is ZERO else ANY


def _divide(equation: Equation, kinds: list[Padding]) -> Padding | None:
    below = equation.invars[1]
    if kinds[1] is not POSITIVE and below.aval.shape != ():  # a single number: 0 would spoil every weight
        return None
    if isinstance(below, core.Literal) and not below.val:
        return None
    return ZERO if kinds[0] is ZERO else ANY


def _same(equation: Equation, kinds: list[Padding]) -> Padding:
    return kinds[0]


def _any(equation: Equation, kinds: list[Padding]) -> Padding:
    return ANY


def _maximum(equation: Equation, kinds: list[Padding]) -> Padding:
    if POSITIVE in kinds:
        return POSITIVE
    return ZERO if kinds == [ZERO, ZERO] or (ZERO in kinds and _bound(equation, np.less_equal)) else ANY


def _minimum(equation: Equation, kinds: list[Padding]) -> Padding:
    if POSITIVE in kinds and ANY not in kinds:
        return ZERO if ZERO in kinds else POSITIVE
    return ZERO if kinds == [ZERO, ZERO] or (ZERO in kinds and _bound(equation, np.greater_equal)) else ANY


def _bound(equation: Equation, compare: Callable[[Any, int], Any]) -> bool:
    """Whether one operand is a number of the program on this side of 0."""
    return any(isinstance(v, core.Literal) and bool(np.all(compare(v.val, 0))) for v in equation.invars)


def _choose(equation: Equation, kinds: list[Padding]) -> Padding:
    return kinds[1] if len(set(kinds[1:])) == 1 else ANY


def _power(equation: Equation, kinds: list[Padding]) -> Padding | None:
    """By a number that is written into the program and above 0."""
    exponent = equation.params.get("y", equation.invars[-1])
    value = exponent.val if isinstance(exponent, core.Literal) else exponent
    if not isinstance(value, (int, float, np.number)) or value <= 0:
        return None
    whole = equation.primitive.name == "integer_pow"
    return ZERO if kinds[0] is ZERO else ANY if kinds[0] is POSITIVE or whole else None


def _root(equation: Equation, kinds: list[Padding]) -> Padding | None:
    return None if kinds[0] is ANY else kinds[0]


def _inverse_root(equation: Equation, kinds: list[Padding]) -> Padding | None:
    return POSITIVE if kinds[0] is POSITIVE else None


def _convert(equation: Equation, kinds: list[Padding]) -> Padding:
    """To a dtype of fewer digits a small number may become 0."""
    smaller = np.dtype(equation.outvars[0].aval.dtype).itemsize < np.dtype(equation.invars[0].aval.dtype).itemsize
    return ANY if smaller and kinds[0] is POSITIVE else kinds[0]


def _sum(equation: Equation, kinds: list[Padding]) -> Padding | None:
    return NONE if kinds[0] is ZERO and equation.outvars[0].aval.shape == () else None


RULES: dict[str, Callable[[Equation, list[Padding]], Padding | None]] = {
    "mul": _multiply,
    "add": _add,
    "add_any": _add,
    "sub": _subtract,
    "div": _divide,
    "max": _maximum,
    "min": _minimum,
    "select_n": _choose,
    "neg": lambda equation, kinds: ZERO if kinds[0] is ZERO else ANY,
    "square": lambda equation, kinds: ZERO if kinds[0] is ZERO else ANY,
    "convert_element_type": _convert,
    "integer_pow": _power,
    "pow": _power,
    "sqrt": _root,
    "cbrt": _same,
    "rsqrt": _inverse_root,
    "reduce_sum": _sum,
    "exp": lambda equation, kinds: POSITIVE if kinds[0] is ZERO else None,
}
RULES |= dict.fromkeys(("abs", "sign", "copy", "tanh"), _same)
RULES |= dict.fromkeys(("lt", "le", "gt", "ge", "eq", "ne", "and", "or", "not", "is_finite"), _any)

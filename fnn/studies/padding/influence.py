"""Whether padding stays 0 and counts in nothing, read off the traced programs of optimizer and penalty.

A program is traced for the widest parameters and for narrower ones. Where both have the same operations, with the same
numbers, an array is padded where its two shapes differ. What stands in the padding is followed through the operations:
0, a number above or below 0, or any number. An operation that is not known here, a sum over padding that is not 0, a
division by what may be 0, a mean (whose divisor is another number for another width), random numbers: each is a no.
`families` asks.
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
    NEGATIVE = "numbers below 0"
    ANY = "finite numbers"


NONE, ZERO, POSITIVE, NEGATIVE, ANY = Padding


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
    made = _follow(both[0].jaxpr, both[1].jaxpr, [NONE] * len(both[0].consts), given)
    return [kind if isinstance(kind, Padding) else NONE for kind in made]


def _follow(wide: Jaxpr, narrow: Jaxpr, constants: Sequence[Padding], given: Sequence[Any]) -> list[Any]:
    """`follow` for two traced programs; a number that is known when they are traced stands for itself."""
    if len(wide.eqns) != len(narrow.eqns) or len(wide.constvars) != len(narrow.constvars):
        raise InfluenceError("two widths have different operations")
    known: dict[Any, Any] = {}
    partner: dict[Any, Any] = {}

    def note(ours: Sequence[Any], theirs: Sequence[Any], kinds: Sequence[Any]) -> None:
        for one, other, kind in zip(ours, theirs, kinds, strict=True):
            partner[one] = other
            padded = one.aval.shape != other.aval.shape
            if padded and (kind is NONE or not isinstance(kind, Padding)):
                raise InfluenceError("an array without known padding")
            known[one] = kind if padded or not isinstance(kind, Padding) else NONE

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
    return read(wide.outvars, narrow.outvars, "result")


def _of_operation(name: str, ours: Equation, theirs: Equation, kinds: list[Any]) -> list[Any]:
    """What stands in the padding of what an operation makes."""
    inner = [_inner(equation) for equation in (ours, theirs)]
    if inner[0] is not None and inner[1] is not None:
        if any(getattr(each, "consts", None) for each in inner):
            raise InfluenceError(f"{name}: it holds arrays")
        wide, narrow = (getattr(each, "jaxpr", each) for each in inner)
        return _follow(wide, narrow, [], kinds)
    if name == "convert_element_type" and not isinstance(kinds[0], Padding):
        return [kinds[0].astype(ours.outvars[0].aval.dtype)]
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
        raise InfluenceError("a number that is not finite")
    return ZERO if not np.any(kind) else POSITIVE if np.all(kind > 0) else NEGATIVE if np.all(kind < 0) else ANY


# ---- operations on single numbers: what they make of what stands in the padding; None: it may be no finite number


def _multiply(equation: Equation, kinds: list[Padding]) -> Padding:
    return ZERO if ZERO in kinds else ANY  # also of two above 0, whose product may be too small for a number


def _add(equation: Equation, kinds: list[Padding]) -> Padding:
    return _one_of(set(kinds) - {ZERO} or {ZERO})


def _one_of(kinds: set[Padding]) -> Padding:
    return kinds.pop() if len(kinds) == 1 else ANY


OPPOSITE = {POSITIVE: NEGATIVE, NEGATIVE: POSITIVE}


def _negative(equation: Equation, kinds: list[Padding]) -> Padding:
    return OPPOSITE.get(kinds[0], kinds[0])


def _subtract(equation: Equation, kinds: list[Padding]) -> Padding:
    return _add(equation, [kinds[0], _negative(equation, kinds[1:])])


def _divide(equation: Equation, kinds: list[Padding]) -> Padding | None:
    # a single number that is not known yet may be: if it is 0, it spoils every weight
    known = kinds[1] in OPPOSITE or (kinds[1] is ANY and equation.invars[1].aval.shape == ())
    return (ZERO if kinds[0] is ZERO else ANY) if known else None


def _same(equation: Equation, kinds: list[Padding]) -> Padding:
    return kinds[0]


def _any(equation: Equation, kinds: list[Padding]) -> Padding:
    return ANY


def _maximum(equation: Equation, kinds: list[Padding]) -> Padding:
    return POSITIVE if POSITIVE in kinds else _one_of(set(kinds) - {NEGATIVE} or {NEGATIVE})


def _minimum(equation: Equation, kinds: list[Padding]) -> Padding:
    return NEGATIVE if NEGATIVE in kinds else _one_of(set(kinds) - {POSITIVE} or {POSITIVE})


def _choose(equation: Equation, kinds: list[Padding]) -> Padding:
    return _one_of(set(kinds[1:]))


def _power(equation: Equation, kinds: list[Padding]) -> Padding | None:
    """By a number that is written into the program and above 0."""
    exponent = equation.params.get("y", equation.invars[-1])
    value = exponent.val if isinstance(exponent, core.Literal) else exponent
    if not isinstance(value, (int, float, np.number)) or value <= 0:
        return None
    whole = equation.primitive.name == "integer_pow"
    return ZERO if kinds[0] is ZERO else ANY if kinds[0] is POSITIVE or whole else None


def _root(equation: Equation, kinds: list[Padding]) -> Padding | None:
    return kinds[0] if kinds[0] in (ZERO, POSITIVE) else None


def _inverse_root(equation: Equation, kinds: list[Padding]) -> Padding | None:
    return POSITIVE if kinds[0] is POSITIVE else None


def _convert(equation: Equation, kinds: list[Padding]) -> Padding:
    """To a dtype of fewer digits a small number may become 0."""
    smaller = np.dtype(equation.outvars[0].aval.dtype).itemsize < np.dtype(equation.invars[0].aval.dtype).itemsize
    return ANY if smaller and kinds[0] is not ZERO else kinds[0]


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
    "neg": _negative,
    "abs": lambda equation, kinds: POSITIVE if kinds[0] is NEGATIVE else kinds[0],
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
RULES |= dict.fromkeys(("sign", "copy", "tanh"), _same)
RULES |= dict.fromkeys(("lt", "le", "gt", "ge", "eq", "ne", "and", "or", "not", "is_finite"), _any)

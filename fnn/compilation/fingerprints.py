"""What a function computes, as its traced program: to tell whether two functions are the same, and to lift numbers.

`optax.sgd(0.1)` is a new pair of closures each time, unequal to the last one; its traced program is not new. Two
programs with the same operations on the same constants are interchangeable, and two that differ in numbers only become
one when these numbers are made arguments of it.
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from fnn.types import Equation, Jaxpr, Numbers, Tree

RULES = ("custom_jvp_call", "custom_vjp_call")  # operations with a derivative of their own


class Fingerprint(NamedTuple):
    """A function's program.

    - `digest`: equal for two functions that compute the same, the lifted numbers apart.
    - `exact`: False where it holds something that has no description but its address; then equal digests prove nothing.
    - `numbers`: those lifted, as NumPy numbers, in order; equal ones once.
    - `call(numbers, *arguments)`: the function, with such numbers.
    - `passed`: which leaves of its result are leaves of its arguments, as they came: (number of the one, of the other).
    - `uses_spare`: whether what it computes depends on the spare arguments.
    - `identity`: equal for two that compute the same, and for no others: it holds on to what has only an address, so
      that no other thing gets that address while the identity is in use.
    """

    digest: str
    exact: bool
    numbers: tuple[Any, ...]
    call: Callable[..., Any]
    identity: "Identity"
    has_rules: bool = False
    uses_spare: bool = False
    passed: tuple[tuple[int, int], ...] = ()


class Identity:
    """What a program is known by; can be hashed and compared."""

    def __init__(self, text: str, holds: object = None):
        self.digest, self.holds = hashlib.sha256(text.encode()).hexdigest(), holds

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Identity) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def __repr__(self) -> str:
        return self.digest[:16]


def fingerprint(function: Callable[..., Any], *arguments: Tree, lift: bool = False, spare: int = 0) -> Fingerprint:
    """Trace a function of arrays (or their shapes and dtypes); with `lift` its floating numbers become arguments.

    0 and 1 are not lifted, since XLA knows how to leave them out. Of the arguments the last few may be `spare`: where
    the function does not use them it is known, and called, as one without them.

    >>> import jax.numpy as jnp
    >>> from fnn.compilation.fingerprints import fingerprint
    >>> one, two = (fingerprint(lambda x, by=by: by * x, jnp.ones(2), lift=True) for by in (0.5, 0.25))
    >>> print(one.digest == two.digest, float(one.numbers[0]), two.call(one.numbers, jnp.ones(2)))
    True 0.5 [0.5 0.5]
    """
    # a function made here, since JAX remembers the program of one that it has traced: that of today is wanted
    closed, made = jax.make_jaxpr(lambda *given: function(*given), return_shape=True)(*arguments)
    used, inputs = _uses_spare(closed.jaxpr, arguments, spare), closed.jaxpr.invars
    if spare and not used:
        arguments = arguments[:-spare]
        inputs = inputs[: len(jax.tree.leaves(arguments))]
    places: dict[tuple[int, int], int] = {}
    numbers: list[Any] = []
    for i, equation in enumerate(closed.jaxpr.eqns if lift else ()):
        for k, value in enumerate(equation.invars):
            if _is_number(value):
                number = np.asarray(value.val, value.aval.dtype)[()]
                same = [n for n, other in enumerate(numbers) if (other.dtype, other) == (number.dtype, number)]
                places[i, k] = same[0] if same else len(numbers)
                numbers += [] if same else [number]
    structure = jax.tree.structure(made)
    whole = (
        f"{_program_text(closed.jaxpr, places, inputs)} {_text(closed.consts)} "
        f"{jax.tree.structure(arguments)} {structure}"  # the types in the result too: they are part of what it is
    )
    text, exact = _without_addresses(whole)

    def call(numbers: Sequence[Numbers], *arguments: Tree) -> Tree:
        leaves = _evaluate(closed, places, numbers, zip(inputs, jax.tree.leaves(arguments), strict=True))
        return jax.tree.unflatten(structure, leaves)

    identity = Identity(whole, None if exact else closed)
    return Fingerprint(
        hashlib.sha256(text.encode()).hexdigest(),
        exact,
        tuple(numbers),
        call,
        identity,
        any(rule in whole for rule in RULES),
        used,
        _passed_on(closed.jaxpr),
    )


def _passed_on(jaxpr: Jaxpr) -> tuple[tuple[int, int], ...]:
    """Which results are arguments as they came."""
    places = {value: i for i, value in enumerate(jaxpr.invars)}
    variables = [(i, v) for i, v in enumerate(jaxpr.outvars) if not isinstance(v, core.Literal)]
    return tuple((i, places[v]) for i, v in variables if v in places)


def _uses_spare(jaxpr: Jaxpr, arguments: tuple[Tree, ...], spare: int) -> bool:
    """Whether any operation or result of a program is made of its last few arguments."""
    if not spare:
        return False
    last = set(jaxpr.invars[len(jax.tree.leaves(arguments[:-spare])) :])
    values = [value for equation in jaxpr.eqns for value in equation.invars] + list(jaxpr.outvars)
    return any(not isinstance(value, core.Literal) and value in last for value in values)


def _is_number(value: Jaxpr) -> bool:
    """Whether it is a floating number that is written into the program."""
    kind: Any = value.aval
    if not isinstance(value, core.Literal) or kind.shape or not jnp.issubdtype(kind.dtype, jnp.floating):
        return False
    return float(value.val) not in (0.0, 1.0) and bool(np.isfinite(float(value.val)))


def _evaluate(
    closed: Jaxpr, places: dict[tuple[int, int], int], numbers: Sequence[Numbers], arguments: Iterable[Any]
) -> list[Any]:
    """Run a program operation by operation, with other numbers in these places."""
    known = dict(zip(closed.jaxpr.constvars, closed.consts, strict=True))
    known |= arguments

    def read(place: tuple[int, int] | None, value: Any) -> Any:
        if place in places:
            return jnp.asarray(numbers[places[place]]).astype(value.aval.dtype)
        return value.val if isinstance(value, core.Literal) else known[value]

    for i, equation in enumerate(closed.jaxpr.eqns):
        values = [read((i, k), value) for k, value in enumerate(equation.invars)]
        made = equation.primitive.bind(*values, **equation.primitive.get_bind_params(equation.params))
        known |= zip(equation.outvars, made if equation.primitive.multiple_results else [made], strict=True)
    return [read(None, value) for value in closed.jaxpr.outvars]


# ---- a program as text: every operation, every constant; two with the same text compute the same


def _program_text(
    jaxpr: Jaxpr, places: dict[tuple[int, int], int] | None = None, inputs: Sequence[Any] | None = None
) -> str:
    names: dict[Any, str] = {}

    def name(value: Jaxpr) -> str:
        if isinstance(value, core.Literal):
            return f"{value.aval.str_short()}={_text(value.val)}"
        return names.setdefault(value, f"v{len(names)}:{value.aval.str_short()}")

    lines = [f"{[name(v) for v in (*jaxpr.constvars, *(jaxpr.invars if inputs is None else inputs))]}"]
    for i, equation in enumerate(jaxpr.eqns):
        inputs = [
            f"number {places[i, k]}:{value.aval.str_short()}" if places and (i, k) in places else name(value)
            for k, value in enumerate(equation.invars)
        ]
        params = parameters_text(equation)
        lines.append(f"{[name(v) for v in equation.outvars]} {equation.primitive} {inputs} {params}")
    return "\n".join([*lines, f"{[name(v) for v in jaxpr.outvars]}"])


def parameters_text(equation: Equation) -> str:
    """The parameters of an operation as text, less its rules of differentiation.

    Rules are functions, of which nothing is known but their addresses. What they do stands in the program of a
    function that asks for the derivative.
    """
    if equation.primitive.name not in RULES:
        return _text(equation.params)
    return _text({name: value for name, value in equation.params.items() if not callable(value)})


def _text(value: Any) -> str:
    if isinstance(value, core.ClosedJaxpr):
        return f"({_program_text(value.jaxpr)} {_text(value.consts)})"
    if isinstance(value, core.Jaxpr):
        return f"({_program_text(value)})"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k}: {_text(v)}" for k, v in value.items()) + "}"
    if type(value) in (tuple, list):
        return "[" + ", ".join(map(_text, value)) + "]"
    if hasattr(value, "dtype") and hasattr(value, "shape") and hasattr(value, "__array__"):
        if jnp.issubdtype(value.dtype, jax.dtypes.extended):
            value = jax.random.key_data(value)
        array = np.asarray(value)
        return f"{array.dtype}{array.shape}{_digest(array)}"
    return str(value)


def _digest(array: np.ndarray) -> str:
    """SHA-256 of the numbers, without a copy of them."""
    flat: Any = np.ascontiguousarray(array).reshape(-1)
    return hashlib.sha256(flat.view(np.uint8) if flat.size else b"").hexdigest()


def _without_addresses(text: str) -> tuple[str, bool]:
    """The text without the addresses of objects, and whether there were none."""
    bare = re.sub(r"0x[0-9a-f]+", "0x", text)
    return bare, bare == text

"""What a user hands over, checked: one function for each kind of argument (a number, a word, an array, a function).

Each raises `name: expected X, got Y. Hint.` for whatever is not of its kind. What is traced is let through where its
value need not be known.
"""

import contextlib
import inspect
import math
import operator
import re
import types
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from fnn.types import Array, ArrayLike, HasShape, Numbers, Record, Scalar

T = TypeVar("T")
SHOWN = 60  # characters of a value in a message
OUR_FORM = re.compile(r"[^\n]{1,200}?: expected .*? got ", re.DOTALL)

# ---- a value in a message


def describe_value(value: object) -> str:
    """A value for a message: short, on one line, without an address, whatever it is.

    >>> import jax.numpy as jnp
    >>> from fnn.arguments import describe_value
    >>> print(describe_value("a"), describe_value(jnp.sin), describe_value(jnp.ones((2, 3))), describe_value(int))
    'a' function sin float32[2, 3] the class int
    """
    if isinstance(value, (np.ndarray, jax.Array)):
        kind = "a traced " if isinstance(value, jax.core.Tracer) else "a deleted " if is_deleted(value) else ""
        whole = f"{kind}{value.dtype}{list(value.shape)}"
        return whole if kind or value.shape else _short(value, str) or f"one {value.dtype}"
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if isinstance(value, types.ModuleType):
        return f"the module {value.__name__}"
    if callable(value) and not isinstance(value, Record) and isinstance(getattr(value, "__name__", None), str):
        return f"{'the factory' if getattr(value, 'is_factory', False) else 'function'} {value.__name__}"
    return _short(value.item() if isinstance(value, np.number) else value, repr) or type(value).__name__


def describe_thing(value: object) -> str:
    """A value with the name of its class, for where another class is wanted.

    >>> from fnn.arguments import describe_thing
    >>> print(describe_thing("a"), describe_thing([1]), describe_thing(None), describe_thing(object()))
    str 'a' list [1] NoneType None object
    """
    shown, kind = describe_value(value), type(value).__name__
    plain = shown.startswith((kind, "the ", "a ", "function "))
    return shown if plain else f"{kind} {shown}"


def _short(value: object, show: Callable[[Any], str]) -> str:
    try:
        text = show(value)
    except Exception:  # of whatever class it is
        return ""
    if " at 0x" in text or "\n" in text:
        return ""
    if len(text) <= SHOWN:
        return text
    return f"{text[:SHOWN]}…" if isinstance(value, (int, str, bytes)) else ""


def is_deleted(value: object) -> bool:
    """Whether it is an array of JAX whose memory is gone: deleted, or donated to a program."""
    return isinstance(value, jax.Array) and not isinstance(value, jax.core.Tracer) and value.is_deleted()


# ---- numbers


def beside(a: Array, x: Array) -> Array:
    """`a` with axes of 1 in front, as many axes as `x` has: what NumPy does by itself, and JAX can be set to refuse.

    >>> import jax.numpy as jnp
    >>> from fnn.arguments import beside
    >>> print(beside(jnp.ones(3), jnp.ones((5, 2, 3))).shape)
    (1, 1, 3)
    """
    return a.reshape(*[1] * (x.ndim - a.ndim), *a.shape)


def scalar(name: str, what: str, value: object, hint: str, positive: bool = False) -> Scalar:
    """`value` as a Python number; as it came where it is traced (one of the settings), since it is not known yet.

    Args:
        name: of the factory, for the message.
        what: is expected, such as "a coefficient".
        value: a finite number of at least 0: Python's, NumPy's or JAX's, or traced.
        hint: what to do instead, for the message, in the imperative.
        positive: whether 0 is too small as well.

    Raises:
        TypeError: it is not one real number.
        ValueError: it is too small, infinite or NaN.

    >>> from fnn.arguments import scalar
    >>> scalar("l1", "a coefficient", -1, "Pass 0 for no penalty")
    Traceback (most recent call last):
        ...
    ValueError: l1: expected a coefficient of at least 0, got -1. Pass 0 for no penalty.
    """
    wanted = f"{what} {'above' if positive else 'of at least'} 0"
    number = real_number(name, wanted, value, f"{hint}.")
    if isinstance(number, jax.core.Tracer):
        return number
    if not (number >= 0 and math.isfinite(number)) or (positive and number == 0):
        raise ValueError(f"{name}: expected {wanted}, got {number}. {hint}.")
    return number


def finite(name: str, what: str, value: object, hint: str) -> Scalar:
    """`value` as a Python number of either sign, neither infinite nor NaN; as it came where it is traced.

    >>> from fnn.arguments import finite
    >>> finite("leaky_relu", "a finite slope", float("nan"), "Pass 0.2.")
    Traceback (most recent call last):
        ...
    ValueError: leaky_relu: expected a finite slope, got nan. Pass 0.2.
    """
    number = real_number(name, what, value, hint)
    if not isinstance(number, jax.core.Tracer) and not math.isfinite(number):
        raise ValueError(f"{name}: expected {what}, got {number}. {hint}")
    return number


def real_number(name: str, what: str, value: object, hint: str) -> Scalar:
    """`value` as a Python number; as it came where it is traced. Raises a TypeError if it is not one real number."""
    kinds = (int, float, np.number, np.ndarray, jax.Array)
    real = isinstance(value, kinds) and not isinstance(value, (bool, np.complexfloating)) and not is_deleted(value)
    if real and isinstance(value, (np.ndarray, jax.Array)):
        real = value.shape == () and any(jnp.issubdtype(value.dtype, kind) for kind in (jnp.floating, jnp.integer))
    if not real:
        raise TypeError(f"{name}: expected {what}, got {describe_thing(value)}. {hint}")
    if isinstance(value, jax.core.Tracer):
        return value
    number: float = value.item() if isinstance(value, (np.number, np.ndarray, jax.Array)) else value  # type: ignore
    if isinstance(number, int) and abs(number) > _LARGEST:
        raise ValueError(f"{name}: expected {what}, got {describe_value(number)}, beyond the largest float. {hint}")
    return number


_LARGEST = int(np.finfo(np.float64).max)


def like(number: Numbers | Sequence[Scalar], x: HasShape) -> jax.Array:
    """A number in the dtype of `x`: NumPy's, JAX's or a traced one would turn bfloat16 into float32 otherwise.

    >>> import jax.numpy as jnp, numpy as np
    >>> from fnn.arguments import like
    >>> (like(np.float64(0.5), jnp.ones(2, jnp.bfloat16)) * jnp.ones(2, jnp.bfloat16)).dtype
    dtype(bfloat16)
    """
    return jnp.asarray(number, x.dtype)


def whole_number(
    name: str, value: Any, at_least: int, hint: str = "", below: float = 2**31, what: str = "a whole number"
) -> int:
    """An integer that is not a bool, also one of NumPy or JAX: of at least `at_least`, and below `below`."""
    got = None
    plain = not isinstance(value, (bool, np.bool_, jax.core.Tracer)) and getattr(value, "dtype", None) != np.bool_
    if plain and not is_deleted(value):
        with contextlib.suppress(TypeError):
            got = operator.index(value)
    if got is None or not at_least <= got < below:
        shown = describe_value(value)
        if isinstance(value, jax.core.Tracer):
            shown = "a traced setting (whole numbers alone in `over` are not traced: 8, not 8.0)"
        hint = hint or f"Write {name}={at_least or 10}."
        raise ValueError(f"{name}: expected {what}, at least {at_least}, got {shown}. {hint}")
    return got


def epochs(value: Any, at_least: int = 0) -> int:
    """How many epochs; they are counted in int32."""
    if whole_number("epochs", value, at_least, below=math.inf) >= 2**31:
        raise ValueError(
            f"epochs: expected fewer than 2^31, got {describe_value(value)}. Pass fewer, and go on from there."
        )
    return int(value)


def number(name: str, value: Any, low: float = -math.inf, high: float = math.inf) -> float:
    """A finite number from `low` on, below `high`; on the host, so not a traced one."""
    above = "" if low == -math.inf else f" of at least {low:g}"
    wanted = f"a {'finite ' * (not above)}number{above}" + ("" if high == math.inf else f" and below {high:g}")
    hint = f"Write {name}={low if above else 1:g}."
    try:
        known = real_number(name, wanted, value, hint)
    except TypeError:
        known = math.nan
    if isinstance(known, jax.core.Tracer) or not math.isfinite(known) or not low <= known < high:
        raise ValueError(f"{name}: expected {wanted}, got {describe_value(value)}. {hint}")
    return float(known)


def fraction(name: str, value: Any) -> float:
    """A share, above 0 and below 1."""
    known = isinstance(value, (int, float, np.number)) and not isinstance(value, (bool, np.complexfloating))
    if not known or not 0 < value < 1:
        raise ValueError(f"{name}: expected a share between 0 and 1, got {describe_value(value)}. Write {name}=0.2.")
    return float(value)


# ---- keys


def key(value: object) -> jax.Array:
    """One random key, from a seed or as it is."""
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
        made: jax.Array = jax.random.wrap_key_data(jax.device_put(seed_words([value])[0]))
        return made
    kind = f"{value.dtype} {value.shape}" if isinstance(value, jax.Array) else describe_thing(value)
    default = jax.random.wrap_key_data(jax.device_put(seed_words([0])[0])).dtype
    if not isinstance(value, jax.Array) or is_deleted(value) or value.shape != () or value.dtype != default:
        raise TypeError(f"key: expected a seed or one {default}, got {kind}. Write key=0 or jax.random.key(0).")
    return value


def seed_words(seeds: Sequence[Any]) -> np.ndarray:
    """Raw key data of `jax.random.key(seed)` for each seed, all its 64 bits; on the host, where it compiles nothing.

    Raises:
        ValueError: a seed is no whole number from 0 to 2^64 - 1.
    """
    for seed in seeds:
        if whole_number("key", seed, 0, below=math.inf) >= 2**64:
            raise ValueError(f"key: expected a seed below 2^64, got {describe_value(seed)}. Pass a smaller one.")
    # without float64 JAX would drop the upper 32 bits
    words = np.array([[int(seed) >> 32, int(seed) & 0xFFFFFFFF] for seed in seeds], np.uint32)
    default: Any = jax.config.jax_default_prng_impl  # type: ignore[attr-defined]
    if default == "threefry2x32":
        return words
    if default in ("rbg", "unsafe_rbg"):  # as JAX makes them: the same words twice
        return np.concatenate([words, words], 1)
    return np.stack([np.asarray(jax.random.key_data(jax.random.key(int(seed)))) for seed in seeds])


# ---- words, True and False, things of a class


def flag(name: str, value: object, function: str = "") -> bool:
    """True or False, also NumPy's; a word such as "no" counts as true in Python, so it is refused."""
    if not isinstance(value, (bool, np.bool_)):
        wanted = f"{function}: expected {name}" if function else f"{name}: expected"
        raise TypeError(f"{wanted} True or False, got {describe_value(value)}. Pass {name}=True or {name}=False.")
    return bool(value)


def one_of(name: str, value: object, choices: tuple[str, ...]) -> str:
    """One of a few words."""
    if not isinstance(value, str) or value not in choices:
        words = ", ".join(map(repr, choices))
        raise ValueError(f"{name}: expected one of {words}, got {describe_value(value)}. Choose one of them.")
    return value


def instance(name: str, value: object, kind: type[T], hint: str, what: str = "") -> T:
    """A thing of a class; what is wanted is called by the name of the class, or `what`."""
    if not isinstance(value, kind):
        wanted = what or f"a {kind.__name__}"
        raise TypeError(f"{name}: expected {wanted}, got {describe_value(value)}. {hint}")
    return value


# ---- arrays


def as_numpy(name: str, value: object, what: str = "an array") -> np.ndarray:
    """What NumPy makes of a value, of any dtype; for what is none, an error in place of NumPy's own or of objects.

    Raises:
        TypeError: it is traced, deleted, or no array.
        ValueError: it is a list of rows of different lengths.
    """
    hint = "Pass an array, or a list of numbers."
    if (
        value is None
        or isinstance(value, (dict, set, frozenset, str, bytes, type))
        or (not hasattr(value, "__array__") and (callable(value) or hasattr(value, "__next__")))
        or isinstance(value, (types.ModuleType, Record, jax.core.Tracer))
        or is_deleted(value)
    ):
        got = "None" if value is None else describe_thing(value)
        raise TypeError(f"{name}: expected {what}, got {got}. {hint}")
    try:
        array = np.asarray(value)
    except ValueError:
        raise ValueError(
            f"{name}: expected a rectangular array, got rows of different lengths. Pad or drop them."
        ) from None
    except Exception as error:  # of a class of the user's
        got = f"{type(value).__name__}, which raises {describe_error(error)}"
        raise TypeError(f"{name}: expected {what}, got {got}. {hint}") from error
    return array


def as_array(name: str, value: object, what: str = "real numbers") -> Array:
    """A value as an array of JAX: real numbers or bools, traced or not."""
    if isinstance(value, (list, tuple)) and any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(value)):
        with contextlib.suppress(TypeError, ValueError):
            value = jnp.asarray(value)
    array: Any = value if isinstance(value, jax.Array) and not is_deleted(value) else as_numpy(name, value, what)
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{name}: expected {what}, got a masked array. Fill the gaps or drop their rows.")
    if not any(jnp.issubdtype(array.dtype, kind) for kind in (jnp.floating, jnp.integer, jnp.bool_)):
        raise TypeError(f"{name}: expected {what}, got {array.dtype}. Convert them to a floating dtype.")
    return jnp.asarray(value if isinstance(value, (bool, int, float)) else array)


def as_floats(name: object, x: ArrayLike, what: str = "real numbers") -> Array:
    """`x` as a floating array; integers stand for the numbers that they are."""
    array = as_array(str(name), x, what)
    return array if jnp.issubdtype(array.dtype, jnp.floating) else array.astype(jnp.result_type(float))


# ---- functions of the user's


def function(name: str, value: Any, count: int, what: str, hint: str) -> Callable[..., Any]:
    """A function that can be called with so many arguments; no class, and no factory that still has to be called.

    >>> from fnn.arguments import function
    >>> function("from_function", lambda a, b: a, 1, "a function of the inputs", "Pass jnp.sin.")
    Traceback (most recent call last):
        ...
    TypeError: from_function: expected a function of the inputs, got the function <lambda> of other arguments (a, b).
    Pass jnp.sin.
    """
    got = describe_thing(value)
    if is_module(value):
        got += ", a module of another library"
    elif callable(value) and not isinstance(value, type) and not getattr(value, "is_factory", False):
        signature = _signature(value)
        if signature is None or _takes(signature, count):
            return value
        got += f" of other arguments ({', '.join(signature.parameters)})"
    raise TypeError(f"{name}: expected {what}, got {got}. {hint}")


def is_module(value: object) -> bool:
    """Whether this looks like a network of Flax, Haiku or PyTorch."""
    pairs = (("init", "apply"), ("parameters", "forward"))
    known = isinstance(value, (type, tuple, Record, types.FunctionType))
    return not known and any(all(hasattr(value, name) for name in pair) for pair in pairs)


def _signature(value: Callable[..., Any]) -> inspect.Signature | None:
    try:
        return inspect.signature(value)
    except (TypeError, ValueError):  # some of C do not tell
        return None


def _takes(signature: inspect.Signature, count: int) -> bool:
    try:
        signature.bind(*[None] * count)
    except TypeError:
        return False
    return True


def call(name: str, function: Callable[..., Any], *given: Any, what: str = "a function that JAX can trace") -> Any:
    """What a user's function returns. Of errors that are Python's, JAX's or NumPy's own, it says where they come from.

    What the user raises, other than errors of types, values and names, goes on as it is.
    """
    try:
        return function(*given)
    except (TypeError, ValueError, AttributeError, LookupError, ArithmeticError) as error:
        if OUR_FORM.match(str(error)):
            raise
        kind = ValueError if isinstance(error, ValueError) else TypeError
        raise kind(f"{name}: expected {what}, got {_of_function(error)}") from error


def _of_function(error: Exception) -> str:
    """What went wrong in a function, and the hint."""
    if isinstance(error, jax.errors.TracerArrayConversionError):
        return "one that computes with NumPy. Use jnp in place of np in it."
    if isinstance(error, jax.errors.ConcretizationTypeError):
        return "one that looks at the value of an array. Use jnp.where or jax.lax.cond in place of if."
    return f"one that raises {describe_error(error)}. Look at the function; its own error stands above."


def describe_error(error: Exception) -> str:
    """The class of an error and the first line of what it says, in short."""
    line = next(iter(str(error).strip().splitlines()), "")
    line = line if len(line) <= 200 else f"{line[:200]}…"
    return f"{type(error).__name__}: {re.sub(' at 0x[0-9a-f]+', '', line).rstrip('.')}"


def array_of(name: str, value: object, what: str, floats: bool = True) -> Array:
    """What a user's function returned, if it is an array of JAX; with `floats`, one of a floating dtype."""
    hint = "Return an array of jnp."
    if isinstance(value, (np.ndarray, np.generic)):
        hint = "Use jnp in place of np in it."
    elif isinstance(value, jax.Array) and not jnp.issubdtype(value.dtype, jax.dtypes.extended):
        real = jnp.issubdtype(value.dtype, jnp.floating)
        others = jnp.issubdtype(value.dtype, jnp.integer) or value.dtype == jnp.bool_
        if real or (others and not floats):
            return value
        hint = "Return real numbers" + " of a floating dtype." * floats
    got = f"a NumPy {value.dtype}{list(value.shape)}" if hint.startswith("Use") else describe_thing(value)  # type: ignore
    raise TypeError(f"{name}: expected {what}, got {got}. {hint.rstrip('.')}.")

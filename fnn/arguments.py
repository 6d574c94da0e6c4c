"""Numbers that a user hands to a factory: a coefficient, a learning rate, a number of steps. Checked where known."""

import contextlib
import math
import operator
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnn.types import Array, ArrayLike, HasShape, Numbers, Scalar


def beside(a: Array, x: Array) -> Array:
    """`a` with axes of 1 in front, as many axes as `x` has: what NumPy does by itself, and JAX can be set to refuse.

    >>> import jax.numpy as jnp
    >>> from fnn.arguments import beside
    >>> print(beside(jnp.ones(3), jnp.ones((5, 2, 3))).shape)
    (1, 1, 3)
    """
    return a.reshape(*[1] * (x.ndim - a.ndim), *a.shape)


def describe_value(value: object) -> str:
    """A value that ought to be a whole number, for a message; a traced one has a name that tells a user nothing.

    >>> from fnn.arguments import describe_value
    >>> describe_value(2.5)
    '2.5'
    """
    if isinstance(value, jax.core.Tracer):
        return "a traced setting (whole numbers alone in `over` are not traced: 8, not 8.0)"
    return repr(value)


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
    if isinstance(value, bool) or not isinstance(value, (int, float, np.generic, np.ndarray, jax.Array)):
        raise TypeError(f"{name}: expected {what}, got {type(value).__name__} {value!r}. {hint}")
    if isinstance(value, (int, float)) and not isinstance(value, np.generic):
        return value
    real = jnp.issubdtype(value.dtype, jnp.floating) or jnp.issubdtype(value.dtype, jnp.integer)
    if value.shape != () or not real:
        raise TypeError(f"{name}: expected {what}, got {value.dtype}{list(value.shape)}. {hint}")
    return value if isinstance(value, jax.core.Tracer) else value.item()


def like(number: Numbers | Sequence[Scalar], x: HasShape) -> jax.Array:
    """A number in the dtype of `x`: NumPy's, JAX's or a traced one would turn bfloat16 into float32 otherwise.

    >>> import jax.numpy as jnp, numpy as np
    >>> from fnn.arguments import like
    >>> (like(np.float64(0.5), jnp.ones(2, jnp.bfloat16)) * jnp.ones(2, jnp.bfloat16)).dtype
    dtype(bfloat16)
    """
    return jnp.asarray(number, x.dtype)


def flag(name: str, value: object) -> bool:
    """True or False, also NumPy's; a word such as "no" counts as true in Python, so it is refused."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name}: expected True or False, got {value!r}. Pass {name}=True or {name}=False.")
    return bool(value)


def whole_number(name: str, value: Any, at_least: int) -> int:
    """An integer that is not a bool; also one of NumPy or JAX."""
    got = None
    if not isinstance(value, (bool, np.bool_)) and getattr(value, "dtype", None) != np.bool_:
        with contextlib.suppress(TypeError):
            got = operator.index(value)
    if got is None or got < at_least:
        raise ValueError(
            f"{name}: expected a whole number, at least {at_least}, got {value!r}. Write {name}={at_least or 10}."
        )
    return got


def epochs(value: Any, at_least: int = 0) -> int:
    """How many epochs; they are counted in int32."""
    if whole_number("epochs", value, at_least) >= 2**31:
        raise ValueError(f"epochs: expected fewer than 2^31, got {value}. Pass fewer, and go on from there.")
    return int(value)


def number(name: str, value: Any, low: float, high: float = math.inf) -> float:
    """A finite number from `low` on, below `high`."""
    known = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
    if isinstance(value, (np.ndarray, jax.Array)) and not isinstance(value, jax.core.Tracer):  # a scalar of JAX
        known = value.shape == () and jnp.result_type(value) != np.bool_
    if not known or not math.isfinite(value) or not low <= float(value) < high:
        between = f"of at least {low:g}" + ("" if high == math.inf else f" and below {high:g}")
        raise ValueError(f"{name}: expected a number {between}, got {value!r}. Write {name}={low:g}.")
    return float(value)


def fraction(name: str, value: Any) -> float:
    """A share, above 0 and below 1."""
    known = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
    if not known or not 0 < value < 1:
        raise ValueError(f"{name}: expected a share between 0 and 1, got {value!r}. Write {name}=0.2.")
    return float(value)


def key(value: object) -> jax.Array:
    """One random key, from a seed or as it is."""
    if isinstance(value, (int, np.integer)):
        from_seed: jax.Array = jax.random.wrap_key_data(jax.device_put(seed_words([value])[0]))
        return from_seed
    kind = f"{value.dtype} {value.shape}" if isinstance(value, jax.Array) else type(value).__name__
    default = jax.random.wrap_key_data(jax.device_put(seed_words([0])[0])).dtype
    if not isinstance(value, jax.Array) or value.shape != () or value.dtype != default:
        raise TypeError(f"key: expected a seed or one {default}, got {kind}. Write key=0 or jax.random.key(0).")
    return value


def seed_words(seeds: Sequence[Any]) -> np.ndarray:
    """Raw key data of `jax.random.key(seed)` for each seed, all its 64 bits; on the host, where it compiles nothing.

    Raises:
        ValueError: a seed is no whole number from 0 to 2^64 - 1.
    """
    for seed in seeds:
        if whole_number("key", seed, 0) >= 2**64:
            raise ValueError(f"key: expected a seed below 2^64, got {seed}. Take a smaller one.")
    # without float64 JAX would drop the upper 32 bits
    words = np.array([[int(seed) >> 32, int(seed) & 0xFFFFFFFF] for seed in seeds], np.uint32)
    default: Any = jax.config.jax_default_prng_impl  # type: ignore[attr-defined]
    if default == "threefry2x32":
        return words
    if default in ("rbg", "unsafe_rbg"):  # as JAX makes them: the same words twice
        return np.concatenate([words, words], 1)
    return np.stack([np.asarray(jax.random.key_data(jax.random.key(int(seed)))) for seed in seeds])


def one_of(name: str, value: object, choices: tuple[str, ...]) -> str:
    """One of a few words."""
    if value not in choices:
        raise ValueError(f"{name}: expected one of {', '.join(map(repr, choices))}, got {value!r}. Choose one of them.")
    return value


def as_floats(name: object, x: ArrayLike) -> Array:
    """`x` as a floating array; integers stand for the numbers that they are."""
    dtype = x.dtype if isinstance(x, jax.Array) else np.asarray(x).dtype
    if jnp.issubdtype(dtype, jnp.integer) or jnp.issubdtype(dtype, jnp.bool_):
        return jnp.asarray(x).astype(jnp.result_type(float))
    if not jnp.issubdtype(dtype, jnp.floating):
        raise TypeError(f"{name}: expected real numbers, got {dtype}. Convert them to a floating dtype.")
    return jnp.asarray(x)

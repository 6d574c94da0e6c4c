"""Numbers and keys of random numbers: a coefficient, a learning rate, a number of steps, a seed."""

import contextlib
import math
import operator
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnn.arguments.values import describe_thing, describe_value, is_deleted
from fnn.types import Scalar

_LARGEST = int(np.finfo(np.float64).max)


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
        got = (describe_value if hasattr(value, "dtype") else describe_thing)(value)
        raise TypeError(f"{name}: expected {what}, got {got}. {hint}")
    if isinstance(value, jax.core.Tracer):
        return value
    number: float = value.item() if isinstance(value, (np.number, np.ndarray, jax.Array)) else value  # type: ignore
    if isinstance(number, int) and abs(number) > _LARGEST:
        raise ValueError(f"{name}: expected {what}, got {describe_value(number)}, beyond the largest float. {hint}")
    return number


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
        from_seed: jax.Array = jax.random.wrap_key_data(jax.device_put(seed_words([value])[0]))
        return from_seed
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

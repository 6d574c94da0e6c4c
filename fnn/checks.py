"""What a user hands over, checked on the host before anything compiles: name, expected, got, the mend."""

import math
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def rows(name: str, value: Any) -> Any:
    """A table of rows from what a user has: lists, NumPy, pandas, JAX arrays. Finite numbers, at least one row."""
    array = _array(name, value)
    if array.dtype.kind not in "fiub" and not jnp.issubdtype(array.dtype, jnp.floating):
        raise TypeError(
            f"{name}: expected numbers, got dtype {array.dtype}. Do convert to numbers, classes to 0, 1, …."
        )
    if array.ndim == 0:
        raise ValueError(f"{name}: expected a table of rows, got the single number {array}. Do pass an array.")
    if array.size == 0:
        raise ValueError(f"{name}: expected at least one row and one number, got shape {array.shape}. Do pass data.")
    _finite(name, array)
    return array


def _array(name: str, value: Any) -> Any:
    if isinstance(value, jax.Array):
        return value
    if value is None:
        raise TypeError(f"{name}: expected an array, got None. Do pass data=(x, t).")
    try:
        array = np.asarray(value.to_numpy() if hasattr(value, "to_numpy") else value)
    except ValueError:
        raise ValueError(
            f"{name}: expected a rectangular array, got rows of different lengths. Do pad or drop them."
        ) from None
    return array.astype(array.dtype.newbyteorder("=")) if not array.dtype.isnative else array


def _finite(name: str, array: Any) -> None:
    if jnp.issubdtype(array.dtype, jnp.floating):
        bad = ~np.isfinite(np.asarray(array)).reshape(array.shape[0], -1).all(1)
        if bad.any():
            row = int(np.argmax(bad))
            raise ValueError(
                f"{name}: expected finite numbers, got nan or inf in {int(bad.sum())} of {len(bad)} rows, "
                f"the first is row {row}. Do remove or impute them."
            )


def inputs(name: str, value: Any, dtype: Any) -> jax.Array:
    """Inputs as a device array of the run's dtype; bytes stay bytes (images), other integers become floats."""
    array = rows(name, value)
    if array.ndim < 2:
        raise ValueError(f"{name}: expected shape (rows, features), got {array.shape}. Do reshape: {name}[:, None].")
    if array.dtype == np.uint8:
        return jnp.asarray(array)
    return _cast(name, array, dtype, value)


def targets(name: str, value: Any, dtype: Any) -> jax.Array:
    """Targets as a device array: floats of the run's dtype, integers (class numbers) as they are."""
    array = rows(name, value)
    if jnp.issubdtype(array.dtype, jnp.floating):
        return _cast(name, array, dtype, value)
    integer = jax.dtypes.canonicalize_dtype(np.int64)
    if array.size and array.dtype.kind != "b":
        low, high = int(array.min()), int(array.max())
        if low < np.iinfo(integer).min or high > np.iinfo(integer).max:
            raise ValueError(f"{name}: expected integers that fit {integer}, got {low} to {high}. Do renumber them.")
    return jnp.asarray(array.astype(integer))


def _cast(name: str, array: Any, dtype: Any, given: Any) -> jax.Array:
    """To the run's dtype, with one clear warning where that cuts digits which the caller had chosen to have."""
    chosen = hasattr(given, "dtype") or hasattr(given, "dtypes")
    if array.dtype == np.float64 and jnp.dtype(dtype).itemsize < 8 and chosen:
        warnings.warn(
            f"{name}: float64 data are cut to {jnp.dtype(dtype).name}. Do set jax.config.update("
            "'jax_enable_x64', True) to keep the digits, or pass float32 to say that you do not need them.",
            stacklevel=4,
        )
    return jnp.asarray(array).astype(dtype) if isinstance(array, jax.Array) else jnp.asarray(np.asarray(array, dtype))


def weights(name: str, value: Any, count: int, dtype: Any) -> jax.Array:
    """Row weights: `(rows,)`, finite, at least 0, not all 0."""
    array = np.asarray(rows(name, value), dtype)
    if array.shape != (count,):
        raise ValueError(f"{name}: expected shape ({count},), one weight a row, got {array.shape}. Do pass one a row.")
    if (array < 0).any():
        row = int(np.argmax(array < 0))
        raise ValueError(
            f"{name}: expected weights of at least 0, got {array[row]} in row {row}. Do use 0 to leave it out."
        )
    if not array.any():
        raise ValueError(
            f"{name}: expected a weight above 0, got zeros only. Do leave {name} out to count all rows alike."
        )
    return jnp.asarray(array)


def same_rows(name: str, x: Any, t: Any) -> None:
    """As many targets as inputs."""
    if len(x) != len(t):
        raise ValueError(
            f"{name}: expected as many targets as inputs, got {len(t)} and {len(x)}. Do pair them row by row."
        )


def pair(name: str, value: Any) -> tuple[Any, Any]:
    """(inputs, targets)."""
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        got = f"{len(value)} things" if isinstance(value, (tuple, list)) else type(value).__name__
        raise TypeError(f"{name}: expected a pair (inputs, targets), got {got}. Do write {name}=(x, t).")
    return value[0], value[1]


def whole_number(name: str, value: Any, at_least: int) -> int:
    """An integer that is not a bool."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < at_least:
        raise ValueError(
            f"{name}: expected a whole number, at least {at_least}, got {value!r}. Do write {name}={at_least or 10}."
        )
    return int(value)


def one_of(name: str, value: Any, choices: tuple[str, ...]) -> str:
    """One of a few words."""
    if value not in choices:
        raise ValueError(
            f"{name}: expected one of {', '.join(map(repr, choices))}, got {value!r}. Do choose one of them."
        )
    return value


def settings(value: Any, reserved: tuple[str, ...]) -> dict[str, float]:
    """Named finite numbers."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise TypeError(
            f"settings: expected a dict of numbers, got {type(value).__name__}. Do write settings={{'lr': 0.1}}."
        )
    for name, number in value.items():
        if name in reserved:
            raise ValueError(
                f"settings: expected your own names, got {name!r}, which is an argument. Do pass {name}=…."
            )
        if isinstance(number, str) or not (np.isscalar(number) or getattr(number, "ndim", None) == 0):
            raise TypeError(f"settings[{name!r}]: expected one number, got {type(number).__name__}. Do pass a float.")
        if not math.isfinite(float(number)):
            raise ValueError(f"settings[{name!r}]: expected a finite number, got {number}. Do choose another.")
    return dict(value)

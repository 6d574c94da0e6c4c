"""What a user hands over, checked on the host before anything compiles: name, expected, got, the mend."""

import math
import os
import warnings
from collections.abc import Sequence
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
    if isinstance(value, np.ma.MaskedArray):  # NumPy would drop the mask in silence
        raise TypeError(f"{name}: expected an array, got a masked one. Do fill the gaps or drop their rows.")
    if hasattr(value, "toarray"):
        raise TypeError(f"{name}: expected an array, got the sparse {type(value).__name__}. Do pass its .toarray().")
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


def inputs(name: str, value: Any, dtype: Any, cut: list[str] | None = None) -> jax.Array:
    """Inputs as a device array of the run's dtype; bytes stay bytes (images), other integers become floats.

    With `cut`, float64 data that lose digits are named there, and not warned of.
    """
    array = rows(name, value)
    if array.ndim < 2:
        raise ValueError(f"{name}: expected shape (rows, features), got {array.shape}. Do reshape: {name}[:, None].")
    if array.dtype == np.uint8:
        return on_device(array)
    if array.dtype.kind in "iu":
        _fits(name, array, np.int32 if jnp.dtype(dtype).itemsize < 8 else np.int64, "scale them to floats")
    return _cast(name, array, dtype, value, cut)


def targets(name: str, value: Any, dtype: Any, cut: list[str] | None = None) -> jax.Array:
    """Targets as a device array: floats of the run's dtype, integers (class numbers) as they are."""
    array = rows(name, value)
    if jnp.issubdtype(array.dtype, jnp.floating):
        return _cast(name, array, dtype, value, cut)
    integer = jax.dtypes.canonicalize_dtype(np.int64)
    if array.dtype.kind != "b":
        _fits(name, array, integer, "renumber them")
    return on_device(array.astype(integer))


def on_device(array: Any) -> jax.Array:
    """A NumPy array as one on the device that nobody else can change; unlike `jnp.asarray` it compiles nothing."""
    if isinstance(array, jax.Array):
        return array
    # a CPU takes memory that begins at a multiple of 64 as it is: so this copy is the only one, and must be ours
    room = np.empty(array.nbytes + 64, np.uint8)
    begin = -room.ctypes.data % 64
    own = room[begin : begin + array.nbytes].view(array.dtype).reshape(array.shape)
    own[...] = array
    return jax.device_put(own)


def _fits(name: str, array: Any, integer: Any, mend: str) -> None:
    low, high = int(array.min()), int(array.max())
    if low < np.iinfo(integer).min or high > np.iinfo(integer).max:
        raise ValueError(f"{name}: expected integers that fit {np.dtype(integer)}, got {low} to {high}. Do {mend}.")


def _cast(name: str, array: Any, dtype: Any, given: Any, cut: list[str] | None) -> jax.Array:
    """To the run's dtype; digits that the caller had chosen to have are not cut off in silence."""
    dtype = jnp.dtype(dtype)
    if jnp.issubdtype(array.dtype, jnp.floating) and array.dtype.itemsize > dtype.itemsize:
        largest = np.abs(np.asarray(array)).max()
        if largest > float(jnp.finfo(dtype).max):
            raise ValueError(f"{name}: expected numbers that fit {dtype}, got {largest:g}. Do scale them.")
    chosen = hasattr(given, "dtype") or hasattr(given, "dtypes")
    if array.dtype == np.float64 and dtype.itemsize < 8 and chosen:
        if cut is None:
            warn_of_cut([name], dtype, 5)
        else:
            cut.append(name)
    return array.astype(dtype) if isinstance(array, jax.Array) else on_device(np.asarray(array, dtype))


def warn_of_cut(names: list[str], dtype: Any, stacklevel: int) -> None:
    """One clear warning for all float64 data that lose digits."""
    if names:
        warnings.warn(
            f"{', '.join(names)}: float64 data are cut to {jnp.dtype(dtype).name}. Do set jax.config.update("
            "'jax_enable_x64', True) to keep the digits, or pass float32 to say that you do not need them.",
            stacklevel=stacklevel,
        )


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
    return on_device(array)


def same_rows(name: str, x: Any, t: Any) -> None:
    """As many targets as inputs."""
    if len(x) != len(t):
        raise ValueError(
            f"{name}: expected as many targets as inputs, got {len(t)} and {len(x)}. Do pair them row by row."
        )


def pair_or_triple(name: str, value: Any) -> tuple[Any, Any, Any]:
    """(inputs, targets, row weights or None)."""
    if isinstance(value, (tuple, list)) and len(value) == 3:
        return value[0], value[1], value[2]
    return *pair(name, value), None


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


def epochs(value: Any, at_least: int = 0) -> int:
    """How many epochs; they are counted in int32."""
    if whole_number("epochs", value, at_least) >= 2**31:
        raise ValueError(f"epochs: expected fewer than 2^31, got {value}. Pass fewer, and go on from there.")
    return int(value)


def number(name: str, value: Any, low: float, high: float = math.inf) -> float:
    """A finite number from `low` on, below `high`."""
    known = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
    if not known or not math.isfinite(value) or not low <= value < high:
        between = f"of at least {low:g}" + ("" if high == math.inf else f" and below {high:g}")
        raise ValueError(f"{name}: expected a number {between}, got {value!r}. Do write {name}={low:g}.")
    return float(value)


def fraction(name: str, value: Any) -> float:
    """A share, above 0 and below 1."""
    if isinstance(value, bool) or not 0 < value < 1:
        raise ValueError(f"{name}: expected a share between 0 and 1, got {value!r}. Do write {name}=0.2.")
    return float(value)


def key(value: Any) -> jax.Array:
    """One random key, from a seed or as it is."""
    if isinstance(value, (int, np.integer)):
        if whole_number("key", value, 0) >= 2**63:
            raise ValueError(f"key: expected a seed below 2^63, got {value}. Do take a smaller one.")
        return jax.random.wrap_key_data(seed_words([int(value)])[0])
    kind = f"{value.dtype} {value.shape}" if isinstance(value, jax.Array) else type(value).__name__
    if not isinstance(value, jax.Array) or value.shape != () or value.dtype != jax.random.key(0).dtype:
        default = jax.random.key(0).dtype
        raise TypeError(f"key: expected a seed or one {default}, got {kind}. Do write key=0 or jax.random.key(0).")
    return value


def seed_words(seeds: Sequence[int]) -> np.ndarray:
    """Raw key data of `jax.random.key(seed)` for each seed: on the host, where it compiles nothing."""
    default: Any = jax.config.jax_default_prng_impl  # type: ignore[attr-defined]
    if default == "threefry2x32" and all(0 <= seed < 2**32 for seed in seeds):
        return np.array([[0, seed] for seed in seeds], np.uint32)  # of larger ones JAX drops bits, without float64
    return np.stack([np.asarray(jax.random.key_data(jax.random.key(seed))) for seed in seeds])


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
        if not isinstance(name, str):
            raise TypeError(f"settings: expected names as keys, got {name!r}. Do write settings={{'lr': 0.1}}.")
        if name in reserved:
            raise ValueError(
                f"settings: expected your own names, got {name!r}, which is an argument. Do pass {name}=…."
            )
        if isinstance(number, str) or not (np.isscalar(number) or getattr(number, "ndim", None) == 0):
            raise TypeError(f"settings[{name!r}]: expected one number, got {type(number).__name__}. Do pass a float.")
        if not math.isfinite(float(number)):
            raise ValueError(f"settings[{name!r}]: expected a finite number, got {number}. Do choose another.")
    return dict(value)


def gradient(value: Any) -> Any:
    """`fnn.autodiff`, `fnn.backprop`, or one's own of their signature."""
    if not callable(value):
        raise TypeError(f"gradient: expected fnn.autodiff or fnn.backprop, got {value!r}. Do pass the function.")
    return value


def metrics(value: Any) -> dict[str, Any]:
    """Functions by name."""
    if value is not None and not isinstance(value, dict):
        got = type(value).__name__
        raise TypeError(
            f"metrics: expected a dict, name -> function, got {got}. Do write {{'accuracy': fnn.accuracy}}."
        )
    for name, metric in (value or {}).items():
        if not callable(metric):
            got = type(metric).__name__
            raise TypeError(f"metrics[{name!r}]: expected a function of outputs and targets, got {got}. Do pass one.")
        if hasattr(metric, "cache_info") or getattr(metric, "is_factory", False):
            factory = metric.__name__
            raise TypeError(
                f"metrics[{name!r}]: expected a function, got the factory {factory}. Do call it: {factory}()."
            )
    return dict(value or {})


def monitored(monitor: Any, mode: Any, patience: Any, metrics: Any, validates: bool) -> str:
    """Whether "min" or "max" of what is monitored is best; it must be said for a metric."""
    if not validates:
        for name, value, default in (("patience", patience, None), ("monitor", monitor, "loss"), ("mode", mode, None)):
            if value != default:
                raise ValueError(
                    f"{name}: expected validation data to judge by, got none. Do pass validation=(x, t) or a share."
                )
    if monitor != "loss" and monitor not in (metrics or {}):
        names = ", ".join(map(repr, metrics or {})) or "there is none"
        raise ValueError(
            f"monitor: expected 'loss' or a metric's name ({names}), got {monitor!r}. "
            f"Do pass the metric too: metrics={{{monitor!r}: …}}."
        )
    if mode is None and monitor != "loss":
        raise ValueError(
            f"mode: expected 'min' or 'max' for the metric {monitor!r}, got None. Do say mode='max' if more is better."
        )
    if mode == "max" and monitor == "loss":
        raise ValueError(
            "mode: expected 'min' for the loss, got 'max', which would choose the worst epoch. "
            "Do name what more of is better: monitor='accuracy'."
        )
    return one_of("mode", mode or "min", ("min", "max"))


def folder(name: str, value: Any) -> str:
    """The path of a folder."""
    if not isinstance(value, (str, os.PathLike)):
        raise TypeError(f"{name}: expected a folder, got {type(value).__name__}. Do write {name}='folder'.")
    return os.path.expanduser(os.fspath(value))

"""What a user hands over, checked on the host before anything compiles: name, expected, got, the mend."""

import contextlib
import dataclasses
import math
import operator
import os
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnn.data import arrays


@dataclasses.dataclass
class Cut:
    """Names of what loses digits in the dtype of a run: float64 data, and integers too large for it."""

    floats: list[str] = dataclasses.field(default_factory=list)
    integers: list[str] = dataclasses.field(default_factory=list)
    said: set[str] = dataclasses.field(default_factory=set)

    def warn(self, dtype: Any, stacklevel: int) -> None:
        """One clear warning for each kind, the first time that there is something to name."""
        kind = jnp.dtype(dtype).name
        if self.floats and "floats" not in self.said:
            warnings.warn(
                f"{', '.join(self.floats)}: float64 data are cut to {kind}. Do set jax.config.update("
                "'jax_enable_x64', True) to keep the digits, or pass float32 to say that you do not need them.",
                stacklevel=stacklevel,
            )
            self.said.add("floats")
        if self.integers and "integers" not in self.said:
            warnings.warn(
                f"{', '.join(self.integers)}: integers beyond 2^{jnp.finfo(dtype).nmant + 1} lose digits in {kind}. "
                "Standardise them first (fnn.standardise), subtract an offset, or set "
                "jax.config.update('jax_enable_x64', True).",
                stacklevel=stacklevel,
            )
            self.said.add("integers")
        self.floats, self.integers = [], []


def rows(name: str, value: Any) -> Any:
    """A table of rows from what a user has: lists, NumPy, frames, tensors, JAX. Finite numbers, at least one row."""
    array = arrays.read(name, value)
    if jnp.issubdtype(array.dtype, jax.dtypes.extended) or (
        array.dtype.kind not in "fiub" and not jnp.issubdtype(array.dtype, jnp.floating)
    ):
        raise TypeError(
            f"{name}: expected numbers, got dtype {array.dtype}. Do convert to numbers, classes to 0, 1, …."
        )
    if array.ndim == 0:
        raise ValueError(f"{name}: expected a table of rows, got the single number {array}. Do pass an array.")
    if array.size == 0:
        raise ValueError(f"{name}: expected at least one row and one number, got shape {array.shape}. Do pass data.")
    _finite(name, array)
    return array


def _finite(name: str, array: Any) -> None:
    if jnp.issubdtype(array.dtype, jnp.floating):
        bad = ~np.isfinite(np.asarray(array)).reshape(array.shape[0], -1).all(1)
        if bad.any():
            row = int(np.argmax(bad))
            raise ValueError(
                f"{name}: expected finite numbers, got nan or inf in {int(bad.sum())} of {len(bad)} rows, "
                f"the first is row {row}. Do remove or impute them."
            )


def inputs(
    name: str, value: Any, dtype: Any, cut: Cut, put: Callable[..., Any] = arrays.as_numpy, in_shape: Any = None
) -> Any:
    """Inputs, checked, and cast to a run's dtype; bytes stay bytes (images), other integers become floats.

    Args:
        name: what errors call them.
        value: whatever `arrays.read` takes.
        dtype: of the run.
        cut: gets the name if digits are lost.
        put: `arrays.owned`, or `arrays.as_numpy`, whose result may still be the caller's memory.
        in_shape: of one example, where it is known, for the hint of an error.
    """
    array = rows(name, value)
    if array.ndim < 2:
        mend = f"write {name}[None, :] for one row" if array.shape == in_shape else f"reshape: {name}[:, None]"
        raise ValueError(f"{name}: expected shape (rows, features), got {array.shape}. Do {mend}.")
    if array.dtype.kind in "iu" and array.dtype != np.uint8:
        integer = np.int32 if jnp.dtype(dtype).itemsize < 8 else np.int64
        arrays.check_fits(name, array, integer, "scale them to floats")
        if arrays.loses_digits(array, dtype):
            cut.integers.append(name)
    _check_floats(name, array, arrays.inputs_dtype(array.dtype, dtype), value, cut)
    return put(array, arrays.inputs_dtype(array.dtype, dtype))


def targets(name: str, value: Any, dtype: Any, cut: Cut, put: Callable[..., Any] = arrays.as_numpy) -> Any:
    """Targets, checked, and cast: floats to a run's dtype, integers (class numbers) to those of JAX.

    Arguments as for `inputs`. Integers that a loss could not take as floats are named in `cut`.
    """
    array = rows(name, value)
    to = arrays.targets_dtype(array.dtype, dtype)
    if array.dtype.kind in "iu":
        arrays.check_fits(name, array, to, "renumber them")
        if arrays.loses_digits(array, dtype):
            cut.integers.append(name)
    _check_floats(name, array, to, value, cut)
    return put(array, to)


def _check_floats(name: str, array: Any, dtype: Any, given: Any, cut: Cut) -> None:
    """They fit this dtype; digits that the caller had chosen to have are not cut off in silence."""
    if jnp.issubdtype(array.dtype, jnp.floating):
        arrays.check_fits(name, array, dtype, "scale them")
        chosen = not isinstance(given, (list, tuple))
        if array.dtype == np.float64 and dtype.itemsize < 8 and chosen:
            cut.floats.append(name)


def weights(name: str, value: Any, count: int, dtype: Any, scalable: bool = True) -> Any:
    """Row weights in a run's dtype: `(rows,)`, finite, at least 0, not all 0.

    Sums over rows must neither overflow nor vanish in that dtype. With `scalable` only their ratios count, as in a
    mean: extreme ones are multiplied by a power of two, which changes no bit of a mean. Else they are refused. A weight
    below 2^-100 times the largest counts as 0: its share is far below the last digit.
    """
    array = np.asarray(row_weights(name, value, count), np.float64)
    if not array.any():
        raise ValueError(
            f"{name}: expected a weight above 0, got zeros only. Do leave {name} out to count all rows alike."
        )
    high, room = array.max(), 2.0 ** (0.4 * jnp.finfo(dtype).maxexp)
    array = np.where(array < high * 2.0**-100, 0, array)
    low = array[array > 0].min()
    if scalable and (low < 1 / room or high > room):
        array = np.ldexp(array, -int((np.log2(low) + np.log2(high)) / 2))
    check_weights(name, array, count, dtype)
    return arrays.aligned(array, dtype)


def check_weights(name: str, array: np.ndarray, count: int, dtype: Any) -> None:
    """Raise for weights that overflow or vanish in a run's dtype, alone or summed over so many rows."""
    one, whole = jnp.finfo(dtype), jnp.finfo(dtype if jnp.dtype(dtype).itemsize > 2 else jnp.float32)
    low, high = np.min(array, where=array > 0, initial=np.inf), np.max(array)
    if low < one.tiny or high > one.max or float(high) > float(whole.max) / count:
        raise ValueError(
            f"{name}: expected weights whose sum over {count} rows fits {jnp.dtype(dtype)}, got {low:g} to {high:g}. "
            "Scale them to about 1, and use 0 for rows to leave out."
        )


def row_weights(name: str, value: Any, count: int) -> Any:
    """Row weights as they are: `(rows,)`, finite, at least 0."""
    array = np.asarray(rows(name, value))
    if array.shape != (count,):
        raise ValueError(f"{name}: expected shape ({count},), one weight a row, got {array.shape}. Do pass one a row.")
    if (array < 0).any():
        row = int(np.argmax(array < 0))
        raise ValueError(
            f"{name}: expected weights of at least 0, got {array[row]} in row {row}. Do use 0 to leave it out."
        )
    return array


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


def flag(name: str, value: Any) -> bool:
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
            f"{name}: expected a whole number, at least {at_least}, got {value!r}. Do write {name}={at_least or 10}."
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
        raise ValueError(f"{name}: expected a number {between}, got {value!r}. Do write {name}={low:g}.")
    return float(value)


def fraction(name: str, value: Any) -> float:
    """A share, above 0 and below 1."""
    known = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
    if not known or not 0 < value < 1:
        raise ValueError(f"{name}: expected a share between 0 and 1, got {value!r}. Do write {name}=0.2.")
    return float(value)


def key(value: Any) -> jax.Array:
    """One random key, from a seed or as it is."""
    if isinstance(value, (int, np.integer)):
        return jax.random.wrap_key_data(jax.device_put(seed_words([value])[0]))
    kind = f"{value.dtype} {value.shape}" if isinstance(value, jax.Array) else type(value).__name__
    default = jax.random.wrap_key_data(jax.device_put(seed_words([0])[0])).dtype
    if not isinstance(value, jax.Array) or value.shape != () or value.dtype != default:
        raise TypeError(f"key: expected a seed or one {default}, got {kind}. Do write key=0 or jax.random.key(0).")
    return value


def seed_words(seeds: Sequence[Any]) -> np.ndarray:
    """Raw key data of `jax.random.key(seed)` for each seed, all its 64 bits; on the host, where it compiles nothing.

    Raises:
        ValueError: a seed is no whole number from 0 to 2^64 - 1.
    """
    for seed in seeds:
        if whole_number("key", seed, 0) >= 2**64:
            raise ValueError(f"key: expected a seed below 2^64, got {seed}. Do take a smaller one.")
    # without float64 JAX would drop the upper 32 bits
    words = np.array([[int(seed) >> 32, int(seed) & 0xFFFFFFFF] for seed in seeds], np.uint32)
    default: Any = jax.config.jax_default_prng_impl  # type: ignore[attr-defined]
    if default == "threefry2x32":
        return words
    if default in ("rbg", "unsafe_rbg"):  # as JAX makes them: the same words twice
        return np.concatenate([words, words], 1)
    return np.stack([np.asarray(jax.random.key_data(jax.random.key(int(seed)))) for seed in seeds])


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

"""What a user hands over, checked on the host before anything compiles: name, expected, got, the hint."""

import dataclasses
import os
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from fnn import arguments
from fnn.arguments import leaves, sparse
from fnn.data import arrays
from fnn.data.warnings import warn
from fnn.kernels import memory
from fnn.types import Array, DType, DTypeLike, Shape, Tree

said_in_process: set[str] = set()  # of what this process has been warned once and for all


@dataclasses.dataclass
class LostDigits:
    """Names of what loses digits in the dtype of a run: float64 data, and integers too large for it."""

    floats: list[str] = dataclasses.field(default_factory=list)
    integers: list[str] = dataclasses.field(default_factory=list)
    said: set[str] = dataclasses.field(default_factory=set)
    quiet: bool = False  # whether nothing is said, since another look at the same data will

    def warn(self, dtype: DTypeLike) -> None:
        """One clear warning for each kind, the first time that there is something to name.

        Of float64 data it is the first time in this process: what to do is the same for all of them.
        """
        if self.quiet or not (self.floats or self.integers):
            return
        kind = jnp.dtype(dtype).name
        if self.floats and "floats" not in said_in_process:
            warn(
                f"{', '.join(self.floats)}: float64 data are cut to {kind}. Set jax.config.update("
                "'jax_enable_x64', True) to keep the digits, or pass float32 to say that you do not need them.",
            )
            said_in_process.add("floats")
        if self.integers and "integers" not in self.said:
            warn(
                f"{', '.join(self.integers)}: integers beyond 2^{jnp.finfo(dtype).nmant + 1} lose digits in {kind}. "
                "Standardise them first (fnn.standardise), subtract an offset, or set "
                "jax.config.update('jax_enable_x64', True).",
            )
            self.said.add("integers")
        self.floats, self.integers = [], []


def rows(name: str, value: object, gaps: bool = False) -> Array | np.ndarray:
    """A table of rows from what a user has: lists, NumPy, frames, tensors, JAX. Finite numbers, at least one row.

    With `gaps` some may be nan.
    """
    array = arrays.read(name, value)
    if not is_numeric(array.dtype):
        raise TypeError(f"{name}: expected numbers, got dtype {array.dtype}. Convert to numbers, classes to 0, 1, ….")
    if array.ndim == 0:
        raise ValueError(f"{name}: expected a table of rows, got the single number {array}. Pass an array.")
    if array.size == 0:
        raise ValueError(f"{name}: expected at least one row and one number, got shape {array.shape}. Pass data.")
    _finite(name, array, gaps)
    return array


def tables(name: str, value: object) -> Tree:
    """`rows`; of a dict or a tuple of arrays, with as many rows each, one of these."""
    if not leaves.is_several(value):
        return rows(name, value)
    made = leaves.map_leaves(name, rows, value)
    leaves.check_one_row_axis(name, made)
    return made


def is_numeric(dtype: DType) -> bool:
    """Whether numbers of this dtype are real: floats, also those of 8 and 16 bits, integers, bools."""
    if isinstance(dtype, np.dtype) and dtype.kind in "fiub":
        return True
    return not jnp.issubdtype(dtype, jax.dtypes.extended) and arrays.is_floating(dtype)


def _finite(name: str, array: Array | np.ndarray, gaps: bool) -> None:
    if arrays.is_floating(array.dtype):
        host = np.asarray(array)
        good = ~np.isinf(host) if gaps else np.isfinite(host)
        if not good.all():
            bad = ~good.reshape(array.shape[0], -1).all(1)
            row = int(np.argmax(bad))
            raise ValueError(
                f"{name}: expected finite numbers, got {'' if gaps else 'nan or '}inf in {int(bad.sum())} of "
                f"{len(bad)} rows, the first is row {row}. Remove or impute them."
            )


def inputs(
    name: str,
    value: object,
    dtype: DType,
    cut: LostDigits,
    put: Callable[..., Any] = arrays.as_numpy,
    in_shape: Shape | None = None,
) -> Any:
    """Inputs, checked, and cast to a run's dtype; bytes stay bytes (images), other integers become floats.

    Of several arrays a dict or a tuple comes back. In it integers stay what they are, since they may be categories.

    Args:
        name: what errors call them.
        value: whatever `arrays.read` takes; or a dict or a tuple of such.
        dtype: of the run.
        cut: gets the name if digits are lost.
        put: `arrays.owned_array`, or `arrays.as_numpy`, whose result may still be the caller's memory.
        in_shape: of one example, where it is known: several arrays must be those of this shape. Of one array it is for
            the hint of an error.
    """
    if leaves.is_several(value):
        several = leaves.map_leaves(name, lambda leaf, part: _leaf(leaf, part, dtype, cut, put), value)
        leaves.check_one_row_axis(name, several)
        if in_shape is not None:
            leaves.check_same_tree(name, in_shape, several)
        return several
    if not sparse.is_sparse(value):
        sparse.refuse_sparse(name, value, inputs=True)
    array = rows(name, sparse.as_inputs(name, value))
    if in_shape is not None and not leaves.is_shape(in_shape):
        leaves.check_same_tree(name, in_shape, array)
    check_axes(name, value, array.shape, in_shape)
    if array.dtype.kind in "iu" and array.dtype != np.uint8:
        integer = np.int32 if jnp.dtype(dtype).itemsize < 8 else np.int64
        arrays.check_fits(name, array, integer, "Scale them to floats")
        if arrays.loses_digits(array, dtype):
            cut.integers.append(name)
    _check_floats(name, array, arrays.inputs_dtype(array.dtype, dtype), value, cut)
    return put(array, arrays.inputs_dtype(array.dtype, dtype))


def _leaf(name: str, value: object, dtype: DType, cut: LostDigits, put: Callable[..., Any]) -> Any:
    """One of several inputs, checked; floats in a run's dtype."""
    sparse.refuse_sparse(name, value, inputs=True)
    array = rows(name, value)
    to = arrays.leaf_dtype(array.dtype, dtype)
    if array.dtype.kind in "iu":
        arrays.check_fits(name, array, to, "Renumber them, or scale them to floats")
    _check_floats(name, array, to, value, cut)
    return put(array, to)


def one_input(name: str, x: object, t: object) -> None:
    """Raise where several inputs lie in a list, or the rows of one input in a tuple."""
    while leaves.is_several(t) and t:
        t = next(iter(t.values())) if isinstance(t, dict) else t[0]  # type: ignore[index]
    shape = getattr(t, "shape", None)
    count = shape[0] if shape else len(t) if isinstance(t, (list, tuple)) else None
    if isinstance(x, list) and len(x) != count and arrays.are_tables(x) and {len(a) for a in x} == {count}:
        arrays.refuse_several(name, x)
    if isinstance(x, tuple) and len(x) == count and leaves.is_several(x):
        lengths = {len(row) if hasattr(row, "__len__") and not isinstance(row, dict) else count for row in x}
        if count not in lengths:
            got = f"a tuple of {count} rows"
            raise ValueError(f"{name}: expected inputs with {count} rows each, got {got}. Pass np.stack(x).")


def check_axes(name: str, value: object, shape: Shape, in_shape: Shape | None) -> None:
    """Raise where an axis of the inputs is missing: that of the features, or that of the rows."""
    one = in_shape is not None and shape == in_shape
    if len(shape) >= 2 and not (one and shape[1:] != in_shape):
        return
    own = f"{name}.to_numpy()" if hasattr(value, "to_numpy") else name
    own = next(part for part in reversed(own.split(", ")) if not part.startswith(("chunk ", "rows ")))
    row, column = f"{own}[None, :]", f"{own}[:, None]"
    if isinstance(value, (list, tuple)):
        row, column = f"[{own}]", f"[[v] for v in {own}]"
    hint = f"Write {row} for one row" if one else f"Reshape: {column}"
    hint += "" if in_shape is not None else f", or for one row {row}"
    wanted = "(rows, features)" if len(shape) < 2 else f"(rows, {', '.join(map(str, shape))})"
    raise ValueError(f"{name}: expected shape {wanted}, got {shape}. {hint}.")


def targets(
    name: str,
    value: object,
    dtype: DType,
    cut: LostDigits,
    put: Callable[..., Any] = arrays.as_numpy,
    missing: Tree = None,
) -> Any:
    """Targets, checked, and cast: floats to a run's dtype, integers (class numbers) to those of JAX.

    Arguments as for `inputs`. Integers that a loss could not take as floats are named in `cut`. `missing` is what
    stands for a target that is missing, as a `Loss` says it: where that is nan, nan may be among them.
    """
    gaps = _with_gaps(name, missing)
    if leaves.is_several(value):
        several = leaves.map_leaves(name, lambda leaf, part: _targets(leaf, part, dtype, cut, put, leaf in gaps), value)
        leaves.check_one_row_axis(name, several)
        return several
    return _targets(name, value, dtype, cut, put, name in gaps)


def _with_gaps(name: str, missing: Tree) -> set[str]:
    """The names of the targets among which nan may be."""
    if isinstance(missing, dict):
        leaf_name = {key: f'{name}["{key}"]' if isinstance(key, str) else f"{name}[{key}]" for key in missing}
        return {leaf for key, part in missing.items() for leaf in _with_gaps(leaf_name[key], part)}
    return {name} if missing is not None and missing != missing else set()


def _targets(name: str, value: object, dtype: DType, cut: LostDigits, put: Callable[..., Any], gaps: bool) -> Any:
    """One array of targets, checked."""
    array = rows(name, value, gaps)
    to = arrays.targets_dtype(array.dtype, dtype)
    if array.dtype.kind in "iu":
        arrays.check_fits(name, array, to, "Renumber them")
        if arrays.loses_digits(array, dtype):
            cut.integers.append(name)
    _check_floats(name, array, to, value, cut)
    return put(array, to)


def _check_floats(name: str, array: Array | np.ndarray, dtype: DType, given: object, cut: LostDigits) -> None:
    """They fit this dtype; digits that the caller had chosen to have are not cut off without a warning."""
    if arrays.is_floating(array.dtype):
        arrays.check_fits(name, array, dtype, "Scale them")
        chosen = not isinstance(given, (list, tuple))
        if array.dtype == np.float64 and dtype.itemsize < 8 and chosen:
            cut.floats.append(name)


def weights(name: str, value: object, count: int, dtype: DType, scalable: bool = True) -> np.ndarray:
    """Row weights in a run's dtype: `(rows,)`, finite, at least 0, not all 0.

    Sums over rows must neither overflow nor vanish in that dtype. With `scalable` only their ratios count, as in a
    mean: extreme ones are multiplied by a power of two, which changes no bit of a mean. Else they are refused. A weight
    below 2^-100 times the largest counts as 0: its share is far below the last digit.
    """
    array = np.asarray(row_weights(name, value, count), np.float64)
    if not array.any():
        raise ValueError(
            f"{name}: expected a weight above 0, got zeros only. Leave {name} out to count all rows alike."
        )
    high, room = array.max(), 2.0 ** (0.4 * jnp.finfo(dtype).maxexp)
    array = np.where(array < high * 2.0**-100, 0, array)
    low = array[array > 0].min()
    if scalable and (low < 1 / room or high > room):
        array = np.ldexp(array, -int((np.log2(low) + np.log2(high)) / 2))
    check_weights(name, array, count, dtype)
    return memory.aligned_copy(array, dtype)


def check_weights(name: str, array: np.ndarray, count: int, dtype: DType) -> None:
    """Raise for weights that overflow or vanish in a run's dtype, alone or summed over so many rows."""
    one, whole = jnp.finfo(dtype), jnp.finfo(dtype if jnp.dtype(dtype).itemsize > 2 else jnp.float32)
    low, high = np.min(array, where=array > 0, initial=np.inf), np.max(array)
    if low < one.tiny or high > one.max or float(high) > float(whole.max) / count:
        raise ValueError(
            f"{name}: expected weights whose sum over {count} rows fits {jnp.dtype(dtype)}, got {low:g} to {high:g}. "
            "Scale them to about 1, and use 0 for rows to leave out."
        )


def row_weights(name: str, value: object, count: int) -> np.ndarray:
    """Row weights as they are: `(rows,)`, finite, at least 0."""
    array = np.asarray(rows(name, value))
    if array.shape != (count,):
        hint = "Pass np.ravel(weights)." if array.size == count else "Pass one per row."
        raise ValueError(f"{name}: expected shape ({count},), one weight per row, got {array.shape}. {hint}")
    if (array < 0).any():
        row = int(np.argmax(array < 0))
        raise ValueError(
            f"{name}: expected weights of at least 0, got {array[row]} in row {row}. Use 0 to leave it out."
        )
    return array


def same_rows(name: str, x: Tree, t: Tree) -> None:
    """As many targets as inputs."""
    counts = {what: leaves.row_count(tree) for what, tree in (("t", t), ("x", x))}
    if counts["t"] != counts["x"]:
        where = {what: next(iter(leaves.named_leaves("", tree))) for what, tree in (("t", t), ("x", x))}
        of_t, of_x = (f"{counts[what]} in {where[what]}" if where[what] else str(counts[what]) for what in ("t", "x"))
        raise ValueError(f"{name}: expected as many targets as inputs, got {of_t} and {of_x}. Pair them row by row.")


def pair_or_triple(name: str, value: object) -> tuple[Any, Any, Any]:
    """(inputs, targets, row weights or None)."""
    if isinstance(value, (tuple, list)) and len(value) == 3:
        return value[0], value[1], value[2]
    return *pair(name, value), None


def pair(name: str, value: object) -> tuple[Any, Any]:
    """(inputs, targets)."""
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        got = f"{len(value)} things" if isinstance(value, (tuple, list)) else arguments.describe_thing(value)
        hint = " Of a frame fnn.Table makes one." if hasattr(value, "columns") else ""
        raise TypeError(f"{name}: expected a pair (inputs, targets), got {got}. Write {name}=(x, t).{hint}")
    return value[0], value[1]


def folder(name: str, value: object) -> str:
    """The path of a folder."""
    return path(name, value, "a folder")


_OUTSIDE = core.get_opaque_trace_state(convention="nnx")


def outside_of_jit(name: str, data: object) -> None:
    """Raise where a function of the host is called inside of a function that JAX compiles.

    Data that are traced are left to who reads them.
    """
    if core.get_opaque_trace_state(convention="nnx") == _OUTSIDE:  # the rule; it takes less than a microsecond
        return
    parts = data if isinstance(data, (tuple, list)) else [data]
    if any(isinstance(leaf, jax.core.Tracer) for part in parts for leaf in jax.tree.leaves(part)):
        return
    if isinstance(jax.device_put(np.int32(0)), jax.core.Tracer):  # no number is known inside of jit and scan
        raise TypeError(f"{name}: expected known numbers, got a call inside of jit or scan. {arrays.OUTSIDE}")


def path(name: str, value: object, what: str = "a path") -> str:
    """A path as text; `~` is the home folder."""
    if not isinstance(value, (str, os.PathLike)) or not (text := os.fspath(value)) or not isinstance(text, str):
        raise TypeError(f"{name}: expected {what}, got {arguments.describe_thing(value)}. Write {name}='name'.")
    return os.path.expanduser(text)

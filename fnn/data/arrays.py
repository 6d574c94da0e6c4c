"""The border to JAX: what a user holds is read as one array, cast to a run's dtype, and copied to memory of our own.

JAX on a CPU takes memory that begins at a multiple of 64 as it is, and computes later. So whatever a caller may write
into again goes through `owned_array`, here and nowhere else.
"""

from collections.abc import Sequence
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np

from fnn import arguments
from fnn.arguments.leaves import is_several
from fnn.arguments.sparse import refuse_sparse
from fnn.kernels.memory import aligned_copy
from fnn.types import Array, ArrayLike, Columns, DType, DTypeLike, Params, ShapeError, Tree

Names = tuple[str, ...]
LeafNames = tuple[tuple[str, Names], ...]  # of the frames among several arrays
OUTSIDE = (  # the hint where something is traced
    "Call this outside of compiled functions; inside them use fnn.trainer, or "
    "net.forward(params, state, x, None, False)."
)


# ---- memory


def as_numpy(array: ArrayLike, dtype: DType) -> np.ndarray:
    """The array in this dtype, on the host: the caller's memory where nothing is to be cast."""
    array = np.asarray(array)
    return array if array.dtype == dtype else aligned_copy(array, dtype)


def owned_array(array: Array | np.ndarray, dtype: DTypeLike | None = None) -> jax.Array:
    """An array on one device that nobody else can change; unlike `jnp.asarray` it compiles nothing for a NumPy array.

    Args:
        array: a NumPy array is copied. A JAX array cannot change: it stays as it is, unless it lies on several devices
            or has another dtype. A typed key stays too.
        dtype: of the result; None: that of the array, with 32 bits where JAX is set to these.

    >>> import numpy as np
    >>> from fnn.data.arrays import owned_array
    >>> mine = np.zeros(2, "float32")
    >>> taken = owned_array(mine)
    >>> mine[:] = 1
    >>> print(taken)
    [0. 0.]
    """
    if _is_key(array):
        return array  # type: ignore[return-value]
    dtype = jax.dtypes.canonicalize_dtype(array.dtype if dtype is None else dtype)
    if isinstance(array, jax.Array) and len(array.devices()) == 1:
        if array.dtype == dtype:
            return array
        if jax.dtypes.canonicalize_dtype(array.dtype) == array.dtype:  # else JAX has no program for it
            return array.astype(dtype)
    on_device: jax.Array = jax.device_put(aligned_copy(array, dtype))
    return on_device


def owned_arrays(name: str, tree: Tree, cut: list[str]) -> Tree:
    """Parameters or layer state that nobody else can change; 64-bit numbers have 32 bits where JAX is set to these.

    Args:
        name: what errors call it.
        tree: of arrays.
        cut: gets the name, if float64 numbers lose digits.
    """

    def leaf(a: Any) -> Any:
        if _is_owned(a):
            return a
        if isinstance(a, jax.core.Tracer):
            raise TypeError(f"{name}: expected known arrays, got {arguments.describe_value(a)}. {OUTSIDE}")
        if not (hasattr(a, "shape") and hasattr(a, "dtype")) or arguments.is_deleted(a):
            got = arguments.describe_thing(a)
            raise TypeError(
                f"{name}: expected arrays, got {got} among them. Pass what was trained, such as run.params."
            )
        if _is_key(a):
            return a
        if not isinstance(a, jax.Array) and a.dtype.kind not in "fiubcV":
            raise TypeError(f"{name}: expected numbers, got dtype {a.dtype} among them. Pass what was trained.")
        a = a if isinstance(a, jax.Array) else read(name, a)
        dtype = jax.dtypes.canonicalize_dtype(a.dtype)
        if a.dtype != dtype:
            check_fits(name, a, dtype, "Train in float64, or scale them")
            if jnp.issubdtype(dtype, jnp.floating) and name not in cut:
                cut.append(name)
        return owned_array(a)

    if all(map(_is_owned, jax.tree.leaves(tree))):  # nearly always, and a third of the time
        return tree
    return jax.tree.map(leaf, tree)


def _is_owned(a: Any) -> bool:
    """Whether it is an array on one device as it may stay: what a run's parameters nearly always are."""
    if not isinstance(a, jax.Array) or isinstance(a, jax.core.Tracer) or a.is_deleted():
        return False
    return isinstance(a.sharding, jax.sharding.SingleDeviceSharding) and _is_kept(a.dtype)


def _is_kept(dtype: DType) -> bool:
    """Whether arrays of this dtype stay as they are in JAX as it is set."""
    if not isinstance(dtype, np.dtype):
        return False
    return dtype.itemsize <= 4 or bool(jax.dtypes.canonicalize_dtype(dtype) == dtype)


def _is_key(a: object) -> bool:
    return isinstance(a, jax.Array) and not isinstance(a.dtype, np.dtype)


# ---- dtypes


def dtype_of_run(params: Params) -> DType:
    """The dtype of a run's data: that of its parameters, or the default where there are none."""
    for leaf in jax.tree.leaves(params):
        dtype = leaf.dtype if isinstance(leaf, jax.Array) else jnp.result_type(leaf)
        if is_floating(dtype):
            return np.dtype(dtype)
    return np.dtype(jnp.result_type(float))


def is_floating(dtype: DType) -> bool:
    """Whether numbers of this dtype are floats, also those of 8 and 16 bits; NumPy's own without asking JAX."""
    return getattr(dtype, "kind", "") == "f" or bool(jnp.issubdtype(dtype, jnp.floating))


def inputs_dtype(given: DType, dtype: DTypeLike) -> DType:
    """Of inputs in a run of this dtype: bytes stay bytes (images), other numbers become floats."""
    return np.dtype(np.uint8) if given == np.uint8 else np.dtype(dtype)


def leaf_dtype(given: DType, dtype: DTypeLike) -> DType:
    """Of one of several inputs in a run of this dtype: floats of it; integers (categories) stay, as JAX has them."""
    return np.dtype(dtype if jnp.issubdtype(given, jnp.floating) else jax.dtypes.canonicalize_dtype(given))


def targets_dtype(given: DType, dtype: DTypeLike) -> DType:
    """Of targets in a run of this dtype: floats of it, integers (class numbers) as JAX is set to have them."""
    return np.dtype(dtype if jnp.issubdtype(given, jnp.floating) else jax.dtypes.canonicalize_dtype(np.int64))


def check_fits(name: str, array: Array | np.ndarray, dtype: DTypeLike, hint: str) -> None:
    """Raise for numbers that a cast would turn into others: integers beyond the range, floats beyond the largest."""
    dtype = np.dtype(dtype)
    if array.dtype.kind in "iu":
        room = np.iinfo(dtype)
        low, high = _ends(array)
        if low < room.min or high > room.max:
            raise ValueError(f"{name}: expected integers that fit {dtype}, got {low} to {high}. {hint}.")
    elif jnp.issubdtype(array.dtype, jnp.floating) and not np.can_cast(array.dtype, dtype):
        largest = np.abs(np.asarray(array)).max(initial=0)
        if largest > jnp.finfo(dtype).max:
            raise ValueError(f"{name}: expected numbers that fit {dtype}, got {float(largest):g}. {hint}.")


def loses_digits(array: Array | np.ndarray, dtype: DTypeLike) -> bool:
    """Whether integers are others as floats of this dtype: beyond 2^24 in float32."""
    if array.dtype.kind not in "iu" or not array.size:
        return False
    low, high = _ends(array)
    if max(-low, high) <= 2 ** (jnp.finfo(dtype).nmant + 1):
        return False
    wide = np.float64 if array.dtype.itemsize < 8 else np.longdouble
    host = np.asarray(array)
    return bool((aligned_copy(host, dtype).astype(wide) != host.astype(wide)).any())


def _ends(array: Array | np.ndarray) -> tuple[int, int]:
    host = np.asarray(array)
    return int(host.min()), int(host.max())


# ---- what a user has


def read(name: str, value: Any) -> Array | np.ndarray:
    """A JAX array as it is, anything else as a NumPy array: lists, frames, tensors. A view where that is possible."""
    if isinstance(value, jax.core.Tracer):
        raise TypeError(f"{name}: expected numbers, got a traced array. {OUTSIDE}")
    if isinstance(value, jax.Array) and not arguments.is_deleted(value):
        return value
    refuse_sparse(name, value)
    refuse_lazy(name, value)
    if isinstance(value, dict):
        raise TypeError(
            f"{name}: expected one array, got {arguments.describe_thing(value)}. "
            "Put the columns side by side: np.column_stack(list(values))."
        )
    if isinstance(value, np.ma.MaskedArray):  # NumPy would drop the mask without a warning
        raise TypeError(f"{name}: expected an array, got a masked one. Fill the gaps or drop their rows.")
    if isinstance(value, (list, tuple)) and any(hasattr(v, "detach") for v in value):
        value = [_tensor_numbers(v) if hasattr(v, "detach") else v for v in value]
    if isinstance(value, (list, tuple)) and are_tables(value) and len({np.shape(a) for a in value}) > 1:
        refuse_several(name, value)
    array = arguments.as_numpy(name, _unpack(name, value))
    return array.astype(array.dtype.newbyteorder("=")) if not array.dtype.isnative else array


def _unpack(name: str, value: Any) -> Any:
    """What NumPy can read."""
    if hasattr(value, "detach"):
        return _tensor_numbers(value)
    if columns_of(value) is not None:
        return _frame_numbers(name, value)
    return _column_numbers(name, value) if hasattr(value, "to_numpy") else value


def are_tables(values: Sequence[Any]) -> bool:
    """Whether these are several arrays of rows: two inputs of a network, say."""
    shapes = [np.shape(value) for value in values if isinstance(value, (np.ndarray, jax.Array))]
    return len(shapes) == len(values) > 1 and min(map(len, shapes)) > 1


def refuse_several(name: str, values: Sequence[Any]) -> NoReturn:
    """Raise for several arrays where one is wanted."""
    got = f"a {type(values).__name__} of {len(values)} arrays"
    hint = "Pass a tuple or a dict of them, or put their columns side by side: np.hstack."
    raise ValueError(f"{name}: expected one array, got {got}. {hint}")


def _tensor_numbers(value: Any) -> np.ndarray:
    """The numbers of a torch tensor, which may want a gradient, lie elsewhere, or be of a dtype that NumPy lacks."""
    value = value.detach().cpu()
    return np.asarray(value.float() if str(value.dtype) == "torch.bfloat16" else value)


def columns_of(value: object) -> Names | None:
    """The names of the columns of a frame (pandas, polars, pyarrow); None for anything else.

    >>> from fnn.data.arrays import columns_of
    >>> print(columns_of([[1.0, 2.0]]))
    None
    """
    names = getattr(value, "column_names", None)  # pyarrow
    if names is None and (hasattr(value, "iloc") or hasattr(value, "get_columns")):
        names = getattr(value, "columns", None)
    return None if names is None or callable(names) else tuple(str(name) for name in names)


def columns_in(value: Any) -> Names | LeafNames | None:
    """The names of the columns of a frame; of several arrays pairs: the way to a leaf, and the names that it has.

    >>> import numpy as np
    >>> from fnn.data.arrays import columns_in
    >>> print(columns_in({"image": np.zeros((5, 8))}))
    None
    """
    if not is_several(value):
        return columns_of(value)
    parts = value.items() if isinstance(value, dict) else enumerate(value)
    found: list[tuple[str, Names]] = []
    for key, part in parts:
        inner: Any = columns_in(part)
        if inner and is_several(part):
            found += [(f"{key}/{way}", names) for way, names in inner]
        elif inner is not None:
            found.append((str(key), inner))
    return tuple(sorted(found)) or None


def columns(data: object) -> Columns | None:
    """The names of the columns of `(inputs, targets)`, where one of these is a frame."""
    pair = data if isinstance(data, (tuple, list)) and len(data) > 1 else (data, None)
    found = Columns(columns_in(pair[0]), columns_in(pair[1]))
    return None if found == Columns(None) else found


def same_columns(names: Sequence[str], known: Columns | None, got: Columns | None, owner: str = "run") -> None:
    """Frames must have the columns of the training, in their order. Arrays have no names to compare."""
    if known is not None and got is not None:
        several = [None if pair and len(pair) == 1 else pair for pair in (known.t, got.t)]  # one may have any name
        for name, expected, found in zip(names, (known.x, several[0]), (got.x, several[1]), strict=False):
            _same_in_leaves(name, expected, found, f"{owner}.columns.x")


def _same_in_leaves(name: str, expected: Any, got: Any, known_as: str) -> None:
    """The same, where the names may be those of leaves; of leaves that are not there others tell."""
    if expected is None or got is None or expected == got:
        return
    of_leaves = [isinstance(names[0], tuple) for names in (expected, got) if names]
    if not any(of_leaves):
        _same_names(name, expected, got, known_as)
    elif all(of_leaves):
        known, found = dict(expected), dict(got)
        for leaf in [leaf for leaf in known if leaf in found]:
            where = "".join(f"[{key}]" if key.isdigit() else f'["{key}"]' for key in leaf.split("/"))
            _same_names(f"{name}{where}", known[leaf], found[leaf], f"dict({known_as})[{leaf!r}]")


def _same_names(name: str, expected: Names, got: Names, known_as: str) -> None:
    if expected == got:
        return
    unnamed = tuple(map(str, range(len(got))))  # what pandas calls columns without names: no opinion on others
    if unnamed in (expected, got) and len(expected) == len(got) and set(expected) != set(got):
        return
    at = next((i for i, (a, b) in enumerate(zip(expected, got, strict=False)) if a != b), min(len(expected), len(got)))
    wanted, found = (f"{names[at]!r}" if at < len(names) else "none" for names in (expected, got))
    raise ShapeError(
        f"{name}: expected the {len(expected)} columns of the training in their order, got {len(got)}, of which "
        f"column {at} is {found} instead of {wanted}. Pass frame[list({known_as})], or an array."
    )


def refuse_lazy(name: str, value: object) -> None:
    """Raise for a query of polars that has not been run."""
    if hasattr(value, "collect_schema") and hasattr(value, "collect"):
        raise TypeError(f"{name}: expected a frame of pandas or polars, got a LazyFrame. Pass its .collect().")


def refuse_lists(name: str, frame: Any, label: str, column: Any) -> None:
    """Raise for a column of polars that has several values per row."""
    kind = str(getattr(column, "dtype", ""))
    if hasattr(frame, "get_columns") and kind.startswith(("Struct", "List", "Array", "Object")):
        hint = f"Pass frame.unnest({label!r})." if kind.startswith("Struct") else f"Pass frame.drop({label!r})."
        raise TypeError(f"{name}: expected one value per row, got {kind} in column {label!r}. {hint}")


def _frame_numbers(name: str, value: Any) -> np.ndarray:
    """The columns of a frame side by side. Their dtype is that of the floats among them, if that holds the others."""
    if hasattr(value, "iloc"):
        kinds = set(value.dtypes)
        if len(kinds) == 1 and isinstance(next(iter(kinds)), np.dtype):
            table: np.ndarray = value.to_numpy()
            return table
        columns = [value.iloc[:, i] for i in range(value.shape[1])]
    else:
        columns = value.get_columns() if hasattr(value, "get_columns") else value.columns
    names = columns_of(value) or ()
    for label, column in zip(names, columns, strict=True):
        refuse_lists(name, value, label, column)
    arrays = [_column_numbers(f"{name}, column {label!r}", a) for label, a in zip(names, columns, strict=True)]
    for label, a in zip(names, arrays, strict=True):
        if a.dtype.kind not in "fiub":
            raise TypeError(
                f"{name}: expected numbers, got {a.dtype} in column {label!r}. "
                "Use fnn.Table, which takes words and dates, or leave the column out."
            )
    if not arrays:
        return np.empty((len(value), 0))
    floats = [a.dtype for a in arrays if a.dtype.kind == "f"]
    dtype = np.result_type(*floats) if floats else np.result_type(*arrays)
    if floats and any(loses_digits(a, dtype) for a in arrays):
        dtype = np.result_type(*(a.dtype for a in arrays))
    return np.stack([a.astype(dtype, copy=False) for a in arrays], 1)


def _column_numbers(name: str, value: Any) -> np.ndarray:
    """The numbers of one column; those that are missing become nan, which is refused with its row."""
    kind = getattr(getattr(value, "dtype", None), "numpy_dtype", None)  # nullable, and pyarrow in pandas
    if kind is not None and np.dtype(kind).kind in "fiub":
        missing = np.asarray(value.isna())
        made: np.ndarray = (
            value.to_numpy(dtype=np.float64, na_value=np.nan) if missing.any() else value.to_numpy(dtype=kind)
        )
        return made
    return np.asarray(value.to_numpy())

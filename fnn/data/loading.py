"""From arrays, frames and streams to rows on the device."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from fnn import arguments
from fnn.arguments.leaves import check_same_tree, example_shape, is_several, named_leaves, row_count
from fnn.data import arrays, checks
from fnn.data.splits import held_rows
from fnn.data.streams import Stream, check_chunk, has_rows
from fnn.data.warnings import warn
from fnn.kernels.memory import aligned_zeros
from fnn.runs import Run, TrainState
from fnn.types import Array, ArrayLike, Columns, Data, DType, Params, Part, State, Tree


def load_start(params: Params, state: State) -> tuple[Params, State]:
    """Given parameters and layer state that nobody else can change, with 32 bits where JAX is set to these."""
    for name, value in (("params", params), ("state", state)):
        if isinstance(value, (Run, TrainState)):
            got = type(value).__name__
            raise TypeError(f"{name}: expected arrays, got a {got}. Pass run.{name}.")
    cut: list[str] = []
    mine = arrays.owned_arrays("params", params, cut), arrays.owned_arrays("state", state, cut)
    checks.LostDigits(cut).warn(np.float32)
    return mine


# ---- memory


def borrowed_array(array: Array | np.ndarray, dtype: DType | None = None) -> Array | np.ndarray:
    """As `arrays.owned_array`, but the caller's memory where nothing is to be cast: `own_rows` copies it in time."""
    borrowed = isinstance(array, np.ndarray) and array.dtype == dtype
    return array if borrowed else arrays.owned_array(array, dtype)


def take_rows(array: Array | np.ndarray, at: np.ndarray) -> jax.Array:
    """These rows of an array, as one on the device, with no other copy on the way."""
    host = np.asarray(array)
    rows = aligned_zeros((len(at), *host.shape[1:]), host.dtype)
    np.take(host, at, 0, rows, "clip")  # to check them NumPy would make a copy; they are there
    on_device: jax.Array = jax.device_put(rows)
    return on_device


def own_rows(rows: Tree) -> Tree:
    """Arrays, those that are still the caller's memory copied to the device."""
    return jax.tree.map(lambda a: arrays.owned_array(a) if isinstance(a, np.ndarray) else a, rows)


# ---- rows


VALIDATION = "validation[0]", "validation[1]"


def load_arrays(
    data: object,
    validation: object,
    weights: ArrayLike | None,
    key: Array,
    params: Params,
    reduction: str | None = "mean",
    missing: Tree = None,
    put: Callable[..., Any] = arrays.owned_array,
) -> tuple[Data, np.ndarray | None, Columns | None]:
    """The rows to train and to validate on, on the device; which rows of the data the latter are, if they are; and the
    names of the columns, if the data are frames.

    A share to hold out is one of the rows that weigh something: the others do not count in validation either. `missing`
    is what the loss says of targets that are. With `borrowed_array` as `put` the rows may still be the caller's
    memory.
    """
    checks.outside_of_jit("data", data)
    _refuse_tracer("key", key)
    cut = checks.LostDigits()
    dtype, scalable = arrays.dtype_of_run(params), reduction != "sum"
    train, held, at = _part("data", *checks.pair("data", data), weights, dtype, cut, scalable, missing, put), None, None
    if isinstance(validation, (int, float, np.number)):
        seed = np.asarray(jax.random.key_data(key)).tolist()
        rows = np.arange(row_count(train.x))
        real = rows if train.weight is None else np.flatnonzero(np.asarray(train.weight))
        of_classes = np.asarray(train.t) if not is_several(train.t) else np.zeros(len(rows))
        at = real[held_rows(of_classes[real], arguments.fraction("validation", validation), seed)]
        others = np.setdiff1d(rows, at)
        # on the host, since on the device this would compile
        train, held = (jax.tree.map(lambda a, at=at: take_rows(a, at), train) for at in (others, at))
    elif validation is not None:
        given = checks.pair_or_triple("validation", validation)
        held = _part("validation", *given, dtype, cut, scalable, missing, put)
        _check_like(train, held)
        arrays.same_columns(VALIDATION, arrays.columns(data), arrays.columns(given))
    cut.warn(dtype)
    _warn_if_all_missing("data[1]", train, missing)
    _warn_if_all_missing("validation[1]", held, missing)
    return Data(train, held), at, arrays.columns(data)


def load_stream_head(
    stream: Stream,
    validation: object,
    weights: ArrayLike | None,
    key: Array,
    params: Params,
    reduction: str | None = "mean",
    missing: Tree = None,
) -> tuple[Data, None, Columns | None]:
    """The first row of a stream, which stands for all where shapes are asked for, and the rows to validate on; and the
    names of the columns, if chunks are frames."""
    if weights is not None:
        raise ValueError(
            "weights: expected them in the chunks of the stream, as (x, t, weight), got an argument. Yield them."
        )
    if isinstance(validation, (int, float, np.number)):
        raise ValueError(
            f"validation: expected rows (x, t) beside a stream, got the share {validation}. Hold some rows back."
        )
    checks.outside_of_jit("data", None)
    _refuse_tracer("key", key)
    cut = checks.LostDigits()
    dtype = arrays.dtype_of_run(params)
    for number, chunk in enumerate(stream.chunks((0,), 0, False)):
        if has_rows(f"data, chunk {number}", chunk):
            quiet = checks.LostDigits()  # the buffers warn
            x, t, _ = check_chunk(f"data, chunk {number}", chunk, dtype, quiet, missing)
            x, t = jax.tree.map(lambda a: arrays.owned_array(a[:1]), (x, t))
            train = Part(x, t, arrays.owned_array(np.ones(1, dtype)))
            columns = arrays.columns(chunk)
            break
    else:
        raise ValueError("data: expected a stream with rows, got none. Yield chunks (x, t).")
    held = None
    if validation is not None:
        given = checks.pair_or_triple("validation", validation)
        held = _part("validation", *given, dtype, cut, reduction != "sum", missing)
        _check_like(train, held)
        arrays.same_columns(VALIDATION, columns, arrays.columns(given))
        cut.warn(dtype)
        _warn_if_all_missing("validation[1]", held, missing)
    return Data(train, held), None, columns


def _warn_if_all_missing(name: str, part: Part | None, missing: Tree) -> None:
    """Say which targets are missing in all rows: their loss is 0, whatever the network does."""
    if part is None or missing is None:
        return
    targets = named_leaves(name, part.t)
    for leaf, stands in named_leaves(name, missing).items():
        t = np.asarray(targets.get(leaf, 0))
        absent = np.isnan(t) if np.isnan(stands) and t.dtype.kind == "f" else t == stands
        if t.ndim and absent.reshape(len(t), -1).any(1).all():
            warn(
                f"{leaf}: expected a target in some row, got none in all {len(t)}, so that their loss is always 0. "
                "Pass rows that have targets."
            )


def _refuse_tracer(name: str, value: object) -> None:
    if isinstance(value, jax.core.Tracer):
        raise TypeError(f"{name}: expected a known {name}, got {arguments.describe_value(value)}. {arrays.OUTSIDE}")


def _check_like(train: Part, held: Part) -> None:
    """Raise where several inputs or targets to validate on are not those to train on."""
    for name, known, got in zip(VALIDATION, train[:2], held[:2], strict=True):
        check_same_tree(name, example_shape(known), got)


def _part(
    name: str,
    x: Any,
    t: Any,
    weights: object,
    dtype: DType,
    cut: checks.LostDigits,
    scalable: bool,
    missing: Tree,
    put: Callable[..., Any] = arrays.owned_array,
) -> Part:
    checks.one_input(f"{name}[0]", x, t)
    x = checks.inputs(f"{name}[0]", x, dtype, cut, put)
    t = checks.targets(f"{name}[1]", t, dtype, cut, put, missing)
    checks.same_rows(name, x, t)
    own = "weights" if name == "data" else f"{name}[2]"
    if weights is None:
        return Part(x, t)
    return Part(x, t, arrays.owned_array(checks.weights(own, weights, row_count(x), dtype, scalable)))

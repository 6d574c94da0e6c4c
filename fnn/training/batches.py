"""How a table of rows becomes batches inside a compiled program: every row exactly once, the last batch masked.

Where the rows do not divide, the last batch is filled up with row 0, whose weight there is 0. So no row is dropped,
every batch has one shape, and sums over batches are sums over the true rows.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fnn.arguments.leaves import named_leaves, row_count
from fnn.kernels.memory import aligned_copy
from fnn.kernels.operations import number, take_rows, where
from fnn.losses.reduction import row_weights
from fnn.runs import RunningSums
from fnn.types import Array, Buffer, Data, Part, Rows, ShapeError, Tree


class Batch(NamedTuple):
    """Rows as a gradient wants them. `weight` None: all count 1. `train`: True, or `Rows(mask)` if some are filling."""

    x: Tree
    t: Tree
    weight: Array | None
    train: Any


def as_arrays(data: Any) -> Data:
    """The data as JAX arrays, with a target and a weight for every row."""
    if not isinstance(data, Data):
        got = type(data).__name__
        raise TypeError(f"data: expected a Data, got {got}. Write fnn.Data(fnn.Part(x, t)).")
    # NumPy's cannot be indexed by what is traced, and may be written to while a program reads them
    data = jax.tree.map(lambda a: jnp.asarray(aligned_copy(a) if isinstance(a, np.ndarray) else a), data)
    for name, part in data._asdict().items():
        if part is not None:
            _check_rows(f"data.{name}", part)
    checked: Data = data
    return checked


def _check_rows(name: str, part: Part) -> None:
    """Raise unless there are a target and a weight for every row."""
    rows = row_count(part.x)
    for field, tree in (("x", part.x), ("t", part.t), ("weight", part.weight)):
        for leaf, array in named_leaves(f"{name}.{field}", tree).items():
            if array is not None and array.shape[:1] != (rows,):
                raise ShapeError(
                    f"{leaf}: expected {rows} rows, as many as inputs, got shape {array.shape}. Pass one per row."
                )
    if part.weight is not None:
        row_weights(part.weight, rows, f"{name}.weight")


MOST_ROWS = 2**31 - 1  # beyond, places in a table do not fit int32


def batch_sizes(rows: int, batch_size: int | None) -> tuple[int, int]:
    """(rows a batch, batches an epoch); a batch is never larger than the table."""
    if rows == 0:
        raise ValueError("data: expected at least one row, got none. Pass rows to train on.")
    size = min(batch_size or rows, rows)
    batches = -(-rows // size)
    if size * batches > MOST_ROWS:
        raise ValueError(
            f"data: expected at most 2^31 - 1 rows in memory, filled up to whole batches, got {size * batches}. "
            "Pass them as a stream of chunks."
        )
    return size, batches


def padded_rows(part: Part) -> int:
    """How many rows a part has, filling included: a static number."""
    return row_count(part.x) if part.view is None else part.view.rows.shape[-1]


def real_rows(part: Part) -> Any:
    """How many of them are real."""
    return padded_rows(part) if part.view is None else part.view.length


def full_batch(part: Part) -> Batch:
    """All rows as one batch, in the given order."""
    if part.view is None:
        return Batch(part.x, part.t, part.weight, True)
    at = jnp.arange(padded_rows(part), dtype=jnp.int32)
    return _take_rows(part, at, at < part.view.length)


def batch_at(part: Part, order: Array, j: Array, size: int) -> Batch:
    """Batch `j` of the rows in `order`, `(batches * size,)`."""
    at = lax.dynamic_slice(order, (j * size,), (size,))
    if part.view is None and order.shape[0] == padded_rows(part):
        return _take_rows(part, at, None)
    return _take_rows(part, at, j * size + lax.iota(jnp.int32, size) < real_rows(part))


def buffer_batch(buffer: Buffer, k: Array, size: int) -> Batch:
    """Batch `k` of a buffer; rows past its count are filling, or those that its mask leaves out."""
    if buffer.mask is not None:
        of_batch: Any = jax.tree.map(lambda a: lax.dynamic_index_in_dim(a, k, 0, False), (buffer.part, buffer.mask))
        part, mask = of_batch
        return Batch(part.x, part.t, jnp.where(mask, part.weight, 0.0), Rows(mask))
    x, t, weight, _ = jax.tree.map(lambda a: lax.dynamic_slice_in_dim(a, k * size, size), buffer.part)
    mask = k * size + jnp.arange(size, dtype=jnp.int32) < buffer.count
    return Batch(x, t, jnp.where(mask, weight, 0.0), Rows(mask))


def _take_rows(part: Part, at: Array, mask: Array | None) -> Batch:
    """The rows with these places in the part; those that the mask leaves out weigh nothing."""
    view = part.view
    at = at if view is None else take_rows(view.rows, at)
    x, t, weight = jax.tree.map(lambda a: take_rows(a, at), (part.x, part.t, part.weight))
    if view is not None and view.mean is not None and view.deviation is not None:
        x = jax.tree.map(_standardise_leaf, view.mean, view.deviation, x, is_leaf=lambda a: a is None)
    if mask is None:
        return Batch(x, t, weight, True)
    weight = mask.astype(jnp.result_type(float)) if weight is None else jnp.where(mask, weight, jnp.zeros_like(weight))
    return Batch(x, t, weight, Rows(mask))


def _standardise_leaf(mean: Array | None, deviation: Array, x: Array) -> Array:
    """`(x - mean)/deviation`; without a mean, of a leaf that is not to be standardised, the leaf as it is."""
    return x if mean is None else (x.astype(mean.dtype) - mean[None]) / deviation[None]


def pad_order(order: Array, batches: int, size: int) -> Array:
    """The order, filled up with row 0 to whole batches."""
    return lax.pad(order, number(0, order), [(0, batches * size - order.shape[0], 0)])


def add_sums(sums: RunningSums, more: RunningSums) -> RunningSums:
    """The sums of an epoch and those of its next batch, with what rounding took from them before: Kahan 1965.

    `y = more + lost`, `new = sum + y`, `lost = y - (new - sum)`. The error does not grow with the number of batches,
    and whole numbers are exact far beyond 2²⁴.
    """
    old, new = sums[:3], more[:3]
    y = jax.tree.map(lambda a, lost: a.astype(lost.dtype) + lost, new, sums.lost)
    total = jax.tree.map(jnp.add, old, y)
    lost = jax.tree.map(lambda y, new, old: where(lax.is_finite(new), y - (new - old), 0.0), y, total, old)
    return RunningSums(total[0], total[1], total[2], lost, sums.collected)

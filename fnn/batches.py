"""How a table of rows becomes batches inside a compiled program: every row exactly once, the last batch masked.

Where the rows do not divide, the last batch is filled up with row 0, whose weight there is 0. So no row is dropped,
every batch has one shape, and sums over batches are sums over the true rows.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fnn.arrays import aligned
from fnn.types import Array, Data, Part, Rows, ShapeError


class Batch(NamedTuple):
    """Rows as a gradient wants them. `weight` None: all count 1. `train`: True, or `Rows(mask)` if some are filling."""

    x: Array
    t: Array
    weight: Array | None
    train: Any


def arrays(data: Any) -> Data:
    """The data as JAX arrays, with a target and a weight for every row."""
    if not isinstance(data, Data):
        got = type(data).__name__
        raise TypeError(f"data: expected a Data, got {got}. Do write fnn.Data(fnn.Part(x, t)).")
    # NumPy's cannot be indexed by what is traced, and may be written to while a program reads them
    data = jax.tree.map(lambda a: jnp.asarray(aligned(a) if isinstance(a, np.ndarray) else a), data)
    for name, part in data._asdict().items():
        for field, array in (("t", part and part.t), ("weight", part and part.weight)):
            if array is not None and array.shape[:1] != part.x.shape[:1]:
                raise ShapeError(
                    f"data.{name}.{field}: expected {part.x.shape[0]} rows, as many as inputs, "
                    f"got shape {array.shape}. Do pass one a row."
                )
    return data


def sizes(rows: int, batch_size: int | None) -> tuple[int, int]:
    """(rows a batch, batches an epoch); a batch is never larger than the table."""
    size = min(batch_size or rows, rows)
    return size, -(-rows // size)


def room(part: Part) -> int:
    """How many rows a part has, filling included: a static number."""
    return part.x.shape[0] if part.view is None else part.view.rows.shape[-1]


def count(part: Part) -> Any:
    """How many of them are real."""
    return room(part) if part.view is None else part.view.length


def whole(part: Part) -> Batch:
    """All rows as one batch, in the given order."""
    if part.view is None:
        return Batch(part.x, part.t, part.weight, True)
    at = jnp.arange(room(part), dtype=jnp.int32)
    return _taken(part, at, at < part.view.length)


def nth(part: Part, order: Array, j: Array, size: int) -> Batch:
    """Batch `j` of the rows in `order`, `(batches * size,)`."""
    at = lax.dynamic_slice_in_dim(order, j * size, size)
    if part.view is None and order.shape[0] == room(part):
        return _taken(part, at, None)
    return _taken(part, at, j * size + jnp.arange(size, dtype=jnp.int32) < count(part))


def _taken(part: Part, at: Array, mask: Array | None) -> Batch:
    """The rows with these places in the part; those that the mask leaves out weigh nothing."""
    view = part.view
    at = at if view is None else view.rows.at[at].get(mode="promise_in_bounds")
    x, t, weight = jax.tree.map(lambda a: a.at[at].get(mode="promise_in_bounds"), (part.x, part.t, part.weight))
    if view is not None and view.mean is not None:
        x = (x.astype(view.mean.dtype) - view.mean) / view.deviation
    if mask is None:
        return Batch(x, t, weight, True)
    weight = mask.astype(jnp.result_type(float)) if weight is None else jnp.where(mask, weight, 0.0)
    return Batch(x, t, weight, Rows(mask))


def filled(order: Array, batches: int, size: int) -> Array:
    """The order, filled up with row 0 to whole batches."""
    return jnp.pad(order, (0, batches * size - order.shape[0]))


def weighted_sum(values: Array, weight: Array | None) -> tuple[Array, Array]:
    """(Σ weight × value, Σ weight). Rows of weight 0 do not count, whatever their value, NaN included."""
    if weight is None:
        return values.sum(), jnp.asarray(values.shape[0], values.dtype)
    weight = weight.astype(values.dtype)
    return jnp.where(weight > 0, values * weight, 0.0).sum(), weight.sum()


def row_values(name: str, function: Any, outputs: Array, t: Array) -> Array:
    """One number a row from a loss or a metric; anything else is the user's mistake and raises."""
    values = function(outputs, t)
    if jnp.shape(values) != (t.shape[0],):
        raise ShapeError(
            f"{name}: expected one number a row, shape ({t.shape[0]},), got {jnp.shape(values)}. "
            "Do reduce over the outputs of a row, and not over the rows."
        )
    return values


def metric_sums(metrics: Mapping[str, Any], outputs: Array, t: Array, weight: Array | None) -> dict[str, Array]:
    """Σ weight × metric for each metric."""
    return {
        name: weighted_sum(row_values(f"metric {name}", metric, outputs, t), weight)[0]
        for name, metric in metrics.items()
    }

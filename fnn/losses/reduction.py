"""One number per row, and weighted sums over rows."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fnn.arguments import array_of, as_array, call
from fnn.arguments.leaves import row_count
from fnn.kernels.operations import across, number, where
from fnn.types import Array, ArrayLike, DType, Metric, ShapeError, Tree


def weighted_sum(values: Array, weight: Array | np.ndarray | None) -> tuple[Array, Array]:
    """(Σ weight × value, Σ weight), in float32 at least. Rows of weight 0 do not count, whatever their value, NaN too.

    Where values are differentiated, they are those of `stop_uncounted(outputs, weight)`.
    """
    values = jnp.asarray(values)
    values = values.astype(dtype_of_sums(values.dtype))
    if weight is None:
        return lax.reduce_sum(values, tuple(range(values.ndim))), jnp.asarray(values.shape[0], values.dtype)
    weight = row_weights(weight, values.shape[0]).astype(values.dtype)
    weighed = where(lax.gt(weight, number(0, weight)), lax.mul(values, weight), 0.0)
    return lax.reduce_sum(weighed, (0,)), lax.reduce_sum(weight, (0,))


def dtype_of_sums(dtype: DType) -> DType:
    """What such numbers are added up in: float32 at least, since 16 bits, integers and bools have no room for sums."""
    if not jnp.issubdtype(dtype, jnp.floating):
        return jnp.result_type(float)
    return dtype if jnp.finfo(dtype).bits >= 32 else jnp.dtype(jnp.float32)


def row_weights(weight: ArrayLike, rows: int, name: str = "weight") -> Array:
    """The weights as an array `(rows,)`: a column beside rows would broadcast to rows × rows."""
    weight = as_array(name, weight)
    if weight.shape != (rows,):
        hint = f"Pass {name}.reshape(-1)." if weight.size == rows else "Pass one per row."
        raise ShapeError(f"{name}: expected one number per row, shape ({rows},), got {weight.shape}. {hint}")
    return weight.astype(dtype_of_sums(weight.dtype))


def stop_uncounted(outputs: Tree, weight: Array | np.ndarray | None) -> Tree:
    """The outputs, those of weight 0 as constants: a derivative stops there, and never meets 0 · inf = NaN behind it.

    Their own derivative is 0 anyway. Forward this is `outputs`, and compiles to nothing.
    """
    if weight is None:
        return outputs
    weight = row_weights(weight, row_count(outputs))
    counts = lax.gt(weight, number(0, weight))
    return jax.tree.map(lambda y: where(across(counts, y), y, lax.stop_gradient(y)), outputs)


def row_values(name: str, function: Metric, outputs: Tree, t: Tree, floats: bool = False) -> Array:
    """One number per row from a loss or a metric; anything else is the user's mistake and raises.

    With `floats` it must be of a floating dtype, as that of a loss is: others have no derivative.
    """
    values = array_of(name, call(name, function, outputs, t), "one number per row", floats)
    rows = row_count(t)
    if jnp.shape(values) != (rows,):
        raise ShapeError(
            f"{name}: expected one number per row, shape ({rows},), got {jnp.shape(values)}. "
            "Reduce over the outputs of a row, and not over the rows."
        )
    return values

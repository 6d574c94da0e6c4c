"""Outputs and targets as rows: shapes, dtypes and values checked, nothing broadcasts; how a loss is put together.

A single row (1-D) works as a batch of one. Losses are computed in float32 at least, and returned in the dtype of the
outputs. To losses over classes, outputs `(batch, …, classes)` are one distribution per position, and the loss of a row
is the mean over its positions.
"""

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fnn.arguments import as_array, as_numpy, describe_value, scalar
from fnn.arguments.leaves import is_several
from fnn.kernels.operations import across, number, sum_of_rows, where
from fnn.types import Array, DType, HasShape, Loss, Numbers, Scalar, ShapeError, TargetCheck

ClassWeights = Sequence[Scalar] | Array | np.ndarray  # one number per class

# ---- what goes in: shapes and dtypes, checked while tracing


def dense_rows(name: str, outputs: Numbers, targets: Numbers) -> tuple[Array, Array]:
    """Outputs and targets of one shape, as `(batch, k)`, in float32 at least."""
    y, t = _alike(name, outputs, targets)
    shape = (1, y.shape[0]) if y.ndim == 1 else (y.shape[0], prod(y.shape[1:]))  # no -1: there may be no rows
    return y.reshape(shape), t.reshape(shape)


def class_rows(name: str, outputs: Numbers, targets: Numbers) -> tuple[Array, Array]:
    """Outputs and targets of one shape, as `(batch · positions, classes)`: the classes are the last axis."""
    y, t = _alike(name, outputs, targets)
    shape = (prod(y.shape[:-1]), y.shape[-1])
    return y.reshape(shape), t.reshape(shape)


def _alike(name: str, outputs: Numbers, targets: Numbers) -> tuple[Array, Array]:
    y, t = _outputs(name, outputs), as_array(name, targets, "real targets")
    if y.shape != t.shape:
        raise ShapeError(
            f"{name}: expected targets of the shape of the outputs {y.shape}, got {t.shape}. {_shape_hint(y, t)}"
        )
    return y.astype(wide_dtype(y.dtype)), t.astype(wide_dtype(y.dtype))


def sparse_rows(name: str, outputs: Numbers, targets: Numbers) -> tuple[Array, Array]:
    """Outputs as `(batch · positions, classes)`, in float32 at least, targets as as many class numbers."""
    y, t = _outputs(name, outputs), as_array(name, targets, "real targets")
    if y.shape[:-1] != t.shape:
        hint = "Give one class number for every row." if y.ndim < 3 else "Give one class number per position."
        if t.shape == (*y.shape[:-1], 1):
            hint = "Reshape the targets: targets[:, 0]; np.ravel(targets), of a frame or a list."
        elif t.shape == y.shape:
            hint = "Use the loss without 'sparse_' for one-hot targets."
        raise ShapeError(
            f"{name}: expected one class number per row, targets of shape {y.shape[:-1]}, got {t.shape}. {hint}"
        )
    if not jnp.issubdtype(t.dtype, jnp.integer):
        raise TypeError(
            f"{name}: expected integer class numbers, got {t.dtype}. "
            "Convert them: targets.astype('int32'); np.asarray(targets, 'int32'), of a list."
        )
    return y.astype(wide_dtype(y.dtype)).reshape(t.size, y.shape[-1]), as_labels(t).reshape(-1)


def wide_dtype(dtype: DType) -> DType:
    """Float32 for half precision, in which squares, areas and sums overflow; any other dtype as it is."""
    return jnp.dtype(jnp.float32) if dtype.itemsize < 4 else dtype


def as_labels(labels: Array) -> Array:
    """Class numbers in int32 at least: in int8 and uint8 the numbers of more classes would wrap around."""
    return labels.astype(jnp.int32) if labels.dtype.itemsize < 4 else labels


def _outputs(name: str, outputs: Numbers) -> Array:
    refuse_several_outputs(
        name, outputs, "Write fnn.losses.joint({0}=(1.0, loss), …); as a metric fnn.metrics.of({0!r}, …)."
    )
    y = as_array(name, outputs, "outputs of a floating dtype")
    if y.ndim == 0:
        raise ShapeError(f"{name}: expected outputs of shape (batch, ...), got a single number. Add a batch axis.")
    if not jnp.issubdtype(y.dtype, jnp.floating):
        raise TypeError(f"{name}: expected outputs of a floating dtype, got {y.dtype}. Convert them.")
    return y


def refuse_several_outputs(
    name: str, outputs: object, hint: str = "Write fnn.metrics.of({0!r}, …), a metric of that one."
) -> None:
    """Raise a TypeError where a network's outputs are a dict or a tuple, of which this takes one array.

    >>> from fnn.losses.base import refuse_several_outputs
    >>> refuse_several_outputs("accuracy", {"price": [1.0], "kind": [2.0]})
    Traceback (most recent call last):
        ...
    TypeError: accuracy: expected one array of outputs, got several, "price", "kind". Write fnn.metrics.of('price', …),
    a metric of that one.
    """
    if is_several(outputs):
        places: list[Any] = list(outputs) if isinstance(outputs, dict) else list(range(len(outputs)))  # type: ignore[arg-type]
        got = ", ".join(f'"{place}"' if isinstance(place, str) else str(place) for place in places)
        raise TypeError(f"{name}: expected one array of outputs, got several, {got}. {hint.format(*places)}")


def _shape_hint(y: Array, t: Array) -> str:
    if y.ndim == t.ndim + 1 and y.shape[-1] == 1:
        others = "of a Series targets.to_numpy()[:, None], of a list [[t] for t in targets]"
        return f"Reshape the targets: targets[:, None]; {others}."
    if t.ndim == y.ndim + 1 and t.shape[-1] == 1:
        return "Reshape the targets: targets[:, 0]; np.ravel(targets), of a frame or a list."
    if y.ndim == t.ndim + 1:
        return "Use one-hot targets, or a sparse_ loss for class numbers."
    return "Give one target for every output."


# ---- class numbers among the outputs of their row


def select_class(y: Array, labels: Array) -> Array:
    """The output of each row at its class, `(batch,)`; nan where there is no such class.

    As a sum, since the derivative of an indexed array is a scatter, which on a CPU takes as long as a small product.
    """
    at_class = lax.eq(across(labels, y), lax.broadcasted_iota(labels.dtype, y.shape, 1))
    known = lax.bitwise_and(lax.ge(labels, number(0, labels)), lax.lt(labels, number(y.shape[-1], labels)))
    return where(known, sum_of_rows(where(at_class, y, 0.0)), jnp.nan)


def one_hot(y: Array, labels: Array) -> Array:
    """Rows like `y` with 1 at the class and 0 elsewhere."""
    return (labels[:, None] == jnp.arange(y.shape[-1], dtype=labels.dtype)[None]).astype(y.dtype)


# ---- what goes in: values, checked on the host before anything compiles


def check_labels(name: str) -> TargetCheck:
    """A check that class numbers lie in 0 … K-1, for K outputs."""

    def check(outputs: HasShape, targets: np.ndarray) -> None:
        classes = outputs.shape[-1]
        wrong = np.argwhere((targets < 0) | (targets >= classes))
        if len(wrong):
            first = tuple(wrong[0])
            raise ValueError(
                f"{name}: expected class numbers from 0 to {classes - 1}, got {targets[first]} in row {first[0]}. "
                f"Renumber the classes, or give the network more than {classes} outputs."
            )

    return check


def check_probabilities(name: str) -> TargetCheck:
    """A check that targets lie in [0, 1]."""

    def check(outputs: HasShape, targets: np.ndarray) -> None:
        wrong = np.argwhere((targets < 0) | (targets > 1))
        if wrong.size:
            raise ValueError(
                f"{name}: expected targets in [0, 1], got {targets[tuple(wrong[0])]} in row {wrong[0][0]}. "
                "Give probabilities, 0/1 labels or one-hot rows."
            )

    return check


# ---- what a factory of losses is given: numbers, checked where they are known


def check_share(name: str, what: str, value: object, hint: str) -> Scalar:
    """A number in [0, 1]; as it came where it is traced."""
    number = scalar(name, what, value, hint)
    if isinstance(number, (int, float)) and number > 1:
        raise ValueError(f"{name}: expected {what} of at most 1, got {number}. {hint}.")
    return number


def class_weights(name: str, weights: ClassWeights) -> tuple[Scalar, ...] | Array:
    """One number of at least 0 a class, not all of them 0: a tuple; an array as it came where it is traced."""
    hint = "Give one number of at least 0 for every class, such as (1.0, 5.0)."
    if isinstance(weights, jax.core.Tracer) and weights.ndim == 1:
        return weights
    known = not any(isinstance(w, jax.core.Tracer) for w in weights) if isinstance(weights, (tuple, list)) else True
    if not known:
        return jnp.stack([jnp.asarray(w, jnp.result_type(float)) for w in weights])
    array = as_numpy(name, weights, "a weight for every class")
    if array.ndim != 1 or array.size == 0 or array.dtype.kind not in "fiu":
        raise TypeError(f"{name}: expected a weight for every class, got {describe_value(weights)}. {hint}")
    if not (np.isfinite(array).all() and (array >= 0).all() and array.any()):
        raise ValueError(f"{name}: expected weights of at least 0, not all 0, got {tuple(array.tolist())}. {hint}")
    return tuple(weights) if isinstance(weights, (tuple, list)) else tuple(array.tolist())


# ---- how a loss is put together

RowsOf = Callable[[str, Numbers, Numbers], tuple[Array, Array]]
_Formula = Callable[[Array, Array], Array]


def make_loss(
    name: str,
    rows: RowsOf,
    value: _Formula,
    grad: _Formula,
    check: Callable[[str], TargetCheck] | None = None,
    targets: str | None = None,
    dense: Loss | None = None,
    outputs: str | None = None,
    residuals: _Formula | None = None,
) -> Loss:
    """`value` and `grad` see checked rows, `(n, k)`, in float32 at least; what they give goes back as the outputs are.

    Where the rows are the positions of a row of outputs, its value is their mean. `residuals` sees the same rows.
    """

    def checked_value(outputs: Numbers, targets: Numbers) -> Array:
        values = mean_of_positions(value(*rows(name, outputs, targets)), outputs)
        return values.astype(jnp.asarray(outputs).dtype)

    def checked_grad(outputs: Numbers, targets: Numbers) -> Array:
        by_row = grad(*rows(name, outputs, targets))
        each = position_count(len(by_row), outputs)
        mean = by_row if each == 1 else by_row / each
        return mean.reshape(jnp.shape(outputs)).astype(jnp.asarray(outputs).dtype)

    def checked_residuals(outputs: Numbers, targets: Numbers) -> Array:
        made: Array = residuals(*rows(name, outputs, targets))  # type: ignore[misc]
        return made.astype(jnp.asarray(outputs).dtype)

    checked, of_squares = None if check is None else check(name), None if residuals is None else checked_residuals
    made = Loss(name, checked_value, checked_grad, checked, targets, dense, outputs, of_squares)
    return made._with_doc(value.__doc__)


def position_count(rows: int, outputs: Numbers) -> int:
    """How many of the rows that a formula sees belong to one row of the outputs."""
    shape = jnp.shape(outputs)
    return rows // shape[0] if len(shape) > 2 and shape[0] else 1


def mean_of_positions(values: Array, outputs: Numbers) -> Array:
    """One number per row of the outputs, from one per position."""
    each = position_count(len(values), outputs)
    return values if each == 1 else values.reshape(-1, each).mean(-1)

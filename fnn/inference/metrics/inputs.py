"""What metrics are given, checked: classes, labels of their own, columns of numbers, and the weight of each.

Outputs are taken in float32 at least. Nothing broadcasts.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fnn.activations.softmax import log_softmax
from fnn.arguments import as_array, as_floats, finite
from fnn.losses.base import as_labels, check_labels, check_probabilities, refuse_several_outputs, wide_dtype
from fnn.types import Array, HasShape, Scalar, ShapeError, TargetCheck

ROUNDING = 0.01  # sums of probabilities in bfloat16 differ from 1 by up to 0.004


class Classes(NamedTuple):
    """Rows, or positions of rows, over classes: outputs `(n, K)`, a class number each, and which of both are none."""

    outputs: Array
    label: Array
    no_output: Array  # nan in the outputs
    no_label: Array  # nan in the targets, or no class number


def check_threshold(name: str, threshold: object, for_classes: str = "Omit it") -> Scalar:
    """A threshold between outputs. A whole number from 2 on is how many classes there are, and no threshold.

    >>> from fnn.inference.metrics.inputs import check_threshold
    >>> check_threshold("f1", 3)
    Traceback (most recent call last):
        ...
    ValueError: f1: expected a threshold, 0.5 for probabilities or 0.0 for logits, got 3. Omit it for 3 classes; write
    3.0 if it is one.
    """
    number = finite(name, "a finite threshold", threshold, "Pass 0.5, or 0.0 for logits.")
    if isinstance(threshold, int) and threshold > 1:
        hint = f"{for_classes} for {threshold} classes; write {threshold}.0 if it is one."
        raise ValueError(
            f"{name}: expected a threshold, 0.5 for probabilities or 0.0 for logits, got {threshold}. {hint}"
        )
    return number


def real_outputs(name: str, outputs: Array) -> Array:
    """Outputs of a floating dtype, float32 at least, with a row axis."""
    refuse_several_outputs(name, outputs)
    y = as_floats(name, outputs, "real outputs")
    if y.ndim == 0:
        raise ShapeError(f"{name}: expected outputs of shape (batch, ...), got a single number. Add a batch axis.")
    if not len(y):
        raise ValueError(f"{name}: expected at least one row, got outputs of shape {y.shape}. Pass rows.")
    return y.astype(wide_dtype(y.dtype))


def same_shape(name: str, outputs: Array, targets: Array) -> tuple[Array, Array]:
    """Outputs and targets of one shape, both as floats."""
    y, t = real_outputs(name, outputs), as_array(name, targets, "real targets")
    if y.shape != t.shape:
        raise ShapeError(
            f"{name}: expected targets of the shape of the outputs {y.shape}, got {t.shape}. {_hint(y, t)}"
        )
    return y, t.astype(y.dtype)


def _hint(y: Array, t: Array) -> str:
    if y.shape == (*t.shape, 1):
        return "Reshape the targets: targets[:, None]."
    return "Reshape the targets: targets[:, 0]." if t.shape == (*y.shape, 1) else "Pass one target for every output."


def columns(name: str, outputs: Array, targets: Array) -> tuple[Array, Array]:
    """Outputs and targets of one shape, as `(rows, columns)`."""
    y, t = same_shape(name, outputs, targets)
    shape = (y.shape[0], int(np.prod(y.shape[1:], dtype=int)))
    return y.reshape(shape), t.reshape(shape)


def is_column(outputs: Array) -> bool:
    """Whether there is one output per row, for two classes."""
    return outputs.ndim < 2 or outputs.shape[-1] == 1


def classes(name: str, outputs: Array, targets: Array) -> Classes:
    """Outputs over at least two classes; targets are class numbers or one-hot rows."""
    y, t = real_outputs(name, outputs), as_array(name, targets, "real targets")
    if is_column(y):
        raise ShapeError(
            f"{name}: expected outputs of shape (batch, classes), at least two classes, got {y.shape}. "
            "Pass threshold=0.5 for a probability in one column, threshold=0.0 for a logit, where the metric has one."
        )
    if t.shape not in (y.shape, y.shape[:-1]):
        raise ShapeError(f"{name}: expected targets of shape {y.shape[:-1]} or {y.shape}, got {t.shape}. Reshape them.")
    one_hot, count = t.ndim == y.ndim, y.shape[-1]
    if one_hot:
        label, no_label = t.argmax(-1), jnp.isnan(t.max(-1))
    else:
        label = as_labels(t)
        no_label = ~((label >= 0) & (label < count) & (label == jnp.round(label).astype(label.dtype)))
    label = jnp.where(no_label, 0, label).astype(jnp.int32)
    return Classes(y.reshape(-1, count), label.reshape(-1), jnp.isnan(y.max(-1)).reshape(-1), no_label.reshape(-1))


def weight_per_row(weight: Array, rows: int) -> Array:
    """The weight of each position, where a row of the outputs has several."""
    return weight if len(weight) == rows else jnp.repeat(weight, rows // max(1, len(weight)), total_repeat_length=rows)


def is_class(label: Array, count: int) -> Array:
    """Which class each row is of, as bools `(n, K)`."""
    return label[:, None] == jnp.arange(count, dtype=label.dtype)[None]


def probabilities(outputs: Array, logits: bool) -> Array:
    """What a softmax makes of outputs over classes, or a sigmoid of one column; as they are where they are shares."""
    if not logits:
        return outputs
    return jax.nn.sigmoid(outputs) if is_column(outputs) else jnp.exp(log_softmax(outputs))


def as_probabilities(name: str, outputs: Array, weight: Array) -> Array:
    """Outputs that are given as probabilities: in [0, 1], and over classes with a sum of 1, to a hundredth.

    A row of others raises an error where the numbers are known; inside of a program it becomes nan.
    """
    wrong = (outputs < -ROUNDING) | (outputs > 1 + ROUNDING)
    if not is_column(outputs):
        wrong |= jnp.abs(outputs.sum(-1, keepdims=True) - 1) > ROUNDING
    rows = wrong.reshape(len(outputs), -1).any(1) & (weight > 0)
    if isinstance(rows, jax.core.Tracer):
        return jnp.where(wrong, jnp.nan, outputs)
    if rows.any():
        row = int(jnp.argmax(rows))
        shown = ", ".join(f"{float(v):.4g}" for v in outputs[row].ravel()[:4])
        wanted = "probabilities in [0, 1]" + ("" if is_column(outputs) else " whose sum is 1")
        raise ValueError(
            f"{name}: expected {wanted}, got {shown}{', …' if outputs[row].size > 4 else ''} in row {row}. "
            f"Write {name}(logits=True) for logits."
        )
    return outputs


def check_classes(name: str) -> TargetCheck:
    """A check that class numbers lie in 0 … K-1, and one-hot rows and targets of one output in [0, 1]."""
    numbers, shares = check_labels(name), check_probabilities(name)

    def check(outputs: HasShape, targets: np.ndarray) -> None:
        if len(targets.shape) == len(outputs.shape):
            shares(outputs, targets)
            return
        wrong = np.argwhere(targets != np.round(targets))
        if len(wrong):
            first = tuple(wrong[0])
            raise ValueError(
                f"{name}: expected whole class numbers, got {targets[first]} in row {first[0]}. Renumber the classes."
            )
        numbers(outputs, targets)

    return check

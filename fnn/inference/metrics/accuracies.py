"""Accuracies: one number per row, as a loss, but to be read by people."""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from fnn.arguments import as_array, as_floats
from fnn.inference.metrics.inputs import check_threshold
from fnn.losses.base import as_labels, mean_of_positions, refuse_several_outputs, wide_dtype
from fnn.types import Array, ArrayLike, Metric, Numbers, Scalar, ShapeError


def accuracy(outputs: ArrayLike, targets: ArrayLike) -> Array:
    """1 for every row whose largest output is the target's class, else 0; shape `(batch,)`.

    nan names no class: a row with nan in its outputs counts 0. Outputs `(batch, …, classes)` name a class per position,
    and a row's accuracy is the share of its positions that are right.

    Args:
        outputs: `(batch, …, classes)`, probabilities or logits, at least two classes.
        targets: class numbers `(batch, …)`, or one-hot rows `(batch, …, classes)`.

    >>> import fnn
    >>> print(fnn.accuracy([[0.1, 0.9], [0.8, 0.2]], [1, 1]))
    [1. 0.]
    """
    refuse_several_outputs("accuracy", outputs)
    y, t = as_array("accuracy", outputs, "real outputs"), as_array("accuracy", targets, "real targets")
    if y.ndim < 2 or y.shape[-1] < 2:
        raise ShapeError(
            f"accuracy: expected outputs of shape (batch, classes), at least two classes, got {y.shape}. "
            "Use binary_accuracy(threshold) for a single output."
        )
    if t.shape not in (y.shape, y.shape[:-1]):
        raise ShapeError(
            f"accuracy: expected targets of shape {y.shape[:-1]} or {y.shape}, got {t.shape}. Reshape them."
        )
    label = as_labels(t.argmax(-1) if t.ndim == y.ndim else t)
    last = y.ndim - 1
    largest = lax.reduce_max(y, (last,))
    right = lax.eq(lax.argmax(y, last, label.dtype), label) & lax.eq(largest, largest)  # nan is not equal to itself
    if t.ndim == y.ndim:
        right &= ~jnp.isnan(t.max(-1))
    dtype = y.dtype if jnp.issubdtype(y.dtype, jnp.floating) else jnp.result_type(float)
    return mean_of_positions(right.reshape(-1).astype(wide_dtype(dtype)), y).astype(dtype)


def binary_accuracy(threshold: float = 0.5) -> Metric:
    """A metric for one output a label: 1 where it lies on the target's side of the threshold, else 0; 0 for nan.

    Args:
        threshold: 0.5 for probabilities, 0.0 for logits. With several outputs per row, all must be right.

    >>> import fnn, jax.numpy as jnp
    >>> print(fnn.binary_accuracy(0.5)(jnp.array([[0.9], [0.2]]), jnp.array([[1], [1]])))
    [1. 0.]
    """

    known = check_threshold("binary_accuracy", threshold, "Use fnn.accuracy")
    # of a traced one a function that is its own
    return (_above.__wrapped__ if isinstance(known, jax.core.Tracer) else _above)(known)


binary_accuracy.is_factory = True  # type: ignore[attr-defined]  # handed on without being called, that is said


@functools.lru_cache(maxsize=128)
def _above(threshold: Scalar) -> Metric:
    def right(outputs: Numbers, targets: Numbers) -> Array:
        refuse_several_outputs("binary_accuracy", outputs)
        y = as_floats("binary_accuracy", outputs, "real outputs")
        t = as_array("binary_accuracy", targets, "real targets")
        if y.shape != t.shape:
            raise ShapeError(f"binary_accuracy: expected targets of shape {y.shape}, got {t.shape}. Reshape them.")
        t = t.astype(y.dtype)
        hit = ((y > threshold) == (t > 0.5)) & ~jnp.isnan(y) & ~jnp.isnan(t)
        return hit.reshape(hit.shape[0], -1).all(-1).astype(y.dtype)

    return right

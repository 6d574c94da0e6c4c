"""Losses: one number a row, never reduced, each with its derivative by hand right under it.

`loss(outputs, targets) -> (batch,)`. Outputs and targets have a leading batch axis; a single row (1-D) works as a
batch of one. Shapes must be equal (for the sparse losses: targets are integers, one a row); nothing broadcasts.
Targets are converted to the dtype of the outputs. The name says what comes in: `softmax_cross_entropy` and
`sigmoid_cross_entropy` take logits, `cross_entropy` and `binary_cross_entropy` take probabilities, which are clipped
to [eps, 1-eps], eps = 1e-7 (the derivative is 0 where the clip acts). Exactness at the extremes belongs to the losses
on logits. Sources: documents D0, D1, D2, D3.

Notation below: `y` outputs, `z` logits, `t` targets, `k` the outputs of one row.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnn.activations import sigmoid, softmax, softplus
from fnn.types import Array, Loss, ShapeError

EPS = 1e-7


# ---- what goes in: shapes and dtypes, checked while tracing


def _dense_rows(name: str, outputs: Any, targets: Any) -> tuple[Array, Array]:
    """Outputs and targets of one shape, as `(batch, k)`."""
    y, t = _outputs(name, outputs), jnp.asarray(targets)
    if y.shape != t.shape:
        raise ShapeError(
            f"{name}: expected targets of the shape of the outputs {y.shape}, got {t.shape}. {_mend(y, t)}"
        )
    if not (jnp.issubdtype(t.dtype, jnp.floating) or jnp.issubdtype(t.dtype, jnp.integer) or t.dtype == bool):
        raise TypeError(f"{name}: expected real targets, got {t.dtype}. Do convert them to a floating dtype.")
    rows = 1 if y.ndim == 1 else y.shape[0]
    return y.reshape(rows, -1), t.astype(y.dtype).reshape(rows, -1)


def _sparse_rows(name: str, outputs: Any, targets: Any) -> tuple[Array, Array]:
    """Outputs as `(batch, classes)`, targets as `(batch,)` class numbers."""
    y, t = _outputs(name, outputs), jnp.asarray(targets)
    if y.shape[:-1] != t.shape or y.ndim > 2:
        mend = "Do give one class number for every row."
        if t.shape == (*y.shape[:-1], 1):
            mend = "Do reshape the targets: targets[:, 0]."
        elif t.shape == y.shape:
            mend = "Do use the loss without 'sparse_' for one-hot targets."
        raise ShapeError(
            f"{name}: expected one class number a row, targets of shape {y.shape[:-1]}, got {t.shape}. {mend}"
        )
    if not jnp.issubdtype(t.dtype, jnp.integer):
        raise TypeError(
            f"{name}: expected integer class numbers, got {t.dtype}. Do convert them: targets.astype('int32')."
        )
    return y.reshape(-1, y.shape[-1]), t.reshape(-1)


def _outputs(name: str, outputs: Any) -> Array:
    y = jnp.asarray(outputs)
    if y.ndim == 0:
        raise ShapeError(f"{name}: expected outputs of shape (batch, ...), got a single number. Do add a batch axis.")
    if not jnp.issubdtype(y.dtype, jnp.floating):
        raise TypeError(f"{name}: expected outputs of a floating dtype, got {y.dtype}. Do convert them.")
    return y


def _mend(y: Array, t: Array) -> str:
    if y.ndim == t.ndim + 1 and y.shape[-1] == 1:
        return "Do reshape the targets: targets[:, None]."
    if t.ndim == y.ndim + 1 and t.shape[-1] == 1:
        return "Do reshape the targets: targets[:, 0]."
    if y.ndim == t.ndim + 1:
        return "Do use one-hot targets, or a sparse_ loss for class numbers."
    return "Do give one target for every output."


# ---- what goes in: values, checked on the host before anything compiles


def _check_labels(name: str) -> Callable[[Any, Any], None]:
    def check(outputs: Any, targets: Any) -> None:
        classes = outputs.shape[-1]
        wrong = np.flatnonzero((targets < 0) | (targets >= classes))
        if wrong.size:
            raise ValueError(
                f"{name}: expected class numbers from 0 to {classes - 1}, got {targets[wrong[0]]} in row {wrong[0]}. "
                f"Do renumber the classes, or give the network more than {classes} outputs."
            )

    return check


def _check_probabilities(name: str) -> Callable[[Any, Any], None]:
    def check(outputs: Any, targets: Any) -> None:
        wrong = np.argwhere((targets < 0) | (targets > 1))
        if wrong.size:
            raise ValueError(
                f"{name}: expected targets in [0, 1], got {targets[tuple(wrong[0])]} in row {wrong[0][0]}. "
                "Do give probabilities, 0/1 labels or one-hot rows."
            )

    return check


# ---- how a loss is put together

_Rows = Callable[[str, Any, Any], tuple[Array, Array]]
_Formula = Callable[[Array, Array], Array]


def _loss(name: str, rows: _Rows, value: _Formula, grad: _Formula, check: Any = None) -> Loss:
    """`value` and `grad` see checked rows, `(batch, k)`; the derivative goes back in the shape of the outputs."""

    def checked_value(outputs: Any, targets: Any) -> Array:
        return value(*rows(name, outputs, targets))

    def checked_grad(outputs: Any, targets: Any) -> Array:
        return grad(*rows(name, outputs, targets)).reshape(jnp.shape(outputs))

    loss = Loss(name, checked_value, checked_grad, None if check is None else check(name))
    loss.__doc__ = value.__doc__
    return loss


@functools.lru_cache(maxsize=1024)
def from_function(
    value: Callable[[Any, Any], Array], grad: Callable[[Any, Any], Array] | None = None, name: str | None = None
) -> Loss:
    """A loss from a function of one's own, `(outputs, targets) -> (batch,)`.

    Args:
        value: the loss of each row.
        grad: its derivative by the outputs, of their shape; None takes it by autodiff.
        name: what it is called; the function's name by default.

    >>> import fnn, jax.numpy as jnp
    >>> quartic = fnn.losses.from_function(lambda y, t: ((y - t) ** 4).sum(-1), name="quartic")
    >>> outputs, targets = jnp.array([[2.0]]), jnp.array([[1.0]])
    >>> print(quartic(outputs, targets), quartic.grad(outputs, targets))
    [1.] [[4.]]
    """

    def autodiff_grad(outputs: Any, targets: Any) -> Array:
        return jax.grad(lambda y: value(y, targets).sum())(outputs)

    return Loss(name or getattr(value, "__name__", "loss"), value, grad or autodiff_grad)


def as_loss(thing: Any) -> Loss:
    """What may stand where a loss is wanted: a loss, or any callable `(outputs, targets) -> (batch,)`."""
    if isinstance(thing, Loss):
        return thing
    if callable(thing):
        return from_function(thing)
    raise TypeError(f"loss: expected a loss, got {type(thing).__name__} {thing!r}. Do pass one of fnn.losses.")


# ---- regression


def _squared_error(y: Array, t: Array) -> Array:
    """`Σ_k (y_k - t_k)²` a row; derivative `2 (y - t)`. D0.

    >>> import fnn, jax.numpy as jnp
    >>> print(fnn.losses.squared_error(jnp.array([[1.0, 3.0]]), jnp.array([[0.0, 1.0]])))
    [5.]
    """
    return jnp.square(y - t).sum(-1)


def _squared_error_grad(y: Array, t: Array) -> Array:
    return 2.0 * (y - t)


def _half_squared_error(y: Array, t: Array) -> Array:
    """`½ Σ_k (y_k - t_k)²` a row; derivative `y - t`. D1, which calls it mean squared error.

    >>> import fnn, jax.numpy as jnp
    >>> print(fnn.losses.half_squared_error(jnp.array([0.1, 0.05, 0.05, 0.8]), jnp.array([0, 1, 0, 0])))
    [0.77750003]
    """
    return 0.5 * jnp.square(y - t).sum(-1)


def _half_squared_error_grad(y: Array, t: Array) -> Array:
    return y - t


def _mean_squared_error(y: Array, t: Array) -> Array:
    """`(1/n) Σ_k (y_k - t_k)²` a row of n outputs; derivative `2 (y - t)/n`. D3.

    >>> import fnn, jax.numpy as jnp
    >>> print(fnn.losses.mean_squared_error(jnp.array([1.0, 1.0]), jnp.array([0.5, 0.8])))
    [0.145]
    """
    return jnp.square(y - t).mean(-1)


def _mean_squared_error_grad(y: Array, t: Array) -> Array:
    return 2.0 * (y - t) / y.shape[-1]


squared_error = _loss("squared_error", _dense_rows, _squared_error, _squared_error_grad)
half_squared_error = _loss("half_squared_error", _dense_rows, _half_squared_error, _half_squared_error_grad)
mean_squared_error = _loss("mean_squared_error", _dense_rows, _mean_squared_error, _mean_squared_error_grad)


# ---- classes, on probabilities: clipped to [eps, 1 - eps]; where the clip acts the derivative is 0


def _bounds(p: Array) -> tuple[float, float]:
    eps = max(EPS, float(jnp.finfo(p.dtype).eps) / 2 if p.dtype.itemsize < 4 else 0.0)
    return eps, 1.0 - eps


def _clipped(p: Array) -> Array:
    low, high = _bounds(p)
    return jnp.where(p < low, low, jnp.where(p > high, high, p))  # derivative 1 at the bounds, where jnp.clip has 1/2


def _inside(p: Array) -> Array:
    low, high = _bounds(p)
    return (p >= low) & (p <= high)


def _cross_entropy(y: Array, t: Array) -> Array:
    """`-Σ_k t_k log y_k` a row, `y` probabilities; derivative `-t/y`. D1.

    >>> import fnn, jax.numpy as jnp
    >>> print(fnn.losses.cross_entropy(jnp.array([0.1, 0.05, 0.05, 0.8]), jnp.array([0, 1, 0, 0])))
    [2.9957323]
    """
    return -(t * jnp.log(_clipped(y))).sum(-1)


def _cross_entropy_grad(y: Array, t: Array) -> Array:
    return jnp.where(_inside(y), -t / _clipped(y), 0.0)


def _sparse_cross_entropy(y: Array, t: Array) -> Array:
    """`-log y_t` a row, `y` probabilities, `t` the class number; derivative `-1/y_t` at the class, else 0. D1.

    >>> import fnn, jax.numpy as jnp
    >>> print(fnn.losses.sparse_cross_entropy(jnp.array([[0.1, 0.8, 0.1]]), jnp.array([1])))
    [0.22314353]
    """
    return -jnp.log(_clipped(_pick(y, t)))


def _sparse_cross_entropy_grad(y: Array, t: Array) -> Array:
    return _cross_entropy_grad(y, _one_hot(y, t))


def _binary_cross_entropy(y: Array, t: Array) -> Array:
    """`-Σ_k (t_k log y_k + (1-t_k) log(1-y_k))` a row, `y` probabilities; derivative `(1-t)/(1-y) - t/y`. D0.

    >>> import fnn, jax.numpy as jnp
    >>> print(fnn.losses.binary_cross_entropy(jnp.array([[0.5]]), jnp.array([[1.0]])))
    [0.6931472]
    """
    p = _clipped(y)
    return -(t * jnp.log(p) + (1.0 - t) * jnp.log1p(-p)).sum(-1)


def _binary_cross_entropy_grad(y: Array, t: Array) -> Array:
    p = _clipped(y)
    return jnp.where(_inside(y), (1.0 - t) / (1.0 - p) - t / p, 0.0)


cross_entropy = _loss("cross_entropy", _dense_rows, _cross_entropy, _cross_entropy_grad, _check_probabilities)
sparse_cross_entropy = _loss(
    "sparse_cross_entropy", _sparse_rows, _sparse_cross_entropy, _sparse_cross_entropy_grad, _check_labels
)
binary_cross_entropy = _loss(
    "binary_cross_entropy", _dense_rows, _binary_cross_entropy, _binary_cross_entropy_grad, _check_probabilities
)


# ---- classes, on logits: exact at the extremes


def _softmax_cross_entropy(z: Array, t: Array) -> Array:
    """`-Σ_k t_k log softmax(z)_k` a row; derivative `softmax(z) Σ_k t_k - t`, which is `softmax(z) - t` where the
    targets of a row sum to 1. A logit of -inf excludes a class whose target is 0. D2, D3.

    >>> import fnn, jax.numpy as jnp
    >>> print(fnn.losses.softmax_cross_entropy(jnp.array([[4.0, 2, 1], [0, 5, 1]]), jnp.array([[1, 0, 0], [0, 1, 0]])))
    [0.16984604 0.02474492]
    """
    return -jnp.where(t == 0, 0.0, t * jax.nn.log_softmax(z)).sum(-1)  # 0 * -inf counts as 0


def _softmax_cross_entropy_grad(z: Array, t: Array) -> Array:
    return softmax.value(z) * t.sum(-1, keepdims=True) - t


def _sparse_softmax_cross_entropy(z: Array, t: Array) -> Array:
    """`-log softmax(z)_t` a row, `t` the class number; derivative `softmax(z)`, minus 1 at the class. D3.

    >>> import fnn, jax.numpy as jnp
    >>> print(fnn.losses.sparse_softmax_cross_entropy(jnp.array([[4.0, 2, 1], [0, 5, 1]]), jnp.array([0, 1])))
    [0.16984604 0.02474492]
    """
    return -_pick(jax.nn.log_softmax(z), t)


def _sparse_softmax_cross_entropy_grad(z: Array, t: Array) -> Array:
    return softmax.value(z) - _one_hot(z, t)


def _sigmoid_cross_entropy(z: Array, t: Array) -> Array:
    """`-Σ_k (t_k log σ(z_k) + (1-t_k) log σ(-z_k))` a row; derivative `(1-t) σ(z) - t σ(-z)`, which is `σ(z) - t`
    without its cancellation. One output for two classes, or one an independent label. D0, D2.

    >>> import fnn, jax.numpy as jnp
    >>> print(fnn.losses.sigmoid_cross_entropy(jnp.array([[0.0], [1000.0]]), jnp.array([[1.0], [1.0]])))
    [0.6931472 0.       ]
    """
    return (t * softplus.value(-z) + (1.0 - t) * softplus.value(z)).sum(-1)


def _sigmoid_cross_entropy_grad(z: Array, t: Array) -> Array:
    return (1.0 - t) * sigmoid.value(z) - t * sigmoid.value(-z)


def _pick(y: Array, t: Array) -> Array:
    return jnp.take_along_axis(y, t[:, None], axis=-1)[:, 0]


def _one_hot(y: Array, t: Array) -> Array:
    return (t[:, None] == jnp.arange(y.shape[-1], dtype=t.dtype)).astype(y.dtype)


softmax_cross_entropy = _loss(
    "softmax_cross_entropy", _dense_rows, _softmax_cross_entropy, _softmax_cross_entropy_grad, _check_probabilities
)
sparse_softmax_cross_entropy = _loss(
    "sparse_softmax_cross_entropy",
    _sparse_rows,
    _sparse_softmax_cross_entropy,
    _sparse_softmax_cross_entropy_grad,
    _check_labels,
)
sigmoid_cross_entropy = _loss(
    "sigmoid_cross_entropy", _dense_rows, _sigmoid_cross_entropy, _sigmoid_cross_entropy_grad, _check_probabilities
)

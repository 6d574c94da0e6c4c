"""What a trained network says, and how good that is. Metrics are one number a row, as losses are."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnn import checks
from fnn.losses import as_loss
from fnn.types import Array, Layer, ShapeError


def predict(net: Layer, run: Any, x: Any, batch_size: int = 1024) -> np.ndarray:
    """The outputs for all rows of `x`, in row order, on the host; computed in chunks by one compiled program.

    Args:
        net: the network.
        run: what `fit` returned, or anything with `params` and `state`.
        x: `(rows, ...)`.
        batch_size: rows at once; device memory depends on it, and not on the number of rows.

    >>> import fnn, jax
    >>> net = fnn.serial(fnn.dense(2))
    >>> params, state, _ = net.init(jax.random.key(0), (3,))
    >>> print(fnn.predict(net, fnn.Run(params, state, None, None), [[1, 2, 3]] * 5).shape)
    (5, 2)
    """
    size = checks.whole_number("batch_size", batch_size, 1)
    leaves = jax.tree.leaves(run.params)
    x = np.asarray(checks.inputs("x", x, leaves[0].dtype if leaves else jnp.result_type(float)))
    forward, chunks = _forward(net), []
    for start in range(0, len(x), size):
        chunk = x[start : start + size]
        filling = min(size, len(x)) - len(chunk)  # the last chunk is filled up, so that one program does for all
        whole = np.concatenate([chunk, np.repeat(chunk[:1], filling, 0)]) if filling else chunk
        chunks.append(np.asarray(forward(run.params, run.state, whole))[: len(chunk)])
    return np.concatenate(chunks)


@functools.lru_cache(maxsize=128)
def _forward(net: Layer) -> Any:
    return jax.jit(lambda params, state, x: net.forward(params, state, x, None, False)[0])


def evaluate(net: Layer, run: Any, data: Any, metrics: dict[str, Any], batch_size: int = 1024) -> dict[str, float]:
    """Means over the rows of losses and metrics: `evaluate(net, run, (x, t), {"accuracy": fnn.accuracy})`.

    >>> import fnn, jax
    >>> net = fnn.serial(fnn.dense(2, weight_init=0.0))
    >>> params, state, _ = net.init(jax.random.key(0), (3,))
    >>> run = fnn.Run(params, state, None, None)
    >>> fnn.evaluate(net, run, ([[1, 2, 3]], [[1.0, 3.0]]), {"error": fnn.losses.mean_squared_error})
    {'error': 5.0}
    """
    x, t = checks.pair("data", data)
    y = predict(net, run, x, batch_size)
    t = checks.targets("data[1]", t, y.dtype)
    checks.same_rows("data", y, t)
    return {name: float(as_loss(metric)(jnp.asarray(y), t).mean()) for name, metric in metrics.items()}


def accuracy(outputs: Any, targets: Any) -> Array:
    """1 for every row whose largest output is the target's class, else 0; shape `(batch,)`.

    Args:
        outputs: `(batch, classes)`, probabilities or logits, at least two classes.
        targets: class numbers `(batch,)`, or one-hot rows `(batch, classes)`.

    >>> import fnn
    >>> print(fnn.accuracy([[0.1, 0.9], [0.8, 0.2]], [1, 1]))
    [1. 0.]
    """
    y, t = jnp.asarray(outputs), jnp.asarray(targets)
    if y.ndim != 2 or y.shape[1] < 2:
        raise ShapeError(
            f"accuracy: expected outputs of shape (batch, classes), at least two classes, got {y.shape}. "
            "Do use binary_accuracy(threshold) for a single output."
        )
    if t.shape not in (y.shape, y.shape[:1]):
        raise ShapeError(
            f"accuracy: expected targets of shape {y.shape[:1]} or {y.shape}, got {t.shape}. Do reshape them."
        )
    label = t.argmax(-1) if t.ndim == 2 else t
    return (y.argmax(-1).astype(label.dtype) == label).astype(y.dtype)


@functools.lru_cache(maxsize=128)
def binary_accuracy(threshold: float = 0.5) -> Any:
    """A metric for one output a label: 1 where it lies on the target's side of the threshold, else 0.

    Args:
        threshold: 0.5 for probabilities, 0.0 for logits. With several outputs a row, all must be right.

    >>> import fnn, jax.numpy as jnp
    >>> print(fnn.binary_accuracy(0.5)(jnp.array([[0.9], [0.2]]), jnp.array([[1], [1]])))
    [1. 0.]
    """

    def right(outputs: Any, targets: Any) -> Array:
        y, t = jnp.asarray(outputs), jnp.asarray(targets)
        if y.shape != t.shape:
            raise ShapeError(f"binary_accuracy: expected targets of shape {y.shape}, got {t.shape}. Do reshape them.")
        hit = (y > threshold) == (t.astype(y.dtype) > 0.5)
        return hit.reshape(hit.shape[0], -1).all(-1).astype(y.dtype)

    return right

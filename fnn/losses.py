"""All losses under one name, and losses from functions.

A loss is `loss(outputs, targets) -> (batch,)`: one number a row, never reduced; `loss.grad` is its derivative by hand.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax

from fnn.classification import binary_cross_entropy as binary_cross_entropy
from fnn.classification import cross_entropy as cross_entropy
from fnn.classification import sigmoid_cross_entropy as sigmoid_cross_entropy
from fnn.classification import softmax_cross_entropy as softmax_cross_entropy
from fnn.classification import sparse_cross_entropy as sparse_cross_entropy
from fnn.classification import sparse_softmax_cross_entropy as sparse_softmax_cross_entropy
from fnn.regression import half_squared_error as half_squared_error
from fnn.regression import mean_squared_error as mean_squared_error
from fnn.regression import squared_error as squared_error
from fnn.types import Array, Loss


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

"""Losses for targets that are numbers. Below, `y` are the outputs of one row, `t` its targets. Documents D0, D1, D3."""

import jax.numpy as jnp

from fnn.targets import dense_rows, make_loss
from fnn.types import Array


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


squared_error = make_loss("squared_error", dense_rows, _squared_error, _squared_error_grad)
half_squared_error = make_loss("half_squared_error", dense_rows, _half_squared_error, _half_squared_error_grad)
mean_squared_error = make_loss("mean_squared_error", dense_rows, _mean_squared_error, _mean_squared_error_grad)

"""Softmax of logits and its logarithm, written so that no digit is lost where one class leads.

`p_j = e^z_j / Σ_k e^z_k` over the last axis. Everything is computed from the largest logit of a row, the first if
several tie: `s_j = z_j - max`, and `Σ e^s_k` over all other classes. So `log p = s - log(1 + Σ)` of the leading class
and `1 - p = Σ/(1 + Σ)` are right to the last digits where `log Σ_k e^z_k` and `1 - p` cancel, to autodiff as well.
A logit of -inf has p = 0; one logit of inf has p = 1; where two are infinite, or all are -inf, there is no limit: nan.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fnn.kernels.operations import across, sum_of_rows, where
from fnn.types import Array, ShapeError


class Lead(NamedTuple):
    """Logits relative to the largest of their row."""

    top: Array  # where the largest is, the first if several tie; `(..., K)`
    s: Array  # z - max, exactly 0 at the top; `(..., K)`
    others: Array  # Σ e^s over all but the top; `(..., 1)`


@jax.named_scope("smooth")  # which class leads is no kink
def lead(z: Array) -> Lead:
    """The largest logit of each row, and the others relative to it."""
    if not z.ndim or not z.shape[-1]:
        raise ShapeError(f"softmax: expected logits of shape (..., classes), got {z.shape}. Pass a row of them.")
    last = z.ndim - 1
    top = lax.eq(lax.broadcasted_iota(jnp.int32, z.shape, last), across(lax.argmax(z, last, jnp.int32), z))
    behind = lax.sub(z, across(sum_of_rows(where(top, z, 0.0)), z))
    others = sum_of_rows(lax.exp(where(top, -jnp.inf, behind)))
    return Lead(top, where(top, 0.0, behind), lax.expand_dims(others, (last,)))


def _log_1_plus(others: Array) -> Array:
    """`log(1 + Σ)`.

    In float32 by a series for small Σ, which takes less time than `log1p`; from 0.02 on with the rounding of `1 + Σ`,
    at most 3e-6 of the result, as the digits printed in the documents have it.
    """
    if others.dtype != jnp.float32:
        return jnp.log1p(others)
    small = lax.lt(others, np.float32(0.02))
    u = where(small, others, 0.0)
    series = lax.div(u, np.float32(5.0))
    for by in (1 / 4, 1 / 3, 1 / 2, 1.0):  # u (1 - u (1/2 - u (1/3 - u (1/4 - u/5))))
        series = lax.mul(u, lax.sub(np.float32(by), series))
    return where(small, series, lax.log(lax.add(np.float32(1.0), others)))


@jax.named_scope("smooth")
def log_softmax(z: Array) -> Array:
    """`log p`.

    >>> import jax.numpy as jnp
    >>> from fnn.activations.softmax import log_softmax
    >>> print(log_softmax(jnp.array([30.0, 0.0])))
    [-9.357623e-14 -3.000000e+01]
    """
    _, s, others = lead(z)
    return lax.sub(s, across(_log_1_plus(others), s))


@jax.named_scope("smooth")
def softmax_and_rest(z: Array) -> tuple[Array, Array]:
    """`p` and `1 - p`, each precise where it is small.

    >>> import jax.numpy as jnp
    >>> from fnn.activations.softmax import softmax_and_rest
    >>> print(*softmax_and_rest(jnp.array([30.0, 0.0])))
    [1.000000e+00 9.357623e-14] [9.357623e-14 1.000000e+00]
    """
    top, s, others = lead(z)
    p = jnp.exp(s) / (1.0 + others)
    return p, jnp.where(top, others / (1.0 + others), 1.0 - p)


@jax.named_scope("smooth")
def log_softmax_and_rest(z: Array) -> tuple[Array, Array]:
    """`log p` and `log(1 - p)`."""
    top, s, others = lead(z)
    log_total = _log_1_plus(others)
    # nothing but the largest: a finite stand-in for log 0, which a power of 0 turns into 1 and any other into 0
    least = 4.0 * jnp.log(jnp.finfo(z.dtype).tiny)
    log_others = jnp.where(others == 0, least, jnp.log(jnp.where(others == 0, 1.0, others)))
    others_are_not = jnp.where(top, 0.0, jnp.exp(s - log_total))  # at most 1/2 each
    # without a derivative where p is 0, which a log p of -inf would make nan
    log_rest = jnp.where(others_are_not == 0, 0.0, jnp.log1p(-others_are_not))
    return s - log_total, jnp.where(top, log_others - log_total, log_rest)


# ---- the activation


def softmax(x: Array) -> Array:
    """`e^x_j / Σ_k e^x_k` over the last axis; values in [0, 1], rows sum to 1. -inf gives exactly 0, one inf exactly 1.

    Derivative `∂y_j/∂x_i = y_j (δ_ij - y_i)`, so `dx = y (dy - Σ_k y_k dy_k)`. Source documents 2 and 3.
    To train a classifier end the network with logits and use `losses.softmax_cross_entropy`.

    >>> import fnn
    >>> print(fnn.softmax([4, 5, 1]))
    [0.26538792 0.7213992  0.01321289]
    """
    return softmax_and_rest(x)[0]


def softmax_jacobian(x: Array) -> Array:
    """`∂y_j/∂x_i` as `(..., j, i)`."""
    y, rest = softmax_and_rest(x)
    return y[..., None] * jnp.where(jnp.eye(x.shape[-1], dtype=bool), rest[..., None], -y[..., None, :])


def softmax_backward(x: Array, dy: Array) -> Array:
    """`y (dy - Σ_k y_k dy_k)`."""
    y = softmax_and_rest(x)[0]
    return y * (dy - (y * dy).sum(-1, keepdims=True))

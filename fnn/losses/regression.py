"""Losses for targets that are numbers. Below, `y` are the outputs of one row, `t` its targets. Source documents 0, 1
and 3.

nan outputs and targets give nan, infinite ones the limit of value and derivative; inf where inf is wanted is nan.
"""

import math

import jax.numpy as jnp

from fnn.activations.limits import keep_nan, nan_or_1, times
from fnn.arguments import like, scalar
from fnn.factories import factory
from fnn.losses.base import dense_rows, make_loss
from fnn.types import Array, Loss, Scalar


def _squared_error(y: Array, t: Array) -> Array:
    """`Σ_k (y_k - t_k)²` per row; derivative `2 (y - t)`. Source document 0.

    >>> import fnn, jax.numpy as jnp
    >>> print(fnn.losses.squared_error(jnp.array([[1.0, 3.0]]), jnp.array([[0.0, 1.0]])))
    [5.]
    """
    return jnp.square(y - t).sum(-1)


def _squared_error_grad(y: Array, t: Array) -> Array:
    return 2.0 * (y - t)


def _half_squared_error(y: Array, t: Array) -> Array:
    """`½ Σ_k (y_k - t_k)²` per row; derivative `y - t`. Source document 1, which calls it mean squared error.

    >>> import fnn, jax.numpy as jnp
    >>> print(fnn.losses.half_squared_error(jnp.array([0.1, 0.05, 0.05, 0.8]), jnp.array([0, 1, 0, 0])))
    [0.77750003]
    """
    e = y - t
    return (e * (0.5 * e)).sum(-1)  # whose derivative overflows nowhere


def _half_squared_error_grad(y: Array, t: Array) -> Array:
    return y - t


def _mean_squared_error(y: Array, t: Array) -> Array:
    """`(1/n) Σ_k (y_k - t_k)²` a row of n outputs; derivative `2 (y - t)/n`. Source document 3.

    >>> import fnn, jax.numpy as jnp
    >>> print(fnn.losses.mean_squared_error(jnp.array([1.0, 1.0]), jnp.array([0.5, 0.8])))
    [0.145]
    """
    return jnp.square(y - t).mean(-1)


def _mean_squared_error_grad(y: Array, t: Array) -> Array:
    return 2.0 * (y - t) / y.shape[-1]


squared_error = make_loss(
    "squared_error", dense_rows, _squared_error, _squared_error_grad, residuals=lambda y, t: y - t
)
half_squared_error = make_loss(
    "half_squared_error", dense_rows, _half_squared_error, _half_squared_error_grad,
    residuals=lambda y, t: math.sqrt(0.5) * (y - t),
)  # fmt: skip
mean_squared_error = make_loss(
    "mean_squared_error", dense_rows, _mean_squared_error, _mean_squared_error_grad,
    residuals=lambda y, t: (y - t) / math.sqrt(y.shape[-1]),
)  # fmt: skip


# ---- absolute values: less drawn to rows far off than squares are


def _absolute_error(y: Array, t: Array) -> Array:
    """`Σ_k |y_k - t_k|` per row; derivative `sign(y - t)`, 0 where y = t. Its best constant guess is the median.

    >>> import fnn, jax.numpy as jnp
    >>> print(fnn.losses.absolute_error(jnp.array([[1.0, 3.0]]), jnp.array([[0.0, 5.0]])))
    [3.]
    """
    return _abs(y - t).sum(-1)


def _absolute_error_grad(y: Array, t: Array) -> Array:
    return jnp.sign(y - t)


def _abs(e: Array) -> Array:
    return e * jnp.sign(e)  # derivative 0 at 0 to autodiff too, where jnp.abs has 1


absolute_error = make_loss("absolute_error", dense_rows, _absolute_error, _absolute_error_grad)


@factory
def huber(delta: Scalar = 1.0) -> Loss:
    """`Σ_k h(y_k - t_k)` per row, `h(e) = ½ e²` for |e| <= δ, else `δ (|e| - ½ δ)`; derivative `clip(e, -δ, δ)`.

    Squares near the target, absolute values far off; smooth everywhere. Huber 1964, doi:10.1214/aoms/1177703732.

    Args:
        delta: `δ`, where one turns into the other, above 0, in the unit of the targets; may be traced.

    >>> import fnn, jax.numpy as jnp
    >>> print(fnn.losses.huber(1.0)(jnp.array([[0.5], [3.0]]), jnp.array([[0.0], [0.0]])))
    [0.125 2.5  ]
    """
    d = scalar("huber", "a delta", delta, "Pass the error from which on it should count linearly", positive=True)

    def value(y: Array, t: Array) -> Array:
        e, delta = y - t, like(d, y)
        far = _abs(e) > delta
        near = jnp.where(far, 0.0, e)  # no square of a far error, which could overflow
        return jnp.where(far, delta * (_abs(e) - 0.5 * delta), 0.5 * jnp.square(near)).sum(-1)

    def grad(y: Array, t: Array) -> Array:
        delta = like(d, y)
        return jnp.clip(y - t, -delta, delta)

    return make_loss("huber", dense_rows, value, grad)


@factory
def smooth_l1(beta: Scalar = 1.0) -> Loss:
    """`Σ_k s(y_k - t_k)` per row, `s(e) = ½ e²/β` for |e| <= β, else `|e| - ½ β`; derivative `clip(e/β, -1, 1)`.

    It is `huber(β)/β`: far off its slope is 1 whatever β is, while huber's is δ. Source document 3; Girshick 2015
    (Fast R-CNN), arXiv:1504.08083, which has β = 1.

    Args:
        beta: `β`, above 0, in the unit of the targets; may be traced.

    >>> import fnn, jax.numpy as jnp
    >>> print(fnn.losses.smooth_l1(0.5)(jnp.array([[0.25], [3.0]]), jnp.array([[0.0], [0.0]])))
    [0.0625 2.75  ]
    """
    b = scalar("smooth_l1", "a beta", beta, "Use absolute_error for a kink at 0", positive=True)

    def value(y: Array, t: Array) -> Array:
        e, beta = y - t, like(b, y)
        far = _abs(e) > beta
        near = jnp.where(far, 0.0, e)
        return jnp.where(far, _abs(e) - 0.5 * beta, 0.5 * jnp.square(near) / beta).sum(-1)

    def grad(y: Array, t: Array) -> Array:
        return jnp.clip((y - t) / like(b, y), -1.0, 1.0)

    return make_loss("smooth_l1", dense_rows, value, grad)


# ---- too much and too little cost differently: at y = t the derivative is that of the left side, of too little


@factory
def asymmetric(over: Scalar, under: Scalar) -> Loss:
    """`Σ_k (y_k > t_k ? over (y_k - t_k) : under (t_k - y_k))` per row; derivative `y > t ? over : -under`.

    At y = t the formula takes its second branch, and so does the derivative: `-under`. Source document 3's yoghurt:
    predicting too much loses the COST of a unit, `over`; too little loses its PROFIT, `under`.

    Args:
        over: what a unit too much costs, at least 0; may be traced.
        under: what a unit too little costs, likewise.

    >>> import fnn, jax.numpy as jnp
    >>> print(fnn.losses.asymmetric(over=1, under=99)(jnp.array([[3.0], [1.0]]), jnp.array([[2.0], [2.0]])))
    [ 1. 99.]
    """
    hint = "Pass what one unit costs"
    return _two_slopes(
        "asymmetric", scalar("asymmetric", "a cost", over, hint), scalar("asymmetric", "a cost", under, hint)
    )


@factory
def quantile(q: Scalar) -> Loss:
    """`Σ_k (y_k > t_k ? (1-q) (y_k - t_k) : q (t_k - y_k))` per row, the pinball loss; derivative `y > t ? 1-q : -q`.

    At y = t the derivative is `-q`. The best constant guess is the q-quantile of the targets: q = 0.9 is
    exceeded by one target in ten; q = 0.5 is half of `absolute_error`. Koenker & Bassett 1978, doi:10.2307/1913643.

    Args:
        q: which quantile, above 0 and below 1; may be traced.

    >>> import fnn, jax.numpy as jnp
    >>> print(fnn.losses.quantile(0.75)(jnp.array([[3.0], [1.0]]), jnp.array([[2.0], [2.0]])))
    [0.25 0.75]
    """
    q = scalar("quantile", "a q", q, "Pass 0.5 for the median", positive=True)
    if isinstance(q, (int, float)) and q >= 1:
        raise ValueError(f"quantile: expected a q below 1, got {q}. Pass 0.9 for the 90th percentile.")
    return _two_slopes("quantile", 1.0 - q, q)


def _two_slopes(name: str, over: Scalar, under: Scalar) -> Loss:
    def value(y: Array, t: Array) -> Array:
        e = keep_nan(y - t)
        return jnp.where(y > t, times(over, e), times(under, -e)).sum(-1)

    def grad(y: Array, t: Array) -> Array:
        return jnp.where(y > t, like(over, y), -like(under, y)) * nan_or_1(y - t)

    return make_loss(name, dense_rows, value, grad)

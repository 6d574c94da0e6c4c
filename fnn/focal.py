"""Focal losses: cross-entropies in which what is already right counts less. On logits.

Each term of a cross-entropy, `-log p`, is multiplied by `(1-p)^γ`, so that the many easy examples do not outweigh the
few hard ones; γ = 0 is the cross-entropy. Both losses are linear in the targets, which may be smoothed or uncertain.
Everything is computed from `log p` and `log(1-p)`, so it is right where `p` or `1-p` rounds to 0.
Lin et al. 2017, arXiv:1708.02002. Below, `z` are the logits of one row, `t` its targets.
"""

from typing import Any

import jax
import jax.numpy as jnp

from fnn.activations import sigmoid, softplus
from fnn.scalars import scalar
from fnn.spec import factory
from fnn.targets import (
    at_most_one,
    check_labels,
    check_probabilities,
    class_weights,
    dense_rows,
    make_loss,
    one_hot,
    sparse_rows,
)
from fnn.types import Array, Loss, ShapeError

# ---- two classes an output


@factory
def sigmoid_focal(gamma: float = 2.0, alpha: float | None = None) -> Loss:
    """`Σ_k (α t_k f(z_k) + (1-α) (1-t_k) f(-z_k))` a row, with `f(z) = σ(-z)^γ (-log σ(z))`.

    Derivative `α t f'(z) - (1-α) (1-t) f'(-z)`, with `f'(z) = σ(-z)^γ (γ σ(z) log σ(z) - σ(-z))`.

    Args:
        gamma: `γ`, at least 0; the paper's 2. May be traced.
        alpha: `α` in [0, 1], the weight of the targets 1 as against 0; None leaves both `α` and `1-α` out (1 each).
            The paper has 0.25. May be traced.

    >>> import fnn, jax.numpy as jnp
    >>> print(fnn.losses.sigmoid_focal(2.0)(jnp.array([[0.0], [4.0]]), jnp.array([[1.0], [0.0]])))
    [0.1732868 3.874907 ]
    """
    gamma = scalar("sigmoid_focal", "a gamma", gamma, "pass 0 for the cross-entropy")
    if alpha is not None:
        alpha = at_most_one("sigmoid_focal", "an alpha", alpha, "pass the share of weight for the targets 1, or None")

    def weighted(t: Array) -> tuple[Array, Array]:
        if alpha is None:
            return t, 1.0 - t
        return jnp.asarray(alpha, t.dtype) * t, jnp.asarray(1.0 - alpha, t.dtype) * (1.0 - t)

    def value(z: Array, t: Array) -> Array:
        one, zero = weighted(t)
        return (one * _focal(z, gamma) + zero * _focal(-z, gamma)).sum(-1)

    def grad(z: Array, t: Array) -> Array:
        one, zero = weighted(t)
        return one * _focal_derivative(z, gamma) - zero * _focal_derivative(-z, gamma)

    return make_loss("sigmoid_focal", dense_rows, value, grad, check_probabilities, "binary")


def _focal(z: Array, gamma: Any) -> Array:
    return jnp.exp(-jnp.asarray(gamma, z.dtype) * softplus.value(z)) * softplus.value(-z)  # -log σ(z) = softplus(-z)


def _focal_derivative(z: Array, gamma: Any) -> Array:
    g = jnp.asarray(gamma, z.dtype)
    return -jnp.exp(-g * softplus.value(z)) * (g * sigmoid.value(z) * softplus.value(-z) + sigmoid.value(-z))


# ---- K classes, one of them true


@factory
def softmax_focal(gamma: float = 2.0, alpha: Any = None) -> Loss:
    """`-Σ_k α_k t_k (1-p_k)^γ log p_k` a row, `p = softmax(z)`.

    Derivative, with `h_k = α_k t_k (1-p_k)^γ (γ p_k log p_k / (1-p_k) - 1)`: `h_j (1-p_j) - p_j Σ_{k≠j} h_k`.
    A logit of -inf excludes a class whose target is 0.

    Args:
        gamma: `γ`, at least 0; the paper's 2. May be traced.
        alpha: the weight of each class, at least 0, one a class; None weighs all 1.

    >>> import fnn, jax.numpy as jnp
    >>> print(fnn.losses.softmax_focal(2.0)(jnp.array([[0.0, 0.0], [4.0, 0.0]]), jnp.array([[1, 0], [0, 1]])))
    [0.1732868 3.874907 ]
    """
    value, grad = _softmax_formulas("softmax_focal", gamma, alpha)
    return make_loss("softmax_focal", dense_rows, value, grad, check_probabilities, "one-hot")


@factory
def sparse_softmax_focal(gamma: float = 2.0, alpha: Any = None) -> Loss:
    """`softmax_focal` for class numbers: `-α_t (1-p_t)^γ log p_t` a row, `p = softmax(z)`, `t` the class number.

    Args:
        gamma, alpha: as for `softmax_focal`.

    >>> import fnn, jax.numpy as jnp
    >>> print(fnn.losses.sparse_softmax_focal(2.0)(jnp.array([[0.0, 0.0], [4.0, 0.0]]), jnp.array([0, 1])))
    [0.1732868 3.874907 ]
    """
    value, grad = _softmax_formulas("sparse_softmax_focal", gamma, alpha)
    return make_loss(
        "sparse_softmax_focal",
        sparse_rows,
        lambda z, t: value(z, one_hot(z, t)),
        lambda z, t: grad(z, one_hot(z, t)),
        check_labels,
        "labels",
        softmax_focal(gamma, alpha),
    )


def _softmax_formulas(name: str, gamma: Any, alpha: Any) -> tuple[Any, Any]:
    gamma = scalar(name, "a gamma", gamma, "pass 0 for the cross-entropy")
    alpha = None if alpha is None else class_weights(name, alpha)

    def weighted(t: Array) -> Array:
        if alpha is None:
            return t
        if len(alpha) != t.shape[-1]:
            raise ShapeError(
                f"{name}: expected an alpha a class, for {t.shape[-1]} outputs, got {len(alpha)}. Do give one a class."
            )
        return jnp.asarray(alpha, t.dtype) * t

    def value(z: Array, t: Array) -> Array:
        log_p, log_rest = _log_softmax(z)
        log_p = jnp.where(t == 0, 0.0, log_p)  # 0 * -inf counts as 0
        return -(weighted(t) * jnp.exp(jnp.asarray(gamma, z.dtype) * log_rest) * log_p).sum(-1)

    def grad(z: Array, t: Array) -> Array:
        g = jnp.asarray(gamma, z.dtype)
        log_p, log_rest = _log_softmax(z)
        p, rest = jnp.exp(log_p), jnp.exp(log_rest)
        log_p = jnp.where(t == 0, 0.0, log_p)
        ratio = jnp.where(rest > 0, log_p / jnp.where(rest > 0, rest, 1.0), -1.0)  # log p / (1-p) tends to -1
        h = weighted(t) * jnp.exp(g * log_rest) * (g * p * ratio - 1.0)
        return h * rest - p * (h.sum(-1, keepdims=True) - h)

    return value, grad


@jax.named_scope("smooth")
def _log_softmax(z: Array) -> tuple[Array, Array]:
    """`log p` and `log(1-p)`, without the cancellation of `1-p` at the largest logit."""
    top = jnp.arange(z.shape[-1]) == z.argmax(-1, keepdims=True)
    s = jnp.where(top, 0.0, z - jnp.where(top, z, 0.0).sum(-1, keepdims=True))
    others = jnp.where(top, 0.0, jnp.exp(s)).sum(-1, keepdims=True)
    log_p = s - jnp.log1p(others)
    # nothing but the largest: a finite stand-in for log 0, which γ = 0 turns into 1 and any other γ into 0
    least = 4.0 * jnp.log(jnp.finfo(z.dtype).tiny)
    log_others = jnp.where(others > 0, jnp.log(jnp.where(others > 0, others, 1.0)), least)
    others_are_not = jnp.where(top, 0.0, jnp.exp(log_p))  # at most 1/2 each
    return log_p, jnp.where(top, log_others - jnp.log1p(others), jnp.log1p(-others_are_not))

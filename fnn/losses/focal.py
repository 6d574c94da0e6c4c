"""Focal losses: cross-entropies in which what is already right counts less. On logits.

Each term of a cross-entropy, `-log p`, is multiplied by `(1-p)^γ`, so that the many easy examples do not outweigh the
few hard ones; γ = 0 is the cross-entropy. Both losses are linear in the targets, which may be smoothed or uncertain.
Everything is computed from `log p` and `log(1-p)`, so it is right where `p` or `1-p` rounds to 0.
Lin et al. 2017, arXiv:1708.02002. Below, `z` are the logits of one row, `t` its targets.
"""

from collections.abc import Callable

import jax.numpy as jnp

from fnn.activations.elementwise import sigmoid, softplus
from fnn.activations.limits import relu_when_far, step_when_far
from fnn.activations.softmax import log_softmax_and_rest
from fnn.arguments import like, scalar
from fnn.factories import factory
from fnn.losses.base import (
    ClassWeights,
    check_labels,
    check_probabilities,
    check_share,
    class_rows,
    class_weights,
    dense_rows,
    make_loss,
    one_hot,
    sparse_rows,
)
from fnn.types import Array, Loss, Scalar, ShapeError

# ---- two classes an output


@factory
def sigmoid_focal(gamma: Scalar = 2.0, alpha: Scalar | None = None) -> Loss:
    """`Σ_k (α t_k f(z_k) + (1-α) (1-t_k) f(-z_k))` per row, with `f(z) = σ(-z)^γ (-log σ(z))`.

    Derivative `α t f'(z) - (1-α) (1-t) f'(-z)`, with `f'(z) = σ(-z)^γ (γ σ(z) log σ(z) - σ(-z))`.

    Args:
        gamma: `γ`, at least 0; the paper's 2. May be traced.
        alpha: `α` in [0, 1], the weight of the targets 1 as against 0; None leaves both `α` and `1-α` out (1 each).
            The paper has 0.25. May be traced.

    >>> import fnn, jax.numpy as jnp
    >>> print(fnn.losses.sigmoid_focal(2.0)(jnp.array([[0.0], [4.0]]), jnp.array([[1.0], [0.0]])))
    [0.1732868 3.874907 ]
    """
    gamma = scalar("sigmoid_focal", "a gamma", gamma, "Pass 0 for the cross-entropy")
    if alpha is not None:
        alpha = check_share("sigmoid_focal", "an alpha", alpha, "Pass the share of weight for the targets 1, or None")

    def weigh(t: Array) -> tuple[Array, Array]:
        if alpha is None:
            return t, 1.0 - t
        return like(alpha, t) * t, like(1.0 - alpha, t) * (1.0 - t)

    def value(z: Array, t: Array) -> Array:
        one, zero = weigh(t)
        against_1 = jnp.where(one == 0, 0.0, one * _focal(z, gamma))  # 0 * inf counts as 0
        return (against_1 + jnp.where(zero == 0, 0.0, zero * _focal(-z, gamma))).sum(-1)

    def grad(z: Array, t: Array) -> Array:
        one, zero = weigh(t)
        return one * _focal_derivative(z, gamma) - zero * _focal_derivative(-z, gamma)

    return make_loss("sigmoid_focal", dense_rows, value, grad, check_probabilities, "binary", outputs="logits")


def _focal(z: Array, gamma: Scalar) -> Array:
    """`f(z)`, which is `-z` at -inf and 0 at inf."""
    g = like(gamma, z)
    # -log σ(z) = softplus(-z)
    return relu_when_far(lambda m: jnp.exp(-g * softplus.value(-m)) * softplus.value(m), -z)


def _focal_derivative(z: Array, gamma: Scalar) -> Array:
    g = like(gamma, z)

    def by_minus_z(m: Array) -> Array:
        return jnp.exp(-g * softplus.value(-m)) * (g * sigmoid.value(-m) * softplus.value(m) + sigmoid.value(m))

    return -step_when_far(by_minus_z, -z)


# ---- K classes, one of them true


@factory
def softmax_focal(gamma: Scalar = 2.0, alpha: ClassWeights | None = None) -> Loss:
    """`-Σ_k α_k t_k (1-p_k)^γ log p_k` per row, `p = softmax(z)`.

    Derivative, with `h_k = α_k t_k (1-p_k)^γ (γ p_k log p_k / (1-p_k) - 1)`: `h_j (1-p_j) - p_j Σ_{k≠j} h_k`.
    A logit of -inf excludes a class whose target is 0.

    Args:
        gamma: `γ`, at least 0; the paper's 2. May be traced.
        alpha: the weight of each class, at least 0, one per class; None weighs all 1.

    >>> import fnn, jax.numpy as jnp
    >>> print(fnn.losses.softmax_focal(2.0)(jnp.array([[0.0, 0.0], [4.0, 0.0]]), jnp.array([[1, 0], [0, 1]])))
    [0.1732868 3.874907 ]
    """
    value, grad = _softmax_formulas("softmax_focal", gamma, alpha)
    return make_loss("softmax_focal", class_rows, value, grad, check_probabilities, "one-hot", outputs="logits")


@factory
def sparse_softmax_focal(gamma: Scalar = 2.0, alpha: ClassWeights | None = None) -> Loss:
    """`softmax_focal` for class numbers: `-α_t (1-p_t)^γ log p_t` per row, `p = softmax(z)`, `t` the class number.

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
        "logits",
    )


def _softmax_formulas(
    name: str, gamma: Scalar, alpha: ClassWeights | None
) -> tuple[Callable[[Array, Array], Array], Callable[[Array, Array], Array]]:
    gamma = scalar(name, "a gamma", gamma, "Pass 0 for the cross-entropy")
    alpha = None if alpha is None else class_weights(name, alpha)

    def weigh(t: Array) -> Array:
        if alpha is None:
            return t
        if len(alpha) != t.shape[-1]:
            raise ShapeError(
                f"{name}: expected an alpha per class, for {t.shape[-1]} outputs, got {len(alpha)}. Give one per class."
            )
        return like(alpha, t) * t

    def value(z: Array, t: Array) -> Array:
        t = weigh(t)
        log_p, log_rest = log_softmax_and_rest(z)
        log_p = jnp.where(t == 0, 0.0, log_p)  # 0 * -inf counts as 0
        return -(t * jnp.exp(like(gamma, z) * log_rest) * log_p).sum(-1)

    def grad(z: Array, t: Array) -> Array:
        g, t = like(gamma, z), weigh(t)
        log_p, log_rest = log_softmax_and_rest(z)
        p, rest = jnp.exp(log_p), jnp.exp(log_rest)
        p_log_p = jnp.where(p == 0, 0.0, p * log_p)
        ratio = jnp.where(rest == 0, -1.0, p_log_p / jnp.where(rest == 0, 1.0, rest))  # tends to -1
        h = t * jnp.exp(g * log_rest) * (g * ratio - 1.0)
        return h * rest - p * (h.sum(-1, keepdims=True) - h)

    return value, grad

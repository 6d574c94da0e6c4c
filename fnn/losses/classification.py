"""Losses for targets that are classes: one-hot rows or probabilities, or (sparse) class numbers. Source documents 0
to 3.

The name says what comes in: `softmax_cross_entropy` and `sigmoid_cross_entropy` take logits, `cross_entropy` and
`binary_cross_entropy` take probabilities, clipped to [eps, 1 - eps], eps = 1e-7. Exactness at the extremes belongs to
the losses on logits. Below, `y` are the outputs of one row, `z` its logits, `t` its targets.

Classes are the last axis: outputs `(batch, …, K)` hold one distribution per position, and the loss of a row is the mean
over its positions. Losses with two classes per output (`binary_cross_entropy`, `sigmoid_cross_entropy`, `hinge`) add up
all outputs of a row. nan outputs give nan. A term whose factor is 0 counts as 0, also where its other factor is inf.
"""

import jax
import jax.numpy as jnp

from fnn.activations.elementwise import relu, sigmoid, softplus
from fnn.activations.limits import keep_nan, nan_or_1
from fnn.activations.softmax import log_softmax, softmax_and_rest
from fnn.arguments import beside
from fnn.losses.base import (
    RowsOf,
    check_labels,
    check_probabilities,
    class_rows,
    dense_rows,
    make_loss,
    one_hot,
    select_class,
    sparse_rows,
)
from fnn.types import Array, Numbers

EPS = 1e-7


# ---- classes, on probabilities: clipped to [eps, 1 - eps]; where the clip acts the derivative is 0


def _probabilities(rows: RowsOf) -> RowsOf:
    def those_with_a_derivative(name: str, outputs: Numbers, targets: Numbers) -> tuple[Array, Array]:
        y, t = rows(name, outputs, targets)
        least = float(jnp.finfo(jnp.asarray(outputs).dtype).tiny)
        return (jnp.where(y < least, 0.0, y) if least > EPS else y), t  # 1/y would overflow in float16

    return those_with_a_derivative


def _clip(p: Array) -> Array:
    # derivative 1 at the bounds, where jnp.clip has 1/2
    return jnp.where(p < EPS, EPS, jnp.where(p > 1.0 - EPS, 1.0 - EPS, p))


def _outside(p: Array) -> Array:
    return (p < EPS) | (p > 1.0 - EPS)


def _cross_entropy(y: Array, t: Array) -> Array:
    """`-Σ_k t_k log y_k` per row, `y` probabilities; derivative `-t/y`. Source document 1.

    >>> import fnn, jax.numpy as jnp
    >>> print(fnn.losses.cross_entropy(jnp.array([0.1, 0.05, 0.05, 0.8]), jnp.array([0, 1, 0, 0])))
    [2.9957323]
    """
    return -(t * jnp.log(_clip(y))).sum(-1)


def _cross_entropy_grad(y: Array, t: Array) -> Array:
    return jnp.where(_outside(y), 0.0, -t / _clip(y))


def _sparse_cross_entropy(y: Array, t: Array) -> Array:
    """`-log y_t` per row, `y` probabilities, `t` the class number; derivative `-1/y_t` at the class, else 0. Source
    document 1.

    >>> import fnn, jax.numpy as jnp
    >>> print(fnn.losses.sparse_cross_entropy(jnp.array([[0.1, 0.8, 0.1]]), jnp.array([1])))
    [0.22314353]
    """
    nan_elsewhere = jnp.where(y == y, 0.0, keep_nan(y)).sum(-1)
    return nan_elsewhere - jnp.log(_clip(select_class(y, t)))


def _sparse_cross_entropy_grad(y: Array, t: Array) -> Array:
    return _cross_entropy_grad(y, one_hot(y, t))


def _binary_cross_entropy(y: Array, t: Array) -> Array:
    """`-Σ_k (t_k log y_k + (1-t_k) log(1-y_k))` per row, `y` probabilities; derivative `(1-t)/(1-y) - t/y`. Source
    document 0.

    >>> import fnn, jax.numpy as jnp
    >>> print(fnn.losses.binary_cross_entropy(jnp.array([[0.5]]), jnp.array([[1.0]])))
    [0.6931472]
    """
    p = _clip(y)
    return -(t * jnp.log(p) + (1.0 - t) * jnp.log1p(-p)).sum(-1)


def _binary_cross_entropy_grad(y: Array, t: Array) -> Array:
    p = _clip(y)
    return jnp.where(_outside(y), 0.0, (1.0 - t) / (1.0 - p) - t / p)


cross_entropy = make_loss(
    "cross_entropy",
    _probabilities(class_rows),
    _cross_entropy,
    _cross_entropy_grad,
    check_probabilities,
    "one-hot",
    outputs="probabilities",
)
sparse_cross_entropy = make_loss(
    "sparse_cross_entropy",
    _probabilities(sparse_rows),
    _sparse_cross_entropy,
    _sparse_cross_entropy_grad,
    check_labels,
    "labels",
    cross_entropy,
    "probabilities",
)
binary_cross_entropy = make_loss(
    "binary_cross_entropy",
    _probabilities(dense_rows),
    _binary_cross_entropy,
    _binary_cross_entropy_grad,
    check_probabilities,
    "binary",
    outputs="probabilities",
)


# ---- classes, on logits: exact at the extremes


def _softmax_cross_entropy(z: Array, t: Array) -> Array:
    """`-Σ_k t_k log softmax(z)_k` per row; derivative `softmax(z) Σ_k t_k - t`, which is `softmax(z) - t` where the
    targets of a row sum to 1. A logit of -inf excludes a class whose target is 0. Source documents 2 and 3.

    Computed as `softmax(z) (Σ_k t_k - t) - t (1 - softmax(z))`, which keeps its digits where the class leads.

    >>> import fnn, jax.numpy as jnp
    >>> print(fnn.losses.softmax_cross_entropy(jnp.array([[4.0, 2, 1], [0, 5, 1]]), jnp.array([[1, 0, 0], [0, 1, 0]])))
    [0.16984604 0.02474492]
    """
    return -jnp.where(t == 0, 0.0, t * log_softmax(z)).sum(-1)  # 0 * -inf counts as 0


def _softmax_cross_entropy_grad(z: Array, t: Array) -> Array:
    p, rest = softmax_and_rest(z)
    return p * (t.sum(-1, keepdims=True) - t) - t * rest


def _sparse_softmax_cross_entropy(z: Array, t: Array) -> Array:
    """`-log softmax(z)_t` per row, `t` the class number; derivative `softmax(z)`, minus 1 at the class. Source
    document 3.

    >>> import fnn, jax.numpy as jnp
    >>> print(fnn.losses.sparse_softmax_cross_entropy(jnp.array([[4.0, 2, 1], [0, 5, 1]]), jnp.array([0, 1])))
    [0.16984604 0.02474492]
    """
    return -select_class(log_softmax(z), t)


def _sparse_softmax_cross_entropy_grad(z: Array, t: Array) -> Array:
    p, rest = softmax_and_rest(z)
    return jnp.where(one_hot(z, t) == 1, -rest, p)


def _sigmoid_cross_entropy(z: Array, t: Array) -> Array:
    """`-Σ_k (t_k log σ(z_k) + (1-t_k) log σ(-z_k))` per row; derivative `(1-t) σ(z) - t σ(-z)`, which is `σ(z) - t`
    without its cancellation. One output for two classes, or one an independent label. Source documents 0 and 2.

    >>> import fnn, jax.numpy as jnp
    >>> print(fnn.losses.sigmoid_cross_entropy(jnp.array([[0.0], [1000.0]]), jnp.array([[1.0], [1.0]])))
    [0.6931472 0.       ]
    """
    against_1 = jnp.where(t == 0, 0.0, t * softplus.value(-z))  # 0 * inf counts as 0
    return (against_1 + jnp.where(t == 1, 0.0, (1.0 - t) * softplus.value(z))).sum(-1)


def _sigmoid_cross_entropy_grad(z: Array, t: Array) -> Array:
    return (1.0 - t) * sigmoid.value(z) - t * sigmoid.value(-z)


softmax_cross_entropy = make_loss(
    "softmax_cross_entropy",
    class_rows,
    _softmax_cross_entropy,
    _softmax_cross_entropy_grad,
    check_probabilities,
    "one-hot",
    outputs="logits",
)
sparse_softmax_cross_entropy = make_loss(
    "sparse_softmax_cross_entropy",
    sparse_rows,
    _sparse_softmax_cross_entropy,
    _sparse_softmax_cross_entropy_grad,
    check_labels,
    "labels",
    softmax_cross_entropy,
    "logits",
)
sigmoid_cross_entropy = make_loss(
    "sigmoid_cross_entropy",
    dense_rows,
    _sigmoid_cross_entropy,
    _sigmoid_cross_entropy_grad,
    check_probabilities,
    "binary",
    outputs="logits",
)


# ---- margins: scores with the right sign, and by 1. At a kink the derivative is 0, that of the flat side


def _hinge(y: Array, t: Array) -> Array:
    """`Σ_k (t_k max(0, 1 - y_k) + (1-t_k) max(0, 1 + y_k))` per row; derivative `(1-t) [y > -1] - t [y < 1]`.

    For targets 0 and 1, as `sigmoid_cross_entropy` has them; with `s = 2t - 1` in {-1, 1} it is `max(0, 1 - s y)`.
    `y` are scores; the class is 1 where y > 0.

    >>> import fnn, jax.numpy as jnp
    >>> print(fnn.losses.hinge(jnp.array([[0.25], [2.0], [2.0]]), jnp.array([[1], [1], [0]])))
    [0.75 0.   3.  ]
    """
    against_1 = jnp.where(t == 0, 0.0, t * relu.value(1.0 - y))  # 0 * inf counts as 0
    return (against_1 + jnp.where(t == 1, 0.0, (1.0 - t) * relu.value(1.0 + y))).sum(-1)


def _hinge_grad(y: Array, t: Array) -> Array:
    return (jnp.where(y > -1.0, 1.0 - t, 0.0) - jnp.where(y < 1.0, t, 0.0)) * nan_or_1(y)


def _multiclass_hinge(y: Array, t: Array) -> Array:
    """`Σ_k t_k max(0, 1 + max_{j≠k} y_j - y_k)` a row of scores, `t` one-hot: how much the class falls short of leading
    all others by 1. Crammer & Singer 2001, jmlr.org/papers/v2/crammer01a.html.

    Derivative: for each class k that falls short, `-t_k` at k and `+t_k` at its strongest rival, the first if several.

    >>> import fnn, jax.numpy as jnp
    >>> print(fnn.losses.multiclass_hinge(jnp.array([[3.0, 1, 0], [1, 1.5, 0]]), jnp.array([[1, 0, 0], [1, 0, 0]])))
    [0.  1.5]
    """
    y = y * _nan_rows(y)
    first, second = _leaders(y)
    short = relu.value(jnp.where(t == 0, 0.0, _shortfall(y, first, second)))  # an excluded class falls short by inf
    return (t * short).sum(-1)


def _multiclass_hinge_grad(y: Array, t: Array) -> Array:
    first, second = _leaders(y)
    margin = jnp.where(t == 0, 0.0, _shortfall(y, first, second))
    short = jnp.where(margin <= 0, 0.0, t * nan_or_1(margin))
    against_first = jnp.where(first, 0.0, short).sum(-1, keepdims=True)
    against_second = jnp.where(first, short, 0.0).sum(-1, keepdims=True)
    grad = jnp.where(first, against_first, 0.0) + jnp.where(second, against_second, 0.0) - short
    return grad * _nan_rows(y)


def _leaders(y: Array) -> tuple[Array, Array]:
    """Where the highest score of each row is, and where the highest of the others."""
    places = beside(jnp.arange(y.shape[-1]), y)
    best = y.argmax(-1, keepdims=True)
    next_best = jnp.where(places == best, -jnp.inf, y).argmax(-1, keepdims=True)
    # all others -inf: argmax takes place 0 for them, which may be the best itself
    return places == best, places == jnp.where(next_best == best, 1, next_best)


def _shortfall(y: Array, first: Array, second: Array) -> Array:
    """`1 + max_{j≠k} y_j - y_k` for each class k; 0 for one class alone, which has no rival."""
    if y.shape[-1] == 1:
        return jnp.zeros_like(y)
    best, next_best = (jnp.where(place, y, 0.0).sum(-1, keepdims=True) for place in (first, second))
    return 1.0 + jnp.where(first, next_best, best) - y


def _nan_rows(y: Array) -> Array:
    """1, and nan for rows with a nan in them, `(rows, 1)`: a score that is none has no rank among the others."""
    return nan_or_1(jax.lax.stop_gradient(y).max(-1, keepdims=True))


def _sparse_multiclass_hinge(y: Array, t: Array) -> Array:
    """`max(0, 1 + max_{j≠t} y_j - y_t)` a row of scores, `t` the class number; derivative as `multiclass_hinge`.

    >>> import fnn, jax.numpy as jnp
    >>> print(fnn.losses.sparse_multiclass_hinge(jnp.array([[3.0, 1.0, 0.0], [1.0, 1.5, 0.0]]), jnp.array([0, 0])))
    [0.  1.5]
    """
    return _multiclass_hinge(y, one_hot(y, t))


def _sparse_multiclass_hinge_grad(y: Array, t: Array) -> Array:
    return _multiclass_hinge_grad(y, one_hot(y, t))


hinge = make_loss("hinge", dense_rows, _hinge, _hinge_grad, check_probabilities, "binary")
multiclass_hinge = make_loss(
    "multiclass_hinge", class_rows, _multiclass_hinge, _multiclass_hinge_grad, check_probabilities, "one-hot"
)
sparse_multiclass_hinge = make_loss(
    "sparse_multiclass_hinge",
    sparse_rows,
    _sparse_multiclass_hinge,
    _sparse_multiclass_hinge_grad,
    check_labels,
    "labels",
    multiclass_hinge,
)

"""Losses from functions, and functions of losses: smoothed, class-weighted, summed.

What is made of losses is a loss again, with its derivative by hand made of theirs.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnn.arguments import array_of, beside, call, describe_value, function, instance, like, scalar
from fnn.arguments.leaves import check_same_structure, row_arrays
from fnn.factories import factory, note_call
from fnn.losses.base import (
    ClassWeights,
    check_share,
    class_rows,
    class_weights,
    dense_rows,
    mean_of_positions,
    one_hot,
    position_count,
    sparse_rows,
    wide_dtype,
)
from fnn.losses.reduction import row_values
from fnn.types import Array, HasShape, Loss, LossLike, Numbers, Scalar, ShapeError


def from_function(
    value: Callable[[Any, Any], Array],
    grad: Callable[[Any, Any], Array] | None = None,
    name: str | None = None,
    targets: str | None = None,
    outputs: str | None = None,
) -> Loss:
    """A loss from your own function, `(outputs, targets) -> (batch,)`.

    Args:
        value: the loss of each row.
        grad: its derivative by the outputs, of their shape; None takes it by autodiff.
        name: what it is called; the function's name by default.
        targets: where they are classes, what they are: "one-hot", "binary" or "labels"; for `smoothed` and
            `class_weighted`.
        outputs: what it wants from the network, "logits" or "probabilities"; `fit` warns where the network ends with
            the other.

    Raises:
        ValueError: `targets` or `outputs` is none of these.

    >>> import fnn, jax.numpy as jnp
    >>> quartic = fnn.losses.from_function(lambda y, t: ((y - t) ** 4).sum(-1), name="quartic")
    >>> outputs, targets = jnp.array([[2.0]]), jnp.array([[1.0]])
    >>> print(quartic(outputs, targets), quartic.grad(outputs, targets))
    [1.] [[4.]]
    """

    def autodiff_grad(outputs: Numbers, targets: Numbers) -> Array:
        y = jax.tree.map(jnp.asarray, outputs) if isinstance(outputs, (dict, tuple)) else jnp.asarray(outputs)
        by_outputs: Array = jax.grad(lambda y: row_value(y, targets).sum())(y)
        return by_outputs

    hint = "Pass a function of outputs and targets."
    function("from_function", value, 2, "a value of outputs and targets", hint)
    if grad is not None:
        function("from_function", grad, 2, "a grad of outputs and targets", hint)

    _check_word("targets", targets, ("one-hot", "binary", "labels"))
    _check_word("outputs", outputs, ("logits", "probabilities"))
    if name is not None:
        instance("from_function", name, str, "Pass a word.", "a name")
    own = name or str(getattr(value, "__name__", "loss"))

    def row_value(y: Numbers, t: Numbers) -> Array:
        return row_values("loss", value, row_arrays("outputs", y), row_arrays("targets", t), True)

    def checked_grad(y: Numbers, t: Numbers) -> Array:
        assert grad is not None
        y, name = row_arrays("outputs", y), f"loss.grad of {own}"
        found = call(name, grad, y, row_arrays("targets", t))
        check_same_structure(name, y, found)
        by_outputs: Array = jax.tree.map(functools.partial(_check_grad, name), y, found)
        return by_outputs

    loss = Loss(own, row_value, autodiff_grad if grad is None else checked_grad, None, targets, None, outputs)
    arguments = {"value": value, "grad": grad, "name": name, "targets": targets, "outputs": outputs}
    return note_call(loss, from_function, arguments)


def _check_grad(name: str, y: Array, by: object) -> Array:
    made = array_of(name, by, "an array")
    if made.shape != y.shape:
        hint = "Look at the formula: is there a sum that leaves out an axis?"
        raise ShapeError(f"{name}: expected shape {y.shape}, as the outputs, got {made.shape}. {hint}")
    return made


def _check_word(name: str, value: object, words: tuple[str, ...]) -> None:
    if value is not None and not (isinstance(value, str) and value in words):
        *first, last = map(repr, words)
        wanted, got = f"{', '.join(first)} or {last}", describe_value(value)
        raise ValueError(f"from_function: expected {name} {wanted}, got {got}. Omit `{name}` for any other loss.")


def as_loss(thing: LossLike) -> Loss:
    """What may stand where a loss is wanted: a loss, or any callable `(outputs, targets) -> (batch,)`.

    >>> import fnn
    >>> loss = fnn.losses.as_loss(lambda outputs, targets: abs(outputs - targets).sum(-1))
    >>> print(loss([[1.0, 3.0]], [[0.0, 1.0]]))
    [3.]
    """
    if isinstance(thing, Loss):
        return thing
    if getattr(thing, "is_factory", False):
        name = thing.__name__
        raise TypeError(f"loss: expected a loss, got the factory {name}. Call it, with its arguments: {name}(…).")
    wanted = "a loss" + (", or a function of outputs and targets" if callable(thing) else "")
    return from_function(function("loss", thing, 2, wanted, "Pass one of fnn.losses."))


# ---- functions of losses


@factory
def smoothed(loss: LossLike, smoothing: float) -> Loss:
    """Label smoothing: the loss for targets drawn towards all classes alike, so that no output need be extreme.

    One-hot rows of K classes become `t (1-s) + s/K`, binary targets `t (1-s) + s/2`; class numbers become one-hot rows
    first. The derivative is that of the loss at these targets. Source document 3; Szegedy et al. 2015,
    arXiv:1512.00567.

    Args:
        loss: one whose targets are classes: a cross-entropy, a focal or a hinge loss.
        smoothing: `s` in [0, 1]; 0 changes nothing, 1 forgets the targets. May be traced.

    >>> import fnn, jax.numpy as jnp
    >>> loss = fnn.losses.smoothed(fnn.losses.sparse_softmax_cross_entropy, 0.1)
    >>> print(loss, loss.grad(jnp.array([[0.0, 0.0]]), jnp.array([1])))
    smoothed(sparse_softmax_cross_entropy, 0.1) [[ 0.45 -0.45]]
    """
    loss = _without_gaps("smoothed", as_loss(loss))
    s = check_share("smoothed", "a smoothing", smoothing, "Pass 0.1, or 0 for none")
    inner = loss.dense if loss.targets == "labels" else loss
    if loss.targets is None or inner is None:
        raise TypeError(
            f"smoothed: expected a loss whose targets are classes, got {loss}. "
            "Use a cross-entropy, focal or hinge loss, or from_function(…, targets='one-hot')."
        )

    def soft(outputs: Numbers, targets: Numbers) -> Array:
        y, t = _class_rows(loss, outputs, targets)
        kept = like(s, y)
        classes = 2 if loss.targets == "binary" else y.shape[-1]
        return (t * (1.0 - kept) + kept / classes).reshape(jnp.shape(outputs))

    return Loss(
        "smoothed",
        lambda outputs, targets: inner.value(outputs, soft(outputs, targets)),
        lambda outputs, targets: inner.grad(outputs, soft(outputs, targets)),
        loss.check,
        loss.targets,
        None if inner is loss else smoothed(inner, smoothing),
        loss.outputs,
    )


def class_weighted(loss: LossLike, weights: ClassWeights) -> Loss:
    """Each row's loss times the weight of its class, `w_t loss`; likewise the derivative. A row of weight 0 counts 0,
    whatever its loss. Where a row has positions, each is weighed by its own class.

    Of a row whose target is a distribution over the classes the weight is the mean `Σ_k w_k t_k`; of a binary target
    it is `w_0 (1-t) + w_1 t`. `fit` goes on to divide by the number of rows, not by the sum of the weights. Smoothing
    inside, `class_weighted(smoothed(loss, s), w)`, weighs each row by its true class; outside, by the smoothed one.

    Args:
        loss: one whose targets are classes; with binary targets, one output per row.
        weights: one number of at least 0 for each class; (w_0, w_1) for binary targets. May be traced.

    >>> import fnn, jax.numpy as jnp
    >>> loss = fnn.losses.class_weighted(fnn.losses.sparse_softmax_cross_entropy, (1, 10))
    >>> print(loss, loss(jnp.zeros((2, 2)), jnp.array([0, 1])))
    class_weighted(sparse_softmax_cross_entropy, (1, 10)) [0.6931472 6.931472 ]
    """
    return _class_weighted(loss, class_weights("class_weighted", weights))  # a tuple can be remembered, an array not


def _weigh_classes(loss: LossLike, weights: tuple[Scalar, ...] | Array) -> Loss:
    loss = _without_gaps("class_weighted", as_loss(loss))
    if loss.targets is None:
        raise TypeError(
            f"class_weighted: expected a loss whose targets are classes, got {loss}. "
            "Use fit(..., weights=…) to weigh rows, or from_function(…, targets='one-hot')."
        )

    def weight(y: Array, t: Array) -> Array:
        if loss.targets == "binary":
            if y.shape[-1] != 1:
                raise ShapeError(
                    f"class_weighted: expected one output per row for binary targets, got {y.shape[-1]}. "
                    "Use fit(..., weights=…), or a loss over one-hot classes."
                )
            t = jnp.concatenate([1.0 - t, t], -1)
        if len(weights) != t.shape[-1]:
            raise ShapeError(
                f"class_weighted: expected a weight per class, for {t.shape[-1]} classes, got {len(weights)}. "
                "Give one for every class."
            )
        return (t * beside(jnp.asarray(weights, t.dtype), t)).sum(-1)

    def rows(outputs: Numbers, targets: Numbers) -> tuple[Array, Array, Array]:
        """Weights of rows (of positions, where there are some), and their outputs and targets."""
        like_rows, t = _class_rows(loss, outputs, targets)
        each = weight(like_rows, t)
        y = jnp.asarray(outputs).reshape(like_rows.shape)
        if isinstance(weights, tuple):  # before the loss: an infinite one has derivatives that times 0 are nan
            y = jnp.where(each[:, None] == 0, 0.5, y)
        return each, y, jnp.asarray(targets).reshape(len(y) if loss.targets == "labels" else t.shape)

    def value(outputs: Numbers, targets: Numbers) -> Array:
        each, y, t = rows(outputs, targets)
        return mean_of_positions(scale_values(each, loss.value(y, t)), outputs)

    def grad(outputs: Numbers, targets: Numbers) -> Array:
        each, y, t = rows(outputs, targets)
        by_row = scale_values(each[:, None], loss.grad(y, t))
        return (by_row / position_count(len(y), outputs)).reshape(jnp.shape(outputs))

    return Loss(
        "class_weighted",
        value,
        grad,
        loss.check,
        loss.targets,
        None if loss.dense is None else class_weighted(loss.dense, weights),
        loss.outputs,
    )


_weigh_classes.__name__ = "class_weighted"  # by which it prints
_weigh_classes.__qualname__ = "_class_weighted"  # by which pickle finds it
_class_weighted = factory(_weigh_classes)


@factory
def weighted_sum(*terms: tuple[Scalar, LossLike]) -> Loss:
    """`Σ_i c_i loss_i`, all on the same outputs and targets; likewise the derivative. With the coefficient 0 a loss
    counts 0, also where it is infinite.

    Args:
        terms: pairs (coefficient, loss), at least one; coefficients are at least 0 and may be traced.

    >>> import fnn, jax.numpy as jnp
    >>> loss = fnn.losses.weighted_sum((1.0, fnn.losses.squared_error), (0.5, fnn.losses.absolute_error))
    >>> print(loss, loss(jnp.array([[2.0]]), jnp.array([[0.0]])))
    weighted_sum((1.0, squared_error), (0.5, absolute_error)) [5.]
    """
    if not terms or not all(isinstance(term, tuple) and len(term) == 2 for term in terms):
        raise TypeError(
            f"weighted_sum: expected pairs (coefficient, loss), got {describe_value(terms)}. "
            "Write weighted_sum((1.0, loss_a), …)."
        )
    pairs = [(scalar("weighted_sum", "a coefficient", c, "Leave the loss out"), as_loss(loss)) for c, loss in terms]
    kinds = {loss.targets for _, loss in pairs}
    wanted = {loss.outputs for _, loss in pairs} - {None}

    def check(outputs: HasShape, targets: np.ndarray) -> None:
        for _, loss in pairs:
            if loss.check is not None:
                loss.check(outputs, targets)

    def value(outputs: Numbers, targets: Numbers) -> Array:
        return functools.reduce(jnp.add, [scale_values(c, loss.value(outputs, targets)) for c, loss in pairs])

    def grad(outputs: Numbers, targets: Numbers) -> Array:
        return functools.reduce(jnp.add, [scale_values(c, loss.grad(outputs, targets)) for c, loss in pairs])

    common = kinds.pop() if len(kinds) == 1 else None
    dense: list[tuple[Scalar, Any]] = [(c, loss.dense) for c, loss in pairs] if common == "labels" else []
    whole = weighted_sum(*dense) if dense and all(loss is not None for _, loss in dense) else None
    return Loss("weighted_sum", value, grad, check, common, whole, wanted.pop() if len(wanted) == 1 else None)


def _without_gaps(name: str, loss: Loss) -> Loss:
    """The loss, unless some of its targets may be missing: what is computed of targets would not know them any more."""
    if loss.missing is not None:
        raise TypeError(f"{name}: expected a loss without missing targets, got {loss}. Put masked(…) around {name}(…).")
    return loss


def scale_values(factor: Scalar, values: Array) -> Array:
    """`factor · values` in the dtype of the values; 0 where the factor is 0, also of what is not finite.

    >>> import jax.numpy as jnp
    >>> from fnn.losses.transforms import scale_values
    >>> print(scale_values(0.0, jnp.array([1.0, jnp.inf])))
    [0. 0.]
    """
    if isinstance(factor, (int, float)):
        return like(factor, values) * values if factor else jnp.zeros_like(values)
    product = jnp.asarray(factor, wide_dtype(values.dtype)) * values.astype(wide_dtype(values.dtype))
    # only there, so that the derivative by the factor is the loss where the factor is 0
    return jnp.where((factor == 0) & ~jnp.isfinite(values), 0.0, product).astype(values.dtype)


def _class_rows(loss: Loss, outputs: Numbers, targets: Numbers) -> tuple[Array, Array]:
    """Outputs and targets as rows `(rows, k)`, class numbers as one-hot rows."""
    if loss.targets == "labels":
        y, labels = sparse_rows(loss.name, outputs, targets)
        return y, one_hot(y, labels)
    return (dense_rows if loss.targets == "binary" else class_rows)(loss.name, outputs, targets)

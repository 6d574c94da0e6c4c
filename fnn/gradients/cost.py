"""Two makers of one function, the derivative of a batch's cost: by autodiff, and by the hand-derived rules.

The cost of a batch is `(1/Σw) Σ_i w_i loss_i + penalty(params)`; with `reduction="sum"` it is `Σ_i w_i loss_i + …`.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fnn.arguments import array_of, call, describe_value, instance
from fnn.arguments.leaves import check_same_structure, row_count
from fnn.kernels.operations import number
from fnn.layers.passes import backward_layer, forward_layer
from fnn.losses import as_loss
from fnn.losses.reduction import row_values, row_weights, stop_uncounted, weighted_sum
from fnn.types import Array, Gradients, Key, Layer, Loss, LossLike, Params, Penalty, State, Train, Tree

GradientFunction = Callable[..., Gradients]


def autodiff(net: Layer, loss: LossLike, penalty: Penalty | None = None, reduction: str = "mean") -> GradientFunction:
    """The derivative of a batch's cost by `jax.grad`.

    Args:
        net: the network.
        loss: one of `fnn.losses`, or any callable `(outputs, targets) -> (batch,)`.
        penalty: added to the cost once a batch; its value is not part of `total`.
        reduction: "mean" over the rows, or "sum".

    Returns:
        `gradient(params, state, x, t, weight=None, key=None, train=True) -> Gradients(total, weight, grads, state,
        outputs)`, where `total` is `Σ_i w_i loss_i` and `weight` is `Σ_i w_i`, in float32 at least. Rows of weight 0
        do not count, whatever their loss; `batch_norm` has them in its statistics all the same.

    Raises:
        ShapeError: `weight` is not `(rows,)`, or the loss is not one number per row.

    >>> import fnn, jax, jax.numpy as jnp
    >>> net = fnn.serial(fnn.dense(1, weight_init=0.0))
    >>> params, state, _ = net.init(jax.random.key(0), (1,))
    >>> gradient = fnn.autodiff(net, fnn.losses.squared_error)
    >>> x, t = jnp.array([[1.0], [2.0]]), jnp.array([[2.0], [4.0]])
    >>> print(gradient(params, state, x, t).grads[0]["w"])
    [[-10.]]
    """
    scale, loss = scale_and_loss(net, loss, penalty, reduction)

    def gradient(
        params: Params,
        state: State,
        x: Array,
        t: Array,
        weight: Array | np.ndarray | None = None,
        key: Key = None,
        train: Train = True,
    ) -> Gradients:
        def cost(params: Params) -> tuple[Array, tuple[Array, Array, State, Array]]:
            y, new_state, _ = forward_layer(net, params, state, x, key, train)
            total, count = weighted_sum(row_values("loss", loss.value, stop_uncounted(y, weight), t, True), weight)
            return total * scale(count), (total, count, new_state, y)

        grads, (total, count, new_state, y) = jax.grad(cost, has_aux=True)(params)
        if penalty is not None:
            grads = jax.tree.map(jnp.add, grads, jax.grad(penalty.value)(params))
        return Gradients(total, count, grads, new_state, y)

    return gradient


def backprop(net: Layer, loss: LossLike, penalty: Penalty | None = None, reduction: str = "mean") -> GradientFunction:
    """The derivative of a batch's cost by the hand-derived rules alone: `loss.grad`, then `net.backward`.

    The same signature, and the same function, as `autodiff`. One forward pass serves both.

    >>> import fnn, jax, jax.numpy as jnp
    >>> net = fnn.serial(fnn.dense(1, weight_init=0.0))
    >>> params, state, _ = net.init(jax.random.key(0), (1,))
    >>> gradient = fnn.backprop(net, fnn.losses.squared_error)
    >>> x, t = jnp.array([[1.0], [2.0]]), jnp.array([[2.0], [4.0]])
    >>> print(gradient(params, state, x, t).grads[0]["w"])
    [[-10.]]
    """
    scale, loss = scale_and_loss(net, loss, penalty, reduction)

    def gradient(
        params: Params,
        state: State,
        x: Array,
        t: Array,
        weight: Array | np.ndarray | None = None,
        key: Key = None,
        train: Train = True,
    ) -> Gradients:
        y, new_state, cache = forward_layer(net, params, state, x, key, train)
        total, count = weighted_sum(row_values("loss", loss.value, y, t, True), weight)
        dy = _output_gradient(loss, y, t, weight, scale(count))
        grads, _ = backward_layer(net, params, cache, dy)
        if penalty is not None:
            grads = jax.tree.map(jnp.add, grads, penalty.grad(params))
        return Gradients(total, count, grads, new_state, y)

    return gradient


def batch_cost(
    net: Layer, loss: LossLike, penalty: Penalty | None = None, reduction: str = "mean"
) -> tuple[Callable[..., Array], Callable[[Gradients, Params], Array]]:
    """The cost whose derivative `autodiff` and `backprop` are: as a function, and read off what these return.

    Returns:
        `cost(params, state, x, t, weight=None, key=None, train=True)`, a number; and `value(gradients, params)`.

    >>> import fnn, jax, jax.numpy as jnp
    >>> from fnn.gradients.cost import batch_cost
    >>> net = fnn.serial(fnn.dense(1, weight_init=0.0))
    >>> params, state, _ = net.init(jax.random.key(0), (1,))
    >>> cost, value = batch_cost(net, fnn.losses.squared_error)
    >>> x, t = jnp.array([[1.0], [2.0]]), jnp.array([[2.0], [4.0]])
    >>> gradients = fnn.autodiff(net, fnn.losses.squared_error)(params, state, x, t)
    >>> print(cost(params, state, x, t), value(gradients, params))
    10.0 10.0
    """
    scale, loss = scale_and_loss(net, loss, penalty, reduction)

    def with_penalty(total: Array, count: Array, params: Params) -> Array:
        value = total * scale(count)
        return value if penalty is None else value + penalty.value(params)

    def cost(
        params: Params,
        state: State,
        x: Array,
        t: Array,
        weight: Array | np.ndarray | None = None,
        key: Key = None,
        train: Train = True,
    ) -> Array:
        y, _, _ = forward_layer(net, params, state, x, key, train)
        sums = weighted_sum(row_values("loss", loss.value, stop_uncounted(y, weight), t, True), weight)
        return with_penalty(*sums, params)

    return cost, lambda g, params: with_penalty(g.total, g.weight, params)


def _output_gradient(loss: Loss, y: Tree, t: Tree, weight: Array | np.ndarray | None, scale: Array) -> Tree:
    """The derivative of the cost by the outputs: `w_i scale ∂loss_i/∂y_i`, 0 for rows of weight 0."""
    by_outputs = call("loss.grad", loss.grad, y, t)
    counts = None if weight is None else row_weights(weight, row_count(y)).astype(scale.dtype)

    def of_leaf(y: Array, by: object) -> Array:
        dy = array_of("loss.grad", by, "an array", floats=False)
        if counts is None:
            return (dy.astype(scale.dtype) * scale).astype(y.dtype)
        each = counts.reshape(-1, *[1] * (y.ndim - 1))
        return jnp.where(each > 0, dy.astype(scale.dtype) * (each * scale), 0.0).astype(y.dtype)

    if isinstance(y, (dict, tuple)):
        check_same_structure("loss.grad", y, by_outputs)
        return jax.tree.map(of_leaf, y, by_outputs)
    return of_leaf(y, by_outputs)


def scale_and_loss(
    net: Layer, loss: LossLike, penalty: Penalty | None, reduction: str
) -> tuple[Callable[[Array], Array], Loss]:
    """By what the sum over the rows is multiplied, and the loss; all four are checked."""
    instance("net", net, Layer, "Pass a network, such as fnn.serial(fnn.dense(10)).")
    if penalty is not None:
        instance("penalty", penalty, Penalty, "Pass one of fnn.penalties.")
    if not isinstance(reduction, str) or reduction not in ("mean", "sum"):
        got = describe_value(reduction)
        raise ValueError(f"reduction: expected 'mean' or 'sum', got {got}. Choose one of them.")
    return _scale(reduction), as_loss(loss)


def _scale(reduction: str) -> Callable[[Array], Array]:
    """By what the sum over the rows is multiplied, as a function of the sum of the weights."""
    if reduction == "mean":
        return lambda count: lax.div(number(1, count), lax.max(count, jnp.finfo(count.dtype).tiny))
    return lambda count: jnp.ones_like(count)

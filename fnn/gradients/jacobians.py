"""The residuals of a sum of squares and their Jacobian, which second-order methods go by.

The cost of a batch with a loss `Σ_k r_ik²` per row is `Σ_j ρ_j²` with `ρ_ik = √(scale w_i) r_ik`, plus the penalty.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from fnn.activations.elementwise import Activation
from fnn.arguments import describe_thing
from fnn.factories import Spec
from fnn.gradients.cost import scale_and_loss
from fnn.layers.passes import backward_layer, forward_layer
from fnn.losses.reduction import row_weights, stop_uncounted
from fnn.types import Array, Key, Layer, Loss, Params, Penalty, State, Train

# layers of fnn whose rows do not touch one another, and which draw nothing: a row alone gives what it gives in a batch
OF_ROWS = {"dense", "conv2d", "flatten", "max_pool", "avg_pool", "global_avg_pool", "layer_norm", "prelu"}
OF_ROWS |= {"embedding", "conv1d", "conv_transpose2d", "upsample", "group_norm", "rms_norm"}
OF_ROWS |= {"serial", "residual", "repeat"}
SQUARES = "squared_error, half_squared_error or mean_squared_error"


class LeastSquares(NamedTuple):
    """A cost that is a sum of squares, as functions of parameters in one vector `θ`.

    - `flat`: the parameters; `unravel(θ)`: the tree of them.
    - `residuals(θ)`: the vector `ρ`; `jacobian(θ)`: `∂ρ/∂θ`, a row for each residual.
    - `ridge`: `c_j`, where the penalty is `Σ_j c_j θ_j²`; None without a penalty.
    """

    flat: Array
    unravel: Callable[[Array], Params]
    residuals: Callable[[Array], Array]
    jacobian: Callable[[Array], Array]
    ridge: Array | None


def least_squares(
    parts: tuple[Layer, Loss, Penalty | None, str],
    params: Params,
    state: State,
    x: Array,
    t: Array,
    weight: Array | None = None,
    key: Key = None,
    train: Train = True,
) -> LeastSquares:
    """The residuals of a batch, and their Jacobian.

    It is that of the layers' hand-derived rules, row by row, where these are fnn's. Else it is that of
    autodiff, forward or in reverse, whichever takes fewer passes.

    Args:
        parts: network, loss, penalty and reduction, as `fnn.autodiff` takes them.
        params: where to begin.
        state, x, t, weight, key, train: as for the gradient of a batch.

    Raises:
        ValueError: the loss is no sum of squares, or the penalty is not `fnn.penalties.l2`.
    """
    net, _, penalty, _ = parts
    scale, loss = scale_and_loss(*parts)
    of_outputs = _residuals_of(loss)
    flat, unravel = ravel_pytree(params)
    count = jnp.asarray(len(x), flat.dtype) if weight is None else row_weights(weight, len(x)).sum()
    counts = jnp.ones(len(x), flat.dtype) if weight is None else row_weights(weight, len(x))
    roots = jnp.sqrt(counts * scale(count)).astype(flat.dtype)[:, None]

    def residuals(theta: Array) -> Array:
        y = forward_layer(net, unravel(theta), state, x, key, train)[0]
        made = of_outputs(stop_uncounted(y, weight), t).reshape(len(x), -1)
        return (jnp.where(roots > 0, made, 0) * roots).astype(flat.dtype).reshape(-1)

    def jacobian(theta: Array) -> Array:
        if treats_rows_apart(net):
            by_row = _jacobian_by_rows(net, of_outputs, unravel(theta), state, x, t, train)
            by_row = jnp.where(roots[..., None] > 0, by_row, 0) * roots[..., None]
            return by_row.astype(flat.dtype).reshape(-1, flat.size)
        size = jax.eval_shape(residuals, theta).size
        derivative = jax.jacfwd if flat.size <= size else jax.jacrev
        made: Array = derivative(residuals)(theta)
        return made

    return LeastSquares(flat, unravel, residuals, jacobian, ridge_of(penalty, params, flat.dtype))


def treats_rows_apart(net: Any) -> bool:
    """Whether each row's outputs depend on that row alone, as far as is known, and on no random number.

    >>> import fnn
    >>> from fnn.gradients.jacobians import treats_rows_apart
    >>> [treats_rows_apart(fnn.serial(fnn.dense(3), layer)) for layer in (fnn.tanh, fnn.batch_norm(), fnn.dropout(0.5))]
    [True, False, False]
    """
    if isinstance(net, Activation):
        return True
    spec = getattr(net, "spec", None)
    if not isinstance(spec, Spec):
        return False
    name, module = getattr(spec.factory, "__name__", ""), str(getattr(spec.factory, "__module__", ""))
    own = module.startswith("fnn.") and name in OF_ROWS
    # activations as they were given: the layers that serial makes of them do not tell
    parts = spec.arguments[0][1] if name == "serial" else spec.children or ()
    return own and all(map(treats_rows_apart, parts))


def _jacobian_by_rows(
    net: Layer, of_outputs: Any, params: Params, state: State, x: Array, t: Array, train: Train
) -> Array:
    """`∂r_ik/∂θ` as `(rows, residuals of a row, parameters)`, by `backward` of each layer on one row at a time."""

    def of_row(x: Array, t: Array) -> Array:
        y, _, cache = forward_layer(net, params, state, x[None], None, bool(train) if isinstance(train, bool) else True)
        by_outputs = jax.jacrev(lambda y: of_outputs(y, t[None]).reshape(-1))(y)

        def of_residual(dy: Array) -> Array:
            return ravel_pytree(backward_layer(net, params, cache, dy)[0])[0]

        rows: Array = jax.vmap(of_residual)(by_outputs)
        return rows

    made: Array = jax.vmap(of_row)(x, t)
    return made


def output_jacobian(net: Layer, params: Params, state: State, x: Array) -> tuple[Array, Array]:
    """Outputs as in prediction, and `∂y_ik/∂θ` as `(rows, outputs of a row, parameters)`.

    >>> import fnn, jax, jax.numpy as jnp
    >>> from fnn.gradients.jacobians import output_jacobian
    >>> net = fnn.serial(fnn.dense(1, weight_init=0.0))
    >>> params, state, _ = net.init(jax.random.key(0), (2,))
    >>> print(output_jacobian(net, params, state, jnp.array([[3.0, 4.0]]))[1])
    [[[1. 3. 4.]]]
    """
    flat, unravel = ravel_pytree(params)
    by_hand = treats_rows_apart(net)

    def of_row(x: Array) -> tuple[Array, Array]:
        def forward(theta: Array) -> Array:
            return forward_layer(net, unravel(theta), state, x[None], None, False)[0]

        if not by_hand:
            y = forward(flat)
            return y[0], jax.jacrev(lambda theta: forward(theta).reshape(-1))(flat)
        y, _, cache = forward_layer(net, params, state, x[None], None, False)
        unit = jnp.eye(y.size, dtype=y.dtype).reshape(y.size, *y.shape)
        return y[0], jax.vmap(lambda dy: ravel_pytree(backward_layer(net, params, cache, dy)[0])[0])(unit)

    both: tuple[Array, Array] = jax.vmap(of_row)(x)
    return both


def _residuals_of(loss: Loss) -> Callable[[Array, Array], Array]:
    if loss.residuals is None:
        raise ValueError(
            f"loss: expected a sum of squares for second order, got {loss}. Pass fnn.losses.{SQUARES}; "
            "or use optax.lbfgs(), which takes any."
        )
    return loss.residuals


def ridge_of(penalty: Penalty | None, params: Params, dtype: Any) -> Array | None:
    """The coefficient of each squared parameter in a penalty `Σ_j c_j θ_j²`: half the derivative of its derivative."""
    if penalty is None:
        return None
    spec = penalty.spec
    name = getattr(spec.factory, "__name__", "") if isinstance(spec, Spec) else ""
    if name != "l2":
        got = describe_thing(penalty)
        raise ValueError(f"penalty: expected fnn.penalties.l2 for second order, got {got}. Pass l2, or leave it out.")
    ones = jax.tree.map(jnp.ones_like, params)
    return 0.5 * ravel_pytree(penalty.grad(ones))[0].astype(dtype)

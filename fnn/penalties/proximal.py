"""Exact zeros: proximal gradient descent (ISTA), as an optax transformation.

It minimises `J(w) + α Σ |w|`, where `J` is what `fit` differentiates: loss and penalty, L1 left out of it. A step goes
down the gradient of `J` and then moves every weight towards 0 by the threshold learning rate times α; what would pass 0
stays at exactly 0. Source document 0; Beck & Teboulle, SIAM J. Imaging Sciences 2 (2009) 183-202.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from fnn.arguments import as_array, as_floats, explain_call, flag, scalar
from fnn.penalties.centring import centre_gradient, centre_params, restore_params
from fnn.penalties.masks import Mask, map_weights
from fnn.penalties.moves import Moves, count_moves, no_moves
from fnn.penalties.step_size import StepSizeState, find_step_size, init_step_size
from fnn.schedules import Schedule, as_schedule
from fnn.types import Array, Numbers, OptimizerState, Params, Scalar, ShapeError

GradientOf = Callable[[Params], Params]


class ProximalL1State(NamedTuple):
    """The step under way, for the schedule; and by its type, that only plain SGD may come before.

    `moves`: of weights to 0 and from 0.
    """

    step: Array
    moves: Moves


class ApproximateProximalL1State(NamedTuple):
    """The same where the user said `approximate=True`."""

    step: Array
    moves: Moves


class OwnProximalL1State(NamedTuple):
    """The same where it finds its step size by itself."""

    step: Array
    moves: Moves
    size: StepSizeState


def soft_threshold(v: Numbers, threshold: Numbers) -> Array:
    """`sign(v) max(|v| - threshold, 0)`: the w that minimises `½(w - v)² + threshold |w|`, with exact zeros.

    >>> import fnn, jax.numpy as jnp
    >>> print(fnn.penalties.soft_threshold(jnp.array([-3.0, 0.5, 2.0]), 1.0))
    [-2.  0.  1.]
    """
    v, threshold = as_floats("soft_threshold", v, "real v"), as_array("soft_threshold", threshold, "a real threshold")
    if threshold.ndim > v.ndim or any(
        n not in (1, m) for n, m in zip(threshold.shape[::-1], v.shape[::-1], strict=False)
    ):
        raise ShapeError(
            f"soft_threshold: expected a threshold that fits v of shape {v.shape}, "
            f"got {threshold.shape}. Pass a number."
        )
    return jnp.sign(v) * jnp.maximum(jnp.abs(v) - jnp.asarray(threshold, v.dtype), 0)


@explain_call
def proximal_l1(
    alpha: Scalar, learning_rate: Scalar | Schedule | None = None, mask: Mask = None, approximate: bool = False
) -> optax.GradientTransformation:
    """L1 with exact zeros: `w ← soft(w - lr g, lr α)`, ISTA; alone, or chained after SGD of the same learning rate.

    Without a learning rate it is an optimizer of its own, for the full batch, and finds its step size: `lr = 1/L`, L
    the largest curvature of the cost, by Lanczos' method at the first step, larger wherever the run meets a larger one.
    A linear model is moved as if its inputs were centred, as by `fista`.
    With one, it is chained: `optax.chain(optax.sgd(0.1), proximal_l1(alpha, 0.1))`.

    With a fixed learning rate of at most 1/L the full batch of a convex cost converges to the minimum of
    `J(w) + α Σ |w|`; for a linear model with half squared errors that is the Lasso. With mini-batches a weight stays at
    0 only if the gradients of single batches are below α as well; `fit` warns where weights come and go for that.

    After momentum or an adaptive optimizer the threshold does not match the step, and another problem is solved: after
    momentum 0.9 about that of α/10, after Adam there are no zeros. `fit` and `trainer` raise there, when they find the
    state of such an optimizer. They cannot see what keeps no state: `sign_sgd`, or a learning rate unlike this one.

    Args:
        alpha: coefficient of `Σ |w|`, at least 0; may be traced.
        learning_rate: that of the SGD before it, a number or a schedule (it has its own count of steps, from 0); None:
            it finds its step size, and what stands before it in a chain is not used.
        mask: function of the parameters that says which are weights, as `fnn.penalties.weight_mask` has it; None
            takes all but biases, scales, offsets and slopes.
        approximate: allow other optimizers before it.

    Raises:
        ValueError, TypeError: a number is negative or none; `update` is called without params; the mask does not fit;
            without a learning rate, a batch is not all rows.

    >>> import fnn, optax
    >>> x, t = [[1.0, 0.1], [-1.0, 0.1], [1.0, -0.1], [-1.0, -0.1]], [[3.1], [-2.9], [2.9], [-3.1]]
    >>> run = fnn.fit(fnn.dense(1), fnn.losses.half_squared_error, fnn.penalties.proximal_l1(1.0), (x, t), epochs=200)
    >>> print(run.params["w"].ravel().round(5))
    [2. 0.]
    """
    alpha = scalar("proximal_l1", "alpha", alpha, "Pass 0 for no penalty")
    approximate = flag("approximate", approximate, "proximal_l1")
    if learning_rate is None:
        return _own_proximal_l1(alpha, mask)
    schedule = as_schedule("proximal_l1", learning_rate)
    made = ApproximateProximalL1State if approximate else ProximalL1State

    def init(params: Params) -> ProximalL1State | ApproximateProximalL1State:
        return made(jnp.int32(0), no_moves())

    def update(
        updates: Params, state: ProximalL1State | ApproximateProximalL1State, params: Params = None
    ) -> tuple[Params, ProximalL1State | ApproximateProximalL1State]:
        require_params("proximal_l1", params)
        updates = _shrunk_updates(params, updates, threshold_of(schedule(state.step), alpha), mask)
        return updates, made(
            optax.safe_increment(state.step), count_moves(state.moves, params, optax.apply_updates(params, updates))
        )

    return optax.GradientTransformation(init, update)


def _own_proximal_l1(alpha: Scalar, mask: Mask) -> optax.GradientTransformationExtraArgs:
    def init(params: Params) -> OwnProximalL1State:
        return OwnProximalL1State(jnp.int32(0), no_moves(), init_step_size(params, mask))

    def update(
        updates: Params,
        state: OwnProximalL1State,
        params: Params = None,
        *,
        grad: Params = None,
        grad_fn: GradientOf | None = None,
        **others: Any,
    ) -> tuple[Params, OwnProximalL1State]:
        require_params("proximal_l1", params)
        grad_fn = require_gradient("proximal_l1", grad, grad_fn)
        lr, size, _ = find_step_size(state.size, state.step == 0, params, grad, grad_fn, mask)
        begin, slope = centre_params(size.centring, params, mask), centre_gradient(size.centring, grad, mask)
        down = jax.tree.map(lambda g: -lr.astype(g.dtype) * g, slope)
        updates = restore_params(size.centring, _shrunk_updates(begin, down, threshold_of(lr, alpha), mask), mask)
        moves = count_moves(state.moves, params, optax.apply_updates(params, updates))
        return updates, OwnProximalL1State(optax.safe_increment(state.step), moves, size)

    return optax.GradientTransformationExtraArgs(init, update)


# ---- plain SGD before proximal_l1, or not

# states of what leaves plain SGD plain: scaling, clipping, schedules, weight decay, masks
PLAIN_SGD_STATES = {
    "EmptyState",
    "ScaleByScheduleState",
    "WrappedScheduleState",
    "AddDecayedWeightsState",
    "ZeroNansState",
}
PLAIN_SGD_STATES |= {"InjectHyperparamsState", "InjectStatefulHyperparamsState", "ApplyIfFiniteState"}
PLAIN_SGD_STATES |= {"MaskedState", "MaskedNode", "PartitionState", "ProximalL1State", "ApproximateProximalL1State"}


def check_proximal(optimizer_state: OptimizerState) -> OptimizerState:
    """The state as it came; raises if `proximal_l1` is combined with anything but plain SGD on the same parameters.

    It goes by the types in the state that `optimizer.init` returns. `trainer` and `fit` call it; in a loop of your own
    call it yourself. Groups of `optax.multi_transform` are separate: Adam for one, ISTA for the other is fine.

    Raises:
        ValueError: momentum, or an adaptive optimizer, and no `approximate=True`.

    >>> import fnn, jax.numpy as jnp, optax
    >>> optimizer = optax.chain(optax.adam(0.1), fnn.penalties.proximal_l1(1.0, learning_rate=0.1))
    >>> _ = fnn.penalties.check_proximal(optimizer.init({"w": jnp.ones(2)}))
    Traceback (most recent call last):
        ...
    ValueError: proximal_l1: expected plain SGD before it, got the state ScaleByAdamState. Use
    fnn.penalties.fista, or pass approximate=True.
    """
    found = list(_states(optimizer_state, ()))
    proximal = [groups for name, groups in found if name == "ProximalL1State"]
    for name, groups in found:
        if name not in PLAIN_SGD_STATES and any(not _apart(groups, p) for p in proximal):
            raise ValueError(
                f"proximal_l1: expected plain SGD before it, got the state {name}. "
                "Use fnn.penalties.fista, or pass approximate=True."
            )
    return optimizer_state


def _states(
    node: OptimizerState, groups: tuple[tuple[int, Any], ...]
) -> Iterator[tuple[str, tuple[tuple[int, Any], ...]]]:
    """The name of each transformation's state, and in which groups of which `multi_transform` it stands."""
    if node is None:
        return
    if isinstance(node, (tuple, list)) and not hasattr(node, "_fields"):
        for inner in node:
            yield from _states(inner, groups)
    elif isinstance(node, dict):
        yield from _states(tuple(node.values()), groups)
    else:
        yield type(node).__name__, groups
        yield from _states(getattr(node, "inner_state", None), groups)
        for label, inner in getattr(node, "inner_states", {}).items():
            yield from _states(inner, (*groups, (id(node), label)))


def _apart(a: tuple[tuple[int, Any], ...], b: tuple[tuple[int, Any], ...]) -> bool:
    """Whether these are different groups of one `multi_transform`, and so have no parameter in common."""
    return any(p[0] == q[0] and p[1] != q[1] for p, q in zip(a, b, strict=False))


# ---- small things


def _shrunk_updates(params: Params, updates: Params, threshold: Array, mask: Mask) -> Params:
    """The updates with the threshold in them, which end at exactly 0."""

    def shrunk(w: Array, u: Array) -> Array:
        return exact_update(soft_threshold(w + u, threshold), w)

    return map_weights(params, mask, shrunk, lambda w, u: u, updates)


def exact_update(new: Array, old: Array) -> Array:
    """The update from `old` to `new`; where `new` is 0, exactly `-old`, so that `old + update` is exactly 0."""
    return jnp.where(new == 0, -old, new - old)


def threshold_of(lr: Numbers, alpha: Numbers) -> Array:
    """Their product."""
    dtype = jnp.result_type(float)
    return jnp.asarray(lr, dtype) * jnp.asarray(alpha, dtype)


def require_params(name: str, params: Params) -> None:
    """Raise where an update is called without the parameters."""
    if params is None:
        raise ValueError(f"{name}: expected the parameters, got None. Call update(gradients, state, params).")


def require_gradient(name: str, grad: Params, grad_fn: GradientOf | None) -> GradientOf:
    """Raise where an update that finds its step size is called without the gradient and its function."""
    if grad is None or grad_fn is None:
        raise ValueError(
            f"{name}: expected the gradient and its function to find a step size, got none. "
            "Call update(gradients, state, params, grad=…, grad_fn=…), or pass a learning rate."
        )
    return grad_fn

"""Exact zeros: proximal gradient descent (ISTA) and its accelerated form (FISTA), as optax transformations.

Both minimise `J(w) + α Σ |w|`, where `J` is what `fit` differentiates: loss and penalty, L1 left out of it. A step goes
down the gradient of `J` and then moves every weight towards 0 by the threshold learning rate times α; what would pass 0
stays at exactly 0. Source document 0; Beck & Teboulle, SIAM J. Imaging Sciences 2 (2009) 183-202.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from fnn.arguments import as_array, as_floats, flag, scalar
from fnn.penalties.masks import Mask, map_weights
from fnn.schedules import Schedule, as_schedule
from fnn.types import Array, Numbers, OptimizerState, Params, Scalar, ShapeError


class ProximalL1State(NamedTuple):
    """The step under way, for the schedule; and by its type, that only plain SGD may come before."""

    step: Array


class ApproximateProximalL1State(NamedTuple):
    """The same where the user said `approximate=True`."""

    step: Array


class FistaState(NamedTuple):
    """The step under way, the sparse iterate `x`, and the momentum's number `t`."""

    step: Array
    x: Params
    t: Array


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


def proximal_l1(
    alpha: Scalar, learning_rate: Scalar | Schedule, mask: Mask = None, approximate: bool = False
) -> optax.GradientTransformation:
    """L1 with exact zeros, chained after plain SGD of the same learning rate: `w ← soft(w - lr g, lr α)`, ISTA.

    With a fixed learning rate of at most 1/L (L: the largest curvature of the cost) the full batch of a convex cost
    converges to the minimum of `J(w) + α Σ |w|`; for a linear model with half squared errors that is the Lasso.

    After momentum or an adaptive optimizer the threshold does not match the step, and another problem is solved: after
    momentum 0.9 about that of α/10, after Adam there are no zeros. `fit` and `trainer` raise there, when they find the
    state of such an optimizer. They cannot see what keeps no state: `sign_sgd`, or a learning rate unlike this one.

    Args:
        alpha: coefficient of `Σ |w|`, at least 0; may be traced.
        learning_rate: that of the SGD before it, a number or a schedule (it has its own count of steps, from 0).
        mask: function of the parameters that says which are weights, as `fnn.penalties.weight_mask` has it; None
            takes all but biases, scales, offsets and slopes.
        approximate: allow other optimizers before it.

    Raises:
        ValueError, TypeError: a number is negative or none; `update` is called without params; the mask does not fit.

    >>> import fnn, optax
    >>> optimizer = optax.chain(optax.sgd(0.1), fnn.penalties.proximal_l1(1.0, learning_rate=0.1))
    >>> x, t = [[1.0, 0.1], [-1.0, 0.1], [1.0, -0.1], [-1.0, -0.1]], [[3.1], [-2.9], [2.9], [-3.1]]
    >>> run = fnn.fit(fnn.dense(1), fnn.losses.half_squared_error, optimizer, (x, t), epochs=200)
    >>> print(run.params["w"].ravel().round(5))
    [2. 0.]
    """
    alpha = scalar("proximal_l1", "alpha", alpha, "Pass 0 for no penalty")
    schedule = as_schedule("proximal_l1", learning_rate)
    made = ApproximateProximalL1State if flag("approximate", approximate, "proximal_l1") else ProximalL1State

    def init(params: Params) -> ProximalL1State | ApproximateProximalL1State:
        return made(jnp.int32(0))

    def update(
        updates: Params, state: ProximalL1State | ApproximateProximalL1State, params: Params = None
    ) -> tuple[Params, ProximalL1State | ApproximateProximalL1State]:
        _require_params("proximal_l1", params)
        threshold = _product(schedule(state.step), alpha)

        def shrunk(w: Array, u: Array) -> Array:
            return _exact_update(soft_threshold(w + u, threshold), w)

        updates = map_weights(params, mask, shrunk, lambda w, u: u, updates)
        return updates, made(optax.safe_increment(state.step))

    return optax.GradientTransformation(init, update)


def fista(
    learning_rate: Scalar | Schedule, alpha: Scalar, mask: Mask = None, restart: bool = True
) -> optax.GradientTransformation:
    """L1 with exact zeros by accelerated proximal gradient descent: an optimizer of its own, for the full batch.

    From the gradient `g` at the extrapolated point `y`, which is what the training loop holds as parameters::

        x⁺ = soft(y - lr g, lr α)
        t⁺ = (1 + √(1 + 4 t²)) / 2
        y⁺ = x⁺ + (t - 1)/t⁺ · (x⁺ - x)

    On a convex cost the excess over the minimum falls as 1/steps², that of `proximal_l1` as 1/steps. Parameters
    outside the mask are accelerated alike, without the threshold.

    The solution is `x`, which `fista_solution` reads off the optimizer's state: sparse after every step. The
    parameters `y` of a finished run are 0 wherever the last two `x` were, so when the run has converged they are as
    sparse, and may be used as they are.

    Args:
        learning_rate: at most 1/L, L the largest curvature of the cost; a number, or a schedule that does not rise.
        alpha: coefficient of `Σ |w|`, at least 0; may be traced.
        mask: as in `proximal_l1`.
        restart: forget the momentum whenever it points uphill, `Σ (y - x⁺)(x⁺ - x) > 0` (O'Donoghue & Candès,
            Foundations of Computational Mathematics 15 (2015) 715-732), which ends the ripples; False is the paper's
            form.

    Raises:
        ValueError, TypeError: as `proximal_l1`.

    >>> import fnn
    >>> x, t = [[1.0, 0.1], [-1.0, 0.1], [1.0, -0.1], [-1.0, -0.1]], [[3.1], [-2.9], [2.9], [-3.1]]
    >>> run = fnn.fit(fnn.dense(1), fnn.losses.half_squared_error, fnn.penalties.fista(0.1, 1.0), (x, t), epochs=200)
    >>> print(fnn.penalties.fista_solution(run.train_state.optimizer)["w"].ravel().round(5))
    [2. 0.]
    """
    alpha = scalar("fista", "alpha", alpha, "Pass 0 for no penalty")
    schedule, restart = as_schedule("fista", learning_rate), flag("restart", restart, "fista")

    def init(params: Params) -> FistaState:
        x = jax.tree.map(jnp.copy, params)  # a buffer of its own: the state and the parameters are both donated
        return FistaState(jnp.zeros((), jnp.int32), x, jnp.ones((), jnp.result_type(float)))

    def update(grads: Params, state: FistaState, y: Params = None) -> tuple[Any, FistaState]:
        _require_params("fista", y)
        lr = schedule(state.step)
        down = jax.tree.map(lambda y, g: y - jnp.asarray(lr, y.dtype) * g, y, grads)
        threshold = _product(lr, alpha)
        x = map_weights(down, mask, lambda v: soft_threshold(v, threshold), lambda v: v)
        t, momentum = _accelerate(state.t, _uphill(y, x, state.x) if restart else None)

        def extrapolate(x: Array, before: Array, y: Array) -> Array:
            return _exact_update(x + momentum.astype(x.dtype) * (x - before), y)

        return jax.tree.map(extrapolate, x, state.x, y), FistaState(optax.safe_increment(state.step), x, t)

    return optax.GradientTransformation(init, update)


def fista_solution(optimizer_state: OptimizerState) -> Params:
    """The sparse solution of a run with `fista`: parameters, with exact zeros.

    Args:
        optimizer_state: `run.train_state.optimizer`, or the state of any optax chain with `fista` in it.

    Raises:
        ValueError: there is no `fista` in it, or more than one.

    >>> import fnn, jax.numpy as jnp
    >>> optimizer = fnn.penalties.fista(0.1, 1.0)
    >>> print(fnn.penalties.fista_solution(optimizer.init({"w": jnp.zeros((2, 1))}))["w"].shape)
    (2, 1)
    """
    leaves = jax.tree.leaves(optimizer_state, is_leaf=lambda node: isinstance(node, FistaState))
    found = [leaf for leaf in leaves if isinstance(leaf, FistaState)]
    if len(found) != 1:
        raise ValueError(
            f"fista_solution: expected the state of one fista, got {len(found)} of them in "
            f"{type(optimizer_state).__name__}. Pass run.train_state.optimizer."
        )
    return found[0].x


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


def _exact_update(new: Array, old: Array) -> Array:
    """The update from `old` to `new`; where `new` is 0, exactly `-old`, so that `old + update` is exactly 0."""
    return jnp.where(new == 0, -old, new - old)


def _product(a: Numbers, b: Numbers) -> Array:
    dtype = jnp.result_type(float)
    return jnp.asarray(a, dtype) * jnp.asarray(b, dtype)


def _accelerate(t: Array, uphill: Array | None) -> tuple[Array, Array]:
    """The next `t`, and the momentum `(t - 1)/t⁺`; from the start again where it led uphill."""
    after = (1.0 + jnp.sqrt(1.0 + 4.0 * t * t)) / 2.0
    momentum = (t - 1.0) / after
    if uphill is None:
        return after, momentum
    return jnp.where(uphill, jnp.ones_like(t), after), jnp.where(uphill, jnp.zeros_like(t), momentum)


def _uphill(y: Params, x: Params, before: Params) -> Array:
    def product(y: Array, x: Array, before: Array) -> Array:
        return ((y - x) * (x - before)).sum().astype(jnp.result_type(float))

    return sum(jax.tree.leaves(jax.tree.map(product, y, x, before)), start=jnp.zeros(())) > 0


def _require_params(name: str, params: Params) -> None:
    if params is None:
        raise ValueError(f"{name}: expected the parameters, got None. Call update(gradients, state, params).")

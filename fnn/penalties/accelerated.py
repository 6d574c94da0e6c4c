"""Exact zeros by accelerated proximal gradient descent (FISTA), as an optax transformation.

Beck & Teboulle, SIAM J. Imaging Sciences 2 (2009) 183-202. It minimises what `fnn.penalties.proximal_l1` minimises.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from fnn.arguments import explain_call, flag, scalar
from fnn.penalties.centring import centre_gradient, centre_params, restore_params
from fnn.penalties.masks import Mask, map_weights, weight_mask
from fnn.penalties.moves import Moves, count_moves, no_moves
from fnn.penalties.proximal import exact_update, require_gradient, require_params, soft_threshold, threshold_of
from fnn.penalties.step_size import StepSizeState, find_step_size, init_step_size, norm
from fnn.schedules import Schedule, as_schedule
from fnn.types import Array, OptimizerState, Params, Scalar


class FistaState(NamedTuple):
    """The step under way, the sparse iterate `x`, the momentum's number `t`, and `moves` of weights to 0 and from 0.

    `size`: where it finds its step size by itself. `ended`: where it has a tolerance, whether the run is over.
    """

    step: Array
    x: Params
    t: Array
    moves: Moves
    size: StepSizeState | None = None
    ended: Array | None = None


@explain_call
def fista(
    alpha: Scalar,
    *,
    learning_rate: Scalar | Schedule | None = None,
    mask: Mask = None,
    restart: bool = True,
    tolerance: Scalar | None = None,
) -> optax.GradientTransformation:
    """L1 with exact zeros by accelerated proximal gradient descent: an optimizer of its own, for the full batch.

    From the gradient `g` at the extrapolated point `y`, which is what the training loop holds as parameters::

        x⁺ = soft(y - lr g, lr α)
        t⁺ = (1 + √(1 + 4 t²)) / 2
        y⁺ = x⁺ + (t - 1)/t⁺ · (x⁺ - x)

    On a convex cost the excess over the minimum falls as 1/steps², that of `proximal_l1` as 1/steps. Parameters
    outside the mask are accelerated alike, without the threshold.

    Without a learning rate it finds its step size: `lr = 1/L`, L the largest curvature of the cost, by Lanczos' method
    at the first step, which takes the time of about 25 steps; larger wherever the run meets a larger one. Weights
    (…, features) with one bias (features,), a linear model, are moved as if the inputs were centred: with columns whose
    means are not 0, such as counts of words, it needs a small share of the steps.

    The solution is `x`, which `fista_solution` reads off the optimizer's state: sparse after every step. The
    parameters `y` of a finished run are 0 wherever the last two `x` were, so when the run has converged they are as
    sparse, and may be used as they are.

    Args:
        alpha: coefficient of `Σ |w|`, at least 0; may be traced.
        learning_rate: at most 1/L; a number, or a schedule that does not rise; None: it finds its step size, the batch
            must be all rows, and what stands before it in a chain is not used.
        mask: as in `proximal_l1`.
        restart: forget the momentum whenever it points uphill, `Σ (y - x⁺)(x⁺ - x) > 0` (O'Donoghue & Candès,
            Foundations of Computational Mathematics 15 (2015) 715-732), which ends the ripples; False is the paper's
            form.
        tolerance: the run ends, as one out of patience does, after a step that is shorter than this share of the
            parameters, `|x⁺ - y| <= tolerance |x⁺|`, both of the weights and, beside all parameters, of the others; its
            parameters are `x⁺` then. With 1e-5 the objective is within about 1e-6 of the minimum, as a share of it;
            where many weights are left use 1e-6, which float32 reaches. None: it has all its epochs.

    Raises:
        ValueError, TypeError: as `proximal_l1`.

    >>> import fnn
    >>> x, t = [[1.0, 0.1], [-1.0, 0.1], [1.0, -0.1], [-1.0, -0.1]], [[3.1], [-2.9], [2.9], [-3.1]]
    >>> run = fnn.fit(fnn.dense(1), fnn.losses.half_squared_error, fnn.penalties.fista(1.0), (x, t), epochs=200)
    >>> print(fnn.penalties.fista_solution(run.train_state.optimizer)["w"].ravel().round(5))
    [2. 0.]
    """
    alpha = scalar("fista", "alpha", alpha, "Pass 0 for no penalty")
    restart = flag("restart", restart, "fista")
    least = None if tolerance is None else scalar("fista", "a tolerance", tolerance, "Write tolerance=1e-6")
    schedule = None if learning_rate is None else as_schedule("fista", learning_rate)
    step = functools.partial(_step, alpha, mask, restart, least)

    def init(params: Params) -> FistaState:
        x = jax.tree.map(jnp.copy, params)  # a buffer of its own: the state and the parameters are both donated
        size = init_step_size(params, mask) if schedule is None else None
        ended = None if least is None else jnp.asarray(False)
        return FistaState(jnp.int32(0), x, jnp.ones((), jnp.result_type(float)), no_moves(), size, ended)

    def update(grads: Params, state: FistaState, y: Params = None) -> tuple[Any, FistaState]:
        require_params("fista", y)
        assert schedule is not None
        return step(grads, state, y, schedule(state.step))

    def own_update(
        updates: Params, state: FistaState, y: Params = None, *, grad: Params = None, grad_fn: Any = None, **others: Any
    ) -> tuple[Any, FistaState]:
        require_params("fista", y)
        require_gradient("fista", grad, grad_fn)
        assert state.size is not None
        lr, size, larger = find_step_size(state.size, state.step == 0, y, grad, grad_fn, mask)
        t = jnp.where(larger, jnp.ones_like(state.t), state.t)  # momentum of longer steps is forgotten
        return step(grad, state._replace(size=size, t=t), y, lr)

    if schedule is None:
        return optax.GradientTransformationExtraArgs(init, own_update)
    return optax.GradientTransformation(init, update)


def _step(
    alpha: Scalar, mask: Mask, restart: bool, least: Scalar | None, grads: Params, state: FistaState, y: Params, lr: Any
) -> tuple[Params, FistaState]:
    """The updates from `y` to the next one, and the state after it."""
    centring = None if state.size is None else state.size.centring
    begin, before = centre_params(centring, y, mask), centre_params(centring, state.x, mask)
    slope = centre_gradient(centring, grads, mask)
    down = jax.tree.map(lambda y, g: y - jnp.asarray(lr, y.dtype) * g, begin, slope)
    threshold = threshold_of(lr, alpha)
    end = map_weights(down, mask, lambda v: soft_threshold(v, threshold), lambda v: v)
    t, momentum = _accelerate(state.t, _uphill(begin, end, before) if restart else None)
    ended = None if least is None else _short(end, begin, least, mask)
    momentum = momentum if ended is None else jnp.where(ended, jnp.zeros_like(momentum), momentum)
    following = jax.tree.map(lambda x, before: x + momentum.astype(x.dtype) * (x - before), end, before)
    x, following = restore_params(centring, end, mask), restore_params(centring, following, mask)
    moves = count_moves(state.moves, state.x, x)
    updates = jax.tree.map(exact_update, following, y)
    return updates, FistaState(optax.safe_increment(state.step), x, t, moves, state.size, ended)


def fista_solution(optimizer_state: OptimizerState) -> Params:
    """The sparse solution of a run with `fista`: parameters, with exact zeros.

    Args:
        optimizer_state: `run.train_state.optimizer`, or the state of any optax chain with `fista` in it.

    Raises:
        ValueError: there is no `fista` in it, or more than one.

    >>> import fnn, jax.numpy as jnp
    >>> optimizer = fnn.penalties.fista(1.0)
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


# ---- small things


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


def _short(x: Params, y: Params, tolerance: Scalar, mask: Mask) -> Array:
    """Whether the step from y to x is shorter than this share of x: that of the weights, and that of the others."""
    step, marks = jax.tree.leaves(jax.tree.map(jnp.subtract, x, y)), jax.tree.leaves(weight_mask(x, mask))
    least, whole = jnp.asarray(tolerance, jnp.result_type(float)), jax.tree.leaves(x)

    def weights(leaves: list[Array], wanted: bool) -> list[Array]:
        return [leaf for leaf, counts in zip(leaves, marks, strict=True) if counts is wanted]

    short = norm(weights(step, True)) <= least * norm(weights(whole, True))
    return short & (norm(weights(step, False)) <= least * norm(whole))

"""Parameters to predict with that are not those being trained: averages of them, as the optimizer's state has them.

A run asks its optimizer's state. `optax.contrib.schedule_free…`, `optax.lookahead` and `optax.contrib.sam` are known.
Of `average` here, and of an optimizer of your own, the state says so: it has a method
`evaluation_params(params) -> params`. They are used for validation, for the best epoch, and as `run.params`.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree
from optax.contrib import SAMState, ScheduleFreeState, schedule_free_eval_params

from fnn.arguments import explain_call, like, scalar, whole_number
from fnn.optimizers.protocol import LookaheadBoth
from fnn.types import Array, OptimizerState, Params, Scalar


class AverageState(NamedTuple):
    """The number of steps, and the sum of the parameters, weighted."""

    step: Array
    total: Params
    weight: Array  # the sum of the weights

    def evaluation_params(self, params: Params) -> Params:
        """The average; the parameters themselves before the first step."""

        def mean(total: Any, p: Array) -> Array:
            return jnp.where(self.weight > 0, total / jnp.where(self.weight > 0, self.weight, 1).astype(p.dtype), p)

        return _over_groups(mean, self.total, params)


@explain_call
def average(decay: Scalar | None = 0.999, *, start: int = 0) -> optax.GradientTransformation:
    """An average of the parameters to predict with; chain it last: `optax.chain(optax.adam(0.01), average(0.99))`.

    With `θ_1, θ_2, …` the parameters after each step, from step `start + 1` on::

        a_t = Σ_i d^(t-i) θ_i / Σ_i d^(t-i)        decay d: an exponential moving average, without bias
        a_t = Σ_i θ_i / t                          decay None: the mean of all (Polyak & Juditsky 1992)

    Training is not changed by it. The averages are judged on the validation rows, and come back as `run.params`.

    Args:
        decay: above 0 and below 1; None for the mean of all. May be traced.
        start: how many steps come before the average begins.

    >>> import fnn, numpy as np, optax
    >>> x = np.linspace(-1, 1, 64, dtype="float32")[:, None]
    >>> optimizer = optax.chain(optax.sgd(0.5), fnn.optimizers.average(0.9))
    >>> run = fnn.fit(fnn.serial(fnn.dense(1)), fnn.losses.squared_error, optimizer, (x, 3 * x), epochs=100)
    >>> print(f"{run.params[0]['w'].item():.3f}")
    3.000
    """
    d = 1.0 if decay is None else scalar("average", "a decay", decay, "Pass 0.99", positive=True)
    if decay is not None and isinstance(d, (int, float)) and d >= 1:
        raise ValueError(f"average: expected a decay below 1, got {d}. Pass 0.99, or None for the mean of all.")
    start = whole_number("start", start, 0)

    def init(params: Params) -> AverageState:
        zeros = jax.tree.map(jnp.zeros_like, params)
        return AverageState(jnp.int32(0), zeros, jnp.zeros((), jnp.result_type(float)))

    def update(updates: Params, state: AverageState, params: Params = None) -> tuple[Params, AverageState]:
        if params is None:
            raise ValueError("average: expected the parameters, got None. Call update(gradients, state, params).")
        after = optax.apply_updates(params, updates)
        counts = state.step >= start
        total = jax.tree.map(lambda s, p: jnp.where(counts, like(d, s) * s + p, s), state.total, after)
        weight = jnp.where(counts, like(d, state.weight) * state.weight + 1.0, state.weight)
        return updates, AverageState(optax.safe_increment(state.step), total, weight)

    return optax.GradientTransformation(init, update)


def check_average(optimizer_state: OptimizerState) -> OptimizerState:
    """The state as it came; raises a ValueError where `average` stands in a chain before others.

    It would average what the steps of those before it lead to, and not the parameters.
    """
    groups = [optimizer_state]
    while groups:
        node = groups.pop()
        if isinstance(node, dict):
            groups += node.values()
        if isinstance(node, tuple):
            groups += node
        if type(node) is tuple and any(_has_average(before) for before in node[:-1]):
            hint = "Write optax.chain(…, fnn.optimizers.average(…))."
            raise ValueError(f"average: expected the last place of optax.chain, got one before others. {hint}")
    return optimizer_state


def _has_average(optimizer_state: OptimizerState) -> bool:
    nodes = jax.tree.leaves(optimizer_state, is_leaf=lambda node: isinstance(node, AverageState))
    return any(isinstance(node, AverageState) for node in nodes)


def has_evaluation_params(optimizer_state: OptimizerState) -> bool:
    """Whether the state of an optimizer, by its types, has parameters to predict with."""
    return bool(_holders(optimizer_state))


def evaluation_params(optimizer_state: OptimizerState, params: Params) -> Params:
    """The parameters to predict with: those trained, but where an optimizer has others for them.

    Args:
        optimizer_state: the state of an optimizer, `run.train_state.optimizer`.
        params: the parameters that it trains, `run.train_state.params`.

    >>> import jax.numpy as jnp, optax
    >>> from fnn.optimizers import evaluation_params
    >>> params = {"w": jnp.ones(2)}
    >>> evaluation_params(optax.adam(0.1).init(params), params) is params
    True
    """
    for state in _holders(optimizer_state):
        if isinstance(state, ScheduleFreeState):
            params = _over_groups(lambda z, y, b1=state.b1: _schedule_free(b1, z, y), state.z, params)
        elif isinstance(state, LookaheadBoth):
            params = state.slow
        elif isinstance(state, SAMState):
            away = state.steps_since_sync > 0  # the parameters are at the adversary's
            params = _over_groups(lambda c, p, away=away: jnp.where(away, c, p), state.cache, params)
        else:
            params = state.evaluation_params(params)
    return params


def stop_flag(optimizer_state: OptimizerState) -> Array | None:
    """Whether an optimizer has found what it looks for: a state that has the field `ended` says so; None: none has."""
    leaves = jax.tree.leaves(optimizer_state, is_leaf=lambda node: hasattr(node, "ended"))
    said = [leaf.ended for leaf in leaves if hasattr(leaf, "ended")]
    return said[0] if said else None


def _holders(optimizer_state: OptimizerState) -> list[Any]:
    """The states within a state that have parameters to predict with."""
    return [node for node in jax.tree.leaves(optimizer_state, is_leaf=_holds) if _holds(node)]


def _holds(node: Any) -> bool:
    known = isinstance(node, (ScheduleFreeState, LookaheadBoth)) or hasattr(type(node), "evaluation_params")
    return known or (isinstance(node, SAMState) and node.cache is not None)


def _schedule_free(b1: Array, z: Array, y: Array) -> Array:
    made: Array = schedule_free_eval_params(ScheduleFreeState(b1, b1, b1, b1, None, z), y)
    return made


def _over_groups(function: Any, held: Params, params: Params) -> Params:
    """A function of what is held for each parameter and of the parameter; one of another group stays as it is.

    What is held is one vector of all parameters where the optimizer is within `optax.flatten`.
    """

    def one(h: Any, p: Any) -> Any:
        return p if isinstance(h, optax.MaskedNode) else function(h, p)

    return jax.tree.map(one, _as_tree(held, params), params, is_leaf=lambda node: isinstance(node, optax.MaskedNode))


def _as_tree(held: Params, params: Params) -> Params:
    """What is held, in the structure of the parameters."""
    if not isinstance(held, jax.Array) or getattr(params, "shape", None) == held.shape:
        return held
    return ravel_pytree(params)[1](held)

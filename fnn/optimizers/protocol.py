"""How an optimizer is called: with the gradient, and with the cost of the batch under way where it asks for it.

Optax passes what else an optimizer needs by name. These names are known here, all of the batch under way, with its
rows' weights, its mask, the penalty, and the key of the step:

- `value`: the cost at the parameters. `grad`: its gradient there.
- `value_fn(params)`, and `obj_fn(params)`, which is the same: the cost as a function (line searches, Hutchinson).
- `grad_fn(params, i)`: its gradient as a function, the same for every `i` (`optax.contrib.sam`).
- `least_squares()`: the cost as a sum of squares, `fnn.gradients.jacobians.LeastSquares`, if it is one (`fnn`'s own).
"""

import functools
import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

from fnn import arguments
from fnn.gradients.jacobians import LeastSquares
from fnn.types import Array, OptimizerState, Params

NAMES = ("value", "grad", "value_fn", "obj_fn", "grad_fn", "least_squares")
CostArguments = Mapping[str, Any]  # by these names


def init_optimizer(optimizer: optax.GradientTransformation, params: Params) -> OptimizerState:
    """The state with which an optimizer begins."""
    if _is_lookahead(optimizer):
        both = optax.LookaheadParams.init_synced(params)
        return LookaheadBoth(arguments.call("optimizer", optimizer.init, both), jax.tree.map(jnp.copy, params))
    try:
        return arguments.call("optimizer", optimizer.init, params)
    except TypeError as error:
        raise TypeError(_explain(str(error)) or str(error)) from error


def update_optimizer(
    optimizer: optax.GradientTransformation,
    grads: Params,
    state: OptimizerState,
    params: Params,
    cost: Callable[[], CostArguments] | None = None,
) -> tuple[Params, OptimizerState]:
    """What an optimizer adds to the parameters, a tree like them, and its new state.

    Args:
        optimizer: one of optax, or of its protocol.
        grads: the gradient at `params`.
        state: the optimizer's.
        params: the parameters.
        cost: makes what the optimizer may ask for beside the gradient; called if the optimizer takes any of it.
    """
    if _is_lookahead(optimizer):
        return _update_lookahead(optimizer, grads, state, params, cost)
    names = [] if cost is None else takes(optimizer)
    asked = cost() if names and cost is not None else {}
    made = _call(optimizer, grads, state, params, {name: asked[name] for name in names})
    known = isinstance(made, tuple) and len(made) == 2
    structures: list[Any] = [jax.tree.structure(tree) for tree in (made[0] if known else None, params)]
    if not known or structures[0] != structures[1]:
        got = arguments.describe_thing(made[0] if known else made)
        raise TypeError(
            f"optimizer: expected updates like the parameters and a state, got {got}. Return (updates, state)."
        )
    of_state: list[Any] = [jax.tree.structure(tree) for tree in (state, made[1])]
    if of_state[0] != of_state[1]:
        got = "one that changes at an update"
        raise TypeError(f"optimizer: expected a state of one structure, got {got}. Leave out optax.monitor.")
    found: tuple[Params, OptimizerState] = made
    return found


def takes(optimizer: optax.GradientTransformation) -> list[str]:
    """Which of the names the update can be called with: all of them where it takes arguments of any name.

    >>> import optax
    >>> from fnn.optimizers.protocol import takes
    >>> takes(optax.contrib.reduce_on_plateau()), takes(optax.clip(1.0))
    (['value', 'grad', 'value_fn', 'obj_fn', 'grad_fn', 'least_squares'], [])
    """
    try:
        parameters = list(inspect.signature(optimizer.update).parameters.values())
    except (TypeError, ValueError):  # it does not tell
        return []
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return list(NAMES)
    by_place = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)][:3]
    return [p.name for p in parameters if p.name in NAMES and p.name not in by_place]


def stand_in_cost(grads: Params, params: Params, value: Array) -> CostArguments:
    """Arguments that only say whether an optimizer asks for any: `value`, and functions all of which depend on it."""

    def value_fn(params: Params) -> Array:
        squares = [jnp.square(a).sum().astype(value.dtype) for a in jax.tree.leaves(params)]
        return value * sum(squares, start=jnp.zeros((), value.dtype))

    def grad_fn(params: Params, i: int = 0) -> Params:
        return jax.grad(value_fn)(params)

    def least_squares() -> LeastSquares:
        flat, unravel = ravel_pytree(params)
        by = value.astype(flat.dtype)
        return LeastSquares(flat, unravel, lambda theta: by * theta, lambda theta: by * jnp.diag(theta), None)

    functions = {"value_fn": value_fn, "obj_fn": value_fn, "grad_fn": grad_fn, "least_squares": least_squares}
    return {"value": value, "grad": grads, **functions}


# ---- the call, and what its errors mean

_MISSING = re.compile(r"missing \d+ required .*?arguments?: (.*?)(?:\. |$)")
_UNEXPECTED = re.compile(r"unexpected keyword argument '(\w+)'|not consumed by `value_fn`: \[(.*?)\]")


def _call(
    optimizer: optax.GradientTransformation, grads: Params, state: OptimizerState, params: Params, asked: CostArguments
) -> Any:
    """What the update returns. An optimizer within it may not know a name that the whole takes: it is left out then."""
    try:
        return arguments.call("optimizer", functools.partial(optimizer.update, **asked), grads, state, params)
    except (TypeError, ValueError) as error:
        whole = f"{error} {error.__cause__}"  # the first of them may be cut short
        unknown = {name for found in _UNEXPECTED.findall(whole) for name in re.findall(r"\w+", " ".join(found))}
        if unknown & asked.keys():
            less = {name: thing for name, thing in asked.items() if name not in unknown}
            return _call(optimizer, grads, state, params, less)
        text = _explain(whole)
        if text is None:
            raise
        raise type(error)(text) from error


def _explain(error: str) -> str | None:
    """What an optimizer wants that a run does not have, and what to do; None for any other error."""
    missing = _MISSING.search(error)
    if missing is not None:
        hint = f"Use another optimizer; the run passes {', '.join(NAMES)}."
        what = "one that needs the gradient and the cost alone"
        return f"optimizer: expected {what}, got one that needs {missing[1]}. {hint}"
    if "differentially_private_aggregate" in error or "per_example" in error:
        got = "one that needs the gradient of each row"
        return f"optimizer: expected one that needs the gradient of a batch, got {got}. Use another optimizer."
    if "has no attribute 'fast'" in error:
        hint = "Write optax.lookahead(optax.chain(…), …)."
        return f"optimizer: expected optax.lookahead around all others, got it within another. {hint}"
    return None


# ---- optax.lookahead, whose parameters are two sets


class LookaheadBoth(NamedTuple):
    """The state of `optax.lookahead`, and the slow parameters, which are those to predict with."""

    inner: OptimizerState
    slow: Params


def _is_lookahead(optimizer: optax.GradientTransformation) -> bool:
    function = optimizer.update
    name, module = getattr(function, "__qualname__", ""), str(getattr(function, "__module__", ""))
    return name.startswith("lookahead.<locals>") and module.startswith("optax.")


def _update_lookahead(
    optimizer: optax.GradientTransformation,
    grads: Params,
    state: LookaheadBoth,
    params: Params,
    cost: Callable[[], CostArguments] | None,
) -> tuple[Params, OptimizerState]:
    """Updates of the fast parameters, which are trained; the slow ones are in the state."""
    both = optax.LookaheadParams(params, state.slow)
    asked = {name: cost()[name] for name in takes(optimizer)} if cost is not None and takes(optimizer) else {}
    updates, inner = _call(optimizer, grads, state.inner, both, asked)
    return updates.fast, LookaheadBoth(inner, optax.apply_updates(state.slow, updates.slow))

"""The state of a training run: how it begins, and what every part of the loop does with such trees."""

from collections.abc import Iterable, Mapping, Sequence
from functools import reduce
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from fnn.arguments.leaves import example_shape, some_rows
from fnn.kernels.operations import number, where
from fnn.layers.passes import forward_layer, init_layer
from fnn.losses.aggregation import JOINT, blank_collection, collect_batch, metric_sums
from fnn.losses.reduction import dtype_of_sums
from fnn.optimizers.evaluation import check_average, has_evaluation_params
from fnn.optimizers.protocol import init_optimizer
from fnn.penalties.proximal import check_proximal
from fnn.runs import History, RunningSums, TrainState
from fnn.training.batches import batch_sizes, padded_rows
from fnn.training.config import TrainerConfig
from fnn.types import Array, Data, Key, Params, Part, State, Tree

RUN = 0x72756E  # "run": the branch of a key that a run draws its orders and noise from; 0, 1, 2, … are other runs' keys


def initial_state(
    config: TrainerConfig, key: Key, data: Data, settings: dict[str, Array], params: Params = None, state: State = None
) -> TrainState:
    """The state before the first step: fresh parameters, or copies of the given ones."""
    key_init, key_run = jax.random.split(key)[0], jax.random.fold_in(key, RUN)
    if params is None or state is None:
        fresh_params, fresh_state, _ = init_layer(config.net, key_init, example_shape(data.train.x))
        params, state = fresh_params if params is None else params, fresh_state if state is None else state
    # copies: what the caller gave stays the caller's when this state is donated
    params, state = jax.tree.map(jnp.copy, (params, state))
    optimizer = check_average(check_proximal(init_optimizer(config.optimizer, params)))
    chooses = data.validation is not None or has_evaluation_params(optimizer)
    best = jax.tree.map(jnp.copy, (params, state)) if chooses else ()
    return TrainState(
        params=params,
        state=state,
        optimizer=optimizer,
        key=jax.random.key_data(key_run),
        settings=settings,
        epoch=jnp.int32(0),
        step=jnp.int32(0),
        sums=initial_sums(config, params, state, data.train),
        best=best,
        best_value=jnp.full((), -jnp.inf if config.mode == "max" else jnp.inf, dtype_of_sums(dtype_of(params))),
        best_epoch=jnp.int32(-1),
        wait=jnp.int32(0),
        active=jnp.asarray(True),
        diverged=jnp.full(2, -1, jnp.int32),
    )


def chosen_params(s: TrainState, best_epoch: int) -> tuple[Params, State]:
    """The parameters and the layer state that a run returns, from its state, or the states of many.

    They are the best by validation where there are any, else those to predict with, else the last.
    """
    chosen: tuple[Params, State] = s.params, s.state
    return s.best if best_epoch >= 0 or has_evaluation_params(s.optimizer) else chosen


def initial_sums(config: TrainerConfig, params: Params, state: State, part: Part) -> RunningSums:
    """Return the sums of an epoch before its first step, with room for what metrics keep of its rows."""
    metrics = dict(config.metrics)
    if not any(isinstance(metric, JOINT) for metric in metrics.values()):
        return zero_sums(params, metrics)
    size, batches = batch_sizes(padded_rows(part), config.batch_size)

    def of_batch(params: Params, state: State, x: Tree, t: Tree) -> tuple[Tree, Tree]:
        y = forward_layer(config.net, params, state, x, None, False)[0]
        return metric_sums(metrics, y, t, None), collect_batch(metrics, y, t, None)

    sums, collected = jax.eval_shape(of_batch, params, state, some_rows(part.x, size), some_rows(part.t, size))
    return blank_sums(params, metrics, sums, collected, size * batches)


def blank_sums(params: Params, metrics: Mapping[str, Any], sums: Tree, collected: Tree, room: int) -> RunningSums:
    """Sums of no batch yet, from the shapes of those of one; `room`: of how many rows something may be kept."""
    begun = zero_sums(params, ())
    of_metrics = [jax.tree.map(lambda a: jnp.zeros(a.shape, begun.loss.dtype), sums) for _ in range(2)]
    lost = (*begun.lost[:2], of_metrics[1])
    return RunningSums(begun.loss, begun.weight, of_metrics[0], lost, blank_collection(metrics, collected, room) or ())


def zero_sums(params: Params, metrics: Iterable[str]) -> RunningSums:
    """Return the sums of an epoch before its first step."""
    dtype = dtype_of_sums(dtype_of(params))
    of_metrics: Any = dict.fromkeys(metrics, 0)
    sums: Any = RunningSums(0, 0, of_metrics, (0, 0, of_metrics))  # type: ignore[arg-type]
    # an array for each, since the state may be donated, and no array twice
    zeros: RunningSums = jax.tree.map(lambda _: jnp.zeros((), dtype), sums)
    return zeros


def empty_history(epochs: int, params: Params, metrics: Iterable[str], validates: bool) -> History:
    """Room for so many epochs, NaN where none has been."""
    blank = jnp.full(epochs, jnp.nan, dtype_of_sums(dtype_of(params)))
    names = dict.fromkeys(metrics, blank)
    return History(blank, names, blank if validates else None, names if validates else {})


def dtype_of(params: Params) -> Any:
    """The dtype of the numbers of a run: that of its parameters, or the default where there are none."""
    floating = [a.dtype for a in jax.tree.leaves(params) if jnp.issubdtype(jnp.result_type(a), jnp.floating)]
    return floating[0] if floating else jnp.result_type(float)


CHOICES_AT_ONCE = 5


def tree_where(condition: Array, new: Any, old: Any, apart: bool = False) -> Any:
    """`jnp.where` on every leaf; the new ones are like the old ones.

    On a CPU a few leaves at a time. Where more than eight operations can begin at once, XLA hands half of them to
    another thread. With small arrays the wait for that thread is the longest part of a step: a step of 4-16-3 took
    12.6 µs with all leaves at once, and takes 6.9 µs.

    Args:
        condition: one for all leaves.
        new, old: trees of arrays.
        apart: whether arrays may lie in different ways on several devices; then no leaf waits for another's numbers.
    """
    leaves, structure = jax.tree.flatten(new)
    others = jax.tree.leaves(old)
    together = len(leaves) if apart or jax.default_backend() != "cpu" else CHOICES_AT_ONCE
    chosen: list[Array] = []
    for first in range(0, len(leaves), max(together, 1)):
        turn = _wait_for(chosen[-together:], condition) if first else condition
        here = slice(first, first + together)
        chosen += [where(turn, a, b) for a, b in zip(leaves[here], others[here], strict=True)]
    return jax.tree.unflatten(structure, chosen)


def _wait_for(arrays: Sequence[Array], condition: Array) -> Array:
    """The condition, known once one of these arrays is: every number differs from nan, but XLA does not know that."""
    for a in reversed(arrays):
        if a.size and jnp.issubdtype(a.dtype, jnp.floating):
            first = lax.reshape(lax.slice(a, (0,) * a.ndim, (1,) * a.ndim), ())
            return lax.bitwise_and(condition, lax.ne(first, number(jnp.nan, a)))
    return condition


COPIED_UP_TO = 2**12  # numbers of an array that is sooner copied than summed up by itself


def all_finite(tree: Any, others: Sequence[Array] = (), apart: bool = False) -> Array:
    """Whether every number of a tree is finite.

    Args:
        tree: arrays.
        others: numbers that must be finite too, and flags that must be true.
        apart: whether arrays may lie in different ways on several devices.
    """
    arrays = [a for a in jax.tree.leaves(tree) if a.size]
    flags = [a if a.dtype == bool else lax.is_finite(a) for a in others]
    alike = not apart and len({a.dtype for a in arrays}) == 1
    # 0 · a is 0 where a is finite, else nan: a library sums up, where `all` writes down what it is of
    told = [a if alike and a.size <= COPIED_UP_TO else (0 * a).sum() for a in arrays]
    if not alike:
        return reduce(jnp.logical_and, [*flags, *map(jnp.isfinite, told)], jnp.asarray(True))
    # as one array: compiles in a quarter of the time. The flags are one number of it: what reads the result then reads
    # one flag, where XLA would compute it again from all flags for each number
    flat = [lax.reshape(a, (a.size,)) for a in told]
    if flags:
        zero = jnp.zeros(1, flat[0].dtype)
        flat.append(where(reduce(jnp.logical_and, flags), zero, jnp.inf))
    return lax.reduce_and(lax.is_finite(lax.concatenate(flat, 0)), (0,))


def mask_nonfinite(after: State, before: State) -> State:
    """The floating arrays of a layer state, 0 where they were not finite before: a running maximum begins at -inf."""

    def one(a: Array, b: Array) -> Array | None:
        return jnp.where(jnp.isfinite(b), a, 0) if jnp.issubdtype(a.dtype, jnp.floating) else None

    return jax.tree.map(one, after, before)


@jax.custom_batching.custom_vmap
def any_over_vmap(condition: Array) -> Array:
    """`condition`; under `vmap`, whether any member's holds, so that a loop's condition stays a scalar."""
    return condition


@any_over_vmap.def_vmap
def _any_of_members(size: int, batched: Any, condition: Array) -> Any:
    return any_over_vmap(condition.any(0)), False


@jax.custom_batching.custom_vmap
def min_over_vmap(value: Array) -> Array:
    """`value`; under `vmap` the smallest of the members'."""
    return value


@min_over_vmap.def_vmap
def _smallest_of_members(size: int, batched: Any, value: Array) -> Any:
    return min_over_vmap(value.min(0)), False


class StepCarry(NamedTuple):
    """What a step changes, and whether it is still allowed to."""

    params: Params
    state: State
    optimizer: Any
    sums: RunningSums
    bad_step: Array  # the first step whose result was not finite, after which there is no other; -1: none


class Start(NamedTuple):
    """What a run begins with: the arguments of a trainer's `init`, in their order."""

    key: Key
    data: Data
    settings: dict[str, Any]
    params: Params = None
    state: State = None

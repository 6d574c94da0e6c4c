"""The fused loop: a whole training run as one pure function, to be compiled by `jit` and multiplied by `vmap`.

Read from the top down: `run` loops over epochs, `_epoch` over batches, `_step` keeps or undoes a step,
and `compute_step` updates the weights. A stream has the same epoch, buffer by buffer (`build_buffer_trainer`).

What has stopped (diverged, out of patience, out of epochs) is frozen by `where`, so that under `vmap` each member
stops by itself and the others keep their bits. Loop bounds are the same for all members, so `vmap` keeps them scalar.
"""

from __future__ import annotations  # `help` then shows types by their names

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jax.sharding import Mesh

from fnn import arguments
from fnn.gradients.cost import GradientFunction, autodiff
from fnn.kernels.loops import compile_for_size
from fnn.kernels.operations import where
from fnn.kernels.random import permutation
from fnn.losses.aggregation import collect_batch, join_batch, metric_sums
from fnn.optimizers.protocol import update_optimizer
from fnn.runs import History, RunningSums, Trainer, TrainState
from fnn.training.batches import (
    Batch,
    add_sums,
    as_arrays,
    batch_at,
    batch_sizes,
    buffer_batch,
    full_batch,
    pad_order,
    padded_rows,
    real_rows,
)
from fnn.training.config import TrainerConfig, bind, check_full_batch, cost_gradient, trainer_config
from fnn.training.cost import cost_arguments
from fnn.training.epoch_end import end_epoch
from fnn.training.layout import (
    PlaceRule,
    gather_params,
    keep_whole,
    make_layout,
    place_leaves,
    place_state,
    split_rows,
)
from fnn.training.state import (
    StepCarry,
    all_finite,
    any_over_vmap,
    empty_history,
    initial_state,
    mask_nonfinite,
    min_over_vmap,
    tree_where,
)
from fnn.training.statistics import EpochBatches
from fnn.types import (
    Array,
    Buffer,
    Data,
    Gradients,
    Key,
    Layer,
    LossLike,
    Metric,
    OfSettings,
    OptimizerState,
    Params,
    Part,
    Penalty,
    State,
    Tree,
)

LONGEST_HISTORY = 65_536  # epochs that a history has room for where their number is traced
NO_LIMIT = 2**31 - 1  # of steps, where what has been taken is not counted


@arguments.explain_call
def trainer(
    net: OfSettings[Layer],
    loss: OfSettings[LossLike],
    optimizer: OfSettings[optax.GradientTransformation],
    *,
    batch_size: int | None = None,
    gradient: Callable[..., GradientFunction] = autodiff,
    reduction: str = "mean",
    shuffle: bool = True,
    penalty: OfSettings[Penalty] | None = None,
    metrics: Mapping[str, Metric] | None = None,
    monitor: str = "loss",
    mode: str | None = None,
    mesh: Mesh | None = None,
    place: PlaceRule | None = None,
) -> Trainer:
    """A training run as two pure functions, un-jitted: `jit` makes one program of it, `vmap` many runs.

    Args:
        net: the network, or a function of the settings that makes it; so for `loss`, `optimizer` and `penalty`.
        loss: one of `fnn.losses`, or any callable `(outputs, targets) -> (batch,)`.
        optimizer: an optax optimizer.
        batch_size: rows per step; None is the full batch, rows in the given order.
        gradient: `fnn.autodiff` or `fnn.backprop`.
        reduction: "mean" over the rows of a batch, or "sum".
        shuffle: whether each epoch has its own order of the rows (with batches smaller than the data).
        penalty: one of `fnn.penalties`.
        metrics: name -> function `(outputs, targets) -> (batch,)`, reported as means over rows; or of `fnn.metrics`.
        monitor: what on the validation rows tells the best parameters: "loss", or a metric's name.
        mode: whether the smallest ("min") or the largest ("max") is best; for a function of your own say so.
        mesh: devices to split each batch over, along the mesh's first axis; jit the functions, or they split nothing.
        place: `(path, array) -> PartitionSpec`: how parameters and optimizer state are split, as for `fnn.fit`.

    Returns:
        `Trainer(init, run)`:
        `init(key, data, settings={}, params=None, state=None) -> train_state`, starting from given parameters if any;
        `run(train_state, data, epochs, steps=None) -> (train_state, history)`.

        `data` is `Data(train=Part(x, t, weight), validation=Part(...) or None)`. `settings` are numbers, traced;
        two are the loop's own: "patience" (epochs without a better validation before a run stops; default never)
        and "min_delta" (how much better counts). `epochs` may be traced; the history then has room for 65,536 epochs,
        NaN where none was run. With `steps`, traced too, the run also ends after so many steps, within an epoch if
        need be, and the next call goes on there: the same bits in any pieces.

    >>> import fnn, jax, jax.numpy as jnp, optax
    >>> x = jnp.linspace(-1, 1, 20)[:, None]
    >>> data = fnn.Data(fnn.Part(x, 3 * x))
    >>> net = fnn.serial(fnn.dense(1))
    >>> training = fnn.trainer(net, fnn.losses.squared_error, lambda s: optax.sgd(s["lr"]))
    >>> keys = jax.random.split(jax.random.key(0), 4)
    >>> start = jax.vmap(lambda key: training.init(key, data, {"lr": 0.5}))(keys)
    >>> end, history = jax.jit(jax.vmap(lambda s: training.run(s, data, 30)))(start)
    >>> print(end.params[0]["w"].ravel().round(4), history.loss.shape)
    [3. 3. 3. 3.] (4, 30)
    """
    return build_trainer(
        trainer_config(
            net,
            loss,
            optimizer,
            penalty=penalty,
            gradient=gradient,
            metrics=metrics,
            batch_size=batch_size,
            shuffle=shuffle,
            reduction=reduction,
            monitor=monitor,
            mode=mode,
            validates=True,
            layout=make_layout(mesh, place),
        )
    )


def build_trainer(config: TrainerConfig, longest: int = LONGEST_HISTORY) -> Trainer:
    """Return the trainer of a configuration; `longest` is the capacity of a history whose epochs are traced."""

    def init(key: Key, data: Data, settings: Any = None, params: Params = None, state: State = None) -> TrainState:
        settings = {name: jnp.asarray(value, jnp.result_type(float)) for name, value in (settings or {}).items()}
        key = arguments.key(key) if isinstance(key, (int, np.integer)) else key
        begin = initial_state(bind(config, settings), key, as_arrays(data), settings, params, state)
        return place_state(config.layout, begin)

    def run(train_state: TrainState, data: Data, epochs: Any, steps: Any = None) -> tuple[TrainState, History]:
        bound, data = bind(config, train_state.settings), as_arrays(data)
        capacity = epochs if isinstance(epochs, int) else longest
        history = empty_history(capacity + 1, train_state.params, bound.metric_names, data.validation is not None)

        def more(carry: Any) -> Array:
            done, steps_left, state, _ = carry
            return jnp.logical_and(steps_left > 0, any_over_vmap((done < epochs) & state.active))

        def body(carry: Any) -> Any:
            done, steps_left, state, history = carry
            running = (done < epochs) & state.active
            state, row, taken, ended = _epoch(bound, state, data, running, steps_left)
            state = place_state(config.layout, state)
            # an unfinished epoch, and what there is no place for, go to the last one, which is cut off in the end
            place = where(ended, jnp.minimum(done, capacity), capacity)
            history = jax.tree.map(lambda h, a: lax.dynamic_update_slice(h, a[None], (place,)), history, row)
            return done + ended.astype(jnp.int32), steps_left - (0 if steps is None else taken), state, history

        steps_left = jnp.int32(NO_LIMIT) if steps is None else jnp.asarray(steps, jnp.int32)
        carry = (jnp.int32(0), steps_left, train_state, history)
        _, _, train_state, history = compile_for_size(lambda carry: lax.while_loop(more, body, carry), carry)
        return train_state, jax.tree.map(lambda h: h[:capacity], history)

    return Trainer(init, run)


def build_buffer_trainer(config: TrainerConfig) -> Callable[..., tuple[TrainState, History, Array]]:
    """Return `run(train_state, buffer, validation=None, steps=None) -> (train_state, row, ended)`, pure, un-jitted.

    It trains on the batches of the buffer from `train_state.step` on, at most `steps` of them; with the last batch of
    the last buffer it ends the epoch as a trainer's `run` does: means, validation, the best parameters, patience.
    `row` is the history's row then, else NaN.

    Rows are taken in the order that they have in the buffer: its maker shuffles. Given the same batches the steps are
    those of a trainer that masks its last batch: batch `j` of the epoch has the same key here and there.
    """
    size = config.batch_size
    if size is None:
        raise ValueError("batch_size: expected rows per step, got None; a stream is never a full batch. Pass one.")

    def run(
        s: TrainState, buffer: Buffer, validation: Part | None = None, steps: Any = None
    ) -> tuple[TrainState, History, Array]:
        bound, first = bind(config, s.settings), jnp.asarray(buffer.first, jnp.int32)
        check_full_batch(s.optimizer, "a stream")
        key = epoch_key(s)
        end = first - (-jnp.asarray(buffer.count, jnp.int32) // size)
        begin = jnp.maximum(min_over_vmap(where(s.active, s.step, NO_LIMIT)), first)
        steps_left = jnp.int32(NO_LIMIT) if steps is None else jnp.asarray(steps, jnp.int32)
        stop = begin + jnp.clip(end - begin, 0, steps_left)

        def batch_of(j: Array) -> tuple[Batch, Key]:
            return split_rows(config.layout, buffer_batch(buffer, j - first, size)), jax.random.fold_in(key, j)

        after = train_batches(bound, s, batch_of, s.active, begin, stop)
        ended = jnp.asarray(buffer.last) & (stop >= end)
        after, row = end_epoch_if(ended, bound, after, validation, s.active, EpochBatches(batch_of, first, end))
        return place_state(config.layout, after), row, ended

    return run


# ---- one epoch, or as much of it as is left and allowed


def _epoch(
    config: TrainerConfig, s: TrainState, data: Data, running: Array, steps_left: Array
) -> tuple[TrainState, History, Any, Array]:
    """The state and the history row after it, the steps it took, and whether the epoch ended."""
    size, batches = batch_sizes(padded_rows(data.train), config.batch_size)
    if batches > 1:
        check_full_batch(s.optimizer, f"{size} of {padded_rows(data.train)} rows")
    batch_of = batches_of_epoch(config, s, data.train)
    if batches == 1:  # without a loop
        first = jnp.int32(0)
        s = _store_steps(s, _step(config, _first_carry(s), *batch_of(first), first, running), running, jnp.int32(1))
        return *end_epoch(config, s, data.validation, running, EpochBatches(batch_of, 0, 1)), 1, jnp.asarray(True)

    begin = min_over_vmap(where(running, s.step, batches))
    stop = begin + jnp.minimum(batches - begin, steps_left)
    after = train_batches(config, s, batch_of, running, begin, stop)
    end = end_epoch_if(stop == batches, config, after, data.validation, running, EpochBatches(batch_of, 0, batches))
    return *end, stop - begin, stop == batches


def epoch_key(s: TrainState) -> Key:
    """The key of the epoch under way."""
    return jax.random.fold_in(jax.random.wrap_key_data(s.key), s.epoch)


def batches_of_epoch(config: TrainerConfig, s: TrainState, part: Part) -> Callable[[Array], tuple[Batch, Key]]:
    """Return a function from a step of the epoch under way to its batch and its key."""
    size, batches = batch_sizes(padded_rows(part), config.batch_size)
    key, order = epoch_key(s), row_order(config, s, part)

    def batch_of(j: Array) -> tuple[Batch, Key]:
        batch = full_batch(part) if batches == 1 else batch_at(part, order, j, size)
        return split_rows(config.layout, batch), jax.random.fold_in(key, j)

    return batch_of


def row_order(config: TrainerConfig, s: TrainState, part: Part) -> Array:
    """The rows in the order of the epoch under way, filled up to whole batches. A single batch has the given order."""
    rows = padded_rows(part)
    size, batches = batch_sizes(rows, config.batch_size)
    given = jnp.arange(rows, dtype=jnp.int32)
    shuffles = config.shuffle and batches > 1
    order = permutation(s.key, s.epoch, rows, real_rows(part)) if shuffles else given
    if part.view is not None:  # a fold that a single batch holds keeps its order, as it would alone
        order = jnp.where(real_rows(part) <= size, given, order)
    return pad_order(order, batches, size)


def train_batches(
    config: TrainerConfig,
    s: TrainState,
    batch_of: Callable[[Array], tuple[Batch, Key]],
    running: Array,
    begin: Array,
    stop: Array,
) -> TrainState:
    """The state after the steps from `begin` up to `stop` of the epoch under way."""

    def body(j: Array, carry: StepCarry) -> StepCarry:
        batch, key = batch_of(j)
        return _step(config, carry, batch, key, j, running & (j >= s.step))

    return _store_steps(s, lax.fori_loop(begin, stop, body, _first_carry(s)), running, stop)


def end_epoch_if(
    ended: Array,
    config: TrainerConfig,
    s: TrainState,
    validation: Part | None,
    running: Array,
    batches: EpochBatches,
) -> tuple[TrainState, History]:
    """The state and the history row, of NaN where the epoch has not ended."""
    history = empty_history(1, s.params, config.metric_names, validation is not None)
    blank = jax.tree.map(lambda h: h[0], history)
    after, row = lax.cond(ended, lambda s: end_epoch(config, s, validation, running, batches), lambda s: (s, blank), s)
    return after, row


def _first_carry(s: TrainState) -> StepCarry:
    return StepCarry(s.params, s.state, s.optimizer, s.sums, jnp.int32(-1))


def _store_steps(s: TrainState, carry: StepCarry, running: Array, step: Array) -> TrainState:
    """The run's state after the steps before this one; where it diverged, the epoch under way is given up."""
    active = s.active & (carry.bad_step < 0)
    step = where(running, jnp.maximum(step, s.step), s.step)  # a member ahead of the others has waited
    return s._replace(
        params=carry.params,
        state=carry.state,
        optimizer=carry.optimizer,
        sums=jax.tree.map(lambda total: where(active, total, 0), carry.sums),
        step=where(active, step, 0),
        active=active,
        diverged=where(carry.bad_step >= 0, jnp.stack([s.epoch, carry.bad_step]), s.diverged),
    )


# ---- one step


def _step(config: TrainerConfig, carry: StepCarry, batch: Batch, key: Key, j: Array, due: Array) -> StepCarry:
    """One update of the weights; the old ones stay where it is not finite, after one that was not, or if not `due`."""
    g, _, params, optimizer = compute_step(config, carry.params, carry.state, carry.optimizer, batch, key)
    running = due & (carry.bad_step < 0)
    split = config.layout is not None
    numbers: list[Any] = [g.total]
    if batch.weight is not None:
        numbers.append(g.weight)  # else a mean of anything would be 0
        running = running & (g.weight != 0)  # rows that all weigh nothing are no step: momentum must not move either
    done = all_finite((params, mask_nonfinite(g.state, carry.state)), (running, *numbers), apart=split)
    old = carry.params, carry.state, carry.optimizer
    params, state, optimizer = tree_where(done, (params, g.state, optimizer), old, split)
    params, state, optimizer = place_leaves(config.layout, params=params, state=state, optimizer=optimizer)
    metrics, rows = dict(config.metrics), (g.outputs, batch.t, batch.weight)
    sums = RunningSums(g.total, g.weight, metric_sums(metrics, *rows))
    totals, before = (of._replace(collected=()) for of in (add_sums(carry.sums, sums), carry.sums))
    sums = tree_where(running, totals, before, split)
    more = keep_whole(config.layout, collect_batch(metrics, *rows))
    if more:
        sums = sums._replace(collected=join_batch(metrics, carry.sums.collected, more, j, running))
    bad = running & ~done
    return StepCarry(params, state, optimizer, sums, where(bad, j, carry.bad_step))


def compute_step(
    config: TrainerConfig, params: Params, state: State, optimizer: Any, batch: Batch, key: Key
) -> tuple[Gradients, Tree, Params, OptimizerState]:
    """Return the gradients, the updates, the new parameters and the optimizer's new state, before any is dropped."""
    whole = gather_params(config.layout, params)
    g = cost_gradient(config)(whole, state, batch.x, batch.t, batch.weight, key, batch.train)
    g = g._replace(grads=place_leaves(config.layout, params=g.grads)[0])
    with jax.numpy_dtype_promotion("standard"):  # optax mixes its integer step count with floats
        cost = functools.partial(cost_arguments, config, g, params, state, batch, key)
        updates, optimizer = update_optimizer(config.optimizer, g.grads, optimizer, params, cost)
        params = optax.apply_updates(params, updates)
    return g, updates, *place_leaves(config.layout, params=params, optimizer=optimizer)

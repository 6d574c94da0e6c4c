"""The fused loop: a whole training run as one pure function, to be compiled by `jit` and multiplied by `vmap`.

Read from the top down: `run` loops over epochs, `_epoch` over batches, `_step` updates the weights.

What has stopped (diverged, out of patience, out of epochs) is frozen by `where`, so that under `vmap` each member
stops by itself and the others keep their bits. Loop bounds are the same for all members, so `vmap` keeps them scalar.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from fnn import arguments
from fnn.gradients.cost import autodiff
from fnn.kernels.loops import compile_for_size
from fnn.kernels.random import permutation
from fnn.losses.reduction import metric_sums
from fnn.training import config
from fnn.training.batches import (
    Batch,
    add_sums,
    as_arrays,
    batch_at,
    batch_sizes,
    full_batch,
    pad_order,
    padded_rows,
    real_rows,
)
from fnn.training.config import BoundConfig, TrainerConfig, bind
from fnn.training.epoch_end import end_epoch
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
from fnn.types import (
    Array,
    Buffer,
    Data,
    History,
    Key,
    Params,
    Part,
    Rows,
    RunningSums,
    State,
    Trainer,
    TrainState,
    check_distinct,
    history_columns,
)

LONGEST_HISTORY = 65_536  # epochs that a history has room for where their number is traced
NO_LIMIT = 2**31 - 1  # of steps, where what has been taken is not counted


def trainer(
    net: Any,
    loss: Any,
    optimizer: Any,
    *,
    batch_size: int | None = None,
    gradient: Callable[..., Any] = autodiff,
    reduction: str = "mean",
    shuffle: bool = True,
    penalty: Any = None,
    metrics: Mapping[str, Callable[[Any, Any], Array]] | None = None,
    monitor: str = "loss",
    mode: str | None = None,
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
        metrics: name -> function `(outputs, targets) -> (batch,)`, reported as means over rows.
        monitor: what on the validation rows tells the best parameters: "loss", or a metric's name.
        mode: whether the smallest ("min") or the largest ("max") is best; for a metric say so.

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
    measured = tuple(config.check_metrics(metrics).items())
    check_distinct(history_columns(dict(measured)))
    mode = config.check_monitor(monitor, mode, None, metrics, True)
    batch_size = None if batch_size is None else arguments.whole_number("batch_size", batch_size, 1)
    reduction = arguments.one_of("reduction", reduction, ("mean", "sum"))
    return build_trainer(
        TrainerConfig(
            net,
            loss,
            optimizer,
            penalty,
            gradient,
            measured,
            batch_size,
            arguments.flag("shuffle", shuffle),
            reduction,
            monitor,
            mode,
        )
    )


def build_trainer(recipe: TrainerConfig, longest: int = LONGEST_HISTORY) -> Trainer:
    """`trainer`, of what has been put together; `longest` is the room of a history whose epochs are traced."""

    def init(key: Key, data: Data, settings: Any = None, params: Params = None, state: State = None) -> TrainState:
        settings = {name: jnp.asarray(value, jnp.result_type(float)) for name, value in (settings or {}).items()}
        key = arguments.key(key) if isinstance(key, (int, np.integer)) else key
        return initial_state(bind(recipe, settings), key, as_arrays(data), settings, params, state)

    def run(train_state: TrainState, data: Data, epochs: Any, steps: Any = None) -> tuple[TrainState, History]:
        made, data = bind(recipe, train_state.settings), as_arrays(data)
        places = epochs if isinstance(epochs, int) else longest
        history = empty_history(places + 1, train_state.params, made.metrics, data.validation is not None)

        def more(carry: Any) -> Array:
            done, left, state, _ = carry
            return (left > 0) & any_over_vmap((done < epochs) & state.active)

        def body(carry: Any) -> Any:
            done, left, state, history = carry
            going = (done < epochs) & state.active
            state, row, taken, ended = _epoch(made, state, data, going, left)
            # an unfinished epoch, and what there is no place for, go to the last one, which is cut off in the end
            place = jnp.where(ended, jnp.minimum(done, places), places)
            history = jax.tree.map(lambda h, value: lax.dynamic_update_index_in_dim(h, value, place, 0), history, row)
            return done + ended.astype(jnp.int32), left - (0 if steps is None else taken), state, history

        left = jnp.int32(NO_LIMIT) if steps is None else jnp.asarray(steps, jnp.int32)
        carry = (jnp.int32(0), left, train_state, history)
        _, _, train_state, history = compile_for_size(lambda carry: lax.while_loop(more, body, carry), carry)
        return train_state, jax.tree.map(lambda h: h[:places], history)

    return Trainer(init, run)


# ---- one epoch, or as much of it as is left and allowed


def _epoch(
    made: BoundConfig, s: TrainState, data: Data, going: Array, left: Array
) -> tuple[TrainState, History, Any, Array]:
    """The state and the history row after it, the steps it took, and whether the epoch ended."""
    part = data.train
    size, batches = batch_sizes(padded_rows(part), made.batch_size)
    key = jax.random.fold_in(jax.random.wrap_key_data(s.key), s.epoch)
    now = StepCarry(s.params, s.state, s.optimizer, s.sums, going, jnp.int32(-1))

    if batches == 1:
        s = _store_steps(s, _step(made, now, full_batch(part), key, jnp.int32(0)), going, jnp.int32(1))
        return *end_epoch(made, s, data.validation, going), 1, jnp.asarray(True)

    order = row_order(made, s, part)

    def one(j: Array, now: StepCarry) -> StepCarry:
        own = jax.random.fold_in(key, j)
        # a fold that a single batch holds trains with the key of a single batch, as it would alone
        own = own if part.view is None else jnp.where(real_rows(part) <= size, key, own)
        return _step(made, now, batch_at(part, order, j, size), own, j, j >= s.step)

    begin = min_over_vmap(jnp.where(going, s.step, batches))
    stop = begin + jnp.minimum(batches - begin, left)
    now = lax.fori_loop(begin, stop, one, now)
    blank = jax.tree.map(lambda h: h[0], empty_history(1, s.params, made.metrics, data.validation is not None))
    s, row = lax.cond(
        stop == batches,
        lambda s: end_epoch(made, s, data.validation, going),
        lambda s: (s, blank),
        _store_steps(s, now, going, stop),
    )
    return s, row, stop - begin, stop == batches


def row_order(made: BoundConfig, s: TrainState, part: Part) -> Array:
    """The rows in the order of the epoch under way, filled up to whole batches."""
    rows = padded_rows(part)
    size, batches = batch_sizes(rows, made.batch_size)
    given = jnp.arange(rows, dtype=jnp.int32)
    order = permutation(s.key, s.epoch, rows, real_rows(part)) if made.shuffle else given
    if part.view is not None:  # a fold that a single batch holds keeps its order, as it would alone
        order = jnp.where(real_rows(part) <= size, given, order)
    return pad_order(order, batches, size)


def _store_steps(s: TrainState, now: StepCarry, going: Array, step: Array) -> TrainState:
    """The run's state after the steps before this one; where it diverged, the epoch under way is given up."""
    active = jnp.where(going, now.active, s.active)
    step = jnp.where(going, jnp.maximum(step, s.step), s.step)  # a member ahead of the others has waited
    return s._replace(
        params=now.params,
        state=now.state,
        optimizer=now.optimizer,
        sums=jax.tree.map(lambda total: jnp.where(active, total, 0), now.sums),
        step=jnp.where(active, step, 0),
        active=active,
        diverged=jnp.where(now.bad_step >= 0, jnp.stack([s.epoch, now.bad_step]), s.diverged),
    )


def _step(made: BoundConfig, now: StepCarry, batch: Batch, key: Key, j: Array, due: Any = True) -> StepCarry:
    """One update of the weights; undone where its result is not finite, where the run has stopped, where not `due`."""
    g = made.gradient(now.params, now.state, batch.x, batch.t, batch.weight, key, batch.train)
    with jax.numpy_dtype_promotion("standard"):  # optax mixes its integer step count with floats
        updates, optimizer = made.optimizer.update(g.grads, now.optimizer, now.params)
        params = optax.apply_updates(now.params, updates)

    going = now.active & due
    finite = jnp.isfinite(g.total) & all_finite((params, mask_nonfinite(g.state, now.state)))
    if batch.weight is not None:
        finite = finite & jnp.isfinite(g.weight)  # else a mean of anything would be 0
        counts = g.weight != 0  # a batch whose rows all weigh nothing is no step: momentum must not move either
        going, finite = going & counts, finite | ~counts
    go = going & finite
    params, state, optimizer = tree_where(go, (params, g.state, optimizer), (now.params, now.state, now.optimizer))
    sums = RunningSums(g.total, g.weight, metric_sums(made.metrics, g.outputs, batch.t, batch.weight))
    sums = tree_where(going, add_sums(now.sums, sums), now.sums)
    bad = going & ~finite
    return StepCarry(params, state, optimizer, sums, now.active & ~bad, jnp.where(bad, j, now.bad_step))


def part_runner(recipe: TrainerConfig) -> Callable[..., tuple[TrainState, History, Array]]:
    """The part of an epoch that lies in a buffer, as a pure function, un-jitted, as `fnn.trainer`'s `run` is.

    Returns `run_part(train_state, buffer, validation=None, steps=None) -> (train_state, row, ended)`. It trains on
    the batches of the buffer from `train_state.step` on, at most `steps` of them; with the last batch of the last
    buffer it ends the epoch as `run` does: means, validation, the best parameters, patience. `row` is the history's
    row then, else NaN.

    Rows are taken in the order that they have in the buffer: its maker shuffles. Given the same batches the steps are
    those of `run` where `run` masks its last batch: batch `j` of the epoch has the same key here and there.
    """
    size = recipe.batch_size
    if size is None:
        raise ValueError("batch_size: expected rows per step, got None; a stream is never a full batch. Pass one.")

    def run_part(
        s: TrainState, buffer: Buffer, validation: Part | None = None, steps: Any = None
    ) -> tuple[TrainState, History, Array]:
        made, first = bind(recipe, s.settings), jnp.asarray(buffer.first, jnp.int32)
        end = first - (-jnp.asarray(buffer.count, jnp.int32) // size)
        key = jax.random.fold_in(jax.random.wrap_key_data(s.key), s.epoch)

        def one(j: Array, now: StepCarry) -> StepCarry:
            return _step(made, now, _nth(buffer, j - first, size), jax.random.fold_in(key, j), j, j >= s.step)

        begin = jnp.maximum(min_over_vmap(jnp.where(s.active, s.step, NO_LIMIT)), first)
        left = jnp.int32(NO_LIMIT) if steps is None else jnp.asarray(steps, jnp.int32)
        stop = begin + jnp.clip(end - begin, 0, left)
        now = StepCarry(s.params, s.state, s.optimizer, s.sums, s.active, jnp.int32(-1))
        now = lax.fori_loop(begin, stop, one, now)
        blank = jax.tree.map(lambda h: h[0], empty_history(1, s.params, made.metrics, validation is not None))
        ended = jnp.asarray(buffer.last) & (stop >= end)
        after, row = lax.cond(
            ended,
            lambda s: end_epoch(made, s, validation, s.active),
            lambda s: (s, blank),
            _store_steps(s, now, s.active, stop),
        )
        return after, row, ended

    return run_part


def _nth(buffer: Buffer, k: Array, size: int) -> Batch:
    """Batch `k` of a buffer; rows past its count are filling."""
    x, t, weight, _ = jax.tree.map(lambda a: lax.dynamic_slice_in_dim(a, k * size, size), buffer.part)
    mask = k * size + jnp.arange(size, dtype=jnp.int32) < buffer.count
    return Batch(x, t, jnp.where(mask, weight, 0.0), Rows(mask))

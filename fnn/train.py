"""The fused loop: a whole training run as one pure function, to be compiled by `jit` and multiplied by `vmap`.

Read from the top down: `run` loops over epochs, `_epoch` over batches, `_step` updates the weights.

What has stopped (diverged, out of patience, out of epochs) is frozen by `where`, so that under `vmap` each member
stops by itself and the others keep their bits. Loop bounds are the same for all members, so `vmap` keeps them scalar.
"""

import inspect
from collections.abc import Callable, Mapping
from functools import reduce
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from fnn.batches import Batch, filled, metric_sums, nth, row_values, sizes, weighted_sum, whole
from fnn.gradients import autodiff
from fnn.losses import as_loss
from fnn.penalties import check_proximal
from fnn.shuffle import epoch_order
from fnn.types import Array, Data, History, Key, Layer, Loss, Params, Part, Penalty, State, Sums, Trainer, TrainState

LONGEST_HISTORY = 16_384  # epochs that a history has room for where their number is traced
VALIDATION_ROWS = 4_096  # rows evaluated at once
NO_LIMIT = 2**31 - 1  # of steps


class Parts(NamedTuple):
    """What a run is made of, once the settings are known."""

    net: Layer
    loss: Loss
    optimizer: Any
    gradient: Callable[..., Any]
    metrics: dict[str, Any]
    batch_size: int | None
    shuffle: bool
    reduction: str


class Progress(NamedTuple):
    """What a step changes, and whether it is still allowed to."""

    params: Params
    state: State
    optimizer: Any
    sums: Sums
    active: Array
    bad_step: Array  # the first step whose result was not finite, -1: none


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
) -> Trainer:
    """A training run as two pure functions, un-jitted: `jit` makes one program of it, `vmap` many runs.

    Args:
        net: the network, or a function of the settings that makes it; so for `loss`, `optimizer` and `penalty`.
        loss: one of `fnn.losses`, or any callable `(outputs, targets) -> (batch,)`.
        optimizer: an optax optimizer.
        batch_size: rows a step; None is the full batch, rows in the given order.
        gradient: `fnn.autodiff` or `fnn.backprop`.
        reduction: "mean" over the rows of a batch, or "sum".
        shuffle: whether each epoch has its own order of the rows (with batches smaller than the data).
        penalty: one of `fnn.penalties`.
        metrics: name -> function `(outputs, targets) -> (batch,)`, reported as means over rows.

    Returns:
        `Trainer(init, run)`:
        `init(key, data, settings={}, params=None, state=None) -> train_state`, starting from given parameters if any;
        `run(train_state, data, epochs, steps=None) -> (train_state, history)`.

        `data` is `Data(train=Part(x, t, weight), validation=Part(...) or None)`. `settings` are numbers, traced;
        two are the loop's own: "patience" (epochs without a lower validation loss before a run stops; default never)
        and "min_delta" (how much lower counts). `epochs` may be traced; the history then has room for 16,384 epochs,
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
    measures = dict(metrics or {})

    def parts(settings: dict[str, Array]) -> Parts:
        n, p = given("net", net, Layer, settings), given("penalty", penalty, Penalty, settings)
        f = given_loss(loss, settings)
        o = given("optimizer", optimizer, optax.GradientTransformation, settings)
        return Parts(n, f, o, gradient(n, f, p, reduction), measures, batch_size, shuffle, reduction)

    def init(key: Key, data: Data, settings: Any = None, params: Params = None, state: State = None) -> TrainState:
        settings = {name: jnp.asarray(value, jnp.result_type(float)) for name, value in (settings or {}).items()}
        key_init, key_run = jax.random.split(key)
        made = parts(settings)
        if params is None or state is None:
            fresh_params, fresh_state, _ = made.net.init(key_init, data.train.x.shape[1:])
            params, state = fresh_params if params is None else params, fresh_state if state is None else state
        # copies: what the caller gave stays the caller's when this state is donated
        params, state = jax.tree.map(jnp.copy, (params, state))
        best = () if data.validation is None else jax.tree.map(jnp.copy, (params, state))
        return TrainState(
            params=params,
            state=state,
            optimizer=check_proximal(made.optimizer.init(params)),
            key=jax.random.key_data(key_run),
            settings=settings,
            epoch=jnp.int32(0),
            step=jnp.int32(0),
            sums=_zero_sums(params, measures),
            best=best,
            best_value=jnp.full((), jnp.inf, _dtype(params)),
            best_epoch=jnp.int32(-1),
            wait=jnp.int32(0),
            active=jnp.asarray(True),
            diverged=jnp.full(2, -1, jnp.int32),
        )

    def run(train_state: TrainState, data: Data, epochs: Any, steps: Any = None) -> tuple[TrainState, History]:
        made = parts(train_state.settings)
        room = epochs if isinstance(epochs, int) else LONGEST_HISTORY
        history = _blank_history(room + 1, train_state.params, measures, data.validation is not None)

        def more(carry: Any) -> Array:
            done, left, state, _ = carry
            return (left > 0) & _any((done < epochs) & state.active)

        def body(carry: Any) -> Any:
            done, left, state, history = carry
            going = (done < epochs) & state.active
            state, row, taken, ended = _epoch(made, state, data, going, left)
            # an unfinished epoch, and what is beyond the room, go to the last place, which is cut off in the end
            place = jnp.where(ended, jnp.minimum(done, room), room)
            history = jax.tree.map(lambda h, value: lax.dynamic_update_index_in_dim(h, value, place, 0), history, row)
            return done + ended.astype(jnp.int32), left - taken, state, history

        left = jnp.int32(NO_LIMIT) if steps is None else jnp.asarray(steps, jnp.int32)
        carry = (jnp.int32(0), left, train_state, history)
        _, _, train_state, history = lax.while_loop(more, body, carry)
        return train_state, jax.tree.map(lambda h: h[:room], history)

    return Trainer(init, run)


# ---- one epoch, or as much of it as is left and allowed


def _epoch(made: Parts, s: TrainState, data: Data, going: Array, left: Array) -> tuple[TrainState, History, Any, Array]:
    """The state and the history row after it, the steps it took, and whether the epoch ended."""
    part, rows = data.train, data.train.x.shape[0]
    size, batches = sizes(rows, made.batch_size)
    key = jax.random.fold_in(jax.random.wrap_key_data(s.key), s.epoch)
    now = Progress(s.params, s.state, s.optimizer, s.sums, going, jnp.int32(-1))

    if batches == 1:
        s = _after(s, _step(made, now, whole(part), key, jnp.int32(0)), going, jnp.int32(1))
        return *_end_epoch(made, s, data.validation, going), 1, jnp.asarray(True)

    order = epoch_order(s.key, s.epoch, rows) if made.shuffle else jnp.arange(rows, dtype=jnp.int32)
    order = filled(order, batches, size)

    def one(j: Array, now: Progress) -> Progress:
        return _step(made, now, nth(part, order, j, size), jax.random.fold_in(key, j), j)

    start = _max(jnp.where(s.active, s.step, 0))
    stop = start + jnp.minimum(batches - start, left)
    now = lax.fori_loop(start, stop, one, now)
    blank = jax.tree.map(lambda h: h[0], _blank_history(1, s.params, made.metrics, data.validation is not None))
    s, row = lax.cond(
        stop == batches,
        lambda s: _end_epoch(made, s, data.validation, going),
        lambda s: (s, blank),
        _after(s, now, going, stop),
    )
    return s, row, stop - start, stop == batches


def _after(s: TrainState, now: Progress, going: Array, step: Array) -> TrainState:
    """The run's state after these steps; where it diverged, the epoch under way is given up."""
    active = jnp.where(going, now.active, s.active)
    return s._replace(
        params=now.params,
        state=now.state,
        optimizer=now.optimizer,
        sums=jax.tree.map(lambda total: jnp.where(active, total, 0), now.sums),
        step=jnp.where(active, step, 0),
        active=active,
        diverged=jnp.where(now.bad_step >= 0, jnp.stack([s.epoch, now.bad_step]), s.diverged),
    )


def _step(made: Parts, now: Progress, batch: Batch, key: Key, j: Array) -> Progress:
    """One update of the weights; undone where its result is not finite, or where the run has stopped."""
    g = made.gradient(now.params, now.state, batch.x, batch.t, batch.weight, key, batch.train)
    with jax.numpy_dtype_promotion("standard"):  # optax mixes its integer step count with floats
        updates, optimizer = made.optimizer.update(g.grads, now.optimizer, now.params)
        params = optax.apply_updates(now.params, updates)

    finite = jnp.isfinite(g.total) & _all_finite(params)
    go = now.active & finite
    if batch.weight is not None:
        go = go & (g.weight > 0)  # a batch whose rows all weigh nothing is no step: momentum must not move either
    params, state, optimizer = _where(go, (params, g.state, optimizer), (now.params, now.state, now.optimizer))
    sums = Sums(g.total, g.weight, metric_sums(made.metrics, g.outputs, batch.t, batch.weight))
    sums = _where(now.active, jax.tree.map(jnp.add, now.sums, sums), now.sums)
    bad_step = jnp.where(now.active & ~finite, j, now.bad_step)
    return Progress(params, state, optimizer, sums, now.active & finite, bad_step)


def _end_epoch(made: Parts, s: TrainState, validation: Part | None, going: Array) -> tuple[TrainState, History]:
    """Means over the epoch, validation, the best parameters so far, patience."""
    whole_epoch = going & s.active  # else there is nothing to count: it had stopped, or it diverged on the way
    loss, means = _means(s.sums, made.reduction)
    row = History(loss, means, None, {})
    end = s._replace(
        epoch=s.epoch + whole_epoch.astype(jnp.int32), step=jnp.int32(0), sums=jax.tree.map(jnp.zeros_like, s.sums)
    )
    if validation is not None:
        value, means = _means(_evaluate(made, s, validation), made.reduction)
        row = row._replace(validation_loss=value, validation_metrics=means)
        better = whole_epoch & (value < s.best_value - s.settings.get("min_delta", 0.0))
        wait = jnp.where(whole_epoch, jnp.where(better, 0, s.wait + 1), s.wait)
        end = end._replace(
            best=_where(better, (s.params, s.state), s.best),
            best_value=jnp.where(better, value, s.best_value),
            best_epoch=jnp.where(better, s.epoch, s.best_epoch),
            wait=wait,
            active=s.active & (wait.astype(value.dtype) < s.settings.get("patience", jnp.inf)),
        )
    row = jax.tree.map(lambda value: jnp.where(whole_epoch, value, jnp.nan), row)
    return end, row


def _evaluate(made: Parts, s: TrainState, part: Part) -> Sums:
    """Sums of the loss and the metrics over all rows of a part, as in prediction."""

    def measured(batch: Batch) -> Sums:
        y, _, _ = made.net.forward(s.params, s.state, batch.x, None, False)
        total, count = weighted_sum(row_values("loss", made.loss, y, batch.t), batch.weight)
        return Sums(total, count, metric_sums(made.metrics, y, batch.t, batch.weight))

    rows = part.x.shape[0]
    size, batches = sizes(rows, VALIDATION_ROWS)
    if batches == 1:
        return measured(whole(part))
    order = filled(jnp.arange(rows, dtype=jnp.int32), batches, size)
    every = lax.map(lambda j: measured(nth(part, order, j, size)), jnp.arange(batches, dtype=jnp.int32))
    return jax.tree.map(lambda a: a.sum(0), every)


# ---- small things


def given(name: str, thing: Any, kind: type, settings: Mapping[str, Any]) -> Any:
    """A part of the run, which may be given as a function of the settings."""
    if thing is None or isinstance(thing, kind):
        return thing
    if getattr(thing, "is_factory", False) or str(getattr(thing, "__module__", "")).startswith("optax."):
        raise TypeError(f"{name}: expected a {kind.__name__}, got the factory {thing.__name__}. Do call it.")
    if not callable(thing):
        raise TypeError(f"{name}: expected a {kind.__name__}, got {type(thing).__name__}. Do pass one.")
    made = made_of(thing, settings)
    if not isinstance(made, kind):
        raise TypeError(
            f"{name}: expected a {kind.__name__}, got a function of the settings that makes {type(made).__name__}. "
            "Do return one."
        )
    return made


def made_of(function: Callable[..., Any], settings: Mapping[str, Any]) -> Any:
    """What a function of the settings makes; a setting that it misses is named."""
    try:
        return function(settings)
    except KeyError as missing:
        raise ValueError(
            f"settings: expected a number named {missing}, got {sorted(settings)}. Do pass settings={{{missing}: …}}."
        ) from None


def given_loss(loss: Any, settings: Mapping[str, Any]) -> Loss:
    """A loss, or a function of outputs and targets, or a function of the settings that makes either."""
    if not isinstance(loss, Loss) and callable(loss) and not getattr(loss, "is_factory", False):
        required = [p for p in inspect.signature(loss).parameters.values() if p.default is p.empty]
        loss = made_of(loss, settings) if len(required) == 1 else loss
    return as_loss(loss)


def _means(sums: Sums, reduction: str) -> tuple[Array, dict[str, Array]]:
    count = jnp.maximum(sums.weight, jnp.finfo(sums.weight.dtype).tiny)
    loss = sums.loss if reduction == "sum" else sums.loss / count
    return loss, {name: total / count.astype(total.dtype) for name, total in sums.metrics.items()}


def _zero_sums(params: Params, metrics: dict[str, Any]) -> Sums:
    zero = jnp.zeros((), _dtype(params))
    return Sums(zero, zero, dict.fromkeys(metrics, zero))


def _blank_history(epochs: int, params: Params, metrics: dict[str, Any], validates: bool) -> History:
    blank = jnp.full(epochs, jnp.nan, _dtype(params))
    names = dict.fromkeys(metrics, blank)
    return History(blank, names, blank if validates else None, names if validates else {})


def _dtype(params: Params) -> Any:
    """The dtype of the numbers of a run: that of its parameters, or the default where there are none."""
    leaves = jax.tree.leaves(params)
    return leaves[0].dtype if leaves else jnp.result_type(float)


def _where(condition: Array, new: Any, old: Any) -> Any:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), new, old)


def _all_finite(tree: Any) -> Array:
    return reduce(jnp.logical_and, [jnp.isfinite(a).all() for a in jax.tree.leaves(tree)], jnp.asarray(True))


@jax.custom_batching.custom_vmap
def _any(condition: Array) -> Array:
    """`condition`; under `vmap`, whether any member's holds, so that a loop's condition stays a scalar."""
    return condition


@_any.def_vmap
def _any_of_members(size: int, batched: Any, condition: Array) -> Any:
    return _any(condition.any(0)), False


@jax.custom_batching.custom_vmap
def _max(value: Array) -> Array:
    """`value`; under `vmap` the largest of the members'. All that are active stand at the same step."""
    return value


@_max.def_vmap
def _max_of_members(size: int, batched: Any, value: Array) -> Any:
    return _max(value.max(0)), False

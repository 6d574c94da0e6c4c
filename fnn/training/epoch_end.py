"""The end of an epoch: means over its rows, validation, the best parameters so far, patience. All in the program."""

import jax
import jax.numpy as jnp
from jax import lax

from fnn.arguments.leaves import row_size
from fnn.kernels.operations import where
from fnn.layers.passes import forward_layer
from fnn.losses.aggregation import JOINT, collect_batch, join_batch, metric_figures, metric_sums
from fnn.losses.reduction import row_values, weighted_sum
from fnn.optimizers.evaluation import evaluation_params, has_evaluation_params, stop_flag
from fnn.runs import History, RunningSums, TrainState
from fnn.training.batches import Batch, add_sums, batch_at, batch_sizes, full_batch, pad_order, padded_rows
from fnn.training.config import TrainerConfig
from fnn.training.layout import gather_params, keep_whole, split_rows
from fnn.training.state import blank_sums, tree_where, zero_sums
from fnn.training.statistics import EpochBatches, estimate_statistics
from fnn.types import Array, Part

VALIDATION_ROWS = 4_096  # evaluated at once
IN_CACHE = 2**17  # numbers in the rows evaluated at once on a CPU, so that what is computed of them stays in the cache


def end_epoch(
    config: TrainerConfig, s: TrainState, validation: Part | None, running: Array, batches: EpochBatches
) -> tuple[TrainState, History]:
    """The state and the history row at the end of an epoch; `batches` are those that it trained on."""
    whole_epoch = running & s.active  # else there is nothing to count: it had stopped, or it diverged on the way
    loss, means = _figures(config, s.sums)
    row = History(loss, means, None, {})
    end = s._replace(  # a member that does not go on in this call may stand within its epoch: it stays there
        epoch=s.epoch + whole_epoch.astype(jnp.int32),
        step=where(running, 0, s.step),
        sums=jax.tree.map(lambda total: where(running, 0, total), s.sums),
    )
    ended = stop_flag(s.optimizer)
    if ended is not None:
        end = end._replace(active=end.active & ~(whole_epoch & ended))
    predicting = _predicting(config, s, batches) if validation is not None or has_evaluation_params(s.optimizer) else s
    if validation is None and predicting is not s:
        split = config.layout is not None
        end = end._replace(best=tree_where(whole_epoch, (predicting.params, predicting.state), s.best, split))
    if validation is not None:
        s = predicting._replace(active=end.active)
        value, means = _figures(config, _validate(config, s, validation))
        row = row._replace(validation_loss=value, validation_metrics=means)
        monitored = value if config.monitor == "loss" else means[config.monitor]
        # rows chosen from a table are those of a fold, which is judged by its last epoch
        end = _update_best(config, s, end, monitored, whole_epoch, keeps_last=validation.view is not None)
    row = jax.tree.map(lambda value: where(whole_epoch, value, jnp.nan), row)
    return end, row


def _predicting(config: TrainerConfig, s: TrainState, batches: EpochBatches) -> TrainState:
    """The state with the parameters to predict with, and with the statistics of layers that go with them."""
    if not has_evaluation_params(s.optimizer):
        return s
    params = evaluation_params(s.optimizer, s.params)
    whole = gather_params(config.layout, params)
    return s._replace(params=params, state=estimate_statistics(config.net, whole, s.state, batches))


def _update_best(
    config: TrainerConfig, s: TrainState, end: TrainState, value: Array, whole_epoch: Array, keeps_last: bool
) -> TrainState:
    """Whether these are the best parameters so far, and whether that has taken too long; NaN is never the best.

    Parameters to predict with that are not those being trained are kept after every epoch with `keeps_last`: their
    statistics of layers are nowhere else.
    """
    value = value.astype(s.best_value.dtype)
    least, patience = (
        jnp.asarray(s.settings.get(name, default), value.dtype)
        for name, default in (("min_delta", 0.0), ("patience", jnp.inf))
    )
    better = value > s.best_value + least if config.mode == "max" else value < s.best_value - least
    better = whole_epoch & better
    kept = better  # an average is the best there is until a better one comes, whatever its value
    if has_evaluation_params(s.optimizer):
        kept = whole_epoch if keeps_last else better | (whole_epoch & (s.best_epoch < 0))
    wait = where(whole_epoch, where(better, 0, s.wait + 1), s.wait)
    return end._replace(
        best=tree_where(kept, (s.params, s.state), s.best, config.layout is not None),
        best_value=where(better, value, s.best_value),
        best_epoch=where(better, s.epoch, s.best_epoch),
        wait=wait,
        active=s.active & (wait.astype(value.dtype) < patience),
    )


def _validate(config: TrainerConfig, s: TrainState, part: Part) -> RunningSums:
    """Sums of the loss and the metrics over all rows of a part, as in prediction."""
    metrics = dict(config.metrics)

    def measure(batch: Batch) -> RunningSums:
        batch = split_rows(config.layout, batch)
        y, _, _ = forward_layer(config.net, params, s.state, batch.x, None, False)
        total, count = weighted_sum(row_values("loss", config.loss, y, batch.t), batch.weight)
        collected = keep_whole(config.layout, collect_batch(metrics, y, batch.t, batch.weight))
        return RunningSums(total, count, metric_sums(metrics, y, batch.t, batch.weight), (), collected)

    def add(j: Array, sums: RunningSums) -> RunningSums:
        more = measure(batch_at(part, order, j, size))
        added = add_sums(sums, more)
        if not more.collected:
            return added
        return added._replace(collected=join_batch(metrics, sums.collected, more.collected, j))

    rows, params = padded_rows(part), gather_params(config.layout, s.params)
    size, batches = batch_sizes(rows, _validation_batch_size(part))
    if batches == 1:
        return measure(full_batch(part))
    order = pad_order(jnp.arange(rows, dtype=jnp.int32), batches, size)
    if any(isinstance(metric, JOINT) for metric in metrics.values()):
        first = jax.eval_shape(lambda: measure(batch_at(part, order, jnp.int32(0), size)))
        none = blank_sums(s.params, metrics, first.metrics, first.collected, size * batches)
    else:
        none = zero_sums(s.params, config.metric_names)
    made: RunningSums = lax.fori_loop(0, batches, add, none)
    return made


def _validation_batch_size(part: Part) -> int:
    if jax.default_backend() != "cpu":
        return VALIDATION_ROWS
    return min(VALIDATION_ROWS, max(64, IN_CACHE // max(1, row_size(part.x))))


def _figures(config: TrainerConfig, sums: RunningSums) -> tuple[Array, dict[str, Array]]:
    """Means over rows and figures of them, NaN where no row counts: nothing was measured, and 0 may be the best."""
    weight = where(sums.weight > 0, sums.weight, jnp.nan)
    loss = sums.loss if config.reduction == "sum" else sums.loss / weight
    figures = metric_figures(dict(config.metrics), sums, weight)
    return where(sums.weight > 0, loss, jnp.nan), figures

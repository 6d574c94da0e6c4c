"""Where a run became nan or inf: found afterwards, by doing the bad step again, so that it costs no other anything."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from fnn.losses.reduction import row_values
from fnn.training.batches import Batch, batch_at, batch_sizes, full_batch
from fnn.training.config import BoundConfig, TrainerConfig, bind
from fnn.training.fused_loop import row_order
from fnn.training.state import mask_nonfinite
from fnn.types import Array, Data, TrainState


def describe(
    recipe: TrainerConfig, state: TrainState, rows: Data | None, settings: Mapping[str, Any], held: Any = None
) -> str | None:
    """What happened, and where, if the run has diverged.

    Args:
        recipe: what the run was made of.
        state: its end: that before the bad step, which was undone.
        rows: what it trained on; None where they came in a stream, and are gone.
        settings: those to show.
        held: which rows of the user's data are not among them.
    """
    epoch, step = np.asarray(state.diverged).tolist()
    if epoch < 0:
        return None
    what = "" if rows is None else f": {_first_bad(recipe, state, rows, held)}"
    look = "look for it in the chunks" if rows is None else "look at that row"
    return (
        f"training: expected finite numbers, got nan or inf in epoch {epoch}, step {step} (both counted from 0), "
        f"settings {dict(settings)}{what}. The parameters from before that step are kept. "
        f"Lower the learning rate, clip the gradient (optax.clip_by_global_norm), or {look}."
    )


def _first_bad(recipe: TrainerConfig, state: TrainState, rows: Data, held: Any) -> str:
    """The first thing that was not finite, in the order in which a step computes them."""
    losses, at, *trees = jax.jit(_bad_step(recipe))(state, rows)
    losses, at = np.asarray(losses), np.asarray(at)
    bad = ~np.isfinite(losses)
    if bad.any():
        first, count = np.argmax(bad), len(rows.train.x)
        numbers = np.arange(count) if held is None else np.setdiff1d(np.arange(count + len(held)), held)
        of = f"{int(bad.sum())} of the batch's {len(bad)} rows, the first is row {numbers[at[first]]} of the data"
        return f"the cost itself, {losses[first]} in {of}"
    names = ("the derivative by params", "the update of params", "params", "the layer state")
    for what, tree in zip(names, trees, strict=True):
        for way, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
            if not np.isfinite(np.asarray(leaf)).all():
                return f"{what}{jax.tree_util.keystr(way)}"
    return "the sum of the costs, which is beyond the largest number"


def _bad_step(recipe: TrainerConfig) -> Callable[[TrainState, Data], Any]:
    """The step as `train` does it, but that it hands out what it computes on the way."""

    def again(s: TrainState, data: Data) -> tuple[Any, ...]:
        made, j = bind(recipe, s.settings), s.diverged[1]
        batch, at, key = _batch(made, s, data, j)
        g = made.gradient(s.params, s.state, batch.x, batch.t, batch.weight, key, batch.train)
        with jax.numpy_dtype_promotion("standard"):
            updates, _ = made.optimizer.update(g.grads, s.optimizer, s.params)
            params = optax.apply_updates(s.params, updates)
        losses = row_values("loss", made.loss, g.outputs, batch.t)
        losses = losses if batch.weight is None else jnp.where(batch.weight > 0, losses, 0.0)
        return losses, at, g.grads, updates, params, mask_nonfinite(g.state, s.state)

    return again


def _batch(made: BoundConfig, s: TrainState, data: Data, j: Array) -> tuple[Batch, Array, Any]:
    """The batch of that step, which rows they are, and the step's key."""
    rows = data.train.x.shape[0]
    size, batches = batch_sizes(rows, made.batch_size)
    key = jax.random.fold_in(jax.random.wrap_key_data(s.key), s.epoch)
    if batches == 1:
        return full_batch(data.train), jnp.arange(rows, dtype=jnp.int32), key
    order = row_order(made, s, data.train)
    at = jax.lax.dynamic_slice_in_dim(order, j * size, size)
    return batch_at(data.train, order, j, size), at, jax.random.fold_in(key, j)

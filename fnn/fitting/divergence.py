"""Where a run became nan or inf: found afterwards, by doing the bad step again, so that it costs no other anything."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnn.arguments.leaves import row_count
from fnn.compilation.frozen import freeze
from fnn.losses.reduction import row_values
from fnn.runs import TrainState
from fnn.training.batches import Batch, batch_sizes
from fnn.training.config import TrainerConfig, bind
from fnn.training.fused_loop import batches_of_epoch, compute_step, row_order
from fnn.training.state import mask_nonfinite
from fnn.types import Array, Data, Key


def describe(
    config: TrainerConfig, state: TrainState, rows: Data | None, settings: Mapping[str, Any], held: Any = None
) -> str | None:
    """What happened, and where, if the run has diverged.

    Args:
        config: what the run was made of.
        state: its end: that before the bad step, which was undone.
        rows: what it trained on; None where they came in a stream, and are gone.
        settings: those to show.
        held: which rows of the user's data are not among them.
    """
    epoch, step = np.asarray(state.diverged).tolist()
    if epoch < 0:
        return None
    what = "" if rows is None else f": {_first_bad(config, state, rows, held)}"
    look = "look for it in the chunks" if rows is None else "look at that row"
    return (
        f"training: expected finite numbers, got nan or inf in epoch {epoch}, step {step} (both counted from 0), "
        f"settings {dict(settings)}{what}. The parameters from before that step are kept. "
        f"Lower the learning rate, clip the gradient (optax.clip_by_global_norm), or {look}."
    )


def _first_bad(config: TrainerConfig, state: TrainState, rows: Data, held: Any) -> str:
    """The first thing that was not finite, in the order in which a step computes them."""
    losses, at, *trees = freeze(_replay_step(config), (state, rows)).jit()(state, rows)
    losses, at = np.asarray(losses), np.asarray(at)
    bad = ~np.isfinite(losses)
    if bad.any():
        first, count = np.argmax(bad), row_count(rows.train.x)
        numbers = np.arange(count) if held is None else np.setdiff1d(np.arange(count + len(held)), held)
        of = f"{int(bad.sum())} of the batch's {len(bad)} rows, the first is row {numbers[at[first]]} of the data"
        return f"the cost itself, {losses[first]} in {of}"
    names = ("the derivative by params", "the update of params", "params", "the layer state")
    for what, tree in zip(names, trees, strict=True):
        for way, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
            if not np.isfinite(np.asarray(leaf)).all():
                return f"{what}{jax.tree_util.keystr(way)}"
    return "the sum of the costs, which is beyond the largest number"


def _replay_step(config: TrainerConfig) -> Callable[[TrainState, Data], Any]:
    """Return the step as the loop does it, with all that it computes on the way."""

    def again(s: TrainState, data: Data) -> tuple[Any, ...]:
        bound, j = bind(config, s.settings), s.diverged[1]
        batch, at, key = _batch_of(bound, s, data, j)
        g, updates, params, _ = compute_step(bound, s.params, s.state, s.optimizer, batch, key)
        losses = row_values("loss", bound.loss, g.outputs, batch.t)
        losses = losses if batch.weight is None else jnp.where(batch.weight > 0, losses, 0.0)
        return losses, at, g.grads, updates, params, mask_nonfinite(g.state, s.state)

    return again


def _batch_of(config: TrainerConfig, s: TrainState, data: Data, j: Array) -> tuple[Batch, Array, Key]:
    """The batch of that step, which rows they are, and the step's key."""
    size, _ = batch_sizes(row_count(data.train.x), config.batch_size)
    at = jax.lax.dynamic_slice_in_dim(row_order(config, s, data.train), j * size, size)
    batch, key = batches_of_epoch(config, s, data.train)(j)
    return batch, at, key

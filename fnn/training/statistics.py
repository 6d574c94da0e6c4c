"""Statistics of layers (batch norm) for other parameters than those trained: what they are on the training rows."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from fnn.arguments.leaves import row_count
from fnn.layers.passes import forward_layer
from fnn.training.batches import Batch
from fnn.types import Array, Key, Layer, Params, Rows, State


class EpochBatches(NamedTuple):
    """Batches `first` up to `stop` of an epoch, and how to make them: `of(j) -> (batch, key)`."""

    of: Callable[[Array], tuple[Batch, Key]]
    first: Any
    stop: Any


def estimate_statistics(net: Layer, params: Params, state: State, batches: EpochBatches) -> State:
    """The layer state for these parameters: the mean over batches of what each batch alone would have it be.

    A running statistic is `s <- m s + (1 - m) b`, where `b` is the batch's own. `m` is its derivative by `s`, and
    `b = (s <- 0) / (1 - m)`. A number that is not of this kind stays as it is. A batch of filling alone, as a fold
    with fewer rows than the others has, does not count.
    """
    floating = [jnp.issubdtype(a.dtype, jnp.floating) for a in jax.tree.leaves(state)]
    if not any(floating):
        return state
    structure: Any = jax.tree.structure(state)
    leaves = jax.tree.leaves(state)
    zeros = [jnp.zeros_like(a) for a, is_one in zip(leaves, floating, strict=True) if is_one]

    def of_batch(j: Array) -> tuple[list[Array], list[Array], Array]:
        batch, key = batches.of(j)

        def after(statistics: list[Array]) -> list[Array]:
            numbers = iter(statistics)
            filled = [next(numbers) if is_one else a for a, is_one in zip(leaves, floating, strict=True)]
            whole = jax.tree.unflatten(structure, filled)
            made = jax.tree.leaves(forward_layer(net, params, whole, batch.x, key, batch.train)[1])
            return [a for a, is_one in zip(made, floating, strict=True) if is_one]

        at_zero, kept = jax.jvp(after, (zeros,), ([jnp.ones_like(a) for a in zeros],))
        rows = batch.train.mask.sum() if isinstance(batch.train, Rows) else jnp.asarray(row_count(batch.x))
        return at_zero, kept, rows.astype(jnp.result_type(float))

    def add(j: Array, sums: Any) -> Any:
        at_zero, kept, rows = of_batch(j)
        share = [jnp.where(_is_running(m), 1.0 - m, 1.0) for m in kept]
        more = [jnp.where(rows > 0, rows.astype(b.dtype) * b / by, 0) for b, by in zip(at_zero, share, strict=True)]
        total = [s + b for s, b in zip(sums[0], more, strict=True)]
        running = [was & (_is_running(m) | (rows == 0)) for was, m in zip(sums[1], kept, strict=True)]
        return total, running, sums[2] + rows

    start = zeros, [jnp.ones(a.shape, bool) for a in zeros], jnp.zeros((), jnp.result_type(float))
    total, running, rows = lax.fori_loop(batches.first, batches.stop, add, start)
    means = iter([s / jnp.maximum(rows, 1.0).astype(s.dtype) for s in total])
    known = iter([was & (rows > 0) for was in running])
    filled = [
        jnp.where(next(known), next(means), a) if is_one else a for a, is_one in zip(leaves, floating, strict=True)
    ]
    made: State = jax.tree.unflatten(structure, filled)
    return made


def _is_running(kept: Array) -> Array:
    return (kept >= 0) & (kept < 1)

"""Tables of embeddings: their rows that a batch does not have stay as they are, in momentum and decay too."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from fnn.arguments import describe_thing
from fnn.layers.embedding import TABLE
from fnn.optimizers.protocol import takes
from fnn.types import Array, OptimizerState, Params

Path = Sequence[object]


def only_seen_rows(optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
    """An optimizer that leaves rows of embedding tables alone which the batch does not have: `only_seen_rows(adam)`.

    For a row of a `table` (`fnn.embedding`) whose derivative in this step is 0 throughout, the update is 0, and what
    the optimizer keeps for the row (its momentum, its moments) stays as it is: no momentum, no decay. So rare
    categories are not pulled towards 0 while they are not seen, and their moments are those of the steps that they were
    in. Everything else is updated as `optimizer` does. Steps are counted for all rows alike, as in PyTorch's
    `SparseAdam`.

    A penalty in `fit` has a derivative by every row, so that all count as seen: use an optimizer with weight decay in
    its place. `optax.MultiSteps` belongs around it, not in it.

    Args:
        optimizer: whose state has for each table an array of its shape, or none, as those of optax have except
            `adafactor` and other factored ones, whose factors move in every step.

    Raises:
        TypeError: it is no optimizer.

    >>> import fnn, jax.numpy as jnp, optax
    >>> params = {"table": jnp.ones((3, 2))}
    >>> gradient = {"table": jnp.array([[0.0, 0.0], [2.0, 2.0], [0.0, 0.0]])}
    >>> for optimizer in (optax.chain(optax.add_decayed_weights(0.5), optax.sgd(0.1, momentum=0.9)), optax.sgd(0.1)):
    ...     optimizer = fnn.optimizers.only_seen_rows(optimizer)
    ...     updates, _ = optimizer.update(gradient, optimizer.init(params), params)
    ...     print(updates["table"][:, 0].round(3))
    [ 0.   -0.25  0.  ]
    [ 0.  -0.2  0. ]
    """
    if not isinstance(optimizer, optax.GradientTransformation):
        got = describe_thing(optimizer)
        raise TypeError(f"only_seen_rows: expected an optimizer of optax, got {got}. Write optax.adam(1e-3), say.")

    def update(
        grads: Params, state: OptimizerState, params: Params = None, **cost: Any
    ) -> tuple[Params, OptimizerState]:
        seen = {
            tuple(path): jnp.any(leaf != 0, tuple(range(1, leaf.ndim)), keepdims=True)
            for path, leaf in jax.tree.leaves_with_path(grads)
            if path and getattr(path[-1], "key", None) == TABLE
        }
        updates, new_state = optimizer.update(grads, state, params, **cost)
        updates = jax.tree.map_with_path(lambda path, u: _choose_rows(seen, path, u, jnp.zeros_like(u)), updates)
        return updates, jax.tree.map_with_path(lambda path, *both: _choose_rows(seen, path, *both), new_state, state)

    def update_by_gradient(
        grads: Params, state: OptimizerState, params: Params = None
    ) -> tuple[Params, OptimizerState]:
        return update(grads, state, params)

    if takes(optimizer):
        return optax.GradientTransformationExtraArgs(optimizer.init, update)
    return optax.GradientTransformation(optimizer.init, update_by_gradient)


def _choose_rows(seen: Mapping[tuple[object, ...], Array], path: Path, new: Array, old: Array) -> Array:
    """`new` in the rows seen and `old` in the others, if this is of a table: its path ends with the table's.

    Of two tables whose paths both fit, `1/0/table` and `0/table`, it is the one with the longer path.
    """
    for table in sorted(seen, key=len, reverse=True):
        if tuple(path[-len(table) :]) == table and new.ndim > 1 and len(new) == len(seen[table]):
            return jnp.where(seen[table], new, old)
    return new

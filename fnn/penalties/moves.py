"""Weights that become 0 and cease to be 0, step by step, as they do where gradients of mini-batches differ."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fnn.types import Array, OptimizerState, Params

MEMORY = 0.99  # of the average: about 100 steps
RESTLESS = 0.05  # of the weights that are not 0; if more come and go per step, it is said


class Moves(NamedTuple):
    """`moved`: how many weights became 0 or ceased to be 0 per step, averaged; `kept`: how many are not 0 now."""

    moved: Array
    kept: Array


def no_moves() -> Moves:
    """Before the first step."""
    return Moves(jnp.zeros((), jnp.float32), jnp.zeros((), jnp.float32))


def count_moves(moves: Moves, before: Params, after: Params) -> Moves:
    """Those of one more step."""

    def count(tree: Any) -> Array:
        counts = [jnp.count_nonzero(a).astype(jnp.float32) for a in jax.tree.leaves(tree)]
        return sum(counts, start=jnp.zeros((), jnp.float32))

    moved = count(jax.tree.map(lambda a, b: (a == 0) != (b == 0), before, after))
    return Moves(MEMORY * moves.moved + (1 - MEMORY) * moved, count(after))


def restless_text(optimizer_state: OptimizerState, rows: int) -> str | None:
    """What to say of a run whose weights come and go, with batches of so many rows; None: nothing.

    >>> import fnn, jax.numpy as jnp
    >>> from fnn.penalties.moves import restless_text
    >>> print(restless_text(fnn.penalties.fista(0.1).init({"w": jnp.zeros(2)}), 32))
    None
    """
    leaves = jax.tree.leaves(optimizer_state, is_leaf=lambda node: isinstance(node, Moves))
    for moved, kept in (map(float, leaf) for leaf in leaves if isinstance(leaf, Moves)):
        if moved >= 1 and moved > RESTLESS * kept:
            return (
                f"optimizer: expected weights that stay 0, got {moved:.0f} that become 0 or cease to be 0 per step, "
                f"with {kept:.0f} that are not 0: gradients of batches of {rows} rows differ by more than alpha. "
                "Leave batch_size out, for all rows at once, or pass a larger one."
            )
    return None

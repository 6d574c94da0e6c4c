"""A run in segments of about half a second, so that the host can do what only a host can between them.

Whatever yields `Segment`s may stand in the place of `segments`: another source of rows, larger than memory, say.
"""

import time
from collections.abc import Callable, Generator
from typing import Any, NamedTuple

import jax
import numpy as np

from fnn.batches import sizes
from fnn.train import LONGEST_HISTORY
from fnn.types import Data, History, TrainState

SEGMENT_SECONDS = 0.5


class Segment(NamedTuple):
    """What one compiled call did. The next one donates `state`: use it, or copy it, before asking for that."""

    state: TrainState
    history: History  # of the epochs that ended in it, NumPy
    rows_a_second: float


def segment_seconds(between: float | None) -> float:
    """How long a segment should take where checkpoints are so many seconds apart; None: there are none."""
    return SEGMENT_SECONDS if between is None else min(SEGMENT_SECONDS, max(between, SEGMENT_SECONDS / 10))


def segments(
    run: Callable[..., Any],
    state: TrainState,
    rows: Data,
    epochs: int,
    batch_size: int | None,
    seconds: float,
) -> Generator[Segment, None, None]:
    """Go on with a run until so many epochs are done, or it has stopped. The first segment only compiles.

    Where there is nothing to do it yields nothing, and compiles nothing.

    Args:
        run: a compiled `Trainer.run`.
        state: where to begin; donated.
        epochs: counted from the run's beginning, those that `state` has behind it included.
        seconds: how long a segment should take; a part of an epoch where an epoch is longer.
    """
    size, batches = sizes(len(rows.train.x), batch_size)
    weights = sum(a.size for a in jax.tree.leaves(state.params))
    seconds_a_step = 1e-5 + 6 * weights * size / 2e9  # a guess for the first segment, measured from then on
    steps = max(1, int(0.1 * seconds / seconds_a_step))
    done, step = int(state.epoch), int(state.step)
    if done >= epochs or not bool(state.active):
        return
    state, history = run(state, rows, 0, 0)  # compiles, and runs nothing
    yield Segment(state, _taken(history, 0), 0.0)
    while done < epochs and bool(state.active):
        begun = time.perf_counter()
        room = min(epochs - done, LONGEST_HISTORY)
        state, history = run(state, rows, room, min(steps, room * batches))
        ended, now = int(state.epoch), int(state.step)  # waits for the end
        elapsed = time.perf_counter() - begun
        taken = max(1, (ended - done) * batches + now - step)
        steps = max(1, int(seconds * taken / elapsed))
        yield Segment(state, _taken(history, ended - done), taken * size / elapsed)
        done, step = ended, now


def _taken(history: History, epochs: int) -> History:
    # a copy: a view would keep the room of LONGEST_HISTORY epochs alive
    return jax.tree.map(lambda h: np.asarray(h)[:epochs].copy(), history)


def joined(pieces: list[History]) -> History:
    """The histories one after another."""
    return jax.tree.map(lambda *parts: np.concatenate(parts), *pieces)

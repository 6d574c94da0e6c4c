"""A run in segments of about half a second, so that the host can do what only a host can between them.

Whatever yields `Segment`s may stand in the place of `segments`: another source of rows, larger than memory, say.
"""

import contextlib
import time
from collections.abc import Callable, Generator, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from fnn.runs import History, TrainState
from fnn.training.batches import batch_sizes, padded_rows
from fnn.training.fused_loop import LONGEST_HISTORY
from fnn.types import Data

SEGMENT_SECONDS = 0.5


@contextlib.contextmanager
def without_debug_nans() -> Iterator[None]:
    """What JAX is set to watch for, left aside while a run goes on.

    - `jax_debug_nans`, `jax_debug_infs`: histories have nan where nothing has been yet, and what becomes nan or inf is
      found anyway, with epoch, step and row.
    - `jax_transfer_guard`: numbers that say how far to go are handed over between segments on purpose.
    """
    with jax.debug_nans(False), jax.debug_infs(False), jax.transfer_guard("allow"):
        yield


class Segment(NamedTuple):
    """What one compiled call did. The next one donates `state`: use it, or copy it, before asking for that."""

    state: TrainState
    history: History  # of the epochs that ended in it, NumPy
    rows_per_second: float


def segment_seconds(between: float | None) -> float:
    """How long a segment should take where checkpoints are so many seconds apart; None: there are none."""
    return SEGMENT_SECONDS if between is None else min(SEGMENT_SECONDS, max(between, SEGMENT_SECONDS / 10))


class Pace:
    """How many steps a segment should have, so that it takes so many seconds: one at first, then as measured."""

    def __init__(self, seconds: float, seconds_per_step: float | None = None) -> None:
        self.seconds, self.seconds_per_step = seconds, seconds_per_step
        self.agreed: int | None = None  # steps that several processes have agreed on

    def measure(self, seconds: float, steps: int) -> None:
        """Take a segment of so many seconds and steps as the measure of the next."""
        self.seconds_per_step = seconds / steps

    @property
    def steps(self) -> int:
        """Of the next segment."""
        return self.agreed or self.own_steps

    @property
    def own_steps(self) -> int:
        """Of the next segment, as this process has measured."""
        return max(1, int(self.seconds / (self.seconds_per_step or self.seconds)))


def segments(
    run: Callable[..., Any],
    state: TrainState,
    rows: Data,
    epochs: int,
    batch_size: int | None,
    pace: Pace,
    longest: int = LONGEST_HISTORY,
) -> Generator[Segment, None, None]:
    """Go on with a run until so many epochs are done, or it has stopped.

    The first segment only compiles, unless the pace is known. Where there is nothing to do it yields nothing, and
    compiles nothing.

    Args:
        run: a compiled `Trainer.run`, or one that `vmap` has made many of: then the state has a leading axis, and so
            has the history. Those that are active stand at the same step.
        state: where to begin; donated.
        rows: the data.
        epochs: counted from the run's beginning, those that `state` has behind it included.
        batch_size: rows per step.
        pace: how long a segment should take; a part of an epoch where an epoch is longer.
        longest: how many epochs the history of `run` has room for.
    """
    size, batches = batch_sizes(padded_rows(rows.train), batch_size)
    done, step, members, active = position(state)
    if done >= epochs or not active:
        return
    if pace.seconds_per_step is None:
        state, history = run(state, rows, np.int32(0), np.int32(0))  # compiles, and runs nothing
        yield Segment(state, _copy_history(history, 0), 0.0)
    while done < epochs and active:
        begin = time.perf_counter()
        most = min(epochs - done, longest)
        state, history = run(state, rows, np.int32(most), np.int32(min(pace.steps, most * batches)))
        reached, now, members, active = position(state)  # waits for the end
        seconds = time.perf_counter() - begin
        steps = max(1, (reached - done) * batches + now - step)
        pace.measure(seconds, steps)
        yield Segment(state, _copy_history(history, reached - done), steps * size * members / seconds)
        done, step = reached, now


def position(state: TrainState) -> tuple[int, int, int, bool]:
    """How far a run has come, or the furthest of many: whole epochs, steps of the next; how many; is any active."""
    active = np.asarray(state.active)
    step = np.where(active, np.asarray(state.step), 0)
    return int(np.asarray(state.epoch).max()), int(step.max()), active.size, bool(active.any())


def _copy_history(history: History, epochs: int) -> History:
    # a copy: a view would keep the room of LONGEST_HISTORY epochs alive
    copy: History = jax.tree.map(lambda h: np.asarray(h)[..., :epochs].copy(), history)
    return copy


def concatenate(pieces: list[History]) -> History:
    """The histories one after another."""
    whole: History = jax.tree.map(lambda *parts: np.concatenate(parts, -1), *pieces)
    return whole

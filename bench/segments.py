"""What does it cost to run in segments, between which the host can write a checkpoint, show a bar, hear Ctrl-C?

The 2-3-2 network (100 rows, full batch: microseconds per epoch) and a network on handwritten digits (1,797 rows,
64-64-10, batches of 128): the whole run as one program, against the same in `fit`'s segments, without and with the bar,
and with a function that `on_segment` calls. Asked for: at most 3 % for the segments, 1 % more for the bar, 1 % more for
the function.
"""

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from statistics import median
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import fnn
from bench.output import publish
from bench.step import LOSS, NET, rows
from bench.timing import Make, Timing, in_turn
from fnn.fitting.progress import must_end, progress_bar
from fnn.fitting.segments import SEGMENT_SECONDS, Pace, segments

SECONDS, QUICK_SECONDS = 3.0, 0.6  # about, per run


def digits() -> fnn.Data:
    """Real images if scikit-learn is there, else noise of the same shape: the time is the same."""
    try:
        from sklearn.datasets import load_digits

        x, t = load_digits(return_X_y=True)
    except ImportError:
        x, t = np.random.default_rng(0).uniform(0, 16, (1797, 64)), np.arange(1797) % 10
    return fnn.Data(fnn.Part(jnp.asarray(x / 16, jnp.float32), jnp.asarray(t, jnp.int32)))


def candidates(
    training: fnn.Trainer, data: fnn.Data, batch_size: int | None, epochs: int
) -> dict[str, tuple[Make, int]]:
    """Name -> (what makes the work, epochs)."""
    start = jax.jit(training.init)(jax.random.key(0), data)
    whole = jax.jit(training.run, static_argnums=2, donate_argnums=0)
    part = jax.jit(training.run, donate_argnums=0)

    def fresh() -> Any:
        return jax.tree.map(jnp.copy, start)

    def in_segments(show: Callable[[Any], object]) -> Any:
        for segment in segments(part, fresh(), data, epochs, batch_size, Pace(SEGMENT_SECONDS)):
            show(segment)
        return segment.state

    def with_bar() -> Any:
        with terminal(), progress_bar(True, epochs, 0) as show:
            return in_segments(show)

    def with_function() -> Any:
        losses: list[float] = []

        def note(progress: fnn.Progress) -> None:
            losses.extend(progress.history.loss[-1:].tolist())

        return in_segments(lambda segment: must_end(note, segment, epochs))

    return {
        "bound: one program": (lambda: lambda: whole(fresh(), data, epochs), epochs),
        "segments": (lambda: lambda: in_segments(lambda segment: None), epochs),
        "segments and bar": (lambda: with_bar, epochs),
        "segments and on_segment": (lambda: with_function, epochs),
    }


@contextlib.contextmanager
def terminal() -> Iterator[None]:
    """A terminal in the place of the standard error, which somebody reads."""
    here, there = os.openpty()
    reader = threading.Thread(target=_drain, args=(here,), daemon=True)
    reader.start()
    with os.fdopen(there, "w") as stream, contextlib.redirect_stderr(stream):
        yield
    reader.join()
    os.close(here)


def _drain(here: int) -> None:
    with contextlib.suppress(OSError):  # the other end was closed
        while os.read(here, 65_536):
            pass


def epochs_for(training: fnn.Trainer, data: fnn.Data, seconds: float) -> int:
    """How many epochs take about so long."""
    start = jax.jit(training.init)(jax.random.key(0), data)
    run = jax.jit(lambda: training.run(start, data, 200))
    (timing,) = in_turn({"": (lambda: run, 200)}, 3).timings
    return max(1, int(seconds / timing.middle))


def empty_segment(training: fnn.Trainer, data: fnn.Data) -> float:
    """Seconds of a segment without a step: the call, the room of the history, what the host reads from it."""
    run = jax.jit(training.run, donate_argnums=0)
    state = jax.jit(training.init)(jax.random.key(0), data)
    seconds = []
    for _ in range(50):
        begun = time.perf_counter()
        state, history = run(state, data, 1000, 0)
        _ = int(state.epoch), int(state.step), bool(state.active), jax.tree.map(np.asarray, history)
        seconds.append(time.perf_counter() - begun)
    return median(seconds)


def call_of_function(training: fnn.Trainer, data: fnn.Data) -> float:
    """Seconds that `on_segment` takes of a segment, with a function that does nothing."""
    run, state = jax.jit(training.run, donate_argnums=0), jax.jit(training.init)(jax.random.key(0), data)
    *_, segment = segments(run, state, data, 3, None, Pace(SEGMENT_SECONDS))
    seconds = []
    for _ in range(200):
        begun = time.perf_counter()
        must_end(lambda progress: None, segment, 3)
        seconds.append(time.perf_counter() - begun)
    return median(seconds)


def costs(found: list[Timing], empty: float, call: float) -> dict[str, float]:
    """Segments over one program, bar and function over segments: ratios of medians, and of the quietest quarters."""
    (one, segmented, barred, called), quiet = (
        [timing.middle for timing in found],
        [timing.quartiles[0] for timing in found],
    )
    return {
        "segments over one program": segmented / one,
        "segments over one program, quietest quarters": quiet[1] / quiet[0],
        "bar more": barred / segmented,
        "bar more, quietest quarters": quiet[2] / quiet[1],
        "on_segment more": called / segmented,
        "on_segment more, quietest quarters": quiet[3] / quiet[1],
        "a segment that runs nothing, over half a second": 1 + empty / SEGMENT_SECONDS,
        "a call of on_segment, over half a second": 1 + call / SEGMENT_SECONDS,
    }


def costs_in_words(figures: dict[str, float]) -> str:
    """In percent."""
    segments, quiet, bar, quiet_bar, function, quiet_function, empty, call = (
        100 * (value - 1) for value in figures.values()
    )
    return (
        f"Segments cost {segments:+.1f} % (quietest quarters {quiet:+.1f} %), the bar {bar:+.1f} % more "
        f"({quiet_bar:+.1f} %), on_segment {function:+.1f} % more ({quiet_function:+.1f} %). Of half a second a "
        f"segment that runs nothing takes {empty:.2f} %, a call of on_segment {call:.3f} %."
    )


def measured(
    name: str, network: str, training: fnn.Trainer, data: fnn.Data, size: int | None, rounds: int, quick: bool
) -> str:
    """One network: measure, write JSON and picture, return the table."""
    epochs = epochs_for(training, data, QUICK_SECONDS if quick else SECONDS)
    found = in_turn(candidates(training, data, size, epochs), rounds)
    # the machine's noise is of the size of what is measured, so beside the ratio of medians that of the quietest
    # quarters, and what a segment costs that runs nothing
    figures = costs(found.timings, empty_segment(training, data), call_of_function(training, data))
    question = f"An epoch of {network}: one program, against segments of half a second"
    return f"{publish(name, question, found, 'epoch', quick=quick, figures=figures)}\n{costs_in_words(figures)}"


def main(rounds: int = 15, quick: bool = False) -> str:
    """Measure, write JSON and pictures, return the tables."""
    small = fnn.trainer(NET, LOSS, optax.sgd(0.02, momentum=0.9), reduction="sum")
    if quick:
        return measured("segments_small", "the 2-3-2 network", small, rows(), None, 1, quick)
    net = fnn.serial(fnn.dense(64), fnn.relu, fnn.dense(10))
    large = fnn.trainer(net, fnn.losses.sparse_softmax_cross_entropy, optax.sgd(0.1, momentum=0.9), batch_size=128)
    print(f"(segments: about {2 * 4 * (rounds + 2) * SECONDS / 60:.0f} minutes)", file=sys.stderr)
    tables = [
        measured("segments_small", "the 2-3-2 network", small, rows(), None, rounds, quick),
        measured("segments_digits", "64-64-10 on the digits", large, digits(), 128, rounds, quick),
    ]
    return "\n\n".join(tables)

"""What does it cost to run in segments, between which the host can write a checkpoint, show a bar, hear Ctrl-C?

The 2-3-2 network (100 rows, full batch: microseconds an epoch) and a network on handwritten digits (1,797 rows,
64-64-10, batches of 128): the whole run as one program, against the same in `fit`'s segments, without and with the bar.
Asked for: at most 3 % for the segments, 1 % more for the bar.
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
from bench.step import LOSS, NET, rows
from bench.timing import Timing, in_turn, report, save
from fnn.progress import shown
from fnn.segments import SEGMENT_SECONDS, segments

SECONDS = 3.0  # about, a run


def digits() -> fnn.Data:
    """Real images if scikit-learn is there, else noise of the same shape: the time is the same."""
    try:
        from sklearn.datasets import load_digits

        x, t = load_digits(return_X_y=True)
    except ImportError:
        x, t = np.random.default_rng(0).uniform(0, 16, (1797, 64)), np.arange(1797) % 10
    return fnn.Data(fnn.Part(jnp.asarray(x / 16, jnp.float32), jnp.asarray(t, jnp.int32)))


def candidates(name: str, training: fnn.Trainer, data: fnn.Data, batch_size: int | None, epochs: int) -> dict[str, Any]:
    """Name -> (work, epochs)."""
    start = jax.jit(training.init)(jax.random.key(0), data)
    whole = jax.jit(training.run, static_argnums=2, donate_argnums=0)
    part = jax.jit(training.run, donate_argnums=0)

    def fresh() -> Any:
        return jax.tree.map(jnp.copy, start)

    def in_segments(show: Callable[[Any], None]) -> Any:
        for segment in segments(part, fresh(), data, epochs, batch_size, SEGMENT_SECONDS):
            show(segment)
        return segment.state

    def with_bar() -> Any:
        with terminal(), shown(True, epochs, 0) as show:
            return in_segments(show)

    return {
        f"{name}, one program": (lambda: whole(fresh(), data, epochs), epochs),
        f"{name}, segments": (lambda: in_segments(lambda segment: None), epochs),
        f"{name}, segments and bar": (with_bar, epochs),
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


def epochs_for(training: fnn.Trainer, data: fnn.Data) -> int:
    """How many epochs take about `SECONDS`."""
    start = jax.jit(training.init)(jax.random.key(0), data)
    run = jax.jit(lambda: training.run(start, data, 200))
    (timing,) = in_turn({"": (run, 200)}, 3)
    return max(1, int(SECONDS / timing.middle))


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


def costs(name: str, found: list[Timing], empty: float) -> dict[str, float]:
    """Segments over one program, the bar over segments: ratios of medians, and of the quietest quarters."""
    (one, segmented, barred), quiet = [timing.middle for timing in found], [quietest(timing) for timing in found]
    return {
        f"{name}: segments over one program": segmented / one,
        f"{name}: segments over one program, quietest quarters": quiet[1] / quiet[0],
        f"{name}: bar more": barred / segmented,
        f"{name}: bar more, quietest quarters": quiet[2] / quiet[1],
        f"{name}: a segment that runs nothing, over half a second": 1 + empty / SEGMENT_SECONDS,
    }


def quietest(timing: Timing) -> float:
    """The lower quartile of the rounds."""
    return float(np.quantile(timing.rounds, 0.25))


def costs_in_words(name: str, figures: dict[str, float]) -> str:
    """In percent."""
    segments, quiet, bar, quiet_bar, empty = (100 * (v - 1) for k, v in figures.items() if k.startswith(name))
    return (
        f"{name}: segments cost {segments:+.1f} % (quietest quarters {quiet:+.1f} %), the bar {bar:+.1f} % more "
        f"({quiet_bar:+.1f} %); a segment that runs nothing takes {empty:.2f} % of half a second."
    )


def main(rounds: int = 15) -> str:
    """Measure, write the JSON, return the table."""
    small = fnn.trainer(NET, LOSS, optax.sgd(0.02, momentum=0.9), reduction="sum")
    net = fnn.serial(fnn.dense(64), fnn.relu, fnn.dense(10))
    loss = fnn.losses.sparse_softmax_cross_entropy
    large = fnn.trainer(net, loss, optax.sgd(0.1, momentum=0.9), batch_size=128)
    question = "An epoch of a whole run: one program, against segments of half a second"
    print(f"(about {2 * 3 * (rounds + 2) * SECONDS / 60:.0f} minutes)", file=sys.stderr)
    lines: list[str] = []
    timings: list[Timing] = []
    figures: dict[str, float] = {}
    # the machine's noise is of the size of what is measured, so beside the ratio of medians that of the quietest
    # quarters, and what a segment costs that runs nothing
    for name, training, data, size in (("2-3-2", small, rows(), None), ("digits", large, digits(), 128)):
        found = in_turn(candidates(name, training, data, size, epochs_for(training, data)), rounds)
        figures |= costs(name, found, empty_segment(training, data))
        lines.append(costs_in_words(name, figures))
        timings += found
    path = save("segments", question, timings, **figures)
    return "\n".join([report(question, timings, "epoch"), *lines, f"Written to {path.name}."])

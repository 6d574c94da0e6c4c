"""What does it cost to run in segments, between which the host can write a checkpoint, show a bar, hear Ctrl-C?

The 2-3-2 network (100 rows, full batch: microseconds an epoch) and a network on handwritten digits (1,797 rows,
64-64-10, batches of 128): the whole run as one program, against the same in `fit`'s segments, without and with the bar.
Asked for: at most 3 % for the segments, 1 % more for the bar.
"""

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Iterator
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
    for name, training, data, size in (("2-3-2", small, rows(), None), ("digits", large, digits(), 128)):
        found = in_turn(candidates(name, training, data, size, epochs_for(training, data)), rounds)
        one, segmented, barred = (timing.middle for timing in found)
        figures |= {f"{name}: segments over one program": segmented / one, f"{name}: bar more": barred / segmented}
        lines.append(f"{name}: segments cost {100 * (segmented / one - 1):+.1f} %, "
                     f"the bar {100 * (barred / segmented - 1):+.1f} % more.")  # fmt: skip
        timings += found
    path = save("segments", question, timings, **figures)
    return "\n".join([report(question, timings, "epoch"), *lines, f"Written to {path.name}."])

"""Data larger than memory: does a memory-mapped file train as fast as arrays in memory, and in how little memory?

A file of 4 GB (`--quick`: 50 MB) of random rows of 784 numbers is written to a temporary folder, and deleted in the
end. A 784-512-512-10 network, batches of 128, Adam, is trained on it for one epoch, then predicts all its rows. Its
pages are dropped from the cache before each of these, where the system can do that, so that the disk is read. Beside
it the same network takes up to 4,000 of the same steps on as many rows as fit 400 MB, in memory, by the program that
`fit` uses.

Memory is anonymous memory (`RssAnon`): the pages of a mapped file are the system's to take back. Linux only.
"""

import contextlib
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax

import fnn
from bench.output import publish
from bench.timing import Measured, Timing
from fnn.fitting.stream_segments import stream_segments
from fnn.training.config import TrainerConfig
from fnn.training.fused_loop import build_trainer

FEATURES, CLASSES, BATCH = 784, 10, 128
MEMORY_BYTES = 400_000_000  # of the rows in memory
NET = fnn.serial(fnn.dense(512), fnn.relu, fnn.dense(512), fnn.relu, fnn.dense(CLASSES))
LOSS = fnn.losses.sparse_softmax_cross_entropy
RECIPE = TrainerConfig(NET, LOSS, optax.adam(1e-3), None, fnn.autodiff, (), BATCH, True, "mean", "loss", "min")


class Anonymous:
    """The largest anonymous memory while it is watched, above that at the start, in bytes."""

    def __enter__(self) -> "Anonymous":
        self.start = self.largest = _anonymous()
        self.done = threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()
        return self

    def _watch(self) -> None:
        while not self.done.wait(0.02):
            self.largest = max(self.largest, _anonymous())

    def __exit__(self, *of: Any) -> None:
        self.done.set()
        self.thread.join()
        self.above = max(self.largest, _anonymous()) - self.start


def _anonymous() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.split("RssAnon:")[1].split()[0]) * 1024


@contextlib.contextmanager
def files(size: int) -> Iterator[tuple[Path, Path]]:
    """Rows and labels on the disk, written block by block; deleted afterwards."""
    with tempfile.TemporaryDirectory() as name:
        folder, free = Path(name), shutil.disk_usage(name).free
        if free < 1.5 * size:
            raise OSError(
                f"stream: expected {1.5 * size / 1e9:.1f} GB free in {name}, got {free / 1e9:.1f}. Set TMPDIR."
            )
        rows, rng = size // (4 * FEATURES), np.random.default_rng(0)
        x = np.lib.format.open_memmap(folder / "x.npy", "w+", np.float32, (rows, FEATURES))
        for start in range(0, rows, 10_000):
            x[start : start + 10_000] = rng.standard_normal((min(10_000, rows - start), FEATURES), np.float32)
        x.flush()
        np.save(folder / "t.npy", (x[:, 0] > 0).astype("int32") + 2 * (x[:, 1] > 0))
        del x
        yield folder / "x.npy", folder / "t.npy"


def drop(path: Path) -> None:
    """Take the file's pages from the cache."""
    if hasattr(os, "posix_fadvise"):
        with open(path, "rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def on_the_stream(x: Path, t: Path, rounds: int) -> tuple[list[float], float, Any]:
    """Seconds a step over the segments of one epoch, largest memory, and what was trained."""
    drop(x)
    steps = -(-len(np.load(t, mmap_mode="r")) // BATCH)
    marks: list[tuple[float, int]] = []
    with Anonymous() as memory:
        one = fnn.Data(fnn.Part(np.zeros((1, FEATURES), np.float32), np.zeros(1, np.int32)))  # type: ignore[arg-type]
        end = jax.jit(build_trainer(RECIPE).init)(jax.random.key(0), one)
        for segment in stream_segments(RECIPE, fnn.memory_mapped(x, t), end, epochs=1):
            end = segment.state
            marks.append((time.perf_counter(), int(end.step) or (steps if int(end.epoch) else 0)))
    return _in_parts(marks, rounds), memory.above, fnn.Run(end.params, end.state, None, end)  # type: ignore[arg-type]


def in_memory(x: Path, t: Path, rounds: int, steps: int) -> list[float]:
    """Seconds a step on as many of the rows as fit."""
    rows = MEMORY_BYTES // (4 * FEATURES)
    part = fnn.Part(*(jax.device_put(np.load(path, mmap_mode="r")[:rows]) for path in (x, t)))
    training = fnn.trainer(NET, LOSS, RECIPE.optimizer, batch_size=BATCH)
    run = jax.jit(training.run, donate_argnums=0)
    data = fnn.Data(part)
    state = jax.jit(training.init)(jax.random.key(0), data)
    state, _ = run(state, data, 1000, 0)
    marks, piece = [(time.perf_counter(), 0)], max(1, steps // (2 * rounds))
    for done in range(piece, steps + 1, piece):
        state, _ = run(state, data, 1000, piece)
        jax.block_until_ready(state.params)
        marks.append((time.perf_counter(), done))
    return _in_parts(marks, rounds)


def _in_parts(marks: list[tuple[float, int]], rounds: int) -> list[float]:
    """Seconds a step in so many parts of the time; waiting for the disk is in it."""
    chosen = [marks[i] for i in np.unique(np.linspace(0, len(marks) - 1, rounds + 1).astype(int))]
    return [(late - early) / (after - before) for (early, before), (late, after) in pairwise(chosen) if after > before]


def predicting(run: Any, x: Path) -> tuple[float, float]:
    """Seconds for all rows, largest memory."""
    fnn.predict(NET, run, np.load(x, mmap_mode="r")[:2048], reduce=_best)  # compiles
    drop(x)
    with Anonymous() as memory:
        begun = time.perf_counter()
        fnn.predict(NET, run, np.load(x, mmap_mode="r"), reduce=_best)
        seconds = time.perf_counter() - begun
    return seconds, memory.above


def _best(y: Any) -> Any:
    return y.argmax(-1)


def main(rounds: int = 15, quick: bool = False) -> str:
    """Measure, write JSON and picture, return the table."""
    size = 50_000_000 if quick else 4_000_000_000
    question = f"Training on a memory-mapped file of {size / 1e9:.3g} GB: 784-512-512-10, batch {BATCH}, Adam"
    with files(size) as (x, t):
        rows = len(np.load(t, mmap_mode="r"))
        streamed, memory, run = on_the_stream(x, t, rounds)
        seconds, memory_predicting = predicting(run, x)
        held = in_memory(x, t, rounds, min(-(-rows // BATCH), 4_000))
    timings = [Timing("memory-mapped", 0.0, tuple(streamed)), Timing("bound: in memory", 0.0, tuple(held))]
    whole = sum(held) / len(held) / (sum(streamed) / len(streamed))
    figures = {
        "bytes": size,
        "speed_of_the_one_in_memory": whole,
        "anonymous_bytes_training": memory,
        "anonymous_bytes_predicting": memory_predicting,
        "predicted_rows_a_second": rows / seconds,
    }
    return (
        f"{publish('stream', question, Measured(timings, {}), 'step', quick=quick, figures=figures)}\n"
        f"The stream trains at {100 * whole:.0f} % of the speed in memory (means), with {memory / 1e6:.0f} MB of "
        f"anonymous memory above the start.\nPredicting: {rows / seconds:.0f} rows per second, "
        f"{memory_predicting / 1e6:.0f} MB."
    )

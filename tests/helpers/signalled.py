"""The script that test_signals sends signals to: long work of many kinds, and a second call that must never begin.

`python signalled.py KIND FOLDER` prints `begins` when the work does, and after a Ctrl-C a line of JSON: how far the run
on the exception had come, and which threads there are.
"""

import json
import os
import queue
import signal
import sys
import threading
import time
import traceback

import numpy as np
import optax

import fnn
import fnn.data.buffers
import fnn.fitting.resume
import fnn.studies.cross_validation

LONG = 10**7  # epochs
RNG = np.random.default_rng(0)
X = RNG.normal(size=(200, 6)).astype("float32")
LABELS = (X[:, 0] * X[:, 1] > 0).astype("int32")
LOSS = fnn.losses.sparse_softmax_cross_entropy
NET = fnn.serial(fnn.dense(16), fnn.tanh, fnn.dense(2))
RATES = {"lr": [0.01, 0.02, 0.03, 0.04]}
SHARED = {"batch_size": 32, "progress": False}


def fit(folder, net=NET, data=(X, LABELS), epochs=LONG, **more):
    return fnn.fit(net, LOSS, optax.adam(0.01), data, epochs=epochs, checkpoint=folder, **SHARED | more)


def stream(wait, begin=0):
    """A source of chunks that from its `begin`-th on waits before each."""
    fnn.data.buffers.BUFFER_BYTES = 2000  # a few batches
    read = iter(range(LONG))

    def chunks(epoch):
        for start in range(0, 200, 40):
            if next(read) >= begin:
                wait()
            yield X[start : start + 40], LABELS[start : start + 40]

    return chunks


def wait_for_ever():
    while True:
        time.sleep(0.1)


def wait_in_a_queue():
    never_filled = queue.Queue()
    while True:
        try:
            never_filled.get(timeout=0.5)
        except queue.Empty:
            continue


def refit(folder):
    """Quick folds, and a fit on all rows that takes long."""

    def long_fit(*arguments, **more):
        say("begins")
        return fnn.fit(*arguments, **more | {"epochs": LONG})

    fnn.studies.cross_validation.fit = long_fit
    study(fnn.cross_validate, folder, epochs=2, folds=2)


def study(of, folder, optimizer=None, **more):
    more = {"epochs": LONG, "checkpoint": folder, "checkpoint_seconds": 0.1, **SHARED, **more}
    return of(NET, LOSS, optimizer or optax.adam(0.01), (X, LABELS), **more)


def rate(settings):
    return optax.adam(settings["lr"])


def writing(folder):
    """Nearly all of the time goes into checkpoints of some megabytes."""
    fnn.fitting.resume.SHARE = 0
    fit(folder, fnn.serial(fnn.dense(600), fnn.tanh, fnn.dense(600), fnn.dense(2)), checkpoint_seconds=0)


def compiling(folder):
    """A network of which no two layers are alike, which takes the compiler many seconds."""
    widths = [fnn.dense(20 + width) for width in range(6)]
    layers = [layer for width in widths for layer in (width, fnn.layer_norm(), fnn.gelu)]
    fit(folder, fnn.serial(*layers, fnn.dense(2)))


KINDS = {
    "fit": fit,
    "fast stream": lambda folder: fit(folder, data=stream(lambda: None)),
    "slow stream": lambda folder: fit(folder, data=stream(lambda: time.sleep(0.7))),
    "blocked stream": lambda folder: fit(folder, data=stream(wait_for_ever, 12)),
    "blocked stream from the first": lambda folder: fit(folder, data=stream(wait_in_a_queue, 2)),
    "sweep": lambda folder: study(fnn.sweep, folder, rate, over=RATES),
    "sweep of widths": lambda folder: study(fnn.sweep, folder, rate, over=RATES, width=2),
    "folds": lambda folder: study(fnn.cross_validate, folder),
    "ensemble": lambda folder: study(fnn.ensemble, folder, members=3),
    "refit": refit,
    "writing": writing,
    "compiling": compiling,
}


def say(text):
    print(text, flush=True)


def progress_of(run):
    """Epochs that there are of a run, or of each member of a study."""
    if run is None:
        return None
    if isinstance(run, fnn.Run):
        return len(run.history.loss)
    return int(np.isfinite(next(iter(run.histories.values()))).sum())


def place(thread):
    """The lines that a thread is in, the innermost last."""
    frame = sys._current_frames().get(thread.ident)
    return "" if frame is None else "".join(traceback.format_stack(frame))


def main(kind, folder):
    if kind != "refit":
        say("begins")
    try:
        KINDS[kind](folder)
    except KeyboardInterrupt as stop:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # of the rest of a storm
        others = [thread for thread in threading.enumerate() if thread is not threading.main_thread()]
        # XLA cannot be interrupted; this ends by itself
        others = {f"{each.name}, {place(each)}" for each in others if each.name != "fnn compile"}
        say(json.dumps({"threads": sorted(others), "done": progress_of(getattr(stop, "run", None))}))
        signal.signal(signal.SIGINT, signal.default_int_handler)
        raise
    say("has ended, and the script goes on")
    fit(None, epochs=1)


if __name__ == "__main__":
    os.environ.pop("JAX_COMPILATION_CACHE_DIR", None) if sys.argv[1] == "compiling" else None
    main(*sys.argv[1:])

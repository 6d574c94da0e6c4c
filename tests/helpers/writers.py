"""A process that trains in a folder when it is told to: what tests/storage/test_locks.py has two of.

It reads a line of JSON at a time, `{"kind": …, "folder": …, "wait": seconds, "gate": path or null}`, and prints one:
`{"pid": …, "begin": …, "seconds": …, "digest": …, "error": …}`. A run of kind "stream" says "in" and then waits, in its
second epoch, until the file `gate` is there.
"""

import hashlib
import json
import os
import sys
import time
import warnings

import jax
import numpy as np
import optax

import fnn

RNG = np.random.default_rng(0)
X = RNG.normal(size=(64, 4)).astype("float32")
T = (X[:, 0] * X[:, 1] > 0).astype("int32")
NET = fnn.serial(fnn.dense(8), fnn.tanh, fnn.dense(2))
LOSS = fnn.losses.sparse_softmax_cross_entropy


def train(kind, folder, gate):
    more = {"batch_size": 16, "progress": False, "checkpoint": folder, "checkpoint_seconds": 0.0}
    if kind == "sweep":
        over = {"lr": [0.01, 0.02]}
        return fnn.sweep(NET, LOSS, lambda s: optax.sgd(s["lr"]), (X, T), over=over, epochs=600, **more).histories
    if kind == "stream":

        def chunks(epoch):
            if epoch == 1:
                print("in", flush=True)
                while gate is not None and not os.path.exists(gate):
                    time.sleep(0.005)
            yield X, T

        return fnn.fit(NET, LOSS, optax.sgd(0.1), chunks, epochs=3, **more).history
    net = fnn.serial(fnn.dense(9), fnn.tanh, fnn.dense(2)) if kind == "other" else NET
    return fnn.fit(net, LOSS, optax.sgd(0.1), (X, T), epochs=3000, **more).history


def main():
    fnn.fitting.resume.SHARE = 0
    fnn.fitting.segments.SEGMENT_SECONDS = 0.02
    warnings.simplefilter("error")
    for line in sys.stdin:
        task = json.loads(line)
        time.sleep(task["wait"])
        begin, made, error = time.monotonic(), None, None
        try:
            made = train(task["kind"], task["folder"], task["gate"])
        except Exception as caught:
            error = f"{type(caught).__name__}: {caught}"
        seconds = time.monotonic() - begin
        parts = b"".join(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(made))
        digest = None if made is None else hashlib.sha256(parts).hexdigest()
        said = {"pid": os.getpid(), "begin": begin, "seconds": seconds, "digest": digest, "error": error}
        print(json.dumps(said), flush=True)


if __name__ == "__main__":
    main()

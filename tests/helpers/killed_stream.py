"""The stream that test_kill kills: epochs of different lengths, chunks of different lengths, weights, validation.

`python killed_stream.py FOLDER EPOCHS BUFFER_BYTES` prints a line for each chunk that is read, so that the test knows
where it is, and at last the SHA-256 of what it ends with; where FOLDER is empty nothing is kept.
"""

import hashlib
import sys

import jax
import numpy as np
import optax

import fnn

LENGTHS = [100, 40, 160, 70, 130, 16, 210, 90]  # of epochs, in turn
SIZES = [1, 30, 17, 48, 5]  # of chunks, in turn


def rows(seed, count):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, 4)).astype("float32")
    return x, (x[:, 0] * x[:, 1] > 0).astype("int32"), rng.uniform(0, 2, count).astype("float32")


def chunks(epoch):
    x, t, weight = rows(epoch, LENGTHS[epoch % len(LENGTHS)])
    start = number = 0
    while start < len(x):
        end = start + SIZES[(epoch + number) % len(SIZES)]
        print(f"chunk {number} of epoch {epoch}", flush=True)
        yield x[start:end], t[start:end], weight[start:end]
        start, number = end, number + 1


def main(folder, epochs, buffer_bytes):
    fnn.data.buffers.BUFFER_BYTES = buffer_bytes
    fnn.fitting.resume.SHARE = (
        0  # as many checkpoints as there are buffers: what is tested is not how often they are written
    )
    net = fnn.serial(fnn.dense(8), fnn.batch_norm(), fnn.tanh, fnn.dropout(0.2), fnn.dense(2))
    validation = rows(-1 % 2**32, 50)
    run = fnn.fit(
        net,
        fnn.losses.sparse_softmax_cross_entropy,
        optax.adam(fnn.schedules.cosine_decay(0.01, 8 * epochs)),
        chunks,
        epochs=epochs,
        batch_size=16,
        validation=validation,
        metrics={"accuracy": fnn.accuracy},
        checkpoint=folder or None,
        checkpoint_seconds=0,
        progress=False,
    )
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves((run.params, run.state, run.history, run.train_state)):
        digest.update(np.asarray(leaf).tobytes())
    print(f"end {digest.hexdigest()} {len(run.history.loss)} {run.best_epoch}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))

"""The run that test_kill kills: dropout, Adam, a cosine schedule, validation with patience.

`python killed_run.py FOLDER EPOCHS` prints the SHA-256 of what it ends with; where FOLDER is empty nothing is kept.
"""

import hashlib
import sys

import jax
import numpy as np
import optax

import fnn


def main(folder, epochs):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 6)).astype("float32")
    labels = (x[:, 0] * x[:, 1] > 0).astype("int32")
    net = fnn.serial(fnn.dense(32), fnn.tanh, fnn.dropout(0.2), fnn.dense(2))
    print("begins", flush=True)
    run = fnn.fit(
        net,
        fnn.losses.sparse_softmax_cross_entropy,
        optax.adam(fnn.schedules.cosine_decay(0.01, 5 * epochs)),
        (x, labels),
        epochs=epochs,
        batch_size=32,
        validation=0.2,
        metrics={"accuracy": fnn.accuracy},
        monitor="accuracy",
        mode="max",
        patience=epochs // 2,
        checkpoint=folder or None,
        checkpoint_seconds=0.05,
        progress=False,
    )
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves((run.params, run.state, run.history, run.train_state, run.validation_rows)):
        digest.update(np.asarray(leaf).tobytes())
    print(digest.hexdigest(), len(run.history.loss), run.best_epoch, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))

"""The studies that test_kill kills: a sweep, folds with the refit after them, an ensemble; in chunks, and in threads.

`python killed_study.py FOLDER KIND` prints the SHA-256 of what it ends with; where FOLDER is empty nothing is kept.
"""

import hashlib
import sys

import jax
import numpy as np
import optax

import fnn

EPOCHS = 1500
NET = fnn.serial(fnn.dense(16), fnn.tanh, fnn.dropout(0.2), fnn.dense(2))
LOSS = fnn.losses.sparse_softmax_cross_entropy


def optimizer(settings):
    return optax.adam(settings["lr"])


def main(folder, kind):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(120, 5)).astype("float32")
    data = x, (x[:, 0] * x[:, 1] > 0).astype("int32")
    fnn.fitting.resume.SHARE = 0  # as many checkpoints as there are segments
    fnn.fitting.segments.SEGMENT_SECONDS = 0.02
    more = {"epochs": EPOCHS, "batch_size": 32, "progress": False, "metrics": {"accuracy": fnn.accuracy}}
    more |= {"checkpoint": folder or None, "checkpoint_seconds": 0.0}
    print("begins", flush=True)
    if kind == "sweep":
        over = {"lr": [0.001, 0.003, 0.01], "seed": [0, 1]}
        found = fnn.sweep(NET, LOSS, optimizer, data, over=over, validation=0.2, keep="all", width=2, **more)
    elif kind == "folds":
        over = {"lr": [0.001, 0.01]}
        found = fnn.cross_validate(NET, LOSS, optimizer, data, folds=3, over=over, standardise=True, width=2, **more)
    else:
        found = fnn.ensemble(NET, LOSS, optax.adam(0.01), data, members=5, width=1, **more)
    kept = {name: part for name, part in found._asdict().items() if name not in ("plans", "net", "to_probabilities")}
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(kept):
        digest.update(np.asarray(leaf).tobytes() if not isinstance(leaf, str) else leaf.encode())
    print(digest.hexdigest(), kind, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])

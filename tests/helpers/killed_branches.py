"""The run of two inputs and two heads that is killed: `python killed_branches.py FOLDER EPOCHS`, as killed_run.py."""

import hashlib
import sys

import jax
import numpy as np
import optax

import fnn
from tests.helpers.branches import LOSS, METRICS, network, rows


def main(folder, epochs):
    print("begins", flush=True)
    run = fnn.fit(
        network(), LOSS, optax.adam(0.003), rows(200), epochs=epochs, batch_size=32, validation=0.2, metrics=METRICS,
        checkpoint=folder or None, checkpoint_seconds=0.05, progress=False,
    )  # fmt: skip
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves((run.params, run.state, run.history, run.train_state, run.validation_rows)):
        digest.update(np.asarray(leaf).tobytes())
    print(digest.hexdigest(), len(run.history.loss), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))

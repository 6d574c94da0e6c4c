"""The run of another library's network that test_adapters kills; `python killed_foreign.py FOLDER LIBRARY`."""

import hashlib
import sys

import jax
import numpy as np
import optax

import fnn
from tests.helpers.foreign import LOSS, data, layer


def main(folder, library):
    net = layer(library, "CNN")
    print("begins", flush=True)
    run = fnn.fit(
        net, LOSS, optax.adam(1e-3), data("CNN"), epochs=1500, batch_size=8, checkpoint=folder,
        checkpoint_seconds=0.05, progress=False,
    )  # fmt: skip
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves((run.params, run.state, run.history)):
        digest.update(np.asarray(leaf).tobytes())
    print(digest.hexdigest(), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])

"""Makes the files of `tests/files`, which an fnn before its modules moved has written, and the problem they are of."""

import sys
from pathlib import Path

import numpy as np
import optax

import fnn

FILES = Path(__file__).parent / "files"
NET = fnn.serial(
    fnn.dense(4), fnn.batch_norm(), fnn.leaky_relu(0.1), fnn.residual(fnn.dense(4)), fnn.dropout(0.1), fnn.dense(2)
)
X = np.linspace(-1, 1, 24, dtype="float32").reshape(12, 2)
T = np.arange(12) % 2


def run(epochs: int, **more: object) -> fnn.Run:
    """The run that has been written."""
    return fnn.fit(
        NET,
        fnn.losses.sparse_softmax_cross_entropy,
        optax.adam(0.01),
        (X, T),
        epochs=epochs,
        key=5,
        batch_size=4,
        progress=False,
        **more,
    )


if __name__ == "__main__":
    assert sys.argv[1:] == ["write"]
    FILES.mkdir(exist_ok=True)
    fnn.save(FILES / "saved.fnn", NET, run(3, checkpoint=FILES / "checkpoint"))
    _, made = fnn.load(FILES / "saved.fnn")
    np.save(FILES / "outputs.npy", fnn.predict(NET, made, X))

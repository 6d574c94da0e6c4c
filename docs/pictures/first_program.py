"""Draw the picture of the README, what its first program learns: `python docs/pictures/first_program.py`.

The same digits give the same file: no date, and fixed names inside.
"""

from pathlib import Path

import matplotlib
import numpy as np
import optax
from matplotlib.figure import Figure

import fnn

PICTURE = Path(__file__).with_suffix(".svg")


def main(path: Path = PICTURE) -> None:
    """Train as the README does, with validation rows, and write the SVG."""
    rng = np.random.default_rng(0)
    x = rng.uniform(-2, 2, (400, 2)).astype("float32")
    inside = (np.hypot(*x.T) < 1).astype(int)
    (x, t), held_out = fnn.hold_out(x, inside, 0.25, stratify=inside)
    net = fnn.serial(fnn.dense(16), fnn.tanh, fnn.dense(2))
    loss = fnn.losses.sparse_softmax_cross_entropy
    training = {"settings": {"lr": 0.02}, "epochs": 200, "batch_size": 50, "validation": held_out}
    run = fnn.fit(net, loss, lambda s: optax.adam(s["lr"]), (x, t), **training)

    figure = Figure(figsize=(10.5, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    fnn.plots.decision_boundary(net, run, x, t, names=["outside", "inside"], ax=left)
    left.set_title("Which class the network gives to each point", pad=24)
    fnn.plots.curves(run, ylabel="cross-entropy (nats per row)", ax=right)
    right.set_title("How it learned: 200 epochs of 6 steps", pad=24)
    right.set_ylim(bottom=0)
    with matplotlib.rc_context({"svg.hashsalt": "fnn", "svg.fonttype": "none"}):
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


if __name__ == "__main__":
    main()

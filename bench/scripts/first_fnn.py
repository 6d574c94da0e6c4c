"""The seconds of a first call of fnn: `fit` (a compile effort may follow), `widths`, `shapes`, `predict`."""

import sys
import time
from typing import Any

import jax
import numpy as np
import optax
from sklearn.datasets import load_digits

import fnn

digits = load_digits()
x, t = (digits.data / 16).astype("float32"), digits.target.astype("int32")
WIDTHS = [20, 40, 60, 80, 100]
LOSS, ACCURACY = fnn.losses.sparse_softmax_cross_entropy, {"accuracy": fnn.accuracy}
jax.numpy.zeros(1).block_until_ready()  # the backend starts


def network(width: int) -> fnn.Layer:
    """One hidden layer."""
    return fnn.serial(fnn.dense(width), fnn.tanh, fnn.dense(10))


def fit(effort: str = "auto") -> None:
    """20 epochs."""
    fnn.fit(
        network(100), LOSS, optax.adam(1e-3), (x, t), epochs=20, batch_size=64, validation=0.2, metrics=ACCURACY,
        compile_effort=effort, progress=False,
    )  # fmt: skip


def widths() -> None:
    """Five of them."""
    fnn.sweep(
        lambda s: network(int(s["width"])), LOSS, optax.adam(1e-3), (x, t), over={"width": WIDTHS}, epochs=20,
        batch_size=64, validation=0.2, metrics=ACCURACY, monitor="accuracy", mode="max", progress=False,
    )  # fmt: skip


def deep(settings: Any) -> fnn.Layer:
    """So many hidden layers, of one width and activation."""
    activation = [fnn.relu, fnn.tanh, fnn.sigmoid][settings["activation"]]
    hidden: list[Any] = [fnn.dense(settings["width"]), activation] * settings["depth"]
    return fnn.serial(*hidden, fnn.dense(10))


def shapes() -> None:
    """36 of them, 5 folds each, 10 epochs."""
    over = {"depth": [1, 2, 3], "width": [16, 32, 48, 64], "activation": [0, 1, 2]}
    fnn.cross_validate(
        deep, LOSS, optax.adam(1e-3), (x, t), over=over, folds=5, epochs=10, batch_size=64, metrics=ACCURACY,
        monitor="accuracy", mode="max", refit=False, progress=False,
    )  # fmt: skip


params, state, _ = network(100).init(jax.random.key(0), (64,))
run = fnn.Run(params, state, None, None, (64,))  # type: ignore[arg-type]


def predict() -> None:
    """100 numbers of rows."""
    for rows in np.random.default_rng(0).integers(1, 1001, 100):
        fnn.predict(network(100), run, x[:rows])


begin = time.perf_counter()
{"fit": fit, "widths": widths, "shapes": shapes, "predict": predict}[sys.argv[1]](*sys.argv[2:])
print(time.perf_counter() - begin)

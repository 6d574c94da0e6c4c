"""Keras on JAX: `fit`, over one epoch of as many batches as there are steps, so that an epoch's own cost is small."""

import os

import numpy as np

from bench.peers.task import Task
from bench.timing import Work


def make(task: Task, steps: int) -> Work:
    """So many steps a call."""
    os.environ["KERAS_BACKEND"] = "jax"
    import keras

    *hidden, last = task.sizes[1:]
    net = keras.Sequential([
        keras.Input(task.sizes[:1]),
        *[keras.layers.Dense(n, activation=task.hidden) for n in hidden],
        keras.layers.Dense(last),
    ])  # fmt: skip
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    net.compile(optimizer=keras.optimizers.SGD(task.rate_of_the_mean, momentum=0.9), loss=loss)
    x, t = np.tile(task.x, (task.epochs(steps), 1)), np.tile(task.t, task.epochs(steps))
    return lambda: net.fit(x, t, batch_size=task.batch, epochs=1, shuffle=not task.full, verbose=0)

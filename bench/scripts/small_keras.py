"""The 2-3-2 network by Keras on JAX: 300 steps on 100 rows."""

import os

os.environ["KERAS_BACKEND"] = "jax"

import keras
import numpy as np

rng = np.random.default_rng(0)
angle = np.linspace(0, 2 * np.pi, 50, endpoint=False)
ring = np.stack([np.cos(angle), np.sin(angle)], 1)
x = (np.concatenate([ring, 0.3 * ring]) + rng.normal(0, 0.1, (100, 2))).astype("float32")
t = np.repeat([0, 1], 50)

net = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3, activation="sigmoid"), keras.layers.Dense(2)])
net.compile(
    optimizer=keras.optimizers.SGD(2.0, momentum=0.9),  # of the mean over the rows
    loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
)
costs = net.fit(x, t, batch_size=100, epochs=300, verbose=0).history["loss"]
assert costs[-1] < costs[0]

"""The 2-3-2 network by fnn: 300 steps on 100 rows. With a folder as argument compiled programs are kept there."""

import sys

import numpy as np
import optax

import fnn

if len(sys.argv) > 1:
    fnn.enable_compile_cache(sys.argv[1])

rng = np.random.default_rng(0)
angle = np.linspace(0, 2 * np.pi, 50, endpoint=False)
ring = np.stack([np.cos(angle), np.sin(angle)], 1)
x = (np.concatenate([ring, 0.3 * ring]) + rng.normal(0, 0.1, (100, 2))).astype("float32")
t = np.repeat([0, 1], 50)

net = fnn.serial(fnn.dense(3), fnn.sigmoid, fnn.dense(2))
loss = fnn.losses.sparse_softmax_cross_entropy
run = fnn.fit(net, loss, optax.sgd(0.02, momentum=0.9), (x, t), epochs=300, reduction="sum")
assert run.history.loss[-1] < run.history.loss[0]

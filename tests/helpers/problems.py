"""What the tests of `fit` share: small data, one network built anew each time, and what has been compiled."""

import jax
import numpy as np
import optax

import fnn

RNG = np.random.default_rng(1)
X = RNG.normal(size=(100, 4)).astype("float32")
LABELS = (X[:, 0] * X[:, 1] > 0).astype("int32")
LOSS = fnn.losses.sparse_softmax_cross_entropy


def net():
    """Built anew each time."""
    return fnn.serial(fnn.dense(8), fnn.tanh, fnn.dense(2))


def fit(x=X, t=LABELS, network=None, loss=LOSS, optimizer=None, **arguments):
    optimizer = optimizer or optax.sgd(0.1, momentum=0.9)
    arguments = {"epochs": 5, "batch_size": 32, "progress": False} | arguments
    return fnn.fit(network or net(), loss, optimizer, (x, t), **arguments)


def same_bits(a, b):
    return all(
        np.array_equal(p, q, equal_nan=True) for p, q in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    )

"""What a spawned process does in test_pickle, and layers and losses of a user's own, at the top of a module."""

import pickle

import jax.numpy as jnp
import numpy as np

import fnn


def predict(net, run, x):
    """Outputs, and the network's name."""
    return np.asarray(fnn.predict(net, run, x)), str(net)


def predict_pickled(data):
    """The same of what cloudpickle wrote."""
    return predict(*pickle.loads(data))


def init(key, in_shape):
    return {"a": jnp.full(in_shape, 0.5)}, (), in_shape


def forward(params, state, x, key, train):
    return params["a"] * x, state, x


def backward(params, x, dy):
    return {"a": (x * dy).sum(0)}, params["a"] * dy


def quartic(y, t):
    return ((y - t) ** 4).sum(-1)


def quartic_grad(y, t):
    return 4 * (y - t) ** 3


def square(x):
    """The square."""
    return x * x


def twice(x):
    return 2 * x


@fnn.factory
def scale(by):
    """A factory of the user's own."""
    return fnn.Layer(
        None,
        lambda key, in_shape: ((), (), in_shape),
        lambda params, state, x, key, train: (by * x, state, ()),
        lambda params, cache, dy: ((), by * dy),
    )


@fnn.factory
def power(exponent):
    """A loss factory of the user's own."""
    return fnn.losses.from_function(lambda y, t: (jnp.abs(y - t) ** exponent).sum(-1))

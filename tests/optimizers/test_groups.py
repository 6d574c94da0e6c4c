"""Frozen and grouped parameters: the recipe is right, and the trap beside it is warned of."""

import warnings

import jax
import numpy as np
import optax
import pytest

import fnn
from fnn import losses

RNG = np.random.default_rng(0)
X = RNG.normal(size=(24, 2)).astype("float32")
T = np.sin(X[:, :1] * 2).astype("float32")
NET = fnn.serial(fnn.dense(4), fnn.tanh, fnn.dense(1))


def fit(optimizer, **more):
    return fnn.fit(NET, losses.squared_error, optimizer, (X, T), **{"epochs": 20, "progress": False} | more)


def label(params):
    """The last layer trains, the others are frozen."""
    return tuple(jax.tree.map(lambda _, i=i: ("freeze", "train")[i == 2], layer) for i, layer in enumerate(params))


def test_frozen_parameters_stay_and_the_others_train():
    by = optax.partition({"train": optax.adam(0.05), "freeze": optax.set_to_zero()}, label)
    start = NET.init(jax.random.key(3), (2,))[0]
    run = fit(by, params=start)
    assert np.array_equal(run.params[0]["w"], start[0]["w"]) and np.array_equal(run.params[0]["b"], start[0]["b"])
    assert run.history.loss[-1] < run.history.loss[0] and not np.array_equal(run.params[2]["w"], start[2]["w"])


TRAPS = {
    "one layer masked": lambda s: optax.masked(
        optax.sgd(s["lr"]), lambda p: jax.tree.map(lambda name: name == "train", label(p))
    ),
    "the gradient as it is": lambda s: optax.identity(),
}


def test_proximal_l1_with_a_learning_rate_and_no_descent_before_it_is_told_what_to_write():
    text = r"update of params/0/b.* proximal_l1 .* down no gradient.* put optax.sgd before proximal_l1 in optax.chain"
    with pytest.warns(UserWarning, match=text):
        fit(lambda s: fnn.optimizers.proximal_l1(0.01, 0.1), epochs=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(lambda s: optax.chain(optax.sgd(0.1), fnn.optimizers.proximal_l1(0.01, 0.1)), epochs=1)


@pytest.mark.parametrize("name", TRAPS)
def test_what_climbs_is_warned_of(name):
    text = (
        "optimizer: expected steps down the gradient, got the gradient itself as the update of params/0/b, params/0/w"
    )
    with pytest.warns(UserWarning, match=text) as caught:
        fit(TRAPS[name], **({"settings": {"lr": 0.05}} if name == "one layer masked" else {}), epochs=1)
    assert "Use optax.partition, with optax.set_to_zero()" in str(caught[0].message)
    assert ("params/2" in str(caught[0].message)) == (name == "the gradient as it is")
    with pytest.warns(UserWarning, match=text):
        over = {"lr" if name == "one layer masked" else "seed": [1, 2]}
        fnn.sweep(NET, losses.squared_error, TRAPS[name], (X, T), over=over, epochs=1, progress=False)

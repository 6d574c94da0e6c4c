"""What a function reads when it is called is part of what it computes: a change counts from the next call on."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fnn
from fnn.compilation.programs import identify
from fnn.training.config import TrainerConfig

X = np.random.default_rng(0).normal(size=(12, 3)).astype("float32")
T = X.sum(1, keepdims=True)
SQUARES, NET = fnn.losses.squared_error, fnn.serial(fnn.dense(1))
factor = 1.0  # the global that changes


class Holder:
    def __init__(self):
        self.factor = 1.0


def read_global():
    return lambda: factor, lambda value: globals().update(factor=value)


def read_closure():
    own = 1.0

    def change(value):
        nonlocal own
        own = value

    return lambda: own, change


def read_attribute():
    holder = Holder()
    return lambda: holder.factor, lambda value: setattr(holder, "factor", value)


def read_default():
    kept = [1.0]
    return lambda kept=kept: kept[0], lambda value: kept.__setitem__(0, value)


def read_array():
    array = np.ones(1, "float32")
    return lambda: array[0], lambda value: array.fill(value)


WAYS = [read_global, read_closure, read_attribute, read_default, read_array]


# what is handed to `fit`, made of a function without arguments that says by how much to multiply


def scaled_gradient(read):
    def gradient(net, loss, penalty=None, reduction="mean"):
        inner = fnn.autodiff(net, loss, penalty, reduction)

        def scaled(*arguments, **named):
            g = inner(*arguments, **named)
            return g._replace(grads=jax.tree.map(lambda a: read() * a, g.grads))

        return scaled

    return gradient


def scaled_layer(read):
    def forward(params, state, x, key, train):
        return read() * x, state, ()

    return fnn.Layer("scaled", lambda key, shape: ((), (), shape), forward, lambda p, c, dy: ((), read() * dy))


def activation(read):
    return fnn.elementwise("scaled", lambda x: read() * x, lambda x: read() * jnp.ones_like(x))


def of_loss(read):
    return fnn.losses.from_function(lambda y, t: read() * SQUARES(y, t), lambda y, t: read() * SQUARES.grad(y, t))


KINDS = {
    "loss": lambda read: {"loss": lambda y, t: read() * SQUARES(y, t)},
    "loss with its derivative": lambda read: {"loss": of_loss(read)},
    "loss of a loss": lambda read: {"loss": fnn.losses.weighted_sum((1.0, of_loss(read)))},
    "metric": lambda read: {"metrics": {"m": lambda y, t: read() * SQUARES(y, t)}},
    "penalty": lambda read: {"penalty": fnn.Penalty("own", lambda p: read() * p[0]["w"].sum(), lambda p: None)},
    "penalty of settings": lambda read: {"penalty": lambda s: fnn.penalties.l2(0.1 * float(read()))},
    "network": lambda read: {"net": lambda s: fnn.serial(fnn.dense(1, weight_init=0.3 * float(read())))},
    "layer": lambda read: {"net": fnn.serial(scaled_layer(read), fnn.dense(1))},
    "function in a network": lambda read: {"net": fnn.serial(lambda x: read() * x, fnn.dense(1))},
    "activation": lambda read: {"net": fnn.serial(fnn.dense(1), activation(read))},
    "initial weights": lambda read: {"net": fnn.dense(1, weight_init=lambda k, s, d: jnp.full(s, read(), d))},
    "optimizer": lambda read: {"optimizer": lambda s: optax.sgd(0.01 * float(read()))},
    "update": lambda read: {"optimizer": optax.stateless(lambda g, p: jax.tree.map(lambda a: -0.01 * read() * a, g))},
    "schedule": lambda read: {"optimizer": optax.sgd(lambda step: 0.01 * read() / (1.0 + step))},
    "gradient": lambda read: {"gradient": scaled_gradient(read)},
}  # fmt: skip


def train(made):
    asked = {"net": NET, "loss": SQUARES, "optimizer": optax.sgd(0.01), **made}
    net, loss, optimizer = (asked.pop(name) for name in ("net", "loss", "optimizer"))
    run = fnn.fit(net, loss, optimizer, (X, T), epochs=2, progress=False, **asked)
    return run.params, run.history.loss, run.history.metrics


def recipe_of(made):
    asked = {"net": NET, "loss": SQUARES, "optimizer": optax.sgd(0.01), "gradient": fnn.autodiff, **made}
    metrics = tuple(asked.get("metrics", {}).items())
    parts = asked["net"], asked["loss"], asked["optimizer"], asked.get("penalty"), asked["gradient"]
    recipe, numbers = identify(
        TrainerConfig(*parts, metrics, None, True, "mean"), {}, fnn.Part(jnp.asarray(X), jnp.asarray(T))
    )
    return recipe, numbers["optimizer"].tolist()


CASES = list(itertools.product(KINDS, WAYS))
NAMES = [f"{kind}, {way.__name__}" for kind, way in CASES]


@pytest.mark.parametrize("kind, way", CASES, ids=NAMES)
def test_a_program_is_known_by_what_its_functions_read_now(kind, way):
    read, change = way()
    made = KINDS[kind](read)
    try:
        before = recipe_of(made)
        assert recipe_of(made) == before  # what has not changed compiles nothing
        change(3.0)
        assert recipe_of(made) != before
        assert recipe_of(made) == recipe_of(KINDS[kind](lambda: np.float32(3.0) if way is read_array else 3.0))
        change(1.0)
        assert recipe_of(made) == before
    finally:
        globals().update(factor=1.0)


def check_training(kind, way):
    read, change = way()
    made = KINDS[kind](read)
    try:
        first = train(made)
        change(3.0)
        got = train(made)
        fresh = train(KINDS[kind](lambda: 3.0))  # a new function gets no old program either
    finally:
        globals().update(factor=1.0)
    same = [np.allclose(a, b, rtol=1e-5) for a, b in zip(*map(jax.tree.leaves, (got, fresh)), strict=True)]
    assert all(same)
    changed = [not np.allclose(a, b, rtol=1e-3) for a, b in zip(*map(jax.tree.leaves, (got, first)), strict=True)]
    assert any(changed)


@pytest.mark.parametrize("kind", ["loss", "layer", "gradient", "metric"])
def test_the_run_is_that_of_the_new_value(kind):
    check_training(kind, read_attribute)


@pytest.mark.slow
@pytest.mark.parametrize("kind, way", CASES, ids=NAMES)
def test_every_run_is_that_of_the_new_value(kind, way):
    check_training(kind, way)


@pytest.mark.parametrize("way", WAYS)
def test_predict_and_evaluate_compute_what_their_functions_are_now(way):
    read, change = way()
    params, state, _ = NET.init(jax.random.key(0), (3,))
    run = fnn.Run(params, state, None, None)
    reduce, metric = (lambda y: read() * y), (lambda y, t: read() * SQUARES(y, t))

    def both():
        return fnn.predict(NET, run, X, reduce=reduce), fnn.evaluate(NET, run, (X, T), {"m": metric})["m"]

    try:
        outputs, value = both()
        change(3.0)
        tripled, other = both()
    finally:
        globals().update(factor=1.0)
    np.testing.assert_allclose(tripled, 3 * outputs, rtol=1e-6)
    np.testing.assert_allclose(other, 3 * value, rtol=1e-6)

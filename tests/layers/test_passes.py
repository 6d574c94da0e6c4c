"""Layers of one's own: what their functions raise and return is named with the layer and the function."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fnn

X = np.random.default_rng(0).normal(size=(12, 3)).astype("float32")
LABELS = np.arange(12) % 2
KEY = jax.random.key(0)


def layer(init=None, forward=None, backward=None):
    """One that changes nothing, but for the functions that are given."""
    init = init or (lambda key, shape: ((), (), shape))
    forward = forward or (lambda p, s, x, key, train: (x, s, ()))
    return fnn.Layer("mine", init, forward, backward or (lambda p, cache, dy: ((), dy)))


def fit(own, **more):
    net = fnn.serial(own, fnn.dense(2))
    return fnn.fit(
        net, fnn.losses.sparse_softmax_cross_entropy, optax.sgd(0.1), (X, LABELS), epochs=1, progress=False, **more
    )


def index(p, s, x, key, train):
    return x["a"], s, ()


WRONG = {
    "init of two": (
        layer(lambda key, shape: ((), shape)),
        r"init of mine: expected \(params, state, out_shape\), got ",
    ),
    "init of no shape": (
        layer(lambda key, shape: ((), (), 3)),
        "init of mine: expected an out_shape of whole numbers, got",
    ),
    "init of other arguments": (
        layer(lambda key: ()),
        "init of mine: expected a function that JAX can trace, got one th",
    ),
    "forward of two": (
        layer(forward=lambda p, s, x, k, t: (x, s)),
        r"forward of mine: expected \(y, new_state, cache\), ",
    ),
    "forward of none": (
        layer(forward=lambda *a: None),
        "forward of mine: expected .*got NoneType None. Return these 3",
    ),
    "forward of NumPy": (
        layer(forward=lambda p, s, x, k, t: (np.tanh(np.asarray(x)), s, ())),
        "forward of mine: expected .* got one that computes with NumPy. Use jnp",
    ),
    "forward of a constant of NumPy": (
        layer(forward=lambda p, s, x, k, t: (np.ones(x.shape, "float32"), s, ())),
        r"forward of mine: expected an array of outputs, got a NumPy float32\[12, 3\]. Use jnp",
    ),
    "forward of complex numbers": (
        layer(forward=lambda p, s, x, k, t: (x.astype(jnp.complex64), s, ())),
        "forward of mine: expected an array of outputs, got a traced complex64.* Return real numbers",
    ),
    "forward without rows": (
        layer(forward=lambda p, s, x, k, t: (x.sum(0), s, ())),
        r"forward of mine: expected one output per row, shape \(12, ...\), got \(3,\). Keep the first axis",
    ),
    "forward that looks": (
        layer(forward=lambda p, s, x, k, t: (x if x.sum() > 0 else -x, s, ())),
        "forward of mine: expected .* got one that looks at the value of an array. Use jnp.where",
    ),
    "forward that fails": (
        layer(forward=index),
        "forward of mine: expected .* got one that raises .*\\. Look at the func",
    ),
    "no forward": (fnn.Layer("mine", layer().init, 3, None), "forward of mine: expected a function that .*, got int 3"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_layer_of_ones_own_is_named(name):
    own, message = WRONG[name]
    with pytest.raises((TypeError, ValueError), match=f"(?s)^{message}"):
        fit(own)


@pytest.mark.parametrize(
    "backward, message",
    [
        (lambda p, cache, dy: dy, r"backward of mine: expected \(dparams, dx\), got .*Return these 2"),
        (lambda p, cache, dy: ((), None), "backward of mine: expected an array dx, got NoneType None"),
    ],
)
def test_a_backward_of_ones_own_is_named(backward, message):
    with pytest.raises(TypeError, match=message):
        fit(layer(backward=backward), gradient=fnn.backprop)
    assert len(fit(layer(backward=backward)).history.loss) == 1  # autodiff does not call it


def test_what_a_user_raises_goes_on_as_it_is():
    class Mine(ValueError):
        pass

    def forward(p, s, x, key, train):
        raise Mine("of mine")

    with pytest.raises(Mine) as raised:
        fit(layer(forward=forward))
    assert raised.value.args == ("of mine",)


def test_the_error_of_a_user_stands_above_ours():
    with pytest.raises(TypeError) as raised:
        fit(layer(forward=index))
    assert raised.value.__cause__ is not None


def test_parameters_of_another_network_are_told_from_a_fault_of_the_layer():
    params, state, _ = fnn.serial(fnn.dense(3), fnn.dense(2)).init(KEY, (3,))
    gradient = fnn.autodiff(fnn.dense(2), fnn.losses.squared_error)
    with pytest.raises(TypeError, match=r"forward of dense\(2\): expected params and a state like those of its init"):
        gradient(params, state, jnp.asarray(X), jnp.ones((12, 2)))


def test_several_arrays_of_numpy_are_taken_by_layers_called_by_hand():
    net = fnn.serial(fnn.parallel(a=fnn.dense(2), b=fnn.flatten()), fnn.concatenate(), fnn.dense(1))
    params, state, _ = net.init(jax.random.key(0), {"a": (4,), "b": (2, 2)})
    x = {"a": np.ones((3, 4), "float32"), "b": np.ones((3, 2, 2), "float32")}
    y = net.forward(params, state, x, None, False)[0]
    np.testing.assert_array_equal(y, net.forward(params, state, jax.tree.map(jnp.asarray, x), None, False)[0])

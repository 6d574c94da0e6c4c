"""`concatenate` and `add`: the order of the arrays, integers among them; what they refuse."""

import jax.numpy as jnp
import numpy as np
import pytest

import fnn


def test_arrays_of_a_dict_come_in_the_order_of_their_names():
    x = {"b": jnp.asarray([[3]]), "a": (jnp.asarray([[1.0, 2.0]]), jnp.asarray([[9.0]]))}
    layer = fnn.concatenate()
    assert layer.init(None, {"b": (1,), "a": ((2,), (1,))})[2] == (4,)
    y, _, cache = layer.forward((), (), x, None, False)
    np.testing.assert_array_equal(y, [[1, 2, 9, 3]])
    dx = layer.backward((), cache, y)[1]
    np.testing.assert_array_equal(dx["a"][0], [[1, 2]])
    np.testing.assert_array_equal(dx["b"], [[3]])


def test_images_are_joined_by_their_channels():
    x = jnp.ones((2, 4, 4, 1)), jnp.zeros((2, 4, 4, 3))
    assert fnn.concatenate().init(None, ((4, 4, 1), (4, 4, 3)))[2] == (4, 4, 4)
    np.testing.assert_array_equal(fnn.concatenate().forward((), (), x, None, False)[0].sum((0, 1, 2)), [32, 0, 0, 0])


def test_each_array_of_a_sum_gets_the_derivative():
    x = {"a": jnp.asarray([[1, 2]]), "b": (jnp.asarray([[0.5, 0.5]]),)}
    y, _, cache = fnn.add().forward((), (), x, None, False)
    np.testing.assert_array_equal(y, [[1.5, 2.5]])
    dx = fnn.add().backward((), cache, y)[1]
    np.testing.assert_array_equal(dx["b"][0], y)


@pytest.mark.parametrize(
    "layer, shapes, wanted",
    [
        (fnn.concatenate(), (3,), "concatenate: expected several arrays, got one"),
        (
            fnn.concatenate(),
            {"a": (4, 4, 1), "b": (3,)},
            "concatenate: expected examples whose shapes differ in the last",
        ),
        (fnn.concatenate(), {"a": (), "b": ()}, "concatenate: .* Give each a last axis"),
        (fnn.add(), (3,), "add: expected several arrays, got one"),
        (fnn.add(), ((3,), (2,)), "add: expected examples of one shape"),
    ],
)
def test_what_does_not_fit_is_named(layer, shapes, wanted):
    with pytest.raises(fnn.ShapeError, match=wanted):
        layer.init(None, shapes)

"""group_norm and rms_norm: what they are at their ends, traced settings, and what raises. NumPy, PyTorch and autodiff
have them in the tests of every layer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn.layers.normalisations.features import group_norm, layer_norm, rms_norm

KEY = jax.random.key(0)


def outputs(layer, x):
    params, state, _ = layer.init(KEY, x.shape[1:])
    return layer.forward(params, state, x, None, True)[0]


@pytest.mark.slow
def test_one_group_is_the_layer_norm_of_the_whole_example_and_one_a_channel_that_of_each():
    x = jax.random.normal(KEY, (3, 4, 5, 6)) + 2.0
    whole = outputs(layer_norm(), x.reshape(3, 120)).reshape(x.shape)
    np.testing.assert_allclose(outputs(group_norm(1), x), whole, 1e-4, 1e-5)
    each = outputs(layer_norm(), jnp.moveaxis(x, 3, 1).reshape(3, 6, 20)).reshape(3, 6, 4, 5)
    np.testing.assert_allclose(outputs(group_norm(6), x), jnp.moveaxis(each, 1, 3), 1e-4, 1e-5)


def test_rms_norm_of_rows_whose_mean_is_0_is_layer_norm():
    x = jax.random.normal(KEY, (3, 8))
    x = x - x.mean(-1, keepdims=True)
    np.testing.assert_allclose(outputs(rms_norm(1e-5), x), outputs(layer_norm(1e-5), x), 1e-4, 1e-6)


def test_equal_numbers_give_the_offset_exactly():
    x = jnp.full((2, 3, 4), 1e6 / 3)
    layer = group_norm(2)
    params = {"scale": jnp.ones(4), "offset": jnp.arange(4.0)}
    y, _, cache = layer.forward(params, (), x, None, False)
    np.testing.assert_array_equal(y, np.broadcast_to(params["offset"], x.shape))
    assert np.isfinite(layer.backward(params, cache, y)[1]).all()


@pytest.mark.parametrize("make", [lambda eps: group_norm(2, eps), rms_norm], ids=["group_norm", "rms_norm"])
def test_eps_is_what_it_says_and_may_be_traced(make):
    x = jax.random.normal(KEY, (3, 4))
    params, state, _ = make(0.5).init(KEY, (4,))
    traced = jax.jit(lambda eps: make(eps).forward(params, state, x, None, True)[0])(0.5)
    np.testing.assert_allclose(traced, outputs(make(0.5), x), 1e-6)
    assert np.abs(np.asarray(traced) - outputs(make(1e-6), x)).max() > 0.1


@pytest.mark.parametrize(
    "make, in_shape, message",
    [
        (lambda: group_norm(3), (4,), "group_norm(3): expected channels that can be cut into 3 groups, got 4 from "
         "(4,). Use groups that divide the channels."),
        (lambda: group_norm(0), (4,), "group_norm: expected a whole number of groups, at least 1, got 0. Write "
         "group_norm(4)."),
        (lambda: group_norm(2, 0.0), (4,), "group_norm(2): expected an eps above 0, got 0.0. Write eps=1e-5."),
        (lambda: rms_norm(-1.0), (4,), "rms_norm: expected an eps above 0, got -1.0. Write eps=1e-6."),
        (lambda: rms_norm(), (), "rms_norm: expected examples of shape (..., channels), at least one number, got (). "
         "Give each row an axis of channels: x[:, None]."),
    ],
)  # fmt: skip
def test_what_cannot_work_raises(make, in_shape, message):
    with pytest.raises(ValueError) as caught:
        make().init(KEY, in_shape)
    assert str(caught.value) == message


def test_rows_do_not_depend_on_the_batch(exact_products):
    net = fnn.serial(fnn.conv2d(4, 3), group_norm(2), fnn.relu, fnn.flatten(), rms_norm(), fnn.dense(2))
    params, state, _ = net.init(KEY, (5, 5, 1))
    x = jax.random.normal(KEY, (4, 5, 5, 1))
    forward = jax.jit(lambda x: net.forward(params, state, x, None, True)[0])
    np.testing.assert_allclose(forward(x)[:1], forward(x[:1]), 1e-5, 1e-6)

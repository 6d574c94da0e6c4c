"""conv1d: that of images one row high, to the bit; causal padding; and what raises. PyTorch: `test_like_pytorch`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn.layers.images.sequences import conv1d

KEY = jax.random.key(0)


@pytest.mark.parametrize(
    "stride, padding, dilation, groups", [(1, "SAME", 1, 1), (2, "VALID", 2, 2), (3, (4, 1), 1, 1), (1, "CAUSAL", 3, 2)]
)
def test_it_is_conv2d_on_images_one_row_high(stride, padding, dilation, groups):
    layer = conv1d(4, 3, stride, padding, dilation, groups, bias_init=0.5)
    sides = {"CAUSAL": ((0, 0), (2 * dilation, 0))}.get(padding, padding)
    sides = sides if isinstance(padding, str) else ((0, 0), padding)
    whole = fnn.conv2d(4, (1, 3), (1, stride), sides, (1, dilation), groups, bias_init=0.5)
    params, state, out_shape = layer.init(KEY, (11, 2))
    same, _, image = whole.init(KEY, (1, 11, 2))
    assert image == (1, *out_shape) and state == ()
    np.testing.assert_array_equal(params["w"], same["w"][0])
    np.testing.assert_array_equal(params["b"], same["b"])
    x = jax.random.normal(jax.random.key(1), (3, 11, 2))
    y, _, cache = layer.forward(params, state, x, None, True)
    expected, _, image_cache = whole.forward(same, (), x[:, None], None, True)
    np.testing.assert_array_equal(y, expected[:, 0])
    (dparams, dx), (dsame, dimage) = layer.backward(params, cache, y), whole.backward(same, image_cache, expected)
    np.testing.assert_array_equal(dx, dimage[:, 0])
    np.testing.assert_array_equal(dparams["w"], dsame["w"][0])
    np.testing.assert_array_equal(dparams["b"], dsame["b"])


def test_with_causal_padding_no_output_sees_what_comes_later():
    layer = fnn.serial(conv1d(3, 3, padding="CAUSAL", dilation=2), fnn.relu, conv1d(2, 2, padding="CAUSAL"))
    params, state, out_shape = layer.init(KEY, (9, 1))
    assert out_shape == (9, 2)
    x = jax.random.normal(jax.random.key(1), (1, 9, 1))
    for step in range(9):
        later = x.at[:, step:].add(1.0)
        y, moved = (layer.forward(params, state, x, None, False)[0] for x in (x, later))
        np.testing.assert_array_equal(y[:, :step], moved[:, :step])
        assert (y[:, step] != moved[:, step]).any()


def test_it_learns_a_moving_difference():
    x = np.random.default_rng(0).normal(size=(64, 12, 1)).astype("float32")
    t = np.diff(x, axis=1)
    net = conv1d(1, 2, padding="VALID")
    run = fnn.fit(
        net, fnn.losses.squared_error, fnn.optimizers.levenberg_marquardt(), (x, t), epochs=10, progress=False
    )
    np.testing.assert_allclose(run.params["w"].ravel(), [-1, 1], atol=1e-4)


@pytest.mark.parametrize(
    "layer, in_shape, message",
    [
        (conv1d(4, 3), (9,), "conv1d(4, 3): expected sequences of shape (steps, channels), got (9,). Add an axis of "
         "one channel: x[..., None]."),
        (conv1d(4, 3), (9, 9, 1), "conv1d(4, 3): expected sequences of shape (steps, channels), got (9, 9, 1). Use "
         "conv2d for images."),
        (conv1d(4, 3, padding="VALID", dilation=2), (4, 1), "conv1d(4, 3): expected at least 5 steps, got 4 from (4, "
         "1). Use a smaller window or padding='SAME'."),
        (conv1d(4, 3, groups=2), (9, 3), "conv1d(4, 3): expected channels that can be cut into 2 groups, got 3 from "
         "(9, 3). Use groups that divide the channels."),
    ],
)  # fmt: skip
def test_shapes_that_cannot_work_raise_at_init(layer, in_shape, message):
    with pytest.raises(fnn.ShapeError) as caught:
        layer.init(KEY, in_shape)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((0, 5), "conv1d: expected a whole number of features, at least 1, got 0. Write conv1d(20, 5)."),
        ((4, (3, 3)), "conv1d(4, (3, 3)): expected window to be a whole number, at least 1, got (3, 3). Write "
         "window=2."),
        ((4, 3, 0), "conv1d(4, 3): expected stride to be a whole number, at least 1, got 0. Write stride=2."),
        ((4, 3, 1, "causal"), "conv1d(4, 3): expected padding 'SAME', 'VALID', 'CAUSAL' or (before, after), got "
         "'causal'. Write padding='SAME'."),
        ((4, 3, 1, (1, -1)), "conv1d(4, 3): expected padding 'SAME', 'VALID', 'CAUSAL' or (before, after), at least 0, "
         "got -1. Write padding='SAME'."),
        ((4, 3, 1, "SAME", 1, 3), "conv1d(4, 3): expected features that can be cut into 3 groups, got 4. Use 6 "
         "features, or other groups."),
    ],
)  # fmt: skip
def test_arguments_out_of_range_raise(arguments, message):
    with pytest.raises(ValueError) as caught:
        conv1d(*arguments)
    assert str(caught.value) == message


def test_other_inputs_than_the_parameters_are_for_raise():
    params = conv1d(2, 3).init(KEY, (9, 2))[0]
    with pytest.raises(
        fnn.ShapeError, match=r"conv1d\(2, 3\): expected x of shape \(batch, steps, 2\), got \(1, 9, 3\)"
    ):
        conv1d(2, 3).forward(params, (), jnp.ones((1, 9, 3)), None, False)

"""conv_transpose2d: the transpose of conv2d, sizes, the spread of outputs; and what raises. PyTorch:
`test_like_pytorch`."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fnn
from fnn.layers.images.transposed import conv_transpose2d

KEY = jax.random.key(0)


@pytest.mark.parametrize(
    "window, stride, padding, shape, larger",
    [
        (3, 2, "SAME", (7, 5), (14, 10)),
        (2, 3, "SAME", (7, 5), (21, 15)),
        ((4, 1), (1, 2), "VALID", (7, 5), (10, 9)),
        (3, 2, ((1, 0), (0, 1)), (4, 4), (8, 8)),
    ],
)
def test_it_is_the_transpose_of_conv2d(window, stride, padding, shape, larger, x64):
    """`⟨conv x, y⟩ = ⟨x, transposed y⟩` with the same weights."""
    back = conv_transpose2d(2, window, stride, padding, bias=False)
    params, _, out_shape = back.init(KEY, (*shape, 3))
    assert out_shape == (*larger, 2)
    forth = fnn.conv2d(3, window, stride, padding, bias=False)
    assert forth.init(KEY, out_shape)[2] == (*shape, 3)
    x, y = (jax.random.normal(jax.random.key(i), (2, *s)) for i, s in enumerate([out_shape, (*shape, 3)]))
    one = jnp.vdot(forth.forward(params, (), x, None, False)[0], y)
    other = jnp.vdot(x, back.forward(params, (), y, None, False)[0])
    np.testing.assert_allclose(one, other, rtol=1e-12)


def test_without_overlap_each_number_becomes_the_kernel_times_itself():
    layer = conv_transpose2d(1, 2, 2, bias=False)
    params = {"w": jnp.array([[1.0, 2.0], [3.0, 4.0]])[:, :, None, None]}
    y = layer.forward(params, (), jnp.array([[10.0, 1.0]])[None, :, :, None], None, False)[0]
    np.testing.assert_array_equal(y[0, :, :, 0], [[10, 20, 1, 2], [30, 40, 3, 4]])


@pytest.mark.parametrize("window, stride", [(4, 2), (3, 1), (2, 2)])
def test_outputs_have_the_spread_of_the_inputs_at_the_start(window, stride):
    layer = conv_transpose2d(64, window, stride)
    params, state, _ = layer.init(KEY, (8, 8, 32))
    y = layer.forward(params, state, jax.random.normal(jax.random.key(1), (4, 8, 8, 32)), None, False)[0]
    assert 0.85 < y[:, 2:-2, 2:-2].std() < 1.15


def test_an_autoencoder_of_images_learns():
    x = np.random.default_rng(0).integers(0, 2, (64, 1, 1, 4)).repeat(4, 1).repeat(4, 2).astype("float32")
    net = fnn.serial(fnn.conv2d(8, 4, 4), fnn.tanh, conv_transpose2d(8, 4, 2), fnn.relu, conv_transpose2d(4, 2, 2))
    run = fnn.fit(
        net, lambda y, t: ((y - t) ** 2).mean((1, 2, 3)), optax.adam(0.01), (x, x), epochs=100, progress=False
    )
    assert run.history.loss[-1] < 0.2 * run.history.loss[0]


@pytest.mark.parametrize(
    "make, in_shape, message",
    [
        (lambda: conv_transpose2d(4, 3), (28, 28), "conv_transpose2d(4, 3): expected images of shape (height, width, "
         "channels), got (28, 28). Add an axis of one channel: x[..., None]."),
        (lambda: conv_transpose2d(4, 3, padding=((2, 1), (0, 0))), (1, 4, 2), "conv_transpose2d(4, 3): expected "
         "padding that leaves an image, got ((2, 1), (0, 0)) for images of 1 × 4. Pad less: padding is cut off here."),
        (lambda: conv_transpose2d(4, 3, groups=2), (5, 5, 3), "conv_transpose2d(4, 3): expected channels that can be "
         "cut into 2 groups, got 3 from (5, 5, 3). Use groups that divide the channels."),
        (lambda: conv_transpose2d(4, 3, 0), (5, 5, 3), "conv_transpose2d(4, 3): expected stride to be two whole "
         "numbers, at least 1, got 0. Write stride=(2, 2)."),
    ],
)  # fmt: skip
def test_what_cannot_work_raises(make, in_shape, message):
    with pytest.raises(ValueError) as caught:
        make().init(KEY, in_shape)
    assert str(caught.value) == message

"""upsample: repeated, or lines between neighbours; sums that come back; and what raises. PyTorch:
`test_like_pytorch`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn.layers.images.upsampling import upsample


@pytest.mark.parametrize("method", ["nearest", "bilinear"])
@pytest.mark.parametrize("factor", [1, 2, (3, 1), (2, 5)])
def test_what_is_equal_stays_equal_and_nothing_is_lost_on_the_way_back(method, factor):
    layer = upsample(factor, method)
    out_shape = layer.init(jax.random.key(0), (3, 4, 2))[2]
    y, state, cache = layer.forward((), (), jnp.full((2, 3, 4, 2), 0.1), None, True)
    assert y.shape == (2, *out_shape) and state == ()
    np.testing.assert_allclose(y, np.full(y.shape, 0.1), 1e-6)
    dy = jax.random.normal(jax.random.key(1), y.shape)
    np.testing.assert_allclose(layer.backward((), cache, dy)[1].sum((1, 2)), dy.sum((1, 2)), 1e-4, 1e-4)


def test_pooling_by_the_same_factor_takes_it_back():
    x = jax.random.normal(jax.random.key(0), (2, 3, 4, 2))
    larger = upsample((2, 3)).forward((), (), x, None, False)[0]
    np.testing.assert_allclose(fnn.avg_pool((2, 3)).forward((), (), larger, None, False)[0], x, 1e-6)
    np.testing.assert_array_equal(larger, np.repeat(np.repeat(x, 2, 1), 3, 2))


def test_a_slope_stays_a_slope_within_the_image():
    x = jnp.arange(5.0)[None, :, None, None] * jnp.ones((1, 1, 3, 1))
    y = upsample(4, "bilinear").forward((), (), x, None, False)[0][0, :, 0, 0]
    np.testing.assert_allclose(np.diff(y)[2:-2], 0.25)
    np.testing.assert_array_equal(y[:2], [0, 0])  # the number at the edge


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: upsample(0), "upsample(0): expected factor to be two whole numbers, at least 1, got 0. Write "
         "factor=(2, 2)."),
        (lambda: upsample(1.5), "upsample(1.5): expected factor to be two whole numbers, at least 1, got 1.5. Write "
         "factor=(2, 2)."),
        (lambda: upsample(2, "cubic"), "upsample: method: expected one of 'nearest', 'bilinear', got 'cubic'. Choose "
         "one of them."),
        (lambda: upsample(2).init(None, (8,)), "upsample(2): expected images of shape (height, width, channels), got "
         "(8,). Put it before what makes vectors of images, or reshape x to (rows, height, width, channels)."),
    ],
)  # fmt: skip
def test_what_cannot_work_raises(make, message):
    with pytest.raises(ValueError) as caught:
        make()
    assert str(caught.value) == message

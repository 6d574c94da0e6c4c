"""Augmentation: what is drawn and how often, the way back, bytes that stay bytes, and what raises."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fnn
from fnn.layers.images.augmentation import random_crop, random_flip, random_shift, rescale
from fnn.layers.noise import gaussian_noise

KEY = jax.random.key(0)
X = np.random.default_rng(0).integers(1, 256, (400, 5, 6, 2), dtype=np.uint8)
RANDOM = [random_shift(2), random_flip(0.3), random_flip(vertical=True), random_crop(3, 4), gaussian_noise(0.1)]


@pytest.fixture(scope="module")
def trained():
    """What each layer makes of the same images, by its name."""
    return {str(layer): np.asarray(layer.forward((), (), jnp.asarray(X), KEY, True)[0]) for layer in RANDOM}


# ---- what is drawn


def rolled(image, down, right):
    """Moved by so much, 0 where nothing came in."""
    out = np.zeros_like(image)
    height, width = image.shape[:2]
    for i, j in np.ndindex(height, width):
        if 0 <= i + down < height and 0 <= j + right < width:
            out[i, j] = image[i + down, j + right]
    return out


def test_each_image_is_moved_by_whole_pixels_each_way_alike(trained):
    counts = np.zeros((5, 5), int)
    for image, y in zip(X, trained["random_shift(2)"], strict=True):
        found = [(a, b) for a, b in np.ndindex(5, 5) if (rolled(image, a - 2, b - 2) == y).all()]
        assert len(found) == 1
        counts[found[0]] += 1
    assert counts.sum() == 400 and counts.min() >= 4  # 16 expected; fewer than 4 once in thousands
    assert abs(counts.sum(0) - 80).max() < 4 * np.sqrt(80) and abs(counts.sum(1) - 80).max() < 4 * np.sqrt(80)


@pytest.mark.parametrize(
    "layer, axis, rate", [("random_flip(rate=0.3)", 1, 0.3), ("random_flip(vertical=True)", 0, 0.5)]
)
def test_images_are_mirrored_as_often_as_asked(trained, layer, axis, rate):
    mirrored = [(np.flip(image, axis) == y).all() for image, y in zip(X, trained[layer], strict=True)]
    unchanged = [(image == y).all() for image, y in zip(X, trained[layer], strict=True)]
    assert all(np.logical_xor(mirrored, unchanged))
    assert abs(np.mean(mirrored) - rate) < 4 * np.sqrt(rate * (1 - rate) / 400)


def test_crops_are_from_everywhere_and_in_prediction_from_the_middle(trained):
    counts = np.zeros((3, 3), int)
    for image, y in zip(X, trained["random_crop(3, 4)"], strict=True):
        for a, b in np.ndindex(3, 3):
            counts[a, b] += (image[a : a + 3, b : b + 4] == y).all()
    assert counts.sum() == 400 and abs(counts - 400 / 9).max() < 4 * np.sqrt(400 / 9)
    np.testing.assert_array_equal(random_crop(3, 4).forward((), (), jnp.asarray(X), None, False)[0], X[:, 1:4, 1:5])


def test_noise_has_the_deviation_asked_for(trained):
    noise = trained["gaussian_noise(0.1)"] - X.astype(np.float32)
    assert abs(noise.mean()) < 4 * 0.1 / np.sqrt(noise.size) and abs(noise.std() / 0.1 - 1) < 0.02


def test_the_draw_is_the_keys_and_each_images_own(trained):
    for layer in RANDOM:
        again, other = (layer.forward((), (), jnp.asarray(X), jax.random.key(seed), True)[0] for seed in (0, 1))
        np.testing.assert_array_equal(again, trained[str(layer)])
        assert (np.asarray(other) != trained[str(layer)]).any()


# ---- the contract


def test_bytes_stay_bytes_until_rescale(trained):
    assert {name: y.dtype for name, y in trained.items()} == {
        str(layer): np.dtype("float32" if "noise" in str(layer) else "uint8") for layer in RANDOM
    }
    net = fnn.serial(random_crop(4, 4), random_shift(1), random_flip(), rescale(), gaussian_noise(0.01))
    params, state, out_shape = net.init(KEY, X.shape[1:])
    y = jax.eval_shape(lambda x: net.forward(params, state, x, KEY, True)[0], X)
    assert out_shape == (4, 4, 2) and y.shape == (400, 4, 4, 2) and y.dtype == np.float32


def test_prediction_changes_nothing_without_a_key():
    for layer in RANDOM:
        y, _, cache = layer.forward((), (), jnp.asarray(X), None, False)
        if "crop" not in str(layer):
            np.testing.assert_array_equal(y, X)
            np.testing.assert_array_equal(layer.backward((), cache, y)[1], y)


@pytest.mark.parametrize("layer", [*RANDOM, rescale(0.5, 1.0)], ids=str)
@pytest.mark.parametrize("train", [True, False])
def test_backward_is_autodiff(layer, train, x64):
    x = jnp.asarray(X[:7], "float64")

    @jax.jit
    def both(x):
        y, pull = jax.vjp(lambda x: layer.forward((), (), x, KEY, train)[0], x)
        dy = jnp.cos(y)
        return pull(dy)[0], layer.backward((), layer.forward((), (), x, KEY, train)[2], dy)[1]

    np.testing.assert_array_equal(*both(x))


def test_rescale_takes_bytes_to_the_unit_interval():
    y = rescale().forward((), (), jnp.asarray([[0, 51, 255]], jnp.uint8), None, True)[0]
    np.testing.assert_allclose(y, [[0, 0.2, 1]], rtol=1e-6)
    np.testing.assert_array_equal(rescale(2, -1).forward((), (), jnp.ones((1, 2)), None, False)[0], [[1, 1]])


def test_a_network_trains_on_bytes():
    x, t = X[:40], (X[:40, 0, 0, 0] > 127).astype(int)
    net = fnn.serial(random_shift(1), rescale(), lambda x: x.reshape(len(x), 60), fnn.dense(2))
    run = fnn.fit(
        net, fnn.losses.sparse_softmax_cross_entropy, optax.sgd(0.1), (x, t), epochs=3, batch_size=16, progress=False
    )
    assert np.isfinite(run.history.loss).all() and run.history.loss[-1] < run.history.loss[0]


# ---- what raises


@pytest.mark.parametrize("layer", RANDOM, ids=str)
def test_training_without_a_key_raises(layer):
    with pytest.raises(ValueError) as caught:
        layer.forward((), (), jnp.asarray(X), None, True)
    assert str(caught.value).endswith(": expected a key when it trains, got None. Pass key=jax.random.key(0).")
    assert str(caught.value).startswith(str(layer).split("(")[0])


@pytest.mark.parametrize("layer", RANDOM[:4], ids=str)
def test_what_are_no_images_raises(layer):
    for use in (lambda: layer.init(KEY, (60,)), lambda: layer.forward((), (), jnp.ones((2, 60)), KEY, True)):
        with pytest.raises(fnn.ShapeError, match=r"expected images of shape \(height, width, channels\), got \(60,\)"):
            use()


@pytest.mark.parametrize(
    "make, error, message",
    [
        (lambda: random_shift(-1), ValueError, "random_shift: expected most to be a whole number, at least 0, got -1."
         " Write most=2."),
        (lambda: random_shift(1.5), ValueError, "random_shift: expected most to be a whole number, at least 0, got 1.5."
         " Write most=2."),
        (lambda: random_flip(1.5), ValueError, "random_flip: expected a rate of at most 1, got 1.5. Pass the "
         "probability of mirroring, in [0, 1]."),
        (lambda: random_crop(0, 2), ValueError, "random_crop: expected height to be a whole number, at least 1, got 0. "
         "Write height=2."),
        (lambda: gaussian_noise(-1), ValueError, "gaussian_noise: expected a deviation of at least 0, got -1. Pass "
         "the noise's size in the unit of x."),
        (lambda: random_crop(6, 6).init(KEY, (5, 6, 2)), fnn.ShapeError, "random_crop(6, 6): expected images of at "
         "least 6 × 6, got 5 × 6 from (5, 6, 2). Crop to less."),
    ],
)  # fmt: skip
def test_arguments_out_of_range_raise(make, error, message):
    with pytest.raises(error) as caught:
        make()
    assert str(caught.value) == message

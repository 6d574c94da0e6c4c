"""The MNIST experiment at small size: does it learn, hold out fairly, and draw what it says?"""

import jax
import numpy as np
import pytest

import fnn
from experiments import mnist

SMALL = mnist.Settings(seeds=1, epochs=4, epochs_moved=8, images=40, channels=(4, 8))


@pytest.mark.slow
def test_the_images_are_bytes_and_each_digit_is_there_alike():
    images, labels = mnist.digits(40)
    assert images.shape == (400, 28, 28, 1) and images.dtype == np.uint8 and (images.min(), images.max()) == (0, 255)
    np.testing.assert_array_equal(np.bincount(labels), np.full(10, 40))
    assert len(np.unique(images.reshape(400, -1), axis=0)) == 400


def test_the_network_takes_bytes_and_moves_them_only_if_asked():
    plain, moving = mnist.network((20, 50), False), mnist.network((20, 50), True)
    assert "random_shift(2)" in str(moving) and "random_shift" not in str(plain)
    size = fnn.summary(moving, (28, 28, 1))
    assert size.rows[-1].out_shape == (10,) and size.layers == 4
    assert size.parameters == fnn.summary(plain, (28, 28, 1)).parameters


def run_of(predicted, labels, images):
    """As if a network had said so; its filters are counted through."""
    params = ((), {"w": np.arange(5 * 5 * 12.0).reshape(5, 5, 1, 12), "b": np.zeros(12)})
    state = fnn.Run(params, (), None, None)
    return mnist.Trained(fnn.Run(params, (), None, state), None, images, labels, predicted)


def test_the_pictures_show_what_they_say():
    labels = np.arange(40) % 10
    predicted = np.where(np.arange(40) % 3 == 0, (labels + 1) % 10, labels)
    images = np.random.default_rng(0).integers(0, 256, (40, 28, 28, 1), dtype=np.uint8)
    one = run_of(predicted, labels, images)
    assert one.accuracy == pytest.approx(100 * 26 / 40)

    table = mnist.confusion([one, one]).axes[0]
    shown = {(t.get_position()[1], t.get_position()[0]): int(t.get_text()) for t in table.texts}
    assert sum(shown.values()) == 80 and shown[0, 1] == 2 * sum((labels == 0) & (predicted == 1))

    kernels = [ax.images[0].get_array() for ax in mnist.filters(one).axes if ax.images]
    assert len(kernels) == 12
    np.testing.assert_array_equal(kernels[3], np.arange(300.0).reshape(25, 12)[:, 3].reshape(5, 5))

    wrong = np.flatnonzero(predicted != labels)
    pictures = [ax for ax in mnist.mistakes(one).axes if ax.images]
    for ax, i in zip(pictures, wrong, strict=True):
        np.testing.assert_array_equal(ax.images[0].get_array(), images[i, :, :, 0])
        assert ax.get_title() == f"{labels[i]}, read as {predicted[i]}"


@pytest.mark.slow
def test_it_learns_and_holds_out_each_digit_alike():
    result = mnist.main(SMALL)
    for how in (mnist.ALONE, mnist.MOVED):
        one = result.numbers["runs"][how][0]
        assert one.run.history.loss[-1] < one.run.history.loss[0]
        assert result.numbers["wrong"][how] == (one.predicted != one.labels).sum()
        np.testing.assert_array_equal(np.bincount(one.labels), np.full(10, 8))
    assert result.numbers["accuracies"][mnist.MOVED][0] > 40  # of 80 images, each digit alike: chance is 10
    assert [figure.name for figure in result.figures] == [
        *("Cost against epoch", "Confusion matrix", "First-layer filters", "What it gets wrong")
    ]
    jax.tree.map(lambda a: np.testing.assert_array_equal(np.isfinite(a), True), one.run.params)

"""The MNIST experiment at small size: does it learn, hold out fairly, and draw what it says?"""

import numpy as np
import pytest

from experiments import mnist
from experiments.report import Figure

SMALL = mnist.Settings(seeds=1, epochs=4, images=40, channels=(4, 8))


@pytest.fixture(scope="module")
def result():
    return mnist.main(SMALL)


def test_it_learns(result):
    for how in (mnist.ALONE, mnist.MOVED):
        run = result.numbers["runs"][how][0].run
        assert run.history.loss[-1] < run.history.loss[0]
    assert result.numbers["accuracies"][mnist.MOVED][0] > 40  # of 80 images, each digit alike: chance is 10


def test_what_is_held_out_was_not_trained_on_and_has_each_digit_alike(result):
    images, labels = mnist.digits(SMALL.images)
    assert images.shape == (400, 28, 28, 1) and images.dtype == np.uint8 and images.max() == 255
    np.testing.assert_array_equal(np.bincount(labels), np.full(10, 40))
    held = result.numbers["runs"][mnist.ALONE][0]
    np.testing.assert_array_equal(np.bincount(held.labels), np.full(10, 8))


def test_the_accuracy_is_that_of_the_predictions(result):
    one = result.numbers["runs"][mnist.ALONE][0]
    assert one.accuracy == 100 * np.mean(one.predicted == one.labels)
    assert result.numbers["wrong"][mnist.ALONE] == (one.predicted != one.labels).sum()
    assert result.rows[0].reproduced == f"{one.accuracy:.4g}"


def test_it_has_the_pictures_asked_for(result):
    assert all(isinstance(figure, Figure) for figure in result.figures)
    names = [figure.name for figure in result.figures]
    assert names == ["Cost against epoch", "Confusion matrix", "First-layer filters", "What it gets wrong"]
    counts = [text.get_text() for text in result.figures[1].picture.axes[0].texts]
    assert sum(map(int, counts)) == 80
    shown = [ax for ax in result.figures[2].picture.axes if ax.images]
    assert len(shown) == 4 and shown[0].images[0].get_array().shape == (5, 5)
    one = result.numbers["runs"][mnist.MOVED][0]
    wrong = np.flatnonzero(one.predicted != one.labels)[:30]
    pictures = [ax for ax in result.figures[3].picture.axes if ax.images]
    assert len(pictures) == len(wrong)
    for ax, i in zip(pictures, wrong, strict=True):
        np.testing.assert_array_equal(ax.images[0].get_array(), one.images[i, :, :, 0])
        assert ax.get_title() == f"{one.labels[i]}, read as {one.predicted[i]}"

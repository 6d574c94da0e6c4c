"""Probabilities handed to a loss on logits, and the other way round: a warning with the hint."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn.fitting.output_kinds import to_probabilities
from tests.helpers.problems import LABELS, LOSS, fit

losses = fnn.losses
ONE_HOT = np.eye(2, dtype="float32")[LABELS]
COLUMN = LABELS[:, None].astype("float32")
SMOOTHED = losses.smoothed(losses.softmax_cross_entropy, 0.1)


@fnn.factory
def block(*layers):
    """One's own, of layers of fnn."""
    return fnn.serial(*layers)


@fnn.factory
def hidden(layer):
    """One's own, which does not say what it is made of."""
    return fnn.Layer(None, layer.init, layer.forward, layer.backward)


def ends_with(*layers, width=2):
    return fnn.serial(fnn.dense(width), *layers)


MIXED_UP = {
    "softmax": (
        ends_with(fnn.softmax),
        LOSS,
        LABELS,
        "expected logits, got softmax from the end of the net",
    ),
    "in a serial": (ends_with(fnn.serial(fnn.tanh, fnn.softmax)), LOSS, LABELS, "expected logits, got softmax"),
    "in mixed precision": (
        fnn.mixed_precision(ends_with(fnn.softmax)),
        LOSS,
        LABELS,
        "expected logits, got softmax",
    ),
    "in a block": (block(fnn.dense(2), fnn.mixed_precision(fnn.softmax)), LOSS, LABELS, "expected logits, got softmax"),
    "repeated": (ends_with(fnn.repeat(fnn.softmax, 2)), LOSS, LABELS, "expected logits, got softmax"),
    "hidden": (
        hidden(ends_with(fnn.softmax)),
        LOSS,
        LABELS,
        "expected logits, got probabilities, rows that sum to 1 from the end",
    ),
    "dense in mixed precision": (
        fnn.mixed_precision(ends_with()),
        losses.sparse_cross_entropy,
        LABELS,
        r"expected probabilities, got any numbers from dense\(2\)",
    ),
    "a sigmoid": (
        ends_with(fnn.sigmoid, width=1),
        losses.sigmoid_cross_entropy,
        COLUMN,
        "expected logits, got sigmoid",
    ),
    "JAX's": (ends_with(jax.nn.softmax), losses.softmax_cross_entropy, ONE_HOT, "expected logits, got softmax"),
    "a smoothed loss": (ends_with(fnn.softmax), SMOOTHED, ONE_HOT, r"loss: smoothed\(.*\) expected logits"),
    "a focal loss": (ends_with(fnn.softmax), losses.softmax_focal(2.0), ONE_HOT, "expected logits, got softmax"),
    "one's own": (
        ends_with(lambda x: jnp.exp(x) / jnp.exp(x).sum(-1, keepdims=True)),
        LOSS,
        LABELS,
        "expected logits, got probabilities, rows that sum to 1 from the end",
    ),
    "a loss of one's own": (
        ends_with(fnn.softmax),
        losses.from_function(LOSS.value, name="mine", targets="labels", outputs="logits"),
        LABELS,
        "loss: mine expected logits, got softmax",
    ),
    "one output": (
        ends_with(width=1),
        losses.from_function(LOSS.value, name="mine", targets="labels", outputs="logits"),
        0 * LABELS,
        "loss: mine expected one output per class, got a single one, .* Use sigmoid_cross_entropy or sigmoid_focal",
    ),
    "probabilities of one's own": (
        ends_with(),
        losses.from_function(losses.cross_entropy.value, name="mine", outputs="probabilities"),
        ONE_HOT,
        "loss: mine expected probabilities, got any numbers.* Use a loss on logits, or end the network with softmax",
    ),
    "a sum": (
        ends_with(fnn.softmax),
        losses.weighted_sum((1.0, losses.softmax_cross_entropy), (0.1, losses.squared_error)),
        ONE_HOT,
        r"loss: weighted_sum\(.*\) expected logits, got softmax",
    ),
    "dense": (
        ends_with(),
        losses.cross_entropy,
        ONE_HOT,
        r"cross_entropy expected probabilities, got any numbers from dense\(2\) at the end of the network. "
        "Use softmax_cross_entropy, or end the network with softmax",
    ),
    "dense, class numbers": (
        ends_with(),
        losses.sparse_cross_entropy,
        LABELS,
        "Use sparse_softmax_cross_entr",
    ),
    "dense, binary": (
        ends_with(width=1),
        losses.binary_cross_entropy,
        COLUMN,
        "Use sigmoid_cross_entropy, or end the network with sigmoid",
    ),
}


@pytest.mark.parametrize("name", MIXED_UP)
def test_a_mix_up_warns_with_the_mend(name):
    network, loss, t, message = MIXED_UP[name]
    with pytest.warns(UserWarning, match=message) as caught:
        fit(network=network, loss=loss, t=t, epochs=0)
    assert len(caught) == 1 and caught[0].filename.endswith("problems.py")


@pytest.mark.parametrize(
    "network, loss, t",
    [
        (ends_with(), LOSS, LABELS),
        (ends_with(fnn.softmax), losses.cross_entropy, ONE_HOT),
        (ends_with(fnn.sigmoid, width=1), losses.binary_cross_entropy, COLUMN),
        (ends_with(fnn.softmax), losses.squared_error, ONE_HOT),
        (ends_with(fnn.relu), LOSS, LABELS),
        (  # goes by what the loss says, not by its name
            ends_with(fnn.softmax),
            losses.from_function(losses.cross_entropy.value, name="softmax_cross_entropy", outputs="probabilities"),
            ONE_HOT,
        ),
        (ends_with(jnp.sin), LOSS, LABELS),
        (ends_with(fnn.residual(fnn.softmax)), LOSS, LABELS),  # x is added to it
        (fnn.mixed_precision(ends_with()), LOSS, LABELS),
        (hidden(ends_with()), LOSS, LABELS),
        (ends_with(lambda x: x - x.mean(-1, keepdims=True)), LOSS, LABELS),
    ],
    ids=lambda thing: "" if isinstance(thing, np.ndarray) else str(thing),
)
def test_what_belongs_together_does_not(network, loss, t):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(network=network, loss=loss, t=t, epochs=0)


def test_probabilities_are_made_as_the_loss_says():
    own = {"value": lambda y, t: (y - t).sum(-1), "outputs": "logits"}
    assert to_probabilities(losses.smoothed(LOSS, 0.1)) is fnn.softmax
    assert to_probabilities(losses.from_function(**own, targets="labels")) is fnn.softmax
    assert to_probabilities(losses.from_function(**own, targets="binary")) is fnn.sigmoid
    for loss in (losses.from_function(**own), losses.cross_entropy, losses.squared_error):
        assert to_probabilities(loss)("as it is") == "as it is"

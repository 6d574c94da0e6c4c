"""Probabilities handed to a loss on logits, and the other way round: a warning with the hint."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fnn
from fnn.fitting.output_kinds import to_probabilities, warn_if_undefined
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


HEADS = fnn.parallel(price=fnn.dense(1), kind=fnn.dense(2))
GAPS = losses.joint(
    price=(1.0, losses.masked(losses.squared_error)), kind=(1.0, losses.masked(losses.sparse_softmax_cross_entropy, -1))
)
NONE = {"price": np.full((12, 1), np.nan, "float32"), "kind": np.full(12, -1)}
SOME = {"price": np.full((12, 1), 2.0, "float32"), "kind": np.arange(12) % 3 - 1}


@pytest.mark.parametrize(
    ("targets", "held", "named"),
    [
        (SOME, None, []),
        ({**SOME, "price": NONE["price"]}, None, ['data[1]["price"]']),
        (NONE, None, ['data[1]["kind"]', 'data[1]["price"]']),
        (SOME, {**SOME, "kind": NONE["kind"]}, ['validation[1]["kind"]']),
    ],
)
def test_targets_that_are_missing_in_all_rows_are_warned_of(targets, held, named):
    x = np.ones((12, 3), "float32")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        validation = None if held is None else (x, held)
        fnn.fit(HEADS, GAPS, optax.sgd(0.1), (x, targets), epochs=0, validation=validation, progress=False)
    texts = [str(warning.message) for warning in caught]
    assert [text.partition(":")[0] for text in texts] == named
    assert all("got none in all 12" in text for text in texts)


def test_studies_and_validation_beside_a_stream_warn_of_them_too():
    x, sgd = np.ones((12, 3), "float32"), optax.sgd(0.1)
    with pytest.warns(UserWarning, match="kind.*got none in all 12"):
        fnn.ensemble(HEADS, GAPS, sgd, (x, {**SOME, "kind": NONE["kind"]}), members=1, epochs=1, progress=False)
    held = x, {**SOME, "price": NONE["price"]}
    with pytest.warns(UserWarning, match="validation.*price.*got none in all 12"):
        fnn.fit(HEADS, GAPS, sgd, lambda epoch: [(x, SOME)], epochs=1, batch_size=12, validation=held, progress=False)


@pytest.mark.parametrize(("figures", "warned"), [([np.nan, np.nan], True), ([np.nan, 0.5], False), ([], False)])
def test_a_monitored_figure_that_is_never_a_number_is_warned_of(figures, warned):
    history = fnn.History(np.ones(2), {}, np.ones(len(figures)), {"auc": np.array(figures)})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn_if_undefined("auc", history)
        warn_if_undefined("loss", history)
    assert [
        "monitor: expected 'auc' to be a number in some epoch, got nan in all 2" in str(w.message) for w in caught
    ] == [True] * warned


def test_fit_warns_of_it():
    x, t = np.eye(4, dtype="float32"), np.float32([[0], [1], [0], [1]])
    options = {
        "epochs": 3,
        "progress": False,
        "metrics": {"auc": fnn.metrics.roc_auc()},
        "monitor": "auc",
        "patience": 1,
    }
    loss = losses.sigmoid_cross_entropy
    with pytest.warns(UserWarning, match="monitor: expected 'auc' to be a number"):
        run = fnn.fit(fnn.dense(1), loss, optax.sgd(0.1), (x, t), validation=(x[::2], t[::2]), **options)
    assert run.best_epoch is None

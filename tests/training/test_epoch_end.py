"""Validation: given or split off, monitored as one says, and never a part of the training."""

import jax
import numpy as np
import pytest

import fnn
from fnn.data.splits import held_rows
from tests.helpers.problems import LABELS, LOSS, X, fit, net, same_bits

METRICS = {"accuracy": fnn.accuracy}
REST = {"x": X[20:], "t": LABELS[20:], "metrics": METRICS}  # one program for most of the tests: 80 and 20 rows


def test_a_share_is_split_off_by_the_key_and_equals_the_same_rows_given():
    run = fit(validation=0.2, metrics=METRICS)
    held = run.validation_rows
    assert held.shape == (20,) and np.array_equal(np.unique(held), held)
    others = np.setdiff1d(np.arange(100), held)
    given = fit(X[others], LABELS[others], validation=(X[held], LABELS[held]), metrics=METRICS)
    assert given.validation_rows is None
    assert same_bits(given[:4], run[:4])
    again, other = (fit(validation=0.2, key=key, epochs=0, metrics=METRICS).validation_rows for key in (0, 1))
    assert np.array_equal(held, again) and not np.array_equal(held, other)


@pytest.mark.parametrize("kind", ["labels", "one-hot", "column", "booleans"])
def test_classes_are_split_in_proportion(kind):
    labels = np.repeat([0, 1, 1, 2] if kind in ("labels", "one-hot") else [0, 1, 1, 1], 25)
    t = {"labels": labels, "one-hot": np.eye(3)[labels % 3], "column": labels[:, None] / 1.0, "booleans": labels > 0}
    for key in range(5):
        held = held_rows(t[kind], 0.2, key)
        assert np.array_equal(np.bincount(labels[held]), np.bincount(labels) // 5)
    numbers = np.random.default_rng(0).normal(size=(100, 1))
    assert len(held_rows(numbers, 0.2, 0)) == 20


def test_of_many_small_classes_not_always_the_first_are_held_out():
    held = [held_rows(np.arange(100), 0.1, key) for key in range(30)]
    assert 40 < np.concatenate(held).mean() < 60


def test_weights_go_with_their_rows_and_validation_may_have_its_own():
    weights = np.arange(100.0)
    run = fit(validation=0.2, weights=weights, metrics=METRICS)
    held = run.validation_rows
    others = np.setdiff1d(np.arange(100), held)
    given = (X[held], LABELS[held], weights[held])
    rest = {"x": X[others], "t": LABELS[others], "weights": weights[others], "metrics": METRICS}
    assert same_bits(fit(**rest, validation=given)[:4], run[:4])
    losses = np.asarray(LOSS(fnn.predict(net(), run, X[held]), LABELS[held]))
    at_best = run.history.validation_loss[run.best_epoch]
    assert at_best == pytest.approx(np.average(losses, weights=weights[held]), rel=1e-5)
    assert at_best != pytest.approx(losses.mean(), rel=1e-3)


def test_a_metric_is_monitored_in_the_direction_that_is_said():
    part = REST | {"validation": (X[:20], LABELS[:20]), "epochs": 30}
    high, low = (fit(**part, monitor="accuracy", mode=mode) for mode in ("max", "min"))
    values = high.history.validation_metrics["accuracy"]
    assert same_bits(high.history, low.history)
    assert high.best_epoch == int(np.argmax(values)) and low.best_epoch == int(np.argmin(values))
    assert high.best_epoch != low.best_epoch
    for run, value in ((high, values.max()), (low, values.min())):
        held = fnn.evaluate(net(), run, part["validation"], METRICS)
        assert held["accuracy"] == pytest.approx(value, abs=1e-6)


def test_patience_and_min_delta_count_epochs_without_a_better_value():
    part = REST | {"validation": (X[:20], LABELS[:20]), "epochs": 30, "monitor": "accuracy"}
    values = fit(**part, mode="max").history.validation_metrics["accuracy"]
    run = fit(**part, mode="max", patience=3, min_delta=0.04)
    best, at = -np.inf, -1
    for epoch, value in enumerate(values):
        if value > best + 0.04:
            best, at = value, epoch
        if epoch - at == 3:
            break
    assert run.best_epoch == at and len(run.history.loss) == epoch + 1 < 30
    assert int(run.train_state.wait) == 3


def test_poisoned_validation_rows_change_no_bit_of_training():
    x = X[:20].copy()
    clean = fit(**REST, validation=(x, LABELS[:20]))
    x[7] = 1e9
    poisoned = fit(**REST, validation=(x, LABELS[:20]))
    assert same_bits(clean.train_state.params, poisoned.train_state.params)
    assert same_bits(clean.history.loss, poisoned.history.loss)
    assert not same_bits(clean.history.validation_loss, poisoned.history.validation_loss)


def test_poisoned_rows_that_are_split_off_change_no_bit_of_training():
    held = fit(validation=0.2, metrics=METRICS, epochs=0).validation_rows
    poisoned = X.copy()
    poisoned[held] = 1e9
    one, other = (fit(x, validation=0.2, metrics=METRICS).train_state.params for x in (X, poisoned))
    assert same_bits(one, other)


def test_a_validation_that_is_never_a_number_leaves_the_last_parameters():
    def loss(y, t):
        return jax.numpy.where(t >= 10, jax.numpy.nan, LOSS(y, t % 2))

    run = fit(loss=loss, validation=(X[:20], LABELS[:20] + 10))
    assert np.isnan(run.history.validation_loss).all() and run.best_epoch is None
    assert same_bits(run.params, run.train_state.params)

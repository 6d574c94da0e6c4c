"""Predictions in chunks, means over rows, metrics."""

import jax
import numpy as np
import pytest

import fnn

NET = fnn.serial(fnn.dense(5), fnn.tanh, fnn.dense(3))
PARAMS, STATE, _ = NET.init(jax.random.key(0), (4,))
RUN = fnn.Run(PARAMS, STATE, None, None)
X = np.random.default_rng(0).normal(size=(103, 4)).astype("float32")


def test_predictions_are_in_row_order_whatever_the_chunks():
    whole, _, _ = NET.forward(PARAMS, STATE, X, None, False)
    for size in (1, 7, 50, 103, 1000):
        y = fnn.predict(NET, RUN, X, size)
        assert isinstance(y, np.ndarray)
        assert np.allclose(y, whole, atol=1e-6), size


def test_prediction_compiles_one_program_for_all_chunks():
    compiled = []

    def listen(event, duration, **more):
        if "backend_compile" in event:
            compiled.append(more.get("fun_name"))

    net = fnn.serial(fnn.dense(6), fnn.tanh, fnn.dense(3))
    params, state, _ = net.init(jax.random.key(0), (4,))
    jax.monitoring.register_event_duration_secs_listener(listen)
    fnn.predict(net, fnn.Run(params, state, None, None), X, 10)
    jax.monitoring.unregister_event_duration_listener(listen)
    assert len(compiled) == 1


def test_evaluate_gives_the_mean_over_rows():
    labels = np.arange(103) % 3
    y = fnn.predict(NET, RUN, X)
    result = fnn.evaluate(NET, RUN, (X, labels), {"accuracy": fnn.accuracy}, batch_size=10)
    assert result == {"accuracy": pytest.approx((y.argmax(1) == labels).mean(), rel=1e-6)}


def test_accuracy_of_labels_and_of_one_hot_rows():
    outputs = np.array([[0.1, 0.7, 0.2], [0.5, 0.3, 0.2], [0.0, 0.1, 0.9]], "float32")
    labels = np.array([1, 2, 2])
    assert fnn.accuracy(outputs, labels).tolist() == [1, 0, 1]
    assert fnn.accuracy(outputs, np.eye(3, dtype="float32")[labels]).tolist() == [1, 0, 1]


def test_binary_accuracy_of_probabilities_and_logits():
    targets = np.array([[1], [1], [0]])
    assert fnn.binary_accuracy(0.5)(np.array([[0.9], [0.4], [0.1]], "float32"), targets).tolist() == [1, 0, 1]
    assert fnn.binary_accuracy(0.0)(np.array([[2.0], [-2.0], [-1.0]], "float32"), targets).tolist() == [1, 0, 1]


def test_mistakes_raise():
    with pytest.raises(fnn.ShapeError, match=r"accuracy: expected outputs of shape \(batch, classes\).*got \(3, 1\)"):
        fnn.accuracy(np.ones((3, 1)), np.ones(3))
    with pytest.raises(fnn.ShapeError, match=r"accuracy: expected targets of shape \(3,\) or \(3, 2\), got \(4,\)"):
        fnn.accuracy(np.ones((3, 2)), np.ones(4))
    with pytest.raises(fnn.ShapeError, match=r"binary_accuracy: expected targets of shape \(3, 1\), got \(3,\)"):
        fnn.binary_accuracy()(np.ones((3, 1)), np.ones(3))
    with pytest.raises(ValueError, match="x: expected finite"):
        fnn.predict(NET, RUN, np.full((2, 4), np.nan))
    with pytest.raises(fnn.ShapeError, match=r"expected x of shape \(batch, 4\), got \(2, 3\)"):
        fnn.predict(NET, RUN, np.ones((2, 3), "float32"))
    with pytest.raises(ValueError, match="batch_size: expected a whole number"):
        fnn.predict(NET, RUN, X, 0)

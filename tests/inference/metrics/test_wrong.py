"""What a metric cannot be made of, or be a metric of, is named, before anything compiles."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fnn

M = fnn.metrics
X = np.random.default_rng(0).normal(size=(12, 3)).astype("float32")
T = np.arange(12) % 3
NET, SCE = fnn.serial(fnn.dense(3)), fnn.losses.sparse_softmax_cross_entropy
PARAMS, STATE, _ = NET.init(fnn.arguments.key(0), (3,))
RUN = fnn.Run(PARAMS, STATE, None, None)
COLUMN = np.zeros((12, 1), "float32")


def fit(metric, data=(X, T), **more):
    return fnn.fit(NET, SCE, optax.sgd(0.1), data, epochs=1, metrics={"m": metric}, progress=False, **more)


def evaluate(metric, data=(X, T)):
    return fnn.evaluate(NET, RUN, data, {"m": metric})


def chunks():
    yield X, T


ONE = r"metrics\['m'\]: expected one number per epoch, got one of shape \(3, 3\). Call fnn.evaluate, which returns it"
STREAM = r"data: expected arrays for metrics\['m'\], got a stream.*roc_auc\(logits=True\) needs all at once. Pass"
WRONG = {
    "a matrix in a history": (lambda: fit(M.confusion_matrix()), ONE),
    "a matrix in a study": (
        lambda: fnn.sweep(NET, SCE, optax.sgd(0.1), (X, T), epochs=1, over={"seed": [1, 2]}, progress=False,
                          metrics={"m": M.confusion_matrix()}), ONE),
    "one number per class in a history": (lambda: fit(M.f1(average=None)), r"got one of shape \(3,\)"),
    "ranks of a stream": (lambda: fit(M.roc_auc(logits=True), chunks, batch_size=4), STREAM),
    "ranks of a stream, evaluated": (lambda: evaluate(M.roc_auc(logits=True), chunks), STREAM),
    "not called": (lambda: fit(M.f1), r"metrics\['m'\]: expected a function, got the factory f1. Call it: f1\(\)"),
    "as a loss": (
        lambda: fnn.fit(NET, M.f1(), optax.sgd(0.1), (X, T), epochs=1),
        r"loss: expected a loss, got the metric f1\(\), which has no number per row. Pass one of fnn.losses",
    ),
    "one column without a threshold": (
        lambda: M.f1()(COLUMN, COLUMN),
        r"f1: expected outputs of shape \(batch, classes\).*got \(12, 1\). Pass threshold=0.5",
    ),
    "several columns of two classes": (
        lambda: M.confusion_matrix(0.5)(X, X), r"confusion_matrix: expected outputs of one column.*\(12, 3\)",
    ),
    "targets of another shape": (
        lambda: M.recall()(X, X[:, :2]), r"recall: expected targets of shape \(12,\) or \(12, 3\), got \(12, 2\)",
    ),
    "rows beside a column": (
        lambda: M.r2()(COLUMN, COLUMN[:, 0]), r"r2: expected targets of the shape .*: targets\[:, None"
    ),
    "fewer targets": (
        lambda: M.r2()(COLUMN, COLUMN[:5]), r"r2\(\): expected a target for each row of \(12, 1\), got \(5, 1\)"
    ),
    "an output that there is not": (
        lambda: M.of("kid", M.r2())({"kind": COLUMN}, {"kind": COLUMN}),
        r"of: expected outputs with 'kid' among them, got \[\"kind\"\]. Name one of them",
    ),
    "a number that is no place": (lambda: M.of(2.0, M.r2()), r"of: expected the name or the number of an output, got"),
    "no metric": (lambda: M.of("kind", 3), "of: expected a metric, got "),
    "a label too large": (
        lambda: evaluate(M.f1(), (X, T + 1)), "f1: expected class numbers from 0 to 2, got 3 in row 2"
    ),
    "a label between two": (
        lambda: evaluate(M.f1(), (X, np.where(T == 1, 1.5, T).astype("float32"))),
        "f1: expected whole class numbers, got 1.5 in row 1",
    ),
    "an average that there is none of": (lambda: M.f1("median"), "f1, average: expected one of 'macro'"),
    "binary of three": (lambda: M.f1("binary")(X, T), "f1: expected two classes for average='binary', got 3"),
    "a threshold of nan": (lambda: M.f1(threshold=float("nan")), "f1: expected a finite threshold, got nan"),
    "classes for a threshold": (lambda: M.confusion_matrix(3), r"confusion_matrix: .* got 3\. Omit it for 3 classes"),
    "classes by name": (lambda: M.recall(threshold=np.int64(4)), r"recall: .* 4\. Omit it for 4 classes; write 4\.0"),
    "classes for accuracy": (lambda: M.binary_accuracy(2), r"binary_accuracy: .* got 2\. Use fnn\.accuracy for 2 "),
    "logits in words": (lambda: M.log_loss("yes"), "log_loss: expected logits True or False, got 'yes'"),
    "logits left out": (lambda: M.log_loss(), "log_loss: expected .*logits"),
    "logits for probabilities": (
        lambda: M.log_loss(logits=False)(3 * np.eye(3), np.arange(3)),
        r"log_loss: expected probabilities in \[0, 1\] whose sum is 1, got 3, 0, 0 in row 0\. Write log",
    ),
    "shares of 2": (
        lambda: M.expected_calibration_error(logits=False)(np.array([[1.0, 0.0], [1.0, 1.0]]), [0, 1]),
        r"expected_calibration_error: .* whose sum is 1, got 1, 1 in row 1",
    ),
    "a logit for a probability": (
        lambda: M.brier_score(logits=False)([[0.5], [-2.0]], [[0], [1]]),
        r"brier_score: expected probabilities in \[0, 1\], got -2 in row 1",
    ),
    "logits left out of ranks": (
        lambda: M.roc_auc()(X, T), "roc_auc: expected logits=True or logits=False for 3 outputs per row, got None"
    ),
    "top 0": (lambda: M.top_k_accuracy(0), "top_k_accuracy: expected a whole number, at least 1, got 0"),
    "top of all": (lambda: M.top_k_accuracy(3)(X, T), "top_k_accuracy: expected more than k=3 classes, got 3"),
    "no bins": (lambda: M.expected_calibration_error(True, 0), "bins: expected a whole number, at least 1, got 0"),
    "terms that are sums": (
        lambda: fit(M.from_sums(lambda y, t: y.sum())), r"terms: expected arrays of shape \(12, ...\).*got \(\)"
    ),
    "terms of NumPy": (lambda: fit(M.from_sums(lambda y, t: np.ones(12))), "terms: expected arrays .*Use jnp in place"),
    "terms of one argument": (lambda: M.from_sums(lambda y: y), "from_sums: expected terms of outputs and targets"),
    "a figure that is none": (lambda: M.from_sums(lambda y, t: y, 3), "expected a figure of the sums, got int"),
    "a figure with columns": (
        lambda: fit(M.from_sums(lambda y, t: y, lambda s: 2 * s)), r"one number per epoch, got one of shape \(3,\)"
    ),
    "a mode that is none": (lambda: M.from_sums(lambda y, t: y, mode="up"), "mode: expected one of 'max', 'min'"),
    "a sum kept of rows": (
        lambda: fit(M.from_rows(lambda kept, w: w.sum(), lambda y, t: y.sum(0))),
        r"metrics\['m'\]: expected one thing per row to keep, shape \(12, ...\), got \(3,\)",
    ),
    "a figure of rows that is text": (
        lambda: fit(M.from_rows(lambda kept, w: "good")), r"metrics\['m'\]: expected a figure, got str"
    ),
    "no direction": (
        lambda: fit(M.from_sums(lambda y, t: y[:, 0], lambda s: s), validation=0.25, monitor="m"),
        "mode: expected 'min' or 'max' for the metric 'm', got None",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_named(name):
    call, message = WRONG[name]
    with pytest.raises((ValueError, TypeError), match="(?s)" + message):
        call()


@pytest.mark.parametrize("make", [M.log_loss, M.brier_score, M.expected_calibration_error])
def test_logits_for_probabilities_are_nan_inside_of_a_program_unless_their_weight_is_0(make):
    y, t = jnp.array([[0.25, 0.75], [3.0, -1.0]]), jnp.array([1, 0])
    of_weights = jax.jit(lambda weight: make(logits=False)(y, t, weight))
    assert np.isnan(of_weights(jnp.ones(2)))
    weight = jnp.array([1.0, 0.0])
    assert of_weights(weight) == make(logits=False)(y, t, weight) == make(logits=False)(y[:1], t[:1])


def test_the_hints_work():
    assert evaluate(M.confusion_matrix())["m"].shape == (3, 3)
    assert float(fit(M.roc_auc(logits=True)).history.metrics["m"][0]) <= 1
    assert float(M.f1(threshold=0.5)(COLUMN, COLUMN)) == 0
    assert jnp.shape(M.r2()(COLUMN, COLUMN[:, 0][:, None])) == ()

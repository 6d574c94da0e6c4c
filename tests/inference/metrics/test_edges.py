"""Where a metric is not defined, what nan and weight 0 do, large counts, half precision; metrics of a user's own."""

import pickle

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fnn
from fnn.losses.aggregation import batch_sums
from tests.helpers import pickled, scored

M = fnn.metrics
NAN = float("nan")
P = [[0.9, 0.1], [0.8, 0.2], [0.3, 0.7]]
COLUMN = [[0.1], [0.2], [0.7]]

# outputs, targets, metric, what is defined
UNDEFINED = {
    "precision of a class never said": (P[:2], [0, 1], M.precision(average=None), [0.5, 0.0]),
    "recall of a class without rows": (P, [0, 0, 0], M.recall(average=None), [2 / 3, 0.0]),
    "f1 of a label that is neither": ([[0.1], [0.2]], [[0], [0]], M.f1(threshold=0.5), 0.0),
    "a class neither true nor said is left out": (
        [[0.9, 0.1, 0.0], [0.1, 0.9, 0.0]], [0, 1], M.f1(), 1.0,
    ),
    "balanced accuracy with a class absent": (P, [0, 0, 0], M.balanced_accuracy(), 2 / 3),
    "auc of one class": (COLUMN, [[1], [1], [1]], M.roc_auc(), NAN),
    "auc of several with classes absent": (
        np.log([[0.7, 0.2, 0.1], [0.2, 0.7, 0.1], [0.3, 0.6, 0.1]]), [0, 1, 0], M.roc_auc(logits=True), 1.0,
    ),
    "auc of constant scores": ([[0.5]] * 3, [[0], [1], [1]], M.roc_auc(), 0.5),
    "average precision of none": (COLUMN, [[0], [0], [0]], M.average_precision(), 0.0),
    "average precision of constant scores": ([[0.5]] * 4, [[0], [1], [0], [0]], M.average_precision(), 0.25),
    "r2 of constant targets, right": ([[0.1]] * 3, [[0.1]] * 3, M.r2(), 1.0),
    "r2 of constant targets, wrong": (COLUMN, [[0.1]] * 3, M.r2(), 0.0),
    "r2 of one row": ([[0.5]], [[0.1]], M.r2(), 0.0),
    "spearman of constant outputs": ([[0.5]] * 3, COLUMN, M.spearman(), NAN),
    "log loss of a certain mistake": ([[1000.0, 0.0]], [1], M.log_loss(logits=True), 1000.0),
    "log loss of probability 0": ([[1.0, 0.0]], [1], M.log_loss(logits=False), -np.log(np.finfo("float32").eps)),
    "calibration of constants": ([[0.75, 0.25]] * 4, [0, 0, 0, 1], M.expected_calibration_error(False), 0.0),
}  # fmt: skip


@pytest.mark.parametrize("name", UNDEFINED)
def test_what_is_not_defined_is_what_the_page_says(name):
    outputs, targets, metric, expected = UNDEFINED[name]
    found = metric(np.float32(outputs), np.asarray(targets, "float32" if np.ndim(targets) > 1 else "int32"))
    np.testing.assert_allclose(found, expected, rtol=1e-6)


WRONG = {"recall", "balanced_accuracy", "top_k_accuracy"}  # nan outputs count as wrong
EVERY = {
    "precision": M.precision(), "recall": M.recall("micro"), "f1": M.f1(), "balanced_accuracy": M.balanced_accuracy(),
    "confusion_matrix": M.confusion_matrix(), "top_k_accuracy": M.top_k_accuracy(1), "log_loss": M.log_loss(True),
    "brier_score": M.brier_score(True), "expected_calibration_error": M.expected_calibration_error(True),
    "roc_auc": M.roc_auc(True), "average_precision": M.average_precision(True),
}  # fmt: skip
OF_NUMBERS = {"r2": M.r2(), "rmse": M.rmse(), "spearman": M.spearman()}


def test_every_metric_is_in_these_tables():
    made = {name for name, thing in vars(M).items() if getattr(thing, "is_factory", False)} - {"binary_accuracy"}
    assert made == set(EVERY) | set(OF_NUMBERS)
    assert {type(metric).__name__ for metric in (EVERY | OF_NUMBERS).values()} == {"SumMetric", "RowMetric"}


def spoilt():
    """Rows of which the second is nan, with and without a weight for it, and the rows without it."""
    y, t = np.float32([[2, 1], [NAN, 1], [0, 1], [3, 1], [1, 2]]), np.array([0, 0, 1, 1, 0])
    return y, t, np.float32([1, 0, 1, 1, 1])


@pytest.mark.parametrize("name", EVERY)
def test_nan_gives_nan_or_counts_as_wrong_and_a_row_of_weight_0_is_no_row(name):
    metric, (y, t, weight) = EVERY[name], spoilt()
    without = jax.jit(metric)(np.delete(y, 1, 0), np.delete(t, 1))
    np.testing.assert_allclose(jax.jit(metric)(y, t, weight), without, rtol=1e-6)
    bad = np.asarray(jax.jit(metric)(y, t))
    if name in WRONG:
        right = {"recall": 2 / 5, "balanced_accuracy": (1 / 3 + 1 / 2) / 2, "top_k_accuracy": 2 / 5}
        np.testing.assert_allclose(bad, right[name], rtol=1e-6)
    else:
        assert np.isnan(bad).all()


@pytest.mark.parametrize("name", OF_NUMBERS)
def test_nan_among_numbers_gives_nan_and_a_row_of_weight_0_is_no_row(name):
    metric, (y, _, weight) = jax.jit(OF_NUMBERS[name]), spoilt()
    t = y[::-1] + np.float32([[0.5, 0.25]])
    t[3] = 1.0
    assert np.isnan(metric(y, t)) and np.isnan(metric(t, y))
    without = metric(np.delete(y, 1, 0), np.delete(t, 1, 0))
    np.testing.assert_allclose(metric(y, t, weight), without, rtol=1e-5)
    assert np.isfinite(without)


def test_weight_k_counts_as_k_copies():
    kind = scored.kinds("float32")["classes"]
    often = np.random.default_rng(3).integers(0, 4, scored.ROWS)
    y, t = np.repeat(kind.outputs, often, 0), np.repeat(kind.targets, often)
    for name in ("auc", "ap", "f1 macro", "ece"):
        metric = jax.jit(kind.metrics[name])
        np.testing.assert_allclose(metric(kind.outputs, kind.targets, often.astype("float32")), metric(y, t), rtol=1e-5)


def test_counts_are_exact_beyond_2_to_24():
    metric, most = M.confusion_matrix(threshold=0.0), 2.0**24
    net, run = scored.passing(scored.kinds("float32")["one column"])
    weight = np.float32([most, 1, 1, 1, most, 3])
    rows = np.float32([[1], [1], [1], [-1], [-1], [-1]]), np.float32([[1], [1], [1], [1], [0], [0]]), weight
    found = fnn.evaluate(net, run, rows, {"m": metric}, batch_size=1)["m"]
    assert found.dtype == np.float64 and found.tolist() == [[most + 3, 0], [1, most + 2]]


def test_sums_of_half_precision_are_of_float32():
    rows = 5000  # in float16 a count stops at 2048
    y = np.tile(np.float16([[1, 0]]), (rows, 1))
    sums = batch_sums("m", M.recall("micro"), jnp.asarray(y), jnp.zeros(rows, jnp.int32), jnp.ones(rows, jnp.float32))
    assert {a.dtype for a in jax.tree.leaves(sums)} == {jnp.dtype("float32")}
    assert float(sums["both"][0]) == rows
    assert float(M.rmse()(np.float16([[300.0], [0.0]]), np.float16([[0.0], [0.0]]))) == pytest.approx(212.132, rel=1e-5)


def test_r2_of_targets_far_from_0_keeps_its_digits():
    rng = np.random.default_rng(0)
    t = (rng.normal(size=(400, 1)) + 30_000).astype("float32")
    y = (t + 0.5 * rng.normal(size=t.shape)).astype("float32")
    wide, net = t.astype(float), fnn.serial(fnn.as_layer(lambda x: x))
    expected = 1 - ((y.astype(float) - wide) ** 2).sum() / ((wide - wide.mean()) ** 2).sum()
    run = fnn.Run(((),), ((),), None, None)
    assert float(M.r2()(y, t)) == pytest.approx(expected, abs=1e-6)
    assert fnn.evaluate(net, run, (y, t), {"m": M.r2()}, 16)["m"] == pytest.approx(expected, abs=1e-6)


# ---- where metrics stand in runs


X = np.random.default_rng(0).normal(size=(90, 3)).astype("float32")
T = (X[:, 0] + X[:, 1] ** 2 > 0.5).astype("int32")
NET, LOSS = fnn.serial(fnn.dense(2)), fnn.losses.sparse_softmax_cross_entropy


def terms(y, t):
    right = y.argmax(-1) == t
    return {"right": right, "rows": jnp.ones(len(t), y.dtype)}


OWN = {
    "auc": M.roc_auc(logits=True),
    "f1": M.f1(),
    "right": M.from_sums(terms, lambda s: s["right"] / s["rows"], mode="max"),
    "accuracy": fnn.accuracy,
}


@pytest.mark.slow
def test_folds_have_the_figures_of_their_own_rows():
    found = fnn.cross_validate(NET, LOSS, optax.sgd(0.3), (X, T), epochs=3, folds=4, batch_size=16, metrics=OWN,
                               monitor="auc", refit=False, progress=False)  # fmt: skip
    assert found.mode == "max"
    for fold, (_, test) in enumerate(found.folds):
        for name in ("auc", "f1"):
            alone = float(OWN[name](found.predictions[test], T[test]))
            assert found.scores[f"validation_{name}"][0, fold] == pytest.approx(alone, abs=1e-6)
    np.testing.assert_allclose(found.histories["right"], found.histories["accuracy"], rtol=1e-6)


@pytest.mark.slow
def test_a_run_stops_by_the_metric_that_is_judged_and_members_of_a_sweep_are_such_runs():
    training = dict(epochs=6, batch_size=16, validation=(X[:40], T[:40]), metrics=OWN, monitor="auc", progress=False)
    run = fnn.fit(NET, LOSS, optax.sgd(0.5), (X, T), patience=2, **training)
    held = run.history.validation_metrics["auc"]
    assert run.best_epoch == int(held.argmax())  # more is better, without mode="max"
    y = fnn.predict(NET, run, X[:40])
    assert float(OWN["auc"](y, T[:40])) == pytest.approx(held.max(), abs=1e-6)
    found = fnn.sweep(NET, LOSS, lambda s: optax.sgd(s["lr"]), (X, T), over={"lr": [0.5, 0.1]}, patience=2, **training)
    assert found.table["validation_auc"][0] == pytest.approx(held.max(), abs=1e-5)


def test_pieces_of_an_epoch_give_the_same_bits():
    data = fnn.Data(fnn.Part(jnp.asarray(X), jnp.asarray(T)))
    training = fnn.trainer(NET, LOSS, optax.sgd(0.1), batch_size=16, metrics=OWN | {"r": M.from_rows(mean_score)})
    start = training.init(jax.random.key(0), data)
    run = jax.jit(training.run, static_argnums=2)
    whole = run(start, data, 1, 100)[1].metrics
    state = run(start, data, 1, 2)[0]
    assert int(state.step) == 2
    pieces = run(state, data, 1, 100)[1].metrics
    for name in whole:
        assert float(whole[name][0]) == float(pieces[name][0]), name


def mean_score(kept, weight):
    return jnp.where(weight > 0, kept[0][:, 1] * weight, 0.0).sum() / weight.sum()


def test_a_stream_has_metrics_from_sums():
    def chunks():
        for i in range(0, 90, 32):
            yield X[i : i + 32], T[i : i + 32]

    sums = {name: OWN[name] for name in ("f1", "right", "accuracy")}
    run = fnn.fit(NET, LOSS, optax.sgd(0.0), chunks, epochs=1, batch_size=16, metrics=sums, progress=False)
    expected = fnn.evaluate(NET, run, (X, T), sums)
    assert {name: float(v[0]) for name, v in run.history.metrics.items()} == pytest.approx(expected, rel=1e-6)
    assert fnn.evaluate(NET, run, chunks, sums, 7) == pytest.approx(expected, rel=1e-6)


def test_metrics_can_be_pickled_and_are_equal_again():
    for metric in [*EVERY.values(), *OF_NUMBERS.values(), M.from_sums(pickled.quartic, mode="min")]:
        back = pickle.loads(pickle.dumps(metric))
        assert back == metric and hash(back) == hash(metric) and str(back) == str(metric)
    assert M.f1("micro") is M.f1("micro") and M.f1("micro") != M.f1()


@pytest.mark.slow
def test_of_one_of_several_outputs():
    net = fnn.serial(fnn.dense(4), fnn.tanh, fnn.parallel(kind=fnn.dense(3), price=fnn.dense(1)))
    loss = fnn.losses.joint(price=(1.0, fnn.losses.squared_error), kind=(0.5, fnn.losses.sparse_softmax_cross_entropy))
    rng = np.random.default_rng(0)
    x, t = rng.normal(size=(41, 2)).astype("float32"), {"kind": np.arange(41) % 3, "price": np.ones((41, 1), "float32")}
    metrics = {"f1": M.f1(), "auc": M.roc_auc(logits=True), "accuracy": fnn.accuracy}
    of = {name: M.of("kind", metric) for name, metric in metrics.items()} | {"rmse": M.of("price", M.rmse())}
    run = fnn.fit(
        net, loss, optax.adam(0.01), (x, t), epochs=2, batch_size=8, validation=(x, t), metrics=of, monitor="f1",
        progress=False,
    )  # fmt: skip
    y = fnn.predict(net, fnn.Run(run.train_state.params, run.state, None, None), x)
    alone = {name: float(np.mean(metric(y["kind"], t["kind"]))) for name, metric in metrics.items()}
    alone["rmse"] = float(M.rmse()(y["price"], t["price"]))
    for name, value in alone.items():
        assert abs(run.history.validation_metrics[name][-1] - value) < 1e-6, name
    last = fnn.Run(run.train_state.params, run.state, None, None, run.in_shape)
    found = fnn.evaluate(net, last, (x, t), of | {"matrix": M.of("kind", M.confusion_matrix())}, batch_size=7)
    assert all(abs(found[name] - value) < 1e-6 for name, value in alone.items()) and found["matrix"].sum() == 41
    assert pickle.loads(pickle.dumps(of["f1"])) == of["f1"] and str(of["f1"]) == "of('kind', f1())"


@pytest.mark.slow
def test_calibration_of_classes_in_64_bits(x64):
    metric = M.expected_calibration_error(logits=False)
    assert abs(float(metric(np.float64(P), np.array([0, 0, 1]))) - 0.2) < 1e-12

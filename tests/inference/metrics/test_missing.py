"""A metric of targets some of which are missing is the metric of the rows that have one."""

import pickle

import jax
import numpy as np
import optax
import pytest

import fnn
from fnn import losses, metrics

RNG = np.random.default_rng(0)
ROWS = 23
GONE = np.zeros(ROWS, bool)
GONE[[0, 4, 5, 17]] = True
NUMBERS = RNG.normal(size=(ROWS, 2)).astype("float32"), RNG.normal(size=(ROWS, 2)).astype("float32")
CLASSES = RNG.normal(size=(ROWS, 3)).astype("float32"), RNG.integers(0, 3, ROWS)
COLUMN = RNG.uniform(size=(ROWS, 1)).astype("float32"), RNG.integers(0, 2, (ROWS, 1)).astype("float32")
WEIGHT = RNG.integers(0, 3, ROWS).astype("float32")
CASES = {
    "absolute_error": (losses.absolute_error, NUMBERS, None),
    "a function": (lambda y, t: abs(y - t).max(-1), NUMBERS, None),
    "rmse": (metrics.rmse(), NUMBERS, float("nan")),
    "r2": (metrics.r2(), NUMBERS, None),
    "spearman": (metrics.spearman(), NUMBERS, None),
    "accuracy": (fnn.accuracy, CLASSES, -1),
    "f1": (metrics.f1("macro"), CLASSES, -1),
    "confusion_matrix": (metrics.confusion_matrix(), CLASSES, 7),
    "log_loss": (metrics.log_loss(logits=True), CLASSES, -1),
    "roc_auc": (metrics.roc_auc(), COLUMN, None),
}


def with_gaps(t, missing):
    t = t.copy()
    t[GONE] = np.nan if missing is None else missing
    return t


def mean(metric, y, t, w):
    made = metric(y, t)
    return made if made.ndim == 0 else np.average(made, weights=w)


LATER = dict.fromkeys(["r2", "spearman", "f1", "confusion_matrix", "log_loss"], pytest.mark.slow)


@pytest.mark.parametrize(
    "metric, rows, missing", [pytest.param(*case, marks=LATER.get(name, ()), id=name) for name, case in CASES.items()]
)
def test_it_is_that_of_the_rows_that_have_a_target(metric, rows, missing):
    (y, t), masked = rows, metrics.masked(metric, missing)
    gaps, there = with_gaps(t, missing), ~GONE
    joint = isinstance(metric, (fnn.SumMetric, fnn.RowMetric))
    expected = metric(y[there], t[there], WEIGHT[there]) if joint else mean(metric, y[there], t[there], WEIGHT[there])
    np.testing.assert_allclose(masked(y, gaps, WEIGHT), expected, 1e-6)
    run = fnn.Run((), (), None, None)
    net = fnn.from_function(lambda x: x)
    for size in (7, 64):
        found = fnn.evaluate(net, run, (y, gaps, WEIGHT), {"m": masked}, batch_size=size)["m"]
        np.testing.assert_allclose(found, expected, 1e-5)


def test_no_row_with_a_target_is_nan_and_its_rank_none():
    nothing = np.full((3, 1), np.nan, "float32")
    outputs = np.ones((3, 1), "float32")
    for metric in (losses.absolute_error, metrics.rmse(), metrics.roc_auc()):
        assert np.isnan(metrics.masked(metric)(outputs, nothing))


def two_heads():
    net = fnn.serial(fnn.dense(4), fnn.parallel(price=fnn.dense(1), kind=fnn.dense(3)))
    x = RNG.normal(size=(ROWS, 5)).astype("float32")
    t = {"price": with_gaps(NUMBERS[1][:, :1], None), "kind": with_gaps(CLASSES[1], -1)}
    return net, x, t


def test_two_heads_fit_validate_monitor_and_evaluate():
    net, x, t = two_heads()
    loss = losses.joint(
        price=(1.0, losses.masked(losses.squared_error)),
        kind=(1.0, losses.masked(losses.sparse_softmax_cross_entropy, -1)),
    )
    of = {
        "r2": metrics.of("price", metrics.masked(metrics.r2())),
        "accuracy": metrics.of("kind", metrics.masked(fnn.accuracy, -1)),
    }
    more = dict(metrics=of, validation=(x, t), monitor="r2", epochs=3, batch_size=8, progress=False)
    run = fnn.fit(net, loss, optax.adam(0.01), (x, t), **more)
    assert np.isfinite(run.history.metrics["r2"]).all()
    found = fnn.evaluate(net, run, (x, t), of, batch_size=5)
    whole = fnn.evaluate(net, run, (x, t), {"loss": loss, **of})
    y, there = fnn.predict(net, run, x), ~GONE
    assert found["accuracy"] == pytest.approx((y["kind"].argmax(1) == CLASSES[1])[there].mean())
    assert found["r2"] == pytest.approx(float(metrics.r2()(y["price"][there], t["price"][there])), abs=1e-5)
    assert whole["r2"] == pytest.approx(found["r2"], abs=1e-5)


def test_evaluate_takes_nan_where_a_metric_does_and_only_there():
    net, x, t = two_heads()
    params, state, _ = net.init(jax.random.key(0), (5,))
    run = fnn.Run(params, state, None, None)
    of_loss = {"m": metrics.of("price", losses.masked(losses.squared_error))}
    assert np.isfinite(fnn.evaluate(net, run, (x, t), of_loss)["m"])
    for metric in (metrics.r2(), losses.squared_error):
        with pytest.raises(ValueError, match=r'data, t\["price"\]: expected finite numbers, got nan or inf in 4 of 23'):
            fnn.evaluate(net, run, (x, t), {"m": metrics.of("price", metric)})


def test_classes_that_there_are_not_are_refused_beside_missing_ones():
    metric = metrics.masked(metrics.f1("macro"), -1)
    net, run = fnn.from_function(lambda x: x), fnn.Run((), (), None, None)
    t = with_gaps(CLASSES[1], -1)
    t[8] = 3
    with pytest.raises(ValueError, match="3"):
        fnn.evaluate(net, run, (CLASSES[0], t), {"m": metric})


def test_what_is_wrong_is_named():
    with pytest.raises(TypeError, match="masked: expected a missing of nan or a number, got str 'none'"):
        metrics.masked(fnn.accuracy, "none")
    with pytest.raises(TypeError, match=r"masked\(accuracy\): expected one array of outputs, got several.*of\('a', "):
        metrics.masked(fnn.accuracy)({"a": CLASSES[0]}, {"a": CLASSES[1]})


def test_it_prints_as_it_is_written_and_can_be_pickled():
    metric = metrics.of("kind", metrics.masked(metrics.f1("macro"), -1))
    again = pickle.loads(pickle.dumps(metric))
    y, t = {"kind": CLASSES[0]}, {"kind": with_gaps(CLASSES[1], -1)}
    assert again(y, t) == metric(y, t) and again == metric
    assert str(metrics.masked(fnn.accuracy, -1)) == "masked(accuracy, -1)"

"""Predictions in chunks, means over rows, metrics."""

from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fnn
from fnn.data.streams import memory_mapped
from fnn.devices.memory import free_bytes
from fnn.inference import prediction

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


def test_evaluate_is_exact_whatever_the_chunks_and_weight_k_counts_as_k_copies():
    labels = np.arange(103) % 3
    weights = np.arange(103) % 4
    metrics = {"accuracy": fnn.accuracy, "loss": fnn.losses.sparse_softmax_cross_entropy}
    copies = (np.repeat(X, weights, axis=0), np.repeat(labels, weights))
    expected = fnn.evaluate(NET, RUN, copies, metrics)
    for size in (7, 50, 1000):
        for data in ((X, labels, weights), lambda: in_chunks(X, labels, weights)):
            assert fnn.evaluate(NET, RUN, data, metrics, size) == pytest.approx(expected, rel=1e-7)


def test_rows_of_weight_0_do_not_count_whatever_their_metric():
    nan_at_0 = lambda y, t: jnp.where(t == 0, jnp.nan, 2.0)  # noqa: E731
    data = (X, np.arange(103), np.arange(103) > 0)
    assert fnn.evaluate(NET, RUN, data, {"m": nan_at_0}) == {"m": 2.0}


def test_a_memory_map_is_read_in_chunks(tmp_path, monkeypatch):
    np.save(tmp_path / "x.npy", X)
    np.save(tmp_path / "t.npy", np.arange(103) % 3)
    x, t = np.load(tmp_path / "x.npy", mmap_mode="r"), np.load(tmp_path / "t.npy", mmap_mode="r")
    expected = fnn.predict(NET, RUN, X, 10), fnn.evaluate(NET, RUN, (X, t), {"accuracy": fnn.accuracy}, 10)
    lengths, rows = [], fnn.data.checks.rows

    def counted(name, value, *more):
        lengths.append(len(value))
        return rows(name, value, *more)

    monkeypatch.setattr("fnn.data.checks.rows", counted)
    assert np.array_equal(fnn.predict(NET, RUN, x, 10), expected[0])
    assert fnn.evaluate(NET, RUN, (x, t), {"accuracy": fnn.accuracy}, 10) == expected[1]
    assert max(lengths) == 10 and sum(lengths) == 3 * 103
    monkeypatch.undo()
    stream = memory_mapped(tmp_path / "x.npy", tmp_path / "t.npy", chunk_rows=7)
    assert np.array_equal(fnn.predict(NET, RUN, stream, 10), expected[0])
    assert fnn.evaluate(NET, RUN, stream, {"accuracy": fnn.accuracy}, 10) == expected[1]
    bad = X.copy()
    bad[57, 1] = np.nan
    np.save(tmp_path / "x.npy", bad)
    with pytest.raises(ValueError, match=r"x\[50:60\]: expected finite numbers, got nan or inf in .* row 7"):
        fnn.predict(NET, RUN, np.load(tmp_path / "x.npy", mmap_mode="r"), 10)


def in_chunks(*arrays):
    for start, end in ((0, 1), (1, 45), (45, 103)):
        chunk = tuple(a[start:end] for a in arrays)
        yield chunk if len(chunk) > 1 else chunk[0]


def test_predictions_of_a_stream():
    expected = fnn.predict(NET, RUN, X, 10)
    pairs = [list(c) for c in in_chunks(X, X)]  # as data loaders give them; the targets are left alone
    for source in (in_chunks(X), lambda: in_chunks(X), lambda: in_chunks(X, X), lambda: pairs):
        assert np.array_equal(fnn.predict(NET, RUN, source, 10), expected)
    for device in (False, True):
        y = fnn.predict(NET, RUN, in_chunks(X), 10, device=device)
        assert np.array_equal(y, expected) and isinstance(y, jax.Array) == device


def test_predictions_can_stay_on_the_device():
    for size in (10, 103):
        y = fnn.predict(NET, RUN, X, size, device=True)
        assert isinstance(y, jax.Array) and y.shape == (103, 3)
        assert np.allclose(y, fnn.predict(NET, RUN, X), atol=1e-6)


def best(y):
    return {"class": y.argmax(-1), "top": jax.lax.top_k(y, 2)[0]}


def test_reduce_keeps_what_is_wanted_of_a_row():
    y = fnn.predict(NET, RUN, X, 10)
    for device in (False, True):
        kept = fnn.predict(NET, RUN, X, 10, reduce=best, device=device)
        assert kept["class"].dtype == np.int32 and np.array_equal(kept["class"], y.argmax(1))
        assert np.array_equal(kept["top"], np.sort(y)[:, :-3:-1])


@pytest.mark.parametrize("size", [1, 10, 103])
def test_combine_makes_one_of_all_rows(size):
    y = fnn.predict(NET, RUN, X, 10).astype("float64")
    assert np.allclose(fnn.predict(NET, RUN, X, size, combine=jnp.add), y.sum(0), atol=1e-4)
    assert np.allclose(fnn.predict(NET, RUN, X + 5, size, combine=jnp.minimum), fnn.predict(NET, RUN, X + 5).min(0))
    # composition of maps is associative, and does not commute: the order of the rows is kept
    maps = fnn.predict(NET, RUN, X, size, reduce=as_map, combine=then)
    slope, offset = 1.0, 0.0
    for a, b in zip(*(m.astype("float64") for m in as_map(y)), strict=True):
        slope, offset = a * slope, a * offset + b
    assert np.allclose(maps, (slope, offset), rtol=1e-4)


def as_map(y):
    return 1 + 0.1 * y[:, 0], y[:, 1]


def then(first, second):
    return second[0] * first[0], second[0] * first[1] + second[1]


def test_a_result_that_would_not_fit_raises_before_it_is_computed(monkeypatch):
    monkeypatch.setattr("fnn.inference.prediction.free_bytes", lambda device: 1000)
    monkeypatch.setattr("fnn.inference.prediction.LITTLE", 0)
    message = "predict: expected a result that fits in memory, got 1.24e-06 GB for 103 rows with 1e-06 GB free. Keep"
    with pytest.raises(MemoryError, match=message):
        fnn.predict(NET, RUN, X)
    with pytest.raises(MemoryError, match=r"got 1.32e-06 GB for 103 rows"):  # whole chunks of 10
        fnn.predict(NET, RUN, X, 10, device=True)
    assert fnn.predict(NET, RUN, X, reduce=lambda y: y.argmax(-1)).nbytes == 412
    given = []

    def chunks():
        for i in range(100):
            given.append(i)
            yield X

    with pytest.raises(MemoryError, match=r"got 1.2e-06 GB for 100 rows"):
        fnn.predict(NET, RUN, chunks, 100)
    assert len(given) < 5


def test_free_memory_is_told():
    free = free_bytes()
    assert free is None or 1e6 < free < 1e15


def test_free_memory_of_devices_is_that_of_the_fullest_times_their_number():
    class Gpu:
        def __init__(self, taken):
            self.taken = taken

        def memory_stats(self):
            return {"bytes_limit": 1000, "bytes_in_use": self.taken}

    roomy, full = Gpu(100), Gpu(700)
    assert free_bytes([roomy]) == 900 and free_bytes([roomy, full, roomy]) == 600


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
    with pytest.raises(fnn.ShapeError, match=r"reduce: expected one thing per row, shape \(103, ...\), got \(3,\)"):
        fnn.predict(NET, RUN, X, reduce=lambda y: y.sum(0))
    with pytest.raises(ValueError, match="x: expected at least one row, got a stream without any"):
        fnn.predict(NET, RUN, lambda: [])
    with pytest.raises(ValueError, match="x, chunk 1: expected finite"):
        fnn.predict(NET, RUN, lambda: [X, X * np.nan])
    with pytest.raises(fnn.ShapeError, match="chunks: expected rows of one shape and dtype, got"):
        fnn.predict(NET, RUN, lambda: [X, X[:, :2]])
    with pytest.raises(ValueError, match=r"x: expected shape \(rows, features\), got \(3,\)"):
        fnn.predict(NET, RUN, [1.0, 2.0, 3.0])
    with pytest.raises(TypeError, match=r"data: expected a pair \(inputs, targets\)"):
        fnn.evaluate(NET, RUN, X, {"accuracy": fnn.accuracy})
    with pytest.raises(ValueError, match="data: expected as many targets as inputs, got 102 and 103"):
        fnn.evaluate(NET, RUN, (X, np.zeros(102, int)), {"accuracy": fnn.accuracy})
    with pytest.raises(ValueError, match="expected at least one row with a weight above 0, got none"):
        fnn.evaluate(NET, RUN, (X, np.zeros(103, int), np.zeros(103)), {"accuracy": fnn.accuracy})
    with pytest.raises(ValueError, match="expected class numbers from 0 to 2, got 3 in row 4"):
        wrong = np.where(np.arange(103) == 4, 3, 0)
        fnn.evaluate(NET, RUN, (X, wrong), {"loss": fnn.losses.sparse_softmax_cross_entropy})
    with pytest.raises(fnn.ShapeError, match=r"metric mean: expected one number per row, shape \(103,\), got \(\)"):
        fnn.evaluate(NET, RUN, (X, X), {"mean": lambda y, t: y.mean()})
    with pytest.warns(UserWarning, match="x: float64 data are cut to float32"):
        fnn.predict(NET, RUN, X.astype("float64"))


# ---- few programs for any number of rows


@pytest.mark.parametrize("use", ["predict", "predictor", "evaluate it"])
def test_any_number_of_rows_compiles_a_handful_of_programs(use, compiled):
    net = fnn.serial(fnn.dense(len(use)), fnn.tanh, fnn.dense(2))  # another for each, since programs are shared
    params, state, _ = net.init(jax.random.key(0), (4,))
    run = fnn.Run(params, state, None, None, (4,))
    x = np.random.default_rng(0).normal(size=(1000, 4)).astype("float32")
    t = np.arange(1000) % 2
    serve = fnn.predictor(net, run)
    call = {
        "predict": lambda rows: fnn.predict(net, run, x[:rows]),
        "predictor": lambda rows: serve(x[:rows]),
        "evaluate it": lambda rows: fnn.evaluate(net, run, (x[:rows], t[:rows]), {"accuracy": fnn.accuracy}),
    }[use]
    sizes = [1, 1000, *np.random.default_rng(1).permutation(np.arange(1, 1001, 13)).tolist()]
    before = len(compiled)
    for rows in sizes:
        call(rows)
    assert 0 < len(compiled) - before <= 8, compiled[before:]


def test_rows_that_fill_a_program_up_change_nothing():
    whole = fnn.predict(NET, RUN, X)
    for rows in (1, 2, 7, 8, 9, 63, 65, 103):
        assert np.allclose(fnn.predict(NET, RUN, X[:rows]), whole[:rows], atol=1e-6)
        assert fnn.predict(NET, RUN, X[:rows], reduce=jnp.ones_like, combine=jnp.add).tolist() == [rows] * 3
        assert np.allclose(
            fnn.evaluate(NET, RUN, (X[:rows], np.zeros((rows, 3), "float32")), {"e": fnn.losses.squared_error})["e"],
            (whole[:rows].astype("float64") ** 2).sum(1).mean(),
        )


def test_a_predictor_gives_what_predict_gives_in_any_thread():
    serve, classes = fnn.predictor(NET, RUN), fnn.predictor(NET, RUN, reduce=lambda y: y.argmax(-1))
    sizes = [1 + i % 103 for i in range(0, 400, 7)]
    with ThreadPoolExecutor(4) as pool:
        several = list(pool.map(lambda rows: (serve(X[:rows]), classes(X[:rows])), sizes))
    for rows, (y, labels) in zip(sizes, several, strict=True):
        np.testing.assert_array_equal(y, fnn.predict(NET, RUN, X[:rows]))
        np.testing.assert_array_equal(labels, y.argmax(-1))


def test_outputs_of_few_rows_are_looked_for_and_not_for_ever(monkeypatch):
    class Late:
        asked = 0

        def is_ready(self):
            self.asked += 1
            return False

    late = Late()
    prediction._look_for([late])
    assert late.asked > 0
    looked = []
    monkeypatch.setattr(prediction, "_look_for", lambda outputs: looked.append(outputs.shape))
    for rows, device in ((1, False), (8, False), (9, False), (1, True)):
        fnn.predict(NET, RUN, X[:rows], device=device)
    assert looked == [(1, 3), (8, 3)]


def test_outputs_that_are_the_inputs_come_back_where_jit_is_off():
    net = fnn.serial(lambda x: x)
    with jax.disable_jit():
        np.testing.assert_array_equal(fnn.predict(net, fnn.Run(((),), ((),), None, None), X[:1]), X[:1])


def test_a_predictor_has_the_parameters_of_when_it_was_made():
    params = jax.tree.map(np.array, RUN.params)
    serve = fnn.predictor(NET, RUN._replace(params=params))
    before = serve(X)
    jax.tree.map(lambda a: a.fill(0), params)
    np.testing.assert_array_equal(serve(X), before)
    assert not fnn.predict(NET, RUN._replace(params=params), X).any()


def test_a_predictor_names_mistakes_as_predict_does():
    with pytest.raises(TypeError, match="net: expected a Layer, got function"):
        fnn.predictor(lambda settings: NET, RUN)
    with pytest.raises(ValueError, match="batch_size: expected"):
        fnn.predictor(NET, RUN, 0)
    with pytest.raises(fnn.ShapeError, match=r"expected x of shape \(batch, 4\), got \(2, 3\)"):
        fnn.predictor(NET, RUN)(np.ones((2, 3), "float32"))


@pytest.mark.parametrize("several", [False, True])
def test_a_later_call_traces_nothing(several, monkeypatch):
    net = fnn.serial(fnn.concatenate(), fnn.dense(2)) if several else fnn.serial(fnn.dense(2))
    rows = np.ones((3, 4), "float32")
    x = {"a": rows, "b": rows} if several else rows
    run = fnn.fit(net, fnn.losses.squared_error, optax.sgd(0.1), (x, rows[:, :2]), epochs=1, progress=False)
    fnn.predict(net, run, x)
    fnn.evaluate(net, run, (x, rows[:, :2]), {"loss": fnn.losses.squared_error})
    traced = []
    for name in ("make_jaxpr", "eval_shape"):
        monkeypatch.setattr(jax, name, lambda *args, name=name, **more: traced.append(name))
    fnn.predict(net, run, x)
    fnn.evaluate(net, run, (x, rows[:, :2]), {"loss": fnn.losses.squared_error})
    assert traced == []

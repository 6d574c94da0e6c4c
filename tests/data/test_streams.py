"""Streams: every row once an epoch whatever the chunks, checked on arrival, read ahead, trained on as in memory."""

import pickle
import signal
import threading
import time
from contextlib import closing

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fnn
from fnn.data.buffers import BufferPlan, buffers, prefetch
from fnn.data.streams import as_stream, is_stream, memory_mapped, rechunk
from fnn.fitting.segments import Pace, concatenate
from fnn.fitting.stream_segments import stream_segments
from fnn.training.config import TrainerConfig
from fnn.training.fused_loop import build_buffer_trainer, build_trainer

RNG = np.random.default_rng(0)
X = RNG.normal(size=(103, 4)).astype("float32")
LABELS = (X[:, 0] * X[:, 1] > 0).astype("int32")
WEIGHTS = RNG.uniform(0, 2, 103).astype("float32")
KEY = jax.random.key(0)
NUMBERS = {"lr": 0.1, "patience": np.inf, "min_delta": 0.0}
VALIDATION = fnn.Part(jnp.asarray(X[:20]), jnp.asarray(LABELS[:20]))
SIZES = [1, 40, 1, 0, 61]  # of chunks; buffers of 32 rows begin and end within them


def label(outputs, targets):
    """A metric by which the rows can be counted."""
    return targets.astype(outputs.dtype)


def momentum(settings):
    return optax.sgd(settings["lr"], momentum=0.9)


RECIPE = TrainerConfig(  # one for all tests, since compiling is what takes time
    net=fnn.serial(fnn.dense(8), fnn.batch_norm(), fnn.tanh, fnn.dropout(0.2), fnn.dense(2)),
    loss=fnn.losses.sparse_softmax_cross_entropy,
    optimizer=momentum,
    penalty=None,
    gradient=fnn.autodiff,
    metrics=(("accuracy", fnn.accuracy), ("label", label)),
    batch_size=16,
    shuffle=False,
    reduction="mean",
    monitor="loss",
    mode="min",
    identity="that of these tests",
)
SHUFFLED = RECIPE._replace(shuffle=True)


def in_chunks(*arrays, sizes=SIZES):
    """A generator function."""

    def chunks():
        ends = np.cumsum(sizes)
        for start, end in zip([0, *ends[:-1]], ends, strict=True):
            yield tuple(a[start:end] for a in arrays)

    return chunks


def same_bits(a, b):
    return all(
        np.array_equal(p, q, equal_nan=True) for p, q in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    )


def alike(a, b):
    """To the last digits: another program of XLA may round them otherwise."""
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return all(np.allclose(np.asarray(p, float), np.asarray(q, float), rtol=0, atol=2e-6) for p, q in pairs)


def plan(source, rows=32, shuffle=True, seed=(1, 2), batch_size=16):
    return BufferPlan(as_stream("data", source), batch_size, rows, seed, shuffle, np.dtype("float32"))


def numbered(rows):
    return np.arange(rows, dtype="float32")[:, None], np.arange(rows)


# ---- training: as on the arrays in memory


def in_memory(epochs=5, lr=0.1):
    """By `fit`."""
    about = {"metrics": dict(RECIPE.metrics), "batch_size": 16, "shuffle": False, "weights": WEIGHTS}
    about |= {"settings": {"lr": lr}, "validation": (X[:20], LABELS[:20]), "progress": False}
    return fnn.fit(RECIPE.net, RECIPE.loss, momentum, (X, LABELS), epochs=epochs, **about)


@pytest.fixture(scope="module")
def expected():
    return in_memory()


START = jax.jit(build_trainer(RECIPE).init)


def trained(source=None, epochs=5, config=RECIPE, state=None, lr=0.1, between=None, **more):
    """The end of a run on a stream, and its history; it goes on from `state`, and stops where `between` is True."""
    if state is None:
        one = fnn.Data(fnn.Part(jnp.asarray(X[:1]), jnp.asarray(LABELS[:1])), VALIDATION)
        state = START(KEY, one, NUMBERS | {"lr": lr} | more.pop("settings", {}))
    pieces = []
    source = in_chunks(X, LABELS, WEIGHTS) if source is None else source
    about = {"validation": VALIDATION, "buffer_rows": 32} | more
    with closing(stream_segments(config, source, state, epochs, **about)) as following:
        for segment in following:
            state = segment.state
            pieces.append(segment.history)
            if between is not None and between(segment):
                break
    return state, concatenate(pieces)


@pytest.mark.slow
def test_training_on_a_stream_is_training_in_memory(expected):
    end, history = trained()
    assert alike(history, expected.history) and history.loss.shape == (5,)
    assert alike(end._replace(settings=()), expected.train_state._replace(settings=()))


@pytest.mark.slow
def test_the_size_of_the_buffer_changes_nothing_without_shuffling(expected):
    assert alike(trained(buffer_rows=None)[0].params, expected.train_state.params)


def test_an_epoch_in_shuffled_buffers_has_every_row_once():
    end, history = trained(config=SHUFFLED, epochs=3)
    np.testing.assert_allclose(history.metrics["label"], [(WEIGHTS * LABELS).sum() / WEIGHTS.sum()] * 3, rtol=1e-6)
    assert int(end.epoch) == 3 and int(end.step) == 0 and len(set(history.loss.tolist())) == 3


def test_a_run_stopped_anywhere_goes_on_to_the_same_bits():
    source = memory_mapped(X, LABELS, WEIGHTS, chunk_rows=10)
    whole, history = trained(source, config=SHUFFLED, epochs=3)
    one_step = {"config": SHUFFLED, "epochs": 3, "pace": Pace(1e-9)}
    for stop_after in (1, 4, 7, 9, 14):
        seen = []

        def between(segment, seen=seen, stop_after=stop_after):
            seen.append(len(segment.history.loss))
            return len(seen) == 1 + stop_after  # the first one only compiles

        state, first = trained(source, **one_step, between=between)
        assert int(state.epoch) * 7 + int(state.step) == stop_after == len(seen) - 1
        end, rest = trained(source, **one_step, state=state)
        assert same_bits(end, whole), stop_after
        assert same_bits(jax.tree.map(lambda a, b: np.concatenate([a, b]), first, rest), history)


def test_patience_ends_the_run():
    end, history = trained(epochs=50, settings={"patience": 1.0, "min_delta": 1e9})
    assert len(history.loss) == int(end.epoch) == 2 and not end.active


@pytest.mark.slow
def test_divergence_ends_the_run_where_it_does_in_memory():
    with pytest.warns(fnn.TrainingDiverged):
        stopped = in_memory(lr=1e38).train_state
    for rows in (32, None):  # it may diverge in the last buffer, or before
        end, history = trained(lr=1e38, buffer_rows=rows)
        assert end.diverged.tolist() == stopped.diverged.tolist() and end.diverged[0] >= 0
        assert len(history.loss) == int(end.epoch) == end.diverged[0]
        np.testing.assert_allclose(end.params[0]["w"], stopped.params[0]["w"], rtol=1e-4)


def test_where_nothing_is_left_to_do_nothing_is_read():
    end, history = trained(epochs=2)
    assert list(stream_segments(RECIPE, in_chunks(X, LABELS), end, 2)) == [] and len(history.loss) == 2


def test_the_second_run_compiles_nothing(compiled):
    trained()
    compiled.clear()
    trained(in_chunks(X[::-1], LABELS, WEIGHTS, sizes=[103]), config=SHUFFLED)
    assert compiled == []


@pytest.mark.slow
def test_many_runs_go_through_a_buffer_at_once():
    buffer = next(buffers(plan(in_chunks(X, LABELS), rows=112), [0]))
    run = build_buffer_trainer(RECIPE)
    one = fnn.Data(fnn.Part(jnp.asarray(X[:1]), jnp.asarray(LABELS[:1])))
    states = [START(jax.random.key(i), one, NUMBERS) for i in range(2)]
    both, rows, ended = jax.jit(jax.vmap(lambda s: run(s, buffer)))(jax.tree.map(lambda *a: jnp.stack(a), *states))
    alone, row, _ = jax.jit(run)(states[1], buffer)
    assert ended.all() and rows.loss[1] == pytest.approx(float(row.loss), rel=1e-5)
    np.testing.assert_allclose(both.params[0]["w"][1], alone.params[0]["w"], rtol=1e-4, atol=1e-6)


# ---- buffers


@pytest.mark.parametrize("sizes", [[103], [1] * 103, SIZES, [32, 32, 32, 7], [64, 39]])
def test_every_row_once_whatever_the_chunks(sizes):
    x, t = numbered(103)
    made = list(buffers(plan(in_chunks(x, t, sizes=sizes)), [0, 1]))
    assert [(int(b.first), int(b.count), bool(b.last)) for b in made] == [
        (0, 32, False),
        (2, 32, False),
        (4, 32, False),
        (6, 7, True),
    ] * 2
    for epoch in (made[:4], made[4:]):
        seen = np.concatenate([b.part.t[: b.count] for b in epoch])
        assert sorted(seen) == list(range(103)) and list(seen) != sorted(seen)
        assert all((b.part.x[: b.count, 0] == b.part.t[: b.count]).all() for b in epoch)
        assert all((b.part.weight == (np.arange(32) < b.count)).all() for b in epoch)
        assert all(b.part.x.shape == (32, 1) for b in epoch)
    orders = [np.argsort(b.part.t[:32]).tolist() for b in (made[0], made[1], made[4])]
    assert orders[0] != orders[1] and orders[0] != orders[2]  # each has its own


def test_rows_that_fill_whole_buffers_leave_no_empty_one():
    made = list(buffers(plan(in_chunks(*numbered(64), sizes=[64])), [0]))
    assert [(int(b.count), bool(b.last)) for b in made] == [(32, False), (32, True)]


def test_the_order_depends_on_seed_epoch_and_place_alone():
    def orders(seed, epochs, step=0):
        source = memory_mapped(*numbered(103), chunk_rows=10)
        return [b.part.t.tolist() for b in buffers(plan(source, seed=seed), epochs, step)]

    whole = orders((1, 2), [0, 1, 2])
    assert orders((1, 2), [0, 1, 2]) == whole
    assert orders((1, 2), [1, 2], step=3) == whole[5:]  # batch 3 lies in the second buffer of two batches
    assert orders((1, 2), [1, 2], step=6) == whole[7:]
    assert orders((1, 3), [0]) != whole[:4]
    assert whole[0][:4] != [0, 1, 2, 3]


def test_without_shuffling_rows_keep_their_order():
    for source in (in_chunks(*numbered(103)), memory_mapped(*numbered(103), chunk_rows=10)):
        made = buffers(plan(source, shuffle=False), [0])
        assert np.concatenate([b.part.t[: b.count] for b in made]).tolist() == list(range(103))


def test_buffers_of_the_default_size_are_as_large_as_needed(monkeypatch):
    shapes = lambda source: [b.part.x.shape for b in buffers(plan(source, rows=None), [0, 1])]  # noqa: E731
    assert shapes(in_chunks(*numbered(103))) == [(112, 1)] * 2
    assert shapes(memory_mapped(*numbered(103))) == [(112, 1)] * 2
    monkeypatch.setattr("fnn.data.buffers.BUFFER_BYTES", 500)  # 8 bytes a row: three batches and a bit
    assert shapes(in_chunks(*numbered(103))) == [(48, 1)] * 6


def test_a_source_may_use_its_memory_again():
    x, t = numbered(103)

    def chunks():
        table, labels = np.zeros((10, 1), "float32"), np.zeros(10, int)
        for start in range(0, 100, 10):
            table[:], labels[:] = x[start : start + 10], t[start : start + 10]
            yield table, labels

    seen = np.concatenate([b.part.x[: b.count, 0] for b in buffers(plan(chunks), [0])])
    assert sorted(seen) == list(range(100))
    again = [(a.tolist(), n) for (a, _), n in rechunk(chunks(), 16)]
    assert [a[:n] for a, n in again] == [x[i : min(i + 16, 100)].tolist() for i in range(0, 100, 16)]


# ---- sources


def test_a_function_is_called_once_an_epoch_with_its_number_if_it_takes_one():
    asked = []

    def chunks(epoch):
        asked.append(epoch)
        yield X, LABELS

    trained(chunks, epochs=3)
    assert asked == [0, 1, 2]


class Loader:
    """As data loaders are: no array, no function; pairs in lists; anew each time."""

    def __iter__(self):
        first = [jnp.asarray(X[:50]), LABELS[:50].tolist(), WEIGHTS[:50]]
        return iter([first, [X[50:].tolist(), LABELS[50:], WEIGHTS[50:].tolist()]])


def test_objects_to_iterate_over_and_containers_of_any_kind(expected):
    assert alike(trained(Loader())[0].params, expected.train_state.params)


def test_what_is_a_stream():
    assert all(is_stream(s) for s in (Loader(), in_chunks(X), in_chunks(X)(), memory_mapped(X, LABELS)))
    assert not any(is_stream(s) for s in ((X, LABELS), [X, LABELS], X, jnp.asarray(X), {"x": X}, "x.npy", None, 3))


def test_memory_mapped_files_are_read_in_blocks_in_an_order_of_their_own(tmp_path, expected):
    np.save(tmp_path / "x.npy", X)
    np.save(tmp_path / "t.npy", LABELS)
    stream = memory_mapped(tmp_path / "x.npy", str(tmp_path / "t.npy"), WEIGHTS, chunk_rows=10)
    assert repr(stream) == "memory_mapped(x[103, 4], t[103], weight[103])" and stream.rows == 103
    assert alike(trained(stream)[0].params, expected.train_state.params)
    orders = [
        [int(np.flatnonzero((x[0] == X).all(1))[0]) for x, _, _ in stream.chunks((1, 2), e, True)] for e in (0, 0, 1)
    ]
    assert orders[0] == orders[1] != orders[2] and sorted(orders[0]) == list(range(0, 103, 10))
    assert all(isinstance(a, np.memmap) for a in next(iter(stream.chunks((0,), 0, False)))[:2])


def test_a_memory_mapped_file_of_inputs_alone_is_predicted(tmp_path):
    np.save(tmp_path / "x.npy", X)
    stream, net = memory_mapped(tmp_path / "x.npy", chunk_rows=10), fnn.serial(fnn.dense(2))
    run = fnn.Run(*net.init(KEY, (4,))[:2], None, None, (4,))
    assert repr(stream) == "memory_mapped(x[103, 4])" and repr(pickle.loads(pickle.dumps(stream))) == repr(stream)
    assert np.array_equal(fnn.predict(net, run, stream), fnn.predict(net, run, X))
    with pytest.raises(TypeError, match=r"data, chunk 0: expected \(inputs, targets\)"):
        trained(stream)
    with pytest.raises(ValueError, match=r"t: expected targets beside weights, got None. Pass both or neither."):
        memory_mapped(X, weight=WEIGHTS)


# ---- mistakes


BAD = {
    "nan": ((np.where(np.arange(40) == 7, np.nan, X[1:41].T).T, LABELS[1:41]), "x: expected finite numbers, got nan"),
    "targets": ((X[1:41], LABELS[:39]), "expected as many targets as inputs, got 39 and 40"),
    "width": ((X[1:41, :3], LABELS[1:41]), r"x: expected rows of shape \(4,\) and float32 as in the first chunk, got"),
    "images": ((X[1:41].astype("uint8"), LABELS[1:41]), r"x: expected rows .* got rows of shape \(4,\) and uint8"),
    "floats": ((X[1:41], LABELS[1:41].astype("float32")), r"t: expected rows of shape \(\) and int32 .* and float32"),
    "label": ((X[1:41], LABELS[1:41] + 1), "expected class numbers from 0 to 1, got 2 in row 1"),
    "weights": ((X[1:41], LABELS[1:41], WEIGHTS[:40]), "weights: expected none as in the first chunk"),
    "strings": ((X[1:41].astype(str), LABELS[1:41]), "x: expected numbers, got dtype <U"),
    "vectors": ((X[1:41, 0], LABELS[1:41]), r"x: expected shape \(rows, features\), got \(40,\)"),
    "large": ((np.full((40, 4), 2**40), LABELS[1:41]), "x: expected integers that fit int32, got 1099511627776"),
    "huge": ((X[1:41].astype("float64") * 1e300, LABELS[1:41]), "x: expected numbers that fit float32, got"),
    "long": ((X[1:41], LABELS[1:41].astype("int64") + 2**40), "t: expected integers that fit int32"),
    "array": (X[1:41], r"expected \(inputs, targets\) or \(inputs, targets, weights\), got ndarray"),
}


@pytest.mark.parametrize("bad", BAD)
def test_a_bad_chunk_raises_with_its_number(bad):
    def chunks():
        yield X[:1], LABELS[:1]
        yield BAD[bad][0]

    with pytest.raises((ValueError, TypeError), match=f"^data, chunk 1[:,].*{BAD[bad][1]}.*[.?] [A-Z]"):
        trained(chunks)


def test_bad_weights_raise():
    for weights, expected in (
        (np.where(np.arange(103) == 5, -1, WEIGHTS), "chunk 0, weights: expected .* at least 0, got -1.0 in row 5"),
        (np.full(103, np.nan), "chunk 0, weights: expected finite"),
        (WEIGHTS[:, None], r"chunk 0, weights: expected shape \(103,\), .*got \(103, 1\)"),
        (0 * WEIGHTS, "expected a weight above 0, got zeros only"),
    ):
        with pytest.raises(ValueError, match=expected):
            trained(lambda weights=weights: [(X, LABELS, weights)])


def test_bad_sources_raise():
    with pytest.raises(TypeError, match="data: expected a stream that starts anew each epoch, got a generator"):
        trained(in_chunks(X, LABELS)())
    with pytest.raises(TypeError, match=r"data: expected a stream of chunks, got int. Pass a generator function"):
        trained(3)
    once = iter([(X, LABELS)])
    with pytest.raises(ValueError, match="expected at least one row, got a stream without any in epoch 1"):
        trained(lambda: once, epochs=3)
    with pytest.raises(ValueError, match=r"buffer_rows: expected a multiple of the batch size 16, got 20. Write 32"):
        trained(in_chunks(X, LABELS), buffer_rows=20)
    with pytest.raises(ValueError, match="batch_size: expected"):
        trained(in_chunks(X, LABELS), config=RECIPE._replace(batch_size=None))
    with pytest.raises(fnn.ShapeError, match="softmax_cross_entropy: expected"):
        trained(in_chunks(X, LABELS[:, None]))


def test_float64_is_cut_with_one_warning():
    with pytest.warns(UserWarning, match="data, chunk 0, x: float64 data are cut to float32") as caught:
        trained(in_chunks(X.astype("float64"), LABELS), epochs=2)
    assert len(caught) == 1


def test_files_in_the_home_folder_are_found(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    np.save(tmp_path / "x.npy", X)
    assert memory_mapped("~/x.npy", LABELS).rows == len(X)


def test_files_that_are_none_raise(tmp_path):
    (tmp_path / "x.npy").write_text("no array")
    with pytest.raises(ValueError, match=r"memory_mapped: x: expected a file written by np.save, got .*x.npy"):
        memory_mapped(tmp_path / "x.npy", LABELS)
    with pytest.raises(ValueError, match="memory_mapped: expected as many targets as inputs, got 102 and 103"):
        memory_mapped(X, LABELS[1:])
    with pytest.raises(ValueError, match="memory_mapped: t: expected at least one row"):
        memory_mapped(X, LABELS[:0])
    with pytest.raises(TypeError, match="memory_mapped: t: expected a path or an array, got list"):
        memory_mapped(X, LABELS.tolist())
    with pytest.raises(ValueError, match="chunk_rows: expected a whole number, at least 1, got 0"):
        memory_mapped(X, LABELS, chunk_rows=0)


# ---- read ahead


def test_float64_stays_float64_in_the_thread(x64):
    wide = plan(in_chunks(X.astype("float64"), LABELS))._replace(dtype=np.dtype("float64"))
    first = next(prefetch(buffers(wide, [0])))
    assert first.part.x.dtype == jnp.float64 and first.part.t.dtype == jnp.int64
    assert sorted(first.part.x[:, 0].tolist()) == sorted(X[:32, 0].astype("float64").tolist())


def test_one_item_is_made_ahead_in_one_other_thread():
    made, threads = [], set()

    def items():
        for i in range(6):
            made.append(i)
            threads.add(threading.current_thread().name)
            yield i

    for i, item in enumerate(prefetch(items(), put=lambda x: x)):
        time.sleep(0.02)  # the thread makes as much as it may
        assert item == i and made == list(range(min(i + 2, 6)))
    assert threads == {"fnn stream"}


def workers():
    return [t for t in threading.enumerate() if t.name == "fnn stream"]


def test_the_thread_ends_when_abandoned_and_closes_the_source():
    closed = []

    def items():
        try:
            while True:
                yield 1
        finally:
            closed.append(True)

    source = items()
    iterator = prefetch(source)
    next(iterator)
    assert len(workers()) == 1
    iterator.close()
    assert workers() == [] and closed == [True]
    next(prefetch(items()))  # dropped
    assert workers() == [] and closed == [True, True]


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs a timer that sends a signal")
def test_a_signal_whose_handler_takes_longer_than_a_wait_does_not_make_it_endless():
    came, let_go = [], threading.Event()

    def handle(number, frame):
        came.append(number)
        assert len(came) == 1, "the wait had no end"
        time.sleep(0.1)  # longer than a step of waiting
        signal.setitimer(signal.ITIMER_REAL, 20.0)

    def items():
        while not let_go.wait(0.01):
            pass
        yield 1

    before = signal.signal(signal.SIGALRM, handle)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        assert list(prefetch(items(), put=lambda x: x, must_stop=lambda: bool(came))) == []
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)
        let_go.set()


def test_an_error_of_the_thread_is_raised_where_the_items_are_used():
    def items():
        yield 1
        raise OSError("the disk is gone")

    iterator = prefetch(items())
    assert next(iterator) == 1
    with pytest.raises(OSError, match="the disk is gone"):
        next(iterator)
    assert workers() == []


def test_an_error_between_segments_ends_the_thread():
    with pytest.raises(RuntimeError, match="stop it"):
        trained(in_chunks(X, LABELS), between=lambda segment: (_ for _ in ()).throw(RuntimeError("stop it")))
    assert workers() == []

"""What was read of a stream: a run that goes on has the same bits, or is refused where the rows are others."""

import jax
import numpy as np
import optax
import pytest

import fnn
from fnn.data import checks
from fnn.data.reading import BufferRecord, StreamRecord, check_sum
from tests.helpers.problems import same_bits

RNG = np.random.default_rng(0)
X = RNG.normal(size=(300, 3)).astype("float32")
T = X.sum(1, keepdims=True)
WEIGHTS = RNG.uniform(0, 2, 300).astype("float32")
NET = fnn.serial(fnn.dense(4), fnn.tanh, fnn.dense(1))
MOMENTUM = optax.sgd(0.02, momentum=0.9)


def fit(data, epochs=5, **arguments):
    arguments = {"batch_size": 16, "progress": False, "checkpoint_seconds": 1e9} | arguments
    return fnn.fit(NET, fnn.losses.squared_error, MOMENTUM, data, epochs=epochs, **arguments)


def of_lengths(lengths, size=35, seed=0):
    """A stream whose epochs have these lengths, and rows of their own."""

    def chunks(epoch):
        at = np.random.default_rng((seed, epoch)).permutation(300)[: lengths[epoch]]
        for start in range(0, len(at), size):
            part = at[start : start + size]
            yield X[part], T[part], WEIGHTS[part]

    return chunks


# ---- the same bits


LENGTHS = {"mixed": [100, 40, 160, 70, 130], "growing": [50, 90, 150, 220, 300], "shrinking": [300, 200, 100, 50, 10]}


@pytest.mark.parametrize("buffer_bytes", [pytest.param(64_000_000, marks=pytest.mark.slow), 1000])
@pytest.mark.parametrize("name", LENGTHS)
def test_epochs_of_other_lengths_go_on_to_the_same_bits(name, buffer_bytes, tmp_path, monkeypatch):
    monkeypatch.setattr("fnn.data.buffers.BUFFER_BYTES", buffer_bytes)
    chunks, more = of_lengths(LENGTHS[name]), {"validation": (X[:30], T[:30])}
    whole = fit(chunks, **more)
    for epochs in (1, 2, 4, 5):
        run = fit(chunks, epochs, checkpoint=tmp_path, **more)
    assert same_bits(run, whole)


class Killed(Exception):
    """Instead of a kill -9, which test_kill sends."""


@pytest.mark.parametrize("stop", [2, 7, 13, *(pytest.param(stop, marks=pytest.mark.slow) for stop in (1, 4, 9))])
def test_stopped_within_an_epoch_it_goes_on_in_buffers_of_the_same_rows(stop, tmp_path, monkeypatch):
    """Of seven batches where the first epoch has 100 rows; the third, of 160, has two of them."""
    from fnn.fitting.stream_segments import stream_segments

    def killing(*args, **more):
        for i, segment in enumerate(stream_segments(*args, **more)):
            if i > stop:
                raise Killed
            yield segment

    chunks = of_lengths(LENGTHS["mixed"])
    whole = fit(chunks, 3)
    monkeypatch.setattr("fnn.fitting.resume.SHARE", 0)
    with monkeypatch.context() as patch:
        patch.setattr("fnn.fitting.segments.SEGMENT_SECONDS", 1e-9)  # one step a segment
        patch.setattr("fnn.fitting.host_loop.stream_segments", killing)
        with pytest.raises(Killed):
            fit(chunks, 3, checkpoint=tmp_path, checkpoint_seconds=0)
    assert same_bits(fit(chunks, 3, checkpoint=tmp_path), whole)


def test_blocks_of_other_rows_are_another_run(tmp_path):
    fit(fnn.memory_mapped(X, T, chunk_rows=10), 2, checkpoint=tmp_path)
    with pytest.raises(ValueError, match="stream's chunk_rows: expected 10, got 100"):
        fit(fnn.memory_mapped(X, T, chunk_rows=100), 4, checkpoint=tmp_path)
    again = fit(fnn.memory_mapped(X, T, chunk_rows=10), 4, checkpoint=tmp_path)
    assert same_bits(again, fit(fnn.memory_mapped(X, T, chunk_rows=10), 4))


def test_a_file_of_which_a_row_has_changed_is_another_stream(tmp_path):
    other = X.copy()
    other[150, 1] += 1
    fit(fnn.memory_mapped(X, T, chunk_rows=10), 2, checkpoint=tmp_path)
    with pytest.raises(ValueError, match="expected the stream to give the 300 rows again that it gave in epoch 0, got"):
        fit(fnn.memory_mapped(other, T, chunk_rows=10), 4, checkpoint=tmp_path)


def test_what_there_is_to_warn_of_is_said_once(tmp_path):
    wide = lambda epoch: [(X.astype("float64"), T)]  # noqa: E731
    for epochs in (1, 2):
        checks.said_in_process.clear()
        with pytest.warns(UserWarning, match="data, chunk 0, x: float64 data are cut to float32") as caught:
            fit(wide, epochs, checkpoint=tmp_path)
        assert len(caught) == 1


# ---- other rows


def changed(what):
    """Rows of a stream without the epoch's number, other than before from the second chunk on."""
    x, t, weight = X[:100].copy(), T[:100].copy(), np.ones(100, "float32")
    if what == "an input":
        x[70, 1] += 1e-3
    elif what == "a target":
        t[99] = 0
    elif what == "a weight":
        weight[50] = 2
    elif what == "the order":
        x[[60, 61]], t[[60, 61]] = x[[61, 60]], t[[61, 60]]
    elif what == "a row less":
        x, t, weight = x[:99], t[:99], weight[:99]
    elif what == "a row more":
        x, t, weight = X[:101], T[:101], np.ones(101, "float32")
    return lambda: [(x[i : i + 40], t[i : i + 40], weight[i : i + 40]) for i in range(0, len(x), 40)]


LATER = [pytest.param(what, marks=pytest.mark.slow) for what in ("a target", "the order", "a row more")]


@pytest.mark.parametrize("what", ["an input", "a weight", "a row less", *LATER])
def test_a_stream_that_gives_other_rows_is_refused(what, tmp_path):
    fit(changed("nothing"), 2, checkpoint=tmp_path)
    message = "the 100 rows again that it gave in epoch 0, got .*: its data have changed, or it shuffles without a seed"
    with pytest.raises(ValueError, match=message):
        fit(changed(what), 4, checkpoint=tmp_path)
    with pytest.raises(ValueError, match=message):
        fit(changed(what), 2, checkpoint=tmp_path)  # a finished run too
    assert same_bits(fit(changed("nothing"), 4, checkpoint=tmp_path), fit(changed("nothing"), 4))


def test_other_rows_in_the_epoch_under_way_are_refused(tmp_path):
    def failing(epoch):
        yield from of_lengths([100, 100, 100])(epoch)
        if epoch == 1:
            raise OSError("gone")

    def other(epoch):
        return of_lengths([100, 100, 100], seed=epoch)(epoch)  # epoch 0 is the same

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fnn.data.buffers.BUFFER_BYTES", 1000)  # three batches
        with pytest.raises(OSError, match="gone"):
            fit(failing, 3, checkpoint=tmp_path)
        with pytest.raises(ValueError, match="rows again that it gave in epoch 1 at first, got others"):
            fit(other, 3, checkpoint=tmp_path)
        assert same_bits(fit(of_lengths([100] * 3), 3, checkpoint=tmp_path), fit(of_lengths([100] * 3), 3))


def test_one_that_shuffles_without_a_seed_is_named_for_what_it_is(tmp_path):
    def shuffled():
        at = np.random.default_rng().permutation(300)
        yield X[at], T[at]

    fit(shuffled, 2, checkpoint=tmp_path / "two")
    with pytest.warns(
        UserWarning, match=r"does not know the epoch's number, so it shuffles by itself.*Pass a function"
    ):
        assert len(fit(shuffled, 4, checkpoint=tmp_path / "two").history.loss) == 4
    fit(shuffled, 1, checkpoint=tmp_path / "one")  # of one epoch nobody can tell: refused
    with pytest.raises(ValueError, match="or it shuffles without a seed of the epoch"):
        fit(shuffled, 4, checkpoint=tmp_path / "one")


def test_where_all_epochs_were_the_same_the_next_is_too(monkeypatch, tmp_path):
    monkeypatch.setattr(
        "fnn.data.buffers.BUFFER_BYTES", 1000
    )  # the first buffer is compared, and what has changed is behind
    fit(changed("nothing"), 2, checkpoint=tmp_path)
    with pytest.raises(
        ValueError, match="expected the stream to give the 100 rows again that it gave in epoch 1, got o"
    ):
        fit(changed("a target"), 4, checkpoint=tmp_path)


@pytest.mark.parametrize("size", [3, 1024, 5000])
def test_a_check_sum_sees_each_bit_and_the_order(size):
    array = np.random.default_rng(size).normal(size=(size, 3)).astype("float32")
    expected = check_sum([array])
    for place in np.random.default_rng(1).choice(array.nbytes, 50):
        other = array.copy()
        other.view(np.uint8).reshape(-1)[place] ^= 1 << (place % 8)
        assert check_sum([other]) != expected
    assert len({check_sum([array]), check_sum([array[::-1].copy()]), check_sum([array[:-1]]), check_sum([])}) == 4


def test_what_was_read_comes_back_from_arrays():
    reading = StreamRecord(numbered=False)
    for buffer in (BufferRecord(0, 0, 32, 7), BufferRecord(0, 1, 40, 2**32 - 1, True)):
        reading.take(buffer, 32)
    reading.end_epoch()
    reading.take(BufferRecord(1, 0, 32, 5), 32)
    again = StreamRecord(reading.to_arrays(), False)
    assert (again.room, again.first, again.under_way, again.whole) == (
        32,
        BufferRecord(0, 0, 32, 7),
        BufferRecord(1, 0, 32, 5),
        [(40, 2**32 - 1)],
    )
    again.check(BufferRecord(1, 0, 32, 5))
    again.check(BufferRecord(2, 0, 32, 6))  # another epoch
    with pytest.raises(ValueError, match="got 30 rows"):
        again.check(BufferRecord(1, 0, 30, 5, True))
    assert StreamRecord(StreamRecord().to_arrays()).to_arrays().keys() == reading.to_arrays().keys()


# ---- an error of the stream; and how often it is opened


def bad_chunk(epoch):
    yield from of_lengths([100] * 9)(epoch)
    if epoch == 3:
        yield X[:5] * np.nan, T[:5], WEIGHTS[:5]


def gone(epoch):
    if epoch == 3:
        raise ConnectionError("gone")
    yield from of_lengths([100] * 9)(epoch)


@pytest.mark.parametrize("failing, error", [(bad_chunk, "expected finite numbers"), (gone, "gone")])
def test_the_epochs_before_an_error_of_the_stream_are_kept(failing, error, tmp_path):
    with pytest.raises((ValueError, ConnectionError), match=error):
        fit(failing, 6, checkpoint=tmp_path)
    asked = []

    def chunks(epoch):
        asked.append(epoch)
        return of_lengths([100] * 9)(epoch)

    run = fit(chunks, 6, checkpoint=tmp_path)
    assert same_bits(run, fit(of_lengths([100] * 9), 6)) and asked == [0, 3, 4, 5]


def test_a_stream_is_opened_once_for_each_epoch(tmp_path):
    asked = []

    def chunks(epoch):
        asked.append(epoch)
        yield np.empty((0, 3), "float32"), np.empty((0, 1), "float32")
        yield X[:50], T[:50]
        yield X[50:90], T[50:90]

    run = fit(chunks, 3)
    assert asked == [0, 1, 2]
    assert same_bits(run, fit(lambda: [(X[:90], T[:90])], 3))


class Loader:
    """A data loader that counts."""

    def __init__(self):
        self.opened = 0

    def __iter__(self):
        self.opened += 1
        return iter([(X[:50], T[:50]), (X[50:90], T[50:90])])


def test_a_loader_is_opened_once_for_each_epoch_and_reused_memory_is_no_problem():
    loader = Loader()
    expected = fit(loader, 3)
    assert loader.opened == 3
    table, targets = np.empty((50, 3), "float32"), np.empty((50, 1), "float32")

    def refilled():
        for start, end in ((0, 50), (50, 90)):
            table[: end - start], targets[: end - start] = X[start:end], T[start:end]
            yield table[: end - start], targets[: end - start]

    assert same_bits(fit(refilled, 3), expected)


@pytest.mark.parametrize("dtype", ["bfloat16", pytest.param("float16", marks=pytest.mark.slow)])
def test_sixteen_bit_parameters_train_from_a_stream_and_go_on(dtype, tmp_path):
    params = jax.tree.map(lambda a: a.astype(dtype), NET.init(jax.random.key(0), (3,))[0])
    for cast in (np.float32, np.float16):
        chunks = lambda epoch, cast=cast: [(X.astype(cast), T.astype(cast))]  # noqa: E731
        whole = fit(chunks, 4, params=params)
        fit(chunks, 2, params=params, checkpoint=tmp_path / cast.__name__)
        assert same_bits(fit(chunks, 4, params=params, checkpoint=tmp_path / cast.__name__), whole)
        assert whole.params[0]["w"].dtype == dtype and whole.history.loss[-1] < whole.history.loss[0]

"""`fit` on data that come in chunks: as on data in memory, and as trustworthy."""

import jax
import numpy as np
import optax
import pytest

import fnn

RNG = np.random.default_rng(0)
X = RNG.normal(size=(300, 4)).astype("float32")
T = (X[:, 0] > 0).astype("int32")
NET = fnn.serial(fnn.dense(8), fnn.tanh, fnn.dense(2))
LOSS = fnn.losses.sparse_softmax_cross_entropy
ARGUMENTS = dict(epochs=4, batch_size=32, metrics={"accuracy": fnn.accuracy}, validation=(X[:50], T[:50]))


def chunks(epoch):
    """70 rows at a time; it takes the epoch's number."""
    for i in range(0, 300, 70):
        yield X[i : i + 70], T[i : i + 70]


def fit(data=chunks, **changed):
    return fnn.fit(NET, LOSS, optax.adam(0.01), data, **{**ARGUMENTS, **changed})


def same(a, b):
    return jax.tree.all(jax.tree.map(lambda p, q: bool((p == q).all()), a, b))


def test_a_stream_trains_as_the_same_rows_in_memory():
    streamed, in_memory = fit(shuffle=False), fit((X, T), shuffle=False)
    for name in ("loss", "validation_loss"):
        np.testing.assert_allclose(getattr(streamed.history, name), getattr(in_memory.history, name), rtol=1e-5)
    assert streamed.best_epoch == in_memory.best_epoch == 3 and streamed.in_shape == (4,)


@pytest.mark.slow
def test_a_full_batch_has_the_masks_of_a_stream_of_one_batch():
    """The single batch of an epoch has the key of batch 0, however the rows come."""
    net = fnn.serial(fnn.dense(8), fnn.dropout(0.5), fnn.dense(2))
    run = lambda data, size: fnn.fit(net, LOSS, optax.sgd(0.5), data, epochs=3, batch_size=size, shuffle=False)  # noqa: E731
    streamed = run(lambda epoch: [(X, T)], 300).history.loss
    for size in (None, 300, 1000):
        np.testing.assert_allclose(run((X, T), size).history.loss, streamed, rtol=1e-5)


def test_a_stream_goes_on_from_its_checkpoint_to_the_same_bits(tmp_path):
    whole = fit()
    fit(epochs=2, checkpoint=tmp_path)
    resumed = fit(checkpoint=tmp_path)
    assert same(resumed.train_state.params, whole.train_state.params) and same(resumed.params, whole.params)
    np.testing.assert_array_equal(resumed.history.loss, whole.history.loss)
    with pytest.raises(ValueError, match=r"expected the run that .* is of, got one that differs"):
        fit(checkpoint=tmp_path, batch_size=16)


def test_memory_mapped_files_train(tmp_path):
    np.save(tmp_path / "x.npy", X)
    np.save(tmp_path / "t.npy", T)
    run = fit(fnn.memory_mapped(tmp_path / "x.npy", tmp_path / "t.npy", chunk_rows=64))
    assert run.history.loss[-1] < run.history.loss[0]


def test_divergence_on_a_stream_is_told():
    def wild(epoch):
        yield X, 1e30 * X[:, :2]

    with pytest.warns(fnn.TrainingDiverged, match=r"in epoch 0, step 0 .*\. [A-Z].* look for it in the chunks"):
        run = fnn.fit(NET, fnn.losses.squared_error, optax.sgd(0.1), wild, epochs=3, batch_size=32)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(run.params))


def empty():
    yield from ()


@pytest.mark.parametrize(
    "changed, message",
    [
        (
            dict(weights=T),
            "weights: expected them in the chunks of the stream, as (x, t, weight), got an argument. ",
        ),
        (dict(validation=0.2), "validation: expected rows (x, t) beside a stream, got the share 0.2. "),
        (
            dict(batch_size=None),
            "batch_size: expected rows per step for a stream, which is never one batch, got None. ",
        ),
        (dict(data=empty), "data: expected a stream with rows, got none. "),
        (dict(data=lambda: [(X, T + 2)]), "expected class numbers from 0 to 1, got 3 in row 0. "),
        (dict(data=lambda: [(X * np.nan, T)]), "data, chunk 0, x: expected "),
    ],
)
def test_bad_streams_raise_before_anything_compiles(changed, message):
    with pytest.raises(ValueError) as error:
        fit(**changed)
    assert message in str(error.value)

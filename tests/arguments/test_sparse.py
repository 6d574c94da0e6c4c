"""A matrix of SciPy where data stand: what becomes of it, in which entry points, and what is refused by name."""

import jax
import numpy as np
import optax
import pytest
from jax.experimental.sparse import BCOO
from scipy import sparse

import fnn
from fnn.arguments.sparse import Room

NET = fnn.serial(fnn.sparse_dense(30, 2), fnn.tanh, fnn.dense(1))
SQUARED, ADAM = fnn.losses.squared_error, optax.adam(0.1)


def matrix(rows=24, density=0.2, seed=0, **kind):
    made = sparse.random_array((rows, 30), density=density, rng=np.random.default_rng(seed), **kind)
    return made.astype("float32").tocsr()


X = matrix()
T = X.sum(1)[:, None].astype("float32")
PARAMS, STATE, _ = NET.init(jax.random.key(0), (2, 9))
RUN = fnn.Run(PARAMS, STATE, None, None)


def whole(rows, columns=30):
    made = np.zeros((len(rows), columns))
    for row, (at, values) in zip(made, rows, strict=True):
        np.add.at(row, at.astype(int), values)
    return made


@pytest.mark.parametrize("kind", ["csr", "csc", "coo", "lil", "dok", "bsr"])
@pytest.mark.parametrize("make", ["array", "matrix"])
def test_every_format_becomes_the_same_rows(kind, make):
    x = getattr(sparse, f"{kind}_{make}")(X)
    np.testing.assert_array_equal(whole(fnn.sparse_rows(x)), X.toarray())
    assert fnn.sparse_rows(x).dtype == np.float32


@pytest.mark.parametrize(
    ("x", "dtype"),
    [
        (X.astype("float64"), "float64"),
        ((X != 0), "float32"),
        ((X != 0).astype("int64"), "float32"),
        ((X != 0).astype("int64") * (2**24 + 1), "float64"),
        (sparse.csr_array(([1.0], ([0], [2**24 + 1])), shape=(1, 2**24 + 2), dtype="float32"), "float64"),
    ],
)
def test_the_dtype_holds_values_and_columns(x, dtype):
    assert fnn.sparse_rows(x).dtype == dtype


def test_the_room_is_that_of_few_programs():
    rooms = [fnn.sparse_rows(sparse.csr_array(np.ones((1, n)))).shape[2] for n in range(1, 300)]
    assert all(n <= room <= n * 9 / 8 for n, room in enumerate(rooms, 1)) and len(set(rooms)) == 50
    assert fnn.sparse_rows(sparse.csr_array((3, 4))).shape == (3, 2, 1)
    assert fnn.sparse_rows(X, room=20).shape == (24, 2, 20)


def test_every_entry_point_takes_a_matrix():
    rows = fnn.sparse_rows(X)
    more = dict(epochs=2, batch_size=8, params=PARAMS)
    run = fnn.fit(NET, SQUARED, ADAM, (X, T), validation=(X[:5], T[:5]), **more)
    same = fnn.fit(NET, SQUARED, ADAM, (rows, T), validation=(rows[:5], T[:5]), **more)
    assert run.history.loss.tolist() == same.history.loss.tolist()
    y = fnn.predict(NET, run, rows)
    for x in (X, X.tocsc(), X.astype("float32").tocoo(), X.todok()):
        np.testing.assert_array_equal(fnn.predict(NET, run, x), y)
    np.testing.assert_array_equal(fnn.predictor(NET, run)(X), y)
    found, expected = (fnn.evaluate(NET, run, (x, T), {"loss": SQUARED})["loss"] for x in (X, rows))
    assert found == expected
    both = fnn.fit(BESIDE, SQUARED, ADAM, ({"words": rows, "age": T}, T), epochs=1)
    assert fnn.predict(BESIDE, both, {"words": rows, "age": T}).shape == (24, 1)
    a, b = (fnn.hold_out(x, T)[0][0] for x in (X, rows))
    np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_folds_and_sweeps_take_a_matrix():
    study = fnn.cross_validate(NET, SQUARED, ADAM, (X, T), folds=2, epochs=2, batch_size=8)
    same = fnn.cross_validate(NET, SQUARED, ADAM, (fnn.sparse_rows(X), T), folds=2, epochs=2, batch_size=8)
    np.testing.assert_array_equal(study.table["validation_loss"], same.table["validation_loss"])


def test_chunks_of_a_stream_get_the_room_of_the_first():
    def chunks(epoch):
        for i in range(0, 24, 6):
            yield X[i : i + 6, ::-1] if i else matrix(6, 0.4), T[i : i + 6]  # the first has the longest rows

    run = fnn.fit(NET, SQUARED, ADAM, chunks, epochs=2, batch_size=6, params=PARAMS)
    assert np.isfinite(run.history.loss).all()
    y = fnn.predict(NET, run, (x for x, _ in chunks(0)))
    np.testing.assert_allclose(y[6:], fnn.predict(NET, run, X[6:, ::-1]), 1e-5, 1e-6)


def test_empty_places_make_room():
    fill = Room()
    fill("x", X, fnn.sparse_rows(X, room=13))
    np.testing.assert_array_equal(whole(fill("x", X, fnn.sparse_rows(X, room=16))), X.toarray())
    assert fill("x", X[:1], fnn.sparse_rows(X[:1], room=9)).shape == (1, 2, 13)


def bad_chunks(epoch):
    yield X[:6], T[:6]
    yield sparse.csr_array(np.ones((6, 30), "float32")), T[:6]


def fit(x=X, t=T, **more):
    return fnn.fit(NET, SQUARED, ADAM, (x, t), epochs=1, **more)


BESIDE = fnn.serial(fnn.parallel(words=fnn.sparse_dense(30, 2), age=fnn.dense(2)), fnn.add(), fnn.dense(1))
ROWS = fnn.sparse_rows(X, room=40)
WIDE = fnn.sparse_rows(sparse.csr_array(np.ones((24, 40), "float32")))

CASES = {
    "targets": (lambda: fit(t=X[:, :1]), r"data\[1\]: expected an array, got the sparse csr_array. Pass its .toarray"),
    "targets by place": (lambda: fit(t=sparse.dok_array(T)), r"data\[1\]: expected an array, got the sparse dok_array"),
    "one of two inputs": (lambda: fit({"words": X}), r'data\[0\]\["words"\]: .*csr_array. Pass fnn.sparse_rows\(x\)'),
    "columns of one of two inputs": (
        lambda: fnn.fit(BESIDE, SQUARED, ADAM, ({"words": WIDE, "age": T}, T), epochs=1),
        r'data\[0\]\["words"\]: expected 30 columns, .*got number 30 in row 0',
    ),
    "of another library": (
        lambda: fit(BCOO.fromdense(np.eye(24, 30))),
        r"data\[0\]: expected an array, got the sparse BCOO. Pass fnn.sparse_rows\(scipy.sparse.csr_array",
    ),
    "weights": (lambda: fit(weights=X[:, :1]), r"weights: expected an array, got the sparse"),
    "no rows": (lambda: fit(X[:0], T[:0]), r"data\[0\]: expected a sparse matrix of at least one row and one column"),
    "no columns": (lambda: fit(X[:, :0]), r"data\[0\]: expected a sparse matrix of at least one row and one column"),
    "another length": (lambda: fit(X[:5]), r"data: expected as many targets as inputs, got 24 and 5"),
    "nan": (lambda: fit(X * np.nan), r"data\[0\]: expected finite numbers, got nan or inf in 2\d of 24 rows"),
    "complex": (lambda: fit(X.astype(complex)), r"data\[0\]: expected numbers, got dtype complex128"),
    "an array": (lambda: fnn.sparse_rows(np.ones((2, 3))), "sparse_rows: expected a sparse matrix of SciPy, got"),
    "little room": (lambda: fnn.sparse_rows(X, 2), r"sparse_rows: expected rows of at most 2 values, got \d+; the f"),
    "a longer chunk": (
        lambda: fnn.fit(NET, SQUARED, ADAM, bad_chunks, epochs=1, batch_size=6),
        r"data, chunk 1, x: expected rows of at most \d+ values, as the first chunk has room for, got 30. "
        r"Yield fnn.sparse_rows\(x, room=30\)",
    ),
    "standardised": (lambda: fnn.standardise(X), "train: expected an array, got the sparse csr_array"),
    "folds standardised": (
        lambda: fnn.cross_validate(NET, SQUARED, ADAM, (X, T), folds=2, epochs=1, standardise=True),
        r"data\[0\]: expected an array to standardise, got the sparse csr_array",
    ),
    "other columns to predict": (
        lambda: fnn.predict(NET, RUN, sparse.csr_array((24, 40), dtype="float32")),
        r"x: expected 30 columns, numbered from 0, as sparse_dense\(30, …\) has them, got 40. Pass the columns that",
    ),
    "other columns of rows to predict": (
        lambda: fnn.predict(NET, RUN, np.concatenate([ROWS, WIDE[:2]]), batch_size=3),
        r"x: expected 30 columns, .* got number 30 in row 24",
    ),
    "other columns to evaluate": (
        lambda: fnn.evaluate(NET, RUN, (sparse.csr_array(np.ones((24, 40), "float32")), T), {"loss": SQUARED}),
        r"data, x: expected 30 columns, numbered from 0, as sparse_dense\(30, …\) has them, got 40. Pass the columns",
    ),
    "a dense network": (
        lambda: fnn.fit(fnn.dense(1), SQUARED, ADAM, (X, T), epochs=1),
        r"dense\(1\): expected examples of shape \(fan_in,\), got \(2, \d+\).*sparse_dense",
    ),
    "other columns": (
        lambda: fit(sparse.csr_array(np.ones((24, 40), "float32"))),
        r"data\[0\]: expected 30 columns, numbered from 0, as sparse_dense\(30, …\) has them, got number 30 in row 0",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_what_is_wrong_is_named(name):
    call, message = CASES[name]
    with pytest.raises((ValueError, TypeError), match=message):
        call()


def test_hints_are_right():
    fnn.sparse_rows(sparse.csr_array(np.ones((6, 30))), room=30)
    fnn.fit(
        fnn.serial(fnn.sparse_dense(40, 1)), SQUARED, ADAM, (sparse.csr_array((24, 40), dtype="float32"), T), epochs=1
    )

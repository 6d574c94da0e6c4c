"""Sparse rows are those of the dense matrix: values, derivatives, training; and what is wrong is named."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import sparse

import fnn

KEY = jax.random.key(0)


def matrix(rows=13, columns=9, seed=0, dtype="float64"):
    """Rows of many lengths, one of them empty, one column in no row, and a value that stands in two parts."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, columns)) * (rng.random((rows, columns)) < rng.random((rows, 1)))
    x[1], x[:, 3] = 0, 0
    x = sparse.coo_array(x.astype(dtype))
    return sparse.csr_array((np.append(x.data, 2.0), (np.append(x.row, 2), np.append(x.col, 4))), shape=x.shape)


@pytest.mark.parametrize("features", [1, 2, 5])
@pytest.mark.parametrize("bias", [True, False])
def test_it_is_dense_on_the_whole_matrix(features, bias, x64):
    x = matrix()
    rows, whole = fnn.sparse_rows(x), x.toarray()
    layer, dense = fnn.sparse_dense(9, features, bias=bias), fnn.dense(features, bias=bias)
    params = layer.init(KEY, rows.shape[1:])[0]
    y, _, cache = layer.forward(params, (), jnp.asarray(rows), None, True)
    expected, _, dense_cache = dense.forward(params, (), jnp.asarray(whole), None, True)
    np.testing.assert_allclose(y, expected, 1e-13, 1e-14)
    dy = jnp.asarray(np.random.default_rng(1).normal(size=y.shape))
    (dparams, dx), (by_dense, by_whole) = layer.backward(params, cache, dy), dense.backward(params, dense_cache, dy)
    for name in params:
        np.testing.assert_allclose(dparams[name], by_dense[name], 1e-13, 1e-14)
    at = rows[:, 0].astype(int)
    np.testing.assert_allclose(dx[:, 1], np.take_along_axis(np.asarray(by_whole), at, 1), 1e-13, 1e-14)
    assert not dx[:, 0].any()


@pytest.mark.parametrize("gradient", [fnn.autodiff, fnn.backprop])
def test_a_network_trains_as_with_the_whole_matrix(gradient, x64):
    x = matrix(40)
    t = x.toarray() @ np.ones((9, 1))
    net, dense = (fnn.serial(layer, fnn.tanh, fnn.dense(1)) for layer in (fnn.sparse_dense(9, 3), fnn.dense(3)))
    params = net.init(KEY, (2, 9))[0]
    more = dict(epochs=3, batch_size=16, params=params, gradient=gradient, validation=0.2)
    run = fnn.fit(net, fnn.losses.squared_error, optax.adam(0.1), (x, t), **more)
    expected = fnn.fit(dense, fnn.losses.squared_error, optax.adam(0.1), (x.toarray(), t), **more)
    for a, b in zip(jax.tree.leaves(run.params), jax.tree.leaves(expected.params), strict=True):
        np.testing.assert_allclose(a, b, 1e-10, 1e-12)
    np.testing.assert_allclose(run.history.validation_loss, expected.history.validation_loss, 1e-10)


def test_a_column_that_is_not_there_is_seen():
    layer = fnn.sparse_dense(3, 2)
    params = layer.init(KEY, (2, 2))[0]
    for wrong in (-1.0, 3.0, np.nan, np.inf):
        x = jnp.array([[[0.0, wrong], [1.0, 0.0]], [[0.0, 2.0], [1.0, 1.0]]])
        y = np.asarray(layer.forward(params, (), x, None, False)[0])
        assert np.isnan(y[0]).all() and np.isfinite(y[1]).all()


@pytest.mark.parametrize("shape", [(3,), (3, 4), (2,), (2, 0), (2, 2, 2)])
def test_arrays_are_no_sparse_rows(shape):
    with pytest.raises(fnn.ShapeError, match=r"sparse_dense\(9, 1\): .* shape \(2, room\), got.*\(2, 100\)"):
        fnn.sparse_dense(9, 1).init(KEY, shape)
    with pytest.raises(fnn.ShapeError, match=r"sparse_dense\(9, 1\): expected x of shape \(batch, 2, room\)"):
        fnn.sparse_dense(9, 1).forward({"w": jnp.ones((9, 1))}, (), jnp.ones((4, *shape[:1])), None, False)


def test_a_narrow_dtype_does_not_count_many_columns():
    net = fnn.mixed_precision(fnn.sparse_dense(1000, 1))
    with pytest.raises(fnn.ShapeError, match=r"counts 1000 columns, got bfloat16, which counts 256\. Train in a wider"):
        net.forward(net.init(KEY, (2, 3))[0], (), jnp.ones((4, 2, 3)), None, False)


def test_its_size_is_that_of_the_values():
    found = fnn.summary(fnn.serial(fnn.sparse_dense(1000, 4), fnn.dense(1)), (2, 50))
    assert found.multiply_adds == 50 * 4 + 4 and found.parameters == 4004 + 5


X, T = sparse.random_array((8, 9), density=0.4, rng=np.random.default_rng(0), dtype="float32"), np.arange(8) % 2
NET, LOSS, SGD = fnn.serial(fnn.sparse_dense(9, 2)), fnn.losses.sparse_softmax_cross_entropy, optax.sgd(0.1)
ONCE = {"epochs": 1, "progress": False}
ENTRIES = {
    "fit": lambda x: fnn.fit(NET, LOSS, SGD, (x, T), **ONCE),
    "fit of settings": lambda x: fnn.fit(lambda s: NET, LOSS, SGD, (x, T), **ONCE),
    "validation": lambda x: fnn.fit(NET, LOSS, SGD, (X, T), validation=(x, T), **ONCE),
    "stream": lambda x: fnn.fit(NET, LOSS, SGD, lambda: iter([(x, T)]), batch_size=4, **ONCE),
    "sweep": lambda x: fnn.sweep(NET, LOSS, lambda s: optax.sgd(s["lr"]), (x, T), over={"lr": [0.1]}, **ONCE),
    "folds": lambda x: fnn.cross_validate(NET, LOSS, SGD, (x, T), folds=2, **ONCE),
    "ensemble": lambda x: fnn.ensemble(NET, LOSS, SGD, (x, T), members=2, **ONCE),
    "evaluate": lambda x: fnn.evaluate(NET, fnn.Run(*NET.init(KEY, (2, 9))[:2], None, None), (x, T), {"loss": LOSS}),
    "predict": lambda x: fnn.predict(NET, fnn.Run(*NET.init(KEY, (2, 9))[:2], None, None), x),
}


@pytest.mark.parametrize("name", ENTRIES)
@pytest.mark.parametrize("columns", [5, 11])
def test_a_matrix_of_another_width_is_refused_everywhere(name, columns):
    x = X.tocsr()[:, [0, 1, 2, 3, 4]] if columns == 5 else sparse.hstack([X, sparse.csr_array((8, 2), dtype="float32")])
    with pytest.raises(fnn.ShapeError, match=rf"expected 9 columns, numbered from 0, as .* has them, got {columns}\."):
        ENTRIES[name](x)

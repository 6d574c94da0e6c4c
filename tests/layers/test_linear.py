"""The dense layer: forward and backward against NumPy, how it starts, and what raises."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import fnn
from tests.helpers.compare import close

KEY = jax.random.key(0)


@pytest.mark.parametrize("fan_in, features", [(1, 1), (3, 4), (4, 4), (17, 1), (6, 7)])
def test_forward_and_backward_equal_numpy(fan_in, features, x64):
    rng = np.random.default_rng(0)
    w, b = rng.normal(size=(fan_in, features)), rng.normal(size=features)
    x, dy = rng.normal(size=(5, fan_in)), rng.normal(size=(5, features))
    params = {"w": jnp.asarray(w), "b": jnp.asarray(b)}
    y, state, cache = fnn.dense(features).forward(params, (), jnp.asarray(x), None, True)
    dparams, dx = fnn.dense(features).backward(params, cache, jnp.asarray(dy))
    assert state == () and set(dparams) == {"w", "b"}
    close(y, x @ w + b, atol=1e-14)
    close(dparams["w"], x.T @ dy, atol=1e-14)
    close(dparams["b"], dy.sum(0), atol=1e-14)
    close(dx, dy @ w.T, atol=1e-14)


def test_without_bias_there_is_none(x64):
    params, _, out_shape = fnn.dense(2, bias=False).init(KEY, (3,))
    assert set(params) == {"w"} and out_shape == (2,)
    x = jnp.arange(6.0).reshape(2, 3)
    y, _, cache = fnn.dense(2, bias=False).forward(params, (), x, None, False)
    close(y, x @ params["w"], atol=1e-14)
    assert set(fnn.dense(2, bias=False).backward(params, cache, y)[0]) == {"w"}


def test_weights_start_normal_with_deviation_root_of_1_over_fan_in_and_biases_at_0():
    params, state, out_shape = fnn.dense(300).init(KEY, (400,))
    w = np.asarray(params["w"], np.float64)
    assert w.shape == (400, 300) and out_shape == (300,) and state == ()
    n = w.size
    assert abs(w.mean()) < 4 * 0.05 / np.sqrt(n)
    assert abs(w.std() / 0.05 - 1) < 4 / np.sqrt(2 * n)
    assert stats.kstest(w.ravel() / 0.05, "norm").pvalue > 0.01
    assert abs(w).max() > 4 * 0.05  # a truncated normal ends at two deviations
    np.testing.assert_array_equal(params["b"], np.zeros(300))


def test_a_number_as_weight_init_is_the_standard_deviation():
    usual = fnn.dense(3).init(KEY, (16,))[0]["w"]
    np.testing.assert_allclose(fnn.dense(3, weight_init=2.0).init(KEY, (16,))[0]["w"], 8 * usual, rtol=1e-6)
    np.testing.assert_array_equal(fnn.dense(3, weight_init=0.0).init(KEY, (16,))[0]["w"], np.zeros((16, 3)))
    np.testing.assert_array_equal(fnn.dense(3, weight_init=0).init(KEY, (16,))[0]["w"], np.zeros((16, 3)))


def test_a_number_as_bias_init_is_the_standard_deviation():
    b = fnn.dense(20000, bias_init=0.1).init(KEY, (1,))[0]["b"]
    assert abs(float(b.std()) - 0.1) < 0.003


def test_a_traced_weight_init_works():
    def first(deviation):
        return fnn.dense(3, weight_init=deviation).init(KEY, (4,))[0]["w"]

    np.testing.assert_allclose(jax.jit(first)(0.5), first(0.5), rtol=1e-6)


def test_an_initializer_gets_key_shape_and_dtype():
    params = fnn.dense(
        3, weight_init=jax.nn.initializers.constant(7.0), bias_init=lambda k, s, d: jnp.arange(3, dtype=d)
    )
    params = params.init(KEY, (2,))[0]
    np.testing.assert_array_equal(params["w"], np.full((2, 3), 7))
    np.testing.assert_array_equal(params["b"], [0, 1, 2])
    orthogonal = fnn.dense(4, weight_init=jax.nn.initializers.orthogonal()).init(KEY, (4,))[0]["w"]
    np.testing.assert_allclose(orthogonal @ orthogonal.T, np.eye(4), atol=1e-5)


def test_weights_and_biases_are_drawn_apart_and_by_the_key():
    layer = fnn.dense(3, weight_init=1.0, bias_init=1.0)
    one, again, other = (layer.init(jax.random.key(seed), (1,))[0] for seed in (0, 0, 1))
    np.testing.assert_array_equal(one["w"], again["w"])
    assert (one["w"] != other["w"]).all() and (one["b"] != other["b"]).all() and (one["w"][0] != one["b"]).all()


def test_float64_parameters_when_float64_is_on(x64):
    assert {a.dtype for a in jax.tree.leaves(fnn.dense(3).init(KEY, (2,))[0])} == {jnp.dtype("float64")}


def test_integer_inputs_are_converted():
    params, state, _ = fnn.dense(3).init(KEY, (2,))
    x = np.array([[1, 200], [3, 0]], np.uint8)
    y = fnn.dense(3).forward(params, state, jnp.asarray(x), None, False)[0]
    np.testing.assert_array_equal(y, fnn.dense(3).forward(params, state, jnp.asarray(x, jnp.float32), None, False)[0])


@pytest.mark.parametrize("in_shape", [(), (28, 28), (4, 4, 1)])
def test_examples_that_are_no_vectors_raise_at_init(in_shape):
    with pytest.raises(fnn.ShapeError) as caught:
        fnn.dense(3).init(KEY, in_shape)
    assert str(caught.value) == (
        f"dense(3): expected examples of shape (fan_in,), got {in_shape}. Put fnn.flatten() before it."
    )


@pytest.mark.parametrize("shape", [(5, 3), (2,), (5, 2, 2)])
def test_inputs_of_another_width_raise(shape):
    params, state, _ = fnn.dense(3).init(KEY, (2,))
    with pytest.raises(fnn.ShapeError) as caught:
        fnn.dense(3).forward(params, state, jnp.ones(shape), None, False)
    message = str(caught.value)
    assert message.startswith(f"dense(3): expected x of shape (batch, 2), got {shape}. ")


@pytest.mark.parametrize("features", [0, -1, 2.0, "3", None])
def test_a_number_of_features_that_is_none_raises(features):
    with pytest.raises(ValueError) as caught:
        fnn.dense(features)
    assert str(caught.value) == (
        f"dense: expected a whole number of features, at least 1, got {features!r}. Write dense(10)."
    )

"""Dropout: how often, how much, the same mask backward, seeds, rates that are settings, and what raises."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn.layers.noise import dropout

KEY = jax.random.key(0)
X = np.random.default_rng(0).uniform(1, 2, (400, 300)).astype(np.float32)


def trained(layer, x, key=KEY):
    return layer.forward((), (), jnp.asarray(x), key, True)


@pytest.mark.parametrize("rate", [0.2, 0.5, 0.9])
def test_the_share_dropped_is_the_rate_and_the_mean_stays(rate):
    y, state, _ = trained(dropout(rate), np.ones_like(X))
    y = np.asarray(y, np.float64)
    assert state == ()
    assert abs((y == 0).mean() - rate) < 4 * np.sqrt(rate * (1 - rate) / y.size)
    assert abs(y.mean() - 1) < 4 * np.sqrt(rate / (1 - rate) / y.size)
    np.testing.assert_allclose(np.unique(y), [0, 1 / (1 - rate)], rtol=1e-6)


def test_numbers_are_dropped_one_by_one():
    dropped = np.asarray(trained(dropout(0.5), X)[0]) == 0
    for axis, n in ((0, 400), (1, 300)):  # neither whole rows nor whole features
        assert np.abs(dropped.mean(axis) - 0.5).max() < 5 * np.sqrt(0.25 / n)


def test_backward_has_the_very_mask_of_forward(x64):
    x, dy = X.astype(np.float64), X[::-1].astype(np.float64)
    layer = dropout(0.3)
    y, _, cache = trained(layer, x)
    keep = np.asarray(y) != 0
    np.testing.assert_allclose(y, np.where(keep, x / 0.7, 0), rtol=1e-12)
    dparams, dx = layer.backward((), cache, jnp.asarray(dy))
    assert dparams == ()
    np.testing.assert_allclose(dx, np.where(keep, dy / 0.7, 0), rtol=1e-12)
    np.testing.assert_allclose(jax.vjp(lambda x: trained(layer, x)[0], x)[1](jnp.asarray(dy))[0], dx, rtol=1e-12)


def test_prediction_leaves_all_as_it_is_without_a_key():
    for key in (None, KEY):
        y, _, cache = dropout(0.5).forward((), (), jnp.asarray(X), key, False)
        np.testing.assert_array_equal(y, X)
        np.testing.assert_array_equal(dropout(0.5).backward((), cache, y)[1], X)


def test_the_key_decides_what_is_dropped():
    one, again, other = (np.asarray(trained(dropout(0.5), X, jax.random.key(seed))[0]) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, again)
    assert abs(((one == 0) == (other == 0)).mean() - 0.5) < 0.01


@pytest.mark.parametrize("rate", [0, 0.0, np.float32(0)])
def test_a_rate_of_0_needs_no_key_and_drops_nothing(rate):
    y, _, cache = trained(dropout(rate), X, None)
    np.testing.assert_array_equal(y, X)
    np.testing.assert_array_equal(dropout(rate).backward((), cache, y)[1], X)


def test_the_rate_may_be_a_setting_and_each_round_of_repeat_drops_others(compiled):
    @jax.jit
    def there_and_back(rate):
        layer = fnn.repeat(dropout(rate), 2)
        y, _, cache = layer.forward((), (), jnp.asarray(X), KEY, True)
        return y, layer.backward((), cache, jnp.asarray(X))[1]

    for rate in (0.0, 0.25):
        y, dx = map(np.asarray, there_and_back(rate))
        np.testing.assert_allclose(y, np.where(y != 0, X / (1 - rate) ** 2, 0), rtol=1e-6)
        assert abs((y == 0).mean() - (1 - (1 - rate) ** 2)) < 0.01
        np.testing.assert_allclose(dx, y, rtol=1e-6)  # the same function of the same numbers
    assert compiled.count("jit(there_and_back)") == 1


@pytest.mark.parametrize("dtype", ["bfloat16", "float64"])
def test_dtypes_stay_and_drop_the_same(dtype, x64):
    layer = dropout(0.3)
    y, _, cache = trained(layer, X.astype(dtype))
    assert y.dtype == layer.backward((), cache, y)[1].dtype == dtype
    np.testing.assert_array_equal(np.asarray(y) == 0, np.asarray(trained(layer, X)[0]) == 0)


def test_integers_are_the_numbers_that_they_are():
    x = (X * 100).astype(np.uint8)
    np.testing.assert_array_equal(trained(dropout(0.5), x)[0], trained(dropout(0.5), x.astype(np.float32))[0])


def test_training_without_a_key_raises():
    for layer in (dropout(0.5), fnn.serial(dropout(0.5))):
        with pytest.raises(ValueError) as caught:
            layer.forward(((),), ((),), jnp.ones((2, 3)), None, True)
        assert str(caught.value) == "dropout: expected a key when it trains, got None. Pass key=jax.random.key(0)."


@pytest.mark.parametrize(
    "rate, error, wanted",
    [
        (-0.1, ValueError, "of at least 0, got -0.1"),
        (1, ValueError, "below 1, got 1"),
        (50, ValueError, "below 1, got 50"),
        (float("nan"), ValueError, "of at least 0, got nan"),
        (np.ones(2, "float32"), TypeError, "of at least 0, got float32[2]"),
        (None, TypeError, "of at least 0, got NoneType None"),
        (True, TypeError, "of at least 0, got bool True"),
    ],
    ids=str,
)
def test_a_rate_that_is_none_raises(rate, error, wanted):
    with pytest.raises(error) as caught:
        dropout(rate)
    assert str(caught.value) == f"dropout: expected a rate {wanted}. Pass the probability of dropping, in [0, 1)."


def test_it_prints_as_it_was_made():
    assert str(dropout(0.5)) == "dropout(0.5)" and dropout(0.5) is dropout(rate=0.5)

"""Mixed precision: float32 outside, bfloat16 inside, both derivatives, accuracy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fnn
from fnn.layers.precision import mixed_precision

RNG = np.random.default_rng(0)
X = jnp.asarray(RNG.normal(size=(16, 6)), "float32")
DY = jnp.asarray(RNG.normal(size=(16, 3)), "float32")
NET = fnn.serial(fnn.dense(7), fnn.tanh, fnn.dense(3))
MIXED = mixed_precision(NET)
PARAMS, STATE, OUT = MIXED.init(jax.random.key(0), (6,))


def dtypes(tree):
    return {a.dtype.name for a in jax.tree.leaves(tree)}


@functools.partial(jax.jit, static_argnums=0)
def all_of(net, params, state, x, dy):
    """Outputs, new state, cache, derivatives by hand, derivatives by autodiff: in one program."""
    y, new, cache = net.forward(params, state, x, None, True)
    auto = jax.vjp(lambda p, x: net.forward(p, state, x, None, True)[0], params, x)[1](dy)
    return y, new, cache, net.backward(params, cache, dy), auto


def test_bfloat16_inside_and_float32_outside():
    y, _, cache, by_hand, auto = all_of(MIXED, PARAMS, STATE, X, DY)
    assert OUT == (3,) and dtypes((PARAMS, y, by_hand, auto)) == {"float32"} and dtypes(cache) == {"bfloat16"}
    np.testing.assert_array_equal(y, np.asarray(y).astype(jnp.bfloat16).astype("float32"))  # it has bfloat16's digits
    wide, _, _, wide_by_hand, _ = all_of(NET, PARAMS, STATE, X, DY)
    assert 1e-4 < abs(y - wide).max() < 0.05 * abs(wide).max()
    for a, b, c in zip(*map(jax.tree.leaves, (by_hand, auto, wide_by_hand)), strict=True):
        assert a.shape == c.shape and 0 < abs(a - c).max() < 0.05 * abs(c).max()
        assert abs(a - b).max() < 0.02 * abs(b).max()  # sums of bfloat16 may be rounded in another order


def test_in_a_wide_dtype_nothing_changes(x64):
    """With `dtype` that of the numbers the casts are none, so a wrong rule would show to all digits."""
    mixed = mixed_precision(NET, "float64")
    wide = jax.tree.map(lambda a: a.astype("float64"), (PARAMS, STATE, X, DY))
    y, _, _, by_hand, auto = all_of(mixed, *wide)
    np.testing.assert_allclose(y, all_of(NET, *wide)[0], rtol=1e-12)
    for a, b in zip(jax.tree.leaves(by_hand), jax.tree.leaves(auto), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)


def test_running_statistics_keep_their_digits():
    net = mixed_precision(fnn.serial(fnn.dense(3), fnn.batch_norm()))
    params, state, _ = net.init(jax.random.key(0), (6,))
    _, new, _, by_hand, _ = all_of(net, params, state, X, DY)
    assert dtypes((new, by_hand)) == {"float32"}
    mean = np.asarray(new[1]["mean"])
    assert (mean != mean.astype(jnp.bfloat16).astype("float32")).any()


def test_integer_inputs_are_converted():
    images = jnp.arange(12, dtype="uint8").reshape(2, 6)
    y = MIXED.forward(PARAMS, STATE, images, None, False)[0]
    np.testing.assert_array_equal(y, MIXED.forward(PARAMS, STATE, images.astype("float32"), None, False)[0])


def test_it_is_a_factory():
    assert mixed_precision(NET) is MIXED and repr(mixed_precision(fnn.dense(2))) == "mixed_precision(dense(2))"
    assert repr(mixed_precision(fnn.relu, "float16")) == "mixed_precision(relu, dtype='float16')"
    y = mixed_precision(NET, jnp.bfloat16).forward(PARAMS, STATE, X, None, False)[0]
    np.testing.assert_array_equal(y, MIXED.forward(PARAMS, STATE, X, None, False)[0])


@pytest.mark.parametrize("dtype", ["int32", "bf16", None, 16])
def test_a_dtype_that_is_none_raises(dtype):
    with pytest.raises(TypeError) as caught:
        mixed_precision(NET, dtype)
    message = f"mixed_precision: expected a floating dtype, got {dtype!r}. Write 'bfloat16'."
    assert str(caught.value) == message


def accuracy_on_digits(wrap, gradient):
    """The share of held-out digits that are right after ten epochs."""
    x, labels = pytest.importorskip("sklearn.datasets").load_digits(return_X_y=True)
    train, held = fnn.hold_out((x / 16).astype("float32"), labels, 0.25, stratify=labels)
    net = wrap(fnn.serial(fnn.dense(24), fnn.relu, fnn.dense(10)))
    about = {"epochs": 10, "batch_size": 64, "gradient": gradient, "progress": False}
    run = fnn.fit(net, fnn.losses.sparse_softmax_cross_entropy, optax.adam(0.01), train, **about)
    assert dtypes(run.params) == {"float32"}
    return fnn.evaluate(net, run, held, {"accuracy": fnn.accuracy})["accuracy"]


@pytest.mark.slow
def test_digits_are_learned_by_the_hand_derived_rules():
    assert accuracy_on_digits(mixed_precision, fnn.backprop) > 0.93


@pytest.mark.slow
def test_digits_are_learned_as_in_float32():
    wide = accuracy_on_digits(lambda net: net, fnn.autodiff)
    for gradient in (fnn.autodiff, fnn.backprop):
        assert abs(accuracy_on_digits(mixed_precision, gradient) - wide) < 0.02

"""What holds for every public layer: no rows, a symbolic number of rows, integers, and the dtype of what comes in."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

import fnn
from tests.layers.test_special_values_layers import CASES, KEY

LAYERS = {name: (layer, shape[1:]) for name, (layer, shape, _) in CASES.items()}
LAYERS |= {
    "conv2d, groups": (fnn.conv2d(4, 3, stride=2, groups=2), (5, 5, 2)),
    "conv2d, narrow": (fnn.mixed_precision(fnn.conv2d(4, 3)), (5, 5, 2)),
    "conv1d, causal": (fnn.conv1d(4, 3, 2, "CAUSAL", 2, 2), (5, 2)),
    "conv_transpose2d, groups": (fnn.conv_transpose2d(4, 3, 2, "VALID", groups=2), (3, 3, 2)),
    "group_norm, vectors": (fnn.group_norm(2), (4,)),
    "batch_norm, vectors": (fnn.batch_norm(), (4,)),
    "softmax": (fnn.as_layer(fnn.softmax), (4,)),
    "max_pool, padded": (fnn.max_pool(3, 2, "SAME"), (5, 5, 2)),
    "avg_pool, padded": (fnn.avg_pool(3, 2, "SAME"), (5, 5, 2)),
}
MOVES = ("random_shift", "random_flip", "random_crop", "flatten", "select")  # bytes stay bytes
every_layer = pytest.mark.parametrize("name", LAYERS)
# each counts rows in its own way
FEW = ("dense", "conv2d", "max_pool", "batch_norm", "random_crop", "random_shift", "embedding")


def made(name, dtype="float32"):
    layer, shape = LAYERS[name]
    params, state, out_shape = layer.init(KEY, shape)
    return layer, shape, jax.tree.map(lambda a: a.astype(dtype), params), state, out_shape


@every_layer
@pytest.mark.parametrize("train", [False, True], ids=["prediction", "training"])
def test_it_takes_no_rows(name, train):
    layer, shape, params, state, out_shape = made(name)
    x = jnp.zeros((0, *shape))
    if name.startswith("batch_norm") and train:
        with pytest.raises(fnn.ShapeError, match="expected at least one row"):
            layer.forward(params, state, x, KEY, train)
        return

    @jax.jit
    def both(params, x):
        y, _, cache = layer.forward(params, state, x, KEY, train)
        return y, layer.backward(params, cache, y)

    y, (dparams, dx) = both(params, x)
    assert y.shape == (0, *out_shape) and dx.shape == x.shape
    assert all(not leaf.any() for leaf in jax.tree.leaves(dparams))


@pytest.mark.parametrize("name", [pytest.param(name, marks=() if name in FEW else pytest.mark.slow) for name in LAYERS])
@pytest.mark.parametrize("train", [pytest.param(False, marks=pytest.mark.slow), True], ids=["prediction", "training"])
def test_it_can_be_exported_for_any_number_of_rows(name, train):
    layer, shape, params, state, _ = made(name)

    @jax.jit
    def both(x):
        y, new_state, cache = layer.forward(params, state, x, KEY, train)
        return y, new_state, layer.backward(params, cache, y)

    (rows,) = export.symbolic_shape("rows")
    program = export.export(both)(jax.ShapeDtypeStruct((rows, *shape), jnp.float32))
    x = jax.random.normal(jax.random.key(1), (3, *shape))
    for a, b in zip(jax.tree.leaves(program.call(x)), jax.tree.leaves(both(x)), strict=True):
        np.testing.assert_allclose(a, b, 1e-5, 1e-5)


@every_layer
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_what_comes_out_has_the_dtype_that_came_in(name, dtype):
    """Traced alone: the values of a layer are the business of other tests."""
    layer, shape, params, state, _ = made(name, dtype)
    x = jax.ShapeDtypeStruct((2, *shape), jnp.dtype(dtype))

    def both(params, x, train):
        y, _, cache = layer.forward(params, state, x, KEY, train)
        return y, layer.backward(params, cache, y)

    for train in (False, True):
        y, (dparams, dx) = jax.eval_shape(lambda params, x, train=train: both(params, x, train), params, x)
        assert y.dtype == dx.dtype == x.dtype
        assert all(leaf.dtype == x.dtype for leaf in jax.tree.leaves(dparams))


@every_layer
def test_bytes_are_the_numbers_that_they_are(name):
    layer, shape, params, state, _ = made(name)
    x = jnp.arange(2 * np.prod(shape), dtype=jnp.uint8).reshape(2, *shape)
    forward = jax.jit(lambda x: layer.forward(params, state, x, KEY, False)[0])
    y = forward(x)
    assert y.dtype == (jnp.uint8 if name in MOVES else jnp.float32)
    expected = forward(x.astype(jnp.float32))
    np.testing.assert_allclose(y.astype(jnp.float32), expected, 1e-6)


def test_a_plain_function_computes_below_0_of_bytes():
    layer = fnn.as_layer(lambda x: x - 128)
    y, _, cache = layer.forward((), (), jnp.array([[0, 255, 100]], jnp.uint8), None, False)
    np.testing.assert_array_equal(y, [[-128.0, 127.0, -28.0]])
    np.testing.assert_array_equal(layer.backward((), cache, y)[1], y)


@pytest.mark.parametrize(
    "slope",
    [
        np.float64(0.25),
        pytest.param(np.float32(0.25), marks=pytest.mark.slow),
        jnp.float32(0.25),
        pytest.param(np.float32([0.25] * 4), marks=pytest.mark.slow),
    ],
)
def test_nothing_in_mixed_precision_becomes_float32(slope):
    """Each layer of the network says what it got."""
    got = []

    def seen(x):
        got.append(x.dtype)
        return x

    layers = [fnn.dense(4), fnn.prelu(slope), fnn.leaky_relu(slope), fnn.elu(slope), fnn.dropout(0.5), fnn.layer_norm()]
    if np.ndim(slope) == 0:
        layers += [fnn.rrelu(slope, 0.5), fnn.gaussian_noise(slope), fnn.rescale(slope), fnn.dropout(slope)]
        layers += [fnn.batch_norm(slope), fnn.repeat(fnn.prelu(slope), 2), fnn.residual(fnn.leaky_relu(slope))]
    net = fnn.mixed_precision(fnn.serial(*[part for layer in layers for part in (layer, seen)]))
    params, state, _ = net.init(KEY, (4,))
    got.clear()
    net.forward(params, state, jnp.ones((3, 4)), KEY, True)
    assert len(got) == len(layers) and set(got) == {jnp.dtype("bfloat16")}

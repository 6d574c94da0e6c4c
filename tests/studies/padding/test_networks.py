"""A padded network is each of its own networks: its first weights, its outputs, its derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn.studies.padding.layers import cut, pad
from fnn.studies.padding.networks import NUMBER, family
from tests.helpers.compare import normwise

ACTIVATIONS = [fnn.tanh, fnn.relu, fnn.silu, fnn.gelu, fnn.selu, fnn.softsign, fnn.sigmoid, fnn.softplus]
OFTEN = [fnn.relu, fnn.sigmoid]  # 0 at 0, and not
ACTIVATIONS += [fnn.leaky_relu(0.1), fnn.elu(0.5)]


def mlp(widths, activation=fnn.tanh, **more):
    layers = [layer for width in widths for layer in (fnn.dense(width, **more), activation)]
    return fnn.serial(*layers, fnn.dense(2, **more))


INITIAL = {
    "drawn": {},
    "a number": {"weight_init": 0.3, "bias_init": 0.1},
    "zeros": {"weight_init": 0.0},
    "no bias": {"bias": False},
    "a function": {"weight_init": jax.nn.initializers.orthogonal()},
    "a function of the bias": {"bias_init": jax.nn.initializers.normal(1.0)},
}


LATER = dict.fromkeys(["a number", "a function", "a function of the bias", "no bias", "zeros"], pytest.mark.slow)


@pytest.mark.parametrize("name", [pytest.param(name, marks=LATER.get(name, ())) for name in INITIAL])
def test_it_begins_with_the_bits_of_each_network_and_zeros(name):
    nets = [mlp(widths, **INITIAL[name]) for widths in ((3, 7), (5, 4), (6, 7))]
    padded = family(nets)
    begin = jax.jit(lambda number, key: padded.network({NUMBER: number}).init(key, (4,))[0])
    for number, net in enumerate(nets):
        key = jax.random.key(number)
        expected, _, out_shape = net.init(key, (4,))
        made = begin(jnp.float32(number), key)
        narrow = cut(made, expected)
        rounding = 1e-6 if "function" in name else 0  # which compiled together with others rounds otherwise
        for ours, theirs in zip(jax.tree.leaves(narrow), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=rounding, atol=rounding)
        assert all(map(np.array_equal, jax.tree.leaves(pad(narrow, made)), jax.tree.leaves(made)))
        assert padded.network({NUMBER: number}).init(key, (4,))[2] == out_shape


def test_keys_of_another_kind_begin_likewise():
    nets = [mlp((3,)), mlp((6,))]
    key = jax.random.key(0, impl="rbg")
    made = family(nets).network({NUMBER: jnp.float32(0)}).init(key, (4,))[0]
    assert np.array_equal(made[0]["w"][:, :3], nets[0].init(key, (4,))[0][0]["w"]) and not made[0]["w"][:, 3:].any()


def both(nets, number, of, dtype):
    """A gradient of one network, by itself and padded; what stands in the padding of the latter."""
    rng = np.random.default_rng(number)
    x, t = rng.normal(size=(9, 4)).astype(dtype), rng.normal(size=(9, 2)).astype(dtype)
    padded = family(nets).network({NUMBER: jnp.asarray(float(number))})
    params, state, _ = nets[number].init(jax.random.key(3), (4,))
    wide = padded.init(jax.random.key(3), (4,))[:2]
    loss = fnn.losses.squared_error
    alone, whole = of(nets[number], loss)(params, state, x, t), of(padded, loss)(*wide, x, t)
    narrow = cut(whole.grads, params)
    outside = [np.abs(a).max() for a in jax.tree.leaves(jax.tree.map(jnp.subtract, whole.grads, pad(narrow, wide[0])))]
    assert max(outside) == 0
    return (alone.total, alone.outputs, alone.grads), (whole.total, whole.outputs, narrow)


@pytest.mark.parametrize("of", [pytest.param(fnn.autodiff, marks=pytest.mark.slow), fnn.backprop])
@pytest.mark.parametrize(
    "activation", [pytest.param(a, marks=() if a in OFTEN else pytest.mark.slow, id=str(a)) for a in ACTIVATIONS]
)
def test_outputs_and_derivatives_are_those_of_each_network(activation, of, x64):
    nets = [mlp(widths, activation) for widths in ((3, 7), (6, 4))]
    for number in range(2):
        ours, theirs = both(nets, number, of, "float64")
        assert normwise(theirs, ours) < 1e-13


@pytest.mark.slow
@pytest.mark.parametrize("of", [fnn.autodiff, fnn.backprop])
def test_activations_that_differ(of, x64):
    nets = [mlp((3 + i % 3, 5), activation) for i, activation in enumerate(ACTIVATIONS)]
    for number in range(len(nets)):
        ours, theirs = both(nets, number, of, "float64")
        assert normwise(theirs, ours) < 1e-13, nets[number]


@pytest.mark.slow
def test_under_vmap_each_is_its_own():
    nets = [mlp((3,), fnn.sigmoid), mlp((6,), fnn.tanh)]
    x = jnp.ones((2, 4))

    def outputs(number):
        net = family(nets).network({NUMBER: number})
        params, state, _ = net.init(jax.random.key(0), (4,))
        return net.forward(params, state, x, None, False)[0]

    made = jax.vmap(outputs)(jnp.arange(2.0))
    for net, y in zip(nets, made, strict=True):
        params, state, _ = net.init(jax.random.key(0), (4,))
        np.testing.assert_allclose(y, net.forward(params, state, x, None, False)[0], rtol=1e-6)


own = fnn.elementwise("log", jnp.log, lambda x: 1 / x)  # infinite at 0
d = fnn.dense
NO_FAMILY = {
    "another depth": [mlp((3,)), mlp((3, 3))],
    "other outputs": [mlp((3,)), fnn.serial(d(6), fnn.tanh, d(3))],
    "the same": [mlp((3,)), mlp((3,))],
    "noise between": [fnn.serial(d(n), fnn.tanh, fnn.dropout(0.5), d(2)) for n in (3, 6)],
    "statistics between": [fnn.serial(d(n), fnn.batch_norm(), d(2)) for n in (3, 6)],
    "softmax between": [fnn.serial(d(n), fnn.softmax, d(2)) for n in (3, 6)],
    "slopes that are learned": [fnn.serial(d(n), fnn.prelu(), d(2)) for n in (3, 6)],
    "an activation of one's own": [mlp((n,), own) for n in (3, 6)],
    "a function": [fnn.serial(d(n), jnp.sin, d(2)) for n in (3, 6)],
    "a replaced function": [
        fnn.serial(d(n)._replace(init=lambda *of, n=n: d(n).init(*of)), fnn.tanh, d(2)) for n in (3, 6)
    ],
    "a bias in one": [fnn.serial(d(3, bias=False), d(2)), fnn.serial(d(6), d(2))],
    "residual": [fnn.serial(d(n), fnn.residual(d(n)), d(2)) for n in (3, 6)],
    "no serial": [d(3), d(6)],
    "other noise": [fnn.serial(fnn.dropout(r), d(n), d(2)) for r, n in ((0.1, 3), (0.2, 6))],
}


@pytest.mark.parametrize("name", NO_FAMILY)
def test_what_is_no_family(name):
    assert family(NO_FAMILY[name]) is None


FAMILY = {
    "no activation": [fnn.serial(d(n), d(2)) for n in (3, 6)],
    "noise before": [fnn.serial(fnn.dropout(0.5), d(n), fnn.tanh, d(2)) for n in (3, 6)],
    "noise behind": [fnn.serial(d(n), fnn.tanh, d(4), fnn.dropout(0.5), d(2)) for n in (3, 6)],
    "images": [fnn.serial(fnn.conv2d(2, 3), fnn.relu, fnn.flatten(), d(n), fnn.relu, d(2)) for n in (3, 6)],
    "activations alone": [mlp((3,), a) for a in (fnn.tanh, fnn.relu)],
    "an activation behind": [fnn.serial(d(n), fnn.tanh, d(2), fnn.softmax) for n in (3, 6)],
}


@pytest.mark.parametrize("name", FAMILY)
def test_what_is_a_family(name):
    nets = FAMILY[name]
    in_shape = (6, 6, 1) if name == "images" else (4,)
    made = family(nets).network({NUMBER: jnp.float32(0)}).init(jax.random.key(0), in_shape)
    expected = nets[0].init(jax.random.key(0), in_shape)
    narrow = cut(made[0], expected[0])
    assert all(map(np.array_equal, jax.tree.leaves(narrow), jax.tree.leaves(expected[0]))) and made[2] == expected[2]

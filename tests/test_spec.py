"""Factories: equal arguments give one object, the spec prints as the call, arrays and traced numbers work."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn

FACTORIES = [
    fnn.dense,
    fnn.serial,
    fnn.repeat,
    fnn.residual,
    fnn.from_function,
    fnn.prelu,
    fnn.rrelu,
    fnn.leaky_relu,
    fnn.elu,
]


@fnn.factory
def thing(number=1, *, pair=(1, 2)):
    return fnn.Layer(None, lambda: (number, pair), None, None)


def test_equal_arguments_give_one_object_however_they_are_written():
    assert fnn.dense(3) is fnn.dense(3) is fnn.dense(features=3) is fnn.dense(3, bias=True)
    assert fnn.leaky_relu() is fnn.leaky_relu(0.2) is fnn.leaky_relu(alpha=0.2)
    assert fnn.serial(fnn.dense(3), fnn.relu) is fnn.serial(fnn.dense(3), fnn.relu)
    assert fnn.dense(3) is not fnn.dense(4) and fnn.dense(3) is not fnn.dense(3, bias=False)


def test_1_and_1_0_and_true_are_different_arguments():
    made = [thing(1), thing(1.0), thing(True)]
    assert len({id(m) for m in made}) == 3
    assert [type(m.init()[0]) for m in made] == [int, float, bool]
    assert [type(m.spec.arguments[0][1]) for m in made] == [int, float, bool]


def test_lists_become_tuples():
    assert thing(pair=[3, [4]]) is thing(pair=(3, (4,)))
    assert thing(pair=[3, [4]]).init() == (1, (3, (4,)))


def test_the_spec_names_the_factory_and_every_argument():
    spec = fnn.dense(3, bias=False).spec
    assert spec.factory is fnn.dense
    assert dict(spec.arguments) == {"features": 3, "bias": False, "weight_init": None, "bias_init": 0.0}


@pytest.mark.parametrize(
    "made, printed",
    [
        (fnn.dense(3), "dense(3)"),
        (fnn.dense(features=3, bias=False), "dense(3, bias=False)"),
        (fnn.dense(3, weight_init=0.1), "dense(3, weight_init=0.1)"),
        (fnn.leaky_relu(), "leaky_relu()"),
        (fnn.leaky_relu(0.01), "leaky_relu(alpha=0.01)"),
        (fnn.rrelu(0.1, 0.3), "rrelu(lower=0.1, upper=0.3)"),
        (fnn.serial(), "serial()"),
        (fnn.serial(fnn.dense(3), fnn.sigmoid, jnp.sin), "serial(dense(3), sigmoid, sin)"),
        (
            fnn.repeat(fnn.residual(fnn.dense(8), fnn.elu(2.0)), times=3),
            "repeat(residual(dense(8), elu(alpha=2.0)), 3)",
        ),
    ],
    ids=str,
)
def test_the_spec_prints_as_the_call(made, printed):
    assert repr(made) == str(made) == str(made.spec) == printed


@pytest.mark.parametrize("factory", FACTORIES, ids=lambda f: f.__name__)
def test_a_factory_that_was_not_called_raises(factory):
    name = factory.__name__
    for combine in (fnn.serial, fnn.residual, lambda f: fnn.repeat(f, 2)):
        with pytest.raises(TypeError) as caught:
            combine(factory)
        assert str(caught.value) == f"{name}: expected a layer, got the factory that makes it. Do call it: {name}(...)."


def test_a_factory_keeps_name_and_docstring():
    assert fnn.dense.__name__ == "dense" and fnn.dense.__doc__.startswith("A fully connected layer")


def test_wrong_arguments_raise_as_for_any_function():
    with pytest.raises(TypeError, match="unexpected keyword"):
        fnn.dense(3, units=4)
    with pytest.raises(TypeError, match="missing a required argument"):
        fnn.dense()


def test_a_traced_argument_works_inside_jit_alone_and_in_a_network():
    x = jnp.array([[-1.0, 2.0]])

    def function(alpha):
        return fnn.leaky_relu(alpha)(x).sum()

    def network(alpha):
        net = fnn.serial(fnn.leaky_relu(alpha), fnn.elu(alpha))
        params, state, _ = net.init(jax.random.key(0), (2,))
        return net.forward(params, state, x, None, False)[0].sum()

    for f in (function, network):
        np.testing.assert_allclose(jax.jit(f)(0.3), f(0.3), rtol=1e-6)
        np.testing.assert_allclose(jax.vmap(f)(jnp.array([0.3, 0.6])), [f(0.3), f(0.6)], rtol=1e-6)
        np.testing.assert_allclose(jax.grad(f)(0.3), (f(0.301) - f(0.299)) / 0.002, rtol=1e-3)


@pytest.mark.parametrize("array", [jnp.array([0.1, 0.5]), np.array([0.1, 0.5], np.float32)], ids=["jax", "numpy"])
def test_an_array_as_argument_works_and_is_not_remembered(array):
    made = fnn.leaky_relu(array)
    np.testing.assert_allclose(made(jnp.array([[-1.0, -1.0]])), [[-0.1, -0.5]], rtol=1e-6)
    assert fnn.leaky_relu(array) is not made
    net = fnn.serial(made, fnn.prelu(array))
    params, state, _ = net.init(jax.random.key(0), (2,))
    np.testing.assert_allclose(params[1]["a"], [0.1, 0.5], rtol=1e-6)
    np.testing.assert_allclose(net.forward(params, state, jnp.array([[-1.0, -1.0]]), None, False)[0], [[-0.01, -0.25]])


@pytest.mark.parametrize("array", [jnp.array([0.1, 0.5]), np.array([0.1, 0.5], np.float32)], ids=["jax", "numpy"])
def test_an_array_as_argument_prints_as_dtype_and_shape(array):
    assert str(fnn.leaky_relu(array)) == "leaky_relu(alpha=<float32[2]>)"

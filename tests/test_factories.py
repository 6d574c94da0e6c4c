"""Factories: equal arguments give one object, the spec prints as the call, arrays and traced numbers work."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
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
        assert str(caught.value) == f"{name}: expected a layer, got the factory that makes it. Call it: {name}(...)."


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


# ---- single numbers and arrays as arguments


@pytest.mark.parametrize("number", [2, np.int64(2), np.uint8(2), np.array(2), jnp.int32(2)], ids=repr)
def test_single_numbers_of_numpy_and_jax_are_pythons(number):
    assert thing(number) is thing(2) and str(thing(number)) == "thing(number=2)"
    assert thing(pair=(number, [number])) is thing(pair=(2, (2,)))
    assert fnn.dense(number) is fnn.dense(2)
    assert fnn.repeat(fnn.relu, number) is fnn.repeat(fnn.relu, 2)
    assert fnn.conv2d(4, (number, 3), stride=number) is fnn.conv2d(4, (2, 3), stride=2)


@pytest.mark.parametrize("make", [fnn.dropout, fnn.gaussian_noise, fnn.batch_norm, fnn.penalties.l2, fnn.penalties.l1])
@pytest.mark.parametrize("number", [np.float64(0.5), np.float32(0.5), np.array(0.5), jnp.float32(0.5)], ids=repr)
def test_fractions_likewise(make, number):
    assert make(number) is make(0.5) and str(make(number)) == str(make(0.5))
    assert hash(make(number)) == hash(make(0.5))


@pytest.mark.parametrize("times", [True, np.True_, 0, 2.0, np.float32(2), jnp.bool_(True), "2"], ids=repr)
def test_repeat_wants_a_whole_number(times):
    with pytest.raises(ValueError, match="repeat: expected times to be a whole number, at least 1"):
        fnn.repeat(fnn.relu, times)


OUT_OF_RANGE = {
    fnn.dropout: [1.0, 1.5, -0.1, np.nan, np.inf],
    fnn.gaussian_noise: [-1.0, np.nan, np.inf],
    fnn.random_flip: [1.5, -0.5, np.nan],
    fnn.batch_norm: [1.5, -0.5, np.nan],
    fnn.layer_norm: [0.0, -1.0, np.nan, np.inf],
    fnn.rescale: [np.nan, np.inf],
    fnn.random_shift: [-1],
    fnn.prelu: [np.nan, np.inf],
    fnn.leaky_relu: [np.nan, np.inf],
    fnn.elu: [np.nan, np.inf],
    fnn.rrelu: [-0.5, 0.9, np.nan],
    fnn.penalties.l2: [-0.1, np.nan, np.inf],
    fnn.penalties.l1: [-0.1, np.nan, np.inf],
    fnn.dense: [0, -1],
    lambda deviation: fnn.dense(3, weight_init=deviation): [np.nan, np.inf, -1.0],
    lambda deviation: fnn.conv2d(3, 3, bias_init=deviation): [np.nan, np.inf, -1.0],
}


@pytest.mark.parametrize("make", OUT_OF_RANGE, ids=lambda make: make.__name__)
def test_numbers_out_of_range_raise_whatever_they_are_made_of(make):
    for number in OUT_OF_RANGE[make]:
        kind = np.int32 if isinstance(number, int) else np.float32
        for given in (number, kind(number), np.array(number), jnp.asarray(number, kind)):
            with pytest.raises(ValueError):
                make(given)


@fnn.factory
def columns_by(factors):
    def forward(params, state, x, key, train):
        return x * jnp.asarray(factors, x.dtype), state, ()

    return fnn.Layer(None, lambda key, shape: ((), (), shape), forward, lambda p, c, dy: ((), dy * factors))


@pytest.mark.parametrize("array", [np.float32([1, 2, 3]), jnp.float32([1, 2, 3])], ids=["numpy", "jax"])
def test_layers_made_of_an_array_train_and_predict(array):
    x = np.random.default_rng(0).normal(size=(20, 3)).astype("float32")
    t, start = x.sum(1, keepdims=True), fnn.dense(1).init(jax.random.key(0), (3,))[0]
    net, plain = fnn.serial(columns_by(array), fnn.dense(1)), fnn.serial(fnn.dense(1))
    options = {"loss": fnn.losses.squared_error, "optimizer": optax.sgd(0.01), "epochs": 2}
    run = fnn.fit(net, data=(x, t), params=((), start), **options)
    expected = fnn.fit(plain, data=(x * np.asarray(array), t), params=(start,), **options)
    np.testing.assert_allclose(run.history.loss, expected.history.loss, 1e-5)
    np.testing.assert_allclose(fnn.predict(net, run, x), fnn.predict(plain, expected, x * np.asarray(array)), 1e-5)


def test_arrays_in_a_spec_are_compared_by_identity():
    array = np.float32([1, 2, 3])
    a, b, c = columns_by(array).spec, columns_by(array).spec, columns_by(array.copy()).spec
    assert a == b and hash(a) == hash(b) and a != c and a != "columns_by"
    assert isinstance(hash(columns_by({"u": array}).spec), int)
